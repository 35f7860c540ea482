package qe

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// Names in the work directory.
const (
	prefix   = "nanoos"
	outdir   = "out"
	scfCopy  = "scf.xml" // the XML of the scf step, which a later step overwrites
	scfInput = "scf.in"
)

// Plan implements engine.Engine.
func (*QE) Plan(spec job.Spec, in engine.Inputs) (*engine.Plan, error) {
	p, problems := readParams(spec.Params)
	if len(spec.Structure) == 0 && (p.Input != "" || len(spec.Files) > 0) {
		return planDeck(spec, p, problems, in)
	}
	if p.Input != "" {
		problems = append(problems, job.Problem{Field: "parameters.input", Message: "a job has either a structure or a deck to run as it is", Fix: "remove structure, or input"})
	}
	problems = append(problems, checkProcesses(spec, p)...)
	structure, more := readStructure(spec)
	if problems = append(problems, more...); structure == nil {
		return nil, refusal(problems)
	}
	g := &generator{spec: spec, p: p, structure: structure, plan: newPlan(prefix)}
	g.kinds, g.of = kindsOf(structure)
	ps := &pseudos{in: in, plan: g.plan}
	ps.assign(g.kinds, p.Pseudopotentials)
	if problems = withMeaning(problems, slices.Concat(ps.problems, g.check())); len(problems) > 0 {
		return nil, refusal(problems)
	}
	g.write()
	return g.plan, nil
}

// withMeaning adds problems of meaning to those found before: what is wrong in
// form is not judged once more.
func withMeaning(problems, more []job.Problem) []job.Problem {
	for _, m := range more {
		if !slices.ContainsFunc(problems, func(p job.Problem) bool { return strings.HasPrefix(p.Field, m.Field) }) {
			problems = append(problems, m)
		}
	}
	return problems
}

// refusal lists the problems in the order of the file or of the fields.
func refusal(problems []job.Problem) error {
	slices.SortStableFunc(problems, func(a, b job.Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Field, b.Field))
	})
	return job.InvalidInput("the Quantum ESPRESSO job was refused", problems)
}

// newPlan has what every plan of pw.x has.
func newPlan(prefix string) *engine.Plan {
	save := outdir + "/" + prefix
	return &engine.Plan{
		Files:   map[string][]byte{},
		Library: map[string]string{},
		// pw.x looks for the file at every k-point, and then writes its state.
		Stop: engine.SoftStop{Create: []string{prefix + ".EXIT"}, Wait: 2 * time.Minute},
		Keep: []string{"*.in", crashFile, scfCopy, save + ".xml", save + ".save/data-file-schema.xml"},
	}
}

func readStructure(spec job.Spec) (*crystal.Structure, []job.Problem) {
	if len(spec.Structure) == 0 {
		return nil, []job.Problem{{Field: "structure", Message: "is missing", Fix: "name a structure file, or give lattice, species and positions"}}
	}
	s, err := crystal.ParseJSON(spec.Structure)
	if err != nil {
		if pe, ok := errors.AsType[*crystal.ParseError](err); ok {
			var problems []job.Problem
			for _, p := range pe.Problems {
				problems = append(problems, job.Problem{Field: joinField("structure", p.Field), Message: p.Message, Fix: p.Fix})
			}
			return nil, problems
		}
		return nil, []job.Problem{{Field: "structure", Message: err.Error()}}
	}
	if s.Lattice == nil {
		return nil, []job.Problem{{Field: "structure.lattice", Message: "pw.x needs a cell", Fix: "give a lattice; for a molecule, one with 10 Å of room around it"}}
	}
	return s, nil
}

func joinField(a, b string) string {
	if b == "" {
		return a
	}
	return a + "." + b
}

// generator writes the decks of a job that has a structure.
type generator struct {
	spec      job.Spec
	p         params
	structure *crystal.Structure
	kinds     []kind
	of        []int
	plan      *engine.Plan
	nbnd      int // 0 leaves it to pw.x
}

