package wire

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Queue is one that is consumed.
type Queue struct {
	Name         string
	Exchange     string
	ExchangeType string // "direct" if empty
	RoutingKey   string
	MaxPriority  int // as declared; of no effect on Redis
}

// Delivery is a message that was taken. Its sender's client counts it as
// unacknowledged until Ack, Requeue or Bury.
type Delivery struct {
	Tag   string
	Key   string // the list that it came from
	Queue string
	Raw   []byte
	Task  Task
	Fault *Fault // why it is no task; nil if it is one
}

const (
	// maxDead bounds the list of dead letters.
	maxDead = 10_000
	// pollBusy is how often an empty queue is looked at soon after a message came,
	// pollIdle later.
	pollBusy, pollIdle = 4 * time.Millisecond, 20 * time.Millisecond
	busyFor            = time.Second
	// mutexFor is how long a sweep may take, as in Celery.
	mutexFor = 300 * time.Second
)

// Bind tells senders to topic exchanges where the queues are.
func (c *Client) Bind(ctx context.Context, queues []Queue) error {
	_, err := c.broker.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, q := range queues {
			p.SAdd(ctx, c.key("_kombu.binding."+cmp.Or(q.Exchange, q.Name)), c.binding(q))
		}
		return nil
	})
	if err != nil {
		return inWords(err, c.broker.Options())
	}
	return nil
}

// binding is how an exchange remembers a queue: one that is not a topic is bound
// by its routing key alone.
func (c *Client) binding(q Queue) string {
	pattern := ""
	if q.ExchangeType == "topic" {
		// As kombu writes it: a regular expression for the routing keys.
		pattern = topicPattern(q.RoutingKey)
	}
	return strings.Join([]string{cmp.Or(q.RoutingKey, q.Name), pattern, q.Name}, c.separator())
}

func topicPattern(key string) string {
	key = strings.ReplaceAll(key, ".", `\.`)
	key = strings.ReplaceAll(key, "*", `[^.]*`)
	return "^" + strings.ReplaceAll(key, "#", ".*?") + "$"
}

// lists are those of the queues, in the order in which messages are taken, and
// the queue of each.
func (c *Client) lists(queues []string) (keys []string, queueOf map[string]string) {
	queueOf = make(map[string]string)
	steps := slices.Clone(c.opt.Steps)
	if c.opt.Order == OrderPriority {
		slices.Reverse(steps)
	}
	for _, step := range steps {
		for _, q := range queues {
			key := c.listKey(q, step)
			if _, twice := queueOf[key]; !twice {
				keys = append(keys, key)
			}
			queueOf[key] = q
		}
	}
	return keys, queueOf
}

// Claim takes at most so many messages, and does not wait for any. A message is
// in its list or unacknowledged at every moment. In the order of priorities the
// highest number of what was taken comes first.
func (c *Client) Claim(ctx context.Context, queues []string, most int) ([]Delivery, error) {
	keys, queueOf := c.lists(queues)
	if len(keys) == 0 || most <= 0 {
		return nil, nil
	}
	all := append(keys, c.key(c.opt.UnackedKey), c.key(c.opt.UnackedIndexKey), c.key(c.opt.DeadLetters))
	cmds, err := runAll(ctx, c.broker, claimScript, []execution{{all, []any{most, len(keys), maxDead}}})
	if err != nil {
		return nil, inWords(err, c.broker.Options())
	}
	got, err := cmds[0].StringSlice()
	if err != nil {
		return nil, fmt.Errorf("read what was taken: %w", err)
	}
	taken := make([]Delivery, 0, len(got)/2)
	for i := 0; i+1 < len(got); i += 2 {
		d := Delivery{Key: got[i], Queue: queueOf[got[i]], Raw: []byte(got[i+1])}
		d.Task, d.Fault = Decode(d.Raw)
		d.Task.Queue, d.Tag = d.Queue, tagOf(d.Raw)
		taken = append(taken, d)
	}
	if c.opt.Order == OrderPriority {
		slices.SortStableFunc(taken, func(a, b Delivery) int { return cmp.Compare(b.Task.Priority, a.Task.Priority) })
	}
	if len(taken) > 0 {
		c.last.Store(time.Now().UnixNano())
	}
	return taken, nil
}

