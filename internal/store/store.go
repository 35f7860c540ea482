// Package store is the contract between the system and its database. It keeps
// rows and order; it decides nothing. Package storetest holds the tests that
// every implementation must pass, and the in-memory model they agree with.
//
// The interface is an internal seam with a shared suite, not an extension
// point.
//
// Rules that hold throughout:
//
//   - Times are instants, kept to at least the microsecond; their zone may
//     change.
//   - A Spec keeps its value, not its bytes; results and the data of events
//     return byte for byte.
//   - What a Spec points to may be shared by all who read the job: nobody
//     changes it.
//   - A method that writes does all it was asked or nothing, so a caller may go
//     on after its error.
//   - A limit of zero or less yields nothing.
//   - Lists of ids are taken to hold each id once.
package store

import (
	"context"
	"time"

	"github.com/nano-os/nanoos/internal/auth"
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
	//
	// A ctx that ends before fn's turn makes Write return its cause without
	// running fn; from then on the end of ctx is ignored. While the disk is full
	// or broken, Write is job.Unavailable and Read goes on.
	Write(ctx context.Context, fn func(Tx) error) error
	Close() error
}

// Notifier is a store that other processes write to as well. What they tell are
// hints (S5): everybody who waits also looks by himself now and then.
type Notifier interface {
	// Notify tells the other processes, soon and together with what follows,
	// which kinds of waiters a commit concerns: a set of bits that only their
	// senders and hearers understand. It does not wait.
	Notify(kinds uint8)
	// Listen calls heard with what other processes told, until ctx ends, and
	// with all bits set when something may have been missed.
	Listen(ctx context.Context, heard func(kinds uint8)) error
}

// Stats describes the writes since a store was opened.
type Stats struct {
	Commits    int64 // transactions that changed something
	Ops        int64 // calls of Write in them
	LastCommit time.Duration
	AvgCommit  time.Duration
	Halted     error // why nothing is written; nil in health
}

// ReadTx reads one snapshot.
type ReadTx interface {
	// Now is the store's clock: the database's on PostgreSQL, so that servers
	// whose clocks differ agree (G10). It is constant within a transaction.
	Now() time.Time

	// Job returns one job, without its result. An absent job, or one of another
	// tenant, is job.NotFound. The empty tenant means any.
	Job(ctx context.Context, t job.Tenant, id job.ID) (job.Job, error)
	// Result returns the stored result of a job: nil if it has none. An absent
	// job is job.NotFound, as in Job.
	Result(ctx context.Context, t job.Tenant, id job.ID) ([]byte, error)
	// Resolve returns the jobs, newest first and at most limit, whose id begins
	// or ends with ref, or whose name equals it. The empty ref fits none.
	Resolve(ctx context.Context, t job.Tenant, ref string, limit int) ([]job.ID, error)
	// ByKey returns the job submitted under an idempotency key and the digest
	// of its spec, or job.NotFound.
	ByKey(ctx context.Context, t job.Tenant, key string) (j job.Job, digest string, err error)
	// Jobs lists jobs without results in the order of their insertion, newest
	// first unless q.Oldest. A row that cannot be read is left out, and is
	// job.Internal for Job. next is empty after the last page. A limit out of
	// range, an unknown state, or a cursor that Jobs did not return for the same
	// order, is job.Invalid.
	Jobs(ctx context.Context, q JobQuery) (page []job.Job, next Cursor, err error)
	// Counts returns how many jobs are in each queue and state, by queue, then
	// in the order of job.States; pairs without jobs are left out. It costs the
	// same however many jobs there are.
	Counts(ctx context.Context, t job.Tenant) ([]Count, error)

	// Lanes returns the lanes that have a QUEUED job in a queue that is not
	// paused, by ID. A lane's demand is the rounded one of its jobs.
	Lanes(ctx context.Context) ([]Lane, error)
	// Heads returns the first perLane QUEUED jobs of each lane, by priority,
	// highest first, then by age, oldest first; lanes come in the order asked.
	// In a Tx it may leave out jobs that the transaction of another process
	// holds (S1).
	Heads(ctx context.Context, lanes []LaneID, perLane int) ([]Head, error)
	// Due returns PENDING jobs whose RunAt has come, earliest first.
	Due(ctx context.Context, limit int) ([]job.ID, error)
	// NextDue returns the earliest RunAt of a PENDING job; zero means none.
	NextDue(ctx context.Context) (time.Time, error)
	// RunningOn returns the RUNNING jobs of a worker without results, oldest
	// first; the empty name means those of all. A row that cannot be read is
	// left out.
	RunningOn(ctx context.Context, worker string) ([]job.Job, error)
	// Usage returns the CPUs that each tenant's RUNNING jobs occupy; a tenant
	// without one is absent.
	Usage(ctx context.Context) (map[job.Tenant]float64, error)

	// Attempts returns the attempts of a job by number. An absent job is
	// job.NotFound, as in Job.
	Attempts(ctx context.Context, t job.Tenant, id job.ID) ([]job.Attempt, error)
	// AttemptsOf returns the attempts of several jobs, each job's by number. A
	// job that is absent or has none is absent from the map.
	AttemptsOf(ctx context.Context, ids []job.ID) (map[job.ID][]job.Attempt, error)
	// EventsAfter returns events in commit order, Seq ascending. The empty
	// tenant or job means any.
	EventsAfter(ctx context.Context, t job.Tenant, id job.ID, after int64, limit int) ([]job.Event, error)
	// LastEvent returns the highest committed Seq, 0 if there is none.
	LastEvent(ctx context.Context) (int64, error)

	// Queues and Workers return all that were saved, by name.
	Queues(ctx context.Context) ([]Queue, error)
	Workers(ctx context.Context) ([]Worker, error)
	// Worker returns one worker; an unknown name is job.NotFound.
	Worker(ctx context.Context, name string) (Worker, error)
	// Tokens returns all that were saved, by id.
	Tokens(ctx context.Context) ([]auth.Token, error)
	// Meta returns a stored setting of the installation, "" if absent.
	Meta(ctx context.Context, key string) (string, error)

	// Tickets returns those of a door that exist, in the order of ids; TicketsOf
	// those of jobs, in any state, in the order of the jobs. In a Tx the tickets
	// stay as they are until it ends.
	Tickets(ctx context.Context, door string, ids []string) ([]Ticket, error)
	TicketsOf(ctx context.Context, door string, jobs []job.ID) ([]Ticket, error)
	// TicketsDue returns the tickets that are owed an answer and whose Due has
	// come, earliest first. In a Tx they stay as they are until it ends, and it
	// may leave out those that the transaction of another process holds.
	TicketsDue(ctx context.Context, door string, limit int) ([]Ticket, error)
	// TicketsIn returns the tickets in a state, oldest first.
	TicketsIn(ctx context.Context, door string, state TicketState, limit int) ([]Ticket, error)
}

