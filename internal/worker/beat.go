package worker

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

const (
	// ordersWait is how long one request for orders stays open.
	ordersWait = 30 * time.Second
	// beatTimeout bounds one heartbeat, well below a session: what an older one
	// says of the jobs held here is no longer true.
	beatTimeout = 20 * time.Second
)

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
	session := w.sessions.Load()
	call, cancel := context.WithTimeoutCause(ctx, beatTimeout, errors.New("the queue took too long"))
	orders, err := w.opt.Queue.Beat(call, w.opt.Session.Worker, w.heldNow())
	cancel()
	if err == nil {
		w.contact.found()
		w.obey(orders)
	}
	switch {
	case err == nil && !w.replaced(orders), ctx.Err() != nil:
	case err == nil, job.CodeOf(err) == job.NotFound:
		// The session is not known, or an attach of ours arrived twice or too
		// late: the leases that it made never came here.
		if err := w.attach(ctx, wg, session); err != nil {
			w.opt.Log.Warn("cannot attach to the queue", "error", err)
		}
	default:
		w.contact.lose()
		w.opt.Log.Warn("no heartbeat", "error", err)
	}
}

// replaced reports whether a lease that is held has a successor elsewhere.
func (w *Worker) replaced(orders []job.Order) bool {
	return slices.ContainsFunc(orders, func(o job.Order) bool { return o.Replaced && w.held(o.ID, o.Fence) != nil })
}

// contact tells those who wait with a report that the queue answers again. The
// zero value has contact.
type contact struct {
	mu   sync.Mutex
	lost bool
	back chan struct{} // closed when contact is found; nil while nobody waits
}

func (c *contact) lose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = true
}

func (c *contact) found() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost && c.back != nil {
		close(c.back)
		c.back = nil
	}
	c.lost = false
}

// again returns a channel that closes when contact was lost and is found again.
func (c *contact) again() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.back == nil {
		c.back = make(chan struct{})
	}
	return c.back
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
		if err != nil && !w.again(ctx, 2*retryPause) {
			return
		}
	}
}

func (w *Worker) obey(orders []job.Order) {
	for _, o := range orders {
		if r := w.held(o.ID, o.Fence); r != nil && o.Do != job.Carry {
			r.order(o.Do, o.Now)
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
