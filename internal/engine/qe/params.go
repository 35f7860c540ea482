package qe

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// params are the parameters of a job; the schema says what they mean. A pointer
// is nil where pw.x's own default applies.
type params struct {
	Calculation           string             `json:"calculation"`
	Input                 string             `json:"input"`
	Ecutwfc               *float64           `json:"ecutwfc"`
	Ecutrho               *float64           `json:"ecutrho"`
	KPoints               kpoints            `json:"kpoints"`
	SCFKPoints            kpoints            `json:"scf_kpoints"`
	Pseudopotentials      map[string]string  `json:"pseudopotentials"`
	Occupations           string             `json:"occupations"`
	Smearing              string             `json:"smearing"`
	Degauss               *float64           `json:"degauss"`
	Nbnd                  *int               `json:"nbnd"`
	Nspin                 *int               `json:"nspin"`
	StartingMagnetization map[string]float64 `json:"starting_magnetization"`
	TotMagnetization      *float64           `json:"tot_magnetization"`
	TotCharge             *float64           `json:"tot_charge"`
	ConvThr               *float64           `json:"conv_thr"`
	MixingBeta            *float64           `json:"mixing_beta"`
	MixingMode            string             `json:"mixing_mode"`
	ElectronMaxstep       *int               `json:"electron_maxstep"`
	Diagonalization       string             `json:"diagonalization"`
	EtotConvThr           *float64           `json:"etot_conv_thr"`
	ForcConvThr           *float64           `json:"forc_conv_thr"`
	PressConvThr          *float64           `json:"press_conv_thr"`
	Nstep                 *int               `json:"nstep"`
	CellDofree            string             `json:"cell_dofree"`
	Press                 *float64           `json:"press"`
	InputDFT              string             `json:"input_dft"`
	VdwCorr               string             `json:"vdw_corr"`
	AssumeIsolated        string             `json:"assume_isolated"`
	DiskIO                string             `json:"disk_io"`
	Ranks                 int                `json:"ranks"`
	Pools                 int                `json:"pools"`
	// Namelists are further variables, by namelist and name.
	Namelists map[string]map[string]any `json:"namelists"`
}

// kpoints is one of a mesh, Gamma alone, a spacing, or a path.
type kpoints struct {
	mesh, shift [3]int
	gamma       bool
	spacing     float64 // 1/Å, with 2π; 0 without
	path        []corner
	points      int // between two corners
}

type corner struct {
	k     [3]float64
	label string
}

// defaultSpacing in 1/Å is a mesh that converges most solids to a few meV an
// atom.
const defaultSpacing = 0.25

// UnmarshalJSON implements json.Unmarshaler; the schema has checked the form.
func (k *kpoints) UnmarshalJSON(b []byte) error {
	*k = kpoints{}
	var word string
	if json.Unmarshal(b, &word) == nil {
		k.gamma = word == "gamma"
		return nil
	}
	var list []int
	if json.Unmarshal(b, &list) == nil {
		if len(list) == 3 || len(list) == 6 { // else the mesh stays without points, and is refused
			copy(k.mesh[:], list)
			copy(k.shift[:], list[3:])
		}
		return nil
	}
	var o struct {
		Spacing float64 `json:"spacing"`
		Path    [][]any `json:"path"`
		Points  *int    `json:"points"`
	}
	if err := json.Unmarshal(b, &o); err != nil {
		return fmt.Errorf("k-points: %w", err)
	}
	k.spacing, k.points = o.Spacing, 20
	if o.Points != nil {
		k.points = *o.Points
	}
	for _, row := range o.Path {
		var c corner
		for i, v := range row {
			switch v := v.(type) {
			case float64:
				c.k[min(i, 2)] = v
			case string:
				c.label = v
			}
		}
		k.path = append(k.path, c)
	}
	return nil
}

// readParams reads the parameters. After a problem of form it goes on with what
// can be read, so that all problems come at once.
func readParams(raw json.RawMessage) (params, []job.Problem) {
	p := params{Calculation: "scf", KPoints: kpoints{spacing: defaultSpacing}, SCFKPoints: kpoints{spacing: defaultSpacing}}
	problems := engine.Decode(schema, raw, &p)
	if len(problems) > 0 {
		_ = json.Unmarshal(raw, &p) // leaves out what it cannot read, which the problems name
	}
	return p, withMeaning(problems, slices.Concat(p.checkKPoints(), p.checkOccupations(), p.checkNamelists()))
}

func (p *params) checkKPoints() []job.Problem {
	var out []job.Problem
	if p.Calculation == "bands" && p.KPoints.path == nil {
		out = append(out, job.Problem{Field: "parameters.kpoints", Message: "bands need a path",
			Fix: "give kpoints: {path: [[0.5, 0.5, 0.5, L], [0, 0, 0, Γ], [0.5, 0, 0.5, X]]}"})
	}
	if p.Calculation != "bands" && slices.Contains(calculations, p.Calculation) && p.KPoints.path != nil {
		out = append(out, job.Problem{Field: "parameters.kpoints.path", Message: "a path of k-points is for bands only",
			Fix: "set calculation: bands, or give a mesh"})
	}
	for name, k := range map[string]kpoints{"kpoints": p.KPoints, "scf_kpoints": p.SCFKPoints} {
		switch {
		case k.gamma || k.spacing > 0 || k.path != nil:
		case slices.Min(k.mesh[:]) < 1 || slices.Min(k.shift[:]) < 0 || slices.Max(k.shift[:]) > 1:
			out = append(out, job.Problem{Field: "parameters." + name, Message: "a mesh is three numbers from 1, with or without three shifts of 0 or 1", Fix: "write [4, 4, 4] or [4, 4, 4, 1, 1, 1]"})
		}
	}
	return out
}

