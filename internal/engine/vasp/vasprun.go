package vasp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/engine/printed"
)

// maxXMLDepth is far above that of any file of VASP.
const maxXMLDepth = 64

// section is where in vasprun.xml an element stands.
type section uint8

const (
	secSkip section = iota
	secRoot
	secModeling
	secGenerator
	secINCAR
	secTags // parameters and their separators
	secKPoints
	secKGeneration
	secKList
	secAtomInfo
	secAtomList
	secAtom
	secStructure
	secCrystal
	secBasis
	secPositions
	secMovable
	secStep // calculation
	secSCF
	secSCFEnergy
	secForces
	secStress
	secEnergy
	secEigen
	secDOS
	secDOSTotal
)

// vasprun reads vasprun.xml as it grows: what is complete counts, and nothing
// of the ionic step that was cut.
type vasprun struct {
	r     *record
	stack []frame

	incar    settings         // as given; the parameters are what VASP made of them
	path     []crystal.Vector // k-points
	listed   bool             // they are a list, not a mesh
	here     *cell            // the structure that is read
	which    string           // its name
	step     *vaspStep
	row      []float64
	atomCell int
}

type frame struct {
	name    string
	section section
	attr    string
}

// vaspStep is the ionic step that is read.
type vaspStep struct {
	scf    scf
	last   energies // of the last electronic step
	now    energies // of the electronic step that is read
	block  energies
	full   bool // the electronic step has the whole list of energies
	cell   *cell
	forces int
	max    float64
	maxAny float64
	stress []float64
	fermi  *float64
	kin    *float64
	bands  *bands
	dos    *dos
}

// readVasprun reads until the file ends or breaks; the error is of the source
// alone.
func readVasprun(name string, src io.Reader) (*record, *vasprun, error) {
	v := &vasprun{r: newRecord(name), stack: make([]frame, 1, 16)}
	v.stack[0] = frame{section: secRoot}
	m := newMarkup(src)
	for {
		text, tag, err := m.next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				return nil, nil, fmt.Errorf("read %s: %w", name, err)
			}
			break
		}
		switch {
		case len(tag) == 0:
			v.r.damaged = true
		case tag[0] == '?' || tag[0] == '!':
		case tag[0] == '/':
			v.end(bytes.TrimSpace(tag[1:]), text)
		case tag[len(tag)-1] == '/':
		default:
			v.begin(tag)
		}
	}
	v.r.set.fill(v.incar)
	v.r.damaged = v.r.damaged || m.damaged
	if v.step != nil {
		v.r.partial = v.step.scf
	}
	return v.r, v, nil
}

func newRecord(file string) *record {
	return &record{
		file: file, scf: newSCF(), partial: newSCF(), previous: math.NaN(),
		ionic: printed.NewTable(engine.Column{Name: "step"}, engine.Column{Name: "energy", Unit: "eV"}, engine.Column{Name: "free_energy", Unit: "eV"},
			engine.Column{Name: "max_force", Unit: "eV/Å"}, engine.Column{Name: "pressure", Unit: "GPa"}, engine.Column{Name: "volume", Unit: "Å³"},
			engine.Column{Name: "scf_iterations"}, engine.Column{Name: "magnetization", Unit: "µB"}, engine.Column{Name: "temperature", Unit: "K"}),
		cycle: printed.NewTable(engine.Column{Name: "iteration"}, engine.Column{Name: "ionic_step"}, engine.Column{Name: "energy", Unit: "eV"},
			engine.Column{Name: "energy_change", Unit: "eV"}, engine.Column{Name: "band_change", Unit: "eV"}, engine.Column{Name: "residual"}, engine.Column{Name: "charge_residual"}),
	}
}

func (v *vasprun) begin(tag []byte) {
	name := tagName(tag)
	parent := v.stack[len(v.stack)-1].section
	f := frame{name: known(name), section: secSkip}
	if len(v.stack) >= maxXMLDepth {
		v.r.damaged = true
		return
	}
	f.section = v.enter(parent, f.name, tag)
	if f.name == "i" && parent != secSkip {
		f.attr = string(attribute(tag, `name="`))
	}
	v.stack = append(v.stack, f)
}

// known returns the names that matter as constants, so that the many others
// cost no memory.
func known(name []byte) string {
	for _, k := range knownNames {
		if string(name) == k {
			return k
		}
	}
	return "?"
}

