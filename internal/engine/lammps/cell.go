package lammps

import (
	"bytes"
	"fmt"
	"math"
	"strconv"

	"github.com/nano-os/nanoos/internal/crystal"
)

// cell is a periodic cell as LAMMPS needs it: the first vector along x, the
// second in the xy plane, right-handed, tilted by at most half a length.
type cell struct {
	lx, ly, lz, xy, xz, yz float64
	// sign is −1 when all three vectors were reversed to become right-handed.
	sign float64
	// yzTurns, xyTurns and xzTurns are the vectors taken off to reduce tilts.
	yzTurns, xyTurns, xzTurns float64
}

// newCell turns lattice vectors into a cell. The same lattice results, rotated.
func newCell(m crystal.Matrix) cell {
	c := cell{sign: 1}
	if m.Det() < 0 {
		c.sign = -1
	}
	a, b, d := m[0], m[1], m[2]
	c.lx = math.Sqrt(dot(a, a))
	c.xy = dot(b, a) / c.lx
	c.ly = math.Sqrt(dot(b, b) - c.xy*c.xy)
	c.xz = dot(d, a) / c.lx
	c.yz = (dot(b, d) - c.xy*c.xz) / c.ly
	c.lz = math.Abs(m.Det()) / (c.lx * c.ly)
	c.clean()
	c.yzTurns = turns(c.yz, c.ly)
	c.yz -= c.yzTurns * c.ly
	c.xz -= c.yzTurns * c.xy
	c.xyTurns = turns(c.xy, c.lx)
	c.xy -= c.xyTurns * c.lx
	c.xzTurns = turns(c.xz, c.lx)
	c.xz -= c.xzTurns * c.lx
	c.clean()
	return c
}

// turns is how many whole lengths a tilt can give up; a tilt of one half stays.
func turns(tilt, length float64) float64 {
	return math.Round(tilt/length - math.Copysign(1e-9, tilt))
}

// clean removes the rounding errors of right angles and of lengths.
func (c *cell) clean() {
	for _, tilt := range []*float64{&c.xy, &c.xz, &c.yz} {
		if math.Abs(*tilt) < 1e-10*c.lx {
			*tilt = 0
		}
	}
	for _, l := range []*float64{&c.lx, &c.ly, &c.lz} {
		if r := math.Round(*l*1e9) / 1e9; math.Abs(r-*l) < 1e-13**l {
			*l = r
		}
	}
}

func (c cell) oblique() bool { return c.xy != 0 || c.xz != 0 || c.yz != 0 }

// fractional turns fractional coordinates of the lattice into those of the cell.
func (c cell) fractional(f crystal.Vector) crystal.Vector {
	x, y, z := c.sign*f[0], c.sign*f[1], c.sign*f[2]
	y += c.yzTurns * z
	x += c.xzTurns*z + c.xyTurns*y
	return crystal.Vector{x, y, z}
}

// cartesian is the position of fractional coordinates of the cell.
func (c cell) cartesian(f crystal.Vector) crystal.Vector {
	return crystal.Vector{f[0]*c.lx + f[1]*c.xy + f[2]*c.xz, f[1]*c.ly + f[2]*c.yz, f[2] * c.lz}
}

func dot(a, b crystal.Vector) float64 { return a[0]*b[0] + a[1]*b[1] + a[2]*b[2] }

// system is a structure ready to be written as a data file.
type system struct {
	st    *crystal.Structure
	cell  cell
	free  bool           // no lattice: atoms in free space
	low   crystal.Vector // corner of the box
	order []int          // sites in the order of their ids
	types []string       // element of each type; types are numbered from 1
	kind  map[string]int
}

// freeMargin is the space around atoms without a cell: about the reach of a
// potential, below which LAMMPS finds the box too small for its neighbour lists.
const freeMargin = 10 // Å

