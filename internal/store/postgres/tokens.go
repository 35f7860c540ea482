package postgres

import (
	"context"
	"fmt"

	"github.com/nano-os/nanoos/internal/auth"
	"github.com/nano-os/nanoos/internal/store/column"
)

const (
	selectTokens = `SELECT token FROM nanoos.tokens ORDER BY id`
	upsertToken  = `INSERT INTO nanoos.tokens (id, token) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET token = excluded.token`
	deleteToken  = `DELETE FROM nanoos.tokens WHERE id = $1`
)

// Tokens implements store.ReadTx.
func (tx *readTx) Tokens(ctx context.Context) ([]auth.Token, error) {
	tokens, err := all(ctx, tx, otherRows, selectTokens, nil, column.Token)
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	return tokens, nil
}

// SaveToken implements store.Tx.
func (tx *writeTx) SaveToken(_ context.Context, t auth.Token) error {
	raw, err := column.Encode(&t)
	if err != nil {
		return fmt.Errorf("save token %s: %w", t.ID, err)
	}
	tx.other(upsertToken, clean(t.ID), raw)
	return nil
}

// DeleteToken implements store.Tx.
func (tx *writeTx) DeleteToken(_ context.Context, id string) error {
	tx.other(deleteToken, clean(id))
	return nil
}
