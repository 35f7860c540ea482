package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/column"
)

// InsertJobs implements store.Tx. The rows are sent with the commit. An id or a
// key that is in use fails there, and then the ops run again with a look
// before; it is rare, for ids are new and keys are looked up by their owners.
func (tx *writeTx) InsertJobs(ctx context.Context, jobs []job.Job, digests []string) error {
	inserts := make([]insertedJob, len(jobs))
	for i, j := range jobs {
		var err error
		if inserts[i], err = encodeInsert(j, digests[i]); err != nil {
			return job.Errorf(job.Invalid, "job %s cannot be stored: %w", j.ID, err)
		}
	}
	if err := tx.checkUnused(ctx, jobs); err != nil {
		return err
	}
	lanes, err := tx.lanesOf(ctx, jobs)
	if err != nil {
		return fmt.Errorf("insert: %w", err)
	}
	for i, j := range jobs {
		inserts[i].lane = int64(lanes[i])
		tx.count(lanes[i], j.State, 1)
		tx.fresh[j.ID] = true
	}
	tx.inserts = append(tx.inserts, inserts...)
	return nil
}

func encodeInsert(j job.Job, digest string) (in insertedJob, err error) {
	in.job, in.digest = j, digest
	in.job.Result = bytes.Clone(j.Result)
	in.job.Spec.Labels = nil
	if len(j.Spec.Labels) > 0 {
		in.job.Spec.Labels = make(map[string]string, len(j.Spec.Labels))
		for name, value := range j.Spec.Labels {
			in.job.Spec.Labels[name] = value
		}
	}
	spec, err := json.Marshal(j.Spec)
	if err != nil {
		return in, err
	}
	in.spec = string(spec)
	if in.cancel, err = column.Encode(j.Cancel); err != nil {
		return in, err
	}
	if in.failure, err = column.Encode(j.Failure); err != nil {
		return in, err
	}
	in.progressed, err = column.Encode(j.Progress)
	return in, err
}

const selectUsed = `
SELECT 'id ' || s.id FROM nanoos.specs s WHERE s.id = ANY($1::text[])
UNION ALL
SELECT 'key ' || s.key
FROM unnest($2::text[], $3::text[]) AS u(tenant, key) JOIN nanoos.specs s ON s.tenant = u.tenant AND s.key = u.key AND s.key <> ''`

// checkUnused looks for ids and keys that are in use: within the call always,
// and in the database when a try without that look has failed.
func (tx *writeTx) checkUnused(ctx context.Context, jobs []job.Job) error {
	seen := make(map[[2]string]bool, 2*len(jobs))
	var tenants, keys []string
	ids := make([]string, len(jobs))
	for i, j := range jobs {
		ids[i] = clean(j.ID)
		id, key := [2]string{ids[i]}, [2]string{string(j.Tenant), "key " + j.Spec.Key}
		if seen[id] {
			return job.Errorf(job.Conflict, "job %s is given twice", j.ID)
		}
		seen[id] = true
		if j.Spec.Key == "" {
			continue
		}
		if seen[key] {
			return job.Errorf(job.Conflict, "the key %q is given twice", j.Spec.Key)
		}
		seen[key] = true
		tenants, keys = append(tenants, clean(j.Tenant)), append(keys, clean(j.Spec.Key))
	}
	if !tx.t.careful {
		return nil
	}
	used := ""
	found, err := tx.row(ctx, jobRows, selectUsed, []any{ids, tenants, keys}, &used)
	if err == nil && found {
		err = job.Errorf(job.Conflict, "the %s is in use", used)
	}
	return err
}

// The rows are locked in the order of their ids, so that two transactions that
// lock the same rows do not wait for each other crosswise. What may have
// changed while the lock was awaited is read after it.
const (
	selectLocked = `
SELECT ` + jobColumns + `, ''
FROM nanoos.specs s JOIN nanoos.jobs j ON j.seq = s.seq
WHERE s.id = ANY($1::text[])
ORDER BY s.id
FOR UPDATE OF j`
	selectLockedProgress = `
SELECT s.id, p.progress FROM nanoos.specs s JOIN nanoos.progress p ON p.seq = s.seq WHERE s.id = ANY($1::text[])`
)

// LockJobs implements store.Tx.
func (tx *writeTx) LockJobs(ctx context.Context, ids []job.ID) ([]job.Job, error) {
	locked, err := tx.lock(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("lock jobs: %w", err)
	}
	jobs := make([]job.Job, 0, len(ids))
	for _, id := range ids {
		if row, ok := locked[id]; ok && row.bad == nil {
			jobs = append(jobs, row.job)
		}
	}
	return jobs, nil
}