// newSystem repeats the structure and brings it into the cell.
func newSystem(st *crystal.Structure, repeat [3]int) (*system, error) {
	s := &system{st: st, kind: make(map[string]int)}
	n := repeat[0] * repeat[1] * repeat[2]
	sites := st.NAtoms()
	if n > 1 {
		big, err := st.Supercell(repeat[0], repeat[1], repeat[2])
		if err != nil {
			return nil, err
		}
		s.st = big
	}
	// Ids run as create_atoms gives them: site by site in each cell, cells with
	// the first vector fastest. Velocities drawn by id are then the same.
	s.order = make([]int, 0, sites*n)
	for c := range repeat[2] {
		for b := range repeat[1] {
			for a := range repeat[0] {
				for i := range sites {
					s.order = append(s.order, i*n+(a*repeat[1]+b)*repeat[2]+c)
				}
			}
		}
	}
	for _, e := range s.st.Species {
		if s.kind[e] == 0 {
			s.types = append(s.types, e)
			s.kind[e] = len(s.types)
		}
	}
	if s.st.Lattice == nil {
		s.freeBox()
		return s, nil
	}
	s.cell = newCell(*s.st.Lattice)
	return s, nil
}

func (s *system) freeBox() {
	s.free = true
	low, high := s.st.Positions[0], s.st.Positions[0]
	for _, p := range s.st.Positions {
		for k := range 3 {
			low[k], high[k] = min(low[k], p[k]), max(high[k], p[k])
		}
	}
	for k := range 3 {
		s.low[k] = low[k] - freeMargin
	}
	s.cell = cell{lx: high[0] - low[0] + 2*freeMargin, ly: high[1] - low[1] + 2*freeMargin, lz: high[2] - low[2] + 2*freeMargin, sign: 1}
}

// positions are cartesian in the cell, in the order of the sites.
func (s *system) positions() []crystal.Vector {
	if s.free {
		return s.st.Cart()
	}
	periodic := s.st.Periodic()
	out := s.st.Frac()
	for i, f := range out {
		f = s.cell.fractional(f)
		for k := range 3 {
			if periodic[k] {
				f[k] = wrapped(f[k])
			}
		}
		out[i] = s.cell.cartesian(f)
	}
	return out
}

// wrapped is x modulo 1; what rounding put just below 1 becomes 0.
func wrapped(x float64) float64 {
	x -= math.Floor(x)
	if x >= 1-1e-12 {
		return 0
	}
	return x
}

// velocities in Å/fs, rotated like the cell; nil when there are none.
func (s *system) velocities() []crystal.Vector {
	if s.st.Velocities == nil {
		return nil
	}
	if s.free {
		return s.st.Velocities
	}
	v := &crystal.Structure{Lattice: s.st.Lattice, Species: s.st.Species, Positions: s.st.Velocities, Cartesian: true}
	out := v.Frac()
	for i, f := range out {
		out[i] = s.cell.cartesian(s.cell.fractional(f))
	}
	return out
}

// data writes the data file. Tilts are written when the cell has some or may get
// some. perFS is the unit of velocity in Å/fs.
func (s *system) data(tilts bool, perFS float64) []byte {
	var b bytes.Buffer
	c := s.cell
	fmt.Fprintf(&b, "%s, written by nanoos\n\n%d atoms\n%d atom types\n\n", s.st.Formula(), len(s.order), len(s.types))
	for k, l := range []float64{c.lx, c.ly, c.lz} {
		axis := string(rune('x' + k))
		fmt.Fprintf(&b, "%s %s %slo %shi\n", number(s.low[k]), number(s.low[k]+l), axis, axis)
	}
	if tilts || c.oblique() {
		fmt.Fprintf(&b, "%s %s %s xy xz yz\n", number(c.xy), number(c.xz), number(c.yz))
	}
	b.WriteString("\nMasses\n\n")
	for i, e := range s.types {
		mass, _ := crystal.Mass(e)
		fmt.Fprintf(&b, "%d %s # %s\n", i+1, number(mass), e)
	}
	b.WriteString("\nAtoms # atomic\n\n")
	positions := s.positions()
	for id, i := range s.order {
		p := positions[i]
		fmt.Fprintf(&b, "%d %d %s %s %s\n", id+1, s.kind[s.st.Species[i]], number(p[0]), number(p[1]), number(p[2]))
	}
	if v := s.velocities(); v != nil {
		b.WriteString("\nVelocities\n\n")
		for id, i := range s.order {
			fmt.Fprintf(&b, "%d %s %s %s\n", id+1, number(v[i][0]/perFS), number(v[i][1]/perFS), number(v[i][2]/perFS))
		}
	}
	return b.Bytes()
}

// number writes a number in full and without noise.
func number(v float64) string {
	return strconv.FormatFloat(v, 'g', -1, 64)
}
