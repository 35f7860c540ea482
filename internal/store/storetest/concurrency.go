package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

var concurrencyRules = []rule{
	{"ConcurrentChangesOfOneRowAreNeverLost", func(b *bench) {
		j := queued()
		b.insert(j)
		const callers, rounds = 8, 25
		errs := make([]error, callers)
		var wg sync.WaitGroup
		for c := range callers {
			wg.Go(func() {
				for range rounds {
					errs[c] = errors.Join(errs[c], b.store.Write(b.Context(), func(tx store.Tx) error {
						jobs, err := tx.LockJobs(b.Context(), []job.ID{j.ID})
						if err != nil {
							return err
						}
						jobs[0].Failures++
						return tx.SaveJobs(b.Context(), jobs)
					}))
				}
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			b.Fatal(err)
		}
		b.same("changes", b.job(j.ID).Failures, callers*rounds)
	}},
	{"G1_EveryAnsweredWriteIsVisibleAndFailedOnesAreNot", func(b *bench) {
		const callers, rounds = 8, 30
		kept := make([][]job.ID, callers)
		undone := make([][]job.ID, callers)
		var wg sync.WaitGroup
		for c := range callers {
			wg.Go(func() {
				for i := range rounds {
					j := queued()
					bad := errors.New("undo")
					err := b.store.Write(b.Context(), func(tx store.Tx) error {
						if err := tx.InsertJobs(b.Context(), []job.Job{j}, make([]string, 1)); err != nil {
							return err
						}
						if (c+i)%3 == 0 {
							return bad
						}
						return tx.AppendEvents(b.Context(), []job.Event{{Job: j.ID, Kind: job.EventSubmitted}})
					})
					if err == nil {
						kept[c] = append(kept[c], j.ID)
					} else if errors.Is(err, bad) {
						undone[c] = append(undone[c], j.ID)
					}
				}
			})
		}
		wg.Wait()
		n := 0
		for c := range callers {
			n += len(kept[c])
			for _, id := range kept[c] {
				b.job(id)
			}
			for _, id := range undone[c] {
				b.absent(id)
			}
			b.same("answers", len(kept[c])+len(undone[c]), rounds)
		}
		b.same("events", len(b.events("", "", 0, 1000)), n)
		b.same("counts", b.counts(""), []store.Count{{Queue: job.DefaultQueue, State: job.Queued, Jobs: int64(n)}})
	}},
	{"APanicUndoesItsTransactionAndReachesItsCaller", func(b *bench) {
		j, after := queued(), queued()
		var got any
		func() {
			defer func() { got = recover() }()
			_ = b.store.Write(b.Context(), func(tx store.Tx) error {
				if err := tx.InsertJobs(b.Context(), []job.Job{j}, make([]string, 1)); err != nil {
					return err
				}
				panic("boom")
			})
		}()
		b.same("panics", fmt.Sprint(got), "boom")
		b.absent(j.ID)
		b.insert(after)
		b.job(after.ID)
	}},
	{"AFailureAmongOthersUndoesOnlyItself", func(b *bench) {
		const callers = 16
		jobs := make([]job.Job, callers)
		var wg sync.WaitGroup
		for c := range callers {
			jobs[c] = queued()
			wg.Go(func() {
				defer func() { _ = recover() }()
				_ = b.store.Write(b.Context(), func(tx store.Tx) error {
					if err := tx.InsertJobs(b.Context(), []job.Job{jobs[c]}, make([]string, 1)); err != nil {
						return err
					}
					switch c % 4 {
					case 0:
						panic("boom")
					case 1:
						return errors.New("undo")
					}
					return nil
				})
			})
		}
		wg.Wait()
		for c, j := range jobs {
			if c%4 < 2 {
				b.absent(j.ID)
			} else {
				b.job(j.ID)
			}
		}
	}},
	{"AReadSeesOneSnapshot", func(b *bench) {
		first := queued()
		b.insert(first)
		b.read(func(tx store.ReadTx) error {
			before, _, err := tx.Jobs(b.Context(), store.JobQuery{})
			if err != nil {
				return err
			}
			b.insert(queued())
			after, _, err := tx.Jobs(b.Context(), store.JobQuery{})
			b.same("jobs", idsOf(after), idsOf(before))
			return err
		})
		page, _ := b.page(store.JobQuery{})
		b.same("jobs of the next snapshot", len(page), 2)
	}},
	{"AReadDoesNotSeeWhatIsNotCommitted", func(b *bench) {
		inside, looked := make(chan struct{}), make(chan struct{})
		j := queued()
		var wg sync.WaitGroup
		wg.Go(func() {
			_ = b.store.Write(b.Context(), func(tx store.Tx) error {
				err := tx.InsertJobs(b.Context(), []job.Job{j}, make([]string, 1))
				close(inside)
				<-looked
				return err
			})
		})
		<-inside
		b.absent(j.ID)
		close(looked)
		wg.Wait()
		b.job(j.ID)
	}},
	{"AContextThatHasEndedWritesNothing", func(b *bench) {
		why := errors.New("gone home")
		ctx, cancel := context.WithCancelCause(b.Context())
		cancel(why)
		ran := false
		if err := b.store.Write(ctx, func(store.Tx) error { ran = true; return nil }); !errors.Is(err, why) || ran {
			b.Errorf("write: error is %v, ran is %t", err, ran)
		}
		if err := b.store.Read(ctx, func(store.ReadTx) error { ran = true; return nil }); !errors.Is(err, why) || ran {
			b.Errorf("read: error is %v, ran is %t", err, ran)
		}
	}},
	{"AContextThatEndsInsideAWriteIsIgnored", func(b *bench) {
		ctx, cancel := context.WithCancel(b.Context())
		j := queued()
		err := b.store.Write(ctx, func(tx store.Tx) error {
			cancel()
			if err := tx.InsertJobs(ctx, []job.Job{j}, make([]string, 1)); err != nil {
				return err
			}
			_, err := tx.Job(ctx, "", j.ID)
			return err
		})
		if err != nil {
			b.Errorf("write: %v", err)
		}
		b.job(j.ID)
	}},
}
