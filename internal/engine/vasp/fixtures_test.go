package vasp

import (
	"encoding/json"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// fixtureDir is where recorded runs are kept, beside the checkout: their
// licences do not all allow them in it.
func fixtureDir(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("NANOOS_FIXTURES")
	if dir == "" {
		root, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for !isFile(filepath.Join(root, "go.mod")) {
			root = filepath.Dir(root)
		}
		dir = filepath.Join(root, "..", "shared", "fixtures")
	}
	dir = filepath.Join(dir, "vasp")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("NO FIXTURES: recorded runs are not at %s; set NANOOS_FIXTURES", dir)
	}
	return dir
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// recordedXML is what independent readers found in a vasprun.xml.
type recordedXML struct {
	Raw struct {
		WellFormed bool `json:"well_formed"`
		Generator  struct {
			Version string `json:"version"`
		} `json:"generator"`
		Complete int      `json:"n_calculations_complete"`
		Fermi    *float64 `json:"efermi_eV"`
		SCFSteps []int    `json:"scf_steps_per_ionic_step"`
		Energies *struct {
			Free float64 `json:"free_energy_eV"`
			Zero float64 `json:"energy_sigma0_eV"`
		} `json:"energies"`
		Last *struct {
			Force  float64      `json:"max_force_norm_eV_A"`
			Stress [][3]float64 `json:"stress_kB"`
		} `json:"last_ionic_step"`
	} `json:"raw_xml"`
	Pymatgen struct {
		Unreadable string         `json:"unreadable"`
		Formula    string         `json:"formula_cell"`
		NAtoms     int            `json:"natoms"`
		Lattice    [3][3]float64  `json:"lattice_angstrom"`
		Positions  [][3]float64   `json:"positions_fractional"`
		Volume     float64        `json:"volume_A3"`
		NKPoints   int            `json:"nkpoints"`
		Gap        float64        `json:"band_gap_eV"`
		Direct     bool           `json:"gap_is_direct"`
		Electronic bool           `json:"converged_electronic"`
		Parameters map[string]any `json:"parameters"`
	} `json:"pymatgen"`
}

type recordedText struct {
	Raw struct {
		Version   string   `json:"version"`
		Timing    bool     `json:"general_timing_block"`
		Elapsed   *float64 `json:"elapsed_s"`
		Free      *float64 `json:"last_TOTEN_eV"`
		Zero      *float64 `json:"last_energy_sigma0_eV"`
		Fermi     *float64 `json:"efermi_eV"`
		Pressure  *float64 `json:"external_pressure_kB"`
		Steps     int      `json:"ionic_steps_TOTEN_blocks"`
		Iteration int      `json:"electronic_iterations"`
		NIons     int      `json:"nions"`
		Moment    *float64 `json:"last_magnetization"`
	} `json:"raw_text"`
}

type recordedLines struct {
	Ionic      int      `json:"ionic_lines"`
	Electronic int      `json:"electronic_lines"`
	Free       *float64 `json:"last_F_eV"`
	Zero       *float64 `json:"last_E0_eV"`
	Moment     *float64 `json:"last_mag"`
}

// recordedCase is a directory of a recorded run.
type recordedCase struct {
	name, dir string
	expected  map[string]json.RawMessage
	labels    map[string]string
}

func recordedCases(t testing.TB) []recordedCase {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(fixtureDir(t), "*", "expected.json"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	var out []recordedCase
	for _, name := range names {
		var e struct {
			Expected map[string]json.RawMessage `json:"expected"`
			Labels   map[string]string          `json:"labels"`
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatal(err)
		}
		dir := filepath.Dir(name)
		out = append(out, recordedCase{filepath.Base(dir), dir, e.Expected, e.Labels})
	}
	return out
}

func parsePaths(t testing.TB, paths ...string) *engine.Result {
	t.Helper()
	files, err := engine.OpenRun(paths...)
	if err != nil {
		t.Fatal(err)
	}
	return parseFiles(t, files, nil)
}

func parseFiles(t testing.TB, files fs.FS, exit *job.Exit) *engine.Result {
	t.Helper()
	res, err := New().Parse(engine.Run{Files: files, Exit: exit})
	if err != nil {
		t.Fatal(err)
	}
	if res.Outcome.Succeeded() != (res.Failure == nil) {
		t.Errorf("outcome %s with failure %+v", res.Outcome, res.Failure)
	}
	if !res.Outcome.Succeeded() && res.Verdict == job.Converged {
		t.Errorf("outcome %s with verdict %s", res.Outcome, res.Verdict)
	}
	if f := res.Failure; f != nil && len(f.Evidence) == 0 && exit == nil {
		t.Errorf("failure without evidence: %+v", f)
	}
	return res
}

// recordedOutcomes are those of whole directories.
var recordedOutcomes = map[string]engine.Outcome{
	"al_metal":          engine.SuccessWithWarning, // the OUTCAR is of another run
	"bad_xml":           engine.Killed,
	"converged":         engine.Success,
	"elec_unconverged":  engine.SCFNotConverged,
	"indirect_gap":      engine.Success,
	"lepsilon":          engine.Success,
	"magmom_ldau":       engine.Success,
	"md":                engine.Success,
	"mp_compliant_gaas": engine.Success,
	"nelm_workflow_0":   engine.SCFNotConverged,
	"nelm_workflow_1":   engine.Success,
	"oszicar_nonconv":   engine.SCFNotConverged,
	"outcar_620":        engine.Success,
	"positive_energy":   engine.RecoverableError,
	"real_optlay":       engine.RecoverableError,
	"relaxation":        engine.Success,
	"si_bands":          engine.Success,
	"static_silicon":    engine.Success,
	"stderr_oom":        engine.OutOfMemory,
	"unconverged_relax": engine.SCFNotConverged,
	"unfinished":        engine.Killed,
	"zpotrf":            engine.RecoverableError,
}

func TestEveryRecordedRunHasItsOutcome(t *testing.T) {
	t.Parallel()
	for _, c := range recordedCases(t) {
		want, ok := recordedOutcomes[c.name]
		if !ok {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			res := parsePaths(t, c.dir)
			if res.Outcome != want {
				t.Errorf("outcome %s, want %s: %+v; warnings %+v", res.Outcome, want, res.Failure, res.Warnings)
			}
			if want.Succeeded() && res.Verdict != job.Converged {
				t.Errorf("verdict %s", res.Verdict)
			}
		})
	}
}

func TestEveryRecordedFileHasItsNumbers(t *testing.T) {
	t.Parallel()
	for _, c := range recordedCases(t) {
		for name, raw := range c.expected {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				switch plain := strings.TrimSuffix(name, ".gz"); {
				case plain == "vasprun.xml":
					checkXML(t, filepath.Join(c.dir, name), raw)
				case plain == "OUTCAR":
					checkOUTCAR(t, filepath.Join(c.dir, name), raw)
				case strings.HasPrefix(plain, "OSZICAR"):
					checkOSZICAR(t, filepath.Join(c.dir, name), raw)
				}
			})
		}
	}
}

