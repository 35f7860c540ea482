package postgres

import (
	"bytes"
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store/column"
)

// event is an event that is not written yet. The job's number is looked up by
// its id if the job is new as well.
type event struct {
	tenant, id, kind string
	job              int64
	data             []byte
}

const (
	// The only row of event_seq stays locked until the commit, so whoever comes
	// next gets higher numbers and commits later.
	insertEvents = `
WITH s AS (
	UPDATE nanoos.event_seq SET last = last + $1::bigint RETURNING last - $1::bigint AS before
)
INSERT INTO nanoos.events (seq, tenant, job, kind, at, data)
SELECT s.before + u.n, u.tenant, CASE WHEN u.id = '' THEN u.job ELSE (SELECT k.seq FROM nanoos.specs k WHERE k.id = u.id) END,
	u.kind, $2::bigint, u.data
FROM s CROSS JOIN unnest($3::text[], $4::text[], $5::bigint[], $6::text[], $7::bytea[]) WITH ORDINALITY AS u(tenant, id, job, kind, data, n)`

	selectEvents = `
SELECT e.seq, e.tenant, coalesce((SELECT s.id FROM nanoos.specs s WHERE s.seq = e.job), ''), e.kind, e.at, e.data
FROM nanoos.events e
WHERE e.seq > $1 AND ($2 = '' OR e.tenant = $2)
ORDER BY e.seq LIMIT $3`
	selectJobEvents = `
SELECT e.seq, e.tenant, $4::text, e.kind, e.at, e.data
FROM nanoos.events e
WHERE e.job = (SELECT s.seq FROM nanoos.specs s WHERE s.id = $4::text) AND e.seq > $1 AND ($2 = '' OR e.tenant = $2)
ORDER BY e.seq LIMIT $3`
	selectLastEvent = `SELECT last FROM nanoos.event_seq`
	selectSeqs      = `SELECT s.id, s.seq FROM nanoos.specs s WHERE s.id = ANY($1::text[])`
)

func queueEvents(b *pgx.Batch, events []event, at int64) {
	n := len(events)
	tenants, ids, jobs, kinds, data := make([]string, n), make([]string, n), make([]int64, n), make([]string, n), make([][]byte, n)
	for i, e := range events {
		tenants[i], ids[i], jobs[i], kinds[i], data[i] = e.tenant, e.id, e.job, e.kind, e.data
	}
	b.Queue(insertEvents, int64(n), at, tenants, ids, jobs, kinds, data)
}

// AppendEvents implements store.Tx. The events are written with the commit.
func (tx *writeTx) AppendEvents(ctx context.Context, ev []job.Event) error {
	var unknown []job.ID
	for _, e := range ev {
		if _, ok := tx.seqOf(e.Job); !ok {
			unknown = append(unknown, e.Job)
		}
	}
	if len(unknown) > 0 {
		if err := tx.readSeqs(ctx, unknown); err != nil {
			return fmt.Errorf("append %d events: %w", len(ev), err)
		}
	}
	rows := make([]event, len(ev))
	for i, e := range ev {
		seq, ok := tx.seqOf(e.Job)
		if !ok {
			return absent(e.Job)
		}
		rows[i] = event{tenant: clean(e.Tenant), kind: clean(e.Kind), job: seq, data: bytes.Clone(e.Data)}
		if seq == 0 {
			rows[i].id = clean(e.Job)
		}
	}
	tx.events = append(tx.events, rows...)
	return nil
}

// seqOf returns the number of a job that is known to exist, 0 if it is not
// numbered yet or there is no job.
func (tx *writeTx) seqOf(id job.ID) (int64, bool) {
	if k, ok := tx.knows(id); ok {
		return k.seq, true
	}
	if seq, ok := tx.seqs[id]; ok {
		return seq, true
	}
	return 0, id == "" || tx.fresh[id] || tx.t.fresh[id]
}

func (tx *writeTx) readSeqs(ctx context.Context, ids []job.ID) error {
	return tx.query(ctx, jobRows, selectSeqs, []any{texts(ids)}, func(r pgx.Rows) error {
		var id job.ID
		var seq int64
		err := r.Scan((*string)(&id), &seq)
		tx.seqs[id] = seq
		return err
	})
}

// EventsAfter implements store.ReadTx.
func (tx *readTx) EventsAfter(ctx context.Context, t job.Tenant, id job.ID, after int64, limit int) ([]job.Event, error) {
	query, args := selectEvents, []any{after, clean(t), max(0, limit)}
	if id != "" {
		query, args = selectJobEvents, append(args, clean(id))
	}
	events, err := all(ctx, tx, eventRows|jobRows, query, args, column.Event)
	if err != nil {
		return nil, fmt.Errorf("read events: %w", err)
	}
	return events, nil
}

// LastEvent implements store.ReadTx.
func (tx *readTx) LastEvent(ctx context.Context) (int64, error) {
	var seq int64
	if _, err := tx.row(ctx, eventRows|jobRows, selectLastEvent, nil, &seq); err != nil {
		return 0, fmt.Errorf("read the last event: %w", err)
	}
	return seq, nil
}
