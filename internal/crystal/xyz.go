package crystal

import (
	"bytes"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
)

// ReadXYZ reads the first frame of a plain or extended XYZ file; a warning says
// so if there are more. Of the columns of an extended file it keeps species (or
// Z), pos, velo (Å/fs), initial_magmoms or magmoms, move_mask and site_label.
func ReadXYZ(data []byte) (s *Structure, warnings []string, err error) {
	text, err := open(data, "XYZ")
	if err != nil {
		return nil, nil, err
	}
	r := newXYZReader(text)
	if s, err = r.frame(); err != nil {
		return nil, nil, err
	}
	switch more, err := r.more(); {
	case err != nil:
		return nil, nil, err
	case more:
		warnings = append(warnings, "the file has several frames: the first is read")
	}
	return s, warnings, nil
}

// ReadXYZFrames returns the frames of an XYZ file one by one, each made when it
// is asked for. The first error ends it.
func ReadXYZFrames(data []byte) iter.Seq2[*Structure, error] {
	return func(yield func(*Structure, error) bool) {
		text, err := open(data, "XYZ")
		if err != nil {
			yield(nil, err)
			return
		}
		r := newXYZReader(text)
		for more := true; more; {
			s, err := r.frame()
			if err == nil {
				more, err = r.more()
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(s, nil) {
				return
			}
		}
	}
}

// maxXYZWords is how many columns of a line are looked at.
const maxXYZWords = 64

type xyzReader struct {
	lines
	buf         []word
	atom, atoms int // being read, of the frame
}

// what names the atom being read in a message.
func (r *xyzReader) what() string { return fmt.Sprintf("atom %d of %d", r.atom, r.atoms) }

func newXYZReader(text string) *xyzReader {
	return &xyzReader{lines: lines{rest: text}, buf: make([]word, 0, maxXYZWords)}
}

// xyzColumns says where in a line the properties begin; -1 means nowhere.
type xyzColumns struct {
	species, z, pos, velo, magmom, move, label int
	moveWidth                                  int
}

var plainXYZ = xyzColumns{species: 0, z: -1, pos: 1, velo: -1, magmom: -1, move: -1, label: -1}

func (r *xyzReader) frame() (*Structure, error) {
	n, err := r.count()
	if err != nil {
		return nil, err
	}
	comment, ok := r.next()
	if !ok {
		return nil, failf(r.n, 0, "the file ends before the comment line")
	}
	commentLine := r.n
	s := &Structure{}
	columns, err := s.readXYZComment(comment, r.n)
	if err != nil {
		return nil, err
	}
	if err := r.sites(s, n, columns); err != nil {
		return nil, err
	}
	ps := s.Validate()
	for i := range ps {
		var site int
		switch {
		case scanIndex(ps[i].Field, "positions", &site), scanIndex(ps[i].Field, "magmoms", &site),
			scanIndex(ps[i].Field, "velocities", &site), scanIndex(ps[i].Field, "labels", &site):
			ps[i].Line = commentLine + 1 + site
		case ps[i].Field == "pbc", strings.HasPrefix(ps[i].Field, "lattice"):
			ps[i].Line = commentLine
		}
	}
	if len(ps) > 0 {
		return nil, &ParseError{Problems: ps}
	}
	return s, nil
}

// count reads the number of atoms on top of a frame.
func (r *xyzReader) count() (int, error) {
	line, ok := r.next()
	if !ok {
		return 0, failf(r.n, 0, "the file ends before the number of atoms")
	}
	text := strings.TrimSpace(line)
	n, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return 0, failf(r.n, 1, "the line must be the number of atoms, it is %s", quote(text))
	case n < 1:
		return 0, failf(r.n, 1, "the number of atoms is %d, it must be at least 1", n)
	case n > MaxSites:
		return 0, failf(r.n, 1, "%d atoms are more than the %d allowed", n, MaxSites)
	case n > len(r.rest)/7+1: // the shortest line is "H 0 0 0" without its end
		return 0, failf(r.n, 1, "the file is too short for %d atoms", n)
	}
	return n, nil
}

