package worker

import (
	"context"
	"sync"
)

// settling keeps reports of ends apart from the settling of what is ours: a
// report that crossed the change of its fence would be refused although nobody
// else has the job. Reports may overlap.
//
// Both sides ask the queue while they are in, so it is no mutex: nobody waits
// here longer than his context. The zero value is ready.
type settling struct {
	mu      sync.Mutex
	reports int           // under way; guarded by mu, as is what follows
	settles int           // under way or waiting; while there is one no report begins
	inside  bool          // one of them is in
	changed chan struct{} // closed by the next change; nil while nobody waits
}

// report waits for the turn of a report, and reports false when ctx ended first.
// Whoever got in calls done.
func (s *settling) report(ctx context.Context) (done func(), in bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.settles > 0 {
		if !s.wait(ctx) {
			return nil, false
		}
	}
	s.reports++
	return func() { s.leave(func() { s.reports-- }) }, true
}

// settle waits until it is alone, and reports false when ctx ended first.
// Whoever got in calls done.
func (s *settling) settle(ctx context.Context) (done func(), in bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settles++
	for s.reports > 0 || s.inside {
		if !s.wait(ctx) {
			s.settles--
			s.ring()
			return nil, false
		}
	}
	s.inside = true
	return func() { s.leave(func() { s.settles--; s.inside = false }) }, true
}

func (s *settling) leave(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	s.ring()
}

// ring wakes everybody who waits. The caller holds mu.
func (s *settling) ring() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// wait gives up mu, which the caller holds, until something changed or ctx ended.
func (s *settling) wait(ctx context.Context) bool {
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	changed := s.changed
	s.mu.Unlock()
	defer s.mu.Lock()
	select {
	case <-changed:
		return true
	case <-ctx.Done():
		return false
	}
}
