package lammps

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// Parse reads a run. The verdict means, for a minimisation, that it reached its
// energy or force tolerance; for molecular dynamics, that all the steps asked
// for were made, every number is finite and no atom was lost.
func (l *LAMMPS) Parse(r engine.Run) (*engine.Result, error) {
	rec, err := readRecord(r.Files)
	switch {
	case errors.Is(err, errNoRun) && r.Spec == nil && r.Exit == nil && !rec.toldBySystem():
		return nil, &job.Error{Code: job.Invalid, Message: "no output of LAMMPS here", Why: err.Error(), Fix: "name a log file (log.lammps) or the directory it is in", Err: err}
	case errors.Is(err, errNoRun):
		return noOutput(rec, r.Exit), nil
	case err != nil:
		return nil, fmt.Errorf("read the run: %w", err)
	}
	rec.settleUnits()
	res := &engine.Result{Summary: rec.summary(), Series: rec.series(), Warnings: rec.allWarnings()}
	rec.attachStructures(res)
	v := rec.decide(r.Exit)
	res.Outcome, res.Verdict, res.Failure = v.outcome, v.verdict, v.failure
	res.Warnings = append(res.Warnings, v.warnings...)
	return res, nil
}

// noOutput is the result of a job that ended before LAMMPS said anything.
func noOutput(rec *record, exit *job.Exit) *engine.Result {
	rec.journal = &journal{}
	v, ok := rec.endedFromOutside(exit)
	if !ok {
		v = failed(engine.ProgramError, "no_output", "the program ended without any output", "see the end of standard error: nanoos logs")
	}
	return &engine.Result{Outcome: v.outcome, Verdict: job.NotApplicable, Failure: v.failure, Summary: engine.Summary{Program: program}}
}

const program = "LAMMPS"

// settleUnits names the units of a run whose output does not. The units
// command missing from a complete script means reduced units.
func (rec *record) settleUnits() {
	if rec.units == "" && (rec.tauPerLJ || rec.echoed && !rec.restarted) {
		rec.suppose(reduced)
	}
	for _, b := range rec.blocks {
		if b.units == "" {
			b.units = rec.units
		}
	}
}

// state is a row of thermo output as totals in eV, GPa, Å.
type state struct {
	b   *block
	row []float64
}

// number reads a column and converts it.
func (s state) number(factor float64, names ...string) *float64 {
	v, ok := s.b.table.value(s.row, names...)
	if !ok || !finite(v) || factor == 0 {
		return nil
	}
	return new(v * factor)
}

// energies are the potential, kinetic and total energy; each may be nil. The
// potential energy of thermo_style one is given in two parts.
func (s state) energies(factor float64) (potential, kinetic, total *float64) {
	potential = s.number(factor, "PotEng")
	if potential == nil {
		if pair, mol := s.number(factor, "E_pair"), s.number(factor, "E_mol"); pair != nil && mol != nil {
			potential = new(*pair + *mol)
		}
	}
	kinetic, total = s.number(factor, "KinEng"), s.number(factor, "TotEng")
	if kinetic == nil && total != nil && potential != nil {
		kinetic = new(*total - *potential)
	}
	if total == nil && kinetic != nil && potential != nil {
		total = new(*kinetic + *potential)
	}
	return potential, kinetic, total
}

// summary is the final state in numbers.
func (rec *record) summary() engine.Summary {
	s := engine.Summary{Program: program, ProgramVersion: rec.version}
	rec.counts(&s)
	b := rec.last()
	if b == nil {
		return s
	}
	st := state{b, b.table.last}
	if u, ok := styles[b.units]; ok {
		rec.physical(&s, st, u)
	} else if b.units == reduced {
		rec.reduced(&s, st)
	}
	return s
}

// counts are the quantities that have no unit, and the time.
func (rec *record) counts(s *engine.Summary) {
	if n := rec.natoms(); n > 0 || either(rec.lost, rec.fewer) != nil {
		s.NAtoms = new(int(n))
	}
	var steps, iterations int64
	var md bool
	var last *minimisation
	for _, b := range rec.blocks {
		if !b.minimise {
			steps, md = steps+b.steps(), true
			continue
		}
		iterations += b.steps()
		if b.stats != nil {
			last = b.stats
		}
	}
	if md {
		s.NSteps = new(steps)
	}
	if last != nil {
		s.NIonicSteps, s.ConvergedIonic = new(int(iterations)), new(last.converged())
	}
	if rec.end != nil {
		s.WallTimeS = new(rec.wall)
	}
}

