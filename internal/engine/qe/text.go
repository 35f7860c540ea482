package qe

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/engine/printed"
	"github.com/nano-os/nanoos/internal/job"
)

// maxAtoms bounds the atoms read of one structure, and maxLabel the length of
// their labels: those of pw.x have up to six letters.
const (
	maxAtoms = 200_000
	maxLabel = 16
)

// textRun is what standard output says of one start of a program.
type textRun struct {
	file string
	line int // of the banner; 0 when the beginning is missing

	program, version string
	started          string // as printed: "23Nov2026 at 7:53:26"
	input            string // the deck's name, as printed

	nat, nk, nbnd, nstep  int
	nelec, alat, volume   float64 // volume in Å³, alat in bohr
	convThr               float64 // Ry
	gamma                 bool
	restartAbsent         bool              // it was asked to continue an earlier run, and found nothing
	species               map[string]string // label → element
	first, last           *atoms            // structures; last is the newest one printed
	relax, md, bandsOnly  bool              // what the program does, as far as printed
	finalSCF, variable    bool              // the last SCF of a vc-relax; the cell changes
	scfStarted, bandsDone bool

	cycles, iterations int      // SCF cycles that ended with an energy; iterations in all
	inCycle            int      // iterations of the current cycle
	scf                *bool    // the last SCF cycle's own word; nil while it runs
	energy             *float64 // Ry, of the last cycle that ended
	running            *float64 // Ry, of the last iteration
	accuracy           *float64 // Ry, of the last iteration or cycle
	minusTS            *float64 // Ry
	fermi              []float64
	homo, lumo         *float64
	magTotal, magAbs   *float64
	forces             [][3]float64 // Ry/bohr, of the last cycle, as printed
	frozen             [][3]bool    // coordinates that the last printed positions hold fixed
	totalForce         *float64     // Ry/bohr, norm over all that may move
	pressure           *float64     // kbar
	stress             []float64
	cycleOpen          bool    // the ionic row of the current cycle is not written yet
	cycleVolume        float64 // Å³, when the cycle ended

	relaxed, relaxFailed, historyReset bool
	pressThr                           float64 // kbar
	maxStepsReached                    bool
	mdEnded, exx                       bool
	mdStep                             int
	mdTime                             float64
	temperature                        *float64
	ekin, etotal                       *float64 // Ry

	stopped, outOfTime *job.Evidence
	done               bool
	wall               *float64

	errors   []errorBlock
	oddities map[string]int // warnings counted by code

	scfTable, ionicTable, mdTable *printed.Table
	block                         func(line []byte) bool // takes lines until it returns false
}

// errorBlock is what pw.x prints between two lines of percent signs.
type errorBlock struct {
	routine, message string
	evidence         job.Evidence
}

// atoms is a structure as text gives it, in Å.
type atoms struct {
	lattice   *crystal.Matrix
	labels    []string
	positions []crystal.Vector
	crystal   bool // positions are fractional
}

func newTextRun(file string) *textRun {
	return &textRun{
		file:       file,
		species:    map[string]string{},
		oddities:   map[string]int{},
		scfTable:   printed.NewTable(engine.Column{Name: "iteration"}, engine.Column{Name: "cycle"}, engine.Column{Name: "energy", Unit: "eV"}, engine.Column{Name: "accuracy", Unit: "Ry"}),
		ionicTable: printed.NewTable(engine.Column{Name: "step"}, engine.Column{Name: "energy", Unit: "eV"}, engine.Column{Name: "max_force", Unit: "eV/Å"}, engine.Column{Name: "total_force", Unit: "eV/Å"}, engine.Column{Name: "pressure", Unit: "GPa"}, engine.Column{Name: "volume", Unit: "Å³"}),
		mdTable:    printed.NewTable(engine.Column{Name: "step"}, engine.Column{Name: "time", Unit: "ps"}, engine.Column{Name: "temperature", Unit: "K"}, engine.Column{Name: "potential_energy", Unit: "eV"}, engine.Column{Name: "kinetic_energy", Unit: "eV"}, engine.Column{Name: "total_energy", Unit: "eV"}, engine.Column{Name: "pressure", Unit: "GPa"}),
	}
}

// readText reads standard output in one pass: one textRun for each start of a
// program. An incomplete last line is left out, as its numbers may be cut.
func readText(file string, r io.Reader) ([]*textRun, error) {
	var runs []*textRun
	cur := newTextRun(file)
	lines := printed.NewLineReader(r)
	for {
		line, whole, err := lines.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if !whole {
			continue
		}
		text := bytes.TrimSpace(line)
		if program, version, started, ok := banner(text); ok {
			runs = appendRun(runs, cur)
			cur = newTextRun(file)
			cur.line, cur.program, cur.version, cur.started = lines.Line(), program, version, started
			continue
		}
		cur.read(text, lines.Line())
	}
	return appendRun(runs, cur), nil
}

