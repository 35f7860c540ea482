package worker

import (
	"context"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// ordersWait is how long one request for orders stays open.
const ordersWait = 30 * time.Second

// beatLoop renews the session every BeatEvery, and reports progress at most
// once a second while there is any.
func (w *Worker) beatLoop(ctx context.Context, wg *sync.WaitGroup) {
	timer := time.NewTimer(w.opt.BeatEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-w.moved:
		}
		w.beat(ctx, wg)
		timer.Reset(w.opt.BeatEvery)
		if !pause(ctx, min(time.Second, w.opt.BeatEvery)) {
			return
		}
	}
}

func (w *Worker) beat(ctx context.Context, wg *sync.WaitGroup) {
	orders, err := w.opt.Queue.Beat(ctx, w.opt.Session.Worker, w.heldNow())
	switch {
	case err == nil:
		w.obey(orders)
	case ctx.Err() != nil:
	case job.CodeOf(err) == job.NotFound:
		if err := w.attach(ctx, wg); err != nil {
			w.opt.Log.Warn("cannot attach to the queue", "error", err)
		}
	default:
		w.opt.Log.Warn("no heartbeat", "error", err)
	}
}

func (w *Worker) heldNow() []job.Held {
	w.mu.Lock()
	defer w.mu.Unlock()
	held := make([]job.Held, 0, len(w.runs))
	for _, r := range w.runs {
		held = append(held, job.Held{ID: r.lease.Job.ID, Fence: r.fence(), Progress: r.progress()})
	}
	return held
}

// orderLoop receives what cannot wait for the next beat: cancels.
func (w *Worker) orderLoop(ctx context.Context) {
	for ctx.Err() == nil {
		orders, err := w.opt.Queue.Orders(ctx, w.opt.Session.Worker, ordersWait)
		w.obey(orders)
		if err != nil && !pause(ctx, retryPause) {
			return
		}
	}
}

func (w *Worker) obey(orders []job.Order) {
	for _, o := range orders {
		if r := w.held(o.ID, o.Fence); r != nil && o.Do != job.Carry {
			r.order(o.Do)
		}
	}
}

// progressed wakes the beat loop; a wake-up that is pending serves all.
func (w *Worker) progressed() {
	select {
	case w.moved <- struct{}{}:
	default:
	}
}
