package api

import (
	"encoding/json"
	"time"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// Version of the wire format; fields are only added within it.
const Version = "nanoos/v1"

// JobRequest is a job file in JSON. It is what POST /api/v1/jobs takes.
type JobRequest struct {
	Name       string            `json:"name,omitempty" maxLength:"200" doc:"For people; need not be unique."`
	Engine     string            `json:"engine,omitempty" doc:"Name or alias. May be absent with files, if one of them is an input deck."`
	Structure  *StructureInput   `json:"structure,omitempty" doc:"Sites, or the text of a structure file."`
	Parameters json.RawMessage   `json:"parameters,omitempty" doc:"The engine's own, by its JSON Schema: see get-engine."`
	Files      []FileInput       `json:"files,omitempty" doc:"Put into the work directory as they are."`
	Resources  ResourcesInput    `json:"resources,omitzero" doc:"What one attempt may occupy."`
	Queue      string            `json:"queue,omitempty" doc:"The default is simulations."`
	Priority   *int              `json:"priority,omitempty" minimum:"0" maximum:"20" doc:"0 runs last, 20 runs first; the default is 5."`
	Retry      *RetryInput       `json:"retry,omitempty" doc:"What happens after a failure that another attempt may cure."`
	Accept     string            `json:"accept,omitempty" enum:",not_converged" doc:"not_converged: a run that ended well without converging counts as COMPLETED."`
	Hold       bool              `json:"hold,omitempty" doc:"Wait until somebody releases it."`
	RunAt      time.Time         `json:"run_at,omitzero" doc:"Start no earlier."`
	Labels     map[string]string `json:"labels,omitempty" doc:"To find it by."`
	Key        string            `json:"key,omitempty" maxLength:"255" doc:"The same as the header Idempotency-Key."`
}

// StructureInput is an inline structure, or the text of a structure file.
type StructureInput struct {
	crystal.Structure
	Format string `json:"format,omitempty" doc:"poscar, cif, xyz, lammps-data, xsf, pw-in, json, pymatgen or ase; absent: recognised."`
	Name   string `json:"name,omitempty" doc:"Of the file, for messages and to recognise its format."`
	Text   string `json:"text,omitempty" doc:"The structure file, instead of sites."`
}

// FileInput is a file of the job: its text here, or the hash of one uploaded before.
type FileInput struct {
	Name   string `json:"name" doc:"In the work directory; it may have slashes."`
	Text   string `json:"text,omitempty" doc:"Its contents."`
	SHA256 string `json:"sha256,omitempty" doc:"Or the hash of a file that was uploaded: see upload-input."`
}

// ResourcesInput is what an attempt may occupy. Zero means the default.
type ResourcesInput struct {
	CPUs      int          `json:"cpus,omitempty" doc:"The default is 1."`
	Memory    Bytes        `json:"memory,omitempty" doc:"The default is 1GiB."`
	GPUs      int          `json:"gpus,omitempty"`
	Tags      []string     `json:"tags,omitempty" doc:"A worker must have all of them."`
	Walltime  job.Duration `json:"walltime,omitempty" doc:"Hard limit of one attempt; the default is that of the queue, or 1 h."`
	SoftLimit job.Duration `json:"soft_limit,omitempty" doc:"When the engine is asked to stop cleanly; the default is 11/12 of the walltime."`
	Log       Bytes        `json:"log,omitempty" doc:"Bytes of output kept per attempt; the default is 1GiB."`
}

// RetryInput changes the retry rule; absent fields keep their default.
type RetryInput struct {
	Max       *int          `json:"max,omitempty" doc:"Retries after program failures; the default is 3."`
	Delay     *job.Duration `json:"delay,omitempty" doc:"The first pause, doubled from there; the default is 60 s."`
	MaxDelay  *job.Duration `json:"max_delay,omitempty" doc:"The longest pause; the default is 1 h."`
	MaxLosses *int          `json:"max_losses,omitempty" doc:"Restarts after a lost machine or worker; the default is 5."`
}

// Bytes is a size that reads "512MiB", "4GiB", "2G" or a number, and is a number in JSON.
type Bytes int64

// Job is a job as people see it.
type Job struct {
	APIVersion string     `json:"apiVersion"`
	Kind       string     `json:"kind"` // "Job"
	ID         job.ID     `json:"id"`
	Tenant     job.Tenant `json:"tenant"`
	Name       string     `json:"name,omitempty"`
	Engine     string     `json:"engine"`
	Formula    string     `json:"formula,omitempty"`
	Queue      string     `json:"queue"`
	Priority   int        `json:"priority"`
	State      job.State  `json:"state"`
	Reason     job.Reason `json:"reason,omitempty"`
	Message    string     `json:"message,omitempty"`
	// Cancelling and ContactLost are derived while the job is RUNNING.
	Cancelling  bool          `json:"cancelling,omitempty"`
	ContactLost bool          `json:"contact_lost,omitempty"`
	LastHeard   time.Time     `json:"last_heard,omitzero"`
	Attempt     int           `json:"attempt"`
	Failures    int           `json:"failures"`
	Losses      int           `json:"losses"`
	Retry       job.Retry     `json:"retry"`
	Progress    *job.Progress `json:"progress,omitempty"`
	Worker      string        `json:"worker,omitempty"`
	Verdict     job.Verdict   `json:"verdict,omitempty"`
	// Summary is the result in numbers, once there is one.
	Summary    *engine.Summary   `json:"summary,omitempty"`
	Failure    *job.Failure      `json:"failure,omitempty"`
	Parameters json.RawMessage   `json:"parameters,omitempty"`
	Structure  json.RawMessage   `json:"structure,omitempty"`
	Files      []job.File        `json:"files,omitempty"`
	Resources  Resources         `json:"resources"`
	Labels     map[string]string `json:"labels,omitempty"`
	Accept     string            `json:"accept,omitempty"`
	Key        string            `json:"key,omitempty"`
	CreatedAt  time.Time         `json:"created_at"`
	QueuedAt   time.Time         `json:"queued_at,omitzero"`
	StartedAt  time.Time         `json:"started_at,omitzero"`
	EndedAt    time.Time         `json:"ended_at,omitzero"`
	RunAt      time.Time         `json:"run_at,omitzero"`
	// Warnings about the input, in the answer to a submission.
	Warnings []engine.Warning `json:"warnings,omitempty"`
	// Plan is what would run, in the answer to a dry run.
	Plan *Plan `json:"plan,omitempty"`
}

// Plan is what the engine made of a job: the files it writes and the commands
// it starts.
type Plan struct {
	Files    map[string]string `json:"files,omitempty"`
	Library  []string          `json:"library,omitempty"` // pseudopotentials and potentials it needs
	Commands []string          `json:"commands,omitempty"`
}

// Resources is what an attempt occupies, sizes in bytes, durations in seconds.
type Resources struct {
	job.Demand
	Walltime  job.Duration `json:"walltime"`
	SoftLimit job.Duration `json:"soft_limit"`
}

// JobList is one page of jobs.
type JobList struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"` // "JobList"
	Items      []Job  `json:"items"`
	Next       string `json:"next,omitempty"` // cursor of the next page
	Total      *int64 `json:"total,omitempty"`
}

