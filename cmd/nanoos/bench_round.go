package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// sample is one measurement of one round.
type sample struct {
	n    int
	wall time.Duration
	cpu  time.Duration   // of this process
	took []time.Duration // of each call or job
}

func (s sample) numbers() benchNumbers {
	slices.Sort(s.took)
	at := func(q float64) float64 {
		if len(s.took) == 0 {
			return 0
		}
		return s.took[min(int(q*float64(len(s.took))), len(s.took)-1)].Seconds() * 1e3
	}
	return benchNumbers{N: s.n, Value: float64(s.n) / s.wall.Seconds(), CPU: float64(s.cpu.Microseconds()) / float64(s.n), P50: at(0.5), P99: at(0.99), Max: at(1)}
}

// contestant is one who takes a turn in every round.
type contestant struct {
	way   string
	about string // of a limit
	run   func(context.Context) (sample, error)
}

// comparison is one row for each contestant beside the limit.
type comparison struct {
	name, about string
	place       benchPlace
	bed         *bed // for what its commits took; nil: there are none
	limit       *contestant
	ways        []contestant
	goals       func(way string) []benchGoal // nil: none
}

// compare lets the limit and the ways take turns, in an order that changes from
// round to round, and adds their rows to the report.
func (b *bench) compare(ctx context.Context, c comparison) error {
	all := c.ways
	if c.limit != nil {
		all = append([]contestant{*c.limit}, c.ways...)
	}
	rounds := make(map[string][]benchNumbers)
	stall := watchDisk()
	for round := range b.opt.rounds {
		order := slices.Clone(all)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, one := range order {
			s, err := one.run(ctx)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", c.name, one.way, err)
			}
			n := s.numbers()
			b.say("  %s, %s: %.0f/s, p50 %.2f ms, p99 %.2f ms", c.name, one.way, n.Value, n.P50, n.P99)
			rounds[one.way] = append(rounds[one.way], n)
		}
	}
	for _, way := range c.ways {
		row := benchRow{Name: c.name, About: c.about, Database: c.place.name, Way: way.way, Unit: "jobs/s",
			benchNumbers: medians(rounds[way.way]), Rounds: rounds[way.way], Stall: stall()}
		if c.bed != nil {
			row.CommitMS = c.bed.store.Stats().AvgCommit.Seconds() * 1e3
		}
		var limits []benchNumbers
		if c.limit != nil {
			limits = rounds[c.limit.way]
			row.Limit = &benchLimitRow{About: c.limit.about, benchNumbers: medians(limits), Rounds: limits}
		}
		if c.goals != nil {
			for _, g := range c.goals(way.way) {
				row.Goals = append(row.Goals, g.judge(row.Rounds, limits))
			}
		}
		b.report.Rows = append(b.report.Rows, row)
	}
	return nil
}

// watchDisk begins to watch the pressure on the disk, and returns what ends it.
func watchDisk() func() *benchStall {
	began := time.Now()
	some, full, ok := diskWait()
	return func() *benchStall {
		someNow, fullNow, okNow := diskWait()
		if !ok || !okNow {
			return nil
		}
		wall := time.Since(began).Seconds()
		return &benchStall{Some: 100 * (someNow - some).Seconds() / wall, Full: 100 * (fullNow - full).Seconds() / wall}
	}
}

// timed measures a call that says what each job took.
func timed(n int, run func() ([]time.Duration, error)) (sample, error) {
	w := startWatch()
	took, err := run()
	return w.sample(n, took), err
}

// repeat makes n calls from some callers at once.
func repeat(n, callers int, call func(caller int) error) (sample, error) {
	took := make([]time.Duration, n)
	errs := make([]error, callers)
	w := startWatch()
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := c; i < n && errs[c] == nil; i += callers {
				start := time.Now()
				errs[c] = call(c)
				took[i] = time.Since(start)
			}
		})
	}
	wg.Wait()
	return w.sample(n, took), errors.Join(errs...)
}

// watch is the begin of a measurement.
type watch struct {
	began time.Time
	cpu   time.Duration
}

func startWatch() watch { return watch{time.Now(), processorTime()} }

func (w watch) sample(n int, took []time.Duration) sample {
	return sample{n: n, wall: time.Since(w.began), cpu: processorTime() - w.cpu, took: took}
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var used unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &used) != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
