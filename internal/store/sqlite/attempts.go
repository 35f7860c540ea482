package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/nano-os/nanoos/internal/job"
)

const (
	selectLastAttempts = `
SELECT e.value, coalesce((SELECT max(a.number) FROM attempts a WHERE a.seq = e.value), 0)
FROM json_each(?) e`
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
func (tx *writeTx) InsertAttempts(ctx context.Context, as []job.Attempt) error {
	last, err := tx.lastAttempts(ctx, as)
	if err != nil {
		return err
	}
	for _, a := range as {
		seq := tx.known[a.Job].seq
		last[seq]++
		if a.Number != last[seq] {
			return job.Errorf(job.Conflict, "attempt %d of job %s is not attempt %d, the next", a.Number, a.Job, last[seq])
		}
	}
	return tx.saveAttempts(insertAttempt, as)
}

// SaveAttempts implements store.Tx.
func (tx *writeTx) SaveAttempts(ctx context.Context, as []job.Attempt) error {
	last, err := tx.lastAttempts(ctx, as)
	if err != nil {
		return err
	}
	for _, a := range as {
		if a.Number < 1 || a.Number > last[tx.known[a.Job].seq] {
			return job.Errorf(job.NotFound, "job %s has no attempt %d", a.Job, a.Number)
		}
	}
	return tx.saveAttempts(updateAttempt, as)
}

// lastAttempts returns the highest number of each job by its seq.
func (tx *writeTx) lastAttempts(ctx context.Context, as []job.Attempt) (map[int64]int, error) {
	seqs := make([]int64, len(as))
	for i, a := range as {
		k, err := tx.know(a.Job)
		if err != nil {
			return nil, err
		}
		seqs[i] = k.seq
	}
	last := make(map[int64]int, len(as))
	err := tx.rows(ctx, selectLastAttempts, []any{list(seqs)}, func(r *sql.Rows) error {
		var seq int64
		var n int
		err := r.Scan(&seq, &n)
		last[seq] = n
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the last attempts: %w", err)
	}
	return last, nil
}

// saveAttempts runs a statement for attempts that were checked.
func (tx *writeTx) saveAttempts(query string, as []job.Attempt) error {
	type parts struct{ exit, failure string }
	encoded := make([]parts, len(as))
	for i, a := range as {
		var err error
		if encoded[i].exit, err = encode(a.Exit); err == nil {
			encoded[i].failure, err = encode(a.Failure)
		}
		if err != nil {
			return job.Errorf(job.Invalid, "attempt %d of job %s cannot be stored: %w", a.Number, a.Job, err)
		}
	}
	for i, a := range as {
		_, err := tx.exec(query, a.Worker, a.Host, micros(a.StartedAt), micros(a.EndedAt), a.Outcome,
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
	a.StartedAt, a.EndedAt = fromMicros(starts), fromMicros(ended)
	if a.Exit, err = decode[job.Exit](exit); err == nil {
		a.Failure, err = decode[job.Failure](failure)
	}
	if err != nil {
		return job.Errorf(job.Internal, "attempt %d of job %s cannot be read: %w", a.Number, a.Job, err)
	}
	return nil
}
