package executor

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nano-os/nanoos/internal/job"
)

func TestF14_AProgramThatPassesItsMemoryIsAnOOM(t *testing.T) {
	t.Parallel()
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, mode)
			if name == "groups" && !b.Capabilities().Memory {
				t.Skipf("NO MEMORY CONTROL GROUP HERE: %q", b.Capabilities().Notes)
			}
			task := sim("--allocate", "256", "--steps", "3000")
			task.Limits.Memory = 64 << 20
			if e := b.run(task); e.Cause != job.CauseOOM || e.Signal != "SIGKILL" {
				t.Errorf("exit %+v", e)
			}
			b.nothingLeft(task)
		})
	}
}

func TestAProgramWithinItsMemoryIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, mode)
			task := sim("--allocate", "64", "--steps", "130") // past the first beat
			task.Limits = Limits{Memory: 256 << 20, CPUs: 1, Processes: 64}
			e := b.run(task)
			if e.Cause != job.CauseNone || e.Code != 0 || e.PeakRSS < 64<<20 || e.PeakRSS > 200<<20 {
				t.Errorf("exit %+v", e)
			}
			b.nothingLeft(task)
		})
	}
}

func TestG16_AKillByAPersonIsNoOOM(t *testing.T) {
	t.Parallel()
	b := setup(t)
	task := sim("--signal", "9")
	task.Limits.Memory = 256 << 20
	if e := b.run(task); e.Cause != job.CauseNone || e.Signal != "SIGKILL" {
		t.Errorf("exit %+v", e)
	}
}

func TestG16_LimitsReachTheProgram(t *testing.T) {
	t.Parallel()
	b := setup(t)
	task := sim()
	task.Limits = Limits{OpenFiles: 99, FileSize: 8 << 20, Processes: 17, CPUs: 1}
	task.Steps[0].Argv = []string{"/bin/sh", "-c", "ulimit -n; ulimit -f; ulimit -c; cat /proc/self/cgroup; cat /proc/self/oom_score_adj"}
	r := b.start(task)
	b.wait(r)
	lines := strings.Split(content(t, r.Stdout()), "\n")
	if len(lines) < 3 || lines[0] != "99" || lines[1] != strconv.Itoa(8<<20/512) || lines[2] != "0" {
		t.Errorf("limits %q", lines)
	}
	mine := "/" + groupName + "/" + string(task.ID) + "-1"
	joined := strings.Count(content(t, r.Stdout()), mine+"\n")
	if want := len(b.groups.of(task.ID, 1).dirs()); b.groups.Memory == "" && joined != want || b.groups.Memory != "" && joined != want-1 {
		t.Errorf("in %d control groups of %q: %q", joined, b.groups.of(task.ID, 1).dirs(), lines)
	}
}

func TestG16_AForkBombStaysInItsGroup(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if !b.Capabilities().Pids {
		t.Skipf("NO PIDS CONTROL GROUP HERE: %q", b.Capabilities().Notes)
	}
	task := sim()
	task.Limits.Processes = 20
	task.Hard = 500 * time.Millisecond
	task.Steps[0].Argv = []string{"/bin/sh", "-c", "b() { b | b & }; b; while :; do sleep 1; done"}
	if e := b.run(task); e.Cause != job.CauseWalltime && e.Code == 0 {
		t.Errorf("exit %+v", e)
	}
	b.nothingLeft(task)
}

func TestF43_AFloodOfOutputTakesBoundedDisk(t *testing.T) {
	t.Parallel()
	b := setup(t)
	task := sim("--flood", strconv.Itoa(512<<20))
	task.Limits.Log = 4 << 20
	r := b.start(task)
	most := int64(0)
	done := make(chan job.Exit, 1)
	go func() {
		e, err := r.Wait(b.ctx)
		if err != nil {
			t.Error(err)
		}
		done <- e
	}()
	var e job.Exit
	for ended := false; !ended; {
		select {
		case e = <-done:
			ended = true
		case <-time.After(5 * time.Millisecond):
		}
		most = max(most, blocks(t, r.Stdout()))
	}
	if e.Code != 0 || e.LogDropped < 500<<20 {
		t.Errorf("exit %+v", e)
	}
	if left := blocks(t, r.Stdout()); left > 5<<20 {
		t.Errorf("%d bytes are kept", left)
	}
	t.Logf("at most %d MiB on disk", most>>20)
	f, err := os.Open(r.Stdout())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 7)
	if _, err := f.ReadAt(buf, 0); err != nil || buf[0] != 'x' {
		t.Errorf("the head is gone: %q, %v", buf, err)
	}
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(buf, st.Size()-7); err != nil || string(buf) != "step 0\n" {
		t.Errorf("the tail is gone: %q, %v", buf, err)
	}
}

