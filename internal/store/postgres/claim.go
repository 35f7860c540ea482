package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/column"
)

// laneCounts are changes of a lane's counts, in the order of job.States.
type laneCounts [6]int64

// count notes that a lane has more or fewer jobs in a state.
func (tx *writeTx) count(lane store.LaneID, s job.State, n int64) {
	var c laneCounts
	if i := slices.Index(job.States, s); i >= 0 {
		c[i] = n
	}
	tx.changes.count(lane, &c)
}

func (c *changes) count(lane store.LaneID, by *laneCounts) {
	if c.counts == nil {
		c.counts = map[store.LaneID]*laneCounts{}
	}
	sum := c.counts[lane]
	if sum == nil {
		sum = &laneCounts{}
		c.counts[lane] = sum
	}
	for i := range sum {
		sum[i] += by[i]
	}
}

// The counts of lanes are written with the commit and never before: the rows
// are the same for all servers, and a lock on one would keep the others waiting
// for whatever happens until then (F48). Queries within the transaction add
// what is not written yet.
const (
	updateCounts = `
UPDATE nanoos.lanes l SET pending = l.pending + d.pending, queued = l.queued + d.queued, running = l.running + d.running,
	completed = l.completed + d.completed, failed = l.failed + d.failed, cancelled = l.cancelled + d.cancelled
FROM ` + countChanges + `
WHERE l.id = d.id`
	countChanges = `unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
	AS d(id, pending, queued, running, completed, failed, cancelled)`
	lanesAsTheyWillBe = `nanoos.lanes l LEFT JOIN ` + countChanges + ` ON d.id = l.id`
)

// countArgs are the arguments of countChanges.
func countArgs(counts map[store.LaneID]*laneCounts) []any {
	ids := make([]int64, 0, len(counts))
	var columns [6][]int64
	for i := range columns {
		columns[i] = make([]int64, 0, len(counts))
	}
	for _, lane := range slices.Sorted(maps.Keys(counts)) {
		c := counts[lane]
		if *c == (laneCounts{}) {
			continue
		}
		ids = append(ids, int64(lane))
		for i, n := range c {
			columns[i] = append(columns[i], n)
		}
	}
	return []any{ids, columns[0], columns[1], columns[2], columns[3], columns[4], columns[5]}
}

// unwritten are the arguments of countChanges for a query of the transaction.
func (tx *readTx) unwritten() []any {
	if tx.counts == nil {
		return countArgs(nil)
	}
	return countArgs(tx.counts())
}

