package queue

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/nano-os/nanoos/internal/job"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// running is a job in its first attempt, and that attempt.
func running(retry job.Retry) (job.Job, []job.Attempt) {
	j := submit("t", "j", job.Spec{Queue: "default", Engine: "mock", Retry: retry}, noon.Add(-time.Hour)).job
	c := start(j, "w1", "h1", false, noon.Add(-time.Minute))
	return c.job, []job.Attempt{*c.attempt}
}

func failedWith(class job.Class, code, digest string) job.Outcome {
	return job.Outcome{Failure: &job.Failure{Class: class, Code: code, Message: "it broke", Digest: digest}, Exit: &job.Exit{Observed: true, Code: 1}}
}

var succeeded = job.Outcome{Verdict: job.Converged, Result: json.RawMessage(`{"energy":1}`), Exit: &job.Exit{Observed: true}}

// end is what a test says about a decision.
type end struct {
	State    job.State
	Reason   job.Reason
	Attempt  int
	Failures int
	Losses   int
	Outcome  string // of the attempt
	Code     string // of the job's failure
	Wait     time.Duration
	Result   bool
	Events   string
}

func endOf(c *change) end {
	e := end{State: c.job.State, Reason: c.job.Reason, Attempt: c.job.Attempt, Failures: c.job.Failures,
		Losses: c.job.Losses, Outcome: c.attempt.Outcome, Result: len(c.job.Result) > 0}
	if c.job.Failure != nil {
		e.Code = c.job.Failure.Code
	}
	if !c.job.RunAt.IsZero() {
		e.Wait = c.job.RunAt.Sub(noon)
	}
	var kinds []string
	for _, ev := range c.events {
		kinds = append(kinds, string(ev.Kind))
	}
	e.Events = strings.Join(kinds, " ")
	return e
}