// more reports whether another frame follows, over blank lines. What follows
// must look like one: an atom too many is an error, not a frame.
func (r *xyzReader) more() (bool, error) {
	for {
		line, ok := r.peek()
		if !ok {
			return false, nil
		}
		text := strings.TrimSpace(line)
		if text == "" {
			r.next()
			continue
		}
		if _, err := strconv.Atoi(text); err != nil {
			return false, failf(r.n+1, 1, "the frame has more lines than its number of atoms says: %s", quote(text))
		}
		return true, nil
	}
}

func (r *xyzReader) sites(s *Structure, n int, c xyzColumns) error {
	var ps problems
	s.Cartesian = s.Lattice != nil
	s.Species = make([]string, 0, n)
	s.Positions = make([]Vector, 0, n)
	for r.atom, r.atoms = 1, n; r.atom <= n; r.atom++ {
		line, ok := r.next()
		w := words(line, r.buf)
		if !ok || len(w) == 0 {
			ps.at(r.n, 0, "%s is missing", r.what())
			break
		}
		r.site(s, &ps, w, c)
	}
	if !slices.ContainsFunc(s.Fixed, func(f [3]bool) bool { return f != [3]bool{} }) {
		s.Fixed = nil
	}
	return ps.err()
}

// site reads one line of atoms.
func (r *xyzReader) site(s *Structure, ps *problems, w []word, c xyzColumns) {
	element := c.species
	if element < 0 {
		element = c.z
	}
	s.Species = append(s.Species, xyzElement(ps, r.n, w, element))
	s.Positions = append(s.Positions, r.vector(ps, w, c.pos, "the position"))
	if c.velo >= 0 {
		s.Velocities = append(s.Velocities, r.vector(ps, w, c.velo, "the velocity"))
	}
	if c.magmom >= 0 {
		x, ok := 0.0, false
		if c.magmom < len(w) {
			x, ok = parseNumber(w[c.magmom].text)
		}
		if !ok {
			ps.at(r.n, 0, "%s has no number as its magnetic moment", r.what())
		}
		s.Magmoms = append(s.Magmoms, x)
	}
	if c.label >= 0 {
		label := ""
		if c.label < len(w) {
			label = w[c.label].text
		}
		s.Labels = append(s.Labels, label)
	}
	if c.move >= 0 {
		s.Fixed = append(s.Fixed, r.fixed(ps, w, c))
	}
}

func (r *xyzReader) vector(ps *problems, w []word, at int, what string) Vector {
	w = w[min(at, len(w)):]
	v, bad, ok := parseVector(w)
	if !ok {
		ps.vectorProblem(r.n, w, bad, what+" of "+r.what())
	}
	return v
}

// fixed reads a move mask, T for what may move, of one column or of three.
func (r *xyzReader) fixed(ps *problems, w []word, c xyzColumns) (fixed [3]bool) {
	for k := range 3 {
		at := c.move + k%c.moveWidth
		moves, ok := false, false
		if at < len(w) {
			moves, ok = xyzFlag(w[at].text)
		}
		if !ok {
			ps.at(r.n, 0, "the move mask of %s is not T or F", r.what())
			return fixed
		}
		fixed[k] = !moves
	}
	return fixed
}

// xyzElement reads a symbol, a symbol with a number ("Fe1") or the number of
// protons.
func xyzElement(ps *problems, line int, w []word, at int) string {
	if at >= len(w) {
		ps.at(line, 0, "the line has no element")
		return ""
	}
	text := w[at].text
	if letters(text) == "" {
		z, _ := strconv.Atoi(text)
		if e, ok := ElementOfZ(z); ok {
			return e.Symbol
		}
	} else if el, ok := canonicalSymbol(letters(text)); ok && strings.Trim(text[len(letters(text)):], "0123456789") == "" {
		return el
	}
	ps.at(line, w[at].column, "%s is not an element", quote(text))
	return text
}

