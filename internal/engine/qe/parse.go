package qe

import (
	"encoding/json"
	"fmt"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/engine/printed"
	"github.com/nano-os/nanoos/internal/job"
)

// dossier is everything known of one run, from which its outcome is decided.
type dossier struct {
	run   engine.Run
	files runFiles

	// main is the last start of pw.x, other a later start of another program.
	// scf is the start that the energy comes from: main itself, or the scf step
	// before an nscf or bands step. Each is nil when there is no text of it, and
	// has its XML beside it, nil when there is none that belongs to it.
	main, scf, other *textRun
	mainXML, scfXML  *xmlRun

	warnings []engine.Warning
}

// Parse implements engine.Engine.
func (q *QE) Parse(r engine.Run) (*engine.Result, error) {
	d := &dossier{run: r}
	var err error
	if d.files, err = findFiles(r.Files); err != nil {
		return nil, err
	}
	texts, err := readTexts(r.Files, d.files.texts)
	if err != nil {
		return nil, err
	}
	xmls, err := readXMLs(r.Files, d.files.xmls)
	if err != nil {
		return nil, err
	}
	if len(texts)+len(xmls) == 0 && r.Spec == nil && r.Exit == nil && !d.files.crash {
		return nil, &job.Error{Code: job.Invalid, Message: "no run of Quantum ESPRESSO was found", Why: "no output or XML file of pw.x is here", Fix: "name the directory of the run, or its output files"}
	}
	d.choose(texts, xmls)
	res := &engine.Result{}
	d.summarise(&res.Summary)
	d.series(res)
	d.structures(res)
	d.note()
	res.Outcome, res.Failure = d.decide(&res.Summary)
	dropNotFinite(&res.Summary)
	res.Verdict = d.verdict(res.Outcome)
	res.Warnings = d.warnings
	return res, nil
}

// choose finds the runs that count and the XML file of each.
func (d *dossier) choose(texts []*textRun, xmls []*xmlRun) {
	for _, t := range texts {
		if !t.isPW() {
			d.other = t
			continue
		}
		if t.kind() == kindSCF {
			d.scf = t
		}
		d.main, d.other = t, nil
	}
	if d.main == nil {
		d.chooseXML(xmls)
		return
	}
	if !d.main.bandsOnly || d.scf != nil && d.scf.nat != d.main.nat {
		d.scf = d.main
	}
	var others bool
	d.mainXML, others = bestXML(d.main, xmls)
	if d.main.done && d.mainXML == nil && others {
		d.warn(warnForeign, "the XML file here is of another run, and was not read", "")
	}
	switch {
	case d.scf == d.main:
		d.scfXML = d.mainXML
	case d.scf != nil:
		d.scfXML, _ = bestXML(d.scf, xmls)
	default:
		// Only the text of the last step is here; the XML of the scf may be.
		for _, x := range xmls {
			if x != d.mainXML && !x.bandsOnly() && x.etot != nil && natoms(x) == d.main.nat {
				d.scfXML = x
			}
		}
	}
	d.compare()
}

// chooseXML is for runs without any text: the last in a chain counts.
func (d *dossier) chooseXML(xmls []*xmlRun) {
	for _, x := range xmls {
		if d.mainXML == nil || x.bandsOnly() && !d.mainXML.bandsOnly() {
			d.mainXML = x
		}
		if !x.bandsOnly() && x.etot != nil {
			d.scfXML = x
		}
	}
	if d.mainXML != nil && !d.mainXML.bandsOnly() {
		d.scfXML = d.mainXML
	}
}

// bandsOnly reports whether the run computed bands in a given density: it has
// no energy and no SCF to converge.
func (x *xmlRun) bandsOnly() bool { return x.calculation == "nscf" || x.calculation == "bands" }

func natoms(x *xmlRun) int {
	if x.atoms == nil {
		return 0
	}
	return len(x.atoms.positions)
}

