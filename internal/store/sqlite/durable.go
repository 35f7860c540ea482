package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Durable says, as a session that is set up like the writer's is told, what a
// commit waits for.
func (s *Store) Durable(ctx context.Context) (text string, err error) {
	db, err := sql.Open("sqlite", dsn(s.path, writerPragmas))
	if err != nil {
		return "", fmt.Errorf("open %s: %w", s.path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var version, journal string
	var synchronous int
	for _, ask := range []struct {
		query string
		into  any
	}{{"SELECT sqlite_version()", &version}, {"PRAGMA journal_mode", &journal}, {"PRAGMA synchronous", &synchronous}} {
		if err := db.QueryRowContext(ctx, ask.query).Scan(ask.into); err != nil {
			return "", fmt.Errorf("ask %s: %w", s.path, err)
		}
	}
	names := []string{"OFF", "NORMAL", "FULL", "EXTRA"}
	return fmt.Sprintf("SQLite %s: journal_mode=%s synchronous=%s", version, journal, names[synchronous]), nil
}
