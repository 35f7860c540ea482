package lammps

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

const head = "LAMMPS (29 Sep 2021 - Update 2)\n"

// parseLog reads one log, as of a run that exited with 0.
func parseLog(t *testing.T, log string) *engine.Result {
	t.Helper()
	res, err := New().Parse(engine.Run{Files: fstest.MapFS{logName: {Data: []byte(log)}}, Exit: &job.Exit{Observed: true}})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

const mdLog = head + `units metal
Created 500 atoms
run 100
Per MPI rank memory allocation (min/avg/max) = 3.5 | 3.5 | 3.5 Mbytes
Step Temp PotEng Press
       0          600   -1788.5796    28579.261
      50          300   -1771.3543     16814.77
     100          310   -1770.5        16800
Loop time of 7.6 on 1 procs for 100 steps with 500 atoms
Total wall time: 0:00:07
`

func TestFact8_ExitZeroIsNoProofOfSuccess(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		log     string
		outcome engine.Outcome
		verdict job.Verdict
		code    string
	}{
		"all is well":     {mdLog, engine.Success, job.Converged, ""},
		"NaN energy":      {strings.Replace(mdLog, "-1770.5 ", "-nan", 1), engine.Unstable, job.Unstable, "not_finite"},
		"infinite":        {strings.Replace(mdLog, "16800", "inf", 1), engine.Unstable, job.Unstable, "not_finite"},
		"all atoms lost":  {strings.Replace(mdLog, "with 500", "with 0", 1), engine.Unstable, job.Unstable, "lost_atoms"},
		"most atoms lost": {strings.Replace(mdLog, "with 500", "with 17", 1), engine.Unstable, job.Unstable, "lost_atoms"},
		"a few lost":      {strings.Replace(mdLog, "with 500", "with 499", 1), engine.SuccessWithWarning, job.Unstable, ""},
		"lost with a warning": {strings.Replace(strings.Replace(mdLog, "Loop", "WARNING: Lost atoms: original 500 current 496 (src/thermo.cpp:445)\nLoop", 1), "with 500", "with 496", 1),
			engine.SuccessWithWarning, job.Unstable, ""},
		"evaporation":       {strings.Replace(strings.Replace(mdLog, "run 100", "fix e all evaporate 10 5 hot 1\nrun 100", 1), "with 500", "with 17", 1), engine.Success, job.Converged, ""},
		"fewer steps":       {strings.Replace(mdLog, "for 100", "for 60", 1), engine.ResultInvalid, job.NotApplicable, "steps_missing"},
		"a run skipped":     {strings.Replace(mdLog, "Total", "run 200\nTotal", 1), engine.ResultInvalid, job.NotApplicable, "steps_missing"},
		"wall-time stop":    {strings.Replace(strings.Replace(mdLog, "for 100", "for 60", 1), "Loop", "WARNING: Wall time limit reached (src/timer.cpp:238)\nLoop", 1), engine.TimeLimitGraceful, job.NotConverged, "time_limit"},
		"halt and continue": {strings.Replace(strings.Replace(mdLog, "for 100", "for 60", 1), "Loop", "Fix halt condition for fix-id h met on step 60 with value 1 (src/fix_halt.cpp:240)\nLoop", 1), engine.StoppedByRequest, job.NotConverged, "stopped"},
		"no end":            {strings.Replace(mdLog, "Total", "total", 1), engine.ResultInvalid, job.NotApplicable, "output_incomplete"},
		"ended by quit":     {strings.Replace(mdLog, "Total wall time: 0:00:07", "quit", 1), engine.Success, job.Converged, ""},
		"nothing run":       {head + "units metal\nTotal wall time: 0:00:00\n", engine.SuccessWithWarning, job.NotApplicable, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res := parseLog(t, c.log)
			code := ""
			if res.Failure != nil {
				code = res.Failure.Code
				if res.Failure.Class != c.outcome.Class() || len(res.Failure.Evidence) == 0 {
					t.Errorf("failure %+v", res.Failure)
				}
			}
			if res.Outcome != c.outcome || res.Verdict != c.verdict || code != c.code {
				t.Errorf("%s, %s, %q; want %s, %s, %q", res.Outcome, res.Verdict, code, c.outcome, c.verdict, c.code)
			}
			if c.outcome == engine.SuccessWithWarning && len(res.Warnings) == 0 {
				t.Error("no warning")
			}
		})
	}
}

