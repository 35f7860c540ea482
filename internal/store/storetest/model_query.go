package storetest

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// Job implements store.ReadTx.
func (tx *modelTx) Job(_ context.Context, t job.Tenant, id job.ID) (job.Job, error) {
	r, err := tx.find(t, id)
	if err != nil {
		return job.Job{}, err
	}
	return copyOf(r.job), nil
}

// Result implements store.ReadTx.
func (tx *modelTx) Result(_ context.Context, t job.Tenant, id job.ID) ([]byte, error) {
	r, err := tx.find(t, id)
	if err != nil || len(r.result) == 0 {
		return nil, err
	}
	return bytes.Clone(r.result), nil
}

// Resolve implements store.ReadTx.
func (tx *modelTx) Resolve(_ context.Context, t job.Tenant, ref string, limit int) ([]job.ID, error) {
	var ids []job.ID
	if ref == "" {
		return nil, nil
	}
	for _, r := range slices.Backward(tx.rows(t)) {
		id := string(r.job.ID)
		if len(ids) < limit && (strings.HasPrefix(id, ref) || strings.HasSuffix(id, ref) || r.job.Spec.Name == ref) {
			ids = append(ids, r.job.ID)
		}
	}
	return ids, nil
}

// ByKey implements store.ReadTx.
func (tx *modelTx) ByKey(_ context.Context, t job.Tenant, key string) (job.Job, string, error) {
	for _, r := range tx.rows(t) {
		if key != "" && r.job.Tenant == t && r.job.Spec.Key == key {
			return copyOf(r.job), r.digest, nil
		}
	}
	return job.Job{}, "", job.Errorf(job.NotFound, "there is no job with the key %q", key)
}

// Jobs implements store.ReadTx.
func (tx *modelTx) Jobs(_ context.Context, q store.JobQuery) ([]job.Job, store.Cursor, error) {
	after, err := q.Check()
	if err != nil {
		return nil, "", err
	}
	rows := tx.rows(q.Tenant)
	if !q.Oldest {
		slices.Reverse(rows)
	}
	var page []job.Job
	var last int64
	for _, r := range rows {
		past := q.After == "" || q.Oldest && r.seq > after || !q.Oldest && r.seq < after
		if !past || !matches(r.job, q) {
			continue
		}
		if len(page) == q.Page() {
			return page, q.Next(last), nil
		}
		page = append(page, copyOf(r.job))
		last = r.seq
	}
	return page, "", nil
}

func matches(j job.Job, q store.JobQuery) bool {
	for name, value := range q.Labels {
		if got, ok := j.Spec.Labels[name]; !ok || got != value {
			return false
		}
	}
	return (len(q.States) == 0 || slices.Contains(q.States, j.State)) &&
		(q.Queue == "" || j.Spec.Queue == q.Queue) &&
		(q.Engine == "" || j.Spec.Engine == q.Engine) &&
		strings.Contains(strings.ToLower(j.Spec.Name), strings.ToLower(q.Name)) &&
		!j.CreatedAt.Before(q.Since) &&
		(!j.State.Terminal() || !j.EndedAt.Before(q.Updated))
}

// Counts implements store.ReadTx.
func (tx *modelTx) Counts(_ context.Context, t job.Tenant) ([]store.Count, error) {
	n := map[store.Count]int64{}
	for _, r := range tx.rows(t) {
		n[store.Count{Queue: r.job.Spec.Queue, State: r.job.State}]++
	}
	var counts []store.Count
	for c, jobs := range n {
		c.Jobs = jobs
		counts = append(counts, c)
	}
	slices.SortFunc(counts, func(a, b store.Count) int {
		return cmp.Or(cmp.Compare(a.Queue, b.Queue), cmp.Compare(slices.Index(job.States, a.State), slices.Index(job.States, b.State)))
	})
	return counts, nil
}

// Lanes implements store.ReadTx.
func (tx *modelTx) Lanes(context.Context) ([]store.Lane, error) {
	var lanes []store.Lane
	for _, l := range tx.lanes {
		queued := slices.ContainsFunc(tx.in(job.Queued), func(r row) bool { return r.lane == l.ID })
		if queued && tx.queues[l.Queue].Paused == nil {
			lanes = append(lanes, copyOf(l))
		}
	}
	return lanes, nil
}

// Heads implements store.ReadTx.
func (tx *modelTx) Heads(_ context.Context, lanes []store.LaneID, perLane int) ([]store.Head, error) {
	var heads []store.Head
	for _, l := range lanes {
		rows := slices.DeleteFunc(tx.in(job.Queued), func(r row) bool { return r.lane != l })
		slices.SortStableFunc(rows, func(a, b row) int { return int(b.job.Spec.Priority - a.job.Spec.Priority) })
		for _, r := range rows[:max(0, min(perLane, len(rows)))] {
			heads = append(heads, store.Head{Lane: l, ID: r.job.ID, Priority: r.job.Spec.Priority, Seq: r.seq})
		}
	}
	return heads, nil
}

// Due implements store.ReadTx.
func (tx *modelTx) Due(_ context.Context, limit int) ([]job.ID, error) {
	var ids []job.ID
	for _, r := range tx.timed() {
		if !r.job.RunAt.After(tx.now) && len(ids) < limit {
			ids = append(ids, r.job.ID)
		}
	}
	return ids, nil
}

// NextDue implements store.ReadTx.
func (tx *modelTx) NextDue(context.Context) (time.Time, error) {
	for _, r := range tx.timed() {
		return r.job.RunAt, nil
	}
	return time.Time{}, nil
}

// timed returns the PENDING jobs that have a RunAt, earliest first.
func (tx *modelTx) timed() []row {
	rows := slices.DeleteFunc(tx.in(job.Pending), func(r row) bool { return r.job.RunAt.IsZero() })
	slices.SortStableFunc(rows, func(a, b row) int { return a.job.RunAt.Compare(b.job.RunAt) })
	return rows
}

// RunningOn implements store.ReadTx.
func (tx *modelTx) RunningOn(_ context.Context, worker string) ([]job.Job, error) {
	var jobs []job.Job
	for _, r := range tx.in(job.Running) {
		if worker == "" || r.job.Worker == worker {
			jobs = append(jobs, copyOf(r.job))
		}
	}
	return jobs, nil
}

// Usage implements store.ReadTx.
func (tx *modelTx) Usage(context.Context) (map[job.Tenant]float64, error) {
	used := map[job.Tenant]float64{}
	for _, r := range tx.in(job.Running) {
		used[r.job.Tenant] += float64(r.job.Spec.Demand.CPUs)
	}
	return used, nil
}
