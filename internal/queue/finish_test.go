package queue

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/storetest"
)

// faulty is a store that refuses to save an attempt of some jobs, and on which
// a commit takes a while.
type faulty struct {
	store.Store
	bad    map[job.ID]bool
	takes  time.Duration
	writes int
}

var errBadRow = errors.New("this row cannot be written")

func (f *faulty) Write(ctx context.Context, fn func(store.Tx) error) error {
	f.writes++
	time.Sleep(f.takes)
	return f.Store.Write(ctx, func(tx store.Tx) error { return fn(faultyTx{tx, f}) })
}

type faultyTx struct {
	store.Tx
	f *faulty
}

func (tx faultyTx) SaveAttempts(ctx context.Context, as []job.Attempt) error {
	for _, a := range as {
		if tx.f.bad[a.Job] {
			return errBadRow
		}
	}
	return tx.Tx.SaveAttempts(ctx, as)
}

// fleet is a queue of which one worker has claimed n jobs.
func fleet(t *testing.T, n int) (*Service, *faulty, []job.Lease) {
	t.Helper()
	st := &faulty{Store: storetest.NewModel(time.Now), bad: map[job.ID]bool{}}
	q := New(st, Options{Rand: func() float64 { return 0.5 }})
	offer := job.Offer{CPUs: 1000, Memory: 1 << 42, Engines: []string{"mock"}}
	if _, err := q.Attach(t.Context(), job.Session{Worker: "w1", Host: "h1", Offer: offer}, nil); err != nil {
		t.Fatal(err)
	}
	var leases []job.Lease
	for range n {
		if _, err := q.Submit(t.Context(), "t", job.Spec{Engine: "mock"}); err != nil {
			t.Fatal(err)
		}
		got, err := q.Claim(t.Context(), "w1", offer, 1, 0)
		if err != nil || len(got) != 1 {
			t.Fatalf("Claim = %v, %v", got, err)
		}
		leases = append(leases, got...)
	}
	st.writes = 0
	return q, st, leases
}

func success(l job.Lease) job.Ending {
	return job.Ending{ID: l.Job.ID, Fence: l.Fence, Outcome: job.Outcome{Exit: &job.Exit{Observed: true}, Verdict: job.Converged}}
}

func stateOf(t *testing.T, q *Service, id job.ID) job.State {
	t.Helper()
	var j job.Job
	err := q.st.Read(t.Context(), func(tx store.ReadTx) (err error) {
		j, err = tx.Job(t.Context(), "", id)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return j.State
}

func TestG4_EveryEndingHasItsOwnAnswer(t *testing.T) {
	t.Parallel()
	q, st, l := fleet(t, 6)
	ends := make([]job.Ending, 0, 9)
	for _, lease := range l {
		ends = append(ends, success(lease))
	}
	ends[1].Fence--            // of somebody before
	ends[2].ID = "nothing"     // of no job
	st.bad[l[3].Job.ID] = true // cannot be stored
	ends[4].Outcome = job.Outcome{Failure: &job.Failure{Class: job.ClassInput, Code: "x"}}
	again := success(l[0])
	other := success(l[0])
	other.Outcome = ends[4].Outcome
	ends = append(ends, again, other) // a repetition, and a contradiction

	var got []string
	for _, err := range q.FinishAll(t.Context(), ends) {
		switch {
		case err == nil:
			got = append(got, "ok")
		case errors.Is(err, errBadRow):
			got = append(got, "bad row")
		default:
			got = append(got, string(job.CodeOf(err)))
		}
	}
	want := []string{"ok", "fenced", "not_found", "bad row", "ok", "ok", "ok", "fenced"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for i, want := range []job.State{job.Completed, job.Running, job.Running, job.Running, job.Failed, job.Completed} {
		if s := stateOf(t, q, l[i].Job.ID); s != want {
			t.Errorf("job %d is %s, want %s", i, s, want)
		}
	}
}

func TestManyEndingsAreOneTransaction(t *testing.T) {
	t.Parallel()
	q, st, l := fleet(t, 50)
	var ends []job.Ending
	for _, lease := range l {
		ends = append(ends, success(lease))
	}
	for i, err := range q.FinishAll(t.Context(), ends) {
		if err != nil || stateOf(t, q, ends[i].ID) != job.Completed {
			t.Errorf("job %d is %s: %v", i, stateOf(t, q, ends[i].ID), err)
		}
	}
	if st.writes != 1 {
		t.Errorf("%d transactions, want 1", st.writes)
	}
}

func TestConcurrentFinishesShareTransactions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, st, l := fleet(t, 40)
		st.takes = time.Second
		errs := make(chan error, len(l))
		for _, lease := range l {
			go func() {
				end := success(lease)
				err := q.Finish(t.Context(), lease, end.Outcome)
				if s := stateOf(t, q, end.ID); err == nil && s != job.Completed {
					err = fmt.Errorf("the job is %s", s)
				}
				errs <- err
			}()
		}
		begin := time.Now()
		for range l {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		// The first goes alone, or with whoever came by then; the rest together.
		if st.writes > 3 || time.Since(begin) > 3*time.Second {
			t.Errorf("%d transactions in %v, want at most 3", st.writes, time.Since(begin))
		}
	})
}

func TestACallerThatLeavesKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, st, l := fleet(t, 3)
		st.takes = 6 * time.Second
		done := make(chan error, 1)
		go func() { done <- q.Finish(t.Context(), l[0], success(l[0]).Outcome) }()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() { left <- q.Finish(ctx, l[1], success(l[1]).Outcome) }()
		synctest.Wait()
		last := make(chan error, 1)
		go func() { last <- q.Finish(t.Context(), l[2], success(l[2]).Outcome) }()
		synctest.Wait()
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("the caller that left: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("the first: %v", err)
		}
		if err := <-last; err != nil {
			t.Errorf("the last: %v", err)
		}
		for i, want := range []job.State{job.Completed, job.Running, job.Completed} {
			if s := stateOf(t, q, l[i].Job.ID); s != want {
				t.Errorf("job %d is %s, want %s", i, s, want)
			}
		}
	})
}