func checkXML(t *testing.T, path string, raw json.RawMessage) {
	var e recordedXML
	if err := json.Unmarshal(raw, &e); err != nil {
		t.Fatal(err)
	}
	res := parsePaths(t, path)
	s := res.Summary
	if !e.Raw.WellFormed && res.Outcome.Succeeded() {
		t.Errorf("a cut file is a %s", res.Outcome)
	}
	if s.ProgramVersion != e.Raw.Generator.Version {
		t.Errorf("version %q, want %q", s.ProgramVersion, e.Raw.Generator.Version)
	}
	if deref(s.NIonicSteps) != max(e.Raw.Complete, -1) && e.Raw.Complete > 0 {
		t.Errorf("%d ionic steps, want %d", deref(s.NIonicSteps), e.Raw.Complete)
	}
	sum := 0
	for _, n := range e.Raw.SCFSteps {
		sum += n
	}
	if e.Raw.WellFormed && deref(s.NSCFIterations) != sum {
		t.Errorf("%d electronic steps, want %d", deref(s.NSCFIterations), sum)
	}
	if e.Raw.Energies != nil {
		within(t, "energy", s.EnergyEV, &e.Raw.Energies.Zero, 1e-4)
		within(t, "free energy", s.FreeEnergyEV, &e.Raw.Energies.Free, 1e-4)
		within(t, "Fermi energy", s.FermiEnergyEV, e.Raw.Fermi, 2e-4)
	}
	if l := e.Raw.Last; l != nil {
		within(t, "largest force", s.MaxForceEVPerA, &l.Force, 1e-4)
		if len(l.Stress) == 3 {
			within(t, "pressure", s.PressureGPa, new((l.Stress[0][0]+l.Stress[1][1]+l.Stress[2][2])/30), 0.002)
			within(t, "xx", &s.StressGPa[0], new(-l.Stress[0][0]/10), 0.002)
			within(t, "zz", &s.StressGPa[2], new(-l.Stress[2][2]/10), 0.002)
		}
	}
	if e.Pymatgen.Unreadable == "" {
		checkPymatgen(t, res, &e)
	}
}

