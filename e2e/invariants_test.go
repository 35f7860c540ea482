package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// history is everything that was seen of an installation, as plain data: what
// clients were told, what the database says in the end, and what programs and
// processes themselves left. broken decides the invariants from it.
type history struct {
	// Restored from a backup: attempts that the backup does not know come back.
	Restored    bool
	Submissions []submission
	Cancels     []job.ID       // acknowledged
	Retries     map[job.ID]int // asked for by a person
	Jobs        map[job.ID]finalJob
	Attempts    map[job.ID][]job.Attempt
	Events      []event // by Seq
	// Followed is the Seqs that a follower of the event stream received, nil
	// when nobody followed.
	Followed []int64
	Starts   []start
	Steps    map[try][]int // steps that the stored output of an attempt shows
	Files    []storedFile
	Listed   map[job.ID]bool // jobs whose files are in Files
	// Results maps a job to the attempt that its result says it comes from.
	Results map[job.ID]int
	// Unbroken are jobs that must be one attempt from the first to the last step.
	Unbroken  []job.ID
	Processes []process // of jobs, alive after the grace
	// Directories are those of attempts that are still on disk after the grace.
	Directories []try
	Adoptions   []delay // from the start of a worker to the return of a program
	Pickups     []delay // from queued to started, in quiet, with room
	Resources   []usage
}

// answer is what a client learned about its submission.
type answer string

const (
	accepted answer = "accepted"
	refused  answer = "refused"
	unknown  answer = "unknown" // no answer arrived
)

type submission struct {
	Key    string
	ID     job.ID // with accepted
	Answer answer
	// Want is how the job must end, "" when that depends on chance.
	Want job.State
}

type finalJob struct {
	Key              string
	State            job.State
	Reason           job.Reason
	Attempt          int
	Failures, Losses int
	Retry            job.Retry
}

type event struct {
	Seq     int64
	Job     job.ID
	Kind    job.EventKind
	State   job.State
	Attempt int
	Fence   job.Fence
	Worker  string
}

// newEvent reads what the queue writes about an event.
func newEvent(e job.Event) (event, error) {
	out := event{Seq: e.Seq, Job: e.Job, Kind: e.Kind}
	if len(e.Data) == 0 {
		return out, nil
	}
	var d struct {
		State   job.State `json:"state"`
		Attempt int       `json:"attempt"`
		Fence   job.Fence `json:"fence"`
		Worker  string    `json:"worker"`
	}
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return out, fmt.Errorf("data of event %d: %w", e.Seq, err)
	}
	out.State, out.Attempt, out.Fence, out.Worker = d.State, d.Attempt, d.Fence, d.Worker
	return out, nil
}

type try struct {
	Job     job.ID
	Attempt int
}

// start is one line of a start journal.
type start struct {
	Job     job.ID    `json:"job"`
	Attempt int       `json:"attempt"`
	PID     int       `json:"pid"`
	At      time.Time `json:"at"`
	Dir     string    `json:"dir"`
}

type storedFile struct {
	try
	Name           string
	SHA256, Actual string // as listed, and of the bytes read
}

type process struct {
	try
	PID int
}

type delay struct {
	What        string
	Took, Bound time.Duration
}

type usage struct {
	What                 string // "goroutines of server 1"
	Before, After, Slack int
}

// broken returns every invariant that does not hold, in words that begin with
// its number.
func (h *history) broken() []string {
	var found []string
	for _, rule := range []func(*history, func(string, ...any)){
		checkAccepted, checkNumbers, checkStarts, checkEnds, checkVisible, checkWinner, checkAuthority,
		checkTrees, checkProof, checkCancels, checkBudgets, checkEvents, checkUnbroken, checkRest, checkLeftovers, checkProgress, checkResources,
	} {
		rule(h, func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) })
	}
	return found
}

// eventsOf groups the events by job, keeping their order.
func (h *history) eventsOf() map[job.ID][]event {
	by := map[job.ID][]event{}
	for _, e := range h.Events {
		if e.Job != "" {
			by[e.Job] = append(by[e.Job], e)
		}
	}
	return by
}

func checkAccepted(h *history, fail func(string, ...any)) {
	byKey := map[string][]job.ID{}
	for id, j := range h.Jobs {
		if j.Key != "" {
			byKey[j.Key] = append(byKey[j.Key], id)
		}
	}
	asked := map[string]bool{}
	for _, s := range h.Submissions {
		asked[s.Key] = true
		ids := byKey[s.Key]
		switch {
		case s.Answer == accepted && !slices.Contains(ids, s.ID):
			fail("I1: job %s was accepted under key %s and is not there", s.ID, s.Key)
		case s.Answer == refused && len(ids) > 0:
			fail("I23: key %s was refused, and job %s is there", s.Key, ids[0])
		}
		if len(ids) > 1 {
			fail("I1: key %s has %d jobs: %v", s.Key, len(ids), ids)
		}
		if len(ids) == 1 && s.Want != "" && h.Jobs[ids[0]].State != s.Want && !h.Jobs[ids[0]].Reason.Held() {
			fail("G11: job %s ended %s, and must be %s", ids[0], h.Jobs[ids[0]].State, s.Want)
		}
	}
	for key, ids := range byKey {
		if !asked[key] {
			fail("I23: job %s has key %s that nobody submitted", ids[0], key)
		}
	}
}

