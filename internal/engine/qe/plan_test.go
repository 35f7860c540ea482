package qe

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// header is a pseudopotential file with nothing but its header.
func header(element, kind, functional string, valence, cutoff string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(`<UPF version="2.0.1"><PP_INFO>a > b</PP_INFO><PP_HEADER generated="x &gt; y" element="` + element +
		` " pseudo_type="` + kind + `" functional="` + functional + `" z_valence="` + valence + `" wfc_cutoff="` + cutoff + `" rho_cutoff="0" has_so="F"/></UPF>`)}
}

// smallLibrary has one Si, two Fe, and what is no UPF file.
func smallLibrary() engine.Inputs {
	return engine.Inputs{LibraryDirs: []string{"/lib/a", "/lib/b"}, Library: fstest.MapFS{
		"Si.pz.UPF":     header("Si", "NC", " SLA  PZ   NOGX NOGC", "4.000E+000", "0.0"),
		"Fe.pbe-us.UPF": header("Fe", "USPP", "SLA PW PBX PBC", "8.0", "40.0"),
		"Fe.pbe-pw.UPF": header("Fe", "PAW", "PBE", "16.0", "60.0"),
		"O.pbe.upf":     header("O", "PAW", "SLA-PW-PBE-PBE", "6.0", "50"),
		"H.pz.UPF":      header("H", "NC", "PZ", "1.0", "0"),
		"Si.bhs":        {Data: []byte("not a UPF file")},
		"Sn.cut.UPF":    {Data: []byte("<UPF version=\"2.0.1\">")},
	}}
}

