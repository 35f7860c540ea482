package crystal_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/nano-os/nanoos/internal/crystal"
)

// refuse checks that a text is refused with the words, at the line.
func refuse(t *testing.T, format, text, words string, line int) {
	t.Helper()
	s, _, err := crystal.Read("", []byte(text), format)
	e, ok := err.(*crystal.ParseError)
	if !ok {
		t.Fatalf("error %v of type %T for %+v, want a ParseError with %q", err, err, s, words)
	}
	for _, p := range e.Problems {
		if strings.Contains(p.Message, words) && (line == 0 || p.Line == line) {
			return
		}
	}
	t.Errorf("error %v, want %q at line %d", err, words, line)
}

// mustRead reads a text that is good.
func mustRead(t *testing.T, format, text string) (*crystal.Structure, []string) {
	t.Helper()
	s, warnings, err := crystal.Read("", []byte(text), format)
	if err != nil {
		t.Fatal(err)
	}
	return s, warnings
}

func TestOneCrystalHasOneHashInEveryFormat(t *testing.T) {
	t.Parallel()
	root := fixtureDir(t)
	for crystalName, files := range map[string][]string{
		"rutile":         {"poscar_good/POSCAR_scaled", "cif_good/p1.cif", "cif_good/symmetrised.cif"},
		"rock salt":      {"poscar_good/POSCAR_direct", "poscar_good/POSCAR_neg_volume", "poscar_good/POSCAR_comment_after_coords", "poscar_good/POSCAR_vasp4"},
		"strontium site": {"poscar_good/POSCAR_cartesian", "poscar_good/POSCAR_tabs", "xyz/crystal.extxyz"},
	} {
		hashes := map[string]string{}
		for _, file := range files {
			data, err := os.ReadFile(filepath.Join(root, "structures", file))
			if err != nil {
				t.Fatal(err)
			}
			s, _, err := crystal.Read(file, data, "")
			if err != nil {
				t.Fatal(err)
			}
			hashes[s.Hash()] = file
		}
		if len(hashes) != 1 {
			t.Errorf("the hashes of %s differ: %v", crystalName, hashes)
		}
	}
}

func TestReadRecognisesTheFormatByNameAndByContent(t *testing.T) {
	t.Parallel()
	poscar, err := crystal.WritePOSCAR(silicon())
	if err != nil {
		t.Fatal(err)
	}
	cif, err := crystal.WriteCIF(silicon())
	if err != nil {
		t.Fatal(err)
	}
	xyz, err := crystal.WriteXYZ(silicon())
	if err != nil {
		t.Fatal(err)
	}
	json := `{"lattice": [[0, 2.715, 2.715], [2.715, 0, 2.715], [2.715, 2.715, 0]], "species": ["Si", "Si"], "positions": [[0, 0, 0], [0.25, 0.25, 0.25]]}`
	lammps := "cell\n\n1 atoms\n1 atom types\n0 3 xlo xhi\n0 3 ylo yhi\n0 3 zlo zhi\n\nMasses\n\n1 28.0855\n\nAtoms\n\n1 1 0 0 0\n"
	for _, test := range []struct{ name, text, format string }{
		{"POSCAR", string(poscar), ""}, {"runs/CONTCAR.relaxed", string(poscar), ""}, {"si.vasp", string(poscar), ""}, {"si.txt", string(poscar), ""},
		{"si.CIF", string(cif), ""}, {"si", string(cif), ""}, {"upload", "# a comment\n\n" + string(cif), ""},
		{"si.xyz", string(xyz), ""}, {"si.extxyz", string(xyz), ""}, {"", string(xyz), ""},
		{"si.json", json, ""}, {"", json, ""}, {"", json, "INTERNAL"},
		{"si.lmp", lammps, ""}, {"data.si", lammps, ""}, {"", lammps, "LAMMPS"},
		{"misnamed.cif", string(poscar), "VASP"},
	} {
		s, _, err := crystal.Read(test.name, []byte(test.text), test.format)
		if err != nil {
			t.Errorf("%q as %q: %v", test.name, test.format, err)
		} else if s.Species[0] != "Si" {
			t.Errorf("%q is read as %s", test.name, s.Formula())
		}
	}
	_, _, err = crystal.Read("notes.txt", []byte("buy milk\n"), "")
	if err == nil || !strings.Contains(err.Error(), "notes.txt: the format of the file is not recognised") {
		t.Errorf("error %v", err)
	}
	if _, _, err := crystal.Read("a.cif", cif, "pdb"); err == nil || !strings.Contains(err.Error(), `structure format "pdb" is not known`) {
		t.Errorf("error %v", err)
	}
}

