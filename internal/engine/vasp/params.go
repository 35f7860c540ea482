package vasp

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// params are the parameters of a job; the schema says what they mean. A pointer
// is nil where a default applies that depends on the rest.
type params struct {
	Calculation string            `json:"calculation"`
	Variant     string            `json:"variant"`
	Encut       *float64          `json:"encut"`
	KPoints     kpoints           `json:"kpoints"`
	SCFKPoints  kpoints           `json:"scf_kpoints"`
	Potentials  map[string]string `json:"potentials"`
	Prec        string            `json:"prec"`
	Algo        string            `json:"algo"`
	Ediff       float64           `json:"ediff"`
	Ediffg      float64           `json:"ediffg"`
	Nelm        int               `json:"nelm"`
	Nsw         int               `json:"nsw"`
	Ismear      int               `json:"ismear"`
	Sigma       float64           `json:"sigma"`
	Ispin       int               `json:"ispin"`
	Temperature float64           `json:"temperature"`
	Potim       float64           `json:"potim"`
	INCAR       map[string]any    `json:"incar"`
	Ranks       int               `json:"ranks"`
}

// kpoints is one of a mesh, Gamma alone, a spacing, or a path.
type kpoints struct {
	mesh, shift [3]int
	spacing     float64 // 1/Å, with 2π; 0 without
	path        []corner
	points      int // on each line
}

type corner struct {
	k     crystal.Vector
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
		k.mesh = [3]int{1, 1, 1}
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

func readParams(raw json.RawMessage) (params, []job.Problem) {
	p := params{Calculation: "static", KPoints: kpoints{spacing: defaultSpacing}, SCFKPoints: kpoints{spacing: defaultSpacing}, Prec: "Accurate",
		Ediff: 1e-6, Ediffg: -0.02, Nelm: 100, Nsw: 100, Sigma: 0.05, Temperature: 300, Potim: 1}
	problems := engine.Decode(schema, raw, &p)
	if len(problems) > 0 {
		_ = json.Unmarshal(raw, &p) // leaves out what it cannot read, which the problems name
	}
	return p, append(problems, p.checkKPoints()...)
}

func (p *params) checkKPoints() []job.Problem {
	var out []job.Problem
	if (p.Calculation == "bands") != (p.KPoints.path != nil) {
		out = append(out, job.Problem{Field: "parameters.kpoints", Message: "bands need a path of k-points, and nothing else takes one", Fix: "give kpoints: {path: [[0.5, 0.5, 0.5, L], [0, 0, 0, Γ]]}, or a mesh"})
	}
	for _, k := range []struct {
		name string
		k    kpoints
	}{{"kpoints", p.KPoints}, {"scf_kpoints", p.SCFKPoints}} {
		if k.k.spacing > 0 || k.k.path != nil && k.name == "kpoints" {
			continue
		}
		if slices.Min(k.k.mesh[:]) < 1 || slices.Min(k.k.shift[:]) < 0 || slices.Max(k.k.shift[:]) > 1 {
			out = append(out, job.Problem{Field: "parameters." + k.name, Message: "a mesh is three numbers from 1, with or without three shifts of 0 or 1", Fix: "write [4, 4, 4] or [4, 4, 4, 1, 1, 1]"})
		}
	}
	return out
}

// tag is a line of INCAR.
type tag struct{ name, value string }

// text writes a value as Fortran reads it. A line break would begin another
// tag.
func tagText(v any) (string, bool) {
	switch v := v.(type) {
	case bool:
		if v {
			return ".TRUE.", true
		}
		return ".FALSE.", true
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1e15 {
			return strconv.FormatInt(int64(v), 10), true
		}
		return strconv.FormatFloat(v, 'g', -1, 64), true
	case string:
		return v, !strings.ContainsAny(v, "\r\n;#!\\\x00\"{}") && len(v) <= 1000
	case []any:
		var words []string
		for _, e := range v {
			w, ok := tagText(e)
			if !ok {
				return "", false
			}
			words = append(words, w)
		}
		return strings.Join(words, " "), true
	}
	return "", false
}

func givenKeys(raw []byte) []string {
	var given map[string]json.RawMessage
	if json.Unmarshal(raw, &given) != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(given))
}
