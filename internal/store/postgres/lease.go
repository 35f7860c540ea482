package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/nano-os/nanoos/internal/store/column"
)

const (
	// The lock of the row decides between servers that ask at once.
	selectLease = `SELECT owner, until FROM nanoos.leases WHERE name = $1 FOR UPDATE`
	insertLease = `INSERT INTO nanoos.leases (name, owner, until) VALUES ($1, '', 0) ON CONFLICT DO NOTHING`
	updateLease = `UPDATE nanoos.leases SET owner = $2, until = $3 WHERE name = $1`

	selectMeta = `SELECT value FROM nanoos.meta WHERE key = $1`
	upsertMeta = `
INSERT INTO nanoos.meta (key, value) VALUES ($1, $2)
ON CONFLICT (key) DO UPDATE SET value = excluded.value`
)

// Lead implements store.Tx.
func (tx *writeTx) Lead(ctx context.Context, duty, name string, ttl time.Duration) (bool, error) {
	owner, until, err := tx.lockLease(ctx, duty)
	if err != nil {
		return false, fmt.Errorf("take the lease of %q: %w", duty, err)
	}
	if owner != name && until > column.Micros(tx.Now()) {
		return false, nil
	}
	tx.other(updateLease, clean(duty), clean(name), column.Micros(tx.Now().Add(ttl)))
	return true, nil
}

// lockLease locks the lease of a duty. That of a new duty is made in a session
// and a transaction of its own, so that there is a row to lock whatever becomes
// of this transaction.
func (tx *writeTx) lockLease(ctx context.Context, duty string) (owner string, until int64, err error) {
	args := []any{clean(duty)}
	found, err := tx.row(ctx, otherRows, selectLease, args, &owner, &until)
	if err != nil || found {
		return owner, until, err
	}
	c, err := tx.t.writer.store.server.connect(context.WithoutCancel(ctx))
	if err != nil {
		return "", 0, err
	}
	defer c.close()
	if err := c.exec(context.WithoutCancel(ctx), insertLease, args...); err != nil {
		return "", 0, fault("make the lease", err)
	}
	_, err = tx.row(ctx, otherRows, selectLease, args, &owner, &until)
	return owner, until, err
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
