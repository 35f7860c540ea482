package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// InsertJobs implements store.Tx.
func (tx *modelTx) InsertJobs(_ context.Context, jobs []job.Job, digests []string) error {
	ids, keys := map[job.ID]bool{}, map[[2]string]bool{}
	for _, r := range tx.jobs {
		ids[r.job.ID] = true
		keys[keyOf(r.job)] = true
	}
	for _, j := range jobs {
		if _, err := json.Marshal(j.Spec); err != nil {
			return job.Errorf(job.Invalid, "job %s cannot be stored: %w", j.ID, err)
		}
		if ids[j.ID] {
			return job.Errorf(job.Conflict, "job %s exists already", j.ID)
		}
		if j.Spec.Key != "" && keys[keyOf(j)] {
			return job.Errorf(job.Conflict, "the key %q is in use", j.Spec.Key)
		}
		ids[j.ID] = true
		keys[keyOf(j)] = true
	}
	for i, j := range jobs {
		r := row{result: bytes.Clone(j.Result), digest: digests[i], seq: int64(len(tx.order)), lane: tx.laneOf(j)}
		j.Result = nil
		r.job = copyOf(j)
		tx.jobs[j.ID] = r
		tx.order = append(tx.order, j.ID)
	}
	return nil
}

func keyOf(j job.Job) [2]string { return [2]string{string(j.Tenant), j.Spec.Key} }

// laneOf returns the lane of a job, a new one if need be.
func (tx *modelTx) laneOf(j job.Job) store.LaneID {
	want := copyOf(store.Lane{Queue: j.Spec.Queue, Tenant: j.Tenant, Engine: j.Spec.Engine, Demand: j.Spec.Demand.Rounded()})
	for _, l := range tx.lanes {
		if l.Queue == want.Queue && l.Tenant == want.Tenant && l.Engine == want.Engine && equalDemand(l.Demand, want.Demand) {
			return l.ID
		}
	}
	want.ID = store.LaneID(len(tx.lanes) + 1)
	tx.lanes = append(tx.lanes, want)
	return want.ID
}

func equalDemand(a, b job.Demand) bool {
	return a.CPUs == b.CPUs && a.Memory == b.Memory && a.GPUs == b.GPUs && slices.Equal(a.Tags, b.Tags)
}

// LockJobs implements store.Tx.
func (tx *modelTx) LockJobs(_ context.Context, ids []job.ID) ([]job.Job, error) {
	var jobs []job.Job
	for _, id := range ids {
		if r, ok := tx.jobs[id]; ok {
			jobs = append(jobs, copyOf(r.job))
		}
	}
	return jobs, nil
}

// SaveJobs implements store.Tx.
func (tx *modelTx) SaveJobs(_ context.Context, jobs []job.Job) error {
	seen := map[job.ID]bool{}
	for _, j := range jobs {
		r, err := tx.find("", j.ID)
		if err != nil {
			return err
		}
		if r.job.Rev != j.Rev || seen[j.ID] {
			return job.Errorf(job.Conflict, "job %s was changed by somebody else", j.ID)
		}
		if !job.CanMove(r.job.State, j.State) {
			return job.Errorf(job.Conflict, "job %s cannot go from %s to %s", j.ID, r.job.State, j.State)
		}
		seen[j.ID] = true
	}
	for i := range jobs {
		j, r := &jobs[i], tx.jobs[jobs[i].ID]
		if len(j.Result) > 0 {
			r.result = bytes.Clone(j.Result)
		}
		if r.job.State.Terminal() && j.State == job.Queued {
			j.Result, j.Failure, r.result = nil, nil, nil
		}
		j.Rev++
		n := *j
		n.Result = nil
		n.Tenant, n.CreatedAt, n.Spec = r.job.Tenant, r.job.CreatedAt, r.job.Spec
		n.Spec.Priority = j.Spec.Priority
		r.job = copyOf(n)
		tx.jobs[j.ID] = r
	}
	return nil
}

// SaveProgress implements store.Tx.
func (tx *modelTx) SaveProgress(_ context.Context, held []job.Held) error {
	for _, h := range held {
		r, ok := tx.jobs[h.ID]
		if !ok || h.Progress == nil || r.job.State != job.Running || r.job.Fence != h.Fence {
			continue
		}
		p := copyOf(*h.Progress)
		r.job.Progress = &p
		tx.jobs[h.ID] = r
	}
	return nil
}

// InsertAttempts implements store.Tx.
func (tx *modelTx) InsertAttempts(_ context.Context, as []job.Attempt) error {
	next := map[job.ID]int{}
	for _, a := range as {
		if _, err := tx.find("", a.Job); err != nil {
			return err
		}
		next[a.Job] = max(next[a.Job], len(tx.attempts[a.Job])) + 1
		if a.Number != next[a.Job] {
			return job.Errorf(job.Conflict, "attempt %d of job %s is not the next", a.Number, a.Job)
		}
	}
	for _, a := range as {
		tx.attempts[a.Job] = append(slices.Clone(tx.attempts[a.Job]), copyOf(a))
	}
	return nil
}

// SaveAttempts implements store.Tx.
func (tx *modelTx) SaveAttempts(_ context.Context, as []job.Attempt) error {
	for _, a := range as {
		if a.Number < 1 || a.Number > len(tx.attempts[a.Job]) {
			return job.Errorf(job.NotFound, "job %s has no attempt %d", a.Job, a.Number)
		}
	}
	for _, a := range as {
		all := slices.Clone(tx.attempts[a.Job])
		all[a.Number-1] = copyOf(a)
		tx.attempts[a.Job] = all
	}
	return nil
}

// Attempts implements store.ReadTx.
func (tx *modelTx) Attempts(_ context.Context, t job.Tenant, id job.ID) ([]job.Attempt, error) {
	if _, err := tx.find(t, id); err != nil {
		return nil, err
	}
	return copyOf(tx.attempts[id]), nil
}

// AttemptsOf implements store.ReadTx.
func (tx *modelTx) AttemptsOf(_ context.Context, ids []job.ID) (map[job.ID][]job.Attempt, error) {
	of := make(map[job.ID][]job.Attempt, len(ids))
	for _, id := range ids {
		if as := tx.attempts[id]; len(as) > 0 {
			of[id] = copyOf(as)
		}
	}
	return of, nil
}

// AppendEvents implements store.Tx.
func (tx *modelTx) AppendEvents(_ context.Context, ev []job.Event) error {
	for _, e := range ev {
		if e.Job != "" && tx.jobs[e.Job].job.ID == "" {
			return job.Errorf(job.NotFound, "there is no job %s", e.Job)
		}
	}
	for _, e := range ev {
		e.Seq, e.At, e.Data = int64(len(tx.events)+1), tx.now, bytes.Clone(e.Data)
		tx.events = append(tx.events, e)
	}
	return nil
}

// EventsAfter implements store.ReadTx.
func (tx *modelTx) EventsAfter(_ context.Context, t job.Tenant, id job.ID, after int64, limit int) ([]job.Event, error) {
	var page []job.Event
	for _, e := range tx.events {
		if e.Seq > after && (t == "" || e.Tenant == t) && (id == "" || e.Job == id) && len(page) < limit {
			e.Data = bytes.Clone(e.Data)
			page = append(page, e)
		}
	}
	return page, nil
}

// LastEvent implements store.ReadTx.
func (tx *modelTx) LastEvent(context.Context) (int64, error) { return int64(len(tx.events)), nil }
