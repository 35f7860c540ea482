package executor

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nano-os/nanoos/internal/job"
)

func TestF2_AnEndThatNobodyWatchedIsReportedByAnotherProcess(t *testing.T) {
	t.Parallel()
	b := setup(t)
	task := sim("--steps", "5", "--exit", "7")
	b.start(task)
	b.reopen()
	r, err := b.Attach(b.ctx, task.ID, 1)
	if err != nil {
		t.Fatal(err)
	}
	if e := b.wait(r); !e.Observed || e.Code != 7 {
		t.Errorf("exit %+v", e)
	}
	b.reopen()
	if s := b.state(task); s != FoundEnded {
		t.Errorf("state %s", s)
	}
}

func TestF3_ACrashAtAnyPointOfTheStartNeverStartsTwice(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"spawned", "locked", "started", "released"} {
		t.Run("supervisor at "+point, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			good := b.opt
			b.opt.SupervisorArgv = []string{exe, "crash", point, superviseCommand}
			b.reopen()
			task := sim("--journal", filepath.Join(t.TempDir(), "journal"), "--steps", "20")
			if _, err := b.Start(b.ctx, task); err == nil {
				t.Fatal("a supervisor that died answered")
			}
			b.startAgain(good, task, point == "started" || point == "released")
		})
	}
	for _, point := range []string{"mkdir", "spec", "spawned", "answered"} {
		t.Run("starter at "+point, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			task := sim("--journal", filepath.Join(t.TempDir(), "journal"), "--steps", "20")
			c := exec.Command(task.Steps[0].Argv[0], "starter", point, b.opt.StateDir, string(task.ID), task.Steps[0].Argv[3])
			if err := c.Run(); err == nil || c.ProcessState.ExitCode() != -1 {
				t.Fatalf("the starter did not die: %v", err)
			}
			b.startAgain(b.opt, task, point == "answered")
		})
	}
}

// startAgain is what a worker does after a crash: it looks, then starts again.
// It checks that the program ran at most once, and once if nothing had run.
func (b *bench) startAgain(opt LocalOptions, task Task, announced bool) {
	b.t.Helper()
	b.opt = opt
	b.reopen()
	before := b.state(task)
	if announced && before == FoundPrepared {
		b.t.Error("the start record is lost")
	}
	r, err := b.Start(b.ctx, task)
	if err != nil {
		b.t.Fatal(err)
	}
	e := b.wait(r)
	journal, err := os.ReadFile(task.Steps[0].Argv[3])
	starts := strings.Count(string(journal), "\n")
	if starts > 1 || e.Observed && (starts != 1 || e.Code != 0) || !e.Observed && !announced {
		b.t.Errorf("%s before: exit %+v, %d starts, %v", before, e, starts, err)
	}
	if err := b.Remove(b.ctx, task.ID, 1); err != nil {
		b.t.Error(err)
	}
	b.nothingLeft(task)
}

