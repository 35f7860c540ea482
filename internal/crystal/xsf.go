package crystal

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// ReadXSF reads the structure of an XSF file of XCrySDen: CRYSTAL, SLAB,
// POLYMER or a molecule. Of an animation it reads the first frame, with a
// warning. Conventional vectors, forces and grids are not read.
func ReadXSF(data []byte) (s *Structure, warnings []string, err error) {
	text, err := open(data, "XSF")
	if err != nil {
		return nil, nil, err
	}
	r := &xsfReader{lines: lines{rest: text}, s: &Structure{}, buf: make([]word, 0, maxXSFWords), periodic: [3]bool{true, true, true}}
	if err := r.read(); err != nil {
		return nil, nil, err
	}
	if ps := r.s.Validate(); len(ps) > 0 {
		return nil, nil, &ParseError{Problems: r.place(ps)}
	}
	return r.s, r.warnings, nil
}

// maxXSFWords is more than an atom with its force has.
const maxXSFWords = 8

type xsfReader struct {
	lines
	s        *Structure
	warnings []string
	ps       problems
	buf      []word
	periodic [3]bool
	vectors  int   // line of the first cell vector
	at       []int // line of each site
	finite   bool  // the sites stand below ATOMS or MOLECULE
}

func (r *xsfReader) read() error {
	for {
		w, ok := r.line()
		if !ok {
			break
		}
		if err := r.keyword(w); err != nil {
			return err
		}
		if r.ps.omitted > 0 {
			break
		}
	}
	switch {
	case r.ps.any():
		return r.ps.err()
	case r.s.Positions == nil:
		return failf(r.n, 0, "the file has no atoms: neither PRIMCOORD nor ATOMS is there")
	case r.finite:
		r.s.Lattice = nil
	case r.s.Lattice == nil:
		return failf(r.n, 0, "the file has no cell: PRIMVEC is missing")
	case r.periodic != [3]bool{true, true, true}:
		r.s.PBC = &r.periodic
	}
	r.s.Cartesian = r.s.Lattice != nil
	return nil
}

// line returns the words of the next line that is neither blank nor a comment.
func (r *xsfReader) line() ([]word, bool) {
	for {
		line, ok := r.next()
		if !ok {
			return nil, false
		}
		line, _, _ = strings.Cut(line, "#")
		if r.buf = words(line, r.buf); len(r.buf) > 0 {
			return r.buf, true
		}
	}
}

func (r *xsfReader) keyword(w []word) error {
	name := strings.ToUpper(w[0].text)
	switch {
	case name == "CRYSTAL":
	case name == "SLAB":
		r.periodic = [3]bool{true, true, false}
	case name == "POLYMER":
		r.periodic = [3]bool{true, false, false}
	case name == "MOLECULE":
		r.finite = true
	case name == "ANIMSTEPS":
		if len(w) > 1 && w[1].text != "1" {
			r.warnings = append(r.warnings, "the file has several frames: the first is read")
		}
	case name == "DIM-GROUP":
		r.dimension()
	case name == "PRIMVEC":
		r.primvec()
	case name == "CONVVEC", name == "RECIP-PRIMVEC", name == "RECIP-CONVVEC":
		for range 3 {
			r.line()
		}
	case name == "PRIMCOORD":
		return r.coordinates(r.s.Positions == nil)
	case name == "CONVCOORD":
		return r.coordinates(false)
	case name == "ATOMS":
		r.finite = true
		r.atoms()
	case strings.HasPrefix(name, "BEGIN_"):
		r.skipBlock(name)
	case len(w) >= 4 && r.s.Positions != nil && isXSFAtom(w[0].text):
		return failf(r.n, w[0].column, "there are more atoms than their number says, or than the %d allowed", MaxSites)
	default:
		return failf(r.n, w[0].column, "%s is not a keyword of XSF", quote(w[0].text))
	}
	return nil
}

// dimension reads the older form of CRYSTAL, SLAB and POLYMER.
func (r *xsfReader) dimension() {
	w, ok := r.line()
	n := -1
	if ok {
		n, _ = strconv.Atoi(w[0].text)
	}
	if n < 0 || n > 3 {
		r.ps.at(r.n, 1, "DIM-GROUP needs the number of directions that repeat, 0 to 3")
		return
	}
	r.finite = n == 0
	r.periodic = [3]bool{n > 0, n > 1, n > 2}
}

