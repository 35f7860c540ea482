package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/column"
)

const insertJob = `
INSERT INTO jobs (id, tenant, lane, state, priority, reason, message, attempt, fence, worker, failures, losses,
	cancel, run_at, verdict, failure, created_at, queued_at, started_at, ended_at, rev)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO NOTHING`

const insertSpec = `
INSERT INTO specs (seq, tenant, key, digest, name, folded, spec) VALUES (?, ?, ?, ?, ?, ?, ?)`

const insertLabel = `INSERT INTO labels (name, value, seq) VALUES (?, ?, ?)`

// InsertJobs implements store.Tx.
func (tx *writeTx) InsertJobs(ctx context.Context, jobs []job.Job, digests []string) error {
	specs := make([]string, len(jobs))
	parts := make([]jobJSON, len(jobs))
	for i, j := range jobs {
		spec, err := json.Marshal(j.Spec)
		if err == nil {
			specs[i] = string(spec)
			parts[i], err = encodeJob(j)
		}
		if err != nil {
			return job.Errorf(job.Invalid, "job %s cannot be stored: %w", j.ID, err)
		}
	}
	if err := tx.checkUnused(ctx, jobs); err != nil {
		return err
	}
	for i, j := range jobs {
		if err := tx.insertJob(ctx, j, digests[i], specs[i], parts[i]); err != nil {
			return fmt.Errorf("insert: %w", err)
		}
	}
	return nil
}

const (
	selectUsedID  = `SELECT j.id FROM json_each(?) e CROSS JOIN jobs j ON j.id = e.value LIMIT 1`
	selectUsedKey = `SELECT s.key FROM specs s WHERE s.tenant = ? AND s.key = ? AND s.key <> ''`
)

// checkUnused looks for ids and keys that are in use before anything is
// written.
func (tx *writeTx) checkUnused(ctx context.Context, jobs []job.Job) error {
	ids, used := make([]job.ID, len(jobs)), ""
	seen := make(map[[2]string]bool, 2*len(jobs))
	for i, j := range jobs {
		ids[i] = j.ID
		if seen[[2]string{string(j.ID)}] {
			return job.Errorf(job.Conflict, "job %s is given twice", j.ID)
		}
		seen[[2]string{string(j.ID)}] = true
		if j.Spec.Key == "" {
			continue
		}
		key := [2]string{string(j.Tenant), "key " + j.Spec.Key}
		found, err := tx.row(ctx, selectUsedKey, []any{string(j.Tenant), j.Spec.Key}, &used)
		if err != nil {
			return err
		}
		if found || seen[key] {
			return job.Errorf(job.Conflict, "the key %q is in use", j.Spec.Key)
		}
		seen[key] = true
	}
	if len(jobs) == 1 {
		return nil // its first statement finds out
	}
	found, err := tx.row(ctx, selectUsedID, []any{list(ids)}, &used)
	if err == nil && found {
		err = job.Errorf(job.Conflict, "job %s exists already", used)
	}
	return err
}

func (tx *writeTx) insertJob(ctx context.Context, j job.Job, digest, spec string, p jobJSON) error {
	lane, err := tx.laneOf(ctx, j)
	if err != nil {
		return err
	}
	res, err := tx.exec(insertJob, string(j.ID), string(j.Tenant), int64(lane), string(j.State), int(j.Spec.Priority),
		string(j.Reason), j.Message, j.Attempt, int64(j.Fence), j.Worker, j.Failures, j.Losses,
		p.cancel, column.Micros(j.RunAt), string(j.Verdict), p.failure,
		column.Micros(j.CreatedAt), column.Micros(j.QueuedAt), column.Micros(j.StartedAt), column.Micros(j.EndedAt), j.Rev)
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err != nil {
		return err
	}
	if n == 0 {
		return job.Errorf(job.Conflict, "job %s exists already", j.ID)
	}
	seq, err := res.LastInsertId()
	if err != nil {
		return err
	}
	if _, err := tx.exec(insertSpec, seq, string(j.Tenant), j.Spec.Key, digest, j.Spec.Name, column.Fold(j.Spec.Name), spec); err != nil {
		return err
	}
	for name, value := range j.Spec.Labels {
		if _, err := tx.exec(insertLabel, name, value, seq); err != nil {
			return err
		}
	}
	k := known{seq: seq, lane: lane, state: j.State, rev: j.Rev}
	if err := tx.saveParts(&k, j.Result, p.progress); err != nil {
		return err
	}
	tx.known[j.ID] = k
	tx.count(lane, j.State, 1)
	return nil
}

const selectLocked = `
SELECT ` + rowColumns + `, ` + attemptCount + `
FROM json_each(?) e CROSS JOIN jobs j ON j.id = e.value` + rowJoins

