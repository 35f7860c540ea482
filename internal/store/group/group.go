// Package group is the group commit of the databases' writers. Callers queue
// what they want done; one goroutine takes all that waits, has it executed
// together and answers each. There are no timers: a lone caller is executed at
// once, and under load the next batch gathers while the last one is being
// committed.
package group

import (
	"context"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// Queue holds the calls for the one goroutine that executes them.
type Queue struct {
	opt     Options
	ops     chan *Op
	closing chan struct{} // closed by Stop
	ended   chan struct{} // closed when the goroutine has ended
}

// Options of a queue; Run is required.
type Options struct {
	// Run executes a batch and answers its calls; it returns those that are
	// left for the next one. Only the queue's goroutine calls it.
	Run func(batch []*Op) (rest []*Op)
	// Leave is called by the same goroutine when it ends; nil does nothing.
	Leave func()
	// Turn bounds how long a call may wait to be executed; zero means as long as
	// its context allows. Late is the answer to one that waited longer.
	Turn time.Duration
	Late error
}

// maxBatch bounds how many callers share a commit. Batches of 100 already have
// nine tenths of the throughput of 500, and all of them wait for the slowest.
const maxBatch = 256

// Op is one call of Write.
type Op struct {
	ctx   context.Context
	fn    func(store.Tx) error
	state atomic.Int32 // waiting, then one of the others for good
	done  chan struct{}
	// Err and Panicked are what became of it.
	Err      error
	Panicked any
}

const (
	waiting = iota
	taken   // by the writer
	dropped // by its caller
)

// Start returns a queue whose goroutine runs until Stop.
func Start(opt Options) *Queue {
	q := &Queue{
		opt:     opt,
		ops:     make(chan *Op, maxBatch),
		closing: make(chan struct{}),
		ended:   make(chan struct{}),
	}
	go q.loop()
	return q
}

// Stop executes what has been queued and ends the goroutine.
func (q *Queue) Stop() {
	close(q.closing)
	<-q.ended
}

// Stopping is closed when Stop has been called.
func (q *Queue) Stopping() <-chan struct{} { return q.closing }

// Len is how many calls wait.
func (q *Queue) Len() int { return len(q.ops) }

// Do queues fn and waits for the commit that holds it.
func (q *Queue) Do(ctx context.Context, fn func(store.Tx) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	o := &Op{ctx: ctx, fn: fn, done: make(chan struct{})}
	select {
	case <-q.closing:
		return Closed()
	default:
	}
	var late <-chan time.Time
	if q.opt.Turn > 0 {
		timer := time.NewTimer(q.opt.Turn)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case q.ops <- o:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-q.closing:
		return Closed()
	case <-late:
		return q.opt.Late
	}
	select {
	case <-o.done:
	case <-q.ended:
	case <-late:
		if o.claim(dropped) {
			return q.opt.Late
		}
	case <-ctx.Done():
		if o.claim(dropped) {
			return context.Cause(ctx)
		}
	}
	return q.outcome(o)
}

// outcome waits for the answer to an op that the writer has taken, or that it
// never will.
func (q *Queue) outcome(o *Op) error {
	select {
	case <-o.done:
	case <-q.ended:
		select {
		case <-o.done:
		default:
			return Closed()
		}
	}
	if o.Panicked != nil {
		panic(o.Panicked)
	}
	return o.Err
}

// Closed is the answer of a database that has been closed.
func Closed() error {
	return &job.Error{Code: job.Unavailable, Message: "the database is closed", Why: "the server is shutting down", Fix: "try again when it is back"}
}

func (q *Queue) loop() {
	defer close(q.ended)
	if q.opt.Leave != nil {
		defer q.opt.Leave()
	}
	var batch []*Op
	for {
		if len(batch) == 0 {
			select {
			case o := <-q.ops:
				batch = append(batch, o)
			case <-q.closing:
				if len(q.ops) == 0 {
					return
				}
				continue
			}
		}
		batch = q.opt.Run(q.gather(batch))
	}
}

// gather adds what waits to the batch. The callers that were just answered run
// first, for they may have the next thing to write.
func (q *Queue) gather(batch []*Op) []*Op {
	runtime.Gosched()
	for len(batch) < maxBatch {
		select {
		case o := <-q.ops:
			batch = append(batch, o)
		default:
			return batch
		}
	}
	return batch
}

// claim decides once whether an op is executed or given up.
func (o *Op) claim(by int32) bool { return o.state.CompareAndSwap(waiting, by) }

// Waiting reports whether nobody has taken or dropped it yet.
func (o *Op) Waiting() bool { return o.state.Load() == waiting }

// Take reports whether it is to be executed, now or again: its caller waits
// for it. It answers one whose caller has gone.
func (o *Op) Take() bool {
	if o.state.Load() == taken {
		return true
	}
	if o.ctx.Err() == nil {
		return o.claim(taken)
	}
	if o.claim(taken) {
		o.Err = context.Cause(o.ctx)
		close(o.done)
	}
	return false
}

// Call runs it in a transaction, perhaps not for the first time, and keeps its
// panic for the caller's goroutine.
func (o *Op) Call(tx store.Tx) {
	o.Err = nil
	defer func() { o.Panicked = recover() }()
	o.Err = o.fn(tx)
}

// Failed reports whether what it did is to be undone.
func (o *Op) Failed() bool { return o.Err != nil || o.Panicked != nil }

// Refuse answers ops that nobody has taken with the reason why none is executed.
func Refuse(ops []*Op, err error) {
	for _, o := range ops {
		if o.claim(taken) {
			o.Err = err
			close(o.done)
		}
	}
}

// Answer tells the callers of ops that were executed that these are durable, or
// that those which went well failed with the rest.
func Answer(ran []*Op, err error) {
	for _, o := range ran {
		if !o.Failed() {
			o.Err = err
		}
		close(o.done)
	}
}
