package lammps

import (
	"cmp"
	"io/fs"
	"math"
	"slices"

	"github.com/nano-os/nanoos/internal/crystal"
)

// snapshot is the system at one step, in the units of the run.
type snapshot struct {
	file     string
	dumped   bool // from a dump
	step     int64
	atoms    int64 // as declared
	cell     crystal.Matrix
	origin   crystal.Vector
	periodic [3]bool
	bounded  bool   // periodic is known
	sites    []site // none of more than maxStored atoms
	species  map[species]int
	invalid  bool    // a position is not a number, or the types are too many
	forces   bool    // the sites have forces
	maxForce float64 // largest norm over the atoms
}

type site struct {
	id int64
	species
	position crystal.Vector // cartesian
	force    crystal.Vector
}

// species is what is known of an atom's element.
type species struct {
	kind    int
	element string // "" when only the type is known
}

// maxStored keeps a stored result below about 2 MB; a larger system is studied
// from its files.
const maxStored = 20_000

// add takes an atom.
func (s *snapshot) add(a site) {
	if s.species == nil {
		s.species = make(map[species]int)
	}
	if !s.invalid {
		s.species[a.species]++
	}
	f, p := a.force, a.position
	s.maxForce = max(s.maxForce, math.Sqrt(f[0]*f[0]+f[1]*f[1]+f[2]*f[2]))
	s.invalid = s.invalid || len(s.species) > maxTypes || !finite(p[0]) || !finite(p[1]) || !finite(p[2])
	if s.atoms <= maxStored {
		s.sites = append(s.sites, a)
	}
}

// readData reads a data file. Elements and masses go to the journal, also those
// of a file whose atoms cannot be read; the snapshot is then nil.
func readData(files fs.FS, name string, j *journal) (s *snapshot, units string) {
	data, err := readHead(files, name, crystal.MaxFileSize+1)
	if err != nil {
		return nil, ""
	}
	f, err := crystal.ParseLAMMPSData(data, j.atomStyle)
	for i, t := range f.Types {
		if t.Mass > 0 {
			j.setMass(i+1, t.Mass)
		}
		if e := t.Symbol(); e != "" {
			j.setElement(i+1, e)
		}
	}
	if !isUnits(f.Units) {
		f.Units = ""
	}
	if err != nil {
		return nil, f.Units
	}
	s = &snapshot{file: name, step: f.Timestep, atoms: int64(len(f.Atoms)), cell: f.Lattice, origin: f.Origin}
	for _, a := range f.Atoms {
		s.add(site{id: int64(a.ID), species: species{kind: a.Type + 1}, position: a.Position})
	}
	return s, f.Units
}

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
	return !s.invalid && s.species != nil && volume(s.cell) > 0
}

func volume(m crystal.Matrix) float64 { return math.Abs(m.Det()) }

// name resolves the elements; ok is false when one is not known.
func (s *snapshot) name(element func(t int) string) (names map[species]string, ok bool) {
	names = make(map[species]string, len(s.species))
	for sp := range s.species {
		if names[sp] = sp.element; sp.element == "" {
			names[sp] = element(sp.kind)
		}
		if names[sp] == "" {
			return nil, false
		}
	}
	return names, true
}

// formula of all atoms.
func (s *snapshot) formula(names map[species]string) string {
	all := &crystal.Structure{}
	for sp, n := range s.species {
		all.Species = append(all.Species, slices.Repeat([]string{names[sp]}, n)...)
	}
	return all.Formula()
}

// structure converts to Å with sites in the order of their ids.
func (s *snapshot) structure(scale float64, names map[species]string) *crystal.Structure {
	slices.SortFunc(s.sites, func(a, b site) int { return cmp.Compare(a.id, b.id) })
	out := &crystal.Structure{Lattice: new(crystal.Matrix), Cartesian: true}
	for i := range 3 {
		for k := range 3 {
			out.Lattice[i][k] = s.cell[i][k] * scale
		}
	}
	for _, a := range s.sites {
		out.Species = append(out.Species, names[a.species])
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