// tagOf is the delivery tag, which the script has found in the message.
func tagOf(raw []byte) string {
	var m struct {
		Properties struct {
			Tag string `json:"delivery_tag"`
		} `json:"properties"`
	}
	if text, err := strict(raw); err != nil || json.Unmarshal(text, &m) != nil {
		_ = json.Unmarshal(raw, &m) // deeper than we read, but not than the script did
	}
	return m.Properties.Tag
}

// Wait returns when there may be a message in the queues, or the time is over.
func (c *Client) Wait(ctx context.Context, queues []string, atMost time.Duration) error {
	keys, _ := c.lists(queues)
	for end := time.Now().Add(atMost); time.Now().Before(end) && ctx.Err() == nil; {
		pause := pollIdle
		if time.Since(time.Unix(0, c.last.Load())) < busyFor {
			pause = pollBusy
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		if len(keys) == 0 {
			continue
		}
		n, err := c.broker.Exists(ctx, keys...).Result()
		if err != nil && ctx.Err() == nil {
			return inWords(err, c.broker.Options())
		}
		if n > 0 {
			return nil
		}
	}
	return nil
}

// Renew keeps messages that are held from being given to somebody else, whatever
// visibility timeout he has.
func (c *Client) Renew(ctx context.Context, tags []string) error {
	args := make([]any, len(tags))
	for i, tag := range tags {
		args[i] = tag
	}
	_, err := runAll(ctx, c.broker, renewScript, []execution{{[]string{c.key(c.opt.UnackedIndexKey)}, args}})
	if err != nil {
		return inWords(err, c.broker.Options())
	}
	return nil
}

// Ack forgets messages: what they ask for is done, or durable elsewhere.
func (c *Client) Ack(ctx context.Context, ds []Delivery) error {
	if len(ds) == 0 {
		return nil
	}
	_, err := c.broker.TxPipelined(ctx, func(p redis.Pipeliner) error {
		c.forget(ctx, p, ds)
		return nil
	})
	if err != nil {
		return inWords(err, c.broker.Options())
	}
	return nil
}

func (c *Client) forget(ctx context.Context, p redis.Pipeliner, ds []Delivery) {
	tags := make([]string, len(ds))
	members := make([]any, len(ds))
	for i, d := range ds {
		tags[i], members[i] = d.Tag, d.Tag
	}
	p.ZRem(ctx, c.key(c.opt.UnackedIndexKey), members...)
	p.HDel(ctx, c.key(c.opt.UnackedKey), tags...)
}

// Bury puts messages that are no tasks with the dead letters.
func (c *Client) Bury(ctx context.Context, ds []Delivery) error {
	if len(ds) == 0 {
		return nil
	}
	letters := make([]any, len(ds))
	for i, d := range ds {
		letter, err := json.Marshal(map[string]any{"reason": d.Fault.Reason, "list": d.Key, "time": time.Now().UTC(), "message": string(d.Raw)})
		if err != nil {
			return fmt.Errorf("write a dead letter: %w", err)
		}
		letters[i] = letter
	}
	dead := c.key(c.opt.DeadLetters)
	_, err := c.broker.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.LPush(ctx, dead, letters...)
		p.LTrim(ctx, dead, 0, maxDead-1)
		c.forget(ctx, p, ds)
		return nil
	})
	if err != nil {
		return inWords(err, c.broker.Options())
	}
	return nil
}

// Requeue gives messages back to the lists that they came from, in front.
func (c *Client) Requeue(ctx context.Context, ds []Delivery) error {
	runs := make([]execution, 0, len(ds))
	for _, d := range slices.Backward(ds) {
		runs = append(runs, execution{[]string{c.key(c.opt.UnackedKey), c.key(c.opt.UnackedIndexKey), d.Key}, []any{d.Tag, redelivered(d.Raw)}})
	}
	if _, err := runAll(ctx, c.broker, restoreScript, runs); err != nil {
		return inWords(err, c.broker.Options())
	}
	return nil
}

