package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// steadyRate is the arrivals per second of the steady measurement.
const steadyRate = 300

// pickup measures how soon an idle worker has a job, and how soon its result
// can be seen; then the first at a steady rate.
func (b *bench) pickup(ctx context.Context, place benchPlace) (err error) {
	o, err := b.openBed(ctx, place)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	for _, c := range []comparison{b.pickupIdle(o), b.visible(o), b.pickupSteady(o)} {
		if err := b.compare(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) pickupIdle(o *bed) comparison {
	c := b.idleOnes(o, "pickup", "an idle worker: from the call that submits to the lease", func(t times) time.Duration { return t.claimed.Sub(t.due) })
	n := b.idleJobs()
	c.limit = o.bare("two commits and a wake", func(ctx context.Context) (sample, error) {
		return timed(n, func() ([]time.Duration, error) { return o.limit.pickup(ctx, n) })
	})
	c.goals = overHTTPOnly(benchGoal{What: "p50", AtMost: 2}, benchGoal{What: "p99", AtMost: 3})
	return c
}

func (b *bench) visible(o *bed) comparison {
	return b.idleOnes(o, "visible", "an idle worker: from the call that submits to a result that a client sees", func(t times) time.Duration { return t.seen.Sub(t.due) })
}

// idleJobs come one after the other.
func (b *bench) idleJobs() int { return max(10, b.opt.n/5) }

// times are those of one job.
type times struct{ due, claimed, ended, seen time.Time }

// idleOnes submits one job at a time and takes one time of each.
func (b *bench) idleOnes(o *bed, name, about string, took func(times) time.Duration) comparison {
	c := comparison{name: name, about: about, place: o.place, bed: o}
	for _, w := range b.bothWays(o) {
		c.ways = append(c.ways, contestant{way: w.name(), run: func(ctx context.Context) (s sample, err error) {
			s.n = b.idleJobs()
			err = withHand(ctx, w, func(ctx context.Context, ended <-chan endedJob) error {
				began := time.Now()
				for range s.n {
					t, err := oneJob(ctx, w, ended)
					if err != nil {
						return err
					}
					s.took = append(s.took, took(t))
				}
				s.wall = time.Since(began)
				return nil
			})
			return s, err
		}})
	}
	return c
}

// endedJob is what a hand tells of a job.
type endedJob struct {
	id             job.ID
	claimed, ended time.Time
}

// withHand runs fn while one worker works.
func withHand(ctx context.Context, w way, fn func(ctx context.Context, ended <-chan endedJob) error) error {
	h, leave, err := hire(ctx, w, "bench")
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan endedJob, drainSlots)
	var working sync.WaitGroup
	defer working.Wait()
	defer cancel(nil)
	working.Go(func() {
		err := h.work(ctx, func(id job.ID, claimed, at time.Time) {
			select {
			case ended <- endedJob{id, claimed, at}:
			case <-ctx.Done():
			}
		})
		cancel(err)
	})
	return fn(ctx, ended)
}

// oneJob goes with a job from its submission to its visible end.
func oneJob(ctx context.Context, w way, ended <-chan endedJob) (times, error) {
	t := times{due: time.Now()}
	ids, err := w.submit(ctx, 1, benchJob{})
	if err != nil {
		return t, err
	}
	select {
	case e := <-ended:
		t.claimed, t.ended = e.claimed, e.ended
	case <-ctx.Done():
		return t, context.Cause(ctx)
	}
	state, err := w.state(ctx, ids[0])
	t.seen = time.Now()
	if err == nil && state != job.Completed {
		err = fmt.Errorf("job %s is %s after its end", ids[0], state)
	}
	return t, err
}

func storedState(ctx context.Context, st store.Store, id job.ID) (state job.State, err error) {
	err = st.Read(ctx, func(tx store.ReadTx) error {
		j, err := tx.Job(ctx, job.DefaultTenant, id)
		state = j.State
		return err
	})
	return state, err
}

// pickupSteady takes the time from when a job was due, whether the system kept
// up or not.
func (b *bench) pickupSteady(o *bed) comparison {
	n := max(10, b.opt.n/2)
	c := comparison{
		name: "steady", about: fmt.Sprintf("%d jobs a second: from when a job was due to the lease", steadyRate), place: o.place, bed: o,
		limit: o.bare("the same arrivals, two commits and a wake each", func(ctx context.Context) (sample, error) {
			s := sample{n: n}
			begin := time.Now()
			for i := range n {
				due := begin.Add(time.Duration(i) * time.Second / steadyRate)
				time.Sleep(time.Until(due))
				if _, err := o.limit.pickup(ctx, 1); err != nil {
					return s, err
				}
				s.took = append(s.took, time.Since(due))
			}
			s.wall = time.Since(begin)
			return s, nil
		}),
		goals: overHTTPOnly(benchGoal{What: "p50", AtMost: 2}, benchGoal{What: "p99", AtMost: 3}),
	}
	for _, w := range b.bothWays(o) {
		c.ways = append(c.ways, contestant{way: w.name(), run: func(ctx context.Context) (s sample, err error) {
			err = withHand(ctx, w, func(ctx context.Context, ended <-chan endedJob) error {
				s, err = steady(ctx, w, n, ended)
				return err
			})
			return s, err
		}})
	}
	return c
}

// steady submits n jobs when each is due.
func steady(ctx context.Context, w way, n int, ended <-chan endedJob) (sample, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	due := make(map[job.ID]time.Time, n)
	claimed := make(map[job.ID]time.Time, n)
	var mu sync.Mutex // guards due
	var submitting sync.WaitGroup
	defer submitting.Wait()
	watch := startWatch()
	begin := watch.began
	submitting.Go(func() {
		for i := range n {
			at := begin.Add(time.Duration(i) * time.Second / steadyRate)
			time.Sleep(time.Until(at))
			submitting.Go(func() {
				ids, err := w.submit(ctx, 1, benchJob{})
				if err != nil {
					cancel(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				due[ids[0]] = at
			})
		}
	})
	for len(claimed) < n {
		select {
		case e := <-ended:
			claimed[e.id] = e.claimed
		case <-ctx.Done():
			return sample{}, context.Cause(ctx)
		}
	}
	submitting.Wait()
	var took []time.Duration
	for id, at := range due {
		took = append(took, claimed[id].Sub(at))
	}
	return watch.sample(n, took), nil
}
