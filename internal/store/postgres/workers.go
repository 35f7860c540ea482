package postgres

import (
	"context"
	"fmt"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/column"
)

const (
	selectWorkers = `SELECT name, session, started_at, seen_at, draining, ended_at FROM nanoos.workers ORDER BY name`
	selectWorker  = `SELECT name, session, started_at, seen_at, draining, ended_at FROM nanoos.workers WHERE name = $1`
	// What is decided by a session holds only while nobody ends it (S8).
	lockWorker   = selectWorker + ` FOR UPDATE`
	upsertWorker = `
INSERT INTO nanoos.workers (name, session, started_at, seen_at, draining, ended_at) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (name) DO UPDATE SET session = excluded.session, started_at = excluded.started_at,
	seen_at = excluded.seen_at, draining = excluded.draining, ended_at = excluded.ended_at`
	updateSeen   = `UPDATE nanoos.workers SET seen_at = $1 WHERE name = $2`
	deleteWorker = `DELETE FROM nanoos.workers WHERE name = $1`
)

// Workers implements store.ReadTx.
func (tx *readTx) Workers(ctx context.Context) ([]store.Worker, error) {
	return tx.workers(ctx, selectWorkers)
}

// Worker implements store.ReadTx.
func (tx *readTx) Worker(ctx context.Context, name string) (store.Worker, error) {
	return tx.worker(ctx, selectWorker, name)
}

// Worker implements store.ReadTx. In a transaction that writes, the worker
// stays as it is until the end.
func (tx *writeTx) Worker(ctx context.Context, name string) (store.Worker, error) {
	w, err := tx.worker(ctx, lockWorker, name)
	if err == nil {
		tx.workersSeen[name] = true
	}
	return w, err
}

func (tx *readTx) worker(ctx context.Context, query, name string) (store.Worker, error) {
	ws, err := tx.workers(ctx, query, clean(name))
	if err == nil && len(ws) == 0 {
		err = job.Errorf(job.NotFound, "there is no worker %q", name)
	}
	if err != nil {
		return store.Worker{}, err
	}
	return ws[0], nil
}

func (tx *readTx) workers(ctx context.Context, query string, args ...any) ([]store.Worker, error) {
	workers, err := all(ctx, tx, otherRows, query, args, column.Worker)
	if err != nil {
		return nil, fmt.Errorf("list workers: %w", err)
	}
	return workers, nil
}

// SaveWorker implements store.Tx.
func (tx *writeTx) SaveWorker(_ context.Context, w store.Worker) error {
	session, err := column.Encode(&w.Session)
	if err != nil {
		return fmt.Errorf("save worker %q: %w", w.Worker, err)
	}
	tx.other(upsertWorker, clean(w.Worker), session, column.Micros(w.StartedAt), column.Micros(w.SeenAt), w.Draining, column.Micros(w.EndedAt))
	tx.workersSeen[w.Worker] = true
	return nil
}

// RenewWorker implements store.Tx.
func (tx *writeTx) RenewWorker(ctx context.Context, name string) error {
	if !tx.workersSeen[name] {
		if _, err := tx.Worker(ctx, name); err != nil {
			return err
		}
	}
	tx.other(updateSeen, column.Micros(tx.Now()), clean(name))
	return nil
}

// DeleteWorker implements store.Tx.
func (tx *writeTx) DeleteWorker(_ context.Context, name string) error {
	tx.other(deleteWorker, clean(name))
	delete(tx.workersSeen, name)
	return nil
}
