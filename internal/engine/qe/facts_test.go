package qe

import (
	"bytes"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/engine/printed"
	"github.com/nano-os/nanoos/internal/job"
)

// step returns a recorded run by its name.
func recordedStep(t *testing.T, name string) recorded {
	t.Helper()
	all := recordedSteps(t)
	i := slices.IndexFunc(all, func(r recorded) bool { return r.name == name })
	if i < 0 {
		t.Fatalf("no recorded run %s", name)
	}
	all[i].files = maps.Clone(all[i].files)
	return all[i]
}

func wantOutcome(t *testing.T, res *engine.Result, want engine.Outcome) {
	t.Helper()
	if res.Outcome != want {
		t.Errorf("outcome %s, want %s; failure %+v", res.Outcome, want, res.Failure)
	}
}

func TestFact1_JobDoneIsNoSuccess(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]engine.Outcome{
		"si_scf_noconv/scf": engine.SCFNotConverged, "si_relax_nstep/relax": engine.IonicNotConverged, "max_seconds_restart/first": engine.TimeLimitGraceful,
	} {
		r := recordedStep(t, name)
		if !bytes.Contains(r.files[r.step.StdoutFile].Data, []byte("JOB DONE.")) {
			t.Fatalf("%s has no farewell", name)
		}
		wantOutcome(t, parseFiles(t, r.files, r.exit), want)
	}
}

func TestFact2_StatusZeroOfNewerVersionsIsNoSuccess(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]engine.Outcome{
		"si_scf_noconv/scf": engine.SCFNotConverged, "si_relax_nstep/relax": engine.IonicNotConverged,
		"max_seconds_restart/first": engine.TimeLimitGraceful, "exit_file_restart/first": engine.StoppedByRequest,
	} {
		r := recordedStep(t, name)
		wantOutcome(t, parseFiles(t, r.files, &job.Exit{Observed: true}), want)
	}
}

func TestFact3_StatusInXMLIsNotBelievedAlone(t *testing.T) {
	t.Parallel()
	r := recordedStep(t, "si_scf_noconv/scf")
	if !bytes.Contains(r.files[r.step.XMLFile].Data, []byte("<status>0</status>")) {
		t.Fatal("the recorded status is not 0")
	}
	delete(r.files, r.step.StdoutFile)
	wantOutcome(t, parseFiles(t, r.files, nil), engine.SCFNotConverged)
	for status, want := range map[string]engine.Outcome{"2": engine.SCFNotConverged, "3": engine.IonicNotConverged, "255": engine.StoppedByRequest} {
		good := recordedStep(t, "si_scf/scf")
		edit(t, good, good.step.XMLFile, "<status>0</status>", "<exit_status>"+status+"</exit_status>")
		wantOutcome(t, parseFiles(t, good.files, nil), want)
	}
}

func TestFact4_AccuracyAboveThresholdIsNotConverged(t *testing.T) {
	t.Parallel()
	r := recordedStep(t, "si_scf_noconv_allowed/scf")
	for _, without := range []string{"", r.step.XMLFile, r.step.StdoutFile} {
		files := maps.Clone(r.files)
		delete(files, without)
		wantOutcome(t, parseFiles(t, files, r.exit), engine.SCFNotConverged)
	}
	// The flag of an nscf or bands run is false although it is good.
	for _, name := range []string{"si_bands_dos/bands", "si_bands_dos/nscf"} {
		r := recordedStep(t, name)
		wantOutcome(t, parseFiles(t, r.files, r.exit), engine.Success)
	}
}

func TestFact5_RestartFromNothingIsTold(t *testing.T) {
	t.Parallel()
	r := recordedStep(t, "sigkill_then_rerun/restart")
	res := parseFiles(t, r.files, r.exit)
	wantOutcome(t, res, engine.SuccessWithWarning)
	if !hasWarning(res, warnRestart) {
		t.Errorf("warnings %+v", res.Warnings)
	}
	r = recordedStep(t, "exit_file_restart/second")
	if res := parseFiles(t, r.files, r.exit); hasWarning(res, warnRestart) {
		t.Errorf("a true restart is warned of: %+v", res.Warnings)
	}
}

func TestFact6_MissingKPointsIsTold(t *testing.T) {
	t.Parallel()
	r := recordedStep(t, "missing_kpoints_card/scf")
	wantOutcome(t, parseFiles(t, r.files, r.exit), engine.SuccessWithWarning)
	delete(r.files, "scf.in")
	wantOutcome(t, parseFiles(t, r.files, r.exit), engine.SuccessWithWarning)
	r.files["scf.in"] = &fstest.MapFile{Data: []byte("&CONTROL\n/\n&SYSTEM\n/\n&ELECTRONS\n/\nK_POINTS gamma\n")}
	wantOutcome(t, parseFiles(t, r.files, r.exit), engine.Success)
}

