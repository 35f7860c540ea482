package e2e

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
)

// TestF1_NodeKilledTwentyTimesDuringOneRun: the program does not notice, no
// output is lost, and it ends as attempt 1.
func TestF1_NodeKilledTwentyTimesDuringOneRun(t *testing.T) {
	n := newNode(t)
	const steps = 150
	j := n.submit(fmt.Sprintf(`{"steps": %d, "step_seconds": 0.1}`, steps))
	n.state(j.ID, job.Running)
	for range 20 {
		n.kill()
		n.start()
		if got := n.state(j.ID, job.Running); got.Attempt != 1 {
			t.Fatalf("attempt %d after a restart, want 1", got.Attempt)
		}
	}
	got := n.ended(j.ID)
	if got.State != job.Completed || got.Attempt != 1 || got.Verdict != job.Converged {
		t.Errorf("ended %s, attempt %d, verdict %s, failure %+v", got.State, got.Attempt, got.Verdict, got.Failure)
	}
	out := n.output(j.ID, 1)
	if starts := strings.Count(out, "mock start"); starts != 1 {
		t.Errorf("the program was started %d times", starts)
	}
	for i := 1; i <= steps; i++ {
		if want := fmt.Sprintf("step %d/%d ", i, steps); strings.Count(out, want) != 1 {
			t.Fatalf("output has %q %d times", want, strings.Count(out, want))
		}
	}
}

// TestF2_ProgramThatEndsWhileNobodyWatches: its true status is reported, once.
func TestF2_ProgramThatEndsWhileNobodyWatches(t *testing.T) {
	n := newNode(t)
	j := n.submit(`{"steps": 2, "step_seconds": 0.5, "fail_at_step": 2, "exit_code": 7}`, func(r *api.JobRequest) { r.Retry = &api.RetryInput{Max: new(0)} })
	n.state(j.ID, job.Running)
	n.kill()
	wait(t.Context(), 2*time.Second) // the program ends now
	n.start()
	got := n.ended(j.ID)
	if got.State != job.Failed || got.Attempt != 1 || got.Failure == nil || got.Failure.Exit != 7 {
		t.Errorf("ended %s, attempt %d, failure %+v", got.State, got.Attempt, got.Failure)
	}
}

// TestG14_SIGTERMLeavesRunsToTheNextNode.
func TestG14_SIGTERMLeavesRunsToTheNextNode(t *testing.T) {
	n := newNode(t)
	j := n.submit(`{"steps": 20, "step_seconds": 0.2}`)
	n.state(j.ID, job.Running)
	n.stop()
	n.start()
	if got := n.ended(j.ID); got.State != job.Completed || got.Attempt != 1 {
		t.Errorf("ended %s, attempt %d", got.State, got.Attempt)
	}
	if starts := strings.Count(n.output(j.ID, 1), "mock start"); starts != 1 {
		t.Errorf("the program was started %d times", starts)
	}
}

// TestI1ToI4_TwoHundredJobsAndTwentyKills: every job ends exactly once, each
// attempt starts at most once, numbers have no gap, and order respects priority.
func TestI1ToI4_TwoHundredJobsAndTwentyKills(t *testing.T) {
	n := newNode(t, "--cpus", "4", "--memory", "8GiB")
	const jobs, kills = 200, 20
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	submitted := map[job.ID]api.Job{}
	for i := range jobs {
		params := fmt.Sprintf(`{"steps": 2, "step_seconds": %.3f`, 0.05+0.2*rng.Float64())
		if i%5 == 0 {
			params += fmt.Sprintf(`, "fail_at_step": 2, "fail_attempts": %d`, 1+rng.IntN(5))
		}
		// Held until all are there, so that the order of starts is decided by
		// priority alone.
		j := n.submit(params+"}", func(r *api.JobRequest) {
			r.Priority = new(rng.IntN(21))
			r.Retry = &api.RetryInput{Max: new(3), Delay: new(job.Duration(100 * time.Millisecond))}
			r.Resources = api.ResourcesInput{CPUs: 1, Memory: 256 << 20}
			r.Hold = true
		})
		submitted[j.ID] = j
	}
	for id := range submitted {
		if _, err := n.Release(t.Context(), string(id), ""); err != nil {
			t.Fatal(err)
		}
	}
	for range kills {
		wait(t.Context(), time.Duration(200+rng.IntN(500))*time.Millisecond)
		n.kill()
		n.start()
	}
	for id := range submitted {
		n.ended(id)
	}
	checkHistory(t, n, submitted)
}