// bestXML returns the file that belongs to a run: of the same kind and system,
// and then the one that agrees best. others reports that a file of another run
// is there.
func bestXML(t *textRun, xmls []*xmlRun) (best *xmlRun, others bool) {
	bestScore := 0
	for _, x := range xmls {
		if x.calculation != "" && t.program != "" && x.bandsOnly() != t.bandsOnly && (t.bandsOnly || t.scfStarted) {
			continue
		}
		if t.contradicts(x) {
			others = true
			continue
		}
		if score := t.match(x); best == nil || score > bestScore {
			best, bestScore = x, score
		}
	}
	if best != nil && !t.owns(best, len(xmls)) {
		return nil, true
	}
	return best, others
}

// contradicts reports whether x tells of another system than the text, or of a
// finished run with another energy.
func (t *textRun) contradicts(x *xmlRun) bool {
	if n := natoms(x); n > 0 && t.nat > 0 && n != t.nat {
		return true
	}
	if x.atoms != nil && len(t.species) > 0 && slices.ContainsFunc(x.atoms.labels, func(label string) bool { return t.species[label] == "" }) {
		return true
	}
	if x.nelec != nil && t.nelec > 0 && math.Abs(*x.nelec-t.nelec) > 0.02 {
		return true // the text has two decimals
	}
	if n := max(x.nbnd, x.nup); n > 0 && t.nbnd > 0 && n != t.nbnd {
		return true
	}
	return t.done && t.energy != nil && x.etot != nil && !t.agreesNow(x)
}

func (t *textRun) match(x *xmlRun) int {
	score := 0
	if stem(t.file) == stem(x.file) {
		score += 8
	}
	if t.agrees(x) {
		score += 16
	}
	if t.nk > 0 && t.nk == x.nks {
		score++
	}
	if x.closed {
		score += 4
	}
	if strings.HasSuffix(path.Dir(x.file), ".save") {
		score += 2 // the newest state, while PREFIX.xml is written at the end only
	}
	return score
}

// owns reports whether x was written by this run. A run that was cut short may
// lie beside the file of an earlier one: then the energies must agree.
func (t *textRun) owns(x *xmlRun, candidates int) bool {
	if t.agrees(x) || t.bandsOnly {
		return true
	}
	return t.done && (candidates == 1 || stem(t.file) == stem(x.file) || t.energy == nil)
}

func stem(name string) string {
	base := path.Base(name)
	return strings.TrimSuffix(base, path.Ext(base))
}

// energyTolerance, in Ry, is far above the rounding of print and far below any
// difference between two runs that matters.
const energyTolerance = 1e-5

// agrees reports whether the XML has an energy that the text printed. That of
// an earlier step counts too: a run may end before its XML is written again.
func (t *textRun) agrees(x *xmlRun) bool {
	if t.agreesNow(x) {
		return true
	}
	n := x.ionicTable.Len()
	if n == 0 {
		return false
	}
	last := x.ionicTable.Column(1)[n-1] / crystal.RydbergEV
	said := t.ionicTable.Column(1)
	return slices.ContainsFunc(said[max(0, len(said)-10):], func(e float64) bool { return math.Abs(e/crystal.RydbergEV-last) < energyTolerance })
}

// agreesNow reports whether the XML has the last energy of the text.
func (t *textRun) agreesNow(x *xmlRun) bool {
	near := func(a *float64) bool { return a != nil && math.Abs(*a-2**x.etot) < energyTolerance }
	return x.etot != nil && (near(t.energy) || near(t.running))
}

// compare warns where text and XML contradict each other.
func (d *dossier) compare() {
	t, x := d.scf, d.scfXML
	if t == nil || x == nil || !t.done {
		return
	}
	if t.scf != nil && x.scfFlag != nil && *t.scf != *x.scfFlag {
		d.warn("text_xml_disagree", fmt.Sprintf("the output says that SCF converged: %v, the XML file: %v; the worse is believed", *t.scf, *x.scfFlag), x.file)
	}
	if x.optFlag != nil && (t.relaxed || t.maxStepsReached) && t.relaxed != *x.optFlag {
		d.warn("text_xml_disagree", fmt.Sprintf("the output says that the relaxation converged: %v, the XML file: %v; the worse is believed", t.relaxed, *x.optFlag), x.file)
	}
}

