// Package queue decides what runs next and what happens when it ends. It is
// the only package that moves a job from one state to another. The decisions
// are pure functions of a job, an event and a time (decide.go); Service is the
// shell around them that reads and writes the store.
package queue

import (
	"context"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// Service is the queue. Any number of them may share one store.
type Service struct {
	st  store.Store
	opt Options
}

// Options of a Service; the zero value of a field means its default.
type Options struct {
	// Check completes and validates a spec before it is stored; nil accepts all.
	Check func(job.Spec) (job.Spec, error)
	// Name identifies this process for the leader's lease.
	Name string
	// Session is how long a worker may be silent before contact counts as lost (60 s).
	Session time.Duration
	// LostAfter is how long a silent worker keeps its jobs (15 min).
	LostAfter time.Duration
	// Sweep is the period of the leader's duties (10 s).
	Sweep time.Duration
	// MaxQueued bounds the PENDING and QUEUED jobs of a tenant (1 000 000).
	MaxQueued int64
	// Shares is a tenant's entitlement; absent means 1.
	Shares map[job.Tenant]float64
	// Rand returns a number in [0, 1) for the jitter of retries.
	Rand func() float64
}

// Submitted is one accepted job; Existing when its key had been used before
// with the same spec (G2).
type Submitted struct {
	Job      job.Job
	Existing bool
}

// Actor says who asks for a change and why.
type Actor struct {
	By  string
	Why string
}

func New(st store.Store, opt Options) *Service { return &Service{st: st, opt: opt} }

// Submit stores the specs, all or none. The same key with another body is
// job.Conflict; a tenant above its limit is job.Exhausted.
func (s *Service) Submit(ctx context.Context, t job.Tenant, specs ...job.Spec) ([]Submitted, error) {
	panic("unwritten")
}

// Cancel ends a job that waits, and orders the worker of one that runs to stop
// it. A job that has ended is job.Conflict.
func (s *Service) Cancel(ctx context.Context, t job.Tenant, id job.ID, a Actor) (job.Job, error) {
	panic("unwritten")
}

// Hold keeps a waiting job from starting; Release undoes it, and also frees a
// quarantined job.
func (s *Service) Hold(ctx context.Context, t job.Tenant, id job.ID, a Actor) (job.Job, error) {
	panic("unwritten")
}
func (s *Service) Release(ctx context.Context, t job.Tenant, id job.ID, a Actor) (job.Job, error) {
	panic("unwritten")
}

// Retry starts a failed or cancelled job again with fresh budgets, or a job
// that waits for its retry at once.
func (s *Service) Retry(ctx context.Context, t job.Tenant, id job.ID, a Actor) (job.Job, error) {
	panic("unwritten")
}

// SetPriority changes the order of a waiting job.
func (s *Service) SetPriority(ctx context.Context, t job.Tenant, id job.ID, p job.Priority) (job.Job, error) {
	panic("unwritten")
}

// PauseQueue stops claims from a queue, ResumeQueue allows them again. Jobs
// that run go on.
func (s *Service) PauseQueue(ctx context.Context, name string, a Actor) error  { panic("unwritten") }
func (s *Service) ResumeQueue(ctx context.Context, name string, a Actor) error { panic("unwritten") }

// Explain says why a waiting job waits, in order of weight, the first being
// the primary reason.
func (s *Service) Explain(ctx context.Context, t job.Tenant, id job.ID) ([]Waiting, error) {
	panic("unwritten")
}

// Waiting is one reason why a job has not started.
type Waiting struct {
	Code    string `json:"code"` // held, quarantined, begin_time, retry, queue_paused, no_worker, never_fits, busy
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"`
}

// Changed returns a channel that is closed by the next commit of this process
// that changed a job, a queue or a worker.
func (s *Service) Changed() <-chan struct{} { panic("unwritten") }

// ContactLost reports whether a RUNNING job's worker has been silent for
// longer than its session.
func (s *Service) ContactLost(w store.Worker, now time.Time) bool { panic("unwritten") }

// Maintain runs the leader's duties until ctx ends: promote jobs that are due,
// release the jobs of lost workers.
func (s *Service) Maintain(ctx context.Context) error { panic("unwritten") }

// The worker's side; see worker.Queue for the contract.

func (s *Service) Attach(ctx context.Context, w job.Session, found []job.Found) (job.Attachment, error) {
	panic("unwritten")
}
func (s *Service) Claim(ctx context.Context, worker string, free job.Offer, max int, wait time.Duration) ([]job.Lease, error) {
	panic("unwritten")
}
func (s *Service) Beat(ctx context.Context, worker string, held []job.Held) ([]job.Order, error) {
	panic("unwritten")
}
func (s *Service) Orders(ctx context.Context, worker string, wait time.Duration) ([]job.Order, error) {
	panic("unwritten")
}
func (s *Service) Finish(ctx context.Context, l job.Lease, out job.Outcome) error { panic("unwritten") }
func (s *Service) Leave(ctx context.Context, worker string) error                 { panic("unwritten") }