// LockJobs implements store.Tx. The transaction is the only one that writes,
// so there is nothing to lock.
func (tx *writeTx) LockJobs(ctx context.Context, ids []job.ID) ([]job.Job, error) {
	rows := make([]jobRow, 0, len(ids))
	err := tx.rows(ctx, selectLocked, []any{list(ids)}, func(r *sql.Rows) error {
		var attempts int
		row, err := scanRow(r, &attempts)
		row.attempts = attempts
		rows = append(rows, row)
		return err
	})
	if err == nil {
		err = tx.fillSpecs(ctx, rows)
	}
	if err != nil {
		return nil, fmt.Errorf("lock jobs: %w", err)
	}
	jobs := make([]job.Job, 0, len(rows))
	for _, row := range rows {
		if row.bad == nil {
			tx.known[row.job.ID] = row.known
			jobs = append(jobs, row.job)
		}
	}
	return jobs, nil
}

const updateJob = `
UPDATE jobs SET state = ?, priority = ?, reason = ?, message = ?, attempt = ?, fence = ?, worker = ?, failures = ?,
	losses = ?, cancel = ?, run_at = ?, verdict = ?, failure = ?, queued_at = ?, started_at = ?, ended_at = ?, rev = ?
WHERE seq = ?`

// SaveJobs implements store.Tx.
func (tx *writeTx) SaveJobs(_ context.Context, jobs []job.Job) error {
	parts := make([]jobJSON, len(jobs))
	seen := make(map[job.ID]bool, len(jobs))
	for i, j := range jobs {
		k, err := tx.know(j.ID)
		if err != nil {
			return err
		}
		if k.rev != j.Rev || seen[j.ID] {
			return job.Errorf(job.Conflict, "job %s was changed by somebody else", j.ID)
		}
		if !job.CanMove(k.state, j.State) {
			return job.Errorf(job.Conflict, "job %s cannot go from %s to %s", j.ID, k.state, j.State)
		}
		if parts[i], err = encodeJob(j); err != nil {
			return job.Errorf(job.Invalid, "job %s cannot be stored: %w", j.ID, err)
		}
		seen[j.ID] = true
	}
	for i := range jobs {
		if err := tx.saveJob(&jobs[i], parts[i]); err != nil {
			return fmt.Errorf("save job %s: %w", jobs[i].ID, err)
		}
	}
	return nil
}

const deleteResult = `DELETE FROM results WHERE seq = ?`

func (tx *writeTx) saveJob(j *job.Job, p jobJSON) error {
	k := tx.known[j.ID]
	if k.state.Terminal() { // a person starts it again
		j.Result, j.Failure, p.failure = nil, nil, ""
		if _, err := tx.exec(deleteResult, k.seq); err != nil {
			return err
		}
	}
	j.Rev++
	_, err := tx.exec(updateJob, string(j.State), int(j.Spec.Priority), string(j.Reason), j.Message, j.Attempt, int64(j.Fence),
		j.Worker, j.Failures, j.Losses, p.cancel, column.Micros(j.RunAt), string(j.Verdict), p.failure,
		column.Micros(j.QueuedAt), column.Micros(j.StartedAt), column.Micros(j.EndedAt), j.Rev, k.seq)
	if err != nil {
		return err
	}
	if err := tx.saveParts(&k, j.Result, p.progress); err != nil {
		return err
	}
	tx.count(k.lane, k.state, -1)
	tx.count(k.lane, j.State, 1)
	k.state, k.rev = j.State, j.Rev
	tx.known[j.ID] = k
	return nil
}

const (
	upsertResult = `
INSERT INTO results (seq, result) VALUES (?, ?)
ON CONFLICT (seq) DO UPDATE SET result = excluded.result`
	upsertProgress = `
INSERT INTO progress (seq, progress) VALUES (?, ?)
ON CONFLICT (seq) DO UPDATE SET progress = excluded.progress`
	deleteProgress = `DELETE FROM progress WHERE seq = ?`
)

// saveParts writes what lies outside the row, if it changed.
func (tx *writeTx) saveParts(k *known, result []byte, progress string) error {
	if len(result) > 0 {
		if _, err := tx.exec(upsertResult, k.seq, result); err != nil {
			return err
		}
	}
	if progress == k.progress {
		return nil
	}
	var err error
	if progress == "" {
		_, err = tx.exec(deleteProgress, k.seq)
	} else {
		_, err = tx.exec(upsertProgress, k.seq, progress)
	}
	k.progress = progress
	return err
}

const selectOwned = `SELECT seq FROM jobs WHERE id = ? AND fence = ? AND state = 'RUNNING'`

// SaveProgress implements store.Tx.
func (tx *writeTx) SaveProgress(ctx context.Context, held []job.Held) error {
	for _, h := range held {
		progress, err := column.Encode(h.Progress)
		if err != nil {
			return job.Errorf(job.Invalid, "progress of job %s cannot be stored: %w", h.ID, err)
		}
		var seq int64
		owned, err := tx.row(ctx, selectOwned, []any{string(h.ID), int64(h.Fence)}, &seq)
		if err == nil && owned && progress != "" {
			_, err = tx.exec(upsertProgress, seq, progress)
		}
		if err != nil {
			return fmt.Errorf("save progress of job %s: %w", h.ID, err)
		}
		if k, ok := tx.known[h.ID]; ok && owned && progress != "" {
			k.progress = progress
			tx.known[h.ID] = k
		}
	}
	return nil
}

