package sqlite

import (
	"context"
	"fmt"

	"github.com/nano-os/nanoos/internal/auth"
	"github.com/nano-os/nanoos/internal/store/column"
)

const (
	selectTokens = `SELECT token FROM tokens ORDER BY id`
	upsertToken  = `INSERT INTO tokens (id, token) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET token = excluded.token`
	deleteToken  = `DELETE FROM tokens WHERE id = ?`
)

// Tokens implements store.ReadTx.
func (tx *readTx) Tokens(ctx context.Context) ([]auth.Token, error) {
	tokens, err := all(ctx, tx, selectTokens, nil, column.Token)
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	return tokens, nil
}

// SaveToken implements store.Tx.
func (tx *writeTx) SaveToken(_ context.Context, t auth.Token) error {
	raw, err := column.Encode(&t)
	if err == nil {
		_, err = tx.exec(upsertToken, t.ID, raw)
	}
	if err != nil {
		return fmt.Errorf("save token %s: %w", t.ID, err)
	}
	return nil
}

// DeleteToken implements store.Tx.
func (tx *writeTx) DeleteToken(_ context.Context, id string) error {
	if _, err := tx.exec(deleteToken, id); err != nil {
		return fmt.Errorf("delete token %s: %w", id, err)
	}
	return nil
}
