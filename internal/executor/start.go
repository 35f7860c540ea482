package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// prepare fills the directory of an attempt that has certainly not run. What an
// earlier starter left is removed, except the lock file: a supervisor which that
// starter had on its way must find the same lock.
func (l *Local) prepare(ctx context.Context, d attemptDir, t Task) error {
	lock, err := d.takeLock(os.O_CREATE)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := d.empty(); err != nil {
		return fmt.Errorf("empty attempt directory: %w", err)
	}
	work := d.file(workDir)
	if err := os.Mkdir(work, 0o700); err != nil {
		return fmt.Errorf("make work directory: %w", err)
	}
	if t.Stage != nil {
		if err := t.Stage(ctx, work); err != nil {
			return fmt.Errorf("stage files: %w", err)
		}
	}
	return d.describe(l.specOf(t))
}

// describe writes the spec, makes the slot of the exit record, and flushes both
// with the names of the directories above. Their own names become durable with
// that of the start record, which is in the same directory and flushed before
// anything runs.
func (d attemptDir) describe(s spec) error {
	slot, err := createSlot(d.file(exitFile))
	if err != nil {
		return fmt.Errorf("prepare exit record: %w", err)
	}
	defer slot.Close()
	f, err := placeRecord(d.file(specFile), s)
	if err != nil {
		return fmt.Errorf("write spec: %w", err)
	}
	defer f.Close()
	ofJob := filepath.Dir(string(d))
	// All at once: the file system writes them with one commit of its journal.
	var flushes sync.WaitGroup
	errs := make([]error, 4)
	for i, flush := range []func() error{
		f.Sync, slot.Sync,
		func() error { return syncDir(ofJob) },
		func() error { return syncDir(filepath.Dir(ofJob)) },
	} {
		flushes.Go(func() { errs[i] = flush() })
	}
	flushes.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("flush attempt: %w", err)
	}
	return nil
}

func (d attemptDir) empty() error {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return err
	}
	for _, e := range entries {
		// A stop request is kept: it may have been made before the start.
		if e.Name() == lockFile || e.Name() == stopFile {
			continue
		}
		if err := removeAll(d.file(e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (l *Local) specOf(t Task) spec {
	s := spec{
		Format: Format, ID: t.ID, Attempt: t.Attempt, Host: l.host, Steps: t.Steps,
		Stop: t.Stop, Soft: t.Soft, Hard: t.Hard, Limits: t.Limits, Groups: l.groups,
	}
	if s.Stop.Grace <= 0 {
		s.Stop.Grace = l.grace
	}
	if s.Hard > 0 {
		// To end takes no longer than there was to run.
		s.Stop.Grace = min(s.Stop.Grace, s.Hard)
	}
	for _, e := range t.Env {
		name, _, _ := strings.Cut(e, "=")
		s.EnvNames = append(s.EnvNames, name)
	}
	return s
}

// settled returns the condition of an attempt, after a supervisor that is about
// to start it has either done so or left.
func (l *Local) settled(ctx context.Context, d attemptDir) (condition, error) {
	for {
		c, err := d.inspect(l.boot)
		if err != nil {
			return c, l.missing(d, err)
		}
		if c.State != FoundAlive || c.Started.Leader.PID > 0 {
			return c, nil
		}
		select {
		case <-ctx.Done():
			return c, context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// supervisorEnv is the whole environment of a supervisor. It is idle nearly
// always, so one thread that runs Go is enough; and it collects its garbage at
// 2 MiB, which a short run never makes, to stay small on long ones.
var supervisorEnv = []string{"GOMAXPROCS=1", "GOGC=50"}

// newborn is a supervisor that waits for its attempt.
type newborn struct {
	local   *Local
	dir     attemptDir
	process *os.Process
	talk    *os.File
}

// spawn starts the process that becomes a supervisor. It does nothing before it
// is told to, so it may start while the attempt is being prepared.
func (l *Local) spawn(d attemptDir, args ...string) (*newborn, error) {
	ours, theirs, err := handshakePair()
	if err != nil {
		return nil, fmt.Errorf("make handshake: %w", err)
	}
	defer theirs.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		ours.Close()
		return nil, err
	}
	defer null.Close()
	p, err := os.StartProcess(l.argv[0], slices.Concat(l.argv, args), &os.ProcAttr{
		Dir: "/", Env: supervisorEnv, Files: []*os.File{null, null, null, theirs},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("start supervisor: %w", err)
	}
	l.mu.Lock()
	l.supervisors[d] = append(l.supervisors[d], p)
	l.mu.Unlock()
	l.at("spawned")
	return &newborn{local: l, dir: d, process: p, talk: ours}, nil
}

// live tells the supervisor to begin, and returns when the attempt runs.
func (n *newborn) live(ctx context.Context, env []string) error {
	answer, err := converse(ctx, n.talk, env)
	n.talk.Close()
	switch {
	case err != nil:
		return err
	case answer == answerOK:
		return nil
	}
	n.local.reapOne(n.dir, n.process)
	switch answer {
	case answerBusy:
		return errBusy
	case "":
		return job.Errorf(job.Internal, "the supervisor ended without a word")
	}
	return errors.New(answer)
}

// dismiss lets a supervisor go that is not needed: it ends when nobody talks to it.
func (n *newborn) dismiss() {
	n.talk.Close()
	n.local.reapOne(n.dir, n.process)
}
