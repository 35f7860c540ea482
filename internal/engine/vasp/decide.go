package vasp

import (
	"cmp"
	"fmt"
	"math"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/engine/printed"
	"github.com/nano-os/nanoos/internal/job"
)

// decide says how the run ended. The order is that of the common taxonomy:
// what we did, what the machine did, what the program says of an error, that
// it was asked to stop, that it came to its end, whether it converged, and only
// then success.
func (d *dossier) decide(s *engine.Summary) (engine.Outcome, *job.Failure) {
	for _, step := range []func(*engine.Summary) (engine.Outcome, *job.Failure){
		d.byExit, d.byError, d.byNumbers, d.byStop, d.byEnd, d.byElectrons, d.byIons, d.byStatus,
	} {
		if o, f := step(s); o != "" {
			return o, f
		}
	}
	if len(d.warnings) > 0 {
		return engine.SuccessWithWarning, nil
	}
	return engine.Success, nil
}

func (d *dossier) byExit(*engine.Summary) (engine.Outcome, *job.Failure) {
	if o, f := engine.ExitFailure(d.run.Exit); o != "" {
		return o, f
	}
	if e := d.run.Exit; e != nil && e.Observed && e.Signal != "" {
		return engine.UnexplainedExit(e)
	}
	return "", nil
}

func (d *dossier) badExit() bool {
	e := d.run.Exit
	return e != nil && e.Observed && (e.Code != 0 || e.Signal != "")
}

func (d *dossier) withExit(o engine.Outcome, f *job.Failure) (engine.Outcome, *job.Failure) {
	if d.run.Exit != nil && f != nil {
		f.Exit = d.run.Exit.Code
	}
	return o, f
}

// byError looks for messages. After a mild one, and after one of the machine, a
// run that came to its end and converged is good all the same.
func (d *dossier) byError(*engine.Summary) (engine.Outcome, *job.Failure) {
	if d.out != nil && d.out.fault != nil && d.said.seenNone() {
		d.said.hits = append(d.said.hits, *d.out.fault)
	}
	h := worst(d.said.hits)
	proven := d.ended() && !d.badExit() && d.converged()
	switch {
	case h != nil && proven && (h.d.mild || rank(h.d) == 0 || rank(h.d) == 4) && !d.said.boxed:
		for _, h := range d.said.hits {
			d.warn(warnMessage, h.d.message+": "+h.evidence.Text, h.d.fix)
		}
	case h != nil && !(proven && h.d.mild):
		return d.withExit(h.failure())
	case h == nil && d.said.boxed:
		return d.withExit(engine.ProgramError, failure(engine.ProgramError, "refused", "VASP refused to continue: "+d.said.box.Text, "see the box in the output: nanoos logs", d.said.box))
	}
	return "", nil
}

// seenNone reports that standard output had no message.
func (m *messages) seenNone() bool { return len(m.hits) == 0 }

// ended reports that the program came to its own end, by each of the files that
// can tell.
func (d *dossier) ended() bool {
	if d.xml == nil && d.out == nil {
		return false
	}
	return (d.xml == nil || d.xml.closed) && (d.out == nil || d.out.timing)
}

// linesOnly reports that only OSZICAR or standard output is here, and not
// because a job of ours lost the rest.
func (d *dossier) linesOnly() bool {
	return d.xml == nil && d.out == nil && !d.files.isJob && d.run.Exit == nil && d.main.steps > 0
}

// converged reports whether electrons and ions did, without the words for it.
func (d *dossier) converged() bool {
	if d.main.steps == 0 || d.main.scf.n > 0 && !d.set.oneShot() && !d.main.scf.met(&d.set) {
		return false
	}
	met, known := d.ionsMet()
	return met || !known
}

// byNumbers refuses energies and forces that are not numbers.
func (d *dossier) byNumbers(*engine.Summary) (engine.Outcome, *job.Failure) {
	r := d.main
	if r.steps == 0 {
		return "", nil
	}
	name := ""
	switch {
	case r.energies.known && !printed.Finite(r.energies.free):
		name = "energy"
	case r.anyForce != nil && !printed.Finite(*r.anyForce):
		name = "largest force"
	}
	if name == "" {
		return "", nil
	}
	return engine.Unstable, failure(engine.Unstable, "not_finite", "the "+name+" is not a number", "check the structure for atoms that are too close", job.Evidence{File: r.file, Text: name})
}