func TestAnOutcomeDecidesWhatBecomesOfAJob(t *testing.T) {
	t.Parallel()
	broken := failedWith(job.ClassProgram, "exit_code", "")
	withResult := broken
	withResult.Result = succeeded.Result
	cancelled := func(j *job.Job, _ *[]job.Attempt) { j.Cancel = &job.Request{By: "ada"} }
	for name, c := range map[string]struct {
		out   job.Outcome
		given func(*job.Job, *[]job.Attempt)
		want  end
	}{
		"a success completes": {succeeded, nil,
			end{State: job.Completed, Attempt: 1, Outcome: "succeeded", Result: true, Events: "completed"}},
		"G12 a program failure is retried": {broken, nil,
			end{State: job.Pending, Reason: job.ReasonRetry, Attempt: 1, Failures: 1, Outcome: "exit_code", Code: "exit_code", Wait: 30 * time.Second, Events: "retry_scheduled"}},
		"the second pause is twice as long": {broken, func(j *job.Job, _ *[]job.Attempt) { j.Failures = 1 },
			end{State: job.Pending, Reason: job.ReasonRetry, Attempt: 1, Failures: 2, Outcome: "exit_code", Code: "exit_code", Wait: time.Minute, Events: "retry_scheduled"}},
		"G6 a failed attempt that is retried leaves no result": {withResult, nil,
			end{State: job.Pending, Reason: job.ReasonRetry, Attempt: 1, Failures: 1, Outcome: "exit_code", Code: "exit_code", Wait: 30 * time.Second, Events: "retry_scheduled"}},
		"I12 a used up budget fails the job and keeps what there is": {withResult, func(j *job.Job, _ *[]job.Attempt) { j.Failures = 3 },
			end{State: job.Failed, Attempt: 1, Failures: 3, Outcome: "exit_code", Code: "exit_code", Result: true, Events: "failed"}},
		"an input error is not retried": {failedWith(job.ClassInput, "bad_keyword", ""), nil,
			end{State: job.Failed, Attempt: 1, Outcome: "bad_keyword", Code: "bad_keyword", Events: "failed"}},
		"a numerical failure is not retried": {failedWith(job.ClassNumerical, "scf_not_converged", ""), nil,
			end{State: job.Failed, Attempt: 1, Outcome: "scf_not_converged", Code: "scf_not_converged", Events: "failed"}},
		"a lack of resources is not retried": {failedWith(job.ClassResources, "oom", ""), nil,
			end{State: job.Failed, Attempt: 1, Outcome: "oom", Code: "oom", Events: "failed"}},
		"a lost host is paid from the other budget": {failedWith(job.ClassInfrastructure, "host_lost", ""), func(j *job.Job, _ *[]job.Attempt) { j.Failures = 3 },
			end{State: job.Pending, Reason: job.ReasonRetry, Attempt: 1, Failures: 3, Losses: 1, Outcome: "host_lost", Code: "host_lost", Wait: 30 * time.Second, Events: "lost retry_scheduled"}},
		"a class that is missing counts as a fault of ours": {job.Outcome{Failure: &job.Failure{}}, nil,
			end{State: job.Pending, Reason: job.ReasonRetry, Attempt: 1, Failures: 1, Outcome: "unknown", Code: "unknown", Wait: 30 * time.Second, Events: "retry_scheduled"}},
		"a released attempt that started nothing gives its number back": {job.Outcome{Released: true}, nil,
			end{State: job.Queued, Outcome: "released", Events: "queued"}},
		"a released attempt that started keeps its number": {job.Outcome{Released: true, Exit: &job.Exit{Observed: true, Signal: "SIGTERM"}}, nil,
			end{State: job.Queued, Attempt: 1, Outcome: "released", Events: "queued"}},
		"G13 a cancelled job is cancelled although its run failed": {broken, cancelled,
			end{State: job.Cancelled, Attempt: 1, Outcome: "cancelled", Events: "cancelled"}},
		"G13 a cancelled job is cancelled although its run succeeded": {succeeded, cancelled,
			end{State: job.Cancelled, Attempt: 1, Outcome: "succeeded", Result: true, Events: "cancelled"}},
		"G13 a cancelled job is cancelled although it was given back": {job.Outcome{Released: true}, cancelled,
			end{State: job.Cancelled, Attempt: 1, Outcome: "released", Events: "cancelled"}},
		"I10 a success without an exit record is refused": {job.Outcome{Verdict: job.Converged}, nil,
			end{State: job.Failed, Attempt: 1, Outcome: "unknown", Code: "unknown", Events: "failed"}},
		"I10 a success whose exit nobody saw is refused": {job.Outcome{Exit: &job.Exit{}}, nil,
			end{State: job.Failed, Attempt: 1, Outcome: "unknown", Code: "unknown", Events: "failed"}},
		"R8 a completion marker stands for an exit that nobody saw": {job.Outcome{Exit: &job.Exit{}, Marked: true}, nil,
			end{State: job.Completed, Attempt: 1, Outcome: "succeeded", Events: "completed"}},
		"I10 a marker does not outweigh a bad exit": {job.Outcome{Exit: &job.Exit{Observed: true, Code: 3}, Marked: true}, nil,
			end{State: job.Failed, Attempt: 1, Outcome: "unknown", Code: "unknown", Events: "failed"}},
		"I10 a success with a bad status is refused": {job.Outcome{Exit: &job.Exit{Observed: true, Code: 2}}, nil,
			end{State: job.Failed, Attempt: 1, Outcome: "unknown", Code: "unknown", Events: "failed"}},
		"I10 a success by signal is refused": {job.Outcome{Exit: &job.Exit{Observed: true, Signal: "SIGKILL"}}, nil,
			end{State: job.Failed, Attempt: 1, Outcome: "unknown", Code: "unknown", Events: "failed"}},
		"a run that did not converge is never a success": {job.Outcome{Verdict: job.NotConverged, Exit: &job.Exit{Observed: true}}, nil,
			end{State: job.Failed, Attempt: 1, Outcome: "not_converged", Code: "not_converged", Events: "failed"}},
		"unless the job accepts it": {job.Outcome{Verdict: job.NotConverged, Exit: &job.Exit{Observed: true, Code: 2}}, func(j *job.Job, _ *[]job.Attempt) { j.Spec.AcceptNotConverged = true },
			end{State: job.Completed, Attempt: 1, Outcome: "succeeded", Events: "completed"}},
		"an unstable run is not accepted as not converged": {job.Outcome{Verdict: job.Unstable, Exit: &job.Exit{Observed: true}}, func(j *job.Job, _ *[]job.Attempt) { j.Spec.AcceptNotConverged = true },
			end{State: job.Failed, Attempt: 1, Outcome: "unstable", Code: "unstable", Events: "failed"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j, history := running(job.DefaultRetry)
			if c.given != nil {
				c.given(&j, &history)
			}
			got := finish(j, history, c.out, noon, 0.5)
			if diff := cmp.Diff(c.want, endOf(got)); diff != "" {
				t.Errorf("finish (-want +got):\n%s", diff)
			}
			if got.job.State.Terminal() != !got.job.EndedAt.IsZero() {
				t.Errorf("state %s ended at %v", got.job.State, got.job.EndedAt)
			}
			if got.attempt.EndedAt != noon {
				t.Errorf("the attempt ended at %v, want %v", got.attempt.EndedAt, noon)
			}
			if !job.CanMove(job.Running, got.job.State) {
				t.Errorf("a running job cannot become %s", got.job.State)
			}
		})
	}
}

