package sqlite

import (
	"context"
	"fmt"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store/column"
)

const (
	insertEvent  = `INSERT INTO events (tenant, job, kind, at, data) VALUES (?, ?, ?, ?, ?)`
	insertEvents = insertEvent + `, (?, ?, ?, ?, ?), (?, ?, ?, ?, ?), (?, ?, ?, ?, ?), (?, ?, ?, ?, ?), (?, ?, ?, ?, ?), (?, ?, ?, ?, ?), (?, ?, ?, ?, ?)`
	// eventRows is how many rows insertEvents has. Eight at once cost half of
	// eight statements, which count the numbers of events one by one; more gain
	// nothing.
	eventRows = 8

	selectEvents = `
SELECT e.seq, e.tenant, coalesce(j.id, ''), e.kind, e.at, e.data
FROM events e LEFT JOIN jobs j ON j.seq = e.job
WHERE e.seq > ?1 AND (?2 = '' OR e.tenant = ?2)
ORDER BY e.seq LIMIT ?3`
	selectJobEvents = `
SELECT e.seq, e.tenant, j.id, e.kind, e.at, e.data
FROM jobs j JOIN events e ON e.job = j.seq
WHERE j.id = ?4 AND e.seq > ?1 AND (?2 = '' OR e.tenant = ?2)
ORDER BY e.seq LIMIT ?3`
	selectLastEvent = `SELECT coalesce(max(seq), 0) FROM events`
)

// AppendEvents implements store.Tx. There is one writer, so the order of Seq
// is the order of commits.
func (tx *writeTx) AppendEvents(_ context.Context, ev []job.Event) error {
	for _, e := range ev {
		if e.Job != "" {
			if _, err := tx.know(e.Job); err != nil {
				return err
			}
		}
	}
	for len(ev) > 0 {
		n, query := 1, insertEvent
		if len(ev) >= eventRows {
			n, query = eventRows, insertEvents
		}
		args := make([]any, 0, 5*eventRows)
		for _, e := range ev[:n] {
			var data any
			if e.Data != nil {
				data = []byte(e.Data)
			}
			args = append(args, string(e.Tenant), tx.known[e.Job].seq, string(e.Kind), column.Micros(tx.now), data)
		}
		if _, err := tx.exec(query, args...); err != nil {
			return fmt.Errorf("append event: %w", err)
		}
		ev = ev[n:]
	}
	return nil
}

// EventsAfter implements store.ReadTx.
func (tx *readTx) EventsAfter(ctx context.Context, t job.Tenant, id job.ID, after int64, limit int) ([]job.Event, error) {
	query, args := selectEvents, []any{after, string(t), max(0, limit)}
	if id != "" {
		query, args = selectJobEvents, append(args, string(id))
	}
	events, err := all(ctx, tx, query, args, column.Event)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return events, nil
}

// LastEvent implements store.ReadTx.
func (tx *readTx) LastEvent(ctx context.Context) (int64, error) {
	var seq int64
	if _, err := tx.row(ctx, selectLastEvent, nil, &seq); err != nil {
		return 0, fmt.Errorf("read the last event: %w", err)
	}
	return seq, nil
}
