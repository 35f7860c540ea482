package qe

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// fixtureDir is where recorded runs are kept, beside the checkout.
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
	dir = filepath.Join(dir, "qe")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("NO FIXTURES: recorded runs are not at %s; set NANOOS_FIXTURES", dir)
	}
	return dir
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// expected is what independent readers found in a recorded run.
type expected struct {
	Steps []expectedStep `json:"steps"`
}

type expectedStep struct {
	Command    string  `json:"command"`
	ExitCode   *int    `json:"exit_code"`
	Signal     *string `json:"signal"`
	StdoutFile string  `json:"stdout_file"`
	StderrFile string  `json:"stderr_file"`
	Outcome    string  `json:"outcome"`
	XMLFile    string  `json:"xml_file"`
	Text       struct {
		Program       string   `json:"program"`
		Version       string   `json:"version"`
		LastEnergy    *float64 `json:"last_energy_eV"`
		SCFIterations *int     `json:"scf_iterations_total"`
		LastPressure  *float64 `json:"last_pressure_kbar"`
		HOMO          *float64 `json:"homo_eV_text"`
		LUMO          *float64 `json:"lumo_eV_text"`
		Error         any      `json:"error"`
	} `json:"text"`
	XML *struct {
		Calculation  string        `json:"calculation"`
		Energy       *float64      `json:"energy_eV"`
		MaxForce     *float64      `json:"max_force_norm_eV_A"`
		Pressure     *float64      `json:"pressure_GPa"`
		Gap          *float64      `json:"band_gap_eV"`
		GapDirect    *bool         `json:"gap_is_direct"`
		GapNote      string        `json:"gap_note"`
		Metallic     bool          `json:"metallic_occupations"`
		Fermi        *float64      `json:"fermi_element_eV"`
		TwoFermi     []float64     `json:"two_fermi_eV"`
		Magnetic     bool          `json:"lsda"`
		TotalMag     *float64      `json:"total_magnetization_muB"`
		AbsoluteMag  *float64      `json:"absolute_magnetization_muB"`
		Steps        int           `json:"xml_steps"`
		NKPoints     int           `json:"nkpoints"`
		NElectrons   float64       `json:"nelectrons"`
		NAtoms       int           `json:"natoms"`
		Formula      string        `json:"formula_cell"`
		Volume       float64       `json:"volume_A3"`
		Lattice      [3][3]float64 `json:"lattice_angstrom"`
		Positions    [][3]float64  `json:"positions_angstrom"`
		Wall         *float64      `json:"xml_wall_s"`
		Stress       [][3]float64  `json:"stress_printed_GPa"`
		SCFConverged *bool         `json:"scf_converged_flag"`
		OptConverged *bool         `json:"opt_converged_flag"`
	} `json:"xml"`
}

// recorded is one program start of a fixture, with its files alone.
type recorded struct {
	name  string
	step  expectedStep
	files fstest.MapFS
	exit  *job.Exit
}

func recordedSteps(t testing.TB) []recorded {
	t.Helper()
	dir := fixtureDir(t)
	names, err := filepath.Glob(filepath.Join(dir, "*", "expected.json"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no cases in %s: %v", dir, err)
	}
	var out []recorded
	for _, name := range names {
		caseDir := filepath.Dir(name)
		var e expected
		if err := json.Unmarshal(readTestFile(t, name), &e); err != nil {
			t.Fatal(err)
		}
		for _, s := range e.Steps {
			r := recorded{name: filepath.Base(caseDir) + "/" + strings.TrimSuffix(s.StdoutFile, ".out"), step: s, files: fstest.MapFS{}}
			keep := []string{s.StdoutFile, s.StderrFile, s.XMLFile, strings.TrimSuffix(s.StdoutFile, ".out") + ".in"}
			if len(e.Steps) == 1 {
				keep = append(keep, crashFile)
			}
			for _, f := range keep {
				if f != "" && isFile(filepath.Join(caseDir, f)) {
					r.files[f] = &fstest.MapFile{Data: readTestFile(t, filepath.Join(caseDir, f))}
				}
			}
			if s.ExitCode != nil || s.Signal != nil {
				r.exit = &job.Exit{Observed: true}
				if s.ExitCode != nil {
					r.exit.Code = *s.ExitCode
				}
				if s.Signal != nil {
					r.exit.Signal = *s.Signal
				}
			}
			out = append(out, r)
		}
	}
	return out
}

func readTestFile(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// want is the outcome and the warning of a recorded outcome.
func (s expectedStep) want() (engine.Outcome, string) {
	switch s.Outcome {
	case "success_with_warning_gamma_only":
		return engine.SuccessWithWarning, warnGamma
	case "success_but_restart_data_absent":
		return engine.SuccessWithWarning, warnRestart
	}
	return engine.Outcome(s.Outcome), ""
}

func TestEveryRecordedRunHasItsOutcomeAndNumbers(t *testing.T) {
	t.Parallel()
	for _, r := range recordedSteps(t) {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			for _, exit := range []*job.Exit{r.exit, nil} {
				res := parseFiles(t, r.files, exit)
				r.step.check(t, res)
			}
		})
	}
}

