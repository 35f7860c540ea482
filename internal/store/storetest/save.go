package storetest

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

var saveRules = []rule{
	{"EveryFieldThatMayChangeIsWritten", func(b *bench) {
		j := queued()
		b.insert(j)
		want := full()
		want.ID, want.Tenant, want.CreatedAt, want.Spec, want.Rev = j.ID, j.Tenant, j.CreatedAt, j.Spec, j.Rev
		want.State, want.Spec.Priority, want.Result = job.Running, 19, nil
		b.save(want)
		want.Rev++
		b.same("jobs", b.job(j.ID), want)
		clear := j
		clear.State, clear.Rev = job.Queued, want.Rev
		b.save(clear)
		clear.Rev++
		b.same("cleared jobs", b.job(j.ID), clear)
	}},
	{"SpecTenantAndCreationNeverChange", func(b *bench) {
		j := full()
		j.State = job.Pending
		b.insert(j)
		c := full()
		c.ID, c.State, c.Rev, c.Tenant, c.CreatedAt = j.ID, job.Pending, j.Rev, "thieves", day.Add(time.Hour)
		c.Spec.Name, c.Spec.Queue, c.Spec.Labels, c.Spec.Priority = "other", "other", nil, j.Spec.Priority
		b.save(c)
		got := b.job(j.ID)
		b.same("specs", got.Spec, j.Spec)
		b.same("tenants", got.Tenant, j.Tenant)
		b.same("creation", got.CreatedAt, j.CreatedAt)
	}},
	{"TheRevisionRisesInTheStoreAndInTheCallersCopy", func(b *bench) {
		jobs := []job.Job{queued(), queuedAs(func(j *job.Job) { j.Rev = 7 })}
		b.insert(jobs...)
		b.save(jobs...)
		for i, want := range []int64{1, 8} {
			b.same("revisions of the copy", jobs[i].Rev, want)
			b.same("revisions in the store", b.job(jobs[i].ID).Rev, want)
		}
		b.save(jobs...)
		b.same("revisions", b.job(jobs[1].ID).Rev, int64(9))
	}},
	{"AStaleRevisionIsAConflictAndNothingIsSaved", func(b *bench) {
		first, second := queued(), queued()
		b.insert(first, second)
		stale := second
		b.move(second.ID, func(j *job.Job) { j.Message = "newer" })
		first.Message = "lost"
		b.refused(job.Conflict, func(tx store.Tx) error { return tx.SaveJobs(b.Context(), []job.Job{first, stale}) })
		b.same("messages", []string{b.job(first.ID).Message, b.job(second.ID).Message}, []string{"", "newer"})
	}},
	{"ARefusedSaveLeavesTheTransactionUsable", func(b *bench) {
		first, second := queued(), queued()
		b.insert(first, second)
		b.write(func(tx store.Tx) error {
			stale := []job.Job{first, second}
			stale[0].Message, stale[1].Rev = "lost", 5
			if err := tx.SaveJobs(b.Context(), stale); job.CodeOf(err) != job.Conflict {
				return errors.New("a stale revision is not refused")
			}
			second.Message = "kept"
			return tx.SaveJobs(b.Context(), []job.Job{second})
		})
		b.same("messages", []string{b.job(first.ID).Message, b.job(second.ID).Message}, []string{"", "kept"})
	}},
	{"OneJobTwiceIsAConflict", func(b *bench) {
		j := queued()
		b.insert(j)
		b.refused(job.Conflict, func(tx store.Tx) error { return tx.SaveJobs(b.Context(), []job.Job{j, j}) })
	}},
	{"AnAbsentJobIsNotFound", func(b *bench) {
		b.refused(job.NotFound, func(tx store.Tx) error { return tx.SaveJobs(b.Context(), []job.Job{queued()}) })
	}},
	{"I4_OnlyPermittedMovesAreSaved", func(b *bench) {
		for _, from := range job.States {
			for _, to := range job.States {
				j := queued()
				j.State = from
				b.insert(j)
				j.State = to
				err := b.store.Write(b.Context(), func(tx store.Tx) error { return tx.SaveJobs(b.Context(), []job.Job{j}) })
				want := job.Code("")
				if !job.CanMove(from, to) {
					want, to = job.Conflict, from
				}
				if job.CodeOf(err) != want {
					b.Errorf("%s to %s: error is %v, want code %q", from, j.State, err, want)
				}
				b.same("states", b.job(j.ID).State, to)
			}
		}
	}},
	{"AnEmptyResultKeepsTheStoredOne", func(b *bench) {
		j := queuedAs(func(j *job.Job) { j.State, j.Result = job.Running, json.RawMessage(`{"e": 1}`) })
		b.insert(j)
		b.move(j.ID, func(j *job.Job) { j.Message = "still there" })
		b.same("results", b.result(j.ID), `{"e": 1}`)
		b.move(j.ID, func(j *job.Job) { j.State, j.Result = job.Completed, json.RawMessage(`{"e": 2}`) })
		b.same("results", b.result(j.ID), `{"e": 2}`)
	}},
	{"AJobThatStartsAgainLosesItsResultAndFailure", func(b *bench) {
		for _, ended := range []job.State{job.Failed, job.Cancelled} {
			j := full()
			j.State, j.Result = ended, json.RawMessage(`{"e": 1}`)
			b.insert(j)
			again := []job.Job{j}
			again[0].State, again[0].Result = job.Queued, json.RawMessage(`{"e": 2}`)
			b.save(again...)
			b.same("results", b.result(j.ID), "")
			for _, got := range []job.Job{again[0], b.job(j.ID)} {
				if got.Failure != nil || got.Result != nil || got.Rev != j.Rev+1 {
					b.Errorf("job is %+v", got)
				}
			}
		}
	}},
	{"LockedJobsComeInTheOrderAskedAndAbsentOnesAreLeftOut", func(b *bench) {
		x, y, z := full(), full(), full()
		b.insert(x, y, z)
		var got []job.Job
		b.write(func(tx store.Tx) (err error) {
			got, err = tx.LockJobs(b.Context(), []job.ID{z.ID, job.NewID(), x.ID, y.ID})
			return err
		})
		b.same("jobs", got, []job.Job{z, x, y})
		b.write(func(tx store.Tx) (err error) {
			got, err = tx.LockJobs(b.Context(), nil)
			return err
		})
		b.same("jobs", got, []job.Job(nil))
	}},
	{"G3_ProgressIsSavedForTheCurrentOwnerOnly", func(b *bench) {
		mine := queuedAs(func(j *job.Job) { j.State, j.Fence = job.Running, 3 })
		lost := queuedAs(func(j *job.Job) { j.State, j.Fence = job.Running, 4 })
		ended := queuedAs(func(j *job.Job) { j.State, j.Fence = job.Completed, 3 })
		quiet := queuedAs(func(j *job.Job) { j.State, j.Fence, j.Progress = job.Running, 3, &job.Progress{Fraction: 0.1} })
		b.insert(mine, lost, ended, quiet)
		p := full().Progress
		b.write(func(tx store.Tx) error {
			return tx.SaveProgress(b.Context(), []job.Held{
				{ID: lost.ID, Fence: 3, Progress: p}, {ID: ended.ID, Fence: 3, Progress: p}, {ID: job.NewID(), Fence: 3, Progress: p},
				{ID: quiet.ID, Fence: 3}, {ID: mine.ID, Fence: 3, Progress: p},
			})
		})
		want := mine
		want.Progress = p
		b.same("the owner's job", b.job(mine.ID), want)
		for _, j := range []job.Job{lost, ended, quiet} {
			b.same("jobs of others", b.job(j.ID), j)
		}
	}},
	{"ProgressLastsUntilASaveChangesIt", func(b *bench) {
		j := queuedAs(func(j *job.Job) { j.State, j.Fence = job.Running, 1 })
		b.insert(j)
		for _, fraction := range []float64{0.25, 0.5} {
			b.write(func(tx store.Tx) error {
				return tx.SaveProgress(b.Context(), []job.Held{{ID: j.ID, Fence: 1, Progress: &job.Progress{Fraction: fraction}}})
			})
			b.same("progress", b.job(j.ID).Progress, &job.Progress{Fraction: fraction})
		}
		b.move(j.ID, func(j *job.Job) { j.Message = "unrelated" })
		b.same("progress", b.job(j.ID).Progress, &job.Progress{Fraction: 0.5})
		b.move(j.ID, func(j *job.Job) { j.Progress = nil })
		b.same("progress", b.job(j.ID).Progress, (*job.Progress)(nil))
	}},
	{"AChangeIsVisibleToTheRestOfItsTransaction", func(b *bench) {
		j := queued()
		b.insert(j)
		var jobs []job.Job
		var counts []store.Count
		b.write(func(tx store.Tx) error {
			got, err := tx.LockJobs(b.Context(), []job.ID{j.ID})
			if err != nil {
				return err
			}
			got[0].State, got[0].Worker = job.Running, "w"
			if err := tx.SaveJobs(b.Context(), got); err != nil {
				return err
			}
			if jobs, err = tx.RunningOn(b.Context(), "w"); err != nil {
				return err
			}
			counts, err = tx.Counts(b.Context(), "")
			return err
		})
		b.same("running jobs", idsOf(jobs), []job.ID{j.ID})
		b.same("counts", counts, []store.Count{{Queue: j.Spec.Queue, State: job.Running, Jobs: 1}})
	}},
}
