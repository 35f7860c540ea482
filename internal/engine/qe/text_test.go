package qe

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
)

// oneRun reads text that has one run.
func oneRun(t *testing.T, lines ...string) *textRun {
	t.Helper()
	runs, err := readText("pw.out", strings.NewReader(strings.Join(lines, "\n")+"\n"))
	if err != nil || len(runs) != 1 {
		t.Fatalf("%d runs, %v", len(runs), err)
	}
	return runs[0]
}

const (
	bannerLine = "     Program PWSCF v.6.7MaX starts on 25Nov2026 at 14:12:30 "
	forcesHead = "     Forces acting on atoms (cartesian axes, Ry/au):\n"
	force1     = "     atom    1 type  1   force =     0.02928399    0.00833679   -0.02929053"
	force2     = "     atom    2 type  1   force =    -0.02928399   -0.00833679    0.02929053"
	positions  = "ATOMIC_POSITIONS (crystal)\nSi  0.0 0.0 0.0    0   0   0\nSi  0.26 0.25 0.24    1   1   0\n"
	energyLine = "!    total energy              =     -15.84738547 Ry"
)

// pw.x prints the forces before it takes the fixed coordinates out, and their
// total after.
func TestForcesOnWhatMayNotMoveDoNotCount(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lines []string
		want  *float64
	}{
		"free":        {[]string{force1, force2, "     Total force =     0.059749"}, new(0.0422491)},
		"fixed":       {[]string{force1, force2, "     Total force =     0.030448", positions}, new(0.0304477)},
		"constrained": {[]string{force1, force2, "     Total force =     0.059749", "     Total force =     0.001598"}, nil},
		"no total":    {[]string{force1, force2}, new(0.0422491)},
		"no forces":   {nil, nil},
	} {
		run := oneRun(t, append([]string{bannerLine, energyLine, forcesHead}, c.lines...)...)
		near(t, name, run.maxForce(), c.want, 1e-6)
	}
}

func TestCrystalCoordinatesAreNotAnotherStructure(t *testing.T) {
	t.Parallel()
	run := oneRun(t, bannerLine, "     lattice parameter (alat)  =       2.0000  a.u.",
		"     site n.     atom                  positions (alat units)",
		"         1           Co  tau(   1) = (   0.0000000   0.0000000   0.8078446  )", "",
		"     site n.     atom                  positions (cryst. coord.)",
		"         1           Co  tau(   1) = (  0.0000000  0.0000000  0.0807845  )", "")
	if z := run.last.positions[0][2]; len(run.last.positions) != 1 || z != 2*0.8078446*crystal.BohrA {
		t.Errorf("positions %v", run.last.positions)
	}
}

func TestOutputOfVersion4(t *testing.T) {
	t.Parallel()
	run := oneRun(t, "     Program PWSCF     v.4.1    starts ...", "     Today is 18Jul2009 at 10: 5: 8 ",
		"     lattice parameter (a_0)   =       9.2899  a.u.", "     convergence threshold     =      1.0E-06", energyLine,
		"     PWSCF        :     4.61s CPU time,    4.79s wall time")
	if run.version != "4.1" || run.alat != 9.2899 || run.convThr != 1e-6 || !run.done || *run.wall != 4.79 || run.startTime().Year() != 2009 {
		t.Errorf("%+v", run)
	}
}

func TestDampedCellDynamicsIsARelaxation(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"Wentzcovitch", "Parrinello-Rahman"} {
		head := []string{bannerLine, energyLine, "     " + method + " Damped Cell Dynamics Minimization:", "     Entering Dynamics;  it =     1   time =  0.00000 pico-seconds"}
		run := oneRun(t, append(head, "     convergence achieved, Efinal=   -25.49946688")...)
		if run.md || !run.relax || !run.variable || !run.relaxed {
			t.Errorf("%s: %+v", method, run)
		}
		run = oneRun(t, append(head, "     Maximum number of iterations reached, stopping")...)
		if run.md || run.relaxed || !run.maxStepsReached {
			t.Errorf("%s without convergence: %+v", method, run)
		}
	}
}

func TestRunThatOnlyInitialisedIsNoSuccess(t *testing.T) {
	t.Parallel()
	res := parseFiles(t, textFS(bannerLine, "     number of atoms/cell      =            2", "   JOB DONE."), nil)
	wantOutcome(t, res, engine.ResultInvalid)
}

func TestErrorsThatRealRunsMet(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]engine.Outcome{
		"error writing file ./out/x.save/charge-density":            engine.FileSystemError,
		"some of the original symmetry operations not satisfied":    engine.RecoverableError,
		"2D cutoff is smaller than pseudo cutoff radius:  increase": engine.InputError,
		"opening input file": engine.MissingFile,
	} {
		bar := strings.Repeat("%", 80)
		res := parseFiles(t, textFS(bannerLine, bar, "     Error in routine r (1):", "     "+message, bar), nil)
		wantOutcome(t, res, want)
	}
	for _, line := range []string{" [Q, R] = qr(X, 0) failed", "  probably because G_par is NOT a reciprocal lattice vector "} {
		wantOutcome(t, parseFiles(t, textFS("lines removed", line), nil), engine.RecoverableError)
	}
	files := textFS(bannerLine, "     Self-consistent Calculation")
	files["pw.err"] = textFS("MPI_ABORT was invoked on rank 0 in communicator MPI_COMM_WORLD")["pw.out"]
	wantOutcome(t, parseFiles(t, files, nil), engine.ProgramError)
}