func TestR6_AStageWithoutItsSupervisorLeaves(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, start := range map[string]func(string, []string, []string, stageFiles) (*stage, error){
		"forked":  func(d string, a, e []string, f stageFiles) (*stage, error) { return startStage(d, a, e, f, group{}) },
		"spawned": spawnStage,
	} {
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer null.Close()
		st, err := start(dir, []string{"/bin/sh", "-c", "echo > ran-" + name + "; exit 5"}, []string{"A=b"}, stageFiles{null, null, null})
		if err != nil {
			t.Fatal(err)
		}
		st.close()
		var w unix.WaitStatus
		if _, err := unix.Wait4(st.pid, &w, 0, nil); err != nil || exists(filepath.Join(dir, "ran-"+name)) {
			t.Errorf("%s: %v, status %v", name, err, w)
		}
		if st, err = start(dir, []string{"/bin/sh", "-c", "echo > ran-" + name + "; exit 5"}, []string{"A=b"}, stageFiles{null, null, null}); err != nil {
			t.Fatal(err)
		}
		if err := st.release(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := unix.Wait4(st.pid, &w, 0, nil); err != nil || w.ExitStatus() != 5 || !exists(filepath.Join(dir, "ran-"+name)) {
			t.Errorf("%s: %v, status %v", name, err, w)
		}
		if st, err = start(dir, []string{"/nowhere"}, nil, stageFiles{null, null, null}); err != nil {
			t.Fatal(err)
		}
		if err := st.release(); err != unix.ENOENT {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := unix.Wait4(st.pid, &w, 0, nil); err != nil {
			t.Error(err)
		}
	}
}

func TestF4_AfterTheDeathOfTheSupervisorASuccessorWatchesTheProgram(t *testing.T) {
	t.Parallel()
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, mode)
			task := sim("--steps", "100", "--spawn-setsid", "2", "--nested")
			r := b.start(task)
			stepped(t, r, 3)
			b.killSupervisor(task)
			if s := b.state(task); s != FoundOrphan {
				t.Fatalf("state %s", s)
			}
			b.reopen()
			r, err := b.Attach(b.ctx, task.ID, 1)
			if err != nil {
				t.Fatal(err)
			}
			if s := b.state(task); s != FoundAlive {
				t.Errorf("state after adoption %s", s)
			}
			e := b.wait(r)
			if e.Observed || e.Cause != job.CauseNone {
				t.Errorf("exit %+v", e)
			}
			if !exists(filepath.Join(r.Dir(), "step-99")) {
				t.Error("the program was disturbed")
			}
			b.nothingLeft(task)
		})
	}
}

func TestF4_AnOrphanCanBeStopped(t *testing.T) {
	t.Parallel()
	b := setup(t, withoutGroups)
	task := sim("--steps", "3000", "--spawn-setsid", "1", "--ignore-term")
	r := b.start(task)
	stepped(t, r, 1)
	b.killSupervisor(task)
	if err := r.Stop(b.ctx, job.CauseCancelled); err != nil {
		t.Fatal(err)
	}
	if e := b.wait(r); e.Observed || e.Cause != job.CauseCancelled {
		t.Errorf("exit %+v", e)
	}
	b.nothingLeft(task)
}

func TestF4_ADeathDuringWaitIsNoticed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	task := sim("--steps", "50")
	r := b.start(task)
	stepped(t, r, 3)
	s := b.record(task)
	done := make(chan job.Exit, 1)
	go func() {
		e, err := r.Wait(b.ctx)
		if err != nil {
			t.Error(err)
		}
		done <- e
	}()
	if err := s.Supervisor.signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if e := <-done; e.Observed {
		t.Errorf("exit %+v", e)
	}
}

func TestF5_SupervisorAndProgramDeadTogetherIsALoss(t *testing.T) {
	t.Parallel()
	b := setup(t)
	task := sim("--steps", "3000")
	r := b.start(task)
	stepped(t, r, 1)
	s := b.record(task)
	b.killSupervisor(task)
	if err := s.Leader.signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the attempt is lost", func() bool { return b.state(task) == FoundLost })
	b.reopen()
	r, err := b.Attach(b.ctx, task.ID, 1)
	if err != nil {
		t.Fatal(err)
	}
	if e := b.wait(r); e.Observed || e.Cause != job.CauseSupervisor {
		t.Errorf("exit %+v", e)
	}
	if err := b.Remove(b.ctx, task.ID, 1); err != nil {
		t.Error(err)
	}
	b.nothingLeft(task)
}

func TestF12_AnAttemptOfAnotherBootIsAHostLoss(t *testing.T) {
	t.Parallel()
	b := setup(t)
	task := sim("--steps", "3000")
	r := b.start(task)
	stepped(t, r, 1)
	s := b.record(task)
	b.killSupervisor(task)
	if err := s.Leader.signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.opt.BootID = "another"
	b.reopen()
	if s := b.state(task); s != FoundReboot {
		t.Errorf("state %s", s)
	}
	r, err := b.Attach(b.ctx, task.ID, 1)
	if err != nil {
		t.Fatal(err)
	}
	if e := b.wait(r); e.Observed || e.Cause != job.CauseHost {
		t.Errorf("exit %+v", e)
	}
}

