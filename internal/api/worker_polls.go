package api

import (
	"context"
	"errors"
	"sync"
	"time"
)

// errInterrupted ends a claim whose worker asks anew.
var errInterrupted = errors.New("the worker has ended this claim")

// polls are the claims that wait, by their name, so that their workers can end
// them without losing what they may have got.
type polls struct {
	mu sync.Mutex
	// open has what ends a claim; nil for one that was ended before it came,
	// because the two requests have overtaken each other. Guarded by mu.
	open map[string]context.CancelCauseFunc
}

// early is how long an end waits for its claim, and maxEarly how many ends may.
const (
	early    = 5 * time.Second
	maxEarly = 10_000
)

// enter registers a claim; leave must follow.
func (p *polls) enter(name string, end context.CancelCauseFunc) (leave func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil {
		p.open = map[string]context.CancelCauseFunc{}
	}
	if was, known := p.open[name]; known && was == nil {
		end(errInterrupted)
	}
	p.open[name] = end
	return func() { p.forget(name) }
}

// interrupt ends a claim, even one that is still on its way.
func (p *polls) interrupt(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if end := p.open[name]; end != nil {
		end(errInterrupted)
		return
	}
	if len(p.open) >= maxEarly {
		return
	}
	if p.open == nil {
		p.open = map[string]context.CancelCauseFunc{}
	}
	p.open[name] = nil
	time.AfterFunc(early, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if end, known := p.open[name]; known && end == nil {
			delete(p.open, name)
		}
	})
}

func (p *polls) forget(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, name)
}
