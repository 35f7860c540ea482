package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/column"
)

// laneCounts are changes of a lane's counts, in the order of job.States.
type laneCounts [6]int64

// count notes that a lane has more or fewer jobs in a state.
func (tx *writeTx) count(lane store.LaneID, s job.State, n int64) {
	c := tx.counts[lane]
	if c == nil {
		if tx.counts == nil {
			tx.counts = map[store.LaneID]*laneCounts{}
		}
		c = &laneCounts{}
		tx.counts[lane] = c
	}
	if i := slices.Index(job.States, s); i >= 0 {
		c[i] += n
	}
}

const updateCounts = `
UPDATE lanes SET pending = pending + ?, queued = queued + ?, running = running + ?,
	completed = completed + ?, failed = failed + ?, cancelled = cancelled + ?
WHERE id = ?`

// flushCounts writes the noted changes, once for many jobs of a lane.
func (tx *writeTx) flushCounts() error {
	for lane, c := range tx.counts {
		delete(tx.counts, lane)
		if *c == (laneCounts{}) {
			continue
		}
		if _, err := tx.exec(updateCounts, c[0], c[1], c[2], c[3], c[4], c[5], int64(lane)); err != nil {
			return fmt.Errorf("count the jobs of lane %d: %w", lane, err)
		}
	}
	return nil
}

// flushed makes the lanes' counts true before they are read.
func (tx *readTx) flushed() error {
	if tx.flush == nil {
		return nil
	}
	return tx.flush()
}

// laneKey is what makes a lane.
type laneKey struct {
	queue, engine string
	tenant        job.Tenant
	cpus, gpus    int
	memory        int64
	tags          string
}

// maxLanes bounds the lanes that are remembered; there are rarely as many.
const maxLanes = 4096

const (
	selectLane = `
SELECT id FROM lanes
WHERE queue = ? AND tenant = ? AND engine = ? AND cpus = ? AND memory = ? AND gpus = ? AND tags = ?`
	insertLane = `
INSERT INTO lanes (queue, tenant, engine, cpus, memory, gpus, tags) VALUES (?, ?, ?, ?, ?, ?, ?)`
)

// laneOf returns the lane of a job, a new one if need be.
func (tx *writeTx) laneOf(ctx context.Context, j job.Job) (store.LaneID, error) {
	d, tags := j.Spec.Demand.Rounded(), ""
	if len(d.Tags) > 0 {
		tags = list(d.Tags)
	}
	key := laneKey{j.Spec.Queue, j.Spec.Engine, j.Tenant, d.CPUs, d.GPUs, d.Memory, tags}
	if id, ok := tx.lanes[key]; ok {
		return id, nil
	}
	args := []any{key.queue, string(key.tenant), key.engine, key.cpus, key.memory, key.gpus, key.tags}
	var id int64
	found, err := tx.row(ctx, selectLane, args, &id)
	if err == nil && !found {
		var res sql.Result
		if res, err = tx.exec(insertLane, args...); err == nil {
			id, err = res.LastInsertId()
		}
	}
	if err != nil {
		return 0, fmt.Errorf("find the lane: %w", err)
	}
	if len(tx.lanes) >= maxLanes {
		clear(tx.lanes)
	}
	tx.lanes[key] = store.LaneID(id)
	return store.LaneID(id), nil
}

const selectLanes = `
SELECT l.id, l.queue, l.tenant, l.engine, l.cpus, l.memory, l.gpus, l.tags
FROM lanes l LEFT JOIN queues q ON q.name = l.queue
WHERE l.queued > 0 AND coalesce(q.paused, '') = ''
ORDER BY l.id`

// Lanes implements store.ReadTx.
func (tx *readTx) Lanes(ctx context.Context) ([]store.Lane, error) {
	if err := tx.flushed(); err != nil {
		return nil, err
	}
	lanes, err := all(ctx, tx, selectLanes, nil, column.Lane)
	if err != nil {
		return nil, fmt.Errorf("list lanes: %w", err)
	}
	return lanes, nil
}

// The index is named so that a plan without it is an error instead of a slow
// claim.
const selectHeads = `
SELECT seq, id, priority
FROM jobs INDEXED BY jobs_claim
WHERE lane = ? AND state = 'QUEUED'
ORDER BY priority DESC, seq LIMIT ?`