func TestF6_NothingThatTheLeaderLeftSurvives(t *testing.T) {
	t.Parallel()
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, mode)
			task := sim("--spawn-setsid", "3", "--nested", "--exit", "5", "--steps", "100")
			r := b.start(task)
			for i := range 3 {
				grandchild := filepath.Join(r.Dir(), "child-"+strconv.Itoa(i), "child-0", "step-0")
				eventually(t, "a grandchild computes", func() bool { return exists(grandchild) })
			}
			if e := b.wait(r); !e.Observed || e.Code != 5 || e.Cause != job.CauseNone {
				t.Errorf("exit %+v", e)
			}
			b.nothingLeft(task)
		})
	}
}

func TestF7_RanksAreGoneWhenTheirLauncherIsKilled(t *testing.T) {
	t.Parallel()
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, mode)
			task := sim("--spawn-setsid", "4", "--steps", "3000")
			r := b.start(task)
			stepped(t, r, 1)
			if err := b.record(task).Leader.signal(unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if e := b.wait(r); e.Signal != "SIGKILL" || e.Cause != job.CauseNone {
				t.Errorf("exit %+v", e)
			}
			b.nothingLeft(task)
		})
	}
}

func TestF8_AProgramThatIgnoresSIGTERMIsKilledAfterTheGrace(t *testing.T) {
	t.Parallel()
	b := setup(t)
	task := sim("--ignore-term", "--steps", "3000")
	r := b.start(task)
	stepped(t, r, 1)
	if err := r.Stop(b.ctx, job.CauseCancelled); err != nil {
		t.Fatal(err)
	}
	if e := b.wait(r); e.Cause != job.CauseCancelled || e.Signal != "SIGKILL" || time.Duration(e.Wall) < b.opt.KillGrace {
		t.Errorf("exit %+v", e)
	}
}

func TestF9_AStoppedProgramIsEndedByTheWalltime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	task := sim("--stop", "--ignore-term", "--steps", "3000")
	task.Hard = 300 * time.Millisecond
	if e := b.run(task); e.Cause != job.CauseWalltime || e.Signal == "" {
		t.Errorf("exit %+v", e)
	}
}

func TestF9_ASilentProgramIsEnded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	task := sim("--stop")
	task.Limits.Silence = 300 * time.Millisecond
	if e := b.run(task); e.Cause != job.CauseHang {
		t.Errorf("exit %+v", e)
	}
}

func TestG13_AStopAsksSoftlyFirst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	task := sim("--steps", "3000", "--stop-file", "STOP")
	task.Stop = SoftStop{Create: []string{"STOP"}, Wait: patience}
	r := b.start(task)
	stepped(t, r, 1)
	if err := r.Stop(b.ctx, job.CauseCancelled); err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(b.ctx, job.CauseFenced); err != nil {
		t.Errorf("a second stop: %v", err)
	}
	if e := b.wait(r); e.Code != 0 || e.Signal != "" || e.Cause != job.CauseCancelled {
		t.Errorf("exit %+v", e)
	}
	if !strings.HasSuffix(content(t, r.Stdout()), "stopped cleanly\n") {
		t.Error("the program did not stop by itself")
	}
}

func TestG13_AStopThatOnlyTheDiskKnowsIsObeyed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	task := sim("--steps", "3000")
	r := b.start(task)
	stepped(t, r, 1)
	if err := writeRecordOnce(b.dir(task.ID, 1).file(stopFile), stopRequest{Cause: job.CauseFenced}); err != nil {
		t.Fatal(err)
	}
	if e := b.wait(r); e.Cause != job.CauseFenced || e.Signal != "SIGTERM" {
		t.Errorf("exit %+v", e)
	}
}

