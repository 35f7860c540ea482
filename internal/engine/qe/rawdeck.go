package qe

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/engine/printed"
	"github.com/nano-os/nanoos/internal/job"
)

// planDeck runs a deck that the user brings. It is staged as it is, except for
// what keeps the run in its directory and within its time.
func planDeck(spec job.Spec, p params, problems []job.Problem, in engine.Inputs) (*engine.Plan, error) {
	problems = append(problems, onlyDeckParams(spec.Params)...)
	problems = append(problems, checkProcesses(spec, p)...)
	name, problem := deckName(spec, p, in.Files)
	if problem != nil {
		return nil, refusal(append(problems, *problem))
	}
	text, err := printed.ReadAll(in.Files, name, maxDeckSize)
	if err != nil {
		return nil, refusal(append(problems, job.Problem{File: name, Message: "cannot be read", Why: err.Error()}))
	}
	r := &rawDeck{spec: spec, in: in, deck: readDeck(name, text), plan: newPlan("")}
	r.check()
	if problems = append(problems, r.deck.problems...); len(problems) > 0 {
		return nil, refusal(problems)
	}
	r.plan.Files[name] = r.rewrite()
	r.plan.Steps = []engine.Step{step(name, ranksOf(spec, p), p.Pools, r.fewestK())}
	return r.plan, nil
}

// onlyDeckParams refuses parameters that a deck run as it is would ignore.
func onlyDeckParams(raw json.RawMessage) []job.Problem {
	var given map[string]json.RawMessage
	if len(raw) == 0 || json.Unmarshal(raw, &given) != nil {
		return nil
	}
	var out []job.Problem
	for name := range given {
		if !slices.Contains([]string{"input", "ranks", "pools"}, name) {
			out = append(out, job.Problem{Field: "parameters." + name, Message: "a deck runs as it is", Why: "the job has a deck and no structure", Fix: "change it in the deck, or give a structure"})
		}
	}
	slices.SortFunc(out, func(a, b job.Problem) int { return strings.Compare(a.Field, b.Field) })
	return out
}

// deckName finds the deck among the user's files: the one that input names,
// pw.in, or the only one.
func deckName(spec job.Spec, p params, files fs.FS) (string, *job.Problem) {
	if files == nil {
		return "", &job.Problem{Field: "files", Message: "the job's files are not here", Fix: "give them with the job"}
	}
	if p.Input != "" {
		if !fs.ValidPath(p.Input) || strings.HasPrefix(p.Input, "-") || !exists(files, p.Input) {
			return "", &job.Problem{Field: "parameters.input", Message: fmt.Sprintf("there is no file %q in the job", p.Input), Fix: "name one of the job's files"}
		}
		return p.Input, nil
	}
	var decks []string
	for _, f := range spec.Files {
		if fs.ValidPath(f.Name) && !strings.HasPrefix(f.Name, "-") && isDeck(engine.Head(files, f.Name, headSize)) {
			decks = append(decks, f.Name)
		}
	}
	switch {
	case slices.Contains(decks, "pw.in"):
		return "pw.in", nil
	case len(decks) == 1:
		return decks[0], nil
	case len(decks) == 0:
		return "", &job.Problem{Field: "structure", Message: "is missing", Why: "and none of the files is an input of pw.x", Fix: "give a structure, or an input with &CONTROL and &SYSTEM"}
	}
	return "", &job.Problem{Field: "parameters.input", Message: "several files are inputs of pw.x", Why: strings.Join(decks, ", "), Fix: "name one: input: " + decks[0]}
}

// rawDeck is a user's deck on its way into a plan.
type rawDeck struct {
	spec job.Spec
	in   engine.Inputs
	deck *deck
	plan *engine.Plan

	calculation string
	prefix      string
	outdir      string // where its state is kept, local to the work directory
	kinds       []kind
}

// check notes every fault of the deck.
func (r *rawDeck) check() {
	r.calculation = r.deck.word("control", "calculation", "scf")
	r.checkNamelists()
	r.checkPlaces()
	r.checkCalculation()
	r.checkSpecies()
	lattice := r.readCell()
	r.checkPositions(lattice)
	r.checkElectrons()
	r.checkKPoints()
}

