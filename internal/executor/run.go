package executor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// run is one attempt as its files tell it; it works the same in the process that
// started the attempt and in any later one.
type run struct {
	local *Local
	dir   attemptDir
}

var _ Run = (*run)(nil)

func (r *run) Dir() string    { return r.dir.file(workDir) }
func (r *run) Stdout() string { return r.dir.file(outFile) }
func (r *run) Stderr() string { return r.dir.file(errFile) }

// Wait implements Run. It watches the supervisor, whose death leaves an exit
// record, a tree that needs a successor, or nothing.
func (r *run) Wait(ctx context.Context) (job.Exit, error) {
	for {
		c, err := r.dir.inspect(r.local.boot)
		if err != nil {
			return job.Exit{}, r.local.missing(r.dir, err)
		}
		switch c.State {
		case FoundEnded, FoundLost, FoundReboot:
			r.local.reap(r.dir)
			return c.Exit, nil
		case FoundDamaged:
			return job.Exit{}, damagedError(r.dir, c.Detail)
		case FoundPrepared:
			return job.Exit{}, job.Errorf(job.NotFound, "the attempt never started")
		case FoundOrphan:
			err = r.local.adopt(ctx, r.dir)
		case FoundAlive:
			err = r.watch(ctx, c.Started.Supervisor)
		}
		if err != nil {
			return job.Exit{}, fmt.Errorf("wait for attempt: %w", err)
		}
	}
}

// watch returns when the supervisor has ended, or soon when it is not known yet.
func (r *run) watch(ctx context.Context, supervisor identity) error {
	if supervisor.alive() {
		return supervisor.wait(ctx)
	}
	// The lock is held by one that has not made its record, or by a reader.
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(5 * time.Millisecond):
		return nil
	}
}

// Stop implements Run. An attempt without a supervisor gets one that obeys.
func (r *run) Stop(ctx context.Context, cause job.StopCause) error {
	if cause == job.CauseNone {
		cause = job.CauseCancelled
	}
	if err := r.dir.requestStop(stopRequest{Cause: cause}); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return r.local.missing(r.dir, fs.ErrNotExist)
		}
		return err
	}
	c, err := r.dir.inspect(r.local.boot)
	if err != nil {
		return r.local.missing(r.dir, err)
	}
	if c.State == FoundOrphan {
		return r.local.adopt(ctx, r.dir)
	}
	return nil
}

// Usage implements Run: what the last sign of life said, at most 10 s old.
func (r *run) Usage() (Usage, error) {
	if e, err := readEnding(r.dir.file(exitFile)); err == nil {
		return Usage{CPUTime: time.Duration(e.Exit.CPUTime), PeakRSS: e.Exit.PeakRSS}, nil
	}
	var b beat
	err := readRecord(r.dir.file(beatFile), &b)
	if err != nil && !errors.Is(err, errNoRecord) && !errors.Is(err, fs.ErrNotExist) {
		return Usage{}, fmt.Errorf("read usage: %w", err)
	}
	return b.Usage, nil
}

// reapOne waits for a supervisor that had nothing to do.
func (l *Local) reapOne(d attemptDir, p *os.Process) {
	l.mu.Lock()
	left := slices.DeleteFunc(l.supervisors[d], func(o *os.Process) bool { return o == p })
	if l.supervisors[d] = left; len(left) == 0 {
		delete(l.supervisors, d)
	}
	l.mu.Unlock()
	_, _ = p.Wait()
}
