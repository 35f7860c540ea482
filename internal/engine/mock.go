package engine

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/job"
)

// Mock is the engine that computes nothing. Its program is a real process under
// the supervisor like every other, so it tests the whole system without a
// simulation code.
type Mock struct{}

var _ Engine = Mock{}

// MockProgram is the program of the mock engine: nanoos itself, with MockCommand
// as its first argument.
const (
	MockProgram = "nanoos"
	MockCommand = "mock-engine"
)

// Files of a mock run in its work directory.
const (
	MockParamsFile = "mock.json"
	MockResultFile = "mock_result.json"
	MockStopFile   = "STOP"
)

// MockStopped is the line that the program prints when the stop file ended it.
const MockStopped = "stopped by request"

// MockParams are the knobs; see the schema for what they do.
type MockParams struct {
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

// MockResult is what the program leaves when it comes to its end.
type MockResult struct {
	Steps     int  `json:"steps"`
	Converged bool `json:"converged"`
}

//go:embed mock.schema.json
var mockSchema []byte

func (Mock) Name() string             { return "mock" }
func (Mock) Title() string            { return "Mock engine" }
func (Mock) Aliases() []string        { return []string{"MOCK", "DUMMY"} }
func (Mock) Programs() []string       { return []string{MockProgram} }
func (Mock) Schema() json.RawMessage  { return mockSchema }
func (Mock) Deck(string, []byte) bool { return false }

// Plan implements Engine.
func (Mock) Plan(spec job.Spec, _ Inputs) (*Plan, error) {
	p, problems := mockParams(spec.Params)
	if p.FailAtStep > p.Steps {
		problems = append(problems, job.Problem{
			Field: "parameters.fail_at_step", Message: fmt.Sprintf("step %d does not exist", p.FailAtStep),
			Why: fmt.Sprintf("the run has %d steps", p.Steps), Fix: fmt.Sprintf("choose 1 … %d", p.Steps),
		})
	}
	if err := job.InvalidInput("the mock job was refused", problems); err != nil {
		return nil, err
	}
	params, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode mock parameters: %w", err)
	}
	return &Plan{
		Files: map[string][]byte{MockParamsFile: append(params, '\n')},
		Steps: []Step{{Program: MockProgram, Args: []string{MockCommand}}},
		Stop:  SoftStop{Create: []string{MockStopFile}},
		Keep:  []string{MockParamsFile, MockResultFile},
	}, nil
}

func mockParams(raw json.RawMessage) (MockParams, []job.Problem) {
	p := MockParams{Steps: 4, StepSeconds: 2.5, As: "generic", Converge: true}
	problems := Decode(mockSchema, raw, &p)
	return p, problems
}

// MockStage names step i of n: the four phases of the NANO-OS dummy job.
func MockStage(i, n int) string {
	names := []string{"Initializing", "Processing", "Analyzing", "Finalizing"}
	return names[min((i-1)*len(names)/max(n, 1), len(names)-1)]
}

// MockEnergy is the energy in eV that step i of a run prints: it settles towards
// a value that the seed chooses.
func MockEnergy(seed int64, i int) float64 {
	r := rand.New(rand.NewPCG(uint64(seed), 0))
	return -100*(1+r.Float64()) + 10/float64(int64(1)<<min(i, 40))
}

// Monitor implements Engine.
func (Mock) Monitor(*Plan) Monitor { return &mockMonitor{} }

// mockMonitor reads lines such as "step 2/4 Processing energy -123.4 eV".
type mockMonitor struct {
	rest []byte
	p    job.Progress
}

func (m *mockMonitor) Write(b []byte) (int, error) {
	n := len(b)
	m.rest = append(m.rest, b...)
	for {
		line, rest, ok := bytes.Cut(m.rest, []byte{'\n'})
		if !ok {
			break
		}
		m.rest = rest
		if s, ok := parseMockStep(string(line)); ok {
			m.p = job.Progress{
				Fraction: float64(s.i) / float64(s.n), Stage: s.stage,
				Step: int64(s.i), Steps: int64(s.n), Quantity: "energy_eV", Value: &s.energy,
			}
		}
	}
	// A line longer than any of ours is flood: its beginning says nothing.
	if len(m.rest) > 64<<10 {
		m.rest = m.rest[:0]
	}
	return n, nil
}

func (m *mockMonitor) Progress() job.Progress { return m.p }

type mockStep struct {
	i, n   int
	stage  string
	energy float64
}

// MockStepLine is the line that the program prints for a finished step.
func MockStepLine(i, n int, energy float64) string {
	return fmt.Sprintf("step %d/%d %s energy %.6f eV\n", i, n, MockStage(i, n), energy)
}

func parseMockStep(line string) (s mockStep, ok bool) {
	f := strings.Fields(line)
	if len(f) != 6 || f[0] != "step" || f[3] != "energy" {
		return s, false
	}
	i, n, ok := strings.Cut(f[1], "/")
	if !ok {
		return s, false
	}
	var err1, err2, err3 error
	s.i, err1 = strconv.Atoi(i)
	s.n, err2 = strconv.Atoi(n)
	s.energy, err3 = strconv.ParseFloat(f[4], 64)
	s.stage = f[2]
	return s, err1 == nil && err2 == nil && err3 == nil && 0 < s.i && s.i <= s.n
}

// Recognise implements Engine: a mock run has its parameter file.
func (Mock) Recognise(files fs.FS) float64 {
	if _, err := fs.Stat(files, MockParamsFile); err == nil {
		return 1
	}
	return 0
}

