package sqlite

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// writer owns the connection that writes. One goroutine executes what callers
// queue: it takes all that waits, runs it in one transaction, commits once and
// then answers. There are no timers: a lone caller is committed at once, and
// under load the next batch gathers while the last one is being flushed.
type writer struct {
	store   *Store
	conn    *conn
	ops     chan *op
	closing chan struct{} // closed by stop
	ended   chan struct{} // closed when the goroutine has ended

	// What only the goroutine uses.
	open    bool                     // a transaction is
	halt    *halt                    // what keeps it from writing
	written int                      // pages, at the last checkpoint
	lanes   map[laneKey]store.LaneID // known to be stored; emptied by every rollback, as are the specs
	specs   specCache

	mu    sync.Mutex
	sum   store.Stats
	total time.Duration
}

const (
	// maxBatch bounds how many callers share a commit. Batches of 100 already
	// have nine tenths of the throughput of 500, and all of them wait for the
	// slowest.
	maxBatch = 256
	// maxWork bounds how long the first caller of a batch waits for the others
	// to run; the rest is left for the next batch.
	maxWork = 20 * time.Millisecond
	// checkpointPages is how much the WAL may hold before it is written back:
	// 16 MiB, so that hot pages are written back once for many commits.
	checkpointPages = 4096
)

// op is one call of Write.
type op struct {
	ctx      context.Context
	fn       func(store.Tx) error
	state    atomic.Int32 // opWaiting, then one of the others for good
	done     chan struct{}
	err      error
	panicked any
}

const (
	opWaiting = iota
	opTaken   // by the writer
	opDropped // by its caller
)

// claim decides once whether an op is executed or given up.
func (o *op) claim(by int32) bool { return o.state.CompareAndSwap(opWaiting, by) }

func startWriter(s *Store, c *conn) *writer {
	w := &writer{
		store: s, conn: c,
		lanes:   map[laneKey]store.LaneID{},
		ops:     make(chan *op, maxBatch),
		closing: make(chan struct{}),
		ended:   make(chan struct{}),
	}
	go w.loop()
	return w
}

// stop executes what has been queued and ends the goroutine.
func (w *writer) stop() {
	close(w.closing)
	<-w.ended
}

// do queues fn and waits for the commit that holds it.
func (w *writer) do(ctx context.Context, fn func(store.Tx) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	o := &op{ctx: ctx, fn: fn, done: make(chan struct{})}
	select {
	case <-w.closing:
		return errClosed()
	default:
	}
	select {
	case w.ops <- o:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-w.closing:
		return errClosed()
	}
	select {
	case <-o.done:
	case <-w.ended:
	case <-ctx.Done():
		if o.claim(opDropped) {
			return context.Cause(ctx)
		}
	}
	return w.outcome(o)
}

// outcome waits for the answer to an op that the writer has taken, or that it
// never will.
func (w *writer) outcome(o *op) error {
	select {
	case <-o.done:
	case <-w.ended:
		select {
		case <-o.done:
		default:
			return errClosed()
		}
	}
	if o.panicked != nil {
		panic(o.panicked)
	}
	return o.err
}

func errClosed() error {
	return &job.Error{Code: job.Unavailable, Message: "the database is closed", Why: "the server is shutting down", Fix: "try again when it is back"}
}

func (w *writer) loop() {
	defer close(w.ended)
	var batch []*op
	for {
		if len(batch) == 0 {
			select {
			case o := <-w.ops:
				batch = append(batch, o)
			case <-w.closing:
				if len(w.ops) == 0 {
					return
				}
				continue
			}
		}
		batch = w.run(w.gather(batch))
	}
}

// gather adds what waits to the batch. The callers that were just answered run
// first, for they may have the next thing to write.
func (w *writer) gather(batch []*op) []*op {
	runtime.Gosched()
	for len(batch) < maxBatch {
		select {
		case o := <-w.ops:
			batch = append(batch, o)
		default:
			return batch
		}
	}
	return batch
}