// The numbers of text alone and of XML alone are those of both, within print.
func TestTextAloneAndXMLAloneAgree(t *testing.T) {
	t.Parallel()
	for _, r := range recordedSteps(t) {
		if r.step.XMLFile == "" || !strings.HasPrefix(r.step.Outcome, "success") {
			continue
		}
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			both := parseFiles(t, r.files, nil)
			for _, without := range []string{r.step.XMLFile, r.step.StdoutFile} {
				files := fstest.MapFS{}
				for name, f := range r.files {
					if name != without {
						files[name] = f
					}
				}
				alone := parseFiles(t, files, nil)
				if !alone.Outcome.Succeeded() {
					t.Errorf("without %s: %s %+v", without, alone.Outcome, alone.Failure)
				}
				near(t, "energy without "+without, alone.Summary.EnergyEV, both.Summary.EnergyEV, 1e-4)
				near(t, "pressure without "+without, alone.Summary.PressureGPa, both.Summary.PressureGPa, 0.002)
				near(t, "largest force without "+without, alone.Summary.MaxForceEVPerA, both.Summary.MaxForceEVPerA, 1e-4)
				near(t, "volume without "+without, alone.Summary.VolumeA3, both.Summary.VolumeA3, 1e-3)
				if cut := bytes.Contains(r.files[r.step.StdoutFile].Data, []byte("REMOVED ---")); !cut && alone.Summary.Formula != both.Summary.Formula {
					t.Errorf("formula without %s: %q, both %q", without, alone.Summary.Formula, both.Summary.Formula)
				}
			}
		})
	}
}

