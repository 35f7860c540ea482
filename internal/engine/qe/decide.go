package qe

import (
	"fmt"
	"slices"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/engine/printed"
	"github.com/nano-os/nanoos/internal/job"
)

// decide says how the run ended. The order is that of the common taxonomy:
// what we did, what the machine did, what the program says of an error, that
// it was asked to stop, whether it converged, whether its files are whole, and
// only then success.
func (d *dossier) decide(s *engine.Summary) (engine.Outcome, *job.Failure) {
	for _, step := range []func(*engine.Summary) (engine.Outcome, *job.Failure){
		d.byExit, d.byError, d.byStop, d.byEnd, d.byElectrons, d.byIons, d.byNumbers, d.byFiles, d.byStatus,
	} {
		if o, f := step(s); o != "" {
			return o, f
		}
	}
	for _, w := range d.warnings {
		if slices.Contains([]string{warnGamma, warnRestart, warnClose, warnForeign}, w.Code) {
			return engine.SuccessWithWarning, nil
		}
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

// byError looks for the error block on standard output, its copy in CRASH when
// standard output has none and no good end, and standard error.
func (d *dossier) byError(*engine.Summary) (engine.Outcome, *job.Failure) {
	for _, t := range []*textRun{d.scf, d.main, d.other} {
		if t != nil && len(t.errors) > 0 {
			return d.withExit(diagnose(t.errors[0]))
		}
	}
	done := d.main != nil && d.main.done || d.main == nil && d.mainXML != nil && d.mainXML.closed && !d.files.isJob
	if d.files.crash && !done && d.other == nil {
		if e := readCrash(d.run.Files); e != nil {
			return d.withExit(diagnose(*e))
		}
	}
	if done && !d.badExit() {
		return "", nil
	}
	if mark, evidence := readStderr(d.run.Files, d.files.errs); mark != nil {
		return d.withExit(mark.outcome, failure(mark.outcome, mark.code, mark.message, mark.fix, "", evidence))
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

// byStop recognises that the program ended early because it was asked to.
func (d *dossier) byStop(*engine.Summary) (engine.Outcome, *job.Failure) {
	// A step that was stopped may be followed by the next of its chain.
	var t *textRun
	for _, of := range []*textRun{d.main, d.scf} {
		if of != nil && (of.stopped != nil || of.outOfTime != nil) {
			t = of
		}
	}
	if t == nil {
		return "", nil
	}
	softLimit := d.run.Exit != nil && d.run.Exit.Cause == job.CauseSoftLimit
	if t.outOfTime != nil || softLimit {
		evidence := t.outOfTime
		if evidence == nil {
			evidence = t.stopped
		}
		return engine.TimeLimitGraceful, failure(engine.TimeLimitGraceful, "time_limit",
			"the time limit came before the end; pw.x saved its state", "raise resources.walltime", "", *evidence)
	}
	return engine.StoppedByRequest, failure(engine.StoppedByRequest, "stopped_by_request",
		"pw.x was asked to stop, and saved its state", "", "", *t.stopped)
}

// byEnd asks for the program's own normal end, in text and, where there is no
// text, in the XML file.
func (d *dossier) byEnd(*engine.Summary) (engine.Outcome, *job.Failure) {
	last := d.main
	if d.other != nil {
		last = d.other
	}
	switch {
	case last != nil && last.done && last.isPW() && !last.began():
		return engine.ResultInvalid, failure(engine.ResultInvalid, "nothing_computed", "pw.x ended by itself before its first SCF iteration", "check nstep, which must be above 0", "")
	case last != nil && last.done:
		return "", nil
	case last == nil && d.mainXML != nil && d.mainXML.closed && !d.files.isJob:
		return "", nil
	}
	where := "the output ends"
	if last == nil {
		where = "the XML file ends"
	}
	if last == nil && (d.mainXML == nil || d.files.isJob) {
		where = "there is no output: the program ended"
	}
	if e := d.run.Exit; e != nil && e.Observed && e.Code == 0 {
		return engine.ResultInvalid, failure(engine.ResultInvalid, "output_incomplete",
			where+" before the program's own end, although it ended with status 0", "see the end of the output, and the space on the disk", "")
	}
	f := failure(engine.Killed, "output_incomplete", where+" before the program's own end: it was killed, ran out of memory, or the machine failed", "", "")
	return d.withExit(engine.Killed, f)
}

// byElectrons proves that SCF converged: every flag must say so, and the
// accuracy must be within the threshold, since with scf_must_converge = .false.
// the flags of text and XML are true in any case.
func (d *dossier) byElectrons(s *engine.Summary) (engine.Outcome, *job.Failure) {
	if d.main == nil && d.mainXML == nil {
		return "", nil // another program of the suite
	}
	if d.scf == nil && d.scfXML == nil {
		return d.byBands()
	}
	proof := d.electrons()
	s.ConvergedElec = proof.converged
	if proof.converged != nil && *proof.converged {
		if d.scf != d.main || d.scfXML != d.mainXML {
			return d.byBands()
		}
		return "", nil
	}
	f := failure(engine.SCFNotConverged, "scf_not_converged", proof.message,
		"raise electron_maxstep, lower mixing_beta to 0.3, use smearing for a metal, or mixing_mode: local-TF for a slab", "")
	if proof.evidence.File != "" {
		f.Evidence = []job.Evidence{proof.evidence}
	}
	return d.withExit(engine.SCFNotConverged, f)
}

// proof is what was found of convergence; converged is nil when nothing says.
type proof struct {
	converged *bool
	message   string
	evidence  job.Evidence
}

// printedDigits allows for the two digits in which the text prints accuracy
// and threshold.
const printedDigits = 1.1

func (d *dossier) electrons() proof {
	p := proof{message: "nothing says that SCF converged"}
	if t := d.scf; t != nil {
		switch {
		case t.scf == nil && t.scfStarted:
			return proof{message: "the last SCF cycle did not end"}
		case t.scf != nil && !*t.scf:
			return proof{new(false), fmt.Sprintf("SCF did not converge in %s", plural(t.inCycle, "iteration")), job.Evidence{File: t.file, Text: "convergence NOT achieved"}}
		case t.scf != nil:
			p = proof{converged: new(true)}
		}
		if t.accuracy != nil && t.convThr > 0 && !t.exx && !(*t.accuracy <= t.convThr*printedDigits) {
			return proof{new(false), fmt.Sprintf("SCF stopped at an accuracy of %.1e Ry; the threshold is %.1e Ry", *t.accuracy, t.convThr), job.Evidence{File: t.file, Text: "estimated scf accuracy"}}
		}
	}
	x := d.scfXML
	if x == nil {
		return p
	}
	if x.scfFlag != nil {
		if !*x.scfFlag {
			return proof{new(false), "SCF did not converge", job.Evidence{File: x.file, Text: "convergence_achieved is false"}}
		}
		p = proof{converged: new(true)}
	}
	exx := d.scf != nil && d.scf.exx
	if x.scfError == nil || x.convThr == nil || exx {
		return p
	}
	if !(*x.scfError <= *x.convThr*(1+1e-6)) {
		return proof{new(false), fmt.Sprintf("SCF stopped at an accuracy of %.1e Ry; the threshold is %.1e Ry", 2**x.scfError, 2**x.convThr), job.Evidence{File: x.file, Text: "scf_error is above conv_thr"}}
	}
	// Versions to 6.3 write no flag; the numbers are the proof then.
	if x.scfFlag == nil && d.scf == nil && x.closed && *x.scfError > 0 {
		p = proof{converged: new(true)}
	}
	return p
}

// byBands asks an nscf or bands run for its bands.
func (d *dossier) byBands() (engine.Outcome, *job.Failure) {
	if t := d.main; t != nil && t.bandsDone {
		return "", nil
	}
	if x := d.mainXML; d.main == nil && x != nil && x.bands != nil && x.bands.n == x.nks && x.nks > 0 {
		return "", nil
	}
	return engine.ResultInvalid, failure(engine.ResultInvalid, "bands_incomplete", "the run ended, but did not compute all its bands", "", "")
}

// byIons proves that a relaxation ended at its minimum, and a dynamics run at
// its last step.
func (d *dossier) byIons(s *engine.Summary) (engine.Outcome, *job.Failure) {
	t, x := d.main, d.mainXML
	switch d.kind() {
	case "md", "vc-md":
		if t != nil && !t.mdEnded && !t.maxStepsReached && (t.nstep == 0 || t.mdStep < t.nstep) {
			return mdIncomplete(t.mdStep, t.nstep)
		}
		if t == nil && x.nstep != nil && x.steps < *x.nstep {
			return mdIncomplete(x.steps, *x.nstep)
		}
		return "", nil
	case "relax", "vc-relax":
	default:
		return "", nil
	}
	failed := t != nil && (t.relaxFailed || t.historyReset)
	proven := t != nil && t.relaxed && !failed || x != nil && x.optFlag != nil && *x.optFlag
	denied := t != nil && (t.maxStepsReached || failed && !proven) || x != nil && x.optFlag != nil && !*x.optFlag
	s.ConvergedIonic = new(proven && !denied)
	if *s.ConvergedIonic {
		return "", nil
	}
	code, message, fix := "ionic_not_converged", "the relaxation did not converge", "continue from the last structure"
	switch {
	case t != nil && t.maxStepsReached:
		code, message, fix = "max_steps", "the relaxation did not converge within its steps", "continue from the last structure, or raise nstep"
	case failed:
		code, message, fix = "bfgs_failed", "the BFGS search failed", "lower conv_thr, or start from a slightly changed structure"
	}
	return d.withExit(engine.IonicNotConverged, failure(engine.IonicNotConverged, code, message, fix, ""))
}

func mdIncomplete(done, asked int) (engine.Outcome, *job.Failure) {
	return engine.ResultInvalid, failure(engine.ResultInvalid, "md_incomplete", fmt.Sprintf("the dynamics ended after %s of %d", plural(done, "step"), asked), "", "")
}

// byNumbers refuses a result that has no number where one must be, or one that
// is not finite.
func (d *dossier) byNumbers(s *engine.Summary) (engine.Outcome, *job.Failure) {
	if d.main == nil && d.mainXML == nil {
		return "", nil
	}
	for _, n := range []struct {
		name  string
		value *float64
	}{{"energy", s.EnergyEV}, {"largest force", s.MaxForceEVPerA}, {"pressure", s.PressureGPa}, {"Fermi energy", s.FermiEnergyEV}} {
		if n.value != nil && !printed.Finite(*n.value) {
			return engine.Unstable, failure(engine.Unstable, "not_finite", "the "+n.name+" is not a number", "check the structure for atoms that are too close", "")
		}
	}
	if (d.scf != nil || d.scfXML != nil) && s.EnergyEV == nil {
		return engine.ResultInvalid, failure(engine.ResultInvalid, "energy_missing", "the run ended well, but its output has no energy", "", "")
	}
	return "", nil
}

// byFiles looks at the data that a later step would read: on a full disk pw.x
// ends with a farewell and status 0, and leaves files without a byte.
func (d *dossier) byFiles(*engine.Summary) (engine.Outcome, *job.Failure) {
	d.files.empty = append(d.files.empty, d.files.cutCopies(d.run.Files)...)
	if len(d.files.empty) == 0 {
		return "", nil
	}
	slices.Sort(d.files.empty)
	var evidence []job.Evidence
	for _, name := range d.files.empty[:min(3, len(d.files.empty))] {
		evidence = append(evidence, job.Evidence{File: name, Text: "empty or cut"})
	}
	return engine.FileSystemError, failure(engine.FileSystemError, "output_files_cut",
		fmt.Sprintf("%s of the saved state empty or cut: the disk was full", plural(len(d.files.empty), "file")), "free space, or choose another data directory", "", evidence...)
}

// byStatus believes a bad status that nothing else explains.
func (d *dossier) byStatus(*engine.Summary) (engine.Outcome, *job.Failure) {
	if x := d.mainXML; x != nil && x.exitStatus != nil && *x.exitStatus != 0 {
		switch *x.exitStatus {
		case 2:
			return engine.SCFNotConverged, failure(engine.SCFNotConverged, "scf_not_converged", "the XML file says that SCF did not converge", "raise electron_maxstep, or lower mixing_beta", "", job.Evidence{File: x.file, Text: "exit_status 2"})
		case 3:
			return engine.IonicNotConverged, failure(engine.IonicNotConverged, "ionic_not_converged", "the XML file says that the ions did not converge", "continue from the last structure", "", job.Evidence{File: x.file, Text: "exit_status 3"})
		case 255:
			return engine.StoppedByRequest, failure(engine.StoppedByRequest, "stopped_by_request", "the XML file says that the run was stopped", "", "", job.Evidence{File: x.file, Text: "exit_status 255"})
		}
		return engine.ProgramError, failure(engine.ProgramError, "exit_status", fmt.Sprintf("the XML file has exit status %d", *x.exitStatus), "", "", job.Evidence{File: x.file, Text: "exit_status"})
	}
	if d.badExit() {
		return engine.UnexplainedExit(d.run.Exit)
	}
	return "", nil
}
