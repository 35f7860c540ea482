package lammps

import (
	"strconv"
	"strings"

	"github.com/nano-os/nanoos/internal/engine"
)

// statistics recognises what is printed before and after a run or minimisation.
func (r *reader) statistics(s string) bool {
	j := r.j
	if r.energyNext {
		r.energyNext = false
		if e := numbers(s); len(e) > 0 {
			r.stats.energy = e
			return true
		}
	}
	switch {
	case strings.HasPrefix(s, "Unit style"):
		if _, name, ok := strings.Cut(s, ":"); ok && isUnits(strings.TrimSpace(name)) {
			r.setUnits(strings.TrimSpace(name))
		}
	case strings.HasPrefix(s, "Setting up ") && strings.Contains(s, "minimization"):
		r.minimising = true
	case strings.HasPrefix(s, "Running on ") && strings.HasSuffix(s, "partitions of processors"):
		j.overview = true
	case strings.HasPrefix(s, "Performance:") && strings.Contains(s, " tau/day"):
		j.tauPerLJ = true
	case s == "Minimization stats:":
		r.stats = &minimisation{at: *r.mark(s)}
		if len(j.blocks) > 0 {
			b := j.blocks[len(j.blocks)-1]
			b.minimise, b.stats = true, r.stats
		}
	case r.stats != nil && r.minimiserLine(s):
	case strings.HasPrefix(s, "Dangerous builds ="):
		_, n, _ := strings.Cut(s, "=")
		j.dangerous, _ = strconv.ParseInt(strings.TrimSpace(n), 10, 64)
		j.dangerAt = *r.mark(s)
		r.stats = nil
	default:
		return r.atomCount(s)
	}
	return true
}

func (r *reader) minimiserLine(s string) bool {
	name, value, ok := strings.Cut(s, "=")
	if !ok {
		return false
	}
	m := r.stats
	switch strings.TrimSpace(name) {
	case "Stopping criterion":
		m.criterion, m.at = strings.TrimSpace(value), *r.mark(s)
		if strings.Contains(m.criterion, "walltime limit") && r.j.timeout == nil {
			r.j.timeout = r.mark(s)
		}
	case "Energy initial, next-to-last, final":
		m.energy = numbers(value)
		r.energyNext = len(m.energy) == 0
	case "Force two-norm initial, final", "Force max component initial, final", "Final line search alpha, max atom move", "Iterations, force evaluations":
	default:
		return false
	}
	return true
}

// numbers reads a line of numbers; nil when it is anything else.
func numbers(s string) []float64 {
	fields := strings.Fields(s)
	if len(fields) > 16 {
		return nil
	}
	return parseRow(fields, len(fields))
}

// atomCount follows how many atoms the system should have.
func (r *reader) atomCount(s string) bool {
	fields := strings.Fields(s)
	count := func(i int) (int64, bool) {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		return n, err == nil && n >= 0
	}
	switch {
	case len(fields) > 2 && fields[0] == "Created" && fields[2] == "box": // the first of a system
		r.j.atoms = 0
	case len(fields) == 3 && fields[0] == "Created" && fields[2] == "atoms":
		if n, ok := count(1); ok {
			r.j.atoms += n
			return true
		}
	case len(fields) == 2 && fields[1] == "atoms":
		if n, ok := count(0); ok {
			r.j.atoms = n
			return true
		}
	case strings.HasPrefix(s, "Deleted ") && strings.Contains(s, "new total ="):
		if n, ok := count(len(fields) - 1); ok {
			r.j.atoms = n
			return true
		}
	}
	return false
}

func (r *reader) setUnits(name string) {
	r.j.units = name
	if b := r.open; b != nil && b.units == "" {
		b.units = name
	}
}

// command follows the commands that a log file echoes. After one that holds a
// variable, the same command comes again with the value in its place.
func (r *reader) command(s string) {
	if r.skip {
		r.skip = strings.HasPrefix(s, "print ") // its own substitution
		return
	}
	if head, goesOn := strings.CutSuffix(s, "&"); goesOn && r.partial.Len()+len(s) < maxLine {
		r.partial.WriteString(strings.TrimSpace(head))
		r.partial.WriteByte(' ')
		return
	}
	s = r.partial.String() + s
	r.partial.Reset()
	words := strings.Fields(s)
	if len(words) == 0 {
		return
	}
	repeated := r.variable == words[0]
	r.variable = ""
	if strings.Contains(s, "$") {
		r.variable = words[0]
	}
	if r.setting(words) || r.asking(words, s, repeated) || r.fileCommand(words) {
		r.j.echoed = true
	}
}

