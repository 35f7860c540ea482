// Package storetest says what a store must do, twice: Run is the list of rules,
// one test each, and Model is a store in memory so simple that RunModel takes
// its answers to random operations for the right ones.
package storetest

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// Run checks every rule of the contract on stores that open makes; each test
// has one of its own.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	groups := []struct {
		name  string
		rules []rule
	}{
		{"Insert", insertRules},
		{"Idempotency", idempotencyRules},
		{"Save", saveRules},
		{"Claim", claimRules},
		{"Due", dueRules},
		{"Query", queryRules},
		{"Events", eventRules},
		{"Attempts", attemptRules},
		{"Queues", queueRules},
		{"Workers", workerRules},
		{"Tokens", tokenRules},
		{"Lease", leaseRules},
		{"Tickets", ticketRules},
		{"Concurrency", concurrencyRules},
	}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			for _, r := range g.rules {
				t.Run(r.name, func(t *testing.T) {
					t.Parallel()
					b := &bench{T: t, store: open(t)}
					r.check(b)
					if err := b.store.Close(); err != nil {
						t.Errorf("close: %v", err)
					}
				})
			}
		})
	}
}

// rule is one sentence of the contract.
type rule struct {
	name  string
	check func(b *bench)
}

// bench is a test with a store and short ways to use it.
type bench struct {
	*testing.T
	store store.Store
}

// write runs fn in a transaction that must commit. fn may run on a goroutine
// of the store, so it reports by its error.
func (b *bench) write(fn func(store.Tx) error) {
	b.Helper()
	if err := b.store.Write(b.Context(), fn); err != nil {
		b.Fatalf("write: %v", err)
	}
}

// read runs fn on a snapshot and must succeed.
func (b *bench) read(fn func(store.ReadTx) error) {
	b.Helper()
	if err := b.store.Read(b.Context(), fn); err != nil {
		b.Fatalf("read: %v", err)
	}
}

// insert stores jobs in one transaction.
func (b *bench) insert(jobs ...job.Job) {
	b.Helper()
	b.write(func(tx store.Tx) error { return tx.InsertJobs(b.Context(), jobs, make([]string, len(jobs))) })
}

// save stores changes of jobs in one transaction.
func (b *bench) save(jobs ...job.Job) {
	b.Helper()
	b.write(func(tx store.Tx) error { return tx.SaveJobs(b.Context(), jobs) })
}

// job reads a job that must be there.
func (b *bench) job(id job.ID) (j job.Job) {
	b.Helper()
	b.read(func(tx store.ReadTx) (err error) {
		j, err = tx.Job(b.Context(), "", id)
		return err
	})
	return j
}

// result reads the result of a job that must be there.
func (b *bench) result(id job.ID) (result string) {
	b.Helper()
	b.read(func(tx store.ReadTx) error {
		r, err := tx.Result(b.Context(), "", id)
		result = string(r)
		return err
	})
	return result
}

// move changes a stored job.
func (b *bench) move(id job.ID, change func(*job.Job)) {
	b.Helper()
	b.write(func(tx store.Tx) error {
		jobs, err := tx.LockJobs(b.Context(), []job.ID{id})
		if err != nil {
			return err
		}
		change(&jobs[0])
		return tx.SaveJobs(b.Context(), jobs)
	})
}

// refused asserts that a transaction fails with a code and changes nothing.
func (b *bench) refused(code job.Code, fn func(store.Tx) error) {
	b.Helper()
	err := b.store.Write(b.Context(), fn)
	if job.CodeOf(err) != code {
		b.Errorf("error is %q (%v), want code %q", job.CodeOf(err), err, code)
	}
}

// same compares what was stored with what is wanted.
func (b *bench) same(what string, got, want any) {
	b.Helper()
	if d := diff(got, want); d != "" {
		b.Errorf("%s differ (-want +got):\n%s", what, d)
	}
}

func diff(got, want any) string {
	present := func(a, b json.RawMessage) bool { return len(a)+len(b) > 0 } // EquateEmpty knows the rest
	return cmp.Diff(want, got, cmpopts.EquateEmpty(), cmp.FilterValues(present, cmp.Comparer(equalJSON)))
}

// equalJSON compares the values: a store may write JSON in another way.
func equalJSON(a, b json.RawMessage) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return string(a) == string(b)
	}
	return cmp.Equal(x, y)
}

// day is the first day of the test jobs, far from any clock of a store.
var day = time.Date(2024, 5, 6, 7, 8, 9, 123456000, time.UTC)

// queued returns a small job that may be claimed.
func queued() job.Job {
	return job.Job{
		ID:     job.NewID(),
		Tenant: job.DefaultTenant,
		State:  job.Queued,
		Spec: job.Spec{
			Queue: job.DefaultQueue, Engine: "mock", Priority: job.PriorityNormal,
			Demand:   job.Demand{CPUs: 1, Memory: job.MemoryQuantum},
			Walltime: job.DefaultWalltime, Retry: job.DefaultRetry,
		},
		CreatedAt: day, QueuedAt: day,
	}
}

// queuedAs returns queued changed by fn.
func queuedAs(fn func(*job.Job)) job.Job {
	j := queued()
	fn(&j)
	return j
}

// full returns a job in which every field is set.
func full() job.Job {
	value := -12.5
	return job.Job{
		ID: job.NewID(), Tenant: "physics", State: job.Failed,
		Spec: job.Spec{
			Name: "silicon-scf", Queue: "high_priority", Engine: "qe",
			Params:    json.RawMessage(`{"ecutwfc":30,"note":"a <b> & \"c\" é"}`),
			Structure: json.RawMessage(`{"species":["Si","Si"]}`),
			Files:     []job.File{{Name: "pw.in", SHA256: "ab12", Size: 7}},
			Demand:    job.Demand{CPUs: 2, Memory: 3 * job.MemoryQuantum, GPUs: 1, Tags: []string{"a100", "ib"}},
			Priority:  17, RunAt: day.Add(time.Hour), Walltime: job.DefaultWalltime, SoftLimit: job.DefaultSoftLimit,
			Retry: job.DefaultRetry, LogLimit: job.DefaultLogLimit, AcceptNotConverged: true,
			Labels: map[string]string{"campaign": "demo", "phase": "α"}, Key: fmt.Sprint("key-", job.NewID()), Held: true,
		},
		Reason: job.ReasonHeld, Message: "held by ann", Attempt: 3, Fence: 9, Worker: "node-7", Failures: 2, Losses: 1,
		Cancel:   &job.Request{By: "ann", At: day.Add(time.Minute), Why: "wrong cell"},
		RunAt:    day.Add(2 * time.Hour),
		Progress: &job.Progress{Fraction: 0.5, Stage: "SCF iteration 7", Step: 7, Steps: 14, Quantity: "energy_eV", Value: &value, At: day.Add(time.Second)},
		Verdict:  job.NotConverged,
		Failure: &job.Failure{Class: job.ClassNumerical, Code: "scf_not_converged", Message: "did not converge", Fix: "smaller mixing",
			Evidence: []job.Evidence{{File: "pw.out", Line: 12, Text: "convergence NOT achieved"}}, Exit: 3, Signal: "SIGTERM", Digest: "d1"},
		CreatedAt: day, QueuedAt: day.Add(time.Second), StartedAt: day.Add(time.Minute), EndedAt: day.Add(time.Hour),
		Rev: 4,
	}
}

// idsOf returns the ids of jobs in their order.
func idsOf(jobs []job.Job) []job.ID {
	var ids []job.ID
	for _, j := range jobs {
		ids = append(ids, j.ID)
	}
	return ids
}