// appendRun closes a run and keeps it unless nothing was in it. It takes the
// place of an earlier run of its kind, so that a file to which runs were
// appended for years stays small in memory.
func appendRun(runs []*textRun, t *textRun) []*textRun {
	t.closeCycle()
	t.block = nil
	if t.program == "" && len(t.errors) == 0 && t.cycles+t.iterations == 0 && !t.done {
		return runs
	}
	kind := t.kind()
	runs = slices.DeleteFunc(runs, func(earlier *textRun) bool { return earlier.kind() == kind })
	return append(runs, t)
}

// runKind tells apart what may stand in one chain.
type runKind int

const (
	kindOther runKind = iota // another program of the suite
	kindStart                // ended before it computed anything
	kindSCF
	kindBands
)

func (t *textRun) kind() runKind {
	switch {
	case !t.isPW():
		return kindOther
	case t.bandsOnly:
		return kindBands
	case t.began():
		return kindSCF
	}
	return kindStart
}

// banner reads "Program PWSCF v.6.7MaX starts on 23Nov2026 at  7:53:26", and
// "Program PWSCF     v.4.1    starts ...", which a line with the time follows.
func banner(line []byte) (program, version, started string, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte("Program "))
	if !ok {
		return "", "", "", false
	}
	name, rest, ok := bytes.Cut(rest, []byte(" v."))
	if name = bytes.TrimSpace(name); !ok || bytes.ContainsAny(name, " \t") {
		return "", "", "", false
	}
	v, when, ok := bytes.Cut(rest, []byte(" starts "))
	if !ok {
		return "", "", "", false
	}
	if when, ok = bytes.CutPrefix(when, []byte("on ")); ok {
		started = clock(when)
	}
	return string(name), string(bytes.TrimSpace(v)), started, true
}

// clock writes "18Jul2009 at 10: 5: 8" without doubled blanks.
func clock(b []byte) string { return string(bytes.Join(bytes.Fields(b), []byte(" "))) }

// isPW reports whether the run is one of pw.x, or of unknown beginning.
func (t *textRun) isPW() bool { return t.program == "" || t.program == "PWSCF" }

// began reports whether the run came as far as computing something.
func (t *textRun) began() bool { return t.scfStarted || t.bandsOnly || t.iterations+t.cycles > 0 }

// read takes one line without leading and trailing blanks.
func (t *textRun) read(line []byte, n int) {
	if t.block != nil {
		if t.block(line) {
			return
		}
		t.block = nil
	}
	if len(line) == 0 {
		return
	}
	switch {
	case bytes.HasPrefix(line, []byte("Error in routine")):
		t.readError(line, n)
	case bytes.HasPrefix(line, []byte("JOB DONE")):
		t.done = true
	case !t.isPW():
	case t.readHeader(line), t.readSCF(line), t.readIons(line), t.readEnd(line, n):
	default:
		t.readOddity(line)
	}
}

// readHeader reads what is printed before the first iteration.
func (t *textRun) readHeader(line []byte) bool {
	switch line[0] {
	case 'n', 'l', 's', 'c', 'p', 'u', 'f':
		if t.readSize(line) {
			return true
		}
	case 'T':
		if when, ok := bytes.CutPrefix(line, []byte("Today is ")); ok && t.started == "" {
			t.started = clock(when)
			return true
		}
	case 'R':
		if name, ok := bytes.CutPrefix(line, []byte("Reading input from ")); ok {
			t.input = string(name)
			return true
		}
	}
	switch {
	case bytes.HasPrefix(line, []byte("site n.")) && !bytes.Contains(line, []byte("cryst")):
		t.block = t.siteBlock()
	case bytes.HasPrefix(line, []byte("crystal axes:")):
		t.block = t.axesBlock()
	case bytes.HasPrefix(line, []byte("atomic species   valence")):
		t.block = t.speciesBlock()
	case bytes.HasPrefix(line, []byte("gamma-point specific algorithms are used")):
		t.gamma = true
	default:
		return false
	}
	return true
}

