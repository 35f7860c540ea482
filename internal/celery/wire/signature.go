package wire

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // what UUIDs of version 5 are made with, no secret
	"encoding/json"
	"fmt"
	"time"
)

// Signature is a call of a task that is to be made, as workflows carry it.
type Signature struct {
	Task      string                     `json:"task"`
	Args      []json.RawMessage          `json:"args"`
	Kwargs    map[string]json.RawMessage `json:"kwargs"`
	Options   signatureOptions           `json:"options"`
	Subtask   *string                    `json:"subtask_type"`
	Immutable bool                       `json:"immutable"`
}

// signatureOptions are those that say how it is sent. Others do not matter to
// whoever sends it.
type signatureOptions struct {
	TaskID        string          `json:"task_id,omitempty"`
	Queue         json.RawMessage `json:"queue,omitempty"` // a name, or a queue as an object
	RoutingKey    string          `json:"routing_key,omitempty"`
	Priority      json.RawMessage `json:"priority,omitempty"`
	ETA           json.RawMessage `json:"eta,omitempty"`
	Countdown     *float64        `json:"countdown,omitempty"`
	Expires       json.RawMessage `json:"expires,omitempty"`
	TimeLimit     *float64        `json:"time_limit,omitempty"`
	SoftTimeLimit *float64        `json:"soft_time_limit,omitempty"`
	ReplyTo       string          `json:"reply_to,omitempty"`
	RootID        string          `json:"root_id,omitempty"`
	GroupID       string          `json:"group_id,omitempty"`
	GroupIndex    *int            `json:"group_index,omitempty"`
	Shadow        string          `json:"shadow,omitempty"`
	IgnoreResult  bool            `json:"ignore_result,omitempty"`
	Link          signatures      `json:"link,omitempty"`
	LinkError     signatures      `json:"link_error,omitempty"`
	Chain         []Signature     `json:"chain,omitempty"`
	Chord         *Signature      `json:"chord,omitempty"`
}

// signatures is one, or a list of them, or null.
type signatures []Signature

func (s *signatures) UnmarshalJSON(raw []byte) error {
	if isNull(raw) {
		return nil
	}
	if raw[0] == '[' {
		return json.Unmarshal(raw, (*[]Signature)(s))
	}
	var one Signature
	if err := json.Unmarshal(raw, &one); err != nil {
		return err
	}
	*s = []Signature{one}
	return nil
}

// call is a signature that is about to be sent.
type call struct {
	Signature
	id     string
	parent *Task
	chain  []Signature // what follows it
	// first, if not nil, comes before the signature's own arguments.
	first json.RawMessage
	group string // that it is sent as a part of
}

// outgoing is a message and the list it belongs into.
type outgoing struct {
	key  string
	body []byte
	id   string
}

// message makes the message of a call.
func (c *Client) message(k call) (outgoing, error) {
	args := append([]json.RawMessage{}, k.Args...)
	if k.first != nil && !k.Immutable {
		args = append([]json.RawMessage{k.first}, args...)
	}
	kwargs := k.Kwargs
	if kwargs == nil {
		kwargs = map[string]json.RawMessage{}
	}
	chain := k.chain
	if chain == nil {
		chain = k.Options.Chain
	}
	body, err := json.Marshal([]any{args, kwargs, map[string]any{
		"callbacks": listOrNull(k.Options.Link), "errbacks": listOrNull(k.Options.LinkError), "chain": chain, "chord": k.Options.Chord,
	}})
	if err != nil {
		return outgoing{}, fmt.Errorf("write a call of %s: %w", k.Task, err)
	}
	argsText, err := json.Marshal(args)
	if err != nil {
		return outgoing{}, fmt.Errorf("write a call of %s: %w", k.Task, err)
	}
	kwargsText, err := json.Marshal(kwargs)
	if err != nil {
		return outgoing{}, fmt.Errorf("write a call of %s: %w", k.Task, err)
	}
	o := k.Options
	queue, priority := c.queueOf(k), whole(o.Priority)
	group := orNil(o.GroupID)
	if k.group != "" {
		group = k.group
	}
	raw, err := json.Marshal(map[string]any{
		"body": base64Text(body), "content-encoding": "utf-8", "content-type": "application/json",
		"headers": map[string]any{
			"lang": "py", "task": k.Task, "id": k.id, "shadow": orNil(o.Shadow), "eta": o.eta(), "expires": rawOrNull(o.Expires),
			"group": group, "group_index": o.GroupIndex, "retries": 0, "timelimit": []any{o.TimeLimit, o.SoftTimeLimit},
			"root_id": k.parent.RootID, "parent_id": k.parent.ID, "argsrepr": reprOf(argsText), "kwargsrepr": reprOf(kwargsText),
			"origin": "nanoos", "ignore_result": o.IgnoreResult,
		},
		"properties": map[string]any{
			"correlation_id": k.id, "reply_to": orText(o.ReplyTo, k.parent.ReplyTo), "delivery_mode": 2,
			"delivery_info": map[string]any{"exchange": "", "routing_key": queue},
			"priority":      priority, "body_encoding": "base64", "delivery_tag": newUUID(),
		},
	})
	if err != nil {
		return outgoing{}, fmt.Errorf("write a call of %s: %w", k.Task, err)
	}
	return outgoing{key: c.listKey(queue, c.step(priority)), body: raw, id: k.id}, nil
}

// queueOf is where a call is sent: where it says, else where calls of the task go,
// else where the task came from that it follows.
func (c *Client) queueOf(k call) string {
	var name string
	if json.Unmarshal(k.Options.Queue, &name) == nil && name != "" {
		return name
	}
	var object struct{ Name string }
	if json.Unmarshal(k.Options.Queue, &object) == nil && object.Name != "" {
		return object.Name
	}
	if queue := c.opt.Routes[k.Task]; queue != "" {
		return queue
	}
	if c.opt.DefaultQueue != "" {
		return c.opt.DefaultQueue
	}
	return orText(k.parent.Queue, orText(k.parent.RoutingKey, "celery"))
}

// eta is when a call may begin, as a header.
func (o signatureOptions) eta() any {
	if o.Countdown != nil && isNull(o.ETA) {
		return time.Now().UTC().Add(time.Duration(*o.Countdown * float64(time.Second))).Format("2006-01-02T15:04:05.000000+00:00")
	}
	return rawOrNull(o.ETA)
}

// idOf is the id of a call that follows a task: the one that was fixed for it, or
// one that is the same whenever it is made.
func idOf(s Signature, parent string, kind string, i int) string {
	if goodID(s.Options.TaskID) {
		return s.Options.TaskID
	}
	sum := sha1.Sum(fmt.Appendf(nil, "nanoos %s %s %d", parent, kind, i)) //nolint:gosec // as above
	return uuidOf([16]byte(sum[:16]), 5)
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return uuidOf(b, 4)
}

func uuidOf(b [16]byte, version byte) string {
	b[6] = b[6]&0x0f | version<<4
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func listOrNull(s signatures) any {
	if len(s) == 0 {
		return nil
	}
	return []Signature(s)
}

func rawOrNull(raw json.RawMessage) any {
	if isNull(raw) {
		return nil
	}
	return raw
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