func parseFiles(t testing.TB, files fs.FS, exit *job.Exit) *engine.Result {
	t.Helper()
	res, err := New().Parse(engine.Run{Files: files, Exit: exit})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func (s expectedStep) check(t *testing.T, res *engine.Result) {
	t.Helper()
	want, warning := s.want()
	if res.Outcome != want {
		t.Errorf("outcome %s, want %s; failure %+v", res.Outcome, want, res.Failure)
	}
	if warning != "" && !slices.ContainsFunc(res.Warnings, func(w engine.Warning) bool { return w.Code == warning }) {
		t.Errorf("no warning %s in %+v", warning, res.Warnings)
	}
	if res.Outcome.Succeeded() != (res.Failure == nil) {
		t.Errorf("outcome %s with failure %+v", res.Outcome, res.Failure)
	}
	if s.Text.Version != "" && res.Summary.ProgramVersion != s.Text.Version {
		t.Errorf("version %q, want %q", res.Summary.ProgramVersion, s.Text.Version)
	}
	// The independent count takes the lines that tell of a stop or restart for
	// iterations too.
	interrupted := s.XMLFile == "first.xml" || s.XMLFile == "second.xml" || s.Outcome == "time_limit_graceful"
	if !interrupted && s.Text.Program == "PWSCF" && s.Text.SCFIterations != nil && *s.Text.SCFIterations > 0 {
		if n := res.Summary.NSCFIterations; n == nil || *n != *s.Text.SCFIterations {
			t.Errorf("SCF iterations %v, want %d", deref(n), *s.Text.SCFIterations)
		}
	}
	if s.XML != nil {
		s.checkXML(t, res)
	}
}

func (s expectedStep) checkXML(t *testing.T, res *engine.Result) {
	t.Helper()
	x, sum := s.XML, res.Summary
	if x.Calculation != "nscf" && x.Calculation != "bands" {
		near(t, "energy", sum.EnergyEV, x.Energy, 1e-4)
		near(t, "largest force", sum.MaxForceEVPerA, x.MaxForce, 1e-4)
		near(t, "pressure", sum.PressureGPa, x.Pressure, 0.002)
		near(t, "energy per atom", sum.EnergyPerAtomEV, new(*x.Energy/float64(x.NAtoms)), 1e-4)
		if sum.ConvergedElec == nil && res.Outcome.Succeeded() {
			t.Error("success without converged_electronic")
		}
	} else if sum.EnergyEV != nil {
		t.Errorf("an %s run has the energy %v", x.Calculation, *sum.EnergyEV)
	}
	if x.Stress != nil {
		v := *sum.StressGPa
		for i, want := range []float64{x.Stress[0][0], x.Stress[1][1], x.Stress[2][2], x.Stress[1][2], x.Stress[0][2], x.Stress[0][1]} {
			near(t, "stress", &v[i], new(-want), 0.002)
		}
	}
	if !x.Metallic {
		near(t, "gap", sum.BandGapEV, x.Gap, 2e-4)
	}
	if x.GapDirect != nil && (sum.BandGapDirect == nil || *sum.BandGapDirect != *x.GapDirect) {
		t.Errorf("direct gap %v, want %v", sum.BandGapDirect, *x.GapDirect)
	}
	if len(x.TwoFermi) == 2 {
		near(t, "Fermi energy", sum.FermiEnergyEV, new(max(x.TwoFermi[0], x.TwoFermi[1])), 2e-4)
	} else {
		near(t, "Fermi energy", sum.FermiEnergyEV, x.Fermi, 2e-4)
	}
	if x.Magnetic {
		near(t, "total magnetisation", sum.TotalMagMuB, x.TotalMag, 1e-3)
		near(t, "absolute magnetisation", sum.AbsoluteMagMuB, x.AbsoluteMag, 1e-3)
	}
	if x.Steps > 0 && deref(sum.NIonicSteps) != x.Steps {
		t.Errorf("ionic steps %v, want %d", deref(sum.NIonicSteps), x.Steps)
	}
	if deref(sum.NKPoints) != x.NKPoints || deref(sum.NAtoms) != x.NAtoms || sum.Formula != x.Formula {
		t.Errorf("%d k-points, %d atoms, %s; want %d, %d, %s", deref(sum.NKPoints), deref(sum.NAtoms), sum.Formula, x.NKPoints, x.NAtoms, x.Formula)
	}
	near(t, "electrons", sum.NElectrons, &x.NElectrons, 1e-6)
	near(t, "volume", sum.VolumeA3, &x.Volume, 1e-4)
	near(t, "wall time", sum.WallTimeS, x.Wall, 0.05)
	s.checkStructure(t, res.Structures.Final)
}

func (s expectedStep) checkStructure(t *testing.T, raw json.RawMessage) {
	t.Helper()
	var st crystal.Structure
	if err := json.Unmarshal(raw, &st); err != nil {
		t.Fatalf("final structure: %v", err)
	}
	for i, row := range s.XML.Lattice {
		for k := range row {
			near(t, "lattice", &st.Lattice[i][k], &row[k], 1e-5)
		}
	}
	cart := st.Cart()
	if len(cart) != len(s.XML.Positions) {
		t.Fatalf("%d positions, want %d", len(cart), len(s.XML.Positions))
	}
	for i, row := range s.XML.Positions {
		for k := range row {
			near(t, "position", &cart[i][k], &row[k], 1e-5)
		}
	}
}

func near(t *testing.T, what string, got, want *float64, tolerance float64) {
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