// Output comes in blocks of 4096 bytes, so a killed run ends anywhere: the rows
// that are whole are kept, and the cut one is not.
func TestFact9_ACutLogHasItsWholeRowsAndNoOther(t *testing.T) {
	t.Parallel()
	dir := fixtures(t)
	for _, name := range []string{"al_eam_npt", "cu_minimize", "si_sw_two_runs", "halt_by_file", "lost_atoms"} {
		whole, err := os.ReadFile(filepath.Join(dir, name, logName))
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			full, err := readJournal(logName, bytes.NewReader(whole))
			if err != nil {
				t.Fatal(err)
			}
			stride := 1 + len(whole)/1000 // everywhere, but in no more than 1000 places
			for n := len(banner); n < len(whole)-1; n += stride {
				checkCut(t, full, whole[:n])
			}
		})
	}
}

func checkCut(t *testing.T, full *journal, log []byte) {
	t.Helper()
	part, err := readJournal(logName, bytes.NewReader(log))
	if err != nil {
		t.Fatal(err)
	}
	if part.end != nil {
		t.Fatalf("a log of %d bytes has an end", len(log))
	}
	for i, b := range part.blocks {
		for k, row := range b.table.rows {
			if !cmp.Equal(row, full.blocks[i].table.rows[k]) {
				t.Fatalf("cut at %d: row %v, want %v", len(log), row, full.blocks[i].table.rows[k])
			}
		}
	}
	rec := &record{journal: part}
	if d := rec.decide(&job.Exit{Observed: true, Signal: "SIGKILL"}); d.outcome != engine.Killed {
		t.Fatalf("cut at %d: %s", len(log), d.outcome)
	}
	if d := rec.decide(nil); d.outcome.Succeeded() {
		t.Fatalf("cut at %d: %s", len(log), d.outcome)
	}
}

func TestTablesOfEveryStyle(t *testing.T) {
	t.Parallel()
	body := func(table string) string {
		return head + "units metal\nrun 20\nPer MPI rank memory allocation (min/avg/max) = 3 | 3 | 3 Mbytes\n" + table + "Loop time of 1 on 4 procs for 20 steps with 10 atoms\nTotal wall time: 0:00:01\n"
	}
	for name, table := range map[string]string{
		"one":       "Step Temp PotEng \n  0  1.5  -2\n 10 1e+24 -3.5\n 20 2 -4\n",
		"right":     "   Step          Temp          PotEng    \n         0   1.5          -2\n        10   1e+24        -3.5\n        20   2            -4\n",
		"CRLF":      "Step Temp PotEng \r\n  0  1.5  -2\r\n 10 1e+24 -3.5\r\n 20 2 -4\r\n",
		"last step": "Temp PotEng Step\n 1.5 -2 0\n 1e+24 -3.5 10\n 2 -4 20\n",
		"multi":     "------------ Step              0 ----- CPU =            0 (sec) -------------\nTemp     =   1.5 PotEng   = -2\n---------------- Step       10 ----- CPU =      0.0034 (sec) ----------------\nTemp     =   1e+24 PotEng   = -3.5\n---------------- Step       20 ----- CPU =      0.0069 (sec) ----------------\nTemp     =   2 PotEng   = -4 \n",
		"yaml":      "---\nkeywords: ['Step', 'Temp', 'PotEng', ]\ndata:\n  - [0, 1.5, -2, ]\n  - [10, 1e+24, -3.5, ]\n  - [20, 2, -4, ]\n...\n",
		"noise":     "WARNING: one (src/x.cpp:1)\nStep Temp PotEng \n  0  1.5  -2\nsome words\n 1 2\n 3 4 5 6\nWARNING: two (src/x.cpp:2)\n 10 1e+24 -3.5\n 5 5 5\n 20 2 -4\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res := parseLog(t, body(table))
			if len(res.Series) != 1 {
				t.Fatalf("%d tables", len(res.Series))
			}
			got := make(map[string]engine.Floats)
			for _, c := range res.Series[0].Columns {
				got[c.Name] = c.Values
			}
			delete(got, "CPU")
			want := map[string]engine.Floats{"Step": {0, 10, 20}, "Temp": {1.5, 1e24, 2}, "PotEng": {-2, -3.5, -4}}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			if res.Outcome != engine.Success {
				t.Errorf("%s %+v", res.Outcome, res.Failure)
			}
		})
	}
}

