package crystal

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// ReadPOSCAR reads a structure in the format of VASP 5 and 6, and of VASP 4 if
// the first line or the ends of the position lines name the elements. Blocks
// after the velocities are not read.
func ReadPOSCAR(data []byte) (s *Structure, warnings []string, err error) {
	text, err := open(data, "POSCAR")
	if err != nil {
		return nil, nil, err
	}
	r := &poscarReader{lines: lines{rest: text}, s: &Structure{Lattice: new(Matrix)}, buf: make([]word, 0, maxPOSCARWords)}
	if err := r.read(); err != nil {
		return nil, nil, err
	}
	if ps := r.s.Validate(); len(ps) > 0 {
		return nil, nil, &ParseError{Problems: r.place(ps)}
	}
	return r.s, r.warnings, nil
}

// maxPOSCARWords is more than any line of numbers, flags and comment needs; the
// lines of symbols and counts may be longer and are read without the bound.
const maxPOSCARWords = 16

type poscarReader struct {
	lines
	s         *Structure
	warnings  []string
	buf       []word
	comment   string
	scale     Vector   // of cartesian x, y, z
	symbols   []word   // empty in VASP 4
	named     int      // line of the symbols
	counts    []int    // of each symbol
	total     int      // their sum
	selective bool     // flags follow the positions
	first     int      // line of the first position
	tails     []string // the word after the numbers, per site, in VASP 4
}

func (r *poscarReader) read() error {
	r.comment, _ = r.next()
	for _, step := range []func() error{r.readLattice, r.readSpecies, r.readMode, r.readPositions, r.nameSpecies} {
		if err := step(); err != nil {
			return err
		}
	}
	r.readVelocities()
	return nil
}

// line returns the words of the next line.
func (r *poscarReader) line(what string) ([]word, error) {
	line, ok := r.next()
	if !ok {
		return nil, failf(r.n, 0, "the file ends before %s", what)
	}
	r.buf = words(line, r.buf)
	return r.buf, nil
}

func (r *poscarReader) readLattice() error {
	w, err := r.line("the scale factor")
	if err != nil {
		return err
	}
	var factors []float64
	for _, f := range w {
		x, ok := parseNumber(f.text)
		if !ok {
			break
		}
		factors = append(factors, x)
	}
	scaleLine := r.n
	if len(factors) != 1 && len(factors) < 3 {
		return failf(scaleLine, 1, "the second line must be a scale factor, or three")
	}
	for k := range 3 {
		w, err := r.line(fmt.Sprintf("cell vector %d", k+1))
		if err != nil {
			return err
		}
		v, bad, ok := parseVector(w)
		if !ok {
			var ps problems
			ps.vectorProblem(r.n, w, bad, fmt.Sprintf("cell vector %d", k+1))
			return ps.err()
		}
		r.s.Lattice[k] = v
	}
	if r.scale, err = r.scaling(factors, scaleLine); err != nil {
		return err
	}
	for k, v := range r.s.Lattice {
		r.s.Lattice[k] = r.scaled(v)
	}
	return nil
}

// scaling returns the factors of the cartesian directions. One negative number
// is the wanted volume of the cell.
func (r *poscarReader) scaling(factors []float64, line int) (Vector, error) {
	if len(factors) >= 3 {
		v := Vector(factors[:3])
		if v[0] <= 0 || v[1] <= 0 || v[2] <= 0 {
			return v, failf(line, 1, "three scale factors must all be positive")
		}
		return v, nil
	}
	f := factors[0]
	if f == 0 {
		return Vector{}, failf(line, 1, "the scale factor is 0")
	}
	if f < 0 {
		volume := math.Abs(r.s.Lattice.Det())
		if volume == 0 {
			return Vector{}, failf(line+1, 0, "the cell is flat: its vectors lie in a plane, its volume is 0")
		}
		f = math.Cbrt(-f / volume)
	}
	return Vector{f, f, f}, nil
}

func (r *poscarReader) scaled(v Vector) Vector {
	return Vector{v[0] * r.scale[0], v[1] * r.scale[1], v[2] * r.scale[2]}
}

