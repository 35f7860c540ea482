package crystal

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// NAtoms is the number of sites.
func (s *Structure) NAtoms() int { return len(s.Species) }

// Volume of the cell in Å³, 0 without a lattice.
func (s *Structure) Volume() float64 {
	if s.Lattice == nil {
		return 0
	}
	return math.Abs(s.Lattice.Det())
}

// Density in g/cm³, 0 without a lattice.
func (s *Structure) Density() float64 {
	if s.Lattice == nil {
		return 0
	}
	mass := 0.0
	for _, el := range s.Species {
		m, _ := Mass(el)
		mass += m
	}
	return mass / s.Volume() * AMUPerA3GPerCM3
}

// Formula is the content of the cell in Hill's order (carbon, hydrogen, then
// by the alphabet; without carbon by the alphabet): "Si2", "C2H6", "O4Ti2".
func (s *Structure) Formula() string { return hill(s.counts()) }

// Reduced is the formula divided by the common divisor of its counts: "O2Ti".
func (s *Structure) Reduced() string {
	counts, divisor := s.counts(), 0
	for _, n := range counts {
		divisor = gcd(n, divisor)
	}
	for el := range counts {
		counts[el] /= divisor
	}
	return hill(counts)
}

func (s *Structure) counts() map[string]int {
	counts := map[string]int{}
	for _, el := range s.Species {
		counts[el]++
	}
	return counts
}

func hill(counts map[string]int) string {
	order := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(hillRank(counts, a), hillRank(counts, b)), strings.Compare(a, b))
	})
	var b strings.Builder
	for _, el := range order {
		b.WriteString(el)
		if counts[el] > 1 {
			b.WriteString(strconv.Itoa(counts[el]))
		}
	}
	return b.String()
}

