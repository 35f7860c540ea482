// Package job defines what the system runs: jobs, attempts, their states and
// the rules by which they change. It holds no clock, no storage and no process,
// and imports no other package of ours.
package job

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// ID is a UUIDv7 in its text form, so IDs sort by creation time.
type ID string

// NewID returns a fresh ID.
func NewID() ID { return ID(uuid.Must(uuid.NewV7()).String()) }

// NewRandomID returns a fresh id in which there is no time, a UUIDv4: what
// other systems expect of an id.
func NewRandomID() ID { return ID(uuid.NewString()) }

// Valid reports whether id is a UUID of any version in its text form, lower
// case: another system may have made it.
func (id ID) Valid() bool {
	u, err := uuid.Parse(string(id))
	return err == nil && u.String() == string(id)
}

// Tenant names the group that owns a job and that shares are counted for.
type Tenant string

// DefaultTenant owns every job of a single-user installation.
const DefaultTenant Tenant = "default"

// Priority orders jobs: 0 runs last, 20 runs first.
type Priority int

const (
	PriorityLow    Priority = 0
	PriorityNormal Priority = 5
	PriorityHigh   Priority = 10
	PriorityUrgent Priority = 20
)

// Fence numbers the successive owners of a job. Every write that a worker
// makes carries the fence it was given, and a stale one is refused (G3).
type Fence int64

// Spec is what a user submits. It never changes after submission.
type Spec struct {
	Name   string `json:"name,omitempty"`
	Queue  string `json:"queue"`
	Engine string `json:"engine"`
	// Params are the engine's own parameters, valid by its JSON Schema.
	Params json.RawMessage `json:"parameters,omitempty"`
	// Structure is a crystal.Structure in its JSON form.
	Structure json.RawMessage `json:"structure,omitempty"`
	// Files are the user's own files (a raw deck and what it reads), staged
	// into the work directory under these names.
	Files    []File   `json:"files,omitempty"`
	Demand   Demand   `json:"resources"`
	Priority Priority `json:"priority"`
	// RunAt is the earliest start; zero means now.
	RunAt time.Time `json:"run_at,omitzero"`
	// Walltime is the hard limit of one attempt.
	Walltime Duration `json:"walltime"`
	// SoftLimit is when the engine is asked to stop cleanly; zero means
	// derived from Walltime (see Spec.Soft).
	SoftLimit Duration `json:"soft_limit,omitempty"`
	Retry     Retry    `json:"retry"`
	// LogLimit bounds the bytes of standard output and error kept per attempt.
	LogLimit int64 `json:"log_limit,omitempty"`
	// AcceptNotConverged lets a run that ended well without converging count
	// as COMPLETED; its verdict still says not_converged.
	AcceptNotConverged bool              `json:"accept_not_converged,omitempty"`
	Labels             map[string]string `json:"labels,omitempty"`
	// Key is the idempotency key, unique within the tenant (G2).
	Key string `json:"key,omitempty"`
	// Held submits the job held: it waits for a person to release it.
	Held bool `json:"held,omitempty"`
}

// File names one stored input file.
type File struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// Retry bounds how often a job starts again. The zero value means the defaults.
type Retry struct {
	// Max is the number of retries after program failures; the first attempt
	// is not one of them.
	Max int `json:"max"`
	// Delay is the first pause; it doubles from there, with full jitter.
	Delay Duration `json:"delay"`
	// MaxDelay caps the pause.
	MaxDelay Duration `json:"max_delay"`
	// MaxLosses is the separate budget of infrastructure losses (G12).
	MaxLosses int `json:"max_losses"`
}

// Defaults kept from NANO-OS and from the guarantees.
const (
	DefaultQueue     = "simulations"
	DefaultWalltime  = Duration(3600 * time.Second)
	DefaultSoftLimit = Duration(3300 * time.Second)
	DefaultLogLimit  = 1 << 30
	MaxNameLength    = 200
	// QuarantineLosses is the number of losses on one host or worker after
	// which a job is held by the system (G12).
	QuarantineLosses = 3
)

// DefaultRetry is 3 retries from 60 s, and 5 infrastructure losses.
var DefaultRetry = Retry{Max: 3, Delay: Duration(time.Minute), MaxDelay: Duration(time.Hour), MaxLosses: 5}

// Soft returns when the engine is asked to stop cleanly, measured from the
// start of the attempt: SoftLimit if set; else 11/12 of the walltime, which is
// 3300 s of 3600 s.
func (s Spec) Soft() time.Duration {
	if s.SoftLimit > 0 {
		return time.Duration(s.SoftLimit)
	}
	return time.Duration(s.Walltime) / 12 * 11
}

