package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
)

// What happens to workers of a cluster, and what their programs notice of it.

// TestF1_AWorkerKilledTenTimesDuringOneRun: the program does not notice, and is
// back in hand within 10 s of each start.
func TestF1_AWorkerKilledTenTimesDuringOneRun(t *testing.T) {
	t.Parallel()
	c := newCluster(t, layout{servers: 1, workers: 1})
	id := c.submit(`{"steps": 100, "step_seconds": 0.1}`, job.Completed)
	w := c.host(c.running(id))
	var adoptions []delay
	for i := range 10 {
		w.kill()
		began := time.Now()
		w.start()
		eventually(t, 20*time.Second, "the program has its worker again", func() bool { return c.adopted(id) > i })
		adoptions = append(adoptions, delay{fmt.Sprintf("adoption %d", i+1), time.Since(began), 10 * time.Second})
	}
	c.ended(id)
	c.unbroken = []job.ID{id}
	c.check(1, func(h *history) { h.Adoptions = adoptions })
}

// adopted counts how often a job was taken over.
func (c *cluster) adopted(id job.ID) int {
	c.t.Helper()
	n := 0
	for _, e := range c.events(id) {
		n += boolInt(e.Kind == job.EventAdopted)
	}
	return n
}

func (c *cluster) events(id job.ID) []api.Event {
	c.t.Helper()
	return ask(c, func(s *api.Client, ctx context.Context) (api.EventList, error) { return s.History(ctx, string(id), 0) }).Items
}

// TestF2_AProgramThatEndsWithoutItsWorker: its true status is reported, once.
func TestF2_AProgramThatEndsWithoutItsWorker(t *testing.T) {
	t.Parallel()
	c := newCluster(t, layout{servers: 1, workers: 1})
	id := c.submit(`{"steps": 2, "step_seconds": 0.5, "fail_at_step": 2, "exit_code": 7}`, job.Failed,
		func(r *api.JobRequest) { r.Retry = &api.RetryInput{Max: new(0)} })
	w := c.host(c.running(id))
	w.kill()
	eventually(t, 20*time.Second, "the program ends", func() bool { return len(processesOf(t, id)) == 0 })
	w.start()
	if got := c.ended(id); got.Attempt != 1 || got.Failure == nil || got.Failure.Exit != 7 {
		t.Errorf("attempt %d, failure %+v", got.Attempt, got.Failure)
	}
	c.check(1)
}

// TestF3_AWorkerKilledBetweenClaimAndFirstInstruction: an attempt starts at most
// once, or is given up; no job is lost.
func TestF3_AWorkerKilledBetweenClaimAndFirstInstruction(t *testing.T) {
	t.Parallel()
	c := newCluster(t, layout{servers: 1, workers: 1, cpus: 8})
	w := c.workers[0]
	for i := range 20 {
		for range 4 {
			c.submit(`{"steps": 1, "step_seconds": 0.01}`, job.Completed)
		}
		// From the claim to the first instruction take some 20 ms.
		wait(t.Context(), time.Duration(2*i)*time.Millisecond)
		w.kill()
		w.start()
	}
	c.check(1000)
}

// TestF10_AFrozenWorkerCannotPublish: its job goes on elsewhere; what it says
// when it thaws is refused, its program is stopped, and there is one outcome.
func TestF10_AFrozenWorkerCannotPublish(t *testing.T) {
	t.Parallel()
	c := newCluster(t, layout{servers: 2, workers: 1})
	long := c.submit(`{"steps": 200, "step_seconds": 0.1}`, job.Completed)
	short := c.submit(`{"steps": 20, "step_seconds": 0.1}`, job.Completed)
	c.running(short)
	frozen := c.host(c.running(long))
	c.addWorker()
	frozen.freeze()
	for _, id := range []job.ID{long, short} {
		eventually(t, 60*time.Second, "the job has its second attempt", func() bool { return c.get(id).Attempt == 2 && c.get(id).State != job.Queued })
	}
	wait(t.Context(), 3*lostAfter-lostAfter) // frozen for 3 × lost_after in all
	if old := c.processes(long, 1); len(old) == 0 {
		t.Error("nobody may stop the program before its own worker can")
	}
	frozen.thaw()
	// I16: the fenced tree is stopped within the grace (30 s, 5 s of soft stop).
	eventually(t, 45*time.Second, "the program that lost its job is stopped", func() bool { return len(c.processes(long, 1)) == 0 })
	h := c.check(10)
	for _, id := range []job.ID{long, short} {
		if j := h.Jobs[id]; j.Attempt != 2 {
			t.Errorf("job %s ended in attempt %d, want 2", id, j.Attempt)
		}
	}
}

