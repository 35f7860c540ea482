package wire

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// The states of a task as clients know them.
const (
	StateStarted  = "STARTED"
	StateProgress = "PROGRESS"
	StateRetry    = "RETRY"
	StateSuccess  = "SUCCESS"
	StateFailure  = "FAILURE"
	StateRevoked  = "REVOKED"
)

// Exception is what a Python client raises.
type Exception struct {
	Type    string
	Message []any // the arguments of its constructor
	Module  string
	// Traceback is a text for people; empty for none.
	Traceback string
}

// Repr is the exception as Python prints it.
func (e *Exception) Repr() string {
	if e == nil {
		return ""
	}
	args := make([]string, len(e.Message))
	for i, a := range e.Message {
		args[i] = Repr(a)
	}
	return e.Type + "(" + strings.Join(args, ", ") + ")"
}

func (e *Exception) object() map[string]any {
	if e == nil {
		e = &Exception{Type: "RuntimeError", Module: "builtins"}
	}
	message := e.Message
	if message == nil {
		message = []any{}
	}
	return map[string]any{"exc_type": e.Type, "exc_message": message, "exc_module": e.Module}
}

// Record is what clients see of a task: Result, or Exception in the states that
// have one.
type Record struct {
	Task      *Task
	State     string
	Result    any
	Exception *Exception
	At        time.Time
	Worker    string
	Runtime   time.Duration
	Signal    int // that ended a revoked task; 0: the usual one
}

// Answer is a last Record: SUCCESS, FAILURE or REVOKED.
type Answer struct{ Record }

// Succeeded is an answer without its task.
func Succeeded(result any) Answer { return Answer{Record{State: StateSuccess, Result: result}} }

// Failed is an answer without its task.
func Failed(e *Exception) Answer { return Answer{Record{State: StateFailure, Exception: e}} }

// Revoked is an answer without its task. why is revoked, terminated or expired.
func Revoked(why string) Answer {
	return Answer{Record{State: StateRevoked, Exception: &Exception{Type: "TaskRevokedError", Module: "celery.exceptions", Message: []any{why}}}}
}

// Reason is why a task was revoked.
func (r Record) Reason() string {
	if r.Exception != nil && len(r.Exception.Message) > 0 {
		text, _ := r.Exception.Message[0].(string)
		return text
	}
	return ""
}

// encode writes a record as clients read it.
func (r Record) encode(children []string) ([]byte, error) {
	kids := make([]any, 0, len(children))
	for _, id := range children {
		kids = append(kids, []any{[]any{id, nil}, nil})
	}
	m := map[string]any{"status": r.State, "result": r.Result, "traceback": nil, "children": kids, "date_done": nil, "task_id": r.Task.ID}
	switch r.State {
	case StateFailure, StateRetry, StateRevoked:
		m["result"] = r.Exception.object()
		if r.Exception != nil && r.Exception.Traceback != "" {
			m["traceback"] = r.Exception.Traceback
		}
	}
	if r.State == StateSuccess || r.State == StateFailure || r.State == StateRevoked {
		at := r.At
		if at.IsZero() {
			at = time.Now()
		}
		m["date_done"] = at.UTC().Format(timeLayout)
	}
	if r.Task.Group != "" {
		m["group_id"] = r.Task.Group
	}
	if r.Task.ParentID != "" {
		m["parent_id"] = r.Task.ParentID
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("write the result of %s: %w", r.Task.ID, err)
	}
	return raw, nil
}

// Store tells how tasks come along. Those whose result nobody wants are left out,
// and so are those that were answered.
func (c *Client) Store(ctx context.Context, records []Record) error {
	var runs []execution
	for _, r := range records {
		if r.Task.IgnoreResult {
			continue
		}
		var children []string
		if r.State == StateRetry {
			children = []string{r.Task.ID} // the attempt that follows has the same id
		}
		raw, err := r.encode(children)
		if err != nil {
			return err
		}
		runs = append(runs, execution{[]string{c.metaKey(r.Task.ID), c.markerKey(r.Task.ID)}, []any{raw, c.life()}})
	}
	if _, err := runAll(ctx, c.results, storeScript, runs); err != nil {
		return inWords(err, c.results.Options())
	}
	return nil
}

// life is how long results are kept, in seconds; 0 means for ever.
func (c *Client) life() int64 {
	if c.opt.ResultExpires <= 0 {
		return 0
	}
	return max(1, int64(c.opt.ResultExpires.Seconds()))
}
