package wire

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of a message (T31).
const (
	maxMessage = 8 << 20 // bytes, unpacked as well
	maxID      = 255
	maxName    = 255
	// maxCalls and maxChain bound the calls that follow from one message: those at
	// once, and those one after the other.
	maxCalls, maxChain = 1000, 10_000
)

// Task is one call of a task, as a message brings it.
type Task struct {
	ID, Name string
	Shadow   string // shown instead of Name, if not empty
	// Args and Kwargs are strict JSON, in which values of Python that JSON has no
	// form for are plain texts. RawArgs and RawKwargs are as they were sent.
	Args               []json.RawMessage
	Kwargs             map[string]json.RawMessage
	RawArgs, RawKwargs json.RawMessage
	ArgsRepr           string // as Python prints them; for people
	KwargsRepr         string

	ETA, Expires         time.Time // zero: none
	Retries              int
	HardLimit, SoftLimit float64 // s; 0: none
	IgnoreResult         bool
	Priority             int

	RootID, ParentID, Group string
	GroupIndex              *int
	ReplyTo, CorrelationID  string
	Embed                   Embed

	Queue, Exchange, RoutingKey string
	Redelivered                 bool
}

// Embed is what is to be done with the answer.
type Embed struct {
	Callbacks []Signature `json:"callbacks"`
	Errbacks  []Signature `json:"errbacks"`
	Chain     []Signature `json:"chain"` // the last one comes next
	Chord     *Signature  `json:"chord"`
}

// Fault is why a message is no task.
type Fault struct {
	Reason string
	// Exception is what its sender can be told; nil if there is nobody to tell.
	Exception *Exception
}

// envelopeOf is the form of everything in a list or on a channel.
type envelopeOf struct {
	Body        *string
	ContentType string
	Headers     map[string]json.RawMessage
	Properties  *properties
}

type properties struct {
	CorrelationID string          `json:"correlation_id"`
	ReplyTo       string          `json:"reply_to"`
	BodyEncoding  string          `json:"body_encoding"`
	Priority      json.RawMessage `json:"priority"`
	DeliveryInfo  struct {
		Exchange    string `json:"exchange"`
		RoutingKey  string `json:"routing_key"`
		Redelivered *bool  `json:"redelivered"`
	} `json:"delivery_info"`
}

// Decode reads a message as it stands in a list. With a fault the task has what
// could be read, its id at best.
func Decode(raw []byte) (Task, *Fault) {
	var t Task
	if len(raw) > maxMessage {
		return t, &Fault{Reason: fmt.Sprintf("it has %d bytes, more than %d", len(raw), maxMessage)}
	}
	text, err := strict(raw)
	if err != nil {
		return t, &Fault{Reason: err.Error()}
	}
	e, err := envelopeIn(text)
	if err != nil {
		return t, &Fault{Reason: "it is no message: " + shortText(err.Error())}
	}
	t.ReplyTo, t.CorrelationID = e.Properties.ReplyTo, e.Properties.CorrelationID
	t.Priority = whole(e.Properties.Priority)
	t.Exchange, t.RoutingKey = e.Properties.DeliveryInfo.Exchange, e.Properties.DeliveryInfo.RoutingKey
	if r := e.Properties.DeliveryInfo.Redelivered; r != nil {
		t.Redelivered = *r
	}
	header(e.Headers, "id", &t.ID)
	header(e.Headers, "task", &t.Name)
	if t.ID != "" && !goodID(t.ID) {
		t.ID = ""
		return t, &Fault{Reason: "its id is none: it is too long, or has blanks or control characters"}
	}
	sent, fault := e.content()
	if fault != nil {
		return t, fault
	}
	body, err := strict(sent)
	if err != nil {
		return t, unreadable(err)
	}
	if t.Name == "" {
		return t, t.protocol1(body, sent)
	}
	if t.ID == "" {
		return t, &Fault{Reason: "it has no id"}
	}
	if len(t.Name) > maxName {
		t.Name = cut(t.Name, maxName)
		return t, fail("celery.exceptions", "InvalidTaskError", "the name of the task is too long")
	}
	if err := t.headers(e.Headers); err != nil {
		return t, fail("celery.exceptions", "InvalidTaskError", err.Error())
	}
	return t, t.body(body, sent)
}

