package vasp

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/engine/printed"
	"github.com/nano-os/nanoos/internal/job"
)

// Codes of warnings.
const (
	warnForeign  = "foreign_output"
	warnMissed   = "scf_missed_before"
	warnNoEnd    = "end_not_seen"
	warnMessage  = "message"
	warnPositive = "positive_energy"
	warnDamaged  = "output_damaged"
	warnCut      = "structure_unknown"
)

// dossier is everything known of one run, from which its outcome is decided.
type dossier struct {
	run   engine.Run
	files runFiles
	set   settings

	xml, osz, std *record
	doc           *vasprun
	out           *outcar
	said          messages

	// main is the file with the most complete steps: the numbers are its.
	main     *record
	initial  *crystal.Structure
	final    *crystal.Structure
	warnings []engine.Warning
}

// Parse implements engine.Engine.
func (*VASP) Parse(r engine.Run) (*engine.Result, error) {
	d := &dossier{run: r}
	var err error
	if d.files, err = findFiles(r.Files); err != nil {
		return nil, err
	}
	if err := d.read(); err != nil {
		return nil, err
	}
	if d.main == nil && len(d.said.hits) == 0 && !d.said.boxed && !d.said.banner && r.Spec == nil && r.Exit == nil && !d.begun() {
		return nil, &job.Error{Code: job.Invalid, Message: "no run of VASP was found", Why: "no vasprun.xml, OUTCAR, OSZICAR or output of VASP is here", Fix: "name the directory of the run, or its output files"}
	}
	if d.main == nil {
		d.main = newRecord("")
	}
	res := &engine.Result{}
	d.structures(res)
	d.summarise(&res.Summary)
	d.series(res)
	res.Outcome, res.Failure = d.decide(&res.Summary)
	dropNotFinite(&res.Summary)
	res.Verdict = verdict(res.Outcome, &res.Summary)
	res.Warnings = d.warnings
	return res, nil
}

// begun reports that a file of VASP's own name is here, though empty: the run
// was started and left nothing.
func (d *dossier) begun() bool {
	return d.files.xml != "" || d.files.outcar != "" || d.files.oszicar != ""
}

func (d *dossier) warn(code, message, fix string) {
	d.warnings = append(d.warnings, engine.Warning{Code: code, Message: message, Fix: fix})
}

// read reads all files of the run and chooses the one that counts.
func (d *dossier) read() error {
	if d.files.incar != "" {
		if data, err := printed.ReadAll(d.run.Files, d.files.incar, maxInput); err == nil {
			d.set, _ = readINCAR(data)
		}
	}
	incar := d.set
	d.set = settings{}
	if err := d.readLarge(); err != nil {
		return err
	}
	for _, r := range []*record{d.xml, d.outRecord()} {
		if r != nil {
			d.set.fill(r.set)
		}
	}
	d.set.fill(incar)
	if err := d.readLines(); err != nil {
		return err
	}
	for _, r := range []*record{d.xml, d.outRecord(), d.osz, d.std} {
		if r != nil && (d.main == nil || r.steps > d.main.steps) {
			d.main = r
		}
	}
	if d.main != nil {
		d.main.set = d.set
		d.borrow()
	}
	return nil
}

func (d *dossier) outRecord() *record {
	if d.out == nil {
		return nil
	}
	return d.out.r
}

func (d *dossier) readLarge() error {
	if d.files.xml != "" {
		type both struct {
			r *record
			v *vasprun
		}
		got, err := open(d.run.Files, d.files.xml, func(name string, r io.Reader) (both, error) {
			rec, v, err := readVasprun(name, r)
			return both{rec, v}, err
		})
		if err != nil {
			return err
		}
		if r := got.r; r.version != "" || r.steps > 0 || len(r.species) > 0 || r.set != (settings{}) {
			d.xml, d.doc = r, got.v
			if r.closed && r.damaged {
				d.warn(warnDamaged, "vasprun.xml is damaged in places, and was read as far as it goes", "")
			}
		}
	}
	if d.files.outcar == "" {
		return nil
	}
	out, err := open(d.run.Files, d.files.outcar, readOUTCAR)
	if err != nil {
		return err
	}
	if out.r.version == "" && out.r.steps == 0 && out.now.n == 0 {
		return nil
	}
	if d.xml != nil && !sameRun(d.xml, out.r) {
		d.warn(warnForeign, "OUTCAR and vasprun.xml are of two runs; OUTCAR was not read", "")
		return nil
	}
	d.out = out
	return nil
}

// sameRun compares two files by when their programs started and by their atoms.
func sameRun(x, o *record) bool {
	if x.date != "" && o.date != "" && (x.date != o.date || !near(x.clock, o.clock)) {
		return false
	}
	n := max(o.nions, len(o.species))
	return len(x.species) == 0 || n == 0 || len(x.species) == n
}

