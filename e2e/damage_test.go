package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
)

// supervisorsOf lists the supervisors of a node's attempts: they are the
// processes that were started from its directory of binaries.
func supervisorsOf(t *testing.T, data string) []int {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, dir := range dirs {
		cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || !bytes.HasPrefix(cmdline, []byte(data)) || !bytes.Contains(cmdline, []byte("\x00supervise\x00")) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// TestF4F5_SupervisorAndNodeKilledTogether: the program goes on, a successor
// watches it, and its own completion marker stands for the exit that nobody saw.
func TestF4F5_SupervisorAndNodeKilledTogether(t *testing.T) {
	n := newNode(t)
	j := n.submit(`{"steps": 30, "step_seconds": 0.2}`)
	n.state(j.ID, job.Running)
	n.eventually(20*time.Second, "the program runs", func() bool { return len(processesOf(t, j.ID)) > 0 })
	supervisors := supervisorsOf(t, n.data)
	if len(supervisors) != 1 {
		t.Fatalf("supervisors %v", supervisors)
	}
	n.kill()
	if err := syscall.Kill(supervisors[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	n.start()
	got := n.ended(j.ID)
	if got.State != job.Completed || got.Attempt != 1 {
		t.Errorf("ended %s, attempt %d: %+v", got.State, got.Attempt, got.Failure)
	}
	if starts := strings.Count(n.output(j.ID, 1), "mock start"); starts != 1 {
		t.Errorf("started %d times", starts)
	}
	attempts, err := n.Attempts(t.Context(), string(j.ID))
	if err != nil || len(attempts) != 1 || attempts[0].Exit == nil || attempts[0].Exit.Observed {
		t.Errorf("the exit was not observed, and must be called so: %+v, %v", attempts, err)
	}
}

// TestF45_ADamagedAttemptIsReportedAndTriedAgain.
func TestF45_ADamagedAttemptIsReportedAndTriedAgain(t *testing.T) {
	n := newNode(t)
	j := n.submit(`{"steps": 10, "step_seconds": 0.2}`, func(r *api.JobRequest) {
		r.Retry = &api.RetryInput{Delay: new(job.Duration(100 * time.Millisecond))}
	})
	n.state(j.ID, job.Running)
	n.eventually(20*time.Second, "the program runs", func() bool { return len(processesOf(t, j.ID)) > 0 })
	n.kill()
	dir := filepath.Join(n.data, "attempts", string(j.ID), "1")
	n.eventually(30*time.Second, "the attempt ends unwatched", func() bool {
		return len(supervisorsOf(t, n.data)) == 0 && len(processesOf(t, j.ID)) == 0
	})
	for _, name := range []string{"started", "exit"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("garbage"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n.start()
	got := n.ended(j.ID)
	if got.State != job.Completed || got.Attempt != 2 {
		t.Errorf("ended %s, attempt %d: %+v", got.State, got.Attempt, got.Failure)
	}
	attempts, err := n.Attempts(t.Context(), string(j.ID))
	if err != nil || len(attempts) != 2 || attempts[0].Outcome != "unknown" {
		t.Errorf("attempts %+v, %v", attempts, err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("the damaged directory is the evidence: %v", err)
	}
}

// TestF16_AFullDiskStopsClaims: the job waits until there is room.
func TestF16_AFullDiskStopsClaims(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: needs real processes; not run with -short")
	}
	disk := dataDir(t)
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=256m"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("mount a small disk: %v", err)
		}
		t.Skipf("SKIPPED: cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	n := newNodeAt(t, filepath.Join(disk, "data"))
	var st syscall.Statfs_t
	if err := syscall.Statfs(disk, &st); err != nil {
		t.Fatal(err)
	}
	// 8 MiB stay: below the floor of 5 % for claims, enough for the database.
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, int64(st.Bavail)*st.Bsize-8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	n.eventually(30*time.Second, "the node says why", func() bool { return strings.Contains(n.log.tail(20_000), "the disk is almost full") })
	j := n.submit(`{"steps": 1, "step_seconds": 0}`)
	wait(t.Context(), time.Second) // long enough for an idle worker to take it
	if got, err := n.Get(t.Context(), string(j.ID)); err != nil || got.State != job.Queued {
		t.Errorf("the job is %s on a full disk, %v", got.State, err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if got := n.ended(j.ID); got.State != job.Completed {
		t.Errorf("ended %s: %+v", got.State, got.Failure)
	}
}

// TestF44F45_FilesRemovedWhileItRuns: a job whose files are removed while it runs is
// reported, and nothing of it stays alive.
func TestF44F45_FilesRemovedWhileItRuns(t *testing.T) {
	n := newNode(t)
	j := n.submit(`{"steps": 1000, "step_seconds": 0.1}`, func(r *api.JobRequest) { r.Retry = &api.RetryInput{Max: new(0), MaxLosses: new(0)} })
	n.state(j.ID, job.Running)
	n.eventually(20*time.Second, "the program runs", func() bool { return len(processesOf(t, j.ID)) > 0 })
	if err := os.RemoveAll(filepath.Join(n.data, "attempts", string(j.ID))); err != nil {
		t.Fatal(err)
	}
	got := awaitFor(n, j.ID, 90*time.Second)
	if got.State != job.Failed || got.Failure == nil || got.Failure.Class != job.ClassInfrastructure {
		t.Errorf("ended %s: %+v", got.State, got.Failure)
	}
	n.eventually(60*time.Second, "nothing is left alive", func() bool { return len(processesOf(t, j.ID)) == 0 })
}