func hillRank(counts map[string]int, el string) int {
	switch {
	case counts["C"] > 0 && el == "C":
		return 0
	case counts["C"] > 0 && el == "H":
		return 1
	}
	return 2
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// Periodic says along which cell vectors the structure repeats: none without a
// lattice, all with one unless PBC says otherwise.
func (s *Structure) Periodic() [3]bool {
	switch {
	case s.Lattice == nil:
		return [3]bool{}
	case s.PBC == nil:
		return [3]bool{true, true, true}
	}
	return *s.PBC
}

// Cart returns the cartesian positions in Å, in a slice of their own.
func (s *Structure) Cart() []Vector {
	out := slices.Clone(s.Positions)
	if s.Lattice == nil || s.Cartesian {
		return out
	}
	for i, f := range out {
		out[i] = s.Lattice.Cart(f)
	}
	return out
}

// Frac returns the fractional positions in a slice of their own, nil without a
// lattice.
func (s *Structure) Frac() []Vector {
	if s.Lattice == nil {
		return nil
	}
	out := slices.Clone(s.Positions)
	if !s.Cartesian {
		return out
	}
	inverse := s.Lattice.Inverse()
	for i, c := range out {
		out[i] = inverse.Cart(c)
	}
	return out
}

// Wrap moves every site into the cell, along the vectors that repeat: its
// fractional coordinates become ≥ 0 and < 1.
func (s *Structure) Wrap() {
	if s.Lattice == nil {
		return
	}
	frac, periodic := s.Frac(), s.Periodic()
	for i := range frac {
		for k := range 3 {
			if periodic[k] {
				frac[i][k] = wrap(frac[i][k])
			}
		}
	}
	s.Positions, s.Cartesian = frac, false
}

// wrap returns x modulo 1 in [0, 1).
func wrap(x float64) float64 {
	x -= math.Floor(x)
	if x >= 1 { // the floor of a tiny negative number is -1
		return 0
	}
	return x
}

// Supercell repeats the cell n1×n2×n3 times. The copies of a site follow one
// another, the last vector running fastest.
func (s *Structure) Supercell(n1, n2, n3 int) (*Structure, error) {
	n := [3]int{n1, n2, n3}
	total := s.NAtoms()
	for k := range 3 {
		switch {
		case n[k] < 1:
			return nil, fmt.Errorf("supercell %d×%d×%d: every number must be at least 1", n1, n2, n3)
		case total > 0 && n[k] > MaxSites/total:
			return nil, fmt.Errorf("supercell %d×%d×%d of %d sites: more than %d sites", n1, n2, n3, s.NAtoms(), MaxSites)
		}
		total *= n[k]
	}
	if s.Lattice == nil {
		return nil, fmt.Errorf("supercell %d×%d×%d: the structure has no lattice", n1, n2, n3)
	}
	out := &Structure{Lattice: new(Matrix), PBC: s.PBC}
	for k := range 3 {
		out.Lattice[k] = s.Lattice[k].scale(float64(n[k]))
	}
	for i, f := range s.Frac() {
		for j := range n1 * n2 * n3 {
			at := [3]int{j / (n2 * n3), j / n3 % n2, j % n3}
			out.Positions = append(out.Positions, Vector{
				(f[0] + float64(at[0])) / float64(n1),
				(f[1] + float64(at[1])) / float64(n2),
				(f[2] + float64(at[2])) / float64(n3),
			})
			out.copySite(s, i)
		}
	}
	return out, nil
}

// copySite appends what s says of its site i, except the position.
func (out *Structure) copySite(s *Structure, i int) {
	out.Species = append(out.Species, s.Species[i])
	if s.Labels != nil {
		out.Labels = append(out.Labels, s.Labels[i])
	}
	if s.Magmoms != nil {
		out.Magmoms = append(out.Magmoms, s.Magmoms[i])
	}
	if s.Fixed != nil {
		out.Fixed = append(out.Fixed, s.Fixed[i])
	}
	if s.Velocities != nil {
		out.Velocities = append(out.Velocities, s.Velocities[i])
	}
}

// KMesh returns the numbers of k-points along the reciprocal vectors such that
// neighbours are no farther apart than spacing, in 1/Å with the 2π included;
// 1 along a vector that does not repeat.
func (s *Structure) KMesh(spacing float64) ([3]int, error) {
	mesh := [3]int{1, 1, 1}
	if !(spacing > 0) || math.IsInf(spacing, 1) {
		return mesh, fmt.Errorf("k-point spacing %v is not a positive number", spacing)
	}
	if s.Lattice == nil {
		return mesh, nil
	}
	reciprocal, periodic := s.Lattice.Reciprocal(), s.Periodic()
	for k, b := range reciprocal {
		if !periodic[k] {
			continue
		}
		// The tolerance keeps a ratio that is whole but for rounding from
		// gaining a point.
		n := math.Ceil(b.Norm()/spacing - 1e-9)
		if n > maxKPoints {
			return mesh, fmt.Errorf("k-point spacing %v /Å needs %.0f points along one vector, more than %d", spacing, n, maxKPoints)
		}
		mesh[k] = max(1, int(n))
	}
	return mesh, nil
}

// maxKPoints along one vector is beyond every converged calculation: a cell of
// 1 Å needs 628 at a spacing of 0.01 /Å.
const maxKPoints = 1000

// LatticeFromParameters builds the cell from its lengths in Å and angles in
// degrees: a along x, b in the xy plane, c with positive z.
func LatticeFromParameters(a, b, c, alpha, beta, gamma float64) (Matrix, error) {
	for i, x := range [...]float64{a, b, c} {
		if !(x > 0) || math.IsInf(x, 1) {
			return Matrix{}, fmt.Errorf("cell length %c = %v is not a positive number", 'a'+i, x)
		}
	}
	for i, x := range [...]float64{alpha, beta, gamma} {
		if !(x > 0 && x < 180) {
			return Matrix{}, fmt.Errorf("cell angle %s = %v is not between 0 and 180 degrees", [...]string{"alpha", "beta", "gamma"}[i], x)
		}
	}
	ca, cb, cg := cosDegrees(alpha), cosDegrees(beta), cosDegrees(gamma)
	sg := math.Sqrt(1 - cg*cg)
	cy := (ca - cb*cg) / sg
	cz2 := 1 - cb*cb - cy*cy
	if !(cz2 > 0) {
		return Matrix{}, fmt.Errorf("no cell has the angles %v, %v and %v", alpha, beta, gamma)
	}
	return Matrix{{a, 0, 0}, {b * cg, b * sg, 0}, {c * cb, c * cy, c * math.Sqrt(cz2)}}, nil
}

// cosDegrees is exact where crystals need it to be.
func cosDegrees(x float64) float64 {
	switch x {
	case 60:
		return 0.5
	case 90:
		return 0
	case 120:
		return -0.5
	}
	return math.Cos(x * math.Pi / 180)
}

// Parameters returns the lengths in Å and the angles in degrees.
func (m *Matrix) Parameters() (a, b, c, alpha, beta, gamma float64) {
	return m[0].Norm(), m[1].Norm(), m[2].Norm(),
		angle(m[1], m[2]), angle(m[0], m[2]), angle(m[0], m[1])
}

func angle(u, v Vector) float64 {
	// The arc tangent keeps the digits that the arc cosine loses near 0 and 180.
	return math.Atan2(cross(u, v).Norm(), u.Dot(v)) * 180 / math.Pi
}

// Cart returns v·m: the cartesian form of a fractional vector.
func (m *Matrix) Cart(v Vector) Vector {
	return Vector{
		v[0]*m[0][0] + v[1]*m[1][0] + v[2]*m[2][0],
		v[0]*m[0][1] + v[1]*m[1][1] + v[2]*m[2][1],
		v[0]*m[0][2] + v[1]*m[1][2] + v[2]*m[2][2],
	}
}

// Det is the triple product of the rows: the signed volume.
func (m *Matrix) Det() float64 { return m[0].Dot(cross(m[1], m[2])) }

// Inverse returns the matrix that Cart undoes m with. m must not be singular.
func (m *Matrix) Inverse() Matrix {
	d := m.Det()
	x, y, z := cross(m[1], m[2]), cross(m[2], m[0]), cross(m[0], m[1])
	var inv Matrix
	for k := range 3 {
		inv[k] = Vector{x[k] / d, y[k] / d, z[k] / d}
	}
	return inv
}

// Reciprocal returns the reciprocal vectors as rows, in 1/Å with the 2π
// included.
func (m *Matrix) Reciprocal() Matrix {
	f := 2 * math.Pi / m.Det()
	return Matrix{cross(m[1], m[2]).scale(f), cross(m[2], m[0]).scale(f), cross(m[0], m[1]).scale(f)}
}

// Dot is the scalar product.
func (v Vector) Dot(w Vector) float64 { return v[0]*w[0] + v[1]*w[1] + v[2]*w[2] }

// Norm is the length.
func (v Vector) Norm() float64 { return math.Sqrt(v.Dot(v)) }

func (v Vector) add(w Vector) Vector { return Vector{v[0] + w[0], v[1] + w[1], v[2] + w[2]} }

func (v Vector) sub(w Vector) Vector { return Vector{v[0] - w[0], v[1] - w[1], v[2] - w[2]} }

func (v Vector) scale(f float64) Vector { return Vector{v[0] * f, v[1] * f, v[2] * f} }

func cross(u, v Vector) Vector {
	return Vector{u[1]*v[2] - u[2]*v[1], u[2]*v[0] - u[0]*v[2], u[0]*v[1] - u[1]*v[0]}
}
