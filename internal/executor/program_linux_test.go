package executor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// wakes make more garbage than a supervisor keeps before it collects.
const wakes = 20_000

func TestASupervisorStaysWithinTenMegabytesAndFiveThreads(t *testing.T) {
	t.Parallel()
	b := setup(t)
	task := sim("--steps", "1000000")
	r := b.start(task)
	stepped(t, r, 3)
	c, err := b.dir(task.ID, 1).inspect(b.boot)
	if err != nil {
		t.Fatal(err)
	}
	pid := c.Started.Supervisor.PID
	before := processStatus(t, pid, "voluntary_ctxt_switches")
	for range wakes {
		if err := c.Started.Supervisor.signal(unix.SIGUSR1); err != nil {
			t.Fatal(err)
		}
	}
	rss, threads := processStatus(t, pid, "VmRSS"), processStatus(t, pid, "Threads")
	t.Logf("%d KiB resident, %d threads, woken %d times", rss, threads, processStatus(t, pid, "voluntary_ctxt_switches")-before)
	if rss > 10<<10 || threads > 5 {
		t.Errorf("%d KiB resident and %d threads", rss, threads)
	}
}

// processStatus is a number of /proc/PID/status.
func processStatus(t *testing.T, pid int, name string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if errors.Is(err, fs.ErrNotExist) && os.Getenv("CI") == "" {
		t.Skip("SKIPPED: this kernel does not show the status of processes")
	}
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(b), "\n"+name+":")
	fields := strings.Fields(rest)
	if !ok || len(fields) == 0 {
		t.Fatalf("no %s in %s", name, b)
	}
	n, err := strconv.Atoi(fields[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestR2_AProgramThatNobodyUsesIsRemoved(t *testing.T) {
	t.Parallel()
	b := setup(t)
	bin := filepath.Join(b.opt.StateDir, "bin")
	task := sim("--steps", "1000000")
	b.start(task) // by a supervisor of this version
	version := func(tail string) string {
		path := filepath.Join(t.TempDir(), "supervise")
		program := content(t, smallSupervisor(t)) + tail
		if err := os.WriteFile(path, []byte(program), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	kept := func() int {
		entries, err := os.ReadDir(bin)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	if err := os.WriteFile(filepath.Join(bin, ".new-1"), []byte("half a program"), 0o600); err != nil {
		t.Fatal(err)
	}
	// An upgrade: the old program is in use by a supervisor, and by an executor
	// that may start another; an executor in between is not there any more.
	b.opt.SupervisorArgv[0] = version("2")
	between, err := NewLocal(b.opt)
	if err != nil {
		t.Fatal(err)
	}
	if n := kept(); n != 2 {
		t.Errorf("%d programs after the upgrade", n)
	}
	if err := between.program.Close(); err != nil {
		t.Fatal(err)
	}
	old := b.Local
	b.opt.SupervisorArgv[0] = version("3")
	b.reopen()
	if n := kept(); n != 2 {
		t.Errorf("%d programs after the second upgrade", n)
	}
	if err := old.program.Close(); err != nil {
		t.Fatal(err)
	}
	b.reopen()
	if !exists(old.argv[0]) {
		t.Error("the program of a living supervisor is gone")
	}
	r, err := b.Attach(b.ctx, task.ID, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(b.ctx, "cancelled"); err != nil {
		t.Fatal(err)
	}
	b.wait(r)
	old.reap(b.dir(task.ID, 1))
	b.reopen()
	if n := kept(); n != 1 || exists(old.argv[0]) {
		t.Errorf("%d programs after the last run of the old one", n)
	}
}

func TestR2_TheCarriedProgramAndOurselvesAreSupervisors(t *testing.T) {
	t.Parallel()
	for name, argv := range map[string][]string{"carried or ourselves": nil, "small": {smallSupervisor(t), superviseCommand}} {
		b := setup(t, func(o *LocalOptions) { o.SupervisorArgv = argv })
		if e := b.run(sim("--steps", "2", "--exit", "4")); !e.Observed || e.Code != 4 {
			t.Errorf("%s: exit %+v", name, e)
		}
	}
}

func TestF36_ASupervisorOfAnotherVersionTakesOver(t *testing.T) {
	t.Parallel()
	for name, change := range map[string][2][]string{
		"large to small": {nil, {smallSupervisor(t), superviseCommand}},
		"small to large": {{smallSupervisor(t), superviseCommand}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(o *LocalOptions) { o.SupervisorArgv = change[0] })
			task := sim("--steps", "60")
			r := b.start(task)
			stepped(t, r, 3)
			b.opt.SupervisorArgv = change[1]
			b.reopen()
			b.killSupervisor(task)
			r, err := b.Attach(b.ctx, task.ID, 1)
			if err != nil {
				t.Fatal(err)
			}
			if e := b.wait(r); e.Observed {
				t.Errorf("exit %+v", e)
			}
			stepped(t, r, 59)
		})
	}
}