func TestDecksMatchTheirGoldenFiles(t *testing.T) {
	t.Parallel()
	cases := []struct{ name, structure, parameters string }{
		{"scf", silicon, `{"ecutwfc":18,"nbnd":8,"conv_thr":1e-8,"kpoints":[4,4,4]}`},
		{"bands", silicon, `{"calculation":"bands","ecutwfc":18,"kpoints":{"path":[[0.5,0.5,0.5,"L"],[0,0,0]],"points":10}}`},
		{"vcrelax", `{"lattice":[[4,0,0],[0,4,0],[0,0,4]],"species":["Fe","Fe","O"],"positions":[[0,0,0],[0.5,0.5,0],[0.25,0.25,0.5]],"magmoms":[4,-4,0],"fixed":[[true,true,true],[false,false,false],[false,false,false]]}`,
			`{"calculation":"vc-relax","ecutwfc":50,"kpoints":{"spacing":0.4},"smearing":"mv","degauss":0.02,"press":5,"nstep":20,"cell_dofree":"xyz","pseudopotentials":{"Fe":"Fe.pbe-us.UPF"},
			"namelists":{"system":{"nosym":true,"Hubbard_U(1)":4.5},"electrons":{"mixing_ndim":12,"startingwfc":"atomic+random"}}}`},
		{"gamma", `{"lattice":[[12,0,0],[0,12,0],[0,0,12]],"species":["H","H"],"positions":[[0,0,0],[0,0,0.74]],"cartesian":true}`,
			`{"ecutwfc":40,"kpoints":"gamma","assume_isolated":"martyna-tuckerman","disk_io":"nowf"}`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			plan := mustPlan(t, specOf(c.structure, c.parameters), smallLibrary())
			var b strings.Builder
			for _, s := range plan.Steps {
				input := s.Args[len(s.Args)-1]
				b.WriteString("== " + s.Program + " " + strings.Join(s.Args, " ") + "\n")
				b.Write(plan.Files[input])
			}
			golden(t, c.name+".golden", b.String())
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(readTestFile(t, path)), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func mustPlan(t *testing.T, spec job.Spec, in engine.Inputs) *engine.Plan {
	t.Helper()
	plan, err := New().Plan(spec, in)
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func TestPlanStagesStopsAndKeeps(t *testing.T) {
	t.Parallel()
	plan := mustPlan(t, specOf(silicon, `{"calculation":"bands","ecutwfc":18,"kpoints":{"path":[[0,0,0],[0.5,0,0]]}}`), smallLibrary())
	want := &engine.Plan{
		Library: map[string]string{"Si.pz.UPF": "pseudo/Si.pz.UPF"},
		Steps: []engine.Step{
			{Program: "pw.x", Args: []string{"-in", "scf.in"}, Copy: map[string]string{"out/nanoos.save/data-file-schema.xml": "scf.xml"}},
			{Program: "pw.x", Args: []string{"-in", "bands.in"}},
		},
		Stop: engine.SoftStop{Create: []string{"nanoos.EXIT"}, Wait: 2 * time.Minute},
		Keep: []string{"*.in", "CRASH", "scf.xml", "out/nanoos.xml", "out/nanoos.save/data-file-schema.xml"},
	}
	plan.Files = nil
	if diff := cmp.Diff(want, plan); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
}

func TestPlanIsDeterministic(t *testing.T) {
	t.Parallel()
	spec := specOf(silicon, `{"ecutwfc":18,"namelists":{"system":{"nosym":true,"noinv":true,"nr1":20,"nr2":20}}}`)
	first := mustPlan(t, spec, smallLibrary())
	for range 20 {
		if diff := cmp.Diff(first, mustPlan(t, spec, smallLibrary())); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestPoolsDivideRanksAndKPoints(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cpus       int
		parameters string
		want       []string
	}{
		{1, `"kpoints":[8,8,8]`, nil},
		{6, `"kpoints":[8,8,8]`, []string{"-nk", "6"}},
		{8, `"kpoints":[6,6,6]`, []string{"-nk", "4"}},
		{4, `"kpoints":"gamma"`, []string{"-nk", "1"}},
		{4, `"kpoints":"gamma","pools":2`, []string{"-nk", "2"}},
	} {
		spec := specOf(silicon, `{"ecutwfc":18,`+c.parameters+`}`)
		spec.Demand.CPUs = c.cpus
		s := mustPlan(t, spec, smallLibrary()).Steps[0]
		if c.want == nil && s.Ranks == 0 && len(s.Args) == 2 {
			continue
		}
		if s.Ranks != c.cpus || !slices.Equal(s.Args[:2], c.want) {
			t.Errorf("%d cpus, %s: %d ranks, %v", c.cpus, c.parameters, s.Ranks, s.Args)
		}
	}
}

// problemsOf returns the refusal of a job, one problem a line.
func problemsOf(t *testing.T, spec job.Spec, in engine.Inputs) string {
	t.Helper()
	_, err := New().Plan(spec, in)
	e, ok := errors.AsType[*job.Error](err)
	if !ok || e.Code != job.Invalid {
		t.Fatalf("error %v", err)
	}
	var b strings.Builder
	for _, p := range e.Problems {
		b.WriteString(p.String() + " [" + p.Fix + "]\n")
	}
	return b.String()
}

func TestBadJobsAreRefusedWithAReason(t *testing.T) {
	t.Parallel()
	feo := `{"lattice":[[4,0,0],[0,4,0],[0,0,4]],"species":["Fe","Si"],"positions":[[0,0,0],[0.5,0.5,0]]}`
	cases := []struct {
		name, structure, parameters string
		want                        []string
	}{
		{"unknown key", silicon, `{"ecutwf":18}`, []string{`parameters.ecutwf: unknown key "ecutwf" [did you mean "ecutwfc"?]`}},
		{"no cut-off", silicon, `{}`, []string{"parameters.ecutwfc: is missing"}},
		{"no structure", ``, `{"ecutwfc":18}`, []string{"structure: is missing"}},
		{"no lattice", `{"species":["Si"],"positions":[[0,0,0]]}`, `{"ecutwfc":18}`, []string{"structure.lattice: pw.x needs a cell"}},
		{"same place", fcc(5.4, "Si", "0,0,0", "0,0,0.001"), `{"ecutwfc":18}`, []string{"structure.positions[1]"}},
		{"ambiguous", feo, `{"ecutwfc":18}`, []string{"parameters.pseudopotentials.Fe: several pseudopotentials for Fe (the library has Fe.pbe-pw.UPF, Fe.pbe-us.UPF)"}},
		{"missing file", silicon, `{"ecutwfc":18,"pseudopotentials":{"Si":"Si.nope.UPF"}}`, []string{"pseudopotential file not found (Si.nope.UPF: looked among the job's files and in /lib/a, /lib/b) [the library has for Si: Si.pz.UPF]"}},
		{"outside", silicon, `{"ecutwfc":18,"pseudopotentials":{"Si":"../Si.UPF"}}`, []string{"must be a plain file name"}},
		{"other element", silicon, `{"ecutwfc":18,"pseudopotentials":{"Si":"H.pz.UPF"}}`, []string{"H.pz.UPF is a pseudopotential of H, not of Si"}},
		{"not there", silicon, `{"ecutwfc":18,"pseudopotentials":{"Ge":"Si.pz.UPF"}}`, []string{"Ge is not in the structure"}},
		{"functionals", feo, `{"ecutwfc":18,"smearing":"mv","pseudopotentials":{"Fe":"Fe.pbe-us.UPF","Si":"Si.pz.UPF"}}`, []string{"different functionals (Fe.pbe-us.UPF is PBE, Si.pz.UPF is PZ)"}},
		{"odd", fcc(3, "H", "0,0,0"), `{"ecutwfc":18}`, []string{"1 electrons do not fill whole bands", "occupations to smearing"}},
		{"charge", silicon, `{"ecutwfc":18,"tot_charge":1}`, []string{"7 electrons do not fill whole bands"}},
		{"spin", silicon, `{"ecutwfc":18,"nspin":2}`, []string{"need tot_magnetization"}},
		{"few bands", silicon, `{"ecutwfc":18,"nbnd":3}`, []string{"3 bands cannot hold 8 electrons"}},
		{"bands", silicon, `{"calculation":"bands","ecutwfc":18}`, []string{"bands need a path"}},
		{"mesh", silicon, `{"ecutwfc":18,"kpoints":[0,4,4]}`, []string{"parameters.kpoints"}},
		{"path", silicon, `{"ecutwfc":18,"kpoints":{"path":[[0,0,0],[1,0,0]]}}`, []string{"for bands only"}},
		{"all at once", silicon, `{"ecutwfc":18,"pools":2,"namelists":{"control":{"outdir":"/tmp"},"system":{"nosim":true,"ecutwfc":20},"electrons":{"mixing_ndim":"a\nb"}}}`,
			[]string{"outdir may not be set", `did you mean "nosym"?`, "ecutwfc has a parameter of its own", "control characters"}},
		{"form and meaning", silicon, `{"ecutwfc":-1,"kpoints":[0,4,4],"foo":1,"pseudopotentials":{"Si":"../x"}}`,
			[]string{"ecutwfc: must be above 0 (got -1)", "three numbers from 1", `unknown key "foo"`, "plain file name"}},
		{"too many k-points", silicon, `{"ecutwfc":18,"kpoints":[1000,1000,1000]}`, []string{"too many k-points (at least 20833334; pw.x takes 40000)"}},
		{"half a shift", silicon, `{"ecutwfc":18,"kpoints":[4,4,4,1]}`, []string{"with or without three shifts"}},
		{"quote", silicon, `{"ecutwfc":18,"pseudopotentials":{"Si":"a'b.UPF"}}`, []string{"plain file name"}},
		{"newline", silicon, `{"ecutwfc":18,"pseudopotentials":{"Si":"a\nb.UPF"}}`, []string{"plain file name"}},
		{"comment", silicon, `{"ecutwfc":18,"pseudopotentials":{"Si":"#a.UPF"}}`, []string{"plain file name"}},
		{"ranks", silicon, `{"ecutwfc":18,"ranks":100000}`, []string{"100000 ranks do not fit on 1 core"}},
		{"twice", silicon, `{"ecutwfc":18,"namelists":{"system":{"NoSym":true,"nosym":false}}}`, []string{"nosym is given twice"}},
		{"pools", silicon, `{"ecutwfc":18,"pools":3}`, []string{"3 pools do not divide 1 rank"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := problemsOf(t, specOf(c.structure, c.parameters), smallLibrary())
			for _, w := range c.want {
				if !strings.Contains(got, w) {
					t.Errorf("no %q in\n%s", w, got)
				}
			}
		})
	}
}

func TestLowCutoffIsWarnedOf(t *testing.T) {
	t.Parallel()
	plan := mustPlan(t, specOf(iron, `{"ecutwfc":30,"smearing":"mv","pseudopotentials":{"Fe":"Fe.pbe-us.UPF"}}`), smallLibrary())
	if len(plan.Warnings) != 1 || plan.Warnings[0].Code != "cutoff_low" {
		t.Errorf("warnings %+v", plan.Warnings)
	}
	if !strings.Contains(string(plan.Files["pw.in"]), "ecutrho = 240") {
		t.Errorf("no finer density for an ultrasoft file:\n%s", plan.Files["pw.in"])
	}
}

func TestUnknownLibraryIsNotChecked(t *testing.T) {
	t.Parallel()
	plan := mustPlan(t, specOf(silicon, `{"ecutwfc":30,"pseudopotentials":{"Si":"Any.UPF"}}`), engine.Inputs{})
	if plan.Library["Any.UPF"] != "pseudo/Any.UPF" {
		t.Errorf("library %v", plan.Library)
	}
	got := problemsOf(t, specOf(silicon, `{"ecutwfc":30}`), engine.Inputs{})
	if !strings.Contains(got, "no pseudopotential for Si (none is named, and the library is not known here)") {
		t.Error(got)
	}
}

func TestOwnPseudopotentialIsPreferred(t *testing.T) {
	t.Parallel()
	in := smallLibrary()
	in.Files = fstest.MapFS{"Si.pz.UPF": header("Si", "NC", "PZ", "4", "0")}
	plan := mustPlan(t, specOf(silicon, `{"ecutwfc":30,"pseudopotentials":{"Si":"Si.pz.UPF"}}`), in)
	if len(plan.Library) != 0 || plan.Files["pseudo/Si.pz.UPF"] == nil {
		t.Errorf("library %v, files %d", plan.Library, len(plan.Files))
	}
}

func TestTimeLimitIsBelowTheSoftLimit(t *testing.T) {
	t.Parallel()
	for walltime, want := range map[time.Duration]string{time.Hour: "max_seconds = 3240\n", 2 * time.Minute: "max_seconds = 104\n", 0: ""} {
		spec := specOf(silicon, `{"ecutwfc":30}`)
		spec.Walltime = job.Duration(walltime)
		deck := string(mustPlan(t, spec, smallLibrary()).Files["pw.in"])
		if strings.Contains(deck, "max_seconds") != (want != "") || !strings.Contains(deck, want) {
			t.Errorf("walltime %v: no %q in\n%s", walltime, want, deck)
		}
	}
}

func TestHeadersOfBothFormats(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat(libraryDir); err != nil {
		t.Skipf("%s is not there", libraryDir)
	}
	lib := os.DirFS(libraryDir)
	for name, want := range map[string]upf{
		"Si.pz-vbc.UPF":                   {element: "Si", kind: "NC", functional: "PZ", valence: 4},
		"C.UPF":                           {element: "C", kind: "NC", functional: "PZ", valence: 4},
		"Fe.pbe-nd-rrkjus.UPF":            {element: "Fe", kind: "US", functional: "PBE", valence: 8},
		"Cu.pbe-kjpaw.UPF":                {element: "Cu", kind: "PAW", functional: "PBE", valence: 11},
		"Li.pbesol-s-kjpaw_psl.0.2.1.UPF": {element: "Li", kind: "PAW", functional: "PBESOL", valence: 3},
		"H.blyp-vbc.UPF":                  {element: "H", kind: "NC", functional: "BLYP", valence: 1, wavefunctions: 60, density: 240},
	} {
		got, err := readUPF(lib, name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got.name = ""
		if want.wavefunctions == 0 {
			got.wavefunctions, got.density = 0, 0
		}
		if *got != want {
			t.Errorf("%s: %+v, want %+v", name, *got, want)
		}
	}
	entries, err := os.ReadDir(libraryDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.EqualFold(filepath.Ext(e.Name()), ".upf") {
			continue
		}
		if u, err := readUPF(lib, e.Name()); err != nil || u.functional == "" || u.kind == "" || strings.Contains(u.functional, " ") && !strings.Contains(e.Name(), "tpss") {
			t.Errorf("%s: %+v, %v", e.Name(), u, err)
		}
	}
}

func TestSchemaIsValidAndHasTitles(t *testing.T) {
	t.Parallel()
	var s struct {
		Properties map[string]struct {
			Title string `json:"title"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(New().Schema(), &s); err != nil {
		t.Fatal(err)
	}
	for name, p := range s.Properties {
		if p.Title == "" {
			t.Errorf("%s has no title", name)
		}
	}
	if problems := engine.Decode(New().Schema(), []byte(`{"kpoints":[4,4,4,1,1,1],"ecutwfc":30,"starting_magnetization":{"Fe":0.4}}`), &params{}); problems != nil {
		t.Error(problems)
	}
}