func checkPymatgen(t *testing.T, res *engine.Result, e *recordedXML) {
	s, p := res.Summary, e.Pymatgen
	if composition(s.Formula) != composition(p.Formula) || deref(s.NAtoms) != p.NAtoms || deref(s.NKPoints) != p.NKPoints {
		t.Errorf("%s, %d atoms, %d k-points; want %s, %d, %d", s.Formula, deref(s.NAtoms), deref(s.NKPoints), p.Formula, p.NAtoms, p.NKPoints)
	}
	within(t, "volume", s.VolumeA3, &p.Volume, 1e-3)
	if n, ok := p.Parameters["NELECT"].(float64); ok {
		within(t, "electrons", s.NElectrons, &n, 1e-4)
	}
	if (res.Outcome == engine.SCFNotConverged) == p.Electronic {
		t.Errorf("outcome %s, converged_electronic %v", res.Outcome, p.Electronic)
	}
	// The reference counts a state as filled from 1e-8 on, which makes small
	// gaps of metals.
	if g := s.BandGapEV; g != nil && *g > 0.2 {
		within(t, "gap", g, &p.Gap, 2e-4)
		if s.BandGapDirect == nil || *s.BandGapDirect != p.Direct {
			t.Errorf("direct gap %v, want %v", s.BandGapDirect, p.Direct)
		}
	} else if p.Gap > 0.2 {
		t.Errorf("gap %v, want %v", g, p.Gap)
	}
	var st crystal.Structure
	if err := json.Unmarshal(res.Structures.Final, &st); err != nil {
		t.Fatalf("final structure: %v", err)
	}
	for i, row := range p.Lattice {
		for k := range row {
			within(t, "lattice", &st.Lattice[i][k], &row[k], 1e-5)
		}
	}
	for i, row := range p.Positions {
		for k := range row {
			within(t, "position", &st.Positions[i][k], &row[k], 1e-5)
		}
	}
}

func checkOUTCAR(t *testing.T, path string, raw json.RawMessage) {
	var e recordedText
	if err := json.Unmarshal(raw, &e); err != nil {
		t.Fatal(err)
	}
	res := parsePaths(t, path)
	s := res.Summary
	if !e.Raw.Timing && res.Outcome.Succeeded() {
		t.Errorf("a cut file is a %s", res.Outcome)
	}
	if "vasp."+s.ProgramVersion != e.Raw.Version {
		t.Errorf("version %q, want %q", s.ProgramVersion, e.Raw.Version)
	}
	if e.Raw.Steps > 0 {
		within(t, "energy", s.EnergyEV, e.Raw.Zero, 1e-4)
		within(t, "free energy", s.FreeEnergyEV, e.Raw.Free, 1e-4)
		if deref(s.NIonicSteps) != e.Raw.Steps {
			t.Errorf("%d ionic steps, want %d", deref(s.NIonicSteps), e.Raw.Steps)
		}
		within(t, "Fermi energy", s.FermiEnergyEV, e.Raw.Fermi, 2e-4)
		within(t, "magnetisation", s.TotalMagMuB, e.Raw.Moment, 1e-4)
		if e.Raw.Pressure != nil {
			within(t, "pressure", s.PressureGPa, new(*e.Raw.Pressure/10), 0.002)
		}
		if len(res.Structures.Final) == 0 {
			t.Error("no final structure")
		}
	}
	// The independent count has the step that was cut.
	if n := deref(s.NSCFIterations); e.Raw.Iteration > 0 && n != e.Raw.Iteration && (e.Raw.Timing || n != e.Raw.Iteration-1) {
		t.Errorf("%d electronic steps, want %d", deref(s.NSCFIterations), e.Raw.Iteration)
	}
	within(t, "wall time", s.WallTimeS, e.Raw.Elapsed, 0.01)
	if deref(s.NAtoms) != e.Raw.NIons {
		t.Errorf("%d atoms, want %d", deref(s.NAtoms), e.Raw.NIons)
	}
}

