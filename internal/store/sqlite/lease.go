package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/nano-os/nanoos/internal/store/column"
)

const (
	takeLease = `
INSERT INTO leases (name, owner, until) VALUES (?4, ?1, ?2)
ON CONFLICT (name) DO UPDATE SET owner = ?1, until = ?2 WHERE owner = ?1 OR until <= ?3`

	selectMeta = `SELECT value FROM meta WHERE key = ?`
	upsertMeta = `
INSERT INTO meta (key, value) VALUES (?, ?)
ON CONFLICT (key) DO UPDATE SET value = excluded.value`
)

// Lead implements store.Tx.
func (tx *writeTx) Lead(_ context.Context, duty, name string, ttl time.Duration) (bool, error) {
	res, err := tx.exec(takeLease, name, column.Micros(tx.now.Add(ttl)), column.Micros(tx.now), duty)
	var n int64
	if err == nil {
		n, err = res.RowsAffected()
	}
	if err != nil {
		return false, fmt.Errorf("take the lease of %q: %w", duty, err)
	}
	return n == 1, nil
}

// Meta implements store.ReadTx.
func (tx *readTx) Meta(ctx context.Context, key string) (string, error) {
	var value string
	if _, err := tx.row(ctx, selectMeta, []any{key}, &value); err != nil {
		return "", fmt.Errorf("read setting %q: %w", key, err)
	}
	return value, nil
}

// SetMeta implements store.Tx.
func (tx *writeTx) SetMeta(_ context.Context, key, value string) error {
	if _, err := tx.exec(upsertMeta, key, value); err != nil {
		return fmt.Errorf("save setting %q: %w", key, err)
	}
	return nil
}