// near reports that two clocks hhmmss differ by no more than a minute, within
// an hour.
func near(a, b string) bool {
	if len(a) != 6 || len(b) != 6 {
		return true
	}
	seconds := func(s string) float64 {
		h, _, _ := printed.Number([]byte(s[:2]))
		m, _, _ := printed.Number([]byte(s[2:4]))
		sec, _, _ := printed.Number([]byte(s[4:]))
		return h*3600 + m*60 + sec
	}
	return math.Abs(seconds(a)-seconds(b)) <= 60
}

func (d *dossier) readLines() error {
	if d.files.oszicar != "" {
		r, err := open(d.run.Files, d.files.oszicar, func(name string, r io.Reader) (*record, error) { return readOSZICAR(name, r, d.set) })
		if err != nil {
			return err
		}
		if r.steps > 0 || r.total > 0 {
			d.osz = r
		}
	}
	for _, name := range d.files.outputs {
		r, err := open(d.run.Files, name, func(name string, r io.Reader) (*record, error) { return readOutput(name, r, d.set, &d.said) })
		if err != nil {
			return err
		}
		if (r.steps > 0 || r.total > 0) && (d.std == nil || r.total > d.std.total) {
			d.std = r
		}
	}
	return nil
}

// borrow takes what the main file does not say from others that have the same
// number of steps.
func (d *dossier) borrow() {
	m := d.main
	for _, r := range []*record{d.xml, d.outRecord(), d.osz, d.std} {
		if r == nil || r == m {
			continue
		}
		if m.version == "" {
			m.version = r.version
		}
		if m.elapsed == nil {
			m.elapsed = r.elapsed
		}
		if m.nkpoints == 0 {
			m.nkpoints = r.nkpoints
		}
		if len(m.species) == 0 {
			m.species = r.species
		}
		if m.initial == nil {
			m.initial = r.initial
		}
		if r.stopped != "" && m.stopped == "" {
			m.stopped, m.stopFile, m.stopLine = r.stopped, r.file, r.stopLine
		}
		m.accuracy = m.accuracy || r.accuracy
		if r.steps == m.steps && r.steps > 0 {
			m.borrowStep(r)
		}
	}
	m.accuracy = m.accuracy || d.said.accuracy
	if e := d.said.stopped; e.Text != "" && m.stopped == "" {
		m.stopped, m.stopFile, m.stopLine = e.Text, e.File, e.Line
	}
	if m.version == "" {
		m.version = d.said.version
	}
}

func (r *record) borrowStep(o *record) {
	for _, p := range [][2]**float64{{&r.maxForce, &o.maxForce}, {&r.anyForce, &o.anyForce}, {&r.pressure, &o.pressure}, {&r.fermi, &o.fermi}, {&r.moment, &o.moment}, {&r.temp, &o.temp}, {&r.kinetic, &o.kinetic}} {
		if *p[0] == nil {
			*p[0] = *p[1]
		}
	}
	if r.stress == nil {
		r.stress = o.stress
	}
	if r.cell == nil {
		r.cell = o.cell
	}
	if r.scf.n == 0 {
		r.scf = o.scf
	}
	if r.scf.n == o.scf.n && math.IsNaN(r.scf.bands) {
		r.scf.bands = o.scf.bands
	}
	r.scf.denied = r.scf.denied || o.scf.denied
	if !r.energies.known {
		r.energies = o.energies
	}
}

// structures finds the first and the last structure: of the output, else the
// files POSCAR and CONTCAR.
func (d *dossier) structures(res *engine.Result) {
	d.initial, d.final = d.main.structure(d.main.initial), d.main.structure(d.main.cell)
	if d.initial == nil {
		d.initial = d.readStructure(d.files.poscar)
	}
	if d.final == nil {
		d.final = d.readStructure(d.files.contcar)
	}
	if d.final != nil && d.initial != nil && len(d.final.Species) != len(d.initial.Species) {
		d.warn(warnCut, "the first and the last structure have different numbers of atoms", "")
	}
	res.Structures.Initial, res.Structures.Final = encode(d.initial), encode(d.final)
}

func encode(s *crystal.Structure) json.RawMessage {
	if s == nil {
		return nil
	}
	b, err := json.Marshal(s)
	if err != nil {
		return nil
	}
	return b
}

func (d *dossier) readStructure(name string) *crystal.Structure {
	if name == "" {
		return nil
	}
	data, err := printed.ReadAll(d.run.Files, name, crystal.MaxFileSize)
	if err != nil {
		return nil
	}
	s, _, err := crystal.ReadPOSCAR(data)
	if err != nil {
		return nil
	}
	return s
}

