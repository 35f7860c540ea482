package queue_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/worker"
)

var _ worker.Queue = (*queue.Service)(nil)

// must runs commands of a scenario in a test that needs more than a script.
func (s *stage) must(lines ...string) string {
	s.t.Helper()
	var out string
	for _, line := range lines {
		out = s.do(line)
		if len(out) > 5 && out[:5] == "error" {
			s.t.Fatalf("%s: %s", line, out)
		}
	}
	return out
}

func (s *stage) want(line, want string) {
	s.t.Helper()
	if got := s.do(line); got != want+"\n" {
		s.t.Errorf("%s: got %swant %s", line, got, want)
	}
}

func inBubble(t *testing.T, test func(*testing.T, *stage)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { test(t, newStage(t)) })
}

func TestI19_AWaitingClaimIsWokenByWhateverMakesAJobClaimable(t *testing.T) {
	for name, c := range map[string]struct {
		before []string
		wake   string
	}{
		"a submission":         {nil, "submit a"},
		"a release":            {[]string{"submit a held=yes"}, "release a"},
		"a resumed queue":      {[]string{"submit a", "pause default"}, "resume default"},
		"a retry by a person":  {[]string{"submit a", "cancel a"}, "retry a"},
		"an attempt given up":  {[]string{"submit a", "claim w1"}, "finish a released=yes"},
		"a time that has come": {[]string{"submit a in=7s"}, "advance 0s"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *stage) {
				s.must("attach w1")
				for _, line := range c.before {
					s.must(line)
				}
				done := make(chan []job.Lease, 1)
				go func() {
					leases, err := s.q.Claim(t.Context(), "w1", free(4), 1, 30*time.Second)
					if err != nil {
						t.Error(err)
					}
					done <- leases
				}()
				synctest.Wait()
				begin := time.Now()
				s.must(c.wake)
				got, waited := <-done, time.Since(begin)
				if name == "a time that has come" {
					waited -= 7 * time.Second
				}
				// No clock moves between the cause and the claim: it is woken, not polling.
				if len(got) != 1 || waited != 0 {
					t.Errorf("claimed %v after %v", got, waited)
				}
			})
		})
	}
}

func TestAnIdleClaimEndsWhenItWasTold(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.must("attach w1")
		begin := time.Now()
		got, err := s.q.Claim(t.Context(), "w1", job.Offer{CPUs: 1}, 1, 7*time.Second)
		if got != nil || err != nil || time.Since(begin) != 7*time.Second {
			t.Errorf("Claim = %v, %v after %v", got, err, time.Since(begin))
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		reason := errors.New("going home")
		cancel(reason)
		if _, err := s.q.Claim(ctx, "w1", job.Offer{CPUs: 1}, 1, time.Second); !errors.Is(err, reason) {
			t.Errorf("Claim with an ended context: %v", err)
		}
	})
}

func TestAClaimEndsWithTheSessionItBelongsTo(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		if _, err := s.q.Claim(t.Context(), "w1", job.Offer{}, 1, time.Minute); job.CodeOf(err) != job.NotFound {
			t.Errorf("Claim without a session: %v", err)
		}
		if _, err := s.q.Beat(t.Context(), "w1", nil); job.CodeOf(err) != job.NotFound {
			t.Errorf("Beat without a session: %v", err)
		}
		s.must("attach w1")
		done := make(chan error, 1)
		go func() {
			_, err := s.q.Claim(t.Context(), "w1", job.Offer{}, 1, time.Minute)
			done <- err
		}()
		synctest.Wait()
		s.must("leave w1", "leave w1")
		if err := <-done; job.CodeOf(err) != job.NotFound {
			t.Errorf("Claim after leaving: %v", err)
		}
	})
}

func TestManyWaitingClaimsGetEachJobOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		var mu sync.Mutex
		got := map[job.ID]int{}
		var wg sync.WaitGroup
		for _, w := range []string{"w1", "w2", "w3", "w4", "w5"} {
			s.must("attach " + w + " cpus=2")
			wg.Go(func() {
				// Each worker has two CPUs, and keeps what it gets.
				free := job.Offer{CPUs: 2, Memory: 64 << 30, Engines: []string{"mock"}}
				for range 3 {
					leases, err := s.q.Claim(t.Context(), w, free, 4, 10*time.Second)
					if err != nil {
						t.Error(err)
					}
					mu.Lock()
					for _, l := range leases {
						free = free.Less(l.Job.Spec.Demand)
						got[l.Job.ID]++
					}
					mu.Unlock()
				}
			})
		}
		synctest.Wait()
		for range 10 {
			if _, err := s.q.Submit(t.Context(), "t", job.Spec{Engine: "mock", Queue: "default"}); err != nil {
				t.Fatal(err)
			}
		}
		wg.Wait()
		for id, n := range got {
			if n != 1 {
				t.Errorf("job %s was given out %d times", id, n)
			}
		}
		if len(got) != 10 {
			t.Errorf("%d of 10 jobs were given out", len(got))
		}
	})
}

func TestAClaimFindsTheWorkOfAnotherServer(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.must("attach w1")
		other := queue.New(s.st, queue.Options{})
		go func() {
			time.Sleep(5 * time.Second)
			if _, err := other.Submit(t.Context(), "t", job.Spec{Engine: "mock"}); err != nil {
				t.Error(err)
			}
		}()
		begin := time.Now()
		leases, err := s.q.Claim(t.Context(), "w1", free(4), 1, time.Minute)
		if err != nil || len(leases) != 1 || time.Since(begin) > 7*time.Second {
			t.Errorf("Claim = %v, %v after %v", leases, err, time.Since(begin))
		}
	})
}

func free(cpus int) job.Offer {
	return job.Offer{CPUs: cpus, Memory: 64 << 30, Engines: []string{"mock"}}
}

func TestADrainingWorkerGetsNothingAndStaysSo(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.must("attach w1", "submit a")
		if err := s.st.Write(t.Context(), func(tx store.Tx) error {
			ws, err := tx.Workers(t.Context())
			ws[0].Draining = true
			return errors.Join(err, tx.SaveWorker(t.Context(), ws[0]))
		}); err != nil {
			t.Fatal(err)
		}
		s.want("claim w1", "nothing")
		s.must("attach w1")
		s.want("claim w1", "nothing")
		s.want("explain a", "worker_drained: the worker that suits it, w1, is drained\n  fix: nanoos worker resume w1")
	})
}

func TestOrdersComeAtOnceAndOnlyOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.must("attach w1", "attach w2", "submit a", "submit b", "claim w1 max=1", "claim w2 max=1")
		done := make(chan []job.Order, 1)
		go func() {
			orders, err := s.q.Orders(t.Context(), "w1", 30*time.Second)
			if err != nil {
				t.Error(err)
			}
			done <- orders
		}()
		synctest.Wait()
		begin := time.Now()
		s.must("cancel b")
		synctest.Wait()
		s.must("cancel a by=ada")
		if got := s.printOrders(<-done, nil); got != "stop a fence 1: cancel requested by ada\n" || time.Since(begin) != 0 {
			t.Errorf("orders %q after %v", got, time.Since(begin))
		}
		orders, err := s.q.Orders(t.Context(), "w1", 20*time.Second)
		if len(orders) > 0 || err != nil || time.Since(begin) != 20*time.Second {
			t.Errorf("the next orders: %v, %v after %v", orders, err, time.Since(begin))
		}
		// A new process of the worker has not heard of it.
		s.must("attach w1 found=a#1")
		s.want("orders w1", "stop a fence 2: cancel requested by ada")
	})
}

