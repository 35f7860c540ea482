package lammps

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// monitor follows the terminal output of a running plan.
type monitor struct {
	r     *reader
	total int64 // of all runs; 0 when not known
	best  float64
}

// Monitor implements engine.Engine.
func (l *LAMMPS) Monitor(p *engine.Plan) engine.Monitor {
	m := &monitor{r: newReader(engine.StdoutName)}
	if p == nil {
		return m
	}
	for _, s := range p.Steps {
		if i := slices.Index(s.Args, stepsVariable); i >= 0 && i+1 < len(s.Args) {
			m.total, _ = strconv.ParseInt(s.Args[i+1], 10, 64)
		}
	}
	return m
}

func (m *monitor) Write(p []byte) (int, error) { return m.r.Write(p) }

// Progress counts the steps of all runs against what was asked; where that is
// not known, those of the current run alone.
func (m *monitor) Progress() job.Progress {
	j := m.r.j
	p := job.Progress{Stage: "starting"}
	if j.version != "" {
		p.Stage = "setting up"
	}
	b := j.last()
	if b != nil {
		p.Step, p.Steps = m.steps(b)
		p.Stage = m.stage(b)
		p.Quantity, p.Value = leading(b)
	}
	if p.Steps > 0 {
		p.Fraction = min(1, float64(p.Step)/float64(p.Steps))
	}
	if j.end != nil {
		p.Stage = "finished"
		p.Fraction = 1
	}
	m.best = max(m.best, p.Fraction)
	p.Fraction = m.best
	return p
}

func (m *monitor) steps(b *block) (done, total int64) {
	if m.total > 0 {
		for _, x := range m.r.j.blocks {
			done += x.steps()
		}
		return min(done, m.total), m.total
	}
	done = b.steps()
	if a := b.ask; a != nil && a.known {
		if a.upto {
			return done, max(0, a.steps-b.table.firstStep())
		}
		if b.loop == nil {
			done += a.done
		} else {
			done = a.done
		}
		return done, a.steps
	}
	return done, 0
}

func (m *monitor) stage(b *block) string {
	word := "MD step"
	if b.minimise {
		word = "minimisation step"
	}
	return fmt.Sprintf("%s %d", word, b.table.lastStep())
}

// leading is the number that people watch: the temperature of dynamics, the
// energy of a minimisation; in reduced units the number alone.
func leading(b *block) (string, *float64) {
	st := state{b, b.table.last}
	u, physical := styles[b.units]
	if b.minimise {
		if !physical || b.perAtom() {
			e, _, _ := st.energies(1)
			return "energy", e
		}
		e, _, _ := st.energies(u.energy)
		return "energy_eV", e
	}
	t := st.number(1, "Temp")
	if physical {
		return "temperature_K", t
	}
	return "temperature", t
}
