package api

import (
	"context"
	"fmt"
	"sync"

	"github.com/nano-os/nanoos/internal/job"
)

// Finish implements worker.Queue. Calls that come while a request is under way
// go together with the next one.
func (c *WorkerClient) Finish(ctx context.Context, l job.Lease, out job.Outcome) error {
	e := &waitingEnd{wire: endingWire{job.Ending{ID: l.Job.ID, Fence: l.Fence, Outcome: out}, c.known.prove(l.Job.ID, l.Fence)}, done: make(chan error, 1)}
	if c.endings.add(e) {
		c.wg.Go(c.sendEndings)
	}
	select {
	case err := <-e.done:
		return plain(err)
	case <-ctx.Done():
		// It may be stored or not; to repeat it is no error.
		return context.Cause(ctx)
	}
}

// A request carries at most so many endings, and results of so many bytes; one
// that is larger goes alone.
const (
	maxEndings     = 256
	maxEndingBytes = 16 << 20
)

// endings are those that wait for the next request.
type endings struct {
	mu      sync.Mutex
	waiting []*waitingEnd // guarded by mu
	sending bool          // guarded by mu; somebody sends until none waits
}

type waitingEnd struct {
	wire endingWire
	done chan error // has room for the answer
}

// add reports whether the caller must see to the sending.
func (e *endings) add(w *waitingEnd) (send bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waiting = append(e.waiting, w)
	send = !e.sending
	e.sending = true
	return send
}

// take returns what the next request carries; none ends the sending.
func (e *endings) take() []*waitingEnd {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, size := 0, 0
	for n < min(len(e.waiting), maxEndings) {
		size += len(e.waiting[n].wire.Outcome.Result)
		if n > 0 && size > maxEndingBytes {
			break
		}
		n++
	}
	batch := e.waiting[:n:n]
	e.waiting = e.waiting[n:]
	e.sending = n > 0
	return batch
}

// sendEndings sends until nothing waits.
func (c *WorkerClient) sendEndings() {
	for batch := c.endings.take(); len(batch) > 0; batch = c.endings.take() {
		in := finishRequest{Endings: make([]endingWire, len(batch))}
		for i, e := range batch {
			in.Endings[i] = e.wire
		}
		for i, err := range c.finishAll(in) {
			e := batch[i]
			if err == nil || job.CodeOf(err) == job.Fenced || job.CodeOf(err) == job.NotFound {
				c.known.ended(e.wire.ID, e.wire.Fence)
			}
			e.done <- err
		}
	}
}

// finishAll sends one request, and returns an error or nil for each ending.
func (c *WorkerClient) finishAll(in finishRequest) []error {
	var out finishReply
	err := c.try(c.closing, func(at *Client) error {
		out = finishReply{}
		return c.post(c.closing, at, "finish", finishTimeout, in, &out)
	})
	if err == nil && len(out.Errors) != len(in.Endings) {
		err = &job.Error{Code: job.Unavailable, Message: "the answer to the end of attempts is incomplete",
			Why: fmt.Sprintf("it speaks of %d of %d", len(out.Errors), len(in.Endings))}
	}
	errs := make([]error, len(in.Endings))
	for i := range errs {
		switch {
		case err != nil:
			errs[i] = err
		case out.Errors[i] != nil:
			errs[i] = out.Errors[i]
		}
	}
	return errs
}