func TestRunsAreCountedThroughVariablesLoopsAndPieces(t *testing.T) {
	t.Parallel()
	loop := func(from, to, n int) string {
		return fmt.Sprintf("Step Temp\n %d 1\n %d 2\nLoop time of 1 on 1 procs for %d steps with 5 atoms\n", from, to, n)
	}
	for name, c := range map[string]struct {
		log   string
		steps int64
		ok    bool
	}{
		"variable":         {"run ${N}\nrun 100\n" + loop(0, 100, 100), 100, true},
		"two variables":    {"run ${N} every ${M}\nrun 100 every ${M}\nrun 100 every 50\n" + loop(0, 50, 50) + "print 'x'\nx\n" + loop(50, 100, 50), 100, true},
		"every, cut short": {"run 100 every 50\n" + loop(0, 50, 50), 50, false},
		"upto":             {"run 100\n" + loop(0, 100, 100) + "run 150 upto\n" + loop(100, 150, 50), 150, true},
		"loop":             {"run 10\n" + loop(0, 10, 10) + "print \"run $i\"\nrun 1\nnext i\njump SELF a\nrun 10\n" + loop(10, 20, 10), 20, true},
		"joined line":      {"run 10 &\n  upto\n" + loop(0, 10, 10), 10, true},
		"printed command":  {"run 10\n" + loop(0, 10, 10) + "print \"run 5000\"\nrun 5000\n", 10, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res := parseLog(t, head+"units metal\n"+c.log+"Total wall time: 0:00:01\n")
			if res.Outcome.Succeeded() != c.ok || res.Summary.NSteps == nil || *res.Summary.NSteps != c.steps {
				t.Errorf("%s, steps %v, %+v", res.Outcome, res.Summary.NSteps, res.Failure)
			}
		})
	}
}

func TestMinimisationConvergesOnlyByATolerance(t *testing.T) {
	t.Parallel()
	log := head + "units metal\nminimize 0 1e-8 100 1000\nStep PotEng\n 0 -1\n 7 -2\nLoop time of 1 on 1 procs for 7 steps with 4 atoms\n\nMinimization stats:\n  Stopping criterion = %s\n" +
		"  Energy initial, next-to-last, final = \n     -1  -1.99  -2\n  Force two-norm initial, final = 9 1e-9\n  Force max component initial, final = 8 1e-10\n  Iterations, force evaluations = 7 14\n%sTotal wall time: 0:00:01\n"
	for criterion, ok := range map[string]bool{
		"energy tolerance": true, "force tolerance": true, "max iterations": false, "max force evaluations": false,
		"linesearch alpha is zero": false, "search direction is not downhill": false,
	} {
		res := parseLog(t, fmt.Sprintf(log, criterion, ""))
		if res.Outcome.Succeeded() != ok || !ok && (res.Outcome != engine.MinNotConverged || res.Verdict != job.NotConverged) {
			t.Errorf("%s: %s, %s", criterion, res.Outcome, res.Verdict)
		}
		if s := res.Summary; *s.NIonicSteps != 7 || *s.ConvergedIonic != ok || *s.EnergyEV != -2 || s.NSteps != nil {
			t.Errorf("%s: summary %+v", criterion, s)
		}
	}
	after := parseLog(t, fmt.Sprintf(log, "max iterations", "run 10\nStep PotEng\n 7 -2\n 17 -1.9\nLoop time of 1 on 1 procs for 10 steps with 4 atoms\n"))
	if after.Outcome != engine.Success || len(after.Warnings) != 1 {
		t.Errorf("a first relaxation before dynamics need not converge: %s, %+v", after.Outcome, after.Warnings)
	}
	if stopped := parseLog(t, fmt.Sprintf(log, "walltime limit reached", "")); stopped.Outcome != engine.TimeLimitGraceful {
		t.Errorf("time limit: %s", stopped.Outcome)
	}
}

func TestPerAtomEnergiesBecomeTotals(t *testing.T) {
	t.Parallel()
	perAtom := strings.Replace(mdLog, "run 100", "thermo_modify norm yes\nrun 100", 1)
	s := parseLog(t, perAtom).Summary
	near(t, "energy", s.EnergyEV, -1770.5*500, 1e-6)
	near(t, "energy per atom", s.EnergyPerAtomEV, -1770.5, 1e-9)
	s = parseLog(t, mdLog).Summary
	near(t, "energy", s.EnergyEV, -1770.5, 1e-9)
	near(t, "mean temperature", s.TemperatureMeanK, 305, 1e-9)
	near(t, "pressure", s.PressureGPa, 1.68, 1e-12)
	lj := parseLog(t, strings.Replace(mdLog, "units metal", "units lj", 1))
	if lj.Summary.EnergyEV != nil || lj.Summary.PressureGPa != nil || lj.Summary.TemperatureK != nil || lj.Summary.Units != "lj" {
		t.Errorf("reduced units were converted: %+v", lj.Summary)
	}
	if r := lj.Summary.Reduced; r["potential_energy_per_atom"] != -1770.5 || r["potential_energy"] != -1770.5*500 || r["temperature"] != 310 {
		t.Errorf("reduced %v", r)
	}
	if u := lj.Series[0].Columns[1].Unit; u != "lj" {
		t.Errorf("unit %q", u)
	}
}