func blocks(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

func TestF43_AFloodMayEndTheAttempt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	task := sim("--flood", strconv.FormatInt(1<<40, 10))
	task.Limits.Log, task.Limits.LogEnds, task.Limits.FileSize = 1<<20, true, 4<<30
	if e := b.run(task); e.Cause != job.CauseLogLimit {
		t.Errorf("exit %+v", e)
	}
}

// smallDisk mounts a file system of 8 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("mount a small disk: %v", err)
		}
		t.Skipf("CANNOT MOUNT A SMALL DISK: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestF17_TheExitRecordIsWrittenOnAFullDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t)
	b := setup(t)
	// The program of the supervisor is too big for the disk, so it is linked.
	bin := filepath.Join(b.opt.StateDir, "bin")
	b.opt.StateDir = disk
	if err := os.Symlink(bin, filepath.Join(disk, "bin")); err != nil {
		t.Fatal(err)
	}
	b.reopen()
	task := sim("--fill", "--steps", "1")
	e := b.run(task)
	if !e.Observed || e.Code != 4 || !e.DiskFull {
		t.Errorf("exit %+v", e)
	}
	if s := b.state(task); s != FoundEnded {
		t.Errorf("state %s", s)
	}
	later := sim()
	if _, err := b.Start(b.ctx, later); err == nil {
		t.Error("an attempt started on a full disk")
	}
	if err := b.Remove(b.ctx, later.ID, 1); err != nil {
		t.Error(err)
	}
	if err := b.Remove(b.ctx, task.ID, 1); err != nil {
		t.Fatal(err)
	}
	if e := b.run(later); e.Code != 0 || e.DiskFull {
		t.Errorf("after the disk was emptied: %+v", e)
	}
}

func TestF7_ARealMPIRunLeavesNothing(t *testing.T) {
	t.Parallel()
	mpirun, pw := program(t, "mpirun"), program(t, "pw.x")
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, mode)
			task := sim()
			work := b.WorkDir(task.ID, 1)
			task.Env = append(task.Env, "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", "OMPI_MCA_rmaps_base_oversubscribe=1",
				"OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "HOME="+work, "TMPDIR="+work, "OMPI_MCA_orte_tmpdir_base="+work,
				"OMPI_MCA_btl_vader_backing_directory="+work)
			task.Steps[0].Argv = []string{mpirun, "-np", "2", pw, "-in", "pw.in"}
			task.Stage = stageSilicon
			task.Stop = SoftStop{Grace: 5 * time.Second}
			r := b.start(task)
			eventually(t, "both ranks compute", func() bool {
				return strings.Contains(content(t, r.Stdout()), "Initial potential") && len(tagged(tagOf(task.ID, 1))) >= 3
			})
			if err := r.Stop(b.ctx, job.CauseCancelled); err != nil {
				t.Fatal(err)
			}
			if e := b.wait(r); e.Cause != job.CauseCancelled || e.Signal == "SIGKILL" {
				t.Errorf("exit %+v", e)
			}
			b.nothingLeft(task)
			if shm, err := filepath.Glob("/dev/shm/vader_segment.*"); err != nil || len(shm) > 0 {
				t.Errorf("shared memory is left: %q, %v", shm, err)
			}
		})
	}
}

func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skipf("%s IS NOT INSTALLED", name)
	}
	return path
}

// stageSilicon writes a calculation of some minutes.
func stageSilicon(_ context.Context, dir string) error {
	return os.WriteFile(filepath.Join(dir, "pw.in"), []byte(`&CONTROL
  calculation = 'scf', prefix = 'si', outdir = './out', pseudo_dir = '/usr/share/espresso/pseudo'
/
&SYSTEM
  ibrav = 2, celldm(1) = 10.2, nat = 2, ntyp = 1, ecutwfc = 60, nosym = .true., noinv = .true.
/
&ELECTRONS
  conv_thr = 1.0d-12
/
ATOMIC_SPECIES
Si 28.0855 Si.pz-vbc.UPF
ATOMIC_POSITIONS crystal
Si 0.00 0.00 0.00
Si 0.25 0.25 0.25
K_POINTS automatic
6 6 6 0 0 0
`), 0o600)
}
