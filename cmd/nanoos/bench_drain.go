package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/worker"
)

const (
	// drainWorkers claim at the same time, each for drainSlots jobs.
	drainWorkers = 2
	drainSlots   = 100
	// claimAtOnce is how many jobs a worker asks for in one call.
	claimAtOnce = 64
)

// drain measures claims, and ends with a stored result, of jobs that end at once.
func (b *bench) drain(ctx context.Context, place benchPlace) (err error) {
	o, err := b.openBed(ctx, place)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	n := 5 * b.opt.n
	least := map[string]float64{"sqlite": 0.35, "postgresql": 0.5}[place.name]
	c := comparison{
		name: "drain", about: fmt.Sprintf("%d workers of %d slots claim and finish jobs that end at once", drainWorkers, drainSlots), place: place, bed: o,
		limit: o.bare(fmt.Sprintf("ends and the next claim in one commit, %d jobs", drainSlots), func(ctx context.Context) (sample, error) {
			if _, err := o.limit.bulk(ctx, n); err != nil {
				return sample{}, err
			}
			return timed(n, func() ([]time.Duration, error) { return o.limit.drain(ctx, n) })
		}),
		goals: overHTTPOnly(benchGoal{What: "rate", AtLeast: least}),
	}
	for _, w := range b.bothWays(o) {
		c.ways = append(c.ways, contestant{way: w.name(), run: func(ctx context.Context) (sample, error) {
			if err := fill(ctx, w, n, benchJob{}); err != nil {
				return sample{}, err
			}
			return drainBy(ctx, w, n)
		}})
	}
	return b.compare(ctx, c)
}

// drainBy empties a queue of n jobs and takes the time of each from the claim's
// answer to the end's.
func drainBy(ctx context.Context, w way, n int) (sample, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := drained{n: n, all: cancel}
	errs := make([]error, drainWorkers)
	hands := make([]*hand, drainWorkers)
	for i := range hands {
		h, leave, err := hire(ctx, w, fmt.Sprintf("bench-%d", i))
		if err != nil {
			return sample{}, err
		}
		defer leave()
		hands[i] = h
	}
	began := startWatch()
	var wg sync.WaitGroup
	for i, h := range hands {
		wg.Go(func() { errs[i] = h.work(ctx, d.ended) })
	}
	wg.Wait()
	s := began.sample(n, d.took)
	s.wall = d.last.Sub(began.began) // the claims that were open end later
	return s, errors.Join(errs...)
}

// drained counts what was drained.
type drained struct {
	n   int
	all func() // called when n have ended

	mu   sync.Mutex
	took []time.Duration // guarded by mu
	last time.Time       // guarded by mu
}

func (d *drained) ended(_ job.ID, claimed, ended time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.took = append(d.took, ended.Sub(claimed))
	d.last = ended
	if len(d.took) == d.n {
		d.all()
	}
}

// hand stands for a worker whose jobs end as soon as they are claimed. It keeps
// one claim open while it has free slots, and ends each job for itself, as a
// worker does.
type hand struct {
	queue worker.Queue
	name  string
	offer job.Offer
	out   job.Outcome
}

// hire attaches a worker.
func hire(ctx context.Context, w way, name string) (*hand, func(), error) {
	report, err := json.Marshal(engine.Report{Result: engine.Result{Outcome: engine.Success, Verdict: job.Converged}})
	if err != nil {
		return nil, nil, err
	}
	queue, leave := w.worker()
	h := &hand{queue: queue, name: name, offer: job.Offer{CPUs: drainSlots, Memory: drainSlots * memoryEach, Engines: []string{"mock"}}}
	h.out = job.Outcome{Verdict: job.Converged, Result: sized(report, 300), Exit: &job.Exit{Observed: true}}
	if _, err := queue.Attach(ctx, job.Session{Worker: name, Host: name, Boot: name, Offer: h.offer}, nil); err != nil {
		leave()
		return nil, nil, err
	}
	return h, leave, nil
}

// sized adds a field to a JSON object, so that it has so many bytes.
func sized(object []byte, size int) json.RawMessage {
	const field = `,"note":""}`
	return json.RawMessage(strings.TrimSuffix(string(object), "}") + `,"note":"` + strings.Repeat("y", max(0, size-len(object)+1-len(field))) + `"}`)
}

// work claims and ends jobs until ctx ends; ended hears of each.
func (h *hand) work(ctx context.Context, ended func(id job.ID, claimed, ended time.Time)) error {
	held := make(chan struct{}, drainSlots)
	var ending sync.WaitGroup
	defer ending.Wait()
	var failed failure
	for ctx.Err() == nil && failed.get() == nil {
		// The claim is open while one slot is free, and asks for all that are.
		held <- struct{}{}
		<-held
		leases, err := h.claim(ctx, drainSlots-len(held))
		if err != nil && ctx.Err() == nil {
			return err
		}
		claimed := time.Now()
		for _, l := range leases {
			held <- struct{}{}
			ending.Go(func() {
				defer func() { <-held }()
				if err := h.queue.Finish(context.WithoutCancel(ctx), l, h.out); err != nil {
					failed.set(err)
					return
				}
				ended(l.Job.ID, claimed, time.Now())
			})
		}
	}
	ending.Wait()
	return failed.get()
}

// claimPatience is how long an idle claim stays open.
const claimPatience = 30 * time.Second

func (h *hand) claim(ctx context.Context, slots int) ([]job.Lease, error) {
	free := h.offer
	free.CPUs, free.Memory = slots, int64(slots)*memoryEach
	return h.queue.Claim(ctx, h.name, free, min(slots, claimAtOnce), claimPatience)
}

// failure keeps the first error of several goroutines.
type failure struct {
	mu  sync.Mutex
	err error // guarded by mu
}

func (f *failure) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

func (f *failure) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}
