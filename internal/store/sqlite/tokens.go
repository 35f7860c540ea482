package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/nano-os/nanoos/internal/auth"
)

const (
	selectTokens = `SELECT token FROM tokens ORDER BY id`
	upsertToken  = `INSERT INTO tokens (id, token) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET token = excluded.token`
	deleteToken  = `DELETE FROM tokens WHERE id = ?`
)

// Tokens implements store.ReadTx.
func (tx *readTx) Tokens(ctx context.Context) ([]auth.Token, error) {
	var tokens []auth.Token
	err := tx.rows(ctx, selectTokens, nil, func(r *sql.Rows) error {
		var raw string
		var t auth.Token
		err := r.Scan(&raw)
		if err == nil {
			err = json.Unmarshal([]byte(raw), &t)
		}
		tokens = append(tokens, t)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	return tokens, nil
}

// SaveToken implements store.Tx.
func (tx *writeTx) SaveToken(_ context.Context, t auth.Token) error {
	raw, err := encode(&t)
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
