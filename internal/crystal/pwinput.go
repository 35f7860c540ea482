package crystal

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ReadPWInput reads the structure of an input of pw.x: the cell by ibrav or
// CELL_PARAMETERS, and ATOMIC_POSITIONS in every unit but crystal_sg, which
// needs a table of space groups. Labels such as Fe1 are kept when one of them
// is more than its element. Magnetisations, which are shares of the valence and
// not moments, and velocities are not read.
func ReadPWInput(data []byte) (s *Structure, warnings []string, err error) {
	text, err := open(data, "pw.x input")
	if err != nil {
		return nil, nil, err
	}
	r := &pwReader{lines: lines{rest: text}, system: map[string]pwValue{}, buf: make([]word, 0, maxPWWords)}
	r.read()
	s = r.structure()
	// The cards are judged when all of them are known, after their lines.
	slices.SortStableFunc(r.ps.list, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	if err := r.ps.err(); err != nil {
		return nil, nil, err
	}
	if ps := s.Validate(); len(ps) > 0 {
		return nil, nil, &ParseError{Problems: r.place(ps)}
	}
	return s, r.warnings, nil
}

// maxPWWords is more than an atom with its flags has.
const maxPWWords = 10

// pwCards are the cards of pw.x.
var pwCards = [...]string{
	"ATOMIC_SPECIES", "ATOMIC_POSITIONS", "K_POINTS", "ADDITIONAL_K_POINTS", "CELL_PARAMETERS", "CONSTRAINTS",
	"OCCUPATIONS", "ATOMIC_VELOCITIES", "ATOMIC_FORCES", "SOLVENTS", "HUBBARD",
}

// pwStructureVariables are those of &SYSTEM that say where the atoms are.
var pwStructureVariables = [...]string{
	"ibrav", "nat", "space_group", "a", "b", "c", "cosab", "cosac", "cosbc",
	"celldm(1)", "celldm(2)", "celldm(3)", "celldm(4)", "celldm(5)", "celldm(6)",
}

type pwReader struct {
	lines
	buf      []word
	warnings []string
	ps       problems
	system   map[string]pwValue // the pwStructureVariables
	cell     pwCard             // CELL_PARAMETERS
	vectors  []Vector
	atoms    pwCard // ATOMIC_POSITIONS
	sites    []pwSite
}

// pwValue is what a variable is set to.
type pwValue struct {
	word
	line int
}

// pwCard is the head of a card.
type pwCard struct {
	line   int // 0 when the card is absent
	column int // of the option
	option string
}

type pwSite struct {
	label    string
	position Vector
	fixed    [3]bool
	line     int
}

// read walks through namelists and cards.
func (r *pwReader) read() {
	card := ""
	for r.ps.omitted == 0 {
		line, ok := r.next()
		if !ok {
			return
		}
		w := words(line, r.buf)
		switch {
		case len(w) == 0 || w[0].text[0] == '!' || w[0].text[0] == '#':
		case w[0].text[0] == '&' && card == "":
			r.namelist(line, w[0])
		default:
			if end := strings.IndexAny(line, "!#"); end >= 0 {
				line = line[:end]
			}
			if w = words(line, r.buf); r.card(line, w) {
				card = strings.ToUpper(cardName(w[0].text))
				continue
			}
			r.row(card, w)
		}
	}
}

// cardName returns the leading letters and underscores of s, which are the name
// of a card.
func cardName(s string) string {
	rest := strings.TrimLeft(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
	return s[:len(s)-len(rest)]
}

// card reads the head of a card: its name and, maybe in brackets, its option.
func (r *pwReader) card(line string, w []word) bool {
	if !slices.Contains(pwCards[:], strings.ToUpper(cardName(w[0].text))) {
		return false
	}
	name := cardName(w[0].text)
	rest := strings.TrimLeft(line[w[0].column-1+len(name):], " \t{(")
	option := strings.ToLower(strings.TrimRight(rest, " \t})"))
	if end := strings.IndexAny(option, " \t=)}"); end >= 0 {
		option = option[:end]
	}
	head := pwCard{line: r.n, column: len(line) - len(rest) + 1, option: option}
	switch strings.ToUpper(name) {
	case "CELL_PARAMETERS":
		r.cell, r.vectors = head, nil
	case "ATOMIC_POSITIONS":
		r.atoms, r.sites = head, nil
	case "ATOMIC_VELOCITIES":
		r.warnings = append(r.warnings, "the velocities are not read")
	}
	return true
}

// row reads a line of a card.
func (r *pwReader) row(card string, w []word) {
	switch card {
	case "":
		r.ps.at(r.n, w[0].column, "%s is neither in a namelist nor in a card", quote(w[0].text))
	case "CELL_PARAMETERS":
		if len(r.vectors) < 3 {
			r.vectors = append(r.vectors, r.vector(w, fmt.Sprintf("cell vector %d", len(r.vectors)+1)))
		}
	case "ATOMIC_POSITIONS":
		if len(r.sites) < MaxSites {
			site := pwSite{label: w[0].text, line: r.n}
			site.position = r.vector(w[1:], "the position of "+short(w[0].text))
			site.fixed = r.flags(w[min(4, len(w)):])
			r.sites = append(r.sites, site)
		}
	}
}

// vector reads three numbers or fractions.
func (r *pwReader) vector(w []word, what string) (v Vector) {
	for k := range v {
		if k >= len(w) {
			r.ps.at(r.n, 0, "%s needs three numbers, the line has %d", what, k)
			return v
		}
		x, ok := pwNumber(w[k].text)
		if !ok {
			r.ps.at(r.n, w[k].column, "%s is neither a number nor a fraction (%s)", quote(w[k].text), what)
			r.ps.fix("write the number itself: formulas are not computed")
			return v
		}
		v[k] = x
	}
	return v
}

// pwNumber reads a number or a fraction of two.
func pwNumber(s string) (float64, bool) {
	over, under, fraction := strings.Cut(s, "/")
	x, ok := parseNumber(over)
	if !ok || !fraction {
		return x, ok
	}
	y, ok := parseNumber(under)
	return x / y, ok && y != 0
}

// flags reads the numbers after a position, 0 for what may not move.
func (r *pwReader) flags(w []word) (fixed [3]bool) {
	if len(w) < 3 {
		return fixed
	}
	for k := range fixed {
		if w[k].text != "0" && w[k].text != "1" {
			r.ps.at(r.n, w[k].column, "%s is not a flag 0 or 1", quote(w[k].text))
			return fixed
		}
		fixed[k] = w[k].text == "0"
	}
	return fixed
}

// structure puts together what was read; it adds what is missing to the
// problems.
func (r *pwReader) structure() *Structure {
	s := &Structure{Lattice: new(Matrix)}
	alat := r.lattice(s.Lattice)
	if r.atoms.line == 0 {
		r.ps.at(r.n, 0, "the card ATOMIC_POSITIONS is missing")
		return s
	}
	unit := r.positionUnit(s, alat)
	r.count()
	labelled, held := false, false
	for _, site := range r.sites {
		s.Species = append(s.Species, r.element(site))
		s.Positions = append(s.Positions, site.position.scale(unit))
		s.Labels = append(s.Labels, site.label)
		s.Fixed = append(s.Fixed, site.fixed)
		labelled = labelled || site.label != s.Species[len(s.Species)-1]
		held = held || site.fixed != [3]bool{}
	}
	if !labelled {
		s.Labels = nil
	}
	if !held {
		s.Fixed = nil
	}
	return s
}

// count compares nat with the lines that are there.
func (r *pwReader) count() {
	v, given := r.system["nat"]
	if !given {
		r.ps.at(r.atoms.line, 0, "nat is missing from &SYSTEM")
		return
	}
	n, err := strconv.Atoi(v.text)
	switch {
	case err != nil || n < 1:
		r.ps.at(v.line, v.column, "nat = %s is not a number of atoms", quote(v.text))
	case n > len(r.sites):
		r.ps.at(v.line, v.column, "nat is %d, but ATOMIC_POSITIONS has %d lines", n, len(r.sites))
	case n < len(r.sites):
		r.warnings = append(r.warnings, fmt.Sprintf("nat is %d: the other lines of ATOMIC_POSITIONS are not read", n))
		r.sites = r.sites[:n]
	}
}

// element is that of a label: a symbol, maybe with a number or a word behind it.
func (r *pwReader) element(site pwSite) string {
	symbol := letters(site.label)
	if el, ok := canonicalSymbol(symbol); ok {
		return el
	}
	r.ps.at(site.line, 1, "%s does not begin with an element", quote(site.label))
	r.ps.fix("name a kind of atom by its element and a number, such as Fe1")
	return ""
}

// positionUnit returns the factor from what ATOMIC_POSITIONS holds to what the
// structure does.
func (r *pwReader) positionUnit(s *Structure, alat float64) float64 {
	s.Cartesian = true
	switch r.atoms.option {
	case "crystal":
		s.Cartesian = false
	case "angstrom":
	case "bohr":
		return BohrA
	case "alat", "":
		if r.atoms.option == "" {
			r.warnings = append(r.warnings, "ATOMIC_POSITIONS has no unit: alat is taken, as pw.x does")
		}
		if alat == 0 {
			r.ps.at(r.atoms.line, 0, "the positions are in alat, which is not given: celldm(1) and A are missing")
		}
		return alat
	case "crystal_sg":
		r.ps.at(r.atoms.line, r.atoms.column, "the positions are those of a space group (crystal_sg), which needs a table of groups")
		r.ps.fix("list all atoms of the cell")
	default:
		r.ps.at(r.atoms.line, r.atoms.column, "%s is not a unit of ATOMIC_POSITIONS", quote(r.atoms.option))
		r.ps.fix("use alat, bohr, angstrom or crystal")
	}
	return 1
}

// lattice sets the cell and returns alat in Å, 0 when it is not known.
func (r *pwReader) lattice(m *Matrix) (alat float64) {
	v, given := r.system["ibrav"]
	ibrav, err := strconv.Atoi(v.text)
	switch {
	case !given:
		r.ps.at(0, 0, "ibrav is missing from &SYSTEM")
		return 0
	case err != nil:
		r.ps.at(v.line, v.column, "ibrav = %s is not a whole number", quote(v.text))
		return 0
	}
	celldm := r.celldm(ibrav)
	alat = celldm[0] * BohrA
	if ibrav == 0 {
		return r.cellParameters(m, alat)
	}
	if *m, err = Bravais(ibrav, celldm); err != nil {
		r.ps.at(v.line, v.column, "ibrav = %d: %v", ibrav, err)
	}
	if r.cell.line > 0 {
		r.warnings = append(r.warnings, fmt.Sprintf("ibrav is %d: CELL_PARAMETERS is not read", ibrav))
	}
	return alat
}

// cellParameters reads the card; without celldm(1), alat is the length of the
// first vector.
func (r *pwReader) cellParameters(m *Matrix, alat float64) float64 {
	if len(r.vectors) < 3 {
		r.ps.at(r.cell.line, 0, "ibrav is 0 and CELL_PARAMETERS has %d vectors, not 3", len(r.vectors))
		return alat
	}
	unit := BohrA // without a unit and celldm(1)
	switch r.cell.option {
	case "angstrom":
		unit = 1
	case "bohr":
	case "alat", "":
		if alat > 0 {
			unit = alat
		} else if r.cell.option == "alat" {
			r.ps.at(r.cell.line, 0, "the cell is in alat, which is not given: celldm(1) and A are missing")
		}
	default:
		r.ps.at(r.cell.line, r.cell.column, "%s is not a unit of CELL_PARAMETERS", quote(r.cell.option))
		r.ps.fix("use alat, bohr or angstrom")
	}
	for k := range m {
		m[k] = r.vectors[k].scale(unit)
	}
	if alat > 0 {
		return alat
	}
	return m[0].Norm()
}

// celldm collects celldm(1…6), or A, B, C and the cosines in their place.
func (r *pwReader) celldm(ibrav int) (out [6]float64) {
	for i := range out {
		out[i] = r.number(fmt.Sprintf("celldm(%d)", i+1))
	}
	a := r.number("a")
	if !(a > 0) {
		return out
	}
	out = [6]float64{a / BohrA, r.number("b") / a, r.number("c") / a}
	switch ibrav {
	case 14, 0:
		out[3], out[4], out[5] = r.number("cosbc"), r.number("cosac"), r.number("cosab")
	case -12, -13:
		out[4] = r.number("cosac")
	default:
		out[3] = r.number("cosab")
	}
	return out
}

// number is that of a variable, 0 when it is absent.
func (r *pwReader) number(name string) float64 {
	v, given := r.system[name]
	if !given {
		return 0
	}
	x, ok := parseNumber(v.text)
	if !ok {
		r.ps.at(v.line, v.column, "%s = %s is not a number", name, quote(v.text))
	}
	return x
}

// namelist reads from &NAME to the slash, over lines, and keeps the variables
// of &SYSTEM.
func (r *pwReader) namelist(line string, head word) {
	n := &pwNamelist{}
	if strings.EqualFold(head.text, "&SYSTEM") {
		n.set = func(name string, v pwValue) {
			if slices.Contains(pwStructureVariables[:], name) {
				r.system[name] = v
			}
		}
	}
	start, open := head.column-1+len(head.text), r.n
	for !n.line(line, start, r.n) {
		var ok bool
		if line, ok = r.next(); !ok {
			r.ps.at(open, head.column, "the namelist %s is not closed by a line with a slash", short(head.text))
			return
		}
		start = 0
	}
	n.flush(len(n.pending))
	if v, given := r.system["space_group"]; given && v.text != "0" {
		r.ps.at(v.line, v.column, "the atoms are those of a space group, which needs a table of groups")
		r.ps.fix("list all atoms of the cell, and set ibrav")
		delete(r.system, "space_group")
	}
}

// pwNamelist turns the words of a namelist into variables: whatever stands
// before an equals sign is a name, and the words up to the next are its values.
type pwNamelist struct {
	set     func(name string, v pwValue) // nil when the values do not matter
	name    string
	pending []pwValue
}

// maxPWValues bounds the values kept of a variable: celldm has six, and one
// more word is the next name.
const maxPWValues = 7

// line reads a line from start on and reports whether the namelist ends there.
func (n *pwNamelist) line(line string, start, number int) (end bool) {
	for i := start; i < len(line); {
		switch c := line[i]; {
		case c == '!':
			return false
		case c == '/' || c == '&':
			return true
		case c == '=':
			n.assign()
			i++
		case isBlank(c) || c == ',':
			i++
		default:
			j := pwWordEnd(line, i)
			n.push(pwValue{word{line[i:j], i + 1}, number})
			i = j
		}
	}
	return false
}

// pwWordEnd is where the word that starts at i ends; quotes and brackets hold
// it together.
func pwWordEnd(line string, i int) int {
	if c := line[i]; c == '\'' || c == '"' {
		if end := strings.IndexByte(line[i+1:], c); end >= 0 {
			return i + 2 + end
		}
		return len(line)
	}
	j := i
	for j < len(line) && !isBlank(line[j]) && strings.IndexByte("=,!/'\"", line[j]) < 0 {
		if line[j] == '(' {
			if end := strings.IndexByte(line[j:], ')'); end >= 0 {
				j += end
			}
		}
		j++
	}
	return j
}

func (n *pwNamelist) push(v pwValue) {
	if v.text[0] == '(' && len(n.pending) > 0 { // "celldm (1)"
		n.pending[len(n.pending)-1].text += v.text
		return
	}
	if len(n.pending) == maxPWValues {
		n.pending[maxPWValues-1] = v
		return
	}
	n.pending = append(n.pending, v)
}

// assign takes the last word as the name of the next variable.
func (n *pwNamelist) assign() {
	last := len(n.pending) - 1
	if last < 0 {
		return
	}
	next := n.pending[last].text
	n.flush(last)
	n.name = strings.ToLower(strings.Join(strings.Fields(next), ""))
}

// flush sets the variable to the first count words. A list of celldm fills the
// ones that follow.
func (n *pwNamelist) flush(count int) {
	values := n.pending[:count]
	n.pending = n.pending[:0]
	if n.set == nil || n.name == "" || count == 0 {
		return
	}
	n.set(n.name, values[0])
	base, index, _ := strings.Cut(strings.TrimSuffix(n.name, ")"), "(")
	if base != "celldm" {
		return
	}
	first, err := strconv.Atoi(index)
	if err != nil {
		first = 1
	}
	for i, v := range values {
		n.set(fmt.Sprintf("celldm(%d)", first+i), v)
	}
}

// place gives the problems of sites the lines they stand on.
func (r *pwReader) place(ps []Problem) []Problem {
	for i := range ps {
		var site int
		switch {
		case strings.HasPrefix(ps[i].Field, "lattice"):
			ps[i].Line = r.cell.line
		case scanIndex(ps[i].Field, "positions", &site), scanIndex(ps[i].Field, "labels", &site):
			if site < len(r.sites) {
				ps[i].Line = r.sites[site].line
			}
		}
	}
	return ps
}

// errNoLattice is why a molecule cannot be written in formats of crystals.
var errNoLattice = errors.New("the structure has no lattice")

// WritePWInput writes the cards of pw.x that hold the structure, and the
// variables of &SYSTEM that belong to them. The calculation, the cut-offs and
// the k-points are those of its user, and so are the files of the
// pseudopotentials, named El.UPF here. Moments, velocities and the directions
// that do not repeat cannot be written.
func WritePWInput(s *Structure) ([]byte, error) {
	if s.Lattice == nil {
		return nil, fmt.Errorf("write pw.x input of %s: %w", s.Formula(), errNoLattice)
	}
	kinds, of := s.pwKinds()
	var b strings.Builder
	fmt.Fprintf(&b, "&CONTROL\n/\n&SYSTEM\n  ibrav = 0\n  nat = %d\n  ntyp = %d\n/\n&ELECTRONS\n/\n", s.NAtoms(), len(kinds))
	b.WriteString("ATOMIC_SPECIES\n")
	for _, i := range kinds {
		mass, _ := Mass(s.Species[i])
		fmt.Fprintf(&b, "%-3s %v %s.UPF\n", of[i], mass, s.Species[i])
	}
	b.WriteString("CELL_PARAMETERS angstrom\n")
	for _, v := range s.Lattice {
		b.WriteString(vectorText(v) + "\n")
	}
	b.WriteString("ATOMIC_POSITIONS " + map[bool]string{false: "crystal", true: "angstrom"}[s.Cartesian] + "\n")
	for i, v := range s.Positions {
		fmt.Fprintf(&b, "%-3s%s", of[i], vectorText(v))
		if s.Fixed != nil && s.Fixed[i] != [3]bool{} {
			for _, fixed := range s.Fixed[i] {
				b.WriteString(map[bool]string{true: " 0", false: " 1"}[fixed])
			}
		}
		b.WriteByte('\n')
	}
	return []byte(b.String()), nil
}

// pwKinds returns the first site of every kind and the label of every site: the
// site's own where pw.x can have it, else the element.
func (s *Structure) pwKinds() (first []int, label []string) {
	seen := map[string]bool{}
	for i, el := range s.Species {
		name := el
		if s.Labels != nil && pwLabel(s.Labels[i], el) {
			name = s.Labels[i]
		}
		label = append(label, name)
		if !seen[name] {
			seen[name] = true
			first = append(first, i)
		}
	}
	return first, label
}

// pwLabel reports whether pw.x takes a label for the element: the symbol and at
// most so many digits that it has three characters.
func pwLabel(label, element string) bool {
	digits, ok := strings.CutPrefix(label, element)
	return ok && len(label) <= 3 && strings.Trim(digits, "0123456789") == ""
}