// lock reads jobs with all that saving them needs to know, so that the rest of
// a usual op takes place in memory.
func (tx *writeTx) lock(ctx context.Context, ids []job.ID) (map[job.ID]*jobRow, error) {
	locked := make(map[job.ID]*jobRow, len(ids))
	if len(ids) == 0 {
		return locked, nil
	}
	asked := texts(ids)
	err := tx.run(ctx, jobRows|attemptRows, func(b *pgx.Batch) {
		queue(b, func(r pgx.Rows) error {
			row, err := scanJob(r)
			locked[row.job.ID] = &row
			return err
		}, selectLocked, asked)
		queue(b, func(r pgx.Rows) error {
			var id job.ID
			var progress string
			err := r.Scan(&id, &progress)
			if row, ok := locked[id]; ok {
				row.progress = progress
			}
			return err
		}, selectLockedProgress, asked)
		queue(b, func(r pgx.Rows) error {
			var id job.ID
			a, err := scanAttempt(r, &id)
			if row, ok := locked[id]; ok {
				row.attempts = append(row.attempts, a)
			}
			return err
		}, selectAttemptsOf, asked)
	})
	if err != nil {
		return nil, err
	}
	for id, row := range locked {
		row.decode()
		tx.known[id] = row.known
	}
	return locked, nil
}

// SaveJobs implements store.Tx.
func (tx *writeTx) SaveJobs(ctx context.Context, jobs []job.Job) error {
	ids := make([]job.ID, len(jobs))
	for i, j := range jobs {
		ids[i] = j.ID
	}
	stored, err := tx.know(ctx, ids)
	if err != nil {
		return err
	}
	saves := make([]savedJob, len(jobs))
	progress := make([]string, len(jobs))
	seen := make(map[job.ID]bool, len(jobs))
	for i, j := range jobs {
		if stored[i].rev != j.Rev || seen[j.ID] {
			return job.Errorf(job.Conflict, "job %s was changed by somebody else", j.ID)
		}
		if !job.CanMove(stored[i].state, j.State) {
			return job.Errorf(job.Conflict, "job %s cannot go from %s to %s", j.ID, stored[i].state, j.State)
		}
		if saves[i], progress[i], err = encodeSave(j, stored[i].state); err != nil {
			return job.Errorf(job.Invalid, "job %s cannot be stored: %w", j.ID, err)
		}
		seen[j.ID] = true
	}
	for i := range jobs {
		tx.saveJob(&jobs[i], stored[i], saves[i], progress[i])
	}
	return nil
}

func encodeSave(j job.Job, from job.State) (s savedJob, progress string, err error) {
	s.job, s.clear = j, from.Terminal() // a person starts it again
	s.job.Result = bytes.Clone(j.Result)
	if s.clear {
		s.job.Result, s.job.Failure = nil, nil
	}
	if s.cancel, err = column.Encode(j.Cancel); err != nil {
		return s, "", err
	}
	if s.failure, err = column.Encode(s.job.Failure); err != nil {
		return s, "", err
	}
	progress, err = column.Encode(j.Progress)
	return s, progress, err
}

func (tx *writeTx) saveJob(j *job.Job, k known, s savedJob, progress string) {
	if s.clear {
		j.Result, j.Failure = nil, nil
	}
	j.Rev++
	s.job.Rev = j.Rev
	tx.save(k.seq, s)
	if progress != k.progress {
		tx.setProgress(k.seq, progress)
	}
	tx.count(k.lane, k.state, -1)
	tx.count(k.lane, j.State, 1)
	k.state, k.rev, k.fence, k.progress = j.State, j.Rev, j.Fence, progress
	tx.known[j.ID] = k
}

// SaveProgress implements store.Tx.
func (tx *writeTx) SaveProgress(ctx context.Context, held []job.Held) error {
	progress := make([]string, len(held))
	var unknown []job.ID
	for i, h := range held {
		var err error
		if progress[i], err = column.Encode(h.Progress); err != nil {
			return job.Errorf(job.Invalid, "progress of job %s cannot be stored: %w", h.ID, err)
		}
		if _, ok := tx.knows(h.ID); !ok && progress[i] != "" {
			unknown = append(unknown, h.ID)
		}
	}
	if len(unknown) > 0 {
		if _, err := tx.lock(ctx, slices.Compact(slices.Sorted(slices.Values(unknown)))); err != nil {
			return fmt.Errorf("save the progress of %d jobs: %w", len(held), err)
		}
	}
	for i, h := range held {
		k, ok := tx.knows(h.ID)
		if !ok || progress[i] == "" || k.state != job.Running || k.fence != h.Fence {
			continue
		}
		tx.setProgress(k.seq, progress[i])
		k.progress = progress[i]
		tx.known[h.ID] = k
	}
	return nil
}

const (
	jobColumns = `j.seq, j.id, j.tenant, j.lane, j.state, j.priority, j.reason, j.message, j.attempt, j.fence, j.worker,
	j.failures, j.losses, j.cancel, j.run_at, j.verdict, j.failure, j.created_at, j.queued_at, j.started_at, j.ended_at,
	j.rev, s.spec`
	selectJobs = `
SELECT ` + jobColumns + `, coalesce(p.progress, '')
FROM nanoos.jobs j JOIN nanoos.specs s ON s.seq = j.seq LEFT JOIN nanoos.progress p ON p.seq = j.seq`
)

