package bridge

import (
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"
)

// Pressures in GPa.
const (
	barGPa = 1e-4
	atmGPa = 1.01325e-4
)

var lammpsDialect = dialect{
	calculation: "task",
	family:      "md",
	kinds: map[string]string{"nve": "nve", "nvt": "nvt", "npt": "npt", "minimize": "minimize", "minimise": "minimize",
		"minimization": "minimize", "relax": "minimize"},
	rules:  lammpsRules(),
	finish: lammpsFinish,
}

var taskWords = map[string]string{
	"nve": "nve", "nvt": "nvt", "npt": "npt", "minimize": "minimize", "minimise": "minimize", "minimization": "minimize", "relax": "minimize",
	"md_nve": "nve", "md_nvt": "nvt", "md_npt": "npt", "energy_minimization": "minimize", "min": "minimize",
}

func lammpsRules() map[string]rule {
	rules := map[string]rule{
		"pressure": pressure, "timestep": timestep, "time_step": timestep, "dt": timestep,
		"potential": potential, "pair_style": pairStyle, "pair_coeff": pairCoeff, "pair_coeffs": pairCoeff,
		"potential_file": potentialFile, "potential_style": pairStyle, "potential_type": pairStyle,
		"temperature_start": fromTo("temperature", "temperature_end"), "temperature_end": partner("temperature_start"),
		"temp_start": fromTo("temperature", "temp_end"), "temp_end": partner("temp_start"),
		"t_start": fromTo("temperature", "t_stop"), "t_stop": partner("t_start"),
		"supercell": supercell, "replicate": supercell,
	}
	give := func(r rule, names ...string) {
		for _, name := range names {
			rules[name] = r
		}
	}
	give(worded("task", taskWords), "task", "ensemble", "calculation", "calculation_type", "calc_type", "simulation_type", "md_type", "run_type")
	give(as("steps"), "steps", "n_steps", "nsteps", "num_steps", "md_steps", "run_steps", "total_steps", "maxiter", "max_iterations")
	give(as("timestep_fs"), "timestep_fs", "dt_fs")
	give(scaled("timestep_fs", 1000), "timestep_ps", "dt_ps")
	give(as("temperature"), "temperature", "temp", "temperature_k", "target_temperature")
	give(as("initial_temperature"), "initial_temperature", "temperature_init", "velocity_temperature")
	give(as("pressure"), "pressure_gpa")
	give(scaled("pressure", barGPa), "pressure_bar")
	give(scaled("pressure", atmGPa), "pressure_atm")
	give(as("seed"), "seed", "velocity_seed", "random_seed")
	give(as("thermo_every"), "thermo_every", "thermo", "thermo_freq", "thermo_interval", "thermo_frequency")
	give(as("dump_every"), "dump_every", "dump", "dump_freq", "dump_interval", "dump_frequency", "trajectory_interval")
	give(as("thermostat_damping_fs"), "thermostat_damping_fs", "tdamp_fs")
	give(as("barostat_damping_fs"), "barostat_damping_fs", "pdamp_fs")
	give(scaled("thermostat_damping_fs", 1000), "tdamp_ps", "thermostat_damping_ps")
	give(scaled("barostat_damping_fs", 1000), "pdamp_ps", "barostat_damping_ps")
	give(as("energy_tolerance"), "energy_tolerance", "etol")
	give(as("force_tolerance"), "force_tolerance", "ftol", "fmax")
	give(as("minimizer"), "minimizer", "min_style")
	give(as("coupling"), "coupling", "pressure_coupling")
	for _, name := range []string{"units", "box_relax", "neighbor_skin", "input"} {
		rules[name] = as(name)
	}
	return rules
}

// pressure without a unit is in GPa for those who write the engine's own
// parameters, which have a task; in LAMMPS's unit when the units are named; and
// 0 in any.
func pressure(t *translation, key string, v any) {
	x, ok := number(v)
	units, _ := t.given["units"].(string)
	switch {
	case t.given["task"] != nil, !ok, x == 0:
		t.set("pressure", key, v)
	case units == "metal":
		scaled("pressure", barGPa)(t, key, v)
	case units == "real":
		scaled("pressure", atmGPa)(t, key, v)
	default:
		t.add(key, "can mean several things", "the unit is not said", "give pressure_gpa or pressure_bar")
	}
}

// longestStep is the longest time step that makes sense, in ps, and far below
// the shortest that does, in fs. So a number tells its unit.
const longestStep = 0.05

func timestep(t *translation, key string, v any) {
	x, ok := number(v)
	switch {
	case !ok || x <= 0:
		t.add(key, "is no time step", show(v), "give timestep_fs")
	case x < longestStep:
		t.set("timestep_fs", key, round(x*1000))
	default:
		t.set("timestep_fs", key, v)
	}
}

