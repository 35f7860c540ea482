package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// rememberAnswers is at least how long it is remembered that a task with
// consequences was answered: longer than a server is down before it tells its
// last answers again. Others are remembered as long as their results.
const rememberAnswers = 48 * time.Hour

var errNoTask = errors.New("an answer without its task")

// Answer gives last answers: each is stored and told, its callbacks, the next of
// its chain or its errbacks are sent, and its part of a chord is counted, all in
// one script. It may be called again with the same, at the same time as well: all
// of it happens once for an id.
//
// The call of a chord's body is made by whoever finds the chord complete, again
// once. After an error all answers are to be given again.
func (c *Client) Answer(ctx context.Context, answers []Answer) error {
	var sent, told []execution
	var of [][]Answer // the parts of chords in told
	for _, a := range answers {
		if a.Task == nil {
			return errNoTask
		}
		e, err := c.effects(a)
		if err != nil {
			return fmt.Errorf("write the answer to %s: %w", a.Task.ID, err)
		}
		if c.results != c.broker && len(e.messages) > 0 {
			sent = append(sent, c.following(a.Task.ID, e.messages))
			e.messages = nil
		}
		told, of = append(told, c.telling(a.Task.ID, e)), append(of, e.chords)
	}
	// What follows is sent first: whoever sees an answer finds its children.
	if _, err := runAll(ctx, c.broker, followScript, sent); err != nil {
		return inWords(err, c.broker.Options())
	}
	cmds, err := runAll(ctx, c.results, answerScript, told)
	if err != nil {
		return inWords(err, c.results.Options())
	}
	for i, cmd := range cmds {
		complete, err := cmd.Int64Slice()
		if err != nil {
			return inWords(err, c.results.Options())
		}
		for k, all := range complete {
			if all == 0 {
				continue
			}
			if err := c.endChord(ctx, of[i][k]); err != nil {
				return fmt.Errorf("end the chord %s: %w", of[i][k].Task.Group, err)
			}
		}
	}
	return nil
}

// effects are what an answer sets off.
type effects struct {
	record   []byte // nil: nobody wants it
	messages []outgoing
	rest     []outgoing // records of those that are not called any more
	chords   []Answer   // the parts of chords that it ends
}

func (c *Client) effects(a Answer) (e effects, err error) {
	result, err := json.Marshal(a.Result)
	if err != nil {
		a.State, result = StateFailure, nil
		a.Exception = &Exception{Type: "EncodeError", Module: "kombu.exceptions", Message: []any{shortText(err.Error())}}
	}
	a.Result = json.RawMessage(result)
	var children []string
	for _, k := range a.calls(result) {
		m, err := c.message(k)
		if err != nil {
			return e, err
		}
		e.messages = append(e.messages, m)
		if a.State == StateSuccess { // errbacks are nobody's children
			children = append(children, m.id)
		}
	}
	if a.State != StateSuccess {
		if err := c.skip(a, &e); err != nil {
			return e, err
		}
	}
	if a.Task.Embed.Chord != nil && a.Task.Group != "" {
		e.chords = append(e.chords, a)
	}
	if !a.Task.IgnoreResult {
		e.record, err = a.encode(children)
	}
	return e, err
}

// calls are what is sent because of an answer: callbacks and the next of the
// chain, or errbacks.
func (a Answer) calls(result json.RawMessage) (calls []call) {
	t, e := a.Task, a.Task.Embed
	if a.State != StateSuccess {
		id, _ := json.Marshal(t.ID) // a text
		for i, s := range e.Errbacks {
			s.fields.Immutable = false // it is always told which task has failed
			calls = append(calls, call{Signature: s, id: s.id(t.ID, "errback", i), parent: t, first: id})
		}
		return calls
	}
	for i, s := range e.Callbacks {
		calls = append(calls, call{Signature: s, id: s.id(t.ID, "callback", i), parent: t, first: result})
	}
	if n := len(e.Chain); n > 0 {
		s := e.Chain[n-1]
		rest := append([]Signature{}, e.Chain[:n-1]...)
		calls = append(calls, call{Signature: s, id: s.id(t.ID, "chain", 0), parent: t, first: result, chain: rest})
	}
	return calls
}

// skip answers the rest of a chain, one link of which has failed, with the same
// failure. Links that are parts of a chord count there.
func (c *Client) skip(a Answer, e *effects) error {
	for _, s := range a.Task.Embed.Chain {
		o := s.fields.Options
		if !goodID(o.TaskID) {
			continue
		}
		t := Task{ID: o.TaskID, Name: s.fields.Task, RootID: a.Task.RootID, Exchange: a.Task.Exchange, RoutingKey: a.Task.RoutingKey, Queue: a.Task.Queue,
			GroupIndex: o.GroupIndex, IgnoreResult: o.IgnoreResult, Embed: Embed{Chord: o.Chord}}
		if goodID(o.GroupID) {
			t.Group = o.GroupID
		}
		r := a.Record
		r.Task = &t
		if !t.IgnoreResult {
			raw, err := r.encode(nil)
			if err != nil {
				return err
			}
			e.rest = append(e.rest, outgoing{key: c.metaKey(t.ID), body: raw})
		}
		if t.Embed.Chord != nil && t.Group != "" {
			e.chords = append(e.chords, Answer{r})
		}
	}
	return nil
}

