package queue

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// The decisions. Each function takes a job, what happened to it and the time,
// and returns what becomes of it. There is no clock here, no chance, no store
// and no goroutine: the number that spreads retries is an argument.

// change is what one event does to one job.
type change struct {
	job job.Job
	// attempt is the attempt that changes with the job, nil for none.
	attempt    *job.Attempt
	newAttempt bool // attempt has no row yet
	// earlier are attempts before it that change too, earliest first.
	earlier []job.Attempt
	// rows is how many attempts of the job have a row, if earlier is set.
	rows int
	// returned marks a lost attempt that runs again: the job passes QUEUED.
	returned bool
	events   []job.Event
}

// Outcomes of an attempt that are not failure codes.
const (
	outcomeSucceeded = "succeeded"
	outcomeReleased  = "released"
	outcomeCancelled = "cancelled"
	// outcomeLost is written when nobody saw the end of an attempt. It is the
	// only outcome that can be taken back, by the worker that held it (R10).
	outcomeLost = "lost"
)

// submit makes a job of a complete spec.
func submit(t job.Tenant, id job.ID, spec job.Spec, now time.Time) *change {
	c := &change{job: job.Job{ID: id, Tenant: t, Spec: spec, CreatedAt: now}}
	if spec.Held {
		c.hold(job.ReasonHeld, "held when it was submitted")
	} else {
		c.enqueue(now)
	}
	c.say(job.EventSubmitted, Actor{})
	switch {
	case c.job.State == job.Queued:
		c.say(job.EventQueued, Actor{})
	case spec.Held:
		c.say(job.EventHeld, Actor{})
	}
	return c
}

// start gives a queued job to a worker, nil if it is queued no longer. reuse
// means that the next attempt number has a row: it was given back by a worker
// that started nothing (I2).
func start(j job.Job, worker, host string, reuse bool, now time.Time) *change {
	if j.State != job.Queued {
		return nil
	}
	j.State, j.Reason, j.Message = job.Running, "", ""
	j.Attempt++
	j.Fence++
	j.Worker, j.StartedAt = worker, now
	j.Progress, j.Failure, j.Verdict, j.RunAt = nil, nil, "", time.Time{}
	c := &change{job: j, newAttempt: !reuse}
	c.attempt = &job.Attempt{Job: j.ID, Number: j.Attempt, Worker: worker, Host: host, StartedAt: now}
	c.say(job.EventStarted, Actor{})
	return c
}

// adopt gives a running job to the worker that came back for it: a new owner,
// hence a new fence, and the same attempt (G7).
func adopt(j job.Job, a job.Attempt, worker, host string) *change {
	j.Fence++
	j.Worker = worker
	a.Worker, a.Host = worker, host
	c := &change{job: j, attempt: &a}
	c.say(job.EventAdopted, Actor{})
	return c
}

// canReturn reports whether an attempt that was given up may go on (R10): the
// job waits for its next attempt, and nobody has begun it.
func canReturn(j job.Job, a job.Attempt) bool {
	waits := j.State == job.Queued || j.State == job.Pending && j.Reason == job.ReasonRetry
	return waits && a.Number == j.Attempt && a.Outcome == outcomeLost
}

// comeBack undoes the loss of an attempt. It cost the job nothing after all, so
// the budget is given back too.
func comeBack(j job.Job, a job.Attempt) *change {
	j.State, j.Reason, j.Message = job.Running, "", ""
	j.Losses = max(0, j.Losses-1)
	j.Failure, j.RunAt = nil, time.Time{}
	a.EndedAt, a.Outcome, a.Failure = time.Time{}, "", nil
	c := &change{job: j, attempt: &a, returned: true}
	c.say(job.EventAdopted, Actor{Why: "the attempt had been given up and came back"})
	return c
}

