package qe

import (
	"bytes"
	"math"
	"slices"
	"strconv"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/engine/printed"
	"github.com/nano-os/nanoos/internal/job"
)

// readIons reads forces, structures and the progress of relaxations and
// dynamics.
func (t *textRun) readIons(line []byte) bool {
	switch line[0] {
	case 'F':
		if bytes.HasPrefix(line, []byte("Forces acting on atoms")) {
			t.forces = t.forces[:0]
			t.block = t.forceBlock()
			return true
		}
		if bytes.HasPrefix(line, []byte("Final scf calculation at the relaxed structure")) {
			t.finalSCF = true
			return true
		}
		if bytes.HasPrefix(line, []byte("FIRE: convergence achieved")) {
			t.relaxed = true
			return true
		}
	case 'T':
		if v, ok := printed.After(line, "Total force ="); ok {
			t.totalForce = &v
			return true
		}
		if bytes.HasPrefix(line, []byte("The maximum number of steps has been reached")) {
			t.maxStepsReached = true
			return true
		}
	case 'A':
		switch {
		case bytes.HasPrefix(line, []byte("ATOMIC_POSITIONS")):
			t.block = t.positionsBlock(line)
			return true
		case bytes.HasPrefix(line, []byte("A final scf calculation")):
			t.finalSCF = true
			return true
		}
	case 'C':
		if bytes.HasPrefix(line, []byte("CELL_PARAMETERS")) {
			t.variable = true
			t.block = t.cellBlock(line)
			return true
		}
	case 'n', 'b', 'h':
		return t.readBFGS(line)
	case 'M', 'D', 'k', 'E', 't', 'c', 'W', 'P', 'B':
		return t.readDynamics(line)
	case 'a':
		if bytes.HasPrefix(line, []byte("absolute magnetization    =")) {
			t.magAbs = norm(printed.Numbers(line[len("absolute magnetization    ="):], nil))
			return true
		}
	}
	return false
}

func (t *textRun) readBFGS(line []byte) bool {
	switch {
	case bytes.HasPrefix(line, []byte("number of bfgs steps")):
	case bytes.HasPrefix(line, []byte("bfgs converged in")):
		t.relaxed = true
	case bytes.HasPrefix(line, []byte("bfgs failed after")):
		t.relaxFailed = true
	case bytes.Contains(line, []byte("history already reset")):
		// Some versions go on after this message, and some stop and call it
		// converged: only another SCF cycle shows that the search went on.
		t.historyReset = true
	default:
		return false
	}
	t.relax = true
	return true
}

func (t *textRun) readDynamics(line []byte) bool {
	switch {
	case bytes.HasPrefix(line, []byte("Molecular Dynamics Calculation")):
		t.md = true
	case bytes.HasPrefix(line, []byte("End of molecular dynamics calculation")), bytes.HasPrefix(line, []byte("Maximum number of iterations reached, stopping")):
		// Damped dynamics, which is a relaxation, ends with the same words.
		t.md, t.mdEnded, t.maxStepsReached = !t.relax, true, t.maxStepsReached || t.relax && !t.relaxed
	case bytes.Contains(line, []byte("convergence achieved, Efinal")):
		t.relaxed = true
	case bytes.HasPrefix(line, []byte("Entering Dynamics;")):
		t.md = !t.relax
		t.mdStep, _ = printed.Count(line, "it =")
		t.mdTime, _ = printed.After(line, "time =")
	case bytes.HasPrefix(line, []byte("Damped Dynamics: convergence achieved")):
		t.relaxed = true
	case bytes.HasPrefix(line, []byte("Damped Dynamics Calculation")):
		t.relax = true
	case bytes.Contains(line, []byte("Damped Cell Dynamics Minimization")), bytes.HasPrefix(line, []byte("Beeman Damped")):
		t.relax, t.variable = true, true
	case bytes.HasPrefix(line, []byte("Entering Dynamics:")):
		t.mdStep, _ = printed.Count(line, "iteration =")
	case bytes.HasPrefix(line, []byte("time      =")):
		t.mdTime, _ = printed.After(line, "=")
	case bytes.HasPrefix(line, []byte("kinetic energy (Ekin) =")):
		v, _ := printed.After(line, "=")
		t.ekin = &v
	case bytes.HasPrefix(line, []byte("Ekin =")):
		ekin, _ := printed.After(line, "=")
		temperature, _ := printed.After(line, "T =")
		etotal, _ := printed.After(line, "Etot =")
		t.ekin, t.temperature, t.etotal = &ekin, &temperature, &etotal
		t.addMD()
	case bytes.HasPrefix(line, []byte("Ekin + Etot (const)")):
		v, _ := printed.After(line, "=")
		t.etotal = &v
		t.addMD()
	default:
		return false
	}
	return true
}