func checkOSZICAR(t *testing.T, path string, raw json.RawMessage) {
	var e recordedLines
	if err := json.Unmarshal(raw, &e); err != nil {
		t.Fatal(err)
	}
	files, err := engine.OpenRun(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := files.Open(strings.TrimSuffix(filepath.Base(path), ".gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := readOSZICAR("OSZICAR", f, settings{})
	if err != nil {
		t.Fatal(err)
	}
	if r.steps != e.Ionic || r.total != e.Electronic {
		t.Errorf("%d ionic and %d electronic steps, want %d and %d", r.steps, r.total, e.Ionic, e.Electronic)
	}
	if e.Ionic > 0 {
		within(t, "F", &r.energies.free, e.Free, 1e-4)
		within(t, "E0", &r.energies.zero, e.Zero, 1e-4)
		within(t, "moment", r.moment, e.Moment, 1e-4)
	}
}

func TestEveryRecordedMessageHasItsName(t *testing.T) {
	t.Parallel()
	for _, c := range recordedCases(t) {
		for name, label := range c.labels {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				path := filepath.Join(c.dir, name)
				res := parsePaths(t, path)
				if res.Outcome.Succeeded() || res.Failure.Code != label || res.Failure.Evidence[0].Line == 0 {
					t.Errorf("%s %+v, want %s", res.Outcome, res.Failure, label)
				}
				files, _ := engine.OpenRun(path)
				if s := New().Recognise(files); s < 0.5 {
					t.Errorf("recognised with %v", s)
				}
			})
		}
	}
}

// A cut file is never a success, wherever it is cut.
func TestNoCutFileIsASuccess(t *testing.T) {
	t.Parallel()
	dir := fixtureDir(t)
	for name, ends := range map[string]string{"converged/vasprun.xml": "</modeling>", "converged/OUTCAR": "General timing", "relaxation/OUTCAR": "General timing"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			last := strings.LastIndex(string(data), ends)
			for cut := 200; cut < last; cut += max(1, last/97) {
				files := fstest.MapFS{filepath.Base(name): &fstest.MapFile{Data: data[:cut]}}
				res, err := New().Parse(engine.Run{Files: files})
				if err == nil && (res.Outcome.Succeeded() || res.Verdict == job.Converged) {
					t.Fatalf("cut at %d of %d: %s, %s", cut, len(data), res.Outcome, res.Verdict)
				}
			}
		})
	}
}

func within(t *testing.T, what string, got, want *float64, tolerance float64) {
	t.Helper()
	switch {
	case want == nil && got == nil:
	case want == nil:
		t.Errorf("%s is %v, want none", what, *got)
	case got == nil:
		t.Errorf("%s is missing, want %v", what, *want)
	case !(math.Abs(*got-*want) <= tolerance):
		t.Errorf("%s is %v, want %v", what, *got, *want)
	}
}

func deref(n *int) int {
	if n == nil {
		return -1
	}
	return *n
}

// composition makes formulas of two styles equal: Ga1As1 and AsGa.
func composition(formula string) string {
	parts := regexp.MustCompile(`[A-Z][a-z]?[0-9]*`).FindAllString(formula, -1)
	for i, p := range parts {
		if !strings.ContainsAny(p, "0123456789") {
			parts[i] = p + "1"
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}
