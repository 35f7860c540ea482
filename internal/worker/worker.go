// Package worker runs the jobs that one machine has claimed: it claims what
// fits, stages files, starts the engine under the executor, follows its output,
// parses what it left and reports. It never touches the database, and it may
// die at any time: the programs go on, and the next worker on the machine takes
// them over.
package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nano-os/nanoos/internal/artifact"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/executor"
	"github.com/nano-os/nanoos/internal/job"
)

// Queue is what a worker needs of the queue: the service itself in one process,
// an HTTP client in another. Every call is safe to repeat.
type Queue interface {
	// Attach begins the session of a worker and settles what its host ran before.
	Attach(ctx context.Context, s job.Session, found []job.Found) (job.Attachment, error)
	// Claim waits at most wait for jobs that fit free, and returns up to max
	// leases, possibly none. It returns what it has claimed even when ctx ends.
	Claim(ctx context.Context, worker string, free job.Offer, max int, wait time.Duration) ([]job.Lease, error)
	// Beat renews the session and reports progress. The answer has an order
	// for every job held.
	Beat(ctx context.Context, worker string, held []job.Held) ([]job.Order, error)
	// Orders waits at most wait for orders other than Carry.
	Orders(ctx context.Context, worker string, wait time.Duration) ([]job.Order, error)
	// Finish ends an attempt; job.Fenced when the lease is no longer current.
	Finish(ctx context.Context, l job.Lease, out job.Outcome) error
	// Leave ends the session; running programs go on and wait to be adopted.
	Leave(ctx context.Context, worker string) error
}

// Outputs receives what programs print while they run, so that people can read
// along from another machine.
type Outputs interface {
	// Append stores what a stream (engine.StdoutName or StderrName) has printed
	// from a position on, and returns how much of it is stored now: where to go
	// on. job.Fenced when the lease is no longer current.
	Append(ctx context.Context, l job.Lease, stream string, from int64, data []byte) (stored int64, err error)
}

// Options of a Worker. Queue, Executor, Artifacts, Machine and Engines are
// required.
type Options struct {
	Session   job.Session
	Queue     Queue
	Executor  executor.Executor
	Artifacts artifact.Store
	Machine   *Machine
	Engines   []engine.Engine
	Log       *slog.Logger
	// Outputs is nil where readers open the files themselves.
	Outputs Outputs
	// BeatEvery is the period of heartbeats (10 s). Progress that changed goes
	// out earlier, at most once a second.
	BeatEvery time.Duration
	// MinFree stops claims while the disk of the work directories has fewer
	// bytes free (2 GiB, or 5 % if that is less).
	MinFree int64
	// Rand returns a number in [0, 1) that spreads what is tried again.
	Rand func() float64
	// LateKeep is how long the files of an attempt that lost its job are kept (7 days).
	LateKeep time.Duration
}

// Worker runs the jobs of one machine.
type Worker struct {
	opt Options

	settling settling
	contact  contact
	sessions atomic.Int64  // begun so far
	reading  chan struct{} // has room for as many runs as are parsed and stored at a time
	lookout  *lookout

	mu   sync.Mutex
	runs map[job.ID]*run // guarded by mu; what is held now
	// freed is closed and replaced when resources become free; guarded by mu.
	freed chan struct{}
	grown int // guarded by mu; CPUs added by Resize
	// moved receives when some run has progress to report.
	moved chan struct{}
}

const (
	// leaveTime bounds how long a worker that is told to leave waits for what is
	// under way: everything is on the disk and is found by the next one (G14).
	leaveTime = 4 * time.Second
	// goodbyeTime bounds its last words to the queue.
	goodbyeTime = 3 * time.Second
	// readAtOnce bounds how many ended runs are parsed and stored at a time, and
	// with it the memory and the processor time that they take from those that
	// run.
	readAtOnce = 8
)

// New returns a worker; Run starts it.
func New(opt Options) *Worker {
	if opt.BeatEvery == 0 {
		opt.BeatEvery = 10 * time.Second
	}
	if opt.LateKeep == 0 {
		opt.LateKeep = 7 * 24 * time.Hour
	}
	if opt.Rand == nil {
		opt.Rand = rand.Float64
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	w := &Worker{opt: opt, runs: map[job.ID]*run{}, freed: make(chan struct{}), moved: make(chan struct{}, 1),
		reading: make(chan struct{}, readAtOnce)}
	w.lookout = newLookout(w)
	return w
}

// Run attaches, claims and runs jobs until ctx ends. It then leaves at once:
// programs go on without it and are adopted by the next worker here (G7, G14).
func (w *Worker) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancelCause(ctx)
	defer w.awaitEnd(&wg)
	defer cancel(errors.New("worker ended"))

	if err := w.attach(ctx, &wg, 0); err != nil {
		return fmt.Errorf("attach worker %s: %w", w.opt.Session.Worker, err)
	}
	wg.Go(func() { w.beatLoop(ctx, &wg) })
	wg.Go(func() { w.orderLoop(ctx) })
	wg.Go(func() { w.lookout.run(ctx) })
	w.claimLoop(ctx, &wg)

	leave, done := context.WithTimeout(context.WithoutCancel(ctx), goodbyeTime)
	defer done()
	if err := w.opt.Queue.Leave(leave, w.opt.Session.Worker); err != nil {
		w.opt.Log.Warn("could not say goodbye to the queue", "error", err)
	}
	return nil
}