// redelivered marks a message as one that was given before. What cannot be
// marked stays as it is.
func redelivered(raw []byte) []byte {
	var m, headers, props, info map[string]json.RawMessage
	if json.Unmarshal(raw, &m) != nil || json.Unmarshal(m["properties"], &props) != nil {
		return raw
	}
	// Absent ones are made.
	_ = json.Unmarshal(m["headers"], &headers)
	_ = json.Unmarshal(props["delivery_info"], &info)
	for _, into := range []*map[string]json.RawMessage{&headers, &info} {
		if *into == nil {
			*into = make(map[string]json.RawMessage)
		}
		(*into)["redelivered"] = json.RawMessage("true")
	}
	var errs [4]error
	props["delivery_info"], errs[0] = json.Marshal(info)
	m["properties"], errs[1] = json.Marshal(props)
	m["headers"], errs[2] = json.Marshal(headers)
	marked, err := json.Marshal(m)
	if errors.Join(append(errs[:], err)...) != nil {
		return raw
	}
	return marked
}

// Sweep gives back the messages of consumers that were not heard of for the
// visibility timeout, Python's among them, under the lock that they use.
func (c *Client) Sweep(ctx context.Context) (restored int, err error) {
	token, mutex := newUUID(), c.key(c.opt.UnackedMutexKey)
	locked, err := c.broker.SetNX(ctx, mutex, token, mutexFor).Result()
	if err != nil || !locked {
		return 0, err
	}
	defer func() {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), ioTimeout)
		defer cancel()
		_, unlockErr := runAll(after, c.broker, unlockScript, []execution{{[]string{mutex}, []any{token}}})
		err = errors.Join(err, unlockErr)
	}()
	now, err := c.broker.Time(ctx).Result()
	if err != nil {
		return 0, err
	}
	until := strconv.FormatFloat(float64(now.Add(-c.opt.VisibilityTimeout).UnixMicro())/1e6, 'f', 6, 64)
	tags, err := c.broker.ZRangeByScore(ctx, c.key(c.opt.UnackedIndexKey), &redis.ZRangeBy{Min: "0", Max: until, Count: 1000}).Result()
	if err != nil || len(tags) == 0 {
		return 0, err
	}
	kept, err := c.broker.HMGet(ctx, c.key(c.opt.UnackedKey), tags...).Result()
	if err != nil {
		return 0, err
	}
	var runs []execution
	for i, tag := range tags {
		text, _ := kept[i].(string)
		key, raw, err := c.homeOf(ctx, []byte(text))
		if err != nil {
			return 0, err
		}
		if key == "" { // acknowledged meanwhile, or of a queue that is gone
			continue
		}
		runs = append(runs, execution{[]string{c.key(c.opt.UnackedKey), c.key(c.opt.UnackedIndexKey), key}, []any{tag, redelivered(raw)}})
	}
	cmds, err := runAll(ctx, c.broker, restoreScript, runs)
	for _, cmd := range cmds {
		if n, _ := cmd.Int(); n == 1 {
			restored++
		}
	}
	return restored, err
}

// homeOf is the list that an unacknowledged message belongs into, that of its
// priority.
func (c *Client) homeOf(ctx context.Context, kept []byte) (key string, raw []byte, err error) {
	var parts []json.RawMessage
	var exchange, routingKey string
	if json.Unmarshal(kept, &parts) != nil || len(parts) != 3 || json.Unmarshal(parts[1], &exchange) != nil || json.Unmarshal(parts[2], &routingKey) != nil {
		return "", nil, nil
	}
	t, _ := Decode(parts[0]) // its priority at least
	queue := routingKey
	if exchange != "" {
		members, err := c.broker.SMembers(ctx, c.key("_kombu.binding."+exchange)).Result()
		if err != nil {
			return "", nil, err
		}
		if queue = c.bound(members, routingKey); queue == "" {
			queue = routingKey
		}
	}
	if queue == "" {
		return "", nil, nil
	}
	return c.listKey(queue, c.step(t.Priority)), parts[0], nil
}

// bound finds the queue that a routing key leads to.
func (c *Client) bound(members []string, routingKey string) string {
	for _, m := range members {
		parts := strings.Split(m, c.separator())
		if len(parts) != 3 {
			continue
		}
		// A topic's words, with * for one and # for any: a shell pattern is near
		// enough for keys without slashes.
		matches, err := path.Match(strings.ReplaceAll(parts[0], "#", "*"), routingKey)
		if parts[0] == routingKey || err == nil && matches {
			return parts[2]
		}
	}
	return ""
}