// processes lists the processes of one attempt.
func (c *cluster) processes(id job.ID, attempt int) []process {
	c.t.Helper()
	alive, err := liveProcesses(c.dir)
	if err != nil {
		c.t.Fatal(err)
	}
	var found []process
	for _, p := range alive {
		if p.try == (try{id, attempt}) {
			found = append(found, p)
		}
	}
	return found
}

// TestF11_AFrozenWorkerThatNobodyReplacedGoesOn: the same attempt comes back,
// running or ended, and its result is taken.
func TestF11_AFrozenWorkerThatNobodyReplacedGoesOn(t *testing.T) {
	t.Parallel()
	c := newCluster(t, layout{servers: 1, workers: 1})
	goesOn := c.submit(`{"steps": 200, "step_seconds": 0.1}`, job.Completed)
	ends := c.submit(`{"steps": 20, "step_seconds": 0.1}`, job.Completed)
	c.running(ends)
	w := c.host(c.running(goesOn))
	w.freeze()
	for _, id := range []job.ID{goesOn, ends} {
		eventually(t, 60*time.Second, "the job is given up", func() bool { return c.get(id).State != job.Running })
	}
	wait(t.Context(), 2*lostAfter)
	w.thaw()
	c.ended(goesOn)
	c.ended(ends)
	c.unbroken = []job.ID{goesOn, ends}
	c.check(10)
}

// TestF15_AWorkerAndAServerKilledForMemory: the kernel ends them, and programs
// go on as after any other death.
func TestF15_AWorkerAndAServerKilledForMemory(t *testing.T) {
	t.Parallel()
	group := memoryGroup(t, 16<<10)
	c := newCluster(t, layout{servers: 1, workers: 1})
	id := c.submit(`{"steps": 150, "step_seconds": 0.1}`, job.Completed)
	w := c.host(c.running(id))
	for _, d := range []*daemon{w.daemon, c.servers[0].daemon} {
		d.mortal = true
		if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), fmt.Append(nil, d.pid()), 0); err != nil {
			t.Fatal(err)
		}
		eventually(t, 60*time.Second, "the kernel has ended "+d.name, func() bool {
			if d == c.servers[0].daemon {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				_, _ = c.servers[0].client.Page(ctx, api.ListQuery{All: true}) // answering takes memory
			}
			return d.pid() == 0
		})
		d.start()
	}
	c.awaitServer(c.servers[0])
	c.ended(id)
	c.unbroken = []job.ID{id}
	c.check(1)
}

