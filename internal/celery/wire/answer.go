package wire

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// Answer gives last answers, and does what is to follow: callbacks, the next of a
// chain, errbacks, the part of a chord. It may be called again with the same: what
// follows is sent once. What follows is sent before the answer is seen, so that
// whoever sees it finds the children.
func (c *Client) Answer(ctx context.Context, answers []Answer) error {
	var follow, stored []execution
	var parts []Answer
	for _, a := range answers {
		if a.Task == nil {
			return errNoTask
		}
		calls := c.calls(a)
		children := make([]string, 0, len(calls))
		sending := execution{keys: []string{c.key("nanoos.followed." + a.Task.ID)}, args: []any{followedFor}}
		for _, k := range calls {
			m, err := c.message(k)
			if err != nil {
				return err
			}
			sending.keys, sending.args = append(sending.keys, m.key), append(sending.args, m.body)
			children = append(children, m.id)
		}
		if len(calls) > 0 {
			follow = append(follow, sending)
		}
		if a.State != StateSuccess {
			children = nil // errbacks are nobody's children
			skipped, chords, err := c.skipped(a)
			if err != nil {
				return err
			}
			stored, parts = append(stored, skipped...), append(parts, chords...)
		}
		if !a.Task.IgnoreResult {
			raw, err := a.encode(children)
			if err != nil {
				return err
			}
			stored = append(stored, c.storing(a.Task.ID, raw))
		}
		if a.Task.Embed.Chord != nil && a.Task.Group != "" {
			parts = append(parts, a)
		}
	}
	if _, err := runAll(ctx, c.broker, followScript, follow); err != nil {
		return inWords(err, c.broker.Options())
	}
	if err := c.store(ctx, stored); err != nil {
		return err
	}
	for _, part := range parts {
		if err := c.chordPart(ctx, part); err != nil {
			return fmt.Errorf("count a part of chord %s: %w", part.Task.Group, err)
		}
	}
	return nil
}

// followedFor is how long it is remembered, in seconds, that what follows a task
// was sent.
const followedFor = 48 * 3600

// calls are what is sent because of an answer.
func (c *Client) calls(a Answer) (calls []call) {
	t, e := a.Task, a.Task.Embed
	if a.State != StateSuccess {
		id, _ := json.Marshal(t.ID) // a text
		for i, s := range e.Errbacks {
			s.Immutable = false
			calls = append(calls, call{Signature: s, id: idOf(s, t.ID, "errback", i), parent: t, first: id})
		}
		return calls
	}
	first, err := json.Marshal(a.Result)
	if err != nil {
		first = json.RawMessage("null")
	}
	for i, s := range e.Callbacks {
		calls = append(calls, call{Signature: s, id: idOf(s, t.ID, "callback", i), parent: t, first: first})
	}
	if n := len(e.Chain); n > 0 {
		s := e.Chain[n-1]
		calls = append(calls, call{Signature: s, id: idOf(s, t.ID, "chain", 0), parent: t, first: first, chain: append([]Signature{}, e.Chain[:n-1]...)})
	}
	return calls
}

// skipped are the answers to the rest of a chain, one link of which has failed:
// the same failure. Links that are parts of a chord count there.
func (c *Client) skipped(a Answer) (stored []execution, parts []Answer, err error) {
	for _, s := range a.Task.Embed.Chain {
		if !goodID(s.Options.TaskID) {
			continue
		}
		t := Task{ID: s.Options.TaskID, Name: s.Task, RootID: a.Task.RootID, Group: s.Options.GroupID, GroupIndex: s.Options.GroupIndex,
			IgnoreResult: s.Options.IgnoreResult, Embed: Embed{Chord: s.Options.Chord}}
		r := a.Record
		r.Task = &t
		if !t.IgnoreResult {
			raw, err := r.encode(nil)
			if err != nil {
				return nil, nil, err
			}
			stored = append(stored, c.storing(t.ID, raw))
		}
		if t.Embed.Chord != nil && t.Group != "" {
			parts = append(parts, Answer{r})
		}
	}
	return stored, parts, nil
}