// telling is the execution of answer.lua for an answer.
func (c *Client) telling(id string, e effects) execution {
	life := c.life()
	memory := life
	if len(e.messages)+len(e.chords) > 0 || life == 0 {
		memory = max(life, int64(rememberAnswers.Seconds()))
	}
	run := execution{
		keys: []string{c.markerKey(id), c.metaKey(id)},
		args: []any{life, memory, len(e.messages), len(e.rest), len(e.chords), e.record},
	}
	for _, m := range append(e.messages, e.rest...) {
		run.keys, run.args = append(run.keys, m.key), append(run.args, m.body)
	}
	for _, part := range e.chords {
		score := "+inf"
		if i := part.Task.GroupIndex; i != nil {
			score = strconv.Itoa(*i)
		}
		group := part.Task.Group
		run.keys = append(run.keys, c.groupKey(group, ".j"), c.groupKey(group, ".s"), c.groupKey(group, ".t"))
		run.args = append(run.args, score, part.chordPart())
	}
	return run
}

// following is the execution of follow.lua for messages that are sent because of
// a task, or of a chord.
func (c *Client) following(id string, messages []outgoing) execution {
	run := execution{keys: []string{c.key("nanoos.followed." + id)}, args: []any{max(c.life(), int64(rememberAnswers.Seconds()))}}
	for _, m := range messages {
		run.keys, run.args = append(run.keys, m.key), append(run.args, m.body)
	}
	return run
}

// chordPart is how a part of a chord is noted.
func (a Answer) chordPart() []byte {
	result := a.Result
	if a.State != StateSuccess {
		result = a.Exception.object()
	}
	raw, err := json.Marshal([]any{1, a.Task.ID, a.State, result})
	if err != nil { // the record of the same was written before
		panic(err)
	}
	return raw
}

// endChord calls the body of a complete chord with the results of its parts, or
// fails it.
func (c *Client) endChord(ctx context.Context, a Answer) error {
	group, body := a.Task.Group, *a.Task.Embed.Chord
	members, err := c.results.ZRange(ctx, c.groupKey(group, ".j"), 0, -1).Result()
	if err != nil {
		return inWords(err, c.results.Options())
	}
	if len(members) == 0 {
		return nil // another has ended it meanwhile
	}
	results := []byte{'['}
	failed := ""
	for i, text := range members {
		result, why := readPart([]byte(text))
		if why != "" && failed == "" {
			failed = why
		}
		if i > 0 {
			results = append(results, ", "...)
		}
		results = append(results, result...)
	}
	id := body.id(group, "chord", 0)
	if failed != "" {
		err = c.failBody(ctx, a, id, failed)
	} else {
		err = c.callBody(ctx, call{Signature: body, id: id, parent: a.Task, first: append(results, ']')})
	}
	if err != nil {
		return err
	}
	err = c.results.Del(ctx, c.groupKey(group, ".j"), c.groupKey(group, ".t"), c.groupKey(group, ".s")).Err()
	if err != nil {
		return inWords(err, c.results.Options())
	}
	return nil
}

// readPart reads what is noted of a part of a chord: its result, or why it has
// none.
func readPart(raw []byte) (result []byte, failed string) {
	var fields [][]byte
	for part := range parts(raw) {
		fields = append(fields, part)
	}
	var id, state string
	if _, err := strict(raw); err != nil || len(fields) != 4 || json.Unmarshal(fields[1], &id) != nil || json.Unmarshal(fields[2], &state) != nil {
		return []byte("null"), "A part of the chord has left something that is no result"
	}
	if state != StateSuccess {
		return []byte("null"), "Dependency " + id + " raised " + raisedBy(fields[3])
	}
	return fields[3], ""
}

// raisedBy is a stored exception as Python prints it.
func raisedBy(raw []byte) string {
	var e struct {
		Type    string            `json:"exc_type"`
		Message []json.RawMessage `json:"exc_message"`
	}
	text, err := strict(raw)
	if err != nil || json.Unmarshal(text, &e) != nil {
		return reprOf(raw)
	}
	x := Exception{Type: e.Type}
	for _, m := range e.Message {
		x.Message = append(x.Message, m)
	}
	return x.Repr()
}

// callBody sends the call of a chord's body, once.
func (c *Client) callBody(ctx context.Context, k call) error {
	m, err := c.message(k)
	if err != nil {
		return err
	}
	_, err = runAll(ctx, c.broker, followScript, []execution{c.following("chord."+k.parent.Group, []outgoing{m})})
	if err != nil {
		return inWords(err, c.broker.Options())
	}
	return nil
}

// failBody answers the body of a chord in its place: it is never called.
func (c *Client) failBody(ctx context.Context, a Answer, id, why string) error {
	body := a.Task.Embed.Chord.fields
	o := body.Options
	t := Task{ID: id, Name: body.Task, RootID: a.Task.RootID, ParentID: a.Task.ID, GroupIndex: o.GroupIndex, IgnoreResult: o.IgnoreResult,
		ReplyTo: a.Task.ReplyTo, Queue: a.Task.Queue, Exchange: a.Task.Exchange, RoutingKey: a.Task.RoutingKey,
		Embed: Embed{Errbacks: o.LinkError, Chain: o.Chain, Chord: o.Chord}}
	if goodID(o.GroupID) {
		t.Group = o.GroupID
	}
	e := &Exception{Type: "ChordError", Module: "celery.exceptions", Message: []any{why},
		Traceback: "Traceback (most recent call last):\ncelery.exceptions.ChordError: " + why}
	return c.Answer(ctx, []Answer{{Record{Task: &t, State: StateFailure, Exception: e, At: a.At, Worker: a.Worker}}})
}
