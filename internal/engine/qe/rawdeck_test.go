package qe

import (
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

const goodDeck = `&CONTROL
  calculation = 'scf'
  prefix = 'si', outdir = '/tmp/elsewhere' ! a comment
  pseudo_dir = '/usr/share/espresso/pseudo', wfcdir='/scratch'
  max_seconds = 1d7
/
&SYSTEM
  ibrav = 2
  celldm(1) = 10.2
  nat = 2
  ntyp = 1
  ecutwfc = 18
/
&ELECTRONS
  conv_thr = 1.0d-8
/
ATOMIC_SPECIES
Si 28.0855 Si.pz.UPF
ATOMIC_POSITIONS crystal
Si 0.00 0.00 0.00
Si 1/4 0.25 0.25
K_POINTS automatic
4 4 4 0 0 0
`

// deckJob is a job with files of its own.
func deckJob(files map[string]string) (job.Spec, engine.Inputs) {
	in := smallLibrary()
	own := fstest.MapFS{}
	spec := job.Spec{Engine: "qe", Demand: job.Demand{CPUs: 1}, Walltime: job.DefaultWalltime}
	for name, text := range files {
		own[name] = &fstest.MapFile{Data: []byte(text)}
		spec.Files = append(spec.Files, job.File{Name: name, Size: int64(len(text))})
	}
	in.Files = own
	return spec, in
}

func TestDeckRunsAsItIsInsideItsDirectory(t *testing.T) {
	t.Parallel()
	spec, in := deckJob(map[string]string{"my.in": goodDeck})
	plan := mustPlan(t, spec, in)
	golden(t, "rawdeck.golden", string(plan.Files["my.in"]))
	if !slices.Equal(plan.Steps[0].Args, []string{"-in", "my.in"}) || plan.Stop.Create[0] != "si.EXIT" || plan.Library["Si.pz.UPF"] != "pseudo/Si.pz.UPF" || len(plan.Warnings) > 0 {
		t.Errorf("plan %+v", plan)
	}
	if !slices.Contains(plan.Keep, "out/si.save/data-file-schema.xml") {
		t.Errorf("keep %v", plan.Keep)
	}
}

func TestDeckKeepsItsOwnTimeWhenThatIsShorter(t *testing.T) {
	t.Parallel()
	spec, in := deckJob(map[string]string{"pw.in": strings.Replace(goodDeck, "1d7", "60", 1), "other.in": goodDeck})
	if deck := string(mustPlan(t, spec, in).Files["pw.in"]); !strings.Contains(deck, "max_seconds = 60\n") || strings.Count(deck, "max_seconds") != 1 {
		t.Error(deck)
	}
}

func TestDeckFaultsAreToldAllAtOnceWithTheirLines(t *testing.T) {
	t.Parallel()
	spec, in := deckJob(map[string]string{"pw.in": `&CONTROL
  calculatoin = 'scf'
  what is this
/
&SYSTEM
  ibrav = 2
  nat = 3
  ntyp = 2
  occupations = 'fixed'
/
&ELECTRONS
/
ATOMIC_SPECIES
Si 28.0855 Si.nope.UPF
ATOMIC_POSITIONS crystal
Si 0.00 0.00 0.00
Ge 0.25 0.25 0.25
`})
	got := problemsOf(t, spec, in)
	for _, want := range []string{
		`pw.in, line 2: unknown variable "calculatoin" in &CONTROL [did you mean "calculation"?]`,
		"pw.in, line 3: this line cannot be read (what is this)",
		"pw.in, line 5: ecutwfc is missing",
		"pw.in, line 6: celldm(1), or A, is missing, not positive, or too large",
		"pw.in, line 7: nat is 3, but ATOMIC_POSITIONS has 2 lines",
		"pw.in, line 8: ntyp is 2, but ATOMIC_SPECIES has 1 line",
		"pw.in, line 14: pseudopotential file not found (Si.nope.UPF: looked among the job's files and in /lib/a, /lib/b) [the library has for Si: Si.pz.UPF]",
		"pw.in, line 17: species Ge is not in ATOMIC_SPECIES",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestBadDecksAreRefused(t *testing.T) {
	t.Parallel()
	cases := []struct{ name, from, to, want string }{
		{"nscf", "'scf'", "'nscf'", "line 2: calculation nscf needs the density of an scf run"},
		{"calculation", "'scf'", "'vcrelax'", `did you mean "vc-relax"?`},
		{"ions", "'scf'", "'relax'", "namelist &IONS is missing"},
		{"prefix", "'si'", "'../si'", "prefix must be a plain name"},
		{"overlap", "Si 1/4 0.25 0.25", "Si 0 0 0.001", "line 21: sites 1 (Si) and 2 (Si) are"},
		{"odd", "ntyp = 1", "ntyp = 1, tot_charge = 1", "7 electrons do not fill whole bands"},
		{"spin", "ntyp = 1", "ntyp = 1, nspin = 2", "need tot_magnetization"},
		{"cell", "ibrav = 2", "ibrav = 0", "card CELL_PARAMETERS is missing"},
		{"ibrav", "ibrav = 2", "ibrav = 99", "this ibrav is not known (ibrav is 99)"},
		{"mesh", "4 4 4 0 0 0", "4 4 4", "K_POINTS automatic needs three numbers"},
		{"no slash", "/\n&SYSTEM", "\n&SYSTEM", "namelist &CONTROL is not closed"},
		{"quote", "'scf'", "'scf", "a quote is not closed"},
		{"unit", "ATOMIC_POSITIONS crystal", "ATOMIC_POSITIONS cristal", `unknown unit "cristal"`},
		{"huge nat", "nat = 2", "nat = 1000000000000", "is not a number of atoms"},
		{"few bands", "ntyp = 1", "ntyp = 1, nbnd = 3", "line 11: 3 bands cannot hold 8 electrons"},
		{"huge nbnd", "ntyp = 1", "ntyp = 1, nbnd = 1000000000", "nbnd is not a number of bands (got 1e+09)"},
		{"ecutrho", "ntyp = 1", "ntyp = 1, ecutrho = 10", "ecutrho is not above ecutwfc"},
		{"too many k-points", "4 4 4 0 0 0", "100000 100000 100000 0 0 0", "too many k-points"},
		{"huge ibrav", "ibrav = 2", "ibrav = 1e30", "this ibrav is not known (ibrav is 1e+30)"},
		{"label", "Si 28.0855", "Qq 28.0855", "does not begin with an element"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			spec, in := deckJob(map[string]string{"pw.in": strings.Replace(goodDeck, c.from, c.to, 1)})
			if got := problemsOf(t, spec, in); !strings.Contains(got, c.want) {
				t.Errorf("no %q in\n%s", c.want, got)
			}
		})
	}
}

func TestDeckJobsThatCannotBeUnderstoodAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		files      map[string]string
		parameters string
		want       string
	}{
		{map[string]string{"readme": "hello"}, ``, "none of the files is an input of pw.x"},
		{map[string]string{"a.in": goodDeck, "b.in": goodDeck}, ``, "several files are inputs of pw.x (a.in, b.in)"},
		{map[string]string{"a.in": goodDeck}, `{"input":"b.in"}`, `there is no file "b.in"`},
		{map[string]string{"a.in": goodDeck}, `{"input":"../a.in"}`, `there is no file`},
		{map[string]string{"a.in": goodDeck}, `{"input":"a.in","ecutwfc":30}`, "parameters.ecutwfc: a deck runs as it is"},
		{map[string]string{"a.in": goodDeck, "si.EXIT": ""}, ``, "si.EXIT would stop the run at once"},
	} {
		spec, in := deckJob(c.files)
		slices.SortFunc(spec.Files, func(a, b job.File) int { return strings.Compare(a.Name, b.Name) })
		spec.Params = []byte(c.parameters)
		if got := problemsOf(t, spec, in); !strings.Contains(got, c.want) {
			t.Errorf("no %q in\n%s", c.want, got)
		}
	}
}

