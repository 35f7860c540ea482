package postgres

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/column"
)

// conn is a session. It is used by one goroutine at a time, and its statements
// are prepared once.
type conn struct {
	pg     *pgx.Conn
	answer time.Duration // the longest that a round trip takes
}

// send runs a batch in one round trip.
func (c *conn) send(ctx context.Context, b *pgx.Batch) error {
	if c == nil {
		return &lostError{errNotConnected}
	}
	ctx, cancel := context.WithTimeout(ctx, c.answer)
	defer cancel()
	err := c.pg.SendBatch(ctx, b).Close()
	if err != nil && c.pg.IsClosed() {
		err = &lostError{err}
	}
	return err
}

func (c *conn) exec(ctx context.Context, query string, args ...any) error {
	b := &pgx.Batch{}
	b.Queue(query, args...)
	return c.send(ctx, b)
}

// broken reports that the session can serve no other transaction.
func (c *conn) broken() bool { return c.pg.IsClosed() || c.pg.PgConn().TxStatus() != 'I' }

func (c *conn) close() { closeSession(c.pg) }

// closeSession says goodbye, but not for long.
func closeSession(pg *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = pg.Close(ctx)
}

const selectNow = `SELECT now()`

// beginReading opens a snapshot.
const beginReading = `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`

// readTx is a transaction that reads. It begins together with its first query.
type readTx struct {
	c      *conn
	opt    Options
	begin  string
	renew  func(context.Context) (*conn, error) // replaces a session that broke while nobody used it; nil: do not
	before func(b *pgx.Batch, need rows)        // queues what the transaction owes the next query; nil: nothing
	failed func(error) error                    // hears of errors; nil: nobody
	counts func() map[store.LaneID]*laneCounts  // what lanes will count more; nil: nothing

	begun  bool      // the server said so
	now    time.Time // zero before the first answer
	broken error     // why Now is not known
}

// rows says which unwritten changes of a transaction a query must see.
type rows int

const (
	jobRows rows = 1 << iota
	attemptRows
	eventRows
	otherRows
)

// Now implements store.ReadTx. It is the clock of the database at the begin of
// the transaction.
func (tx *readTx) Now() time.Time {
	if !tx.begun && tx.broken == nil {
		tx.broken = tx.run(context.Background(), 0, func(*pgx.Batch) {})
	}
	return tx.now
}

// query runs a query and calls scan for each row.
func (tx *readTx) query(ctx context.Context, need rows, sql string, args []any, scan func(pgx.Rows) error) error {
	return tx.run(ctx, need, func(b *pgx.Batch) { queue(b, scan, sql, args...) })
}

// queue adds a query whose rows go to scan.
func queue(b *pgx.Batch, scan func(pgx.Rows) error, sql string, args ...any) {
	b.Queue(sql, args...).Query(func(r pgx.Rows) error {
		for r.Next() {
			if err := scan(r); err != nil {
				return err
			}
		}
		return r.Err()
	})
}

// all returns what scan makes of the rows of a query.
func all[T any](ctx context.Context, tx *readTx, need rows, sql string, args []any, scan func(column.Row) (T, error)) ([]T, error) {
	var items []T
	err := tx.query(ctx, need, sql, args, func(r pgx.Rows) error {
		item, err := scan(r)
		items = append(items, item)
		return err
	})
	return items, err
}

// row runs a query of at most one row and reports whether there was one.
func (tx *readTx) row(ctx context.Context, need rows, sql string, args []any, dest ...any) (bool, error) {
	found := false
	err := tx.query(ctx, need, sql, args, func(r pgx.Rows) error {
		found = true
		return r.Scan(dest...)
	})
	return found, err
}

// run sends what build queues, with what must precede it.
func (tx *readTx) run(ctx context.Context, need rows, build func(*pgx.Batch)) error {
	if tx.before != nil {
		ctx = context.WithoutCancel(ctx)
	}
	fresh := false
	if tx.c == nil && tx.renew != nil {
		if err := tx.replace(ctx); err != nil {
			return err
		}
		fresh = true
	}
	err := tx.send(ctx, need, build)
	if err != nil && lost(err) && tx.now.IsZero() && !fresh && tx.renew != nil && ctx.Err() == nil {
		if err := tx.replace(ctx); err != nil {
			return err
		}
		err = tx.send(ctx, need, build)
	}
	if err == nil {
		return nil
	}
	if tx.failed != nil {
		return tx.failed(err)
	}
	return cause(ctx, fault("read", err))
}

func (tx *readTx) send(ctx context.Context, need rows, build func(*pgx.Batch)) error {
	b := &pgx.Batch{}
	began := !tx.begun
	if began {
		b.Queue(tx.begin)
		queue(b, func(r pgx.Rows) error { return r.Scan(&tx.now) }, selectNow)
	}
	if tx.before != nil {
		tx.before(b, need)
	}
	build(b)
	if err := tx.c.send(ctx, b); err != nil {
		return err
	}
	if began {
		tx.begun = true
		if tx.opt.now != nil {
			tx.now = tx.opt.now()
		}
		tx.now = tx.now.UTC().Truncate(time.Microsecond)
	}
	return nil
}

func (tx *readTx) replace(ctx context.Context) error {
	if tx.c != nil {
		tx.c.close()
		tx.c = nil
	}
	c, err := tx.renew(ctx)
	if err != nil {
		return cause(ctx, err)
	}
	tx.c = c
	return nil
}

// clean makes a text storable: PostgreSQL keeps neither the zero byte nor what
// is not UTF-8, and a program may print both.
func clean[T ~string](s T) string {
	return strings.ReplaceAll(strings.ToValidUTF8(string(s), "\uFFFD"), "\x00", "\uFFFD")
}

// texts returns the plain texts of items.
func texts[T ~string](items []T) []string {
	all := make([]string, len(items))
	for i, s := range items {
		all[i] = clean(s)
	}
	return all
}