func TestG9_AJobWhoseLeaseNeverArrivedIsStartedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.must("attach w1", "submit a", "submit b", "claim w1")
		// The reply was lost for a; b arrived, and a beat that misses it soon is no proof.
		for range 6 {
			s.want("beat w1 held=b", "carry b fence 1")
			s.want("job a", "a RUNNING attempt 1 on w1")
			s.must("advance 10s")
		}
		s.must("beat w1 held=b", "advance 1s", "beat w1 held=b")
		s.want("job a", "a PENDING (retry) attempt 1 failures 0 losses 1 until +1m31s: restart after a loss, 1 of 5: worker w1 does not know of the job it was given; the end of the run was not observed")
		s.want("job b", "b RUNNING attempt 1 on w1")
		// If it did arrive after all, it goes on.
		s.want("beat w1 held=a,b", "carry a fence 1\ncarry b fence 1")
	})
}

func TestALeaseOnItsWayIsNotMissedForAnOlderOne(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.must("attach w1", "submit a", "claim w1", "beat w1")
		s.must("advance 17m", "beat w1", "claim w1")
		// The second lease has not arrived yet either, but that is not its fault.
		s.must("beat w1")
		s.want("job a", "a RUNNING attempt 2 failures 0 losses 1 on w1")
	})
}

func TestF11_ASilentWorkerIsNotGivenItsOwnLostJobAsANewAttempt(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.must("attach w1", "submit a", "claim w1", "advance 17m")
		// It thaws: its claim arrives before its beat.
		s.want("claim w1", "nothing")
		s.want("beat w1 held=a", "carry a fence 1")
		s.want("job a", "a RUNNING attempt 1 on w1")
	})
}

func TestALateWorkerCannotFinishASuccessor(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		// The same worker holds an older and a newer attempt of one job.
		s.must("attach w1", "submit a", "claim w1")
		late := s.leases["a"]
		s.must("advance 16m", "attach w1")
		s.must("claim w1")
		for _, out := range []job.Outcome{
			{Exit: &job.Exit{Observed: true}},
			{Released: true},
			{Failure: &job.Failure{Class: job.ClassInput, Code: "x"}},
		} {
			if err := s.q.Finish(t.Context(), late, out); job.CodeOf(err) != job.Fenced {
				t.Errorf("a late finish: %v, want fenced", err)
			}
		}
		s.want("job a", "a RUNNING attempt 2 failures 0 losses 1 on w1")
		s.must("finish a")
		if err := s.q.Finish(t.Context(), late, job.Outcome{Exit: &job.Exit{Observed: true}}); job.CodeOf(err) != job.Fenced {
			t.Errorf("a late finish after the end: %v, want fenced", err)
		}
		s.want("job a", "a COMPLETED attempt 2 failures 0 losses 1")
	})
}

func TestFinishOfAnUnknownJobIsNotFound(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.must("submit a")
		if err := s.q.Finish(t.Context(), job.Lease{Job: job.Job{ID: "nothing"}, Fence: 1}, job.Outcome{}); job.CodeOf(err) != job.NotFound {
			t.Errorf("Finish of nothing: %v", err)
		}
		if err := s.q.Finish(t.Context(), job.Lease{Job: job.Job{ID: s.id("a")}}, job.Outcome{}); job.CodeOf(err) != job.Fenced {
			t.Errorf("Finish of a job that never started: %v", err)
		}
	})
}

func TestANewLeaderGivesEveryWorkerAFreshTerm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newLeaderless(t, time.Now)
		s.must("attach w1", "submit a", "claim w1")
		// No server runs for an hour. That nobody answered the worker is not its death.
		s.must("advance 1h")
		s.lead(s.q)
		s.must("advance 14m")
		s.want("job a", "a RUNNING attempt 1 on w1")
		s.must("advance 2m")
		s.want("attempts a", "#1 on w1 +0s … +1h15m5s lost")
	})
}

func TestF48_ALeaderThatWasFrozenBeginsANewTerm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var slept atomic.Int64
		s := newLeaderless(t, func() time.Time { return time.Now().Add(time.Duration(slept.Load())) })
		s.lead(s.q)
		s.must("attach w1", "submit a", "claim w1")
		// The machine sleeps: when it wakes, its clock is an hour later.
		slept.Store(int64(time.Hour))
		s.must("advance 14m")
		s.want("job a", "a RUNNING attempt 1 on w1")
		s.must("advance 2m")
		s.want("attempts a", "#1 on w1 +0s … +1h15m10s lost")
	})
}

func TestF48_AServerThatLostTheLeadChangesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newLeaderless(t, time.Now)
		stop := s.lead(s.q)
		s.must("attach w1", "submit a", "claim w1")
		// Another takes the lease the moment it is free, and then does nothing.
		stop()
		s.must("advance 1m")
		if err := s.st.Write(t.Context(), func(tx store.Tx) error {
			_, err := tx.Lead(t.Context(), "leader", "other", 24*time.Hour)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		s.lead(s.q)
		s.must("submit b in=1m", "advance 2h")
		s.want("job a", "a RUNNING attempt 1 on w1")
		if got := s.do("job b"); got[:9] != "b PENDING" {
			t.Errorf("b was promoted: %s", got)
		}
	})
}

func TestTwoServersHaveOneLeaderAndTheOtherTakesOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newLeaderless(t, time.Now)
		first := s.lead(queue.New(s.st, queue.Options{Name: "s1"}))
		second := s.lead(queue.New(s.st, queue.Options{Name: "s2"}))
		s.must("submit a in=1m")
		s.must("advance 1m")
		s.must("advance 10s") // not this process's hint: the next sweep at the latest
		s.want("job a", "a QUEUED attempt 0")
		s.must("submit b in=10s")
		first()
		s.must("advance 50s")
		s.want("job b", "b QUEUED attempt 0")
		second()
	})
}

func TestDueJobsArePromotedAtTheirTimeAndInAnyNumber(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		q := queue.New(s.st, queue.Options{})
		specs := make([]job.Spec, 1100)
		for i := range specs {
			specs[i] = job.Spec{Engine: "mock", Queue: "default", RunAt: time.Now().Add(3 * time.Second)}
		}
		if _, err := q.Submit(t.Context(), "t", specs...); err != nil {
			t.Fatal(err)
		}
		s.must("submit early in=1s", "advance 1s")
		s.want("job early", "early QUEUED attempt 0")
		s.must("advance 2s")
		if err := s.st.Read(t.Context(), func(tx store.ReadTx) error {
			counts, err := tx.Counts(t.Context(), "t")
			if len(counts) != 1 || counts[0].State != job.Queued || counts[0].Jobs != 1100 {
				t.Errorf("counts %+v", counts)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestWorkersThatAreLongGoneAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newLeaderless(t, time.Now)
		s.lead(queue.New(s.st, queue.Options{Sweep: 10 * time.Minute}))
		s.must("attach w1", "attach w2", "leave w1", "advance 25h")
		s.must("attach w3")
		if err := s.st.Read(t.Context(), func(tx store.ReadTx) error {
			ws, err := tx.Workers(t.Context())
			if len(ws) != 1 || ws[0].Worker != "w3" {
				t.Errorf("workers %+v, want w3", ws)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	})
}

func TestChangedTellsOfEveryCommit(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		for _, line := range []string{"submit a", "attach w1", "claim w1", "beat w1 held=a progress=0.5", "cancel a", "finish a",
			"pause default", "resume default", "retry a", "hold a", "release a", "priority a 3", "leave w1"} {
			changed := s.q.Changed()
			s.must(line)
			select {
			case <-changed:
			default:
				t.Errorf("%s told nobody", line)
			}
		}
	})
}

func TestG17_AnotherTenantsJobIsAsAbsentAsNone(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.must("submit a tenant=b")
		for _, verb := range []string{"cancel", "hold", "release", "retry", "explain"} {
			theirs, none := s.do(verb+" a tenant=c"), s.do(verb+" zzz tenant=c")
			if want := "error not_found"; theirs[:len(want)] != want || none[:len(want)] != want {
				t.Errorf("%s: %q and %q", verb, theirs, none)
			}
		}
		s.want("job a", "a QUEUED attempt 0")
	})
}