func TestUnitsOfARestartedRunAreNotGuessed(t *testing.T) {
	t.Parallel()
	res := parseLog(t, strings.Replace(mdLog, "units metal", "read_restart a.restart", 1))
	if res.Summary.EnergyEV != nil || res.Summary.Units != "" || len(res.Warnings) != 1 || res.Warnings[0].Code != "units_unknown" {
		t.Errorf("summary %+v, warnings %+v", res.Summary, res.Warnings)
	}
	tau := strings.Replace(strings.Replace(mdLog, "units metal", "read_restart a.restart", 1), "Total", "Performance: 192848.575 tau/day, 446.409 timesteps/s\nTotal", 1)
	if res := parseLog(t, tau); res.Summary.Units != "lj" {
		t.Errorf("units %q", res.Summary.Units)
	}
}

func TestErrorsAreClassifiedByTheirText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]engine.Outcome{
		"ERROR: Lost atoms: original 500 current 17 (src/thermo.cpp:439)":                                                            engine.Unstable,
		"ERROR on proc 3: Out of range atoms - cannot compute PPPM (src/KSPACE/pppm.cpp:1890)":                                       engine.Unstable,
		"ERROR: Non-numeric pressure - simulation unstable (src/fix_nh.cpp:1)":                                                       engine.Unstable,
		"ERROR on proc 0: Bond atoms 1 2 missing on proc 0 at step 5 (src/ntopo_bond_all.cpp:61)":                                    engine.Unstable,
		"ERROR on proc 0: Neighbor list overflow, boost neigh_modify one (src/npair_half.cpp:9)":                                     engine.RecoverableError,
		"ERROR: Unrecognized pair style 'reaxff' is part of the REAXFF package which is not enabled in this LAMMPS binary.":          engine.FeatureNotBuilt,
		"ERROR: Unrecognized pair style 'eam/aloy' (src/force.cpp:279)":                                                              engine.InputError,
		"ERROR on proc 0: cannot open eam/alloy potential file X: No such file or directory (src/potential_file_reader.cpp:59)":      engine.MissingFile,
		"ERROR: Cannot open file data.rhodo: No such file or directory (src/read_data.cpp:331)":                                      engine.MissingFile,
		"ERROR on proc 0: Cannot open dump file a.dump: Permission denied (src/dump.cpp:1)":                                          engine.FileSystemError,
		"ERROR on proc 0: Failed to reallocate 800000000000 bytes for array atom:x (src/memory.cpp:66)":                              engine.OutOfMemory,
		"ERROR on proc 0: No matching element in EAM potential file (src/MANYBODY/pair_eam_alloy.cpp:1)":                             engine.BadPseudopotential,
		"ERROR: Unknown command: timestp 0.005 (src/input.cpp:274)":                                                                  engine.InputError,
		"ERROR: Illegal fix nvt command (src/fix_nh.cpp:1)":                                                                          engine.InputError,
		"ERROR: Something that nobody has seen before (src/new.cpp:1)":                                                               engine.InputError,
		"ERROR: Fix halt condition for fix-id h met on step 10 with value 2.1 (src/fix_halt.cpp:238)":                                engine.StoppedByRequest,
		"ERROR: Did not assign all atoms correctly (src/read_data.cpp:1499)":                                                         engine.InputError,
		"ERROR: All pair coeffs are not set (src/pair.cpp:1)\nLast input line: run 5":                                                engine.InputError,
		"ERROR: Unknown pair style foo (src/force.cpp:1)\nFor more information see https://docs.lammps.org/err0010\nLast command: x": engine.InputError,
	} {
		res, err := New().Parse(engine.Run{Files: fstest.MapFS{logName: {Data: []byte(head + "units metal\n" + text + "\n")}}, Exit: &job.Exit{Observed: true, Code: 1}})
		if err != nil {
			t.Fatal(err)
		}
		if res.Outcome != want {
			t.Errorf("%s: %s", text, res.Outcome)
		}
		f := res.Failure
		if f == nil || f.Class != want.Class() || f.Code == "" || f.Evidence[0].Line != 3 || f.Digest == "" || strings.Contains(f.Message, ".cpp") {
			t.Errorf("%s: failure %+v", text, f)
		}
	}
	if a, b := digest("lost_atoms", "original 500 current 17", "run 250"), digest("lost_atoms", "original 500 current 203", "run 250"); a != b {
		t.Errorf("%q and %q differ", a, b)
	}
}

