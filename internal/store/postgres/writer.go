package postgres

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/group"
)

// writer owns the session that writes. What callers queue is executed together:
// in one transaction, with one commit.
type writer struct {
	store *Store
	calls *group.Queue

	// What only the goroutine of the queue uses.
	conn  *conn                    // nil when there is none
	id    string                   // of the row in writers; "" when there is none
	batch int64                    // the last that was committed under id
	lanes map[laneKey]store.LaneID // known to be stored; a lane is never removed

	mu    sync.Mutex
	sum   store.Stats
	total time.Duration
}

// maxTries bounds how often a batch is executed again, after deadlocks and lost
// sessions.
const maxTries = 5

func startWriter(s *Store, c *conn) *writer {
	w := &writer{store: s, conn: c, lanes: map[laneKey]store.LaneID{}}
	w.calls = group.Start(group.Options{Run: w.run, Leave: w.leave, Turn: s.opt.bounds.turn, Late: errWaited("the change waited for its turn")})
	return w
}

// run executes a batch, answers it, and returns the ops that are left for the
// next.
func (w *writer) run(batch []*group.Op) (rest []*group.Op) {
	if err := w.connected(); err != nil {
		w.setHalted(err)
		group.Refuse(batch, err)
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
			group.Answer(ran, w.final(err))
			return rest
		}
	}
	group.Answer(ran, nil)
	return rest
}

// alone executes one op in a transaction of its own. why is what brought it
// here: ops that had to wait too long for each other are not tried.
func (w *writer) alone(o *group.Op, began time.Time, why error) {
	ran := []*group.Op{o}
	if time.Since(began) > w.store.opt.bounds.turn {
		group.Answer(ran, fault("commit", why))
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
			group.Answer(ran, w.final(err))
			return
		}
	}
	group.Answer(ran, nil)
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
func (w *writer) judge(ran []*group.Op, try int, began time.Time, err error) verdict {
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
func (w *writer) perform(batch []*group.Op, careful bool) (ran, rest []*group.Op, err error) {
	began := time.Now()
	t := newTransaction(w, len(batch) > 1, careful)
	for i, o := range batch {
		if len(ran) > 0 && time.Since(began) > w.store.opt.bounds.work && o.Waiting() {
			rest = batch[i:]
			break
		}
		if !o.Take() {
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

// execute runs one op. It may be for a second time.
func (t *transaction) execute(o *group.Op) {
	tx := t.op()
	o.Call(tx)
	if t.lost != nil {
		return
	}
	if o.Failed() && len(tx.fresh) > 0 && !t.careful {
		t.lost = errUnverified
		return
	}
	if o.Err == nil && tx.broken != nil {
		o.Err = tx.broken
	}
	if !o.Failed() {
		t.keep(tx)
	} else if t.undo(tx) {
		t.abandoned = true
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