// fromTo is the first of two values of a quantity that changes over the run.
func fromTo(name, last string) rule {
	return func(t *translation, key string, v any) {
		end := t.given[last]
		if end == nil {
			end = v
		}
		from, ok1 := number(v)
		to, ok2 := number(end)
		switch {
		case !ok1 || !ok2:
			t.add(key, "is not a number", show(v), "")
		case from == to:
			t.set(name, key, v)
		default:
			t.set(name, key, []any{v, end})
		}
	}
}

// partner is the second one, which the first takes with it.
func partner(first string) rule {
	return func(t *translation, key string, v any) {
		if t.given[first] == nil {
			t.add(key, "needs "+first, "", "give both, or temperature")
		}
	}
}

func supercell(t *translation, key string, v any) {
	n, ok := wholes(v)
	if !ok {
		t.set("supercell", key, v) // the engine says what is wrong with it
		return
	}
	t.set("supercell", key, n)
}

// potentialOf is the potential that is being put together.
func (t *translation) potentialOf() map[string]any {
	p, _ := t.out["potential"].(map[string]any)
	if p == nil {
		p = map[string]any{}
		t.out["potential"] = p
	}
	return p
}

// potential is the engine's own object, or the name of a file.
func potential(t *translation, key string, v any) {
	switch v := v.(type) {
	case map[string]any:
		p := t.potentialOf()
		for _, name := range slices.Sorted(maps.Keys(v)) {
			switch fold(name) {
			case "style", "pair_style", "type":
				pairStyle(t, key+"."+name, v[name])
			case "pair_coeff", "pair_coeffs":
				pairCoeff(t, key+"."+name, v[name])
			case "filename", "potential_file":
				p["file"] = v[name]
			default:
				p[fold(name)] = v[name]
			}
		}
	case string:
		potentialFile(t, key, v)
	default:
		t.add(key, "is no potential", show(v), `give {"style": "eam/alloy", "file": "Al_zhou.eam.alloy"}`)
	}
}

func pairStyle(t *translation, key string, v any) {
	p := t.potentialOf()
	if before, twice := p["style"]; twice && !reflect.DeepEqual(before, v) {
		t.add(key, "names another style than before", show(before), "give one of them")
		return
	}
	p["style"] = v
}

// pairCoeff are the arguments of LAMMPS's pair_coeff commands. "* * FILE A B" is
// a file and the names of the elements in it.
func pairCoeff(t *translation, key string, v any) {
	p := t.potentialOf()
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	var coeffs []any
	for _, one := range list {
		text, isText := one.(string)
		if !isText {
			t.add(key, "is no text of coefficients", show(one), `write "* * Al_zhou.eam.alloy Al" or "1 1 0.01 3.4"`)
			return
		}
		words := strings.Fields(strings.TrimPrefix(strings.TrimSpace(text), "pair_coeff "))
		if len(words) > 2 && words[0] == "*" && words[1] == "*" && styleOf(words[2]) != "" {
			p["file"] = path.Base(words[2])
			if len(words) > 3 {
				var elements []any
				for _, e := range words[3:] {
					elements = append(elements, e)
				}
				p["elements"] = elements
			}
			continue
		}
		coeffs = append(coeffs, strings.Join(words, " "))
	}
	if len(coeffs) > 0 {
		p["coeffs"] = coeffs
	}
}

func potentialFile(t *translation, key string, v any) {
	name, isText := v.(string)
	if !isText {
		t.add(key, "is no name of a file", show(v), "")
		return
	}
	t.potentialOf()["file"] = path.Base(name)
}

// styleOf is the pair style that the name of a file stands for; "" for none.
func styleOf(file string) string {
	name := strings.ToLower(path.Base(file))
	for _, s := range []struct{ ending, style string }{
		{".eam.alloy", "eam/alloy"}, {".eam.fs", "eam/fs"}, {".alloy", "eam/alloy"}, {".eam", "eam"}, {".sw", "sw"}, {".tersoff", "tersoff"}, {".meam", "meam"},
	} {
		if strings.HasSuffix(name, s.ending) {
			return s.style
		}
	}
	return ""
}

// lammpsFinish adds the style that a file stands for when none is given, and
// makes the temperature of a run without a thermostat that of its start.
func lammpsFinish(out map[string]any) {
	if _, single := number(out["temperature"]); single && out["task"] == "nve" && out["initial_temperature"] == nil {
		out["initial_temperature"] = out["temperature"]
		delete(out, "temperature")
	}
	p, _ := out["potential"].(map[string]any)
	if p == nil || p["style"] != nil {
		return
	}
	if file, _ := p["file"].(string); styleOf(file) != "" {
		p["style"] = styleOf(file)
	}
}
