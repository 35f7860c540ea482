package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/faultproxy"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/postgres/pgtest"
)

// Each round changes a counter once, with a commit whose answer, or part of
// whose request, is lost on the way. What Write answers is the truth: a change
// is stored once or not at all.
func TestF23_R9_ACommitWhoseAnswerIsLostIsAnsweredTruly(t *testing.T) {
	t.Parallel()
	url := emptyDB(t)
	direct := openURL(t, url)
	defer direct.Close()
	proxy, through := throughProxy(t, url)
	s := openURL(t, through)
	defer s.Close()
	j := benchJob(1)
	if err := submit(direct, j); err != nil {
		t.Fatal(err)
	}
	stored, ran, again, inDoubt := 0, 0, 0, 0
	for round := range 120 {
		runs := 0
		err := s.Write(t.Context(), func(tx store.Tx) error {
			runs++
			err := increment(t.Context(), tx, j.ID)
			if runs == 1 { // what follows is the commit
				if round%2 == 0 {
					proxy.CutAfter(faultproxy.Down, 0)
				} else {
					proxy.CutAfter(faultproxy.Up, rand.IntN(2500))
				}
			}
			return err
		})
		proxy.Heal()
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		stored++
		if runs == 1 {
			ran++
		} else {
			again++
		}
		if runs == 1 && round%2 == 0 {
			inDoubt++
		}
		if got := countOf(t, direct, j.ID); got != stored {
			t.Fatalf("round %d: the counter is %d after %d answers", round, got, stored)
		}
	}
	if proxy.Counts().Cuts < 90 || inDoubt < 50 || again < 20 {
		t.Errorf("%d cuts, %d commits found stored, %d ran again: the test tests too little", proxy.Counts().Cuts, inDoubt, again)
	}
}

// A database that stays away leaves a commit in doubt, and the answer says so.
func TestF23_ACommitWhoseFateCannotBeLearntIsAnsweredAsUnknown(t *testing.T) {
	t.Parallel()
	url := emptyDB(t)
	proxy, through := throughProxy(t, url)
	s, err := Open(t.Context(), through, Options{AllowUnsafeServer: true, bounds: shortBounds})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	j := benchJob(1)
	if err := submit(s, j); err != nil {
		t.Fatal(err)
	}
	err = s.Write(t.Context(), func(tx store.Tx) error {
		err := increment(t.Context(), tx, j.ID)
		proxy.Blackhole()
		return err
	})
	if job.CodeOf(err) != job.Unavailable || !strings.Contains(err.Error(), "unknown") {
		t.Errorf("error is %v", err)
	}
	if s.Stats().Halted == nil {
		t.Error("the stats show no trouble")
	}
	proxy.Heal()
	write := func(tx store.Tx) error { return increment(t.Context(), tx, j.ID) }
	if err := eventually(func() error { return s.Write(t.Context(), write) }); err != nil {
		t.Errorf("after the fault: %v", err)
	}
	if s.Stats().Halted != nil {
		t.Errorf("the stats still show trouble: %v", s.Stats().Halted)
	}
}

// Many calls share transactions that fail again and again, because of what
// another server does; every one of them gets its own answer.
func TestEveryCallIsAnsweredWhenBatchesFail(t *testing.T) {
	t.Parallel()
	url := emptyDB(t)
	stores := []*Store{openURL(t, url), openURL(t, url)}
	jobs := make([]job.Job, 30)
	for i := range jobs {
		jobs[i] = benchJob(1)
		jobs[i].Spec.Key = fmt.Sprint("key", i)
	}
	won := make([]atomic.Int32, len(jobs))
	var wg sync.WaitGroup
	for _, s := range stores {
		for i, j := range jobs {
			for range 2 {
				wg.Go(func() {
					switch err := submit(s, j); job.CodeOf(err) {
					case "":
						won[i].Add(1)
					case job.Conflict:
					default:
						t.Errorf("submit: %v", err)
					}
				})
			}
			wg.Go(func() {
				err := s.Write(t.Context(), func(tx store.Tx) error { return tx.SetMeta(t.Context(), "k", "v") })
				if err != nil {
					t.Errorf("a change beside bad ones: %v", err)
				}
			})
			wg.Go(func() {
				err := s.Write(t.Context(), func(tx store.Tx) error {
					_, err := tx.(*writeTx).row(t.Context(), 0, "SELECT 1 / 0", nil)
					return err
				})
				if job.CodeOf(err) != job.Internal {
					t.Errorf("a bad statement: %v", err)
				}
			})
		}
	}
	wg.Wait()
	for i := range won {
		if n := won[i].Load(); n != 1 {
			t.Errorf("job %d was submitted %d times", i, n)
		}
	}
	for _, s := range stores {
		s.Close()
	}
}