// checkNamelists looks for namelists and variables that pw.x would miss or
// refuse.
func (r *rawDeck) checkNamelists() {
	d := r.deck
	need := []string{"control", "system", "electrons"}
	if moves(r.calculation) {
		need = append(need, "ions")
	}
	if changesCell(r.calculation) {
		need = append(need, "cell")
	}
	for _, name := range need {
		if d.namelist(name) == nil {
			d.problem(0, "namelist &"+strings.ToUpper(name)+" is missing", "calculation is "+r.calculation, "add lines with &"+strings.ToUpper(name)+" and /")
		}
	}
	for _, n := range d.namelists {
		for _, v := range n.vars {
			r.checkVariable(n, v)
		}
	}
	for _, name := range []string{"ecutwfc", "nat", "ntyp", "ibrav"} {
		if d.get("system", name) == nil && !(name != "ecutwfc" && d.get("system", "space_group") != nil) && d.namelist("system") != nil {
			d.problem(d.namelist("system").line, name+" is missing", "pw.x has no default for it", "add it to &SYSTEM")
		}
	}
	ecutwfc, at, ok := d.float("system", "ecutwfc")
	if at != nil && (!ok || ecutwfc <= 0) {
		d.problem(at.line, "ecutwfc is not a positive number", "", "give it in Ry")
	}
	if v, at, ok := d.float("system", "ecutrho"); at != nil && (!ok || v <= ecutwfc) {
		d.problem(at.line, "ecutrho is not above ecutwfc", "", "give at least 4 times ecutwfc, or leave it out")
	}
}

func (r *rawDeck) checkVariable(n *namelist, v variable) {
	known, isKnown := knownVariables[n.name]
	if !isKnown || slices.Contains(known, v.name) {
		return
	}
	message := fmt.Sprintf("unknown variable %q in &%s", v.name, strings.ToUpper(n.name))
	fix := unknownVariable(n.name, v.name)
	if fix == "remove it" {
		// A newer version may know it: pw.x will say.
		r.warn("unknown_variable", message, fix, v.line)
		return
	}
	r.deck.problem(v.line, message, "", fix)
}

func (r *rawDeck) warn(code, message, fix string, line int) {
	r.plan.Warnings = append(r.plan.Warnings, engine.Warning{Code: code, Message: message, Fix: fix, File: r.deck.file, Line: line})
}

// checkPlaces finds prefix and outdir. A directory of the deck is kept when the
// job brings files in it; else the state goes to ours.
func (r *rawDeck) checkPlaces() {
	r.prefix, r.outdir = "pwscf", outdir
	if v := r.deck.get("control", "prefix"); v != nil {
		r.prefix = v.text()
		if r.prefix == "" || strings.Trim(r.prefix, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.+-") != "" || strings.Trim(r.prefix, ".") == "" {
			r.deck.problem(v.line, "prefix must be a plain name", fmt.Sprintf("got %q", r.prefix), "use letters, digits and _")
			r.prefix = "pwscf"
		}
	}
	if v := r.deck.get("control", "outdir"); v != nil {
		if dir := path.Clean(v.text()); fs.ValidPath(dir) && r.in.Files != nil {
			if info, err := fs.Stat(r.in.Files, path.Join(dir, r.prefix+".save")); err == nil && info.IsDir() {
				r.outdir = dir
			}
		}
	}
	r.plan.Stop.Create = []string{r.prefix + ".EXIT"}
	r.plan.Keep = []string{r.deck.file, crashFile, path.Join(r.outdir, r.prefix+".xml"), path.Join(r.outdir, r.prefix+".save/data-file-schema.xml")}
	for _, name := range []string{r.prefix + ".EXIT", path.Join(r.outdir, r.prefix+".EXIT")} {
		if exists(r.in.Files, name) {
			r.deck.problem(0, name+" would stop the run at once", "", "leave it out of the job's files")
		}
	}
}

// checkCalculation refuses what needs an earlier run that is not there.
func (r *rawDeck) checkCalculation() {
	line := 0
	if v := r.deck.get("control", "calculation"); v != nil {
		line = v.line
	}
	if !slices.Contains(calculations, r.calculation) {
		fix := "choose one of: " + strings.Join(calculations, ", ")
		if near := job.Nearest(r.calculation, slices.Values(calculations)); near != "" {
			fix = fmt.Sprintf("did you mean %q?", near)
		}
		r.deck.problem(line, fmt.Sprintf("calculation %q is not known", r.calculation), "", fix)
		return
	}
	_, err := fs.Stat(r.in.Files, path.Join(r.outdir, r.prefix+".save"))
	if err == nil {
		return
	}
	if r.calculation == "nscf" || r.calculation == "bands" {
		r.deck.problem(line, "calculation "+r.calculation+" needs the density of an scf run", fmt.Sprintf("the job has no files in %s/%s.save", r.outdir, r.prefix),
			"give a structure and parameters with calculation: "+r.calculation+", which runs the scf first, or add the files of the scf run")
	}
	if v := r.deck.get("control", "restart_mode"); v != nil && strings.EqualFold(v.text(), "restart") {
		r.warn(warnRestart, "restart_mode is restart, and the job has no files to restart from: pw.x will start anew", "set restart_mode to from_scratch", v.line)
	}
}

