package qe

import (
	"bytes"
	"fmt"
	"math"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/engine/printed"
	"github.com/nano-os/nanoos/internal/job"
)

// Monitor implements engine.Engine.
func (*QE) Monitor(p *engine.Plan) engine.Monitor {
	return &monitor{steps: max(1, len(p.Steps)), nstep: 50}
}

// monitor follows a chain of pw.x runs. The fraction of one run is that of its
// slowest loop: ionic steps of nstep, and within one SCF cycle how far the
// accuracy has come on a logarithmic scale.
type monitor struct {
	rest []byte
	skip bool // the rest of an overlong line

	steps, started int // runs of the chain
	relax, md      bool
	nstep, ionic   int
	nk, k          int
	convThr        float64
	accuracy       float64
	first          float64 // accuracy of the first iteration
	iteration      int
	forces         bool
	maxForce       float64
	fraction       float64
	p              job.Progress
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
		if !m.skip {
			m.read(bytes.TrimSpace(m.rest))
		}
		m.skip, m.rest = false, m.rest[:0]
	}
	return n, nil
}

// Progress implements engine.Monitor.
func (m *monitor) Progress() job.Progress { return m.p }

func (m *monitor) read(line []byte) {
	if m.forces {
		if _, rest, ok := bytes.Cut(line, []byte("force =")); ok && bytes.HasPrefix(line, []byte("atom")) {
			if f, ok := printed.Vector(rest); ok {
				m.maxForce = max(m.maxForce, length(f)*crystal.RyPerBohrEVPerA)
			}
			return
		}
		if m.forces = len(line) == 0; m.forces {
			return
		}
	}
	if _, _, _, ok := banner(line); ok {
		m.started++
		*m = monitor{rest: m.rest, steps: m.steps, started: m.started, nstep: 50, fraction: m.fraction, p: m.p}
		m.report("starting", "", nil)
		return
	}
	m.readHeader(line)
	switch {
	case bytes.HasPrefix(line, []byte("iteration #")):
		m.iteration, _ = printed.Count(line, "iteration #")
		m.report(m.stage(), "accuracy_Ry", positive(m.accuracy))
	case bytes.HasPrefix(line, []byte("estimated scf accuracy")):
		if v, ok := printed.After(line, "<"); ok && v > 0 && printed.Finite(v) {
			m.accuracy = v
			if m.first == 0 {
				m.first = v
			}
			m.report(m.stage(), "accuracy_Ry", &v)
		}
	case bytes.HasPrefix(line, []byte("Forces acting on atoms")):
		m.forces, m.maxForce = true, 0
	case bytes.HasPrefix(line, []byte("Total force =")) && (m.relax || m.md):
		// Fixed atoms are in the forces, and not in their total.
		if total, ok := printed.After(line, "="); ok {
			m.maxForce = min(m.maxForce, total*crystal.RyPerBohrEVPerA)
		}
		m.report(m.stage(), "max_force_eV_per_A", new(m.maxForce))
	case bytes.HasPrefix(line, []byte("number of scf cycles")):
		m.relax = true
		m.ionic, _ = printed.Count(line, "=")
	case bytes.HasPrefix(line, []byte("Entering Dynamics")):
		m.md = true
		m.ionic, _ = printed.Count(line, "iteration =")
	case bytes.HasPrefix(line, []byte("Self-consistent Calculation")):
		m.iteration, m.first, m.accuracy = 0, 0, 0
	case bytes.HasPrefix(line, []byte("Computing kpt #:")):
		m.k, _ = printed.Count(line, "#:")
		m.report(fmt.Sprintf("bands, k-point %d of %d", m.k, m.nk), "", nil)
	case bytes.HasPrefix(line, []byte("JOB DONE")):
		m.ionic, m.accuracy, m.k = m.nstep, m.convThr, m.nk
		m.advance(1)
		m.report("finished", m.p.Quantity, m.p.Value)
	}
}

func (m *monitor) readHeader(line []byte) {
	if v, ok := printed.After(line, "scf convergence threshold ="); ok {
		m.convThr = v
	}
	if v, ok := printed.After(line, "force convergence thresh. ="); ok {
		m.relax, m.md = v > 0, v == 0
	}
	if n, ok := printed.Count(line, "nstep                     ="); ok && n > 0 {
		m.nstep = n
	}
	if n, ok := printed.Count(line, "number of k points="); ok {
		m.nk = n
	}
}

func (m *monitor) stage() string {
	switch {
	case m.md:
		return fmt.Sprintf("MD step %d, SCF iteration %d", m.ionic+1, m.iteration)
	case m.relax:
		return fmt.Sprintf("ionic step %d, SCF iteration %d", m.ionic+1, m.iteration)
	}
	return fmt.Sprintf("SCF iteration %d", m.iteration)
}

// report writes the progress of now. Step and Steps count the slowest loop.
func (m *monitor) report(stage, quantity string, value *float64) {
	m.advance(m.within())
	m.p.Fraction, m.p.Stage = m.fraction, stage
	m.p.Step, m.p.Steps = int64(m.iteration), 0
	if m.relax || m.md {
		m.p.Step, m.p.Steps = int64(m.ionic), int64(m.nstep)
	}
	if value != nil {
		m.p.Quantity, m.p.Value = quantity, value
	}
}

// within is how far the current run has come, from 0 to 1.
func (m *monitor) within() float64 {
	scf := m.scf()
	switch {
	case m.relax || m.md:
		return (float64(min(m.ionic, m.nstep)) + scf) / float64(m.nstep+1)
	case m.k > 0 && m.nk > 0:
		return float64(min(m.k, m.nk)) / float64(m.nk)
	}
	return scf
}

// scf is how far the SCF cycle has come: the accuracy falls about
// exponentially.
func (m *monitor) scf() float64 {
	if !(m.convThr > 0 && m.accuracy > 0 && m.first > m.convThr) {
		return 0
	}
	return min(0.99, max(0, math.Log(m.accuracy/m.first)/math.Log(m.convThr/m.first)))
}

// advance moves the fraction of the whole chain, never backwards and to 1 only
// at the end.
func (m *monitor) advance(within float64) {
	done := float64(max(0, m.started-1))
	f := (done + min(1, within)) / float64(max(m.steps, m.started))
	m.fraction = min(1, max(m.fraction, f))
}
