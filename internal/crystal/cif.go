package crystal

import (
	"bytes"
	"fmt"
	"math"
	"strings"
)

// ReadCIF reads the first data block of a CIF that has atom sites, and applies
// the symmetry operations that it lists. It refuses a file that only names a
// space group other than P1, because the sites it lists are not the whole
// crystal, and one whose sites are partly occupied, because no calculation can
// take half an atom. Deuterium becomes hydrogen. Labels are not kept: a CIF
// labels every site, also those that symmetry makes equal.
func ReadCIF(data []byte) (s *Structure, warnings []string, err error) {
	text, err := open(data, "CIF")
	if err != nil {
		return nil, nil, err
	}
	r := &cifReader{scan: newCIFScanner(text)}
	b, err := r.blockWithSites()
	if err != nil {
		return nil, nil, err
	}
	if s, err = r.structure(b); err != nil {
		return nil, nil, err
	}
	if ps := s.Validate(); len(ps) > 0 {
		return nil, nil, &ParseError{Problems: ps}
	}
	return s, r.warnings, nil
}

type cifReader struct {
	scan     *cifScanner
	token    cifToken // not yet used
	ps       problems
	warnings []string
}

// cifBlock is what matters of a data block.
type cifBlock struct {
	name       string
	items      map[string]cifToken // cell, names of the group, formula
	operations []cifToken
	sites      []cifSite
	dummies    int  // sites left out
	magnetic   bool // has operations in the form of magnetic groups
	// Sites that are not full, and the first of them.
	partial           int
	firstPartial      cifToken
	firstPartialLabel string
}

// cifSite is a row of the atom sites.
type cifSite struct {
	element  cifToken // the type symbol, or the label if there is none
	at       Vector
	decimals [3]int8 // written of each coordinate
}

// cifField is a column of a loop, or an item, that is read.
type cifField uint8

const (
	cifIgnored cifField = iota
	cifItem             // kept by its name
	cifOperation
	cifMagnetic
	cifSiteX
	cifSiteY
	cifSiteZ
	cifSiteLabel
	cifSiteSymbol
	cifSiteOccupancy
	cifSiteCalc
	cifFields
)

func cifFieldOf(tag string) cifField {
	switch tag {
	case "_cell_length_a", "_cell_length_b", "_cell_length_c",
		"_cell_angle_alpha", "_cell_angle_beta", "_cell_angle_gamma",
		"_chemical_formula_sum",
		"_symmetry_int_tables_number", "_space_group_it_number",
		"_symmetry_space_group_name_h-m", "_space_group_name_h-m_alt", "_space_group_name_h-m_full", "_space_group_name_h-m_ref",
		"_symmetry_space_group_name_hall", "_space_group_name_hall":
		return cifItem
	case "_symmetry_equiv_pos_as_xyz", "_space_group_symop_operation_xyz":
		return cifOperation
	case "_space_group_symop_magn_operation_xyz", "_space_group_symop_magn_centering_xyz":
		return cifMagnetic
	case "_atom_site_fract_x":
		return cifSiteX
	case "_atom_site_fract_y":
		return cifSiteY
	case "_atom_site_fract_z":
		return cifSiteZ
	case "_atom_site_label", "_atom_site_id":
		return cifSiteLabel
	case "_atom_site_type_symbol":
		return cifSiteSymbol
	case "_atom_site_occupancy":
		return cifSiteOccupancy
	case "_atom_site_calc_flag":
		return cifSiteCalc
	}
	return cifIgnored
}

// cifRow is the values of one row, by field.
type cifRow [cifFields]cifToken

// blockWithSites reads up to the end of the first block that has atom sites,
// and looks through the rest for others.
func (r *cifReader) blockWithSites() (*cifBlock, error) {
	if err := r.advance(); err != nil {
		return nil, err
	}
	if r.token.kind != cifData {
		return nil, failf(r.token.line, r.token.column, "this is not a CIF: it has to begin with data_ and a name")
	}
	for r.token.kind == cifData {
		b, err := r.block()
		switch {
		case err != nil:
			return nil, err
		case len(b.sites) > 0:
			r.countOthers(b)
			return b, nil
		case r.ps.any():
			return nil, r.ps.err()
		}
	}
	return nil, failf(r.token.line, 0, "no data block of the file has atom sites with fractional coordinates (_atom_site_fract_x, _y, _z)")
}

// countOthers warns of further blocks with atoms; what they hold, even if it
// is no CIF, does not matter.
func (r *cifReader) countOthers(first *cifBlock) {
	others := 0
	for r.token.kind != cifEnd {
		if r.token.kind == cifTag && r.token.text == "_atom_site_fract_x" {
			others++
		}
		if r.advance() != nil {
			break
		}
	}
	if others > 0 {
		r.warnings = append(r.warnings, fmt.Sprintf("the file has %d structures: the first, data_%s, is read", others+1, short(first.name)))
	}
}

