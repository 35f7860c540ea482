// Package crystal knows lattices, sites, units and structure files, and gives a
// structure one canonical hash. It reads and writes POSCAR, CIF, extended XYZ,
// LAMMPS data, XSF, inputs of pw.x, and the JSON of pymatgen and of ASE. It
// finds translations and the lattice that they make, but has no table of space
// groups: it applies the operations that a file lists.
//
// A reader returns a structure that is valid, or a *ParseError with the line of
// every fault: never a panic, a value that the file does not hold without a
// warning, or memory beyond a small multiple of the file's size, which
// MaxFileSize bounds.
package crystal

// Structure is atoms in a cell, or in free space when Lattice is nil. It is
// also the inline form of a job file.
type Structure struct {
	// Lattice rows are the cell vectors a, b, c in Å (cartesian x, y, z).
	Lattice *Matrix `json:"lattice,omitempty"`
	// PBC says along which vectors the cell repeats; nil means all three.
	PBC *[3]bool `json:"pbc,omitempty"`
	// Species are element symbols, one per site: "Si".
	Species []string `json:"species"`
	// Positions are one row per site: fractional coordinates with a lattice,
	// unless Cartesian; else Å.
	Positions []Vector `json:"positions"`
	Cartesian bool     `json:"cartesian,omitempty"`
	// Labels tell sites of one element apart ("Fe1"); nil means none.
	Labels []string `json:"labels,omitempty"`
	// Magmoms are initial magnetic moments in µB, one per site; nil means none.
	Magmoms []float64 `json:"magmoms,omitempty"`
	// Fixed says per site which coordinates may not move; nil means all may.
	Fixed [][3]bool `json:"fixed,omitempty"`
	// Velocities in Å/fs, one per site; nil means unknown.
	Velocities []Vector `json:"velocities,omitempty"`
}

// Vector is three coordinates.
type Vector [3]float64

// Matrix is three row vectors.
type Matrix [3]Vector