// readSpecies reads the symbols, which VASP 4 does not have, and the counts.
// Both may go on over several lines.
func (r *poscarReader) readSpecies() error {
	r.named = r.n + 1
	for !r.atCounts() {
		line, ok := r.next()
		if !ok {
			return failf(r.n, 0, "the file ends before the numbers of atoms")
		}
		found := beforeComment(line)
		if len(found) == 0 {
			return failf(r.n, 1, "the line must name the elements, it is blank")
		}
		r.symbols = append(r.symbols, found...)
		if len(r.symbols) > MaxSites {
			return failf(r.n, 1, "the line names more than %d elements", MaxSites)
		}
	}
	for len(r.counts) == 0 || len(r.counts) < len(r.symbols) && r.atCounts() {
		line, _ := r.next()
		if err := r.readCounts(beforeComment(line)); err != nil {
			return err
		}
	}
	if len(r.symbols) > 0 && len(r.symbols) != len(r.counts) {
		return failf(r.n, 1, "%d numbers of atoms for %d elements", len(r.counts), len(r.symbols))
	}
	// The shortest position line is "0 0 0" and a line end.
	if room := len(r.rest)/6 + 1; r.total > room {
		return failf(r.n, 1, "the file is too short for %d atoms", r.total)
	}
	return nil
}

// atCounts reports whether the next line starts with a whole number.
func (r *poscarReader) atCounts() bool {
	line, _ := r.peek()
	w := words(line, r.buf)
	if len(w) == 0 {
		return false
	}
	_, err := strconv.Atoi(w[0].text)
	return err == nil
}

func (r *poscarReader) readCounts(w []word) error {
	for _, c := range w {
		n, err := strconv.Atoi(c.text)
		if err != nil {
			if len(r.symbols) == 0 || len(r.counts) >= len(r.symbols) {
				return nil // what follows the numbers is a comment
			}
			return failf(r.n, c.column, "%s is not a number of atoms", quote(c.text))
		}
		if n < 1 {
			return failf(r.n, c.column, "the number of atoms is %d, it must be at least 1", n)
		}
		if n > MaxSites || r.total+n > MaxSites {
			return failf(r.n, c.column, "more than %d atoms", MaxSites)
		}
		r.counts = append(r.counts, n)
		r.total += n
	}
	return nil
}

// beforeComment returns the words of a line up to a ! or #.
func beforeComment(line string) []word {
	w := words(line, make([]word, 0, min(MaxSites, len(line)/2+1)))
	for i := range w {
		if w[i].text[0] == '!' || w[i].text[0] == '#' {
			return w[:i]
		}
	}
	return w
}

func (r *poscarReader) readMode() error {
	w, err := r.line("the kind of coordinates")
	if err != nil {
		return err
	}
	if len(w) > 0 && strings.ContainsAny(w[0].text[:1], "sS") {
		r.selective = true
		if w, err = r.line("the kind of coordinates"); err != nil {
			return err
		}
	}
	switch {
	case len(w) > 0 && strings.ContainsAny(w[0].text[:1], "cCkK"):
		r.s.Cartesian = true
	case len(w) > 0 && strings.ContainsAny(w[0].text[:1], "dD"):
	default:
		return failf(r.n, 1, "the line must say Direct or Cartesian")
	}
	r.first = r.n + 1
	return nil
}

func (r *poscarReader) readPositions() error {
	var ps problems
	r.s.Positions = make([]Vector, 0, r.total)
	if r.selective {
		r.s.Fixed = make([][3]bool, 0, r.total)
	}
	for i := range r.total {
		line, ok := r.next()
		w := words(line, r.buf)
		if !ok || len(w) == 0 {
			ps.at(r.n, 0, "position %d of %d is missing", i+1, r.total)
			break
		}
		v, bad, ok := parseVector(w)
		if !ok {
			ps.vectorProblem(r.n, w, bad, fmt.Sprintf("position %d of %d", i+1, r.total))
		}
		if r.s.Cartesian {
			v = r.scaled(v)
		}
		r.s.Positions = append(r.s.Positions, v)
		if r.selective && ok {
			r.readFlags(&ps, w)
		} else if len(r.symbols) == 0 && len(w) > 3 {
			r.tails = append(r.tails, w[3].text)
		}
	}
	line, _ := r.peek()
	if _, _, more := parseVector(words(line, r.buf)); more && !ps.any() {
		ps.at(r.n+1, 1, "there are more positions than the %d atoms counted on top", r.total)
	}
	if !slices.ContainsFunc(r.s.Fixed, func(f [3]bool) bool { return f != [3]bool{} }) {
		r.s.Fixed = nil
	}
	return ps.err()
}