// envelopeIn reads an envelope. Its keys are told apart by case, as Python does.
func envelopeIn(text []byte) (e envelopeOf, err error) {
	into := map[string]any{
		"body": &e.Body, "content-type": &e.ContentType, "headers": &e.Headers, "properties": &e.Properties,
	}
	for part := range parts(text) {
		key, value := member(part)
		if field, known := into[key]; known {
			if err := json.Unmarshal(value, field); err != nil {
				return e, fmt.Errorf("its %s cannot be read: %w", key, err)
			}
		}
	}
	if e.Body == nil || e.Properties == nil {
		return e, errors.New("it has no body or no properties")
	}
	return e, nil
}

// body decodes the body of an envelope to strict JSON.
func (e *envelopeOf) body() ([]byte, *Fault) {
	sent, fault := e.content()
	if fault != nil {
		return nil, fault
	}
	body, err := strict(sent)
	if err != nil {
		return nil, unreadable(err)
	}
	return body, nil
}

// content is the body as it was before it was put into the envelope.
func (e *envelopeOf) content() ([]byte, *Fault) {
	if e.ContentType != "" && e.ContentType != "application/json" {
		return nil, fail("kombu.exceptions", "ContentDisallowed",
			fmt.Sprintf("Refusing to deserialize untrusted content of type %s (application/json only)", shortText(e.ContentType)))
	}
	body := []byte(*e.Body)
	if e.Properties.BodyEncoding == "base64" {
		var err error
		if body, err = base64.StdEncoding.DecodeString(*e.Body); err != nil {
			return nil, fail("kombu.exceptions", "DecodeError", "the body is not base64")
		}
	}
	var compression string
	header(e.Headers, "compression", &compression)
	body, err := decompress(body, compression)
	if err != nil {
		return nil, unreadable(err)
	}
	return body, nil
}

func unreadable(err error) *Fault {
	return fail("kombu.exceptions", "DecodeError", "the body cannot be read: "+err.Error())
}

// decompress undoes what the header says. What Celery calls gzip is zlib.
func decompress(body []byte, how string) ([]byte, error) {
	var r io.Reader
	var err error
	switch how {
	case "":
		return body, nil
	case "application/x-gzip", "gzip", "zlib":
		if bytes.HasPrefix(body, []byte{0x1f, 0x8b}) {
			r, err = gzip.NewReader(bytes.NewReader(body))
		} else {
			r, err = zlib.NewReader(bytes.NewReader(body))
		}
	case "application/x-bz2", "bzip2":
		r = bzip2.NewReader(bytes.NewReader(body))
	default:
		return nil, fmt.Errorf("its compression %s is not supported: use gzip or bzip2", shortText(how))
	}
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(r, maxMessage+1))
	if err == nil && len(out) > maxMessage {
		err = fmt.Errorf("it has more than %d bytes", maxMessage)
	}
	return out, err
}

// headers reads those of protocol 2. Unknown ones are ignored.
func (t *Task) headers(h map[string]json.RawMessage) error {
	header(h, "shadow", &t.Shadow)
	header(h, "argsrepr", &t.ArgsRepr)
	header(h, "kwargsrepr", &t.KwargsRepr)
	header(h, "root_id", &t.RootID)
	header(h, "parent_id", &t.ParentID)
	header(h, "group", &t.Group)
	header(h, "ignore_result", &t.IgnoreResult)
	header(h, "group_index", &t.GroupIndex)
	t.Retries = max(0, whole(h["retries"]))
	t.Shadow, t.ArgsRepr, t.KwargsRepr = cut(t.Shadow, maxName), cut(t.ArgsRepr, maxRepr), cut(t.KwargsRepr, maxRepr)
	for _, id := range []*string{&t.RootID, &t.ParentID, &t.Group} {
		if *id != "" && !goodID(*id) {
			*id = ""
		}
	}
	var limits []*float64
	header(h, "timelimit", &limits)
	if len(limits) == 2 {
		t.HardLimit, t.SoftLimit = positive(limits[0]), positive(limits[1])
	}
	return t.times(h["eta"], h["expires"])
}