// check refuses what cannot run, and fills in what follows from the rest.
func (g *generator) check() []job.Problem {
	var out []job.Problem
	if g.p.Ecutwfc == nil {
		out = append(out, job.Problem{Field: "parameters.ecutwfc", Message: "is missing", Fix: g.cutoffAdvice()})
	} else if g.p.Ecutrho != nil && *g.p.Ecutrho < *g.p.Ecutwfc {
		out = append(out, job.Problem{Field: "parameters.ecutrho", Message: "is below ecutwfc", Fix: "give at least 4 times ecutwfc, or leave it out"})
	}
	for name := range g.p.StartingMagnetization {
		if !g.hasKind(name) {
			out = append(out, job.Problem{Field: "parameters.starting_magnetization." + name, Message: name + " is not in the structure"})
		}
	}
	for name, k := range map[string]kpoints{"kpoints": g.p.KPoints, "scf_kpoints": g.p.SCFKPoints} {
		if k.spacing > 0 {
			if _, err := g.structure.KMesh(k.spacing); err != nil {
				out = append(out, job.Problem{Field: "parameters." + name + ".spacing", Message: err.Error(), Fix: "raise the spacing"})
				continue
			}
		}
		if n := g.fewestK(k); n > maxKPoints {
			out = append(out, job.Problem{Field: "parameters." + name, Message: "there are too many k-points", Why: fmt.Sprintf("at least %d; pw.x takes %d", n, maxKPoints), Fix: "give a coarser mesh"})
		}
	}
	out = append(out, checkFunctionals(g.kinds, g.p.InputDFT)...)
	return append(out, g.checkElectrons()...)
}

func (g *generator) cutoffAdvice() string {
	most := 0.0
	for _, k := range g.kinds {
		if k.header != nil {
			most = max(most, k.header.wavefunctions)
		}
	}
	if most > 0 {
		return fmt.Sprintf("set ecutwfc: %.0f, which the pseudopotentials suggest", math.Ceil(most))
	}
	return "set ecutwfc in Ry, such as 40"
}

func (g *generator) hasKind(name string) bool {
	for _, k := range g.kinds {
		if k.label == name || k.element == name {
			return true
		}
	}
	return false
}

// spins is nspin: what the job says, or 2 when the structure has moments.
func (g *generator) spins() int {
	if g.p.Nspin != nil {
		return *g.p.Nspin
	}
	for _, k := range g.kinds {
		if k.moment != 0 && !g.p.noncollinear() {
			return 2
		}
	}
	return 1
}

// checkElectrons refuses electrons that cannot fill whole bands, and chooses
// some empty ones.
func (g *generator) checkElectrons() []job.Problem {
	if g.p.Nbnd != nil {
		g.nbnd = *g.p.Nbnd
	}
	if g.p.Occupations != "fixed" {
		return nil
	}
	if g.spins() == 2 && g.p.TotMagnetization == nil {
		return []job.Problem{{Field: "parameters.occupations", Message: "fixed occupations with spin need tot_magnetization", Fix: "set occupations: smearing, or give tot_magnetization"}}
	}
	n, known := electrons(g.kinds, orZero(g.p.TotCharge))
	if !known {
		return nil
	}
	bands, problem := filledBands(n, orZero(g.p.TotMagnetization), g.spins(), g.p.noncollinear(), g.nbnd)
	if problem != nil {
		problem.Field = "parameters." + problem.Field
		return []job.Problem{*problem}
	}
	if g.nbnd == 0 {
		g.nbnd = bands + max(4, bands/5)
	}
	return nil
}

func orZero(v *float64) float64 {
	if v == nil {
		return 0
	}
	return *v
}

// filledBands counts the bands that electrons with fixed occupations fill. The
// problem is for electrons that do not fill whole ones, or more than nbnd of
// them unless that is 0; its field is the name of a variable.
func filledBands(n, magnetization float64, spins int, noncollinear bool, nbnd int) (int, *job.Problem) {
	filled := n / 2
	switch {
	case n <= 0:
		return 0, &job.Problem{Field: "tot_charge", Message: fmt.Sprintf("tot_charge leaves %g electrons", n), Fix: "lower it"}
	case math.Abs(magnetization) > n:
		return 0, &job.Problem{Field: "tot_magnetization", Message: fmt.Sprintf("tot_magnetization is more than the %g electrons", n), Fix: "lower it"}
	case noncollinear:
		filled = n
	case spins == 2:
		filled = (n + math.Abs(magnetization)) / 2
	}
	if math.Abs(filled-math.Round(filled)) > 1e-6 {
		return 0, &job.Problem{Field: "occupations", Message: fmt.Sprintf("%g electrons do not fill whole bands", n), Why: "occupations is fixed", Fix: "set occupations to smearing"}
	}
	bands := int(math.Round(filled))
	if nbnd != 0 && nbnd < bands {
		return 0, &job.Problem{Field: "nbnd", Message: fmt.Sprintf("%d bands cannot hold %g electrons", nbnd, n), Fix: fmt.Sprintf("give at least %d, or leave it out", bands)}
	}
	return bands, nil
}

