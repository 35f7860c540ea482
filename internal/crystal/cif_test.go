package crystal_test

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/nano-os/nanoos/internal/crystal"
)

const cifSeed = `# made by hand
data_first
_publ_title
;
loop_ is no loop here
;
data_Si
_Cell_Length_A 5.43(1)
_cell.length_b 5.43 _cell_length_c 5.43
_cell_angle_alpha 90.(0) # exact
_cell_angle_beta 90
_cell_angle_gamma 90
_journal_name 'a dog's "life"'
_symmetry_space_group_name_H-M 'P -1'
loop_
_symmetry_equiv_pos_site_id _symmetry_equiv_pos_as_xyz
1 'X, Y, Z'
2 -x,-y,-z
loop_
_atom_site_label
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
O1A 0.125(2) 0.25 0.375 1.
Fe2+ 0 0 0 ?
`

func TestCIFReadsTheFormsThatFilesHave(t *testing.T) {
	t.Parallel()
	s, warnings := mustRead(t, "cif", cifSeed)
	want := &crystal.Structure{
		Lattice:   &crystal.Matrix{{5.43, 0, 0}, {0, 5.43, 0}, {0, 0, 5.43}},
		Species:   []string{"O", "O", "Fe"},
		Positions: []crystal.Vector{{0.125, 0.25, 0.375}, {0.875, 0.75, 0.625}, {0, 0, 0}},
	}
	if d := cmp.Diff(want, s, cmpopts.EquateApprox(0, 1e-12)); d != "" || len(warnings) > 0 {
		t.Error(d, warnings)
	}
}

// cif is a cube of 4 Å with the sites and, before them, other lines.
func cif(before, columns, sites string) string {
	return "data_x\n_cell_length_a 4\n_cell_length_b 4\n_cell_length_c 4\n_cell_angle_alpha 90\n_cell_angle_beta 90\n_cell_angle_gamma 90\n" +
		before + "\nloop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n" + columns + "\n" + sites + "\n"
}

const cifP1 = "_space_group_name_H-M_alt 'P 1'"

func TestCIFElements(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, species string }{
		{"labels", cif(cifP1, "", "Fe1 0 0 0 O1A .5 .5 0 CL3 0 .5 .5 Na+ .5 0 .5"), "Fe O Cl Na"},
		{"type symbols win", cif(cifP1, "_atom_site_type_symbol", "M1 0 0 0 Fe3+ M2 .5 .5 0 O2- X .5 0 .5 SI4+"), "Fe O Si"},
		{"unknown type symbol", cif(cifP1, "_atom_site_type_symbol", "Fe1 0 0 0 ? O2 .5 .5 0 ."), "Fe O"},
		{"the formula decides", cif(cifP1+"\n_chemical_formula_sum 'C2 H2'", "", "CA 0 0 0 HO .5 .5 0 CAB 0 .5 .5"), "C H C"},
		{"water", cif(cifP1, "", "OW 0 0 0 HW1 .5 .5 0"), "O H"},
		{"deuterium", cif(cifP1, "", "D1 0 0 0"), "H"},
		{"one site without a loop", "data_x\n_cell_length_a 4\n_cell_length_b 4\n_cell_length_c 4\n_atom_site_label K\n_atom_site_fract_x 0\n_atom_site_fract_y 0\n_atom_site_fract_z 0\n", "K"},
		{"dummy site", cif(cifP1, "_atom_site_calc_flag", "K 0 0 0 d Cg1 .5 .5 .5 dum"), "K"},
	} {
		s, _ := mustRead(t, "cif", test.text)
		if got := strings.Join(s.Species, " "); got != test.species {
			t.Errorf("%s: species %s, want %s", test.name, got, test.species)
		}
	}
}

