package lammps

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// params are the parameters of the schema.
type params struct {
	Task               string     `json:"task"`
	Units              string     `json:"units"`
	Potential          *potential `json:"potential"`
	Steps              int64      `json:"steps"`
	TimestepFS         float64    `json:"timestep_fs"`
	Temperature        *span      `json:"temperature"`
	InitialTemperature *float64   `json:"initial_temperature"`
	Seed               int64      `json:"seed"`
	Pressure           span       `json:"pressure"`
	Coupling           string     `json:"coupling"`
	ThermostatFS       float64    `json:"thermostat_damping_fs"`
	BarostatFS         float64    `json:"barostat_damping_fs"`
	Supercell          [3]int     `json:"supercell"`
	BoxRelax           string     `json:"box_relax"`
	Minimizer          string     `json:"minimizer"`
	EnergyTolerance    float64    `json:"energy_tolerance"`
	ForceTolerance     float64    `json:"force_tolerance"`
	ThermoEvery        int64      `json:"thermo_every"`
	DumpEvery          int64      `json:"dump_every"`
	NeighborSkin       float64    `json:"neighbor_skin"`
	Input              string     `json:"input"`
}

// potential is how atoms interact.
type potential struct {
	Style    string         `json:"style"`
	File     potentialFiles `json:"file"`
	Elements []string       `json:"elements"`
	Coeffs   []string       `json:"coeffs"`
}

// potentialFiles is one file for all elements, or one for each.
type potentialFiles struct {
	one  string
	each map[string]string
}

// UnmarshalJSON reads a name or an object of names by element.
func (p *potentialFiles) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		return json.Unmarshal(b, &p.each)
	}
	return json.Unmarshal(b, &p.one)
}

// span is a quantity that may change evenly over the run.
type span [2]float64

// UnmarshalJSON reads a number or two.
func (s *span) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		var two [2]float64
		err := json.Unmarshal(b, &two)
		*s = two
		return err
	}
	var one float64
	err := json.Unmarshal(b, &one)
	*s = span{one, one}
	return err
}

// Tasks of the schema.
const (
	taskMinimize = "minimize"
	taskNVT      = "nvt"
	taskNPT      = "npt"
	taskNVE      = "nve"
)

var tasks = []string{taskMinimize, taskNVT, taskNPT, taskNVE}

// readParams validates and fills in the defaults of the schema. With problems
// come the parameters that have none.
func readParams(raw json.RawMessage) (params, []job.Problem) {
	p := params{
		Units: "metal", TimestepFS: 1, Seed: 12345, Coupling: "iso", Supercell: [3]int{1, 1, 1}, BoxRelax: "none",
		Minimizer: "cg", EnergyTolerance: 1e-12, ForceTolerance: 1e-8, NeighborSkin: 2,
	}
	problems := engine.Decode(schema, raw, &p)
	if len(problems) > 0 {
		_ = json.Unmarshal(raw, &p) // leaves out what it cannot read, which the problems name
	}
	if p.Steps == 0 {
		p.Steps = 1000
		if p.Task == taskMinimize {
			p.Steps = 10000
		}
	}
	if p.ThermoEvery == 0 {
		p.ThermoEvery = 100
		if p.Task == taskMinimize {
			p.ThermoEvery = 10
		}
	}
	if p.ThermostatFS == 0 {
		p.ThermostatFS = 100 * p.TimestepFS
	}
	if p.BarostatFS == 0 {
		p.BarostatFS = 1000 * p.TimestepFS
	}
	return p, problems
}

// check returns what the schema cannot say: parameters that need each other. A
// task that there is not is a problem of the schema.
func (p *params) check(given map[string]json.RawMessage) []job.Problem {
	var out []job.Problem
	add := func(field, message, fix string) {
		out = append(out, job.Problem{Field: "parameters." + field, Message: message, Fix: fix})
	}
	if p.Task == "" {
		add("task", "is required and missing", "choose minimize, nvt, npt or nve")
	}
	if p.Potential == nil {
		add("potential", "is required and missing", `for example {style: eam/alloy, file: Al_zhou.eam.alloy}`)
	}
	if (p.Task == taskNVT || p.Task == taskNPT) && p.Temperature == nil {
		add("temperature", "is required for "+p.Task+" and missing", "give the temperature in K")
	}
	for _, only := range taskKeys {
		if _, ok := given[only.key]; ok && slices.Contains(tasks, p.Task) && !slices.Contains(only.tasks, p.Task) {
			add(only.key, fmt.Sprintf("does not go with task %s", p.Task), "remove it")
		}
	}
	if p.Task == taskMinimize && p.BoxRelax != "none" && p.Minimizer == "fire" {
		add("minimizer", "fire cannot relax the cell", "use cg or sd")
	}
	if p.Task == taskMinimize && p.Pressure[0] != p.Pressure[1] {
		add("pressure", "a minimisation has one pressure", "give one value")
	}
	return out
}

// taskKeys are the parameters that only some tasks have.
var taskKeys = []struct {
	key   string
	tasks []string
}{
	{"temperature", []string{taskNVT, taskNPT}},
	{"initial_temperature", []string{taskNVT, taskNPT, taskNVE}},
	{"seed", []string{taskNVT, taskNPT, taskNVE}},
	{"timestep_fs", []string{taskNVT, taskNPT, taskNVE}},
	{"thermostat_damping_fs", []string{taskNVT, taskNPT}},
	{"barostat_damping_fs", []string{taskNPT}},
	{"coupling", []string{taskNPT}},
	{"pressure", []string{taskNPT, taskMinimize}},
	{"box_relax", []string{taskMinimize}},
	{"minimizer", []string{taskMinimize}},
	{"energy_tolerance", []string{taskMinimize}},
	{"force_tolerance", []string{taskMinimize}},
}
