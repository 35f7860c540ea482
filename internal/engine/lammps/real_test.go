package lammps

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// library is where the potentials that come with LAMMPS are.
const library = "/usr/share/lammps/potentials"

// needProgram skips without the program on a laptop, and fails where the
// tests must be complete.
func needProgram(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is not installed: %v", name, err)
		}
		t.Skipf("%s IS NOT INSTALLED", name)
	}
}

// aluminium is the conventional cell, with the sites in the order of the fcc
// lattice of LAMMPS.
func aluminium() crystal.Structure {
	return crystal.Structure{
		Lattice:   &crystal.Matrix{{4.05, 0, 0}, {0, 4.05, 0}, {0, 0, 4.05}},
		Species:   []string{"Al", "Al", "Al", "Al"},
		Positions: []crystal.Vector{{0, 0, 0}, {0.5, 0.5, 0}, {0.5, 0, 0.5}, {0, 0.5, 0.5}},
	}
}

func silicon() crystal.Structure {
	return crystal.Structure{
		Lattice:   &crystal.Matrix{{0, 2.7155, 2.7155}, {2.7155, 0, 2.7155}, {2.7155, 2.7155, 0}},
		Species:   []string{"Si", "Si"},
		Positions: []crystal.Vector{{0, 0, 0}, {0.25, 0.25, 0.25}},
	}
}

func specOf(t *testing.T, st crystal.Structure, parameters string, cpus int) job.Spec {
	t.Helper()
	raw, err := json.Marshal(st)
	if err != nil {
		t.Fatal(err)
	}
	return job.Spec{
		Engine: "lammps", Structure: raw, Params: json.RawMessage(parameters),
		Demand: job.Demand{CPUs: cpus}, Walltime: job.DefaultWalltime, SoftLimit: job.DefaultSoftLimit,
	}
}

