package wire

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"
)

// call is a signature that is about to be sent.
type call struct {
	Signature
	id     string
	parent *Task
	chain  []Signature // what follows it; nil: what the signature says
	// first, if not nil, comes before the signature's own arguments.
	first json.RawMessage
}

// outgoing is a message and the list that it belongs into.
type outgoing struct {
	key  string
	body []byte
	id   string
}

// message makes the message of a call.
func (c *Client) message(k call) (outgoing, error) {
	f, o := k.fields, k.fields.Options
	args, kwargs := k.arguments()
	chain := k.chain
	if chain == nil {
		chain = o.Chain
	}
	body, err := appendJSON(nil, []any{args, kwargs, map[string]any{
		"callbacks": o.Link.orNull(), "errbacks": o.LinkError.orNull(), "chain": chain, "chord": o.Chord,
	}})
	if err != nil {
		return outgoing{}, fmt.Errorf("write a call of %s: %w", f.Task, err)
	}
	headers, err := k.headers(args, kwargs)
	if err != nil {
		return outgoing{}, fmt.Errorf("write a call of %s: %w", f.Task, err)
	}
	queue, priority := c.queueOf(k), whole(o.Priority)
	raw, err := json.Marshal(map[string]any{
		"body": base64Text(body), "content-encoding": "utf-8", "content-type": "application/json", "headers": headers,
		"properties": map[string]any{
			"correlation_id": k.id, "reply_to": orText(o.ReplyTo, k.parent.ReplyTo), "delivery_mode": 2,
			"delivery_info": map[string]any{"exchange": "", "routing_key": queue},
			"priority":      priority, "body_encoding": "base64", "delivery_tag": newUUID(),
		},
	})
	if err != nil {
		return outgoing{}, fmt.Errorf("write a call of %s: %w", f.Task, err)
	}
	return outgoing{key: c.listKey(queue, c.Step(priority)), body: raw, id: k.id}, nil
}

// arguments are those of the signature, with what the task before returned in
// front.
func (k call) arguments() (args []any, kwargs map[string]any) {
	if args = []any{}; k.first != nil && !k.fields.Immutable {
		args = append(args, k.first)
	}
	for _, arg := range k.fields.Args {
		args = append(args, arg)
	}
	kwargs = make(map[string]any, len(k.fields.Kwargs))
	for name, arg := range k.fields.Kwargs {
		kwargs[name] = arg
	}
	return args, kwargs
}

// headers are those of protocol 2, and those that the signature adds.
func (k call) headers(args []any, kwargs map[string]any) (map[string]any, error) {
	argsText, err := appendJSON(nil, args)
	if err != nil {
		return nil, err
	}
	kwargsText, err := appendJSON(nil, kwargs)
	if err != nil {
		return nil, err
	}
	o, now := k.fields.Options, time.Now()
	headers := make(map[string]any, len(o.Headers)+20)
	for name, value := range o.Headers {
		headers[name] = value
	}
	maps.Copy(headers, map[string]any{
		"lang": "py", "task": k.fields.Task, "id": k.id, "shadow": orNil(o.Shadow), "eta": o.eta(now), "expires": in(now, o.Expires),
		"group": orNil(o.GroupID), "group_index": o.GroupIndex, "retries": 0, "timelimit": []any{o.TimeLimit, o.SoftTimeLimit},
		"root_id": k.parent.RootID, "parent_id": k.parent.ID, "argsrepr": reprOfArgs(argsText), "kwargsrepr": reprOf(kwargsText),
		"origin": "nanoos", "ignore_result": o.IgnoreResult,
	})
	return headers, nil
}

// queueOf is where a call is sent: where it says, else where calls of the task go,
// else where the task came from that it follows.
func (c *Client) queueOf(k call) string {
	var name string
	var object struct{ Name string }
	if json.Unmarshal(k.fields.Options.Queue, &name) != nil && json.Unmarshal(k.fields.Options.Queue, &object) == nil {
		name = object.Name
	}
	if c.CheckQueue(name) == nil {
		return name
	}
	if queue := c.opt.Routes[k.fields.Task]; queue != "" {
		return queue
	}
	if c.opt.DefaultQueue != "" {
		return c.opt.DefaultQueue
	}
	for _, name := range []string{k.parent.Queue, c.queueFor(k.parent.Exchange, k.parent.RoutingKey)} {
		if c.CheckQueue(name) == nil {
			return name
		}
	}
	return "celery"
}

// timeLayout is how Celery writes a time.
const timeLayout = "2006-01-02T15:04:05.000000+00:00"

// eta is when the call may begin, as a header.
func (o signatureOptions) eta(now time.Time) any {
	if o.Countdown != nil && isNull(o.ETA) {
		return now.UTC().Add(span(*o.Countdown)).Format(timeLayout)
	}
	return in(now, o.ETA)
}

// in is a time as a header. Signatures have it as a text, or as a number of
// seconds from now.
func in(now time.Time, raw json.RawMessage) any {
	var s float64
	switch {
	case isNull(raw):
		return nil
	case json.Unmarshal(raw, &s) == nil:
		return now.UTC().Add(span(s)).Format(timeLayout)
	}
	return plain(raw)
}

// maxAhead bounds how far ahead a call is sent for, in seconds: a year. Beyond
// that a time.Duration would overflow at some point.
const maxAhead = 366 * 24 * 3600

func span(s float64) time.Duration {
	return time.Duration(max(-maxAhead, min(s, maxAhead)) * float64(time.Second))
}

func orNil(text string) any {
	if text == "" {
		return nil
	}
	return text
}

func orText(text, otherwise string) string {
	if text != "" {
		return text
	}
	return otherwise
}