func (d *dossier) warn(code, message, file string) {
	d.warnings = append(d.warnings, engine.Warning{Code: code, Message: message, File: file})
}

// note collects the warnings about a run that may well have succeeded.
func (d *dossier) note() {
	if t := d.main; t != nil {
		if t.restartAbsent && t.scfStarted {
			d.warnings = append(d.warnings, engine.Warning{Code: warnRestart, File: t.file,
				Message: "the run was asked to continue an earlier one, found nothing to continue from, and started anew",
				Fix:     "keep the files of the earlier run in outdir, or set restart_mode to from_scratch"})
		}
		d.warnings = append(d.warnings, t.oddityWarnings()...)
	}
	if t := d.scf; t != nil && t != d.main {
		d.warnings = append(d.warnings, t.oddityWarnings()...)
	}
	if message := d.gammaOnly(); message != "" {
		d.warnings = append(d.warnings, engine.Warning{Code: warnGamma, Message: message, Fix: "give kpoints"})
	}
	d.noteFinalPressure()
	d.noteContacts()
}

// noteContacts tells of atoms so near that the numbers mean nothing, which pw.x
// computes without a word.
func (d *dossier) noteContacts() {
	var last *atoms
	switch {
	case d.mainXML != nil && d.mainXML.atoms != nil:
		last = d.mainXML.atoms
	case d.main != nil:
		last = d.main.last
	}
	s := last.structure(d.main)
	if s == nil {
		return
	}
	message := ""
	if problems := s.Validate(); len(problems) > 0 {
		message = problems[0].Message
	} else if near := s.Close(crystal.CloseFactor); len(near) > 0 {
		message = s.Describe(near[0])
	}
	if message != "" {
		d.warnings = append(d.warnings, engine.Warning{Code: warnClose, Message: message, Fix: "check the structure and its units"})
	}
}

// Warnings that put a success in doubt.
const (
	warnClose   = "atoms_close"
	warnForeign = "xml_of_another_run"
	warnGamma   = "gamma_only"
	warnRestart = "restart_data_absent"
)

// smallCell is the length in Å of a cell vector below which one k-point cannot
// be enough: the spacing of k-points would be above 0.63 per Å.
const smallCell = 10

// gammaOnly says why a run at Gamma alone was hardly meant: its deck has no
// K_POINTS card, or it has none here and the cell is small. pw.x treats a
// missing card as K_POINTS gamma.
func (d *dossier) gammaOnly() string {
	if !(d.main != nil && d.main.gamma || d.main == nil && d.mainXML != nil && d.mainXML.gamma) {
		return ""
	}
	if deck := d.deck(); deck != nil {
		if deck.card("K_POINTS") == nil {
			return "the input has no K_POINTS card: pw.x used the Gamma point alone"
		}
		return ""
	}
	if d.run.Spec != nil {
		return ""
	}
	lattice := d.lattice()
	if lattice == nil {
		return ""
	}
	for _, v := range lattice {
		if v.Norm() < smallCell {
			return "only the Gamma point was used, for a small cell: perhaps the input had no K_POINTS card"
		}
	}
	return ""
}

// deck is the input of the main run, nil when it is not here.
func (d *dossier) deck() *deck {
	if d.main == nil {
		return nil
	}
	for _, name := range d.files.decks {
		if path.Base(name) != path.Base(d.main.input) {
			continue
		}
		if text, err := printed.ReadAll(d.run.Files, name, maxDeckSize); err == nil {
			return readDeck(name, text)
		}
	}
	return nil
}

func (d *dossier) lattice() *crystal.Matrix {
	switch {
	case d.mainXML != nil && d.mainXML.atoms != nil:
		return d.mainXML.atoms.lattice
	case d.main != nil && d.main.last != nil:
		return d.main.last.lattice
	}
	return nil
}

