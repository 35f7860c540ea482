package bridge

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// Units (CODATA 2018).
const (
	evPerRy   = 13.605693122994
	bohrA     = 0.529177210903
	ryPerEV   = 1 / evPerRy
	forceUnit = ryPerEV * bohrA // eV/Å in Ry/bohr
)

var espressoDialect = dialect{
	calculation: "calculation",
	family:      "dft",
	kinds: map[string]string{
		"static": "scf", "scf": "scf", "singlepoint": "scf", "single_point": "scf", "relax": "relax", "vc_relax": "vc-relax",
		"vcrelax": "vc-relax", "cell_relax": "vc-relax", "nscf": "nscf", "bands": "bands",
	},
	rules: espressoRules(),
}

var (
	calculationWords = map[string]string{
		"static": "scf", "single_point": "scf", "singlepoint": "scf", "energy": "scf", "scf": "scf", "relax": "relax", "relaxation": "relax",
		"geometry_optimization": "relax", "opt": "relax", "vc_relax": "vc-relax", "vcrelax": "vc-relax", "cell_relax": "vc-relax",
		"variable_cell_relax": "vc-relax", "nscf": "nscf", "bands": "bands", "band_structure": "bands", "bandstructure": "bands",
	}
	functionalWords = map[string]string{
		"pbe": "PBE", "pbesol": "PBESOL", "lda": "PZ", "pz": "PZ", "hse": "HSE", "hse06": "HSE", "pbe0": "PBE0", "b3lyp": "B3LYP", "blyp": "BLYP",
		"revpbe": "REVPBE", "scan": "SCAN", "gga_pbe": "PBE",
	}
	smearingWords = map[string]string{
		"gaussian": "gaussian", "gauss": "gaussian", "methfessel_paxton": "methfessel-paxton", "mp": "methfessel-paxton", "cold": "cold",
		"marzari_vanderbilt": "marzari-vanderbilt", "mv": "marzari-vanderbilt", "fermi_dirac": "fermi-dirac", "fermi": "fermi-dirac", "fd": "fermi-dirac",
	}
	dispersionWords = map[string]string{
		"d2": "grimme-d2", "dft_d2": "grimme-d2", "grimme_d2": "grimme-d2", "d3": "grimme-d3", "dft_d3": "grimme-d3", "grimme_d3": "grimme-d3",
		"ts": "TS", "mbd": "MBD", "xdm": "XDM", "none": "none", "off": "none",
	}
	// ismear is VASP's number of a smearing.
	ismear = map[int64]string{-1: "fermi-dirac", 0: "gaussian", 1: "methfessel-paxton"}
)

func espressoRules() map[string]rule {
	rules := map[string]rule{
		"sigma": scaled("degauss", ryPerEV), "ediff": scaled("conv_thr", ryPerEV), "fmax": scaled("forc_conv_thr", forceUnit),
		"kspacing": spacing, "smearing": smearing, "ismear": smearingNumber, "ediffg": ionicThreshold,
		"spin_polarized": spinPolarized, "spin_polarised": spinPolarized, "spin": spinPolarized,
		"control": namelist, "system": namelist, "electrons": namelist, "ions": namelist, "cell": namelist,
		"input_data": namelists, "namelists": namelists,
		"cutoff": unclear("the unit is not said", "give ecutwfc in Ry, or encut in eV"), "energy_cutoff": unclear("the unit is not said", "give ecutwfc in Ry, or encut in eV"),
		"ecut":           unclear("the unit is not said", "give ecutwfc in Ry, or encut in eV"),
		"smearing_width": unclear("the unit is not said", "give degauss in Ry, or sigma in eV"),
	}
	give := func(r rule, names ...string) {
		for _, name := range names {
			rules[name] = r
		}
	}
	give(worded("calculation", calculationWords), "calculation", "calculation_type", "calc_type", "task", "task_type", "job_type", "type")
	give(as("ecutwfc"), "ecutwfc", "ecutwfc_ry", "ecut_wfc", "cutoff_ry", "energy_cutoff_ry")
	give(scaled("ecutwfc", ryPerEV), "encut", "encut_ev", "ecutwfc_ev", "cutoff_ev", "energy_cutoff_ev")
	give(as("ecutrho"), "ecutrho", "ecutrho_ry", "ecut_rho")
	give(scaled("ecutrho", ryPerEV), "ecutrho_ev")
	give(mesh, "kpoints", "k_points", "kpts", "kpoint_grid", "kpoints_grid", "k_point_grid", "k_grid", "kgrid", "kmesh", "k_mesh", "kpoint_mesh", "kpoints_mesh")
	give(worded("input_dft", functionalWords), "input_dft", "functional", "xc", "xc_functional", "dft_functional", "exchange_correlation")
	give(as("pseudopotentials"), "pseudopotentials", "pseudos")
	give(worded("smearing", smearingWords), "smearing_type", "smearing_method")
	give(as("degauss"), "degauss", "degauss_ry", "smearing_width_ry")
	give(scaled("degauss", ryPerEV), "degauss_ev", "smearing_width_ev")
	give(as("electron_maxstep"), "electron_maxstep", "nelm", "max_scf_steps", "max_scf_iterations", "scf_max_steps")
	give(as("nstep"), "nstep", "nsw", "max_ionic_steps", "ionic_steps", "max_relax_steps")
	give(as("nspin"), "nspin", "ispin")
	give(as("nbnd"), "nbnd", "nbands")
	give(as("tot_charge"), "tot_charge", "charge", "total_charge")
	give(worded("vdw_corr", dispersionWords), "vdw_corr", "vdw", "dispersion", "vdw_correction", "dispersion_correction")
	// Parameters of the engine's own, in any case.
	for _, name := range espressoOwn {
		if rules[name] == nil {
			rules[name] = as(name)
		}
	}
	return rules
}