// readFlags reads "T T F": which coordinates of a site may move.
func (r *poscarReader) readFlags(ps *problems, w []word) {
	var fixed [3]bool
	for k := range 3 {
		if 3+k >= len(w) {
			ps.at(r.n, 0, "selective dynamics needs three flags T or F after the position")
			return
		}
		switch strings.ToUpper(strings.TrimPrefix(w[3+k].text, ".") + " ")[0] {
		case 'T':
		case 'F':
			fixed[k] = true
		default:
			ps.at(r.n, w[3+k].column, "%s is not a flag T or F", quote(w[3+k].text))
			return
		}
	}
	r.s.Fixed = append(r.s.Fixed, fixed)
	if len(r.symbols) == 0 && len(w) > 6 {
		r.tails = append(r.tails, w[6].text)
	}
}

// nameSpecies gives every site its element.
func (r *poscarReader) nameSpecies() error {
	names, err := r.names()
	if err != nil {
		return err
	}
	r.s.Species = make([]string, 0, r.total)
	for i, n := range r.counts {
		for range n {
			r.s.Species = append(r.s.Species, names[i])
		}
	}
	return nil
}

func (r *poscarReader) names() ([]string, error) {
	if len(r.symbols) > 0 {
		return r.namesOf(r.symbols, r.named)
	}
	if w := words(r.comment, make([]word, 0, len(r.counts)+1)); len(w) == len(r.counts) {
		if names, err := r.namesOf(w, 1); err == nil {
			r.warnings = append(r.warnings, "the file has no line of element symbols (VASP 4): they are taken from the first line, "+strings.Join(names, " "))
			return names, nil
		}
	}
	if names, ok := r.namesOfTails(); ok {
		r.warnings = append(r.warnings, "the file has no line of element symbols (VASP 4): they are taken from the ends of the position lines, "+strings.Join(names, " "))
		return names, nil
	}
	return nil, failFix(r.named, 1, "add a line with the element symbols above the numbers of atoms",
		"the file does not say which elements its %d kinds of atoms are (VASP 4 without symbols)", len(r.counts))
}

// namesOf turns symbols as VASP writes them, such as Fe_pv or Si/7ecaf0ae,
// into elements.
func (r *poscarReader) namesOf(w []word, line int) ([]string, error) {
	var ps problems
	names := make([]string, len(w))
	for i, s := range w {
		symbol := s.text
		if end := strings.IndexAny(symbol, "_/"); end >= 0 {
			symbol = symbol[:end]
		}
		var ok bool
		if names[i], ok = canonicalSymbol(symbol); !ok {
			ps.at(line, s.column, "%s is not an element", quote(s.text))
		}
	}
	return names, ps.err()
}

// namesOfTails takes the elements from the words after the positions, if every
// site has one and all of a kind agree.
func (r *poscarReader) namesOfTails() ([]string, bool) {
	if len(r.tails) != r.total {
		return nil, false
	}
	names, at := make([]string, len(r.counts)), 0
	for i, n := range r.counts {
		for _, tail := range r.tails[at : at+n] {
			name, ok := canonicalSymbol(tail)
			if !ok || names[i] != "" && names[i] != name {
				return nil, false
			}
			names[i] = name
		}
		at += n
	}
	return names, true
}

// readVelocities reads the cartesian velocities in Å/fs that may follow the
// positions after a blank line. What is not a whole block of them is left out,
// with a warning when it starts like one.
func (r *poscarReader) readVelocities() {
	mode, ok := r.next()
	w := words(mode, r.buf)
	if !ok || len(w) > 0 && !strings.ContainsAny(w[0].text[:1], "cCkKdD") {
		return
	}
	direct := len(w) > 0 && strings.ContainsAny(w[0].text[:1], "dD")
	velocities, moving := make([]Vector, 0, r.total), false
	for len(velocities) < r.total {
		line, _ := r.next()
		v, _, ok := parseVector(words(line, r.buf))
		if !ok {
			break
		}
		velocities = append(velocities, v)
		moving = moving || v != Vector{}
	}
	switch {
	case len(velocities) == 0 || !moving:
		// Relaxations write zeros: nothing is known of the velocities.
	case len(velocities) < r.total:
		r.warnings = append(r.warnings, fmt.Sprintf("line %d: %d velocities for %d atoms: they are not used", r.n, len(velocities), r.total))
	case direct:
		r.warnings = append(r.warnings, "the velocities are in cells per time step, which the file does not give: they are not used")
	default:
		r.s.Velocities = velocities
	}
}

