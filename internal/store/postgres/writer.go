package postgres

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nano-os/nanoos/internal/store"
)

// writer owns the session that writes. One goroutine executes what callers
// queue: it takes all that waits, runs it in one transaction, commits once and
// then answers. There are no timers: a lone caller is committed at once, and
// under load the next batch gathers while the last one is being committed.
type writer struct {
	store   *Store
	ops     chan *op
	closing chan struct{} // closed by stop
	ended   chan struct{} // closed when the goroutine has ended

	// What only the goroutine uses.
	conn  *conn                    // nil when there is none
	id    string                   // of the row in writers; "" when there is none
	batch int64                    // the last that was committed under id
	lanes map[laneKey]store.LaneID // known to be stored; a lane is never removed

	mu    sync.Mutex
	sum   store.Stats
	total time.Duration
}

const (
	// maxBatch bounds how many callers share a commit. Batches of 100 already
	// have nine tenths of the throughput of 500, and all of them wait for the
	// slowest.
	maxBatch = 256
	// maxTries bounds how often a batch is executed again, after deadlocks and
	// lost sessions.
	maxTries = 5
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
	timer := time.NewTimer(w.store.opt.bounds.turn)
	defer timer.Stop()
	select {
	case w.ops <- o:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-w.closing:
		return errClosed()
	case <-timer.C:
		return errWaited("the change waited for its turn")
	}
	select {
	case <-o.done:
	case <-w.ended:
	case <-timer.C:
		if o.claim(opDropped) {
			return errWaited("the change waited for its turn")
		}
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

func (w *writer) loop() {
	defer close(w.ended)
	defer w.leave()
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

// run executes a batch, answers it, and returns the ops that are left for the
// next.
func (w *writer) run(batch []*op) (rest []*op) {
	if err := w.connected(); err != nil {
		w.setHalted(err)
		for _, o := range batch {
			if o.claim(opTaken) {
				o.err = err
				close(o.done)
			}
		}
		return nil
	}
	began := time.Now()
	ran, rest, err := w.perform(batch, false)
	for try := 1; err != nil; try++ {
		switch verdict := w.judge(ran, try, began, err); verdict {
		case again, carefully:
			_, _, err = w.perform(ran, verdict == carefully)
		case oneByOne:
			for _, o := range ran {
				w.alone(o, began, err)
			}
			return rest
		case committed:
			err = nil
		default:
			w.answer(ran, w.final(err))
			return rest
		}
	}
	w.answer(ran, nil)
	return rest
}

// alone executes one op in a transaction of its own. why is what brought it
// here: ops that had to wait too long for each other are not tried.
func (w *writer) alone(o *op, began time.Time, why error) {
	ran := []*op{o}
	if time.Since(began) > w.store.opt.bounds.turn {
		w.answer(ran, fault("commit", why))
		return
	}
	_, _, err := w.perform(ran, true)
	for try := 1; err != nil; try++ {
		switch w.judge(ran, try, began, err) {
		case again, carefully:
			_, _, err = w.perform(ran, true)
		case committed:
			err = nil
		default:
			w.answer(ran, w.final(err))
			return
		}
	}
	w.answer(ran, nil)
}

// errUnverified means that an op failed after it had inserted jobs whose ids
// and keys nobody has looked up: it may have failed because it was not told.
var errUnverified = errors.New("an op failed on an insert that was not verified")

// A verdict says what follows from the failure of a batch.
type verdict int

const (
	hopeless  verdict = iota
	again             // nothing was committed, and the next try may succeed
	carefully         // the same, with a look at ids and keys before
	oneByOne          // one of the ops is at fault: find out which
	committed         // it was no failure
)

// judge decides what to do after a transaction was lost. began is when it was
// first tried.
func (w *writer) judge(ran []*op, try int, began time.Time, err error) verdict {
	more := try < maxTries && time.Since(began) < w.store.opt.bounds.turn
	if doubt, ok := err.(*doubtError); ok {
		stored, err := w.resolve(doubt)
		doubt.unresolved = err
		switch {
		case err != nil:
			return hopeless
		case stored:
			return committed
		case more && w.connected() == nil:
			return again
		}
		return hopeless
	}
	switch {
	case lost(err), hasCode(err, codeDivision) && w.id == "": // our row was removed, and is made anew
		if more && w.connected() == nil {
			return again
		}
	case hasCode(err, codeSerialization, codeDeadlock):
		if more {
			return again
		}
	case hasCode(err, codeUnique), errors.Is(err, errUnverified):
		if more {
			return carefully
		}
	case len(ran) > 1:
		return oneByOne
	}
	return hopeless
}

// final is what the callers of a batch get that cannot be executed.
func (w *writer) final(err error) error {
	if doubt, ok := err.(*doubtError); ok && doubt.unresolved != nil {
		err = errUnknown(doubt.unresolved)
		w.setHalted(err)
		return err
	}
	answer := fault("commit", err)
	if lost(err) || hasCode(err, codeDiskFull, codeReadOnly) {
		w.setHalted(answer)
	}
	return answer
}

// perform executes ops in one transaction. The error means that nothing of it
// was stored, or that this is in doubt.
func (w *writer) perform(batch []*op, careful bool) (ran, rest []*op, err error) {
	began := time.Now()
	t := newTransaction(w, len(batch) > 1, careful)
	for i, o := range batch {
		if len(ran) > 0 && time.Since(began) > w.store.opt.bounds.work && o.state.Load() == opWaiting {
			rest = batch[i:]
			break
		}
		if o.state.Load() != opTaken && (o.ctx.Err() != nil || !o.claim(opTaken)) {
			o.skip()
			continue
		}
		ran = append(ran, o)
		if t.execute(o); t.lost != nil {
			w.abandon()
			return ran, batch[i+1:], t.lost
		}
	}
	return ran, rest, w.commit(t, len(ran))
}

// skip answers an op whose caller has gone.
func (o *op) skip() {
	if o.claim(opTaken) {
		o.err = context.Cause(o.ctx)
		close(o.done)
	}
}

// execute runs one op. It may be for a second time.
func (t *transaction) execute(o *op) {
	o.err, o.panicked = nil, nil
	tx := t.op()
	o.call(tx)
	if t.lost != nil {
		return
	}
	failed := o.err != nil || o.panicked != nil
	if failed && len(tx.fresh) > 0 && !t.careful {
		t.lost = errUnverified
		return
	}
	if o.err == nil && tx.broken != nil {
		o.err = tx.broken
	}
	if o.err == nil && o.panicked == nil {
		t.keep(tx)
	} else if t.undo(tx) {
		t.abandoned = true
	}
}

// call runs fn and keeps its panic for the caller's goroutine.
func (o *op) call(tx *writeTx) {
	defer func() { o.panicked = recover() }()
	o.err = o.fn(tx)
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

// connected makes sure that there is a session, and tries for a while.
func (w *writer) connected() error {
	ctx, cancel := context.WithTimeout(context.Background(), w.store.opt.bounds.reconnect)
	defer cancel()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := w.connect(ctx)
		if err == nil {
			return nil
		}
		w.disconnect()
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}

func (w *writer) connect(ctx context.Context) (err error) {
	if w.conn != nil && w.conn.broken() {
		w.disconnect()
	}
	if w.conn == nil {
		if w.conn, err = w.store.server.connect(ctx); err != nil {
			return err
		}
	}
	return w.register()
}

func (w *writer) disconnect() {
	if w.conn != nil {
		w.conn.close()
		w.conn = nil
		clear(w.lanes) // it may be another database next time
	}
}

// abandon ends a transaction without a commit.
func (w *writer) abandon() {
	if w.conn == nil || !w.conn.broken() { // nothing has begun
		return
	}
	if w.conn.pg.IsClosed() || w.conn.exec(context.Background(), "ROLLBACK") != nil {
		w.disconnect()
	}
}

// leave ends the session.
func (w *writer) leave() {
	if w.conn != nil && w.id != "" {
		_ = w.conn.exec(context.Background(), deleteWriter, w.id) // else another server removes it
	}
	w.disconnect()
}

func (w *writer) stats() store.Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sum
}

// committedOne counts a commit.
func (w *writer) committedOne(ops int, took time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.total += took
	w.sum.Halted = nil
	w.sum.Commits++
	w.sum.Ops += int64(ops)
	w.sum.LastCommit = took
	w.sum.AvgCommit = w.total / time.Duration(w.sum.Commits)
}

func (w *writer) setHalted(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sum.Halted = err
}
