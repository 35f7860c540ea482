package wire

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// ours is the index of the unacknowledged messages that programs like this one
	// hold. They say so twice a second, so that one which is not heard of for
	// heldFor is dead, whatever the visibility timeout is for others: what it held
	// need not wait an hour. The same goes for messages whose taker never learned
	// that it got them.
	ours    = "nanoos.held"
	heldFor = 30 * time.Second
	// mutexFor is how long a sweep may take. Celery's own lock stays for 300 s when
	// its owner dies, and nobody sweeps meanwhile.
	mutexFor = 20 * time.Second
	// maxSwept bounds the messages of one sweep.
	maxSwept = 1000
)

// Sweep gives back the messages of consumers that are gone: ours, and others,
// Python's among them, that were not heard of for the visibility timeout. It does
// so under the lock that they use.
func (c *Client) Sweep(ctx context.Context) (restored int, err error) {
	token, mutex := newUUID(), c.key(c.opt.UnackedMutexKey)
	locked, err := c.broker.SetNX(ctx, mutex, token, mutexFor).Result()
	if err != nil {
		return 0, inWords(err, c.broker.Options())
	}
	if !locked {
		return 0, nil
	}
	defer func() {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), ioTimeout)
		defer cancel()
		_, unlockErr := runAll(after, c.broker, unlockScript, []execution{{[]string{mutex}, []any{token}}})
		err = errors.Join(err, unlockErr)
	}()
	runs, err := c.silent(ctx)
	if err != nil {
		return 0, inWords(err, c.broker.Options())
	}
	cmds, err := runAll(ctx, c.broker, restoreScript, runs)
	for _, cmd := range cmds {
		if n, _ := cmd.Int(); n == 1 {
			restored++
		}
	}
	return restored, err
}

// silent prepares the return of what is held by those that were not heard of.
func (c *Client) silent(ctx context.Context) ([]execution, error) {
	now, err := c.broker.Time(ctx).Result()
	if err != nil {
		return nil, err
	}
	until, untilOurs := score(now.Add(-c.opt.VisibilityTimeout)), score(now.Add(-heldFor))
	tags, err := c.older(ctx, c.opt.UnackedIndexKey, until)
	if err != nil {
		return nil, err
	}
	more, err := c.older(ctx, ours, untilOurs)
	if err != nil {
		return nil, err
	}
	tags = append(tags, more...)
	slices.Sort(tags)
	if tags = slices.Compact(tags); len(tags) == 0 {
		return nil, nil
	}
	kept, err := c.broker.HMGet(ctx, c.key(c.opt.UnackedKey), tags...).Result()
	if err != nil {
		return nil, err
	}
	runs := make([]execution, 0, len(tags))
	for i, tag := range tags {
		text, _ := kept[i].(string) // empty if it was acknowledged: its tag alone goes
		key, raw, err := c.homeOf(ctx, []byte(text))
		if err != nil {
			return nil, err
		}
		runs = append(runs, c.restoring(key, tag, raw, until, untilOurs))
	}
	return runs, nil
}

// older are the tags in an index that nobody renewed since then.
func (c *Client) older(ctx context.Context, index, until string) ([]string, error) {
	return c.broker.ZRangeByScore(ctx, c.key(index), &redis.ZRangeBy{Min: "0", Max: until, Count: maxSwept}).Result()
}

// restoring is the execution of restore.lua for a message.
func (c *Client) restoring(list, tag string, raw []byte, until, untilOurs string) execution {
	return execution{
		[]string{c.key(c.opt.UnackedKey), c.key(c.opt.UnackedIndexKey), c.key(ours), list},
		[]any{tag, raw, until, untilOurs},
	}
}

// homeOf is the list that an unacknowledged message belongs into, that of its
// priority, and what to put there. One that cannot be read belongs to the dead
// letters.
func (c *Client) homeOf(ctx context.Context, kept []byte) (key string, raw []byte, err error) {
	var fields [3][]byte
	if _, err := strict(kept); err == nil && bytes.HasPrefix(kept, []byte("[")) {
		copy(fields[:], slices.Collect(parts(kept)))
	}
	t, _ := Decode(fields[0]) // where it goes, at least
	queue := t.RoutingKey
	if t.Exchange != "" {
		members, err := c.broker.SMembers(ctx, c.bindings(t.Exchange)).Result()
		if err != nil {
			return "", nil, err
		}
		queue = orText(c.lookUp(members, t.RoutingKey), t.RoutingKey)
	}
	if queue == "" {
		dead := c.key(c.opt.DeadLetters)
		return dead, letter(dead, "it was held, and nobody knows where it came from", kept), nil
	}
	return c.listKey(queue, c.Step(t.Priority)), redelivered(fields[0]), nil
}

// redelivered marks a message as one that was given before; all else is as it
// was.
func redelivered(raw []byte) []byte {
	if _, err := strict(raw); err != nil {
		return raw
	}
	mark := func(object []byte) []byte {
		return with(object, "redelivered", func([]byte) []byte { return []byte("true") })
	}
	raw = with(raw, "headers", mark)
	return with(raw, "properties", func(properties []byte) []byte {
		return with(properties, "delivery_info", mark)
	})
}

// with returns an object in which a member has another value. What is no object
// becomes one.
func with(object []byte, name string, change func(old []byte) []byte) []byte {
	out, found := []byte{'{'}, false
	object = bytes.TrimSpace(object)
	add := func(key, value []byte) {
		if len(out) > 1 {
			out = append(out, ", "...)
		}
		out = append(append(append(out, key...), ": "...), value...)
	}
	if len(object) > 0 && object[0] == '{' {
		for part := range parts(object) {
			key, value := member(part)
			if key == name {
				value, found = change(value), true
			}
			add(part[:endOfString(part, 0)+1], value)
		}
	}
	if !found {
		add([]byte(strconv.Quote(name)), change(nil))
	}
	return append(out, '}')
}

// score is a time as the indexes have it.
func score(at time.Time) string {
	return strconv.FormatFloat(unixTime(at), 'f', 6, 64)
}

// unixTime is a time as Python has it.
func unixTime(at time.Time) float64 { return float64(at.UnixMicro()) / 1e6 }
