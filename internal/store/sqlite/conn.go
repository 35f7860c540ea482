package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/column"
)

// conn is a connection with the statements that were prepared on it. It is
// used by one goroutine at a time.
type conn struct {
	sql   *sql.Conn
	stmts map[string]*sql.Stmt
}

func (c *conn) close() error {
	var errs []error
	for _, st := range c.stmts {
		errs = append(errs, st.Close())
	}
	return errors.Join(append(errs, c.sql.Close())...)
}

// prepare returns the statement of a constant query.
func (c *conn) prepare(query string) (*sql.Stmt, error) {
	if st, ok := c.stmts[query]; ok {
		return st, nil
	}
	st, err := c.sql.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	c.stmts[query] = st
	return st, nil
}

func (c *conn) exec(query string, args ...any) (sql.Result, error) {
	st, err := c.prepare(query)
	if err != nil {
		return nil, err
	}
	return st.Exec(args...)
}

// snapshot runs fn in a read transaction.
func (c *conn) snapshot(ctx context.Context, now time.Time, fn func(store.ReadTx) error) error {
	if _, err := c.exec("BEGIN"); err != nil {
		return fmt.Errorf("begin reading: %w", err)
	}
	defer c.exec("ROLLBACK") // ends the snapshot; there is nothing to undo
	return fn(&readTx{conn: c, now: stored(now)})
}

// readTx is a transaction that reads.
type readTx struct {
	conn *conn
	now  time.Time
	// flush is set in a transaction that also writes: it stores the counts that
	// it still owes.
	flush func() error
}

// Now implements store.ReadTx.
func (tx *readTx) Now() time.Time { return tx.now }

// rows runs a query and calls scan for each row.
func (tx *readTx) rows(ctx context.Context, query string, args []any, scan func(*sql.Rows) error) error {
	st, err := tx.conn.prepare(query)
	if err != nil {
		return err
	}
	if tx.flush != nil {
		ctx = context.WithoutCancel(ctx)
	}
	rows, err := st.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// all returns what scan makes of the rows of a query.
func all[T any](ctx context.Context, tx *readTx, query string, args []any, scan func(column.Row) (T, error)) ([]T, error) {
	var items []T
	err := tx.rows(ctx, query, args, func(r *sql.Rows) error {
		item, err := scan(r)
		items = append(items, item)
		return err
	})
	return items, err
}

// row runs a query of at most one row and reports whether there was one.
func (tx *readTx) row(ctx context.Context, query string, args []any, dest ...any) (bool, error) {
	found := false
	err := tx.rows(ctx, query, args, func(r *sql.Rows) error {
		found = true
		return r.Scan(dest...)
	})
	return found, err
}

// stored returns t as the database keeps it.
func stored(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// list is the JSON array that a query unfolds with json_each.
func list[T ~string | ~int64](items []T) string {
	b, _ := json.Marshal(items) // texts and numbers always encode
	return string(b)
}
