package crystal_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/crystal"
)

const xyzSeed = `2
Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3:forces:R:3:initial_magmoms:R:1:move_mask:L:1 energy=-1.5 pbc="T T F" name='two words'
Fe 0 0 0 0.1 0.2 0.3 2.5 T
O 1.0D0 2 2 0 0 0 0 F
2
second
H 0 0 0
1 0 0 0.74
`

func TestXYZReadsTheFirstFrameAndSaysSo(t *testing.T) {
	t.Parallel()
	s, warnings := mustRead(t, "xyz", xyzSeed)
	want := &crystal.Structure{
		Lattice:   &crystal.Matrix{{4, 0, 0}, {0, 4, 0}, {0, 0, 4}},
		PBC:       &[3]bool{true, true, false},
		Species:   []string{"Fe", "O"},
		Positions: []crystal.Vector{{0, 0, 0}, {1, 2, 2}},
		Cartesian: true,
		Magmoms:   []float64{2.5, 0},
		Fixed:     [][3]bool{{}, {true, true, true}},
	}
	if d := cmp.Diff(want, s); d != "" {
		t.Error(d)
	}
	if got := strings.Join(warnings, "; "); got != "the file has several frames: the first is read" {
		t.Errorf("warnings %q", got)
	}
}

func TestXYZFramesComeOneByOne(t *testing.T) {
	t.Parallel()
	var formulas []string
	for s, err := range crystal.ReadXYZFrames([]byte(xyzSeed + "\n\n3\ncut\nH 0 0 0\n")) {
		if err != nil {
			formulas = append(formulas, err.Error())
			continue
		}
		formulas = append(formulas, s.Formula())
	}
	want := []string{"FeO", "H2", "line 11, column 1: the file is too short for 3 atoms"}
	if d := cmp.Diff(want, formulas); d != "" {
		t.Error(d)
	}
	for range crystal.ReadXYZFrames([]byte(xyzSeed)) {
		break
	}
}

func TestXYZForms(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text, species string
		periodic            [3]bool
	}{
		{"molecule", "1\n\nH 0 0 0", "H", [3]bool{}},
		{"numbers of protons and labels", "3\n\n14 0 0 0\nFe12 2 0 0\nCL 4 0 0 extra words\n", "Si Fe Cl", [3]bool{}},
		{"free text with an equals sign", "1\nE = -1.0, see a=b\nH 0 0 0\n", "H", [3]bool{}},
		{"all repeats", "1\nLattice=\"3 0 0 0 3 0 0 0 3\"\nH 0 0 0\n", "H", [3]bool{true, true, true}},
		{"brackets", "1\npbc=[1, 1, 0] lattice=[[3, 0, 0], [0, 3, 0], [0, 0, 3]]\nH 0 0 0\n", "H", [3]bool{true, true, false}},
		{"cell of zeros", "1\nLattice=\"0 0 0 0 0 0 0 0 0\" pbc=\"F F F\"\nH 0 0 0\n", "H", [3]bool{}},
		{"cell without repeats", "1\nLattice=\"3 0 0 0 3 0 0 0 3\" pbc=\"F F F\"\nH 0 0 0\n", "H", [3]bool{}},
		{"columns in another order", "1\nProperties=id:I:1:pos:R:3:Z:I:1\n7 0 0 0 26\n", "Fe", [3]bool{}},
	} {
		s, _ := mustRead(t, "xyz", test.text)
		if got := strings.Join(s.Species, " "); got != test.species || s.Periodic() != test.periodic {
			t.Errorf("%s: species %s, repeats %v; want %s, %v", test.name, got, s.Periodic(), test.species, test.periodic)
		}
	}
}

func TestXYZRefusesWhatItCannotTrust(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text, words string
		line              int
	}{
		{"no number", "two\n\nH 0 0 0\n", "must be the number of atoms", 1},
		{"no atoms", "0\n\n", "must be at least 1", 1},
		{"a count that kills", "1000000000000\n\nH 0 0 0\n", "more than the 1000000 allowed", 1},
		{"more than fits the file", "1000\n\nH 0 0 0\n", "too short for 1000 atoms", 1},
		{"one line", "1", "ends before the comment line", 0},
		{"one atom missing", "3\nremark remark remark\nH 0 0 0\nH 0 0 1\n", "atom 3 of 3 is missing", 0},
		{"one atom too many", "1\n\nH 0 0 0\nH 0 0 1\n", "more lines than its number of atoms says", 4},
		{"blank line", "2\n\nH 0 0 0\n\nH 0 0 1\n", "atom 2 of 2 is missing", 4},
		{"unknown element", "1\n\nXx 0 0 0\n", `"Xx" is not an element`, 3},
		{"too many protons", "1\n\n119 0 0 0\n", `"119" is not an element`, 3},
		{"two numbers", "1\n\nH 0 0\n", "needs three numbers, the line has 2", 3},
		{"not finite", "1\n\nH 0 0 nan\n", `"nan" is not a finite number`, 3},
		{"sites on top of each other", "2\n\nH 0 0 0\nH 0 0 0\n", "are 0.000 Å apart", 4},
		{"cell of two vectors", "1\nLattice=\"3 0 0 0 3 0\"\nH 0 0 0\n", "nine numbers", 2},
		{"no number in the cell", "1\nLattice=\"3 0 0 0 3 0 0 0 x\"\nH 0 0 0\n", `"x" in the Lattice`, 2},
		{"vector of zero", "1\nLattice=\"3 0 0 0 3 0 0 0 0\" pbc=\"T T F\"\nH 0 0 0\n", "0 Å long", 2},
		{"repeats without a cell", "1\npbc=\"T T T\"\nH 0 0 0\n", "cannot repeat", 2},
		{"no flag", "1\npbc=\"T T 2\"\nH 0 0 0\n", "pbc must be three flags", 2},
		{"no positions", "1\nProperties=species:S:1\nH 0 0 0\n", "must have species:S:1 and pos:R:3", 2},
		{"cut properties", "1\nProperties=species:S:1:pos:R\nH 0 0 0\n", "name:kind:width", 2},
		{"huge width", "1\nProperties=species:S:1:pos:R:3:x:R:999999999\nH 0 0 0\n", "is not a width", 2},
		{"no mask", "1\nProperties=species:S:1:pos:R:3:move_mask:L:3\nH 0 0 0 T T\n", "move mask", 3},
		{"no moment", "1\nProperties=species:S:1:pos:R:3:magmoms:R:1\nH 0 0 0 up\n", "magnetic moment", 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			refuse(t, "xyz", test.text, test.words, test.line)
		})
	}
}

func FuzzReadXYZ(f *testing.F) {
	addSeeds(f, xyzSeed)
	f.Fuzz(func(t *testing.T, data []byte) {
		s, _, err := crystal.ReadXYZ(data)
		sound(t, s, err)
		for s, err := range crystal.ReadXYZFrames(data) {
			sound(t, s, err)
		}
	})
}
