package executor

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nano-os/nanoos/internal/job"
)

// patience bounds every wait of a test: far more than a loaded machine needs.
const patience = 30 * time.Second

type bench struct {
	*Local
	t   testing.TB
	ctx context.Context
	opt LocalOptions
}

// setup makes an executor on a fresh state directory. Whatever a test leaves
// running is ended with it.
func setup(t testing.TB, opts ...func(*LocalOptions)) *bench {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	b := &bench{t: t, ctx: ctx, opt: LocalOptions{
		StateDir: t.TempDir(), KillGrace: 300 * time.Millisecond,
		SupervisorArgv: []string{smallSupervisor(t), superviseCommand},
	}}
	for _, o := range opts {
		o(&b.opt)
	}
	b.reopen()
	t.Cleanup(b.sweep)
	return b
}

func withoutGroups(o *LocalOptions) { o.Cgroup = "none" }

// modes run a test with control groups and without.
var modes = map[string]func(*LocalOptions){"groups": func(*LocalOptions) {}, "no groups": withoutGroups}

// reopen makes a new executor on the same state, as a new process would.
func (b *bench) reopen() {
	b.t.Helper()
	l, err := NewLocal(b.opt)
	if err != nil {
		b.t.Fatal(err)
	}
	b.Local = l
}

func (b *bench) sweep() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	found, err := b.List(ctx)
	if err != nil {
		b.t.Error(err)
	}
	for _, f := range found {
		if f.State == FoundAlive || f.State == FoundOrphan {
			if r, err := b.Attach(ctx, f.ID, f.Attempt); err == nil {
				_ = r.Stop(ctx, job.CauseFenced)
				_, _ = r.Wait(ctx)
			}
		}
	}
	for _, f := range found {
		b.reap(b.dir(f.ID, f.Attempt))
		if err := b.groups.of(f.ID, f.Attempt).remove(); err != nil {
			b.t.Error(err)
		}
	}
}

func sim(args ...string) Task {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return Task{
		ID: job.NewID(), Attempt: 1, Env: []string{"PATH=/usr/bin:/bin", "LC_ALL=C"},
		Steps: []Command{{Argv: append([]string{exe, "fakesim"}, args...)}},
	}
}

func (b *bench) start(t Task) Run {
	b.t.Helper()
	r, err := b.Start(b.ctx, t)
	if err != nil {
		b.t.Fatalf("start: %v", err)
	}
	return r
}

func (b *bench) wait(r Run) job.Exit {
	b.t.Helper()
	e, err := r.Wait(b.ctx)
	if err != nil {
		b.t.Fatalf("wait: %v", err)
	}
	return e
}

func (b *bench) run(t Task) job.Exit {
	b.t.Helper()
	return b.wait(b.start(t))
}

// eventually polls a condition of real processes or files.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func content(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// nothingLeft checks that no process of the task lives, and no control group.
func (b *bench) nothingLeft(t Task) {
	b.t.Helper()
	if left := tagged(tagOf(t.ID, t.Attempt)); len(left) > 0 {
		b.t.Errorf("%d processes of the attempt are alive", len(left))
	}
	for _, d := range b.groups.of(t.ID, t.Attempt).dirs() {
		if exists(d) {
			b.t.Errorf("control group %s is left", d)
		}
	}
}

// record reads the start record of a task.
func (b *bench) record(t Task) started {
	b.t.Helper()
	var s started
	if err := readRecord(b.dir(t.ID, t.Attempt).file(startedFile), &s); err != nil {
		b.t.Fatal(err)
	}
	return s
}

// killSupervisor kills the supervisor alone and waits until its lock is free.
func (b *bench) killSupervisor(t Task) {
	b.t.Helper()
	if err := b.record(t).Supervisor.signal(unix.SIGKILL); err != nil {
		b.t.Fatal(err)
	}
	eventually(b.t, "the lock of the dead supervisor is free", func() bool {
		alive, err := b.dir(t.ID, t.Attempt).alive()
		return err == nil && !alive
	})
}

func (b *bench) state(t Task) FoundState {
	b.t.Helper()
	found, err := b.List(b.ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range found {
		if f.ID == t.ID {
			return f.State
		}
	}
	return ""
}

// stepped waits until the program has done a step.
func stepped(t testing.TB, r Run, step int) {
	t.Helper()
	eventually(t, "the program computes", func() bool { return exists(filepath.Join(r.Dir(), "step-"+strconv.Itoa(step))) })
}

func TestARunReportsStatusOutputAndTimes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	task := sim("--steps", "3", "--exit", "7")
	task.Stage = func(_ context.Context, dir string) error {
		return os.WriteFile(filepath.Join(dir, "input"), []byte("x"), 0o600)
	}
	r := b.start(task)
	e := b.wait(r)
	if !e.Observed || e.Code != 7 || e.Signal != "" || e.Cause != job.CauseNone || e.DiskFull {
		t.Errorf("exit %+v", e)
	}
	if e.Wall < job.Duration(30*time.Millisecond) || e.StartedAt.IsZero() || e.EndedAt.Before(e.StartedAt) || e.PeakRSS <= 0 || e.CPUTime <= 0 {
		t.Errorf("measures %+v", e)
	}
	if got := content(t, r.Stdout()); got != "step 0\nstep 1\nstep 2\n" {
		t.Errorf("output %q", got)
	}
	if !exists(filepath.Join(r.Dir(), "step-2")) || !exists(filepath.Join(r.Dir(), "input")) {
		t.Error("the program did not run in its work directory")
	}
	b.nothingLeft(task)
	if err := b.Remove(b.ctx, task.ID, 1); err != nil {
		t.Fatal(err)
	}
	if exists(string(b.dir(task.ID, 1))) {
		t.Error("the attempt is still there")
	}
	if _, err := b.Attach(b.ctx, task.ID, 1); job.CodeOf(err) != job.NotFound {
		t.Errorf("attach after remove: %v", err)
	}
}

