// Package mock is the program of the mock engine, and the files that it shares
// with its engine. It imports nothing of ours, so that it starts quickly.
package mock

import (
	"fmt"
	"math/rand/v2"
)

// Program is the program of the mock engine: nanoos itself, with Command as its
// only argument.
const (
	Program = "nanoos"
	Command = "mock-engine"
)

// Files of a mock run in its work directory.
const (
	ParamsFile = "mock.json"
	ResultFile = "mock_result.json"
	StopFile   = "STOP"
)

// Stopped is the line that the program prints when the stop file ended it.
const Stopped = "stopped by request"

// Params are the knobs; see the schema for what they do.
type Params struct {
	Steps         int     `json:"steps"`
	StepSeconds   float64 `json:"step_seconds"`
	As            string  `json:"as"`
	Seed          int64   `json:"seed"`
	Converge      bool    `json:"converge"`
	FailAtStep    int     `json:"fail_at_step,omitempty"`
	FailAttempts  int     `json:"fail_attempts,omitempty"`
	ExitCode      *int    `json:"exit_code,omitempty"`
	Signal        string  `json:"signal,omitempty"`
	MemoryMB      int64   `json:"memory_mb,omitempty"`
	OutputBytes   int64   `json:"output_bytes,omitempty"`
	Children      int     `json:"children,omitempty"`
	IgnoreSIGTERM bool    `json:"ignore_sigterm,omitempty"`
}

// Result is what the program leaves when it comes to its end.
type Result struct {
	Steps     int  `json:"steps"`
	Converged bool `json:"converged"`
}

// Stage names step i of n: the four phases of the NANO-OS dummy job.
func Stage(i, n int) string {
	names := []string{"Initializing", "Processing", "Analyzing", "Finalizing"}
	return names[min((i-1)*len(names)/max(n, 1), len(names)-1)]
}

// Energy is the energy in eV that step i of a run prints: it settles towards
// a value that the seed chooses.
func Energy(seed int64, i int) float64 {
	r := rand.New(rand.NewPCG(uint64(seed), 0))
	return -100*(1+r.Float64()) + 10/float64(int64(1)<<min(i, 40))
}

// StepLine is the line that the program prints for a finished step.
func StepLine(i, n int, energy float64) string {
	return fmt.Sprintf("step %d/%d %s energy %.6f eV\n", i, n, Stage(i, n), energy)
}
