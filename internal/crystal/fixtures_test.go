package crystal_test

import (
	"encoding/json"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/nano-os/nanoos/internal/crystal"
)

// fixture is what careful people say of a structure file.
type fixture struct {
	Format  string `json:"format"`
	Verdict string `json:"verdict"`
	Why     string `json:"why"`
	Truth   *struct {
		NAtoms  int         `json:"natoms"`
		Formula string      `json:"formula_cell"`
		Lengths *[3]float64 `json:"lattice_lengths"`
		Angles  *[3]float64 `json:"lattice_angles"`
		Volume  *float64    `json:"volume_A3"`
	} `json:"truth"`
	Readers struct {
		Pymatgen struct {
			NAtoms  int         `json:"natoms"`
			Formula string      `json:"formula_cell"`
			Lengths *[3]float64 `json:"lattice_abc"`
			Angles  *[3]float64 `json:"lattice_angles"`
			Volume  *float64    `json:"volume_A3"`
		} `json:"pymatgen"`
		ASE struct {
			NAtoms int      `json:"natoms"`
			Volume *float64 `json:"volume_A3"`
		} `json:"ase"`
	} `json:"readers"`
}

// refusals are files that others read and that are refused on purpose.
var refusals = map[string]string{
	"cif_good/hm_only.cif":                 "names a space group without operations",
	"cif_good/uncertainties.cif":           "names a space group without operations",
	"cif_public/nosymm.cif":                "names a space group without operations",
	"cif_public/site_type_symbol_test.cif": "a site is shared by two elements",
}

// elementsOf are the cells of files whose other readers take types for elements.
var elementsOf = map[string]string{
	"lammps_public/li.data":     "Li",
	"lammps_public/data.quartz": "Si3O6",
	"lammps_public/ethane.data": "C2H6",
}

// unnamed are LAMMPS files that do not say which elements their types are.
var unnamed = map[string][]string{
	"lammps_data/atomic.data":    {"Cl", "Na"},
	"lammps_data/triclinic.data": {"O", "Zn"},
}

func TestEveryStructureFixtureIsReadAsItsMakerMeantIt(t *testing.T) {
	t.Parallel()
	root := fixtureDir(t)
	files, err := filepath.Glob(filepath.Join(root, "structures", "*", "expected.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no structure fixtures under %s: %v", root, err)
	}
	skipped := map[string]int{}
	for _, file := range files {
		var expected struct {
			Files map[string]fixture `json:"files"`
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &expected); err != nil {
			t.Fatal(err)
		}
		for _, name := range slices.Sorted(maps.Keys(expected.Files)) {
			f := expected.Files[name]
			if _, err := crystal.ParseFormat(f.Format); err != nil {
				skipped[f.Format]++
				continue
			}
			t.Run(filepath.Base(filepath.Dir(file))+"/"+name, func(t *testing.T) {
				t.Parallel()
				checkFixture(t, filepath.Join(filepath.Dir(file), name), f)
			})
		}
	}
	t.Logf("skipped, for there is no reader: %v", skipped)
}

func checkFixture(t *testing.T, file string, f fixture) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(file)
	s, warnings, err := crystal.Read(name, data, "")
	key := filepath.Base(filepath.Dir(file)) + "/" + name
	if elements, ok := unnamed[key]; ok {
		if err == nil {
			t.Fatalf("read as %s, want it refused: %s", s.Formula(), f.Why)
		}
		t.Log(err)
		s, err = crystal.ReadLAMMPSData(data, elements)
	}
	if _, ok := refusals[key]; ok || f.Verdict == "reject" {
		if err == nil {
			t.Fatalf("read as %s, want it refused: %s", s.Formula(), f.Why)
		}
		t.Log(err)
		return
	}
	if err != nil {
		t.Fatalf("refused: %v; want it read: %s", err, f.Why)
	}
	t.Log(warnings)
	if f.Verdict == "accept_with_warning" && len(warnings) == 0 {
		t.Errorf("read without a warning: %s", f.Why)
	}
	if f.Truth != nil {
		checkStructure(t, s, f.Truth.NAtoms, f.Truth.Formula, f.Truth.Lengths, f.Truth.Angles, f.Truth.Volume)
	} else if p := f.Readers.Pymatgen; p.NAtoms > 0 {
		checkStructure(t, s, p.NAtoms, p.Formula, p.Lengths, p.Angles, p.Volume)
	} else {
		// No reader but ours knows the elements of these.
		a := f.Readers.ASE
		checkStructure(t, s, a.NAtoms, elementsOf[key], nil, nil, a.Volume)
	}
}

func checkStructure(t *testing.T, s *crystal.Structure, natoms int, formula string, lengths, angles *[3]float64, volume *float64) {
	t.Helper()
	if s.NAtoms() != natoms {
		t.Errorf("%d atoms, want %d", s.NAtoms(), natoms)
	}
	if got := countsOf(s.Formula()); !maps.Equal(got, countsOf(formula)) {
		t.Errorf("formula %s, want %s", s.Formula(), formula)
	}
	if lengths != nil {
		a, b, c, alpha, beta, gamma := s.Lattice.Parameters()
		for i, x := range [...]float64{a, b, c} {
			if math.Abs(x-lengths[i]) > 1e-5 {
				t.Errorf("length %d is %v, want %v", i, x, lengths[i])
			}
		}
		for i, x := range [...]float64{alpha, beta, gamma} {
			if math.Abs(x-angles[i]) > 1e-5 {
				t.Errorf("angle %d is %v, want %v", i, x, angles[i])
			}
		}
	}
	if volume != nil && math.Abs(s.Volume()-*volume) > 1e-5 {
		t.Errorf("volume %v, want %v", s.Volume(), *volume)
	}
}

// countsOf reads "O4Ti2" and "O4Ti2Na1", in which a 1 may be left out.
func countsOf(formula string) map[string]string {
	counts := map[string]string{}
	for _, m := range regexp.MustCompile(`([A-Z][a-z]?)(\d*)`).FindAllStringSubmatch(formula, -1) {
		if m[2] == "" {
			m[2] = "1"
		}
		counts[m[1]] = m[2]
	}
	return counts
}

// fixtureDir finds the public and the made test files.
func fixtureDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("NANOOS_FIXTURES")
	if dir == "" {
		at, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for at != filepath.Dir(at) {
			if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
				break
			}
			at = filepath.Dir(at)
		}
		dir = filepath.Join(at, "..", "shared", "fixtures")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("THE FIXTURES ARE ABSENT, NOTHING IS CHECKED HERE: set NANOOS_FIXTURES (%v)", err)
	}
	return dir
}