func xyzFlag(s string) (value, ok bool) {
	switch strings.ToLower(s) {
	case "t", "true", "1":
		return true, true
	case "f", "false", "0":
		return false, true
	}
	return false, false
}

// readXYZComment takes the cell and the columns from the second line of an
// extended file; a plain one has free text there.
func (s *Structure) readXYZComment(comment string, line int) (xyzColumns, error) {
	columns := plainXYZ
	var ps problems
	for key, value := range xyzPairs(comment) {
		switch strings.ToLower(key) {
		case "lattice":
			s.readXYZLattice(&ps, value, line)
		case "pbc":
			s.readXYZPeriodic(&ps, value, line)
		case "properties":
			columns = readXYZProperties(&ps, value, line)
		}
	}
	// What follows from the lattice being there or not needs no saying.
	if whole := s.Lattice != nil; s.PBC != nil && *s.PBC == [3]bool{whole, whole, whole} {
		s.PBC = nil
	}
	return columns, ps.err()
}

// xyzPairs walks through key=value of a comment line; values may stand in
// quotes or brackets.
func xyzPairs(line string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for line = strings.TrimLeft(line, " \t"); line != ""; line = strings.TrimLeft(line, " \t") {
			end := strings.IndexAny(line, "= \t")
			if end < 0 {
				return
			}
			key := strings.Trim(line[:end], `"'`)
			line = strings.TrimLeft(line[end:], " \t")
			if !strings.HasPrefix(line, "=") {
				continue // a word alone
			}
			var value string
			value, line = xyzValue(strings.TrimLeft(line[1:], " \t"))
			if !yield(key, value) {
				return
			}
		}
	}
}

// xyzValue cuts a value off a line. Brackets nest, as in [[1, 0], [0, 1]].
func xyzValue(line string) (value, rest string) {
	if line == "" {
		return "", ""
	}
	if c := line[0]; c == '"' || c == '\'' {
		if end := strings.IndexByte(line[1:], c); end >= 0 {
			return line[1 : 1+end], line[end+2:]
		}
		return line[1:], ""
	}
	depth := 0
	for i := range len(line) {
		switch c := line[i]; {
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		case depth <= 0 && isBlank(c):
			return line[:i], line[i:]
		}
	}
	return line, ""
}

// xyzList cuts a value into its entries.
func xyzList(value string, limit int) []word {
	flat := strings.Map(func(c rune) rune {
		if strings.ContainsRune("[]{},", c) {
			return ' '
		}
		return c
	}, value)
	return words(flat, make([]word, 0, limit))
}

func (s *Structure) readXYZLattice(ps *problems, value string, line int) {
	w := xyzList(value, 10)
	if len(w) != 9 {
		ps.at(line, 0, "the Lattice must have nine numbers: three vectors")
		return
	}
	var m Matrix
	for k := range 3 {
		v, bad, ok := parseVector(w[3*k:])
		if !ok {
			ps.at(line, 0, "%s in the Lattice is not a finite number", quote(w[3*k+bad].text))
			return
		}
		m[k] = v
	}
	if m != (Matrix{}) { // programs write zeros for a molecule in free space
		s.Lattice = &m
	}
}

func (s *Structure) readXYZPeriodic(ps *problems, value string, line int) {
	w := xyzList(value, 4)
	var periodic [3]bool
	for k := range 3 {
		ok := len(w) == 3
		if ok {
			periodic[k], ok = xyzFlag(w[k].text)
		}
		if !ok {
			ps.at(line, 0, "pbc must be three flags T or F, it is %s", quote(value))
			return
		}
	}
	s.PBC = &periodic
}

// readXYZProperties reads name:kind:width triples, "species:S:1:pos:R:3".
func readXYZProperties(ps *problems, value string, line int) xyzColumns {
	c := xyzColumns{species: -1, z: -1, pos: -1, velo: -1, magmom: -1, move: -1, label: -1}
	at := 0
	for parts := strings.SplitN(value, ":", 3*maxXYZWords); len(parts) > 0; parts = parts[3:] {
		if len(parts) < 3 {
			ps.at(line, 0, "Properties must be name:kind:width and so on, it ends in %s", quote(strings.Join(parts, ":")))
			return c
		}
		width, err := strconv.Atoi(parts[2])
		if err != nil || width < 1 || at+width > maxXYZWords {
			ps.at(line, 0, "%s in Properties is not a width; a line has at most %d columns", quote(parts[2]), maxXYZWords)
			return c
		}
		c.set(strings.ToLower(parts[0]), width, at)
		at += width
	}
	if c.pos < 0 || c.species < 0 && c.z < 0 {
		ps.at(line, 0, "Properties must have species:S:1 and pos:R:3")
	}
	return c
}

func (c *xyzColumns) set(name string, width, at int) {
	switch {
	case width == 1 && (name == "species" || name == "element"):
		c.species = at
	case width == 1 && name == "z" && c.species < 0:
		c.z = at
	case width == 3 && name == "pos":
		c.pos = at
	case width == 3 && name == "velo":
		c.velo = at
	case width == 1 && (name == "initial_magmoms" || name == "magmoms" && c.magmom < 0):
		c.magmom = at
	case width == 1 && name == "site_label":
		c.label = at
	case (width == 1 || width == 3) && name == "move_mask":
		c.move, c.moveWidth = at, width
	}
}

// WriteXYZ writes the structure as one frame of extended XYZ, with all that a
// Structure holds; the positions become cartesian.
func WriteXYZ(s *Structure) ([]byte, error) {
	if len(s.Positions) != len(s.Species) {
		return nil, fmt.Errorf("write XYZ of %s: %d positions for %d species", s.Formula(), len(s.Positions), len(s.Species))
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d\n", s.NAtoms())
	if s.Lattice != nil {
		b.WriteString(`Lattice="`)
		var cell bytes.Buffer
		for _, v := range s.Lattice {
			writeVector(&cell, v)
		}
		b.WriteString(strings.Join(strings.Fields(cell.String()), " ") + `" `)
	}
	b.WriteString("Properties=species:S:1:pos:R:3")
	for _, p := range []struct {
		present bool
		text    string
	}{
		{s.Velocities != nil, ":velo:R:3"},
		{s.Magmoms != nil, ":initial_magmoms:R:1"},
		{s.Labels != nil, ":site_label:S:1"},
		{s.Fixed != nil, ":move_mask:L:3"},
	} {
		if p.present {
			b.WriteString(p.text)
		}
	}
	b.WriteString(` pbc="`)
	for k, p := range s.Periodic() {
		b.WriteString([...]string{"", " ", " "}[k] + xyzLogical(p))
	}
	b.WriteString("\"\n")
	for i, v := range s.Cart() {
		s.writeXYZSite(&b, i, v)
	}
	return b.Bytes(), nil
}

func (s *Structure) writeXYZSite(b *bytes.Buffer, i int, v Vector) {
	fmt.Fprintf(b, "%-2s", s.Species[i])
	writeVector(b, v)
	if s.Velocities != nil {
		writeVector(b, s.Velocities[i])
	}
	if s.Magmoms != nil {
		b.WriteString(" " + strconv.FormatFloat(s.Magmoms[i], 'g', -1, 64))
	}
	if s.Labels != nil {
		b.WriteString(" " + s.Labels[i])
	}
	if s.Fixed != nil {
		for _, fixed := range s.Fixed[i] {
			b.WriteString(" " + xyzLogical(!fixed))
		}
	}
	b.WriteByte('\n')
}

func xyzLogical(b bool) string {
	if b {
		return "T"
	}
	return "F"
}