var knownNames = []string{"r", "v", "i", "c", "rc", "set", "energy", "scstep", "time", "varray", "array", "calculation", "structure", "crystal", "modeling",
	"generator", "incar", "parameters", "separator", "kpoints", "generation", "atominfo", "eigenvalues", "dos", "total", "dimension", "field", "projected", "partial"}

// enter returns the section of an element by that of its parent.
func (v *vasprun) enter(parent section, name string, tag []byte) section {
	switch parent {
	case secRoot:
		if name == "modeling" {
			return secModeling
		}
	case secModeling:
		return v.enterTop(name, tag)
	case secTags:
		if name == "separator" {
			return secTags
		}
	case secKPoints:
		switch {
		case name == "generation":
			v.listed = bytes.HasPrefix(attribute(tag, `param="`), []byte("list"))
			return secKGeneration
		case name == "varray" && bytes.Equal(attribute(tag, `name="`), []byte("kpointlist")):
			v.path, v.r.nkpoints = v.path[:0], 0
			return secKList
		}
	case secAtomInfo:
		if name == "array" && bytes.Equal(attribute(tag, `name="`), []byte("atoms")) {
			return secAtomList
		}
	case secAtomList:
		switch name {
		case "set":
			return secAtomList
		case "rc":
			v.atomCell = 0
			return secAtom
		}
	case secStructure:
		return v.enterStructure(name, tag)
	case secCrystal:
		if name == "varray" && bytes.Equal(attribute(tag, `name="`), []byte("basis")) {
			v.row = v.row[:0]
			return secBasis
		}
	case secStep:
		return v.enterStep(name, tag)
	case secSCF:
		if name == "energy" {
			v.step.now, v.step.full = energies{}, false
			return secSCFEnergy
		}
	case secEigen:
		return v.enterEigen(name, tag)
	case secDOS:
		if name == "total" && v.step.dos == nil {
			v.step.dos = &dos{}
			return secDOSTotal
		}
	case secDOSTotal:
		if name == "set" && bytes.HasPrefix(attribute(tag, `comment="`), []byte("spin 2")) {
			v.step.dos.spin = 1
		}
		if name == "array" || name == "set" {
			return secDOSTotal
		}
	}
	return secSkip
}

func (v *vasprun) enterTop(name string, tag []byte) section {
	switch name {
	case "generator":
		return secGenerator
	case "incar":
		return secINCAR
	case "parameters":
		return secTags
	case "kpoints":
		if v.r.nkpoints > 0 {
			return secSkip // another list, for plots by VASP itself
		}
		return secKPoints
	case "atominfo":
		return secAtomInfo
	case "structure":
		v.here, v.which = &cell{}, string(attribute(tag, `name="`))
		return secStructure
	case "calculation":
		v.r.set.fill(v.incar)
		v.step = &vaspStep{scf: newSCF()}
		return secStep
	}
	return secSkip
}

func (v *vasprun) enterStructure(name string, tag []byte) section {
	switch name {
	case "crystal":
		return secCrystal
	case "varray":
		switch string(attribute(tag, `name="`)) {
		case "positions":
			return secPositions
		case "selective":
			return secMovable
		}
	}
	return secSkip
}

func (v *vasprun) enterStep(name string, tag []byte) section {
	switch name {
	case "scstep":
		return secSCF
	case "energy":
		return secEnergy
	case "structure":
		v.here, v.which = &cell{}, ""
		return secStructure
	case "varray":
		switch string(attribute(tag, `name="`)) {
		case "forces":
			v.step.forces = 0
			return secForces
		case "stress":
			v.step.stress = v.step.stress[:0]
			return secStress
		}
	case "eigenvalues":
		if v.step.bands == nil {
			v.step.bands = newBands(v.listed)
			return secEigen
		}
	case "dos":
		return secDOS
	}
	return secSkip
}

func (v *vasprun) enterEigen(name string, tag []byte) section {
	switch name {
	case "array":
		return secEigen
	case "set":
		comment := attribute(tag, `comment="`)
		switch {
		case bytes.HasPrefix(comment, []byte("spin")):
			spin, _ := printed.Count(comment, "spin")
			v.step.bands.beginSpin(spin - 1)
		case bytes.HasPrefix(comment, []byte("kpoint")):
			v.step.bands.beginK()
		}
		return secEigen
	}
	return secSkip
}