func TestTheExitDecidesBeforeTheText(t *testing.T) {
	t.Parallel()
	cut := mdLog[:strings.Index(mdLog, "Loop")]
	for name, c := range map[string]struct {
		log, stderr string
		exit        job.Exit
		want        engine.Outcome
	}{
		"cancelled":         {cut, "", job.Exit{Observed: true, Code: 1, Cause: job.CauseCancelled}, engine.StoppedByRequest},
		"walltime":          {cut, "", job.Exit{Observed: true, Signal: "SIGKILL", Cause: job.CauseWalltime}, engine.Killed},
		"out of memory":     {cut, "", job.Exit{Observed: true, Signal: "SIGKILL", Cause: job.CauseOOM}, engine.OutOfMemory},
		"signal":            {cut, "", job.Exit{Observed: true, Signal: "SIGTERM"}, engine.Killed},
		"ranks terminated":  {cut, "", job.Exit{Observed: true, Code: 1}, engine.ProgramError},
		"disk full, abort":  {cut, "terminate called after throwing an instance of 'std::system_error'\n  what():  cannot write to file: No space left on device\n", job.Exit{Observed: true, Signal: "SIGABRT"}, engine.FileSystemError},
		"no memory":         {cut, "terminate called after throwing an instance of 'std::bad_alloc'\n", job.Exit{Observed: true, Signal: "SIGABRT"}, engine.OutOfMemory},
		"end not seen":      {cut, "", job.Exit{}, engine.Killed},
		"never started":     {"", "mpirun was unable to find the specified executable file\n", job.Exit{Observed: true, Code: 1}, engine.LaunchError},
		"silent failure":    {"", "", job.Exit{Observed: true, Code: 3}, engine.ProgramError},
		"silent success":    {"", "", job.Exit{Observed: true}, engine.ProgramError},
		"well but status 1": {mdLog, "", job.Exit{Observed: true, Code: 1}, engine.ProgramError},
		"soft limit by stop file": {strings.Replace(strings.Replace(mdLog, "for 100", "for 60", 1), "Loop", "Fix halt condition for fix-id stop met on step 60 with value 1 (src/fix_halt.cpp:240)\nLoop", 1), "",
			job.Exit{Observed: true, Cause: job.CauseSoftLimit}, engine.TimeLimitGraceful},
		"soft limit, but done": {mdLog, "", job.Exit{Observed: true, Cause: job.CauseSoftLimit}, engine.Success},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := fstest.MapFS{engine.StdoutName: {}, engine.StderrName: {Data: []byte(c.stderr)}}
			if c.log != "" {
				files[logName] = &fstest.MapFile{Data: []byte(c.log)}
			}
			res, err := New().Parse(engine.Run{Files: files, Exit: &c.exit, Spec: &job.Spec{}})
			if err != nil {
				t.Fatal(err)
			}
			if res.Outcome != c.want || (res.Failure == nil) != c.want.Succeeded() {
				t.Errorf("%s, want %s: %+v", res.Outcome, c.want, res.Failure)
			}
		})
	}
}

func TestALogGoesOnInOtherFiles(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{
		logName:       {Data: []byte(head + "units metal\nrun 10\nStep Temp\n 0 1\n 10 2\nLoop time of 1 on 1 procs for 10 steps with 5 atoms\nlog log.two\n")},
		"log.two":     {Data: []byte("run 20\nStep Temp PotEng\n 10 1 -1\n 30 2 -2\nLoop time of 1 on 1 procs for 20 steps with 5 atoms\nlog third.txt append\n")},
		"third.txt":   {Data: []byte("run 5\nStep Temp\n 30 1\nERROR: Lost atoms: original 5 current 1 (src/thermo.cpp:1)\nLast command: run 5\n")},
		"notes.txt":   {Data: []byte("nothing")},
		"bin.restart": {Data: []byte{0, 1, 2}},
	}
	res, err := New().Parse(engine.Run{Files: files})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Series) != 3 || len(res.Series[1].Columns) != 3 || res.Outcome != engine.Unstable {
		t.Errorf("%d tables, %s", len(res.Series), res.Outcome)
	}
	if e := res.Failure.Evidence[0]; e.File != "third.txt" || e.Line != 4 {
		t.Errorf("evidence %+v", e)
	}
	delete(files, "third.txt")
	if res, err = New().Parse(engine.Run{Files: files}); err != nil || res.Outcome != engine.ResultInvalid || !strings.Contains(res.Failure.Message, "another log (third.txt)") {
		t.Errorf("%v, %+v", err, res)
	}
}

