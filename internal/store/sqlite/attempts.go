package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store/column"
)

const (
	insertAttempt = `
INSERT INTO attempts (worker, host, started_at, ended_at, outcome, exit, failure, seq, number)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`
	updateAttempt = `
UPDATE attempts SET worker = ?, host = ?, started_at = ?, ended_at = ?, outcome = ?, exit = ?, failure = ?
WHERE seq = ? AND number = ?`
	selectAttempts = `
SELECT a.number, a.worker, a.host, a.started_at, a.ended_at, a.outcome, a.exit, a.failure
FROM jobs j JOIN attempts a ON a.seq = j.seq
WHERE j.id = ?1 AND (?2 = '' OR j.tenant = ?2)
ORDER BY a.number`
	selectAttemptsOf = `
SELECT j.id, a.number, a.worker, a.host, a.started_at, a.ended_at, a.outcome, a.exit, a.failure
FROM json_each(?) e CROSS JOIN jobs j ON j.id = e.value JOIN attempts a ON a.seq = j.seq`
	selectExists = `SELECT 1 FROM jobs WHERE id = ?1 AND (?2 = '' OR tenant = ?2)`
)

// InsertAttempts implements store.Tx.
func (tx *writeTx) InsertAttempts(_ context.Context, as []job.Attempt) error {
	last := make(map[job.ID]int, len(as))
	for _, a := range as {
		k, err := tx.know(a.Job)
		if err != nil {
			return err
		}
		last[a.Job] = max(last[a.Job], k.attempts) + 1
		if a.Number != last[a.Job] {
			return job.Errorf(job.Conflict, "attempt %d of job %s is not attempt %d, the next", a.Number, a.Job, last[a.Job])
		}
	}
	if err := tx.saveAttempts(insertAttempt, as); err != nil {
		return err
	}
	for id, n := range last {
		k := tx.known[id]
		k.attempts = n
		tx.known[id] = k
	}
	return nil
}

// SaveAttempts implements store.Tx.
func (tx *writeTx) SaveAttempts(_ context.Context, as []job.Attempt) error {
	for _, a := range as {
		k, err := tx.know(a.Job)
		if err != nil {
			return err
		}
		if a.Number < 1 || a.Number > k.attempts {
			return job.Errorf(job.NotFound, "job %s has no attempt %d", a.Job, a.Number)
		}
	}
	return tx.saveAttempts(updateAttempt, as)
}

// saveAttempts runs a statement for attempts that were checked.
func (tx *writeTx) saveAttempts(query string, as []job.Attempt) error {
	type parts struct{ exit, failure string }
	encoded := make([]parts, len(as))
	for i, a := range as {
		var err error
		if encoded[i].exit, err = column.Encode(a.Exit); err == nil {
			encoded[i].failure, err = column.Encode(a.Failure)
		}
		if err != nil {
			return job.Errorf(job.Invalid, "attempt %d of job %s cannot be stored: %w", a.Number, a.Job, err)
		}
	}
	for i, a := range as {
		_, err := tx.exec(query, a.Worker, a.Host, column.Micros(a.StartedAt), column.Micros(a.EndedAt), a.Outcome,
			encoded[i].exit, encoded[i].failure, tx.known[a.Job].seq, a.Number)
		if err != nil {
			return fmt.Errorf("save attempt %d of job %s: %w", a.Number, a.Job, err)
		}
	}
	return nil
}

// Attempts implements store.ReadTx.
func (tx *readTx) Attempts(ctx context.Context, t job.Tenant, id job.ID) ([]job.Attempt, error) {
	var as []job.Attempt
	err := tx.rows(ctx, selectAttempts, []any{string(id), string(t)}, func(r *sql.Rows) error {
		a := job.Attempt{Job: id}
		err := scanAttempt(r, &a)
		as = append(as, a)
		return err
	})
	one := 0
	if err == nil && len(as) == 0 {
		var found bool
		if found, err = tx.row(ctx, selectExists, []any{string(id), string(t)}, &one); err == nil && !found {
			return nil, absent(id)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the attempts of job %s: %w", id, err)
	}
	return as, nil
}

// AttemptsOf implements store.ReadTx.
func (tx *readTx) AttemptsOf(ctx context.Context, ids []job.ID) (map[job.ID][]job.Attempt, error) {
	of := make(map[job.ID][]job.Attempt, len(ids))
	err := tx.rows(ctx, selectAttemptsOf, []any{list(ids)}, func(r *sql.Rows) error {
		var a job.Attempt
		err := scanAttempt(r, &a, &a.Job)
		of[a.Job] = append(of[a.Job], a)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the attempts of %d jobs: %w", len(ids), err)
	}
	for _, as := range of { // mostly one
		slices.SortFunc(as, func(a, b job.Attempt) int { return a.Number - b.Number })
	}
	return of, nil
}

// scanAttempt reads a row of an attempt, after the columns that come before it.
func scanAttempt(r *sql.Rows, a *job.Attempt, before ...any) error {
	var starts, ended int64
	var exit, failure string
	err := r.Scan(append(before, &a.Number, &a.Worker, &a.Host, &starts, &ended, &a.Outcome, &exit, &failure)...)
	if err != nil {
		return err
	}
	a.StartedAt, a.EndedAt = column.Time(starts), column.Time(ended)
	if a.Exit, err = column.Decode[job.Exit](exit); err == nil {
		a.Failure, err = column.Decode[job.Failure](failure)
	}
	if err != nil {
		return job.Errorf(job.Internal, "attempt %d of job %s cannot be read: %w", a.Number, a.Job, err)
	}
	return nil
}
