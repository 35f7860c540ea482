package crystal_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/nano-os/nanoos/internal/crystal"
)

const xsfSeed = `# a comment
BEGIN_INFO
  Fermi Energy: 1.5
END_INFO
SLAB
PRIMVEC
 4.0 0 0 # Å
 0 4.0 0
 0 0 12.0
CONVVEC
 4 0 0
 0 4 0
 0 0 12
PRIMCOORD
2 1
26 0 0 0  0.1 0.0 -0.1
O  2 2 1.5
BEGIN_BLOCK_DATAGRID_3D
 PRIMVEC
END_BLOCK_DATAGRID_3D
`

func TestXSFIsReadWithItsKeywords(t *testing.T) {
	t.Parallel()
	s, warnings := mustRead(t, "", xsfSeed)
	want := &crystal.Structure{
		Lattice: &crystal.Matrix{{4, 0, 0}, {0, 4, 0}, {0, 0, 12}}, PBC: &[3]bool{true, true, false}, Cartesian: true,
		Species: []string{"Fe", "O"}, Positions: []crystal.Vector{{0, 0, 0}, {2, 2, 1.5}},
	}
	if d := cmp.Diff(want, s); d != "" || len(warnings) > 0 {
		t.Errorf("%s%v", d, warnings)
	}
}

func TestXSFAnimationsGiveTheirFirstFrame(t *testing.T) {
	t.Parallel()
	s, warnings := mustRead(t, "", "ANIMSTEPS 2\nCRYSTAL\nPRIMVEC\n3 0 0\n0 3 0\n0 0 3\nPRIMCOORD 1\n1 1\nPo 0 0 0\nPRIMCOORD 2\n1 1\nPo 1 0 0\n")
	if s.Positions[0] != (crystal.Vector{}) || s.NAtoms() != 1 || len(warnings) != 1 {
		t.Errorf("%+v %v", s, warnings)
	}
	m, _ := mustRead(t, "xsf", "MOLECULE\nATOMS\nH 0 0 0\nH 0 0 .74\nATOMS\nH 9 9 9\nH 0 0 1\n")
	if m.Lattice != nil || m.NAtoms() != 2 || m.Positions[1][2] != 0.74 {
		t.Errorf("%+v", m)
	}
}

func TestXSFFaultsHaveTheirLines(t *testing.T) {
	t.Parallel()
	cell := "CRYSTAL\nPRIMVEC\n3 0 0\n0 3 0\n0 0 3\n"
	for _, bad := range []struct {
		text, words string
		line        int
	}{
		{"hello\n", "is not a keyword of XSF", 1},
		{"CRYSTAL\nPRIMVEC\n3 0\n0 x 0\n0 0 3\nPRIMCOORD\n1 1\n1 0 0 0\n", "needs three numbers", 3},
		{"CRYSTAL\nPRIMVEC\n3 0\n0 x 0\n0 0 3\nPRIMCOORD\n1 1\n1 0 0 0\n", `"x" is not a finite number`, 4},
		{"CRYSTAL\nPRIMVEC\n3 0 0\n0 3 0\n0 3 0\nPRIMCOORD\n1 1\n1 0 0 0\n", "the cell is flat", 3},
		{cell, "the file has no atoms", 5},
		{"CRYSTAL\nPRIMCOORD\n1 1\n1 0 0 0\n", "PRIMVEC is missing", 4},
		{cell + "PRIMCOORD\n1000000000000 1\n1 0 0 0\n", "more than the", 7},
		{cell + "PRIMCOORD\n900000 1\n1 0 0 0\n", "too short for 900000 atoms", 7},
		{cell + "PRIMCOORD\n0 1\n", "is not a number of atoms", 7},
		{cell + "PRIMCOORD\n2 1\n1 0 0 0\n", "atom 2 of 2 is missing", 8},
		{cell + "PRIMCOORD\n2 1\nXx 0 0 0\n1 0 nan 0\n", `"Xx" is not an element`, 8},
		{cell + "PRIMCOORD\n2 1\nXx 0 0 0\n1 0 nan 0\n", `"nan" is not a finite number`, 9},
		{cell + "PRIMCOORD\n1 1\n1 0 0 0\n1 1 0 0\n", "more atoms than their number says", 9},
		{cell + "PRIMCOORD\n1 1\n1 0 0 0\nGRID\n", "is not a keyword of XSF", 9},
		{cell + "PRIMCOORD\n2 1\n1 0 0 0\n1 3 0 0\n", "0.000 Å apart", 9},
	} {
		refuse(t, "xsf", bad.text, bad.words, bad.line)
	}
}

func TestXSFKeepsCellSpeciesPositionsAndDirections(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anyStructure(t)
		back := written(t, s, crystal.WriteXSF, "xsf")
		if s.Lattice != nil {
			s.Positions, s.Cartesian = s.Cart(), true
		}
		s.Labels, s.Magmoms, s.Fixed, s.Velocities = nil, nil, nil, nil
		for i, el := range s.Species {
			if el == "D" { // XSF has numbers of protons
				s.Species[i] = "H"
			}
		}
		if d := cmp.Diff(s, back, cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
	})
}

func FuzzReadXSF(f *testing.F) {
	addSeeds(f, xsfSeed, "ANIMSTEPS 2\nATOMS\nH 0 0 0\nH 0 0 1\n", "DIM-GROUP\n2 1\nPRIMVEC\n3 0 0\n0 3 0\n0 0 3\nPRIMCOORD\n1 1\n1 0 0 0\n")
	f.Fuzz(func(t *testing.T, data []byte) {
		s, _, err := crystal.ReadXSF(data)
		sound(t, s, err)
	})
}
