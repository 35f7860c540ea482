package outcome_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/celery/outcome"
	"github.com/nano-os/nanoos/internal/job"
)

func TestAJobThatGoesOnHasTheStateOfItsTask(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		job   job.Job
		state string
		value any
	}{
		"held":     {job.Job{State: job.Pending, Reason: job.ReasonHeld}, outcome.Pending, nil},
		"queued":   {job.Job{State: job.Queued}, outcome.Pending, nil},
		"started":  {job.Job{State: job.Running, Worker: "w1"}, outcome.Started, map[string]any{"hostname": "w1"}},
		"reported": {job.Job{State: job.Running, Progress: &job.Progress{}, Worker: "w1"}, outcome.Started, map[string]any{"hostname": "w1"}},
		"half": {job.Job{State: job.Running, Progress: &job.Progress{Fraction: 0.5, Stage: "SCF iteration 7"}}, outcome.Progress,
			map[string]any{"progress": 0.5, "current_step": "SCF iteration 7"}},
	} {
		state, value, e := outcome.Of(c.job, nil)
		if d := cmp.Diff(c.value, value); state != c.state || d != "" || e != nil {
			t.Errorf("%s: state %s, exception %v, value (-want +got):\n%s", name, state, e, d)
		}
	}
}

func TestASuccessCarriesTheSummaryOfItsResult(t *testing.T) {
	t.Parallel()
	said := func(numbers, message string) string {
		return `{"job_id":"j1","status":"success","summary":{` + numbers + `"message":"Simulation completed ` + message + `","status":"completed"}}`
	}
	for result, want := range map[string]string{
		`{"summary":{"energy_eV":-12.5,"band_gap_eV":1},"series":[]}`:     said(`"band_gap":1,"band_gap_eV":1,"energy":-12.5,"energy_eV":-12.5,`, "successfully"),
		`{"summary":{"energy":1,"total_energy_eV":2},"warnings":["odd"]}`: `{"job_id":"j1","status":"success","summary":{"energy":1,"message":"Simulation completed with warnings","status":"completed","total_energy_eV":2}}`,
		`{"summary":null}`: said("", "successfully"),
		`{}`:               said("", "successfully"),
		``:                 said("", "successfully"),
	} {
		state, value, e := outcome.Of(job.Job{ID: "j1", State: job.Completed}, []byte(result))
		got, err := json.Marshal(value)
		if err != nil || state != outcome.Success || e != nil || string(got) != want {
			t.Errorf("%s: %s %s %v (%v), want %s", result, state, got, e, err, want)
		}
	}
}

func TestAFailureIsTheExceptionThatPythonKnows(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		failure *job.Failure
		want    string
		message any
	}{
		"input":          {&job.Failure{Class: job.ClassInput, Code: "input_error", Message: "ecutwfc is missing"}, "builtins.ValueError", "ecutwfc is missing"},
		"walltime":       {&job.Failure{Class: job.ClassResources, Code: "walltime", Message: "too long"}, "billiard.exceptions.TimeLimitExceeded", int64(90)},
		"soft limit":     {&job.Failure{Class: job.ClassResources, Code: "time_limit", Message: "it stopped"}, "billiard.exceptions.SoftTimeLimitExceeded", "it stopped"},
		"memory":         {&job.Failure{Class: job.ClassResources, Code: "oom", Message: "too much"}, "builtins.MemoryError", "too much"},
		"lost host":      {&job.Failure{Class: job.ClassInfrastructure, Code: "host_lost", Message: "it is gone"}, "billiard.exceptions.WorkerLostError", "it is gone"},
		"not converged":  {&job.Failure{Class: job.ClassNumerical, Code: "scf_not_converged", Message: "no"}, "builtins.RuntimeError", "no"},
		"without a word": {nil, "builtins.RuntimeError", "the message of the job"},
	} {
		j := job.Job{State: job.Failed, Message: "the message of the job", Failure: c.failure, Spec: job.Spec{Walltime: job.Duration(90 * time.Second)}}
		state, value, e := outcome.Of(j, nil)
		if state != outcome.Failed || value != nil || e == nil {
			t.Fatalf("%s: %s %v %v", name, state, value, e)
		}
		if got := e.Module + "." + e.Type; got != c.want || len(e.Message) != 1 || e.Message[0] != c.message {
			t.Errorf("%s: %s%v, want %s(%v)", name, got, e.Message, c.want, c.message)
		}
		if want := strings.Replace(fmt.Sprint(c.message), "90", "TimeLimitExceeded(90)", 1); e.String() != want {
			t.Errorf("%s: it reads %q, want %q", name, e, want)
		}
		if !strings.HasPrefix(e.Traceback, "Traceback (most recent call last):\n") {
			t.Errorf("%s: the traceback is %q", name, e.Traceback)
		}
		j.State, j.Reason = job.Pending, job.ReasonRetry
		if state, _, again := outcome.Of(j, nil); state != outcome.Retry || cmp.Diff(e, again) != "" {
			t.Errorf("%s: a job that is tried again is %s with %v", name, state, again)
		}
	}
}

func TestATracebackHasTheCodeTheEvidenceAndTheFix(t *testing.T) {
	t.Parallel()
	got := outcome.Failure(job.Job{Failure: &job.Failure{Class: job.ClassInfrastructure, Code: "host_lost", Message: "the host is gone", Fix: "wait",
		Evidence: []job.Evidence{{File: "pw.out", Line: 12, Text: "convergence NOT achieved\n  after 100 iterations\n"}, {File: "exit.json", Text: "{}"}}}}).Traceback
	want := `Traceback (most recent call last):
  File "pw.out", line 12, in host_lost
    convergence NOT achieved
    after 100 iterations
  File "exit.json", in host_lost
    {}
billiard.exceptions.WorkerLostError: the host is gone [host_lost]
Fix: wait`
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("traceback (-want +got):\n%s", d)
	}
}

func TestACancelledJobWasTerminatedOnlyIfItHadStarted(t *testing.T) {
	t.Parallel()
	for attempt, want := range []string{"revoked", "terminated"} {
		state, value, e := outcome.Of(job.Job{State: job.Cancelled, Attempt: attempt}, nil)
		d := cmp.Diff(&outcome.Exception{Type: "TaskRevokedError", Module: "celery.exceptions", Message: []any{want}}, e)
		if state != outcome.Revoked || value != nil || d != "" {
			t.Errorf("%s %v (-want +got):\n%s", state, value, d)
		}
	}
}
