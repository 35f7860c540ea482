package vasp

import (
	"bytes"
	"fmt"
	"math"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/engine/printed"
	"github.com/nano-os/nanoos/internal/job"
)

// Monitor implements engine.Engine. It reads standard output, or OSZICAR, which
// has the same lines.
func (*VASP) Monitor(p *engine.Plan) engine.Monitor {
	m := &monitor{scan: newScanner("")}
	if p != nil {
		m.scan.r.set, _ = readINCAR(p.Files["INCAR"])
	}
	return m
}

// monitor follows a run by its steps: ionic ones of NSW, and within each how
// far the change of the energy has come down to EDIFF on a logarithmic scale.
type monitor struct {
	rest  []byte
	skip  bool // the rest of an overlong line
	scan  *scanner
	first float64
	p     job.Progress
}

// Write implements io.Writer; it never fails.
func (m *monitor) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		line, rest, whole := bytes.Cut(b, []byte{'\n'})
		b = rest
		if !m.skip && len(m.rest)+len(line) <= printed.MaxLine {
			m.rest = append(m.rest, line...)
		} else {
			m.skip, m.rest = true, m.rest[:0]
		}
		if !whole {
			break
		}
		if !m.skip && m.scan.line(bytes.TrimSpace(m.rest)) {
			m.report()
		}
		m.skip, m.rest = false, m.rest[:0]
	}
	return n, nil
}

// Progress implements engine.Monitor.
func (m *monitor) Progress() job.Progress { return m.p }

func (m *monitor) report() {
	r := m.scan.r
	steps := max(1, r.set.ionicSteps())
	done := r.steps
	within, now := 0.0, m.scan.now
	if now.n > 0 {
		within = m.electrons(now)
		m.p.Stage = fmt.Sprintf("SCF iteration %d", now.n)
		if r.set.motion() != still {
			m.p.Stage = fmt.Sprintf("ionic step %d, SCF iteration %d", done+1, now.n)
		}
		m.value("energy_change_eV", math.Abs(now.change))
	} else {
		m.p.Stage = fmt.Sprintf("ionic step %d", done)
		m.value("energy_eV", r.energies.zero)
	}
	m.p.Step, m.p.Steps = int64(done), int64(steps)
	if r.set.motion() == still {
		m.p.Step, m.p.Steps = int64(max(now.n, r.scf.n*min(1, done))), int64(r.set.maxElectronic())
	}
	fraction := (float64(min(done, steps)) + within*0.99) / float64(steps)
	m.p.Fraction = min(1, max(m.p.Fraction, fraction))
}

func (m *monitor) value(quantity string, v float64) {
	if printed.Finite(v) {
		m.p.Quantity, m.p.Value = quantity, &v
	}
}

func (m *monitor) electrons(s scf) float64 {
	change, goal := math.Abs(s.change), m.scan.r.set.energyTolerance()
	if s.n == 1 || !(m.first > 0) {
		m.first = change
	}
	if !(goal > 0 && change > 0 && m.first > goal) || !printed.Finite(change) || !printed.Finite(m.first) {
		return 0
	}
	return min(1, max(0, math.Log(change/m.first)/math.Log(goal/m.first)))
}
