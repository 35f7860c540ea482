package qe

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

const libraryDir = "/usr/share/espresso/pseudo"

// library is the pseudopotentials that Debian installs with pw.x.
func library() engine.Inputs {
	return engine.Inputs{Library: os.DirFS(libraryDir), LibraryDirs: []string{libraryDir}}
}

// needProgram skips without pw.x, except where the build must have it.
func needProgram(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err == nil {
			continue
		}
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is not installed", p)
		}
		t.Skipf("%s is not installed", p)
	}
}

// slots holds real runs back: more of them than cores gain nothing.
var slots = make(chan struct{}, 2)

// runReal plans a job, runs its steps, and parses what they left.
func runReal(t *testing.T, spec job.Spec, in engine.Inputs) (*engine.Plan, *engine.Result, fs.FS) {
	t.Helper()
	plan, err := New().Plan(spec, in)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	stagePlan(t, dir, plan, in)
	slots <- struct{}{}
	defer func() { <-slots }()
	exit := runPlan(t, dir, plan)
	res, err := New().Parse(engine.Run{Files: os.DirFS(dir), Spec: &spec, Exit: &exit})
	if err != nil {
		t.Fatal(err)
	}
	return plan, res, os.DirFS(dir)
}

func stagePlan(t *testing.T, dir string, plan *engine.Plan, in engine.Inputs) {
	t.Helper()
	if in.Files != nil {
		if err := os.CopyFS(dir, in.Files); err != nil {
			t.Fatal(err)
		}
	}
	put := func(name string, text []byte) {
		target := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(target, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range plan.Files {
		put(name, text)
	}
	for from, to := range plan.Library {
		text, err := fs.ReadFile(in.Library, from)
		if err != nil {
			t.Fatal(err)
		}
		put(to, text)
	}
}

func runPlan(t *testing.T, dir string, plan *engine.Plan) job.Exit {
	t.Helper()
	stdout, err := os.Create(filepath.Join(dir, engine.StdoutName))
	if err != nil {
		t.Fatal(err)
	}
	defer stdout.Close()
	stderr, err := os.Create(filepath.Join(dir, engine.StderrName))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i, s := range plan.Steps {
		argv := append([]string{s.Program}, s.Args...)
		env := []string{"OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", "LC_ALL=C", "TMPDIR=" + dir, "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", "OMPI_MCA_rmaps_base_oversubscribe=1", "OMPI_MCA_btl_vader_backing_directory=" + dir}
		if s.Ranks > 0 {
			argv = append([]string{"mpirun", "-np", strconv.Itoa(s.Ranks)}, argv...)
		} else {
			env = append(env, "OMPI_MCA_ess_singleton_isolated=1")
		}
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = dir, stdout, stderr, append(os.Environ(), env...)
		err := cmd.Run()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		if code := cmd.ProcessState.ExitCode(); code != 0 {
			return job.Exit{Observed: true, Code: code, Step: i}
		}
		for from, to := range s.Copy {
			text, err := os.ReadFile(filepath.Join(dir, from))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, to), text, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return job.Exit{Observed: true, Step: len(plan.Steps) - 1}
}

// Structures of the tests, with a lattice constant of 10.2 bohr for silicon.
var (
	silicon = fcc(5.3976, "Si", "0,0,0", "0.25,0.25,0.25")
	iron    = `{"lattice":[[1.434,1.434,1.434],[-1.434,1.434,1.434],[-1.434,-1.434,1.434]],"species":["Fe"],"positions":[[0,0,0]]}`
)

func fcc(a float64, element string, positions ...string) string {
	h := a / 2
	return fmt.Sprintf(`{"lattice":[[%v,0,%v],[0,%v,%v],[%v,%v,0]],"species":[%s],"positions":[[%s]]}`, -h, h, h, h, -h, h,
		strings.TrimSuffix(strings.Repeat(`"`+element+`",`, len(positions)), ","), strings.Join(positions, "],["))
}

func specOf(structure, parameters string) job.Spec {
	return job.Spec{Engine: "qe", Structure: json.RawMessage(structure), Params: json.RawMessage(parameters), Demand: job.Demand{CPUs: 1}, Walltime: job.DefaultWalltime}
}

const siParams = `"pseudopotentials":{"Si":"Si.pz-vbc.UPF"}`

func TestRealSiliconGivesTheRecordedEnergyAndGap(t *testing.T) {
	t.Parallel()
	needProgram(t, "pw.x")
	_, res, _ := runReal(t, specOf(silicon, `{"ecutwfc":18,"nbnd":8,"conv_thr":1e-8,"kpoints":[4,4,4],`+siParams+`}`), library())
	wantSuccess(t, res)
	near(t, "energy", res.Summary.EnergyEV, new(-215.386926), 1e-4)
	near(t, "gap", res.Summary.BandGapEV, new(0.60504), 2e-4)
}

func TestRealRunsOfEveryCalculationConverge(t *testing.T) {
	t.Parallel()
	displaced := fcc(5.3976, "Si", "0,0,0", "0.27,0.25,0.25")
	compressed := fcc(5.30, "Si", "0,0,0", "0.25,0.25,0.25")
	cases := []struct {
		name, structure, parameters string
		cpus                        int
		check                       func(t *testing.T, plan *engine.Plan, res *engine.Result)
	}{
		{"relax", displaced, `{"calculation":"relax","ecutwfc":14,"conv_thr":1e-8,"kpoints":[2,2,2],` + siParams + `}`, 1, checkRelax},
		{"vc-relax", compressed, `{"calculation":"vc-relax","ecutwfc":14,"conv_thr":1e-8,"kpoints":[2,2,2],"press":20,` + siParams + `}`, 1, checkCellRelax},
		{"bands", silicon, `{"calculation":"bands","ecutwfc":14,"kpoints":{"path":[[0.5,0.5,0.5,"L"],[0,0,0,"Γ"],[0.5,0,0.5,"X"]],"points":8},"scf_kpoints":[3,3,3],` + siParams + `}`, 1, checkBands},
		{"nscf", silicon, `{"calculation":"nscf","ecutwfc":14,"kpoints":[4,4,4],"scf_kpoints":[2,2,2],"occupations":"tetrahedra",` + siParams + `}`, 1, checkNscf},
		{"metal", fcc(4.0, "Al", "0,0,0"), `{"ecutwfc":14,"kpoints":[4,4,4],"occupations":"smearing","degauss":0.05,"pseudopotentials":{"Al":"Al.pz-vbc.UPF"}}`, 1, checkMetal},
		{"spin", iron, `{"ecutwfc":22,"ecutrho":180,"kpoints":[3,3,3],"smearing":"mv","degauss":0.02,"mixing_beta":0.4,"starting_magnetization":{"Fe":0.4},"pseudopotentials":{"Fe":"Fe.pbe-nd-rrkjus.UPF"}}`, 1, checkSpin},
		{"two ranks", silicon, `{"ecutwfc":14,"kpoints":[5,5,5],` + siParams + `}`, 2, checkRanks},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			needProgram(t, "pw.x")
			spec := specOf(c.structure, c.parameters)
			if spec.Demand.CPUs = c.cpus; c.cpus > 1 {
				needProgram(t, "mpirun")
			}
			plan, res, _ := runReal(t, spec, library())
			wantSuccess(t, res)
			c.check(t, plan, res)
		})
	}
}

func wantSuccess(t *testing.T, res *engine.Result) {
	t.Helper()
	if res.Outcome != engine.Success || res.Verdict != job.Converged {
		t.Fatalf("outcome %s, verdict %s, failure %+v, warnings %+v", res.Outcome, res.Verdict, res.Failure, res.Warnings)
	}
}

func checkRelax(t *testing.T, _ *engine.Plan, res *engine.Result) {
	if c := res.Summary.ConvergedIonic; c == nil || !*c || *res.Summary.MaxForceEVPerA > 0.03 || deref(res.Summary.NIonicSteps) < 2 {
		t.Errorf("summary %+v", res.Summary)
	}
	if s := seriesNamed(res, "ionic"); s == nil || len(s.Columns[0].Values) != deref(res.Summary.NIonicSteps) {
		t.Errorf("ionic series %+v", s)
	}
	if string(res.Structures.Initial) == string(res.Structures.Final) {
		t.Error("nothing moved")
	}
}

func checkCellRelax(t *testing.T, _ *engine.Plan, res *engine.Result) {
	if c := res.Summary.ConvergedIonic; c == nil || !*c {
		t.Errorf("summary %+v", res.Summary)
	}
	// The target is 2 GPa; the plane waves of the last scf are those of another cell.
	near(t, "pressure", res.Summary.PressureGPa, new(2.0), 1.5)
}

func checkBands(t *testing.T, plan *engine.Plan, res *engine.Result) {
	if len(plan.Steps) != 2 || res.Summary.EnergyEV == nil || res.Summary.BandGapEV == nil {
		t.Fatalf("%d steps, summary %+v", len(plan.Steps), res.Summary)
	}
	s := seriesNamed(res, "bands")
	if s == nil || len(s.Columns) != 1+8 || len(s.Columns[0].Values) != 17 {
		t.Fatalf("bands series %+v", s)
	}
}

func checkNscf(t *testing.T, _ *engine.Plan, res *engine.Result) {
	if res.Summary.EnergyEV == nil || res.Summary.FermiEnergyEV == nil || deref(res.Summary.NSCFIterations) < 2 {
		t.Errorf("summary %+v", res.Summary)
	}
}

func checkMetal(t *testing.T, _ *engine.Plan, res *engine.Result) {
	if res.Summary.FreeEnergyEV == nil || res.Summary.FermiEnergyEV == nil || res.Summary.BandGapEV == nil || *res.Summary.BandGapEV != 0 {
		t.Errorf("summary %+v", res.Summary)
	}
}

func checkSpin(t *testing.T, _ *engine.Plan, res *engine.Result) {
	near(t, "magnetisation", res.Summary.TotalMagMuB, new(2.97), 0.2)
}

func checkRanks(t *testing.T, plan *engine.Plan, _ *engine.Result) {
	if s := plan.Steps[0]; s.Ranks != 2 || !slices.Equal(s.Args[:2], []string{"-nk", "2"}) {
		t.Errorf("step %+v", s)
	}
}

func seriesNamed(res *engine.Result, name string) *engine.Series {
	for i := range res.Series {
		if res.Series[i].Name == name {
			return &res.Series[i]
		}
	}
	return nil
}