// chordPart counts a part of a chord, and ends the chord with the last one.
func (c *Client) chordPart(ctx context.Context, a Answer) error {
	result := a.Result
	if a.State != StateSuccess {
		result = a.Exception.object()
	}
	member, err := json.Marshal([]any{1, a.Task.ID, a.State, result})
	if err != nil {
		return err
	}
	score := "+inf"
	if a.Task.GroupIndex != nil {
		score = strconv.Itoa(*a.Task.GroupIndex)
	}
	parts, extra, size := c.groupKey(a.Task.Group, ".j"), c.groupKey(a.Task.Group, ".t"), c.groupKey(a.Task.Group, ".s")
	var count *redis.IntCmd
	var more, whole *redis.StringCmd
	_, err = c.results.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Do(ctx, "ZADD", parts, score, member)
		count = p.ZCount(ctx, parts, "-inf", "+inf")
		more, whole = p.Get(ctx, extra), p.Get(ctx, size)
		for _, key := range []string{parts, extra, size} {
			p.Expire(ctx, key, c.opt.ResultExpires)
		}
		return nil
	})
	if err != nil && err != redis.Nil {
		return inWords(err, c.results.Options())
	}
	n, err := whole.Int64()
	if err != nil {
		return nil // its sender has not said how many there are, or it has ended
	}
	if plus, err := more.Int64(); err == nil {
		n += plus
	}
	if count.Val() != n {
		return nil
	}
	return c.endChord(ctx, a, parts, extra, size)
}

// endChord calls the body of a chord with the results of its parts, or fails it.
func (c *Client) endChord(ctx context.Context, a Answer, parts, extra, size string) error {
	members, err := c.results.ZRange(ctx, parts, 0, -1).Result()
	if err != nil {
		return inWords(err, c.results.Options())
	}
	body, results := *a.Task.Embed.Chord, make([]json.RawMessage, 0, len(members))
	var failed *Exception
	for _, text := range members {
		var part []json.RawMessage
		var id, state string
		if json.Unmarshal([]byte(text), &part) != nil || len(part) != 4 || json.Unmarshal(part[1], &id) != nil || json.Unmarshal(part[2], &state) != nil {
			continue // written by somebody else
		}
		if state != StateSuccess && failed == nil {
			failed = &Exception{Type: "ChordError", Module: "celery.exceptions", Message: []any{"Dependency " + id + " raised " + raisedBy(part[3])}}
		}
		results = append(results, part[3])
	}
	t := Task{ID: idOf(body, a.Task.Group, "chord", 0), Name: body.Task, RootID: a.Task.RootID, Queue: a.Task.Queue, RoutingKey: a.Task.RoutingKey,
		Embed: Embed{Errbacks: body.Options.LinkError}}
	if failed != nil {
		failed.Traceback = "Traceback (most recent call last):\ncelery.exceptions.ChordError: " + failed.Message[0].(string)
		err = c.Answer(ctx, []Answer{{Record{Task: &t, State: StateFailure, Exception: failed}}})
	} else {
		err = c.startBody(ctx, a, body, t.ID, results)
	}
	if err != nil {
		return err
	}
	return c.results.Del(ctx, parts, extra, size).Err()
}

// startBody sends the body of a chord, once.
func (c *Client) startBody(ctx context.Context, a Answer, body Signature, id string, results []json.RawMessage) error {
	first, err := json.Marshal(results)
	if err != nil {
		return err
	}
	m, err := c.message(call{Signature: body, id: id, parent: a.Task, first: first})
	if err != nil {
		return err
	}
	_, err = runAll(ctx, c.broker, followScript, []execution{{[]string{c.key("nanoos.followed." + a.Task.Group), m.key}, []any{followedFor, m.body}}})
	if err != nil {
		return inWords(err, c.broker.Options())
	}
	return nil
}

// raisedBy is a stored exception as Python prints it.
func raisedBy(raw json.RawMessage) string {
	var e struct {
		Type    string `json:"exc_type"`
		Message []any  `json:"exc_message"`
	}
	if json.Unmarshal(raw, &e) != nil {
		return string(raw)
	}
	return (&Exception{Type: e.Type, Message: e.Message}).Repr()
}