// finish decides what the end of the last attempt of history means. chance is
// in [0, 1).
func finish(j job.Job, history []job.Attempt, out job.Outcome, now time.Time, chance float64) *change {
	a := history[len(history)-1]
	f := judge(j.Spec, out)
	a.EndedAt, a.Exit, a.Failure = now, out.Exit, f
	a.Outcome = outcomeOf(out, f)
	c := &change{job: j, attempt: &a}
	switch {
	case j.Cancel != nil:
		if f != nil {
			a.Outcome = outcomeCancelled
		}
		c.cancelled(a.Outcome, now)
		c.job.Verdict, c.job.Result = out.Verdict, out.Result
	case out.Released:
		// An attempt that started nothing is not counted: its number is used again.
		if out.Exit == nil {
			c.job.Attempt--
		}
		c.job.Progress = nil
		c.enqueue(now)
		c.job.Message = "given back by " + j.Worker
		c.say(job.EventQueued, Actor{Why: c.job.Message})
	case f == nil:
		c.job.State, c.job.Reason, c.job.Message = job.Completed, "", ""
		c.job.Failure, c.job.EndedAt = nil, now
		c.job.Verdict, c.job.Result = out.Verdict, out.Result
		if j.Progress != nil {
			whole := *j.Progress
			whole.Fraction = 1
			c.job.Progress = &whole
		}
		c.say(job.EventCompleted, Actor{})
	default:
		// Only a failure that the worker reported may be tried again: a success
		// that was claimed and is none would be claimed again.
		again := out.Failure != nil && mayRetry(j, history, *f)
		c.failed(history, *f, again, now, chance)
		// What a run left behind belongs to the job only when no other attempt
		// can follow: readers never see two attempts mixed (G6).
		if c.job.State == job.Failed {
			c.job.Verdict, c.job.Result = out.Verdict, out.Result
		}
	}
	return c
}

// lose ends an attempt that nobody watches any more.
func lose(j job.Job, history []job.Attempt, why string, now time.Time, chance float64) *change {
	a := history[len(history)-1]
	f := job.Failure{Class: job.ClassInfrastructure, Code: "unknown", Message: why + "; the end of the run was not observed"}
	a.EndedAt, a.Failure, a.Outcome = now, &f, outcomeLost
	c := &change{job: j, attempt: &a}
	if j.Cancel != nil {
		c.say(job.EventLost, Actor{Why: why})
		c.cancelled(a.Outcome, now)
		return c
	}
	c.failed(history, f, true, now, chance)
	return c
}

// judge returns why an outcome is not a success. Success is proven or it is
// not: an exit that somebody saw with status 0, or the code's own completion
// marker where nobody saw it, and a result check that passed (G11, I10).
func judge(spec job.Spec, out job.Outcome) *job.Failure {
	if out.Released {
		return nil
	}
	if f := out.Failure; f != nil {
		known := *f
		known.Class, known.Code = cmp.Or(f.Class, job.ClassInternal), cmp.Or(f.Code, "unknown")
		return &known
	}
	notConverged := out.Verdict == job.NotConverged
	if (notConverged || out.Verdict == job.Unstable) && !(notConverged && spec.AcceptNotConverged) {
		return &job.Failure{Class: job.ClassNumerical, Code: string(out.Verdict),
			Message: fmt.Sprintf("the run ended well, but its result is %q", out.Verdict)}
	}
	why := ""
	switch x := out.Exit; {
	case x == nil:
		why = "there is no exit record"
	case !x.Observed && !out.Marked:
		why = "nobody saw the exit, and there is no completion marker"
	case x.Observed && x.Signal != "":
		why = "the program was ended by " + x.Signal
	case x.Observed && x.Code != 0 && !notConverged:
		// Codes that say "not converged" by their status are the accepted case above.
		why = fmt.Sprintf("the exit status is %d", x.Code)
	default:
		return nil
	}
	return &job.Failure{Class: job.ClassInternal, Code: "unknown",
		Message: "the attempt was reported as a success without proof: " + why}
}

// outcomeOf names how an attempt ended.
func outcomeOf(out job.Outcome, f *job.Failure) string {
	switch {
	case out.Released:
		return outcomeReleased
	case f == nil:
		return outcomeSucceeded
	}
	return f.Code
}

