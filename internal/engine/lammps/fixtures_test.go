package lammps

import (
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

// fixtures returns the directory of recorded runs.
func fixtures(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("NANOOS_FIXTURES")
	if dir == "" {
		root, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for {
			if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
				break
			}
			if root == filepath.Dir(root) {
				t.Fatal("no go.mod above the package")
			}
			root = filepath.Dir(root)
		}
		dir = filepath.Join(root, "..", "shared", "fixtures")
	}
	dir = filepath.Join(dir, "lammps")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("RECORDED RUNS NOT FOUND: set NANOOS_FIXTURES (%v)", err)
	}
	return dir
}

type expectation struct {
	Steps []expectedStep `json:"steps"`
	Final *struct {
		NAtoms  int             `json:"natoms"`
		Lattice *crystal.Matrix `json:"lattice"`
		Volume  float64         `json:"volume"`
	} `json:"final_data_file"`
}

type expectedStep struct {
	Exit     *int     `json:"exit_code"`
	Signal   *string  `json:"signal"`
	Outcome  string   `json:"outcome"`
	LogFile  string   `json:"log_file"`
	Units    *string  `json:"units"`
	Version  string   `json:"version_line"`
	Wall     *string  `json:"total_wall_time_line"`
	Warnings []string `json:"warnings"`
	Minimise *struct {
		Criterion  string  `json:"stopping_criterion"`
		Initial    float64 `json:"energy_initial"`
		Final      float64 `json:"energy_final"`
		Iterations int64   `json:"iterations"`
	} `json:"minimisation"`
	Error *struct {
		Message string `json:"message"`
		Source  string `json:"source"`
	} `json:"error"`
	LastCommand string          `json:"last_command"`
	RawTables   []expectedTable `json:"thermo_tables"`
}

type expectedTable struct {
	Columns []string           `json:"columns"`
	Rows    int                `json:"n_rows"`
	First   map[string]float64 `json:"first"`
	Last    map[string]float64 `json:"last"`
	Loop    *struct {
		Steps int64 `json:"steps"`
		Atoms int64 `json:"atoms"`
	} `json:"loop"`
}

// stepFiles are the files of one step of a case: a directory may hold several.
func stepFiles(t *testing.T, dir string, step expectedStep, alone bool) fs.FS {
	t.Helper()
	if alone {
		files, err := engine.OpenRun(dir)
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	stem := strings.TrimSuffix(step.LogFile, filepath.Ext(step.LogFile))
	if stem == "log" {
		stem = "lmp"
	}
	files := fstest.MapFS{}
	for from, to := range map[string]string{step.LogFile: logName, stem + ".out": engine.StdoutName, stem + ".err": engine.StderrName} {
		data, err := os.ReadFile(filepath.Join(dir, from))
		if err != nil {
			t.Fatal(err)
		}
		files[to] = &fstest.MapFile{Data: data}
	}
	return files
}

func (s expectedStep) exit() *job.Exit {
	e := &job.Exit{Observed: true}
	if s.Exit != nil {
		e.Code = *s.Exit
	}
	if s.Signal != nil {
		e.Signal = *s.Signal
	}
	return e
}

// outcome translates the two words of the recordings that differ from ours.
func (s expectedStep) outcome() engine.Outcome {
	if s.Outcome == "unstable_lost_atoms" {
		return engine.Unstable
	}
	return engine.Outcome(s.Outcome)
}

func TestEveryRecordedRunIsReadAsExpected(t *testing.T) {
	t.Parallel()
	dir := fixtures(t)
	cases, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		raw, err := os.ReadFile(filepath.Join(dir, c.Name(), "expected.json"))
		if err != nil {
			t.Fatal(err)
		}
		var want expectation
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(err)
		}
		for _, step := range want.Steps {
			t.Run(c.Name()+"/"+step.LogFile, func(t *testing.T) {
				t.Parallel()
				files := stepFiles(t, filepath.Join(dir, c.Name()), step, len(want.Steps) == 1)
				for name, exit := range map[string]*job.Exit{"with its exit": step.exit(), "exit unknown": nil} {
					t.Run(name, func(t *testing.T) { checkStep(t, files, step, exit, want) })
				}
				checkEachAlone(t, files, step)
			})
		}
	}
}

func checkStep(t *testing.T, files fs.FS, want expectedStep, exit *job.Exit, all expectation) {
	res, err := New().Parse(engine.Run{Files: files, Exit: exit})
	if err != nil {
		t.Fatal(err)
	}
	if res.Outcome != want.outcome() {
		t.Errorf("outcome %q, want %q; failure %+v", res.Outcome, want.outcome(), res.Failure)
	}
	if res.Outcome.Succeeded() != (res.Failure == nil) || res.Outcome.Succeeded() != (res.Verdict == job.Converged) {
		t.Errorf("outcome %q, verdict %q and failure %+v contradict each other", res.Outcome, res.Verdict, res.Failure)
	}
	if res.Summary.ProgramVersion != want.Version {
		t.Errorf("version %q, want %q", res.Summary.ProgramVersion, want.Version)
	}
	checkTables(t, res, want)
	for _, w := range want.Warnings {
		if !slices.ContainsFunc(res.Warnings, func(got engine.Warning) bool { return got.Message == w }) {
			t.Errorf("warning %q is missing in %+v", w, res.Warnings)
		}
	}
	checkRecord(t, files, want)
	if all.Final != nil {
		checkFinal(t, res, all)
	}
	if want.Error != nil {
		checkFailure(t, res.Failure, want)
	}
	if _, err := json.Marshal(res); err != nil {
		t.Error(err)
	}
}

