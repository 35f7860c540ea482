package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// lived is a history without fault: a was lost once and completed, b failed for
// good, c was cancelled while it ran.
func lived() *history {
	at := func(s int) time.Time { return time.Date(2026, 1, 2, 3, 4, s, 0, time.UTC) }
	retry := job.Retry{Max: 1, MaxLosses: 5}
	program := &job.Failure{Class: job.ClassProgram, Code: "exit_code"}
	lost := &job.Failure{Class: job.ClassInfrastructure, Code: "unknown"}
	exit := func(code, end int) *job.Exit { return &job.Exit{Observed: true, Code: code, EndedAt: at(end)} }
	h := &history{
		Submissions: []submission{
			{Key: "ka", ID: "a", Answer: accepted, Want: job.Completed}, {Key: "kb", ID: "b", Answer: accepted, Want: job.Failed},
			{Key: "kc", Answer: unknown}, {Key: "kd", Answer: unknown}, {Key: "ke", Answer: refused},
		},
		Cancels: []job.ID{"c"},
		Retries: map[job.ID]int{},
		Jobs: map[job.ID]finalJob{
			"a": {Key: "ka", State: job.Completed, Attempt: 2, Losses: 1, Retry: retry},
			"b": {Key: "kb", State: job.Failed, Attempt: 2, Failures: 1, Retry: retry},
			"c": {Key: "kc", State: job.Cancelled, Attempt: 1, Retry: retry},
		},
		Attempts: map[job.ID][]job.Attempt{
			"a": {{Number: 1, Outcome: "lost", Failure: lost, EndedAt: at(4)}, {Number: 2, Outcome: "succeeded", Exit: exit(0, 9), EndedAt: at(9)}},
			"b": {{Number: 1, Outcome: "exit_code", Failure: program, Exit: exit(1, 3), EndedAt: at(3)}, {Number: 2, Outcome: "exit_code", Failure: program, Exit: exit(1, 5), EndedAt: at(5)}},
			"c": {{Number: 1, Outcome: "cancelled", EndedAt: at(7)}},
		},
		Starts: []start{
			{Job: "a", Attempt: 1, Dir: "w1/a/1", At: at(1)}, {Job: "a", Attempt: 2, Dir: "w2/a/2", At: at(6)},
			{Job: "b", Attempt: 1, Dir: "w1/b/1", At: at(2)}, {Job: "b", Attempt: 2, Dir: "w1/b/2", At: at(4)},
			{Job: "c", Attempt: 1, Dir: "w1/c/1", At: at(2)},
		},
		Steps:     map[try][]int{{"a", 2}: {1, 2, 3}},
		Files:     []storedFile{{try: try{"a", 2}, Name: "out", SHA256: "x", Actual: "x"}, {try: try{"b", 2}, Name: "out", SHA256: "x", Actual: "x"}},
		Listed:    map[job.ID]bool{"a": true, "b": true},
		Results:   map[job.ID]int{"a": 2},
		Adoptions: []delay{{"adoption", time.Second, 10 * time.Second}},
		Pickups:   []delay{{"pickup", time.Second, 2 * time.Second}},
		Resources: []usage{{"goroutines", 10, 12, 5}},
	}
	add := func(id job.ID, kind job.EventKind, s job.State, attempt int, f job.Fence, worker string) {
		h.Events = append(h.Events, event{int64(len(h.Events) + 1), id, kind, s, attempt, f, worker})
	}
	for _, id := range []job.ID{"a", "b", "c"} {
		add(id, job.EventSubmitted, job.Queued, 0, 0, "")
		add(id, job.EventQueued, job.Queued, 0, 0, "")
		add(id, job.EventStarted, job.Running, 1, 1, "w1")
	}
	add("a", job.EventLost, job.Running, 1, 1, "w1")
	add("a", job.EventRetry, job.Pending, 1, 1, "w1")
	add("b", job.EventAdopted, job.Running, 1, 2, "w1")
	add("b", job.EventRetry, job.Pending, 1, 2, "w1")
	add("b", job.EventQueued, job.Queued, 1, 2, "w1")
	add("b", job.EventStarted, job.Running, 2, 3, "w1")
	add("c", job.EventCancel, job.Running, 1, 1, "w1")
	add("a", job.EventQueued, job.Queued, 1, 1, "w1")
	add("a", job.EventStarted, job.Running, 2, 2, "w2")
	add("b", job.EventFailed, job.Failed, 2, 3, "w1")
	add("c", job.EventCancelled, job.Cancelled, 1, 1, "w1")
	add("a", job.EventCompleted, job.Completed, 2, 2, "w2")
	for _, e := range h.Events {
		h.Followed = append(h.Followed, e.Seq)
	}
	return h
}

