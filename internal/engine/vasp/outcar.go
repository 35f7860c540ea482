package vasp

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/nano-os/nanoos/internal/crystal"

	"github.com/nano-os/nanoos/internal/engine/printed"
)

// outcar reads OUTCAR line by line: a step of the ions is complete with its
// own energies, which come after forces and cell.
type outcar struct {
	r       *record
	now     scf
	kind    []string // elements by type
	titles  []string
	lattice crystal.Matrix
	fresh   cell // of the step that is read
	table   int  // rows of the table of forces; 0 outside
	forces  int
	max     float64
	basis   int // rows of the cell to come
	stress  []float64
	press   *float64
	opened  bool // the energies of a step have begun
	timing  bool
	row     [8]float64
	fault   *hit
	lineNo  int
	scratch []crystal.Vector
	// pending is the last complete step until the next begins. What is read
	// then belongs to it: VASP 5.2 writes energies ahead of stress and forces.
	pending bool
}

// readOUTCAR reads until the file ends; the error is of the source alone.
func readOUTCAR(name string, src io.Reader) (*outcar, error) {
	o := &outcar{r: newRecord(name), now: newSCF()}
	lines := printed.NewLineReader(src)
	for {
		line, _, err := lines.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		o.lineNo = lines.Line()
		o.line(line)
	}
	o.flush()
	o.r.partial = o.now
	o.r.closed = o.timing
	return o, nil
}

func (o *outcar) line(line []byte) {
	if o.table > 0 {
		o.force(line)
		return
	}
	if o.basis > 0 {
		o.cellRow(line)
		return
	}
	text := bytes.TrimLeft(line, " ")
	if len(text) == 0 || len(line)-len(text) > 40 {
		return
	}
	switch c := text[0]; {
	case c == '-':
		o.rule(text)
	case printed.IsDigit(c):
	case o.r.steps == 0 && o.now.n == 0:
		if !o.header(text) {
			o.body(text)
		}
	default:
		o.body(text)
	}
}

// rule reads the lines of dashes that divide the steps.
func (o *outcar) rule(text []byte) {
	switch {
	case bytes.Contains(text, []byte("Iteration")):
		_, rest, _ := bytes.Cut(text, []byte("Iteration"))
		n, rest, ok := printed.Number(rest)
		m, _, ok2 := printed.Number(bytes.TrimLeft(rest, " ("))
		if ok && ok2 && n >= 0 && m == 1 && o.now.n > 0 {
			o.now = newSCF()
		}
	case bytes.Contains(text, []byte("EDIFF was not reached")):
		o.now.denied = true
	case bytes.Contains(text, []byte("stop encountered!")) || bytes.Contains(text, []byte("hard stop was set")):
		o.r.stopped, o.r.stopLine = clip(bytes.Trim(text, "- ")), o.lineNo
	}
}

// body reads what comes again with every step.
func (o *outcar) body(text []byte) {
	switch text[0] {
	case 'f':
		o.freeEnergy(text)
	case 'e':
		o.otherEnergies(text)
	case 'E':
		o.other(text)
	case 'i':
		if rest, ok := bytes.CutPrefix(text, []byte("in kB")); ok {
			if v := printed.Numbers(rest, o.row[:0]); len(v) >= 6 {
				// XX YY ZZ XY YZ ZX as a matrix by rows.
				o.stress = []float64{v[0], v[3], v[5], v[3], v[1], v[4], v[5], v[4], v[2]}
				if o.pending {
					o.r.stress = o.stress
				}
			}
		}
	case 'n':
		if bytes.HasPrefix(text, []byte("number of electron ")) {
			o.magnetization(text)
		}
	case 'P':
		if bytes.HasPrefix(text, []byte("POSITION")) && bytes.Contains(text, []byte("TOTAL-FORCE")) {
			o.table, o.forces, o.max = 1, 0, 0
			o.scratch = o.scratch[:0]
		}
	case 'd':
		if bytes.HasPrefix(text, []byte("direct lattice vectors")) {
			o.basis = 3
		}
	case 'r':
		if bytes.HasPrefix(text, []byte("reached required accuracy")) {
			o.r.accuracy = true
		}
	case 's', 'h':
		if bytes.Contains(text, []byte("stop encountered!")) {
			o.r.stopped, o.r.stopLine = clip(text), o.lineNo
		}
	case 'G':
		if bytes.HasPrefix(text, []byte("General timing and accounting")) {
			o.timing = true
		}
	case 'k':
		if bytes.HasPrefix(text, []byte("kinetic energy EKIN   =")) || bytes.HasPrefix(text, []byte("kinetic Energy EKIN   =")) {
			o.kinetic(text)
		}
	case '|', 'I', 'V', 'L', 'Z', 'B', 'W', 'R', 'T', 'H', 'S':
		o.message(text)
	}
}

