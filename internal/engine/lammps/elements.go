package lammps

import (
	"github.com/nano-os/nanoos/internal/crystal"
)

// maxTypes bounds the atom types that elements are kept for.
const maxTypes = 4096

func (j *journal) setElement(t int, symbol string) {
	if t < 1 || t > maxTypes {
		return
	}
	if j.elements == nil {
		j.elements = make(map[int]string)
	}
	j.elements[t] = symbol
}

func (j *journal) setMass(t int, mass float64) {
	if t < 1 || t > maxTypes {
		return
	}
	if j.masses == nil {
		j.masses = make(map[int]float64)
	}
	j.masses[t] = mass
}

// pairElements reads the elements of a many-body potential: "* * FILE Al Cu"
// names one for every type in order, and NULL leaves a type to others.
func (j *journal) pairElements(w []string) {
	if len(w) < 4 || w[0] != "*" || w[1] != "*" {
		return
	}
	first := len(w)
	for first > 3 && (isElement(w[first-1]) || w[first-1] == "NULL") {
		first--
	}
	for i, symbol := range w[first:] {
		if symbol != "NULL" {
			j.setElement(i+1, symbol)
		}
	}
}

func isElement(s string) bool {
	_, ok := crystal.ElementOf(s)
	return ok
}

// element says which element an atom type is: by the script and the data files,
// else by its mass, of which one is massU u.
func (j *journal) element(t int, massU float64) string {
	if e := j.elements[t]; e != "" {
		return e
	}
	return crystal.ElementOfMass(j.masses[t] * massU)
}