func (r *cifReader) advance() (err error) {
	r.token, err = r.scan.next()
	return err
}

// block reads from data_ up to the next data_ or the end.
func (r *cifReader) block() (*cifBlock, error) {
	b := &cifBlock{name: r.token.text}
	var single cifRow
	if err := r.advance(); err != nil {
		return nil, err
	}
	for {
		var err error
		switch r.token.kind {
		case cifEnd, cifData:
			r.finishSingle(b, &single)
			return b, nil
		case cifLoop:
			err = r.loop(b)
		case cifTag:
			err = r.item(b, &single)
		case cifSave:
			err = r.skipFrame()
		default:
			err = failf(r.token.line, r.token.column, "the value %s has no name before it", quote(r.token.text))
		}
		if err != nil {
			return nil, err
		}
	}
}

// item reads a name and its value.
func (r *cifReader) item(b *cifBlock, single *cifRow) error {
	tag := r.token
	if err := r.advance(); err != nil {
		return err
	}
	field := cifFieldOf(tag.text)
	if !r.token.isValue() {
		if field == cifIgnored {
			return nil
		}
		return failf(tag.line, tag.column, "%s has no value", tag.text)
	}
	switch field {
	case cifIgnored:
	case cifItem:
		if old, ok := b.items[tag.text]; ok && old.text != r.token.text {
			r.ps.at(tag.line, tag.column, "%s is given twice, with different values", tag.text)
		}
		b.set(tag.text, r.token)
	default:
		single[field] = r.token
	}
	return r.advance()
}

func (b *cifBlock) set(tag string, value cifToken) {
	if b.items == nil {
		b.items = map[string]cifToken{}
	}
	b.items[tag] = value
}

// finishSingle takes the operation and the site that stand in a block without
// a loop.
func (r *cifReader) finishSingle(b *cifBlock, row *cifRow) {
	if row[cifOperation].isValue() {
		b.operations = append(b.operations, row[cifOperation])
	}
	b.magnetic = b.magnetic || row[cifMagnetic].isValue()
	if row[cifSiteX].isValue() && row[cifSiteY].isValue() && row[cifSiteZ].isValue() {
		r.site(b, row)
	}
}

// skipFrame reads over a save frame, which holds definitions.
func (r *cifReader) skipFrame() error {
	for {
		if err := r.advance(); err != nil {
			return err
		}
		switch {
		case r.token.kind == cifSave && r.token.text == "":
			return r.advance()
		case r.token.kind == cifData, r.token.kind == cifEnd:
			return nil
		}
	}
}

// loop reads the names and the rows of a loop_.
func (r *cifReader) loop(b *cifBlock) error {
	start := r.token
	if err := r.advance(); err != nil {
		return err
	}
	var columns []cifField
	var names []string // of the columns that are items
	has := [cifFields]bool{}
	for r.token.kind == cifTag {
		field := cifFieldOf(r.token.text)
		columns = append(columns, field)
		has[field] = true
		if field == cifItem && len(names) < int(cifFields) {
			names = append(names, r.token.text)
		}
		if err := r.advance(); err != nil {
			return err
		}
	}
	if len(columns) == 0 {
		return failf(start.line, start.column, "loop_ has no names")
	}
	sites := has[cifSiteX] && has[cifSiteY] && has[cifSiteZ]
	var row cifRow
	n := 0
	for ; r.token.isValue(); n++ {
		if n%len(columns) == 0 {
			row = cifRow{}
		}
		field := columns[n%len(columns)]
		row[field] = r.token
		if field == cifItem && len(names) == 1 && !b.items[names[0]].isValue() {
			b.set(names[0], r.token)
		}
		if err := r.advance(); err != nil {
			return err
		}
		if n%len(columns) != len(columns)-1 {
			continue
		}
		if err := r.row(b, &row, sites); err != nil {
			return err
		}
	}
	if n%len(columns) != 0 && (sites || has[cifOperation] || has[cifItem]) {
		return failf(r.token.line, r.token.column, "the loop that begins on line %d has %d columns, but its last row has only %d values", start.line, len(columns), n%len(columns))
	}
	return nil
}

