package storetest

import (
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

var attemptRules = []rule{
	{"EveryFieldComesBack", func(b *bench) {
		j := queued()
		b.insert(j)
		b.same("attempts before the first", b.attempts("", j.ID), []job.Attempt(nil))
		first := attempt(j.ID, 1)
		second := job.Attempt{Job: j.ID, Number: 2, Worker: "w2", Host: "h2", StartedAt: day.Add(time.Hour)}
		b.write(func(tx store.Tx) error { return tx.InsertAttempts(b.Context(), []job.Attempt{first, second}) })
		b.same("attempts", b.attempts(j.Tenant, j.ID), []job.Attempt{first, second})
	}},
	{"ASavedAttemptIsReplaced", func(b *bench) {
		x, y := queued(), queued()
		b.insert(x, y)
		b.write(func(tx store.Tx) error {
			return tx.InsertAttempts(b.Context(), []job.Attempt{{Job: x.ID, Number: 1}, {Job: y.ID, Number: 1, Worker: "kept"}})
		})
		b.write(func(tx store.Tx) error { return tx.SaveAttempts(b.Context(), []job.Attempt{attempt(x.ID, 1)}) })
		b.same("attempts", b.attempts("", x.ID), []job.Attempt{attempt(x.ID, 1)})
		b.same("attempts of others", b.attempts("", y.ID), []job.Attempt{{Job: y.ID, Number: 1, Worker: "kept"}})
	}},
	{"I2_NumbersHaveNoGapAndNoDouble", func(b *bench) {
		j := queued()
		b.insert(j)
		insert := func(numbers ...int) func(store.Tx) error {
			return func(tx store.Tx) error {
				var as []job.Attempt
				for _, n := range numbers {
					as = append(as, job.Attempt{Job: j.ID, Number: n})
				}
				return tx.InsertAttempts(b.Context(), as)
			}
		}
		for _, numbers := range [][]int{{0}, {2}, {-1}, {1, 1}, {1, 3}} {
			b.refused(job.Conflict, insert(numbers...))
		}
		b.write(insert(1, 2))
		b.refused(job.Conflict, insert(2))
		b.refused(job.Conflict, insert(4))
		b.write(insert(3))
		b.same("attempts", len(b.attempts("", j.ID)), 3)
	}},
	{"TheAttemptsOfManyJobsAreReadTogether", func(b *bench) {
		x, y, none := queued(), queued(), queued()
		b.insert(x, y, none)
		second := job.Attempt{Job: x.ID, Number: 2, Worker: "w2", Host: "h2", StartedAt: day}
		b.write(func(tx store.Tx) error {
			return tx.InsertAttempts(b.Context(), []job.Attempt{attempt(x.ID, 1), attempt(y.ID, 1), second})
		})
		var got map[job.ID][]job.Attempt
		b.read(func(tx store.ReadTx) (err error) {
			got, err = tx.AttemptsOf(b.Context(), []job.ID{y.ID, job.NewID(), x.ID, none.ID})
			return err
		})
		b.same("attempts", got, map[job.ID][]job.Attempt{x.ID: {attempt(x.ID, 1), second}, y.ID: {attempt(y.ID, 1)}})
	}},
	{"WhatIsAbsentIsNotFound", func(b *bench) {
		j := queued()
		b.insert(j)
		b.refused(job.NotFound, func(tx store.Tx) error { return tx.InsertAttempts(b.Context(), []job.Attempt{attempt(job.NewID(), 1)}) })
		b.refused(job.NotFound, func(tx store.Tx) error { return tx.SaveAttempts(b.Context(), []job.Attempt{attempt(j.ID, 1)}) })
		b.refused(job.NotFound, func(tx store.Tx) error { return tx.SaveAttempts(b.Context(), []job.Attempt{attempt(job.NewID(), 1)}) })
	}},
	{"G17_AttemptsAndResultsOfAnotherTenantAreNotFound", func(b *bench) {
		j := queued()
		b.insert(j)
		for _, id := range []job.ID{j.ID, job.NewID()} {
			for what, fn := range map[string]func(store.ReadTx) error{
				"attempts": func(tx store.ReadTx) error { _, err := tx.Attempts(b.Context(), "other", id); return err },
				"result":   func(tx store.ReadTx) error { _, err := tx.Result(b.Context(), "other", id); return err },
				"job":      func(tx store.ReadTx) error { _, err := tx.Job(b.Context(), "other", id); return err },
			} {
				if err := b.store.Read(b.Context(), fn); job.CodeOf(err) != job.NotFound {
					b.Errorf("%s: error is %v, want not_found", what, err)
				}
			}
		}
	}},
}

// attempt returns an attempt in which every field is set.
func attempt(id job.ID, n int) job.Attempt {
	return job.Attempt{
		Job: id, Number: n, Worker: "w1", Host: "h1", StartedAt: day, EndedAt: day.Add(time.Minute), Outcome: "signal",
		Exit: &job.Exit{Observed: true, Code: 3, Signal: "SIGKILL", Cause: job.CauseOOM, Step: 2, DiskFull: true, LogDropped: 9,
			PeakRSS: 1 << 30, CPUTime: job.Duration(90 * time.Second), StartedAt: day, EndedAt: day.Add(time.Minute), Wall: job.Duration(time.Minute)},
		Failure: full().Failure,
	}
}

func (b *bench) attempts(t job.Tenant, id job.ID) (as []job.Attempt) {
	b.Helper()
	b.read(func(tx store.ReadTx) (err error) {
		as, err = tx.Attempts(b.Context(), t, id)
		return err
	})
	return as
}
