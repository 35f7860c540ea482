package crystal

import (
	"math"
	"slices"
	"strings"
)

const (
	// maxOperations: a space group has at most 192 in a conventional cell;
	// supercells list more.
	maxOperations = 1024
	// maxImages bounds the work of applying the operations.
	maxImages = 2 * MaxSites
	// twinDistance in Å is how near two images of sites are the same site.
	twinDistance = 1e-3
	// maxTwinDistance in Å is how near two images of one site are the same
	// site when its coordinates are written with few decimals.
	maxTwinDistance = 0.05
)

// operation is a symmetry operation: x → rotation·x + shift, in fractions.
type operation struct {
	rotation [3][3]int
	shift    Vector
}

var identity = operation{rotation: [3][3]int{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}

func (o operation) apply(v Vector) Vector {
	out := o.shift
	for i := range 3 {
		for j := range 3 {
			out[i] += float64(o.rotation[i][j]) * v[j]
		}
	}
	return out
}

// after returns o∘p: first p, then o.
func (o operation) after(p operation) operation {
	out := operation{shift: o.apply(p.shift)}
	for i := range 3 {
		for j := range 3 {
			for k := range 3 {
				out.rotation[i][j] += o.rotation[i][k] * p.rotation[k][j]
			}
		}
	}
	return out
}

func (o operation) det() int {
	m := o.rotation
	return m[0][0]*(m[1][1]*m[2][2]-m[1][2]*m[2][1]) -
		m[0][1]*(m[1][0]*m[2][2]-m[1][2]*m[2][0]) +
		m[0][2]*(m[1][0]*m[2][1]-m[1][1]*m[2][0])
}

// operationKey is equal for operations that differ by lattice vectors and by
// less than about a thousandth of a cell.
type operationKey struct {
	rotation [3][3]int
	shift    [3]int
}

func (o operation) key() operationKey {
	k := operationKey{rotation: o.rotation}
	for i, t := range o.shift {
		// Simple fractions are far from the borders that this offset makes.
		k.shift[i] = int(math.Floor(wrap(t)*1000+0.4364)) % 1000
	}
	return k
}

// operations returns the symmetry of a block: what it lists, or nothing but the
// identity for P1.
func (r *cifReader) operations(b *cifBlock) []operation {
	name, line := groupName(b)
	if len(b.operations) == 0 {
		switch {
		case b.magnetic:
			r.ps.at(0, 0, "the file lists its symmetry as a magnetic group, which is not read")
			r.ps.fix("export it with _space_group_symop_operation_xyz, or in P1 with all sites")
		case name == "":
			r.warnings = append(r.warnings, "the file says nothing of symmetry: the sites are taken as the whole cell (P1)")
		case !isP1(name):
			r.ps.at(line, 0, "the file names the space group %s but does not list its symmetry operations: the sites it lists are not the whole crystal", quote(name))
			r.ps.fix("export it with _space_group_symop_operation_xyz, or in P1 with all sites")
		}
		return []operation{identity}
	}
	ops := r.parseOperations(b.operations)
	if len(ops) == 1 && ops[0].key() == identity.key() && name != "" && !isP1(name) {
		r.ps.at(b.operations[0].line, 0, "the file names the space group %s but lists only the identity: the sites it lists may not be the whole crystal", quote(name))
		r.ps.fix("list all operations, or name the group P 1 if all sites are listed")
	}
	return ops
}

// groupName returns the name or number of the space group and its line.
func groupName(b *cifBlock) (name string, line int) {
	for _, tag := range [...]string{
		"_space_group_name_h-m_alt", "_symmetry_space_group_name_h-m", "_space_group_name_h-m_full", "_space_group_name_h-m_ref",
		"_space_group_name_hall", "_symmetry_space_group_name_hall",
		"_space_group_it_number", "_symmetry_int_tables_number",
	} {
		if t, ok := b.items[tag]; ok && !t.unknown() && strings.TrimSpace(t.text) != "" {
			return strings.TrimSpace(t.text), t.line
		}
	}
	return "", 0
}

func isP1(name string) bool {
	name = strings.NewReplacer(" ", "", "_", "").Replace(name)
	return strings.EqualFold(name, "P1") || name == "1"
}

// parseOperations reads the operations and checks that they are a group, so
// that a list with one missing or mistyped does not make a wrong crystal.
func (r *cifReader) parseOperations(list []cifToken) []operation {
	var ops []operation
	seen := map[operationKey]bool{}
	for _, t := range list {
		o, ok := parseOperation(t.text)
		if !ok {
			r.ps.at(t.line, t.column, "%s is not a symmetry operation such as 'x, -y, z+1/2'", quote(t.text))
			continue
		}
		if !seen[o.key()] {
			seen[o.key()] = true
			ops = append(ops, o)
		}
	}
	if r.ps.any() {
		return ops
	}
	if !seen[identity.key()] {
		seen[identity.key()] = true
		ops = slices.Insert(ops, 0, identity)
	}
	for _, o := range ops {
		for _, p := range ops {
			if !seen[o.after(p).key()] {
				r.ps.at(list[0].line, 0, "the %d symmetry operations are not a group: one is missing or mistyped", len(ops))
				return ops
			}
		}
	}
	return ops
}

// parseOperation reads "x, -y+1/2, 0.5+z".
func parseOperation(s string) (o operation, ok bool) {
	if len(s) > 200 {
		return o, false
	}
	parts := strings.Split(strings.ToLower(strings.NewReplacer(" ", "", "\t", "", "\n", "", "\r", "").Replace(s)), ",")
	if len(parts) != 3 {
		return o, false
	}
	for i, part := range parts {
		if !parseOperationPart(part, &o.rotation[i], &o.shift[i]) {
			return o, false
		}
	}
	d := o.det()
	return o, d == 1 || d == -1
}

// parseOperationPart reads a sum such as "-y+1/2".
func parseOperationPart(s string, row *[3]int, shift *float64) bool {
	if s == "" {
		return false
	}
	for s != "" {
		sign := 1
		switch s[0] {
		case '-':
			sign, s = -1, s[1:]
		case '+':
			s = s[1:]
		}
		end := strings.IndexAny(s, "+-")
		if end < 0 {
			end = len(s)
		}
		term := s[:end]
		s = s[end:]
		if k := strings.Index("xyz", term); len(term) == 1 && k >= 0 {
			row[k] += sign
			continue
		}
		t, ok := parseFraction(term)
		if !ok {
			return false
		}
		*shift += float64(sign) * t
	}
	// The shifts of space groups are multiples of 1/24; files round them.
	if n := math.Round(*shift * 24); math.Abs(*shift-n/24) < 1e-3 {
		*shift = n / 24
	}
	return true
}

func parseFraction(s string) (float64, bool) {
	top, bottom, divided := strings.Cut(s, "/")
	x, ok := parseNumber(top)
	if !ok || !divided {
		return x, ok && math.Abs(x) < 100
	}
	y, ok := parseNumber(bottom)
	return x / y, ok && y >= 1 && math.Abs(x/y) < 100
}

// expand applies the operations to the sites and keeps one of the images that
// coincide.
func expand(lattice Matrix, ops []operation, sites []cifSite, elements []string) *Structure {
	s := &Structure{Lattice: &lattice}
	longest := max(lattice[0].Norm(), lattice[1].Norm(), lattice[2].Norm())
	for i, site := range sites {
		at := site.at
		if len(ops) == 1 {
			s.Species, s.Positions = append(s.Species, elements[i]), append(s.Positions, at)
			continue
		}
		for k := range 3 {
			at[k] = unrounded(at[k], int(site.decimals[k]))
		}
		first, near := len(s.Positions), site.tolerance(longest)
		for _, o := range ops {
			image := o.apply(at)
			for k := range 3 {
				image[k] = wrap(image[k])
			}
			if !slices.ContainsFunc(s.Positions[first:], func(p Vector) bool { return lattice.nearby(image, p) < near }) {
				s.Species, s.Positions = append(s.Species, elements[i]), append(s.Positions, image)
			}
		}
	}
	return s
}

// nearby is the distance of two fractional positions that are much nearer to
// one another than to other images.
func (m *Matrix) nearby(a, b Vector) float64 {
	d := a.sub(b)
	for k := range 3 {
		d[k] -= math.Round(d[k])
	}
	return m.Cart(d).Norm()
}

// unrounded returns the third, sixth or twelfth that a coordinate was rounded
// or cut from: 0.333, 0.3333 and 0.3334 are 1/3. Other fractions in use end
// within the decimals that are written.
func unrounded(x float64, decimals int) float64 {
	if decimals < 3 {
		return x
	}
	n := math.Round(x * 12)
	if math.Mod(n, 3) != 0 && math.Abs(x-n/12) < math.Pow10(-decimals) {
		return n / 12
	}
	return x
}

// tolerance in Å is how far apart images of the site may be to be the same one:
// twice what its last decimal is worth, between the two limits.
func (s cifSite) tolerance(longest float64) float64 {
	fewest := 16
	for k := range 3 {
		if s.decimals[k] > 0 {
			fewest = min(fewest, int(s.decimals[k]))
		}
	}
	return min(max(twinDistance, 2*math.Pow10(-fewest)*longest), maxTwinDistance)
}

// dropTwins removes the sites that another of the same element coincides with,
// and returns how many.
func (s *Structure) dropTwins() int {
	sp := newSpace(s)
	points := sp.points(s)
	g := sp.grid(points, boxPerReach*twinDistance)
	var kept []int
	for p := range points {
		twin := !g.visit(p, twinDistance, func(q int, shift Vector) bool {
			return s.Species[q] != s.Species[p] || g.distance(p, q, shift) >= twinDistance
		})
		if !twin {
			g.insert(p)
			kept = append(kept, p)
		}
	}
	for i, p := range kept {
		s.Species[i], s.Positions[i] = s.Species[p], s.Positions[p]
	}
	s.Species, s.Positions = s.Species[:len(kept)], s.Positions[:len(kept)]
	return len(points) - len(kept)
}
