package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store/column"
)

// Each writing process has a row in writers, which every commit raises by one.
// When the answer to a commit is lost, the row says whether it happened. To
// make sure that it does not happen later, the row is closed first: a commit
// under a closed or missing row divides by zero and is none (R9).
const (
	insertWriter = `
INSERT INTO nanoos.writers (id, batch, closed, at)
VALUES ($1, 0, false, (extract(epoch FROM now()) * 1000000)::bigint)`
	raiseWriter = `
WITH w AS (
	UPDATE nanoos.writers SET batch = $2, at = $3 WHERE id = $1 AND batch = $2 - 1 AND NOT closed RETURNING 1
)
SELECT 1 / count(*) FROM w`
	closeWriter  = `UPDATE nanoos.writers SET closed = true WHERE id = $1 RETURNING batch`
	deleteWriter = `DELETE FROM nanoos.writers WHERE id = $1`
	// A process that has written nothing for a week has ended; if not, it gets
	// a new row.
	deleteOldWriters = `
DELETE FROM nanoos.writers WHERE at < (extract(epoch FROM now() - interval '7 days') * 1000000)::bigint`
)

// doubtError means that a commit was sent and not answered.
type doubtError struct {
	batch      int64
	err        error
	unresolved error // why the truth could not be found; nil: it is not stored
}

func (e *doubtError) Error() string { return "the commit was not answered: " + e.err.Error() }

// Unwrap returns what ended the session.
func (e *doubtError) Unwrap() error { return e.err }

// commit sends what the ops have changed together with the commit. The order
// matters: first rows that nobody else waits for, then the counter of events,
// which everybody does, then the counts of lanes, which are safe behind it.
func (w *writer) commit(t *transaction, ops int) error {
	counts := t.changes.counts
	writes := t.touched || t.changes.any(jobRows|attemptRows|otherRows|eventRows) || len(counts) > 0
	if !writes || t.abandoned {
		w.abandon()
		return nil
	}
	began := time.Now()
	if t.Now(); t.lost != nil || t.broken != nil {
		w.abandon()
		return errors.Join(t.lost, t.broken)
	}
	b := &pgx.Batch{}
	for _, statement := range t.rollbacks {
		b.Queue(statement)
	}
	events := t.changes.events
	t.changes.events = nil
	t.send(b, jobRows|attemptRows|otherRows, &t.changes)
	b.Queue(raiseWriter, w.id, w.batch+1, column.Micros(t.now))
	args := countArgs(counts)
	counted := len(args[0].([]int64)) > 0
	if len(events) > 0 || counted {
		queueEvents(b, events, column.Micros(t.now))
	}
	if counted {
		b.Queue(updateCounts, args...)
	}
	b.Queue("COMMIT")
	if err := w.conn.send(context.Background(), b); err != nil {
		return w.notCommitted(err)
	}
	w.batch++
	w.committedOne(ops, time.Since(began))
	return nil
}

// notCommitted judges the failure of a commit. An error of a statement means
// that the commit behind it was not reached; any other end leaves it in doubt.
func (w *writer) notCommitted(err error) error {
	if lost(err) {
		w.disconnect()
		return &doubtError{batch: w.batch + 1, err: err}
	}
	w.abandon()
	if hasCode(err, codeDivision) {
		w.id = ""
	}
	return err
}

// register makes sure that the process has a row in writers, before anything
// is done under it.
func (w *writer) register() error {
	if w.id != "" {
		return nil
	}
	id, b := string(job.NewID()), &pgx.Batch{}
	b.Queue(insertWriter, id)
	b.Queue(deleteOldWriters)
	if err := w.conn.send(context.Background(), b); err != nil {
		return fault("register with the database", err)
	}
	w.id, w.batch = id, 0
	return nil
}

// resolve finds out whether a commit in doubt happened, and makes sure that it
// will not if it did not. From then on the process writes under another row.
func (w *writer) resolve(doubt *doubtError) (stored bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), w.store.opt.bounds.resolve)
	defer cancel()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		stored, err = w.ask(ctx, doubt)
		if err == nil {
			w.id = ""
			return stored, nil
		}
		select {
		case <-ctx.Done():
			// The row stays as it is: nothing is written under it any more.
			w.id = ""
			return false, err
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}

func (w *writer) ask(ctx context.Context, doubt *doubtError) (bool, error) {
	c, err := w.store.server.connect(ctx)
	if err != nil {
		return false, err
	}
	defer c.close()
	last := int64(-1)
	b := &pgx.Batch{}
	queue(b, func(r pgx.Rows) error { return r.Scan(&last) }, closeWriter, w.id)
	if err := c.send(ctx, b); err != nil {
		return false, fault("ask about the last commit", err)
	}
	if last < 0 {
		return false, fmt.Errorf("the database knows nothing of writer %s", w.id)
	}
	_ = c.exec(ctx, deleteWriter, w.id) // else it is removed when it is old
	return last == doubt.batch, nil
}
