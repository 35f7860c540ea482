package vasp

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

const saltStructure = `{"lattice": [[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]], "species": ["Na", "Cl"], "positions": [[0, 0, 0], [0.5, 0.5, 0.5]]}`

// secret is what must be seen nowhere.
const secret = "LICENSED-COEFFICIENTS"

func header(title string, enmax float64) string {
	return fmt.Sprintf("  %s\n 7.0\n parameters from PSCTR are:\n   VRHFIN =X\n   TITEL  = %s\n   POMASS =   22.990; ZVAL   =    7.000    mass and valenz\n   ENMAX  =  %.3f; ENMIN  =  100.000 eV\n %s\n", title, title, enmax, secret)
}

func testLibrary() fstest.MapFS {
	return fstest.MapFS{
		"Na/POTCAR":    {Data: []byte(header("PAW_PBE Na 08Apr2002", 102))},
		"Na_pv/POTCAR": {Data: []byte(header("PAW_PBE Na_pv 19Sep2006", 260))},
		"Cl/POTCAR":    {Data: []byte(header("PAW_PBE Cl 06Sep2000", 262))},
		"Ga/POTCAR":    {Data: []byte(header("PAW Ga 01Jan2000", 200))},
	}
}

func testSpec(structure, params string) job.Spec {
	s := job.Spec{Engine: "vasp", Demand: job.Demand{CPUs: 4}, Params: json.RawMessage(params)}
	if structure != "" {
		s.Structure = json.RawMessage(structure)
	}
	return s
}

func planned(t *testing.T, spec job.Spec, in engine.Inputs) *engine.Plan {
	t.Helper()
	p, err := New().Plan(spec, in)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return p
}

// refusedFields are the fields and files of all problems.
func refusedFields(t *testing.T, spec job.Spec, in engine.Inputs) []string {
	t.Helper()
	_, err := New().Plan(spec, in)
	e, ok := errors.AsType[*job.Error](err)
	if !ok || e.Code != job.Invalid {
		t.Fatalf("error %v", err)
	}
	var out []string
	for _, p := range e.Problems {
		out = append(out, p.File+p.Field)
	}
	return out
}

func TestAStaticRunIsWrittenInFull(t *testing.T) {
	t.Parallel()
	p := planned(t, testSpec(saltStructure, `{"kpoints": [4, 4, 4], "encut": 400, "potentials": {"Na": "Na_pv"}, "incar": {"LWAVE": false, "ISMEAR": -5, "LDAUU": [0, 4.5]}}`), engine.Inputs{Library: testLibrary()})
	want := "PREC = Accurate\nEDIFF = 1e-06\nNELM = 100\nSIGMA = 0.05\nLREAL = .FALSE.\nENCUT = 400\nIBRION = -1\nNSW = 0\nISMEAR = -5\nLDAUU = 0 4.5\nLWAVE = .FALSE.\n"
	if diff := cmp.Diff(want, string(p.Files["INCAR"])); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff("k-points\n0\nGamma\n4 4 4\n0 0 0\n", string(p.Files["KPOINTS"])); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]engine.Joined{{To: "POTCAR", From: []string{"Na_pv/POTCAR", "Cl/POTCAR"}, Version: "PAW_PBE Na_pv 19Sep2006, PAW_PBE Cl 06Sep2000"}}, p.Joined); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]engine.Step{{Program: "vasp_std", Ranks: 4}}, p.Steps); diff != "" {
		t.Error(diff)
	}
	s, _, err := crystal.ReadPOSCAR(p.Files["POSCAR"])
	if err != nil || s.Formula() != "ClNa" {
		t.Errorf("POSCAR: %v %v", s, err)
	}
}

// Potentials are licensed: no plan holds a byte of them, and no job may.
func TestNoPlanHoldsOrKeepsAPotential(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{"INCAR": {Data: []byte("ENCUT = 300\nKSPACING = 0.3\n")}, "POSCAR": {Data: []byte("s\n1\n3 0 0\n0 3 0\n0 0 3\nNa\n1\nDirect\n0 0 0\n")}}
	raw := testSpec("", `{}`)
	raw.Files = []job.File{{Name: "INCAR"}, {Name: "POSCAR"}}
	for _, spec := range []job.Spec{testSpec(saltStructure, `{}`), raw} {
		p := planned(t, spec, engine.Inputs{Library: testLibrary(), Files: files})
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), secret) {
			t.Error("the plan holds the potential")
		}
		for name := range p.Files {
			if strings.Contains(string(p.Files[name]), secret) {
				t.Errorf("%s holds the potential", name)
			}
		}
		if slices.ContainsFunc(p.Keep, func(k string) bool { return strings.HasPrefix(k, "POTCAR") || k == "*" }) {
			t.Errorf("kept: %v", p.Keep)
		}
	}
	raw.Files = append(raw.Files, job.File{Name: "POTCAR"})
	if got := refusedFields(t, raw, engine.Inputs{Library: testLibrary(), Files: files}); !slices.Contains(got, "files") {
		t.Errorf("a job with POTCAR: %v", got)
	}
}