// natoms is the number of atoms at the end.
func (rec *record) natoms() int64 {
	if b := rec.last(); b != nil && b.loop != nil {
		return b.loop.atoms
	}
	if rec.final != nil && rec.atoms == 0 {
		return rec.final.atoms
	}
	return rec.atoms
}

// perAtomFactor turns printed energies into totals; 0 when the number of atoms
// that they were divided by is not known.
func (rec *record) perAtomFactor(b *block) float64 {
	if !b.perAtom() {
		return 1
	}
	return float64(rec.natoms())
}

func (rec *record) physical(s *engine.Summary, st state, u unitStyle) {
	s.PotentialEnergyEV, s.KineticEnergyEV, s.TotalEnergyEV = st.energies(u.energy * rec.perAtomFactor(st.b))
	s.EnergyEV = s.PotentialEnergyEV
	if n := rec.natoms(); n > 0 && s.EnergyEV != nil {
		s.EnergyPerAtomEV = new(*s.EnergyEV / float64(n))
	}
	s.PressureGPa = st.number(u.pressure, "Press")
	s.VolumeA3 = st.number(u.length*u.length*u.length, "Volume")
	if rec.final != nil && s.VolumeA3 == nil && rec.final.step >= st.b.table.lastStep() {
		s.VolumeA3 = new(volume(rec.final.cell) * u.length * u.length * u.length)
	}
	s.DensityGPerCM3 = st.number(u.density, "Density")
	s.StressGPa = stress(st, u)
	if rec.hasForce && rec.forceStep >= st.b.table.lastStep() && finite(rec.maxForce) {
		s.MaxForceEVPerA = new(rec.maxForce * u.force)
	}
	if !st.b.minimise {
		s.TemperatureK = st.number(1, "Temp")
	}
	if b := rec.lastDynamics(); b != nil {
		s.TemperatureMeanK = b.mean(1, "Temp")
		s.PressureMeanGPa = b.mean(u.pressure, "Press")
		s.VolumeMeanA3 = b.mean(u.length*u.length*u.length, "Volume")
	}
}

// stress is the printed pressure tensor with the sign of tension.
func stress(st state, u unitStyle) *engine.Voigt {
	var v engine.Voigt
	for i, name := range []string{"Pxx", "Pyy", "Pzz", "Pyz", "Pxz", "Pxy"} {
		p := st.number(-u.pressure, name)
		if p == nil {
			return nil
		}
		v[i] = *p + 0 // no negative zero
	}
	return &v
}

// reduced keeps Lennard-Jones numbers apart: they have no physical unit.
func (rec *record) reduced(s *engine.Summary, st state) {
	s.Units, s.Reduced = reduced, make(map[string]float64)
	put := func(name string, v *float64) {
		if v != nil {
			s.Reduced[name] = *v
		}
	}
	n := float64(rec.natoms())
	perAtom := 0.0
	if st.b.perAtom() {
		perAtom = 1
	} else if n > 0 {
		perAtom = 1 / n
	}
	potential, kinetic, total := st.energies(perAtom)
	put("potential_energy_per_atom", potential)
	put("kinetic_energy_per_atom", kinetic)
	put("total_energy_per_atom", total)
	potential, kinetic, total = st.energies(perAtom * n)
	put("potential_energy", potential)
	put("kinetic_energy", kinetic)
	put("total_energy", total)
	put("temperature", st.number(1, "Temp"))
	put("pressure", st.number(1, "Press"))
	put("density", st.number(1, "Density"))
	put("volume", st.number(1, "Volume"))
	if f := rec.final; f != nil && f.step >= st.b.table.lastStep() {
		put("volume", new(volume(f.cell)))
		for k, name := range []string{"lx", "ly", "lz"} {
			put(name, new(f.cell[k][k]))
		}
	}
	if b := rec.lastDynamics(); b != nil {
		put("temperature_mean", b.mean(1, "Temp"))
		put("pressure_mean", b.mean(1, "Press"))
	}
}

// lastDynamics is the last run of more than one row: what means are taken over.
func (rec *record) lastDynamics() *block {
	for i := len(rec.blocks) - 1; i >= 0; i-- {
		if b := rec.blocks[i]; !b.minimise && b.table.count > 1 {
			return b
		}
	}
	return nil
}