func TestDeckWarningsDoNotStopIt(t *testing.T) {
	t.Parallel()
	text := strings.Replace(goodDeck, "K_POINTS automatic\n4 4 4 0 0 0\n", "", 1)
	text = strings.Replace(text, "prefix = 'si'", "restart_mode = 'restart', some_new_thing = 1, prefix = 'si'", 1)
	spec, in := deckJob(map[string]string{"pw.in": text})
	plan := mustPlan(t, spec, in)
	var codes []string
	for _, w := range plan.Warnings {
		codes = append(codes, w.Code)
	}
	if !slices.Equal(codes, []string{"unknown_variable", warnRestart, warnGamma}) {
		t.Errorf("warnings %+v", plan.Warnings)
	}
}

func TestDeckMayBringTheFilesOfAnEarlierRun(t *testing.T) {
	t.Parallel()
	text := strings.Replace(strings.Replace(goodDeck, "'scf'", "'nscf'", 1), "'/tmp/elsewhere'", "'./work'", 1)
	spec, in := deckJob(map[string]string{"pw.in": text, "work/si.save/charge-density.dat": "x", "work/si.save/data-file-schema.xml": "x"})
	plan := mustPlan(t, spec, in)
	if deck := string(plan.Files["pw.in"]); !strings.Contains(deck, "outdir = './work'") {
		t.Error(deck)
	}
}

