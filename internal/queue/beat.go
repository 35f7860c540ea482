package queue

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// Beat renews the session and reports progress. The answer has an order for
// every job held; held must name every lease that was not finished yet.
func (s *Service) Beat(ctx context.Context, worker string, held []job.Held) ([]job.Order, error) {
	var orders []job.Order
	var missed []job.Job
	err := s.write(ctx, func(tx store.Tx) (wakes, error) {
		if err := s.moving(ctx, tx); err != nil {
			return 0, err
		}
		w, err := session(ctx, tx, worker)
		if err != nil {
			return 0, err
		}
		if err := tx.RenewWorker(ctx, worker); err != nil {
			return 0, fmt.Errorf("renew worker %s: %w", worker, err)
		}
		if orders, err = s.settle(ctx, tx, worker, held); err != nil {
			return 0, err
		}
		missed, err = s.missed(ctx, tx, w, held)
		return wakeChanged, err
	})
	if err != nil {
		return nil, fmt.Errorf("beat of worker %s: %w", worker, err)
	}
	for _, j := range missed {
		if err := s.loseJob(ctx, j, fmt.Sprintf("worker %s does not know of the job it was given", worker)); err != nil {
			return nil, err
		}
	}
	return orders, nil
}

// settle answers for every job held and stores the progress of those that are
// current.
func (s *Service) settle(ctx context.Context, tx store.Tx, worker string, held []job.Held) ([]job.Order, error) {
	ids := make([]job.ID, len(held))
	for i, h := range held {
		ids[i] = h.ID
	}
	slices.Sort(ids)
	locked, err := tx.LockJobs(ctx, slices.Compact(ids))
	if err != nil {
		return nil, fmt.Errorf("lock %d jobs: %w", len(ids), err)
	}
	jobs := make(map[job.ID]job.Job, len(locked))
	for _, j := range locked {
		jobs[j.ID] = j
	}
	orders := make([]job.Order, 0, len(held))
	var progress []job.Held
	for _, h := range held {
		j, exists := jobs[h.ID]
		if !exists {
			o := job.Order{ID: h.ID, Fence: h.Fence, Do: job.Drop, Why: "there is no such job"}
			if err := unreadable(ctx, tx, h.ID); err != nil {
				o.Do, o.Why = job.Carry, err.Error()
			}
			orders = append(orders, o)
			continue
		}
		if j, err = s.returned(ctx, tx, j, worker, h.Fence); err != nil {
			return nil, err
		}
		jobs[h.ID] = j
		o := order(j, worker, h.Fence)
		orders = append(orders, o)
		if o.Do != job.Drop && j.Fence == h.Fence && h.Progress != nil {
			h.Progress = advance(j.Progress, *h.Progress, tx.Now())
			progress = append(progress, h)
		}
	}
	if len(progress) == 0 {
		return orders, nil
	}
	if err := tx.SaveProgress(ctx, progress); err != nil {
		return nil, fmt.Errorf("save the progress of %d jobs: %w", len(progress), err)
	}
	return orders, nil
}

// returned takes a lost attempt back to RUNNING when its owner is heard of
// again before anybody began another (R10).
func (s *Service) returned(ctx context.Context, tx store.Tx, j job.Job, worker string, fence job.Fence) (job.Job, error) {
	if j.State != job.Queued && j.State != job.Pending || j.Fence != fence || j.Worker != worker {
		return j, nil
	}
	as, err := attemptsOf(ctx, tx, j)
	if err != nil || len(as) == 0 || !canReturn(j, as[len(as)-1]) {
		return j, err
	}
	c := comeBack(j, as[len(as)-1])
	_, err = apply(ctx, tx, c)
	return c.job, err
}