func TestAWriterWhoseRowWasRemovedGetsANewOne(t *testing.T) {
	t.Parallel()
	url := emptyDB(t)
	s, other := openURL(t, url), openURL(t, url)
	defer s.Close()
	defer other.Close()
	if err := submit(s, benchJob(1)); err != nil {
		t.Fatal(err)
	}
	if err := other.Write(t.Context(), func(tx store.Tx) error {
		tx.(*writeTx).other("DELETE FROM nanoos.writers WHERE id = $1", s.writer.id)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	before := s.writer.id
	if err := submit(s, benchJob(1)); err != nil || s.writer.id == before {
		t.Errorf("error is %v, the writer is still %s", err, before)
	}
}

func TestF21_WorkGoesOnWhenPostgresRestarts(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t, pgtest.Options{Durable: true})
	s := openURL(t, cluster.CreateDB(t))
	defer s.Close()
	counters := []job.Job{benchJob(1), benchJob(1), benchJob(1), benchJob(1)}
	if err := submit(s, counters...); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	answered, unknown := make([]int, len(counters)), make([]int, len(counters))
	for i, j := range counters {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				switch err := s.Write(t.Context(), func(tx store.Tx) error { return increment(t.Context(), tx, j.ID) }); {
				case err == nil:
					answered[i]++
				case job.CodeOf(err) != job.Unavailable:
					t.Errorf("error is %v", err)
				case strings.Contains(err.Error(), "unknown"):
					unknown[i]++
				}
			}
		})
	}
	for range 3 {
		before := s.Stats().Commits
		_ = eventually(func() error {
			if s.Stats().Commits < before+20 {
				return errors.New("nothing is committed")
			}
			return nil
		})
		cluster.Stop(t)
		cluster.Restart(t)
	}
	before := s.Stats().Commits
	if err := eventually(func() error {
		if s.Stats().Commits < before+5 {
			return errors.New("nothing is committed")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	close(stop)
	wg.Wait()
	for i, j := range counters {
		got := countOf(t, s, j.ID)
		if got < answered[i] || got > answered[i]+unknown[i] || answered[i] == 0 {
			t.Errorf("counter %d is %d after %d answers and %d unknown ones", i, got, answered[i], unknown[i])
		}
	}
}

func TestF20_G1_AcceptedJobsSurviveTheCrashOfTheServer(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t, pgtest.Options{Durable: true})
	s, err := Open(t.Context(), cluster.CreateDB(t), Options{bounds: shortBounds})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 3 {
		var mu sync.Mutex
		var accepted []job.ID
		var wg sync.WaitGroup
		enough := make(chan struct{})
		for range 4 {
			wg.Go(func() {
				for {
					j := benchJob(1)
					if err := submit(s, j); err != nil {
						return
					}
					mu.Lock()
					accepted = append(accepted, j.ID)
					if len(accepted) == 40 {
						close(enough)
					}
					mu.Unlock()
				}
			})
		}
		<-enough
		cluster.Kill(t)
		wg.Wait() // for callers that learn of it
		cluster.Restart(t)
		for _, id := range accepted {
			if err := eventually(func() error {
				return s.Read(t.Context(), func(tx store.ReadTx) error { _, err := tx.Job(t.Context(), "", id); return err })
			}); err != nil {
				t.Errorf("an accepted job is gone: %v", err)
			}
		}
	}
}

// shortBounds end waiting soon, for tests that wait.
var shortBounds = bounds{connect: 500 * time.Millisecond, answer: time.Second, reconnect: time.Second,
	resolve: 1500 * time.Millisecond, turn: 3 * time.Second, reader: time.Second, work: 20 * time.Millisecond}

func TestF22_AFrozenPostgresEndsEveryCallInTime(t *testing.T) {
	// Not parallel: it counts the goroutines of the process.
	cluster := pgtest.Start(t, pgtest.Options{})
	s, err := Open(t.Context(), cluster.CreateDB(t), Options{AllowUnsafeServer: true, bounds: shortBounds})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	j := benchJob(1)
	if err := submit(s, j); err != nil {
		t.Fatal(err)
	}
	usual := runtime.NumGoroutine()
	cluster.Freeze(t)
	began := time.Now()
	const rounds = 3
	var wg sync.WaitGroup
	var refused atomic.Int32
	for range 40 {
		wg.Go(func() {
			for range rounds {
				write := s.Write(t.Context(), func(tx store.Tx) error { return increment(t.Context(), tx, j.ID) })
				read := s.Read(t.Context(), func(tx store.ReadTx) error { _, err := tx.LastEvent(t.Context()); return err })
				for _, err := range []error{write, read} {
					if job.CodeOf(err) != job.Unavailable {
						t.Errorf("error is %v, want unavailable", err)
					}
					refused.Add(1)
				}
			}
		})
	}
	wg.Wait()
	// A write waits for its turn, for a commit in doubt and for a session; a
	// read for a reader and two sessions.
	if limit := rounds * 12 * time.Second; time.Since(began) > limit {
		t.Errorf("%d calls took %v, want at most %v", refused.Load(), time.Since(began), limit)
	}
	if n := runtime.NumGoroutine(); n > usual+100 {
		t.Errorf("%d goroutines are left of %d", n, usual)
	}
	cluster.Thaw(t)
	if err := eventually(func() error {
		return s.Write(t.Context(), func(tx store.Tx) error { return increment(t.Context(), tx, j.ID) })
	}); err != nil {
		t.Errorf("after the thaw: %v", err)
	}
}

// throughProxy returns a proxy before the server of a database, and the
// database's URL through it.
func throughProxy(t *testing.T, database string) (*faultproxy.Proxy, string) {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	p, err := faultproxy.Start(u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	u.Host = p.Addr()
	return p, u.String()
}

// increment changes a job in a way that shows how often it was done.
func increment(ctx context.Context, tx store.Tx, id job.ID) error {
	jobs, err := tx.LockJobs(ctx, []job.ID{id})
	if err != nil {
		return err
	}
	jobs[0].Failures++
	if err := tx.SaveJobs(ctx, jobs); err != nil {
		return err
	}
	return tx.AppendEvents(ctx, []job.Event{{Job: id, Kind: job.EventHeld}})
}

func countOf(t *testing.T, s *Store, id job.ID) (n int) {
	t.Helper()
	err := s.Read(t.Context(), func(tx store.ReadTx) error {
		j, err := tx.Job(t.Context(), "", id)
		n = j.Failures
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// eventually tries until it succeeds, on a real server and not for long.
func eventually(try func() error) (err error) {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = try(); err == nil {
			return nil
		}
	}
	return err
}