func (t *Task) times(eta, expires json.RawMessage) (err error) {
	if t.ETA, err = moment(eta); err != nil {
		return fmt.Errorf("Invalid ETA value %s", shortText(string(eta)))
	}
	if t.Expires, err = moment(expires); err != nil {
		return fmt.Errorf("Invalid expires value %s", shortText(string(expires)))
	}
	return nil
}

// body reads [args, kwargs, embed]. sent is the same as it was sent.
func (t *Task) body(body, sent []byte) *Fault {
	if bytes.Equal(bytes.TrimSpace(body), []byte("null")) {
		return t.arguments(nil, nil, nil, nil)
	}
	var list []json.RawMessage
	if json.Unmarshal(body, &list) != nil || len(list) != 3 {
		return fail("celery.exceptions", "InvalidTaskError", "the body is not [args, kwargs, embed]")
	}
	if !isNull(list[2]) {
		if err := json.Unmarshal(list[2], &t.Embed); err != nil {
			return fail("celery.exceptions", "InvalidTaskError", "the callbacks cannot be read: "+shortText(err.Error()))
		}
		if fault := t.Embed.tooMuch(); fault != nil {
			return fault
		}
	}
	asSent := slices.Collect(parts(sent))
	return t.arguments(list[0], list[1], asSent[0], asSent[1])
}

// tooMuch bounds what one answer may set off (T31).
func (e *Embed) tooMuch() *Fault {
	if len(e.Callbacks) > maxCalls || len(e.Errbacks) > maxCalls || len(e.Chain) > maxChain {
		return fail("celery.exceptions", "InvalidTaskError", fmt.Sprintf("it has more than %d callbacks, or a chain of more than %d", maxCalls, maxChain))
	}
	return nil
}

// arguments reads them, and keeps them as they were sent.
func (t *Task) arguments(args, kwargs, sentArgs, sentKwargs json.RawMessage) *Fault {
	if isNull(args) {
		args, sentArgs = json.RawMessage("[]"), json.RawMessage("[]")
	}
	if isNull(kwargs) {
		kwargs, sentKwargs = json.RawMessage("{}"), json.RawMessage("{}")
	}
	t.RawArgs, t.RawKwargs = orRaw(sentArgs, args), orRaw(sentKwargs, kwargs)
	if json.Unmarshal(args, &t.Args) != nil {
		return fail("celery.exceptions", "InvalidTaskError", "Task args must be a list or tuple")
	}
	if json.Unmarshal(kwargs, &t.Kwargs) != nil {
		return fail("celery.exceptions", "InvalidTaskError", "Task keyword arguments must be a mapping")
	}
	for i := range t.Args {
		t.Args[i] = plain(t.Args[i])
	}
	for k := range t.Kwargs {
		t.Kwargs[k] = plain(t.Kwargs[k])
	}
	if t.ArgsRepr == "" {
		t.ArgsRepr = reprOfArgs(t.RawArgs)
	}
	if t.KwargsRepr == "" {
		t.KwargsRepr = reprOf(t.RawKwargs)
	}
	if t.RootID == "" {
		t.RootID = t.ID
	}
	return nil
}

