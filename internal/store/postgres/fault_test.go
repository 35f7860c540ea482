package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"runtime"
	"slices"
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
	t.Parallel()
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

// F48: a server that stops for long holds no row that all servers share.
func TestF48_AStoppedTransactionHoldsNobodyElseUp(t *testing.T) {
	t.Parallel()
	url := emptyDB(t)
	frozen, other := openURL(t, url), openURL(t, url)
	defer frozen.Close()
	defer other.Close()
	mine, theirs := benchJob(1), benchJob(1)
	if err := submit(other, mine, theirs); err != nil {
		t.Fatal(err)
	}
	inside, goOn := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		err := frozen.Write(t.Context(), func(tx store.Tx) error {
			if err := tx.InsertJobs(t.Context(), []job.Job{benchJob(1), benchJob(7)}, make([]string, 2)); err != nil {
				return err
			}
			err := increment(t.Context(), tx, theirs.ID)
			close(inside)
			<-goOn
			return err
		})
		if err != nil {
			t.Errorf("the stopped transaction: %v", err)
		}
	})
	<-inside
	began := time.Now()
	for range 10 {
		if err := submit(other, benchJob(1), benchJob(7)); err != nil {
			t.Errorf("submit: %v", err)
		}
		if err := other.Write(t.Context(), func(tx store.Tx) error { return increment(t.Context(), tx, mine.ID) }); err != nil {
			t.Errorf("increment: %v", err)
		}
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("20 changes took %v beside a stopped transaction", took)
	}
	close(goOn)
	wg.Wait()
}

// Two servers that claim at once take different jobs, and a stopped one does
// not keep the other from what is behind its jobs.
func TestS1_F48_AClaimPassesOverWhatAnotherHolds(t *testing.T) {
	t.Parallel()
	url := emptyDB(t)
	stopped, other := openURL(t, url), openURL(t, url)
	defer stopped.Close()
	defer other.Close()
	jobs := []job.Job{benchJob(1), benchJob(1), benchJob(1), benchJob(1)}
	if err := submit(other, jobs...); err != nil {
		t.Fatal(err)
	}
	var lane store.LaneID
	if err := other.Read(t.Context(), func(tx store.ReadTx) error {
		lanes, err := tx.Lanes(t.Context())
		lane = lanes[0].ID
		return err
	}); err != nil {
		t.Fatal(err)
	}
	heads := func(tx store.ReadTx) []job.ID {
		heads, err := tx.Heads(t.Context(), []store.LaneID{lane}, 2)
		if err != nil {
			t.Errorf("heads: %v", err)
		}
		return idsOf(heads)
	}
	inside, goOn := make(chan []job.ID), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = stopped.Write(t.Context(), func(tx store.Tx) error {
			inside <- heads(tx)
			<-goOn
			return nil
		})
	})
	first := <-inside
	var second []job.ID
	err := other.Write(t.Context(), func(tx store.Tx) error {
		second = heads(tx)
		_, err := tx.LockJobs(t.Context(), second)
		return err
	})
	close(goOn)
	wg.Wait()
	if err != nil || !slices.Equal(first, []job.ID{jobs[0].ID, jobs[1].ID}) || !slices.Equal(second, []job.ID{jobs[2].ID, jobs[3].ID}) {
		t.Errorf("one claims %v and the other %v (%v) of %v", first, second, err, jobs)
	}
}

func TestG1_AServerThatDoesNotFlushIsRefused(t *testing.T) {
	t.Parallel()
	for _, setting := range []string{"fsync", "full_page_writes"} {
		cluster := pgtest.Start(t, pgtest.Options{Durable: true, Settings: []string{setting + " = off"}})
		_, err := Open(t.Context(), cluster.URL(), Options{})
		if job.CodeOf(err) != job.Invalid || !strings.Contains(err.Error(), setting+" is off") {
			t.Errorf("%s = off: error is %v", setting, err)
		}
	}
}

// The server's own settings do not decide what an answer is worth.
func TestG1_S2_EverySessionHasOurSettings(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t, pgtest.Options{Settings: []string{"synchronous_commit = off", "statement_timeout = 0", "lock_timeout = 0"}})
	s := openURL(t, cluster.CreateDB(t))
	defer s.Close()
	for _, want := range settings {
		if want.name == "tcp_user_timeout" {
			continue // the kernel's answer may differ
		}
		var got string
		err := s.Read(t.Context(), func(tx store.ReadTx) error {
			_, err := tx.(*readTx).row(t.Context(), 0, "SELECT current_setting($1)", []any{want.name}, &got)
			return err
		})
		if err != nil || got != want.value {
			t.Errorf("%s is %q (%v), want %q", want.name, got, err, want.value)
		}
	}
}

