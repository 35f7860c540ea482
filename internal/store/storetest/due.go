package storetest

import (
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

var dueRules = []rule{
	{"PendingJobsAreDueEarliestFirst", func(b *bench) {
		late, early, tie := b.pending(-time.Minute), b.pending(-time.Hour), b.pending(0)
		tie.RunAt = early.RunAt
		b.insert(late, early, tie, b.pending(time.Hour))
		b.same("due jobs", b.due(10), []job.ID{early.ID, tie.ID, late.ID})
		b.same("first due jobs", b.due(1), []job.ID{early.ID})
		b.same("no due jobs", b.due(0), []job.ID(nil))
		b.same("next due", b.nextDue(), early.RunAt)
	}},
	{"AJobWithoutARunTimeIsNeverDue", func(b *bench) {
		held := b.pending(0)
		held.RunAt = time.Time{}
		b.insert(held)
		b.same("due jobs", b.due(10), []job.ID(nil))
		b.same("next due", b.nextDue(), time.Time{})
	}},
	{"OnlyPendingJobsAreDue", func(b *bench) {
		for _, s := range job.States {
			j := b.pending(-time.Hour)
			j.State = s
			if s != job.Pending {
				b.insert(j)
			}
		}
		b.same("due jobs", b.due(10), []job.ID(nil))
		b.same("next due", b.nextDue(), time.Time{})
	}},
	{"AJobThatHasBecomeQueuedIsNotDueAnyMore", func(b *bench) {
		first, second := b.pending(-time.Hour), b.pending(time.Hour)
		b.insert(first, second)
		b.move(first.ID, func(j *job.Job) { j.State = job.Queued })
		b.same("due jobs", b.due(10), []job.ID(nil))
		b.same("next due", b.nextDue(), second.RunAt)
	}},
	{"NowIsConstantWithinATransaction", func(b *bench) {
		var first, second, reading time.Time
		b.write(func(tx store.Tx) error {
			first = tx.Now()
			if err := tx.SetMeta(b.Context(), "some", "work"); err != nil {
				return err
			}
			second = tx.Now()
			return nil
		})
		b.read(func(tx store.ReadTx) error {
			reading = tx.Now()
			return nil
		})
		if first.IsZero() || !first.Equal(second) || reading.Before(first) {
			b.Errorf("the clock shows %v, %v and then %v", first, second, reading)
		}
	}},
}

// pending returns a job that becomes due after d by the store's clock.
func (b *bench) pending(d time.Duration) job.Job {
	b.Helper()
	var now time.Time
	b.read(func(tx store.ReadTx) error {
		now = tx.Now()
		return nil
	})
	return queuedAs(func(j *job.Job) { j.State, j.Reason, j.RunAt = job.Pending, job.ReasonRetry, now.Add(d) })
}

func (b *bench) due(limit int) (ids []job.ID) {
	b.Helper()
	b.read(func(tx store.ReadTx) (err error) {
		ids, err = tx.Due(b.Context(), limit)
		return err
	})
	return ids
}

func (b *bench) nextDue() (at time.Time) {
	b.Helper()
	b.read(func(tx store.ReadTx) (err error) {
		at, err = tx.NextDue(b.Context())
		return err
	})
	return at
}