func checkNumbers(h *history, fail func(string, ...any)) {
	for id, j := range h.Jobs {
		attempts := h.Attempts[id]
		for i, a := range attempts {
			if a.Number != i+1 {
				fail("I2: attempt %d of job %s has number %d", i+1, id, a.Number)
			}
		}
		// The number of an attempt that was given back unused is used again.
		unused := len(attempts) > 0 && attempts[len(attempts)-1].Outcome == "released"
		if len(attempts) != j.Attempt && !(unused && len(attempts) == j.Attempt+1) {
			fail("I2: job %s is at attempt %d and has %d attempts", id, j.Attempt, len(attempts))
		}
	}
	for id, events := range h.eventsOf() {
		last := 0
		for _, e := range events {
			switch {
			case e.Kind == job.EventAdopted && e.Attempt > last && h.Restored:
			case e.Kind == job.EventStarted && e.Attempt != last+1:
				fail("I2: job %s went from attempt %d to %d", id, last, e.Attempt)
			case e.Kind != job.EventStarted && e.Kind != job.EventQueued && e.Attempt != last:
				fail("I2: event %d (%s) of job %s is of attempt %d, not %d", e.Seq, e.Kind, id, e.Attempt, last)
			}
			last = e.Attempt
		}
	}
}

func checkStarts(h *history, fail func(string, ...any)) {
	starts := map[try][]start{}
	dirs := map[string][]start{}
	for _, s := range h.Starts {
		starts[try{s.Job, s.Attempt}] = append(starts[try{s.Job, s.Attempt}], s)
		dirs[s.Dir] = append(dirs[s.Dir], s)
	}
	for t, all := range starts {
		if len(all) > 1 {
			fail("I3: attempt %d of job %s was started %d times: %v", t.Attempt, t.Job, len(all), all)
		}
		if _, known := h.Jobs[t.Job]; known && t.Attempt > len(h.Attempts[t.Job]) {
			fail("I3: attempt %d of job %s was started, and is not recorded", t.Attempt, t.Job)
		}
	}
	for dir, all := range dirs {
		if len(all) > 1 {
			fail("I8: %d programs were started in %s", len(all), dir)
		}
	}
	if len(h.Starts) == 0 {
		return // nobody wrote a journal
	}
	for id, attempts := range h.Attempts {
		for _, a := range attempts {
			if a.Exit != nil && a.Exit.Observed && len(starts[try{id, a.Number}]) == 0 {
				fail("I3: attempt %d of job %s has an exit, and was never started", a.Number, id)
			}
		}
	}
}

func terminalKind(k job.EventKind) bool {
	return k == job.EventCompleted || k == job.EventFailed || k == job.EventCancelled
}

func checkEnds(h *history, fail func(string, ...any)) {
	by := h.eventsOf()
	for id, j := range h.Jobs {
		ends, again := 0, 0
		ended := false
		for _, e := range by[id] {
			switch {
			case ended && e.Kind == job.EventQueued:
				again++
				ended = false
			case ended:
				fail("I4: event %d (%s) of job %s follows its end", e.Seq, e.Kind, id)
			case terminalKind(e.Kind):
				ends++
				ended = true
			}
		}
		if again > h.Retries[id] {
			fail("I4: job %s left its end %d times, and was asked to %d times", id, again, h.Retries[id])
		}
		if ended != j.State.Terminal() {
			fail("I4: job %s is %s, and its last event says otherwise", id, j.State)
		}
		if ends > again+1 {
			fail("I4: job %s ended %d times", id, ends)
		}
	}
}

func checkVisible(h *history, fail func(string, ...any)) {
	has := map[try]bool{}
	for _, f := range h.Files {
		if f.SHA256 != f.Actual {
			fail("I5: file %s of job %s has hash %s, and should have %s", f.Name, f.Job, f.Actual, f.SHA256)
		}
		if f.Attempt == 0 {
			continue // an input
		}
		has[f.try] = true
		i := slices.IndexFunc(h.Attempts[f.Job], func(a job.Attempt) bool { return a.Number == f.Attempt })
		if i < 0 || h.Attempts[f.Job][i].Outcome == "lost" {
			fail("I5: file %s of job %s comes from attempt %d, which published nothing", f.Name, f.Job, f.Attempt)
		}
	}
	for id, j := range h.Jobs {
		if j.State != job.Completed {
			continue
		}
		if h.Listed[id] && !has[try{id, j.Attempt}] {
			fail("I5: job %s completed in attempt %d, which has no files", id, j.Attempt)
		}
		if from, ok := h.Results[id]; h.Results != nil && (!ok || from != j.Attempt) {
			fail("I5: the result of job %s comes from attempt %d, and attempt %d won", id, from, j.Attempt)
		}
	}
}