// checkProcesses refuses more ranks than the job has cores, and pools that do not
// divide them.
func checkProcesses(spec job.Spec, p params) []job.Problem {
	var out []job.Problem
	ranks, cores := ranksOf(spec, p), max(1, spec.Demand.CPUs)
	if ranks > cores {
		out = append(out, job.Problem{Field: "parameters.ranks", Message: fmt.Sprintf("%s do not fit on %s", plural(ranks, "rank"), plural(cores, "core")), Fix: "raise resources.cpus, or leave ranks out"})
	}
	if p.Pools > 0 && ranks%p.Pools != 0 {
		out = append(out, job.Problem{Field: "parameters.pools", Message: fmt.Sprintf("%d pools do not divide %s", p.Pools, plural(ranks, "rank")), Fix: "give a divisor, or leave pools out"})
	}
	return out
}

func ranksOf(spec job.Spec, p params) int {
	if p.Ranks > 0 {
		return p.Ranks
	}
	return max(1, spec.Demand.CPUs)
}

// write adds decks and steps to the plan.
func (g *generator) write() {
	g.plan.Warnings = append(g.plan.Warnings, cutoffWarnings(g.kinds, *g.p.Ecutwfc)...)
	for _, c := range g.structure.Close(crystal.CloseFactor) {
		g.plan.Warnings = append(g.plan.Warnings, engine.Warning{Code: warnClose, Message: g.structure.Describe(c), Fix: "check the structure and its units"})
		if len(g.plan.Warnings) > 10 {
			break
		}
	}
	if g.p.Calculation != "nscf" && g.p.Calculation != "bands" {
		g.addStep("pw.in", g.p.Calculation, g.p.KPoints)
		return
	}
	g.addStep(scfInput, "scf", g.p.SCFKPoints)
	g.plan.Steps[0].Copy = map[string]string{outdir + "/" + prefix + ".save/data-file-schema.xml": scfCopy}
	g.addStep(g.p.Calculation+".in", g.p.Calculation, g.p.KPoints)
}

func (g *generator) addStep(name, calculation string, k kpoints) {
	g.plan.Files[name] = g.deck(calculation, k)
	g.plan.Steps = append(g.plan.Steps, step(name, ranksOf(g.spec, g.p), g.p.Pools, g.fewestK(k)))
}

// step starts pw.x on a deck.
func step(input string, ranks, pools, nk int) engine.Step {
	s := engine.Step{Program: program, Args: []string{"-in", input}}
	if ranks < 2 {
		return s
	}
	if pools == 0 {
		pools = 1
		for d := 2; d <= min(ranks, nk); d++ {
			if ranks%d == 0 {
				pools = d
			}
		}
	}
	s.Ranks = ranks
	s.Args = []string{"-nk", strconv.Itoa(pools), "-in", input}
	return s
}

// maxKPoints is npk of pw.x, which it cannot go beyond.
const maxKPoints = 40_000

// fewestK is a number of k-points that pw.x surely has: it reduces a mesh by at
// most the 48 operations of the cubic group, and pools without a k-point are an
// error in some versions.
func (g *generator) fewestK(k kpoints) int {
	switch {
	case k.gamma:
		return 1
	case k.path != nil:
		return (len(k.path)-1)*k.points + 1
	}
	mesh := g.mesh(k)
	return (mesh[0]*mesh[1]*mesh[2] + 47) / 48
}

func (g *generator) mesh(k kpoints) [3]int {
	if k.spacing > 0 {
		if mesh, err := g.structure.KMesh(k.spacing); err == nil {
			return mesh
		}
	}
	return k.mesh
}

// maxSeconds lets pw.x end by itself and write its state before it is asked to
// stop: 5 %, at most a minute, before the soft limit. 0 means no limit.
func maxSeconds(spec job.Spec) int {
	soft := spec.Soft().Seconds()
	if soft <= 0 {
		return 0
	}
	return int(max(1, soft-min(60, soft/20)))
}
