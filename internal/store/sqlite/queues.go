package sqlite

import (
	"context"
	"fmt"

	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/column"
)

const (
	selectQueues = `SELECT name, paused, walltime, lost_after FROM queues ORDER BY name`
	upsertQueue  = `
INSERT INTO queues (name, paused, walltime, lost_after) VALUES (?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET paused = excluded.paused, walltime = excluded.walltime, lost_after = excluded.lost_after`
)

// Queues implements store.ReadTx.
func (tx *readTx) Queues(ctx context.Context) ([]store.Queue, error) {
	queues, err := all(ctx, tx, selectQueues, nil, column.Queue)
	if err != nil {
		return nil, fmt.Errorf("list queues: %w", err)
	}
	return queues, nil
}

// SaveQueue implements store.Tx.
func (tx *writeTx) SaveQueue(_ context.Context, q store.Queue) error {
	paused, err := column.Encode(q.Paused)
	if err == nil {
		_, err = tx.exec(upsertQueue, q.Name, paused, int64(q.Walltime), int64(q.LostAfter))
	}
	if err != nil {
		return fmt.Errorf("save queue %q: %w", q.Name, err)
	}
	return nil
}
