package executor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// LocalOptions configure the local executor.
type LocalOptions struct {
	// StateDir holds the attempts; it must be on a local file system.
	StateDir string
	// SupervisorArgv is the command that becomes a supervisor; empty means the
	// one that this program carries, or else this program itself, which must call
	// Main first. The program in it is copied into the state directory, so an
	// upgrade does not disturb what runs (R2).
	SupervisorArgv []string
	// KillGrace is the time between SIGTERM and SIGKILL for tasks that say
	// nothing; zero means 30 s.
	KillGrace time.Duration
	// Cgroup "none" makes no control groups; empty uses what is there.
	Cgroup string
	// HostID and BootID stand for those of the machine if not empty.
	HostID, BootID string
}

// Local runs attempts on this machine, each under a supervisor of its own.
type Local struct {
	attempts     string
	trash        string
	argv         []string
	program      *os.File // argv[0], locked as long as we may start it
	grace        time.Duration
	host, boot   string
	groups       groupParents
	capabilities Capabilities
	// at marks the points at which a crash is tested.
	at func(point string)

	mu sync.Mutex
	// supervisors are our own children, to be waited for when they end.
	supervisors map[attemptDir][]*os.Process
}

var _ Executor = (*Local)(nil)

const defaultGrace = 30 * time.Second

// NewLocal makes the local executor of a state directory.
func NewLocal(opt LocalOptions) (*Local, error) { return newLocal(opt, networkFS) }

func newLocal(opt LocalOptions, networkFS func(string) (string, error)) (*Local, error) {
	state, err := filepath.Abs(opt.StateDir)
	if err != nil {
		return nil, fmt.Errorf("find state directory: %w", err)
	}
	l := &Local{
		attempts: filepath.Join(state, "attempts"), trash: filepath.Join(state, "trash"),
		grace: opt.KillGrace, host: opt.HostID, boot: opt.BootID,
		at: func(string) {}, supervisors: map[attemptDir][]*os.Process{},
	}
	if l.grace <= 0 {
		l.grace = defaultGrace
	}
	for _, d := range []string{l.attempts, l.trash} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("make state directory: %w", err)
		}
	}
	if err := refuseNetwork(state, networkFS); err != nil {
		return nil, err
	}
	if l.host == "" {
		if l.host, err = HostID(state); err != nil {
			return nil, err
		}
	}
	if l.boot == "" {
		if l.boot, err = BootID(); err != nil {
			return nil, err
		}
	}
	if err := l.keepProgram(filepath.Join(state, "bin"), opt.SupervisorArgv); err != nil {
		return nil, fmt.Errorf("keep supervisor program: %w", err)
	}
	keepDescriptors()
	l.groups, l.capabilities = findGroups(opt.Cgroup)
	return l, l.emptyTrash()
}

// Capabilities implements Executor.
func (l *Local) Capabilities() Capabilities { return l.capabilities }

func (l *Local) dir(id job.ID, attempt int) attemptDir {
	return attemptDir(filepath.Join(l.attempts, string(id), strconv.Itoa(attempt)))
}

// WorkDir implements Executor.
func (l *Local) WorkDir(id job.ID, attempt int) string {
	return l.dir(id, attempt).file(workDir)
}

// Start implements Executor. The directory lock makes one starter of many, and
// what the directory holds under that lock decides whether it may start (R3).
func (l *Local) Start(ctx context.Context, t Task) (Run, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	d := l.dir(t.ID, t.Attempt)
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return nil, fmt.Errorf("make attempt directory: %w", err)
	}
	l.at("mkdir")
	guard, err := lockDir(ctx, string(d))
	if err != nil {
		return nil, fmt.Errorf("start attempt: %w", err)
	}
	defer guard.Close()
	for {
		c, err := l.settled(ctx, d)
		if err != nil {
			return nil, err
		}
		if c.State != FoundPrepared {
			return l.Attach(ctx, t.ID, t.Attempt)
		}
		if err = l.startSupervised(ctx, d, t); err == nil {
			return &run{local: l, dir: d}, nil
		}
		// Busy: a supervisor that a crashed starter had left was faster.
		if !errors.Is(err, errBusy) {
			return nil, fmt.Errorf("start attempt %d of job %s: %w", t.Attempt, t.ID, err)
		}
	}
}

