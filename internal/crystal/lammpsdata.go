package crystal

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
)

// ReadLAMMPSData reads a data file of LAMMPS in Å (units metal or real).
// elements[i] is the element of atom type i+1; where it is nil or empty, the
// element is that of the type's label, of the comment in Masses, or the one
// with the type's mass. The sites come in the order of their ids; the corner
// of the box becomes the origin. Image flags do not matter to a crystal;
// charges, bonds and velocities are not read.
func ReadLAMMPSData(data []byte, elements []string) (*Structure, error) {
	text, err := open(data, "LAMMPS data")
	if err != nil {
		return nil, err
	}
	r := &lammpsReader{lines: lines{rest: text}, counts: map[string]int{}, labels: map[string]int{}, buf: make([]word, 0, maxLAMMPSWords), elements: elements}
	if err := r.read(); err != nil {
		return nil, err
	}
	return r.structure()
}

// maxLAMMPSWords is more than the columns of any atom style that is read.
const maxLAMMPSWords = 16

// maxAtomTypes is far beyond the potentials there are; types are few, and
// tables are made by their number.
const maxAtomTypes = 10_000

// maxLAMMPSSections is several times as many as LAMMPS knows.
const maxLAMMPSSections = 200

type lammpsReader struct {
	lines
	buf      []word
	elements []string       // given by the caller, by type
	counts   map[string]int // of the header: "atoms", "atom types"
	bounds   [3]*[2]float64 // xlo xhi and so on
	tilt     Vector         // xy xz yz
	general  [3]*Vector     // avec, bvec, cvec
	origin   Vector         // of a general box
	types    []lammpsType
	labels   map[string]int // index of a type by its label
	atoms    []lammpsAtom
	found    bool // an Atoms section was there
	sections int
}

// lammpsType is an atom type: what the file says of it.
type lammpsType struct {
	label   string
	mass    float64 // 0 means not given
	comment string  // after the mass
}

// lammpsAtom is a line of Atoms. The type is kept as written until the labels
// are known, which may come later.
type lammpsAtom struct {
	id       int
	kind     word
	line     int
	position Vector
}

func (r *lammpsReader) read() error {
	if first, _ := r.next(); strings.Contains(first, "units = ") {
		_, units, _ := strings.Cut(first, "units = ")
		if unit := strings.Fields(units + " ?")[0]; unit != "metal" && unit != "real" {
			return failf(r.n, 0, "the file is in the units %s, not in Å (metal or real)", short(unit))
		}
	}
	for {
		line, ok := r.next()
		if !ok {
			break
		}
		content, comment, _ := strings.Cut(line, "#")
		r.buf = words(content, r.buf)
		if len(r.buf) == 0 {
			continue
		}
		if err := r.entry(strings.TrimSpace(content), strings.TrimSpace(comment)); err != nil {
			return err
		}
	}
	if !r.found {
		return failf(r.n, 0, "the file has no section Atoms")
	}
	return nil
}

// entry reads a line of the header, or a section and its lines.
func (r *lammpsReader) entry(content, comment string) error {
	w := r.buf
	if c := content[0]; c >= 'A' && c <= 'Z' {
		return r.section(content, comment)
	}
	switch {
	case len(w) == 4 && len(w[2].text) == 3 && strings.HasSuffix(w[3].text, "hi"):
		return r.readBounds(w)
	case len(w) == 6 && w[3].text == "xy":
		return r.header(w, &r.tilt)
	case len(w) == 4 && slices.Contains([]string{"avec", "bvec", "cvec"}, w[3].text):
		r.general[w[3].text[0]-'a'] = new(Vector)
		return r.header(w, r.general[w[3].text[0]-'a'])
	case len(w) == 5 && w[3].text == "abc" && w[4].text == "origin":
		return r.header(w, &r.origin)
	}
	n, err := strconv.Atoi(w[0].text)
	if err != nil || len(w) < 2 || n < 0 {
		return failf(r.n, w[0].column, "%s is not a line of a LAMMPS data file: a number and what it counts, or a section", quote(content))
	}
	r.counts[lammpsCountName(w[1:])] = n
	switch {
	case r.counts["atoms"] > MaxSites:
		return failf(r.n, w[0].column, "%d atoms are more than the %d allowed", n, MaxSites)
	case r.counts["atom types"] > maxAtomTypes:
		return failf(r.n, w[0].column, "%d atom types are more than the %d allowed", n, maxAtomTypes)
	}
	return nil
}