// byStop recognises a run that ended early because STOPCAR asked it to.
func (d *dossier) byStop(s *engine.Summary) (engine.Outcome, *job.Failure) {
	r := d.main
	soft := d.run.Exit != nil && d.run.Exit.Cause == job.CauseSoftLimit
	if r.stopped == "" && !(soft && d.ended() && !d.complete()) {
		return "", nil
	}
	if r.stopped != "" && d.ended() && d.complete() {
		return "", nil // it came to the goal at the same time
	}
	s.ConvergedElec, s.ConvergedIonic = nil, nil
	evidence := job.Evidence{File: cmp.Or(r.stopFile, r.file), Line: r.stopLine, Text: cmp.Or(r.stopped, plural(r.steps, "ionic step"))}
	if soft {
		return engine.TimeLimitGraceful, failure(engine.TimeLimitGraceful, "time_limit", "the time limit came before the end; VASP saved its state", "raise resources.walltime, or continue from CONTCAR", evidence)
	}
	return engine.StoppedByRequest, failure(engine.StoppedByRequest, "stopped_by_request", "VASP was asked to stop, and saved its state", "continue from CONTCAR", evidence)
}

// complete reports that the run did all that it was to do.
func (d *dossier) complete() bool {
	if !d.converged() {
		return false
	}
	switch d.set.motion() {
	case relaxing:
		return d.main.accuracy
	case dynamics:
		return d.main.steps >= d.set.ionicSteps()
	}
	return true
}

// byEnd asks for the program's own end.
func (d *dossier) byEnd(s *engine.Summary) (engine.Outcome, *job.Failure) {
	if d.ended() {
		if d.main.steps == 0 {
			return engine.ResultInvalid, failure(engine.ResultInvalid, "nothing_computed", "VASP ended by itself before its first energy", "see the end of the output")
		}
		return "", nil
	}
	if d.linesOnly() {
		return d.byLines(s)
	}
	where, file := "there is no output: the program ended", ""
	switch {
	case d.out != nil && !d.out.timing:
		where, file = "OUTCAR ends", d.out.r.file
	case d.xml != nil && !d.xml.closed:
		where, file = "vasprun.xml ends", d.xml.file
	case d.main.steps+d.main.total > 0:
		where, file = "the output ends", d.main.file
	}
	if d.main.steps > 0 && !d.electronsMet() {
		s.ConvergedElec = new(false)
	}
	ev := job.Evidence{File: file, Text: fmt.Sprintf("%s complete, and %s of the next", plural(d.main.steps, "ionic step"), plural(d.main.partial.n, "electronic step"))}
	if e := d.run.Exit; e != nil && e.Observed && e.Code == 0 {
		return engine.ResultInvalid, failure(engine.ResultInvalid, "output_incomplete",
			where+" before the program's own end, although it ended with status 0", "see the end of the output, and the space on the disk", ev)
	}
	return d.withExit(engine.Killed, failure(engine.Killed, "output_incomplete", where+" before the program's own end: it was killed, ran out of memory, or the machine failed", "continue from CONTCAR when it is complete", ev))
}

// byLines judges OSZICAR or standard output alone. They do not say how the
// program ended, but what they say of convergence holds.
func (d *dossier) byLines(s *engine.Summary) (engine.Outcome, *job.Failure) {
	warned := len(d.warnings)
	if o, f := d.byElectrons(s); o != "" {
		return o, f
	}
	d.warnings = d.warnings[:warned] // they come again when their turn does
	s.ConvergedElec = nil
	if e := d.main.energies.free; e > 0 {
		return engine.RecoverableError, failure(engine.RecoverableError, "positive_energy", fmt.Sprintf("the total energy is positive, %.6g eV, and the end of the run is not here", e),
			"set ALGO = Normal, lower POTIM, and check the structure", job.Evidence{File: d.main.file, Text: fmt.Sprintf("F= %.8g", e)})
	}
	unfinished := d.main.partial.n > 0
	switch d.set.motion() {
	case relaxing:
		unfinished = unfinished || !d.main.accuracy
	case dynamics, vibrating:
		unfinished = unfinished || d.main.steps < d.set.ionicSteps()
	}
	if unfinished {
		return engine.Killed, failure(engine.Killed, "output_incomplete", "the output ends before the run's own end, or the files that tell of it are not here", "name vasprun.xml or OUTCAR too", job.Evidence{File: d.main.file, Text: plural(d.main.steps, "ionic step") + " complete"})
	}
	d.warn(warnNoEnd, "the files here do not say how the program ended", "name vasprun.xml or OUTCAR too")
	return "", nil
}

func (d *dossier) electronsMet() bool {
	return d.set.oneShot() || d.main.scf.n == 0 || d.main.scf.met(&d.set)
}

