package postgres

import (
	"cmp"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store/column"
)

// rowChanges are rows to be written, one statement for each kind, however many
// there are.
type rowChanges struct {
	inserts  []insertedJob
	saves    map[int64]savedJob // by seq
	progress map[int64]string   // by seq; "" deletes
	attempts map[attemptKey]attemptRow
	others   []statement
}

// insertedJob is a row of jobs and one of specs, which have no number yet.
type insertedJob struct {
	job                               job.Job
	lane                              int64
	digest                            string
	spec, cancel, failure, progressed string // JSON
}

// savedJob is a row of jobs as it will be.
type savedJob struct {
	job             job.Job
	cancel, failure string
	clear           bool // drop the stored result first
}

type attemptKey struct {
	seq    int64
	number int
}

// statement is any other change.
type statement struct {
	sql  string
	args []any
}

func (c *rowChanges) any(need rows) bool {
	return need&jobRows != 0 && len(c.inserts)+len(c.saves)+len(c.progress) > 0 ||
		need&attemptRows != 0 && len(c.attempts) > 0 || need&otherRows != 0 && len(c.others) > 0
}

// save notes how a job will be. What two saves write as one keeps the later
// values, and the result that the first one may have brought.
func (c *rowChanges) save(seq int64, s savedJob) {
	if c.saves == nil {
		c.saves = map[int64]savedJob{}
	}
	if before, ok := c.saves[seq]; ok && !s.clear {
		s.clear = before.clear
		if len(s.job.Result) == 0 {
			s.job.Result = before.job.Result
		}
	}
	c.saves[seq] = s
}

func (c *rowChanges) setProgress(seq int64, progress string) {
	if c.progress == nil {
		c.progress = map[int64]string{}
	}
	c.progress[seq] = progress
}

func (c *rowChanges) setAttempt(a attemptRow) {
	if c.attempts == nil {
		c.attempts = map[attemptKey]attemptRow{}
	}
	c.attempts[attemptKey{a.seq, a.number}] = a
}

func (c *rowChanges) other(sql string, args ...any) {
	c.others = append(c.others, statement{sql, args})
}

// merge adds later changes.
func (c *rowChanges) merge(later *rowChanges) {
	c.inserts = append(c.inserts, later.inserts...)
	for seq, s := range later.saves {
		c.save(seq, s)
	}
	for seq, p := range later.progress {
		c.setProgress(seq, p)
	}
	for _, a := range later.attempts {
		c.setAttempt(a)
	}
	c.others = append(c.others, later.others...)
}

// queue queues the statements for the kinds needed and forgets their rows.
func (c *rowChanges) queue(b *pgx.Batch, need rows) {
	if need&jobRows != 0 {
		queueInserts(b, c.inserts)
		queueSaves(b, c.saves)
		queueProgress(b, c.progress)
		c.inserts, c.saves, c.progress = nil, nil, nil
	}
	if need&attemptRows != 0 {
		queueAttempts(b, c.attempts)
		c.attempts = nil
	}
	if need&otherRows != 0 {
		for _, s := range c.others {
			b.Queue(s.sql, s.args...)
		}
		c.others = nil
	}
}

const insertJobs = `
WITH u AS (
	SELECT nextval('nanoos.specs_seq_seq') AS seq, r.*
	FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::bigint[], $9::bigint[],
		$10::text[], $11::bigint[], $12::bigint[], $13::text[], $14::bigint[], $15::text[], $16::text[], $17::bigint[], $18::bigint[],
		$19::bigint[], $20::bigint[], $21::bigint[], $22::bytea[], $23::text[], $24::text[], $25::text[], $26::text[], $27::text[])
	AS r(id, tenant, lane, state, priority, reason, message, attempt, fence,
		worker, failures, losses, cancel, run_at, verdict, failure, created_at, queued_at,
		started_at, ended_at, rev, result, key, digest, name, folded, spec)
), s AS (
	INSERT INTO nanoos.specs (seq, id, tenant, key, digest, name, folded, spec)
	SELECT seq, id, tenant, key, digest, name, folded, spec FROM u
)
INSERT INTO nanoos.jobs (seq, id, tenant, lane, state, priority, reason, message, attempt, fence,
	worker, failures, losses, cancel, run_at, verdict, failure, created_at, queued_at, started_at, ended_at, rev, result)
SELECT seq, id, tenant, lane, state, priority, reason, message, attempt, fence,
	worker, failures, losses, cancel, run_at, verdict, failure, created_at, queued_at, started_at, ended_at, rev, result
FROM u`

