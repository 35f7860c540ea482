package bridge

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/engine/lammps"
	"github.com/nano-os/nanoos/internal/engine/qe"
	"github.com/nano-os/nanoos/internal/job"
)

const testID job.ID = "59716d71-a660-4162-b298-206ae30d5c9b"

// silicon is a structure in the platform's own form.
const silicon = `{"id": "s", "format": "INTERNAL", "raw_text": null, "lattice": {"a": 3.867, "b": 3.867, "c": 3.867, "alpha": 60, "beta": 60, "gamma": 60},
	"atoms": [{"species": "Si", "position": [0, 0, 0]}, {"species": "Si", "position": [0.25, 0.25, 0.25]}]}`

// rowOf reads a row that a test wrote.
func rowOf(t *testing.T, text string) row {
	t.Helper()
	r := row{}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return r
}

// converted makes a spec of rows; an empty text is no row.
func converted(t *testing.T, jobRow, structure, template string) (job.Spec, []job.Problem) {
	t.Helper()
	d := document{job: rowOf(t, jobRow)}
	if structure != "" {
		d.structure = rowOf(t, structure)
	}
	if template != "" {
		d.template = rowOf(t, template)
	}
	return d.spec(testID)
}

func TestParametersAreReadInTheSpellingsOfPeople(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ job, want string }{
		"QE as it is":          {`"engine":"QE","parameters":{"calculation":"scf","ecutwfc":30,"kpoints":[4,4,4],"conv_thr":1e-8}`, `{"calculation":"scf","ecutwfc":30,"kpoints":[4,4,4],"conv_thr":1e-8}`},
		"VASP's words":         {`"engine":"quantum_espresso","parameters":{"ENCUT":"408.17079368982","EDIFF":1.3605693122994e-5,"KSPACING":0.3,"ISMEAR":0,"SIGMA":0.27211386245988,"NELM":60,"ISPIN":2}`, `{"ecutwfc":30,"conv_thr":1e-6,"kpoints":{"spacing":0.3},"smearing":"gaussian","degauss":0.02,"electron_maxstep":60,"nspin":2}`},
		"a mesh by name":       {`"engine":"Quantum-Espresso","parameters":{"ecutwfc":30,"k_points":{"type":"Monkhorst-Pack","grid":[2,2,2],"shift":[0.5,0.5,0.5]}}`, `{"ecutwfc":30,"kpoints":[2,2,2,1,1,1]}`},
		"a mesh as text":       {`"engine":"qe","parameters":{"ecutwfc":30,"kpts":"4x4x1"}`, `{"ecutwfc":30,"kpoints":[4,4,1]}`},
		"a mesh and its shift": {`"engine":"qe","parameters":{"ecutwfc":30,"kpoints":[[4,4,4],[0,0,0]]}`, `{"ecutwfc":30,"kpoints":[4,4,4]}`},
		"gamma":                {`"engine":"qe","parameters":{"ecutwfc":30,"kpoints":{"type":"gamma"}}`, `{"ecutwfc":30,"kpoints":"gamma"}`},
		"namelists": {`"engine":"qe","parameters":{"CONTROL":{"calculation":"vc-relax","verbosity":"high"},"system":{"ecutwfc":30,"nosym":true},"kpoints":[1,1,1]}`,
			`{"calculation":"vc-relax","ecutwfc":30,"kpoints":[1,1,1],"namelists":{"control":{"verbosity":"high"},"system":{"nosym":true}}}`},
		"namelists of ASE":       {`"engine":"qe","parameters":{"input_data":{"system":{"ecutwfc":30,"nosym":true}}}`, `{"ecutwfc":30,"namelists":{"system":{"nosym":true}}}`},
		"a functional":           {`"engine":"qe","parameters":{"ecutwfc":30,"functional":"HSE06","dispersion":"D3","spin_polarized":false}`, `{"ecutwfc":30,"input_dft":"HSE","vdw_corr":"grimme-d3","nspin":1}`},
		"smearing as an object":  {`"engine":"qe","parameters":{"ecutwfc":30,"smearing":{"type":"cold","degauss":0.01}}`, `{"ecutwfc":30,"smearing":"cold","degauss":0.01}`},
		"a kind":                 {`"engine":"qe","kind":"dft_relax","parameters":{"ecutwfc":30}`, `{"calculation":"relax","ecutwfc":30}`},
		"a kind gives way":       {`"engine":"qe","kind":"dft_relax","parameters":{"ecutwfc":30,"calculation":"vc_relax"}`, `{"calculation":"vc-relax","ecutwfc":30}`},
		"nothing twice":          {`"engine":"qe","parameters":{"ecutwfc":30,"ecutwfc_ry":30,"nbnd":null}`, `{"ecutwfc":30}`},
		"LAMMPS as it is":        {`"engine":"LAMMPS","parameters":{"task":"npt","temperature":300,"pressure":2,"potential":{"style":"sw","file":"Si.sw"}}`, `{"task":"npt","temperature":300,"pressure":2,"potential":{"style":"sw","file":"Si.sw"}}`},
		"LAMMPS's words":         {`"engine":"lammps","parameters":{"ensemble":"NVT","temperature_start":300,"temperature_end":600,"timestep":0.002,"n_steps":500,"pair_style":"sw","pair_coeff":"* * Si.sw Si","thermo":50}`, `{"task":"nvt","temperature":[300,600],"timestep_fs":2,"steps":500,"potential":{"style":"sw","file":"Si.sw","elements":["Si"]},"thermo_every":50}`},
		"a time step in fs":      {`"engine":"lammps","kind":"md_nve","parameters":{"timestep":1,"temperature":300,"potential":"Si.sw"}`, `{"task":"nve","timestep_fs":1,"initial_temperature":300,"potential":{"style":"sw","file":"Si.sw"}}`},
		"a pressure in bar":      {`"engine":"lammps","kind":"md_npt","parameters":{"pressure_bar":10000,"temp":300,"potential":"Si.sw","supercell":2}`, `{"task":"npt","pressure":1,"temperature":300,"potential":{"style":"sw","file":"Si.sw"},"supercell":[2,2,2]}`},
		"a pressure of LAMMPS's": {`"engine":"lammps","kind":"md_npt","parameters":{"pressure":10000,"units":"metal","temp":300,"potential":"Si.sw"}`, `{"task":"npt","units":"metal","pressure":1,"temperature":300,"potential":{"style":"sw","file":"Si.sw"}}`},
		"the dummy":              {`"engine":"MOCK","parameters":{}`, ``},
		"a mock that fails":      {`"engine":"mock","kind":"dft_bands","parameters":{"duration":1,"steps":2,"should_fail":true}`, `{"steps":2,"step_seconds":0.5,"fail_at_step":1}`},
		"a mock of many steps":   {`"engine":"mock","parameters":{"steps":1000}`, `{"steps":1000,"step_seconds":0.01}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec, problems := converted(t, `{"structure_id":"s",`+c.job+`}`, silicon, "")
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			if d := cmp.Diff(decoded(t, c.want), decoded(t, string(spec.Params))); d != "" {
				t.Error(d)
			}
			if err := plan(spec); err != nil {
				t.Errorf("the engine refuses %s: %v", spec.Params, err)
			}
		})
	}
}

func decoded(t *testing.T, text string) (v any) {
	t.Helper()
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// plan asks the real engines.
func plan(spec job.Spec) error {
	engines := []engine.Engine{qe.New(), lammps.New(), engine.Mock{}}
	e, _ := engine.ByName(engines, spec.Engine)
	if e == nil {
		return errors.New("there is no engine " + spec.Engine)
	}
	spec.Demand, spec.Walltime = job.Demand{CPUs: 1, Memory: 1 << 30}, job.Duration(time.Hour)
	_, err := e.Plan(spec, engine.Inputs{Files: fstest.MapFS{}, Library: fstest.MapFS{"Si.UPF": {Data: []byte(pseudopotential)}, "Si.sw": {Data: []byte(stillinger)}}})
	return err
}

// Files of a library with nothing but what the engines look at.
const (
	pseudopotential = `<UPF version="2.0.1"><PP_HEADER element="Si" pseudo_type="NC" functional="PZ" z_valence="4.0" wfc_cutoff="0" rho_cutoff="0" has_so="F"/></UPF>`
	stillinger      = "Si Si Si 2.1683 2.0951 1.80 21.0 1.20 -0.333333333333 7.049556277 0.6022245584 4.0 0.0 0.0\n"
)

func TestWhatCannotBeMappedIsAProblemWithItsField(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ job, template, field string }{
		"a cutoff without a unit":       {`"engine":"qe","parameters":{"cutoff":500}`, ``, "parameters.cutoff"},
		"an unknown parameter":          {`"engine":"qe","parameters":{"ecutwfc":30,"luck":7}`, ``, "parameters.luck"},
		"two that contradict":           {`"engine":"qe","parameters":{"ecutwfc":30,"encut":500}`, ``, "parameters.encut"},
		"a density of states":           {`"engine":"qe","kind":"dft_dos","parameters":{"ecutwfc":30}`, ``, "kind"},
		"a kind of another engine":      {`"engine":"qe","kind":"md_nvt","parameters":{"ecutwfc":30}`, ``, "kind"},
		"a pressure without a unit":     {`"engine":"lammps","parameters":{"ensemble":"npt","temperature":300,"pressure":1,"potential":"Si.sw"}`, ``, "parameters.pressure"},
		"parameters that are a text":    {`"engine":"qe","parameters":"ecutwfc=30"`, ``, "parameters"},
		"a parameter of the template":   {`"engine":"qe","parameters":{}`, `{"default_parameters":{"cutoff":500}}`, "template.default_parameters.cutoff"},
		"a shift of a third":            {`"engine":"qe","parameters":{"ecutwfc":30,"kpoints":{"grid":[2,2,2],"shift":[0.3,0,0]}}`, ``, "parameters.kpoints"},
		"an unknown resource":           {`"engine":"mock","resources":{"partition":"long"}`, ``, "resources.partition"},
		"memory that is none":           {`"engine":"mock","resources":{"memory":"much"}`, ``, "resources.memory"},
		"cores that are none":           {`"engine":"mock","resources":{"cores":1.5}`, ``, "resources.cores"},
		"a walltime that is none":       {`"engine":"mock","resources":{"walltime":"soon"}`, ``, "resources.walltime"},
		"several nodes without cores":   {`"engine":"mock","resources":{"nodes":4}`, ``, "resources.nodes"},
		"cores of one node, or of all":  {`"engine":"mock","resources":{"nodes":4,"cores":8}`, ``, "resources.nodes"},
		"no engine":                     {`"parameters":{}`, ``, "engine"},
		"a structure that is gone":      {`"engine":"qe","parameters":{"ecutwfc":30},"structure_id":"gone"`, ``, "structure"},
		"half of a pair":                {`"engine":"lammps","kind":"md_nvt","parameters":{"temperature_end":300,"potential":"Si.sw"}`, ``, "parameters.temperature_end"},
		"a smearing with a bare width":  {`"engine":"qe","parameters":{"ecutwfc":30,"smearing":{"type":"cold","width":0.1}}`, ``, "parameters.smearing.width"},
		"coefficients that are numbers": {`"engine":"lammps","kind":"md_nve","parameters":{"pair_style":"lj/cut 8.5","pair_coeff":[1,2]}`, ``, "parameters.pair_coeff"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			structure := silicon
			if strings.Contains(c.job, "gone") {
				structure = ""
			} else {
				c.job += `,"structure_id":"s"`
			}
			spec, problems := converted(t, "{"+c.job+"}", structure, c.template)
			if e, ok := errors.AsType[*job.Error](plan(spec)); ok && len(problems) == 0 {
				problems = e.Problems
			}
			if len(problems) != 1 || problems[0].Field != c.field || problems[0].Message == "" {
				t.Errorf("problems %v, want one of %s", problems, c.field)
			}
		})
	}
}

func TestAllProblemsAreToldAtOnce(t *testing.T) {
	t.Parallel()
	_, problems := converted(t, `{"engine":"qe","structure_id":"s","priority":"high","parameters":{"cutoff":1,"smearing_width":1},"resources":{"memory":"x","cores":"y"}}`,
		`{"format":"INTERNAL","lattice":[[1,0,0],[0,1,0]],"atoms":[{"species":"Si","position":[0,0]}]}`, "")
	var fields []string
	for _, p := range problems {
		fields = append(fields, p.Field)
	}
	slices.Sort(fields)
	want := []string{"parameters.cutoff", "parameters.smearing_width", "priority", "resources.cores", "resources.memory", "structure.atoms[0].position", "structure.lattice"}
	if d := cmp.Diff(want, fields[:min(len(fields), len(want))]); d != "" || len(fields) > len(want)+3 {
		t.Errorf("%s\n%v", d, problems)
	}
}

func FuzzAnyRowIsReadWithoutHarm(f *testing.F) {
	f.Add(`{"engine":"qe","parameters":{"encut":400,"kpoints":{"grid":[4,4,4],"shift":[0.5,0,0]},"system":{"nosym":true}},"resources":{"cores":"4","memory":"8GB","walltime":"02:00:00"}}`, silicon, `{"default_parameters":{"smearing":{"type":"cold","sigma":0.1}}}`)
	f.Add(`{"engine":"lammps","kind":"md_npt","parameters":{"pressure_bar":1,"potential":{"style":"sw"},"pair_coeff":["* * Si.sw Si"],"temp_start":1,"temp_end":2}}`, `{"format":"CIF","raw_text":"data_x"}`, `{}`)
	f.Add(`{"engine":"mock","parameters":{"steps":[1],"fail":1,"duration":{}},"resources":"{\"nodes\":3}"}`, `{"format":"INTERNAL","lattice":{"a":[1]},"atoms":[{}]}`, `null`)
	f.Fuzz(func(t *testing.T, jobRow, structure, template string) {
		var d document
		for text, into := range map[string]*row{jobRow: &d.job, structure: &d.structure, template: &d.template} {
			if json.Unmarshal([]byte(text), into) != nil {
				return
			}
		}
		spec, problems := d.spec(testID)
		for _, raw := range []json.RawMessage{spec.Params, spec.Structure} {
			if len(raw) > 0 && !json.Valid(raw) {
				t.Errorf("%s is not JSON", raw)
			}
		}
		if len(spec.Name) > job.MaxNameLength || spec.Demand.Memory < 0 || spec.Demand.CPUs < 0 || spec.Priority < 0 || spec.Priority > 20 {
			t.Errorf("%+v, %v", spec, problems)
		}
		for _, p := range problems {
			if p.Message == "" {
				t.Errorf("a problem without words: %+v", p)
			}
		}
	})
}

func TestTheJobsOwnWordCountsMoreThanItsTemplate(t *testing.T) {
	t.Parallel()
	spec, problems := converted(t, `{"engine":"","name":"Si\u0000 relax","priority":99,"parameters":{"encut":408.17079368982,"namelists":{"system":{"nosym":true}}},"resources":{"cores":2}}`, "",
		`{"engine":"QE","default_parameters":{"ecutwfc":80,"calculation":"relax","system":{"nosym":false,"noinv":true}},"default_resources":{"cores_per_node":16,"nodes":1,"memory":"8GB","walltime":"02:00:00","gpu":false}}`)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := job.Spec{Name: "Si  relax", Engine: "qe", Key: "platform:" + string(testID), Priority: 20,
		Demand: job.Demand{CPUs: 2, Memory: 8 << 30}, Walltime: job.Duration(2 * time.Hour), Labels: map[string]string{"platform": "nano-os"},
		Params: json.RawMessage(`{"calculation":"relax","ecutwfc":30,"namelists":{"system":{"noinv":true,"nosym":true}}}`)}
	if d := cmp.Diff(want, spec); d != "" {
		t.Error(d)
	}
}

func TestResourcesAreReadInEveryForm(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]job.Spec{
		`{}`:                                      {},
		`null`:                                    {},
		`{"cpus":"4","memory":8}`:                 {Demand: job.Demand{CPUs: 4, Memory: 8 << 30}},
		`{"memory":4096}`:                         {Demand: job.Demand{Memory: 4096 << 20}},
		`{"memory":8589934592}`:                   {Demand: job.Demand{Memory: 8 << 30}},
		`{"memory":"512 MiB"}`:                    {Demand: job.Demand{Memory: 512 << 20}},
		`{"memory_gb":1.5}`:                       {Demand: job.Demand{Memory: 3 << 29}},
		`{"mem_per_cpu":"2g","cores":3}`:          {Demand: job.Demand{CPUs: 3, Memory: 6 << 30}},
		`{"nodes":2,"ppn":8,"gpus":1}`:            {Demand: job.Demand{CPUs: 16, GPUs: 1}},
		`{"gpu":true,"walltime":3600}`:            {Demand: job.Demand{GPUs: 1}, Walltime: job.Duration(time.Hour)},
		`{"walltime":"1-12:00:00"}`:               {Walltime: job.Duration(36 * time.Hour)},
		`{"walltime_hours":0.5,"max_retries":1}`:  {Walltime: job.Duration(30 * time.Minute), Retry: job.Retry{Max: 1, Delay: job.DefaultRetry.Delay, MaxDelay: job.DefaultRetry.MaxDelay, MaxLosses: 5}},
		`"{\"cores\": 2, \"walltime\": \"90m\"}"`: {Demand: job.Demand{CPUs: 2}, Walltime: job.Duration(90 * time.Minute)},
		`{"cores":2,"memory":null,"gpu":0,"time_limit":"2h"}`: {Demand: job.Demand{CPUs: 2}, Walltime: job.Duration(2 * time.Hour)},
	} {
		spec, problems := converted(t, `{"engine":"mock","resources":`+in+`}`, "", "")
		got := job.Spec{Demand: spec.Demand, Walltime: spec.Walltime, Retry: spec.Retry}
		if d := cmp.Diff(want, got); d != "" || len(problems) > 0 {
			t.Errorf("%s: %v\n%s", in, problems, d)
		}
	}
}

func TestStructuresOfEveryFormatBecomeOneForm(t *testing.T) {
	t.Parallel()
	const poscar = `Si2\n1.0\n0 2.7 2.7\n2.7 0 2.7\n2.7 2.7 0\nSi\n2\nDirect\n0 0 0\n0.25 0.25 0.25\n`
	const cif = `data_Si\n_cell_length_a 5.4\n_cell_length_b 5.4\n_cell_length_c 5.4\n_cell_angle_alpha 90\n_cell_angle_beta 90\n_cell_angle_gamma 90\nloop_\n_atom_site_label\n_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\nSi1 Si 0 0 0\nSi2 Si 0.25 0.25 0.25\n`
	for name, text := range map[string]string{
		"POSCAR":                    `{"format":"POSCAR","raw_text":"` + poscar + `"}`,
		"poscar":                    `{"format":"poscar","raw_text":"` + poscar + `"}`,
		"CIF":                       `{"format":"Cif","raw_text":"` + cif + `"}`,
		"extended XYZ":              `{"format":"XYZ","raw_text":"2\nLattice=\"5.4 0 0 0 5.4 0 0 0 5.4\" Properties=species:S:1:pos:R:3\nSi 0 0 0\nSi 1.35 1.35 1.35\n"}`,
		"lengths and angles":        silicon,
		"vectors":                   `{"format":"INTERNAL","raw_text":"","lattice":[[5.4,0,0],[0,5.4,0],[0,0,5.4]],"atoms":[{"element":"Si","position":[0,0,0]},{"symbol":"Si","frac_coords":[0.25,0.25,0.25]}]}`,
		"named vectors":             `{"format":"internal","lattice":{"a":[5.4,0,0],"b":[0,5.4,0],"c":[0,0,5.4]},"atoms":[{"species":"Si","position":[0,0,0]},{"species":"Si","position":[0.25,0.25,0.25]}]}`,
		"the later column":          `{"format":"INTERNAL","lattice":{"a":1},"lattice_vectors":[[5.4,0,0],[0,5.4,0],[0,0,5.4]],"atoms":[{"species":"Si","position":[0,0,0]},{"species":"Si","position":[0.25,0.25,0.25]}]}`,
		"columns of the cell":       `{"format":"INTERNAL","a":5.4,"b":5.4,"c":5.4,"alpha":90,"beta":90,"gamma":90,"atoms":[{"species":"Si","position":[0,0,0]},{"species":"Si","position":[0.25,0.25,0.25]}]}`,
		"atoms as a text of JSON":   `{"format":"INTERNAL","lattice":"[[5.4,0,0],[0,5.4,0],[0,0,5.4]]","atoms":"[{\"species\":\"Si\",\"position\":[0,0,0]},{\"species\":\"Si\",\"position\":[0.25,0.25,0.25]}]"}`,
		"cartesian atoms":           `{"format":"INTERNAL","lattice":[[5.4,0,0],[0,5.4,0],[0,0,5.4]],"atoms":[{"species":"Si","xyz":[0,0,0]},{"species":"Si","xyz":[1.35,1.35,1.35]}]}`,
		"text in our own JSON form": `{"format":"INTERNAL","raw_text":"{\"lattice\":[[5.4,0,0],[0,5.4,0],[0,0,5.4]],\"species\":[\"Si\",\"Si\"],\"positions\":[[0,0,0],[0.25,0.25,0.25]]}"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec, problems := converted(t, `{"engine":"qe","structure_id":"s","parameters":{"ecutwfc":30}}`, text, "")
			if len(problems) > 0 || !strings.Contains(string(spec.Structure), `"species":["Si","Si"]`) {
				t.Fatalf("%s: %v", spec.Structure, problems)
			}
			if err := plan(spec); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAStructureThatCannotBeUsedSaysWhy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"XYZ without a lattice": {`{"format":"XYZ","raw_text":"1\n\nSi 0 0 0\n"}`, "lattice"},
		"a broken POSCAR":       {`{"format":"POSCAR","raw_text":"Si\n1.0\n1 0 0\n"}`, "raw_text, line"},
		"an unknown format":     {`{"format":"PDB","raw_text":"ATOM"}`, "format"},
		"nothing":               {`{"format":"CIF","raw_text":""}`, "neither text nor atoms"},
		"atoms without a cell":  {`{"format":"INTERNAL","atoms":[{"species":"Si","position":[0,0,0]}]}`, "structure.lattice"},
		"an unknown element":    {`{"format":"INTERNAL","lattice":[[5,0,0],[0,5,0],[0,0,5]],"atoms":[{"species":"Xx","position":[0,0,0]}]}`, "structure.species[0]"},
		"atoms on each other":   {`{"format":"INTERNAL","lattice":[[5,0,0],[0,5,0],[0,0,5]],"atoms":[{"species":"Si","position":[0,0,0]},{"species":"Si","position":[0,0,1]}]}`, "apart"},
		"two kinds of places":   {`{"format":"INTERNAL","lattice":[[5,0,0],[0,5,0],[0,0,5]],"atoms":[{"species":"Si","position":[0,0,0]},{"species":"Si","xyz":[1,1,1]}]}`, "partly"},
		"an impossible cell":    {`{"format":"INTERNAL","lattice":{"a":1,"b":1,"c":1,"alpha":10,"beta":10,"gamma":170},"atoms":[{"species":"Si","position":[0,0,0]}]}`, "structure.lattice"},
	} {
		spec, problems := converted(t, `{"engine":"qe","structure_id":"s","parameters":{"ecutwfc":30}}`, c.text, "")
		err := job.InvalidInput("bad", problems)
		if err == nil {
			err = plan(spec)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAMockJobNamesWhatItHasNoUseFor(t *testing.T) {
	t.Parallel()
	spec, problems := converted(t, `{"engine":"MOCK","structure_id":"s","parameters":{"ENCUT":520,"steps":3,"kpoints":[4,4,4]}}`, `{"format":"POSCAR","raw_text":"Si"}`, "")
	if len(problems) > 0 || spec.Labels[labelIgnored] != "ENCUT kpoints structure" || spec.Structure != nil {
		t.Errorf("%+v, %v", spec, problems)
	}
}

func TestAnImportIsTheSameEveryTime(t *testing.T) {
	t.Parallel()
	const row = `{"engine":"qe","structure_id":"s","parameters":{"system":{"ecutwfc":30,"nosym":true,"noinv":true},"encut":408.17079368982,"kpoints":[4,4,4]}}`
	first, _ := converted(t, row, silicon, "")
	for range 20 {
		if again, _ := converted(t, row, silicon, ""); !cmp.Equal(first, again) {
			t.Fatal(cmp.Diff(first, again))
		}
	}
}
