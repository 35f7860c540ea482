package sqlite

import (
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/group"
)

// writer owns the connection that writes. What callers queue is executed
// together: in one transaction, with one commit.
type writer struct {
	store *Store
	conn  *conn
	calls *group.Queue

	// What only the goroutine of the queue uses.
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
	// maxWork bounds how long the first caller of a batch waits for the others
	// to run; the rest is left for the next batch.
	maxWork = 20 * time.Millisecond
	// checkpointPages is how much the WAL may hold before it is written back:
	// 16 MiB, so that hot pages are written back once for many commits.
	checkpointPages = 4096
)

func startWriter(s *Store, c *conn) *writer {
	w := &writer{store: s, conn: c, lanes: map[laneKey]store.LaneID{}}
	w.calls = group.Start(group.Options{Run: w.run})
	return w
}

// run executes a batch in one transaction, answers it, and returns the ops
// that are left for the next.
func (w *writer) run(batch []*group.Op) (rest []*group.Op) {
	began := time.Now()
	if err := w.ready(); err != nil {
		group.Refuse(batch, err)
		return nil
	}
	if _, err := w.conn.exec("BEGIN IMMEDIATE"); err != nil {
		group.Refuse(batch, w.failed("begin", err))
		return nil
	}
	w.open = true
	var ran []*group.Op
	changed := false
	for i, o := range batch {
		if i > 0 && time.Since(began) > maxWork {
			rest = batch[i:]
			break
		}
		if !o.Take() {
			continue
		}
		ran = append(ran, o)
		wrote, err := w.execute(o, len(batch) > 1)
		if err != nil {
			w.rollback()
			group.Answer(ran, w.failed("write", err))
			return batch[i+1:]
		}
		changed = changed || wrote
	}
	w.commit(ran, changed)
	return rest
}

// execute runs one op. Alone it may use the whole transaction; among others it
// gets a savepoint, opened before its first change. The error means that the
// transaction is lost for all.
func (w *writer) execute(o *group.Op, shared bool) (wrote bool, err error) {
	tx := w.newTx(shared)
	o.Call(tx)
	if tx.fault == nil && !o.Failed() {
		o.Err = tx.flushCounts()
	}
	if tx.fault != nil {
		if lostTransaction(tx.fault) {
			o.Err = nil // it failed with the others
			return false, tx.fault
		}
		o.Err = tx.fault // even if fn swallowed it
	}
	undo := o.Failed()
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

// commit makes the batch durable and answers it.
func (w *writer) commit(ran []*group.Op, changed bool) {
	if !w.open { // the only op of the batch has undone it
		group.Answer(ran, nil)
		return
	}
	began := time.Now()
	_, err := w.conn.exec("COMMIT")
	took := time.Since(began)
	w.open = err != nil
	if err != nil {
		w.rollback()
		group.Answer(ran, w.failed("commit", err))
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
	group.Answer(ran, nil)
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