// BulkRequest submits many jobs at once.
type BulkRequest struct {
	Jobs []JobRequest `json:"jobs" minItems:"1" maxItems:"10000"`
	// Atomic accepts all jobs or none; otherwise the valid ones are accepted.
	Atomic bool `json:"atomic,omitempty"`
}

// BulkResult has one item per job of the request, in its order.
type BulkResult struct {
	APIVersion string     `json:"apiVersion"`
	Kind       string     `json:"kind"` // "BulkResult"
	Accepted   int        `json:"accepted"`
	Refused    int        `json:"refused"`
	Items      []BulkItem `json:"items"`
}

// BulkItem is an accepted job, or why it was refused.
type BulkItem struct {
	Job      *Job     `json:"job,omitempty"`
	Existing bool     `json:"existing,omitempty"` // its key had been used before
	Problem  *Problem `json:"problem,omitempty"`
}

// ActionRequest goes with cancel, retry, hold and release.
type ActionRequest struct {
	Why string `json:"why,omitempty" maxLength:"1000"`
}

// JobPatch changes a waiting job.
type JobPatch struct {
	Priority *int `json:"priority,omitempty" minimum:"0" maximum:"20"`
}

// QueuePatch pauses or resumes a queue.
type QueuePatch struct {
	Paused *bool  `json:"paused,omitempty"`
	Why    string `json:"why,omitempty" maxLength:"1000"`
}

