package postgres

import (
	"context"
	"maps"

	"github.com/jackc/pgx/v5"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/column"
)

// transaction is one transaction of the database, which several ops share. It
// keeps in memory what they change, until a query of theirs must see it or the
// commit sends it.
type transaction struct {
	readTx
	writer  *writer
	shared  bool // more than one op may be in it
	careful bool // ids and keys are looked up before they are inserted

	changes         // of the ops that went well, and are not sent yet
	lost      error // the statement that failed, and the transaction with it
	touched   bool  // something was sent that the commit must keep
	abandoned bool  // its only op has undone what it sent
	saved     bool  // the savepoint "op" exists
	known     map[job.ID]known
	fresh     map[job.ID]bool // inserted, and perhaps not sent yet
	rollbacks []string        // what precedes the next query
}

// changes are not sent to the database yet.
type changes struct {
	rowChanges
	events []event
	counts map[store.LaneID]*laneCounts
}

func newTransaction(w *writer, shared, careful bool) *transaction {
	t := &transaction{writer: w, shared: shared, careful: careful, known: map[job.ID]known{}, fresh: map[job.ID]bool{}}
	t.readTx = readTx{c: w.conn, opt: w.store.opt, begin: "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"}
	return t
}

// writeTx is the part of one op in a transaction.
type writeTx struct {
	*readTx
	t *transaction

	changes
	known       map[job.ID]known
	fresh       map[job.ID]bool
	seqs        map[job.ID]int64 // of jobs that are only mentioned
	workersSeen map[string]bool  // that exist, and are locked or saved
	sent        bool             // some of the changes are in the database, behind the savepoint if shared
}

var _ store.Tx = (*writeTx)(nil)

// known is what a transaction has read or written of a job. The job is locked:
// nobody else can change it until the transaction ends.
type known struct {
	seq      int64
	tenant   job.Tenant
	lane     store.LaneID
	state    job.State
	rev      int64
	fence    job.Fence
	progress string // JSON; "" for none
	attempts []attemptRow
}

// op begins the part of the next op.
func (t *transaction) op() *writeTx {
	tx := &writeTx{readTx: &t.readTx, t: t, known: map[job.ID]known{}, fresh: map[job.ID]bool{},
		seqs: map[job.ID]int64{}, workersSeen: map[string]bool{}}
	t.before, t.readTx.counts = tx.owe, tx.unwrittenCounts
	t.failed = func(err error) error {
		if t.lost == nil {
			t.lost = err
		}
		return fault("write", err)
	}
	return tx
}

// owe queues the changes that the next query must see: those of the ops
// before, and this op's own behind a savepoint, so that they alone can be
// undone.
func (tx *writeTx) owe(b *pgx.Batch, need rows) {
	t := tx.t
	for _, statement := range t.rollbacks {
		b.Queue(statement)
	}
	t.rollbacks = nil
	t.send(b, need, &t.changes)
	if !tx.changes.any(need) {
		return
	}
	if t.shared && !t.saved {
		b.Queue("SAVEPOINT op")
		t.saved = true
	}
	tx.sent = true
	t.send(b, need, &tx.changes)
}

// send queues changes and forgets them.
func (t *transaction) send(b *pgx.Batch, need rows, c *changes) {
	if c.any(need) {
		t.touched = true
	}
	c.rowChanges.queue(b, need)
	if need&eventRows != 0 && len(c.events) > 0 {
		queueEvents(b, c.events, column.Micros(t.now))
		c.events = nil
	}
}

func (c *changes) any(need rows) bool {
	return c.rowChanges.any(need) || need&eventRows != 0 && len(c.events) > 0
}

// keep adds what an op did to the transaction.
func (t *transaction) keep(tx *writeTx) {
	maps.Copy(t.known, tx.known)
	maps.Copy(t.fresh, tx.fresh)
	t.rowChanges.merge(&tx.rowChanges)
	t.events = append(t.events, tx.events...)
	for lane, c := range tx.changes.counts {
		t.changes.count(lane, c)
	}
	if t.saved {
		t.rollbacks = append(t.rollbacks, "RELEASE SAVEPOINT op")
		t.saved = false
	}
}

// undo drops what an op did. It reports whether that took the whole
// transaction.
func (t *transaction) undo(tx *writeTx) (whole bool) {
	if !tx.sent {
		return false
	}
	if !t.shared {
		return true
	}
	t.rollbacks = append(t.rollbacks, "ROLLBACK TO SAVEPOINT op", "RELEASE SAVEPOINT op")
	t.saved = false
	return false
}

// know returns the state of jobs, which it locks; an absent one is
// job.NotFound.
func (tx *writeTx) know(ctx context.Context, ids []job.ID) ([]known, error) {
	all := make([]known, len(ids))
	var missing []job.ID
	for _, id := range ids {
		if _, ok := tx.knows(id); !ok {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		if _, err := tx.lock(ctx, missing); err != nil {
			return nil, err
		}
	}
	for i, id := range ids {
		k, ok := tx.knows(id)
		if !ok {
			return nil, absent(id)
		}
		all[i] = k
	}
	return all, nil
}

// knows looks a job up in memory.
func (tx *writeTx) knows(id job.ID) (known, bool) {
	if k, ok := tx.known[id]; ok {
		return k, true
	}
	k, ok := tx.t.known[id]
	return k, ok
}

func absent(id job.ID) error { return job.Errorf(job.NotFound, "there is no job %s", id) }