func TestFact7_EmptyOutputFilesAreNoSuccess(t *testing.T) {
	t.Parallel()
	r := recordedStep(t, "si_scf/scf")
	save := func(name string, size int) {
		r.files["out/si.save/"+name] = &fstest.MapFile{Data: bytes.Repeat([]byte{1}, size)}
	}
	save("charge-density.dat", 10)
	save("wfc1.dat", 10)
	r.files["pseudo/Si.UPF"] = &fstest.MapFile{Data: make([]byte, 1000)}
	save("Si.UPF", 990)
	wantOutcome(t, parseFiles(t, r.files, r.exit), engine.Success)
	save("Si.UPF", 100)
	wantOutcome(t, parseFiles(t, r.files, r.exit), engine.FileSystemError)
	save("Si.UPF", 1000)
	save("wfc1.dat", 0)
	res := parseFiles(t, r.files, r.exit)
	wantOutcome(t, res, engine.FileSystemError)
	if res.Failure.Class != job.ClassResources || res.Failure.Evidence[0].File != "out/si.save/wfc1.dat" {
		t.Errorf("failure %+v", res.Failure)
	}
}

func hasWarning(res *engine.Result, code string) bool {
	return slices.ContainsFunc(res.Warnings, func(w engine.Warning) bool { return w.Code == code })
}

func edit(t *testing.T, r recorded, file, from, to string) {
	t.Helper()
	text := string(r.files[file].Data)
	if !strings.Contains(text, from) {
		t.Fatalf("%s has no %q", file, from)
	}
	r.files[file] = &fstest.MapFile{Data: []byte(strings.ReplaceAll(text, from, to))}
}

// A run that was cut anywhere is never a success, and never breaks the parser.
func TestTruncatedOutputIsNeverASuccess(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"si_scf/scf", "si_vcrelax/vcrelax", "fe_spin_scf/scf", "si_md/md", "si_bands_dos/bands"} {
		r := recordedStep(t, name)
		text := r.files[r.step.StdoutFile].Data
		end := bytes.Index(text, []byte("JOB DONE."))
		for i := range 40 {
			r.files[r.step.StdoutFile] = &fstest.MapFile{Data: text[:end*i/40]}
			for _, exit := range []*job.Exit{nil, {Observed: true}, {Observed: true, Signal: "SIGKILL"}} {
				if res := parseFiles(t, r.files, exit); res.Outcome.Succeeded() && i > 1 {
					t.Fatalf("%s cut at %d of %d: %s", name, end*i/40, end, res.Outcome)
				}
			}
		}
	}
}

func TestTruncatedXMLKeepsWhatIsComplete(t *testing.T) {
	t.Parallel()
	r := recordedStep(t, "si_relax/relax")
	text := r.files[r.step.XMLFile].Data
	for i := range 150 {
		x, err := readXML("cut.xml", bytes.NewReader(text[:len(text)*i/150]))
		if err != nil || x.closed {
			t.Fatalf("cut at %d: closed %v, %v", len(text)*i/150, x.closed, err)
		}
	}
	cut := bytes.Index(text, []byte("<step n_step=\"3\">"))
	x, err := readXML("cut.xml", bytes.NewReader(text[:cut+40]))
	if err != nil || x.steps != 2 || x.atoms == nil {
		t.Errorf("steps %d, %v", x.steps, err)
	}
	// XML that was cut, alone, is a run that was killed.
	delete(r.files, r.step.StdoutFile)
	r.files[r.step.XMLFile] = &fstest.MapFile{Data: text[:len(text)/2]}
	wantOutcome(t, parseFiles(t, r.files, nil), engine.Killed)
}

func TestTextFormsThatPeopleHave(t *testing.T) {
	t.Parallel()
	want := parseFiles(t, recordedStep(t, "si_scf/scf").files, nil)
	for name, change := range map[string]func(string) string{
		"CRLF":      func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
		"BOM":       func(s string) string { return "\xef\xbb\xbf" + s },
		"Latin-1":   func(s string) string { return "\xfc\xe9\n" + s },
		"zero hole": func(s string) string { return strings.Repeat("\x00", 200_000) + s },
		"long line": func(s string) string { return strings.Repeat("x", 300_000) + "\n" + s },
	} {
		r := recordedStep(t, "si_scf/scf")
		r.files[r.step.StdoutFile] = &fstest.MapFile{Data: []byte(change(string(r.files[r.step.StdoutFile].Data)))}
		r.files[r.step.XMLFile] = &fstest.MapFile{Data: []byte(strings.ReplaceAll(string(r.files[r.step.XMLFile].Data), "<title></title>", "<title>\xff&#195;<!-- > --></title>"))}
		r.files["stdout"] = r.files[r.step.StdoutFile]
		delete(r.files, r.step.StdoutFile)
		res := parseFiles(t, r.files, r.exit)
		wantOutcome(t, res, want.Outcome)
		near(t, name+" energy", res.Summary.EnergyEV, want.Summary.EnergyEV, 1e-9)
		near(t, name+" gap", res.Summary.BandGapEV, want.Summary.BandGapEV, 1e-9)
	}
}