// damaged is a store with a row that cannot be read.
type damaged struct {
	store.Store
	id job.ID
}

type damagedTx struct {
	store.Tx
	id job.ID
}

func (d damaged) Write(ctx context.Context, fn func(store.Tx) error) error {
	return d.Store.Write(ctx, func(tx store.Tx) error { return fn(damagedTx{tx, d.id}) })
}

func (tx damagedTx) LockJobs(ctx context.Context, ids []job.ID) ([]job.Job, error) {
	return tx.Tx.LockJobs(ctx, slices.DeleteFunc(slices.Clone(ids), func(id job.ID) bool { return id == tx.id }))
}

func (tx damagedTx) Job(ctx context.Context, t job.Tenant, id job.ID) (job.Job, error) {
	if id == tx.id {
		return job.Job{}, job.Errorf(job.Internal, "the row is damaged")
	}
	return tx.Tx.Job(ctx, t, id)
}

func TestARowThatCannotBeReadCostsNoProgramAndNoResult(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.must("attach w1", "submit a", "submit b", "claim w1")
		whole := s.q
		s.q = queue.New(damaged{s.st, s.id("a")}, queue.Options{})
		s.want("beat w1 held=a,b", "carry a fence 1: read job "+string(s.id("a"))+": the row is damaged\ncarry b fence 1")
		if err := s.q.Finish(t.Context(), s.leases["a"], job.Outcome{}); job.CodeOf(err) != job.Internal {
			t.Errorf("Finish: %v, want internal, so that the worker tries again", err)
		}
		s.want("attach w1 found=a#1,b#1,c#1", "carry b#1 fence 2\nfenced c#1")
		s.q = whole
		s.must("finish b")
		s.want("job a", "a RUNNING attempt 1 on w1")
	})
}

// broken is a store that fails now and then.
type broken struct {
	store.Store
	down *atomic.Bool
}

func (b broken) Write(ctx context.Context, fn func(store.Tx) error) error {
	if b.down.Load() {
		return job.Errorf(job.Unavailable, "the disk is full")
	}
	return b.Store.Write(ctx, fn)
}

func TestMaintenanceGoesOnWhenTheStoreIsBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newLeaderless(t, time.Now)
		var down atomic.Bool
		s.lead(queue.New(broken{s.st, &down}, queue.Options{}))
		s.must("submit a in=30s")
		down.Store(true)
		s.must("advance 1m")
		s.want("job a", "a PENDING (begin_time) attempt 0 until +30s: starts no earlier than +30s")
		down.Store(false)
		s.must("advance 10s")
		s.want("job a", "a QUEUED attempt 0")
	})
}

func TestOneJobThatCannotBeChangedDoesNotKeepTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newLeaderless(t, time.Now)
		s.must("submit a in=1s", "submit b in=1s", "submit c in=1s")
		s.lead(queue.New(stubborn{s.st, s.id("b")}, queue.Options{}))
		s.must("advance 20s")
		s.want("job a", "a QUEUED attempt 0")
		s.want("job c", "c QUEUED attempt 0")
		s.want("job b", "b PENDING (begin_time) attempt 0 until +1s: starts no earlier than +1s")
	})
}

// stubborn is a store with a row that cannot be saved.
type stubborn struct {
	store.Store
	id job.ID
}

type stubbornTx struct {
	store.Tx
	id job.ID
}

func (b stubborn) Write(ctx context.Context, fn func(store.Tx) error) error {
	return b.Store.Write(ctx, func(tx store.Tx) error { return fn(stubbornTx{tx, b.id}) })
}

func (tx stubbornTx) SaveJobs(ctx context.Context, jobs []job.Job) error {
	for _, j := range jobs {
		if j.ID == tx.id {
			return job.Errorf(job.Internal, "job %s cannot be saved", j.ID)
		}
	}
	return tx.Tx.SaveJobs(ctx, jobs)
}