// setting follows commands that change what the output means.
func (r *reader) setting(w []string) bool {
	j := r.j
	switch {
	case w[0] == "units" && len(w) == 2 && isUnits(w[1]):
		r.setUnits(w[1])
	case w[0] == "boundary" && len(w) == 4:
		for i, b := range w[1:] {
			j.periodic[i] = b == "p"
		}
		j.bounded = true
	case w[0] == "thermo_modify":
		for i := 1; i+1 < len(w); i++ {
			if w[i] == "norm" {
				yes := w[i+1] == "yes" || w[i+1] == "on" || w[i+1] == "true"
				j.norm = &yes
			}
		}
	case w[0] == "thermo_style":
		j.norm = nil
	case w[0] == "clear" && len(w) == 1:
		j.units, j.norm, j.atoms, j.elements, j.masses = "", nil, 0, nil, nil
	case w[0] == "fix" && len(w) > 3 && isGrand(w[3]):
		j.grand = true
	case w[0] == "atom_style" && len(w) > 1:
		j.atomStyle = w[1]
	case w[0] == "group" || w[0] == "pair_style":
	case w[0] == "print":
		r.skip = !strings.Contains(strings.Join(w, " "), "screen no")
	default:
		return r.typeCommand(w)
	}
	return true
}

// isGrand reports whether a fix may change the number of atoms.
func isGrand(style string) bool {
	switch style {
	case "evaporate", "deposit", "pour", "gcmc", "widom", "sgcmc", "bond/react", "append/atoms":
		return true
	}
	return false
}

// typeCommand follows which element each atom type is.
func (r *reader) typeCommand(w []string) bool {
	switch w[0] {
	case "mass":
		if len(w) == 3 {
			t, err := strconv.Atoi(w[1])
			m, ok := parseNumber(w[2])
			if err == nil && ok {
				r.j.setMass(t, m)
			}
		}
	case "pair_coeff":
		r.j.pairElements(w[1:])
	default:
		return false
	}
	return true
}

// asking follows the commands that make steps.
func (r *reader) asking(w []string, s string, repeated bool) bool {
	j := r.j
	a := &ask{at: *r.mark(s)}
	switch w[0] {
	case "run":
		if len(w) < 2 || !a.readRun(w[1:]) {
			return false
		}
	case "minimize":
		if len(w) != 5 {
			return false
		}
		a.minimise = true
	case "rerun", "temper", "neb", "prd", "tad", "hyper":
		if len(w) < 2 {
			return false
		}
		a.other, a.rerun = true, w[0] == "rerun"
	default:
		return false
	}
	if n := len(j.asks); repeated && n > 0 && j.asks[n-1] == r.current && r.current.done == 0 {
		j.asks = j.asks[:n-1]
	}
	r.current = a
	j.asks = append(j.asks, a)
	j.keepBounded()
	return true
}

// readRun reads "N [upto] [start S] [stop S] [pre yes] [post no] [every M …]".
// With a variable in place of the number, the steps stay unknown.
func (a *ask) readRun(w []string) bool {
	n, ok := parseNumber(w[0])
	if !ok && !strings.Contains(w[0], "$") {
		return false
	}
	if a.known = ok && n >= 0 && n < 1<<53; a.known {
		a.steps = int64(n)
	}
	for i := 1; i < len(w); i++ {
		switch w[i] {
		case "upto":
			a.upto = true
		case "start", "stop", "pre", "post":
			i++
		case "every":
			return true
		default:
			return strings.Contains(w[i], "$")
		}
	}
	return true
}

// fileCommand follows the files that the script reads and writes.
func (r *reader) fileCommand(w []string) bool {
	j := r.j
	if w[0] == "quit" && len(w) <= 2 {
		j.quit = r.mark(strings.Join(w, " "))
		if len(w) > 1 {
			j.status, _ = strconv.ParseInt(w[1], 10, 64)
		}
		return true
	}
	if len(w) < 2 {
		return false
	}
	switch w[0] {
	case "read_data":
		j.dataFiles = appendName(j.dataFiles, w[1])
	case "read_restart":
		j.restarted = true
	case "write_data":
		j.written = appendName(j.written, w[1])
	case "dump", "write_dump":
		if at := writeCommands[w[0]] + 1; at < len(w) {
			j.written = appendName(j.written, w[at])
		}
	case "log":
		j.nextLog = w[1]
	default:
		return false
	}
	return true
}

// appendName keeps the last few names.
func appendName(list []string, name string) []string {
	if len(list) >= 64 {
		list = list[1:]
	}
	return append(list, name)
}

// dangerWarning tells of a neighbour list that was rebuilt too late.
func (j *journal) dangerWarning() (engine.Warning, bool) {
	return engine.Warning{
		Code: "dangerous_builds", Message: strconv.FormatInt(j.dangerous, 10) + " dangerous builds: atoms moved too far between updates of the neighbour lists",
		Fix: "use neigh_modify every 1 delay 0 check yes, or a larger neighbor skin", File: j.dangerAt.file, Line: j.dangerAt.line,
	}, j.dangerous > 0
}
