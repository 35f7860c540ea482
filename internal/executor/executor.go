// Package executor runs the commands of an attempt somewhere and outlives the
// process that asked for it. The local executor starts one small supervisor per
// attempt; the supervisor needs no network, no database and no worker. What an
// attempt is, and what survives which crash, is written in guarantees 2.1–2.7.
package executor

import (
	"context"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// Executor starts attempts and finds those started earlier.
type Executor interface {
	// Start begins an attempt. The attempt directory must not exist with a
	// start record: an attempt number starts at most once (G5), so a second
	// Start of the same task attaches to the first's run. When Start returns,
	// the supervisor lives and the identity of the run is durable.
	Start(ctx context.Context, t Task) (Run, error)
	// Attach finds the run of an attempt that was started earlier, perhaps by
	// another process. It is job.NotFound when no such attempt is here.
	Attach(ctx context.Context, id job.ID, attempt int) (Run, error)
	// WorkDir is where the work directory of an attempt is or will be, so that
	// the environment of its programs can name it.
	WorkDir(id job.ID, attempt int) string
	// List returns every attempt that is here, in any condition.
	List(ctx context.Context) ([]Found, error)
	// Remove deletes an attempt that has ended, with all its files.
	Remove(ctx context.Context, id job.ID, attempt int) error
	// Capabilities says what this machine can enforce, for people and doctors.
	Capabilities() Capabilities
}

// Run is one attempt that was started.
type Run interface {
	// Wait returns when the attempt has ended and nothing of it is left alive.
	Wait(ctx context.Context) (job.Exit, error)
	// Stop asks it to end: durable before Stop returns, even if the supervisor
	// or we die next (G13). Soft stop, SIGTERM, SIGKILL follow in that order.
	Stop(ctx context.Context, cause job.StopCause) error
	// Dir is the work directory.
	Dir() string
	// Stdout and Stderr are the paths of the growing output files. The start of
	// a file may have been punched out when it passed the log limit.
	Stdout() string
	Stderr() string
	// Usage is at most 10 s old, and zero before the first second is over.
	Usage() (Usage, error)
}

// Task is what to run.
type Task struct {
	ID      job.ID
	Attempt int
	// Stage fills the work directory before anything starts; it may be nil.
	Stage func(ctx context.Context, dir string) error
	Steps []Command
	// Env is the whole environment, "NAME=value".
	Env  []string
	Stop SoftStop
	// Soft and Hard limits are measured from the start by boot time; zero
	// means none. At Soft the program is asked to end cleanly, which needs files
	// in Stop.Create; at Hard it gets SIGTERM, and SIGKILL after the grace.
	Soft, Hard time.Duration
	Limits     Limits
}

// Command is one program by argument vector; Argv[0] is an absolute path.
type Command struct {
	Argv []string          `json:"argv"`
	Copy map[string]string `json:"copy,omitempty"` // work files to copy after success, from → to
}

// SoftStop is how the program is asked to end cleanly; see engine.SoftStop.
type SoftStop struct {
	Create []string      `json:"create,omitempty"`
	Wait   time.Duration `json:"wait,omitempty"`
	// Grace is the time between SIGTERM and SIGKILL; zero means 30 s.
	Grace time.Duration `json:"grace,omitempty"`
}

// Limits bind one attempt; zero means no limit.
type Limits struct {
	Memory    int64 `json:"memory,omitempty"` // bytes
	Processes int   `json:"processes,omitempty"`
	CPUs      int   `json:"cpus,omitempty"`
	OpenFiles int   `json:"open_files,omitempty"`
	FileSize  int64 `json:"file_size,omitempty"` // bytes of one file, also of output that is punched
	// Log bounds each of standard output and error. Beyond it the middle is
	// punched out, or the attempt ended when LogEnds.
	Log     int64 `json:"log,omitempty"`
	LogEnds bool  `json:"log_ends,omitempty"`
	// Silence ends a run whose output does not grow for so long (a hang).
	Silence time.Duration `json:"silence,omitempty"`
}

// Found is one attempt directory.
type Found struct {
	ID      job.ID
	Attempt int
	State   FoundState
	Detail  string // for damaged ones: what is wrong
}

// FoundState is the condition of an attempt directory, in the terms of the
// adopt table of the guarantees.
type FoundState string

const (
	FoundPrepared FoundState = "prepared"        // no start record, lock free: certainly nothing ran
	FoundAlive    FoundState = "alive"           // lock held
	FoundEnded    FoundState = "ended"           // valid exit record
	FoundOrphan   FoundState = "orphan"          // lock free, no exit record, the tree lives
	FoundLost     FoundState = "supervisor_lost" // lock free, no exit record, the tree is dead
	FoundReboot   FoundState = "host_lost"       // the host has been rebooted since
	FoundDamaged  FoundState = "damaged"         // control files cannot be read
)

// Usage is what an attempt has used so far.
type Usage struct {
	CPUTime time.Duration
	RSS     int64
	PeakRSS int64
}

// Capabilities is what this machine can enforce.
type Capabilities struct {
	Cgroup   string   `json:"cgroup"` // "v2", "v1", "none"
	Memory   bool     `json:"memory"`
	Pids     bool     `json:"pids"`
	CPU      bool     `json:"cpu"`
	Kill     bool     `json:"kill"` // whole tree in one write
	Landlock int      `json:"landlock"`
	Notes    []string `json:"notes,omitempty"`
}
