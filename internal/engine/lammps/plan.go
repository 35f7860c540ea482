package lammps

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// Plan writes the script and the data file of a job with a structure, and
// stages a script that the job brings as it is.
func (l *LAMMPS) Plan(spec job.Spec, in engine.Inputs) (*engine.Plan, error) {
	p, problems := readParams(spec.Params)
	script := p.Input != "" || len(spec.Structure) == 0 && len(spec.Files) > 0
	switch {
	case script && len(problems) > 0:
		return nil, job.InvalidInput(refused, problems)
	case script:
		return planScript(spec, p, in)
	}
	return planGenerated(spec, p, problems, in)
}

const refused = "the LAMMPS job was refused"

// planGenerated makes everything from the parameters, unless they have problems
// already.
func planGenerated(spec job.Spec, p params, problems []job.Problem, in engine.Inputs) (*engine.Plan, error) {
	broken := len(problems) > 0
	for _, c := range p.check(givenKeys(spec.Params)) {
		if !slices.ContainsFunc(problems, func(b job.Problem) bool { return b.Field == c.Field }) {
			problems = append(problems, c)
		}
	}
	st, structureProblems := readStructure(spec.Structure)
	problems = append(problems, structureProblems...)
	if broken || st == nil || p.Potential == nil {
		return nil, job.InvalidInput(refused, problems)
	}
	sys, err := newSystem(st, p.Supercell)
	if err != nil {
		problems = append(problems, job.Problem{Field: "parameters.supercell", Message: err.Error(), Fix: "choose a smaller one, or bring a script that uses replicate"})
		return nil, job.InvalidInput(refused, problems)
	}
	problems = append(problems, sys.check(&p)...)
	inter := newInteraction(p.Potential, sys.types, in)
	problems = append(problems, inter.problems...)
	if err := job.InvalidInput(refused, problems); err != nil {
		return nil, err
	}
	d := &deck{p: p, sys: sys, inter: inter, soft: spec.Soft()}
	plan := &engine.Plan{
		Files:   map[string][]byte{inputName: d.script(), dataName: sys.data(d.oblique(), scalesOf(p.Units).velocity)},
		Library: make(map[string]string),
		Steps:   []engine.Step{step(spec, inputName, p.Steps, len(sys.order))},
		Stop:    engine.SoftStop{Create: []string{stopName}},
		Keep:    []string{inputName, dataName, logName, finalData, finalDump, finalRestart, trajectory, "running.restart.*"},
	}
	for _, name := range inter.library {
		plan.Library[name] = name
	}
	if st.Magmoms != nil {
		plan.Warnings = append(plan.Warnings, engine.Warning{Code: "magmoms_ignored", Message: "the magnetic moments of the structure have no meaning for this potential"})
	}
	return plan, nil
}

// stepsVariable carries the number of steps to the monitor: on the command line
// it reaches raw scripts, too, without changing them.
const stepsVariable = "nanoos_steps"

// step is the command. Commands are echoed to the terminal as well, so that
// the output says what was asked.
func step(spec job.Spec, input string, steps int64, atoms int) engine.Step {
	s := engine.Step{Program: "lmp", Args: []string{"-in", input, "-log", logName, "-nocite", "-echo", "both"}}
	if steps > 0 {
		s.Args = append(s.Args, "-var", stepsVariable, fmt.Sprint(steps))
	}
	if n := spec.Demand.CPUs; n > 1 {
		// More ranks than atoms have nothing to do.
		s.Ranks = n
		if atoms > 0 {
			s.Ranks = min(n, atoms)
		}
	}
	return s
}

func givenKeys(raw json.RawMessage) map[string]json.RawMessage {
	var keys map[string]json.RawMessage
	// Not an object: the schema has said so already.
	_ = json.Unmarshal(raw, &keys)
	return keys
}