// readSize reads the numbers of the header.
func (t *textRun) readSize(line []byte) bool {
	for _, s := range [...]struct {
		mark string
		to   *int
	}{
		{"number of k points=", &t.nk}, {"number of atoms/cell      =", &t.nat},
		{"number of Kohn-Sham states=", &t.nbnd}, {"nstep                     =", &t.nstep},
	} {
		if bytes.HasPrefix(line, []byte(s.mark)) {
			*s.to, _ = printed.Count(line, s.mark)
			return true
		}
	}
	for _, s := range [...]struct {
		mark string
		to   *float64
		unit float64
	}{
		{"number of electrons       =", &t.nelec, 1}, {"press convergence thresh. =", &t.pressThr, 1},
		{"lattice parameter (alat)  =", &t.alat, 1}, {"lattice parameter (a_0)   =", &t.alat, 1}, // the second before version 5
		{"scf convergence threshold =", &t.convThr, 1}, {"convergence threshold     =", &t.convThr, 1}, // the second before version 6.5
		{"unit-cell volume          =", &t.volume, bohr3}, {"new unit-cell volume =", &t.volume, bohr3},
	} {
		if rest, found := bytes.CutPrefix(line, []byte(s.mark)); found {
			v, _, _ := printed.Number(rest)
			*s.to = v * s.unit
			return true
		}
	}
	if v, ok := printed.After(line, "force convergence thresh. ="); ok && v > 0 {
		t.relax = true
		return true
	}
	return false
}

// siteBlock reads "1  Si  tau(   1) = (  0.0  0.0  0.0  )" in units of alat. The
// same atoms may follow in crystal coordinates, under a heading that says so.
func (t *textRun) siteBlock() func([]byte) bool {
	var a atoms
	return func(line []byte) bool {
		name, coordinates, ok := bytes.Cut(line, []byte("tau("))
		if fields := bytes.Fields(name); ok && len(fields) == 2 && len(fields[1]) <= maxLabel && len(a.labels) < maxAtoms {
			_, coordinates, _ = bytes.Cut(coordinates, []byte("= ("))
			if v, ok := printed.Vector(coordinates); ok {
				a.labels = append(a.labels, string(fields[1]))
				a.positions = append(a.positions, scale(v, t.alat*crystal.BohrA))
				return true
			}
		}
		if len(a.labels) == 0 {
			return false
		}
		if t.last != nil && t.last.lattice != nil {
			a.lattice = t.last.lattice
		}
		t.setAtoms(&a)
		return false
	}
}

func (t *textRun) setAtoms(a *atoms) {
	t.last = a
	if t.first == nil || len(t.first.labels) == 0 {
		t.first = a
	}
}

// axesBlock reads "a(1) = (   0.0  0.7  0.7 )" in units of alat.
func (t *textRun) axesBlock() func([]byte) bool {
	var m crystal.Matrix
	row := 0
	return func(line []byte) bool {
		_, rest, ok := bytes.Cut(line, []byte("= ("))
		v, isVector := printed.Vector(rest)
		if !ok || !isVector {
			return false
		}
		m[row] = scale(v, t.alat*crystal.BohrA)
		if row++; row < 3 {
			return true
		}
		t.setLattice(m)
		t.block = nil
		return true
	}
}

func (t *textRun) setLattice(m crystal.Matrix) {
	a := atoms{lattice: &m}
	if t.last != nil {
		a.labels, a.positions, a.crystal = t.last.labels, t.last.positions, t.last.crystal
	}
	t.last = &a
	if t.first == nil {
		t.first = &a
	}
}

// speciesBlock reads "Si  4.00  28.08550  Si( 1.00)": the label is the user's,
// the last column names the element.
func (t *textRun) speciesBlock() func([]byte) bool {
	return func(line []byte) bool {
		fields := bytes.Fields(line)
		if len(fields) < 4 || len(fields[0]) > maxLabel || len(t.species) > 1000 {
			return false
		}
		element, _, _ := bytes.Cut(fields[3], []byte("("))
		t.species[string(fields[0])] = string(element)
		return true
	}
}

// readSCF reads the electronic cycle.
func (t *textRun) readSCF(line []byte) bool {
	switch line[0] {
	case 'i':
		if bytes.HasPrefix(line, []byte("iteration #")) {
			t.iterations++
			t.inCycle++
			t.scf = nil
			return true
		}
	case 't':
		return t.readTotals(line)
	case '!':
		if v, ok := printed.After(line, "total energy              ="); ok {
			t.closeCycle()
			t.energy, t.running = &v, &v
			t.forces, t.totalForce, t.pressure, t.stress = t.forces[:0], nil, nil, nil
			t.cycles++
			t.historyReset = t.historyReset && t.finalSCF
			t.inCycle, t.cycleOpen, t.cycleVolume = 0, true, t.volume
			return true
		}
	case 'e':
		if v, ok := printed.After(line, "estimated scf accuracy    <"); ok {
			t.accuracy = &v
			if t.running != nil && t.inCycle > 0 {
				t.scfTable.Add(float64(t.iterations), float64(t.cycles+1), *t.running*crystal.RydbergEV, v)
			}
			return true
		}
	case 's':
		if v, ok := printed.After(line, "smearing contrib. (-TS)   ="); ok {
			t.minusTS = &v
			return true
		}
	case 'c':
		switch {
		case bytes.HasPrefix(line, []byte("convergence has been achieved")):
			t.scf = new(true)
			return true
		case bytes.HasPrefix(line, []byte("convergence NOT achieved")):
			t.scf = new(false)
			return true
		}
	case 'E', 'S', 'B':
		return t.readStage(line)
	case 'h':
		return t.readLevels(line)
	}
	return false
}

