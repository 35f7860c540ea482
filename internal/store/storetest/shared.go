package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// RunShared checks the rules that hold between two stores on one database, as
// two servers have them. A store that admits one process has nothing to check.
func RunShared(t *testing.T, open func(t *testing.T) (a, b store.Store)) {
	for _, r := range sharedRules {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			a, b := open(t)
			r.check(&bench{T: t, store: a}, &bench{T: t, store: b})
			if err := errors.Join(a.Close(), b.Close()); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}

var sharedRules = []struct {
	name  string
	check func(a, b *bench)
}{
	{"G10_BothHaveTheClockOfTheDatabase", func(a, b *bench) {
		var last time.Time
		for i := range 50 {
			here := []*bench{a, b}[i%2]
			var first, second time.Time
			here.read(func(tx store.ReadTx) error {
				first, second = tx.Now(), tx.Now()
				return nil
			})
			a.same("times in one transaction", second, first)
			if first.Before(last) {
				a.Errorf("%v on one store came after %v on the other", first, last)
			}
			last = first
		}
	}},
	{"WhatOneWroteTheOtherReads", func(a, b *bench) {
		j := full()
		a.insert(j)
		b.same("jobs", b.job(j.ID), j)
		b.move(j.ID, func(j *job.Job) { j.State = job.Queued })
		a.same("state", a.job(j.ID).State, job.Queued)
		a.same("counts", a.counts(""), b.counts(""))
	}},
	{"I13_AFollowerMissesNoEventOfEither", aFollowerMissesNothing},
	{"I13_NoEventArrivesBehindALaterOne", noEventArrivesLate},
	{"AStaleRevIsAConflictOnTheOtherStore", func(a, b *bench) {
		j := queued()
		a.insert(j)
		stale := a.job(j.ID)
		b.move(j.ID, func(j *job.Job) { j.Failures = 7 })
		stale.Failures = 1
		a.refused(job.Conflict, func(tx store.Tx) error { return tx.SaveJobs(a.Context(), []job.Job{stale}) })
		a.same("changes", b.job(j.ID).Failures, 7)
	}},
	{"OfTwoWhoSaveTheSameRevOneWins", func(a, b *bench) {
		j := queued()
		a.insert(j)
		for round := range 20 {
			read := a.job(j.ID)
			a.same("winners", winners(a, b, func(tx store.Tx) error {
				mine := read
				mine.Failures++
				return tx.SaveJobs(a.Context(), []job.Job{mine})
			}), 1)
			a.same("changes", b.job(j.ID).Failures, round+1)
		}
	}},
	{"ALockedJobWaitsForTheOtherStore", func(a, b *bench) {
		x, y := queued(), queued()
		a.insert(x, y)
		const rounds = 25
		// Each locks in an order of its own: two that wait for each other must
		// not fail.
		orders := [][]job.ID{{x.ID, y.ID}, {y.ID, x.ID}}
		var errs [2]error
		var wg sync.WaitGroup
		for i, here := range []*bench{a, b} {
			wg.Go(func() {
				for range rounds {
					errs[i] = errors.Join(errs[i], here.store.Write(here.Context(), func(tx store.Tx) error {
						jobs, err := tx.LockJobs(here.Context(), orders[i])
						if err != nil {
							return err
						}
						for n := range jobs {
							jobs[n].Failures++
						}
						return tx.SaveJobs(here.Context(), jobs)
					}))
				}
			})
		}
		wg.Wait()
		if err := errors.Join(errs[:]...); err != nil {
			a.Fatal(err)
		}
		a.same("changes", []int{a.job(x.ID).Failures, b.job(y.ID).Failures}, []int{2 * rounds, 2 * rounds})
	}},
	{"G3_NoJobIsStartedByBoth", noJobIsStartedTwice},
	{"G2_OneKeyOnBothMakesOneJob", func(a, b *bench) {
		for range 20 {
			key := string(job.NewID())
			a.same("winners", winners(a, b, func(tx store.Tx) error {
				return tx.InsertJobs(a.Context(), []job.Job{keyed("a", key)}, make([]string, 1))
			}), 1)
		}
		a.same("counts", b.counts("a"), []store.Count{{Queue: job.DefaultQueue, State: job.Queued, Jobs: 20}})
	}},
	{"OneIDOnBothMakesOneJob", func(a, b *bench) {
		for range 20 {
			j := queued()
			a.same("winners", winners(a, b, func(tx store.Tx) error {
				return tx.InsertJobs(a.Context(), []job.Job{j}, make([]string, 1))
			}), 1)
			b.job(j.ID)
		}
	}},
	{"I2_OneAttemptNumberIsInsertedOnce", func(a, b *bench) {
		j := queued()
		a.insert(j)
		for n := range 20 {
			a.same("winners", winners(a, b, func(tx store.Tx) error {
				return tx.InsertAttempts(a.Context(), []job.Attempt{{Job: j.ID, Number: n + 1, StartedAt: day}})
			}), 1)
		}
	}},
	{"ADutyThatNobodyHadYetIsLedByOne", func(a, b *bench) {
		for n := range 20 {
			a.same("leaders", winners(a, b, func(tx store.Tx) error {
				leads, err := tx.Lead(a.Context(), fmt.Sprint("duty ", n), string(job.NewID()), time.Hour)
				if err == nil && !leads {
					err = job.Errorf(job.Conflict, "another leads")
				}
				return err
			}), 1)
		}
	}},
	{"OneLeadsAtATime", func(a, b *bench) {
		for range 20 {
			var held [2]bool
			var errs [2]error
			var wg sync.WaitGroup
			for i, here := range []*bench{a, b} {
				wg.Go(func() {
					errs[i] = here.store.Write(here.Context(), func(tx store.Tx) (err error) {
						held[i], err = tx.Lead(here.Context(), "leader", []string{"a", "b"}[i], time.Hour)
						return err
					})
				})
			}
			wg.Wait()
			if err := errors.Join(errs[:]...); err != nil || held[0] == held[1] {
				a.Fatalf("both asked to lead: %v, %v", held, err)
			}
			if held[0] {
				b.lead("b", time.Hour, false)
				a.lead("a", 0, true) // gives it up
			} else {
				a.lead("a", time.Hour, false)
				b.lead("b", 0, true)
			}
		}
	}},
	{"ATicketIsAnsweredOnce", func(a, b *bench) {
		for n := range 20 {
			t := ticket(fmt.Sprint(n))
			a.saveTickets(t)
			a.same("winners", winners(a, b, func(tx store.Tx) error {
				ts, err := tx.Tickets(a.Context(), t.Door, []string{t.ID})
				if err != nil {
					return err
				}
				if ts[0].State == store.TicketAnswered {
					return job.Errorf(job.Conflict, "it is answered")
				}
				ts[0].State = store.TicketAnswered
				return tx.SaveTickets(a.Context(), ts)
			}), 1)
		}
	}},
	{"ADueTicketIsTakenByOne", func(a, b *bench) {
		for n := range 20 {
			t := ticket(fmt.Sprint(n))
			t.Due = day
			a.saveTickets(t)
			a.same("winners", winners(a, b, func(tx store.Tx) error {
				ts, err := tx.TicketsDue(a.Context(), t.Door, 1)
				if err == nil && len(ts) == 0 {
					err = job.Errorf(job.Conflict, "nothing is due")
				}
				if err != nil {
					return err
				}
				ts[0].Due = tx.Now().Add(time.Hour)
				return tx.SaveTickets(a.Context(), ts)
			}), 1)
		}
	}},
	{"NewLanesOfBothAreOne", func(a, b *bench) {
		for n := range 20 {
			a.same("winners", winners(a, b, func(tx store.Tx) error {
				j := queuedAs(func(j *job.Job) { j.Spec.Demand.CPUs = n + 1 })
				return tx.InsertJobs(a.Context(), []job.Job{j}, make([]string, 1))
			}), 2)
		}
		b.read(func(tx store.ReadTx) error {
			lanes, err := tx.Lanes(b.Context())
			b.same("lanes", len(lanes), 20)
			return err
		})
		a.same("counts", a.counts(""), []store.Count{{Queue: job.DefaultQueue, State: job.Queued, Jobs: 40}})
	}},
}

// winners lets both stores write the same at once, and returns how many could;
// the others must have met a conflict.
func winners(a, b *bench, fn func(store.Tx) error) int {
	a.Helper()
	var won atomic.Int32
	var wg sync.WaitGroup
	for _, here := range []*bench{a, b} {
		wg.Go(func() {
			err := here.store.Write(here.Context(), fn)
			if err == nil {
				won.Add(1)
			} else if job.CodeOf(err) != job.Conflict {
				here.Errorf("error is %v, want a conflict", err)
			}
		})
	}
	wg.Wait()
	return int(won.Load())
}

// aFollowerMissesNothing reads on from the last event it has seen, on either
// store, while both append.
func aFollowerMissesNothing(a, b *bench) {
	const callers, rounds = 3, 20
	ctx, cancel := context.WithCancel(a.Context())
	defer cancel()
	var seen []job.Event
	var following sync.WaitGroup
	following.Go(func() {
		last := int64(0)
		for i := 0; ; i++ {
			ended := ctx.Err() != nil // what was written before is read once more
			var page []job.Event
			here := []*bench{a, b}[i%2]
			err := here.store.Read(here.Context(), func(tx store.ReadTx) (err error) {
				page, err = tx.EventsAfter(here.Context(), "", "", last, 5)
				return err
			})
			if err != nil {
				here.Errorf("follow: %v", err)
				return
			}
			for _, e := range page {
				seen, last = append(seen, e), e.Seq
			}
			if ended && len(page) == 0 {
				return
			}
		}
	})
	var writing sync.WaitGroup
	for _, here := range []*bench{a, b} {
		for range callers {
			writing.Go(func() {
				for range rounds {
					j := queued()
					err := here.store.Write(here.Context(), func(tx store.Tx) error {
						if err := tx.InsertJobs(here.Context(), []job.Job{j}, make([]string, 1)); err != nil {
							return err
						}
						return tx.AppendEvents(here.Context(), []job.Event{{Job: j.ID, Kind: job.EventSubmitted}, {Job: j.ID, Kind: job.EventQueued}})
					})
					if err != nil {
						here.Errorf("append: %v", err)
					}
				}
			})
		}
	}
	writing.Wait()
	cancel()
	following.Wait()
	all := a.events("", "", 0, 1000)
	a.same("events", len(all), 2*callers*rounds*2)
	a.same("the events of a follower", seen, all)
}

// noEventArrivesLate keeps a transaction of one store open after it has
// appended, while the other store appends and commits if it can.
func noEventArrivesLate(a, b *bench) {
	var seen []job.Event
	follow := func() {
		last := int64(0)
		if len(seen) > 0 {
			last = seen[len(seen)-1].Seq
		}
		seen = append(seen, b.events("", "", last, 1000)...)
	}
	const rounds = 20
	for range rounds {
		appended, goOn := make(chan struct{}), make(chan struct{})
		var once sync.Once // a transaction may run again
		var errs [2]error
		var wg sync.WaitGroup
		wg.Go(func() {
			errs[0] = a.store.Write(a.Context(), func(tx store.Tx) error {
				err := tx.AppendEvents(a.Context(), []job.Event{{Kind: job.EventHeld}})
				once.Do(func() { close(appended) })
				<-goOn
				return err
			})
		})
		<-appended
		wg.Go(func() {
			errs[1] = b.store.Write(b.Context(), func(tx store.Tx) error {
				return tx.AppendEvents(b.Context(), []job.Event{{Kind: job.EventReleased}})
			})
		})
		for range 5 { // each leaves the second writer time to overtake
			follow()
		}
		close(goOn)
		wg.Wait()
		if err := errors.Join(errs[:]...); err != nil {
			a.Fatal(err)
		}
		follow()
	}
	all := a.events("", "", 0, 1000)
	a.same("events", len(all), 2*rounds)
	a.same("the events of a follower", seen, all)
}

// noJobIsStartedTwice lets both stores claim until nothing is left.
func noJobIsStartedTwice(a, b *bench) {
	const n = 60
	jobs := make([]job.Job, n)
	for i := range jobs {
		jobs[i] = queued()
	}
	a.insert(jobs...)
	var errs [2]error
	var wg sync.WaitGroup
	for i, here := range []*bench{a, b} {
		wg.Go(func() {
			for left := true; left && errs[i] == nil; {
				left, errs[i] = startSome(here, 5)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		a.Fatal(err)
	}
	for _, j := range jobs {
		got := b.job(j.ID)
		if got.State != job.Running || got.Attempt != 1 || got.Rev != 1 {
			a.Errorf("job %s is %s, attempt %d, rev %d", j.ID, got.State, got.Attempt, got.Rev)
		}
	}
	a.same("counts", a.counts(""), []store.Count{{Queue: job.DefaultQueue, State: job.Running, Jobs: n}})
}

// startSome starts those of the first jobs of all lanes that nobody has
// started, and reports whether there were any.
func startSome(b *bench, max int) (any bool, err error) {
	ctx := b.Context()
	err = b.store.Write(ctx, func(tx store.Tx) error {
		any = false
		lanes, err := tx.Lanes(ctx)
		if err != nil || len(lanes) == 0 {
			return err
		}
		any = true
		heads, err := tx.Heads(ctx, []store.LaneID{lanes[0].ID}, max)
		if err != nil {
			return err
		}
		locked, err := tx.LockJobs(ctx, headIDs(heads))
		if err != nil {
			return err
		}
		var started []job.Job
		var attempts []job.Attempt
		for _, j := range locked {
			if j.State == job.Queued {
				j.State = job.Running
				j.Attempt++
				started = append(started, j)
				attempts = append(attempts, job.Attempt{Job: j.ID, Number: j.Attempt, StartedAt: tx.Now()})
			}
		}
		if err := tx.SaveJobs(ctx, started); err != nil {
			return err
		}
		return tx.InsertAttempts(ctx, attempts)
	})
	return any, err
}
