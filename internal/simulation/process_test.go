package simulation

import (
	"context"
	"errors"
	"sync"
	"time"
)

var (
	errKilled  = errors.New("the process was killed")
	errStopped = errors.New("the process was asked to end")
)

// process is a server or a worker as the kernel sees it. What it does to the
// world passes here first: a frozen process does nothing until it is thawed, and
// a dead one nothing more.
type process struct {
	name string
	ctx  context.Context // ends when it is killed or asked to end
	end  context.CancelCauseFunc
	dead chan struct{} // closed when it is killed

	mu     sync.Mutex
	killed bool          // guarded by mu
	thawed chan struct{} // guarded by mu; nil while it runs
}

func newProcess(ctx context.Context, name string) *process {
	p := &process{name: name, dead: make(chan struct{})}
	p.ctx, p.end = context.WithCancelCause(ctx)
	return p
}

// pass waits while the process is frozen, and reports whether it lives.
func (p *process) pass() bool {
	for {
		p.mu.Lock()
		killed, thawed := p.killed, p.thawed
		p.mu.Unlock()
		if killed || thawed == nil {
			return !killed
		}
		select {
		case <-thawed:
		case <-p.dead:
		}
	}
}

// passWith is pass for one of many that wait: they do not all go on at the same
// instant, in an order that nobody could repeat.
func (p *process) passWith(ch *chance) bool {
	p.mu.Lock()
	frozen := p.thawed != nil
	p.mu.Unlock()
	if !p.pass() {
		return false
	}
	if frozen {
		time.Sleep(ch.within(0, time.Millisecond))
	}
	return p.pass()
}

func (p *process) kill() {
	p.mu.Lock()
	if !p.killed {
		p.killed = true
		close(p.dead)
	}
	p.mu.Unlock()
	p.end(errKilled)
}

func (p *process) alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.killed
}

func (p *process) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.thawed == nil {
		p.thawed = make(chan struct{})
	}
}

func (p *process) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.thawed != nil {
		close(p.thawed)
		p.thawed = nil
	}
}

// sleep waits, and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
