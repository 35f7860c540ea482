package celery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/celery/wire"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
	"github.com/nano-os/nanoos/internal/store"
)

// task is one entry of the table. Either work or answer is set.
type task struct {
	// params names the arguments in their order, for those given by position.
	params []string
	// work plans a job whose end is the answer.
	work func(ctx context.Context, t wire.Task, args arguments) (plan, error)
	// answer does what is asked and returns the result.
	answer func(ctx context.Context, args arguments) (any, error)
}

// table is what can be asked for, by full name.
type table map[string]task

func (s *Server) newTable() table {
	builtin := map[string]task{
		"run_simulation_job": {params: []string{"job_id"}, work: s.runSimulation},
		"run_dummy_job":      {params: []string{"job_id"}, work: s.runDummy},
		"cancel_job":         {params: []string{"job_id"}, answer: s.cancelJob},
		"health_check":       {answer: healthCheck},
		"update_job_status": {answer: s.updateStatus, params: []string{
			"job_id", "status", "progress", "current_step", "error_message", "worker_id", "started_at", "finished_at", "retry_count"}},
	}
	t := table{"nanoos.submit": {params: []string{"spec"}, work: s.submitSpec}}
	for name, entry := range builtin {
		for _, prefix := range s.opt.Prefixes {
			t[prefix+name] = entry
		}
	}
	// The later generation names the engine in the task; the job says the same.
	for _, name := range []string{
		"orion.mock.static", "orion.dft.static", "orion.dft.relax", "orion.dft.bands", "orion.dft.dos", "orion.dft.phonons_gamma",
		"orion.md.nve", "orion.md.nvt", "orion.md.npt"} {
		t[name] = builtin["run_simulation_job"]
	}
	for name, template := range s.opt.Templates {
		t[name] = task{work: func(ctx context.Context, t wire.Task, _ arguments) (plan, error) {
			return s.runTemplate(ctx, t, template)
		}}
	}
	return t
}

// dress gives the result of a job the id that the caller of its task knows.
func (e task) dress(t wire.Task, result map[string]any) {
	if !e.named() {
		return
	}
	if args, err := e.bind(t); err == nil {
		if ref, err := args.text("job_id"); err == nil {
			result["job_id"] = ref
		}
	}
}

// named reports whether the task names its job.
func (e task) named() bool { return len(e.params) > 0 && e.params[0] == "job_id" }

// names lists the table.
func (t table) names() []string { return slices.Sorted(maps.Keys(t)) }

// healthCheck answers what NANO-OS's does.
func healthCheck(context.Context, arguments) (any, error) {
	return map[string]string{"status": "healthy", "service": "nano-os-worker"}, nil
}

// runSimulation starts the job of that id, or joins it when it is on its way.
func (s *Server) runSimulation(ctx context.Context, t wire.Task, args arguments) (plan, error) {
	id, err := args.id("job_id")
	if err != nil {
		return plan{}, err
	}
	j, err := s.job(ctx, id)
	switch {
	case job.CodeOf(err) == job.NotFound && s.parts.Platform != nil:
		return s.importJob(ctx, id, t)
	case job.CodeOf(err) == job.NotFound:
		return plan{}, notFound(id)
	case err != nil:
		return plan{}, err
	case j.State.Terminal():
		return alreadyTerminal(id), nil
	case j.State == job.Pending && j.Reason == job.ReasonHeld:
		_, err = s.parts.Queue.Release(ctx, s.opt.Tenant, id, queue.Actor{By: "celery", Why: "task " + t.ID})
		if job.CodeOf(err) == job.Conflict {
			err = nil // somebody else released it meanwhile
		}
	}
	return plan{job: id}, err
}

func notFound(id job.ID) error { return valueError("Job %s not found", id) }

func alreadyTerminal(id job.ID) plan {
	return plan{done: map[string]any{"job_id": id, "status": "already_terminal"}}
}

// importJob plans to make a job of the platform one of ours, under its own id.
func (s *Server) importJob(ctx context.Context, id job.ID, t wire.Task) (plan, error) {
	asking, cancel := context.WithTimeout(ctx, platformTime)
	defer cancel()
	spec, err := s.parts.Platform.Import(asking, id)
	switch job.CodeOf(err) {
	case "":
	case job.NotFound:
		return plan{}, notFound(id)
	case job.Conflict: // it ended before we knew it
		return alreadyTerminal(id), nil
	default:
		return plan{}, err
	}
	spec = limited(spec, t)
	return plan{spec: &spec, as: id, submitted: func(ctx context.Context) error { return s.parts.Platform.Queued(ctx, id, t.ID) }}, nil
}

