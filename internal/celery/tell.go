package celery

import (
	"cmp"
	"time"

	"github.com/nano-os/nanoos/internal/celery/wire"
)

// What monitors are told of a task, in the words of Celery's events.

func (s *Server) received(t wire.Task, retries int) {
	s.events.Task(s.opt.Node, "task-received", map[string]any{
		"uuid": t.ID, "name": t.Name, "args": t.ArgsRepr, "kwargs": t.KwargsRepr,
		"root_id": orNull(t.RootID), "parent_id": orNull(t.ParentID), "retries": retries,
		"eta": timeOrNull(t.ETA), "expires": timeOrNull(t.Expires),
	})
}

func (s *Server) started(t wire.Task, node string) {
	s.events.Task(node, "task-started", map[string]any{"uuid": t.ID})
}

func (s *Server) retried(t wire.Task, node string, e *wire.Exception, attempt int) {
	s.events.Task(node, "task-retried", map[string]any{"uuid": t.ID, "exception": e.Repr(), "traceback": e.Traceback})
	s.received(t, attempt)
}

// ended tells how a task was answered.
func (s *Server) ended(a wire.Answer) {
	fields := map[string]any{"uuid": a.Task.ID}
	kind := "task-succeeded"
	switch a.State {
	case wire.StateSuccess:
		fields["result"] = wire.Repr(a.Result)
		fields["runtime"] = a.Runtime.Seconds()
	case wire.StateRevoked:
		kind = "task-revoked"
		reason := a.Reason()
		fields["terminated"], fields["expired"], fields["signum"] = reason == "terminated", reason == "expired", nil
		if reason == "terminated" {
			fields["signum"] = cmp.Or(a.Signal, 15)
		}
	default:
		kind = "task-failed"
		fields["exception"], fields["traceback"] = a.Exception.Repr(), a.Exception.Traceback
	}
	s.events.Task(a.Worker, kind, fields)
}

func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

func timeOrNull(at time.Time) any {
	if at.IsZero() {
		return nil
	}
	return at.UTC().Format(time.RFC3339Nano)
}