func TestCIFSymmetry(t *testing.T) {
	t.Parallel()
	operations := func(list ...string) string {
		return "_space_group_name_H-M_alt 'any'\nloop_\n_space_group_symop_operation_xyz\n'" + strings.Join(list, "'\n'") + "'"
	}
	for _, test := range []struct {
		name, text string
		want       []crystal.Vector
	}{
		{"general position", cif(operations("x,y,z", "-x,-y,z"), "", "K .1 .2 .3"), []crystal.Vector{{.1, .2, .3}, {.9, .8, .3}}},
		{"special position", cif(operations("x,y,z", "-x,-y,z"), "", "K .5 0 .3"), []crystal.Vector{{.5, 0, .3}}},
		{"near a special position, in few digits", cif(operations("x,y,z", "y,x,z"), "", "K .2500 .2501 .3"), []crystal.Vector{{.25, .2501, .3}}},
		{"fractions before, decimals, signs", cif(operations("+x,+y,+z", "1/2+x,0.5 - y,-z"), "", "K .1 .2 .3"), []crystal.Vector{{.1, .2, .3}, {.6, .3, .7}}},
		{"centring", cif(operations("x,y,z", "x+.3333,y+.6667,z+.6667", "x+2/3,y+1/3,z+1/3"), "", "K 0 0 0"), []crystal.Vector{{0, 0, 0}, {1. / 3, 2. / 3, 2. / 3}, {2. / 3, 1. / 3, 1. / 3}}},
		{"rounded thirds", cif(operations("x,y,z", "-y,x-y,z", "-x+y,-x,z"), "", "K .3333 .6667 .25"), []crystal.Vector{{1. / 3, 2. / 3, .25}}},
		{"all sites listed too", cif(operations("x,y,z", "-x,-y,-z"), "", "K .1 .2 .3 K .9 .8 .7"), []crystal.Vector{{.1, .2, .3}, {.9, .8, .7}}},
		{"the identity left out", cif(operations("-x,-y,-z"), "", "K .1 .2 .3"), []crystal.Vector{{.1, .2, .3}, {.9, .8, .7}}},
		{"twice the same operation", cif(operations("x,y,z", "x,y,z", "x+1,y,z"), "", "K .1 .2 .3"), nil},
		{"P1 by number", cif("_space_group_IT_number 1", "", "K .1 .2 .3"), []crystal.Vector{{.1, .2, .3}}},
		{"P1 keeps what is written", cif(cifP1, "", "K 1.3333 -.6667 .25"), []crystal.Vector{{1.3333, -.6667, .25}}},
	} {
		if test.want == nil {
			refuse(t, "cif", test.text, "only the identity", 0)
			continue
		}
		s, _ := mustRead(t, "cif", test.text)
		if d := cmp.Diff(test.want, s.Positions, cmpopts.EquateApprox(0, 1e-12)); d != "" {
			t.Errorf("%s: %s", test.name, d)
		}
	}
}

func TestCIFWarnings(t *testing.T) {
	t.Parallel()
	good := cif(cifP1, "", "K 0 0 0")
	for _, test := range []struct{ name, text, warning string }{
		{"several structures", good + good + "data_empty\n", "2 structures"},
		{"one structure and a broken tail", good + "data_y\n_a 'open\n", ""},
		{"no word of symmetry", cif("", "", "K 0 0 0"), "nothing of symmetry"},
		{"deuterium", cif(cifP1, "", "D1 0 0 0"), "deuterium"},
		{"angle left out", strings.Replace(good, "_cell_angle_beta 90\n", "", 1), "_cell_angle_beta is not given"},
		{"listed and generated", cif("_symmetry_equiv_pos_as_xyz x,y,z\nloop_\n_symmetry_equiv_pos_as_xyz\n-x,-y,-z\nx,y,z", "", "K .1 .2 .3 K .9 .8 .7"), "each is taken once"},
	} {
		_, warnings := mustRead(t, "cif", test.text)
		if got := strings.Join(warnings, "; "); !strings.Contains(got, test.warning) || (got != "") != (test.warning != "") {
			t.Errorf("%s: warnings %q, want %q", test.name, got, test.warning)
		}
	}
}

