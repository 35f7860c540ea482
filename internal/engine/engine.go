// Package engine turns a job into files and command lines, and the files that
// come back into a result. Engines start no process, open no socket and read no
// clock, so each can be tested anywhere. The package also has the mock engine,
// the result types that all engines share, and the checks of parameters
// against an engine's JSON Schema.
package engine

import (
	"encoding/json"
	"io"
	"io/fs"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// Engine knows one simulation code.
type Engine interface {
	// Name is the canonical name: "qe".
	Name() string
	// Title is the name for people: "Quantum ESPRESSO".
	Title() string
	// Aliases are other names people use, in upper case: "QUANTUM_ESPRESSO".
	Aliases() []string
	// Programs are the executables it may start: "pw.x". The first is the one
	// whose presence means that the engine is installed.
	Programs() []string
	// Schema is the JSON Schema (2020-12) of the parameters.
	Schema() json.RawMessage
	// Plan says how to run the spec; it is also the check at submission. A
	// fault of the input is a *job.Error with code job.Invalid that lists all
	// problems. Plan is deterministic.
	Plan(spec job.Spec, in Inputs) (*Plan, error)
	// Monitor returns a reader of the running plan's standard output.
	Monitor(p *Plan) Monitor
	// Parse reads a finished, broken or half-written run. A failed run is a
	// good answer; the error is for files that cannot be read at all.
	Parse(r Run) (*Result, error)
	// Recognise returns how surely (0…1) files is a run of this code.
	Recognise(files fs.FS) float64
	// Deck reports whether a file of that name and beginning is an input deck of this code.
	Deck(name string, head []byte) bool
}

// Inputs are what Plan may read.
type Inputs struct {
	// Files are the user's own files by their names in the job.
	Files fs.FS
	// Library holds pseudopotentials and potentials by bare file name; nil
	// when not known here, and then their presence is not checked.
	Library fs.FS
	// LibraryDirs are the directories behind Library, for messages.
	LibraryDirs []string
	// Styles lists what the installed program can do ("pair_style eam/alloy");
	// nil when not probed.
	Styles map[string]bool
}

// Plan is one attempt: files, commands and how to stop them.
type Plan struct {
	// Files to write into the work directory, by slash-separated local path.
	// The user's own Files are staged first, and not overwritten except by
	// name here.
	Files map[string][]byte
	// Library files to stage, from library name to path in the work directory.
	Library map[string]string
	// Joined are files made of library files, which are licensed or large and
	// are never kept.
	Joined []Joined
	// Steps run in order; the first that exits with a status other than 0, or by
	// a signal, ends the attempt. All append to the same standard output and
	// error, which Parse sees as StdoutName and StderrName.
	Steps []Step
	// Env adds to the environment of every step. Only names that the engine
	// itself chose appear here, never the user's (T4).
	Env map[string]string
	// Stop asks the running code to end cleanly.
	Stop SoftStop
	// Keep are globs (path.Match, slash-separated) of work files to store;
	// standard output and error are always kept.
	Keep []string
	// Warnings are about the input; they do not stop the run.
	Warnings []Warning
}

// Joined is a file of the work directory that is library files one after the
// other.
type Joined struct {
	To   string
	From []string
	// Version says what they are, for the provenance.
	Version string
}

// Step is one command.
type Step struct {
	// Program is a name from Programs; the worker finds the executable.
	Program string
	Args    []string
	// Ranks > 0 starts it under the MPI launcher with that many processes.
	Ranks int
	// Copy keeps files that a later step overwrites: from → to, after success.
	Copy map[string]string
}

// SoftStop is how a code is asked to end cleanly and save its state. The zero
// value means it cannot be asked: a stop begins with SIGTERM.
type SoftStop struct {
	// Create are files to make in the work directory (empty files).
	Create []string
	// Wait is how long the code may take; zero means 60 s.
	Wait time.Duration
}

// Monitor is fed standard output as it appears and reports progress. Any bytes
// may come, cut anywhere; it never fails.
type Monitor interface {
	io.Writer
	Progress() job.Progress
}

// Names of the attempt's output in Run.Files of a job.
const (
	StdoutName = "stdout"
	StderrName = "stderr"
)

// Run is what Parse reads.
type Run struct {
	// Files is the work directory of a job (with StdoutName and StderrName in
	// it), or a directory of files that a person named. Files ending in .gz
	// appear under their plain names, already unpacked.
	Files fs.FS
	// Spec is the job's; nil for a run made elsewhere.
	Spec *job.Spec
	// Exit is how the programs ended; nil when unknown.
	Exit *job.Exit
}

// Result is what a run says, whether it went well or not.
type Result struct {
	// Outcome is a word of the common taxonomy, see Outcome.
	Outcome Outcome     `json:"outcome"`
	Verdict job.Verdict `json:"verdict"`
	// Failure is nil when Outcome is a success.
	Failure    *job.Failure `json:"failure,omitempty"`
	Summary    Summary      `json:"summary"`
	Series     []Series     `json:"series,omitempty"`
	Structures Structures   `json:"structures,omitzero"`
	Warnings   []Warning    `json:"warnings,omitempty"`
}

// Warning is something that a person should know and that stops nothing.
type Warning = job.Warning

// Outcome says how a run ended, in words common to all engines.
type Outcome string

const (
	Success            Outcome = "success"
	SuccessWithWarning Outcome = "success_with_warning"
	SCFNotConverged    Outcome = "scf_not_converged"
	IonicNotConverged  Outcome = "ionic_not_converged"
	MinNotConverged    Outcome = "min_not_converged"
	RecoverableError   Outcome = "recoverable_error" // numerics that another algorithm may cure
	Unstable           Outcome = "unstable"          // lost atoms, NaN
	TimeLimitGraceful  Outcome = "time_limit_graceful"
	StoppedByRequest   Outcome = "stopped_by_request"
	Killed             Outcome = "killed"
	OutOfMemory        Outcome = "out_of_memory"
	FileSystemError    Outcome = "file_system_error"
	InputError         Outcome = "input_error"
	MissingFile        Outcome = "missing_file"
	BadPseudopotential Outcome = "bad_pseudopotential"
	FeatureNotBuilt    Outcome = "feature_not_built"
	LaunchError        Outcome = "launch_error"
	Hang               Outcome = "hang"
	ProgramError       Outcome = "program_error"  // ended badly, cause not recognised
	ResultInvalid      Outcome = "result_invalid" // ended well, but what it left cannot be believed
)

// Prober is implemented by engines whose program tells its version and what it
// was built with.
type Prober interface {
	// ProbeArgs make the program (Programs()[0]) print what it is and end.
	ProbeArgs() []string
	// ReadProbe reads what it printed; any bytes may come. Styles is nil when
	// the program does not list what it can do.
	ReadProbe(output []byte) (version string, styles map[string]bool)
}