// runDummy runs NANO-OS's dummy: four steps of the mock engine, ten seconds. The
// job gets the id it was asked for when that is free.
func (s *Server) runDummy(ctx context.Context, t wire.Task, args arguments) (plan, error) {
	ref, err := args.text("job_id")
	if err != nil {
		return plan{}, err
	}
	spec := keyed(limited(job.Spec{
		Name: "dummy " + shorten(ref, 100), Engine: "mock", Priority: s.priority(t),
		Labels: map[string]string{"dummy_job": shorten(ref, 63), "platform": "nano-os"},
	}, t), t)
	id := job.ID(strings.ToLower(ref))
	if !id.Valid() {
		return plan{spec: &spec}, nil
	}
	j, err := s.job(ctx, id)
	switch {
	case job.CodeOf(err) == job.NotFound:
		p := plan{spec: &spec, as: id}
		if s.parts.Platform != nil {
			p.submitted = func(ctx context.Context) error { return s.parts.Platform.Queued(ctx, id, t.ID) }
		}
		return p, nil
	case err != nil:
		return plan{}, err
	case j.Spec.Engine == "mock":
		return s.runSimulation(ctx, t, args)
	}
	return plan{spec: &spec}, nil
}

// submitSpec runs a job in the form of a job file.
func (s *Server) submitSpec(ctx context.Context, t wire.Task, args arguments) (plan, error) {
	raw, given := args["spec"]
	if !given {
		return plan{}, typeError("nanoos.submit() missing 1 required positional argument: 'spec'")
	}
	return s.planJSON(ctx, t, raw)
}

func (s *Server) runTemplate(ctx context.Context, t wire.Task, template Template) (plan, error) {
	raw, err := template.fill(t)
	if err != nil {
		return plan{}, err
	}
	return s.planJSON(ctx, t, raw)
}

func (s *Server) planJSON(ctx context.Context, t wire.Task, raw []byte) (plan, error) {
	spec, err := s.parts.ReadJob(ctx, raw)
	if err != nil {
		return plan{}, err
	}
	var own struct{ Priority *json.RawMessage }
	if json.Unmarshal(raw, &own) == nil && own.Priority == nil {
		spec.Priority = s.priority(t)
	}
	spec = keyed(limited(spec, t), t)
	return plan{spec: &spec}, nil
}

// priority is that of a task's job. In Redis's own order the lowest step is the
// most urgent, and numbers within a step count for nothing.
func (s *Server) priority(t wire.Task) job.Priority {
	if s.opt.Redis.Order == wire.OrderRedis {
		return job.PriorityUrgent - job.Priority(s.redis.Step(t.Priority))
	}
	return min(max(job.Priority(t.Priority), job.PriorityLow), job.PriorityUrgent)
}

// keyed gives a job the task's id as its idempotency key: a message that comes
// again makes no second one (G2).
func keyed(spec job.Spec, t wire.Task) job.Spec {
	spec.Key = "celery:" + t.ID
	return spec
}

// limited gives a job the limits that came with the message.
// Without a soft limit among them the hard one comes alone.
func limited(spec job.Spec, t wire.Task) job.Spec {
	if t.HardLimit > 0 {
		spec.Walltime = job.Duration(t.HardLimit * float64(time.Second))
		spec.SoftLimit = spec.Walltime
	}
	if t.SoftLimit > 0 && (t.HardLimit == 0 || t.SoftLimit < t.HardLimit) {
		spec.SoftLimit = job.Duration(t.SoftLimit * float64(time.Second))
	}
	return spec
}

// cancelJob cancels a job as NANO-OS's task does.
func (s *Server) cancelJob(ctx context.Context, args arguments) (any, error) {
	id, err := args.id("job_id")
	if err != nil {
		return nil, err
	}
	was, cancelled, err := s.cancel(ctx, id, "task cancel_job", false)
	if job.CodeOf(err) == job.NotFound {
		return nil, notFound(id)
	}
	if err != nil {
		return nil, err
	}
	if !cancelled {
		return map[string]any{"job_id": id, "cancelled": false, "reason": "Job already in terminal state: " + was}, nil
	}
	return map[string]any{"job_id": id, "cancelled": true}, nil
}

// cancel cancels a job of ours, or one that only the platform knows. It reports
// the state that kept it from doing so.
func (s *Server) cancel(ctx context.Context, id job.ID, why string, now bool) (was string, cancelled bool, err error) {
	_, err = s.parts.Queue.Cancel(ctx, s.opt.Tenant, id, queue.Actor{By: "celery", Why: why, Now: now})
	switch job.CodeOf(err) {
	case "":
		return "", true, nil
	case job.Conflict:
		j, err := s.job(ctx, id)
		return string(j.State), false, err
	case job.NotFound:
		if s.parts.Platform != nil {
			return s.parts.Platform.Cancel(ctx, id)
		}
	}
	return "", false, err
}

