package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
)

// processesOf lists the processes of a job: those whose environment names it.
func processesOf(t *testing.T, id job.ID) []string {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, dir := range dirs {
		env, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil || !bytes.Contains(env, []byte("NANOOS_JOB="+string(id))) {
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		found = append(found, filepath.Base(dir)+" "+strings.ReplaceAll(string(cmdline), "\x00", " "))
	}
	return found
}

func shmFiles(t *testing.T) map[string]bool {
	t.Helper()
	entries, err := os.ReadDir("/dev/shm")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]bool{}
	for _, e := range entries {
		// A database of another test comes and goes when it likes.
		if !strings.HasPrefix(e.Name(), "PostgreSQL.") {
			files[e.Name()] = true
		}
	}
	return files
}

// TestF6_ChildrenInSessionsOfTheirOwnAreEnded.
func TestF6_ChildrenInSessionsOfTheirOwnAreEnded(t *testing.T) {
	n := newNode(t)
	j := n.submit(`{"steps": 2, "step_seconds": 0.3, "children": 3}`)
	n.eventually(20*time.Second, "the children run", func() bool { return len(processesOf(t, j.ID)) >= 4 })
	if got := n.ended(j.ID); got.State != job.Completed {
		t.Errorf("ended %s: %+v", got.State, got.Failure)
	}
	if left := processesOf(t, j.ID); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestF8_ACancelEndsAProgramThatWillNotListen.
func TestF8_ACancelEndsAProgramThatWillNotListen(t *testing.T) {
	n := newNode(t)
	j := n.submit(`{"steps": 1000, "step_seconds": 1, "ignore_sigterm": true, "children": 2}`, func(r *api.JobRequest) {
		r.Resources.Walltime = job.Duration(time.Hour)
	})
	n.state(j.ID, job.Running)
	n.eventually(20*time.Second, "the program runs", func() bool { return len(processesOf(t, j.ID)) >= 3 })
	if _, err := n.Cancel(t.Context(), string(j.ID), "enough"); err != nil {
		t.Fatal(err)
	}
	// G13: the cancel survives the death of everything of ours.
	n.kill()
	n.start()
	got := awaitFor(n, j.ID, 3*time.Minute)
	if got.State != job.Cancelled {
		t.Errorf("ended %s", got.State)
	}
	if left := processesOf(t, j.ID); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func awaitFor(n *node, id job.ID, within time.Duration) api.Job {
	n.t.Helper()
	var j api.Job
	n.eventually(within, "the job ends", func() bool {
		var err error
		if j, err = n.Get(n.t.Context(), string(id)); err != nil {
			n.t.Fatal(err)
		}
		return j.State.Terminal()
	})
	return j
}

// silicon is a job of Quantum ESPRESSO that takes long enough to be cancelled.
func silicon(cpus int) api.JobRequest {
	return api.JobRequest{
		Name: "silicon", Engine: "qe",
		Structure: &api.StructureInput{Name: "Si.cif", Text: siliconCIF},
		Parameters: []byte(`{"calculation": "scf", "ecutwfc": 60, "kpoints": [12, 12, 12], "conv_thr": 1e-12,
			"nbnd": 40, "pseudopotentials": {"Si": "Si.pz-vbc.UPF"}}`),
		Resources: api.ResourcesInput{CPUs: cpus, Memory: 2 << 30},
	}
}

const siliconCIF = `data_si
_cell_length_a 3.8166849016
_cell_length_b 3.8166849016
_cell_length_c 3.8166849016
_cell_angle_alpha 60
_cell_angle_beta 60
_cell_angle_gamma 60
loop_
_space_group_symop_operation_xyz
'x, y, z'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Si1 Si 0 0 0
Si2 Si 0.25 0.25 0.25
`

// TestF7_ACancelledMPIRunLeavesNothing: a real two-rank pw.x, whose ranks are in
// process groups of their own and share memory.
func TestF7_ACancelledMPIRunLeavesNothing(t *testing.T) {
	need(t, "pw.x", "mpirun")
	n := newNode(t)
	before := shmFiles(t)
	j, _, err := n.Client.Submit(t.Context(), silicon(2))
	if err != nil {
		t.Fatal(err)
	}
	n.eventually(60*time.Second, "both ranks compute", func() bool {
		ranks := 0
		for _, p := range processesOf(t, j.ID) {
			if strings.Contains(p, "pw.x") && !strings.Contains(p, "mpirun") {
				ranks++
			}
		}
		got, err := n.Get(t.Context(), string(j.ID))
		if err == nil && got.State.Terminal() {
			t.Fatalf("ended too early: %s %+v", got.State, got.Failure)
		}
		return ranks >= 2 && err == nil && got.Progress != nil && got.Progress.Step >= 1
	})
	if _, err := n.Cancel(t.Context(), string(j.ID), "enough"); err != nil {
		t.Fatal(err)
	}
	if got := awaitFor(n, j.ID, 2*time.Minute); got.State != job.Cancelled {
		t.Errorf("ended %s: %+v", got.State, got.Failure)
	}
	if left := processesOf(t, j.ID); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	for name := range shmFiles(t) {
		if !before[name] {
			t.Errorf("left in shared memory: %s", name)
		}
	}
}

// TestF9_AStoppedProgramIsEndedByTheWalltime.
func TestF9_AStoppedProgramIsEndedByTheWalltime(t *testing.T) {
	n := newNode(t)
	j := n.submit(`{"steps": 1000, "step_seconds": 0.1}`, func(r *api.JobRequest) {
		r.Resources.Walltime = job.Duration(4 * time.Second)
		r.Resources.SoftLimit = job.Duration(3 * time.Second)
	})
	n.state(j.ID, job.Running)
	n.eventually(20*time.Second, "the program runs", func() bool { return len(processesOf(t, j.ID)) > 0 })
	for _, p := range processesOf(t, j.ID) {
		pid, err := strconv.Atoi(strings.Fields(p)[0])
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(p, "mock-engine") {
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := awaitFor(n, j.ID, 2*time.Minute)
	if got.State != job.Failed || got.Failure == nil || got.Failure.Code != "walltime" || got.Failure.Class != job.ClassResources {
		t.Errorf("ended %s: %+v", got.State, got.Failure)
	}
}

// TestTheSoftLimitAsksTheCodeToEndCleanly.
func TestTheSoftLimitAsksTheCodeToEndCleanly(t *testing.T) {
	n := newNode(t)
	j := n.submit(`{"steps": 1000, "step_seconds": 0.1}`, func(r *api.JobRequest) {
		r.Resources.Walltime = job.Duration(30 * time.Second)
		r.Resources.SoftLimit = job.Duration(time.Second)
	})
	got := n.ended(j.ID)
	if got.State != job.Failed || got.Failure == nil || got.Failure.Class != job.ClassResources {
		t.Errorf("ended %s: %+v", got.State, got.Failure)
	}
	if !strings.Contains(n.output(j.ID, 1), "stopped by request") {
		t.Error("the program was not asked")
	}
}

// TestF14_OutOfMemoryIsNamed.
func TestF14_OutOfMemoryIsNamed(t *testing.T) {
	n := newNode(t)
	j := n.submit(`{"steps": 8, "step_seconds": 0.1, "memory_mb": 800}`, func(r *api.JobRequest) {
		r.Resources.Memory = 256 << 20
	})
	got := n.ended(j.ID)
	if got.State != job.Failed || got.Failure == nil || got.Failure.Code != "oom" {
		t.Errorf("ended %s: %+v", got.State, got.Failure)
	}
	// The others are not its victims.
	if got := n.ended(n.submit(`{"steps": 1, "step_seconds": 0}`).ID); got.State != job.Completed {
		t.Errorf("the next job ended %s: %+v", got.State, got.Failure)
	}
}

// TestF34_APermanentErrorIsTriedNoMoreThanItsBudget.
func TestF34_APermanentErrorIsTriedNoMoreThanItsBudget(t *testing.T) {
	n := newNode(t)
	j := n.submit(`{"steps": 1, "step_seconds": 0, "exit_code": 1}`, func(r *api.JobRequest) {
		r.Retry = &api.RetryInput{Max: new(3), Delay: new(job.Duration(100 * time.Millisecond))}
	})
	got := n.ended(j.ID)
	if got.State != job.Failed || got.Attempt != 4 || got.Failures != 3 {
		t.Errorf("ended %s after attempt %d, %d failures", got.State, got.Attempt, got.Failures)
	}
}

// TestF41_ASecondNodeOnTheSameDataIsRefused.
func TestF41_ASecondNodeOnTheSameDataIsRefused(t *testing.T) {
	n := newNode(t)
	_, stderr, code := nanoos(t, nil, "up", "--data", n.data, "--listen", "127.0.0.1:0")
	if code != 5 || !strings.Contains(stderr, "fix:") {
		t.Errorf("exit %d:\n%s", code, stderr)
	}
	if n.Ready(t.Context()) != nil {
		t.Error("the first node suffers")
	}
}

// TestF43_AFloodOfOutputIsBounded.
func TestF43_AFloodOfOutputIsBounded(t *testing.T) {
	n := newNode(t)
	const limit = 1 << 20
	j := n.submit(`{"steps": 4, "step_seconds": 0.1, "output_bytes": 200000000}`, func(r *api.JobRequest) { r.Resources.Log = limit })
	got := n.ended(j.ID)
	if got.State != job.Completed {
		t.Errorf("ended %s: %+v", got.State, got.Failure)
	}
	out := n.output(j.ID, 1)
	if !strings.Contains(out, "mock start") || !strings.Contains(out, "step 4/4") {
		t.Error("head or tail of the output is missing")
	}
}

// TestG2_TheSameKeyIsTheSameJob.
func TestG2_TheSameKeyIsTheSameJob(t *testing.T) {
	n := newNode(t)
	key := func(r *api.JobRequest) { r.Key = "k1" }
	a := n.submit(`{"steps": 1, "step_seconds": 0}`, key)
	n.kill()
	n.start()
	if b := n.submit(`{"steps": 1, "step_seconds": 0}`, key); a.ID != b.ID {
		t.Errorf("two jobs: %s and %s", a.ID, b.ID)
	}
	_, _, err := n.Submit(t.Context(), api.JobRequest{Engine: "mock", Parameters: []byte(`{"steps": 2}`), Key: "k1"})
	if job.CodeOf(err) != job.Conflict {
		t.Errorf("another body under the same key: %v", err)
	}
}

// TestT42_AServerWithATokenAsksForIt: the first start shows it, once.
func TestT42_AServerWithATokenAsksForIt(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: needs real processes; not run with -short")
	}
	data := dataDir(t)
	for start := range 2 {
		cmd := exec.Command(binary, "up", "--data", data, "--listen", "127.0.0.1:0", "--require-token")
		cmd.Env = append(os.Environ(), "NANOOS_CONFIG="+os.DevNull)
		var log lockedBuffer
		cmd.Stderr = &log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, 20*time.Second, "the node serves", func() bool { return strings.Contains(log.tail(5000), "clients need") })
		shown := regexp.MustCompile(`NANOOS_TOKEN=(nos_\w+)`).FindStringSubmatch(log.tail(5000))
		if (start == 0) != (shown != nil) {
			t.Errorf("start %d showed the token: %v", start, shown != nil)
		}
		address := regexp.MustCompile(`is up at (http://127\.0\.0\.1:\d+)`).FindStringSubmatch(log.tail(5000))
		if address == nil {
			t.Fatalf("no address in %s", log.tail(5000))
		}
		url := address[1]
		if _, err := api.NewClient(url, "").Status(t.Context()); job.CodeOf(err) != job.Forbidden {
			t.Errorf("without a token: %v", err)
		}
		if shown != nil {
			if _, err := api.NewClient(url, shown[1]).Status(t.Context()); err != nil {
				t.Errorf("with the token: %v", err)
			}
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}