func checkWinner(h *history, fail func(string, ...any)) {
	for id, j := range h.Jobs {
		if j.State != job.Completed {
			continue
		}
		var winners []int
		for _, a := range h.Attempts[id] {
			if a.Outcome == "succeeded" {
				winners = append(winners, a.Number)
			}
		}
		if !slices.Equal(winners, []int{j.Attempt}) {
			fail("I6: attempts %v of job %s succeeded, and attempt %d was current", winners, id, j.Attempt)
		}
	}
}

// checkAuthority follows who may speak for each job: whoever ends an attempt is
// the last to whom it was given (I6, I7).
func checkAuthority(h *history, fail func(string, ...any)) {
	for id, events := range h.eventsOf() {
		var owner event
		for _, e := range events {
			switch {
			case e.Kind == job.EventStarted || e.Kind == job.EventAdopted:
				// An attempt that comes back is told of before it gets its new fence.
				if e.Fence < owner.Fence || e.Fence == owner.Fence && e.Kind == job.EventStarted {
					fail("I7: event %d gave job %s away under fence %d after %d", e.Seq, id, e.Fence, owner.Fence)
				}
				owner = e
			case e.Fence < owner.Fence:
				fail("I7: event %d (%s) of job %s has fence %d after %d", e.Seq, e.Kind, id, e.Fence, owner.Fence)
			case e.Kind == job.EventCompleted && (e.Attempt != owner.Attempt || e.Worker != owner.Worker || e.Fence != owner.Fence):
				fail("I6: job %s was completed by attempt %d on %s under fence %d, and belonged to attempt %d on %s under fence %d",
					id, e.Attempt, e.Worker, e.Fence, owner.Attempt, owner.Worker, owner.Fence)
			}
		}
	}
}

// checkTrees looks for two programs of one job at one time: that is legal only
// when the earlier attempt had been given up.
func checkTrees(h *history, fail func(string, ...any)) {
	byJob := map[job.ID][]start{}
	for _, s := range h.Starts {
		byJob[s.Job] = append(byJob[s.Job], s)
	}
	for id, starts := range byJob {
		slices.SortFunc(starts, func(a, b start) int { return a.Attempt - b.Attempt })
		for i := 1; i < len(starts); i++ {
			for _, a := range h.Attempts[id] {
				if a.Number != starts[i-1].Attempt || a.Outcome == "lost" {
					continue
				}
				if a.EndedAt.IsZero() || a.Exit != nil && a.Exit.Observed && a.Exit.EndedAt.After(starts[i].At) {
					fail("I9: attempt %d of job %s was started while attempt %d ran", starts[i].Attempt, id, a.Number)
				}
			}
		}
	}
}

func checkProof(h *history, fail func(string, ...any)) {
	for id, j := range h.Jobs {
		if j.State != job.Completed || j.Attempt < 1 || j.Attempt > len(h.Attempts[id]) {
			continue
		}
		switch x := h.Attempts[id][j.Attempt-1].Exit; {
		case x == nil:
			fail("I10: job %s completed without an exit record", id)
		case x.Observed && (x.Code != 0 || x.Signal != ""):
			fail("I10: job %s completed, and its program ended with %d %s", id, x.Code, x.Signal)
		case !x.Observed && h.Results != nil && h.Results[id] != j.Attempt:
			fail("I10: job %s completed without an exit that somebody saw, and without a result", id)
		}
	}
}

func checkCancels(h *history, fail func(string, ...any)) {
	for _, id := range h.Cancels {
		if s := h.Jobs[id].State; s != job.Cancelled && h.Retries[id] == 0 {
			fail("I11: the cancel of job %s was acknowledged, and it is %s", id, s)
		}
	}
}

