package lammps

import (
	"strings"

	"github.com/nano-os/nanoos/internal/crystal"
)

// unitStyle is one of the unit systems of the units command: factors to the
// units of the results, and the names that its columns carry.
type unitStyle struct {
	name                                       string
	length, energy, pressure, force            float64 // to Å, eV, GPa, eV/Å
	density, mass, velocity                    float64 // to g/cm³, u, Å/fs
	lengthU, energyU, pressureU, forceU, timeU string
	densityU                                   string
}

const (
	jouleEV     = 1 / 1.602176634e-19
	newtonEVA   = jouleEV / 1e10 // 1 N in eV/Å
	kilogramU   = crystal.AvogadroPerMol * 1e3
	metrePerSec = 1e-5 // 1 m/s in Å/fs
	// atomicTimeFS is the LAMMPS unit of time in the velocities of electron units.
	atomicTimeFS = 1.03275e-15 * 1e15
)

// styles of the units command with physical units. The style lj is not here: its
// numbers have no unit and are never converted.
var styles = map[string]unitStyle{
	"metal": {
		name: "metal", length: 1, energy: 1, pressure: crystal.BarGPa, force: 1, density: 1, mass: 1, velocity: 1e-3,
		lengthU: "Å", energyU: "eV", pressureU: "bar", forceU: "eV/Å", timeU: "ps", densityU: "g/cm³",
	},
	"real": {
		name: "real", length: 1, energy: crystal.KcalPerMolEV, pressure: crystal.AtmosphereGPa, force: crystal.KcalPerMolEV, density: 1, mass: 1, velocity: 1,
		lengthU: "Å", energyU: "kcal/mol", pressureU: "atm", forceU: "kcal/(mol Å)", timeU: "fs", densityU: "g/cm³",
	},
	"si": {
		name: "si", length: 1e10, energy: jouleEV, pressure: 1e-9, force: newtonEVA, density: 1e-3, mass: kilogramU, velocity: metrePerSec,
		lengthU: "m", energyU: "J", pressureU: "Pa", forceU: "N", timeU: "s", densityU: "kg/m³",
	},
	"cgs": {
		name: "cgs", length: 1e8, energy: jouleEV * 1e-7, pressure: 1e-10, force: newtonEVA * 1e-5, density: 1, mass: kilogramU * 1e-3, velocity: metrePerSec * 1e-2,
		lengthU: "cm", energyU: "erg", pressureU: "dyn/cm²", forceU: "dyn", timeU: "s", densityU: "g/cm³",
	},
	"electron": {
		name: "electron", length: crystal.BohrA, energy: crystal.HartreeEV, pressure: 1e-9, force: crystal.HaPerBohrEVPerA,
		density: crystal.AMUPerA3GPerCM3 / (crystal.BohrA * crystal.BohrA * crystal.BohrA), mass: 1, velocity: crystal.BohrA / atomicTimeFS,
		lengthU: "bohr", energyU: "Ha", pressureU: "Pa", forceU: "Ha/bohr", timeU: "fs", densityU: "u/bohr³",
	},
	"micro": {
		name: "micro", length: 1e4, energy: jouleEV * 1e-15, pressure: 1e-6, force: newtonEVA * 1e-9, density: 1, mass: kilogramU * 1e-15, velocity: metrePerSec,
		lengthU: "µm", energyU: "pg µm²/µs²", pressureU: "pg/(µm µs²)", forceU: "pg µm/µs²", timeU: "µs", densityU: "pg/µm³",
	},
	"nano": {
		name: "nano", length: 10, energy: jouleEV * 1e-21, pressure: 1e-3, force: newtonEVA * 1e-12, density: 1e3, mass: kilogramU * 1e-21, velocity: metrePerSec,
		lengthU: "nm", energyU: "ag nm²/ns²", pressureU: "ag/(nm ns²)", forceU: "ag nm/ns²", timeU: "ns", densityU: "ag/nm³",
	},
}

const reduced = "lj"

func isUnits(name string) bool {
	_, ok := styles[name]
	return ok || name == reduced
}

// dimension is what a thermo column measures.
type dimension int

const (
	dimUser dimension = iota // a column of the user's own: c_, v_, f_, or unknown
	dimNone
	dimTemperature
	dimEnergy
	dimPressure
	dimLength
	dimVolume
	dimDensity
	dimForce
	dimTime
	dimAngle
	dimSeconds // of the wall clock
)

// columnDimensions has the names in thermo headers, in lower case, with those of
// thermo_style multi.
var columnDimensions = map[string]dimension{
	"step": dimNone, "elapsed": dimNone, "elaplong": dimNone, "atoms": dimNone, "nbuild": dimNone, "ndanger": dimNone, "bonds": dimNone,
	"part": dimNone, "s/cpu": dimNone, "spcpu": dimNone, "t/cpu": dimNone, "tpcpu": dimNone,
	"temp":   dimTemperature,
	"poteng": dimEnergy, "kineng": dimEnergy, "toteng": dimEnergy, "enthalpy": dimEnergy, "econserve": dimEnergy, "ecouple": dimEnergy,
	"press": dimPressure, "pxx": dimPressure, "pyy": dimPressure, "pzz": dimPressure, "pxy": dimPressure, "pxz": dimPressure, "pyz": dimPressure,
	"lx": dimLength, "ly": dimLength, "lz": dimLength, "xlo": dimLength, "xhi": dimLength, "ylo": dimLength, "yhi": dimLength, "zlo": dimLength, "zhi": dimLength,
	"xy": dimLength, "xz": dimLength, "yz": dimLength, "cella": dimLength, "cellb": dimLength, "cellc": dimLength,
	"avecx": dimLength, "avecy": dimLength, "avecz": dimLength, "bvecx": dimLength, "bvecy": dimLength, "bvecz": dimLength,
	"cvecx": dimLength, "cvecy": dimLength, "cvecz": dimLength,
	"volume": dimVolume, "density": dimDensity, "fmax": dimForce, "fnorm": dimForce, "dt": dimTime, "time": dimTime,
	"cellalpha": dimAngle, "cellbeta": dimAngle, "cellgamma": dimAngle, "cpu": dimSeconds, "cpuleft": dimSeconds, "timeremain": dimSeconds,
}

func dimensionOf(column string) dimension {
	c := strings.ToLower(column)
	if strings.HasPrefix(c, "e_") {
		return dimEnergy
	}
	return columnDimensions[c]
}

// unitOf names the unit of a column as it was printed; perAtom says that
// extensive columns were divided by the number of atoms.
func unitOf(column, units string, perAtom bool) string {
	d := dimensionOf(column)
	switch d {
	case dimSeconds:
		return "s"
	case dimAngle:
		return "°"
	case dimUser, dimNone:
		return ""
	}
	s, ok := styles[units]
	if !ok {
		if units != reduced {
			return ""
		}
		return "lj"
	}
	switch d {
	case dimTemperature:
		return "K"
	case dimEnergy:
		if perAtom {
			return s.energyU + "/atom"
		}
		return s.energyU
	case dimPressure:
		return s.pressureU
	case dimLength:
		return s.lengthU
	case dimVolume:
		return s.lengthU + "³"
	case dimDensity:
		return s.densityU
	case dimForce:
		return s.forceU
	default:
		return s.timeU
	}
}