func TestAFullDiskIsNoSuccessThoughTheProgramEndedWell(t *testing.T) {
	t.Parallel()
	screen := []byte(mdLog)
	frame := "ITEM: TIMESTEP\n100\nITEM: NUMBER OF ATOMS\n500\nITEM: BOX BOUNDS pp pp pp\n0 1\n0 1\n0 1\nITEM: ATOMS id type x y z\n1 1 0 0 0\n2 1 0.5"
	dumping := []byte(strings.Replace(mdLog, "run 100", "dump d all custom 100 d.dump id type x y z\nrun 100", 1))
	for name, c := range map[string]struct {
		files fstest.MapFS
		want  engine.Outcome
		code  string
	}{
		"log cut":            {fstest.MapFS{logName: {Data: screen[:len(mdLog)-80]}, engine.StdoutName: {Data: screen}}, engine.FileSystemError, "output_cut"},
		"log empty":          {fstest.MapFS{logName: {}, engine.StdoutName: {Data: screen}}, engine.FileSystemError, "output_cut"},
		"dump cut":           {fstest.MapFS{logName: {Data: dumping}, "d.dump": {Data: []byte(frame)}}, engine.FileSystemError, "output_cut"},
		"another's dump cut": {fstest.MapFS{logName: {Data: dumping}, "e.dump": {Data: []byte(frame)}}, engine.Success, ""},
		"both whole":         {fstest.MapFS{logName: {Data: screen}, engine.StdoutName: {Data: screen}}, engine.Success, ""},
		"log closed":         {fstest.MapFS{logName: {Data: []byte(strings.Replace(mdLog, "Total wall time: 0:00:07", "log none", 1))}, engine.StdoutName: {Data: screen}}, engine.Success, ""},
		"nothing but stderr": {fstest.MapFS{logName: {}, "lmp.err": {Data: []byte("terminate called\n  what():  cannot write to file: No space left on device\n")}}, engine.FileSystemError, "disk_full"},
	} {
		res, err := New().Parse(engine.Run{Files: c.files})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if res.Outcome != c.want || c.code != "" && (res.Failure == nil || res.Failure.Code != c.code) {
			t.Errorf("%s: %s, %+v", name, res.Outcome, res.Failure)
		}
	}
}

func TestTheLastOfSeveralRunsInOneFileIsTheRun(t *testing.T) {
	t.Parallel()
	failing := head + "units metal\nERROR: Lost atoms: original 500 current 1 (src/thermo.cpp:1)\n"
	for name, c := range map[string]struct {
		log  string
		want engine.Outcome
	}{
		"good after bad": {failing + mdLog, engine.Success},
		"bad after good": {mdLog + failing, engine.Unstable},
		"cut after good": {mdLog + mdLog[:strings.Index(mdLog, "Loop")], engine.ResultInvalid},
	} {
		res := parseLog(t, c.log)
		if res.Outcome != c.want || len(res.Series) > 1 || res.Warnings[0].Code != "several_runs" {
			t.Errorf("%s: %s, %d tables, %+v", name, res.Outcome, len(res.Series), res.Warnings)
		}
	}
}

func TestALoopLineThatCannotBeBelievedEndsNoRun(t *testing.T) {
	t.Parallel()
	screen := strings.ReplaceAll(mdLog, "units metal\n", "")
	screen = strings.ReplaceAll(screen, "run 100\n", "")
	for _, steps := range []string{"nan", "-100", "99999999999999999999", "1e3"} {
		if res := parseLog(t, strings.Replace(screen, "for 100", "for "+steps, 1)); res.Outcome != engine.ResultInvalid || *res.Summary.NSteps != 100 {
			t.Errorf("%s: %s, %+v", steps, res.Outcome, res.Summary)
		}
	}
}

