package lammps

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// potentials is a small library.
func potentials() fstest.MapFS {
	setfl := func(elements string) *fstest.MapFile {
		return &fstest.MapFile{Data: fmt.Appendf(nil, "one\ntwo\nthree\n%d %s\n10 0.1 10 0.1 5.0\n", len(strings.Fields(elements)), elements)}
	}
	funcfl := func(z int) *fstest.MapFile {
		return &fstest.MapFile{Data: fmt.Appendf(nil, "comment\n%d 63.5 3.6 FCC\n", z)}
	}
	return fstest.MapFS{
		"Al_zhou.eam.alloy": setfl("Al"), "AlCu.eam.alloy": setfl("Al Cu"), "Fe_mm.eam.fs": setfl("Fe"),
		"Cu_u3.eam": funcfl(29), "Al_jnp.eam": funcfl(13),
		"Si.sw": {Data: []byte("# comment\nSi Si Si 2.1683  2.0951  1.80  21.0  1.20  -0.333\n 7.05  0.602  4.0  0.0 0.0\n")},
	}
}

func goldenCases() map[string]struct {
	st         crystal.Structure
	parameters string
} {
	mixed := crystal.Structure{
		Lattice:   &crystal.Matrix{{-4, 0, 0}, {0, 0, 4}, {2, 4, 0.5}},
		Species:   []string{"Cu", "Al", "Cu"},
		Positions: []crystal.Vector{{0, 0, 0}, {0.5, -0.25, 1.5}, {0.25, 0.5, 0.5}},
		Fixed:     [][3]bool{{true, true, true}, {}, {}},
	}
	argon := crystal.Structure{
		Species: []string{"Ar", "Ar"}, Positions: []crystal.Vector{{0, 0, 0}, {3.8, 0, 0}},
		Velocities: []crystal.Vector{{0.001, 0, 0}, {-0.001, 0, 0}},
	}
	return map[string]struct {
		st         crystal.Structure
		parameters string
	}{
		"npt":      {aluminium(), `{"task":"npt","supercell":[2,1,1],"potential":{"style":"eam/alloy","file":"Al_zhou.eam.alloy"},"temperature":[300,600],"pressure":[0,1.5],"coupling":"tri","timestep_fs":2,"steps":50000,"dump_every":500}`},
		"minimize": {silicon(), `{"task":"minimize","box_relax":"aniso","pressure":2,"potential":{"style":"sw","file":"Si.sw"}}`},
		"nvt":      {mixed, `{"task":"nvt","temperature":77,"potential":{"style":"eam","file":{"Cu":"Cu_u3.eam","Al":"Al_jnp.eam"}}}`},
		"nve":      {argon, `{"task":"nve","units":"real","potential":{"style":"lj/cut 8.5","coeffs":["1 1 0.238 3.405"]},"steps":10}`},
	}
}

func TestGeneratedFilesAreAsRecorded(t *testing.T) {
	t.Parallel()
	for name, c := range goldenCases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plan, err := New().Plan(specOf(t, c.st, c.parameters, 1), engine.Inputs{Library: potentials()})
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range []string{inputName, dataName} {
				golden := filepath.Join("testdata", name+"."+file)
				if *update {
					if err := os.WriteFile(golden, plan.Files[file], 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(string(want), string(plan.Files[file])); d != "" {
					t.Errorf("%s (run with -update to accept):\n%s", golden, d)
				}
			}
			if plan.Stop.Create[0] != stopName || plan.Steps[0].Program != "lmp" || plan.Steps[0].Ranks != 0 {
				t.Errorf("plan %+v", plan)
			}
		})
	}
}