func TestTheSoftLimitAsksAndTheHardLimitEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	obeys := sim("--steps", "3000", "--stop-file", "STOP")
	obeys.Stop, obeys.Soft, obeys.Hard = SoftStop{Create: []string{"STOP"}}, 200*time.Millisecond, patience
	if e := b.run(obeys); e.Cause != job.CauseSoftLimit || e.Code != 0 {
		t.Errorf("one that obeys: %+v", e)
	}
	ignores := sim("--steps", "3000")
	ignores.Stop, ignores.Soft, ignores.Hard = SoftStop{Create: []string{"STOP"}}, 100*time.Millisecond, 400*time.Millisecond
	if e := b.run(ignores); e.Cause != job.CauseWalltime || e.Signal != "SIGTERM" {
		t.Errorf("one that does not: %+v", e)
	}
}

func TestASoftStopFileFollowsNoLink(t *testing.T) {
	t.Parallel()
	b := setup(t)
	outside := filepath.Join(t.TempDir(), "planted")
	task := sim("--steps", "3000")
	task.Stage = func(_ context.Context, dir string) error { return os.Symlink(outside, filepath.Join(dir, "STOP")) }
	task.Stop = SoftStop{Create: []string{"STOP"}, Wait: 100 * time.Millisecond}
	r := b.start(task)
	stepped(t, r, 1)
	if err := r.Stop(b.ctx, job.CauseCancelled); err != nil {
		t.Fatal(err)
	}
	b.wait(r)
	if exists(outside) {
		t.Error("a file outside was made")
	}
}

func TestF13_AForgedStartRecordHurtsNobody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	innocent := exec.Command("/bin/sleep", "60")
	if err := innocent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = innocent.Process.Kill()
		_ = innocent.Wait()
	})
	task := sim("--steps", "3000")
	r := b.start(task)
	stepped(t, r, 1)
	s := b.record(task)
	b.killSupervisor(task)
	if err := s.Leader.signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	who, err := identify(innocent.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	forged := identity{PID: who.PID, Start: who.Start - 1}
	s.Leader, s.Supervisor = forged, forged
	if err := writeRecord(b.dir(task.ID, 1).file(startedFile), s); err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(b.ctx, job.CauseCancelled); err != nil {
		t.Fatal(err)
	}
	if e := b.wait(r); e.Observed {
		t.Errorf("exit %+v", e)
	}
	if !who.alive() {
		t.Error("a foreign process was killed")
	}
}

func TestF45_AnAttemptDeletedWhileItRunsEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	task := sim("--steps", "3000")
	r := b.start(task)
	stepped(t, r, 1)
	s := b.record(task)
	if err := os.RemoveAll(string(b.dir(task.ID, 1))); err != nil {
		// The program may make a file while the directory is deleted.
		_ = os.RemoveAll(string(b.dir(task.ID, 1)))
	}
	eventually(t, "program and supervisor are gone", func() bool { return !s.Leader.alive() && !s.Supervisor.alive() })
	if _, err := r.Wait(b.ctx); job.CodeOf(err) != job.NotFound {
		t.Errorf("wait: %v", err)
	}
	b.reap(b.dir(task.ID, 1))
	b.nothingLeft(task)
}

func TestR4_SignalsToTheSupervisorDoNotEndTheRun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	task := sim("--steps", "20", "--exit", "6")
	b.start(task)
	s := b.record(task)
	for _, sig := range []syscall.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGPIPE, unix.SIGUSR1} {
		if err := s.Supervisor.signal(sig); err != nil {
			t.Error(err)
		}
	}
	if sid, err := unix.Getsid(s.Supervisor.PID); err != nil || sid != s.Supervisor.PID {
		t.Errorf("session %d, %v", sid, err)
	}
	r, err := b.Attach(b.ctx, task.ID, 1)
	if err != nil {
		t.Fatal(err)
	}
	if e := b.wait(r); e.Code != 6 {
		t.Errorf("exit %+v", e)
	}
}