// message looks for the faults that VASP repeats in OUTCAR, in boxes or after
// words of alarm: without them the names of routines are everyday reports.
func (o *outcar) message(text []byte) {
	if o.fault != nil || text[0] != '|' && !slices.ContainsFunc(alarms, func(a []byte) bool { return bytes.Contains(text, a) }) {
		return
	}
	if d := diagnosisOf(text); d != nil && !d.mild {
		o.fault = &hit{d, evidence(o.r.file, o.lineNo, text)}
	}
}

var alarms = [][]byte{[]byte("VERY BAD NEWS"), []byte("ERROR"), []byte("Error"), []byte("internal error"), []byte("failed"), []byte("BRMIX"), []byte("ZBRENT: fatal")}

func (o *outcar) freeEnergy(text []byte) {
	switch {
	case bytes.HasPrefix(text, []byte("free  energy   TOTEN")):
		if v, ok := printed.After(text, "="); ok {
			o.opened = true
			o.r.energies, o.r.previous = energies{free: v, zero: math.NaN(), without: math.NaN(), known: true}, o.r.energies.free
		}
	case bytes.HasPrefix(text, []byte("free energy    TOTEN")):
		if v, ok := printed.After(text, "="); ok {
			o.flush()
			o.now.add(v)
			o.r.total++
			o.r.cycle.Add(float64(o.now.n), float64(o.r.steps+1), v, o.now.change, math.NaN(), math.NaN(), math.NaN())
		}
	}
}

func (o *outcar) otherEnergies(text []byte) {
	if bytes.HasPrefix(text, []byte("energy  without entropy")) && o.opened {
		o.opened = false
		o.r.energies.without, _ = printed.After(text, "=")
		if zero, ok := printed.After(text, "energy(sigma->0) ="); ok {
			o.r.energies.zero = zero
		}
		o.endStep()
		return
	}
	if bytes.HasPrefix(text, []byte("external pressure =")) {
		if v, ok := printed.After(text, "="); ok {
			o.press = &v
			if o.pending {
				o.r.pressure = &v
			}
		}
	}
}

func (o *outcar) other(text []byte) {
	switch {
	case bytes.HasPrefix(text, []byte("E-fermi :")):
		if v, ok := printed.After(text, ":"); ok && printed.Finite(v) {
			o.r.fermi = &v
		}
	case bytes.HasPrefix(text, []byte("Elapsed time (sec):")):
		if v, ok := printed.After(text, ":"); ok && o.timing {
			o.r.elapsed = &v
		}
	default:
		o.message(text)
	}
}

// magnetization reads what follows the electrons; without spin there is no
// number after the word.
func (o *outcar) magnetization(text []byte) {
	_, rest, ok := bytes.Cut(text, []byte("magnetization"))
	if !ok {
		return
	}
	switch m := printed.Numbers(rest, o.row[:0]); len(m) {
	case 0:
	case 3:
		o.r.moment = new(norm(m))
	default:
		o.r.moment = new(m[0])
	}
}

func (o *outcar) kinetic(text []byte) {
	if v, ok := printed.After(text, "="); ok {
		o.r.kinetic = &v
	}
	if t, ok := printed.After(text, "(temperature"); ok {
		o.r.temp = &t
	}
}

// force reads a row of the table of positions and forces, between two rules.
func (o *outcar) force(line []byte) {
	text := bytes.TrimLeft(line, " ")
	if len(text) > 1 && text[0] == '-' && text[1] == '-' {
		if o.table++; o.table > 2 {
			o.table = 0
			if o.pending {
				o.takeForces()
			}
		}
		return
	}
	v := printed.Numbers(text, o.row[:0])
	if len(v) != 6 || o.forces >= crystal.MaxSites {
		o.table = 0
		return
	}
	o.scratch = append(o.scratch, crystal.Vector{v[0], v[1], v[2]})
	o.max = larger(o.max, norm(v[3:6]))
	o.forces++
}

func (o *outcar) cellRow(line []byte) {
	v := printed.Numbers(line, o.row[:0])
	if len(v) < 3 {
		o.basis = 0
		return
	}
	o.fresh.lattice[3-o.basis] = crystal.Vector{v[0], v[1], v[2]}
	if o.basis--; o.basis == 0 {
		o.lattice = o.fresh.lattice
	}
}