func TestCIFRefusesWhatItCannotTrust(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text, words string
		line              int
	}{
		{"no block", "loop_\n_a\n1\n", "has to begin with data_", 1},
		{"no atoms", "data_x\n_cell_length_a 4\n", "no data block of the file has atom sites", 0},
		{"no sites in the loop", cif(cifP1, "", ""), "no data block of the file has atom sites", 0},
		{"open quote", cif("_a 'b", "", "K 0 0 0"), "does not end on its line", 8},
		{"open text", cif("_a\n;b", "", "K 0 0 0"), "has no end", 9},
		{"value without a name", cif("stray", "", "K 0 0 0"), `"stray" has no name`, 8},
		{"ragged loop", cif(cifP1, "", "K 0 0 0 K 0"), "last row has only 2 values", 0},
		{"unknown coordinate", cif(cifP1, "", "K 0 ? 0"), "the coordinate y of site K is not known", 15},
		{"no number", cif(cifP1, "", "K 0 0 zero"), `"zero" is not a finite number (coordinate z of site K)`, 15},
		{"not finite", cif(cifP1, "", "K 0 0 inf"), "not a finite number", 15},
		{"far away", cif(cifP1, "", "K 0 0 1e300"), "beyond", 15},
		{"partly occupied", cif(cifP1, "_atom_site_occupancy", "K 0 0 0 .5 Na 0 0 0 .5"), "disordered: site K is occupied .5, not 1, and 1 other", 15},
		{"more than full", cif(cifP1, "_atom_site_occupancy", "K 0 0 0 1.5"), "disordered", 15},
		{"group by name only", cif("_symmetry_space_group_name_H-M 'F m -3 m'", "", "K 0 0 0"), "does not list its symmetry operations", 8},
		{"group by number only", cif("_symmetry_Int_Tables_number 225", "", "K 0 0 0"), "does not list its symmetry operations", 8},
		{"group by Hall name only", cif("_space_group_name_Hall '-F 4 2 3'", "", "K 0 0 0"), "does not list its symmetry operations", 8},
		{"only the identity", cif("_space_group_IT_number 225\n_symmetry_equiv_pos_as_xyz x,y,z", "", "K 0 0 0"), "lists only the identity", 9},
		{"magnetic group", cif("loop_\n_space_group_symop_magn_operation.xyz\nx,y,z,+1", "", "K 0 0 0"), "magnetic group", 0},
		{"no operation", cif("_symmetry_equiv_pos_as_xyz x,y,w", "", "K 0 0 0"), "is not a symmetry operation", 8},
		{"flat operation", cif("_symmetry_equiv_pos_as_xyz x,x,z", "", "K 0 0 0"), "is not a symmetry operation", 8},
		{"an operation missing", cif("loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n-y,x,z", "", "K 0 0 0"), "are not a group", 10},
		{"no element", cif(cifP1, "", "Wat1 0 0 0"), `"Wat1" does not name an element`, 15},
		{"two lengths", cif("_cell_length_a 5", "", "K 0 0 0"), "given twice", 8},
		{"impossible angles", strings.NewReplacer("alpha 90", "alpha 170", "beta 90", "beta 60").Replace(cif(cifP1, "", "K 0 0 0")), "no cell has the angles", 0},
		{"no length", strings.Replace(cif(cifP1, "", "K 0 0 0"), "_cell_length_a 4", "_cell_length_a -4", 1), "not a positive number", 0},
		{"two elements in one place", cif(cifP1, "", "K 0 0 0 Na 0 0 1"), "are 0.000 Å apart", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			refuse(t, "cif", test.text, test.words, test.line)
		})
	}
}

func TestLatticeParametersComeBack(t *testing.T) {
	t.Parallel()
	m, err := crystal.LatticeFromParameters(3, 4, 5, 80, 95, 110)
	if err != nil {
		t.Fatal(err)
	}
	a, b, c, alpha, beta, gamma := m.Parameters()
	for i, x := range [...]float64{a - 3, b - 4, c - 5, alpha - 80, beta - 95, gamma - 110} {
		if math.Abs(x) > 1e-9 {
			t.Errorf("parameter %d is off by %v", i, x)
		}
	}
	if m[0][1] != 0 || m[0][2] != 0 || m[1][2] != 0 {
		t.Errorf("a is not along x or b not in the xy plane: %v", m)
	}
}

func FuzzReadCIF(f *testing.F) {
	addSeeds(f, cifSeed, cif("loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n-y,x-y,z+1/3\n-x+y,-x,z+2/3", "_atom_site_occupancy", "K .3333 .6667 0 1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, _, err := crystal.ReadCIF(data)
		sound(t, s, err)
	})
}
