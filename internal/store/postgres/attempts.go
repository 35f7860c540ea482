package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store/column"
)

const (
	attemptColumns = `a.seq, a.number, a.worker, a.host, a.started_at, a.ended_at, a.outcome, a.exit, a.failure`
	selectAttempts = `
SELECT s.id, ` + attemptColumns + `
FROM nanoos.specs s JOIN nanoos.attempts a ON a.seq = s.seq
WHERE s.id = $1 AND ($2 = '' OR s.tenant = $2)
ORDER BY a.number`
	selectAttemptsOf = `
SELECT s.id, ` + attemptColumns + `
FROM nanoos.specs s JOIN nanoos.attempts a ON a.seq = s.seq
WHERE s.id = ANY($1::text[])
ORDER BY a.seq, a.number`
	selectExists = `SELECT s.seq FROM nanoos.specs s WHERE s.id = $1 AND ($2 = '' OR s.tenant = $2)`
)

// attemptRow is a row of attemptColumns.
type attemptRow struct {
	seq                                  int64
	number                               int
	worker, host, outcome, exit, failure string
	started, ended                       int64
}

func scanAttempt(r pgx.Rows, id *job.ID) (a attemptRow, err error) {
	err = r.Scan((*string)(id), &a.seq, &a.number, &a.worker, &a.host, &a.started, &a.ended, &a.outcome, &a.exit, &a.failure)
	return a, err
}

func encodeAttempt(a job.Attempt) (row attemptRow, err error) {
	row = attemptRow{number: a.Number, worker: clean(a.Worker), host: clean(a.Host), outcome: clean(a.Outcome),
		started: column.Micros(a.StartedAt), ended: column.Micros(a.EndedAt)}
	if row.exit, err = column.Encode(a.Exit); err == nil {
		row.failure, err = column.Encode(a.Failure)
	}
	if err != nil {
		return row, job.Errorf(job.Invalid, "attempt %d of job %s cannot be stored: %w", a.Number, a.Job, err)
	}
	return row, nil
}

func (row attemptRow) decode(id job.ID) (job.Attempt, error) {
	a := job.Attempt{Job: id, Number: row.number, Worker: row.worker, Host: row.host, Outcome: row.outcome,
		StartedAt: column.Time(row.started), EndedAt: column.Time(row.ended)}
	var err error
	if a.Exit, err = column.Decode[job.Exit](row.exit); err == nil {
		a.Failure, err = column.Decode[job.Failure](row.failure)
	}
	if err != nil {
		return a, job.Errorf(job.Internal, "attempt %d of job %s cannot be read: %w", a.Number, id, err)
	}
	return a, nil
}

// InsertAttempts implements store.Tx.
func (tx *writeTx) InsertAttempts(ctx context.Context, as []job.Attempt) error {
	next := map[job.ID]int{}
	return tx.saveAttempts(ctx, as, func(a job.Attempt, k known) error {
		next[a.Job] = max(next[a.Job], len(k.attempts)) + 1
		if a.Number != next[a.Job] {
			return job.Errorf(job.Conflict, "attempt %d of job %s is not attempt %d, the next", a.Number, a.Job, next[a.Job])
		}
		return nil
	})
}

// SaveAttempts implements store.Tx.
func (tx *writeTx) SaveAttempts(ctx context.Context, as []job.Attempt) error {
	return tx.saveAttempts(ctx, as, func(a job.Attempt, k known) error {
		if a.Number < 1 || a.Number > len(k.attempts) {
			return job.Errorf(job.NotFound, "job %s has no attempt %d", a.Job, a.Number)
		}
		return nil
	})
}