// execute runs a plan as a worker would, and reads it. While it runs, watch may
// be called with the directory and the growing output.
func execute(t *testing.T, spec job.Spec, watch func(dir string, m job.Progress)) (*engine.Result, string, job.Progress) {
	t.Helper()
	needProgram(t, "lmp")
	l := New()
	plan, err := l.Plan(spec, engine.Inputs{Library: os.DirFS(library)})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range plan.Files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range plan.Library {
		content, err := os.ReadFile(filepath.Join(library, from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := l.Monitor(plan)
	exit := runStep(t, dir, plan.Steps[0], m, watch)
	files, err := engine.OpenRun(dir)
	if err != nil {
		t.Fatal(err)
	}
	res, err := l.Parse(engine.Run{Files: files, Spec: &spec, Exit: exit})
	if err != nil {
		t.Fatal(err)
	}
	return res, dir, m.Progress()
}

func runStep(t *testing.T, dir string, s engine.Step, m engine.Monitor, watch func(string, job.Progress)) *job.Exit {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	argv := append([]string{s.Program}, s.Args...)
	if s.Ranks > 0 {
		needProgram(t, "mpirun")
		argv = append([]string{"mpirun", "--oversubscribe", "-np", "2"}, argv...)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "OMP_NUM_THREADS=1", "LC_ALL=C", "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", "TMPDIR="+dir)
	if s.Ranks == 0 {
		cmd.Env = append(cmd.Env, "OMPI_MCA_ess_singleton_isolated=1")
	}
	out, err := os.Create(filepath.Join(dir, engine.StdoutName))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Stdout = writerFunc(func(p []byte) (int, error) {
		m.Write(p)
		if watch != nil {
			watch(dir, m.Progress())
		}
		return out.Write(p)
	})
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		t.Logf("%s%s", stderr.String(), exit)
		return &job.Exit{Observed: true, Code: exit.ExitCode()}
	} else if err != nil {
		t.Fatal(err)
	}
	return &job.Exit{Observed: true}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

var _ io.Writer = writerFunc(nil)

func near(t *testing.T, what string, got *float64, want, tolerance float64) {
	t.Helper()
	if got == nil || math.IsNaN(*got) || math.Abs(*got-want) > tolerance {
		if got == nil {
			t.Errorf("%s is absent, want %v", what, want)
			return
		}
		t.Errorf("%s = %v, want %v ± %v", what, *got, want, tolerance)
	}
}

const aluminiumNPT = `{"task":"npt","supercell":[5,5,5],"potential":{"style":"eam/alloy","file":"Al_zhou.eam.alloy"},
"initial_temperature":600,"temperature":300,"pressure":0,"timestep_fs":2,"thermostat_damping_fs":100,"barostat_damping_fs":1000,
"steps":%STEPS%,"thermo_every":100,"neighbor_skin":1,"seed":4928459}`

// The recorded run made its atoms by create_atoms and its velocities by the same
// seed: the generated job makes the same ones, and so the same trajectory.
func TestGeneratedNPTReproducesTheRecordedRun(t *testing.T) {
	t.Parallel()
	spec := specOf(t, aluminium(), strings.ReplaceAll(aluminiumNPT, "%STEPS%", "200"), 1)
	res, dir, progress := execute(t, spec, nil)
	if res.Outcome != engine.Success || res.Verdict != job.Converged {
		t.Fatalf("outcome %s, verdict %s: %+v", res.Outcome, res.Verdict, res.Failure)
	}
	if progress.Fraction != 1 || progress.Step != 200 || progress.Quantity != "temperature_K" {
		t.Errorf("progress %+v", progress)
	}
	s := res.Series[0]
	for _, c := range s.Columns {
		want, ok := map[string][3]float64{
			"Temp": {600, 312.48171, 317.72507}, "PotEng": {-1788.5796, -1771.3543, -1768.0225},
			"Press": {28579.261, 16814.77, 8238.9256}, "Volume": {8303.7656, 8489.4583, 8601.1792},
		}[c.Name]
		for i, w := range want {
			if ok && math.Abs(c.Values[i]-w) > 2e-7*math.Abs(w) {
				t.Errorf("%s row %d: %v, recorded %v", c.Name, i, c.Values[i], w)
			}
		}
	}
	near(t, "volume", res.Summary.VolumeA3, 8601.1792, 1e-3)
	near(t, "energy", res.Summary.EnergyEV, -1768.0225, 1e-4)
	if res.Summary.Formula != "Al500" || res.Structures.Final == nil || res.Structures.Initial == nil || res.Summary.MaxForceEVPerA == nil {
		t.Errorf("summary %+v", res.Summary)
	}
	for _, name := range []string{finalData, finalRestart, finalDump} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestMinimisationFindsTheLatticeConstant(t *testing.T) {
	t.Parallel()
	st := aluminium()
	st.Lattice = &crystal.Matrix{{4.2, 0, 0}, {0, 4.2, 0}, {0, 0, 4.2}}
	res, _, _ := execute(t, specOf(t, st, `{"task":"minimize","supercell":[3,3,3],"box_relax":"iso","potential":{"style":"eam/alloy","file":"Al_zhou.eam.alloy"}}`, 1), nil)
	if res.Outcome != engine.Success {
		t.Fatalf("outcome %s: %+v", res.Outcome, res.Failure)
	}
	// 20.408275 Å for five cells, and −1789.9993 eV for 500 atoms, were recorded.
	near(t, "volume", res.Summary.VolumeA3, math.Pow(3*20.408275/5, 3), 1e-2)
	near(t, "energy per atom", res.Summary.EnergyPerAtomEV, -1789.9993/500, 1e-6)
	near(t, "pressure", res.Summary.PressureGPa, 0, 1e-4)
	near(t, "largest force", res.Summary.MaxForceEVPerA, 0, 1e-6)
}

func TestNVTOfARotatedObliqueCellOnTwoRanks(t *testing.T) {
	t.Parallel()
	spec := specOf(t, silicon(), `{"task":"nvt","supercell":[4,4,4],"temperature":[300,400],"steps":200,"dump_every":100,"potential":{"style":"sw","file":"Si.sw"}}`, 2)
	res, dir, _ := execute(t, spec, nil)
	if res.Outcome != engine.Success {
		t.Fatalf("outcome %s: %+v", res.Outcome, res.Failure)
	}
	pe := res.Series[0].Columns[2].Values[0]
	if math.Abs(pe/128+4.3366) > 1e-3 { // the cohesive energy of this potential
		t.Errorf("energy per atom %v", pe/128)
	}
	var st crystal.Structure
	if err := json.Unmarshal(res.Structures.Final, &st); err != nil {
		t.Fatal(err)
	}
	if v := st.Volume(); math.Abs(v-64*2*2.7155*2.7155*2.7155) > 1e-3 {
		t.Errorf("volume %v", v)
	}
	frame, whole := readDump(os.DirFS(dir), trajectory)
	if !whole || frame == nil || frame.step != 200 || len(frame.sites) != 128 {
		t.Fatalf("trajectory %+v, %v", frame, whole)
	}
}

func TestAStopFileEndsTheRunCleanly(t *testing.T) {
	t.Parallel()
	spec := specOf(t, silicon(), `{"task":"nve","initial_temperature":300,"supercell":[2,2,2],"steps":10000000,"thermo_every":50,"potential":{"style":"sw","file":"Si.sw"}}`, 1)
	var asked bool
	res, dir, progress := execute(t, spec, func(dir string, p job.Progress) {
		if p.Step >= 100 && !asked {
			asked = true
			if err := os.WriteFile(filepath.Join(dir, stopName), nil, 0o600); err != nil {
				t.Error(err)
			}
		}
	})
	if res.Outcome != engine.StoppedByRequest || res.Failure == nil || progress.Fraction > 0.5 && progress.Stage != "finished" {
		t.Fatalf("outcome %s: %+v; %+v", res.Outcome, res.Failure, progress)
	}
	if _, err := os.Stat(filepath.Join(dir, finalRestart)); err != nil {
		t.Error(err)
	}
}

func TestAStopFileEndsAMinimisation(t *testing.T) {
	t.Parallel()
	st := aluminium()
	st.Positions[0] = crystal.Vector{0.03, 0.01, 0.02}
	spec := specOf(t, st, `{"task":"minimize","minimizer":"sd","energy_tolerance":0,"force_tolerance":0,"supercell":[4,4,4],"steps":10000000,"thermo_every":5,"potential":{"style":"eam/alloy","file":"Al_zhou.eam.alloy"}}`, 1)
	res, _, _ := execute(t, spec, func(dir string, p job.Progress) {
		if err := os.WriteFile(filepath.Join(dir, stopName), nil, 0o600); err != nil {
			t.Error(err)
		}
	})
	if res.Outcome != engine.StoppedByRequest {
		t.Fatalf("outcome %s: %+v", res.Outcome, res.Failure)
	}
}