// readStage reads which part of the work begins or ends.
func (t *textRun) readStage(line []byte) bool {
	switch {
	case bytes.HasPrefix(line, []byte("EXX convergence NOT achieved")):
		t.scf = new(false)
	case bytes.HasPrefix(line, []byte("EXX")):
		t.exx = true
	case bytes.HasPrefix(line, []byte("End of band structure calculation")):
		t.bandsDone = true
	case bytes.HasPrefix(line, []byte("Self-consistent Calculation")):
		t.scfStarted, t.scf, t.inCycle = true, nil, 0
	case bytes.HasPrefix(line, []byte("Band Structure Calculation")):
		t.bandsOnly = true
	default:
		return false
	}
	return true
}

// readTotals reads the lines that begin with "total" and "the Fermi energy".
func (t *textRun) readTotals(line []byte) bool {
	if v, ok := printed.After(line, "total energy              ="); ok {
		t.running = &v
		return true
	}
	if bytes.HasPrefix(line, []byte("total magnetization       =")) {
		t.magTotal = norm(printed.Numbers(line[len("total magnetization       ="):], nil))
		return true
	}
	if bytes.HasPrefix(line, []byte("total   stress")) {
		if v, ok := printed.After(line, "P="); ok {
			t.pressure = &v
		}
		t.stress = nil
		t.block = t.stressBlock()
		return true
	}
	if v, ok := printed.After(line, "the Fermi energy is"); ok {
		t.fermi = []float64{v}
		return true
	}
	if bytes.HasPrefix(line, []byte("the spin up/dw Fermi energies are")) {
		t.fermi = printed.Numbers(line[len("the spin up/dw Fermi energies are"):], nil)
		return true
	}
	if v, ok := printed.After(line, "temperature           ="); ok {
		t.temperature = &v
		return true
	}
	return false
}

func (t *textRun) readLevels(line []byte) bool {
	if rest, ok := bytes.CutPrefix(line, []byte("highest occupied, lowest unoccupied level (ev):")); ok {
		if v := printed.Numbers(rest, nil); len(v) == 2 {
			t.homo, t.lumo = &v[0], &v[1]
		}
		return true
	}
	if v, ok := printed.After(line, "highest occupied level (ev):"); ok {
		t.homo, t.lumo = &v, nil
		return true
	}
	return false
}

// stressBlock reads three rows of six numbers: Ry/bohr³, then kbar.
func (t *textRun) stressBlock() func([]byte) bool {
	rows := 0
	return func(line []byte) bool {
		v := printed.Numbers(line, nil)
		if len(v) != 6 {
			return false
		}
		t.stress = append(t.stress, v[3:]...)
		if rows++; rows == 3 {
			t.block = nil
		}
		return true
	}
}

// norm is the length of a magnetisation: one number, or three when spins are
// not collinear. It is nil for anything else.
func norm(v []float64) *float64 {
	switch len(v) {
	case 1:
		return &v[0]
	case 3:
		return new(length([3]float64(v)))
	}
	return nil
}

// closeCycle writes the row of the ionic table for the cycle that ended.
func (t *textRun) closeCycle() {
	if !t.cycleOpen || t.energy == nil {
		return
	}
	t.cycleOpen = false
	t.ionicTable.Add(float64(t.cycles), *t.energy*crystal.RydbergEV,
		orNaN(t.maxForce())*crystal.RyPerBohrEVPerA, orNaN(t.totalForce)*crystal.RyPerBohrEVPerA,
		orNaN(t.pressure)*crystal.KbarGPa, orNaN(positive(t.cycleVolume)))
}

// positive is nil for a number that was not said.
func positive(v float64) *float64 {
	if v > 0 {
		return &v
	}
	return nil
}

func orNaN(v *float64) float64 {
	if v == nil {
		return math.NaN()
	}
	return *v
}
