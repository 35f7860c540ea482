package crystal_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/nano-os/nanoos/internal/crystal"
)

// TestHostileFilesCostMemoryInProportionToTheirSize reads files made to be
// expensive. It runs alone, because it counts what the whole program allocates.
func TestHostileFilesCostMemoryInProportionToTheirSize(t *testing.T) {
	const size = 1 << 20
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	lines := func(format string) string {
		var b strings.Builder
		for i := 0; b.Len() < size; i++ {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	crowd := lines("H 0 0 .00000%d\n")
	two := "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n-x,-y,-z"
	for _, hostile := range []struct{ name, format, text string }{
		{"atoms in one place", "xyz", fmt.Sprintf("%d\n\n%s", strings.Count(crowd, "\n"), crowd)},
		{"a long comment", "xyz", "1\n" + fill("a=b ") + "\nH 0 0 0\n"},
		{"many columns", "xyz", "1\nProperties=" + fill("a:S:1:") + "\nH 0 0 0\n"},
		{"open brackets", "xyz", "1\nLattice=" + fill("[") + "\nH 0 0 0\n"},
		{"a loop of names", "cif", "data_x\nloop_\n" + fill("_a ") + "1"},
		{"a loop of values", "cif", "data_x\nloop_\n_a\n" + fill("1 ")},
		{"quotes", "cif", "data_x\n" + fill("'")},
		{"blocks", "cif", fill("data_x\n")},
		{"items", "cif", "data_x\n" + fill("_cell_length_a 1 ")},
		{"loops", "cif", "data_x\n" + fill("loop_ _a 1 ")},
		{"sites in one place", "cif", cif(two, "", lines("H .00000%d 0 0\n"))},
		{"operations", "cif", cif("loop_\n_symmetry_equiv_pos_as_xyz\n"+lines("x+%d/7919,y,z\n"), "", "H 0 0 0")},
		{"dummies", "cif", cif(cifP1, "_atom_site_calc_flag", "K 0 0 0 d "+fill("C 0 0 0 dum "))},
		{"symbols", "poscar", poscar("Na Cl", fill("Na "))},
		{"lines of symbols", "poscar", poscar("Na Cl", fill("Na\n"))},
		{"counts", "poscar", poscar("1 1", fill("1 "))},
		{"lines of counts", "poscar", poscar("Na Cl", strings.Repeat("Na ", size/6), "1 1", strings.Repeat("1\n", size/6))},
		{"masses", "lammps-data", lammps("", fill("1 22.99\n"), "1 1 0 0 0", "2 2 2 2 2")},
		{"header", "lammps-data", "x\n" + fill("1 atoms\n")},
		{"sections of atoms", "lammps-data", "x\n1 atoms\n1 atom types\n" + fill("Atoms\n1 1 0 0 0\n")},
		{"sections", "lammps-data", "x\n" + fill("Foo\n")},
		{"atoms without end", "xsf", "ATOMS\n" + crowd},
		{"keywords", "xsf", fill("CONVVEC\n")},
		{"vectors", "xsf", fill("PRIMVEC\n1 0 0\n0 1 0\n0 0 1\n")},
		{"a block without end", "xsf", "BEGIN_X\n" + fill("1 ")},
		{"variables", "pw-in", "&SYSTEM\n" + lines("x(%d)=1\n")},
		{"values", "pw-in", "&SYSTEM\ncelldm = " + fill("1,")},
		{"namelists", "pw-in", fill("&SYSTEM\n/\n")},
		{"cards", "pw-in", fill("CELL_PARAMETERS\n")},
		{"positions", "pw-in", "&SYSTEM ibrav=1 A=9 nat=1 /\nATOMIC_POSITIONS\n" + crowd},
		{"sites", "pymatgen", `{"sites":[` + fill("{},") + "{}]}"},
		{"deep sites", "pymatgen", `{"sites":[` + fill("[")},
		{"deep numbers", "ase", `{"numbers":` + fill("[")},
		{"many numbers", "ase", `{"numbers":[1],"positions":[` + fill("1.5,") + "1]}"},
		{"constraints", "ase", `{"constraints":[` + fill("{},") + "{}]}"},
		{"nesting", "json", `{"x":` + fill("[")},
		{"fields", "json", "{" + fill(`"abcdef":1,`) + `"a":1}`},
		{"a long name", "json", `{"` + fill("x") + `":1}`},
		{"wrong entries", "json", `{"positions":[` + fill("1,") + "1]}"},
	} {
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		s, _, err := crystal.Read("", []byte(hostile.text), hostile.format)
		runtime.ReadMemStats(&after)
		sound(t, s, err)
		// Lists that grow are allocated several times over, so what is alive at
		// a time is a quarter of this.
		if used := int(after.TotalAlloc - before.TotalAlloc); used > 80*len(hostile.text)+4<<20 {
			t.Errorf("%s %s: %d MB of memory for %d MB of text", hostile.format, hostile.name, used>>20, len(hostile.text)>>20)
		}
	}
}