func (p *params) checkOccupations() []job.Problem {
	var out []job.Problem
	if p.Occupations == "" && (p.Smearing != "" || p.Degauss != nil) {
		p.Occupations = "smearing"
	}
	if p.Occupations == "" {
		p.Occupations = "fixed"
	}
	if p.Occupations != "smearing" && (p.Smearing != "" || p.Degauss != nil) {
		out = append(out, job.Problem{Field: "parameters.occupations", Message: "smearing and degauss need occupations: smearing", Why: "occupations is " + p.Occupations})
	}
	if len(p.StartingMagnetization) > 0 && p.Nspin == nil {
		p.Nspin = new(2)
	}
	if p.Nspin != nil && *p.Nspin == 1 && (len(p.StartingMagnetization) > 0 || p.TotMagnetization != nil) {
		out = append(out, job.Problem{Field: "parameters.nspin", Message: "a magnetisation needs nspin: 2"})
	}
	if p.TotMagnetization != nil && p.Nspin == nil {
		p.Nspin = new(2)
	}
	return out
}

// noncollinear reports whether the passthrough asks for spins in any direction.
func (p *params) noncollinear() bool {
	v, _ := p.Namelists["system"]["noncolin"].(bool)
	return v
}

// refused are variables that a job may not set, and why. What has a parameter
// of its own must be set there, so that one value counts.
var refused = map[string]string{
	"outdir": "files stay in the work directory", "wfcdir": "files stay in the work directory", "pseudo_dir": "pseudopotentials are staged by us",
	"prefix": "results are looked for under our prefix", "lkpoint_dir": "files stay in the work directory", "input_xml_schema_file": "files stay in the work directory",
	"dmft_prefix": "files stay in the work directory", "max_seconds": "it follows from resources.walltime", "restart_mode": "every attempt starts from scratch",
	"ibrav": "the cell is that of structure", "celldm": "the cell is that of structure", "a": "the cell is that of structure", "b": "the cell is that of structure",
	"c": "the cell is that of structure", "cosab": "the cell is that of structure", "cosac": "the cell is that of structure", "cosbc": "the cell is that of structure",
	"nat": "it is that of structure", "ntyp": "it is that of structure", "space_group": "the cell is that of structure",
	"tprnfor": "forces are always printed", "tstress": "stress is always printed",
}

// ownParameters are variables with a parameter of the same name.
var ownParameters = []string{
	"calculation", "ecutwfc", "ecutrho", "occupations", "smearing", "degauss", "nbnd", "nspin", "starting_magnetization", "tot_magnetization", "tot_charge",
	"conv_thr", "mixing_beta", "mixing_mode", "electron_maxstep", "diagonalization", "etot_conv_thr", "forc_conv_thr", "press_conv_thr", "nstep",
	"cell_dofree", "press", "input_dft", "vdw_corr", "assume_isolated", "disk_io",
}

func (p *params) checkNamelists() []job.Problem {
	var out []job.Problem
	for _, list := range slices.Sorted(maps.Keys(p.Namelists)) {
		seen := map[string]bool{}
		for _, name := range slices.Sorted(maps.Keys(p.Namelists[list])) {
			if lower := strings.ToLower(name); seen[lower] {
				out = append(out, job.Problem{Field: "parameters.namelists." + list + "." + name, Message: lower + " is given twice", Why: "pw.x reads names in any case", Fix: "remove one"})
			} else {
				seen[lower] = true
			}
			if problem, bad := checkVariable(list, name, p.Namelists[list][name]); bad {
				out = append(out, problem)
			}
		}
		if slices.Contains(calculations, p.Calculation) && (list == "ions" && !moves(p.Calculation) || list == "cell" && !changesCell(p.Calculation)) {
			out = append(out, job.Problem{Field: "parameters.namelists." + list, Message: fmt.Sprintf("a calculation of %s does not read &%s", p.Calculation, strings.ToUpper(list))})
		}
	}
	return out
}

func checkVariable(list, name string, value any) (job.Problem, bool) {
	problem := job.Problem{Field: "parameters.namelists." + list + "." + name}
	base, index, indexed := strings.Cut(strings.ToLower(name), "(")
	why, isRefused := refused[base]
	switch {
	case isRefused:
		problem.Message, problem.Why, problem.Fix = name+" may not be set", why, "remove it"
	case slices.Contains(ownParameters, base):
		problem.Message, problem.Fix = name+" has a parameter of its own", "set parameters."+base
	case !slices.Contains(knownVariables[list], base):
		problem.Message, problem.Fix = fmt.Sprintf("&%s has no variable %q", strings.ToUpper(list), name), unknownVariable(list, base)
	case indexed && (!strings.HasSuffix(index, ")") || strings.Trim(index, "0123456789,)") != ""):
		problem.Message, problem.Fix = fmt.Sprintf("%q is no name of a variable", name), "write "+base+"(1)"
	default:
		text, isText := value.(string)
		if !isText || len(text) <= 200 && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return problem, false
		}
		problem.Message = "the value is too long, or has control characters"
	}
	return problem, true
}

// unknownVariable suggests what was meant.
func unknownVariable(list, name string) string {
	if near := job.Nearest(name, slices.Values(knownVariables[list])); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	for _, other := range slices.Sorted(maps.Keys(knownVariables)) {
		if slices.Contains(knownVariables[other], name) {
			return "it belongs to &" + strings.ToUpper(other)
		}
	}
	return "remove it"
}