const insertLabels = `
INSERT INTO nanoos.labels (name, value, seq)
SELECT u.name, u.value, s.seq
FROM unnest($1::text[], $2::text[], $3::text[]) AS u(id, name, value) JOIN nanoos.specs s ON s.id = u.id`

const insertProgress = `
INSERT INTO nanoos.progress (seq, progress)
SELECT s.seq, u.progress
FROM unnest($1::text[], $2::text[]) AS u(id, progress) JOIN nanoos.specs s ON s.id = u.id`

// jobArrays are the columns that inserts and saves have in common.
type jobArrays struct {
	state, reason, message, worker, cancel, verdict, failure                             []string
	priority, attempt, fence, failures, losses, runAt, queuedAt, startedAt, endedAt, rev []int64
	result                                                                               [][]byte
}

func newJobArrays(n int) *jobArrays {
	strings, numbers := make([]string, 7*n), make([]int64, 10*n)
	text := func(i int) []string { return strings[i*n : i*n : (i+1)*n] }
	number := func(i int) []int64 { return numbers[i*n : i*n : (i+1)*n] }
	return &jobArrays{
		state: text(0), reason: text(1), message: text(2), worker: text(3), cancel: text(4), verdict: text(5), failure: text(6),
		priority: number(0), attempt: number(1), fence: number(2), failures: number(3), losses: number(4),
		runAt: number(5), queuedAt: number(6), startedAt: number(7), endedAt: number(8), rev: number(9),
		result: make([][]byte, 0, n),
	}
}

func (a *jobArrays) add(j *job.Job, cancel, failure string) {
	a.state = append(a.state, string(j.State))
	a.priority = append(a.priority, int64(j.Spec.Priority))
	a.reason = append(a.reason, clean(j.Reason))
	a.message = append(a.message, clean(j.Message))
	a.attempt = append(a.attempt, int64(j.Attempt))
	a.fence = append(a.fence, int64(j.Fence))
	a.worker = append(a.worker, clean(j.Worker))
	a.failures = append(a.failures, int64(j.Failures))
	a.losses = append(a.losses, int64(j.Losses))
	a.cancel = append(a.cancel, cancel)
	a.runAt = append(a.runAt, column.Micros(j.RunAt))
	a.verdict = append(a.verdict, clean(j.Verdict))
	a.failure = append(a.failure, failure)
	a.queuedAt = append(a.queuedAt, column.Micros(j.QueuedAt))
	a.startedAt = append(a.startedAt, column.Micros(j.StartedAt))
	a.endedAt = append(a.endedAt, column.Micros(j.EndedAt))
	a.rev = append(a.rev, j.Rev)
	var result []byte
	if len(j.Result) > 0 {
		result = j.Result
	}
	a.result = append(a.result, result)
}

func queueInserts(b *pgx.Batch, inserts []insertedJob) {
	if len(inserts) == 0 {
		return
	}
	n := len(inserts)
	a := newJobArrays(n)
	created, lanes := make([]int64, n), make([]int64, n)
	ids, tenants, keys, digests, names, folded, specs := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	var labelled, labelNames, labelValues, progressed, progress []string
	for i, in := range inserts {
		j := &in.job
		a.add(j, in.cancel, in.failure)
		created[i], lanes[i] = column.Micros(j.CreatedAt), in.lane
		ids[i], tenants[i] = clean(j.ID), clean(j.Tenant)
		keys[i], digests[i], names[i], folded[i], specs[i] = clean(j.Spec.Key), clean(in.digest), clean(j.Spec.Name), clean(column.Fold(j.Spec.Name)), in.spec
		for name, value := range j.Spec.Labels {
			labelled, labelNames, labelValues = append(labelled, ids[i]), append(labelNames, clean(name)), append(labelValues, clean(value))
		}
		if in.progressed != "" {
			progressed, progress = append(progressed, ids[i]), append(progress, in.progressed)
		}
	}
	b.Queue(insertJobs, ids, tenants, lanes, a.state, a.priority, a.reason, a.message, a.attempt, a.fence,
		a.worker, a.failures, a.losses, a.cancel, a.runAt, a.verdict, a.failure, created, a.queuedAt,
		a.startedAt, a.endedAt, a.rev, a.result, keys, digests, names, folded, specs)
	if len(labelled) > 0 {
		b.Queue(insertLabels, labelled, labelNames, labelValues)
	}
	if len(progressed) > 0 {
		b.Queue(insertProgress, progressed, progress)
	}
}