// espressoOwn are the engine's parameters that pw.x knows as variables.
var espressoOwn = []string{
	"calculation", "ecutwfc", "ecutrho", "occupations", "smearing", "degauss", "nbnd", "nspin", "starting_magnetization", "tot_magnetization", "tot_charge",
	"conv_thr", "mixing_beta", "mixing_mode", "electron_maxstep", "diagonalization", "etot_conv_thr", "forc_conv_thr", "press_conv_thr", "nstep",
	"cell_dofree", "press", "input_dft", "vdw_corr", "assume_isolated", "disk_io",
}

// mesh reads k-points: a mesh with or without shifts, in a list, a text or an
// object, or what the engine knows itself.
func mesh(t *translation, key string, v any) {
	switch v := v.(type) {
	case map[string]any:
		meshObject(t, key, v)
		return
	case string:
		if fold(v) == "gamma" {
			t.set("kpoints", key, "gamma")
			return
		}
	case []any:
		if len(v) == 2 { // [[4, 4, 4], [0, 0, 0]]
			meshAndShift(t, key, v[0], v[1])
			return
		}
	default:
		t.add(key, "is no mesh of k-points", show(v), "write [4, 4, 4]")
		return
	}
	n, ok := wholes(v)
	if !ok || len(n) != 3 && len(n) != 6 {
		t.set("kpoints", key, v) // the engine says what is wrong with it
		return
	}
	t.set("kpoints", key, n)
}

// meshKeys are the names of a mesh within an object; schemes are the ways to
// spread a mesh that pw.x has.
var (
	meshKeys  = []string{"grid", "mesh", "kpoints", "divisions", "k_grid", "nk"}
	shiftKeys = []string{"shift", "shifts", "offset"}
	schemes   = []string{"automatic", "monkhorst_pack", "monkhorst", "mp", "gamma", "gamma_centered", "grid", "mesh"}
)

func meshObject(t *translation, key string, o map[string]any) {
	var grid, shift any
	scheme := ""
	for _, name := range slices.Sorted(maps.Keys(o)) {
		v := o[name]
		folded := fold(name)
		switch {
		case slices.Contains(meshKeys, folded) && grid == nil:
			grid = v
		case slices.Contains(shiftKeys, folded) && shift == nil:
			shift = v
		case slices.Contains([]string{"type", "scheme", "mode", "method"}, folded):
			if scheme = fold(fmt.Sprint(v)); !slices.Contains(schemes, scheme) {
				t.add(key+"."+name, "is no way to choose k-points here", show(v), "write automatic or gamma")
				return
			}
		default: // spacing, path, points: the engine's own form
			t.set("kpoints", key, o)
			return
		}
	}
	switch {
	case grid != nil:
		meshAndShift(t, key, grid, shift)
	case scheme == "gamma":
		t.set("kpoints", key, "gamma")
	default:
		t.add(key, "has no mesh", show(o), "write {\"grid\": [4, 4, 4]}")
	}
}