// awaitEnd waits for what is under way, but not for a parser that reads a long
// output or a disk that hangs.
func (w *Worker) awaitEnd(wg *sync.WaitGroup) {
	ended := make(chan struct{})
	go func() {
		wg.Wait()
		close(ended)
	}()
	t := time.NewTimer(leaveTime)
	defer t.Stop()
	select {
	case <-ended:
	case <-t.C:
		w.opt.Log.Warn("leaving with work under way; the next worker here finds it on the disk")
	}
}

// hold registers a lease and starts its run; a lease that is held already, with
// an older fence, is renewed in place.
func (w *Worker) hold(ctx context.Context, wg *sync.WaitGroup, l job.Lease, onDisk bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r, held := w.runs[l.Job.ID]; held {
		if r.lease.Job.Attempt == l.Job.Attempt {
			r.setFence(l.Fence)
			return
		}
		// Our own older attempt of a job that has come back to us: it has lost.
		r.order(job.Drop, false)
	}
	r := newRun(w, wg, l, onDisk)
	w.runs[l.Job.ID] = r
	wg.Go(func() {
		r.live(ctx)
		w.release(r)
	})
}

// release forgets a run that is over.
func (w *Worker) release(r *run) {
	w.mu.Lock()
	defer w.mu.Unlock()
	held := len(w.runs)
	if w.runs[r.lease.Job.ID] == r {
		delete(w.runs, r.lease.Job.ID)
	}
	if !r.vacant || held >= maxUnreported {
		w.setFree(r)
	}
}

// vacate frees what a run occupied as soon as nothing of it is alive: the next
// job need not wait for the end of this one to be parsed, stored and reported.
func (w *Worker) vacate(r *run) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !r.vacant {
		w.setFree(r)
	}
}

// setFree marks a run as one that occupies nothing. The caller holds mu.
func (w *Worker) setFree(r *run) {
	r.vacant = true
	close(w.freed)
	w.freed = make(chan struct{})
}

// maxUnreported bounds the ended runs that wait to be reported while more are
// claimed: what they left fills the disk, and their results the memory.
const maxUnreported = 64

// free returns what is not occupied, and a channel that closes when more is.
func (w *Worker) free() (job.Offer, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o, unreported := w.offer(), 0
	for _, r := range w.runs {
		if r.vacant {
			unreported++
		} else {
			o = o.Less(r.lease.Job.Spec.Demand)
		}
	}
	if unreported >= maxUnreported {
		return job.Offer{}, w.freed
	}
	return o, w.freed
}

// held returns the run of a job under a fence, or nil.
func (w *Worker) held(id job.ID, f job.Fence) *run {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r := w.runs[id]; r != nil && (f == 0 || r.fence() == f) {
		return r
	}
	return nil
}

// again waits before something is tried anew, spread so that the workers of a
// server that returns do not come at once; it reports false when ctx ended first.
func (w *Worker) again(ctx context.Context, d time.Duration) bool {
	return pause(ctx, w.spread(d))
}

// spread is between half of d and all of it.
func (w *Worker) spread(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.5 + w.opt.Rand()/2))
}

// pause waits, and reports false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Offer is everything that jobs may use here.
func (w *Worker) Offer() job.Offer {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.offer()
}

// offer is Offer for a caller that holds mu.
func (w *Worker) offer() job.Offer {
	o := w.opt.Session.Offer
	o.CPUs += w.grown
	return o
}

// Resize lets jobs use n CPUs more, or fewer, than now until the worker ends;
// one is left at least. What runs goes on.
func (w *Worker) Resize(n int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := w.offer().CPUs; now+n < 1 {
		return job.Errorf(job.Invalid, "the worker has %d CPUs: it cannot do with %d fewer", now, -n)
	}
	w.grown += n
	close(w.freed)
	w.freed = make(chan struct{})
	return nil
}