// row takes a complete row of a loop.
func (r *cifReader) row(b *cifBlock, row *cifRow, sites bool) error {
	if row[cifOperation].isValue() {
		if len(b.operations) == maxOperations {
			return failf(row[cifOperation].line, 0, "more than %d symmetry operations", maxOperations)
		}
		b.operations = append(b.operations, row[cifOperation])
	}
	b.magnetic = b.magnetic || row[cifMagnetic].isValue()
	if !sites {
		return nil
	}
	if len(b.sites) == MaxSites {
		return failf(row[cifSiteX].line, 0, "more than %d atom sites", MaxSites)
	}
	r.site(b, row)
	return nil
}

// site takes a row of the atom sites.
func (r *cifReader) site(b *cifBlock, row *cifRow) {
	label := row[cifSiteLabel].text
	s := cifSite{element: row[cifSiteSymbol]}
	if !s.element.isValue() || s.element.unknown() {
		s.element = row[cifSiteLabel]
	}
	if strings.EqualFold(row[cifSiteCalc].text, "dum") {
		b.dummies++
		return
	}
	for k := range 3 {
		t := row[cifSiteX+cifField(k)]
		x, decimals, ok := cifNumber(t.text)
		switch {
		case t.unknown():
			r.ps.at(t.line, t.column, "the coordinate %c of site %s is not known (%s)", 'x'+k, short(label), t.text)
		case !ok:
			r.ps.at(t.line, t.column, "%s is not a finite number (coordinate %c of site %s)", quote(t.text), 'x'+k, short(label))
		case math.Abs(x) > maxCoord:
			r.ps.at(t.line, t.column, "%s is beyond ±%g cells (coordinate %c of site %s)", quote(t.text), maxCoord, 'x'+k, short(label))
		}
		s.at[k], s.decimals[k] = x, int8(min(decimals, 16))
	}
	if t := row[cifSiteOccupancy]; t.isValue() && !t.unknown() {
		r.occupancy(b, t, label)
	}
	b.sites = append(b.sites, s)
}

// occupancy counts a site that is not full. Values are often rounded, so what
// differs by less than 0.001 is full.
func (r *cifReader) occupancy(b *cifBlock, t cifToken, label string) {
	x, _, ok := cifNumber(t.text)
	switch {
	case !ok:
		r.ps.at(t.line, t.column, "%s is not an occupancy (site %s)", quote(t.text), short(label))
	case math.Abs(x-1) > 1e-3:
		if b.partial == 0 {
			b.firstPartial, b.firstPartialLabel = t, label
		}
		b.partial++
	}
}

// refuseDisorder says in one problem which sites are not full.
func (r *cifReader) refuseDisorder(b *cifBlock) {
	if b.partial == 0 {
		return
	}
	t, more := b.firstPartial, ""
	if b.partial > 1 {
		more = fmt.Sprintf(", and %d other sites are not full either", b.partial-1)
	}
	r.ps.at(t.line, t.column, "the structure is disordered: site %s is occupied %s, not 1%s", short(b.firstPartialLabel), short(t.text), more)
	r.ps.fix("make an ordered cell first: choose one occupant per site, in a supercell if need be")
}

// structure builds the crystal from a block.
func (r *cifReader) structure(b *cifBlock) (*Structure, error) {
	if b.dummies > 0 {
		r.warnings = append(r.warnings, fmt.Sprintf("%d dummy sites are left out (_atom_site_calc_flag dum)", b.dummies))
	}
	r.refuseDisorder(b)
	lattice := r.lattice(b)
	operations := r.operations(b)
	elements := r.elements(b)
	if r.ps.any() {
		return nil, r.ps.err()
	}
	if len(b.sites)*len(operations) > maxImages {
		return nil, failf(0, 0, "%d sites and %d operations make more than %d atoms", len(b.sites), len(operations), maxImages)
	}
	s := expand(lattice, operations, b.sites, elements)
	if len(operations) == 1 {
		return s, nil
	}
	if dropped := s.dropTwins(); dropped > 0 {
		r.warnings = append(r.warnings, fmt.Sprintf("%d sites are listed although the symmetry operations make them too: each is taken once", dropped))
	}
	return s, nil
}

func (r *cifReader) lattice(b *cifBlock) Matrix {
	var p [6]float64
	before := len(r.ps.list)
	for i, tag := range [...]string{"_cell_length_a", "_cell_length_b", "_cell_length_c", "_cell_angle_alpha", "_cell_angle_beta", "_cell_angle_gamma"} {
		t, given := b.items[tag]
		x, _, ok := cifNumber(t.text)
		switch {
		case !given && i >= 3:
			x = 90 // the value that the dictionary of CIF gives an absent angle
			r.warnings = append(r.warnings, fmt.Sprintf("%s is not given: 90 degrees are taken", tag))
		case !given:
			r.ps.at(0, 0, "%s is missing", tag)
		case !ok:
			r.ps.at(t.line, t.column, "%s of %s is not a number", quote(t.text), tag)
		}
		p[i] = x
	}
	if len(r.ps.list) > before {
		return Matrix{}
	}
	m, err := LatticeFromParameters(p[0], p[1], p[2], p[3], p[4], p[5])
	if err != nil {
		r.ps.at(b.items["_cell_length_a"].line, 0, "%v", err)
		return m
	}
	(&Structure{Lattice: &m}).validateLattice(&r.ps)
	return m
}

