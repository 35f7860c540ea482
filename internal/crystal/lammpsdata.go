package crystal

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
)

// LAMMPSFile is a data file of LAMMPS in the units it was written in. Image
// flags do not matter to a crystal; charges, bonds and velocities are not read.
type LAMMPSFile struct {
	Units    string // "metal"; empty when the file does not say
	Timestep int64  // at which it was written; 0 when the file does not say
	Lattice  Matrix
	Origin   Vector // the corner of the box
	Types    []LAMMPSType
	Atoms    []LAMMPSAtom // in the order of their ids
}

// LAMMPSType is what the file says of an atom type.
type LAMMPSType struct {
	Label   string
	Mass    float64 // 0 when not given
	comment string  // after the mass
}

// Symbol is the element that the label of the type, or the comment after its
// mass, names; "" when neither does.
func (t LAMMPSType) Symbol() string {
	if symbol, ok := canonicalSymbol(t.Label); ok {
		return symbol
	}
	e, _ := ElementOf(strings.Fields(t.comment + " ?")[0])
	return e.Symbol
}

// LAMMPSAtom is a line of Atoms.
type LAMMPSAtom struct {
	ID       int
	Type     int // index in Types
	Position Vector
	line     int
}

// ParseLAMMPSData reads a data file in any units. The style is that of the
// atoms when the file does not name one; when it is empty as well, it is told
// from the columns. With an error comes what the file says before its fault.
func ParseLAMMPSData(data []byte, style string) (*LAMMPSFile, error) {
	text, err := open(data, "LAMMPS data")
	if err != nil {
		return &LAMMPSFile{}, err
	}
	r := &lammpsReader{lines: lines{rest: text}, counts: map[string]int{}, labels: map[string]int{}, buf: make([]word, 0, maxLAMMPSWords), style: style}
	f := &LAMMPSFile{}
	if err = r.read(); err == nil {
		err = r.fill(f)
	}
	f.Units, f.Timestep, f.Types = r.units, r.timestep, r.types
	return f, err
}

