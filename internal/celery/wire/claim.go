package wire

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"
)

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
	pollBusy, pollIdle = time.Millisecond, 20 * time.Millisecond
	busyFor            = time.Second
	// maxTaken bounds how much is taken at once, in bytes: what it is kept as is
	// some times as large.
	maxTaken = 16 << 20
)

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
//
// To claim is not idempotent: when the answer is lost, what was taken is given
// back by a sweep.
func (c *Client) Claim(ctx context.Context, queues []string, most int) ([]Delivery, error) {
	keys, queueOf := c.lists(queues)
	if len(keys) == 0 || most <= 0 {
		return nil, nil
	}
	all := append(keys, c.key(c.opt.UnackedKey), c.key(c.opt.UnackedIndexKey), c.key(ours), c.key(c.opt.DeadLetters))
	cmds, err := runAll(ctx, c.broker, claimScript, []execution{{all, []any{most, len(keys), maxDead, maxMessage, maxTaken}}})
	if err != nil {
		return nil, inWords(err, c.broker.Options())
	}
	got, err := cmds[0].StringSlice()
	if err != nil {
		return nil, fmt.Errorf("read what was taken: %w", err)
	}
	taken := make([]Delivery, 0, len(got)/3)
	for i := 0; i+2 < len(got); i += 3 {
		d := Delivery{Key: got[i], Queue: queueOf[got[i]], Tag: got[i+1], Raw: []byte(got[i+2])}
		d.Task, d.Fault = Decode(d.Raw)
		d.Task.Queue = d.Queue
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
	_, err := runAll(ctx, c.broker, renewScript, []execution{{[]string{c.key(c.opt.UnackedIndexKey), c.key(ours)}, args}})
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
	p.ZRem(ctx, c.key(ours), members...)
	p.HDel(ctx, c.key(c.opt.UnackedKey), tags...)
}

// letter is a dead one.
func letter(list, reason string, raw []byte) []byte {
	l := map[string]any{"reason": reason, "list": list, "time": unixTime(time.Now()), "bytes": len(raw)}
	if utf8.Valid(raw) {
		l["message"] = string(raw)
	} else {
		l["base64"] = base64Text(raw)
	}
	text, err := json.Marshal(l)
	if err != nil { // it consists of texts and numbers
		panic(err)
	}
	return text
}

// Bury puts messages that are no tasks with the dead letters.
func (c *Client) Bury(ctx context.Context, ds []Delivery) error {
	if len(ds) == 0 {
		return nil
	}
	letters := make([]any, len(ds))
	for i, d := range ds {
		letters[i] = letter(d.Key, d.Fault.Reason, d.Raw)
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
		runs = append(runs, c.restoring(d.Key, d.Tag, redelivered(d.Raw), "", ""))
	}
	if _, err := runAll(ctx, c.broker, restoreScript, runs); err != nil {
		return inWords(err, c.broker.Options())
	}
	return nil
}