func meshAndShift(t *translation, key string, grid, shift any) {
	n, ok := wholes(grid)
	if !ok || len(n) != 3 {
		t.add(key, "has no mesh of three numbers", show(grid), "write [4, 4, 4]")
		return
	}
	if list, given := shift.([]any); given && len(list) == 3 {
		for _, v := range list {
			x, ok := number(v)
			switch {
			case ok && x == 0:
				n = append(n, 0)
			case ok && (x == 1 || x == 0.5): // half a step is 1 for pw.x
				n = append(n, 1)
			default:
				t.add(key, "has a shift that pw.x cannot do", show(v), "shift by 0, or by 0.5, which is half a step")
				return
			}
		}
		if slices.Equal(n[3:], []int64{0, 0, 0}) {
			n = n[:3]
		}
	} else if shift != nil {
		t.add(key, "has a shift that is not three numbers", show(shift), "")
		return
	}
	t.set("kpoints", key, n)
}

// spacing is VASP's KSPACING: 1/Å with the 2π, as here.
func spacing(t *translation, key string, v any) {
	t.set("kpoints", key, map[string]any{"spacing": v})
}

// smearing is the name of one, a width in Ry, or an object of both.
func smearing(t *translation, key string, v any) {
	switch v := v.(type) {
	case string:
		switch fold(v) {
		case "none", "fixed", "off":
			t.set("occupations", key, "fixed")
		case "tetrahedra", "tetrahedron":
			t.set("occupations", key, "tetrahedra")
		default:
			worded("smearing", smearingWords)(t, key, v)
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			switch fold(name) {
			case "type", "method", "kind", "name":
				smearing(t, key+"."+name, v[name])
			case "degauss", "width_ry", "degauss_ry":
				t.set("degauss", key+"."+name, v[name])
			case "sigma", "width_ev", "degauss_ev":
				scaled("degauss", ryPerEV)(t, key+"."+name, v[name])
			default:
				t.add(key+"."+name, "can mean several things", show(v[name]), "give type, and degauss in Ry or sigma in eV")
			}
		}
	default:
		t.add(key, "is no name of a smearing", show(v), "give the name, and degauss in Ry or sigma in eV")
	}
}

func smearingNumber(t *translation, key string, v any) {
	n, ok := whole(v)
	switch word := ismear[n]; {
	case ok && n == -5:
		t.set("occupations", key, "tetrahedra")
	case ok && word != "":
		t.set("smearing", key, word)
	default:
		t.add(key, "is no smearing that pw.x has", show(v), "name it: smearing gaussian, methfessel-paxton, cold or fermi-dirac")
	}
}

// ionicThreshold is VASP's EDIFFG: eV when positive, eV/Å when negative.
func ionicThreshold(t *translation, key string, v any) {
	x, ok := number(v)
	switch {
	case !ok || x == 0:
		t.add(key, "is no threshold", show(v), "")
	case x < 0:
		t.set("forc_conv_thr", key, round(math.Abs(x)*forceUnit))
	default:
		t.set("etot_conv_thr", key, round(x*ryPerEV))
	}
}

func spinPolarized(t *translation, key string, v any) {
	on, ok := v.(bool)
	switch {
	case !ok:
		t.add(key, "is neither true nor false", show(v), "give nspin: 2")
	case on:
		t.set("nspin", key, int64(2))
	default:
		t.set("nspin", key, int64(1))
	}
}

// namelist is one of pw.x's own. Variables that are parameters of the engine
// become those.
func namelist(t *translation, key string, v any) {
	list, ok := v.(map[string]any)
	if !ok {
		t.add(key, "is no namelist", show(v), "give an object of variables")
		return
	}
	name := strings.TrimPrefix(fold(key), "namelists.")
	name = strings.TrimPrefix(name, "input_data.")
	for _, variable := range slices.Sorted(maps.Keys(list)) {
		value := list[variable]
		folded := fold(variable)
		if slices.Contains(espressoOwn, folded) {
			espressoVariable(t, key+"."+variable, folded, value)
			continue
		}
		lists, _ := t.out["namelists"].(map[string]any)
		if lists == nil {
			lists = map[string]any{}
			t.out["namelists"] = lists
		}
		variables, _ := lists[name].(map[string]any)
		if variables == nil {
			variables = map[string]any{}
			lists[name] = variables
		}
		variables[folded] = value
	}
}

// espressoVariable sets a parameter that a namelist gave: it has pw.x's spelling.
func espressoVariable(t *translation, key, name string, v any) {
	if name == "calculation" {
		worded(name, calculationWords)(t, key, v)
		return
	}
	t.set(name, key, v)
}

// namelists are several, by name.
func namelists(t *translation, key string, v any) {
	lists, ok := v.(map[string]any)
	if !ok {
		t.add(key, "is no object of namelists", show(v), "")
		return
	}
	for _, name := range slices.Sorted(maps.Keys(lists)) {
		namelist(t, fold(key)+"."+name, lists[name])
	}
}