func (t *textRun) addMD() {
	t.mdTable.Add(float64(t.mdStep), t.mdTime, orNaN(t.temperature),
		orNaN(t.energy)*crystal.RydbergEV, orNaN(t.ekin)*crystal.RydbergEV, orNaN(t.etotal)*crystal.RydbergEV,
		orNaN(t.pressure)*crystal.KbarGPa)
}

// forceBlock reads "atom    1 type  1   force =  x y z". With more output the
// contributions follow in the same form: only the first block is the total.
func (t *textRun) forceBlock() func([]byte) bool {
	seen := false
	return func(line []byte) bool {
		if len(line) == 0 {
			return !seen
		}
		_, rest, ok := bytes.Cut(line, []byte("force ="))
		if !ok || !bytes.HasPrefix(line, []byte("atom")) {
			return false
		}
		seen = true
		if f, ok := printed.Vector(rest); ok && len(t.forces) < maxAtoms {
			t.forces = append(t.forces, f)
		}
		return true
	}
}

// maxForce is the largest force on an atom, of what may move. The printed
// forces are those before fixed coordinates and constraints are taken out, and
// the printed total is that after: it tells which are meant. When neither the
// free coordinates nor all give the total, constraints are at work and the
// largest force is not known.
func (t *textRun) maxForce() *float64 {
	if len(t.forces) == 0 {
		return nil
	}
	free, freeTotal := largest(t.forces, t.frozen)
	if t.totalForce == nil || nearTotal(freeTotal, *t.totalForce) {
		return &free
	}
	if all, total := largest(t.forces, nil); nearTotal(total, *t.totalForce) {
		return &all
	}
	return nil
}

// largest returns the largest norm and the norm of all together.
func largest(forces [][3]float64, frozen [][3]bool) (most, total float64) {
	for i, f := range forces {
		if len(frozen) == len(forces) {
			for k, fixed := range frozen[i] {
				if fixed {
					f[k] = 0
				}
			}
		}
		n := length(f)
		if n > most || n != n {
			most = n
		}
		total = math.Hypot(total, n)
	}
	return most, total
}

// nearTotal allows for the six decimals of print. What is not finite is near:
// the outcome tells of it.
func nearTotal(sum, printed float64) bool {
	return !(math.Abs(sum-printed) > 2e-6+1e-3*printed)
}

// cellBlock reads three rows after "CELL_PARAMETERS (alat= 10.2)", "(angstrom)"
// or "(bohr)".
func (t *textRun) cellBlock(head []byte) func([]byte) bool {
	unit := 0.0
	switch {
	case bytes.Contains(head, []byte("angstrom")):
		unit = 1
	case bytes.Contains(head, []byte("bohr")):
		unit = crystal.BohrA
	default:
		if v, ok := printed.After(head, "alat="); ok {
			unit = v * crystal.BohrA
		} else {
			unit = t.alat * crystal.BohrA
		}
	}
	var m crystal.Matrix
	row := 0
	return func(line []byte) bool {
		v, ok := printed.Vector(line)
		if !ok {
			return false
		}
		m[row] = scale(v, unit)
		if row++; row < 3 {
			return true
		}
		t.setLattice(m)
		t.block = nil
		return true
	}
}

// positionsBlock reads "Si  0.0  0.0  0.0" after "ATOMIC_POSITIONS (crystal)".
func (t *textRun) positionsBlock(head []byte) func([]byte) bool {
	unit := t.alat * crystal.BohrA
	a := atoms{}
	switch {
	case bytes.Contains(head, []byte("crystal")):
		a.crystal, unit = true, 1
	case bytes.Contains(head, []byte("angstrom")):
		unit = 1
	case bytes.Contains(head, []byte("bohr")):
		unit = crystal.BohrA
	}
	t.frozen = t.frozen[:0]
	return func(line []byte) bool {
		label, rest, ok := bytes.Cut(line, []byte(" "))
		v, isVector := printed.Vector(rest)
		if ok && isVector && len(label) <= maxLabel && len(a.labels) < maxAtoms {
			t.frozen = append(t.frozen, fixedFlags(rest))
			a.labels = append(a.labels, string(label))
			a.positions = append(a.positions, scale(v, unit))
			return true
		}
		// A block that was cut short is no structure.
		if len(a.labels) > 0 && (t.nat == 0 || len(a.labels) == t.nat) {
			if t.last != nil {
				a.lattice = t.last.lattice
			}
			t.setAtoms(&a)
		}
		return false
	}
}

// fixedFlags reads the 0 and 1 behind the coordinates of an atom, which are
// there when it may not move in every direction.
func fixedFlags(b []byte) (fixed [3]bool) {
	var buf [8]float64
	if v := printed.Numbers(b, buf[:0]); len(v) == 6 {
		for k, flag := range v[3:] {
			fixed[k] = flag == 0
		}
	}
	return fixed
}