func TestTextBeforeTheBannerAndOtherEncodingsAreRead(t *testing.T) {
	t.Parallel()
	wide := []byte{0xff, 0xfe}
	for _, c := range []byte(mdLog) {
		wide = append(wide, c, 0)
	}
	for name, log := range map[string][]byte{
		"UTF-16":       wide,
		"notes before": []byte(strings.Repeat("module load lammps\n", 1000) + mdLog),
		"zero bytes":   []byte(strings.Replace(mdLog, "Created", "\x00\x00\nCreated", 1)),
		"Latin-1":      []byte(strings.Replace(mdLog, "units", "# gr\xf6\xdfe\nunits", 1)),
	} {
		files := fstest.MapFS{"run.out": {Data: log}}
		if (&LAMMPS{}).Recognise(files) < 0.9 {
			t.Errorf("%s: not recognised", name)
		}
		res, err := New().Parse(engine.Run{Files: files})
		if err != nil || res.Outcome != engine.Success || *res.Summary.EnergyEV != -1770.5 {
			t.Errorf("%s: %v, %+v", name, err, res)
		}
	}
}

func TestAScriptsOwnQuitWithAStatusIsNoKill(t *testing.T) {
	t.Parallel()
	log := strings.Replace(mdLog, "Total wall time: 0:00:07", "quit 3", 1)
	for _, exit := range []*job.Exit{nil, {Observed: true, Code: 3}} {
		res, err := New().Parse(engine.Run{Files: fstest.MapFS{logName: {Data: []byte(log)}}, Exit: exit})
		if err != nil || res.Outcome != engine.InputError || res.Failure.Code != "quit" {
			t.Errorf("%v, %+v", err, res)
		}
	}
}

func TestTheScreenDoesNotTakeRemovedAtomsForLostOnes(t *testing.T) {
	t.Parallel()
	script := "units metal\nCreated orthogonal box = (0 0 0) to (1 1 1)\nCreated 500 atoms\nfix e all evaporate 10 5 s 43\n"
	tail := "run 10\nStep Temp\n 0 1\n 10 1\nLoop time of 1 on 1 procs for 10 steps with 475 atoms\nclear\n" +
		"Created orthogonal box = (0 0 0) to (1 1 1)\nCreated 300 atoms\nrun 10\nStep Temp\n 0 1\n 10 1\nLoop time of 1 on 1 procs for 10 steps with 300 atoms\nTotal wall time: 0:00:07\n"
	screen := strings.NewReplacer("units metal\n", "", "fix e all evaporate 10 5 s 43\n", "", "run 10\n", "", "clear\n", "").Replace(script + tail)
	res, err := New().Parse(engine.Run{Files: fstest.MapFS{logName: {Data: []byte(head + script + tail)}, engine.StdoutName: {Data: []byte(head + screen)}}})
	if err != nil || res.Outcome != engine.Success {
		t.Errorf("%v, %+v", err, res)
	}
}

func TestTheDumpOfAGroupIsNotTheFinalStructure(t *testing.T) {
	t.Parallel()
	frame := "ITEM: TIMESTEP\n100\nITEM: NUMBER OF ATOMS\n1\nITEM: BOX BOUNDS pp pp pp\n0 4\n0 4\n0 4\nITEM: ATOMS id type element x y z fx fy fz\n1 1 Cu 0 0 0 3 0 4\n"
	res, err := New().Parse(engine.Run{Files: fstest.MapFS{logName: {Data: []byte(mdLog)}, "group.dump": {Data: []byte(frame)}}})
	if err != nil || res.Structures.Final != nil || res.Summary.MaxForceEVPerA != nil {
		t.Errorf("%v, %s, %+v", err, res.Structures.Final, res.Summary)
	}
}

// A data file is written in full precision, a dump with six digits; only the
// dump names the elements.
func TestADataFileAndADumpOfOneStepCompleteEachOther(t *testing.T) {
	t.Parallel()
	log := strings.ReplaceAll(mdLog, "500", "1")
	res, err := New().Parse(engine.Run{Files: fstest.MapFS{
		logName:    {Data: []byte(log)},
		finalData:  {Data: []byte("LAMMPS data file via write_data, timestep = 100\n\n1 atoms\n1 atom types\n\n0 4 xlo xhi\n0 4 ylo yhi\n0 4 zlo zhi\n\nAtoms # atomic\n\n1 1 1.00000004 0 0\n")},
		"end.dump": {Data: []byte("ITEM: TIMESTEP\n100\nITEM: NUMBER OF ATOMS\n1\nITEM: BOX BOUNDS pp pp pp\n0 4\n0 4\n0 4\nITEM: ATOMS id type element x y z fx fy fz\n1 1 Cu 1 0 0 3 0 4\n")},
	}})
	if err != nil || res.Summary.Formula != "Cu" || !bytes.Contains(res.Structures.Final, []byte("0.25000001")) || *res.Summary.MaxForceEVPerA != 5 {
		t.Errorf("%v, %s, %+v", err, res.Structures.Final, res)
	}
}

