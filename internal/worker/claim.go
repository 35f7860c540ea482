package worker

import (
	"context"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

const (
	// claimWait is how long one claim stays open at an idle queue.
	claimWait = 30 * time.Second
	// claimMax is how many jobs one reply may bring: short jobs profit from
	// several, and no reply holds more than fits now.
	claimMax = 64
	// diskEvery is how often an open claim looks at the disk.
	diskEvery = time.Second
	// retryPause follows a call to the queue that did not get through.
	retryPause = time.Second
)

// claimLoop keeps one claim open while anything is free.
func (w *Worker) claimLoop(ctx context.Context, wg *sync.WaitGroup) {
	for ctx.Err() == nil {
		free, freed := w.free()
		if free.CPUs < 1 || free.Memory < 1 {
			select {
			case <-ctx.Done():
			case <-freed:
			}
			continue
		}
		if !w.diskReady(ctx) {
			continue
		}
		session := w.sessions.Load()
		leases, err := w.claimOnce(ctx, free, freed)
		for _, l := range leases {
			w.hold(ctx, wg, l, false)
		}
		switch {
		case err == nil || ctx.Err() != nil:
		case job.CodeOf(err) == job.NotFound:
			// The queue does not know this session: it was declared lost.
			if err := w.attach(ctx, wg, session); err != nil {
				w.opt.Log.Warn("cannot attach to the queue", "error", err)
				w.again(ctx, 2*retryPause)
			}
		default:
			w.opt.Log.Warn("cannot claim", "error", err)
			w.again(ctx, 2*retryPause)
		}
	}
}

// claimOnce claims what fits; it asks anew when more becomes free meanwhile, and
// when the disk has filled up.
func (w *Worker) claimOnce(ctx context.Context, free job.Offer, freed <-chan struct{}) ([]job.Lease, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() {
		defer cancel()
		for {
			select {
			case <-ctx.Done():
				return
			case <-freed:
				return
			case <-time.After(diskEvery):
				if w.diskShort() != nil {
					return
				}
			}
		}
	})
	leases, err := w.opt.Queue.Claim(ctx, w.opt.Session.Worker, free, claimMax, claimWait)
	if ctx.Err() != nil {
		err = nil
	}
	return leases, err
}

// diskReady reports whether the disk has room for another job; if not it says so
// and waits a little (S10).
func (w *Worker) diskReady(ctx context.Context) bool {
	short := w.diskShort()
	if short == nil {
		return true
	}
	w.opt.Log.Warn("not claiming: the disk is almost full",
		"directory", w.opt.Machine.StateDir, "free_bytes", short.free, "needed_bytes", short.needed)
	pause(ctx, 5*diskEvery)
	return false
}

// shortage is a disk with less room than a job should find.
type shortage struct{ free, needed int64 }

// diskShort returns nil when there is room.
func (w *Worker) diskShort() *shortage {
	free, total, err := diskSpace(w.opt.Machine.StateDir)
	if err != nil {
		w.opt.Log.Warn("cannot look at the disk", "error", err)
		return nil
	}
	needed := w.opt.MinFree
	if needed == 0 {
		needed = min(2<<30, total/20)
	}
	if free >= needed {
		return nil
	}
	return &shortage{free, needed}
}