// jobJSON are the optional parts of a job that are stored as JSON.
type jobJSON struct{ cancel, failure, progress string }

func encodeJob(j job.Job) (p jobJSON, err error) {
	if p.cancel, err = column.Encode(j.Cancel); err != nil {
		return p, err
	}
	if p.failure, err = column.Encode(j.Failure); err != nil {
		return p, err
	}
	p.progress, err = column.Encode(j.Progress)
	return p, err
}

const (
	rowColumns = `j.seq, j.id, j.tenant, j.lane, j.state, j.priority, j.reason, j.message, j.attempt, j.fence, j.worker,
	j.failures, j.losses, j.cancel, j.run_at, j.verdict, j.failure, j.created_at, j.queued_at, j.started_at, j.ended_at,
	j.rev, coalesce(p.progress, '')`
	rowJoins = `
LEFT JOIN progress p ON p.seq = j.seq`

	jobColumns = rowColumns + `, s.spec`
	jobJoins   = rowJoins + `
JOIN specs s ON s.seq = j.seq`
)

// jobRow is a row of jobColumns or rowColumns. bad says that it cannot be
// decoded; such a row must not take others down with it.
type jobRow struct {
	known
	job job.Job
	bad error
}

// scanJob reads a row of jobColumns.
func scanJob(r *sql.Rows) (jobRow, error) {
	var spec string
	row, err := scanRow(r, &spec)
	if err == nil && row.bad == nil {
		row.bad = column.DecodeSpec(&row.job, spec)
	}
	return row, err
}

// scanRow reads a row of rowColumns and what follows them.
func scanRow(r *sql.Rows, more ...any) (jobRow, error) {
	var (
		row                            jobRow
		cancel, failure                string
		runAt, created, queued, starts int64
		ended                          int64
		j                              = &row.job
		k                              = &row.known
	)
	err := r.Scan(append([]any{&k.seq, &j.ID, &j.Tenant, &k.lane, &j.State, &j.Spec.Priority, &j.Reason, &j.Message, &j.Attempt, &j.Fence, &j.Worker,
		&j.Failures, &j.Losses, &cancel, &runAt, &j.Verdict, &failure, &created, &queued, &starts, &ended,
		&j.Rev, &k.progress}, more...)...)
	if err != nil {
		return row, err
	}
	k.state, k.rev = j.State, j.Rev
	j.RunAt, j.CreatedAt, j.QueuedAt = column.Time(runAt), column.Time(created), column.Time(queued)
	j.StartedAt, j.EndedAt = column.Time(starts), column.Time(ended)
	row.bad = column.DecodeParts(j, cancel, failure, k.progress)
	return row, nil
}

// Job implements store.ReadTx.
func (tx *readTx) Job(ctx context.Context, t job.Tenant, id job.ID) (job.Job, error) {
	return tx.one(ctx, id, selectJob, string(id), string(t))
}

const selectJob = `
SELECT ` + jobColumns + `
FROM jobs j` + jobJoins + `
WHERE j.id = ?1 AND (?2 = '' OR j.tenant = ?2)`

// one returns the only job of a query.
func (tx *readTx) one(ctx context.Context, id job.ID, query string, args ...any) (job.Job, error) {
	var row jobRow
	found := false
	err := tx.rows(ctx, query, args, func(r *sql.Rows) (err error) {
		found = true
		row, err = scanJob(r)
		return err
	})
	switch {
	case err != nil:
		return job.Job{}, fmt.Errorf("read job %s: %w", id, err)
	case !found:
		return job.Job{}, absent(id)
	}
	return row.job, row.bad
}

const selectResult = `
SELECT coalesce(r.result, x'')
FROM jobs j LEFT JOIN results r ON r.seq = j.seq
WHERE j.id = ?1 AND (?2 = '' OR j.tenant = ?2)`

// Result implements store.ReadTx.
func (tx *readTx) Result(ctx context.Context, t job.Tenant, id job.ID) ([]byte, error) {
	var result []byte
	found, err := tx.row(ctx, selectResult, []any{string(id), string(t)}, &result)
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
SELECT s.digest, j.id
FROM specs s JOIN jobs j ON j.seq = s.seq
WHERE s.tenant = ? AND s.key = ? AND s.key <> ''`

// ByKey implements store.ReadTx.
func (tx *readTx) ByKey(ctx context.Context, t job.Tenant, key string) (job.Job, string, error) {
	var digest string
	var id job.ID
	found, err := tx.row(ctx, selectByKey, []any{string(t), key}, &digest, &id)
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
