package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// backlog measures claims beside few jobs, beside many that fit, and behind many
// that do not. Few are the limit of the others.
func (b *bench) backlog(ctx context.Context, place benchPlace) (err error) {
	few, err := b.openBed(ctx, place)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, few.close()) }()
	for _, c := range []struct {
		name, about string
		n           int
		like        func(i int) benchJob
	}{
		{"backlog", fmt.Sprintf("claims beside %d jobs that fit", b.opt.backlog), b.opt.backlog - bulk, func(int) benchJob { return benchJob{} }},
		{"unfit", fmt.Sprintf("claims behind %d jobs that do not fit", b.opt.unfit), b.opt.unfit, tooLarge},
	} {
		if err := b.claimsBeside(ctx, few, c.name, c.about, c.n, c.like); err != nil {
			return err
		}
	}
	return nil
}

// unfitKinds is how many different demands the jobs have that do not fit.
const unfitKinds = 50

// tooLarge is a job before all others that no worker here can run.
func tooLarge(i int) benchJob {
	return benchJob{cpus: drainSlots + 1 + i%unfitKinds, priority: job.PriorityNormal + 1}
}

func (b *bench) claimsBeside(ctx context.Context, few *bed, name, about string, n int, like func(i int) benchJob) (err error) {
	many, err := b.openBed(ctx, few.place)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, many.close()) }()
	for at := 0; at < n; at += bulk {
		if err := fill(ctx, inProcess{many}, min(bulk, n-at), like(at/bulk)); err != nil {
			return err
		}
	}
	b.say("  %s: %d jobs are queued", name, n)
	fewWays, manyWays := b.bothWays(few), b.bothWays(many)
	for i, w := range manyWays {
		c := comparison{
			name: name, about: about, place: few.place, bed: many,
			limit: few.bare(fmt.Sprintf("claims beside %d jobs", bulk), func(ctx context.Context) (sample, error) { return claims(ctx, fewWays[i]) }),
			ways:  []contestant{{way: w.name(), run: func(ctx context.Context) (sample, error) { return claims(ctx, w) }}},
			// Within 1.2 times.
			goals: func(string) []benchGoal { return []benchGoal{{What: "rate", AtLeast: 0.83}} },
		}
		if err := b.compare(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// claims adds jobs that fit and takes the time of claims of as many. Their ends
// are not part of it.
func claims(ctx context.Context, w way) (s sample, err error) {
	if err := fill(ctx, w, bulk, benchJob{}); err != nil {
		return s, err
	}
	h, leave, err := hire(ctx, w, "bench")
	if err != nil {
		return s, err
	}
	defer leave()
	for s.n < bulk {
		began := time.Now()
		leases, err := h.claim(ctx, drainSlots)
		if err != nil {
			return s, err
		}
		took := time.Since(began)
		s.n, s.wall, s.took = s.n+len(leases), s.wall+took, append(s.took, took)
		if err := h.endAll(ctx, leases); err != nil {
			return s, err
		}
	}
	return s, nil
}

// endAll ends jobs together.
func (h *hand) endAll(ctx context.Context, leases []job.Lease) error {
	ends := make(chan error, len(leases))
	for _, l := range leases {
		go func() { ends <- h.queue.Finish(ctx, l, h.out) }()
	}
	var errs []error
	for range leases {
		errs = append(errs, <-ends)
	}
	return errors.Join(errs...)
}