func TestDecksInEveryEncodingAreRead(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(string) string{
		"CRLF":       func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
		"BOM":        func(s string) string { return "\xef\xbb\xbf" + s },
		"Latin-1":    func(s string) string { return strings.Replace(s, "a comment", "\xe9t\xe9", 1) },
		"upper case": func(s string) string { return strings.Replace(s, "ibrav", "IBRAV", 1) },
		"brackets": func(s string) string {
			return strings.Replace(s, "ATOMIC_POSITIONS crystal", "ATOMIC_POSITIONS {crystal}", 1)
		},
		"A":          func(s string) string { return strings.Replace(s, "celldm(1) = 10.2", "A = 5.4", 1) },
		"text first": func(s string) string { return "a title\n" + s },
		"one line": func(s string) string {
			return strings.Replace(s, "&ELECTRONS\n  conv_thr = 1.0d-8\n/", "&ELECTRONS conv_thr = 1.0d-8 /", 1)
		},
	} {
		spec, in := deckJob(map[string]string{"pw.in": change(goodDeck)})
		if _, err := New().Plan(spec, in); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The inputs of recorded runs that pw.x accepted are accepted, and those that
// it refused are refused.
func TestRecordedDecksAreJudgedAsPwxDid(t *testing.T) {
	t.Parallel()
	for _, r := range recordedSteps(t) {
		input := strings.TrimSuffix(r.step.StdoutFile, ".out") + ".in"
		f, ok := r.files[input]
		if !ok || !strings.Contains(r.step.Command, "pw.x") {
			continue
		}
		spec, in := deckJob(map[string]string{input: string(f.Data)})
		in.Library, in.LibraryDirs = nil, nil
		_, err := New().Plan(spec, in)
		text := string(f.Data)
		refused := slices.Contains([]string{"input_error"}, r.step.Outcome) && !strings.Contains(text, "tot_charge") ||
			strings.Contains(text, "'nscf'") || strings.Contains(text, "'bands'")
		if (err != nil) != refused {
			t.Errorf("%s: %v", r.name, err)
		}
	}
}

func TestRealDeckRunsAndIsParsed(t *testing.T) {
	t.Parallel()
	needProgram(t, "pw.x")
	text := strings.Replace(strings.Replace(goodDeck, "Si.pz.UPF", "Si.pz-vbc.UPF", 1), "4 4 4 0 0 0", "2 2 2 0 0 0", 1)
	in := library()
	in.Files = fstest.MapFS{"in/si.in": {Data: []byte(text)}, "si.in": {Data: []byte(text)}}
	spec := job.Spec{Params: []byte(`{"input":"si.in"}`), Walltime: job.DefaultWalltime}
	_, res, files := runReal(t, spec, in)
	wantSuccess(t, res)
	if !exists(files, "out/si.save/charge-density.dat") {
		t.Error("the state is not in the work directory")
	}
}

// Dynamics exist as decks alone. Damped dynamics is a relaxation, whose XML file
// mixes its last forces; that of vc-md has a stress times the volume.
func TestRealDynamicsDecksAreJudged(t *testing.T) {
	t.Parallel()
	text := strings.NewReplacer("Si.pz.UPF", "Si.pz-vbc.UPF", "4 4 4 0 0 0", "2 2 2 0 0 0", "Si 1/4", "Si 0.27", "ecutwfc = 18", "ecutwfc = 12").Replace(goodDeck)
	for _, c := range []struct {
		name, calculation, ions string
		want                    engine.Outcome
	}{
		{"md", "'md', nstep = 3, tprnfor = .true., tstress = .true.", "&IONS\n/\n", engine.Success},
		{"damp", "'relax', nstep = 3, tstress = .true.", "&IONS\n  ion_dynamics = 'damp'\n/\n", engine.IonicNotConverged},
		{"vc-md", "'vc-md', nstep = 3, dt = 30", "&IONS\n/\n&CELL\n/\n", engine.Success},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			needProgram(t, "pw.x")
			deck := strings.Replace(text, "'scf'", c.calculation, 1)
			deck = strings.Replace(deck, "ATOMIC_SPECIES", c.ions+"ATOMIC_SPECIES", 1)
			in := library()
			in.Files = fstest.MapFS{"pw.in": {Data: []byte(deck)}}
			_, res, _ := runReal(t, job.Spec{Params: []byte(`{"input":"pw.in"}`), Walltime: job.DefaultWalltime}, in)
			wantOutcome(t, res, c.want)
			if p, f := res.Summary.PressureGPa, res.Summary.MaxForceEVPerA; p == nil || *p > 20 || f == nil || *f > 1.5 {
				t.Errorf("summary %+v", res.Summary)
			}
			if md := seriesNamed(res, "md"); c.want == engine.Success && (md == nil || len(md.Columns[0].Values) != 3 || *res.Summary.NSteps != 3) {
				t.Errorf("series %+v", res.Series)
			}
		})
	}
}

