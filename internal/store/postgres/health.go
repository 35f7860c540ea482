package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/nano-os/nanoos/internal/store/column"
)

// Health is what to watch of a database that a queue lives in (S6).
type Health struct {
	// OldestSnapshot is the age of the oldest one that keeps dead rows from
	// being removed. Above a minute it should be looked for.
	OldestSnapshot time.Duration
	// DeadRows are those of the tables that change most.
	DeadRows map[string]int64
	// OldestQueued is how long the oldest QUEUED job has waited; zero if none.
	OldestQueued time.Duration
	// WALBytes is the size of the log on the server; -1 when we may not ask.
	WALBytes int64
	// LockWaits is how many sessions wait for a lock.
	LockWaits int
}

const (
	selectActivity = `
SELECT coalesce(extract(epoch FROM max(now() - xact_start) FILTER (WHERE backend_xmin IS NOT NULL)), 0)::float8,
	count(*) FILTER (WHERE wait_event_type = 'Lock'),
	has_function_privilege('pg_ls_waldir()', 'execute')
FROM pg_stat_activity WHERE pid <> pg_backend_pid()`
	selectDeadRows = `
SELECT relname, n_dead_tup FROM pg_stat_user_tables
WHERE schemaname = 'nanoos' AND relname IN ('jobs', 'attempts', 'progress', 'lanes', 'workers', 'event_seq', 'writers')`
	// The oldest of each lane and priority is at the beginning of the claim's
	// index, so there is no walk over all that is queued.
	selectOldestQueued = `
SELECT coalesce(min(h.queued_at), 0)
FROM nanoos.lanes l CROSS JOIN generate_series(0, 20) AS p(priority)
CROSS JOIN LATERAL (
	SELECT j.queued_at FROM nanoos.jobs j
	WHERE j.lane = l.id AND j.state = 'QUEUED' AND j.priority = p.priority
	ORDER BY j.seq LIMIT 1
) h
WHERE l.queued > 0`
	selectWAL = `SELECT coalesce(sum(size), 0)::bigint FROM pg_ls_waldir()`
)

// Health asks the database how it is.
func (s *Store) Health(ctx context.Context) (Health, error) {
	h := Health{DeadRows: map[string]int64{}, WALBytes: -1}
	c, err := s.pool.take(ctx)
	if err != nil {
		return h, err
	}
	tx := &readTx{c: c, opt: s.opt, begin: beginReading, renew: s.server.connect}
	defer s.release(tx)
	var snapshot float64
	var queued int64
	var mayAsk bool
	err = tx.run(ctx, 0, func(b *pgx.Batch) {
		queue(b, func(r pgx.Rows) error { return r.Scan(&snapshot, &h.LockWaits, &mayAsk) }, selectActivity)
		queue(b, func(r pgx.Rows) error {
			var table string
			var n int64
			err := r.Scan(&table, &n)
			h.DeadRows[table] = n
			return err
		}, selectDeadRows)
		queue(b, func(r pgx.Rows) error { return r.Scan(&queued) }, selectOldestQueued)
	})
	if err == nil && mayAsk {
		_, err = tx.row(ctx, 0, selectWAL, nil, &h.WALBytes)
	}
	if err != nil {
		return h, fmt.Errorf("ask the database how it is: %w", err)
	}
	h.OldestSnapshot = time.Duration(snapshot * float64(time.Second))
	if queued > 0 {
		h.OldestQueued = max(0, tx.Now().Sub(column.Time(queued)))
	}
	return h, nil
}
