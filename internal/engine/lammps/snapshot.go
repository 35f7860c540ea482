package lammps

import (
	"math"
	"slices"

	"github.com/nano-os/nanoos/internal/crystal"
)

// snapshot is the system at one step, in the units of the run.
type snapshot struct {
	file     string
	step     int64
	atoms    int64 // as declared
	cell     crystal.Matrix
	origin   crystal.Vector
	periodic [3]bool
	bounded  bool // periodic is known
	sites    []site
	forces   bool // the sites have forces
}

type site struct {
	id       int64
	kind     int
	element  string
	position crystal.Vector // cartesian, unless scaled
	force    crystal.Vector
}

// Bounds of what is read and stored of a structure.
const (
	// maxSites is what fits into memory many times over; a larger system is
	// studied from its files.
	maxSites = 1 << 20
	// maxStored keeps a stored result below about 2 MB.
	maxStored = 20_000
)

// triclinic builds the cell of LAMMPS from lengths and tilts.
func triclinic(lx, ly, lz, xy, xz, yz float64) crystal.Matrix {
	return crystal.Matrix{{lx, 0, 0}, {xy, ly, 0}, {xz, yz, lz}}
}

// usable reports whether all numbers are finite and the cell has a volume.
func (s *snapshot) usable() bool {
	for _, v := range s.cell {
		for _, x := range v {
			if !finite(x) || math.Abs(x) > 1e12 {
				return false
			}
		}
	}
	for _, a := range s.sites {
		for _, x := range a.position {
			if !finite(x) {
				return false
			}
		}
	}
	return len(s.sites) > 0 && volume(s.cell) > 0
}

func volume(m crystal.Matrix) float64 {
	a, b, c := m[0], m[1], m[2]
	return math.Abs(a[0]*(b[1]*c[2]-b[2]*c[1]) - a[1]*(b[0]*c[2]-b[2]*c[0]) + a[2]*(b[0]*c[1]-b[1]*c[0]))
}

// structure converts to Å with sites in the order of their ids. It is nil when
// the element of a type is not known.
func (s *snapshot) structure(scale float64, element func(t int) string) *crystal.Structure {
	slices.SortFunc(s.sites, func(a, b site) int { return int(a.id - b.id) })
	out := &crystal.Structure{Lattice: new(crystal.Matrix), Cartesian: true}
	for i := range 3 {
		for k := range 3 {
			out.Lattice[i][k] = s.cell[i][k] * scale
		}
	}
	for _, a := range s.sites {
		e := a.element
		if e == "" {
			e = element(a.kind)
		}
		if e == "" {
			return nil
		}
		out.Species = append(out.Species, e)
		var p crystal.Vector
		for k := range 3 {
			p[k] = (a.position[k] - s.origin[k]) * scale
		}
		out.Positions = append(out.Positions, p)
	}
	if s.bounded && s.periodic != [3]bool{true, true, true} {
		p := s.periodic
		out.PBC = &p
	}
	out.Positions, out.Cartesian = out.Frac(), false
	out.Wrap()
	return out
}

// maxForce is the largest norm over the atoms.
func (s *snapshot) maxForce() float64 {
	largest := 0.0
	for _, a := range s.sites {
		largest = max(largest, math.Sqrt(a.force[0]*a.force[0]+a.force[1]*a.force[1]+a.force[2]*a.force[2]))
	}
	return largest
}