// place gives the problems of sites the lines they stand on.
func (r *poscarReader) place(ps []Problem) []Problem {
	for i := range ps {
		var site int
		switch {
		case strings.HasPrefix(ps[i].Field, "lattice"):
			ps[i].Line = 3
		case scanIndex(ps[i].Field, "positions", &site):
			ps[i].Line = r.first + site
		}
	}
	return ps
}

// scanIndex reads the first index of a path such as "positions[3][1]".
func scanIndex(path, field string, index *int) bool {
	rest, ok := strings.CutPrefix(path, field+"[")
	if !ok {
		return false
	}
	digits, _, _ := strings.Cut(rest, "]")
	n, err := strconv.Atoi(digits)
	*index = n
	return err == nil
}

// WritePOSCAR writes the structure in the format of VASP 5, the sites in their
// order: an element that comes back is named again. Labels, moments and the
// directions that do not repeat cannot be written.
func WritePOSCAR(s *Structure) ([]byte, error) {
	symbols, _ := runs(s.Species)
	return s.writePOSCAR(s.Formula(), strings.Join(symbols, " ")+"\n")
}

// WritePOSCAR4 is WritePOSCAR for VASP 4, which has no line of symbols: they
// become the comment on top.
func WritePOSCAR4(s *Structure) ([]byte, error) {
	symbols, _ := runs(s.Species)
	return s.writePOSCAR(strings.Join(symbols, " "), "")
}

// writePOSCAR writes the comment as the first line, and the line of symbols
// where VASP 5 has it.
func (s *Structure) writePOSCAR(comment, named string) ([]byte, error) {
	if s.Lattice == nil {
		return nil, fmt.Errorf("write POSCAR of %s: %w", s.Formula(), errNoLattice)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n1.0\n", comment)
	for _, v := range s.Lattice {
		writeVector(&b, v)
		b.WriteByte('\n')
	}
	_, counts := runs(s.Species)
	b.WriteString(named + strings.Join(counts, " ") + "\n")
	if s.Fixed != nil {
		b.WriteString("Selective dynamics\n")
	}
	if s.Cartesian {
		b.WriteString("Cartesian\n")
	} else {
		b.WriteString("Direct\n")
	}
	for i, v := range s.Positions {
		writeVector(&b, v)
		if s.Fixed != nil {
			for _, fixed := range s.Fixed[i] {
				b.WriteString(map[bool]string{true: " F", false: " T"}[fixed])
			}
		}
		b.WriteByte('\n')
	}
	if s.Velocities != nil {
		b.WriteString("\n")
		for _, v := range s.Velocities {
			writeVector(&b, v)
			b.WriteByte('\n')
		}
	}
	return b.Bytes(), nil
}

// runs returns the species with neighbours that are equal counted together.
func runs(species []string) (symbols, counts []string) {
	for i := 0; i < len(species); {
		j := i
		for j < len(species) && species[j] == species[i] {
			j++
		}
		symbols = append(symbols, species[i])
		counts = append(counts, strconv.Itoa(j-i))
		i = j
	}
	return symbols, counts
}

// vectorText is what writeVector writes.
func vectorText(v Vector) string {
	var b bytes.Buffer
	writeVector(&b, v)
	return b.String()
}

// writeVector writes three numbers so that reading them gives the same ones:
// 16 decimals, and more digits where a number is too small for that.
func writeVector(b *bytes.Buffer, v Vector) {
	var buf [32]byte
	for _, x := range v {
		text := strconv.AppendFloat(buf[:0], x, 'f', 16, 64)
		if back, err := strconv.ParseFloat(string(text), 64); err != nil || back != x {
			text = strconv.AppendFloat(buf[:0], x, 'e', -1, 64)
		}
		for range max(1, 22-len(text)) {
			b.WriteByte(' ')
		}
		b.Write(text)
	}
}