// Parse implements Engine.
func (Mock) Parse(r Run) (*Result, error) {
	p := MockParams{Steps: 4, As: "generic", Converge: true}
	if raw, err := fs.ReadFile(r.Files, MockParamsFile); err == nil {
		if err := json.Unmarshal(raw, &p); err != nil {
			return nil, fmt.Errorf("read %s: %w", MockParamsFile, err)
		}
	}
	out, err := readMockOutput(r.Files)
	if err != nil {
		return nil, err
	}
	res := &Result{Verdict: job.NotApplicable, Summary: Summary{Program: "mock"}}
	out.fill(res, p, r.Spec)

	var done MockResult
	raw, err := fs.ReadFile(r.Files, MockResultFile)
	finished := err == nil && json.Unmarshal(raw, &done) == nil && done.Steps == p.Steps
	res.Outcome, res.Failure = ExitFailure(r.Exit)
	if res.Outcome == "" {
		res.Outcome, res.Failure = out.judge(r.Exit, finished, done.Converged)
	}
	switch {
	case res.Outcome.Succeeded():
		res.Verdict = job.Converged
	case finished:
		res.Verdict = job.NotConverged
	}
	return res, nil
}

// mockOutput is what the output of a run says.
type mockOutput struct {
	steps   []mockStep
	stopped bool
	fault   *job.Evidence
}

func readMockOutput(files fs.FS) (out mockOutput, err error) {
	f, err := files.Open(StdoutName)
	if err != nil {
		return out, fmt.Errorf("read output: %w", err)
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 1<<20)
	sc.Split(boundedLines)
	for n := 1; sc.Scan(); n++ {
		line := sc.Text()
		if s, ok := parseMockStep(line); ok {
			out.steps = append(out.steps, s)
		} else if line == MockStopped {
			out.stopped = true
		} else if strings.HasPrefix(line, "error: ") {
			out.fault = &job.Evidence{File: StdoutName, Line: n, Text: line}
		}
	}
	if err := sc.Err(); err != nil {
		return out, fmt.Errorf("read output: %w", err)
	}
	return out, nil
}

// boundedLines is bufio.ScanLines for output of any kind: a line longer than
// 64 KiB is cut, so a flood without a newline costs no memory.
func boundedLines(data []byte, atEOF bool) (int, []byte, error) {
	const longest = 64 << 10
	if len(data) > longest && bytes.IndexByte(data[:longest], '\n') < 0 {
		return longest, data[:longest], nil
	}
	return bufio.ScanLines(data, atEOF)
}

func (o mockOutput) judge(e *job.Exit, finished, converged bool) (Outcome, *job.Failure) {
	switch {
	case o.fault != nil:
		f := exitFailure(job.ClassProgram, "mock_failure", strings.TrimPrefix(o.fault.Text, "error: "), "")
		f.Evidence = []job.Evidence{*o.fault}
		if e != nil {
			f.Exit, f.Signal = e.Code, e.Signal
		}
		return ProgramError, f
	case o.stopped && e != nil && e.Cause == job.CauseSoftLimit:
		return TimeLimitGraceful, exitFailure(job.ClassResources, "walltime", "the run was asked to stop before its walltime, and did", "raise resources.walltime")
	case o.stopped:
		return StoppedByRequest, exitFailure(job.ClassProgram, "stopped_by_request", "the run was asked to stop, and did", "")
	}
	if outcome, failure := UnexplainedExit(e); outcome != "" && (e.Observed || !finished) {
		return outcome, failure
	}
	if !finished {
		return ResultInvalid, exitFailure(job.ClassNumerical, "result_invalid", "the run ended without its result file", "")
	}
	if !converged {
		return SCFNotConverged, exitFailure(job.ClassNumerical, "scf_not_converged", "the run ended without having converged", "set parameters.converge")
	}
	return Success, nil
}

// fill makes a result shaped like that of the engine that is imitated.
func (o mockOutput) fill(res *Result, p MockParams, spec *job.Spec) {
	s := &res.Summary
	if spec != nil && len(spec.Structure) > 0 {
		var st crystal.Structure
		if json.Unmarshal(spec.Structure, &st) == nil {
			s.NAtoms = new(len(st.Species))
			res.Structures.Initial = spec.Structure
			res.Structures.Final = spec.Structure
		}
	}
	if len(o.steps) == 0 {
		return
	}
	last := o.steps[len(o.steps)-1]
	s.EnergyEV = &last.energy
	if s.NAtoms != nil && *s.NAtoms > 0 {
		s.EnergyPerAtomEV = new(last.energy / float64(*s.NAtoms))
	}
	switch p.As {
	case "qe", "vasp", "generic":
		s.NSCFIterations = &last.i
		s.BandGapEV = new(1 + float64(p.Seed%10)/10)
		s.ConvergedElec = &p.Converge
	case "lammps":
		s.NSteps = new(int64(last.i))
		s.TemperatureK = new(300.0)
		s.PotentialEnergyEV = &last.energy
	}
	var steps, energies Floats
	for _, st := range o.steps {
		steps = append(steps, float64(st.i))
		energies = append(energies, st.energy)
	}
	res.Series = []Series{{Name: "steps", Title: "Energy", X: "step", Columns: []Column{
		{Name: "step", Values: steps}, {Name: "energy", Unit: "eV", Values: energies},
	}}}
}