func TestASignalIsReportedByName(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if e := b.run(sim("--signal", "9")); e.Signal != "SIGKILL" || e.Code != 0 {
		t.Errorf("exit %+v", e)
	}
}

func TestTheProgramGetsACleanWorld(t *testing.T) {
	t.Parallel()
	b := setup(t)
	task := sim("--environ")
	r := b.start(task)
	b.wait(r)
	out := content(t, r.Stdout())
	want := []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "NANOOS_ATTEMPT=" + string(task.ID) + "/1", "cwd " + r.Dir(), "fd 0 /dev/null", "fd 1 " + r.Stdout(), "fd 2 " + r.Stderr()}
	for line := range strings.Lines(out) {
		line = strings.TrimSuffix(line, "\n")
		if strings.Contains(line, "/proc/") || strings.Contains(line, "/cgroup/") || strings.HasPrefix(line, "step") || strings.Contains(line, "anon_inode") {
			continue // of the Go runtime in the simulation itself
		}
		if !slices.Contains(want, line) {
			t.Errorf("unexpected %q", line)
		}
		want = slices.DeleteFunc(want, func(w string) bool { return w == line })
	}
	if len(want) > 0 {
		t.Errorf("missing %q", want)
	}
	if bytes.Contains([]byte(content(t, b.dir(task.ID, 1).file(specFile))), []byte("LC_ALL=C")) {
		t.Error("the spec holds a value of the environment")
	}
}

func TestStepsRunInOrderAndCopyAfterSuccess(t *testing.T) {
	t.Parallel()
	b := setup(t)
	task := sim("--write", "result")
	task.Steps[0].Copy = map[string]string{"result": "kept"}
	task.Steps = append(task.Steps, sim("--exit", "3").Steps[0], sim("--write", "never").Steps[0])
	r := b.start(task)
	e := b.wait(r)
	if e.Step != 1 || e.Code != 3 {
		t.Errorf("exit %+v", e)
	}
	if content(t, filepath.Join(r.Dir(), "kept")) != "result" || exists(filepath.Join(r.Dir(), "never")) {
		t.Error("steps did not run as they should")
	}
}

func TestACopyFollowsNoLinkOutOfTheWorkDirectory(t *testing.T) {
	t.Parallel()
	b := setup(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("canary"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, plant := range map[string]func(string) error{
		"link": func(p string) error { return os.Symlink(secret, p) },
		"pipe": func(p string) error { return syscall.Mkfifo(p, 0o600) },
	} {
		task := sim()
		task.Stage = func(_ context.Context, dir string) error { return plant(filepath.Join(dir, "from")) }
		task.Steps[0].Copy = map[string]string{"from": "to"}
		r := b.start(task)
		if e := b.wait(r); e.Cause != job.CauseLaunch {
			t.Errorf("%s: exit %+v", name, e)
		}
		if exists(filepath.Join(r.Dir(), "to")) {
			t.Errorf("%s was copied", name)
		}
	}
}

func TestAProgramThatCannotBeExecutedIsALaunchFailure(t *testing.T) {
	t.Parallel()
	b := setup(t)
	task := sim()
	task.Steps[0].Argv = []string{"/nowhere/pw.x"}
	r := b.start(task)
	if e := b.wait(r); e.Cause != job.CauseLaunch || e.Code != 127 {
		t.Errorf("exit %+v", e)
	}
	if got := content(t, r.Stderr()); !strings.Contains(got, "/nowhere/pw.x: no such file or directory") {
		t.Errorf("standard error %q", got)
	}
}

func TestBadTasksAreRefusedWithAllProblems(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.Start(b.ctx, Task{
		ID: "../x", Steps: []Command{{Argv: []string{"pw.x", "a\x00"}, Copy: map[string]string{"../a": "b"}}},
		Env: []string{"A"}, Stop: SoftStop{Create: []string{"/etc/STOP"}},
	})
	e, ok := errors.AsType[*job.Error](err)
	if !ok || e.Code != job.Invalid || len(e.Problems) != 7 {
		t.Errorf("got %v", err)
	}
}

func TestG5_ASecondStartAttachesToTheFirstRun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	journal := filepath.Join(t.TempDir(), "journal")
	task := sim("--journal", journal, "--steps", "10")
	done := make(chan job.Exit)
	for range 4 {
		go func() {
			r, err := b.Start(b.ctx, task)
			if err != nil {
				t.Error(err)
				done <- job.Exit{}
				return
			}
			e, err := r.Wait(b.ctx)
			if err != nil {
				t.Error(err)
			}
			done <- e
		}()
	}
	for range 4 {
		if e := <-done; !e.Observed {
			t.Errorf("exit %+v", e)
		}
	}
	b.start(task)
	if n := strings.Count(content(t, journal), "\n"); n != 1 {
		t.Errorf("the program started %d times", n)
	}
}

func TestF41_ANetworkFileSystemIsRefused(t *testing.T) {
	t.Parallel()
	_, err := newLocal(LocalOptions{StateDir: t.TempDir()}, func(string) (string, error) { return "nfs", nil })
	if job.CodeOf(err) != job.Invalid || !strings.Contains(err.Error(), "nfs") {
		t.Errorf("got %v", err)
	}
}