// updateStatus is NANO-OS's way for a program to say how its job goes. The jobs
// that run here are watched by us: of them only a cancel is taken.
func (s *Server) updateStatus(ctx context.Context, args arguments) (any, error) {
	id, err := args.id("job_id")
	if err != nil {
		return nil, err
	}
	status, err := args.text("status")
	if err != nil {
		return nil, err
	}
	status = strings.ToUpper(status)
	updated := map[string]any{"job_id": id, "status": status, "updated": true}
	j, err := s.job(ctx, id)
	switch {
	case job.CodeOf(err) == job.NotFound && s.parts.Platform != nil:
		err = s.parts.Platform.Update(ctx, id, args)
		if job.CodeOf(err) == job.NotFound {
			err = notFound(id)
		}
		return updated, err
	case job.CodeOf(err) == job.NotFound:
		return nil, notFound(id)
	case err != nil:
		return nil, err
	case string(j.State) == status:
		return updated, nil
	case status == string(job.Cancelled):
		if _, _, err := s.cancel(ctx, id, "task update_job_status", false); err != nil {
			return nil, err
		}
		return updated, nil
	}
	return nil, valueError("Job %s is %s and cannot be set to %s: nanoos runs it and knows its state", id, j.State, status)
}

// job reads one job.
func (s *Server) job(ctx context.Context, id job.ID) (j job.Job, err error) {
	err = s.parts.Store.Read(ctx, func(tx store.ReadTx) error {
		j, err = tx.Job(ctx, s.opt.Tenant, id)
		return err
	})
	return j, err
}

// arguments are those of a call by name.
type arguments map[string]json.RawMessage

// bind gives the arguments by position their names, as Python does.
func (e task) bind(t wire.Task) (arguments, error) {
	args := make(arguments, len(t.Args)+len(t.Kwargs))
	maps.Copy(args, t.Kwargs)
	if e.params == nil && e.answer == nil {
		return args, nil // a template takes what it names
	}
	if len(t.Args) > len(e.params) {
		return nil, typeError("%s() takes %d positional arguments but %d were given", t.Name, len(e.params), len(t.Args))
	}
	for i, raw := range t.Args {
		if _, twice := t.Kwargs[e.params[i]]; twice {
			return nil, typeError("%s() got multiple values for argument '%s'", t.Name, e.params[i])
		}
		args[e.params[i]] = raw
	}
	for name := range t.Kwargs {
		if !slices.Contains(e.params, name) {
			return nil, typeError("%s() got an unexpected keyword argument '%s'", t.Name, name)
		}
	}
	return args, nil
}

// text is a required argument: a text or a number.
func (a arguments) text(name string) (string, error) {
	raw, given := a[name]
	if !given {
		return "", typeError("missing 1 required positional argument: '%s'", name)
	}
	text := strings.TrimSpace(textOf(raw))
	if text == "" || text == "null" || strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[") {
		return "", typeError("argument '%s' must be a text, not %s", name, shorten(string(raw), 60))
	}
	return text, nil
}

// id is a required argument: the id of a job.
func (a arguments) id(name string) (job.ID, error) {
	text, err := a.text(name)
	if err != nil {
		return "", err
	}
	id := job.ID(strings.ToLower(text))
	if !id.Valid() {
		return "", valueError("Job %s not found", shorten(text, 100))
	}
	return id, nil
}

// pythonError is an error whose class a Python client is to see.
type pythonError struct {
	class, message string
}

func (e *pythonError) Error() string { return e.class + ": " + e.message }

func typeError(format string, args ...any) error {
	return &pythonError{"TypeError", fmt.Sprintf(format, args...)}
}

func valueError(format string, args ...any) error {
	return &pythonError{"ValueError", fmt.Sprintf(format, args...)}
}

// exception is what a client sees of an error that is final; nil for one that
// may pass.
func exception(err error) *wire.Exception {
	if e, ok := errors.AsType[*pythonError](err); ok {
		return raised(e.class, e.message)
	}
	e, ok := errors.AsType[*job.Error](err)
	if !ok {
		return nil
	}
	switch e.Code {
	case job.Unavailable, job.Internal, job.Exhausted:
		return nil
	case job.Invalid, job.NotFound, job.Conflict:
		return raised("ValueError", wholeText(e))
	}
	return raised("RuntimeError", wholeText(e))
}

func raised(class, message string) *wire.Exception {
	return &wire.Exception{Type: class, Module: "builtins", Message: []any{message},
		Traceback: "Traceback (most recent call last):\n  nanoos refused the task\n" + class + ": " + message}
}

// wholeText is all that an error has to say.
func wholeText(e *job.Error) string {
	var b strings.Builder
	b.WriteString(e.Message)
	if e.Why != "" {
		b.WriteString(": " + e.Why)
	}
	for _, p := range e.Problems {
		b.WriteString("; " + p.String())
	}
	return b.String()
}

// shorten cuts a text for people.
func shorten(text string, most int) string {
	if r := []rune(text); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return text
}
