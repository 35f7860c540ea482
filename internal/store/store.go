// Package store is the contract between the system and its database. It keeps
// rows and order; it decides nothing. Package storetest holds the tests that
// every implementation must pass, and the in-memory model they agree with.
//
// The interface is an internal seam with a shared suite, not an extension
// point.
package store

import (
	"context"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// Store opens transactions.
type Store interface {
	// Read runs fn on one consistent snapshot.
	Read(ctx context.Context, fn func(ReadTx) error) error
	// Write runs fn in a transaction of its own and returns after the commit is
	// durable (G1). An error from fn, or a panic, undoes what fn did and
	// nothing else: implementations may commit several callers together. fn may
	// run again after a serialization failure, so it must not have effects
	// outside tx, and it must not block.
	Write(ctx context.Context, fn func(Tx) error) error
	Close() error
}

// ReadTx reads one snapshot.
type ReadTx interface {
	// Now is the store's clock: the database's on PostgreSQL, so that servers
	// whose clocks differ agree (G10). It is constant within a transaction.
	Now() time.Time

	// Job returns one job, without its result. An absent job, or one of another
	// tenant, is job.NotFound. The empty tenant means any.
	Job(ctx context.Context, t job.Tenant, id job.ID) (job.Job, error)
	// Result returns the stored result of a job: nil if it has none.
	Result(ctx context.Context, t job.Tenant, id job.ID) ([]byte, error)
	// Resolve returns the jobs, newest first and at most limit, whose id begins
	// or ends with ref, or whose name equals it.
	Resolve(ctx context.Context, t job.Tenant, ref string, limit int) ([]job.ID, error)
	// ByKey returns the job submitted under an idempotency key and the digest
	// of its spec, or job.NotFound.
	ByKey(ctx context.Context, t job.Tenant, key string) (j job.Job, digest string, err error)
	// Jobs lists jobs without results, newest first unless q.Oldest.
	Jobs(ctx context.Context, q JobQuery) (page []job.Job, next Cursor, err error)
	// Counts returns how many jobs are in each queue and state.
	Counts(ctx context.Context, t job.Tenant) ([]Count, error)

	// Lanes returns the lanes that have a QUEUED job in a queue that is not paused.
	Lanes(ctx context.Context) ([]Lane, error)
	// Heads returns the first perLane QUEUED jobs of each lane, by priority,
	// highest first, then by age, oldest first.
	Heads(ctx context.Context, lanes []LaneID, perLane int) ([]Head, error)
	// Due returns PENDING jobs whose RunAt has come, earliest first.
	Due(ctx context.Context, limit int) ([]job.ID, error)
	// NextDue returns the earliest RunAt of a PENDING job; zero means none.
	NextDue(ctx context.Context) (time.Time, error)
	// RunningOn returns the RUNNING jobs of a worker; the empty name means those of all.
	RunningOn(ctx context.Context, worker string) ([]job.Job, error)
	// Usage returns the CPUs that each tenant's RUNNING jobs occupy.
	Usage(ctx context.Context) (map[job.Tenant]float64, error)

	Attempts(ctx context.Context, t job.Tenant, id job.ID) ([]job.Attempt, error)
	// EventsAfter returns events in commit order, Seq ascending. The empty
	// tenant or job means any.
	EventsAfter(ctx context.Context, t job.Tenant, id job.ID, after int64, limit int) ([]job.Event, error)
	// LastEvent returns the highest committed Seq, 0 if there is none.
	LastEvent(ctx context.Context) (int64, error)

	Queues(ctx context.Context) ([]Queue, error)
	Workers(ctx context.Context) ([]Worker, error)
	// Meta returns a stored setting of the installation, "" if absent.
	Meta(ctx context.Context, key string) (string, error)
}

// Tx reads and writes in one transaction.
type Tx interface {
	ReadTx

	// InsertJobs adds jobs, all or none, in the given order: ages within a lane
	// follow it. digests[i] belongs to jobs[i].Spec and may be empty without a
	// key. A key in use is job.Conflict.
	InsertJobs(ctx context.Context, jobs []job.Job, digests []string) error
	// LockJobs returns those of ids that exist, without results, in the order
	// of ids, and keeps them from other writers until the transaction ends.
	LockJobs(ctx context.Context, ids []job.ID) ([]job.Job, error)
	// SaveJobs writes everything but ID, Tenant, Spec and CreatedAt, and the
	// priority in Spec, which may change. Each job's Rev must be the stored one
	// (job.Conflict otherwise) and job.CanMove must permit the change of state
	// from the stored one; a FAILED or CANCELLED job that goes to QUEUED loses
	// its result and failure. A nil Result keeps the stored one. The stored Rev
	// rises by one; the caller's copy is updated.
	SaveJobs(ctx context.Context, jobs []job.Job) error
	// SaveProgress stores progress of RUNNING jobs whose fence is current,
	// silently skips the others, and changes no Rev.
	SaveProgress(ctx context.Context, held []job.Held) error

	// InsertAttempts and SaveAttempts write attempts, keyed by job and number;
	// numbers of a job are 1…n without a gap (I2).
	InsertAttempts(ctx context.Context, as []job.Attempt) error
	SaveAttempts(ctx context.Context, as []job.Attempt) error
	// AppendEvents adds events; Seq and At are set by the store.
	AppendEvents(ctx context.Context, ev []job.Event) error

	// SaveQueue creates or changes a queue.
	SaveQueue(ctx context.Context, q Queue) error
	// SaveWorker creates or replaces a worker; RenewWorker sets its SeenAt to
	// Now and is job.NotFound for an unknown name.
	SaveWorker(ctx context.Context, w Worker) error
	RenewWorker(ctx context.Context, name string) error
	DeleteWorker(ctx context.Context, name string) error
	SetMeta(ctx context.Context, key, value string) error

	// Lead takes or keeps the leader's lease until Now + ttl, and reports
	// whether it is held by name.
	Lead(ctx context.Context, name string, ttl time.Duration) (bool, error)
}

// A Lane is the jobs of one queue and tenant that ask for the same engine and
// the same resources: if one of them fits a worker, all do.
type Lane struct {
	ID     LaneID
	Queue  string
	Tenant job.Tenant
	Engine string
	Demand job.Demand
}

// LaneID numbers a lane.
type LaneID int64

// Head is a claimable job at the front of its lane.
type Head struct {
	Lane     LaneID
	ID       job.ID
	Priority job.Priority
	// Seq orders heads of equal priority: the smaller was queued earlier. A job
	// that goes back to QUEUED keeps its Seq, so it does not lose its place.
	Seq int64
}

// JobQuery selects jobs. Zero fields do not restrict.
type JobQuery struct {
	Tenant  job.Tenant
	States  []job.State
	Queue   string
	Engine  string
	Name    string // substring, case-insensitive
	Labels  map[string]string
	Since   time.Time // created at or after
	Updated time.Time // not ended, or ended at or after
	After   Cursor
	Oldest  bool // oldest first
	Limit   int  // 1…500; zero means 50
}

// Cursor continues a listing; opaque to callers.
type Cursor string

// Count is the number of jobs in one queue and state.
type Count struct {
	Queue string
	State job.State
	Jobs  int64
}

// Queue is a named stream of jobs.
type Queue struct {
	Name     string
	Paused   *job.Request // nil when it runs
	Walltime job.Duration // default of its jobs; zero means the global one
	// LostAfter is how long a silent worker keeps the queue's jobs; zero means
	// the global default.
	LostAfter job.Duration
}

// Worker is a process that claims jobs.
type Worker struct {
	job.Session
	StartedAt time.Time
	SeenAt    time.Time
	Draining  bool
	// EndedAt is set when it left by itself; a worker that crashed has none.
	EndedAt time.Time
}
