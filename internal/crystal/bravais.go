package crystal

import (
	"errors"
	"fmt"
	"math"
)

// Bravais returns the cell vectors of pw.x for ibrav and celldm(1…6), in Å;
// celldm(1) is in bohr, the others are ratios and cosines, as in its manual.
func Bravais(ibrav int, celldm [6]float64) (Matrix, error) {
	a := celldm[0]
	if !(a > 0) || a > 1e5 {
		return Matrix{}, errors.New("celldm(1), or A, is missing, not positive, or too large")
	}
	b, c := celldm[1]*a, celldm[2]*a
	needB, needC, cosines, known := celldmNeeded(ibrav)
	switch {
	case !known:
		return Matrix{}, errors.New("this ibrav is not known")
	case needB && !(b > 0):
		return Matrix{}, errors.New("celldm(2), or B, is missing or not positive")
	case needC && !(c > 0):
		return Matrix{}, errors.New("celldm(3), or C, is missing or not positive")
	}
	for _, i := range cosines {
		if !(math.Abs(celldm[i]) < 1) {
			return Matrix{}, fmt.Errorf("celldm(%d), a cosine, is not between -1 and 1", i+1)
		}
	}
	m := bravaisVectors(ibrav, a, b, c, celldm)
	for i := range m {
		m[i] = m[i].scale(BohrA)
	}
	if det := m.Det(); math.IsNaN(det) || math.IsInf(det, 0) || det == 0 {
		return Matrix{}, errors.New("the cell has no volume: check the cosines")
	}
	return m, nil
}

// celldmNeeded says which of celldm an ibrav reads beside the first.
func celldmNeeded(ibrav int) (b, c bool, cosines []int, known bool) {
	switch ibrav {
	case 1, 2, 3, -3:
		return false, false, nil, true
	case 4, 6, 7:
		return false, true, nil, true
	case 5, -5:
		return false, false, []int{3}, true
	case 8, 9, -9, 91, 10, 11:
		return true, true, nil, true
	case 12, 13:
		return true, true, []int{3}, true
	case -12, -13:
		return true, true, []int{4}, true
	case 14:
		return true, true, []int{3, 4, 5}, true
	}
	return false, false, nil, false
}

func bravaisVectors(ibrav int, a, b, c float64, celldm [6]float64) Matrix {
	h := a / 2
	switch ibrav {
	case 1:
		return Matrix{{a, 0, 0}, {0, a, 0}, {0, 0, a}}
	case 2:
		return Matrix{{-h, 0, h}, {0, h, h}, {-h, h, 0}}
	case 3:
		return Matrix{{h, h, h}, {-h, h, h}, {-h, -h, h}}
	case -3:
		return Matrix{{-h, h, h}, {h, -h, h}, {h, h, -h}}
	case 4:
		return Matrix{{a, 0, 0}, {-h, a * math.Sqrt(3) / 2, 0}, {0, 0, c}}
	case 5, -5:
		return trigonal(ibrav, a, celldm[3])
	case 6:
		return Matrix{{a, 0, 0}, {0, a, 0}, {0, 0, c}}
	case 7:
		return Matrix{{h, -h, c / 2}, {h, h, c / 2}, {-h, -h, c / 2}}
	case 8:
		return Matrix{{a, 0, 0}, {0, b, 0}, {0, 0, c}}
	case 9:
		return Matrix{{h, b / 2, 0}, {-h, b / 2, 0}, {0, 0, c}}
	case -9:
		return Matrix{{h, -b / 2, 0}, {h, b / 2, 0}, {0, 0, c}}
	case 91:
		return Matrix{{a, 0, 0}, {0, b / 2, -c / 2}, {0, b / 2, c / 2}}
	case 10:
		return Matrix{{h, 0, c / 2}, {h, b / 2, 0}, {0, b / 2, c / 2}}
	case 11:
		return Matrix{{h, b / 2, c / 2}, {-h, b / 2, c / 2}, {-h, -b / 2, c / 2}}
	case 12:
		return Matrix{{a, 0, 0}, {b * celldm[3], b * sine(celldm[3]), 0}, {0, 0, c}}
	case -12:
		return Matrix{{a, 0, 0}, {0, b, 0}, {c * celldm[4], 0, c * sine(celldm[4])}}
	case 13:
		return Matrix{{h, 0, -c / 2}, {b * celldm[3], b * sine(celldm[3]), 0}, {h, 0, c / 2}}
	case -13:
		return Matrix{{h, b / 2, 0}, {-h, b / 2, 0}, {c * celldm[4], 0, c * sine(celldm[4])}}
	}
	alpha, beta, gamma := celldm[3], celldm[4], celldm[5]
	y := (alpha - beta*gamma) / sine(gamma)
	return Matrix{
		{a, 0, 0}, {b * gamma, b * sine(gamma), 0},
		{c * beta, c * y, c * math.Sqrt(1-beta*beta-y*y)},
	}
}

func trigonal(ibrav int, a, cos float64) Matrix {
	tx, ty, tz := math.Sqrt((1-cos)/2), math.Sqrt((1-cos)/6), math.Sqrt((1+2*cos)/3)
	if ibrav == 5 {
		return Matrix{{a * tx, -a * ty, a * tz}, {0, 2 * a * ty, a * tz}, {-a * tx, -a * ty, a * tz}}
	}
	u, v := tz-2*math.Sqrt2*ty, tz+math.Sqrt2*ty
	f := a / math.Sqrt(3)
	return Matrix{{f * u, f * v, f * v}, {f * v, f * u, f * v}, {f * v, f * v, f * u}}
}

func sine(cos float64) float64 { return math.Sqrt(1 - cos*cos) }
