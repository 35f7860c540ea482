package vasp

import (
	"math"

	"github.com/nano-os/nanoos/internal/crystal"

	"github.com/nano-os/nanoos/internal/engine/printed"
)

// record is one run as one of its files tells it: vasprun.xml, OUTCAR, or the
// lines of OSZICAR and standard output. What the file does not say is absent.
type record struct {
	file    string
	version string
	date    string // of the start, digits alone: 20210405
	clock   string // of the start: 143255
	set     settings

	species  []string
	cell     *cell // of the last complete step
	initial  *cell
	nions    int
	nkpoints int

	steps   int // ionic steps that are complete
	scf     scf // of the last complete step
	partial scf // of the step that was cut
	total   int // electronic steps of the whole run
	missed  int // complete steps before the last whose electrons did not converge

	energies energies // of the last complete step
	previous float64  // free energy of the step before
	maxForce *float64 // largest norm over atoms that may move
	anyForce *float64 // largest norm over all atoms
	stress   []float64
	pressure *float64 // kB
	fermi    *float64
	moment   *float64
	elapsed  *float64
	temp     *float64
	kinetic  *float64

	closed   bool // the file has its proper end
	damaged  bool // its tags do not fit each other
	accuracy bool // "reached required accuracy"
	stopped  string
	stopFile string // "" is file
	stopLine int

	bands *bands
	dos   *dos
	ionic *printed.Table
	cycle *printed.Table
}

// energies are those of one ionic step in eV.
type energies struct {
	free, zero, without float64
	known               bool
}

// scf is one electronic loop.
type scf struct {
	n        int
	energy   float64
	change   float64 // energy minus that of the step before; NaN for the first
	bands    float64 // change of the band structure energy, NaN where not printed
	ground   int     // last step of the ground state, before perturbations
	atGround scfPoint
	denied   bool // VASP 6 says that EDIFF was not reached
}

type scfPoint struct {
	change  float64
	e       energies
	present bool
}

func newSCF() scf { return scf{change: math.NaN(), bands: math.NaN(), energy: math.NaN()} }

func (s *scf) add(energy float64) {
	s.change = energy - s.energy
	s.energy, s.bands = energy, math.NaN()
	s.n++
}

// printedDigits is how far two energies of eight decimals may be wrong in their
// difference.
const printedDigits = 1.5e-8

// met reports whether the electrons of a loop converged: the change of the
// energy is within EDIFF, and with all steps used up that of the bands as well.
// What the program says of itself is not enough, since VASP 5 says it in any
// case.
func (s *scf) met(set *settings) bool {
	n, change := s.n, s.change
	if set.dfpt && s.atGround.present {
		n, change = s.ground, s.atGround.change
	}
	limit := set.energyTolerance() + printedDigits
	if s.denied || n < 1 || !(math.Abs(change) <= limit) {
		return false
	}
	return n < set.maxElectronic() || math.IsNaN(s.bands) || math.Abs(s.bands) <= limit
}

// cell is a structure while it is read.
type cell struct {
	lattice   crystal.Matrix
	positions []crystal.Vector // fractional
	movable   [][3]bool
}

func (r *record) structure(c *cell) *crystal.Structure {
	if c == nil || len(c.positions) == 0 || len(c.positions) != len(r.species) {
		return nil
	}
	s := &crystal.Structure{Lattice: &c.lattice, Species: r.species, Positions: c.positions}
	if v := math.Abs(c.lattice.Det()); !(v > 0) || !printed.Finite(v) {
		return nil
	}
	for _, p := range c.positions {
		if !printed.Finite(p[0]) || !printed.Finite(p[1]) || !printed.Finite(p[2]) {
			return nil
		}
	}
	for _, e := range r.species {
		if _, ok := crystal.ElementOf(e); !ok {
			return nil
		}
	}
	return s
}

func norm(v []float64) float64 { return math.Sqrt(v[0]*v[0] + v[1]*v[1] + v[2]*v[2]) }