// readEnd reads how the run came to its end.
func (t *textRun) readEnd(line []byte, n int) bool {
	evidence := func() *job.Evidence { return &job.Evidence{File: t.file, Line: n, Text: clip(line)} }
	switch {
	case bytes.HasPrefix(line, []byte("Program stopped by user request")),
		bytes.HasPrefix(line, []byte("Signal Received, stopping")):
		t.stopped = evidence()
	case bytes.HasPrefix(line, []byte("Maximum CPU time exceeded")):
		t.outOfTime = evidence()
	case bytes.Contains(line, []byte("xml data file")) && bytes.HasSuffix(line, []byte("not found")):
		t.restartAbsent = true
	case bytes.HasPrefix(line, []byte("PWSCF        :")):
		_, rest, _ := bytes.Cut(line, []byte("CPU"))
		// Versions to 4.1 say so in other words, and have no farewell behind.
		rest, t.done = bytes.CutPrefix(rest, []byte(" time,"))
		if v, ok := wallTime(rest); ok {
			t.wall = &v
		}
	case isBareError(line) && len(t.errors) == 0:
		t.errors = append(t.errors, errorBlock{message: clip(line), evidence: *evidence()})
	default:
		return false
	}
	return true
}

// oddities are lines that do not decide the outcome but should be known; each
// is counted, and told once.
var oddities = []struct{ mark, code, message, fix string }{
	{"SCF correction compared to forces is large", "scf_correction_large", "the SCF correction is large compared to the forces", "lower conv_thr"},
	{"negative rho (up, down):", "negative_density", "the charge density is negative in places", "raise ecutrho"},
	{"eigenvalues not converged", "eigenvalues_not_converged", "some eigenvalues did not converge", ""},
	{"WARNING: integrated charge=", "integrated_charge", "the integrated charge differs from the number of electrons", "raise ecutrho"},
}

func (t *textRun) readOddity(line []byte) {
	for _, o := range oddities {
		if bytes.Contains(line, []byte(o.mark)) {
			t.oddities[o.code]++
			return
		}
	}
}

func (t *textRun) oddityWarnings() []engine.Warning {
	var out []engine.Warning
	for _, o := range oddities {
		if n := t.oddities[o.code]; n > 0 {
			out = append(out, engine.Warning{Code: o.code, Message: o.message + " (" + plural(n, "time") + ")", Fix: o.fix, File: t.file})
		}
	}
	return out
}

// bareErrors are errors that pw.x prints as one line without a frame.
var bareErrors = [][]byte{[]byte("[Q, R] = qr(X, 0) failed"), []byte("probably because G_par is NOT a reciprocal lattice vector")}

func isBareError(line []byte) bool {
	return slices.ContainsFunc(bareErrors, func(e []byte) bool { return bytes.HasPrefix(line, e) })
}

// readError reads "Error in routine NAME (CODE):" and the message up to the
// closing line of percent signs.
func (t *textRun) readError(line []byte, n int) {
	name, _, _ := bytes.Cut(line[len("Error in routine"):], []byte("("))
	e := errorBlock{routine: string(bytes.TrimSpace(name)), evidence: job.Evidence{File: t.file, Line: n, Text: clip(line)}}
	at := -1
	if len(t.errors) < 20 {
		t.errors = append(t.errors, e)
		at = len(t.errors) - 1
	}
	following := 0
	t.block = func(line []byte) bool {
		if bytes.HasPrefix(line, []byte("%%%")) || following == 8 {
			return false
		}
		following++
		if at >= 0 && len(line) > 0 {
			e := &t.errors[at]
			if e.message != "" {
				e.message += " "
			} else {
				e.evidence = job.Evidence{File: t.file, Line: n + following, Text: clip(line)}
			}
			e.message += clip(line)
		}
		return true
	}
}

// clip bounds a quoted line.
func clip(line []byte) string {
	const most = 300
	if len(line) > most {
		return string(bytes.ToValidUTF8(line[:most], []byte("?"))) + "…"
	}
	return string(bytes.ToValidUTF8(line, []byte("?")))
}

// wallTime reads 12.79s, 1m10.43s, 2h 3m, 1d 2h: blanks may be inside.
func wallTime(b []byte) (float64, bool) {
	total, ok := 0.0, false
	for {
		v, rest, isNumber := printed.Number(b)
		rest = bytes.TrimLeft(rest, " ")
		if !isNumber || len(rest) == 0 || !printed.Finite(v) {
			return total, ok
		}
		unit, known := map[byte]float64{'s': 1, 'm': 60, 'h': 3600, 'd': 86400}[rest[0]]
		if !known {
			return total, ok
		}
		total, ok, b = total+v*unit, true, rest[1:]
	}
}

func plural(n int, word string) string {
	s := strconv.Itoa(n) + " " + word
	if n != 1 {
		s += "s"
	}
	return s
}
