package engine

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine/mock"
	"github.com/nano-os/nanoos/internal/job"
)

// Mock is the engine that computes nothing. Its program is a real process under
// the supervisor like every other, so it tests the whole system without a
// simulation code.
type Mock struct{}

var _ Engine = Mock{}

// MockProgram is the program of the mock engine: nanoos itself.
const MockProgram = mock.Program

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
		Files: map[string][]byte{mock.ParamsFile: append(params, '\n')},
		Steps: []Step{{Program: MockProgram, Args: []string{mock.Command}}},
		Stop:  SoftStop{Create: []string{mock.StopFile}, Wait: 5 * time.Second}, // it looks ten times a second
		Keep:  []string{mock.ParamsFile, mock.ResultFile},
	}, nil
}

func mockParams(raw json.RawMessage) (mock.Params, []job.Problem) {
	p := mock.Params{Steps: 4, StepSeconds: 2.5, As: "generic", Converge: true}
	problems := Decode(mockSchema, raw, &p)
	return p, problems
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
	if _, err := fs.Stat(files, mock.ParamsFile); err == nil {
		return 1
	}
	return 0
}

// Parse implements Engine.
func (Mock) Parse(r Run) (*Result, error) {
	p := mock.Params{Steps: 4, As: "generic", Converge: true}
	if raw, err := fs.ReadFile(r.Files, mock.ParamsFile); err == nil {
		if err := json.Unmarshal(raw, &p); err != nil {
			return nil, fmt.Errorf("read %s: %w", mock.ParamsFile, err)
		}
	}
	out, err := readMockOutput(r.Files)
	if err != nil {
		return nil, err
	}
	res := &Result{Verdict: job.NotApplicable, Summary: Summary{Program: "mock"}}
	out.fill(res, p, r.Spec)

	var done mock.Result
	raw, err := fs.ReadFile(r.Files, mock.ResultFile)
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
		} else if line == mock.Stopped {
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
		return TimeLimitGraceful, exitFailure(job.ClassResources, "time_limit", "the run was asked to stop before its walltime, and did", "raise resources.walltime")
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
func (o mockOutput) fill(res *Result, p mock.Params, spec *job.Spec) {
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