// Heads implements store.ReadTx.
func (tx *readTx) Heads(ctx context.Context, lanes []store.LaneID, perLane int) ([]store.Head, error) {
	var heads []store.Head
	for _, l := range lanes {
		err := tx.rows(ctx, selectHeads, []any{int64(l), max(0, perLane)}, func(r *sql.Rows) error {
			h := store.Head{Lane: l}
			err := r.Scan(&h.Seq, &h.ID, &h.Priority)
			heads = append(heads, h)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read the head of lane %d: %w", l, err)
		}
	}
	return heads, nil
}

const selectDue = `
SELECT id FROM jobs INDEXED BY jobs_due
WHERE state = 'PENDING' AND run_at > 0 AND run_at <= ?
ORDER BY run_at, seq LIMIT ?`

// Due implements store.ReadTx.
func (tx *readTx) Due(ctx context.Context, limit int) ([]job.ID, error) {
	return tx.ids(ctx, selectDue, column.Micros(tx.now), max(0, limit))
}

// ids runs a query for job ids.
func (tx *readTx) ids(ctx context.Context, query string, args ...any) ([]job.ID, error) {
	ids, err := all(ctx, tx, query, args, column.JobID)
	if err != nil {
		return nil, fmt.Errorf("list job ids: %w", err)
	}
	return ids, nil
}

const selectNextDue = `
SELECT run_at FROM jobs INDEXED BY jobs_due
WHERE state = 'PENDING' AND run_at > 0
ORDER BY run_at LIMIT 1`

// NextDue implements store.ReadTx.
func (tx *readTx) NextDue(ctx context.Context) (time.Time, error) {
	var at int64
	if _, err := tx.row(ctx, selectNextDue, nil, &at); err != nil {
		return time.Time{}, fmt.Errorf("read the next due time: %w", err)
	}
	return column.Time(at), nil
}

const (
	selectRunningOn = `
SELECT ` + jobColumns + `
FROM jobs j INDEXED BY jobs_running` + jobJoins + `
WHERE j.state = 'RUNNING' AND j.worker = ?
ORDER BY j.seq`
	selectRunning = `
SELECT ` + jobColumns + `
FROM jobs j INDEXED BY jobs_running` + jobJoins + `
WHERE j.state = 'RUNNING'
ORDER BY j.seq`
)

// RunningOn implements store.ReadTx.
func (tx *readTx) RunningOn(ctx context.Context, worker string) ([]job.Job, error) {
	if worker == "" {
		return tx.jobs(ctx, selectRunning)
	}
	return tx.jobs(ctx, selectRunningOn, worker)
}

// jobs runs a query of jobColumns and leaves out the rows that cannot be read.
func (tx *readTx) jobs(ctx context.Context, query string, args ...any) ([]job.Job, error) {
	var jobs []job.Job
	err := tx.rows(ctx, query, args, func(r *sql.Rows) error {
		row, err := scanJob(r)
		if err == nil && row.bad == nil {
			jobs = append(jobs, row.job)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", err)
	}
	return jobs, nil
}

const selectUsage = `
SELECT tenant, sum(running * cpus) FROM lanes WHERE running > 0 GROUP BY tenant`

// Usage implements store.ReadTx.
func (tx *readTx) Usage(ctx context.Context) (map[job.Tenant]float64, error) {
	if err := tx.flushed(); err != nil {
		return nil, err
	}
	used := map[job.Tenant]float64{}
	err := tx.rows(ctx, selectUsage, nil, func(r *sql.Rows) error {
		var t job.Tenant
		var cpus float64
		err := r.Scan(&t, &cpus)
		used[t] = cpus
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sum the CPUs in use: %w", err)
	}
	return used, nil
}

const selectCounts = `
SELECT queue, sum(pending), sum(queued), sum(running), sum(completed), sum(failed), sum(cancelled)
FROM lanes WHERE ?1 = '' OR tenant = ?1
GROUP BY queue ORDER BY queue`

// Counts implements store.ReadTx.
func (tx *readTx) Counts(ctx context.Context, t job.Tenant) ([]store.Count, error) {
	if err := tx.flushed(); err != nil {
		return nil, err
	}
	counts, err := all(ctx, tx, selectCounts, []any{string(t)}, column.Counts)
	if err != nil {
		return nil, fmt.Errorf("count jobs: %w", err)
	}
	return slices.Concat(counts...), nil
}