// Every generated script is one that the program takes: the structure is read
// without complaint and the first forces are computed.
func TestGeneratedScriptsAreAccepted(t *testing.T) {
	t.Parallel()
	needProgram(t, "lmp")
	for name, parameters := range map[string]struct {
		st crystal.Structure
		p  string
	}{
		"free atoms": {goldenCases()["nve"].st, goldenCases()["nve"].parameters},
		"fixed sites": {func() crystal.Structure {
			st := aluminium()
			st.Fixed = [][3]bool{{true, true, true}, {}, {}, {}}
			return st
		}(), `{"task":"nvt","supercell":[3,3,3],"temperature":300,"steps":20,"potential":{"style":"eam/alloy","file":"Al_zhou.eam.alloy"}}`},
		"fixed directions": {func() crystal.Structure {
			st := aluminium()
			st.Fixed = [][3]bool{{false, false, true}, {}, {}, {}}
			return st
		}(), `{"task":"minimize","supercell":[2,2,2],"potential":{"style":"eam/alloy","file":"Al_zhou.eam.alloy"}}`},
		"changing angles": {silicon(), `{"task":"npt","coupling":"tri","supercell":[3,3,3],"temperature":300,"steps":20,"potential":{"style":"tersoff","file":"Si.tersoff"}}`},
		"aniso":           {aluminium(), `{"task":"npt","coupling":"aniso","supercell":[3,3,3],"temperature":300,"steps":20,"dump_every":10,"potential":{"style":"eam","file":"Al_jnp.eam"}}`},
		"slab": {func() crystal.Structure {
			st := aluminium()
			st.Lattice[2][2] = 20
			st.PBC = &[3]bool{true, true, false}
			return st
		}(), `{"task":"minimize","supercell":[2,2,1],"minimizer":"fire","energy_tolerance":1e-6,"potential":{"style":"eam/alloy","file":"Al_zhou.eam.alloy"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res, _, _ := execute(t, specOf(t, parameters.st, parameters.p, 1), nil)
			if res.Outcome != engine.Success || res.Structures.Final == nil {
				t.Errorf("%s: %+v; %+v", res.Outcome, res.Failure, res.Warnings)
			}
		})
	}
}

func problemsOf(t *testing.T, err error) []job.Problem {
	t.Helper()
	e, ok := err.(*job.Error)
	if !ok || e.Code != job.Invalid {
		t.Fatalf("error %v is not about the input", err)
	}
	return e.Problems
}

func TestWrongParametersAreRefusedWithFieldAndFix(t *testing.T) {
	t.Parallel()
	eam := `"potential":{"style":"eam/alloy","file":"Al_zhou.eam.alloy"}`
	for parameters, want := range map[string][]string{
		`{}`:                         {"parameters.task: is required", "parameters.potential: is required"},
		`{"task":"npt",` + eam + `}`: {"parameters.temperature: is required"},
		`{"task":"npt","temperatur":300,` + eam + `}`:                                                                          {"parameters.temperatur"},
		`{"task":"minimize","timestep_fs":2,"temperature":300,` + eam + `}`:                                                    {"parameters.temperature: does not go", "parameters.timestep_fs: does not go"},
		`{"task":"nve",` + eam + `}`:                                                                                           {"parameters.initial_temperature: is required"},
		`{"task":"minimize","potential":{"style":"eam/alloy","file":"Al_zhu.eam.alloy"}}`:                                      {"parameters.potential.file: Al_zhu.eam.alloy is not in the library"},
		`{"task":"minimize","potential":{"style":"eam/alloy","file":"../Al.eam.alloy"}}`:                                       {"parameters.potential.file"},
		`{"task":"minimize","potential":{"style":"eam/fs","file":"Fe_mm.eam.fs"}}`:                                             {"Fe_mm.eam.fs has nothing for Al"},
		`{"task":"minimize","potential":{"style":"sw","file":"Si.sw"}}`:                                                        {"Si.sw has nothing for (Al Al Al)"},
		`{"task":"minimize","potential":{"style":"tersoff","file":"Al_zhou.eam.alloy"}}`:                                       {"is not a potential file of style tersoff"},
		`{"task":"minimize","potential":{"style":"eam","file":"Cu_u3.eam"}}`:                                                   {"Cu_u3.eam is a potential of Cu"},
		`{"task":"minimize","potential":{"style":"lj/cut 8"}}`:                                                                 {"parameters.potential.coeffs: is required for lj/cut"},
		`{"task":"minimize","potential":{"style":"sw"}}`:                                                                       {"parameters.potential.file: is required for sw"},
		`{"task":"minimize","potential":{"style":"eam/alloy","file":"Al_zhou.eam.alloy","elements":["Al","Cu"]}}`:              {"has 2 names for 1 elements"},
		`{"task":"minimize","potential":{"style":"lj/cut 8\nshell rm","coeffs":["1 1 1 1"]}}`:                                  {"parameters.potential.style"},
		`{"task":"minimize","potential":{"style":"lj/cut 8","coeffs":["1 1 1 1\nshell rm -rf /"]}}`:                            {"parameters.potential.coeffs[0]"},
		`{"task":"minimize","potential":{"style":"lj/cut 8","coeffs":["1 1 ${x} $(1)"]}}`:                                      {"parameters.potential.coeffs[0]"},
		`{"task":"minimize","supercell":[1000,1000,1000],` + eam + `}`:                                                         {"parameters.supercell"},
		`{"task":"minimize","minimizer":"fire","box_relax":"iso",` + eam + `}`:                                                 {"fire cannot relax the cell"},
		`{"task":"minimize","potential":{"style":"eam/aloy","file":"Al_zhou.eam.alloy"}}`:                                      {"has no pair_style eam/aloy"},
		`{"task":"nvt","temperature":300,"units":"real",` + eam + `}`:                                                          {"parameters.units"},
		`{"task":"nvt","steps":-5,"seed":"x","coupling":"iso",` + eam + `}`:                                                    {"parameters.steps", "parameters.seed", "parameters.temperature: is required", "parameters.coupling: does not go"},
		`{"task":"nvtt","timestep_fs":2,"potential":"eam"}`:                                                                    {"parameters.task", "parameters.potential: must be"},
		`{"task":"minimize","potential":{"style":"table linear 100","coeffs":["1 1 ../../etc/passwd KEY","1 1 /etc/passwd"]}}`: {"coeffs[0]: ../../etc/passwd is a path", "coeffs[1]: /etc/passwd is a path"},
		`{"task":"minimize","potential":{"style":"list ../x 5.0","coeffs":["1 1 sub/x.table KEY"]}}`:                           {"potential.style: ../x is a path", "coeffs[0]: sub/x.table is a path"},
		`{"input":"in.lmp","task":"nvt"}`:                                                                                      {"parameters.task: does not go", "structure: does not go", "in.lmp is not among"},
	} {
		in := engine.Inputs{Library: potentials(), LibraryDirs: []string{"/lib"}, Styles: map[string]bool{}}
		for _, s := range []string{"eam", "eam/alloy", "eam/fs", "sw", "tersoff", "lj/cut"} {
			in.Styles["pair_style "+s] = true
		}
		_, err := New().Plan(specOf(t, aluminium(), parameters, 1), in)
		if err == nil {
			t.Errorf("%s was accepted", parameters)
			continue
		}
		problems := problemsOf(t, err)
		for i, p := range problems {
			if p.Fix == "" || slices.ContainsFunc(problems[:i], func(o job.Problem) bool { return o.Field == p.Field && o.Message == p.Message }) {
				t.Errorf("%s: %+v has no fix or comes twice", parameters, p)
			}
		}
		for _, w := range want {
			if !slices.ContainsFunc(problems, func(p job.Problem) bool { return strings.Contains(p.String(), w) }) {
				t.Errorf("%s: no %q in %v", parameters, w, problems)
			}
		}
	}
}

func TestOneAtomAloneHasNoTemperature(t *testing.T) {
	t.Parallel()
	parameters := `{"task":"%s","temperature":300,"supercell":[%d,1,1],"potential":{"style":"eam/alloy","file":"Al_zhou.eam.alloy"}}`
	one := aluminium()
	one.Species, one.Positions = one.Species[:1], one.Positions[:1]
	_, err := New().Plan(specOf(t, one, fmt.Sprintf(parameters, "nvt", 1), 1), engine.Inputs{Library: potentials()})
	if p := problemsOf(t, err); len(p) != 1 || p[0].Field != "structure" {
		t.Errorf("problems %+v", p)
	}
	if _, err := New().Plan(specOf(t, one, fmt.Sprintf(parameters, "nvt", 2), 1), engine.Inputs{Library: potentials()}); err != nil {
		t.Error(err)
	}
}

func TestAMissingPotentialNamesThoseThatAreThere(t *testing.T) {
	t.Parallel()
	_, err := New().Plan(specOf(t, aluminium(), `{"task":"minimize","potential":{"style":"eam/alloy","file":"Al_nope.eam.alloy"}}`, 1), engine.Inputs{Library: potentials(), LibraryDirs: []string{"/lib"}})
	p := problemsOf(t, err)[0]
	if !strings.Contains(p.Fix, "Al_zhou.eam.alloy") || !strings.Contains(p.Why, "/lib") {
		t.Errorf("problem %+v", p)
	}
}

func TestAWrongStructureIsRefusedWithItsPath(t *testing.T) {
	t.Parallel()
	for structure, field := range map[string]string{
		``:                                  "structure",
		`{"species":["Al"],"positions":[]}`: "structure.positions",
		`{"species":["Xx"],"positions":[[0,0,0]]}`:                                                             "structure.species[0]",
		`{"lattice":[[1,0,0],[2,0,0],[0,0,1]],"species":["Al"],"positions":[[0,0,0]]}`:                         "structure.lattice",
		`{"species":["Al","Al"],"positions":[[0,0,0],[9,0,0]],"lattice":null}`:                                 "structure",
		`{"lattice":[[4,0,0],[0,4,0],[2,0,9]],"pbc":[true,true,false],"species":["Al"],"positions":[[0,0,0]]}`: "structure",
	} {
		spec := job.Spec{Structure: json.RawMessage(structure), Params: json.RawMessage(`{"task":"npt","temperature":300,"potential":{"style":"eam/alloy","file":"Al_zhou.eam.alloy"}}`)}
		_, err := New().Plan(spec, engine.Inputs{Library: potentials()})
		if err == nil {
			t.Errorf("%s was accepted", structure)
			continue
		}
		if p := problemsOf(t, err); !strings.HasPrefix(p[0].Field, field) {
			t.Errorf("%s: %v", structure, p)
		}
	}
}

// A rotation changes no distance, whatever the lattice.
func TestTheRotatedCellKeepsEveryDistance(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]crystal.Matrix{
		"cubic": {{4, 0, 0}, {0, 4, 0}, {0, 0, 4}}, "fcc": {{0, 2, 2}, {2, 0, 2}, {2, 2, 0}}, "left-handed": {{0, 2, 2}, {2, 2, 0}, {2, 0, 2}},
		"reversed": {{-4, 0, 0}, {0, -5, 0}, {0, 0, -6}}, "skew": {{4, 0.5, 0.1}, {17, 4, 0.3}, {-9, 11, 5}}, "hexagonal": {{3, 0, 0}, {-1.5, 2.598076211353316, 0}, {0, 0, 5}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCell(m)
			if c.lx <= 0 || c.ly <= 0 || c.lz <= 0 || math.Abs(c.lx*c.ly*c.lz-math.Abs(m.Det())) > 1e-9 {
				t.Fatalf("cell %+v", c)
			}
			if math.Abs(c.xy) > 0.5*c.lx+1e-6 || math.Abs(c.xz) > 0.5*c.lx+1e-6 || math.Abs(c.yz) > 0.5*c.ly+1e-6 {
				t.Errorf("tilts of %+v", c)
			}
			for _, f := range []crystal.Vector{{0.3, 0.1, 0.7}, {1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {-2, 1, 0.5}} {
				var before crystal.Vector
				for i := range 3 {
					for k := range 3 {
						before[k] += f[i] * m[i][k]
					}
				}
				after := c.cartesian(c.fractional(f))
				if math.Abs(dot(before, before)-dot(after, after)) > 1e-9 {
					t.Errorf("%v: length %v became %v", f, dot(before, before), dot(after, after))
				}
			}
		})
	}
}

func planOf(t *testing.T, files map[string]string, params string, in engine.Inputs) (*engine.Plan, error) {
	t.Helper()
	m := fstest.MapFS{}
	spec := job.Spec{Walltime: job.DefaultWalltime, SoftLimit: job.DefaultSoftLimit}
	if params != "" {
		spec.Params = json.RawMessage(params)
	}
	for name, text := range files {
		m[name] = &fstest.MapFile{Data: []byte(text)}
		spec.Files = append(spec.Files, job.File{Name: name, Size: int64(len(text))})
	}
	slices.SortFunc(spec.Files, func(a, b job.File) int { return strings.Compare(a.Name, b.Name) })
	in.Files = m
	return New().Plan(spec, in)
}

const goodScript = "units metal\natom_style atomic\nread_data my.data\npair_style eam/alloy\npair_coeff * * Al_zhou.eam.alloy Al\nfix 1 all nve\nthermo 10\n" +
	"dump d all custom 10 out.*.dump id type x y z\nrestart 100 a.restart b.restart\nrun 100\nrun 200\nwrite_data final.data\n"

func TestAScriptIsRunUnchangedUnderATimer(t *testing.T) {
	t.Parallel()
	plan, err := planOf(t, map[string]string{"in.al": goodScript, "my.data": "x"}, "", engine.Inputs{Library: potentials()})
	if err != nil {
		t.Fatal(err)
	}
	want := &engine.Plan{
		Files:   map[string][]byte{wrapperName: []byte("# Written by nanoos: ends the run cleanly before its time limit.\ntimer timeout 0:54:27 every 10\ninclude \"in.al\"\n")},
		Library: map[string]string{"Al_zhou.eam.alloy": "Al_zhou.eam.alloy"},
		Steps:   []engine.Step{{Program: "lmp", Args: []string{"-in", wrapperName, "-log", logName, "-nocite", "-echo", "both", "-var", stepsVariable, "300"}}},
		Keep:    []string{"log.*", "out.*.dump", "a.restart", "b.restart", "final.data"},
	}
	if d := cmp.Diff(want, plan); d != "" {
		t.Error(d)
	}
}

func TestEveryFaultOfAScriptIsReportedWithItsLine(t *testing.T) {
	t.Parallel()
	faulty := "units metal\nboundary p p p\n\nread_data nope.data # comment\npair_styl eam/alloy\npair_coeff * * &\n  Al_nope.eam.alloy Al\ninclude sub.lmp\nfix 1 all nvtt temp 1 1 1\nprint \"open\nrun 10\n"
	_, err := planOf(t, map[string]string{"in.lmp": faulty, "sub.lmp": "units metal\nthremo 10\n"}, `{"input":"in.lmp"}`,
		engine.Inputs{Library: potentials(), Styles: map[string]bool{"fix nvt": true, "fix nve": true, "pair_style eam/alloy": true}})
	want := []string{
		"in.lmp, line 10: a quote is not closed", "in.lmp, line 4: read_data reads nope.data", "in.lmp, line 5: unknown command pair_styl",
		"in.lmp, line 6: pair_coeff reads Al_nope.eam.alloy", "sub.lmp, line 2: unknown command thremo", "in.lmp, line 9: the installed LAMMPS has no fix nvtt",
	}
	problems := problemsOf(t, err)
	if len(problems) != len(want) {
		t.Fatalf("problems %v", problems)
	}
	for i, w := range want {
		if !strings.HasPrefix(problems[i].String(), w) || problems[i].Fix == "" {
			t.Errorf("problem %v (fix %q), want %s", problems[i], problems[i].Fix, w)
		}
	}
}

func TestAScriptMayDoWhatCannotBeForeseen(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ script, warning string }{
		"variables":     {"units metal\nvariable f index my.data\nvariable g getenv X\nread_data ${f}\nread_data ${g}\n${cmd} x\nrun 10\n", ""},
		"own files":     {"units metal\nwrite_data a.data\nread_data a.data\nwrite_restart r.*\nread_restart r.100\nread_restart s.*\nrun 10\n", ""},
		"quotes":        {"units metal\nvariable s string \"a # b\"\nprint \"\"\"two\nlines 'x' \"y\" \"\"\"\nif \"$s == 1\" then \"run 10\" else &\n \"run 20\"\n", ""},
		"CRLF and BOM":  {"\ufeffunits metal\r\nrun 10\r\n", ""},
		"shell":         {"units metal\nshell rm x\nrun 10\n", "runs_commands"},
		"no simulation": {"units metal\n", "no_run"},
		"absolute path": {"units metal\nread_data /home/me/x.data\nrun 10\n", "path_outside"},
		"parent":        {"units metal\nread_data ../x.data\nrun 10\n", "path_outside"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plan, err := planOf(t, map[string]string{"in.lmp": c.script, "my.data": ""}, "", engine.Inputs{Library: potentials()})
			if err != nil {
				t.Fatal(err)
			}
			if c.warning == "" && len(plan.Warnings) > 0 || c.warning != "" && (len(plan.Warnings) != 1 || plan.Warnings[0].Code != c.warning) {
				t.Errorf("warnings %+v", plan.Warnings)
			}
		})
	}
}

func TestAScriptThatIncludesItselfIsReadOnce(t *testing.T) {
	t.Parallel()
	plan, err := planOf(t, map[string]string{"in.lmp": "units metal\n" + strings.Repeat("include in.lmp\n", 20_000) + "run 10\n"}, "", engine.Inputs{})
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(plan.Steps[0].Args, stepsVariable) {
		t.Errorf("the steps of a loop were counted: %v", plan.Steps[0].Args)
	}
}

func TestTheScriptIsFoundAmongTheFiles(t *testing.T) {
	t.Parallel()
	a, b := "units metal\npair_style sw\nthermo 1\nrun 1\n", "units lj\npair_style sw\nthermo 1\nrun 2\n"
	if _, err := planOf(t, map[string]string{"a.txt": a, "b.txt": b}, "", engine.Inputs{}); err == nil || !strings.Contains(err.Error(), "several files") {
		t.Errorf("two scripts: %v", err)
	}
	if _, err := planOf(t, map[string]string{"a.txt": "hello", "b.txt": "you"}, "", engine.Inputs{}); err == nil {
		t.Error("no script was accepted")
	}
	if _, err := planOf(t, map[string]string{"a.lmp": a}, `{"input":"a.lmb"}`, engine.Inputs{}); err == nil || !strings.Contains(problemsOf(t, err)[0].Fix, "a.lmp") {
		t.Errorf("mistyped name: %v", err)
	}
	plan, err := planOf(t, map[string]string{"a.txt": a, "b.txt": b}, `{"input":"b.txt"}`, engine.Inputs{})
	if err != nil || !strings.Contains(string(plan.Files[wrapperName]), `include "b.txt"`) {
		t.Errorf("%v, %v", plan, err)
	}
}

func TestScriptsAndRunsAreRecognised(t *testing.T) {
	t.Parallel()
	l := New()
	for name, c := range map[string]struct {
		text string
		want bool
	}{
		"in.melt": {"# melt\nunits lj\nlattice fcc 0.8\n", true}, "x.lmp": {"read_data a.data\nrun 1\n", true}, "plain.txt": {goodScript, true},
		"pw.in": {"&control\n calculation='scf'\n/\n", false}, "notes.txt": {"units of measure\nrun fast\n", false}, logName: {mdLog, false}, "INCAR": {"ENCUT = 500\n", false},
	} {
		if got := l.Deck(name, []byte(c.text)); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for text, want := range map[string]bool{mdLog: true, "OMP_NUM_THREADS environment is not set.\n" + mdLog: true, "Program PWSCF v.6.7\n": false, goodScript: false} {
		if got := l.Recognise(fstest.MapFS{"some.out": {Data: []byte(text)}}); (got > 0.5) != want {
			t.Errorf("%.40q: %v", text, got)
		}
	}
}

func TestTheProgramIsProbed(t *testing.T) {
	t.Parallel()
	needProgram(t, "lmp")
	l := New()
	cmd := exec.CommandContext(t.Context(), "lmp", l.ProbeArgs()...)
	cmd.Env = append(os.Environ(), "OMPI_MCA_ess_singleton_isolated=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	version, styles := l.ReadProbe(out)
	if version == "" {
		t.Error("no version")
	}
	for _, s := range []string{"pair_style eam/alloy", "fix npt", "compute pe/atom", "min_style cg", "atom_style full", "dump custom", "region block", "command minimize", "kspace_style pppm"} {
		if !styles[s] {
			t.Errorf("%s is missing", s)
		}
	}
	if v, s := l.ReadProbe([]byte("no such thing\n* \n")); v != "" || s != nil {
		t.Errorf("%q, %v", v, s)
	}
}

func TestTheMonitorFollowsAllRuns(t *testing.T) {
	t.Parallel()
	plan := &engine.Plan{Steps: []engine.Step{{Args: []string{"-var", stepsVariable, "300"}}}}
	m := New().Monitor(plan)
	out := head + "units metal\nrun 100\nStep Temp PotEng\n0 600 -1\n50 310 -2\n"
	last := 0.0
	for i := range len(out) {
		m.Write([]byte{out[i]})
		if f := m.Progress().Fraction; f < last {
			t.Fatalf("progress fell from %v to %v", last, f)
		} else {
			last = f
		}
	}
	want := job.Progress{Fraction: 50.0 / 300, Step: 50, Steps: 300, Stage: "MD step 50", Quantity: "temperature_K", Value: new(310.0)}
	if d := cmp.Diff(want, m.Progress()); d != "" {
		t.Error(d)
	}
	m.Write([]byte("100 300 -1\nLoop time of 1 on 1 procs for 100 steps with 5 atoms\nrun 200\nStep Temp PotEng\n100 300 -1\n200 305 -1\n"))
	if p := m.Progress(); p.Step != 200 || p.Fraction != 200.0/300 {
		t.Errorf("%+v", p)
	}
	m.Write([]byte("\xff\x00 garbage\nTotal wall time: 0:00:01\n"))
	if p := m.Progress(); p.Fraction != 1 {
		t.Errorf("%+v", p)
	}
}

// The script of a recorded case runs under the wrapper, ends itself at its time
// limit, and says so.
func TestARawScriptEndsAtItsTimeLimit(t *testing.T) {
	t.Parallel()
	needProgram(t, "lmp")
	text := "units lj\nlattice fcc 0.8442\nregion box block 0 4 0 4 0 4\ncreate_box 1 box\ncreate_atoms 1 box\nmass 1 1.0\nvelocity all create 3.0 87287\n" +
		"pair_style lj/cut 2.5\npair_coeff 1 1 1.0 1.0\nfix 1 all nve\nthermo 100\nrun 100000000\nwrite_data final.data\n"
	dir := t.TempDir()
	files := fstest.MapFS{"in.lmp": {Data: []byte(text)}}
	spec := job.Spec{Files: []job.File{{Name: "in.lmp"}}, SoftLimit: job.Duration(2 * time.Second)}
	plan, err := New().Plan(spec, engine.Inputs{Files: files})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"in.lmp": []byte(text), wrapperName: plan.Files[wrapperName]} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := New().Monitor(plan)
	exit := runStep(t, dir, plan.Steps[0], m, nil)
	res, err := New().Parse(engine.Run{Files: os.DirFS(dir), Exit: exit})
	if err != nil {
		t.Fatal(err)
	}
	if res.Outcome != engine.TimeLimitGraceful || res.Summary.Reduced["lx"] == 0 || m.Progress().Steps != 100000000 {
		t.Errorf("%s: %+v, %+v", res.Outcome, res.Failure, res.Summary)
	}
}

func FuzzPlanScript(f *testing.F) {
	f.Add([]byte(goodScript))
	f.Add([]byte("variable a string xx\nvariable b string ${a}${a}\nread_data $b &\n& & \"\"\" ' $( ${ $ \ninclude in.lmp\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		spec := job.Spec{Files: []job.File{{Name: "in.lmp"}}, Walltime: job.DefaultWalltime}
		_, err := New().Plan(spec, engine.Inputs{Files: fstest.MapFS{"in.lmp": {Data: text}}, Library: potentials()})
		if err != nil && job.CodeOf(err) != job.Invalid {
			t.Fatal(err)
		}
	})
}
