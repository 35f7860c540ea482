package queue

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// finishTimeout bounds a commit on behalf of several callers, none of whom may
// end it for the others.
const finishTimeout = 30 * time.Second

// gathered merges calls of Finish without a timer: the first commits at once,
// those that come meanwhile wait and are committed together by one of them.
// The zero value is ready.
type gathered struct {
	mu      sync.Mutex
	busy    bool    // somebody commits, or was told to
	waiting []*call // guarded by mu, as are their lead flags
}

// call is one caller of Finish.
type call struct {
	end  job.Ending
	done chan error    // has room for the answer
	turn chan struct{} // has room for the word to commit what waits
	lead bool          // the word was given
}

func (g *gathered) finish(ctx context.Context, s *Service, end job.Ending) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c := &call{end: end, done: make(chan error, 1), turn: make(chan struct{}, 1)}
	g.mu.Lock()
	g.waiting = append(g.waiting, c)
	if !g.busy {
		g.busy = true
		g.next()
	}
	g.mu.Unlock()
	select {
	case err := <-c.done:
		return err
	case <-c.turn:
		g.commit(ctx, s)
		return <-c.done
	case <-ctx.Done():
		g.withdraw(c)
		return context.Cause(ctx)
	}
}

// next gives the first who waits the word to commit. The caller holds the lock
// and has found that nobody else commits.
func (g *gathered) next() {
	if len(g.waiting) == 0 {
		g.busy = false
		return
	}
	c := g.waiting[0]
	c.lead = true
	c.turn <- struct{}{}
}

// withdraw takes back a call. One whose commit has begun is not waited for: to
// repeat it is no error.
func (g *gathered) withdraw(c *call) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.waiting, c)
	if i < 0 {
		return
	}
	g.waiting = slices.Delete(g.waiting, i, i+1)
	if c.lead {
		g.next()
	}
}

// commit ends what waits now, and lets the next caller go on with the rest.
func (g *gathered) commit(ctx context.Context, s *Service) {
	g.mu.Lock()
	n := min(len(g.waiting), maxFinish)
	batch := slices.Clone(g.waiting[:n])
	g.waiting = slices.Delete(g.waiting, 0, n)
	g.mu.Unlock()

	ends := make([]job.Ending, n)
	for i, c := range batch {
		ends[i] = c.end
	}
	errs := make([]error, n)
	for i := range errs {
		errs[i] = job.Errorf(job.Internal, "job %s: the end was not decided", ends[i].ID)
	}
	defer func() {
		for i, c := range batch {
			c.done <- errs[i]
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.next()
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	copy(errs, s.FinishAll(ctx, ends))
}