// ReadLAMMPSData reads a data file in Å (units metal or real) as a structure.
// elements[i] is the element of atom type i+1; where it is nil or empty, the
// element is that of the type's label, of the comment in Masses, or the one
// with the type's mass. The sites come in the order of their ids; the corner
// of the box becomes the origin.
func ReadLAMMPSData(data []byte, elements []string) (*Structure, error) {
	f, err := ParseLAMMPSData(data, "")
	if err != nil {
		return nil, err
	}
	if f.Units != "" && f.Units != "metal" && f.Units != "real" {
		return nil, failf(1, 0, "the file is in the units %s, not in Å (metal or real)", short(f.Units))
	}
	return f.structure(elements)
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
	style    string         // of atoms, when the file does not say
	units    string         // of the first line
	timestep int64          // of the first line
	counts   map[string]int // of the header: "atoms", "atom types"
	bounds   [3]*[2]float64 // xlo xhi and so on
	tilt     Vector         // xy xz yz
	general  [3]*Vector     // avec, bvec, cvec
	origin   Vector         // of a general box
	types    []LAMMPSType
	labels   map[string]int // index of a type by its label
	atoms    []lammpsAtom
	found    bool // an Atoms section was there
	sections int
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
	r.first()
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

// first reads the first line, which is a comment: "LAMMPS data file via
// write_data, version 3 Nov 2022, timestep = 12, units = metal".
func (r *lammpsReader) first() {
	line, _ := r.next()
	for part := range strings.SplitSeq(line, ",") {
		name, value, _ := strings.Cut(part, "=")
		switch value = strings.Fields(value + " ?")[0]; {
		case value == "?":
		case strings.TrimSpace(name) == "timestep":
			r.timestep, _ = strconv.ParseInt(value, 10, 64)
		case strings.TrimSpace(name) == "units":
			r.units = value
		}
	}
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
	r.types[i].Mass, r.types[i].comment = mass, comment
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
	r.types[i].Label = w[1].text
	r.labels[w[1].text] = i
	return nil
}

// typeOf finds the index of an atom type by its number or its label.
func (r *lammpsReader) typeOf(w word, line int) (int, error) {
	if r.types == nil {
		r.types = make([]LAMMPSType, r.counts["atom types"])
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

// lammpsLayouts are the styles that are read. The first untold of them can be
// told from unnamed lines: those first that lines of their length most likely
// are.
var lammpsLayouts = []lammpsLayout{
	{"atomic", 1, 2}, {"molecular", 2, 3}, {"charge", 1, 3}, {"full", 2, 4}, {"sphere", 1, 4},
	{"bond", 2, 3}, {"angle", 2, 3}, {"dipole", 1, 3}, {"dpd", 1, 3}, {"mdpd", 1, 3}, {"edpd", 1, 4}, {"electron", 1, 5}, {"ellipsoid", 1, 4},
	{"body", 1, 4}, {"peri", 1, 4}, {"line", 2, 5}, {"tri", 2, 5}, {"spin", 1, 2}, {"hybrid", 1, 2},
}

const untold = 5

// layout takes the style from the comment after Atoms or from the caller;
// without one, the style whose type column holds types in every line.
func (r *lammpsReader) layout(comment string) (lammpsLayout, error) {
	if name := strings.Fields(comment + " " + r.style + " ?")[0]; name != "?" {
		for _, l := range lammpsLayouts {
			if l.name == name {
				return l, nil
			}
		}
		return lammpsLayout{}, failFix(r.n, 1, "write the atoms in the style atomic, charge, molecular or full", "the atom style %s is not read", short(name))
	}
	for _, l := range lammpsLayouts[:untold] {
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

// fill hands over what was read, with the types of the atoms known.
func (r *lammpsReader) fill(f *LAMMPSFile) error {
	var err error
	if f.Lattice, f.Origin, err = r.box(); err != nil {
		return err
	}
	slices.SortStableFunc(r.atoms, func(a, b lammpsAtom) int { return cmp.Compare(a.id, b.id) })
	var ps problems
	f.Atoms = make([]LAMMPSAtom, len(r.atoms))
	for i, a := range r.atoms {
		if i > 0 && r.atoms[i-1].id == a.id {
			ps.at(a.line, 1, "the atom %d is given twice", a.id)
		}
		f.Atoms[i] = LAMMPSAtom{ID: a.id, Position: a.position, line: a.line}
		if f.Atoms[i].Type, err = r.typeOf(a.kind, a.line); err != nil {
			ps.at(a.line, a.kind.column, "%s is not one of the %d atom types", quote(a.kind.text), len(r.types))
		}
	}
	return ps.err()
}

// box returns the cell and its corner.
func (r *lammpsReader) box() (Matrix, Vector, error) {
	if r.general[0] != nil && r.general[1] != nil && r.general[2] != nil {
		return Matrix{*r.general[0], *r.general[1], *r.general[2]}, r.origin, nil
	}
	var length, origin Vector
	for k, b := range r.bounds {
		if b == nil {
			return Matrix{}, origin, failf(0, 0, "the box is not whole: %[1]clo %[1]chi is missing", "xyz"[k])
		}
		length[k], origin[k] = b[1]-b[0], b[0]
	}
	return Matrix{{length[0], 0, 0}, {r.tilt[0], length[1], 0}, {r.tilt[1], r.tilt[2], length[2]}}, origin, nil
}

// structure takes the file's units of length for Å.
func (f *LAMMPSFile) structure(elements []string) (*Structure, error) {
	s := &Structure{Lattice: &f.Lattice, Cartesian: true}
	names := make([]string, len(f.Types))
	var ps problems
	for _, a := range f.Atoms {
		if names[a.Type] == "" {
			names[a.Type] = f.name(&ps, a.Type, elements)
		}
		s.Positions = append(s.Positions, a.Position.sub(f.Origin))
		s.Species = append(s.Species, names[a.Type])
	}
	if err := ps.err(); err != nil {
		return nil, err
	}
	for _, p := range s.Validate() {
		var site int
		if scanIndex(p.Field, "positions", &site) && site < len(f.Atoms) {
			p.Line = f.Atoms[site].line
		}
		ps.add(p)
	}
	if err := ps.err(); err != nil {
		return nil, err
	}
	return s, nil
}

// name returns the element of a type; "?" when the file does not say it, which
// is a problem.
func (f *LAMMPSFile) name(ps *problems, i int, elements []string) string {
	if i < len(elements) && elements[i] != "" {
		return elements[i]
	}
	t := f.Types[i]
	if symbol := t.Symbol(); symbol != "" {
		return symbol
	}
	// A mass of exactly 1 may be the unit of a model without elements.
	if symbol := ElementOfMass(t.Mass); symbol != "" && (t.Mass != 1 || f.Units != "") {
		return symbol
	}
	if t.Mass == 0 {
		ps.at(0, 0, "the file does not say which element atom type %d is: it gives no mass", i+1)
	} else {
		ps.at(0, 0, "the file does not say which element atom type %d is: its mass %v is that of none", i+1, t.Mass)
	}
	ps.fix("name the elements of the atom types in their order, or write them as comments in Masses")
	return "?"
}

// ElementOfMass returns the element that a mass in u means, "" when there is
// none or more than one.
func ElementOfMass(mass float64) string {
	// Older tables differ by up to this; it tells CH₂ (14.027) from nitrogen
	// (14.007).
	tolerance := 0.010 + 0.0003*mass
	if mass > 20 { // no groups of light atoms weigh as much as one atom here
		tolerance = max(tolerance, 0.05) // people write 28.06 for silicon and 27 for aluminium
	}
	symbol, nearest := "", tolerance
	for _, e := range append(elements[:], deuterium) {
		switch d := math.Abs(e.Mass - mass); {
		case d < nearest:
			symbol, nearest = e.Symbol, d
		case d == nearest:
			symbol = "" // two elements that have no stable isotope
		}
	}
	return symbol
}
