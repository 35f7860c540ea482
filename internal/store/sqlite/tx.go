package sqlite

import (
	"context"
	"database/sql"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// writeTx is a transaction that writes, on the writer's goroutine. It ignores
// the end of its callers' contexts: ending a statement half-way gains nothing,
// for no statement here waits.
type writeTx struct {
	readTx
	shared bool // others are in the same commit
	wrote  bool // something was changed
	fault  error

	known  map[job.ID]known
	lanes  map[laneKey]store.LaneID // the writer's, as are the specs
	specs  *specCache
	counts map[store.LaneID]*laneCounts
}

var _ store.Tx = (*writeTx)(nil)

// known is what a transaction has read or written of a job. Nobody else can
// change it until the transaction ends.
type known struct {
	seq      int64
	lane     store.LaneID
	state    job.State
	rev      int64
	progress string // JSON; "" for none
	attempts int    // how many have rows; counted only for a transaction that writes
}

func (w *writer) newTx(shared bool) *writeTx {
	tx := &writeTx{shared: shared, known: map[job.ID]known{}, lanes: w.lanes, specs: &w.specs}
	tx.readTx = readTx{conn: w.conn, now: stored(w.store.now()), flush: tx.flushCounts}
	return tx
}

// exec changes something. A statement that fails does so for a reason that fn
// cannot mend, so the whole op fails with it.
func (tx *writeTx) exec(query string, args ...any) (sql.Result, error) {
	if !tx.wrote && tx.shared {
		if _, err := tx.conn.exec("SAVEPOINT op"); err != nil {
			tx.fault = err
			return nil, err
		}
	}
	tx.wrote = true
	res, err := tx.conn.exec(query, args...)
	if err != nil && tx.fault == nil {
		tx.fault = err
	}
	return res, err
}

const (
	attemptCount = `coalesce((SELECT max(a.number) FROM attempts a WHERE a.seq = j.seq), 0)`
	selectKnown  = `
SELECT j.seq, j.lane, j.state, j.rev, coalesce(p.progress, ''), ` + attemptCount + `
FROM jobs j LEFT JOIN progress p ON p.seq = j.seq
WHERE j.id = ?`
)

// know returns the state of a job.
func (tx *writeTx) know(id job.ID) (known, error) {
	if k, ok := tx.known[id]; ok {
		return k, nil
	}
	var k known
	found, err := tx.row(context.Background(), selectKnown, []any{string(id)}, &k.seq, &k.lane, &k.state, &k.rev, &k.progress, &k.attempts)
	if err != nil {
		return known{}, err
	}
	if !found {
		return known{}, absent(id)
	}
	tx.known[id] = k
	return k, nil
}

func absent(id job.ID) error { return job.Errorf(job.NotFound, "there is no job %s", id) }
