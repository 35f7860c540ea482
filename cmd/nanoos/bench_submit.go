package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// submit measures one job a call and many jobs a call.
func (b *bench) submit(ctx context.Context, place benchPlace) (err error) {
	o, err := b.openBed(ctx, place)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	for _, callers := range []int{1, 8} {
		if err := b.compare(ctx, b.submitBy(o, callers)); err != nil {
			return err
		}
	}
	return b.compare(ctx, b.submitBulk(o))
}

func (b *bench) submitBy(o *bed, callers int) comparison {
	n := b.opt.n
	c := comparison{
		name: fmt.Sprintf("submit-%d", callers), about: fmt.Sprintf("one job a call, %d at a time, all with the same parameters", callers), place: o.place, bed: o,
		limit: o.bare("one row a call, those that wait share a commit", func(ctx context.Context) (sample, error) {
			return timed(n, func() ([]time.Duration, error) { return o.limit.submit(ctx, callers, n) })
		}),
		goals: overHTTPOnly(benchGoal{What: "rate", AtLeast: 0.5}),
	}
	for _, make := range []func() way{func() way { return inProcess{o} }, func() way { return newOverHTTP(o) }} {
		clients := []way{}
		for range callers {
			clients = append(clients, make())
		}
		c.ways = append(c.ways, contestant{way: clients[0].name(), run: func(ctx context.Context) (sample, error) {
			return repeat(n, callers, func(i int) error { _, err := clients[i].submit(ctx, 1, benchJob{}); return err })
		}})
	}
	return c
}

// submitBulk measures many jobs a call; a latency is that of a call.
func (b *bench) submitBulk(o *bed) comparison {
	calls := max(1, 5*b.opt.n/bulk)
	c := comparison{
		name: "submit-bulk", about: fmt.Sprintf("%d jobs a call, all with the same parameters", bulk), place: o.place, bed: o,
		limit: o.bare(fmt.Sprintf("%d rows a commit", bulk), func(ctx context.Context) (sample, error) {
			return timed(calls*bulk, func() ([]time.Duration, error) { return o.limit.bulk(ctx, calls*bulk) })
		}),
		goals: overHTTPOnly(benchGoal{What: "rate", AtLeast: 0.4}),
	}
	for _, w := range b.bothWays(o) {
		c.ways = append(c.ways, contestant{way: w.name(), run: func(ctx context.Context) (sample, error) {
			s, err := repeat(calls, 1, func(int) error { _, err := w.submit(ctx, bulk, benchJob{}); return err })
			s.n *= bulk
			return s, err
		}})
	}
	return c
}