// cancelled ends a job whose cancel was acknowledged, whatever its run did: no
// outcome was committed before it (G13).
func (c *change) cancelled(outcome string, now time.Time) {
	j := &c.job
	j.State, j.Reason, j.Failure = job.Cancelled, "", nil
	j.RunAt, j.EndedAt = time.Time{}, now
	j.Message = saying("cancelled", j.Cancel.By, j.Cancel.Why)
	switch outcome {
	case outcomeSucceeded:
		j.Message += "; the run had finished before the stop reached it"
	case outcomeLost:
		j.Message += "; contact with " + j.Worker + " was lost before the stop was confirmed"
	}
	c.say(job.EventCancelled, Actor{By: j.Cancel.By, Why: j.Cancel.Why})
}

// failed decides whether a failed attempt is followed by another (G12).
// Program failures and infrastructure losses have budgets of their own.
func (c *change) failed(history []job.Attempt, f job.Failure, again bool, now time.Time, chance float64) {
	j := &c.job
	j.Failure = &f
	used, budget, what := &j.Failures, j.Spec.Retry.Max, "retry"
	if f.Class == job.ClassInfrastructure {
		used, budget, what = &j.Losses, j.Spec.Retry.MaxLosses, "restart after a loss,"
		c.say(job.EventLost, Actor{Why: f.Message})
		if evidence := poison(*j, history); evidence != nil {
			f.Evidence = append(f.Evidence, evidence...)
			c.hold(job.ReasonQuarantined, fmt.Sprintf("quarantined: it was lost %d times on the same machine", len(evidence)))
			c.say(job.EventHeld, Actor{Why: j.Message})
			return
		}
	}
	if !again || *used >= budget {
		j.State, j.Reason, j.Message = job.Failed, "", f.Message
		j.RunAt, j.EndedAt = time.Time{}, now
		c.say(job.EventFailed, Actor{})
		return
	}
	*used++
	j.State, j.Reason = job.Pending, job.ReasonRetry
	j.RunAt = now.Add(pause(j.Spec.Retry, *used, chance))
	j.Message = fmt.Sprintf("%s %d of %d: %s", what, *used, budget, f.Message)
	c.say(job.EventRetry, Actor{})
}

// mayRetry reports whether another attempt can end differently: a result that
// is wrong in the same way a second time will be wrong a third time.
func mayRetry(j job.Job, history []job.Attempt, f job.Failure) bool {
	if !f.Class.Retryable() {
		return false
	}
	if f.Code != "result_invalid" || f.Digest == "" {
		return true
	}
	for _, a := range lastOf(history, j.Failures, func(a job.Attempt) bool {
		return a.Failure != nil && a.Failure.Class != job.ClassInfrastructure
	}) {
		if a.Failure.Code == f.Code && a.Failure.Digest == f.Digest {
			return false
		}
	}
	return true
}

// poison returns the evidence against a job that was lost too often on one
// worker or host, the loss of the last attempt of history being the newest.
func poison(j job.Job, history []job.Attempt) []job.Evidence {
	last := history[len(history)-1]
	evidence := []job.Evidence{lossOf(last)}
	for _, a := range lastOf(history, j.Losses, func(a job.Attempt) bool {
		return a.Failure != nil && a.Failure.Class == job.ClassInfrastructure
	}) {
		if a.Worker == last.Worker || a.Host == last.Host {
			evidence = append(evidence, lossOf(a))
		}
	}
	if len(evidence) < job.QuarantineLosses {
		return nil
	}
	return evidence
}

func lossOf(a job.Attempt) job.Evidence {
	return job.Evidence{Text: fmt.Sprintf("attempt %d was lost on worker %s, host %s", a.Number, a.Worker, a.Host)}
}

// lastOf returns the n newest attempts before the last that are alike: those
// that were paid from a budget since a person reset it.
func lastOf(history []job.Attempt, n int, alike func(job.Attempt) bool) []job.Attempt {
	var found []job.Attempt
	for i := len(history) - 2; i >= 0 && len(found) < n; i-- {
		if alike(history[i]) {
			found = append(found, history[i])
		}
	}
	return found
}