func TestEveryFormatRefusesWhatIsNoText(t *testing.T) {
	t.Parallel()
	for _, f := range crystal.Formats {
		format := string(f)
		refuse(t, format, "", "the file is empty", 1)
		refuse(t, format, " \r\n\t\n", "the file is empty", 1)
		refuse(t, format, "a\nb\x00c", "zero byte", 2)
		refuse(t, format, strings.Repeat("0 ", crystal.MaxFileSize/2+1), "more than the", 0)
	}
}

func TestLineEndsAndByteOrderMarksDoNotMatter(t *testing.T) {
	t.Parallel()
	for format, write := range writers {
		plain, err := write(silicon())
		if err != nil {
			t.Fatal(err)
		}
		want, _ := mustRead(t, format, string(plain))
		for _, end := range []string{"\r\n", "\r"} {
			got, _ := mustRead(t, format, "\ufeff"+strings.ReplaceAll(string(plain), "\n", end))
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s with line ends %q: %s", format, end, d)
			}
		}
	}
}

var writers = map[string]func(*crystal.Structure) ([]byte, error){
	"poscar": crystal.WritePOSCAR, "cif": crystal.WriteCIF, "xyz": crystal.WriteXYZ, "xsf": crystal.WriteXSF,
	"pw-in": crystal.WritePWInput, "lammps-data": crystal.WriteLAMMPSData, "pymatgen": crystal.WritePymatgen, "ase": crystal.WriteASE,
}

func TestXYZKeepsAllThatAStructureHolds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := anyStructure(t)
		back := written(t, s, crystal.WriteXYZ, "xyz")
		if s.Lattice != nil {
			s.Positions, s.Cartesian = s.Cart(), true
		}
		if d := cmp.Diff(s, back, cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
	})
}

func TestPOSCARKeepsPositionsFlagsAndVelocities(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := repeating(t)
		if s.Lattice == nil {
			if _, err := crystal.WritePOSCAR(s); err == nil {
				t.Fatal("a molecule is written as POSCAR")
			}
			return
		}
		back := written(t, s, crystal.WritePOSCAR, "poscar")
		s.Labels, s.Magmoms = nil, nil
		if d := cmp.Diff(s, back); d != "" {
			t.Fatal(d)
		}
	})
}

func TestPOSCAROfVASP4KeepsWhatThatOfVASP5Does(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := repeating(t)
		if s.Lattice == nil {
			return
		}
		want, got := written(t, s, crystal.WritePOSCAR, "poscar"), written(t, s, crystal.WritePOSCAR4, "poscar4")
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal(d)
		}
	})
}

func TestCIFKeepsShapeSpeciesAndPositions(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := repeating(t)
		if s.Lattice == nil {
			if _, err := crystal.WriteCIF(s); err == nil {
				t.Fatal("a molecule is written as CIF")
			}
			return
		}
		back := written(t, s, crystal.WriteCIF, "cif")
		if d := cmp.Diff(s.Frac(), back.Frac(), cmpopts.EquateApprox(0, 1e-11)); d != "" {
			t.Fatal(d)
		}
		for i, el := range s.Species {
			if el == "D" {
				el = "H"
			}
			if back.Species[i] != el {
				t.Fatalf("site %d is %s, want %s", i, back.Species[i], el)
			}
		}
		var want, got [6]float64
		want[0], want[1], want[2], want[3], want[4], want[5] = s.Lattice.Parameters()
		got[0], got[1], got[2], got[3], got[4], got[5] = back.Lattice.Parameters()
		if d := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-8)); d != "" {
			t.Fatal(d)
		}
	})
}

// repeating draws a structure that repeats in all directions, if it is one
// with a cell: POSCAR and CIF know no other.
func repeating(t *rapid.T) *crystal.Structure {
	s := anyStructure(t)
	s.PBC = nil
	if ps := s.Validate(); len(ps) > 0 {
		t.Skip(ps)
	}
	return s
}

func written(t *rapid.T, s *crystal.Structure, write func(*crystal.Structure) ([]byte, error), format string) *crystal.Structure {
	text, err := write(s)
	if err != nil {
		t.Fatal(err)
	}
	back, _, err := crystal.Read("", text, format)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return back
}