func (o *outcar) endStep() {
	r := o.r
	if r.steps > 0 && r.scf.n > 0 && !r.scf.met(&r.set) {
		r.missed++
	}
	r.steps++
	r.scf, o.now = o.now, newSCF()
	r.stress, r.pressure = o.stress, o.press
	o.stress, o.press = nil, nil
	r.maxForce, r.anyForce = nil, nil
	o.takeForces()
	o.pending = true
}

func (o *outcar) takeForces() {
	if o.forces > 0 {
		o.r.maxForce, o.r.anyForce = new(o.max), new(o.max)
		o.takeCell()
	}
	o.forces = 0
}

func (o *outcar) flush() {
	if o.pending {
		o.pending = false
		o.stress, o.press = nil, nil
		o.r.addIonic()
	}
}

// takeCell makes fractional positions of the cartesian ones of the step.
func (o *outcar) takeCell() {
	if !(math.Abs(o.lattice.Det()) > 1e-9) {
		return
	}
	inverse := o.lattice.Inverse()
	c := &cell{lattice: o.lattice}
	if o.r.cell != nil {
		c.positions = o.r.cell.positions[:0]
	}
	for _, p := range o.scratch {
		c.positions = append(c.positions, inverse.Cart(p))
	}
	if o.r.initial == nil {
		o.r.initial = &cell{lattice: c.lattice, positions: append([]crystal.Vector(nil), c.positions...)}
	}
	o.r.cell = c
}

// header reads what comes before the first step; it reports whether the line
// was of it alone.
func (o *outcar) header(text []byte) bool {
	switch {
	case o.lineNo <= 5 && bytes.HasPrefix(text, []byte("vasp.")):
		word, _, _ := bytes.Cut(text[len("vasp."):], []byte{' '})
		o.r.version = string(word)
	case bytes.HasPrefix(text, []byte("executed on")):
		if _, rest, ok := bytes.Cut(text, []byte(" date ")); ok {
			day, clock, _ := bytes.Cut(bytes.TrimSpace(rest), []byte{' '})
			o.r.date, o.r.clock = digitsOf(string(day)), digitsOf(string(clock))
		}
	case bytes.HasPrefix(text, []byte("VRHFIN =")):
		name, _, _ := bytes.Cut(text[len("VRHFIN ="):], []byte{':'})
		o.kind = append(o.kind, elementOf(string(name)))
	case bytes.HasPrefix(text, []byte("TITEL  =")):
		if f := bytes.Fields(text); len(f) > 3 && len(o.titles) < len(o.kind)+1 {
			o.titles = append(o.titles, elementOf(string(f[3])))
		}
	case bytes.HasPrefix(text, []byte("ions per type =")):
		o.ions(text)
	case bytes.HasPrefix(text, []byte("k-points           NKPTS =")):
		o.r.nkpoints, _ = printed.Count(text, "NKPTS =")
	case bytes.Contains(text, []byte("NIONS =")):
		o.r.nions, _ = printed.Count(text, "NIONS =")
	default:
		return o.tag(text)
	}
	return true
}

// tag reads the parameters that OUTCAR lists: "NELM   =    100;   NELMIN= 2".
func (o *outcar) tag(text []byte) bool {
	name, value, ok := bytes.Cut(text, []byte{'='})
	if !ok || len(name) > 14 || bytes.HasPrefix(value, []byte{'='}) {
		return false
	}
	switch key := string(bytes.TrimSpace(name)); key {
	case "NELM", "NSW", "IBRION", "ISPIN", "ICHARG", "EDIFF", "EDIFFG", "NELECT", "LNONCOLLINEAR", "LSORBIT", "LEPSILON", "LRPA", "ALGO":
		value, _, _ = bytes.Cut(value, []byte{';'})
		o.r.set.take(key, value)
		return true
	}
	return false
}

// ions reads the atoms of each type; the elements are those of the potentials.
func (o *outcar) ions(text []byte) {
	kinds := o.kind
	if len(kinds) == 0 {
		kinds = o.titles
	}
	_, rest, _ := bytes.Cut(text, []byte{'='})
	o.r.species = o.r.species[:0]
	for i, n := range printed.Numbers(rest, nil) {
		if i >= len(kinds) || !(n >= 1 && n <= float64(crystal.MaxSites-len(o.r.species))) {
			o.r.species = nil
			return
		}
		for range int(n) {
			o.r.species = append(o.r.species, kinds[i])
		}
	}
}
