package postgres

import (
	"context"
	"fmt"
)

// Durable says, as the server tells a session of ours, what a commit waits for.
func (s *Store) Durable(ctx context.Context) (string, error) {
	c, err := s.server.connect(ctx)
	if err != nil {
		return "", err
	}
	defer c.close()
	var version, commit, flush, pages, method string
	err = c.pg.QueryRow(ctx, `
SELECT current_setting('server_version'), current_setting('synchronous_commit'), current_setting('fsync'),
	current_setting('full_page_writes'), current_setting('wal_sync_method')`).Scan(&version, &commit, &flush, &pages, &method)
	if err != nil {
		return "", fault("ask the server for its settings", err)
	}
	return fmt.Sprintf("PostgreSQL %s: synchronous_commit=%s fsync=%s full_page_writes=%s wal_sync_method=%s",
		version, commit, flush, pages, method), nil
}
