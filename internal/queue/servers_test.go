package queue_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
	"github.com/nano-os/nanoos/internal/store"
)

// second returns another server on the stage's store.
func (s *stage) second() *queue.Service {
	return queue.New(s.st, queue.Options{Name: "s2", MaxQueued: 100, Rand: func() float64 { return 0.5 }})
}

// on runs commands on one of several servers.
func (s *stage) on(q *queue.Service, lines ...string) string {
	s.t.Helper()
	here := s.q
	defer func() { s.q = here }()
	s.q = q
	return s.must(lines...)
}

func TestOrdersOfAnotherServerAreFoundWithinASecond(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.must("attach w1", "submit a", "claim w1")
		done, here := make(chan []job.Order, 1), s.q
		go func() {
			orders, err := here.Orders(t.Context(), "w1", 30*time.Second)
			if err != nil {
				t.Error(err)
			}
			done <- orders
		}()
		time.Sleep(5*time.Second + 100*time.Millisecond)
		begin := time.Now()
		other := s.second()
		s.on(other, "cancel a by=ada")
		if got := s.printOrders(<-done, nil); got != "stop a fence 1: cancel requested by ada\n" || time.Since(begin) > 1500*time.Millisecond {
			t.Errorf("orders %q after %v", got, time.Since(begin))
		}
		// The other server has not told it yet; to hear it twice does no harm.
		if got := s.on(other, "orders w1"); got != "stop a fence 1: cancel requested by ada\n" {
			t.Errorf("orders of the other server: %q", got)
		}
	})
}

func TestG9_ALostLeaseIsFoundByWhicheverServerHearsTheWorker(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.must("attach w1", "submit a", "submit b", "claim w1")
		// Every beat goes to a server that has not seen the worker before.
		for range 6 {
			s.on(s.second(), "beat w1 held=b", "advance 10s")
		}
		s.want("job a", "a RUNNING attempt 1 on w1")
		s.on(s.second(), "advance 1s", "beat w1 held=b")
		s.want("attempts a", "#1 on w1 +0s … +1m1s lost")
		s.want("job b", "b RUNNING attempt 1 on w1")
	})
}

func TestADrainEndsTheClaimThatWaitsAtAnotherServer(t *testing.T) {
	inBubble(t, func(t *testing.T, s *stage) {
		s.must("attach w1", "attach w2")
		here, other := s.q, s.second()
		got := make(chan []job.Lease, 1)
		go func() {
			leases, err := here.Claim(t.Context(), "w1", free(4), 1, 20*time.Second)
			if err != nil {
				t.Error(err)
			}
			got <- leases
		}()
		synctest.Wait()
		s.on(other, "drain w1", "submit a")
		if leases := <-got; len(leases) > 0 {
			t.Errorf("a drained worker was given %v", leases)
		}
		s.on(other, "undrain w1")
		s.want("claim w1", "got a#1 fence 1")
	})
}

func TestG9_ARollingRestartOfServersBeginsNoNewTerm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newLeaderless(t, time.Now)
		s.must("attach w1", "submit a")
		stop := s.lead(s.q)
		s.must("claim w1")
		// Each server leads for 4 minutes; somebody listens all the time.
		for range 4 {
			next := s.lead(queue.New(s.st, queue.Options{}))
			s.must("advance 2m")
			stop()
			stop = next
			s.must("advance 2m")
		}
		// lost_after and two sweeps, of which the change of leaders takes a part.
		if got := s.do("attempts a"); got != "#1 on w1 +0s … +15m5s lost\n" {
			t.Errorf("attempts: %s", got)
		}
	})
}

// cut is one server's way to the store, which may be cut off from it.
type cut struct {
	store.Store
	mu  sync.Mutex
	off bool
}

func (c *cut) set(off bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off = off
}

func (c *cut) check() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.off {
		return job.Errorf(job.Unavailable, "the database does not answer")
	}
	return nil
}

func (c *cut) Read(ctx context.Context, fn func(store.ReadTx) error) error {
	if err := c.check(); err != nil {
		return err
	}
	return c.Store.Read(ctx, fn)
}