func textFS(lines ...string) fstest.MapFS {
	return fstest.MapFS{"pw.out": {Data: []byte(strings.Join(lines, "\n") + "\n")}}
}

func TestXMLOfAnotherSystemIsNotRead(t *testing.T) {
	t.Parallel()
	for _, other := range []string{"al_scf_smearing/scf", "si_relax/relax", "si_scf_noconv/scf"} {
		r, foreign := recordedStep(t, "si_scf/scf"), recordedStep(t, other)
		want := parseFiles(t, fstest.MapFS{"scf.out": r.files["scf.out"]}, nil)
		res := parseFiles(t, fstest.MapFS{"scf.out": r.files["scf.out"], "x.xml": foreign.files[foreign.step.XMLFile]}, nil)
		wantOutcome(t, res, engine.SuccessWithWarning)
		if !hasWarning(res, warnForeign) || res.Summary.Formula != want.Summary.Formula || *res.Summary.EnergyEV != *want.Summary.EnergyEV {
			t.Errorf("%s: %s, %v, warnings %+v", other, res.Summary.Formula, *res.Summary.EnergyEV, res.Warnings)
		}
	}
}

// An XML file is whole after every step of a dynamics run.
func TestXMLOfDynamicsWithoutItsLastStepIsNoSuccess(t *testing.T) {
	t.Parallel()
	r := recordedStep(t, "si_md/md")
	delete(r.files, r.step.StdoutFile)
	wantOutcome(t, parseFiles(t, r.files, nil), engine.Success)
	text := string(r.files[r.step.XMLFile].Data)
	i := strings.LastIndex(text, "<step ")
	j := strings.LastIndex(text, "</step>") + len("</step>")
	r.files[r.step.XMLFile] = &fstest.MapFile{Data: []byte(text[:i] + text[j:])}
	wantOutcome(t, parseFiles(t, r.files, nil), engine.ResultInvalid)
}

// Versions to 6.3 write the accuracy alone.
func TestXMLWithoutAFlagIsJudgedByItsAccuracy(t *testing.T) {
	t.Parallel()
	for scfError, want := range map[string]engine.Outcome{"5.389468224520160e-10": engine.Success, "5.389468224520160e-5": engine.SCFNotConverged} {
		r := recordedStep(t, "si_scf/scf")
		delete(r.files, r.step.StdoutFile)
		text := string(r.files[r.step.XMLFile].Data)
		text = replaceElement(t, text, "convergence_achieved", "")
		text = replaceElement(t, text, "scf_error", "<scf_error>"+scfError+"</scf_error>")
		r.files[r.step.XMLFile] = &fstest.MapFile{Data: []byte(text)}
		wantOutcome(t, parseFiles(t, r.files, nil), want)
	}
}

// replaceElement puts text in place of the first element of a name.
func replaceElement(t *testing.T, text, name, by string) string {
	t.Helper()
	before, rest, ok := strings.Cut(text, "<"+name+">")
	_, after, closed := strings.Cut(rest, "</"+name+">")
	if !ok || !closed {
		t.Fatalf("no element %s", name)
	}
	return before + by + after
}

func TestOutputWithoutItsBeginningIsJudged(t *testing.T) {
	t.Parallel()
	files := textFS("ial", "     Self-consistent Calculation", "     iteration #  1     ecut=    30.00 Ry     beta= 0.40",
		"     total energy              =     -22.83490430 Ry", "     estimated scf accuracy    <       0.00004952 Ry")
	wantOutcome(t, parseFiles(t, files, nil), engine.Killed)
	relaxed := recordedStep(t, "si_relax/relax")
	files["data-file-schema.xml"] = relaxed.files[relaxed.step.XMLFile]
	wantOutcome(t, parseFiles(t, files, nil), engine.Killed)
}

func TestPseudopotentialThatWasCutIsRefused(t *testing.T) {
	t.Parallel()
	whole := "<UPF version=\"2.0.1\">\n<PP_HEADER element=\"Si\" pseudo_type=\"NC\" z_valence=\"4.0\"/>\n<PP_MESH>\n</PP_MESH>\n</UPF>\n"
	files := fstest.MapFS{"whole.UPF": {Data: []byte(whole)}, "cut.UPF": {Data: []byte(whole[:len(whole)-20])}}
	if _, err := readUPF(files, "whole.UPF"); err != nil {
		t.Error(err)
	}
	if _, err := readUPF(files, "cut.UPF"); err == nil || !strings.Contains(err.Error(), "is cut") {
		t.Errorf("a file that was cut: %v", err)
	}
}
