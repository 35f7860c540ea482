package crystal

import (
	"math"
)

// niggliTolerance, times the cube root of the volume, is the difference in
// length below which two are equal. It is far above rounding and far below what
// an experiment or a relaxation tells apart.
const niggliTolerance = 1e-5

// maxNiggliSteps is beyond every lattice: each step shortens a vector or orders
// them, and starting from short vectors there are few.
const maxNiggliSteps = 1000

// Niggli returns the reduced vectors of the lattice, the same for every choice
// of its cell up to a turn in space: short, with angles all acute or none
// (I. Křivý and B. Gruber, Acta Cryst. A32, 297, 1976; with a tolerance as in
// R. W. Grosse-Kunstleve and others, Acta Cryst. A60, 1, 2004). They are
// right-handed.
func (m *Matrix) Niggli() Matrix {
	r := *m
	reduceVectors(r[:]) // of a very oblique cell, which the steps take long for
	n := &niggli{m: r, epsilon: niggliTolerance * math.Cbrt(math.Abs(m.Det()))}
	for range maxNiggliSteps {
		if !n.step() {
			break
		}
	}
	if n.m.Det() < 0 {
		for k := range n.m {
			n.m[k] = n.m[k].scale(-1)
		}
	}
	return n.m
}

type niggli struct {
	m       Matrix
	epsilon float64 // Å
}

// step does one round of the algorithm; false means that the cell is reduced.
// a, b, c are the squared lengths and xi, eta, zeta twice the products of b·c,
// a·c and a·b.
func (n *niggli) step() bool {
	v := &n.m
	a, b, c := v[0].Dot(v[0]), v[1].Dot(v[1]), v[2].Dot(v[2])
	eps := n.epsilon * math.Cbrt(math.Abs(v.Det()))
	less := func(x, y float64) bool { return x < y-eps }
	equal := func(x, y float64) bool { return math.Abs(x-y) <= eps }
	xi, eta, zeta := 2*v[1].Dot(v[2]), 2*v[0].Dot(v[2]), 2*v[0].Dot(v[1])
	if less(b, a) || equal(a, b) && less(math.Abs(eta), math.Abs(xi)) {
		v[0], v[1] = v[1].scale(-1), v[0].scale(-1)
		return true
	}
	if less(c, b) || equal(b, c) && less(math.Abs(zeta), math.Abs(eta)) {
		v[1], v[2] = v[2].scale(-1), v[1].scale(-1)
		return true
	}
	xi, eta, zeta = n.signs(xi, eta, zeta, eps)
	switch {
	case less(b, math.Abs(xi)) || equal(xi, b) && less(2*eta, zeta) || equal(xi, -b) && less(zeta, 0):
		v[2] = v[2].sub(v[1].scale(math.Copysign(1, xi)))
	case less(a, math.Abs(eta)) || equal(eta, a) && less(2*xi, zeta) || equal(eta, -a) && less(zeta, 0):
		v[2] = v[2].sub(v[0].scale(math.Copysign(1, eta)))
	case less(a, math.Abs(zeta)) || equal(zeta, a) && less(2*xi, eta) || equal(zeta, -a) && less(eta, 0):
		v[1] = v[1].sub(v[0].scale(math.Copysign(1, zeta)))
	case less(xi+eta+zeta+a+b, 0) || equal(xi+eta+zeta+a+b, 0) && less(0, 2*(a+eta)+zeta):
		v[2] = v[2].add(v[0]).add(v[1])
	default:
		return false
	}
	return true
}

// signs turns vectors around so that the products are all positive, or all
// negative or zero.
func (n *niggli) signs(xi, eta, zeta, eps float64) (float64, float64, float64) {
	products := [3]float64{xi, eta, zeta}
	turn := [3]float64{1, 1, 1}
	positive, zero, last := 0, 0, -1
	for k, p := range products {
		switch {
		case p > eps:
			positive++
		case p < -eps:
			turn[k] = -1
		default:
			zero++
			last = k
		}
	}
	negative := 3 - positive - zero
	if positive != 3 && !(zero == 0 && negative%2 == 0) {
		// Not all can be positive: make those that are negative.
		turn = [3]float64{1, 1, 1}
		for k, p := range products {
			if p > eps {
				turn[k] = -1
			}
		}
	}
	if turn[0]*turn[1]*turn[2] < 0 && last >= 0 {
		turn[last] *= -1
	}
	for k := range n.m {
		n.m[k] = n.m[k].scale(turn[k])
	}
	return turn[1] * turn[2] * xi, turn[0] * turn[2] * eta, turn[0] * turn[1] * zeta
}