func (c *cut) Write(ctx context.Context, fn func(store.Tx) error) error {
	if err := c.check(); err != nil {
		return err
	}
	return c.Store.Write(ctx, fn)
}

func TestAnOutageOfTheDatabaseIsNotTheDeathOfWorkers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newLeaderless(t, time.Now)
		ways := []*cut{{Store: s.st}, {Store: s.st}}
		for i, way := range ways {
			s.lead(queue.New(way, queue.Options{Name: []string{"s1", "s2"}[i]}))
		}
		s.must("attach w1", "submit a", "claim w1", "advance 1m", "beat w1 held=a")
		// Both servers lose the database for an hour, and find it again at different times.
		ways[0].set(true)
		ways[1].set(true)
		s.must("advance 1h")
		ways[0].set(false)
		s.must("advance 10m")
		ways[1].set(false)
		s.must("advance 4m50s")
		s.want("job a", "a RUNNING attempt 1 on w1")
		s.must("advance 25s")
		if got := s.do("job a"); got[:9] == "a RUNNING" {
			t.Errorf("not given up after a fresh term: %s", got)
		}
	})
}

func TestAServerThatWasCutOffJudgesNobodyByWhatItMissed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newLeaderless(t, time.Now)
		way := &cut{Store: s.st}
		s.lead(queue.New(way, queue.Options{Name: "s1"}))
		s.must("attach w1", "submit a", "claim w1", "advance 1m")
		way.set(true)
		stop := s.lead(queue.New(s.st, queue.Options{Name: "s2"}))
		for range 40 {
			s.must("advance 30s", "beat w1 held=a")
		}
		// The other leader ends just as the first one is back.
		stop()
		way.set(false)
		s.must("advance 14m")
		s.want("job a", "a RUNNING attempt 1 on w1")
	})
}

// hub carries hints between the servers on one store.
type hub struct {
	mu    sync.Mutex
	heard map[int]func(uint8)
	next  int
}

// linked is one server's end of a hub.
type linked struct {
	store.Store
	hub *hub
	me  int
}

func (h *hub) link(st store.Store) *linked {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next++
	return &linked{st, h, h.next}
}

func (l *linked) Notify(kinds uint8) {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	for who, heard := range l.hub.heard {
		if who != l.me {
			heard(kinds)
		}
	}
}

func (l *linked) Listen(ctx context.Context, heard func(uint8)) error {
	l.hub.mu.Lock()
	l.hub.heard[l.me] = heard
	l.hub.mu.Unlock()
	<-ctx.Done()
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	delete(l.hub.heard, l.me)
	return context.Cause(ctx)
}

func TestHintsWakeWhoWaitsAtAnotherServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newLeaderless(t, time.Now)
		h := &hub{heard: map[int]func(uint8){}}
		here, there := queue.New(h.link(s.st), queue.Options{Name: "s1"}), queue.New(h.link(s.st), queue.Options{Name: "s2"})
		s.lead(here)
		s.lead(there)
		s.on(here, "attach w1")
		got := make(chan time.Time, 2)
		go func() {
			leases, err := here.Claim(t.Context(), "w1", free(4), 1, time.Minute)
			if err != nil || len(leases) != 1 {
				t.Errorf("Claim = %v, %v", leases, err)
			}
			got <- time.Now()
		}()
		time.Sleep(10*time.Second + 100*time.Millisecond)
		begin := time.Now()
		s.on(there, "submit a")
		if at := <-got; at != begin {
			t.Errorf("claimed after %v, want at once", at.Sub(begin))
		}
		go func() {
			orders, err := here.Orders(t.Context(), "w1", time.Minute)
			if err != nil || len(orders) != 1 {
				t.Errorf("Orders = %v, %v", orders, err)
			}
			got <- time.Now()
		}()
		time.Sleep(10*time.Second + 100*time.Millisecond)
		begin = time.Now()
		s.on(there, "cancel a")
		if at := <-got; at != begin {
			t.Errorf("ordered after %v, want at once", at.Sub(begin))
		}
	})
}
