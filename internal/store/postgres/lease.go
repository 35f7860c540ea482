package postgres

import (
	"context"
	"fmt"
	"time"
)

const (
	// The row exists from the first migration on, so its lock decides between
	// servers that ask at once.
	selectLease = `SELECT owner, until FROM nanoos.leases WHERE name = 'leader' FOR UPDATE`
	updateLease = `UPDATE nanoos.leases SET owner = $1, until = $2 WHERE name = 'leader'`

	selectMeta = `SELECT value FROM nanoos.meta WHERE key = $1`
	upsertMeta = `
INSERT INTO nanoos.meta (key, value) VALUES ($1, $2)
ON CONFLICT (key) DO UPDATE SET value = excluded.value`
)

// Lead implements store.Tx.
func (tx *writeTx) Lead(ctx context.Context, name string, ttl time.Duration) (bool, error) {
	var owner string
	var until int64
	if _, err := tx.row(ctx, otherRows, selectLease, nil, &owner, &until); err != nil {
		return false, fmt.Errorf("take the leader's lease: %w", err)
	}
	if owner != name && until > micros(tx.Now()) {
		return false, nil
	}
	tx.other(updateLease, clean(name), micros(tx.Now().Add(ttl)))
	return true, nil
}

// Meta implements store.ReadTx.
func (tx *readTx) Meta(ctx context.Context, key string) (string, error) {
	var value string
	if _, err := tx.row(ctx, otherRows, selectMeta, []any{clean(key)}, &value); err != nil {
		return "", fmt.Errorf("read setting %q: %w", key, err)
	}
	return value, nil
}

// SetMeta implements store.Tx.
func (tx *writeTx) SetMeta(_ context.Context, key, value string) error {
	tx.other(upsertMeta, clean(key), clean(value))
	return nil
}