func TestBandsFollowAStaticRun(t *testing.T) {
	t.Parallel()
	p := planned(t, testSpec(saltStructure, `{"calculation": "bands", "kpoints": {"path": [[0.5, 0.5, 0.5, "L"], [0, 0, 0, "Γ"]], "points": 30}, "scf_kpoints": [6, 6, 6]}`), engine.Inputs{})
	if len(p.Steps) != 2 || p.Steps[0].Copy["INCAR.bands"] != "INCAR" || p.Steps[0].Copy["KPOINTS.bands"] != "KPOINTS" {
		t.Errorf("steps %+v", p.Steps)
	}
	if !strings.Contains(string(p.Files["INCAR.bands"]), "ICHARG = 11\n") || strings.Contains(string(p.Files["INCAR"]), "ICHARG") {
		t.Errorf("INCAR.bands:\n%s", p.Files["INCAR.bands"])
	}
	if want := "k-points along lines\n30\nLine-mode\nReciprocal\n0.50000000 0.50000000 0.50000000 ! L\n0.00000000 0.00000000 0.00000000 ! Γ\n\n"; want != string(p.Files["KPOINTS.bands"]) {
		t.Errorf("KPOINTS.bands:\n%s", p.Files["KPOINTS.bands"])
	}
}

func TestAtomsOfAnElementComeTogetherWithTheirMoments(t *testing.T) {
	t.Parallel()
	p := planned(t, testSpec(`{"lattice": [[4, 0, 0], [0, 4, 0], [0, 0, 4]], "species": ["Na", "Cl", "Na", "Cl"], "positions": [[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]], "magmoms": [1, 2, 1, 3]}`, `{}`), engine.Inputs{})
	if got := string(p.Files["INCAR"]); !strings.Contains(got, "ISPIN = 2\n") || !strings.Contains(got, "MAGMOM = 2*1 2 3\n") {
		t.Errorf("INCAR:\n%s", got)
	}
	if diff := cmp.Diff([]string{"Na/POTCAR", "Cl/POTCAR"}, p.Joined[0].From); diff != "" {
		t.Error(diff)
	}
}

func TestEveryFaultOfAJobIsNamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ params, field string }{
		"unknown key":            {`{"encutt": 400}`, "parameters.encutt"},
		"potential not there":    {`{"potentials": {"Na": "Na_sv"}}`, "parameters.potentials.Na"},
		"of another element":     {`{"potentials": {"Na": "Cl"}}`, "parameters.potentials.Na"},
		"outside the library":    {`{"potentials": {"Na": "../Na"}}`, "parameters.potentials.Na"},
		"no such element":        {`{"potentials": {"Si": "Si"}}`, "parameters.potentials.Si"},
		"a line break":           {`{"incar": {"SYSTEM": "a\nLSTOP = T"}}`, "parameters.incar.SYSTEM"},
		"few k-points":           {`{"ismear": -5, "kpoints": "gamma"}`, "parameters.ismear"},
		"low cut-off":            {`{"encut": 100}`, "parameters.encut"},
		"gam with a mesh":        {`{"variant": "gam", "kpoints": [2, 2, 2]}`, "parameters.variant"},
		"std with spin-orbit":    {`{"variant": "std", "incar": {"LSORBIT": true}}`, "parameters.variant"},
		"bands without a path":   {`{"calculation": "bands"}`, "parameters.kpoints"},
		"more ranks than cores":  {`{"ranks": 8}`, "parameters.ranks"},
		"mesh of two numbers":    {`{"kpoints": [4, 4, 0]}`, "parameters.kpoints"},
		"lower-case tag":         {`{"incar": {"encut": 3}}`, "parameters"},
		"a path and no bands":    {`{"kpoints": {"path": [[0, 0, 0], [0, 0, 0.5]]}}`, "parameters.kpoints"},
		"convergence of nothing": {`{"ediff": 0}`, "parameters.ediff"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := refusedFields(t, testSpec(saltStructure, c.params), engine.Inputs{Library: testLibrary()})
			if !slices.ContainsFunc(got, func(f string) bool { return strings.HasPrefix(f, c.field) }) {
				t.Errorf("refused for %v, want %s", got, c.field)
			}
		})
	}
}

