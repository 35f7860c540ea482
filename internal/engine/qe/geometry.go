package qe

import (
	"math"

	"github.com/nano-os/nanoos/internal/crystal"
)

const bohr3 = crystal.BohrA * crystal.BohrA * crystal.BohrA

func scale(v [3]float64, f float64) crystal.Vector {
	return crystal.Vector{v[0] * f, v[1] * f, v[2] * f}
}

func length(v [3]float64) float64 {
	return math.Sqrt(v[0]*v[0] + v[1]*v[1] + v[2]*v[2])
}
