package simulation

import (
	"fmt"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
)

// Times of the system under test: about a tenth of the defaults, so that a seed
// covers more.
const (
	session   = 20 * time.Second
	lostAfter = 60 * time.Second
	sweep     = 6 * time.Second
	beatEvery = 6 * time.Second
)

// server is a machine on which a queue.Service is started again and again.
type server struct {
	world *world
	name  string
	skew  time.Duration // of its clock

	mu    sync.Mutex
	lives int
	life  *life // nil while it is down
}

// life is one process of a server, with what it keeps in memory.
type life struct {
	proc  *process
	queue *queue.Service
}

func (s *server) current() *life {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.life
}

func (s *server) start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life != nil {
		return
	}
	s.lives++
	w := s.world
	name := fmt.Sprintf("%s.%d", s.name, s.lives)
	p := newProcess(w.ctx, name)
	db := &database{inner: w.model, history: w.history, faults: w.faults, mutant: w.mutant, server: p, skew: s.skew, tell: w.logf}
	q := queue.New(db, queue.Options{Name: name, Session: session, LostAfter: lostAfter, Sweep: sweep, Rand: w.chance.of(name + "/jitter").now})
	s.life = &life{p, q}
	duties := withOp(p.ctx, &op{kind: "maintain", chance: w.chance.of(name + "/duties")})
	w.wg.Go(func() { _ = q.Maintain(duties) })
}

func (s *server) crash() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life != nil {
		s.life.proc.kill()
		s.life = nil
	}
}

// guard is the fence that a report carries into the service: its own, unless a
// mutant takes the guard away.
func (w *world) guard(reporter string, l job.Lease) job.Fence {
	now := w.history.row(l.Job.ID)
	switch {
	case w.mutant == noGuard, w.mutant == workerGuard && now.Worker == reporter:
		return now.Fence
	}
	return l.Fence
}