func TestSpinOrbitChoosesTheNonCollinearProgram(t *testing.T) {
	t.Parallel()
	p := planned(t, testSpec(saltStructure, `{"incar": {"LSORBIT": true}}`), engine.Inputs{})
	if p.Steps[0].Program != "vasp_ncl" {
		t.Errorf("program %s", p.Steps[0].Program)
	}
}

func TestADirectoryRunsAsItIs(t *testing.T) {
	t.Parallel()
	incar := "SYSTEM = x ! LSORBIT = T\nencut = 300; EDIFF = 1E-5\nLSORBIT = .TRUE.\n"
	files := fstest.MapFS{"INCAR": {Data: []byte(incar)}, "KPOINTS": {Data: []byte("k\n0\nGamma\n2 2 2\n")}, "POSCAR": {Data: []byte("s\n1\n3 0 0\n0 3 0\n0 0 3\nNa Cl Na\n1 1 1\nDirect\n0 0 0\n.5 .5 .5\n.5 0 0\n")}}
	spec := testSpec("", `{"ranks": 2}`)
	spec.Files = []job.File{{Name: "INCAR"}, {Name: "KPOINTS"}, {Name: "POSCAR"}}
	p := planned(t, spec, engine.Inputs{Files: files, Library: testLibrary()})
	if string(p.Files["INCAR"]) != incar || p.Steps[0].Program != "vasp_ncl" || p.Steps[0].Ranks != 2 {
		t.Errorf("plan %+v", p)
	}
	if diff := cmp.Diff([]string{"Na/POTCAR", "Cl/POTCAR", "Na/POTCAR"}, p.Joined[0].From); diff != "" {
		t.Error(diff)
	}
	delete(files, "KPOINTS")
	if got := refusedFields(t, spec, engine.Inputs{Files: files, Library: testLibrary()}); !slices.Contains(got, "INCAR") {
		t.Errorf("without k-points: %v", got)
	}
	spec.Params = json.RawMessage(`{"encut": 300}`)
	if got := refusedFields(t, spec, engine.Inputs{Files: files}); !slices.Contains(got, "parameters.encut") {
		t.Errorf("with encut: %v", got)
	}
}

func TestTheMonitorFollowsARelaxation(t *testing.T) {
	t.Parallel()
	m := New().Monitor(&engine.Plan{Files: map[string][]byte{"INCAR": []byte("NSW = 2\nIBRION = 2\nEDIFF = 1E-4\n")}})
	last := 0.0
	feed := func(text string) job.Progress {
		for i := range len(text) { // cut anywhere
			if _, err := m.Write([]byte(text[i : i+1])); err != nil {
				t.Fatal(err)
			}
		}
		p := m.Progress()
		if p.Fraction < last || p.Fraction > 1 {
			t.Errorf("fraction %v after %v", p.Fraction, last)
		}
		last = p.Fraction
		return p
	}
	feed(" running on    4 total cores\n")
	p := feed("DAV:   1    -0.100E+02    0.10000E+01   -0.25532E+03  2056   0.521E+02\n")
	if p.Stage != "ionic step 1, SCF iteration 1" || p.Quantity != "energy_change_eV" || *p.Value != 1 || p.Steps != 2 {
		t.Errorf("progress %+v", p)
	}
	p = feed("RMM:   2    -0.101E+02   -0.10000E-01   -0.25532E-03  2056   0.521E+02    0.3E+00\r\n")
	if math.Abs(p.Fraction-0.2475) > 1e-9 {
		t.Errorf("fraction %v", p.Fraction)
	}
	p = feed("   1 F= -.10645278E+02 E0= -.10645270E+02  d E =0.000000E+00  mag=     0.0000\n")
	if p.Step != 1 || *p.Value != -10.64527 || p.Fraction != 0.5 {
		t.Errorf("progress %+v", p)
	}
	p = feed("   2 F= -.10645278E+02 E0= -.10645270E+02  d E =0.000000E+00\n")
	if p.Fraction != 1 {
		t.Errorf("progress %+v", p)
	}
}