// elements names the element of every site.
func (r *cifReader) elements(b *cifBlock) []string {
	formula := formulaElements(b.items["_chemical_formula_sum"].text)
	out := make([]string, len(b.sites))
	deuterium := false
	for i, s := range b.sites {
		t := s.element
		el, ok := elementOfLabel(t.text, formula)
		if !ok {
			r.ps.at(t.line, t.column, "%s does not name an element", quote(t.text))
		}
		if el == "D" {
			el, deuterium = "H", true
		}
		out[i] = el
	}
	if deuterium {
		r.warnings = append(r.warnings, "deuterium is read as hydrogen")
	}
	return out
}

// elementOfLabel reads the element at the start of a type symbol or a label:
// "Fe2+", "O1A", "CL3". Letters that could be two elements, such as the C or Ca
// of "CA1", are decided by the formula, if the file has one.
func elementOfLabel(label string, formula map[string]bool) (string, bool) {
	run := letters(label)
	two, okTwo := "", false
	if len(run) >= 2 {
		two, okTwo = canonicalSymbol(run[:2])
	}
	one, okOne := "", false
	if len(run) >= 1 {
		one, okOne = canonicalSymbol(run[:1])
	}
	switch {
	case okTwo && okOne && formula[one] && !formula[two]:
		return one, true
	case okTwo && len(run) == 2, okTwo && formula[two]:
		return two, true
	case okOne && (len(run) <= 2 || formula[one]):
		return one, true
	}
	return "", false
}

// formulaElements returns the elements of "C15 H24 O2".
func formulaElements(formula string) map[string]bool {
	if len(formula) > 10_000 {
		return nil
	}
	out := map[string]bool{}
	for f := range strings.FieldsSeq(formula) {
		if el, ok := ElementOf(letters(f)); ok {
			out[el.Symbol] = true
		}
	}
	return out
}

// cifNumber reads a number with or without its uncertainty, 1.234(5), and how
// many decimals it has.
func cifNumber(s string) (x float64, decimals int, ok bool) {
	if i := strings.IndexByte(s, '('); i > 0 && strings.HasSuffix(s, ")") && strings.Trim(s[i+1:len(s)-1], "0123456789") == "" {
		s = s[:i]
	}
	x, ok = parseNumber(s)
	if _, after, point := strings.Cut(s, "."); point {
		decimals = len(after)
	}
	if strings.ContainsAny(s, "eEdD") {
		decimals = 16
	}
	return x, decimals, ok
}

// short shows a name of the file in a message.
func short(s string) string {
	if printable(s) && len(s) <= maxLabel {
		return s
	}
	return quote(s)
}

// WriteCIF writes the structure in P1, all sites listed. A CIF holds lengths
// and angles, not directions: reading it back may turn the crystal in space.
// Labels, moments, fixed coordinates, velocities and the directions that do
// not repeat cannot be written.
func WriteCIF(s *Structure) ([]byte, error) {
	if s.Lattice == nil {
		return nil, fmt.Errorf("write CIF of %s: %w", s.Formula(), errNoLattice)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "data_%s\n", s.Formula())
	a0, b0, c0, alpha, beta, gamma := s.Lattice.Parameters()
	for i, tag := range [...]string{"_cell_length_a", "_cell_length_b", "_cell_length_c", "_cell_angle_alpha", "_cell_angle_beta", "_cell_angle_gamma"} {
		fmt.Fprintf(&b, "%-18s %.10f\n", tag, [...]float64{a0, b0, c0, alpha, beta, gamma}[i])
	}
	b.WriteString("_space_group_name_H-M_alt 'P 1'\n_space_group_IT_number 1\n" +
		"loop_\n_space_group_symop_operation_xyz\n'x, y, z'\n" +
		"loop_\n_atom_site_label\n_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n_atom_site_occupancy\n")
	seen := map[string]int{}
	for i, f := range s.Frac() {
		el := s.Species[i]
		seen[el]++
		fmt.Fprintf(&b, "%s%d %s %.12f %.12f %.12f 1\n", el, seen[el], el, f[0], f[1], f[2])
	}
	return b.Bytes(), nil
}