// readStructure reads the structure of a job.
func readStructure(raw json.RawMessage) (*crystal.Structure, []job.Problem) {
	if len(raw) == 0 {
		return nil, []job.Problem{{Field: "structure", Message: "is required and missing", Fix: "name a structure file, or give an input script as parameters.input"}}
	}
	st, err := crystal.ParseJSON(raw)
	if err == nil {
		return st, nil
	}
	parse, ok := errors.AsType[*crystal.ParseError](err)
	if !ok {
		return nil, []job.Problem{{Field: "structure", Message: err.Error()}}
	}
	var out []job.Problem
	for _, p := range parse.Problems {
		field := "structure"
		if p.Field != "" {
			field += "." + p.Field
		}
		out = append(out, job.Problem{Field: field, Line: p.Line, Column: p.Column, Message: p.Message, Fix: p.Fix})
	}
	return nil, out
}

// check returns what the task asks of the structure and it has not.
func (s *system) check(p *params) []job.Problem {
	var out []job.Problem
	periodic := s.st.Periodic()
	changes := p.Task == taskNPT || p.Task == taskMinimize && p.BoxRelax != "none"
	if changes && periodic != [3]bool{true, true, true} {
		out = append(out, job.Problem{Field: "structure", Message: "the cell can only change when it repeats along all three vectors", Fix: "use nvt, or box_relax: none"})
	}
	c := s.cell
	if !periodic[1] && c.xy != 0 || !periodic[2] && (c.xz != 0 || c.yz != 0) {
		out = append(out, job.Problem{Field: "structure.lattice", Message: "a vector along which nothing repeats must be at right angles to the others", Fix: "make it perpendicular"})
	}
	if s.st.Fixed != nil {
		out = append(out, s.checkFixed(p, changes)...)
	}
	if p.Task == taskNVE && p.InitialTemperature == nil && s.st.Velocities == nil {
		out = append(out, job.Problem{Field: "parameters.initial_temperature", Message: "is required for nve and missing", Why: "the structure has no velocities", Fix: "give it in K"})
	}
	if p.Task != taskMinimize && s.mobile() < 2 {
		out = append(out, job.Problem{Field: "structure", Message: "dynamics need two atoms that can move: one alone has no temperature", Fix: "give a supercell"})
	}
	if p.Units != "metal" && (p.Potential.File.one != "" || p.Potential.File.each != nil) {
		out = append(out, job.Problem{Field: "parameters.units", Message: "potential files are written in metal units", Fix: "use units: metal"})
	}
	return out
}

// mobile counts the atoms that can move.
func (s *system) mobile() int {
	n := 0
	for _, i := range s.order {
		if s.fixed(i) != [3]bool{true, true, true} {
			n++
		}
	}
	return n
}

func (s *system) checkFixed(p *params, changes bool) []job.Problem {
	var out []job.Problem
	any, partly := false, false
	for _, f := range s.st.Fixed {
		any = any || f != [3]bool{}
		partly = partly || f != [3]bool{} && f != [3]bool{true, true, true}
	}
	if any && changes {
		out = append(out, job.Problem{Field: "structure.fixed", Message: "fixed sites do not go with a changing cell", Fix: "use nvt, or box_relax: none"})
	}
	if partly && p.Task != taskMinimize {
		out = append(out, job.Problem{Field: "structure.fixed", Message: "single directions can only be fixed in a minimisation", Fix: "fix all three"})
	}
	if partly && s.st.Lattice != nil && s.rotated() {
		out = append(out, job.Problem{Field: "structure.fixed", Message: "single directions can only be fixed when the first cell vector is along x and the second in the xy plane", Fix: "fix all three, or turn the cell"})
	}
	return out
}

// rotated reports whether the cell had to be turned.
func (s *system) rotated() bool {
	m := s.st.Lattice
	return s.cell.sign < 0 || m[0][1] != 0 || m[0][2] != 0 || m[1][2] != 0 || m[0][0] < 0 || m[1][1] < 0 || m[2][2] < 0
}
