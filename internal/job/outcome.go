package job

import (
	"encoding/json"
	"time"
)

// Lease is the right of one worker to run one job under one fence.
type Lease struct {
	Job   Job   `json:"job"`
	Fence Fence `json:"fence"`
}

// Session is a worker's presence at the queue, renewed by every beat.
type Session struct {
	Worker  string `json:"worker"` // unique name
	Host    string `json:"host"`   // stored random id of the machine
	Boot    string `json:"boot"`   // the kernel's id of its current boot
	Version string `json:"version"`
	Offer   Offer  `json:"offer"` // everything it has, free or not
	// Token is the id of the token that it came with; empty where none is needed.
	Token string `json:"token,omitempty"`
}

// Found is an attempt that a worker found on its own disk.
type Found struct {
	ID      ID   `json:"id"`
	Attempt int  `json:"attempt"`
	Started bool `json:"started"` // the program may have run
	Ended   bool `json:"ended"`   // a valid exit record is there
	// Recorded is the queue's answer: how it ended, and what it left, is stored.
	Recorded bool `json:"recorded,omitempty"`
}

// Attachment tells a returning worker what is still its own.
type Attachment struct {
	// Carry are running jobs of this host, under new fences: go on with what
	// was found, start what was not.
	Carry []Lease `json:"carry"`
	// Fenced were found but belong to nobody or to somebody else by now: stop
	// them and publish nothing.
	Fenced []Found `json:"fenced"`
}

// Ending is the end of one attempt, as its worker reports it.
type Ending struct {
	ID      ID      `json:"id"`
	Fence   Fence   `json:"fence"`
	Outcome Outcome `json:"outcome"`
}

// Held is one entry of a worker's heartbeat.
type Held struct {
	ID       ID        `json:"id"`
	Fence    Fence     `json:"fence"`
	Progress *Progress `json:"progress,omitempty"`
}

// Order is the queue's answer to one held job.
type Order struct {
	ID    ID     `json:"id"`
	Fence Fence  `json:"fence"`
	Do    Action `json:"do"`
	Why   string `json:"why,omitempty"`
	// Now says that a Stop leaves no time to end cleanly.
	Now bool `json:"now,omitempty"`
	// Replaced says that a newer fence of the same worker has taken this one's
	// place: whoever still holds the older attaches again to learn of it.
	Replaced bool `json:"replaced,omitempty"`
}

// Action is what a worker must do with a held job.
type Action string

const (
	Carry Action = "carry" // go on
	Stop  Action = "stop"  // cancelled: stop the run, then finish
	Drop  Action = "drop"  // fenced: end the run, publish nothing
)

// Outcome is how an attempt ended.
type Outcome struct {
	// Verdict and Result are the parsed science; Result may be present on a
	// failure, with whatever the run produced.
	Verdict Verdict         `json:"verdict,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	// Failure is nil when the attempt succeeded.
	Failure *Failure `json:"failure,omitempty"`
	Exit    *Exit    `json:"exit,omitempty"`
	// Marked says that nobody saw the exit, and that the code's own completion
	// marker and the check of the result stand for it (R8).
	Marked bool `json:"marked,omitempty"`
	// Released gives the job back unharmed: nothing ran, and the attempt does
	// not count.
	Released bool `json:"released,omitempty"`
}

// Exit is how the programs of an attempt ended, as their supervisor saw it.
type Exit struct {
	// Observed is false when nobody saw the end: Code and Signal mean nothing.
	Observed bool   `json:"observed"`
	Code     int    `json:"code"`
	Signal   string `json:"signal,omitempty"` // "SIGKILL"; empty for a normal exit
	// Cause says who or what ended the program; empty means the program itself.
	Cause StopCause `json:"cause,omitempty"`
	// Step is the index of the command that ended the attempt.
	Step       int       `json:"step"`
	DiskFull   bool      `json:"disk_full,omitempty"` // the work directory's disk was full at the end
	LogDropped int64     `json:"log_dropped,omitempty"`
	PeakRSS    int64     `json:"peak_rss,omitempty"` // bytes
	CPUTime    Duration  `json:"cpu_time,omitempty"`
	StartedAt  time.Time `json:"started_at,omitzero"`
	EndedAt    time.Time `json:"ended_at,omitzero"`
	Wall       Duration  `json:"wall,omitempty"` // by boot time, so suspend and clock jumps do not count
}

// StopCause says why a run was ended from outside.
type StopCause string

const (
	CauseNone       StopCause = ""
	CauseCancelled  StopCause = "cancelled"
	CauseKilled     StopCause = "killed"     // cancelled, without time to end cleanly
	CauseSoftLimit  StopCause = "soft_limit" // asked to stop cleanly before the walltime
	CauseWalltime   StopCause = "walltime"
	CauseOOM        StopCause = "oom"
	CauseLogLimit   StopCause = "log_limit"
	CauseFenced     StopCause = "fenced"
	CauseHang       StopCause = "hang" // no output for too long
	CauseLaunch     StopCause = "launch_failed"
	CauseSupervisor StopCause = "supervisor_lost"
	CauseHost       StopCause = "host_lost"
)

// Failure says what went wrong in terms that people and retry rules understand.
type Failure struct {
	Class Class `json:"class"`
	// Code is stable: an engine diagnosis such as scf_not_converged, or one of
	// exit_code, signal, oom, walltime, disk_full, log_limit, launch_failed,
	// supervisor_lost, host_lost, result_invalid, unknown.
	Code    string `json:"code"`
	Message string `json:"message"` // one sentence of cause, in plain words
	Fix     string `json:"fix,omitempty"`
	// Evidence is what the diagnosis rests on.
	Evidence []Evidence `json:"evidence,omitempty"`
	Exit     int        `json:"exit,omitempty"`
	Signal   string     `json:"signal,omitempty"`
	// Digest is equal for attempts that failed in the same way; a
	// deterministic failure seen twice is not tried a third time (G12).
	Digest string `json:"digest,omitempty"`
}

// Evidence points at a place in a file.
type Evidence struct {
	File string `json:"file"`
	Line int    `json:"line,omitempty"` // 1-based; 0 means unknown
	Text string `json:"text"`
}

// Class decides whether trying again can help.
type Class string

const (
	ClassInput          Class = "input"          // never retried
	ClassNumerical      Class = "numerical"      // did not converge, unstable: never retried unchanged
	ClassProgram        Class = "program"        // ended badly, cause not recognised: retried
	ClassResources      Class = "resources"      // memory, walltime, disk, log size: retried only if something changes
	ClassEnvironment    Class = "environment"    // engine or library not found, no licence: retried
	ClassInfrastructure Class = "infrastructure" // host, worker or supervisor lost: retried on the loss budget
	ClassInternal       Class = "internal"       // a fault of ours: retried
)

// Retryable reports whether an unchanged second attempt can help.
func (c Class) Retryable() bool {
	switch c {
	case ClassProgram, ClassEnvironment, ClassInfrastructure, ClassInternal:
		return true
	}
	return false
}