// checkSpecies reads ATOMIC_SPECIES and finds the pseudopotentials.
func (r *rawDeck) checkSpecies() {
	d := r.deck
	c := d.card("ATOMIC_SPECIES")
	if c == nil {
		d.problem(0, "card ATOMIC_SPECIES is missing", "", "add it: label, mass and pseudopotential of each species")
		return
	}
	ntyp, at, ok := d.float("system", "ntyp")
	rows := c.rows
	if ok {
		switch {
		case ntyp > float64(len(rows)):
			d.problem(at.line, fmt.Sprintf("ntyp is %g, but ATOMIC_SPECIES has %s", ntyp, plural(len(rows), "line")), "", "correct ntyp, or add the species")
		case ntyp >= 1 && int(ntyp) < len(rows):
			r.warn("species_ignored", fmt.Sprintf("ntyp is %g: pw.x ignores the other lines of ATOMIC_SPECIES", ntyp), "raise ntyp", rows[int(ntyp)].line)
			rows = rows[:int(ntyp)]
		case ntyp < 1:
			d.problem(at.line, "ntyp must be at least 1", "", "give the number of species")
		}
	}
	ps := &pseudos{in: r.in, plan: r.plan}
	for _, row := range rows[:min(len(rows), maxSpecies)] {
		r.addSpecies(ps, row)
	}
	for _, p := range ps.problems {
		if len(d.problems) < maxProblems {
			d.problems = append(d.problems, p)
		}
	}
}

// maxSpecies is far above what pw.x takes.
const maxSpecies = 200

func (r *rawDeck) addSpecies(ps *pseudos, row row) {
	if len(row.fields) < 3 {
		r.deck.problem(row.line, "a species needs label, mass and pseudopotential", strings.Join(row.fields, " "), "write: Si 28.0855 Si.UPF")
		return
	}
	label := row.fields[0]
	k := kind{label: label, element: elementOf(label), file: row.fields[2]}
	if _, _, ok := printed.Number([]byte(row.fields[1])); !ok {
		r.deck.problem(row.line, fmt.Sprintf("the mass of %s is not a number", label), row.fields[1], "")
	}
	if k.element == "" {
		r.deck.problem(row.line, fmt.Sprintf("label %q does not begin with an element", label), "", "begin it with the symbol of the element")
		return
	}
	k.header = ps.stage(k.file, k.element, job.Problem{File: r.deck.file, Line: row.line})
	r.kinds = append(r.kinds, k)
}

// checkElectrons looks at what the headers of the pseudopotentials tell.
func (r *rawDeck) checkElectrons() {
	d := r.deck
	for _, p := range checkFunctionals(r.kinds, d.word("system", "input_dft", "")) {
		line := 0
		if c := d.card("ATOMIC_SPECIES"); c != nil {
			line = c.line
		}
		d.problem(line, p.Message, p.Why, p.Fix)
	}
	if ecut, _, ok := d.float("system", "ecutwfc"); ok {
		r.plan.Warnings = append(r.plan.Warnings, cutoffWarnings(r.kinds, ecut)...)
	}
	nbnd, at, _ := d.float("system", "nbnd")
	if at != nil && !(nbnd >= 1 && nbnd <= maxBands) {
		d.problem(at.line, "nbnd is not a number of bands", fmt.Sprintf("got %g", nbnd), "leave it out, and pw.x takes what the electrons need")
		nbnd = 0
	}
	if d.word("system", "occupations", "fixed") != "fixed" || d.get("system", "degauss") != nil || len(r.kinds) == 0 {
		return
	}
	spins, _, _ := d.float("system", "nspin")
	magnetization, at, _ := d.float("system", "tot_magnetization")
	if spins == 2 && at == nil && d.get("system", "multiplicity") == nil {
		d.problem(d.lineOf("occupations", "nspin", "nat"), "fixed occupations with spin need tot_magnetization", "", "set occupations = 'smearing', or give tot_magnetization")
		return
	}
	charge, _, _ := d.float("system", "tot_charge")
	n, known := electrons(r.kinds, charge)
	if !known || spins == 2 && at == nil {
		return
	}
	if _, p := filledBands(n, magnetization, int(spins), d.isTrue("system", "noncolin"), int(nbnd)); p != nil {
		d.problem(d.lineOf(p.Field, "nspin", "nat"), p.Message, p.Why, p.Fix)
	}
}