func TestDeckIsRecognised(t *testing.T) {
	t.Parallel()
	q := New()
	for text, want := range map[string]bool{goodDeck: true, "&inputph\n/\n": false, "units metal\n": false, "": false, "\xef\xbb\xbf&control\n&system\n": true} {
		if got := q.Deck("x", []byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	if s := q.Recognise(fstest.MapFS{"a.in": {Data: []byte(goodDeck)}}); s <= 0 || s >= 0.9 {
		t.Errorf("a deck alone: %v", s)
	}
	if s := q.Recognise(fstest.MapFS{"log.lammps": {Data: []byte("LAMMPS (29 Sep 2021)")}}); s != 0 {
		t.Errorf("another code: %v", s)
	}
	dirs, err := filepath.Glob(filepath.Join(fixtureDir(t), "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		if s := q.Recognise(os.DirFS(dir)); s < 0.9 {
			t.Errorf("%s: %v", dir, s)
		}
	}
}

func TestLabelsNameTheirElements(t *testing.T) {
	t.Parallel()
	for label, want := range map[string]string{"Si": "Si", "Fe1": "Fe", "fe-up": "Fe", "O_b": "O", "C2": "C", "Cx": "C", "": "", "1H": "", "Qq": ""} {
		if got := elementOf(label); got != want {
			t.Errorf("%q is %q, want %q", label, got, want)
		}
	}
	s := &crystal.Structure{Species: []string{"Fe", "Fe", "O", "O"}, Labels: []string{"Fe1", "a very long label", "O", "O"}, Magmoms: []float64{1, 1, 0, 0}}
	kinds, of := kindsOf(s)
	if len(kinds) != 3 || kinds[0].label != "Fe1" || kinds[1].label != "Fe2" || kinds[2].label != "O" || !slices.Equal(of, []int{0, 1, 2, 2}) {
		t.Errorf("kinds %+v of %v", kinds, of)
	}
}