// QueueRequest makes a queue.
type QueueRequest struct {
	Name     string       `json:"name"`
	Walltime job.Duration `json:"walltime,omitempty"` // default of its jobs
	// LostAfter is how long a silent worker keeps the queue's jobs.
	LostAfter job.Duration `json:"lost_after,omitempty"`
}

// AttemptList is the attempts of a job, the first one first.
type AttemptList struct {
	APIVersion string        `json:"apiVersion"`
	Kind       string        `json:"kind"` // "AttemptList"
	Items      []job.Attempt `json:"items"`
}

// Event is a line in a job's history; or, with Seq 0, news that are not kept.
type Event struct {
	job.Event
	// Progress goes with the kind "progress".
	Progress *job.Progress `json:"progress,omitempty"`
}

// EventProgress is the kind of events that report progress; they have no Seq
// and are not kept.
const EventProgress job.EventKind = "progress"

// EventList is one page of events, the oldest first.
type EventList struct {
	APIVersion string  `json:"apiVersion"`
	Kind       string  `json:"kind"` // "EventList"
	Items      []Event `json:"items"`
	Next       string  `json:"next,omitempty"` // value of after for the next page
}

// File is a stored file of a job.
type File struct {
	Name    string    `json:"name"`
	Size    int64     `json:"size"`
	SHA256  string    `json:"sha256"`
	At      time.Time `json:"at,omitzero"`
	Attempt int       `json:"attempt,omitempty"` // 0 for an input
	URL     string    `json:"url"`               // path on this server
}

// FileList is the stored files of a job.
type FileList struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"` // "FileList"
	Items      []File `json:"items"`
}

// Upload is what is known of an uploaded input.
type Upload struct {
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// QueueList, WorkerList and EngineList are complete lists.
type QueueList struct {
	APIVersion string      `json:"apiVersion"`
	Kind       string      `json:"kind"` // "QueueList"
	Items      []QueueInfo `json:"items"`
}

type WorkerList struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"` // "WorkerList"
	Items      []WorkerInfo `json:"items"`
}

type EngineList struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"` // "EngineList"
	Items      []EngineInfo `json:"items"`
}

// VersionInfo says what answers.
type VersionInfo struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"` // "Version"
	Service    string    `json:"service"`
	Version    string    `json:"version"`
	StartedAt  time.Time `json:"started_at"`
	Time       time.Time `json:"time"`
}

// Health answers /healthz and /readyz.
type Health struct {
	Status  string            `json:"status"` // healthy, or unavailable
	Service string            `json:"service"`
	Version string            `json:"version"`
	Checks  map[string]string `json:"checks,omitempty"` // what was looked at: "ok" or what is wrong
}

// Result is everything that is known of how a job ended.
type Result struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"` // "Result"
	Job        job.ID    `json:"job"`
	State      job.State `json:"state"`
	engine.Report
}

// Problem is an RFC 9457 problem document; Message, Why and Fix are what the
// command line prints.
type Problem struct {
	Type      string        `json:"type"`
	Title     string        `json:"title"`
	Status    int           `json:"status"`
	Detail    string        `json:"detail,omitempty"`
	Code      string        `json:"code"`
	Message   string        `json:"message"`
	Why       string        `json:"why,omitempty"`
	Fix       string        `json:"fix,omitempty"`
	RequestID string        `json:"request_id,omitempty"`
	Problems  []job.Problem `json:"problems,omitempty"`
}