// end closes an element. A closing tag without its opening is damage and
// ignored; one that leaves others open closes them too.
func (v *vasprun) end(name, text []byte) {
	top := len(v.stack) - 1
	k := known(name)
	if v.stack[top].name != k {
		v.r.damaged = true
		for top > 0 && v.stack[top].name != k {
			top--
		}
		if top == 0 {
			return
		}
		text = nil
	}
	if top == 0 {
		v.r.damaged = true
		return
	}
	f, parent := v.stack[top], v.stack[top-1].section
	v.stack = v.stack[:top]
	v.leaf(f, parent, text)
	switch {
	case k == "modeling" && parent == secRoot:
		v.r.closed = true
	case k == "structure" && f.section == secStructure:
		v.endStructure(parent)
	case k == "calculation" && f.section == secStep:
		v.endStep()
	case k == "scstep" && f.section == secSCF:
		v.endSCF()
	case k == "set" && f.section == secEigen && v.step != nil && v.step.bands != nil:
		v.step.bands.endK()
	}
}

// leaf takes the text of an element without children.
func (v *vasprun) leaf(f frame, parent section, text []byte) {
	switch parent {
	case secSkip, secRoot, secModeling:
	case secGenerator:
		v.generator(f.attr, text)
	case secINCAR:
		if f.name == "i" {
			v.incar.take(f.attr, text)
		}
	case secTags:
		if f.name == "i" {
			v.r.set.take(f.attr, text)
		}
	case secKList:
		v.r.nkpoints++
		if k, ok := printed.Vector(text); ok && len(v.path) < maxBandNumbers {
			v.path = append(v.path, k)
		}
	case secAtom:
		if f.name == "c" {
			if v.atomCell == 0 && len(v.r.species) < crystal.MaxSites {
				v.r.species = append(v.r.species, elementOf(string(bytes.TrimSpace(text))))
			}
			v.atomCell++
		}
	case secBasis:
		v.row = printed.Numbers(text, v.row)
		if len(v.row) == 9 {
			v.here.lattice = crystal.Matrix{{v.row[0], v.row[1], v.row[2]}, {v.row[3], v.row[4], v.row[5]}, {v.row[6], v.row[7], v.row[8]}}
		} else if len(v.row) > 9 {
			v.row = v.row[:9]
		}
	case secPositions:
		if p, ok := printed.Vector(text); ok && len(v.here.positions) < crystal.MaxSites {
			v.here.positions = append(v.here.positions, p)
		}
	case secMovable:
		v.movable(text)
	default:
		v.stepLeaf(f, parent, text)
	}
}

// stepLeaf takes what stands in an ionic step.
func (v *vasprun) stepLeaf(f frame, parent section, text []byte) {
	s := v.step
	if s == nil {
		return
	}
	switch parent {
	case secSCFEnergy:
		takeEnergy(&s.now, f.attr, text)
		s.full = s.full || f.attr == "alphaZ"
	case secEnergy:
		takeEnergy(&s.block, f.attr, text)
		if f.attr == "kinetic" {
			takeFloat(&s.kin, text)
		}
	case secForces:
		if force, ok := printed.Vector(text); ok {
			v.force(force)
		}
	case secStress:
		if len(s.stress) < 9 {
			s.stress = printed.Numbers(text, s.stress)
		}
	case secEigen:
		if f.name == "r" {
			v.row = printed.Numbers(text, v.row[:0])
			if len(v.row) >= 2 {
				s.bands.add(v.row[0], v.row[1])
			}
		}
	case secDOS:
		if f.attr == "efermi" && s.fermi == nil {
			takeFloat(&s.fermi, text)
		}
	case secDOSTotal:
		if f.name == "r" {
			v.row = printed.Numbers(text, v.row[:0])
			s.dos.add(v.row)
		}
	}
}

func takeEnergy(e *energies, name string, text []byte) {
	x, _, ok := printed.Number(text)
	if !ok {
		x = math.NaN()
	}
	switch name {
	case "e_fr_energy":
		e.free, e.known = x, ok
	case "e_wo_entrp":
		e.without = x
	case "e_0_energy":
		e.zero = x
	}
}

func (v *vasprun) generator(name string, text []byte) {
	switch text := string(bytes.TrimSpace(text)); name {
	case "version":
		v.r.version = text
	case "date":
		v.r.date = digitsOf(text)
	case "time":
		v.r.clock = digitsOf(text)
	}
}

func (v *vasprun) movable(text []byte) {
	var m [3]bool
	for i, word := range bytes.Fields(text) {
		if i < 3 {
			m[i] = isTrue(word)
		}
	}
	if len(v.here.movable) < crystal.MaxSites {
		v.here.movable = append(v.here.movable, m)
	}
}