// Tx reads and writes in one transaction.
type Tx interface {
	ReadTx

	// InsertJobs adds jobs as they are, in the given order: ages within a lane
	// follow it. digests[i] belongs to jobs[i].Spec and may be empty without a
	// key. An id or a tenant's key in use is job.Conflict.
	InsertJobs(ctx context.Context, jobs []job.Job, digests []string) error
	// LockJobs returns those of ids that exist and can be read, without
	// results, in the order of ids, and keeps them from other writers until the transaction ends.
	LockJobs(ctx context.Context, ids []job.ID) ([]job.Job, error)
	// SaveJobs writes everything but ID, Tenant, CreatedAt and Spec; of the
	// Spec it writes the Priority, which may change. Each job's Rev must be the
	// stored one and job.CanMove must permit the change of state from the stored
	// one; job.Conflict otherwise, job.NotFound for an absent job. An empty
	// Result keeps the stored one. A FAILED or CANCELLED job that goes to QUEUED
	// loses its result and failure. The stored Rev rises by one; the caller's
	// copy is updated in Rev, and in what the job lost.
	SaveJobs(ctx context.Context, jobs []job.Job) error
	// SaveProgress stores progress of RUNNING jobs whose fence is current,
	// silently skips the others and those without progress, and changes no Rev.
	SaveProgress(ctx context.Context, held []job.Held) error

	// InsertAttempts and SaveAttempts write attempts, keyed by job and number;
	// numbers of a job are 1…n without a gap (I2): inserting any but the next is
	// job.Conflict, and an absent job, or an absent attempt to save, is
	// job.NotFound.
	InsertAttempts(ctx context.Context, as []job.Attempt) error
	SaveAttempts(ctx context.Context, as []job.Attempt) error
	// AppendEvents adds events; Seq and At (Now) are set by the store, not in
	// ev. An event of a job that is absent is job.NotFound; one without a job is
	// an event of the installation.
	AppendEvents(ctx context.Context, ev []job.Event) error

	// SaveQueue creates or changes a queue.
	SaveQueue(ctx context.Context, q Queue) error
	// SaveWorker creates or replaces a worker; RenewWorker sets its SeenAt to
	// Now and is job.NotFound for an unknown name. Deleting an unknown one does
	// nothing.
	SaveWorker(ctx context.Context, w Worker) error
	RenewWorker(ctx context.Context, name string) error
	DeleteWorker(ctx context.Context, name string) error
	// SaveToken creates or replaces a token. Deleting an unknown one does nothing.
	SaveToken(ctx context.Context, t auth.Token) error
	DeleteToken(ctx context.Context, id string) error
	SetMeta(ctx context.Context, key, value string) error

	// Lead takes or keeps the lease of a duty until Now + ttl, and reports
	// whether it is held by name. A lease is free from the moment it ends.
	Lead(ctx context.Context, duty, name string, ttl time.Duration) (bool, error)

	// SaveTickets creates or replaces tickets. It sets UpdatedAt to Now, and
	// keeps the CreatedAt of those that exist.
	SaveTickets(ctx context.Context, tickets []Ticket) error
	// DeleteTickets deletes tickets of a door that are owed no answer and were
	// saved last before a time, the longest ago first, and returns how many. It
	// may leave out those that the transaction of another process holds.
	DeleteTickets(ctx context.Context, door string, before time.Time, limit int) (int, error)
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
	Updated time.Time // in a state that is not terminal, or ended at or after
	After   Cursor
	Oldest  bool // oldest first
	Limit   int  // 1…500; zero means 50
}

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