// checkHistory decides the invariants from the event log, the attempts and what
// the programs themselves wrote.
func checkHistory(t *testing.T, n *node, submitted map[job.ID]api.Job) {
	t.Helper()
	waiting := map[job.ID]int{} // priority of the jobs that may be claimed
	ends := map[job.ID]int{}
	starts := map[job.ID]int{}
	for _, e := range n.allEvents() {
		switch e.Kind {
		case job.EventQueued:
			waiting[e.Job] = submitted[e.Job].Priority
		case job.EventStarted:
			for id, p := range waiting {
				if p > waiting[e.Job] {
					t.Errorf("I19: %s (priority %d) started while %s (priority %d) waited", e.Job, waiting[e.Job], id, p)
				}
			}
			delete(waiting, e.Job)
			starts[e.Job]++
		case job.EventCompleted, job.EventFailed, job.EventCancelled:
			ends[e.Job]++
		}
	}
	for id := range submitted {
		if ends[id] != 1 {
			t.Errorf("I4: %s ended %d times", id, ends[id])
		}
		attempts, err := n.Attempts(t.Context(), string(id))
		if err != nil {
			t.Fatal(err)
		}
		j, err := n.Get(t.Context(), string(id))
		if err != nil {
			t.Fatal(err)
		}
		if len(attempts) != j.Attempt {
			t.Errorf("I2: %s has attempt %d and %d attempts", id, j.Attempt, len(attempts))
		}
		for i, a := range attempts {
			if a.Number != i+1 {
				t.Errorf("I2: %s attempt %d has number %d", id, i+1, a.Number)
			}
			if s := strings.Count(n.output(id, a.Number), "mock start"); s != 1 {
				t.Errorf("I3: %s attempt %d was started %d times", id, a.Number, s)
			}
		}
		if j.State == job.Failed && (j.Failure == nil || j.Failures != 3) {
			t.Errorf("I12: %s failed after %d failures: %+v", id, j.Failures, j.Failure)
		}
	}
}

// allEvents pages through the whole history.
func (n *node) allEvents() []api.Event {
	n.t.Helper()
	var all []api.Event
	for j, err := range n.List(n.t.Context(), api.ListQuery{All: true}) {
		if err != nil {
			n.t.Fatal(err)
		}
		page, err := n.History(n.t.Context(), string(j.ID), 0)
		if err != nil {
			n.t.Fatal(err)
		}
		all = append(all, page.Items...)
	}
	sortEvents(all)
	return all
}

func sortEvents(events []api.Event) {
	slices.SortFunc(events, func(a, b api.Event) int { return cmp.Compare(a.Seq, b.Seq) })
}

// TestF11_AFrozenNodeGoesOnWithTheSameAttempt: the program runs meanwhile, and
// even when it ends in the pause its result is taken.
func TestF11_AFrozenNodeGoesOnWithTheSameAttempt(t *testing.T) {
	n := newNode(t)
	ends := n.submit(`{"steps": 2, "step_seconds": 0.5}`)
	goesOn := n.submit(`{"steps": 30, "step_seconds": 0.2}`)
	n.state(ends.ID, job.Running)
	n.state(goesOn.ID, job.Running)
	if err := n.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	wait(t.Context(), 3*time.Second)
	if err := n.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for _, id := range []job.ID{ends.ID, goesOn.ID} {
		if got := n.ended(id); got.State != job.Completed || got.Attempt != 1 {
			t.Errorf("ended %s, attempt %d: %+v", got.State, got.Attempt, got.Failure)
		}
		if starts := strings.Count(n.output(id, 1), "mock start"); starts != 1 {
			t.Errorf("started %d times", starts)
		}
	}
}
