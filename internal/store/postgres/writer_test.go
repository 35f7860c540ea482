package postgres

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// inOneBatch makes fns run in one transaction: they queue behind a call that
// waits for them.
func inOneBatch(t *testing.T, s *Store, fns ...func(store.Tx) error) []error {
	t.Helper()
	inside, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	errs := make([]error, len(fns))
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = s.Write(t.Context(), func(store.Tx) error {
			once.Do(func() { close(inside) })
			<-goOn
			return nil
		})
	})
	<-inside
	for i, fn := range fns {
		wg.Go(func() { errs[i] = s.Write(t.Context(), fn) })
	}
	if err := eventually(func() error {
		if s.writer.calls.Len() < len(fns) {
			return errors.New("they are not queued yet")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	close(goOn)
	wg.Wait()
	return errs
}

// Half of the calls fail after the database has seen what they did; the others
// stay, in one commit.
func TestACallThatFailsLateUndoesWhatItHasSentAlready(t *testing.T) {
	t.Parallel()
	patient := usualBounds
	patient.work = time.Minute // all of them in one transaction, however slow the machine is
	s, err := Open(t.Context(), emptyDB(t), Options{AllowUnsafeServer: true, bounds: patient})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := t.Context()
	counters := make([]job.Job, 8)
	for i := range counters {
		counters[i] = benchJob(1)
	}
	if err := submit(s, counters...); err != nil {
		t.Fatal(err)
	}
	undo := errors.New("undo")
	fns := make([]func(store.Tx) error, len(counters))
	for i, j := range counters {
		fns[i] = func(tx store.Tx) error {
			if err := increment(ctx, tx, j.ID); err != nil {
				return err
			}
			got, err := tx.Job(ctx, "", j.ID) // which sends the change
			if err == nil && got.Failures != 1 {
				t.Errorf("job %d is changed %d times", i, got.Failures)
			}
			if i%2 == 0 {
				return errors.Join(err, undo)
			}
			return err
		}
	}
	before := s.Stats()
	errs := inOneBatch(t, s, fns...)
	after := s.Stats()
	if after.Commits != before.Commits+1 {
		t.Errorf("%d commits for one batch", after.Commits-before.Commits)
	}
	for i, j := range counters {
		want := i % 2
		if errors.Is(errs[i], undo) != (want == 0) {
			t.Errorf("call %d: error is %v", i, errs[i])
		}
		if got := countOf(t, s, j.ID); got != want {
			t.Errorf("job %d is changed %d times, want %d", i, got, want)
		}
	}
	err = s.Read(ctx, func(tx store.ReadTx) error {
		last, err := tx.LastEvent(ctx)
		if last != int64(len(counters)+len(counters)/2) {
			t.Errorf("the last event is %d", last)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestCallsInOneTransactionSeeWhatTheOthersDid(t *testing.T) {
	t.Parallel()
	s := openURL(t, emptyDB(t))
	defer s.Close()
	ctx := t.Context()
	if err := submit(s, benchJob(1)); err != nil { // makes the lane
		t.Fatal(err)
	}
	var mu sync.Mutex
	seen := map[int64]bool{}
	fn := func(tx store.Tx) error {
		counts, err := tx.Counts(ctx, "")
		if err != nil {
			return err
		}
		mu.Lock()
		seen[counts[0].Jobs] = true
		mu.Unlock()
		j := benchJob(1)
		if err := tx.InsertJobs(ctx, []job.Job{j}, []string{""}); err != nil {
			return err
		}
		return tx.AppendEvents(ctx, eventsOf([]job.Job{j}, job.EventSubmitted))
	}
	for i, err := range inOneBatch(t, s, fn, fn, fn, fn) {
		if err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
	if len(seen) != 4 {
		t.Errorf("the counts seen are %v, want four different ones", seen)
	}
}

func TestATransactionSeesItsOwnEvents(t *testing.T) {
	t.Parallel()
	s := openURL(t, emptyDB(t))
	defer s.Close()
	ctx := t.Context()
	j := benchJob(1)
	err := s.Write(ctx, func(tx store.Tx) error {
		if err := tx.InsertJobs(ctx, []job.Job{j}, []string{""}); err != nil {
			return err
		}
		for n := int64(1); n <= 2; n++ {
			if err := tx.AppendEvents(ctx, eventsOf([]job.Job{j}, job.EventSubmitted)); err != nil {
				return err
			}
			last, err := tx.LastEvent(ctx)
			if err != nil || last != n {
				t.Errorf("the last event is %d (%v), want %d", last, err, n)
			}
			events, err := tx.EventsAfter(ctx, "", j.ID, n-1, 10)
			if err != nil || len(events) != 1 || events[0].Seq != n {
				t.Errorf("events are %+v (%v)", events, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Sessions break while nobody uses them; the next call does not notice.
func TestACutBetweenCallsIsNotNoticed(t *testing.T) {
	t.Parallel()
	proxy, url := throughProxy(t, emptyDB(t))
	s := openURL(t, url)
	defer s.Close()
	j := benchJob(1)
	if err := submit(s, j); err != nil {
		t.Fatal(err)
	}
	for round := range 5 {
		if n := countOf(t, s, j.ID); n != round {
			t.Errorf("the counter is %d after %d changes", n, round)
		}
		proxy.Cut()
		if err := s.Write(t.Context(), func(tx store.Tx) error { return increment(t.Context(), tx, j.ID) }); err != nil {
			t.Errorf("write after a cut: %v", err)
		}
	}
}