// seeds of the fuzz tests: every kind of line that the readers know.
func addSeeds(f *testing.F, texts ...string) {
	for _, text := range texts {
		f.Add([]byte(text))
		f.Add([]byte(strings.ReplaceAll(text, "\n", "\r\n")))
		f.Add([]byte(text[:len(text)*2/3]))
		f.Add([]byte(strings.ReplaceAll(text, "1", "999999999999")))
		f.Add([]byte(strings.ReplaceAll(text, "0", "nan")))
	}
}

// sound checks what every reader promises: a valid structure or a ParseError.
func sound(t *testing.T, s *crystal.Structure, err error) {
	t.Helper()
	if err != nil {
		if e, ok := err.(*crystal.ParseError); !ok || len(e.Problems) == 0 || e.Error() == "" {
			t.Fatalf("error %v of type %T", err, err)
		}
		return
	}
	if ps := s.Validate(); len(ps) > 0 {
		t.Fatalf("the structure read is not valid: %v", ps)
	}
	s.Hash()
	for _, x := range s.Cart() {
		if math.IsNaN(x.Norm()) {
			t.Fatalf("position %v", x)
		}
	}
}

func FuzzRead(f *testing.F) {
	addSeeds(f, poscarSeed, cifSeed, xyzSeed, lammpsSeed, jsonSeed, xsfSeed, pwSeed, pymatgenSeed, aseSeed)
	f.Fuzz(func(t *testing.T, data []byte) {
		s, _, err := crystal.Read("file", data, "")
		sound(t, s, err)
	})
}

func BenchmarkRead(b *testing.B) {
	s, err := silicon().Supercell(37, 37, 37)
	if err != nil {
		b.Fatal(err)
	}
	for format, write := range writers {
		text, err := write(s)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("%s_%d", format, s.NAtoms()), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := crystal.Read("", text, format); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestLossesNamesWhatAFormatHasNoPlaceFor(t *testing.T) {
	t.Parallel()
	s := &crystal.Structure{
		Lattice: &crystal.Matrix{{4, 0, 0}, {0, 4, 0}, {0, 0, 12}}, PBC: &[3]bool{true, true, false}, Species: []string{"Fe"}, Positions: []crystal.Vector{{}},
		Labels: []string{"Fe_up"}, Magmoms: []float64{2}, Fixed: [][3]bool{{true, true, true}}, Velocities: []crystal.Vector{{0.1, 0, 0}},
	}
	for f, want := range map[crystal.Format]string{
		crystal.POSCAR: "the directions that do not repeat, labels, magnetic moments", crystal.CIF: "the directions that do not repeat, labels, magnetic moments, fixed coordinates, velocities",
		crystal.XYZ: "", crystal.JSON: "", crystal.Pymatgen: "", crystal.ASE: "labels, velocities", crystal.XSF: "labels, magnetic moments, fixed coordinates, velocities",
		crystal.PWInput: "the directions that do not repeat, labels, magnetic moments, velocities", crystal.LAMMPSData: "the directions that do not repeat, labels, magnetic moments, fixed coordinates",
	} {
		if got := strings.Join(f.Losses(s), ", "); got != want {
			t.Errorf("%s loses %q, want %q", f, got, want)
		}
		if lost := f.Losses(silicon()); lost != nil {
			t.Errorf("%s loses %v of plain silicon", f, lost)
		}
	}
}

func TestWriteAndReadAreInversesInEveryFormat(t *testing.T) {
	t.Parallel()
	for _, f := range crystal.Formats {
		text, err := crystal.Write(silicon(), f)
		if err != nil {
			t.Errorf("%s: %v", f, err)
			continue
		}
		for _, format := range []string{"", string(f)} { // told by content, and by name
			s, warnings, err := crystal.Read("", text, format)
			old := f == crystal.POSCAR4 // which says that its symbols are a comment
			if err != nil || (len(warnings) == 1) != old {
				t.Errorf("%s as %q: %v %v", f, format, err, warnings)
				continue
			}
			if math.Abs(s.Volume()-silicon().Volume()) > 1e-6 || s.Formula() != "Si2" {
				t.Errorf("%s: %+v", f, s)
			}
		}
	}
	if _, err := crystal.Write(silicon(), "pdb"); err == nil {
		t.Error("an unknown format is written")
	}
}