const updateJobs = `
UPDATE nanoos.jobs j SET state = u.state, priority = u.priority, reason = u.reason, message = u.message, attempt = u.attempt,
	fence = u.fence, worker = u.worker, failures = u.failures, losses = u.losses, cancel = u.cancel, run_at = u.run_at,
	verdict = u.verdict, failure = u.failure, queued_at = u.queued_at, started_at = u.started_at, ended_at = u.ended_at, rev = u.rev,
	result = CASE WHEN u.clear THEN u.result ELSE coalesce(u.result, j.result) END
FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::text[], $9::bigint[],
	$10::bigint[], $11::text[], $12::bigint[], $13::text[], $14::text[], $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[],
	$19::bytea[], $20::boolean[])
AS u(seq, state, priority, reason, message, attempt, fence, worker, failures,
	losses, cancel, run_at, verdict, failure, queued_at, started_at, ended_at, rev, result, clear)
WHERE j.seq = u.seq`

func queueSaves(b *pgx.Batch, saves map[int64]savedJob) {
	if len(saves) == 0 {
		return
	}
	seqs := slices.Sorted(maps.Keys(saves))
	a, clears := newJobArrays(len(seqs)), make([]bool, len(seqs))
	for i, seq := range seqs {
		s := saves[seq]
		a.add(&s.job, s.cancel, s.failure)
		clears[i] = s.clear
	}
	b.Queue(updateJobs, seqs, a.state, a.priority, a.reason, a.message, a.attempt, a.fence, a.worker, a.failures,
		a.losses, a.cancel, a.runAt, a.verdict, a.failure, a.queuedAt, a.startedAt, a.endedAt, a.rev, a.result, clears)
}

const (
	upsertProgress = `
INSERT INTO nanoos.progress (seq, progress) SELECT * FROM unnest($1::bigint[], $2::text[])
ON CONFLICT (seq) DO UPDATE SET progress = excluded.progress`
	deleteProgress = `DELETE FROM nanoos.progress WHERE seq = ANY($1::bigint[])`
)

func queueProgress(b *pgx.Batch, progress map[int64]string) {
	var set, gone []int64
	var values []string
	for _, seq := range slices.Sorted(maps.Keys(progress)) {
		if p := progress[seq]; p == "" {
			gone = append(gone, seq)
		} else {
			set, values = append(set, seq), append(values, p)
		}
	}
	if len(set) > 0 {
		b.Queue(upsertProgress, set, values)
	}
	if len(gone) > 0 {
		b.Queue(deleteProgress, gone)
	}
}

const upsertAttempts = `
INSERT INTO nanoos.attempts (seq, number, worker, host, started_at, ended_at, outcome, exit, failure)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::text[], $8::text[], $9::text[])
ON CONFLICT (seq, number) DO UPDATE SET worker = excluded.worker, host = excluded.host, started_at = excluded.started_at,
	ended_at = excluded.ended_at, outcome = excluded.outcome, exit = excluded.exit, failure = excluded.failure`

func queueAttempts(b *pgx.Batch, attempts map[attemptKey]attemptRow) {
	if len(attempts) == 0 {
		return
	}
	keys := slices.SortedFunc(maps.Keys(attempts), func(a, b attemptKey) int {
		return cmp.Or(cmp.Compare(a.seq, b.seq), cmp.Compare(a.number, b.number))
	})
	n := len(keys)
	seqs, numbers, started, ended := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	workers, hosts, outcomes, exits, failures := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	for i, k := range keys {
		a := attempts[k]
		seqs[i], numbers[i], started[i], ended[i] = k.seq, int64(k.number), a.started, a.ended
		workers[i], hosts[i], outcomes[i], exits[i], failures[i] = a.worker, a.host, a.outcome, a.exit, a.failure
	}
	b.Queue(upsertAttempts, seqs, numbers, workers, hosts, started, ended, outcomes, exits, failures)
}