// saveAttempts writes attempts that check permits, all or none. Attempts of a
// job that is locked are known, so nothing is asked.
func (tx *writeTx) saveAttempts(ctx context.Context, as []job.Attempt, check func(job.Attempt, known) error) error {
	ids := make([]job.ID, len(as))
	for i, a := range as {
		ids[i] = a.Job
	}
	jobs, err := tx.know(ctx, ids)
	if err != nil {
		return err
	}
	rows := make([]attemptRow, len(as))
	for i, a := range as {
		if err := check(a, jobs[i]); err != nil {
			return err
		}
		if rows[i], err = encodeAttempt(a); err != nil {
			return err
		}
		rows[i].seq = jobs[i].seq
	}
	for i, a := range as {
		tx.setAttempt(rows[i])
		k, _ := tx.knows(a.Job)
		k.attempts = slices.Clone(k.attempts)
		if a.Number > len(k.attempts) {
			k.attempts = append(k.attempts, rows[i])
		} else {
			k.attempts[a.Number-1] = rows[i]
		}
		tx.known[a.Job] = k
	}
	return nil
}

// Attempts implements store.ReadTx.
func (tx *readTx) Attempts(ctx context.Context, t job.Tenant, id job.ID) ([]job.Attempt, error) {
	var rows []attemptRow
	found := false
	err := tx.run(ctx, jobRows|attemptRows, func(b *pgx.Batch) {
		queue(b, func(pgx.Rows) error { found = true; return nil }, selectExists, clean(id), clean(t))
		queue(b, func(r pgx.Rows) error {
			var id job.ID
			row, err := scanAttempt(r, &id)
			rows = append(rows, row)
			return err
		}, selectAttempts, clean(id), clean(t))
	})
	if err == nil && !found {
		return nil, absent(id)
	}
	if err != nil {
		return nil, fmt.Errorf("read the attempts of job %s: %w", id, err)
	}
	return decodeAttempts(id, rows)
}

// Attempts implements store.ReadTx; those of a job that is locked are known.
func (tx *writeTx) Attempts(ctx context.Context, t job.Tenant, id job.ID) ([]job.Attempt, error) {
	if k, ok := tx.knows(id); ok && (t == "" || t == k.tenant) {
		return decodeAttempts(id, k.attempts)
	}
	return tx.readTx.Attempts(ctx, t, id)
}

// AttemptsOf implements store.ReadTx.
func (tx *readTx) AttemptsOf(ctx context.Context, ids []job.ID) (map[job.ID][]job.Attempt, error) {
	rows := make(map[job.ID][]attemptRow, len(ids))
	err := tx.query(ctx, jobRows|attemptRows, selectAttemptsOf, []any{texts(ids)}, func(r pgx.Rows) error {
		var id job.ID
		row, err := scanAttempt(r, &id)
		rows[id] = append(rows[id], row)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the attempts of %d jobs: %w", len(ids), err)
	}
	of := make(map[job.ID][]job.Attempt, len(rows))
	for id, rows := range rows {
		if of[id], err = decodeAttempts(id, rows); err != nil {
			return nil, err
		}
	}
	return of, nil
}

// AttemptsOf implements store.ReadTx; those of jobs that are locked are known.
func (tx *writeTx) AttemptsOf(ctx context.Context, ids []job.ID) (map[job.ID][]job.Attempt, error) {
	of := make(map[job.ID][]job.Attempt, len(ids))
	var unknown []job.ID
	for _, id := range ids {
		k, ok := tx.knows(id)
		if !ok {
			unknown = append(unknown, id)
			continue
		}
		as, err := decodeAttempts(id, k.attempts)
		if err != nil {
			return nil, err
		}
		if len(as) > 0 {
			of[id] = as
		}
	}
	if len(unknown) == 0 {
		return of, nil
	}
	rest, err := tx.readTx.AttemptsOf(ctx, unknown)
	maps.Copy(of, rest)
	return of, err
}

func decodeAttempts(id job.ID, rows []attemptRow) ([]job.Attempt, error) {
	var as []job.Attempt
	for _, row := range rows {
		a, err := row.decode(id)
		if err != nil {
			return nil, fmt.Errorf("read the attempts of job %s: %w", id, err)
		}
		as = append(as, a)
	}
	return as, nil
}