// minPause keeps a job that fails at once from spinning, whatever its jitter.
const minPause = time.Second

// pause is how long the n-th retry waits: Delay, doubled for each one before
// it, capped, and spread over the whole of it, so that jobs that failed together
// do not come back together.
func pause(r job.Retry, n int, chance float64) time.Duration {
	d, limit := time.Duration(r.Delay), time.Duration(max(r.MaxDelay, r.Delay))
	for i := 1; i < n && 0 < d && d < limit; i++ {
		if d > limit/2 {
			d = limit // twice as much could overflow
		} else {
			d *= 2
		}
	}
	return max(minPause, time.Duration(float64(d)*chance))
}

// promote lets a job go whose time has come.
func promote(j job.Job, now time.Time) *change {
	if j.State != job.Pending || j.RunAt.IsZero() || j.RunAt.After(now) {
		return nil
	}
	c := &change{job: j}
	c.job.State, c.job.Reason, c.job.RunAt, c.job.QueuedAt = job.Queued, "", time.Time{}, now
	if j.Reason != job.ReasonRetry {
		c.job.Message = ""
	}
	c.say(job.EventQueued, Actor{})
	return c
}

// enqueue makes a job claimable, or lets it wait for the begin time it asked for.
func (c *change) enqueue(now time.Time) {
	j := &c.job
	if j.Spec.RunAt.After(now) {
		j.State, j.Reason, j.RunAt = job.Pending, job.ReasonBeginTime, j.Spec.RunAt
		j.Message = "starts no earlier than " + clock(j.RunAt)
		return
	}
	j.State, j.Reason, j.Message = job.Queued, "", ""
	j.RunAt, j.QueuedAt = time.Time{}, now
}

// hold keeps a job from starting until a person sets it free.
func (c *change) hold(r job.Reason, message string) {
	c.job.State, c.job.Reason, c.job.Message = job.Pending, r, message
	c.job.RunAt = time.Time{}
}

// say adds a line to the job's history, as the job is now.
func (c *change) say(kind job.EventKind, a Actor) {
	c.events = append(c.events, line(c.job, kind, a))
}

// detail is the data of an event: what a reader needs to follow a job without
// reading it again.
type detail struct {
	State   job.State  `json:"state"`
	Reason  job.Reason `json:"reason,omitempty"`
	Attempt int        `json:"attempt,omitempty"`
	Fence   job.Fence  `json:"fence,omitempty"`
	Worker  string     `json:"worker,omitempty"`
	RunAt   time.Time  `json:"run_at,omitzero"`
	Code    string     `json:"code,omitempty"` // of the failure
	By      string     `json:"by,omitempty"`
	Why     string     `json:"why,omitempty"`
}

func line(j job.Job, kind job.EventKind, a Actor) job.Event {
	d := detail{State: j.State, Reason: j.Reason, Attempt: j.Attempt, Fence: j.Fence,
		Worker: j.Worker, RunAt: j.RunAt, By: a.By, Why: a.Why}
	if j.Failure != nil {
		d.Code = j.Failure.Code
	}
	data, err := json.Marshal(d)
	if err != nil {
		// Only a year beyond 9999 cannot be written, and begin times are bounded.
		data = nil
	}
	return job.Event{Tenant: j.Tenant, Job: j.ID, Kind: kind, Data: data}
}

// notice is an event of the installation, which no job has.
func notice(kind job.EventKind, worker string, a Actor) job.Event {
	data, err := json.Marshal(struct {
		Worker string `json:"worker,omitempty"`
		By     string `json:"by,omitempty"`
		Why    string `json:"why,omitempty"`
	}{worker, a.By, a.Why})
	if err != nil {
		data = nil // texts can always be written
	}
	return job.Event{Kind: kind, Data: data}
}

// saying is "held by ada because …", without the parts that are unknown.
func saying(what, by, why string) string {
	if by != "" {
		what += " by " + by
	}
	if why != "" {
		what += fmt.Sprintf(" because %q", why)
	}
	return what
}

// clock writes a time for people; programs have the field.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
