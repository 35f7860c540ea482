package lammps

import (
	"math"
	"strconv"
	"strings"

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

// massTolerance is how far people round masses: 63.55 for Cu, 28.06 for Si. No
// two elements are nearer than twice as much, except those told apart by 0.1.
const massTolerance = 0.05

// elementOfMass finds the only element with that mass in u; "" if there is none.
func elementOfMass(mass float64) string {
	found := ""
	for z := 1; z <= 118; z++ {
		e, _ := crystal.ElementOfZ(z)
		if math.Abs(e.Mass-mass) > massTolerance {
			continue
		}
		if found != "" {
			return ""
		}
		found = e.Symbol
	}
	return found
}

// massLine reads "1 22.98977 # Na" of a Masses section, also with a type label
// in place of the number.
func massLine(s string, labels map[string]int) (t int, mass float64, symbol string, ok bool) {
	text, comment, _ := strings.Cut(s, "#")
	f := strings.Fields(text)
	if len(f) != 2 {
		return 0, 0, "", false
	}
	t, err := strconv.Atoi(f[0])
	if err != nil {
		if t, ok = labels[f[0]]; !ok {
			return 0, 0, "", false
		}
	}
	mass, ok = parseNumber(f[1])
	if words := strings.Fields(comment); len(words) > 0 && isElement(words[0]) {
		symbol = words[0]
	}
	return t, mass, symbol, ok && t > 0
}

// typeElements says which element each of the types is: by the script and the
// data files, else by the mass, which needs physical units.
func (j *journal) typeElements(massU float64) func(t int) string {
	return func(t int) string {
		if e := j.elements[t]; e != "" {
			return e
		}
		if m := j.masses[t]; m > 0 && massU > 0 {
			return elementOfMass(m * massU)
		}
		return ""
	}
}