// jobRow is a row of jobColumns and progress. bad says that it cannot be
// decoded; such a row must not take others down with it.
type jobRow struct {
	known
	job                   job.Job
	spec, cancel, failure string
	bad                   error
}

// scanJob reads a row, which decode completes.
func scanJob(r pgx.Rows) (row jobRow, err error) {
	var runAt, created, queued, started, ended int64
	j, k := &row.job, &row.known
	err = r.Scan(&k.seq, (*string)(&j.ID), (*string)(&j.Tenant), (*int64)(&k.lane), (*string)(&j.State), (*int)(&j.Spec.Priority),
		(*string)(&j.Reason), &j.Message, &j.Attempt, (*int64)(&j.Fence), &j.Worker,
		&j.Failures, &j.Losses, &row.cancel, &runAt, (*string)(&j.Verdict), &row.failure, &created, &queued, &started, &ended,
		&j.Rev, &row.spec, &k.progress)
	k.tenant, k.state, k.rev, k.fence = j.Tenant, j.State, j.Rev, j.Fence
	j.RunAt, j.CreatedAt, j.QueuedAt = column.Time(runAt), column.Time(created), column.Time(queued)
	j.StartedAt, j.EndedAt = column.Time(started), column.Time(ended)
	return row, err
}

// decode reads the parts that are stored as JSON.
func (row *jobRow) decode() {
	if row.bad = column.DecodeSpec(&row.job, row.spec); row.bad == nil {
		row.bad = column.DecodeParts(&row.job, row.cancel, row.failure, row.progress)
	}
}

const selectJob = selectJobs + `
WHERE j.seq = (SELECT k.seq FROM nanoos.specs k WHERE k.id = $1) AND ($2 = '' OR j.tenant = $2)`

// Job implements store.ReadTx.
func (tx *readTx) Job(ctx context.Context, t job.Tenant, id job.ID) (job.Job, error) {
	rows, err := tx.jobRows(ctx, selectJob, clean(id), clean(t))
	switch {
	case err != nil:
		return job.Job{}, fmt.Errorf("read job %s: %w", id, err)
	case len(rows) == 0:
		return job.Job{}, absent(id)
	}
	return rows[0].job, rows[0].bad
}

// jobRows runs a query of selectJobs.
func (tx *readTx) jobRows(ctx context.Context, query string, args ...any) ([]jobRow, error) {
	var rows []jobRow
	err := tx.query(ctx, jobRows, query, args, func(r pgx.Rows) error {
		row, err := scanJob(r)
		rows = append(rows, row)
		return err
	})
	for i := range rows {
		rows[i].decode()
	}
	return rows, err
}

// jobs runs a query of selectJobs and leaves out the rows that cannot be read.
func (tx *readTx) jobs(ctx context.Context, query string, args ...any) ([]job.Job, error) {
	rows, err := tx.jobRows(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	return readable(rows), nil
}

func readable(rows []jobRow) []job.Job {
	jobs := make([]job.Job, 0, len(rows))
	for _, row := range rows {
		if row.bad == nil {
			jobs = append(jobs, row.job)
		}
	}
	return jobs
}

const selectResult = `
SELECT coalesce(j.result, '')
FROM nanoos.specs s JOIN nanoos.jobs j ON j.seq = s.seq
WHERE s.id = $1 AND ($2 = '' OR s.tenant = $2)`

// Result implements store.ReadTx.
func (tx *readTx) Result(ctx context.Context, t job.Tenant, id job.ID) ([]byte, error) {
	var result []byte
	found, err := tx.row(ctx, jobRows, selectResult, []any{clean(id), clean(t)}, &result)
	if err != nil {
		return nil, fmt.Errorf("read the result of job %s: %w", id, err)
	}
	if !found {
		return nil, absent(id)
	}
	if len(result) == 0 {
		return nil, nil
	}
	return result, nil
}

const selectByKey = `
SELECT s.digest, s.id FROM nanoos.specs s WHERE s.tenant = $1 AND s.key = $2 AND s.key <> ''`

// ByKey implements store.ReadTx.
func (tx *readTx) ByKey(ctx context.Context, t job.Tenant, key string) (job.Job, string, error) {
	var digest string
	var id job.ID
	found, err := tx.row(ctx, jobRows, selectByKey, []any{clean(t), clean(key)}, &digest, (*string)(&id))
	if err != nil {
		return job.Job{}, "", fmt.Errorf("read the job of key %q: %w", key, err)
	}
	if !found {
		return job.Job{}, "", job.Errorf(job.NotFound, "there is no job with the key %q", key)
	}
	j, err := tx.Job(ctx, t, id)
	return j, digest, err
}

var _ store.ReadTx = (*readTx)(nil)
