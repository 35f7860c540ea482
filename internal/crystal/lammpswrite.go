package crystal

import (
	"bytes"
	"fmt"
	"math"
)

// WriteLAMMPSData writes the structure as a data file in the units metal, the
// atoms in their order, a type for each element in the order of their first
// atom. LAMMPS wants the first cell vector along x and the second in the xy
// plane: the crystal is turned, and tilts beyond one half are taken off. Labels,
// moments, fixed coordinates and the directions that do not repeat cannot be
// written.
func WriteLAMMPSData(s *Structure) ([]byte, error) {
	if s.Lattice == nil {
		return nil, fmt.Errorf("write LAMMPS data of %s: %w", s.Formula(), errNoLattice)
	}
	vectors := s.lammpsVectors()
	box := turned(vectors)
	types, number := speciesTypes(s.Species)
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s, units = metal\n\n%d atoms\n%d atom types\n\n", s.Formula(), s.NAtoms(), len(types))
	for k, axis := range "xyz" {
		fmt.Fprintf(&b, "0 %v %[2]clo %[2]chi\n", box[k][k], axis)
	}
	if box[1][0] != 0 || box[2][0] != 0 || box[2][1] != 0 {
		fmt.Fprintf(&b, "%v %v %v xy xz yz\n", box[1][0], box[2][0], box[2][1])
	}
	b.WriteString("\nMasses\n\n")
	for i, el := range types {
		mass, _ := Mass(el)
		fmt.Fprintf(&b, "%d %v # %s\n", i+1, mass, el)
	}
	b.WriteString("\nAtoms # atomic\n\n")
	inverse, periodic := vectors.Inverse(), s.Periodic()
	for i, c := range s.Cart() {
		f := inverse.Cart(c)
		for k := range f {
			if periodic[k] {
				f[k] = wrap(f[k])
			}
		}
		fmt.Fprintf(&b, "%d %d", i+1, number[s.Species[i]])
		writeVector(&b, box.Cart(f))
		b.WriteByte('\n')
	}
	if s.Velocities != nil {
		b.WriteString("\nVelocities\n\n")
		for i, v := range s.Velocities {
			fmt.Fprintf(&b, "%d", i+1)
			writeVector(&b, box.Cart(inverse.Cart(v)).scale(1000)) // Å/ps
			b.WriteByte('\n')
		}
	}
	return b.Bytes(), nil
}

// lammpsVectors are right-handed vectors of the same lattice, tilted by at most
// one half where the vectors that repeat allow it.
func (s *Structure) lammpsVectors() Matrix {
	m, periodic := *s.Lattice, s.Periodic()
	if m.Det() < 0 {
		for k := range m {
			m[k] = m[k].scale(-1)
		}
	}
	for _, pair := range [...][2]int{{2, 1}, {1, 0}, {2, 0}} {
		long, short := pair[0], pair[1]
		if !periodic[short] {
			continue
		}
		box := turned(m)
		// A tilt of one half stays, whatever rounding makes of it.
		tilt := box[long][short] / box[short][short]
		m[long] = m[long].sub(m[short].scale(math.Round(tilt - math.Copysign(1e-9, tilt))))
	}
	return m
}

// turned returns the vectors with the first along x and the second in the xy
// plane. What rounding leaves of a right angle becomes 0.
func turned(m Matrix) (box Matrix) {
	a, b, c := m[0], m[1], m[2]
	box[0][0] = a.Norm()
	box[1][0] = b.Dot(a) / box[0][0]
	across := cross(a, b)
	box[1][1] = across.Norm() / box[0][0]
	box[2][0] = c.Dot(a) / box[0][0]
	box[2][1] = (b.Dot(c) - box[1][0]*box[2][0]) / box[1][1]
	box[2][2] = math.Abs(m.Det()) / across.Norm()
	for _, tilt := range [...]*float64{&box[1][0], &box[2][0], &box[2][1]} {
		if math.Abs(*tilt) < 1e-10*box[0][0] {
			*tilt = 0
		}
	}
	return box
}

// speciesTypes numbers the elements from 1 in the order of their first site.
func speciesTypes(species []string) (types []string, number map[string]int) {
	number = map[string]int{}
	for _, el := range species {
		if number[el] == 0 {
			types = append(types, el)
			number[el] = len(types)
		}
	}
	return types, number
}