func TestNumbersThatAreNotFiniteAreUnstable(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"NaN", "Infinity", "**************"} {
		r := recordedStep(t, "si_scf/scf")
		delete(r.files, r.step.XMLFile)
		edit(t, r, r.step.StdoutFile, "!    total energy              =     -15.83", "!    total energy              =     "+bad+" ")
		res := parseFiles(t, r.files, r.exit)
		wantOutcome(t, res, engine.Unstable)
		if res.Verdict != job.Unstable {
			t.Errorf("%s: verdict %s", bad, res.Verdict)
		}
	}
}

// A chain of one job: one standard output, the XML of the scf kept apart.
func TestChainTakesEnergyFromScfAndGapFromBands(t *testing.T) {
	t.Parallel()
	scf, bands := recordedStep(t, "si_bands_dos/scf"), recordedStep(t, "si_bands_dos/bands")
	files := fstest.MapFS{
		"stdout":                               {Data: slices.Concat(scf.files["scf.out"].Data, bands.files["bands.out"].Data)},
		"scf.xml":                              scf.files["scf.xml"],
		"out/nanoos.xml":                       bands.files["bands.xml"],
		"out/nanoos.save/data-file-schema.xml": bands.files["bands.xml"],
	}
	res := parseFiles(t, files, &job.Exit{Observed: true})
	wantOutcome(t, res, engine.Success)
	near(t, "energy", res.Summary.EnergyEV, scf.step.XML.Energy, 1e-4)
	near(t, "gap", res.Summary.BandGapEV, bands.step.XML.Gap, 2e-4)
	if seriesNamed(res, "bands") == nil || seriesNamed(res, "scf") == nil {
		t.Errorf("series %+v", res.Series)
	}
	// When the scf did not converge, good bands are worth nothing.
	noconv := recordedStep(t, "si_scf_noconv/scf")
	files["stdout"] = &fstest.MapFile{Data: slices.Concat(noconv.files["scf.out"].Data, bands.files["bands.out"].Data)}
	files["scf.xml"] = noconv.files["data-file-schema.xml"]
	wantOutcome(t, parseFiles(t, files, &job.Exit{Observed: true}), engine.SCFNotConverged)
}

func TestAppendedRunsAreJudgedByTheLast(t *testing.T) {
	t.Parallel()
	first, second := recordedStep(t, "max_seconds_restart/first"), recordedStep(t, "max_seconds_restart/second")
	both := slices.Concat(first.files["first.out"].Data, second.files["second.out"].Data)
	wantOutcome(t, parseFiles(t, fstest.MapFS{"stdout": {Data: both}, "second.xml": second.files["second.xml"]}, nil), engine.Success)
	both = slices.Concat(second.files["second.out"].Data, first.files["first.out"].Data)
	wantOutcome(t, parseFiles(t, fstest.MapFS{"stdout": {Data: both}, "first.xml": first.files["first.xml"]}, nil), engine.TimeLimitGraceful)
}

// A directory in which somebody ran a chain by hand, each step to its own file.
func TestDirectoryOfAChainMadeByHand(t *testing.T) {
	t.Parallel()
	scf, bands := recordedStep(t, "si_bands_dos/scf"), recordedStep(t, "si_bands_dos/bands")
	files := fstest.MapFS{}
	maps.Copy(files, scf.files)
	maps.Copy(files, bands.files)
	res := parseFiles(t, files, nil)
	wantOutcome(t, res, engine.Success)
	near(t, "energy", res.Summary.EnergyEV, scf.step.XML.Energy, 1e-4)
	near(t, "gap", res.Summary.BandGapEV, bands.step.XML.Gap, 2e-4)
	if New().Recognise(files) != 1 {
		t.Error("not recognised")
	}
}

func TestXMLOfAnEarlierRunIsNotBelieved(t *testing.T) {
	t.Parallel()
	killed, earlier := recordedStep(t, "sigkill_then_rerun/first"), recordedStep(t, "sigkill_then_rerun/scratch")
	killed.files["out/si.save/data-file-schema.xml"] = earlier.files["scratch.xml"]
	res := parseFiles(t, killed.files, nil)
	wantOutcome(t, res, engine.Killed)
	if res.Summary.EnergyEV != nil {
		t.Errorf("the energy of another run: %v", *res.Summary.EnergyEV)
	}
}