// checkEachAlone reads the log without the terminal output and the other way
// round: each says how the run ended.
func checkEachAlone(t *testing.T, files fs.FS, want expectedStep) {
	t.Helper()
	found, err := look(files)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range found {
		if !c.isLog() {
			continue
		}
		data, err := fs.ReadFile(files, c.name)
		if err != nil {
			t.Fatal(err)
		}
		res, err := New().Parse(engine.Run{Files: fstest.MapFS{c.name: {Data: data}}})
		if err != nil || res.Outcome != want.outcome() || len(res.Series) != len(want.RawTables) {
			t.Errorf("%s alone: %v, %+v", c.name, err, res)
		}
	}
}

func checkTables(t *testing.T, res *engine.Result, want expectedStep) {
	t.Helper()
	if len(res.Series) != len(want.RawTables) {
		t.Fatalf("%d tables, want %d", len(res.Series), len(want.RawTables))
	}
	for i, table := range want.RawTables {
		s := res.Series[i]
		for _, c := range s.Columns {
			if len(c.Values) != table.Rows {
				t.Errorf("table %d: %d rows, want %d", i, len(c.Values), table.Rows)
			}
			if c.Values[0] != table.First[c.Name] || c.Values[len(c.Values)-1] != table.Last[c.Name] {
				t.Errorf("table %d column %s: %v … %v", i, c.Name, c.Values[0], c.Values[len(c.Values)-1])
			}
		}
		if len(s.Columns) != len(table.Columns) {
			t.Errorf("table %d: columns %v", i, s.Columns)
		}
	}
}

func checkRecord(t *testing.T, files fs.FS, want expectedStep) {
	t.Helper()
	rec, err := readRecord(files)
	if err != nil {
		t.Fatal(err)
	}
	if want.Units != nil && rec.units != *want.Units {
		t.Errorf("units %q, want %q", rec.units, *want.Units)
	}
	if (rec.end != nil) != (want.Wall != nil) {
		t.Errorf("end %v, want %v", rec.end, want.Wall)
	}
	for i, table := range want.RawTables {
		l := rec.blocks[i].loop
		if table.Loop == nil {
			if l != nil {
				t.Errorf("loop %+v of an interrupted run", l)
			}
			continue
		}
		if l == nil || l.steps != table.Loop.Steps || l.atoms != table.Loop.Atoms {
			t.Errorf("loop %+v, want %+v", l, table.Loop)
		}
	}
	if m := want.Minimise; m != nil {
		checkMinimisation(t, rec, want)
	}
}

func checkMinimisation(t *testing.T, rec *record, want expectedStep) {
	t.Helper()
	m := want.Minimise
	for _, b := range rec.blocks {
		s := b.stats
		if s == nil {
			continue
		}
		if s.criterion != m.Criterion || s.energy[0] != m.Initial || s.energy[2] != m.Final || b.steps() != m.Iterations {
			t.Errorf("minimisation %+v, want %+v", s, m)
		}
		return
	}
	t.Error("no minimisation was read")
}

func checkFinal(t *testing.T, res *engine.Result, want expectation) {
	t.Helper()
	if res.Summary.NAtoms == nil || *res.Summary.NAtoms != want.Final.NAtoms {
		t.Errorf("natoms %v, want %d", res.Summary.NAtoms, want.Final.NAtoms)
	}
	if *want.Steps[0].Units == reduced {
		for k, name := range []string{"lx", "ly", "lz"} {
			if got := res.Summary.Reduced[name]; math.Abs(got-want.Final.Lattice[k][k]) > 1e-6 {
				t.Errorf("%s = %v, want %v", name, got, want.Final.Lattice[k][k])
			}
		}
		if res.Structures.Final != nil || res.Summary.EnergyEV != nil {
			t.Error("reduced units were converted")
		}
		return
	}
	var got crystal.Structure
	if err := json.Unmarshal(res.Structures.Final, &got); err != nil {
		t.Fatalf("final structure: %v; warnings %+v", err, res.Warnings)
	}
	for i := range 3 {
		for k := range 3 {
			if math.Abs(got.Lattice[i][k]-want.Final.Lattice[i][k]) > 1e-5 {
				t.Errorf("lattice %v, want %v", got.Lattice, want.Final.Lattice)
			}
		}
	}
	if len(got.Species) != want.Final.NAtoms || math.Abs(*res.Summary.VolumeA3-want.Final.Volume) > 1e-3*want.Final.Volume {
		t.Errorf("%d sites, volume %v; want %d and %v", len(got.Species), *res.Summary.VolumeA3, want.Final.NAtoms, want.Final.Volume)
	}
}

func checkFailure(t *testing.T, f *job.Failure, want expectedStep) {
	t.Helper()
	if f == nil || len(f.Evidence) == 0 {
		t.Fatalf("failure %+v has no evidence", f)
	}
	message := strings.TrimPrefix(want.Error.Message, "ERROR: ")
	message = strings.TrimPrefix(message, "ERROR on proc 0: ")
	if f.Message != message || !strings.Contains(f.Evidence[0].Text, want.Error.Source) || f.Evidence[0].Line == 0 {
		t.Errorf("failure %+v, want %+v", f, want.Error)
	}
	if want.LastCommand != "" && (len(f.Evidence) < 2 || !strings.HasSuffix(f.Evidence[1].Text, want.LastCommand)) {
		t.Errorf("evidence %+v, want last command %q", f.Evidence, want.LastCommand)
	}
}
