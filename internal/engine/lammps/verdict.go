package lammps

import (
	"fmt"
	"strings"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// decision is how a run ended.
type decision struct {
	outcome  engine.Outcome
	verdict  job.Verdict
	failure  *job.Failure
	warnings []engine.Warning
}

// decide asks the evidence in order of its weight: what was done to the run from
// outside, what LAMMPS complained of, whether it was stopped early, and only
// then whether the numbers are good. Success is what is left.
func (rec *record) decide(exit *job.Exit) decision {
	rules := []func(*job.Exit) (decision, bool){
		rec.endedFromOutside,
		rec.gaveUp,
		rec.stoppedEarly,
		rec.scriptQuit,
		rec.endMissing,
		rec.outputCut,
		rec.unstable,
		rec.stepsMissing,
		rec.notMinimised,
		rec.badExit,
	}
	for _, rule := range rules {
		if d, ok := rule(exit); ok {
			return d
		}
	}
	return rec.succeeded()
}

// failed makes a decision with the failure class of its outcome.
func failed(o engine.Outcome, code, message, fix string, evidence ...job.Evidence) decision {
	d := decision{outcome: o, verdict: job.NotApplicable, failure: &job.Failure{
		Class: o.Class(), Code: code, Message: message, Fix: fix, Evidence: evidence, Digest: code,
	}}
	switch o {
	case engine.Unstable:
		d.verdict = job.Unstable
	case engine.MinNotConverged, engine.StoppedByRequest, engine.TimeLimitGraceful:
		d.verdict = job.NotConverged
	}
	return d
}

func (m mark) evidence() job.Evidence { return job.Evidence{File: m.file, Line: m.line, Text: m.text} }

// endedFromOutside is rules 1 and 2: we or the machine ended the program. An
// abort for want of disk space or memory is LAMMPS's own and looks like a signal.
func (rec *record) endedFromOutside(exit *job.Exit) (decision, bool) {
	if o, f := engine.ExitFailure(exit); f != nil {
		return decision{outcome: o, verdict: job.NotApplicable, failure: f}, true
	}
	if d, ok := rec.systemText(); ok && (exit == nil || exit.Code != 0 || exit.Signal != "") {
		return d, true
	}
	if exit != nil && (exit.Signal != "" || !exit.Observed) {
		return unexplained(exit, rec)
	}
	return decision{}, false
}

// unexplained is the common verdict on a bad exit, with the last thing said.
func unexplained(exit *job.Exit, rec *record) (decision, bool) {
	o, f := engine.UnexplainedExit(exit)
	if f == nil {
		return decision{}, false
	}
	if line := lastLine(rec.stderr); line != "" {
		f.Evidence = append(f.Evidence, job.Evidence{File: rec.stderrName, Text: line})
	}
	return decision{outcome: o, verdict: job.NotApplicable, failure: f}, true
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return strings.TrimSpace(s[strings.LastIndexByte(s, '\n')+1:])
}

// gaveUp is rule 3: the text of an error.
func (rec *record) gaveUp(*job.Exit) (decision, bool) {
	e := rec.problem
	if e == nil {
		return decision{}, false
	}
	d := classify(e, rec.rows() > 0)
	d.failure.Evidence = append(d.failure.Evidence, e.evidence())
	if e.command != "" {
		d.failure.Evidence = append(d.failure.Evidence, job.Evidence{File: e.file, Text: "Last command: " + e.command})
	}
	d.failure.Digest = digest(d.failure.Code, e.message, e.command)
	return d, true
}

// digest is equal for errors that differ in numbers only.
func digest(parts ...string) string {
	digits := func(r rune) rune {
		if r >= '0' && r <= '9' {
			return '#'
		}
		return r
	}
	s := strings.Map(digits, strings.Join(parts, "|"))
	for strings.Contains(s, "##") {
		s = strings.ReplaceAll(s, "##", "#")
	}
	return s[:min(len(s), 300)]
}

// stoppedEarly is rule 4: fix halt or the timer ended a run that was not done.
// The time limit of a job is a stop of both kinds.
func (rec *record) stoppedEarly(exit *job.Exit) (decision, bool) {
	m := rec.timeout
	if m == nil {
		m = rec.halt
	}
	if m == nil || rec.allDone() {
		return decision{}, false
	}
	done := rec.doneText()
	if rec.timeout != nil && rec.halt == nil || exit != nil && exit.Cause == job.CauseSoftLimit {
		return failed(engine.TimeLimitGraceful, "time_limit", "the run ended itself at its time limit, "+done,
			"raise resources.walltime, or continue from the restart file", m.evidence()), true
	}
	return failed(engine.StoppedByRequest, "stopped", "the run was asked to stop and ended cleanly, "+done,
		"continue from the restart file", rec.halt.evidence()), true
}

// allDone reports whether every run made the steps it was asked for, as far as
// the commands are known.
func (rec *record) allDone() bool {
	if !rec.echoed || len(rec.asks) == 0 {
		return false
	}
	for _, a := range rec.asks {
		if a.short() || !a.known && !a.minimise {
			return false
		}
	}
	b := rec.last()
	return b == nil || b.stats == nil || b.stats.converged()
}

// doneText says how far the runs came: "500 of 1000 steps".
func (rec *record) doneText() string {
	var done, asked int64
	for _, b := range rec.blocks {
		done += b.steps()
	}
	for _, a := range rec.asks {
		if a.minimise || !a.known {
			return fmt.Sprintf("after %d steps", done)
		}
		asked += a.steps
	}
	if asked == 0 {
		return fmt.Sprintf("after %d steps", done)
	}
	return fmt.Sprintf("after %d of %d steps", done, asked)
}

// scriptQuit: the script itself ended with a status other than 0, and would do so
// again.
func (rec *record) scriptQuit(*job.Exit) (decision, bool) {
	if rec.quit == nil || rec.status == 0 {
		return decision{}, false
	}
	return failed(engine.InputError, "quit", fmt.Sprintf("the script ended itself with status %d, %s", rec.status, rec.doneText()), "see why the script comes to this command", rec.quit.evidence()), true
}

// outputCut: LAMMPS does not look whether all that it writes reaches the disk.
func (rec *record) outputCut(*job.Exit) (decision, bool) {
	if rec.cut == "" {
		return decision{}, false
	}
	return failed(engine.FileSystemError, "output_cut", rec.cut+" stops in its middle, although the run ended: most likely the disk was full", "free space, or choose another data directory", job.Evidence{File: rec.cut, Text: "end of file"}), true
}

// endMissing: the last line of every normal end is the wall time.
func (rec *record) endMissing(exit *job.Exit) (decision, bool) {
	if rec.end != nil || rec.quit != nil {
		return decision{}, false
	}
	if d, ok := unexplained(exit, rec); ok {
		return d, true
	}
	if next := rec.nextLog; next != "" && exit == nil {
		return failed(engine.ResultInvalid, "output_elsewhere", "the script sent the output on to another log ("+next+"), which is not here", "name that file and the terminal output together with this one",
			job.Evidence{File: rec.file, Text: "log " + next}), true
	}
	if exit != nil {
		return failed(engine.ResultInvalid, "output_incomplete", "the program ended well but its output has no end", "", job.Evidence{File: rec.file, Text: rec.doneText()}), true
	}
	return failed(engine.Killed, "output_incomplete", "the output stops before the end of the run, "+rec.doneText(), "run it again, or continue from the last restart file"), true
}

// unstable: numbers that are not finite, or atoms that left. Losing some atoms
// is success with a warning when the script tolerates it; losing half of them
// is not.
func (rec *record) unstable(*job.Exit) (decision, bool) {
	for _, b := range rec.blocks {
		if bad := b.table.bad; bad != nil {
			return failed(engine.Unstable, "not_finite", fmt.Sprintf("%s became %v at step %d", bad.column, bad.value, bad.step), unstableFix,
				job.Evidence{File: b.file, Line: bad.line, Text: fmt.Sprintf("Step %d: %s = %v", bad.step, bad.column, bad.value)}), true
		}
		if s := b.stats; s != nil && len(s.energy) > 0 && !finite(s.energy[len(s.energy)-1]) {
			return failed(engine.Unstable, "not_finite", "the energy of the minimisation is not a number", unstableFix, s.at.evidence()), true
		}
	}
	if m := either(rec.lost, rec.fewer); m != nil && rec.mostLost() {
		return failed(engine.Unstable, "lost_atoms", "most atoms left the simulation", unstableFix, m.evidence()), true
	}
	return decision{}, false
}

const unstableFix = "use a smaller timestep, minimise first, and update neighbour lists more often (neigh_modify every 1 delay 0 check yes)"

// mostLost compares the atoms of the first and the last run.
func (rec *record) mostLost() bool {
	before, after, ok := rec.lostCounts()
	return !ok || after*2 < before
}

// lostCounts reads "Lost atoms: original 500 current 17", or what the runs say.
func (rec *record) lostCounts() (before, after int64, ok bool) {
	if rec.lost != nil {
		_, text, _ := strings.Cut(rec.lost.text, "Lost atoms:")
		if n, err := fmt.Sscanf(plain(text), "original %d current %d", &before, &after); n == 2 && err == nil {
			return before, min(after, rec.natoms()), true
		}
	}
	return rec.created, rec.natoms(), rec.created > 0
}

// stepsMissing: "Loop time … for N steps" with N smaller than asked is the tell
// of a run that stopped without saying why.
func (rec *record) stepsMissing(*job.Exit) (decision, bool) {
	a := rec.short()
	if a == nil {
		return rec.loopMissing()
	}
	return failed(engine.ResultInvalid, "steps_missing", fmt.Sprintf("the run made %d of %d steps and does not say why", a.done, a.steps), "", a.at.evidence()), true
}

// loopMissing: each run and minimisation prints a line when it ends. Other
// commands that make steps need not.
func (rec *record) loopMissing() (decision, bool) {
	for _, b := range rec.blocks {
		if b.loop == nil && (b.ask == nil || !b.ask.other) {
			return failed(engine.ResultInvalid, "steps_missing", fmt.Sprintf("the run that began at step %d has no end", b.table.firstStep()), "",
				job.Evidence{File: b.file, Line: b.table.lastAt, Text: fmt.Sprintf("Step %d", b.table.lastStep())}), true
		}
	}
	return decision{}, false
}

// notMinimised: the last minimisation did not reach a tolerance, and no dynamics
// made it a mere preparation.
func (rec *record) notMinimised(*job.Exit) (decision, bool) {
	m := rec.lastMinimisation()
	if m == nil || m.converged() {
		return decision{}, false
	}
	d := failed(engine.MinNotConverged, "min_not_converged", "the minimisation did not reach a tolerance: "+m.criterion, minimiseFix(m), m.at.evidence())
	d.failure.Digest = digest(d.failure.Code, m.criterion)
	return d, true
}

func minimiseFix(m *minimisation) string {
	if strings.HasPrefix(m.criterion, "max ") {
		return "allow more iterations and evaluations, or start from the final structure"
	}
	return "start from the final structure with another minimiser (min_style fire), or loosen the tolerances"
}

// lastMinimisation is the one that the result stands on; nil when dynamics
// followed it.
func (rec *record) lastMinimisation() *minimisation {
	for i := len(rec.blocks) - 1; i >= 0; i-- {
		b := rec.blocks[i]
		if b.minimise {
			return b.stats
		}
		if b.steps() > 0 {
			return nil
		}
	}
	return nil
}

// badExit: everything looks well, but the program did not end with status 0.
func (rec *record) badExit(exit *job.Exit) (decision, bool) { return unexplained(exit, rec) }

// succeeded is what is left.
func (rec *record) succeeded() decision {
	d := decision{outcome: engine.Success, verdict: job.Converged}
	if m := either(rec.lost, rec.fewer); m != nil {
		d.outcome, d.verdict = engine.SuccessWithWarning, job.Unstable
		before, after, _ := rec.lostCounts()
		d.warnings = append(d.warnings, engine.Warning{Code: "lost_atoms", File: m.file, Line: m.line,
			Message: fmt.Sprintf("%d of %d atoms left the simulation, which the script tolerates", before-after, before)})
	}
	if rec.rows() == 0 {
		d.outcome, d.verdict = engine.SuccessWithWarning, job.NotApplicable
		d.warnings = append(d.warnings, engine.Warning{Code: "nothing_computed", File: rec.file, Message: "the script ended well but ran no simulation"})
	}
	for i, b := range rec.blocks {
		if s := b.stats; s != nil && !s.converged() && i < len(rec.blocks)-1 {
			d.warnings = append(d.warnings, engine.Warning{Code: "minimisation_not_converged", File: s.at.file, Line: s.at.line,
				Message: "an earlier minimisation did not reach a tolerance: " + s.criterion})
		}
	}
	return d
}