func TestAHistoryWithoutFaultBreaksNothing(t *testing.T) {
	t.Parallel()
	if found := lived().broken(); len(found) > 0 {
		t.Errorf("broken: %q", found)
	}
}

// TestEveryInvariantCanFail: a checker that finds nothing proves nothing.
func TestEveryInvariantCanFail(t *testing.T) {
	t.Parallel()
	change := func(id job.ID, f func(*finalJob)) func(*history) {
		return func(h *history) {
			j := h.Jobs[id]
			f(&j)
			h.Jobs[id] = j
		}
	}
	last := func(f func(*event)) func(*history) {
		return func(h *history) { f(&h.Events[len(h.Events)-1]) }
	}
	for _, c := range []struct {
		want string // beginning of what is found
		harm func(*history)
	}{
		{"I1: job a was accepted", func(h *history) { delete(h.Jobs, "a") }},
		{"I1: key kb has 2 jobs", func(h *history) { h.Jobs["x"] = h.Jobs["b"] }},
		{"I23: key ke was refused", func(h *history) { h.Jobs["x"] = finalJob{Key: "ke", State: job.Failed} }},
		{"I23: job x has key kx", func(h *history) { h.Jobs["x"] = finalJob{Key: "kx", State: job.Failed} }},
		{"G11: job b ended COMPLETED", change("b", func(j *finalJob) { j.State = job.Completed })},
		{"I2: attempt 2 of job a has number 3", func(h *history) { h.Attempts["a"][1].Number = 3 }},
		{"I2: job b is at attempt 3", change("b", func(j *finalJob) { j.Attempt = 3 })},
		{"I2: job a went from attempt 1 to 3", func(h *history) { h.Events[17].Attempt = 3 }},
		{"I2: event 20 (cancelled)", func(h *history) { h.Events[19].Attempt = 0 }},
		{"I3: attempt 1 of job c was started 2 times", func(h *history) {
			h.Starts = append(h.Starts, start{Job: "c", Attempt: 1, Dir: "w2/c/1"})
		}},
		{"I3: attempt 2 of job c was started, and is not recorded", func(h *history) {
			h.Starts = append(h.Starts, start{Job: "c", Attempt: 2, Dir: "w2/c/2"})
		}},
		{"I3: attempt 2 of job b has an exit, and was never", func(h *history) { h.Starts = append(h.Starts[:3:3], h.Starts[4]) }},
		{"I4: event 22 (failed) of job a follows its end", func(h *history) {
			h.Events = append(h.Events, event{22, "a", job.EventFailed, job.Failed, 2, 2, "w2"})
		}},
		{"I4: job b left its end 1 times", func(h *history) {
			h.Events = append(h.Events, event{22, "b", job.EventQueued, job.Queued, 2, 3, "w1"})
		}},
		{"I4: job c is RUNNING", change("c", func(j *finalJob) { j.State = job.Running })},
		{"I5: file out of job a has hash", func(h *history) { h.Files[0].Actual = "y" }},
		{"I5: file out of job a comes from attempt 1", func(h *history) { h.Files[0].Attempt = 1 }},
		{"I5: job a completed in attempt 2, which has no files", func(h *history) { h.Files = h.Files[1:] }},
		{"I5: the result of job a comes from attempt 1", func(h *history) { h.Results["a"] = 1 }},
		{"I6: attempts [1 2] of job a succeeded", func(h *history) { h.Attempts["a"][0].Outcome = "succeeded" }},
		{"I6: job a was completed by attempt 2 on w1", last(func(e *event) { e.Worker = "w1" })},
		{"I6: job a was completed by attempt 2 on w2 under fence 7", last(func(e *event) { e.Fence = 7 })},
		{"I7: event 21 (completed) of job a has fence 1", last(func(e *event) { e.Fence = 1 })},
		{"I7: event 18 gave job a away under fence 1", func(h *history) { h.Events[17].Fence = 1 }},
		{"I8: 2 programs were started in w1/c/1", func(h *history) { h.Starts[0].Dir = "w1/c/1" }},
		{"I9: attempt 2 of job b was started while", func(h *history) { h.Attempts["b"][0].Exit.EndedAt = h.Starts[3].At.Add(time.Second) }},
		{"I9: attempt 2 of job a was started while", func(h *history) { h.Attempts["a"][0].Outcome, h.Attempts["a"][0].EndedAt = "", time.Time{} }},
		{"I10: job a completed without an exit record", func(h *history) { h.Attempts["a"][1].Exit = nil }},
		{"I10: job a completed, and its program ended with 3", func(h *history) { h.Attempts["a"][1].Exit.Code = 3 }},
		{"I10: job a completed without an exit that somebody saw", func(h *history) {
			h.Attempts["a"][1].Exit.Observed = false
			delete(h.Results, "a")
		}},
		{"I11: the cancel of job a", func(h *history) { h.Cancels = append(h.Cancels, "a") }},
		{"I12: job b used 2 of 1", change("b", func(j *finalJob) { j.Failures = 2 })},
		{"I12: job b paid for 1 failures and 1 losses", change("b", func(j *finalJob) { j.Losses = 1 })},
		{"I12: job b failed 2 times", change("b", func(j *finalJob) { j.Retry.Max, j.Failures = 0, 0 })},
		{"I13: event 3 follows event 3", func(h *history) { h.Events[3].Seq = 3 }},
		{"I13: a follower received 20 events, and there are 21; the first difference is 5, received as 6", func(h *history) {
			h.Followed = append(h.Followed[:4:4], h.Followed[5:]...)
		}},
		{"I13: the first event of job b", func(h *history) { h.Events[3].Kind = job.EventHeld }},
		{"I13: job b went from PENDING to RUNNING", func(h *history) { h.Events[13].State = job.Running }},
		{"I13: job a is COMPLETED, and its events end with", last(func(e *event) { e.State = job.Failed })},
		{"I15: output of attempt 2 of job a has step 3", func(h *history) { h.Steps[try{"a", 2}] = []int{1, 3} }},
		{"I15: job a, whose machine", func(h *history) { h.Unbroken = []job.ID{"a"} }},
		{"I15: job c has no steps", func(h *history) { h.Unbroken = []job.ID{"c"} }},
		{"I16: process 7 of attempt 1 of job a", func(h *history) { h.Processes = []process{{try{"a", 1}, 7}} }},
		{"I16: the directory of attempt 2 of job a", func(h *history) { h.Directories = []try{{"a", 1}, {"a", 2}} }},
		{"I17: job b is still QUEUED", change("b", func(j *finalJob) { j.State = job.Queued })},
		{"I18: adoption took", func(h *history) { h.Adoptions[0].Took = time.Minute }},
		{"I19: pickup took", func(h *history) { h.Pickups[0].Took = time.Minute }},
		{"I20: goroutines rose", func(h *history) { h.Resources[0].After = 16 }},
	} {
		h := lived()
		c.harm(h)
		found := h.broken()
		hit := false
		for _, f := range found {
			hit = hit || strings.HasPrefix(f, c.want)
		}
		if !hit {
			t.Errorf("not found: %q; found %q", c.want, found)
		}
	}
}