func checkBudgets(h *history, fail func(string, ...any)) {
	for id, j := range h.Jobs {
		if j.Failures > j.Retry.Max || j.Losses > j.Retry.MaxLosses {
			fail("I12: job %s used %d of %d retries and %d of %d losses", id, j.Failures, j.Retry.Max, j.Losses, j.Retry.MaxLosses)
		}
		failures, losses := 0, 0
		for _, a := range h.Attempts[id] {
			switch {
			case a.Failure == nil:
			case a.Failure.Class == job.ClassInfrastructure:
				losses++
			default:
				failures++
			}
		}
		if j.Failures > failures || j.Losses > losses {
			fail("I12: job %s paid for %d failures and %d losses, and had %d and %d", id, j.Failures, j.Losses, failures, losses)
		}
		if rounds := 1 + h.Retries[id]; failures > rounds*(j.Retry.Max+1) || losses > rounds*(j.Retry.MaxLosses+1) {
			fail("I12: job %s failed %d times and was lost %d times, with budgets of %d and %d", id, failures, losses, j.Retry.Max, j.Retry.MaxLosses)
		}
	}
}

func checkEvents(h *history, fail func(string, ...any)) {
	seqs := make([]int64, 0, len(h.Events))
	for i, e := range h.Events {
		if i > 0 && e.Seq <= h.Events[i-1].Seq {
			fail("I13: event %d follows event %d", e.Seq, h.Events[i-1].Seq)
		}
		seqs = append(seqs, e.Seq)
	}
	if h.Followed != nil && !slices.Equal(h.Followed, seqs) {
		fail("I13: a follower received %d events, and there are %d; the first difference is %s", len(h.Followed), len(seqs), difference(h.Followed, seqs))
	}
	by := h.eventsOf()
	for id, j := range h.Jobs {
		state := job.State("")
		for i, e := range by[id] {
			switch {
			case i == 0 && e.Kind != job.EventSubmitted:
				fail("I13: the first event of job %s is %s", id, e.Kind)
			case i == 0 || e.State == state || job.CanMove(state, e.State):
			case e.Kind == job.EventAdopted && (state == job.Pending || state == job.Queued):
				// An attempt that had been given up came back.
			default:
				fail("I13: job %s went from %s to %s at event %d (%s)", id, state, e.State, e.Seq, e.Kind)
			}
			state = e.State
		}
		if state != j.State {
			fail("I13: job %s is %s, and its events end with %q", id, j.State, state)
		}
	}
}

func difference(a, b []int64) string {
	for i := range max(len(a), len(b)) {
		switch {
		case i >= len(a):
			return fmt.Sprintf("%d, not received", b[i])
		case i >= len(b):
			return fmt.Sprintf("%d, received and not there", a[i])
		case a[i] != b[i]:
			return fmt.Sprintf("%d, received as %d", b[i], a[i])
		}
	}
	return "none"
}

func checkUnbroken(h *history, fail func(string, ...any)) {
	for t, steps := range h.Steps {
		for i, s := range steps {
			if s != i+1 {
				fail("I15: output of attempt %d of job %s has step %d where %d belongs", t.Attempt, t.Job, s, i+1)
				break
			}
		}
	}
	for _, id := range h.Unbroken {
		j := h.Jobs[id]
		if j.State != job.Completed || j.Attempt != 1 {
			fail("I15: job %s, whose machine and supervisor lived, is %s in attempt %d", id, j.State, j.Attempt)
		}
		if len(h.Steps[try{id, 1}]) == 0 {
			fail("I15: job %s has no steps", id)
		}
	}
}

func checkRest(h *history, fail func(string, ...any)) {
	for _, p := range h.Processes {
		j, known := h.Jobs[p.Job]
		if !known || j.State.Terminal() || j.Attempt != p.Attempt {
			fail("I16: process %d of attempt %d of job %s lives on; the job is %s in attempt %d", p.PID, p.Attempt, p.Job, j.State, j.Attempt)
		}
	}
}

func checkLeftovers(h *history, fail func(string, ...any)) {
	for _, d := range h.Directories {
		for _, a := range h.Attempts[d.Job] {
			// What lost its job, or ended unseen, is kept as evidence for a while.
			if a.Number == d.Attempt && !a.EndedAt.IsZero() && a.Outcome != "lost" && a.Outcome != "unknown" {
				fail("I16: the directory of attempt %d of job %s, which ended as %q, is still there", d.Attempt, d.Job, a.Outcome)
			}
		}
	}
}

func checkProgress(h *history, fail func(string, ...any)) {
	for id, j := range h.Jobs {
		if !j.State.Terminal() && !j.Reason.Held() {
			fail("I17: job %s is still %s", id, j.State)
		}
	}
	for _, d := range h.Adoptions {
		if d.Took > d.Bound {
			fail("I18: %s took %v, more than %v", d.What, d.Took, d.Bound)
		}
	}
	for _, d := range h.Pickups {
		if d.Took > d.Bound {
			fail("I19: %s took %v, more than %v", d.What, d.Took, d.Bound)
		}
	}
}

func checkResources(h *history, fail func(string, ...any)) {
	for _, u := range h.Resources {
		if u.After > u.Before+u.Slack {
			fail("I20: %s rose from %d to %d, with %d allowed", u.What, u.Before, u.After, u.Slack)
		}
	}
}