// byElectrons proves that the last electronic loop converged.
func (d *dossier) byElectrons(s *engine.Summary) (engine.Outcome, *job.Failure) {
	r := d.main
	if !r.energies.known {
		return engine.ResultInvalid, failure(engine.ResultInvalid, "energy_missing", "the run ended well, but its output has no energy", "", job.Evidence{File: r.file, Text: "no energy"})
	}
	if d.set.oneShot() {
		return "", nil
	}
	if r.scf.n == 0 {
		if d.set.motion() == dynamics {
			return "", nil // a machine-learned force field has no electrons
		}
		return engine.ResultInvalid, failure(engine.ResultInvalid, "nothing_computed", "the output has no electronic steps that prove its energy", "", job.Evidence{File: r.file, Text: "no electronic steps"})
	}
	met := r.scf.met(&d.set)
	s.ConvergedElec = &met
	if !met {
		n, change := r.scf.n, r.scf.change
		if d.set.dfpt && r.scf.atGround.present {
			n, change = r.scf.ground, r.scf.atGround.change
		}
		text := fmt.Sprintf("%s of at most %d, last change of the energy %.2g eV, EDIFF %.2g eV", plural(n, "electronic step"), d.set.maxElectronic(), change, d.set.energyTolerance())
		return d.withExit(engine.SCFNotConverged, failure(engine.SCFNotConverged, "scf_not_converged", "the electrons did not converge: "+text, "raise NELM, set ALGO = Normal or All, or lower AMIX", job.Evidence{File: r.file, Text: text}))
	}
	if d.xml == nil && d.out == nil && d.set.ediff == nil {
		s.ConvergedElec = nil // by a threshold that is only supposed
	}
	if r.missed > 0 {
		d.warn(warnMissed, fmt.Sprintf("in %s before the last the electrons did not converge", plural(r.missed, "ionic step")), "raise NELM")
	}
	if r.energies.free > 0 {
		d.warn(warnPositive, fmt.Sprintf("the total energy is positive: %.6g eV", r.energies.free), "check the structure for atoms that are too close")
	}
	return "", nil
}

// ionsMet reports whether a relaxation converged. OUTCAR says so; without it
// the forces prove it where EDIFFG is a force, and else that VASP stopped before
// its last step.
func (d *dossier) ionsMet() (met, known bool) {
	r := d.main
	if d.set.motion() != relaxing {
		return false, false
	}
	if d.set.ediffg != nil && *d.set.ediffg == 0 {
		return false, false // it was asked to make all steps
	}
	if r.accuracy {
		return true, true
	}
	if d.out != nil {
		return false, true
	}
	if limit := d.set.ediffg; limit != nil && *limit < 0 {
		if r.maxForce == nil {
			return false, true
		}
		// VASP takes the drift off before it compares.
		return *r.maxForce <= math.Abs(*limit)*1.005, true
	}
	return r.steps < d.set.ionicSteps(), true
}

// byIons proves that the ions did what they were to do.
func (d *dossier) byIons(s *engine.Summary) (engine.Outcome, *job.Failure) {
	r, asked := d.main, d.set.ionicSteps()
	switch d.set.motion() {
	case dynamics:
		if r.steps < asked {
			return engine.ResultInvalid, failure(engine.ResultInvalid, "md_incomplete", fmt.Sprintf("the dynamics ended after %s of %d", plural(r.steps, "step"), asked), "continue from CONTCAR", job.Evidence{File: r.file, Text: plural(r.steps, "ionic step")})
		}
		return "", nil
	case relaxing:
	default:
		return "", nil
	}
	met, known := d.ionsMet()
	if !known {
		return "", nil
	}
	s.ConvergedIonic = &met
	if met {
		return "", nil
	}
	text := fmt.Sprintf("%s of at most %d", plural(r.steps, "ionic step"), asked)
	if r.maxForce != nil && d.set.ediffg != nil {
		text += fmt.Sprintf(", largest force %.3g eV/Å, EDIFFG %.3g", *r.maxForce, *d.set.ediffg)
	}
	code := "ionic_not_converged"
	if r.steps >= asked {
		code = "max_steps"
	}
	return d.withExit(engine.IonicNotConverged, failure(engine.IonicNotConverged, code, "the relaxation did not converge: "+text, "continue from CONTCAR, or raise NSW", job.Evidence{File: r.file, Text: text}))
}

// byStatus believes a bad status that nothing else explains.
func (d *dossier) byStatus(*engine.Summary) (engine.Outcome, *job.Failure) {
	if d.badExit() {
		return engine.UnexplainedExit(d.run.Exit)
	}
	return "", nil
}