// Explanation answers "why is it not running" and "why did it fail".
type Explanation struct {
	APIVersion string        `json:"apiVersion"`
	Kind       string        `json:"kind"` // "Explanation"
	Job        job.ID        `json:"job"`
	State      job.State     `json:"state"`
	Summary    string        `json:"summary"` // one sentence
	Waiting    []Reason      `json:"waiting,omitempty"`
	Failure    *job.Failure  `json:"failure,omitempty"`
	Budgets    string        `json:"budgets,omitempty"` // "program failures 1 of 3, losses 0 of 5"
	Attempts   []job.Attempt `json:"attempts,omitempty"`
	Commands   []string      `json:"commands,omitempty"` // what to do next
}

// Reason is one reason why a job waits.
type Reason struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"`
}

// QueueInfo is a queue and what is in it.
type QueueInfo struct {
	Name     string       `json:"name"`
	Paused   *job.Request `json:"paused,omitempty"`
	Walltime job.Duration `json:"walltime,omitempty"` // default of its jobs
	// LostAfter is how long a silent worker keeps the queue's jobs.
	LostAfter job.Duration        `json:"lost_after,omitempty"`
	Jobs      map[job.State]int64 `json:"jobs"`
}

// WorkerInfo is a worker and what it runs.
type WorkerInfo struct {
	Name      string    `json:"name"`
	Host      string    `json:"host"`
	Version   string    `json:"version"`
	State     string    `json:"state"` // online, draining, contact_lost, left
	StartedAt time.Time `json:"started_at"`
	SeenAt    time.Time `json:"seen_at"`
	EndedAt   time.Time `json:"ended_at,omitzero"` // when it left by itself
	// Draining says that it may not claim; it stays so when contact is lost.
	Draining bool      `json:"draining,omitempty"`
	Token    string    `json:"token,omitempty"` // id of the token that it came with
	Offer    job.Offer `json:"offer"`
	Free     job.Offer `json:"free"`
	Running  []job.ID  `json:"running"`
}

// TokenRequest makes a token.
type TokenRequest struct {
	Name     string       `json:"name" maxLength:"200" doc:"For people, and for the record of who asked."`
	Role     string       `json:"role" enum:"admin,worker" doc:"What it may do."`
	Queues   []string     `json:"queues,omitempty" doc:"Of a worker's token: it gets jobs of these only; absent: of all."`
	Lifetime job.Duration `json:"lifetime,omitempty" doc:"Until it expires; absent: it does not."`
}

// TokenInfo is a token.
type TokenInfo struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Role      string    `json:"role"`
	Queues    []string  `json:"queues,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	RevokedAt time.Time `json:"revoked_at,omitzero"`
	// UsedAt is exact to the hour.
	UsedAt time.Time `json:"used_at,omitzero"`
	// Secret is in the answer that made the token, and nowhere else.
	Secret string `json:"secret,omitempty"`
}

// TokenList is all tokens, the oldest first.
type TokenList struct {
	APIVersion string      `json:"apiVersion"`
	Kind       string      `json:"kind"` // "TokenList"
	Items      []TokenInfo `json:"items"`
}

// EngineInfo is an engine, where it was found, and its schema.
type EngineInfo struct {
	Name      string            `json:"name"`
	Title     string            `json:"title"`
	Aliases   []string          `json:"aliases"`
	Available bool              `json:"available"`
	Workers   []string          `json:"workers,omitempty"` // those online that have it
	Version   string            `json:"version,omitempty"`
	Programs  map[string]string `json:"programs,omitempty"` // program → path, absent ones missing
	Library   []string          `json:"library,omitempty"`  // directories of pseudopotentials or potentials
	Problem   string            `json:"problem,omitempty"`
	Fix       string            `json:"fix,omitempty"`
	Schema    json.RawMessage   `json:"schema,omitempty"`
}

// Status is the whole installation in one screen.
type Status struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"` // "Status"
	Service    string       `json:"service"`
	Version    string       `json:"version"`
	Time       time.Time    `json:"time"`
	StartedAt  time.Time    `json:"started_at"`
	Queues     []QueueInfo  `json:"queues"`
	Workers    []WorkerInfo `json:"workers"`
	Problems   []Reason     `json:"problems,omitempty"`
}
