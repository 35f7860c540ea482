package executor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nano-os/nanoos/internal/job"
)

// Start implements Executor.
func (l *Local) Start(ctx context.Context, t Task) (Run, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	d := l.dir(t.ID, t.Attempt)
	fresh, err := d.make()
	if err != nil {
		return nil, fmt.Errorf("make attempt directory: %w", err)
	}
	l.at("mkdir")
	guard, err := lockDir(ctx, string(d))
	if err != nil {
		return nil, fmt.Errorf("start attempt: %w", err)
	}
	defer guard.Close()
	if !fresh {
		c, err := d.inspect(l.boot)
		if err != nil {
			return nil, l.missing(d, err)
		}
		if c.State != FoundPrepared {
			return l.Attach(ctx, t.ID, t.Attempt)
		}
	}
	if err := l.prepare(ctx, d, t); err != nil {
		return nil, err
	}
	l.at("spec")
	err = l.spawn(ctx, d, []string{string(d)}, t.Env)
	if errors.Is(err, errBusy) {
		// A supervisor that a crashed starter had left was faster.
		return l.attachStarting(ctx, d, t)
	}
	if err != nil {
		return nil, fmt.Errorf("start attempt %d of job %s: %w", t.Attempt, t.ID, err)
	}
	return &run{local: l, dir: d}, nil
}

// make makes the attempt directory, exclusively (R3).
func (d attemptDir) make() (fresh bool, err error) {
	if err := os.MkdirAll(filepath.Dir(string(d)), 0o700); err != nil {
		return false, err
	}
	err = os.Mkdir(string(d), 0o700)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

// prepare fills the directory of an attempt that has certainly not run. What an
// earlier starter left is removed, except the lock file: a supervisor which that
// starter had on its way must find the same lock.
func (l *Local) prepare(ctx context.Context, d attemptDir, t Task) error {
	lock, err := os.OpenFile(d.file(lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("make lock: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("lock attempt: %w", err)
	}
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
	if err := writeRecord(d.file(specFile), l.specOf(t)); err != nil {
		return fmt.Errorf("write spec: %w", err)
	}
	// The names of the directories above are durable too.
	for _, up := range []string{filepath.Dir(string(d)), l.attempts} {
		if err := syncDir(up); err != nil {
			return fmt.Errorf("flush attempt directory: %w", err)
		}
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
	for _, e := range t.Env {
		name, _, _ := strings.Cut(e, "=")
		s.EnvNames = append(s.EnvNames, name)
	}
	return s
}

// attachStarting waits until the other supervisor has made its start record.
func (l *Local) attachStarting(ctx context.Context, d attemptDir, t Task) (Run, error) {
	for {
		c, err := d.inspect(l.boot)
		if err != nil {
			return nil, l.missing(d, err)
		}
		if c.State != FoundAlive || c.Started.Leader.PID > 0 {
			return l.Attach(ctx, t.ID, t.Attempt)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// supervisorEnv is the whole environment of a supervisor. It is idle nearly
// always: one thread that runs Go is enough, and it ends before a garbage
// collection would pay.
var supervisorEnv = []string{"GOMAXPROCS=1", "GOGC=off", "GOMEMLIMIT=16MiB"}

// spawn starts a supervisor and returns when it has answered: nil when the
// attempt runs, errBusy when another supervisor has it, or why nothing ran.
func (l *Local) spawn(ctx context.Context, d attemptDir, args, env []string) error {
	ours, theirs, err := handshakePair()
	if err != nil {
		return fmt.Errorf("make handshake: %w", err)
	}
	defer ours.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		theirs.Close()
		return err
	}
	defer null.Close()
	p, err := os.StartProcess(l.argv[0], append(append([]string{}, l.argv...), args...), &os.ProcAttr{
		Dir: "/", Env: supervisorEnv, Files: []*os.File{null, null, null, theirs},
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	theirs.Close()
	if err != nil {
		return fmt.Errorf("start supervisor: %w", err)
	}
	l.mu.Lock()
	l.supervisors[d] = append(l.supervisors[d], p)
	l.mu.Unlock()
	l.at("spawned")
	answer, err := converse(ctx, ours, env)
	switch {
	case err != nil:
		return err
	case answer == answerOK:
		return nil
	}
	l.reapOne(d, p)
	switch answer {
	case answerBusy:
		return errBusy
	case "":
		return job.Errorf(job.Internal, "the supervisor ended without a word")
	}
	return errors.New(answer)
}

// converse hands the environment over and reads the answer.
func converse(ctx context.Context, f *os.File, env []string) (string, error) {
	stop := context.AfterFunc(ctx, func() { _ = f.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := json.Marshal(env)
	if err != nil {
		return "", fmt.Errorf("encode environment: %w", err)
	}
	// A supervisor that found the attempt taken does not read it.
	if _, err := f.Write(append(line, '\n')); err != nil && !errors.Is(err, unix.EPIPE) {
		return "", handshakeError(ctx, err)
	}
	answer, err := io.ReadAll(io.LimitReader(f, maxAnswer))
	if err != nil && !errors.Is(err, unix.ECONNRESET) {
		return "", handshakeError(ctx, err)
	}
	return string(answer), nil
}

// maxAnswer is far more than any error text.
const maxAnswer = 64 << 10

func handshakeError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("talk to supervisor: %w", err)
}

// handshakePair makes a socket pair; our end is polled by the runtime, the other
// blocks.
func handshakePair() (ours, theirs *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, err
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, nil, errors.Join(err, unix.Close(fds[0]), unix.Close(fds[1]))
	}
	return os.NewFile(uintptr(fds[0]), "handshake"), os.NewFile(uintptr(fds[1]), "handshake"), nil
}
