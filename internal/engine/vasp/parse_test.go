package vasp

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// outcarText is the skeleton of a relaxation of one atom in OUTCAR, for what
// no recorded run shows.
func outcarText(nelm int, changes []float64, tail string) string {
	var b strings.Builder
	fmt.Fprintf(&b, " vasp.6.4.1 05Apr23 (build May 18 2023) complex\n executed on Linux date 2024.03.14  14:25:01\n   VRHFIN =Si: s2p2\n   k-points           NKPTS =      1   k-points in BZ\n")
	fmt.Fprintf(&b, "   number of dos      NEDOS =    301   number of ions     NIONS =      1\n   ions per type =               1\n   NELM   =   %4d;   NELMIN=  2; NELMDL= -5\n   EDIFF  = 0.1E-03   stopping\n   EDIFFG = -.1E-01\n   NSW    =      5\n   IBRION =      2\n   ISPIN  =      1\n", nelm)
	energy := -5.0
	for i, c := range changes {
		energy += c
		fmt.Fprintf(&b, "----------------------------------------- Iteration    1(%4d)  ---------------------------------------\n  free energy    TOTEN  =  %16.8f eV\n", i+1, energy)
	}
	fmt.Fprintf(&b, "  free  energy   TOTEN  =  %16.8f eV\n\n  energy  without entropy=  %.8f  energy(sigma->0) =  %.8f\n%s", energy, energy, energy, tail)
	return b.String()
}

const (
	accuracyText = " reached required accuracy - stopping structural energy minimisation\n"
	timingText   = " General timing and accounting informations for this job:\n                         Elapsed time (sec):       32.504\n"
)

func TestConvergenceIsProvenByNumbers(t *testing.T) {
	t.Parallel()
	good := []float64{-1, -0.1, -1e-5}
	for name, c := range map[string]struct {
		text string
		want engine.Outcome
		code string
	}{
		"all is well":                         {outcarText(60, good, accuracyText+timingText), engine.Success, ""},
		"it says so, but the energy moves":    {outcarText(60, []float64{-1, -0.1, -1e-2}, accuracyText+timingText), engine.SCFNotConverged, "scf_not_converged"},
		"steps used up at convergence":        {outcarText(3, good, accuracyText+timingText), engine.Success, ""},
		"steps used up before":                {outcarText(3, []float64{-1, -0.1, -0.05}, accuracyText+timingText), engine.SCFNotConverged, "scf_not_converged"},
		"no word of accuracy":                 {outcarText(60, good, timingText), engine.IonicNotConverged, "ionic_not_converged"},
		"a single electronic step":            {outcarText(60, []float64{-1}, accuracyText+timingText), engine.SCFNotConverged, "scf_not_converged"},
		"no end":                              {outcarText(60, good, accuracyText), engine.Killed, "output_incomplete"},
		"asked to stop":                       {outcarText(60, good, " soft stop encountered!  aborting job ...\n"+timingText), engine.StoppedByRequest, "stopped_by_request"},
		"asked to stop between rules":         {outcarText(60, good, "------ hard stop encountered!  aborting job ... ------\n"+timingText), engine.StoppedByRequest, "stopped_by_request"},
		"energy of stars":                     {strings.ReplaceAll(outcarText(60, good, accuracyText+timingText), "free  energy   TOTEN  =       -6.10001000", "free  energy   TOTEN  = ****************"), engine.Unstable, "not_finite"},
		"number of ions beyond all measure":   {strings.Replace(outcarText(60, good, accuracyText+timingText), "ions per type =               1", "ions per type = 1000000000000", 1), engine.Success, ""},
		"a box broken in the middle of words": {outcarText(60, good, "|     VERY BAD NEWS! internal error in subroutine SGRCON: Found some non-integer element in rotation matrix |\n"), engine.RecoverableError, "rot_matrix"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res := parseFiles(t, fstest.MapFS{"OUTCAR": {Data: []byte(c.text)}}, nil)
			code := ""
			if res.Failure != nil {
				code = res.Failure.Code
			}
			if res.Outcome != c.want || code != c.code {
				t.Errorf("%s %s, want %s %s: %+v", res.Outcome, code, c.want, c.code, res.Failure)
			}
			if (res.Verdict == job.Converged) != c.want.Succeeded() {
				t.Errorf("verdict %s", res.Verdict)
			}
		})
	}
}

func TestVASP6SaysThatElectronsDidNotConverge(t *testing.T) {
	t.Parallel()
	text := strings.Replace(outcarText(3, []float64{-1, -0.1, -1e-5}, accuracyText+timingText), "  free  energy", "-------- aborting loop EDIFF was not reached (unconverged)  --------\n  free  energy", 1)
	res := parseFiles(t, fstest.MapFS{"OUTCAR": {Data: []byte(text)}}, nil)
	if res.Outcome != engine.SCFNotConverged {
		t.Errorf("%s %+v", res.Outcome, res.Failure)
	}
}

func TestHowTheProgramEndedComesFirst(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{"OUTCAR": {Data: []byte(outcarText(60, []float64{-1, -0.1, -1e-5}, accuracyText+timingText))}, "stdout": {Data: nil}}
	for name, c := range map[string]struct {
		exit job.Exit
		want engine.Outcome
	}{
		"good":                 {job.Exit{Observed: true}, engine.Success},
		"status 1":             {job.Exit{Observed: true, Code: 1}, engine.ProgramError},
		"a signal":             {job.Exit{Observed: true, Signal: "SIGSEGV"}, engine.Killed},
		"no memory":            {job.Exit{Observed: true, Cause: job.CauseOOM}, engine.OutOfMemory},
		"cancelled by a human": {job.Exit{Observed: true, Cause: job.CauseCancelled}, engine.StoppedByRequest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if res := parseFiles(t, files, &c.exit); res.Outcome != c.want {
				t.Errorf("%s, want %s: %+v", res.Outcome, c.want, res.Failure)
			}
		})
	}
}

func TestAJobWithoutOutputOfVASPIsNoSuccess(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{"stdout": {Data: []byte("DAV:   1    -0.1E+02    0.1E+01   -0.2E+03  2056   0.5E+02\nDAV:   2    -0.1E+02    0.1E-07   -0.2E-08  2056   0.5E-02\n   1 F= -.10E+02 E0= -.10E+02  d E =0.0E+00\n")}}
	if res := parseFiles(t, files, &job.Exit{Observed: true}); res.Outcome != engine.ResultInvalid {
		t.Errorf("%s %+v", res.Outcome, res.Failure)
	}
}

func TestStepsWithoutTheirThresholdProveNothing(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{"OSZICAR": {Data: []byte("DAV:   1    -0.1E+02    0.1E+01   -0.2E+03  2056   0.5E+02\nDAV:   2    -0.1E+02    0.1E-07   -0.2E-08  2056   0.5E-02\n   1 F= -.10E+02 E0= -.10E+02  d E =0.0E+00\n")}}
	if res := parseFiles(t, files, nil); res.Outcome != engine.SuccessWithWarning || res.Verdict != job.NotApplicable || len(res.Warnings) != 1 {
		t.Errorf("%s, %s, %+v", res.Outcome, res.Verdict, res.Warnings)
	}
	files["INCAR"] = &fstest.MapFile{Data: []byte("EDIFF = 1E-6\n")}
	if res := parseFiles(t, files, nil); res.Outcome != engine.SuccessWithWarning || res.Verdict != job.Converged {
		t.Errorf("%s, %s", res.Outcome, res.Verdict)
	}
}
