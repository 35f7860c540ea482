package engine

import (
	"encoding/json"
	"math"
	"strconv"

	"github.com/nano-os/nanoos/internal/job"
)

// Succeeded reports whether the outcome is a success.
func (o Outcome) Succeeded() bool { return o == Success || o == SuccessWithWarning }

// Class is the failure class that an outcome belongs to; "" for a success.
func (o Outcome) Class() job.Class {
	switch o {
	case Success, SuccessWithWarning:
		return ""
	case SCFNotConverged, IonicNotConverged, MinNotConverged, RecoverableError, Unstable, ResultInvalid:
		return job.ClassNumerical
	case TimeLimitGraceful, OutOfMemory, FileSystemError:
		return job.ClassResources
	case InputError, MissingFile, BadPseudopotential:
		return job.ClassInput
	case FeatureNotBuilt, LaunchError:
		return job.ClassEnvironment
	}
	return job.ClassProgram
}

// Summary is the result in numbers. Keys mean the same in every engine and
// carry their unit; what a code does not say is absent, never 0.
type Summary struct {
	Formula           string   `json:"formula,omitempty"` // of the cell, Hill order: "Si2"
	NAtoms            *int     `json:"natoms,omitempty"`
	VolumeA3          *float64 `json:"volume_A3,omitempty"`
	EnergyEV          *float64 `json:"energy_eV,omitempty"`
	EnergyPerAtomEV   *float64 `json:"energy_per_atom_eV,omitempty"`
	FreeEnergyEV      *float64 `json:"free_energy_eV,omitempty"`
	FermiEnergyEV     *float64 `json:"fermi_energy_eV,omitempty"`
	BandGapEV         *float64 `json:"band_gap_eV,omitempty"`
	BandGapDirect     *bool    `json:"band_gap_direct,omitempty"`
	MaxForceEVPerA    *float64 `json:"max_force_eV_per_A,omitempty"` // largest norm over atoms
	PressureGPa       *float64 `json:"pressure_GPa,omitempty"`       // positive: the cell wants to expand
	StressGPa         *Voigt   `json:"stress_GPa,omitempty"`
	TotalMagMuB       *float64 `json:"total_magnetization_muB,omitempty"`
	AbsoluteMagMuB    *float64 `json:"absolute_magnetization_muB,omitempty"`
	ConvergedElec     *bool    `json:"converged_electronic,omitempty"`
	ConvergedIonic    *bool    `json:"converged_ionic,omitempty"`
	NSCFIterations    *int     `json:"n_scf_iterations,omitempty"` // over the whole run
	NIonicSteps       *int     `json:"n_ionic_steps,omitempty"`
	NKPoints          *int     `json:"n_kpoints,omitempty"`
	NElectrons        *float64 `json:"n_electrons,omitempty"`
	NSteps            *int64   `json:"n_steps,omitempty"`
	TemperatureK      *float64 `json:"temperature_K,omitempty"`
	DensityGPerCM3    *float64 `json:"density_g_per_cm3,omitempty"`
	PotentialEnergyEV *float64 `json:"potential_energy_eV,omitempty"`
	KineticEnergyEV   *float64 `json:"kinetic_energy_eV,omitempty"`
	TotalEnergyEV     *float64 `json:"total_energy_eV,omitempty"`
	TemperatureMeanK  *float64 `json:"temperature_mean_K,omitempty"` // over the second half of the last run
	PressureMeanGPa   *float64 `json:"pressure_mean_GPa,omitempty"`  // over the second half of the last run
	VolumeMeanA3      *float64 `json:"volume_mean_A3,omitempty"`     // over the second half of the last run
	WallTimeS         *float64 `json:"wall_time_s,omitempty"`
	Program           string   `json:"program,omitempty"`
	ProgramVersion    string   `json:"program_version,omitempty"`
	// Units is "lj" when a LAMMPS run has no physical units; then no key that
	// names one is present, and Reduced has the numbers.
	Units   string             `json:"units,omitempty"`
	Reduced map[string]float64 `json:"reduced,omitempty"`
}

// Voigt is a symmetric tensor in the order xx yy zz yz xz xy. Stress is
// positive in tension, the negative of what QE, VASP and LAMMPS print.
type Voigt [6]float64

// Series is a table of numbers that a plot draws: one row per point.
type Series struct {
	Name    string   `json:"name"` // "scf", "ionic", "thermo"
	Title   string   `json:"title,omitempty"`
	X       string   `json:"x"` // the column on the horizontal axis
	Columns []Column `json:"columns"`
}

// Column is one quantity of a Series; all columns have the same length.
type Column struct {
	Name   string `json:"name"`
	Unit   string `json:"unit,omitempty"`
	Values Floats `json:"values"`
}

// Floats is a list of numbers in which NaN and infinities are null in JSON.
type Floats []float64

// MarshalJSON implements json.Marshaler.
func (f Floats) MarshalJSON() ([]byte, error) {
	b := []byte{'['}
	for i, v := range f {
		if i > 0 {
			b = append(b, ',')
		}
		if math.IsNaN(v) || math.IsInf(v, 0) {
			b = append(b, "null"...)
		} else {
			b = strconv.AppendFloat(b, v, 'g', -1, 64)
		}
	}
	return append(b, ']'), nil
}

// UnmarshalJSON reads null as NaN.
func (f *Floats) UnmarshalJSON(b []byte) error {
	var in []*float64
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	*f = make(Floats, len(in))
	for i, v := range in {
		(*f)[i] = math.NaN()
		if v != nil {
			(*f)[i] = *v
		}
	}
	return nil
}

// Structures are crystal.Structure values in JSON; absent ones were not known.
type Structures struct {
	Initial json.RawMessage `json:"initial,omitempty"`
	Final   json.RawMessage `json:"final,omitempty"`
}