// Job is a submitted spec and everything that has happened to it.
type Job struct {
	ID     ID     `json:"id"`
	Tenant Tenant `json:"tenant"`
	Spec   Spec   `json:"spec"`
	State  State  `json:"state"`
	// Reason says in one word why the job is in this state; empty when the
	// state says it all.
	Reason Reason `json:"reason,omitempty"`
	// Message is the same in one line for people.
	Message string `json:"message,omitempty"`
	// Attempt counts the starts of the calculation so far.
	Attempt int   `json:"attempt"`
	Fence   Fence `json:"fence"`
	// Worker holds the job while it is RUNNING, and held it last afterwards.
	Worker string `json:"worker,omitempty"`
	// Failures and Losses are the retry budgets used so far (G12).
	Failures int `json:"failures"`
	Losses   int `json:"losses"`
	// Cancel is set from the moment a cancel is acknowledged (G13).
	Cancel *Request `json:"cancel,omitempty"`
	// RunAt is when a PENDING job becomes eligible by itself; zero means never.
	RunAt    time.Time       `json:"run_at,omitzero"`
	Progress *Progress       `json:"progress,omitempty"`
	Verdict  Verdict         `json:"verdict,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Failure  *Failure        `json:"failure,omitempty"`

	CreatedAt time.Time `json:"created_at"`
	QueuedAt  time.Time `json:"queued_at,omitzero"`
	StartedAt time.Time `json:"started_at,omitzero"`
	EndedAt   time.Time `json:"ended_at,omitzero"`

	// Rev counts the changes of the row. A write names the Rev it read, so
	// two writers never overwrite each other.
	Rev int64 `json:"rev"`
}

// Request records who asked for something, when, and why.
type Request struct {
	By  string    `json:"by,omitempty"`
	At  time.Time `json:"at"`
	Why string    `json:"why,omitempty"`
	// Now asks for the end without the time that a program may take to end cleanly.
	Now bool `json:"now,omitempty"`
}

// Progress is how far an attempt has come.
type Progress struct {
	// Fraction is in 0…1; it never falls within an attempt.
	Fraction float64 `json:"fraction"`
	// Stage is a short phrase for people: "SCF iteration 7".
	Stage string `json:"stage,omitempty"`
	// Step of Steps, when the engine counts; Steps 0 means unknown.
	Step  int64 `json:"step,omitempty"`
	Steps int64 `json:"steps,omitempty"`
	// Quantity is the leading number of the run: its name with unit, and value.
	Quantity string    `json:"quantity,omitempty"`
	Value    *float64  `json:"value,omitempty"`
	At       time.Time `json:"at,omitzero"`
}

// Attempt is one start of the calculation.
type Attempt struct {
	Job       ID        `json:"job"`
	Number    int       `json:"number"`
	Worker    string    `json:"worker"`
	Host      string    `json:"host"`
	StartedAt time.Time `json:"started_at"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
	// Outcome is empty while the attempt runs, else "succeeded", "released",
	// "cancelled" or a failure code.
	Outcome string   `json:"outcome,omitempty"`
	Exit    *Exit    `json:"exit,omitempty"`
	Failure *Failure `json:"failure,omitempty"`
}

// Event is an immutable line in a job's history.
type Event struct {
	Seq    int64           `json:"seq"`
	Tenant Tenant          `json:"tenant"`
	Job    ID              `json:"job"`
	Kind   EventKind       `json:"kind"`
	At     time.Time       `json:"at"`
	Data   json.RawMessage `json:"data,omitempty"`
}

// EventKind says what happened.
type EventKind string

const (
	EventSubmitted EventKind = "submitted"
	EventQueued    EventKind = "queued" // became claimable: released, due, retried, given back
	EventStarted   EventKind = "started"
	EventAdopted   EventKind = "adopted" // a run that outlived its owner has one again
	EventHeld      EventKind = "held"
	EventReleased  EventKind = "released" // no longer held, and waits for its begin time
	EventCancel    EventKind = "cancel_requested"
	EventRetry     EventKind = "retry_scheduled"
	EventLost      EventKind = "lost" // an attempt ended without anybody watching
	EventCompleted EventKind = "completed"
	EventFailed    EventKind = "failed"
	EventCancelled EventKind = "cancelled"

	// Events of the installation, which belong to no job.
	EventWorkerDrained   EventKind = "worker_drained"
	EventWorkerResumed   EventKind = "worker_resumed"
	EventWorkerForgotten EventKind = "worker_forgotten"
	EventThawed          EventKind = "thawed" // a restored installation works again
)

// Duration is a time.Duration that is a number of seconds in JSON, and also
// reads text such as "90s", "10m", "24h" and Slurm's "1-12:00:00" or "2:00:00".
type Duration time.Duration