// protocol1 reads the form of very old programs: everything is in the body.
func (t *Task) protocol1(body, sent []byte) *Fault {
	var old struct {
		Task       string          `json:"task"`
		ID         string          `json:"id"`
		Args       json.RawMessage `json:"args"`
		Kwargs     json.RawMessage `json:"kwargs"`
		Group      *string         `json:"group"`
		Taskset    *string         `json:"taskset"`
		GroupIndex *int            `json:"group_index"`
		Retries    json.RawMessage `json:"retries"`
		ETA        json.RawMessage `json:"eta"`
		Expires    json.RawMessage `json:"expires"`
		Callbacks  []Signature     `json:"callbacks"`
		Errbacks   []Signature     `json:"errbacks"`
		Timelimit  []*float64      `json:"timelimit"`
		Chord      *Signature      `json:"chord"`
	}
	if err := json.Unmarshal(body, &old); err != nil || old.Task == "" || len(old.Task) > maxName || !goodID(old.ID) {
		return &Fault{Reason: "it names no task"}
	}
	t.ID, t.Name, t.GroupIndex = old.ID, old.Task, old.GroupIndex
	for _, group := range []*string{old.Group, old.Taskset} {
		if group != nil && goodID(*group) {
			t.Group = *group
		}
	}
	t.Retries = max(0, whole(old.Retries))
	t.Embed = Embed{Callbacks: old.Callbacks, Errbacks: old.Errbacks, Chord: old.Chord}
	if len(old.Timelimit) == 2 {
		t.HardLimit, t.SoftLimit = positive(old.Timelimit[0]), positive(old.Timelimit[1])
	}
	if err := t.times(old.ETA, old.Expires); err != nil {
		return fail("celery.exceptions", "InvalidTaskError", err.Error())
	}
	if fault := t.Embed.tooMuch(); fault != nil {
		return fault
	}
	asSent := make(map[string]json.RawMessage)
	for part := range parts(sent) {
		key, value := member(part)
		asSent[key] = value
	}
	return t.arguments(old.Args, old.Kwargs, asSent["args"], asSent["kwargs"])
}

func orRaw(raw, otherwise json.RawMessage) json.RawMessage {
	if len(raw) > 0 {
		return raw
	}
	return otherwise
}

// header reads one header; one of another type counts as absent.
func header(h map[string]json.RawMessage, name string, into any) {
	if raw, has := h[name]; has && !isNull(raw) {
		_ = json.Unmarshal(raw, into) // absent then
	}
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// whole is a number without its fraction; anything else is 0.
func whole(raw json.RawMessage) int {
	var f float64
	if isNull(raw) || json.Unmarshal(raw, &f) != nil || f != f || f > 1e9 || f < -1e9 {
		return 0
	}
	return int(f)
}

func positive(f *float64) float64 {
	if f == nil || *f < 0 {
		return 0
	}
	return *f
}

// moment reads a time of Celery: with a zone, or else in UTC.
func moment(raw json.RawMessage) (time.Time, error) {
	if isNull(raw) {
		return time.Time{}, nil
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		// A typed datetime of a newer kombu.
		if err := json.Unmarshal(plain(raw), &text); err != nil {
			return time.Time{}, err
		}
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999", "2006-01-02"} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC(), nil
		}
	}
	return time.Time{}, errors.New("it is no time")
}

// goodID reports whether an id may be part of a key.
func goodID(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	for _, r := range id {
		if r == ' ' || r == utf8.RuneError || !strconv.IsPrint(r) {
			return false
		}
	}
	return true
}

func fail(module, class, message string) *Fault {
	return &Fault{Reason: message, Exception: &Exception{Type: class, Module: module, Message: []any{message}}}
}

// shortText cuts a text that somebody else has written.
func shortText(s string) string { return cut(s, 200) }

// cut is the beginning of a text that is longer than so many bytes.
func cut(s string, most int) string {
	if len(s) > most {
		return strings.ToValidUTF8(s[:most-3], "") + "..."
	}
	return strings.ToValidUTF8(s, "?")
}

// envelope wraps a body for a channel.
func envelope(body []byte, headers map[string]any, exchange, routingKey string) []byte {
	raw, err := json.Marshal(map[string]any{
		"body": base64Text(body), "content-encoding": "utf-8", "content-type": "application/json", "headers": headers,
		"properties": map[string]any{
			"delivery_mode": 1, "delivery_info": map[string]any{"exchange": exchange, "routing_key": routingKey},
			"priority": 0, "body_encoding": "base64", "delivery_tag": newUUID(),
		},
	})
	if err != nil { // headers are ours: texts and numbers
		panic(err)
	}
	return raw
}