func TestAddressesOfSQLAlchemyAreUnderstood(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(emptyDB(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{"postgresql+asyncpg://%s@%s%s?ssl=disable&command_timeout=60", "postgres+asyncpg://%s@%s%s?ssl=false", "postgresql://%s@%s%s?sslmode=disable"} {
		s, err := Open(t.Context(), fmt.Sprintf(form, u.User, u.Host, u.Path), Options{AllowUnsafeServer: true})
		if err != nil {
			t.Errorf("%s: %v", form, err)
			continue
		}
		s.Close()
	}
	for _, bad := range []string{"mysql://x/y", "postgres://u:secret@h:port/db", "://", "postgres://u:secret@127.0.0.1:1/db?sslmode=sometimes"} {
		_, err := Open(t.Context(), bad, Options{})
		if job.CodeOf(err) != job.Invalid || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: error is %v", bad, err)
		}
	}
	if _, err := Open(t.Context(), "postgres://u:secret@127.0.0.1:1/db", Options{}); job.CodeOf(err) != job.Unavailable || strings.Contains(err.Error(), "secret") {
		t.Errorf("an address where nothing listens: %v", err)
	}
}

func TestS5_HintsReachTheOthersTogetherAndNotOurselves(t *testing.T) {
	t.Parallel()
	url := emptyDB(t)
	a, b := openURL(t, url), openURL(t, url)
	defer a.Close()
	defer b.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	own, heard := make(chan uint8, 100), make(chan uint8, 100)
	var wg sync.WaitGroup
	wg.Go(func() { _ = a.Listen(ctx, func(k uint8) { own <- k }) })
	wg.Go(func() { _ = b.Listen(ctx, func(k uint8) { heard <- k }) })
	for _, c := range []chan uint8{own, heard} {
		if k := <-c; k != everyKind {
			t.Errorf("the begin of listening tells %x", k)
		}
	}
	var told uint8
	for range 100 {
		a.Notify(1)
		a.Notify(4)
	}
	n := 0
	for told != 5 {
		told |= <-heard
		n++
	}
	if n > 3 {
		t.Errorf("200 hints came as %d notifications", n)
	}
	a.Notify(2)
	for told&2 == 0 {
		told |= <-heard
	}
	cancel()
	wg.Wait()
	if len(own) > 0 {
		t.Error("a store hears itself")
	}
}

func TestF39_ABackupTakenUnderLoadRestoresOneCommitFrozen(t *testing.T) {
	t.Parallel()
	s := openURL(t, emptyDB(t))
	defer s.Close()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := submit(s, benchJob(1)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	err := eventually(func() error {
		if s.Stats().Ops < 50 {
			return errors.New("too few jobs")
		}
		return nil
	})
	var backup bytes.Buffer
	if err == nil {
		err = s.Backup(t.Context(), &backup)
	}
	close(stop)
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	target := emptyDB(t)
	for _, n := range []int{0, 100, backup.Len() / 2, backup.Len() - 20} {
		if err := Restore(t.Context(), target, bytes.NewReader(backup.Bytes()[:n])); job.CodeOf(err) != job.Invalid {
			t.Errorf("the first %d bytes of a backup of %d: error is %v", n, backup.Len(), err)
		}
	}
	if err := Restore(t.Context(), target, bytes.NewReader(backup.Bytes())); err != nil {
		t.Fatal(err)
	}
	r := openURL(t, target)
	defer r.Close()
	checkRestored(t, r)
	if err := submit(r, benchJob(3)); err != nil {
		t.Errorf("submit after the restore: %v", err)
	}
	if err := Restore(t.Context(), target, bytes.NewReader(backup.Bytes())); job.CodeOf(err) != job.Conflict {
		t.Errorf("a second restore: error is %v", err)
	}
}

// checkRestored expects a frozen installation with one event for each job.
func checkRestored(t *testing.T, s *Store) {
	t.Helper()
	ctx := t.Context()
	err := s.Read(ctx, func(tx store.ReadTx) error {
		counts, err := tx.Counts(ctx, "")
		if err != nil {
			return err
		}
		last, err := tx.LastEvent(ctx)
		if err != nil {
			return err
		}
		if len(counts) != 1 || counts[0].Jobs != last || last < 50 {
			t.Errorf("counts are %+v, the last event is %d", counts, last)
		}
		page, _, err := tx.Jobs(ctx, store.JobQuery{Limit: 1})
		if err != nil {
			return err
		}
		if len(page) != 1 || page[0].Fence != 1<<40 {
			t.Errorf("the last job is %+v", page)
		}
		incarnation, err := tx.Meta(ctx, "incarnation")
		if err != nil || incarnation != "1" {
			t.Errorf("the incarnation is %q", incarnation)
		}
		frozen, err := tx.Meta(ctx, "frozen")
		if !strings.Contains(frozen, "from the backup of") {
			t.Errorf("frozen is %q", frozen)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
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