// memoryGroup makes a control group whose members may take so many bytes more.
func memoryGroup(t *testing.T, bytes int) string {
	t.Helper()
	need(t)
	dir := filepath.Join("/sys/fs/cgroup/memory", fmt.Sprintf("nanoos-test-%d", os.Getpid()))
	err := os.Mkdir(dir, 0o755)
	if err == nil {
		t.Cleanup(func() {
			eventually(t, 20*time.Second, "the control group is empty", func() bool { return os.Remove(dir) == nil })
		})
		err = os.WriteFile(filepath.Join(dir, "memory.limit_in_bytes"), fmt.Append(nil, bytes), 0)
	}
	if err != nil {
		if os.Getenv("CI") != "" && os.Geteuid() == 0 {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED: needs control groups of version 1 for memory: %v", err)
	}
	return dir
}

// TestF31_TheClocksOfAWorkerAreElsewhere: a worker, its supervisors and programs
// whose monotonic and boot clocks are 28 hours ahead keep their leases, and a
// walltime is as long as anywhere.
func TestF31_TheClocksOfAWorkerAreElsewhere(t *testing.T) {
	t.Parallel()
	need(t, "unshare")
	ahead := []string{"unshare", "--time", "--boottime", "100000", "--monotonic", "100000"}
	if err := command(append(ahead, "true")...); err != nil {
		if os.Getenv("CI") != "" && os.Geteuid() == 0 {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED: cannot make a time namespace: %v", err)
	}
	c := newCluster(t, layout{servers: 1})
	w := c.newWorker([]string{c.servers[0].client.URL()})
	plain := w.prefix
	w.prefix = ahead
	w.start()
	c.awaitWorkers(1)
	whale := c.submit(`{"steps": 100, "step_seconds": 0.1}`, job.Completed)
	limited := c.submit(`{"steps": 1000, "step_seconds": 0.1}`, job.Failed, func(r *api.JobRequest) {
		r.Resources.Walltime, r.Resources.SoftLimit = job.Duration(3*time.Second), job.Duration(2*time.Second)
	})
	c.running(limited)
	c.running(whale)
	// The next worker of this host reads records of the clocks of the first.
	w.kill()
	w.prefix = plain
	w.start()
	j := c.ended(limited)
	if took := j.EndedAt.Sub(j.StartedAt); j.Failure == nil || j.Failure.Code != "time_limit" || took < 2*time.Second || took > 60*time.Second {
		t.Errorf("ended after %v: %+v", took, j.Failure)
	}
	c.unbroken = []job.ID{whale}
	c.check(10)
}

// TestF33_APoisonJobIsQuarantined: after three workers that it took along, and
// the other jobs finish.
func TestF33_APoisonJobIsQuarantined(t *testing.T) {
	t.Parallel()
	c := newCluster(t, layout{servers: 1, workers: 1})
	w := c.workers[0]
	w.mortal = true
	poison := c.submit(`{"steps": 1, "step_seconds": 0.1}`, "", func(r *api.JobRequest) {
		r.Files = []api.FileInput{{Name: "poison", Text: "drink me\n"}}
	})
	var others []job.ID
	for range 10 {
		others = append(others, c.submit(`{"steps": 2, "step_seconds": 0.1}`, job.Completed))
	}
	for range 3 {
		eventually(t, 60*time.Second, "the poison takes its worker along", func() bool { return w.pid() == 0 })
		w.start()
	}
	for _, id := range others {
		c.ended(id)
	}
	eventually(t, 60*time.Second, "the poison job is quarantined", func() bool { return c.get(poison).Reason == job.ReasonQuarantined })
	j := c.get(poison)
	if j.Attempt != 3 || j.Failure == nil || len(j.Failure.Evidence) != 3 {
		t.Errorf("attempt %d, failure %+v: want 3 attempts and the evidence of each", j.Attempt, j.Failure)
	}
	if w.pid() == 0 {
		t.Error("the worker died once more")
	}
	c.check(100)
}

// TestF34_APermanentErrorUsesItsBudgetAndNoMore, with pauses that may grow.
func TestF34_APermanentErrorUsesItsBudgetAndNoMore(t *testing.T) {
	t.Parallel()
	c := newCluster(t, layout{servers: 1, workers: 1})
	id := c.submit(`{"steps": 1, "step_seconds": 0.05, "fail_at_step": 1, "exit_code": 1}`, job.Failed, func(r *api.JobRequest) {
		r.Retry = &api.RetryInput{Max: new(3), Delay: new(job.Duration(time.Second)), MaxDelay: new(job.Duration(2 * time.Second))}
	})
	if j := c.ended(id); j.Attempt != 4 || j.Failures != 3 {
		t.Errorf("%d attempts and %d retries, want 4 and 3", j.Attempt, j.Failures)
	}
	var last time.Time
	for _, e := range c.events(id) {
		switch e.Kind {
		case job.EventRetry:
			last = e.At
		case job.EventQueued:
			if !last.IsZero() && e.At.Sub(last) < time.Second {
				t.Errorf("tried again after %v; a second is the least", e.At.Sub(last))
			}
		}
	}
	c.check(10)
}

// TestF35_ADrainWithEightPrograms: the worker leaves in time, the programs go on,
// and the next worker has them.
func TestF35_ADrainWithEightPrograms(t *testing.T) {
	t.Parallel()
	c := newCluster(t, layout{servers: 1, workers: 1, cpus: 8})
	var ids []job.ID
	for range 8 {
		ids = append(ids, c.submit(`{"steps": 120, "step_seconds": 0.1}`, job.Completed))
	}
	for _, id := range ids {
		c.running(id)
	}
	w := c.workers[0]
	waiting := c.submit(`{"steps": 1, "step_seconds": 0.1}`, job.Completed)
	w.stop()
	for _, id := range ids {
		if len(processesOf(t, id)) == 0 {
			t.Errorf("the program of %s is gone", id)
		}
	}
	if j := c.get(waiting); j.State != job.Queued {
		t.Errorf("a job that nobody claimed is %s", j.State)
	}
	began := time.Now()
	w.start()
	var adoptions []delay
	for _, id := range ids {
		eventually(t, 20*time.Second, "the program has a worker again", func() bool { return c.adopted(id) == 1 })
		adoptions = append(adoptions, delay{"adoption of " + string(id), time.Since(began), 10 * time.Second})
	}
	c.unbroken = ids
	c.check(10, func(h *history) { h.Adoptions = adoptions })
}

// TestF19_AFailedFlushIsNotCalledGood: a worker whose disk fails to flush starts
// nothing there, and goes on when the disk does.
func TestF19_AFailedFlushIsNotCalledGood(t *testing.T) {
	t.Parallel()
	need(t, "strace")
	c := newCluster(t, layout{servers: 1, workers: 1})
	w := c.workers[0]
	w.stop()
	w.mortal = true
	plain, args := w.binary, w.args
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal(err)
	}
	// Every flush of the worker and of what it starts fails.
	w.binary, w.args = strace, append([]string{"-f", "-o", "/dev/null", "-e", "trace=fsync,fdatasync",
		"-e", "inject=fsync:error=EIO", "-e", "inject=fdatasync:error=EIO", plain}, args...)
	w.start()
	id := c.submit(`{"steps": 1, "step_seconds": 0.1}`, job.Completed, func(r *api.JobRequest) {
		r.Retry = &api.RetryInput{Max: new(50), MaxLosses: new(50), Delay: new(job.Duration(time.Second)), MaxDelay: new(job.Duration(time.Second))}
	})
	eventually(t, 60*time.Second, "a start fails", func() bool {
		return w.pid() == 0 || c.get(id).Attempt >= 1 && c.get(id).State != job.Queued && c.get(id).State != job.Running
	})
	if j := c.get(id); j.State.Terminal() {
		t.Errorf("the job ended %s: %+v", j.State, j.Failure)
	}
	w.kill()
	eventually(t, 20*time.Second, "the traced processes are gone", func() bool {
		for _, pid := range processesBelow(t, w.data) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return len(processesBelow(t, w.data)) == 0
	})
	w.binary, w.args = plain, args
	w.start()
	c.ended(id)
	c.check(10)
}

// processesBelow lists the processes whose command line names a directory.
func processesBelow(t *testing.T, dir string) []int {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, path := range found {
		if raw, err := os.ReadFile(path); err == nil && strings.Contains(string(raw), dir) {
			var pid int
			if _, err := fmt.Sscanf(path, "/proc/%d/cmdline", &pid); err == nil && pid != os.Getpid() {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