// order is what a worker must do with a job that it holds under a fence.
func order(j job.Job, worker string, fence job.Fence) job.Order {
	o := job.Order{ID: j.ID, Fence: fence, Do: job.Carry}
	switch {
	case j.State != job.Running:
		o.Do, o.Why = job.Drop, fmt.Sprintf("the job is %s", j.State)
	case j.Worker != worker:
		o.Do, o.Why = job.Drop, "the job was given to worker "+j.Worker
	case j.Fence != fence:
		// The same worker has, or is about to get, a newer lease of this job. The
		// run on its disk may be the one that goes on under it, so it is not to be
		// ended for the sake of the older one.
		o.Why, o.Replaced = fmt.Sprintf("fence %d has replaced this lease", j.Fence), true
	case j.Cancel != nil:
		o.Do, o.Why, o.Now = job.Stop, j.Message, j.Cancel.Now
	}
	return o
}

// advance is progress as it is stored: within bounds, and never falling.
func advance(last *job.Progress, p job.Progress, now time.Time) *job.Progress {
	if !(p.Fraction >= 0) {
		p.Fraction = 0
	}
	p.Fraction = min(p.Fraction, 1)
	if last != nil {
		p.Fraction = max(p.Fraction, last.Fraction)
	}
	p.At = now
	return &p
}

// missed returns the jobs that a worker does not know of although it was given
// them a whole session ago: the reply that carried the lease was lost on the
// way. Nothing else would ever end them, for the worker itself is alive (G9).
//
// Any server can tell, whichever saw the worker's earlier beats: a job was given
// at its start, or when the worker attached.
func (s *Service) missed(ctx context.Context, tx store.ReadTx, w store.Worker, held []job.Held) ([]job.Job, error) {
	running, err := tx.RunningOn(ctx, w.Worker)
	if err != nil {
		return nil, fmt.Errorf("read the jobs of worker %s: %w", w.Worker, err)
	}
	current := make(map[job.ID]job.Fence, len(held))
	for _, h := range held {
		current[h.ID] = h.Fence
	}
	var missed []job.Job
	for _, j := range running {
		given := j.StartedAt
		if w.StartedAt.After(given) {
			given = w.StartedAt
		}
		if f, known := current[j.ID]; (!known || f != j.Fence) && tx.Now().Sub(given) > s.opt.Session {
			missed = append(missed, j)
		}
	}
	return missed, nil
}

// Orders waits at most wait for orders other than Carry. Each is given once
// here; Beat repeats it until it is obeyed.
func (s *Service) Orders(ctx context.Context, worker string, wait time.Duration) ([]job.Order, error) {
	deadline := time.NewTimer(min(wait, maxWait))
	defer deadline.Stop()
	for {
		woken := s.bells.orders.next()
		var stops []job.Order
		err := s.st.Read(ctx, func(tx store.ReadTx) error {
			stops = nil
			if err := s.moving(ctx, tx); err != nil {
				return err
			}
			running, err := tx.RunningOn(ctx, worker)
			for _, j := range running {
				if o := order(j, worker, j.Fence); o.Do != job.Carry {
					stops = append(stops, o)
				}
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("orders for worker %s: %w", worker, err)
		}
		if news := s.told.news(worker, stops); len(news) > 0 || wait <= 0 {
			return news, nil
		}
		// Another server may have taken in a cancel.
		net := s.lookAgain()
		select {
		case <-woken:
		case <-net.C:
		case <-deadline.C:
			net.Stop()
			return nil, nil
		case <-ctx.Done():
			net.Stop()
			return nil, context.Cause(ctx)
		}
		net.Stop()
	}
}

// told remembers the orders that were given, so that a worker which is busy
// stopping a run is not told again and again.
type told struct {
	mu sync.Mutex
	by map[string]map[job.ID]job.Fence
}

// news returns the orders that the worker was not given yet, and forgets those
// that are no longer due.
func (t *told) news(worker string, due []job.Order) []job.Order {
	t.mu.Lock()
	defer t.mu.Unlock()
	before, now := t.by[worker], make(map[job.ID]job.Fence, len(due))
	var news []job.Order
	for _, o := range due {
		if f, given := before[o.ID]; !given || f != o.Fence {
			news = append(news, o)
		}
		now[o.ID] = o.Fence
	}
	if t.by == nil {
		t.by = make(map[string]map[job.ID]job.Fence)
	}
	if len(now) == 0 {
		delete(t.by, worker)
	} else {
		t.by[worker] = now
	}
	return news
}