// next returns the job in its next attempt, with the ended one in the history.
func next(c *change, history []job.Attempt, worker, host string) (job.Job, []job.Attempt) {
	history[len(history)-1] = *c.attempt
	j := c.job
	j.State = job.Queued
	c = start(j, worker, host, false, noon)
	return c.job, append(history, *c.attempt)
}

func TestG12_TheSameWrongResultTwiceIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	wrong := failedWith(job.ClassProgram, "result_invalid", "d1")
	j, history := running(job.DefaultRetry)
	j, history = next(finish(j, history, wrong, noon, 0), history, "w1", "h1")
	// A loss in between does not hide the first.
	j, history = next(lose(j, history, "gone", noon, 0), history, "w2", "h2")

	if got := finish(j, history, failedWith(job.ClassProgram, "result_invalid", "d2"), noon, 0).job.State; got != job.Pending {
		t.Errorf("another wrong result: %s, want a retry", got)
	}
	if got := finish(j, history, failedWith(job.ClassProgram, "exit_code", "d1"), noon, 0).job.State; got != job.Pending {
		t.Errorf("another failure with the digest: %s, want a retry", got)
	}
	if got := finish(j, history, wrong, noon, 0).job.State; got != job.Failed {
		t.Errorf("the same wrong result: %s, want FAILED", got)
	}
	// A person who retries is believed to have changed something.
	j.Failures = 0
	if got := finish(j, history, wrong, noon, 0).job.State; got != job.Pending {
		t.Errorf("the same wrong result after a retry by a person: %s, want a retry", got)
	}
}

func TestF33_AJobLostThreeTimesOnOneMachineIsQuarantined(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		places [][2]string
		want   job.Reason
	}{
		"on one worker":             {[][2]string{{"w1", "h1"}, {"w1", "h2"}, {"w1", "h3"}}, job.ReasonQuarantined},
		"on one host":               {[][2]string{{"w1", "h1"}, {"w2", "h1"}, {"w3", "h1"}}, job.ReasonQuarantined},
		"with others in between":    {[][2]string{{"w1", "h1"}, {"w2", "h2"}, {"w1", "h1"}, {"w3", "h3"}, {"w1", "h1"}}, job.ReasonQuarantined},
		"not on different machines": {[][2]string{{"w1", "h1"}, {"w2", "h2"}, {"w3", "h3"}, {"w4", "h4"}}, job.ReasonRetry},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j, history := running(job.DefaultRetry)
			history[0].Worker, history[0].Host = c.places[0][0], c.places[0][1]
			got := lose(j, history, "gone", noon, 0)
			for _, p := range c.places[1:] {
				if got.job.Reason != job.ReasonRetry {
					t.Fatalf("after %d losses: %s", len(history), got.job.Message)
				}
				j, history = next(got, history, p[0], p[1])
				got = lose(j, history, "gone", noon, 0)
			}
			if got.job.State != job.Pending || got.job.Reason != c.want {
				t.Errorf("got %s %s, want %s", got.job.State, got.job.Reason, c.want)
			}
			if quarantined := c.want == job.ReasonQuarantined; quarantined != (len(got.job.Failure.Evidence) == job.QuarantineLosses) {
				t.Errorf("evidence: %+v", got.job.Failure.Evidence)
			}
			if c.want == job.ReasonQuarantined && !got.job.RunAt.IsZero() {
				t.Error("a quarantined job would start by itself")
			}
		})
	}
}