// lammpsCountName keeps the two counts that matter apart from all others.
func lammpsCountName(w []word) string {
	switch {
	case len(w) == 1 && w[0].text == "atoms":
		return "atoms"
	case len(w) == 2 && w[0].text == "atom" && w[1].text == "types":
		return "atom types"
	}
	return "others"
}

func (r *lammpsReader) header(w []word, v *Vector) error {
	var bad int
	var ok bool
	if *v, bad, ok = parseVector(w); !ok {
		return failf(r.n, w[bad].column, "%s is not a finite number", quote(w[bad].text))
	}
	return nil
}

func (r *lammpsReader) readBounds(w []word) error {
	k := strings.IndexByte("xyz", w[2].text[0])
	if k < 0 || w[2].text[1:] != "lo" || w[3].text != w[2].text[:1]+"hi" {
		return failf(r.n, w[2].column, "the bounds of the box must end in xlo xhi, ylo yhi or zlo zhi")
	}
	var b [2]float64
	for i := range 2 {
		var ok bool
		if b[i], ok = parseNumber(w[i].text); !ok {
			return failf(r.n, w[i].column, "%s is not a finite number", quote(w[i].text))
		}
	}
	if b[1] <= b[0] {
		return failf(r.n, w[0].column, "the box has no size along %c: %v to %v", "xyz"[k], b[0], b[1])
	}
	r.bounds[k] = &b
	return nil
}

func (r *lammpsReader) section(name, comment string) error {
	if r.sections++; r.sections > maxLAMMPSSections {
		return failf(r.n, 1, "the file has more than %d sections", maxLAMMPSSections)
	}
	switch name {
	case "Atoms":
		if r.found {
			return failf(r.n, 1, "the section Atoms is given twice")
		}
		r.found = true
		return r.readAtoms(comment)
	case "Masses":
		return r.eachLine(func(w []word, comment string) error { return r.readMass(w, comment) })
	case "Atom Type Labels":
		return r.eachLine(func(w []word, _ string) error { return r.readLabel(w) })
	}
	// Fixes add sections of their own, so an unknown name is no fault, unless
	// it is a letter away from a section that matters.
	if like := nearest(name, []string{"atoms", "masses", "atom type labels"}); like != "" && editDistance(strings.ToLower(name), like) < 2 {
		return failFix(r.n, 1, "the sections are Atoms, Masses and so on, with these capitals", "%s is not a section of a LAMMPS data file", quote(name))
	}
	return r.eachLine(func([]word, string) error { return nil })
}

// eachLine hands out the lines of a section, up to the next one.
func (r *lammpsReader) eachLine(f func(w []word, comment string) error) error {
	for {
		line, ok := r.peek()
		if !ok {
			return nil
		}
		content, comment, _ := strings.Cut(line, "#")
		w := words(content, r.buf)
		if len(w) > 0 && isLAMMPSSection(strings.TrimSpace(content)) {
			return nil
		}
		r.next()
		if len(w) == 0 {
			continue
		}
		if err := f(w, strings.TrimSpace(comment)); err != nil {
			return err
		}
	}
}

// isLAMMPSSection reports whether a line is the name of a section: capital
// first, and no number in it, which the line of a type with a label has.
func isLAMMPSSection(content string) bool {
	if content[0] < 'A' || content[0] > 'Z' || len(content) > maxLabel {
		return false
	}
	for w := range strings.FieldsSeq(content) {
		if _, number := parseNumber(w); number {
			return false
		}
	}
	return true
}

func (r *lammpsReader) readMass(w []word, comment string) error {
	i, err := r.typeOf(w[0], r.n)
	if err != nil {
		return err
	}
	if len(w) < 2 {
		return failf(r.n, w[0].column, "the mass is missing")
	}
	mass, ok := parseNumber(w[1].text)
	if !ok || mass <= 0 {
		return failf(r.n, w[1].column, "%s is not a mass", quote(w[1].text))
	}
	r.types[i].mass, r.types[i].comment = mass, comment
	return nil
}