// noteFinalPressure tells when the last SCF of a vc-relax, which has a basis
// of its own, is off the target that the relaxation reached.
func (d *dossier) noteFinalPressure() {
	t := d.main
	if t == nil || !t.relaxed || !t.finalSCF || t.pressure == nil || t.pressThr == 0 {
		return
	}
	target := 0.0
	if d.mainXML != nil {
		target = d.mainXML.targetPressure
	}
	if off := *t.pressure - target; math.Abs(off) > t.pressThr {
		d.warn("final_scf_pressure", fmt.Sprintf("the pressure of the final scf is %.2f kbar off the target: the cell changed while the plane waves did not; relax once more from the final structure if that matters", off), t.file)
	}
}

// verdict puts the outcome in the words of convergence. Dynamics that succeeded
// counts as converged, as in every engine: each step did, and all were done.
func (d *dossier) verdict(o engine.Outcome) job.Verdict {
	switch o {
	case engine.Success, engine.SuccessWithWarning:
		if d.main == nil && d.mainXML == nil {
			return job.NotApplicable
		}
		return job.Converged
	case engine.SCFNotConverged, engine.IonicNotConverged:
		return job.NotConverged
	case engine.Unstable:
		return job.Unstable
	}
	return job.NotApplicable
}

// kind is the calculation in the words of pw.x, as far as the output tells.
func (d *dossier) kind() string {
	if d.mainXML != nil && d.mainXML.calculation != "" {
		return d.mainXML.calculation
	}
	t := d.main
	switch {
	case t == nil:
		return ""
	case t.bandsOnly:
		return "nscf"
	case t.md:
		return "md"
	case t.relax && (t.variable || t.finalSCF):
		return "vc-relax"
	case t.relax:
		return "relax"
	}
	return "scf"
}

func (d *dossier) structures(res *engine.Result) {
	t := d.main
	if d.mainXML != nil {
		res.Structures.Initial = structureJSON(d.mainXML.firstAtoms, t)
		res.Structures.Final = structureJSON(d.mainXML.atoms, t)
	}
	if t == nil {
		return
	}
	if res.Structures.Initial == nil {
		res.Structures.Initial = structureJSON(t.first, t)
	}
	if res.Structures.Final == nil {
		res.Structures.Final = structureJSON(t.last, t)
	}
}

// structureJSON writes a structure; nil when it is incomplete or not finite.
func structureJSON(a *atoms, t *textRun) json.RawMessage {
	s := a.structure(t)
	if s == nil {
		return nil
	}
	b, err := json.Marshal(s)
	if err != nil {
		return nil
	}
	return b
}

// structure makes a crystal of atoms; nil when it cannot.
func (a *atoms) structure(t *textRun) *crystal.Structure {
	if a == nil || a.lattice == nil || len(a.positions) == 0 {
		return nil
	}
	det := a.lattice.Det()
	if !printed.Finite(det) || det == 0 {
		return nil
	}
	s := &crystal.Structure{Lattice: a.lattice, Positions: slices.Clone(a.positions)}
	labelled := false
	for i, label := range a.labels {
		element := ""
		if t != nil {
			element = t.species[label]
		}
		if _, ok := crystal.ElementOf(element); !ok {
			element = elementOf(label)
		}
		if element == "" {
			return nil
		}
		labelled = labelled || element != label
		s.Species = append(s.Species, element)
		if !printed.Finite(length(a.positions[i])) {
			return nil
		}
	}
	if labelled {
		s.Labels = slices.Clone(a.labels)
	}
	if !a.crystal {
		inverse := a.lattice.Inverse()
		for i, p := range s.Positions {
			s.Positions[i] = inverse.Cart(p)
		}
	}
	return s
}

// elementOf reads the element of a label such as Si, Fe1, O_b or fe-up.
func elementOf(label string) string {
	n := 0
	for n < len(label) && n < 2 && isLetter(label[n]) {
		n++
	}
	for ; n > 0; n-- {
		symbol := strings.ToUpper(label[:1]) + strings.ToLower(label[1:n])
		if _, ok := crystal.ElementOf(symbol); ok {
			return symbol
		}
	}
	return ""
}

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }
