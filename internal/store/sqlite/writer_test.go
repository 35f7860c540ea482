package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// busy keeps the writer inside an op until the returned function is called.
func busy(t *testing.T, s *Store) (release func()) {
	t.Helper()
	inside, done := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		err := s.Write(context.Background(), func(store.Tx) error {
			close(inside)
			<-done
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-inside
	return func() {
		close(done)
		wg.Wait()
	}
}

// queued waits until n ops wait for the writer.
func queued(s *Store, n int) {
	for s.writer.calls.Len() < n {
		runtime.Gosched()
	}
}

func TestWaitingCallersShareACommit(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "nanoos.db"), Options{})
	t.Cleanup(func() { s.Close() })
	release := busy(t, s)
	const callers = 20
	jobs := make([]job.Job, callers)
	errs := make([]error, callers)
	var wg sync.WaitGroup
	for i := range callers {
		jobs[i] = benchJob(1)
		wg.Go(func() { errs[i] = submit(s, jobs[i]) })
	}
	queued(s, callers)
	release()
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	st := s.Stats()
	// One, unless the machine is so slow that the batch is split (maxWork).
	if st.Commits >= callers || st.Ops != callers || st.LastCommit <= 0 || st.AvgCommit <= 0 || st.Halted != nil {
		t.Errorf("stats are %+v", st)
	}
}

func TestOneFailureInABatchUndoesOnlyItself(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "nanoos.db"), Options{})
	t.Cleanup(func() { s.Close() })
	release := busy(t, s)
	const callers = 12
	jobs := make([]job.Job, callers)
	got := make([]any, callers) // error or panic
	bad := errors.New("undo")
	var wg sync.WaitGroup
	for i := range callers {
		jobs[i] = benchJob(1)
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					got[i] = p
				}
			}()
			if err := s.Write(t.Context(), func(tx store.Tx) error {
				if err := tx.InsertJobs(t.Context(), jobs[i:i+1], []string{""}); err != nil {
					return err
				}
				switch i % 3 {
				case 1:
					return bad
				case 2:
					panic(fmt.Sprint("boom ", i))
				}
				return nil
			}); err != nil {
				got[i] = err
			}
		})
	}
	queued(s, callers)
	release()
	wg.Wait()
	for i, j := range jobs {
		want := []any{nil, bad, fmt.Sprint("boom ", i)}[i%3]
		if got[i] != want {
			t.Errorf("caller %d got %v, want %v", i, got[i], want)
		}
		err := s.Read(t.Context(), func(tx store.ReadTx) error { _, err := tx.Job(t.Context(), "", j.ID); return err })
		if (err == nil) != (i%3 == 0) {
			t.Errorf("job of caller %d: %v", i, err)
		}
	}
}

func TestACallerThatLeftIsSkipped(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "nanoos.db"), Options{})
	t.Cleanup(func() { s.Close() })
	release := busy(t, s)
	why := errors.New("gone home")
	ctx, leave := context.WithCancelCause(t.Context())
	ran := false
	answer := make(chan error)
	go func() { answer <- s.Write(ctx, func(store.Tx) error { ran = true; return nil }) }()
	queued(s, 1)
	leave(why)
	if err := <-answer; !errors.Is(err, why) {
		t.Errorf("error is %v", err)
	}
	release()
	if err := submit(s, benchJob(1)); err != nil || ran {
		t.Errorf("error is %v, ran is %t", err, ran)
	}
}

func TestCloseFinishesWhatWasQueued(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "nanoos.db")
	s := openAt(t, path, Options{})
	release := busy(t, s)
	j := benchJob(1)
	var wg sync.WaitGroup
	var queuedErr, closeErr error
	wg.Go(func() { queuedErr = submit(s, j) })
	queued(s, 1)
	wg.Go(func() { closeErr = s.Close() })
	<-s.writer.calls.Stopping()
	release()
	wg.Wait()
	if err := errors.Join(queuedErr, closeErr); err != nil {
		t.Fatal(err)
	}
	s = openAt(t, path, Options{})
	defer s.Close()
	err := s.Read(t.Context(), func(tx store.ReadTx) error { _, err := tx.Job(t.Context(), "", j.ID); return err })
	if err != nil {
		t.Error(err)
	}
}

func TestALockOfAnotherProgramIsUnavailableAndPasses(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "nanoos.db")
	s := openAt(t, path, Options{})
	t.Cleanup(func() { s.Close() })
	if _, err := s.writer.conn.exec("PRAGMA busy_timeout = 1"); err != nil {
		t.Fatal(err)
	}
	other, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	other.SetMaxOpenConns(1)
	if _, err := other.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	if err := submit(s, benchJob(1)); job.CodeOf(err) != job.Unavailable {
		t.Errorf("while locked: %v", err)
	}
	if _, err := other.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if err := submit(s, benchJob(1)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A statement that fails for no reason of fn's must not be committed by an fn
// that overlooks it.
func TestASwallowedFaultStillFailsItsCaller(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "nanoos.db"), Options{})
	t.Cleanup(func() { s.Close() })
	j := benchJob(1)
	err := s.Write(t.Context(), func(tx store.Tx) error {
		if err := tx.InsertJobs(t.Context(), []job.Job{j}, []string{""}); err != nil {
			return err
		}
		_, _ = tx.(*writeTx).exec("INSERT INTO results (seq, result) VALUES (999, x'00')")
		return nil
	})
	if err == nil {
		t.Error("a broken foreign key was committed")
	}
	err = s.Read(t.Context(), func(tx store.ReadTx) error { _, err := tx.Job(t.Context(), "", j.ID); return err })
	if job.CodeOf(err) != job.NotFound {
		t.Errorf("job: %v", err)
	}
}