// summarise fills in the numbers of the last complete step.
func (d *dossier) summarise(s *engine.Summary) {
	r := d.main
	s.Program, s.ProgramVersion, s.WallTimeS = "VASP", r.version, r.elapsed
	d.summariseCell(s)
	if r.steps > 0 {
		d.summariseStep(s)
	}
	if n := r.total; n > 0 {
		s.NSCFIterations = &n
	}
	if n := r.steps; n > 0 {
		s.NIonicSteps = &n
	}
	if n := r.nkpoints; n > 0 {
		s.NKPoints = &n
	}
	s.NElectrons = d.set.nelect
	if gap, direct, known := r.bands.gap(); known {
		s.BandGapEV = &gap
		if gap > 0 {
			s.BandGapDirect = &direct
		}
	}
	if d.set.motion() == dynamics && r.steps > 0 {
		s.NSteps = new(int64(r.steps))
		s.TemperatureK, s.KineticEnergyEV = r.temp, r.kinetic
		if r.energies.known {
			s.PotentialEnergyEV = new(r.energies.free)
		}
		if r.kinetic != nil && r.energies.known {
			s.TotalEnergyEV = new(r.energies.free + *r.kinetic)
		}
	}
}

func (d *dossier) summariseCell(s *engine.Summary) {
	c := d.final
	if c == nil {
		c = d.initial
	}
	if c == nil {
		if n := max(len(d.main.species), d.main.nions); n > 0 {
			s.NAtoms = &n
		}
		return
	}
	s.Formula, s.NAtoms = c.Formula(), new(len(c.Species))
	s.VolumeA3 = new(math.Abs(c.Lattice.Det()))
}

func (d *dossier) summariseStep(s *engine.Summary) {
	r := d.main
	if r.energies.known {
		s.FreeEnergyEV, s.EnergyEV = new(r.energies.free), new(r.energies.zero)
		if math.IsNaN(r.energies.zero) {
			s.EnergyEV = s.FreeEnergyEV
		}
		if s.NAtoms != nil && *s.NAtoms > 0 {
			s.EnergyPerAtomEV = new(*s.EnergyEV / float64(*s.NAtoms))
		}
	}
	s.MaxForceEVPerA = r.anyForce
	s.FermiEnergyEV = r.fermi
	if r.pressure != nil {
		s.PressureGPa = new(*r.pressure * crystal.KbarGPa)
	}
	if t := r.stress; len(t) == 9 && !slices.ContainsFunc(t, func(v float64) bool { return !printed.Finite(v) }) {
		k := -crystal.KbarGPa
		s.StressGPa = &engine.Voigt{k * t[0], k * t[4], k * t[8], k * (t[5] + t[7]) / 2, k * (t[2] + t[6]) / 2, k * (t[1] + t[3]) / 2}
	}
	if d.set.noncollinear || d.set.ispin == nil || *d.set.ispin == 2 {
		s.TotalMagMuB = r.moment
	}
}

func dropNotFinite(s *engine.Summary) {
	for _, v := range []**float64{
		&s.VolumeA3, &s.EnergyEV, &s.EnergyPerAtomEV, &s.FreeEnergyEV, &s.FermiEnergyEV, &s.BandGapEV, &s.MaxForceEVPerA, &s.PressureGPa,
		&s.TotalMagMuB, &s.NElectrons, &s.TemperatureK, &s.PotentialEnergyEV, &s.KineticEnergyEV, &s.TotalEnergyEV, &s.WallTimeS,
	} {
		if *v != nil && !printed.Finite(**v) {
			*v = nil
		}
	}
}

// series are the steps of the file that has most of them; OSZICAR and standard
// output know more of each electronic step than the others.
func (d *dossier) series(res *engine.Result) {
	add := func(s engine.Series, ok bool) {
		if ok {
			res.Series = append(res.Series, s)
		}
	}
	cycle := d.main.cycle
	for _, r := range []*record{d.osz, d.std} {
		if r != nil && r.total >= d.main.total {
			cycle = r.cycle
			break
		}
	}
	add(cycle.Series("scf", "Electronic steps", "iteration"))
	if d.set.motion() != still {
		name, title := "ionic", "Ionic steps"
		if d.set.motion() == dynamics {
			name, title = "md", "Dynamics"
		}
		add(d.main.ionic.Series(name, title, "step"))
	}
	add(d.main.dos.series())
	if d.doc != nil && d.doc.listed && d.final != nil && d.final.Lattice != nil {
		add(d.main.bands.series(d.doc.path, *d.final.Lattice))
	}
}

func verdict(o engine.Outcome, s *engine.Summary) job.Verdict {
	switch {
	case o == engine.Unstable:
		return job.Unstable
	case o == engine.SCFNotConverged || o == engine.IonicNotConverged:
		return job.NotConverged
	case o.Succeeded() && s.ConvergedElec != nil && *s.ConvergedElec && (s.ConvergedIonic == nil || *s.ConvergedIonic):
		return job.Converged
	case o.Succeeded():
		return job.NotApplicable
	case s.ConvergedElec != nil && !*s.ConvergedElec || s.ConvergedIonic != nil && !*s.ConvergedIonic:
		return job.NotConverged
	}
	return job.NotApplicable
}

func plural(n int, word string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, word)
	}
	return fmt.Sprintf("%d %ss", n, word)
}
