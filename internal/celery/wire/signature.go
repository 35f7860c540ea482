package wire

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // what UUIDs of version 5 are made with, no secret
	"encoding/json"
	"fmt"
)

// Signature is a call of a task that is to be made, as workflows carry it. It is
// passed on byte for byte: whoever makes the call may know more of it than we do.
type Signature struct {
	fields signatureFields
	raw    json.RawMessage
}

// signatureFields are those that matter to whoever makes the call.
type signatureFields struct {
	Task      string                     `json:"task"`
	Args      []json.RawMessage          `json:"args"`
	Kwargs    map[string]json.RawMessage `json:"kwargs"`
	Options   signatureOptions           `json:"options"`
	Immutable bool                       `json:"immutable"`
}

// signatureOptions say how the call is sent.
type signatureOptions struct {
	TaskID        string                     `json:"task_id"`
	Queue         json.RawMessage            `json:"queue"` // a name, or a queue as an object
	Priority      json.RawMessage            `json:"priority"`
	ETA           json.RawMessage            `json:"eta"`
	Countdown     *float64                   `json:"countdown"`
	Expires       json.RawMessage            `json:"expires"` // a time, or in so many seconds
	TimeLimit     *float64                   `json:"time_limit"`
	SoftTimeLimit *float64                   `json:"soft_time_limit"`
	ReplyTo       string                     `json:"reply_to"`
	GroupID       string                     `json:"group_id"`
	GroupIndex    *int                       `json:"group_index"`
	Shadow        string                     `json:"shadow"`
	IgnoreResult  bool                       `json:"ignore_result"`
	Headers       map[string]json.RawMessage `json:"headers"`
	Link          signatures                 `json:"link"`
	LinkError     signatures                 `json:"link_error"`
	Chain         []Signature                `json:"chain"`
	Chord         *Signature                 `json:"chord"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *Signature) UnmarshalJSON(raw []byte) error {
	s.raw = append(json.RawMessage(nil), raw...)
	return json.Unmarshal(raw, &s.fields)
}

// MarshalJSON implements json.Marshaler.
func (s Signature) MarshalJSON() ([]byte, error) {
	if s.raw == nil {
		return []byte("null"), nil
	}
	return s.raw, nil
}

// id is that of the call: the one that was fixed for it, or one that is the same
// whenever the call is made again because of the same task.
func (s Signature) id(parent, kind string, i int) string {
	if goodID(s.fields.Options.TaskID) {
		return s.fields.Options.TaskID
	}
	sum := sha1.Sum(fmt.Appendf(nil, "nanoos %s %s %d", parent, kind, i)) //nolint:gosec // as above
	return uuidOf([16]byte(sum[:16]), 5)
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

// orNull is the list as messages have it.
func (s signatures) orNull() any {
	if len(s) == 0 {
		return nil
	}
	return []Signature(s)
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
