package queue

import (
	"sync"

	"github.com/nano-os/nanoos/internal/job"
)

// A wake-up is a hint: whoever waits also looks by himself now and then (S5),
// so that a lost hint, or a commit of another process, costs a second at most.

// wakes says which waiters a commit concerns.
type wakes uint8

const (
	wakeChanged wakes = 1 << iota // anything
	wakeWork                      // a job may be claimable
	wakeOrders                    // a running job is to be stopped
	wakeDue                       // a job waits for a time
)

// wakesOf returns whom the new state of a job concerns.
func wakesOf(j job.Job) wakes {
	switch {
	case j.State == job.Queued:
		return wakeWork
	case j.State == job.Pending && !j.RunAt.IsZero():
		return wakeDue
	case j.State == job.Running && j.Cancel != nil:
		return wakeOrders
	}
	return 0
}

// bells are what this process waits on. One for each kind of waiter, so that a
// submission does not wake those who wait for a cancel.
type bells struct {
	changed, work, orders, due bell
}

func (b *bells) ring(w wakes) {
	for _, r := range []struct {
		kind wakes
		bell *bell
	}{{wakeChanged, &b.changed}, {wakeWork, &b.work}, {wakeOrders, &b.orders}, {wakeDue, &b.due}} {
		if w&r.kind != 0 {
			r.bell.ring()
		}
	}
}

// bell wakes everybody who waits. The zero value is ready.
type bell struct {
	mu sync.Mutex
	ch chan struct{} // closed by the next ring; nil while nobody has asked
}

// next returns a channel that the next ring closes. A waiter takes it before it
// looks, so that nothing that happens in between is missed.
func (b *bell) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}