// unwrittenCounts adds up what the ops before and this one have counted.
func (tx *writeTx) unwrittenCounts() map[store.LaneID]*laneCounts {
	if len(tx.changes.counts) == 0 {
		return tx.t.changes.counts
	}
	var sum changes
	for _, counts := range []map[store.LaneID]*laneCounts{tx.t.changes.counts, tx.changes.counts} {
		for lane, c := range counts {
			sum.count(lane, c)
		}
	}
	return sum.counts
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

func laneKeyOf(j job.Job) laneKey {
	d, tags := j.Spec.Demand.Rounded(), ""
	if len(d.Tags) > 0 {
		b, _ := json.Marshal(d.Tags) // texts always encode
		tags = string(b)
	}
	return laneKey{clean(j.Spec.Queue), clean(j.Spec.Engine), job.Tenant(clean(j.Tenant)), d.CPUs, d.GPUs, d.Memory, clean(tags)}
}

const (
	lanesWanted = `unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[])
	AS u(queue, tenant, engine, cpus, memory, gpus, tags)`
	selectLaneIDs = `
SELECT l.id, l.queue, l.tenant, l.engine, l.cpus, l.memory, l.gpus, l.tags
FROM ` + lanesWanted + ` JOIN nanoos.lanes l USING (queue, tenant, engine, cpus, memory, gpus, tags)`
	insertLanes = `
INSERT INTO nanoos.lanes (queue, tenant, engine, cpus, memory, gpus, tags)
SELECT u.queue, u.tenant, u.engine, u.cpus, u.memory, u.gpus, u.tags FROM ` + lanesWanted + `
ON CONFLICT DO NOTHING`
)

// lanesOf returns the lanes of jobs, new ones if need be.
func (tx *writeTx) lanesOf(ctx context.Context, jobs []job.Job) ([]store.LaneID, error) {
	w := tx.t.writer
	keys := make([]laneKey, len(jobs))
	for i, j := range jobs {
		keys[i] = laneKeyOf(j)
	}
	missing := w.missing(keys)
	if len(w.lanes)+len(missing) > maxLanes {
		clear(w.lanes)
		missing = w.missing(keys)
	}
	if len(missing) > 0 {
		if err := tx.findLanes(ctx, missing); err != nil {
			return nil, fmt.Errorf("find the lanes: %w", err)
		}
	}
	ids := make([]store.LaneID, len(jobs))
	for i, k := range keys {
		ids[i] = w.lanes[k]
	}
	return ids, nil
}

// missing returns the keys, once each, of lanes that are not remembered.
func (w *writer) missing(keys []laneKey) []laneKey {
	var missing []laneKey
	seen := map[laneKey]bool{}
	for _, k := range keys {
		if _, ok := w.lanes[k]; !ok && !seen[k] {
			missing = append(missing, k)
			seen[k] = true
		}
	}
	return missing
}

// findLanes looks lanes up, and makes those that are missing in a session and
// a transaction of their own: a lane is the same for everybody, and nobody
// should wait for this transaction to see it. A lane without jobs is nothing.
func (tx *writeTx) findLanes(ctx context.Context, keys []laneKey) error {
	w := tx.t.writer
	found := func(r pgx.Rows) error {
		var k laneKey
		var id store.LaneID
		err := r.Scan((*int64)(&id), &k.queue, (*string)(&k.tenant), &k.engine, &k.cpus, &k.memory, &k.gpus, &k.tags)
		w.lanes[k] = id
		return err
	}
	args := laneArgs(keys)
	if err := tx.query(ctx, 0, selectLaneIDs, args, found); err != nil || len(w.missing(keys)) == 0 {
		return err
	}
	c, err := w.store.server.connect(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	defer c.close()
	if err := c.exec(context.WithoutCancel(ctx), insertLanes, args...); err != nil {
		return fault("make lanes", err)
	}
	return tx.query(ctx, 0, selectLaneIDs, args, found)
}

func laneArgs(keys []laneKey) []any {
	var queues, tenants, engines, tags []string
	var cpus, memory, gpus []int64
	for _, k := range keys {
		queues, tenants, engines, tags = append(queues, k.queue), append(tenants, string(k.tenant)), append(engines, k.engine), append(tags, k.tags)
		cpus, memory, gpus = append(cpus, int64(k.cpus)), append(memory, k.memory), append(gpus, int64(k.gpus))
	}
	return []any{queues, tenants, engines, cpus, memory, gpus, tags}
}

const selectLanes = `
SELECT l.id, l.queue, l.tenant, l.engine, l.cpus, l.memory, l.gpus, l.tags
FROM ` + lanesAsTheyWillBe + ` LEFT JOIN nanoos.queues q ON q.name = l.queue
WHERE l.queued + coalesce(d.queued, 0) > 0 AND coalesce(q.paused, '') = ''
ORDER BY l.id`

// Lanes implements store.ReadTx.
func (tx *readTx) Lanes(ctx context.Context) ([]store.Lane, error) {
	lanes, err := all(ctx, tx, otherRows, selectLanes, tx.unwritten(), column.Lane)
	if err != nil {
		return nil, fmt.Errorf("list lanes: %w", err)
	}
	return lanes, nil
}

const (
	headsBegin = `
SELECT l.lane, h.seq, h.id, h.priority
FROM unnest($1::bigint[]) WITH ORDINALITY AS l(lane, n)
CROSS JOIN LATERAL (
	SELECT j.seq, j.id, j.priority FROM nanoos.jobs j
	WHERE j.lane = l.lane AND j.state = 'QUEUED'
	ORDER BY j.priority DESC, j.seq LIMIT $2`
	headsEnd = `
) h
ORDER BY l.n, h.priority DESC, h.seq`
	selectHeads = headsBegin + headsEnd
	// Servers that claim at once take different jobs instead of waiting for
	// each other, and pass over what a stopped one holds (S1, F48).
	claimHeads = headsBegin + `
	FOR UPDATE SKIP LOCKED` + headsEnd
)

// maxHeld bounds the heads that a claim locks; it takes fewer than it looks at.
// Beyond it, for very many lanes at once, claims may wait for each other.
const maxHeld = 512

// Heads implements store.ReadTx.
func (tx *readTx) Heads(ctx context.Context, lanes []store.LaneID, perLane int) ([]store.Head, error) {
	return tx.heads(ctx, selectHeads, lanes, perLane)
}

// Heads implements store.ReadTx. It leaves out what other transactions hold.
func (tx *writeTx) Heads(ctx context.Context, lanes []store.LaneID, perLane int) ([]store.Head, error) {
	if len(lanes)*perLane > maxHeld {
		return tx.heads(ctx, selectHeads, lanes, perLane)
	}
	return tx.heads(ctx, claimHeads, lanes, perLane)
}

func (tx *readTx) heads(ctx context.Context, query string, lanes []store.LaneID, perLane int) ([]store.Head, error) {
	ids := make([]int64, len(lanes))
	for i, l := range lanes {
		ids[i] = int64(l)
	}
	var heads []store.Head
	err := tx.query(ctx, jobRows, query, []any{ids, max(0, perLane)}, func(r pgx.Rows) error {
		var h store.Head
		err := r.Scan((*int64)(&h.Lane), &h.Seq, (*string)(&h.ID), (*int)(&h.Priority))
		heads = append(heads, h)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the heads of %d lanes: %w", len(lanes), err)
	}
	return heads, nil
}

const selectDue = `
SELECT id FROM nanoos.jobs
WHERE state = 'PENDING' AND run_at > 0 AND run_at <= $1
ORDER BY run_at, seq LIMIT $2`

// Due implements store.ReadTx.
func (tx *readTx) Due(ctx context.Context, limit int) ([]job.ID, error) {
	return tx.ids(ctx, selectDue, column.Micros(tx.Now()), max(0, limit))
}

// ids runs a query for job ids.
func (tx *readTx) ids(ctx context.Context, query string, args ...any) ([]job.ID, error) {
	ids, err := all(ctx, tx, jobRows, query, args, column.JobID)
	if err != nil {
		return nil, fmt.Errorf("list job ids: %w", err)
	}
	return ids, nil
}

const selectNextDue = `
SELECT run_at FROM nanoos.jobs
WHERE state = 'PENDING' AND run_at > 0
ORDER BY run_at LIMIT 1`

// NextDue implements store.ReadTx.
func (tx *readTx) NextDue(ctx context.Context) (time.Time, error) {
	var at int64
	if _, err := tx.row(ctx, jobRows, selectNextDue, nil, &at); err != nil {
		return time.Time{}, fmt.Errorf("read the next due time: %w", err)
	}
	return column.Time(at), nil
}

const (
	selectRunningOn = selectJobs + `
WHERE j.state = 'RUNNING' AND j.worker = $1
ORDER BY j.seq`
	selectRunning = selectJobs + `
WHERE j.state = 'RUNNING'
ORDER BY j.seq`
)

// RunningOn implements store.ReadTx.
func (tx *readTx) RunningOn(ctx context.Context, worker string) ([]job.Job, error) {
	if worker == "" {
		return tx.jobs(ctx, selectRunning)
	}
	return tx.jobs(ctx, selectRunningOn, clean(worker))
}

const selectUsage = `
SELECT l.tenant, sum((l.running + coalesce(d.running, 0)) * l.cpus)::float8
FROM ` + lanesAsTheyWillBe + `
WHERE l.running + coalesce(d.running, 0) > 0
GROUP BY l.tenant`

// Usage implements store.ReadTx.
func (tx *readTx) Usage(ctx context.Context) (map[job.Tenant]float64, error) {
	used := map[job.Tenant]float64{}
	err := tx.query(ctx, 0, selectUsage, tx.unwritten(), func(r pgx.Rows) error {
		var t string
		var cpus float64
		err := r.Scan(&t, &cpus)
		used[job.Tenant(t)] = cpus
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sum the CPUs in use: %w", err)
	}
	return used, nil
}

const selectCounts = `
SELECT l.queue, sum(l.pending + coalesce(d.pending, 0))::bigint, sum(l.queued + coalesce(d.queued, 0))::bigint,
	sum(l.running + coalesce(d.running, 0))::bigint, sum(l.completed + coalesce(d.completed, 0))::bigint,
	sum(l.failed + coalesce(d.failed, 0))::bigint, sum(l.cancelled + coalesce(d.cancelled, 0))::bigint
FROM ` + lanesAsTheyWillBe + `
WHERE $8 = '' OR l.tenant = $8
GROUP BY l.queue ORDER BY l.queue`

// Counts implements store.ReadTx.
func (tx *readTx) Counts(ctx context.Context, t job.Tenant) ([]store.Count, error) {
	counts, err := all(ctx, tx, 0, selectCounts, append(tx.unwritten(), clean(t)), column.Counts)
	if err != nil {
		return nil, fmt.Errorf("count jobs: %w", err)
	}
	return slices.Concat(counts...), nil
}