func TestSoftLimitIsATimeLimit(t *testing.T) {
	t.Parallel()
	r := recordedStep(t, "exit_file_restart/first")
	r.exit.Cause = job.CauseSoftLimit
	res := parseFiles(t, r.files, r.exit)
	wantOutcome(t, res, engine.TimeLimitGraceful)
	if res.Failure.Class != job.ClassResources {
		t.Errorf("failure %+v", res.Failure)
	}
	r.exit.Cause = job.CauseOOM
	wantOutcome(t, parseFiles(t, r.files, r.exit), engine.OutOfMemory)
}

func TestFailuresHaveEvidenceAndTheSameDigest(t *testing.T) {
	t.Parallel()
	r := recordedStep(t, "missing_pseudo/scf")
	res := parseFiles(t, r.files, r.exit)
	f := res.Failure
	if f.Class != job.ClassInput || f.Code != "pseudopotential_missing" || f.Fix == "" || f.Exit != 1 || f.Evidence[0].File != "scf.out" || f.Evidence[0].Line != 24 {
		t.Errorf("failure %+v", f)
	}
	again := parseFiles(t, r.files, nil).Failure
	if again.Digest != f.Digest {
		t.Errorf("digests %q and %q", f.Digest, again.Digest)
	}
	// Without standard output the CRASH file tells.
	delete(r.files, "scf.out")
	if res := parseFiles(t, r.files, r.exit); res.Outcome != engine.MissingFile || res.Failure.Evidence[0].File != crashFile {
		t.Errorf("%s %+v", res.Outcome, res.Failure)
	}
}

func TestNothingToReadIsAnError(t *testing.T) {
	t.Parallel()
	_, err := New().Parse(engine.Run{Files: fstest.MapFS{"readme.txt": {Data: []byte("hello")}}})
	if job.CodeOf(err) != job.Invalid {
		t.Errorf("error %v", err)
	}
	res, err := New().Parse(engine.Run{Files: fstest.MapFS{"stdout": {}}, Spec: &job.Spec{}, Exit: &job.Exit{Observed: true, Code: 127}})
	if err != nil || res.Outcome.Succeeded() {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestNamedFilesAndDirectoriesAreRead(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(fixtureDir(t), "si_scf")
	for _, paths := range [][]string{{dir}, {filepath.Join(dir, "scf.out")}, {filepath.Join(dir, "data-file-schema.xml")}, {filepath.Join(dir, "scf.out"), filepath.Join(dir, "data-file-schema.xml")}} {
		files, err := engine.OpenRun(paths...)
		if err != nil {
			t.Fatal(err)
		}
		if New().Recognise(files) < 0.9 {
			t.Errorf("%v is not recognised", paths)
		}
		res := parseFiles(t, files, nil)
		wantOutcome(t, res, engine.Success)
		near(t, "energy", res.Summary.EnergyEV, new(-215.386926), 1e-4)
	}
}

func TestLongRunsKeepSmallTables(t *testing.T) {
	t.Parallel()
	table := printed.NewTable(engine.Column{Name: "x"})
	for i := range 100_000 {
		table.Add(float64(i))
	}
	v := table.Column(0)
	if len(v) > printed.MaxRows || len(v) < printed.MaxRows/3 || v[len(v)-1] != 99_999 || !slices.IsSorted(v) {
		t.Errorf("%d rows up to %v", len(v), v[len(v)-1])
	}
}

func TestTheWorseOfTextAndXMLIsBelieved(t *testing.T) {
	t.Parallel()
	r := recordedStep(t, "si_relax/relax")
	edit(t, r, r.step.XMLFile, "<opt_conv>\n        <convergence_achieved>true", "<opt_conv>\n        <convergence_achieved>false")
	res := parseFiles(t, r.files, nil)
	wantOutcome(t, res, engine.IonicNotConverged)
	if !hasWarning(res, "text_xml_disagree") {
		t.Errorf("warnings %+v", res.Warnings)
	}
	r = recordedStep(t, "si_scf/scf")
	edit(t, r, r.step.StdoutFile, "convergence has been achieved in", "convergence NOT achieved after")
	res = parseFiles(t, r.files, nil)
	wantOutcome(t, res, engine.SCFNotConverged)
	if !hasWarning(res, "text_xml_disagree") || res.Verdict != job.NotConverged {
		t.Errorf("verdict %s, warnings %+v", res.Verdict, res.Warnings)
	}
}