// startSupervised prepares an attempt while its supervisor comes to life.
func (l *Local) startSupervised(ctx context.Context, d attemptDir, t Task) error {
	supervisor, err := l.spawn(d, string(d))
	if err != nil {
		return err
	}
	if err := l.prepare(ctx, d, t); err != nil {
		supervisor.dismiss()
		return err
	}
	l.at("spec")
	return supervisor.live(ctx, t.Env)
}

// Attach implements Executor. An attempt whose supervisor died gets a successor.
func (l *Local) Attach(ctx context.Context, id job.ID, attempt int) (Run, error) {
	if problems := checkName(id, attempt); len(problems) > 0 {
		return nil, job.InvalidInput("that is not an attempt", problems)
	}
	d := l.dir(id, attempt)
	c, err := d.inspect(l.boot)
	if err != nil {
		return nil, l.missing(d, err)
	}
	switch c.State {
	case FoundPrepared:
		return nil, job.Errorf(job.NotFound, "attempt %d of job %s never started", attempt, id)
	case FoundDamaged:
		return nil, damagedError(d, c.Detail)
	case FoundOrphan:
		if err := l.adopt(ctx, d); err != nil {
			return nil, err
		}
	}
	return &run{local: l, dir: d}, nil
}

func (l *Local) missing(d attemptDir, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return job.Errorf(job.NotFound, "no attempt is at %s", d)
	}
	return fmt.Errorf("look at attempt: %w", err)
}

func damagedError(d attemptDir, detail string) error {
	return &job.Error{
		Code: job.Internal, Message: "the attempt's control files cannot be read, and how it ended is unknown",
		Why: fmt.Sprintf("%s: %s", d, detail), Fix: "keep the directory for a look, then remove it",
	}
}

// adopt starts a successor of a supervisor that died. Another may be faster.
func (l *Local) adopt(ctx context.Context, d attemptDir) error {
	successor, err := l.spawn(d, adoptWord, string(d))
	if err == nil {
		err = successor.live(ctx, nil)
	}
	if errors.Is(err, errBusy) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("adopt attempt: %w", err)
	}
	return nil
}

// List implements Executor.
func (l *Local) List(ctx context.Context) ([]Found, error) {
	jobs, err := os.ReadDir(l.attempts)
	if err != nil {
		return nil, fmt.Errorf("list attempts: %w", err)
	}
	var found []Found
	for _, j := range jobs {
		numbers, err := os.ReadDir(filepath.Join(l.attempts, j.Name()))
		if err != nil {
			continue // not a directory, or just removed
		}
		for _, n := range numbers {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			number, err := strconv.Atoi(n.Name())
			if err != nil || len(checkName(job.ID(j.Name()), number)) > 0 {
				continue
			}
			f := Found{ID: job.ID(j.Name()), Attempt: number}
			c, err := l.dir(f.ID, number).inspect(l.boot)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				c = damaged(err)
			}
			f.State, f.Detail = c.State, c.Detail
			found = append(found, f)
		}
	}
	return found, nil
}

// Remove implements Executor. Removing what is not there is no error.
func (l *Local) Remove(ctx context.Context, id job.ID, attempt int) error {
	if problems := checkName(id, attempt); len(problems) > 0 {
		return job.InvalidInput("that is not an attempt", problems)
	}
	d := l.dir(id, attempt)
	guard, err := lockDir(ctx, string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove attempt: %w", err)
	}
	defer guard.Close()
	c, err := d.inspect(l.boot)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at attempt: %w", err)
	}
	if c.State == FoundAlive || c.State == FoundOrphan {
		return job.Errorf(job.Conflict, "attempt %d of job %s still runs", attempt, id)
	}
	l.reap(d)
	if err := l.groups.of(id, attempt).remove(); err != nil {
		return err
	}
	// Renaming first makes the removal whole: a crash leaves no half attempt.
	gone := filepath.Join(l.trash, string(id)+"-"+strconv.Itoa(attempt)+"-"+rand.Text())
	if err := os.Rename(string(d), gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove attempt: %w", err)
	}
	_ = os.Remove(filepath.Dir(string(d))) // stays while other attempts are in it
	return removeAll(gone)
}

// reap waits for our supervisors of an attempt, which have ended or are about to.
func (l *Local) reap(d attemptDir) {
	l.mu.Lock()
	ended := l.supervisors[d]
	delete(l.supervisors, d)
	l.mu.Unlock()
	for _, p := range ended {
		_, _ = p.Wait()
	}
}
