// Package outcome says in Celery's words how a job stands: its state, its
// result, and the exception that a Python client rebuilds from its failure.
package outcome

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// The states of a Celery task.
const (
	Pending  = "PENDING"
	Started  = "STARTED"
	Progress = "PROGRESS"
	Retry    = "RETRY"
	Success  = "SUCCESS"
	Failed   = "FAILURE"
	Revoked  = "REVOKED"
)

// Exception is what a Python client raises.
type Exception struct {
	Type      string
	Message   []any // the arguments of its constructor
	Module    string
	Traceback string // "" for none
}

// String is the message, or what there is instead of one.
func (e *Exception) String() string {
	if len(e.Message) == 1 {
		if text, ok := e.Message[0].(string); ok {
			return text
		}
	}
	args := make([]string, len(e.Message))
	for i, a := range e.Message {
		args[i] = fmt.Sprint(a)
	}
	return e.Type + "(" + strings.Join(args, ", ") + ")"
}

// Of returns the state of the task that runs a job, and what belongs to the
// state: a result, or an exception. result is the stored one of the job.
func Of(j job.Job, result []byte) (state string, value any, exception *Exception) {
	switch j.State {
	case job.Completed:
		return Success, map[string]any{"job_id": string(j.ID), "status": "success", "summary": summary(j, result)}, nil
	case job.Failed:
		return Failed, nil, Failure(j)
	case job.Cancelled:
		return Revoked, nil, revoked(j)
	case job.Running:
		if p := j.Progress; p != nil && p.Fraction > 0 {
			return Progress, map[string]any{"progress": p.Fraction, "current_step": p.Stage}, nil
		}
		return Started, map[string]any{"hostname": j.Worker}, nil
	}
	if j.Reason == job.ReasonRetry {
		return Retry, nil, Failure(j)
	}
	return Pending, nil, nil
}

// Failure is the exception of the last attempt of a job that has failed.
func Failure(j job.Job) *Exception {
	f := j.Failure
	if f == nil {
		f = &job.Failure{Class: job.ClassInternal, Code: "unknown", Message: j.Message}
	}
	e := &Exception{Type: "RuntimeError", Module: "builtins", Message: []any{f.Message}}
	switch {
	case f.Class == job.ClassInput:
		e.Type = "ValueError"
	case f.Class == job.ClassInfrastructure:
		e.Type, e.Module = "WorkerLostError", "billiard.exceptions"
	case f.Code == "walltime":
		e.Type, e.Module, e.Message = "TimeLimitExceeded", "billiard.exceptions", []any{seconds(j.Spec.Walltime)}
	case f.Code == "time_limit": // the code was asked to stop cleanly, and did
		e.Type, e.Module = "SoftTimeLimitExceeded", "billiard.exceptions"
	case f.Code == "oom" || f.Code == "out_of_memory":
		e.Type = "MemoryError"
	}
	e.Traceback = traceback(*e, *f)
	return e
}

func revoked(j job.Job) *Exception {
	why := "revoked"
	if j.Attempt > 0 {
		why = "terminated"
	}
	return &Exception{Type: "TaskRevokedError", Module: "celery.exceptions", Message: []any{why}}
}

// summary is the part of a stored result that says it in numbers.
func summary(j job.Job, result []byte) map[string]json.RawMessage {
	var r struct {
		Summary  map[string]json.RawMessage `json:"summary"`
		Warnings []json.RawMessage          `json:"warnings"`
	}
	if json.Unmarshal(result, &r) != nil {
		r.Summary = nil // of no use to anybody, but the job has ended well
	}
	return Summary(j.Verdict, r.Summary, len(r.Warnings) > 0)
}

// Summary is a result in numbers with the names that NANO-OS's own worker used
// beside ours: status, message, energy (eV) and band_gap (eV).
func Summary(v job.Verdict, ours map[string]json.RawMessage, warned bool) map[string]json.RawMessage {
	s := maps.Clone(ours)
	if s == nil {
		s = make(map[string]json.RawMessage)
	}
	for name, from := range map[string][]string{"energy": {"energy_eV", "total_energy_eV", "potential_energy_eV"}, "band_gap": {"band_gap_eV"}} {
		i := slices.IndexFunc(from, func(key string) bool { return s[key] != nil })
		if i >= 0 && s[name] == nil {
			s[name] = s[from[i]]
		}
	}
	s["status"] = json.RawMessage(`"completed"`)
	switch {
	case v == job.NotConverged:
		s["message"] = json.RawMessage(`"Simulation completed without having converged"`)
	case warned:
		s["message"] = json.RawMessage(`"Simulation completed with warnings"`)
	default:
		s["message"] = json.RawMessage(`"Simulation completed successfully"`)
	}
	return s
}

// seconds is a number as Python prints it: 3600, 0.5.
func seconds(d job.Duration) any {
	if d := time.Duration(d); d%time.Second == 0 {
		return int64(d / time.Second)
	}
	return time.Duration(d).Seconds()
}

// traceback has the form that Python's tools expect, and says where the
// evidence is instead of where the code was.
func traceback(e Exception, f job.Failure) string {
	var b strings.Builder
	b.WriteString("Traceback (most recent call last):\n")
	for _, ev := range f.Evidence {
		fmt.Fprintf(&b, "  File %q", ev.File)
		if ev.Line > 0 {
			fmt.Fprintf(&b, ", line %d", ev.Line)
		}
		fmt.Fprintf(&b, ", in %s\n", f.Code)
		for line := range strings.SplitSeq(strings.TrimRight(ev.Text, "\n"), "\n") {
			b.WriteString("    " + strings.TrimSpace(line) + "\n")
		}
	}
	name := e.Type
	if e.Module != "builtins" {
		name = e.Module + "." + e.Type
	}
	fmt.Fprintf(&b, "%s: %s [%s]", name, f.Message, f.Code)
	if f.Fix != "" {
		b.WriteString("\nFix: " + f.Fix)
	}
	return b.String()
}
