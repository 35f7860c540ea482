package sqlite

import (
	"context"
	"fmt"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/column"
)

const (
	workerColumns = `name, session, started_at, seen_at, draining, ended_at`
	selectWorkers = `SELECT ` + workerColumns + ` FROM workers ORDER BY name`
	selectWorker  = `SELECT ` + workerColumns + ` FROM workers WHERE name = ?`
	upsertWorker  = `
INSERT INTO workers (name, session, started_at, seen_at, draining, ended_at) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET session = excluded.session, started_at = excluded.started_at,
	seen_at = excluded.seen_at, draining = excluded.draining, ended_at = excluded.ended_at`
	updateSeen   = `UPDATE workers SET seen_at = ? WHERE name = ?`
	deleteWorker = `DELETE FROM workers WHERE name = ?`
)

// Workers implements store.ReadTx.
func (tx *readTx) Workers(ctx context.Context) ([]store.Worker, error) {
	return tx.workers(ctx, selectWorkers)
}

// Worker implements store.ReadTx.
func (tx *readTx) Worker(ctx context.Context, name string) (store.Worker, error) {
	ws, err := tx.workers(ctx, selectWorker, name)
	if err == nil && len(ws) == 0 {
		err = job.Errorf(job.NotFound, "there is no worker %q", name)
	}
	if err != nil {
		return store.Worker{}, err
	}
	return ws[0], nil
}

func (tx *readTx) workers(ctx context.Context, query string, args ...any) ([]store.Worker, error) {
	workers, err := all(ctx, tx, query, args, column.Worker)
	if err != nil {
		return nil, fmt.Errorf("list workers: %w", err)
	}
	return workers, nil
}

// SaveWorker implements store.Tx.
func (tx *writeTx) SaveWorker(_ context.Context, w store.Worker) error {
	session, err := column.Encode(&w.Session)
	if err == nil {
		_, err = tx.exec(upsertWorker, w.Worker, session, column.Micros(w.StartedAt), column.Micros(w.SeenAt), w.Draining, column.Micros(w.EndedAt))
	}
	if err != nil {
		return fmt.Errorf("save worker %q: %w", w.Worker, err)
	}
	return nil
}

// RenewWorker implements store.Tx.
func (tx *writeTx) RenewWorker(_ context.Context, name string) error {
	res, err := tx.exec(updateSeen, column.Micros(tx.now), name)
	var n int64
	if err == nil {
		n, err = res.RowsAffected()
	}
	if err != nil {
		return fmt.Errorf("renew worker %q: %w", name, err)
	}
	if n == 0 {
		return job.Errorf(job.NotFound, "there is no worker %q", name)
	}
	return nil
}

// DeleteWorker implements store.Tx.
func (tx *writeTx) DeleteWorker(_ context.Context, name string) error {
	if _, err := tx.exec(deleteWorker, name); err != nil {
		return fmt.Errorf("delete worker %q: %w", name, err)
	}
	return nil
}