// run executes a batch in one transaction, answers it, and returns the ops
// that are left for the next.
func (w *writer) run(batch []*op) (rest []*op) {
	began := time.Now()
	if err := w.ready(); err != nil {
		return w.refuse(batch, err)
	}
	if _, err := w.conn.exec("BEGIN IMMEDIATE"); err != nil {
		return w.refuse(batch, w.failed("begin", err))
	}
	w.open = true
	var ran []*op
	changed := false
	for i, o := range batch {
		if i > 0 && time.Since(began) > maxWork {
			rest = batch[i:]
			break
		}
		if o.ctx.Err() != nil || !o.claim(opTaken) {
			o.skip()
			continue
		}
		ran = append(ran, o)
		wrote, err := w.execute(o, len(batch) > 1)
		if err != nil {
			w.rollback()
			w.answer(ran, w.failed("write", err))
			return batch[i+1:]
		}
		changed = changed || wrote
	}
	w.commit(ran, changed)
	return rest
}

// skip answers an op whose caller has gone.
func (o *op) skip() {
	if o.claim(opTaken) {
		o.err = context.Cause(o.ctx)
		close(o.done)
	}
}

// refuse answers every op with the reason why none was executed.
func (w *writer) refuse(batch []*op, err error) (rest []*op) {
	for _, o := range batch {
		if o.claim(opTaken) {
			o.err = err
			close(o.done)
		}
	}
	return nil
}

// answer tells the callers that their ops are durable, or that those which
// went well failed with the rest.
func (w *writer) answer(ran []*op, err error) {
	for _, o := range ran {
		if o.err == nil && o.panicked == nil {
			o.err = err
		}
		close(o.done)
	}
}

// execute runs one op. Alone it may use the whole transaction; among others it
// gets a savepoint, opened before its first change. The error means that the
// transaction is lost for all.
func (w *writer) execute(o *op, shared bool) (wrote bool, err error) {
	tx := w.newTx(shared)
	o.call(tx)
	if tx.fault == nil && o.err == nil && o.panicked == nil {
		o.err = tx.flushCounts()
	}
	if tx.fault != nil {
		if lostTransaction(tx.fault) {
			o.err = nil // it failed with the others
			return false, tx.fault
		}
		o.err = tx.fault // even if fn swallowed it
	}
	undo := o.err != nil || o.panicked != nil
	switch {
	case !tx.wrote:
		return false, nil
	case undo && !shared:
		w.rollback()
		return false, nil
	case undo:
		w.forget()
		_, err = w.conn.exec("ROLLBACK TO op")
	}
	if err == nil && shared {
		_, err = w.conn.exec("RELEASE op")
	}
	return !undo, err
}

// call runs fn and keeps its panic for the caller's goroutine.
func (o *op) call(tx *writeTx) {
	defer func() { o.panicked = recover() }()
	o.err = o.fn(tx)
}

// commit makes the batch durable and answers it.
func (w *writer) commit(ran []*op, changed bool) {
	if !w.open { // the only op of the batch has undone it
		w.answer(ran, nil)
		return
	}
	began := time.Now()
	_, err := w.conn.exec("COMMIT")
	took := time.Since(began)
	w.open = err != nil
	if err != nil {
		w.rollback()
		w.answer(ran, w.failed("commit", err))
		return
	}
	if changed {
		w.mu.Lock()
		w.total += took
		w.sum.Commits++
		w.sum.Ops += int64(len(ran))
		w.sum.LastCommit = took
		w.sum.AvgCommit = w.total / time.Duration(w.sum.Commits)
		w.mu.Unlock()
	}
	w.answer(ran, nil)
	if changed {
		w.checkpoint()
	}
}

// rollback undoes the transaction, unless SQLite has already: it does when the
// disk is full.
func (w *writer) rollback() {
	w.conn.exec("ROLLBACK")
	w.open = false
	w.forget()
}

// forget drops what may just have been undone.
func (w *writer) forget() {
	clear(w.lanes)
	w.specs.clear()
}

func (w *writer) stats() store.Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sum
}