func TestLossesBeyondTheirBudgetFailAJob(t *testing.T) {
	t.Parallel()
	j, history := running(job.Retry{Max: 3, MaxLosses: 0})
	got := lose(j, history, "worker w1 is silent", noon, 0)
	want := end{State: job.Failed, Attempt: 1, Outcome: "lost", Code: "unknown", Events: "lost failed"}
	if diff := cmp.Diff(want, endOf(got)); diff != "" {
		t.Errorf("lose (-want +got):\n%s", diff)
	}
}

func TestPausesGrowToTheirCapAndNeverOverflow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := job.Retry{
			Delay:    job.Duration(rapid.Int64Range(0, math.MaxInt64).Draw(t, "delay")),
			MaxDelay: job.Duration(rapid.Int64Range(0, math.MaxInt64).Draw(t, "cap")),
		}
		n := rapid.IntRange(1, math.MaxInt).Draw(t, "n")
		chance := rapid.Float64Range(0, 0.999999).Draw(t, "chance")
		limit := max(time.Duration(max(r.Delay, r.MaxDelay)), minPause)
		if got := pause(r, n, chance); got < minPause || got > limit {
			t.Fatalf("pause = %v, want %v … %v", got, minPause, limit)
		}
		if n < math.MaxInt && pause(r, n+1, chance) < pause(r, n, chance) {
			t.Fatalf("pause %d is shorter than pause %d", n+1, n)
		}
	})
	r := job.DefaultRetry
	if got, want := pause(r, 3, 0.5), 2*time.Minute; got != want {
		t.Errorf("third pause = %v, want %v", got, want)
	}
	if got, want := pause(r, 310, 0.999999), 59*time.Minute; got < want {
		t.Errorf("pause 310 = %v, want about the cap", got)
	}
}

func TestProgressStaysInBoundsAndNeverFalls(t *testing.T) {
	t.Parallel()
	last := &job.Progress{Fraction: 0.5}
	for _, c := range []struct {
		last      *job.Progress
		got, want float64
	}{{nil, 0.2, 0.2}, {last, 0.2, 0.5}, {last, 0.7, 0.7}, {last, 7, 1}, {nil, -1, 0}, {last, math.NaN(), 0.5}, {nil, math.Inf(1), 1}} {
		if p := advance(c.last, job.Progress{Fraction: c.got}, noon); p.Fraction != c.want || p.At != noon {
			t.Errorf("advance(%v, %v) = %v at %v, want %v", c.last, c.got, p.Fraction, p.At, c.want)
		}
	}
}

func TestOnlyAJobWhoseTimeHasComeIsPromoted(t *testing.T) {
	t.Parallel()
	waits := submit("t", "j", job.Spec{RunAt: noon}, noon.Add(-time.Hour)).job
	held := submit("t", "j", job.Spec{Held: true}, noon).job
	for _, c := range []struct {
		j    job.Job
		now  time.Time
		want bool
	}{{waits, noon.Add(-1), false}, {waits, noon, true}, {held, noon.Add(time.Hour), false}, {submit("t", "j", job.Spec{}, noon).job, noon, false}} {
		if got := promote(c.j, c.now); (got != nil) != c.want || c.want && got.job.State != job.Queued {
			t.Errorf("promote(%s %s, %v) = %+v, want %t", c.j.State, c.j.Reason, c.now, got, c.want)
		}
	}
}

func TestOnlyAQueuedJobIsStarted(t *testing.T) {
	t.Parallel()
	j, _ := running(job.DefaultRetry)
	for _, state := range job.States {
		j.State = state
		if got := start(j, "w2", "h2", false, noon); (got != nil) != (state == job.Queued) {
			t.Errorf("start of a job that is %s: %+v", state, got)
		}
	}
}