// force takes the force on the next atom: a coordinate that is fixed does not
// count against convergence.
func (v *vasprun) force(f [3]float64) {
	s := v.step
	free := f
	if v.r.initial != nil && s.forces < len(v.r.initial.movable) {
		for i, m := range v.r.initial.movable[s.forces] {
			if !m {
				free[i] = 0
			}
		}
	}
	if s.forces == 0 {
		s.max, s.maxAny = 0, 0
	}
	s.max, s.maxAny = larger(s.max, norm(free[:])), larger(s.maxAny, norm(f[:]))
	s.forces++
}

// larger is max that lets NaN through, so that a bad force is seen.
func larger(a, b float64) float64 {
	if math.IsNaN(a) || math.IsNaN(b) {
		return math.NaN()
	}
	return max(a, b)
}

func (v *vasprun) endStructure(parent section) {
	c := v.here
	v.here = &cell{}
	switch {
	case parent == secStep && v.step != nil:
		v.step.cell = c
	case parent == secModeling && v.which == "initialpos":
		v.r.initial = c
	case parent == secModeling && v.which == "finalpos" && len(c.positions) > 0:
		v.r.cell = c
	}
}

func (v *vasprun) endSCF() {
	s := v.step
	if s == nil || !s.now.known {
		return
	}
	s.scf.add(s.now.free)
	v.r.total++
	s.last = s.now
	if s.full {
		s.scf.ground = s.scf.n
		s.scf.atGround = scfPoint{change: s.scf.change, e: s.now, present: true}
	}
	v.r.cycle.Add(float64(s.scf.n), float64(v.r.steps+1), s.now.free, s.scf.change, math.NaN(), math.NaN(), math.NaN())
}

// endStep takes a complete ionic step. The energies beside the free energy are
// corrected by those of the last electronic step, since VASP 5 writes others in
// their place.
func (v *vasprun) endStep() {
	s, r := v.step, v.r
	v.step = nil
	if s == nil || !s.block.known && s.scf.n == 0 && s.cell == nil {
		return
	}
	last := s.last
	if r.set.dfpt && s.scf.atGround.present {
		last = s.scf.atGround.e
	}
	if r.steps > 0 {
		r.previous = r.energies.free
		if r.scf.n > 0 && !r.scf.met(&r.set) {
			r.missed++
		}
	}
	r.steps++
	r.scf = s.scf
	r.energies = s.block
	if s.block.known && last.known {
		r.energies.zero = s.block.free + last.zero - last.free
		r.energies.without = s.block.free + last.without - last.free
	} else if !s.block.known {
		r.energies = last
	}
	if s.cell != nil && len(s.cell.positions) > 0 {
		r.cell = s.cell
	}
	r.maxForce, r.anyForce, r.stress, r.pressure = nil, nil, nil, nil
	if s.forces > 0 {
		r.maxForce, r.anyForce = new(s.max), new(s.maxAny)
	}
	if len(s.stress) == 9 {
		r.stress = s.stress
		r.pressure = new((s.stress[0] + s.stress[4] + s.stress[8]) / 3)
	}
	if s.fermi != nil {
		r.fermi = s.fermi
	}
	if s.bands != nil && s.bands.spins[0].seen {
		r.bands = s.bands
	}
	if s.dos != nil && len(s.dos.energy) > 0 {
		r.dos = s.dos
	}
	r.kinetic = s.kin
	r.addIonic()
}

// addIonic notes the complete step in the series.
func (r *record) addIonic() {
	volume := math.NaN()
	if r.cell != nil {
		volume = math.Abs(r.cell.lattice.Det())
	}
	r.ionic.Add(float64(r.steps), r.energies.zero, r.energies.free, orNaN(r.anyForce), orNaN(r.pressure)*crystal.KbarGPa, volume, float64(r.scf.n), orNaN(r.moment), orNaN(r.temp))
}

func orNaN(v *float64) float64 {
	if v == nil {
		return math.NaN()
	}
	return *v
}

// elementOf is the element in the name of a potential: "Li_sv" is Li, and VASP
// 5 calls some "r".
func elementOf(name string) string {
	name, _, _ = strings.Cut(name, "_")
	name, _, _ = strings.Cut(name, ".")
	return strings.TrimSpace(name)
}

func digitsOf(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, s)
}