func (r *lammpsReader) readLabel(w []word) error {
	i, err := r.typeOf(w[0], r.n)
	if err != nil {
		return err
	}
	if len(w) < 2 {
		return failf(r.n, w[0].column, "the label of the type is missing")
	}
	r.types[i].label = w[1].text
	r.labels[w[1].text] = i
	return nil
}

// typeOf finds the index of an atom type by its number or its label.
func (r *lammpsReader) typeOf(w word, line int) (int, error) {
	if r.types == nil {
		r.types = make([]lammpsType, r.counts["atom types"])
	}
	if n, err := strconv.Atoi(w.text); err == nil && n >= 1 && n <= len(r.types) {
		return n - 1, nil
	}
	if i, ok := r.labels[w.text]; ok {
		return i, nil
	}
	return 0, failf(line, w.column, "%s is not one of the %d atom types", quote(w.text), len(r.types))
}

func (r *lammpsReader) readAtoms(style string) error {
	n := r.counts["atoms"]
	switch {
	case n == 0:
		return failf(r.n, 1, "the header does not say how many atoms there are")
	case n > len(r.rest)/10+1: // the shortest line is "1 1 0 0 0" and a line end
		return failf(r.n, 1, "the file is too short for %d atoms", n)
	}
	layout, err := r.layout(style)
	if err != nil {
		return err
	}
	var ps problems
	start := r.n
	r.atoms = make([]lammpsAtom, 0, n)
	err = r.eachLine(func(w []word, _ string) error {
		if len(r.atoms) == n {
			return failf(r.n, 1, "the section Atoms has more lines than the %d atoms of the header", n)
		}
		r.atom(&ps, w, layout)
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(r.atoms) < n:
		ps.at(start, 1, "the section Atoms has %d lines for the %d atoms of the header", len(r.atoms), n)
	}
	return ps.err()
}

func (r *lammpsReader) atom(ps *problems, w []word, layout lammpsLayout) {
	a := lammpsAtom{line: r.n}
	defer func() { r.atoms = append(r.atoms, a) }()
	if len(w) < layout.position+3 {
		ps.at(r.n, 1, "a line of the atom style %s needs %d values, it has %d", layout.name, layout.position+3, len(w))
		return
	}
	var err error
	if a.id, err = strconv.Atoi(w[0].text); err != nil || a.id < 1 {
		ps.at(r.n, w[0].column, "%s is not the id of an atom", quote(w[0].text))
	}
	a.kind = w[layout.kind]
	v, bad, ok := parseVector(w[layout.position:])
	if !ok {
		ps.vectorProblem(r.n, w[layout.position:], bad, "the position")
	}
	a.position = v
}

// lammpsLayout says where a style of atoms has its type and position.
type lammpsLayout struct {
	name           string
	kind, position int
}

// lammpsLayouts are the styles that are read, those first that unnamed lines of
// their length most likely are.
var lammpsLayouts = []lammpsLayout{
	{"atomic", 1, 2}, {"molecular", 2, 3}, {"charge", 1, 3}, {"full", 2, 4}, {"sphere", 1, 4},
	{"bond", 2, 3}, {"angle", 2, 3}, {"dipole", 1, 3},
}

// layout takes the style from the comment after Atoms; without one, the style
// whose type column holds types in every line.
func (r *lammpsReader) layout(style string) (lammpsLayout, error) {
	if name := strings.Fields(style + " ?")[0]; name != "?" {
		for _, l := range lammpsLayouts {
			if l.name == name {
				return l, nil
			}
		}
		return lammpsLayout{}, failFix(r.n, 1, "write the atoms in the style atomic, charge, molecular or full", "the atom style %s is not read", short(name))
	}
	for _, l := range lammpsLayouts[:5] {
		if r.fits(l) {
			return l, nil
		}
	}
	return lammpsLayout{}, failFix(r.n, 1, "name the style after the section: Atoms # full", "the atom style cannot be told from the columns")
}

// fits reports whether all lines of the section ahead have the columns of a
// style, with or without image flags, and types where it has types.
func (r *lammpsReader) fits(l lammpsLayout) bool {
	ahead, some := *r, false
	ahead.buf = make([]word, 0, maxLAMMPSWords)
	stop := errors.New("the line does not fit")
	err := ahead.eachLine(func(w []word, _ string) error {
		some = true
		if len(w) != l.position+3 && len(w) != l.position+6 {
			return stop
		}
		if _, err := ahead.typeOf(w[l.kind], ahead.n); err != nil {
			return stop
		}
		for _, flag := range w[l.position+3:] {
			if _, err := strconv.Atoi(flag.text); err != nil {
				return stop
			}
		}
		return nil
	})
	return some && err == nil
}

func (r *lammpsReader) structure() (*Structure, error) {
	s := &Structure{Cartesian: true}
	var origin Vector
	var err error
	if s.Lattice, origin, err = r.box(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(r.atoms, func(a, b lammpsAtom) int { return cmp.Compare(a.id, b.id) })
	names, err := r.names()
	if err != nil {
		return nil, err
	}
	var ps problems
	for i, a := range r.atoms {
		if i > 0 && r.atoms[i-1].id == a.id {
			ps.at(a.line, 1, "the atom %d is given twice", a.id)
		}
		s.Positions = append(s.Positions, a.position.sub(origin))
		s.Species = append(s.Species, names[a.kind.text])
	}
	for _, p := range s.Validate() {
		var site int
		if scanIndex(p.Field, "positions", &site) && site < len(r.atoms) {
			p.Line = r.atoms[site].line
		}
		ps.add(p)
	}
	if err := ps.err(); err != nil {
		return nil, err
	}
	return s, nil
}

// box returns the cell and its corner.
func (r *lammpsReader) box() (*Matrix, Vector, error) {
	if r.general[0] != nil && r.general[1] != nil && r.general[2] != nil {
		return &Matrix{*r.general[0], *r.general[1], *r.general[2]}, r.origin, nil
	}
	var length, origin Vector
	for k, b := range r.bounds {
		if b == nil {
			return nil, origin, failf(0, 0, "the box is not whole: %[1]clo %[1]chi is missing", "xyz"[k])
		}
		length[k], origin[k] = b[1]-b[0], b[0]
	}
	return &Matrix{{length[0], 0, 0}, {r.tilt[0], length[1], 0}, {r.tilt[1], r.tilt[2], length[2]}}, origin, nil
}

// names returns the elements of the types that atoms have, by the words that
// the atoms name them with.
func (r *lammpsReader) names() (map[string]string, error) {
	names := map[string]string{}
	var ps problems
	for _, a := range r.atoms {
		if _, ok := names[a.kind.text]; ok {
			continue
		}
		if len(names) > maxAtomTypes {
			break
		}
		names[a.kind.text] = ""
		i, err := r.typeOf(a.kind, a.line)
		if err != nil {
			ps.at(a.line, a.kind.column, "%s is not one of the %d atom types", quote(a.kind.text), len(r.types))
			continue
		}
		names[a.kind.text] = r.name(&ps, i)
	}
	return names, ps.err()
}

// name returns the element of a type.
func (r *lammpsReader) name(ps *problems, i int) string {
	if i < len(r.elements) && r.elements[i] != "" {
		return r.elements[i]
	}
	t := r.types[i]
	if el, ok := canonicalSymbol(t.label); ok {
		return el
	}
	comment := strings.Fields(t.comment + " ?")[0]
	if el, ok := ElementOf(comment); ok {
		return el.Symbol
	}
	if el, ok := elementOfMass(t.mass); ok {
		return el
	}
	if t.mass == 0 {
		ps.at(0, 0, "the file does not say which element atom type %d is: it gives no mass", i+1)
	} else {
		ps.at(0, 0, "the file does not say which element atom type %d is: its mass %v is that of none", i+1, t.mass)
	}
	ps.fix("name the elements of the atom types in their order, or write them as comments in Masses")
	return ""
}

// elementOfMass returns the element that a mass means. A mass of exactly 1 may
// be the unit of a model without elements.
func elementOfMass(mass float64) (string, bool) {
	if mass == 1 {
		return "", false
	}
	best, difference := Element{}, math.Inf(1)
	for _, e := range append(elements[:], deuterium) {
		if d := math.Abs(e.Mass - mass); d < difference {
			best, difference = e, d
		}
	}
	// Older tables differ by up to this; it tells CH₂ (14.027) from nitrogen
	// (14.007) and cobalt (58.93) from nickel (58.69).
	return best.Symbol, difference < 0.010+0.0003*mass
}