func TestTheTerminalHasMoreThanTheLogOfAKilledRun(t *testing.T) {
	t.Parallel()
	screen := strings.ReplaceAll(mdLog[:strings.Index(mdLog, "Loop")], "units metal\n", "")
	log := screen[:strings.Index(screen, "      50")]
	log = strings.Replace(log, "Created", "units metal\nCreated", 1)
	files := fstest.MapFS{logName: {Data: []byte(log)}, engine.StdoutName: {Data: []byte(screen)}}
	res, err := New().Parse(engine.Run{Files: files, Exit: &job.Exit{Observed: true, Signal: "SIGKILL"}})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(res.Series[0].Columns[0].Values); n != 3 || res.Summary.EnergyEV == nil || *res.Summary.NSteps != 100 {
		t.Errorf("%d rows, summary %+v", n, res.Summary)
	}
}

func TestLongTablesAreThinnedAndKeepTheirEnds(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(head + "units metal\nrun 100000\nStep Temp\n")
	for i := range 100_001 {
		fmt.Fprintf(&b, "%d %d\n", i, i)
	}
	b.WriteString("Loop time of 1 on 1 procs for 100000 steps with 5 atoms\nTotal wall time: 100:00:01\n")
	res := parseLog(t, b.String())
	v := res.Series[0].Columns[1].Values
	if len(v) > maxRows+1 || v[0] != 0 || v[len(v)-1] != 100_000 || res.Outcome != engine.Success {
		t.Errorf("%d rows, %v … %v, %s", len(v), v[0], v[len(v)-1], res.Outcome)
	}
	if *res.Summary.WallTimeS != 360_001 || math.Abs(*res.Summary.TemperatureMeanK-75_000) > 50 {
		t.Errorf("summary %+v", res.Summary)
	}
}

func TestEndlesslyManyRunsStayBounded(t *testing.T) {
	t.Parallel()
	r := newReader("x")
	fmt.Fprint(r, head, "units metal\n")
	for i := range 20_000 {
		fmt.Fprintf(r, "run 1\nStep Temp\n%d 1\n%d 1\nLoop time of 1 on 1 procs for 1 steps with 5 atoms\n", i, i+1)
	}
	j := r.finish()
	if len(j.blocks) > maxBlocks || len(j.asks) > maxAsks || j.short() != nil || j.last().table.lastStep() != 20_000 {
		t.Errorf("%d blocks, %d asks, last step %d", len(j.blocks), len(j.asks), j.last().table.lastStep())
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(mdLog), []byte("ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n1\nITEM: BOX BOUNDS xy xz yz pp pp pp\n0 1 0\n0 1 0\n0 1 0\nITEM: ATOMS id type xs ys zs fx fy fz\n1 1 0 0 0 1 2 3\n"))
	f.Add([]byte(head+"---- Step 0 ----- CPU = 1 (sec) ---\nTemp = 1 X = 2\n---- Step 1 --- CPU = \nTemp = nan\nLoop time of"), []byte("LAMMPS data file via write_data, version 3 Nov 2022, timestep = 12, units = metal\n\n1 atoms\n1 atom types\n\n0 1 xlo xhi\n0 1 ylo yhi\n0 1 zlo zhi\n0 0 0 xy xz yz\n\nMasses\n\n1 26.98 # Al\n\nAtoms # atomic\n\n1 1 0 0 0 0 0 0\n"))
	f.Add([]byte(head+"keywords: ['Step', ]\ndata:\n - [1, ]\nERROR: x\nMinimization stats:\n Stopping criterion = \n Energy initial, next-to-last, final = \n1 2\n"), []byte("LAMMPS data file\n99999999999999 atoms\n"))
	f.Fuzz(func(t *testing.T, log, other []byte) {
		files := fstest.MapFS{logName: {Data: log}, "final.data": {Data: other}, engine.StdoutName: {Data: other}}
		for _, exit := range []*job.Exit{nil, {Observed: true}, {Observed: true, Code: 1}} {
			res, err := New().Parse(engine.Run{Files: files, Exit: exit})
			if err != nil {
				if job.CodeOf(err) != job.Invalid {
					t.Fatal(err)
				}
				continue
			}
			if res.Outcome.Succeeded() != (res.Failure == nil) {
				t.Fatalf("%s with %+v", res.Outcome, res.Failure)
			}
			if _, err := json.Marshal(res); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// readJournal reads one log from its beginning to its end.
func readJournal(file string, in io.Reader) (*journal, error) {
	r := newReader(file)
	_, err := io.Copy(r, in)
	return r.finish(), err
}