// maxBands is the limit that the parameter nbnd has too.
const maxBands = 100_000

// lineOf is the line of the first of some variables that is there.
func (d *deck) lineOf(names ...string) int {
	for _, name := range names {
		if v := d.get("system", name); v != nil {
			return v.line
		}
	}
	return 0
}

// checkKPoints warns without the card, and refuses one that cannot be read.
func (r *rawDeck) checkKPoints() {
	c := r.deck.card("K_POINTS")
	if c == nil {
		r.warn(warnGamma, "the deck has no K_POINTS card: pw.x will use the Gamma point alone", "add K_POINTS", 0)
		return
	}
	switch c.option {
	case "gamma":
	case "automatic":
		if len(c.rows) == 0 || !meshRow(c.rows[0].fields) {
			r.deck.problem(c.line, "K_POINTS automatic needs three numbers and three shifts", "", "write: 4 4 4 0 0 0")
		} else if n := r.fewestK(); n > maxKPoints {
			r.deck.problem(c.line, "there are too many k-points", fmt.Sprintf("at least %d; pw.x takes %d", n, maxKPoints), "give a coarser mesh")
		}
	case "", "tpiba", "crystal", "tpiba_b", "crystal_b", "tpiba_c", "crystal_c":
		if n := r.listed(c); n < 0 {
			r.deck.problem(c.line, "K_POINTS needs the number of points, and a line for each", "", "correct the number, or add the points")
		}
	default:
		r.deck.problem(c.line, fmt.Sprintf("K_POINTS has the unknown option %q", c.option), "", "choose automatic, gamma, crystal, crystal_b, tpiba or tpiba_b")
	}
}

func meshRow(fields []string) bool {
	if len(fields) < 6 {
		return false
	}
	for i, f := range fields[:6] {
		n, err := strconv.Atoi(f)
		if err != nil || i < 3 && n < 1 || i >= 3 && (n < 0 || n > 1) {
			return false
		}
	}
	return true
}

// listed is the number of listed k-points, -1 when lines are missing.
func (r *rawDeck) listed(c *card) int {
	if len(c.rows) == 0 {
		return -1
	}
	n, err := strconv.Atoi(c.rows[0].fields[0])
	if err != nil || n < 1 || n > len(c.rows)-1 {
		return -1
	}
	return n
}

// fewestK is a number of k-points that pw.x surely has, see generator.fewestK.
func (r *rawDeck) fewestK() int {
	c := r.deck.card("K_POINTS")
	if c == nil || c.option == "gamma" {
		return 1
	}
	if c.option != "automatic" {
		return max(1, r.listed(c))
	}
	product := 1
	for _, f := range c.rows[0].fields[:3] {
		n, _ := strconv.Atoi(f)
		product *= min(n, 10_000)
	}
	return (product + 47) / 48
}

// rewrite returns the deck with directories inside the work directory and a
// time below the soft limit.
func (r *rawDeck) rewrite() []byte {
	control := r.deck.namelist("control")
	insert := fmt.Sprintf("\n  outdir = %s\n  pseudo_dir = %s\n", quoted("./"+r.outdir), quoted("./"+pseudoDir))
	if s := r.seconds(); s > 0 {
		insert += fmt.Sprintf("  max_seconds = %d\n", s)
	}
	var b strings.Builder
	text := strings.TrimPrefix(r.deck.text, "\xef\xbb\xbf")
	base := len(r.deck.text) - len(text)
	b.WriteString(r.deck.text[base:control.after])
	b.WriteString(insert)
	at := control.after
	for _, v := range control.vars {
		if slices.Contains([]string{"outdir", "pseudo_dir", "wfcdir", "max_seconds"}, v.name) {
			b.WriteString(r.deck.text[at:v.start])
			at = v.end
		}
	}
	b.WriteString(r.deck.text[at:])
	return []byte(b.String())
}

// seconds is the lower of the deck's limit and ours.
func (r *rawDeck) seconds() int {
	ours := maxSeconds(r.spec)
	own, _, ok := r.deck.float("control", "max_seconds")
	if ok && own >= 1 && (ours == 0 || own < float64(ours)) {
		return int(own)
	}
	return ours
}