func (r *xsfReader) primvec() {
	first := r.s.Lattice == nil
	var m Matrix
	for k := range m {
		w, _ := r.line()
		if k == 0 && first {
			r.vectors = r.n
		}
		v, bad, ok := parseVector(w)
		if !ok {
			r.ps.vectorProblem(r.n, w, bad, fmt.Sprintf("cell vector %d", k+1))
		}
		m[k] = v
	}
	if first {
		r.s.Lattice = &m
	}
}

// coordinates reads the number of atoms and the atoms. Those of later frames and
// of the conventional cell are passed over.
func (r *xsfReader) coordinates(wanted bool) error {
	w, ok := r.line()
	if !ok {
		return failf(r.n, 0, "the file ends before the number of atoms")
	}
	n, err := strconv.Atoi(w[0].text)
	switch {
	case err != nil || n < 1:
		return failf(r.n, w[0].column, "%s is not a number of atoms", quote(w[0].text))
	case n > MaxSites:
		return failf(r.n, w[0].column, "%d atoms are more than the %d allowed", n, MaxSites)
	case n > len(r.rest)/7+1: // the shortest line is "1 0 0 0" without its end
		return failf(r.n, w[0].column, "the file is too short for %d atoms", n)
	}
	for i := range n {
		w, ok := r.line()
		if !ok {
			r.ps.at(r.n, 0, "atom %d of %d is missing", i+1, n)
			return nil
		}
		if wanted {
			r.site(w)
		}
	}
	return nil
}

// atoms reads lines for as long as they are atoms.
func (r *xsfReader) atoms() {
	first := r.s.Positions == nil
	for len(r.s.Positions) < MaxSites {
		before := r.lines
		w, ok := r.line()
		if !ok {
			return
		}
		if len(w) < 4 || !isXSFAtom(w[0].text) {
			r.lines = before
			return
		}
		if first {
			r.site(w)
		}
	}
}

func isXSFAtom(s string) bool {
	_, symbol := canonicalSymbol(s)
	return symbol || letters(s) == ""
}

func (r *xsfReader) site(w []word) {
	r.s.Species = append(r.s.Species, xyzElement(&r.ps, r.n, w, 0))
	v, bad, ok := parseVector(w[1:])
	if !ok {
		r.ps.vectorProblem(r.n, w[1:], bad, fmt.Sprintf("the position of atom %d", len(r.at)+1))
	}
	r.s.Positions = append(r.s.Positions, v)
	r.at = append(r.at, r.n)
}

// skipBlock passes over a block of grids or of information.
func (r *xsfReader) skipBlock(name string) {
	end := "END_" + strings.TrimPrefix(name, "BEGIN_")
	for {
		w, ok := r.line()
		if !ok || strings.EqualFold(w[0].text, end) {
			return
		}
	}
}

// place gives the problems of sites the lines they stand on.
func (r *xsfReader) place(ps []Problem) []Problem {
	for i := range ps {
		var site int
		switch {
		case strings.HasPrefix(ps[i].Field, "lattice"):
			ps[i].Line = r.vectors
		case scanIndex(ps[i].Field, "positions", &site) && site < len(r.at):
			ps[i].Line = r.at[site]
		}
	}
	return ps
}

// WriteXSF writes the structure as XSF, with cartesian positions. XSF repeats
// the first vectors of a cell: a structure that repeats along others only, and
// labels, moments, fixed coordinates and velocities, cannot be written.
func WriteXSF(s *Structure) ([]byte, error) {
	var b bytes.Buffer
	keyword := map[[3]bool]string{
		{true, true, true}: "CRYSTAL", {true, true, false}: "SLAB", {true, false, false}: "POLYMER", {}: "MOLECULE",
	}[s.Periodic()]
	switch {
	case keyword == "":
		return nil, fmt.Errorf("write XSF of %s: it repeats along %v, XSF knows the first vectors only", s.Formula(), s.Periodic())
	case keyword == "MOLECULE":
		b.WriteString("MOLECULE\nATOMS\n")
	default:
		b.WriteString(keyword + "\nPRIMVEC\n")
		for _, v := range s.Lattice {
			writeVector(&b, v)
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "PRIMCOORD\n%d 1\n", s.NAtoms())
	}
	for i, v := range s.Cart() {
		e, _ := ElementOf(s.Species[i])
		fmt.Fprintf(&b, "%3d", e.Z)
		writeVector(&b, v)
		b.WriteByte('\n')
	}
	return b.Bytes(), nil
}