// mean is over the second half of the run, which leaves equilibration out.
func (b *block) mean(factor float64, column string) *float64 {
	t := b.table
	middle := t.firstStep() + (t.lastStep()-t.firstStep())/2
	sum, n := 0.0, 0
	for i, row := range t.all() {
		if t.step >= 0 && t.stepOf(row) < middle || t.step < 0 && i < len(t.rows)/2 {
			continue
		}
		v, ok := t.value(row, column)
		if !ok || !finite(v) {
			return nil
		}
		sum, n = sum+v, n+1
	}
	if n == 0 {
		return nil
	}
	return new(sum / float64(n) * factor)
}

// series are the tables as they were printed, in the units of the run.
func (rec *record) series() []engine.Series {
	var out []engine.Series
	for i, b := range rec.blocks {
		if b.table.count == 0 {
			continue
		}
		s := engine.Series{Name: "thermo", X: "Step", Title: fmt.Sprintf("run %d", i+1)}
		if b.minimise {
			s.Name, s.Title = "minimise", fmt.Sprintf("minimisation %d", i+1)
		}
		if b.table.step < 0 {
			s.X = b.table.columns[0]
		}
		rows := b.table.all()
		for c, name := range b.table.columns {
			values := make(engine.Floats, len(rows))
			for k, row := range rows {
				values[k] = row[c]
			}
			s.Columns = append(s.Columns, engine.Column{Name: name, Unit: unitOf(name, b.units, b.perAtom()), Values: values})
		}
		out = append(out, s)
	}
	return out
}

// attachStructures stores the first and the last state, in Å, when the elements
// are known and the run has physical units.
func (rec *record) attachStructures(res *engine.Result) {
	u, ok := styles[rec.units]
	if !ok {
		if rec.units == "" && len(rec.blocks) > 0 {
			res.Warnings = append(res.Warnings, engine.Warning{Code: "units_unknown", File: rec.file,
				Message: "the units of the run are not known, so no number was converted", Fix: "parse the terminal output or the first log together with this one"})
		}
		return
	}
	element := func(t int) string { return rec.element(t, u.mass) }
	if s := rec.initial; s != nil && s.usable() && s.atoms <= maxStored {
		if names, ok := s.name(element); ok {
			res.Structures.Initial = encode(s.structure(u.length, names))
		}
	}
	if rec.final != nil {
		rec.final.boundary(rec.journal)
		rec.attachFinal(res, u.length, element)
	}
}

func (rec *record) attachFinal(res *engine.Result, scale float64, element func(t int) string) {
	s := rec.final
	names, ok := s.name(element)
	if !ok {
		res.Warnings = append(res.Warnings, engine.Warning{Code: "elements_unknown", File: s.file,
			Message: "the elements of the atom types are not known, so the final structure has no species",
			Fix:     "write each element as a comment in the Masses section of the data file: 1 26.98 # Al"})
		return
	}
	if s.atoms == rec.natoms() && s.atoms <= crystal.MaxSites {
		res.Summary.Formula = s.formula(names)
	}
	if s.atoms > maxStored {
		res.Warnings = append(res.Warnings, engine.Warning{Code: "structure_large", File: s.file,
			Message: fmt.Sprintf("the structure of %d atoms is only in its file", s.atoms)})
		return
	}
	res.Structures.Final = encode(s.structure(scale, names))
}

func (s *snapshot) boundary(j *journal) {
	if !s.bounded && j.bounded {
		s.periodic, s.bounded = j.periodic, true
	}
}

// encode cannot fail: the numbers of a usable snapshot are finite.
func encode(s *crystal.Structure) json.RawMessage {
	raw, err := json.Marshal(s)
	if err != nil {
		return nil
	}
	return raw
}

func (rec *record) allWarnings() []engine.Warning {
	out := append(rec.warnings, rec.journal.warnings...)
	if w, ok := rec.dangerWarning(); ok {
		out = append(out, w)
	}
	for _, b := range rec.blocks {
		for _, row := range b.table.all() {
			if i := userColumnNotFinite(b.table, row); i >= 0 {
				out = append(out, engine.Warning{Code: "not_finite", File: b.file,
					Message: fmt.Sprintf("column %s has values that are not numbers", b.table.columns[i])})
				return out
			}
		}
	}
	return out
}

func userColumnNotFinite(t *table, row []float64) int {
	for i, v := range row {
		if (math.IsNaN(v) || math.IsInf(v, 0)) && dimensionOf(t.columns[i]) == dimUser {
			return i
		}
	}
	return -1
}

// plain makes a message from a line of output.
func plain(s string) string { return strings.Join(strings.Fields(s), " ") }
