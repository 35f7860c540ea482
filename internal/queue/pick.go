package queue

import (
	"cmp"
	"math"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// Candidate is a claimable job and the lane that says what it asks for.
type Candidate struct {
	store.Head
	In store.Lane
}

// Turn is one worker's turn at the queue.
type Turn struct {
	Free job.Offer
	Max  int
	// Used are the CPUs that each tenant occupies, Shares its entitlement
	// (absent means 1).
	Used   map[job.Tenant]float64
	Shares map[job.Tenant]float64
	// Reserved is a job that waits for this worker to become free enough:
	// nothing that comes after it may start here. Nil means none.
	Reserved *store.Head
}

// Pick chooses what starts now: by priority, then by the tenant whose use is
// smallest against its share, then by age. It takes as long as something fits;
// a job that does not fit now is passed over. The candidates of a lane are in
// the order of its heads.
func (t Turn) Pick(candidates []Candidate) []Candidate {
	lanes := make(map[store.LaneID][]Candidate)
	for _, c := range candidates {
		if t.Reserved == nil || c.ID == t.Reserved.ID || before(c.Head, *t.Reserved) {
			lanes[c.In.ID] = append(lanes[c.In.ID], c)
		}
	}
	used := make(map[job.Tenant]float64, len(t.Used))
	for tenant, n := range t.Used {
		used[tenant] = n
	}
	var picked []Candidate
	for len(picked) < t.Max {
		var best *Candidate
		for id, rest := range lanes {
			c := &rest[0]
			if !t.Free.Fits(c.In.Queue, c.In.Engine, c.In.Demand) {
				// What is free only shrinks, so the lane is out of this turn.
				delete(lanes, id)
				continue
			}
			if best == nil || t.first(*c, *best, used) {
				best = c
			}
		}
		if best == nil {
			break
		}
		picked = append(picked, *best)
		t.Free = t.Free.Less(best.In.Demand)
		used[best.In.Tenant] += float64(best.In.Demand.CPUs)
		if rest := lanes[best.In.ID][1:]; len(rest) > 0 {
			lanes[best.In.ID] = rest
		} else {
			delete(lanes, best.In.ID)
		}
	}
	return picked
}

// first reports whether a goes before b.
func (t Turn) first(a, b Candidate, used map[job.Tenant]float64) bool {
	if a.Priority != b.Priority {
		return a.Priority > b.Priority
	}
	if a.In.Tenant != b.In.Tenant {
		x, y := t.load(a.In.Tenant, used), t.load(b.In.Tenant, used)
		if x != y {
			return x < y
		}
	}
	return a.Seq < b.Seq
}

// load is a tenant's use over its share. Without a share it comes after all others.
func (t Turn) load(tenant job.Tenant, used map[job.Tenant]float64) float64 {
	share, set := t.Shares[tenant]
	if !set {
		share = 1
	}
	if !(share > 0) {
		return math.Inf(1)
	}
	return used[tenant] / share
}

// before is the order of jobs apart from shares: priority, then age.
func before(a, b store.Head) bool {
	return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Seq, b.Seq)) < 0
}

// A job that needs most of a worker could wait for ever while small ones take
// every gap. After reserveAfter, one worker lets its gaps add up for it.
const (
	// reserveAfter is long against a queue that drains by itself, and short
	// against the runs that big jobs are.
	reserveAfter = 10 * time.Minute
	// reserveFor is how long a worker that has stopped asking keeps its turn;
	// until then no second worker leaves its gaps open for the same job.
	reserveFor = 10 * time.Minute
	// reserveLook is how often a busy worker looks for a job to make room for:
	// seldom against the wait of such a job, for to look costs a read of every
	// lane that does not fit.
	reserveLook = 5 * time.Second
)

// reservations remember which worker makes room for which job.
type reservations struct {
	mu    sync.Mutex
	by    map[job.ID]reservation
	looks map[string]time.Time // when a worker last found that it makes room for nothing
}

type reservation struct {
	worker string
	until  time.Time
}

// quiet reports whether worker found nothing to make room for a moment ago.
func (r *reservations) quiet(worker string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, looked := r.looks[worker]
	return looked && now.Sub(at) >= 0 && now.Sub(at) < reserveLook
}

// hush keeps worker from looking again for a while.
func (r *reservations) hush(worker string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.looks == nil {
		r.looks = make(map[string]time.Time)
	}
	for other, at := range r.looks {
		if now.Sub(at) >= reserveLook {
			delete(r.looks, other)
		}
	}
	r.looks[worker] = now
}

// take reports whether worker makes room for the job.
func (r *reservations) take(id job.ID, worker string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.by == nil {
		r.by = make(map[job.ID]reservation)
	}
	for other, v := range r.by {
		// A worker makes room for one job at a time, the first in the line.
		if v.until.Before(now) || v.worker == worker && other != id {
			delete(r.by, other)
		}
	}
	if v, taken := r.by[id]; taken && v.worker != worker {
		return false
	}
	r.by[id] = reservation{worker: worker, until: now.Add(reserveFor)}
	return true
}
