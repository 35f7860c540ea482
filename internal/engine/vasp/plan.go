package vasp

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/engine/printed"
	"github.com/nano-os/nanoos/internal/job"
)

// Inputs of VASP, which all have fixed names.
const (
	incarName   = "INCAR"
	kpointsName = "KPOINTS"
	poscarName  = "POSCAR"
	bandsSuffix = ".bands" // of the inputs of the second step
)

// Plan implements engine.Engine.
func (*VASP) Plan(spec job.Spec, in engine.Inputs) (*engine.Plan, error) {
	p, problems := readParams(spec.Params)
	if ranks, cores := ranksOf(spec, p), max(1, spec.Demand.CPUs); ranks > cores {
		problems = append(problems, job.Problem{Field: "parameters.ranks", Message: fmt.Sprintf("%s do not fit on %s", plural(ranks, "rank"), plural(cores, "core")), Fix: "raise resources.cpus, or leave ranks out"})
	}
	for _, f := range spec.Files {
		if engine.Licensed(f.Name) {
			problems = append(problems, job.Problem{Field: "files", Message: f.Name + " cannot be part of a job", Why: "potentials are licensed, and are never stored", Fix: "leave it out, and name the potentials of the library in parameters.potentials"})
		}
	}
	if len(spec.Structure) == 0 && len(spec.Files) > 0 {
		return planDirectory(spec, p, problems, in)
	}
	s, more := readStructure(spec)
	if problems = append(problems, more...); s == nil {
		return nil, refusal(problems)
	}
	g := &generator{spec: spec, p: p, s: grouped(s), plan: newPlan()}
	g.potentials, more = addPotentials(g.plan, in, groupsOf(g.s.Species), p.Potentials)
	problems = append(problems, more...)
	problems = append(problems, g.check()...)
	if len(problems) > 0 {
		return nil, refusal(problems)
	}
	if err := g.write(); err != nil {
		return nil, refusal([]job.Problem{{Field: "structure", Message: err.Error()}})
	}
	return g.plan, nil
}

// refusal lists the problems in the order of the fields.
func refusal(problems []job.Problem) error {
	slices.SortStableFunc(problems, func(a, b job.Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Field, b.Field))
	})
	return job.InvalidInput("the VASP job was refused", problems)
}

// newPlan has what every plan of VASP has. POTCAR is not among what is kept.
func newPlan() *engine.Plan {
	return &engine.Plan{
		Files: map[string][]byte{}, Library: map[string]string{},
		Env:  map[string]string{"OMP_NUM_THREADS": "1"},
		Keep: []string{incarName, kpointsName, poscarName, "INCAR.*", "KPOINTS.*", "CONTCAR", "OUTCAR", "OSZICAR", "vasprun.xml", "scf.xml"},
	}
}

func readStructure(spec job.Spec) (*crystal.Structure, []job.Problem) {
	if len(spec.Structure) == 0 {
		return nil, []job.Problem{{Field: "structure", Message: "is missing", Fix: "name a structure file, or give INCAR, POSCAR and KPOINTS as files"}}
	}
	s, err := crystal.ParseJSON(spec.Structure)
	if pe, ok := errors.AsType[*crystal.ParseError](err); ok {
		var problems []job.Problem
		for _, p := range pe.Problems {
			problems = append(problems, job.Problem{Field: strings.TrimSuffix("structure."+p.Field, "."), Message: p.Message, Fix: p.Fix})
		}
		return nil, problems
	}
	if err != nil {
		return nil, []job.Problem{{Field: "structure", Message: err.Error()}}
	}
	if s.Lattice == nil {
		return nil, []job.Problem{{Field: "structure.lattice", Message: "VASP needs a cell", Fix: "give a lattice; for a molecule, one with 10 Å of room around it"}}
	}
	return s, nil
}

// grouped brings the atoms of each element together, in the order in which the
// elements appear, so that each has one potential.
func grouped(s *crystal.Structure) *crystal.Structure {
	order := make([]int, len(s.Species))
	first := map[string]int{}
	for i, e := range s.Species {
		order[i] = i
		if _, ok := first[e]; !ok {
			first[e] = i
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(first[s.Species[a]], first[s.Species[b]]) })
	out := *s
	out.Labels = nil
	out.Species, out.Positions = pick(s.Species, order), pick(s.Positions, order)
	out.Magmoms, out.Fixed, out.Velocities = pick(s.Magmoms, order), pick(s.Fixed, order), pick(s.Velocities, order)
	return &out
}

func pick[T any](list []T, order []int) []T {
	if list == nil {
		return nil
	}
	out := make([]T, len(order))
	for i, j := range order {
		out[i] = list[j]
	}
	return out
}

// groupsOf are the elements as POSCAR names them: once for each run of atoms.
func groupsOf(species []string) []string { return slices.Compact(slices.Clone(species)) }

func ranksOf(spec job.Spec, p params) int {
	if p.Ranks > 0 {
		return p.Ranks
	}
	return max(1, spec.Demand.CPUs)
}

// generator writes the inputs of a job that has a structure.
type generator struct {
	spec       job.Spec
	p          params
	s          *crystal.Structure
	potentials []potential
	plan       *engine.Plan
}

// check refuses what cannot run or cannot be written.
func (g *generator) check() []job.Problem {
	var out []job.Problem
	for _, name := range slices.Sorted(maps.Keys(g.p.INCAR)) {
		if _, ok := tagText(g.p.INCAR[name]); !ok {
			out = append(out, job.Problem{Field: "parameters.incar." + name, Message: "cannot be written in one line of INCAR", Fix: "give a plain value"})
		}
	}
	for _, k := range []struct {
		name string
		k    kpoints
	}{{"kpoints", g.p.KPoints}, {"scf_kpoints", g.p.SCFKPoints}} {
		if k.k.spacing > 0 {
			if _, err := g.s.KMesh(k.k.spacing); err != nil {
				out = append(out, job.Problem{Field: "parameters." + k.name + ".spacing", Message: err.Error(), Fix: "raise the spacing"})
			}
		}
	}
	if mesh := g.mesh(g.p.KPoints); g.p.Ismear <= -4 && g.p.KPoints.path == nil && mesh[0]*mesh[1]*mesh[2] < 4 {
		out = append(out, job.Problem{Field: "parameters.ismear", Message: "tetrahedra need at least 4 k-points", Fix: "set ismear: 0, or give a denser mesh"})
	}
	if g.p.Encut != nil && *g.p.Encut < 0.7*g.enmax() {
		out = append(out, job.Problem{Field: "parameters.encut", Message: fmt.Sprintf("is far below the %.0f eV that the potentials ask for", g.enmax()), Fix: "raise it, or leave it out"})
	}
	return append(out, g.checkVariant()...)
}

func (g *generator) checkVariant() []job.Problem {
	mesh := g.mesh(g.p.KPoints)
	if g.p.Variant == "gam" && (mesh != [3]int{1, 1, 1} || g.p.KPoints.path != nil || g.p.KPoints.shift != [3]int{}) {
		return []job.Problem{{Field: "parameters.variant", Message: "vasp_gam computes the Gamma point alone", Fix: "set kpoints: gamma, or variant: std"}}
	}
	if g.p.Variant != "" && g.p.Variant != "ncl" && g.noncollinear() {
		return []job.Problem{{Field: "parameters.variant", Message: "non-collinear runs need vasp_ncl", Fix: "set variant: ncl"}}
	}
	return nil
}

func (g *generator) noncollinear() bool {
	for _, name := range []string{"LNONCOLLINEAR", "LSORBIT"} {
		if text, ok := tagText(g.p.INCAR[name]); ok && isTrue([]byte(text)) {
			return true
		}
	}
	return false
}

func (g *generator) enmax() float64 {
	most := 0.0
	for _, p := range g.potentials {
		most = max(most, p.enmax)
	}
	return most
}

func (g *generator) mesh(k kpoints) [3]int {
	if k.spacing > 0 {
		if mesh, err := g.s.KMesh(k.spacing); err == nil {
			return mesh
		}
	}
	return k.mesh
}

// write adds inputs and steps to the plan.
func (g *generator) write() error {
	poscar, err := crystal.WritePOSCAR(g.s)
	if err != nil {
		return err
	}
	g.plan.Files[poscarName] = poscar
	for _, c := range g.s.Close(crystal.CloseFactor)[:min(10, len(g.s.Close(crystal.CloseFactor)))] {
		g.plan.Warnings = append(g.plan.Warnings, engine.Warning{Code: "close_atoms", Message: g.s.Describe(c), Fix: "check the structure and its units"})
	}
	if g.p.Encut == nil && g.p.Calculation == "vc-relax" {
		g.plan.Warnings = append(g.plan.Warnings, engine.Warning{Code: "pulay_stress", Message: "the cell changes at the default cut-off, which makes its stress wrong", Fix: "set encut to 1.3 times the largest ENMAX"})
	}
	first := engine.Step{Program: "vasp_" + g.variant(), Ranks: ranks(ranksOf(g.spec, g.p))}
	if g.p.Calculation != "bands" {
		g.plan.Files[incarName] = incar(g.tags(g.p.Calculation))
		g.plan.Files[kpointsName] = g.kpoints(g.p.KPoints)
		g.plan.Steps = []engine.Step{first}
		return nil
	}
	g.plan.Files[incarName] = incar(g.tags("static"))
	g.plan.Files[kpointsName] = g.kpoints(g.p.SCFKPoints)
	g.plan.Files[incarName+bandsSuffix] = incar(g.tags("bands"))
	g.plan.Files[kpointsName+bandsSuffix] = g.kpoints(g.p.KPoints)
	second := first
	first.Copy = map[string]string{"vasprun.xml": "scf.xml", incarName + bandsSuffix: incarName, kpointsName + bandsSuffix: kpointsName}
	g.plan.Steps = []engine.Step{first, second}
	return nil
}

// ranks starts a single process without the launcher.
func ranks(n int) int {
	if n < 2 {
		return 0
	}
	return n
}

func (g *generator) variant() string {
	switch {
	case g.p.Variant != "":
		return g.p.Variant
	case g.noncollinear():
		return "ncl"
	}
	return "std"
}

// tags are the lines of INCAR; the job's own tags replace ours.
func (g *generator) tags(calculation string) []tag {
	p := g.p
	out := []tag{{"PREC", p.Prec}, {"EDIFF", number64(p.Ediff)}, {"NELM", fmt.Sprint(p.Nelm)}, {"ISMEAR", fmt.Sprint(p.Ismear)}, {"SIGMA", number64(p.Sigma)}, {"LREAL", ".FALSE."}}
	if p.Encut != nil {
		out = append(out, tag{"ENCUT", number64(*p.Encut)})
	}
	if p.Algo != "" {
		out = append(out, tag{"ALGO", p.Algo})
	}
	out = append(out, g.spin()...)
	switch calculation {
	case "relax", "vc-relax":
		isif := map[string]string{"relax": "2", "vc-relax": "3"}[calculation]
		out = append(out, tag{"IBRION", "2"}, tag{"ISIF", isif}, tag{"NSW", fmt.Sprint(p.Nsw)}, tag{"EDIFFG", number64(p.Ediffg)})
	case "md":
		out = append(out, tag{"IBRION", "0"}, tag{"NSW", fmt.Sprint(p.Nsw)}, tag{"POTIM", number64(p.Potim)}, tag{"TEBEG", number64(p.Temperature)}, tag{"TEEND", number64(p.Temperature)}, tag{"SMASS", "0"}, tag{"ISYM", "0"})
	case "bands":
		out = append(out, tag{"IBRION", "-1"}, tag{"NSW", "0"}, tag{"ICHARG", "11"}, tag{"ISTART", "1"})
	default:
		out = append(out, tag{"IBRION", "-1"}, tag{"NSW", "0"})
	}
	for _, name := range slices.Sorted(maps.Keys(p.INCAR)) {
		text, _ := tagText(p.INCAR[name])
		out = slices.DeleteFunc(out, func(t tag) bool { return t.name == name && !(calculation == "bands" && name == "ICHARG") })
		out = append(out, tag{name, text})
	}
	return out
}

func (g *generator) spin() []tag {
	ispin := g.p.Ispin
	moments := slices.ContainsFunc(g.s.Magmoms, func(m float64) bool { return m != 0 })
	if ispin == 0 && moments {
		ispin = 2
	}
	if ispin == 0 || g.noncollinear() {
		return nil
	}
	out := []tag{{"ISPIN", fmt.Sprint(ispin)}}
	if ispin == 2 && moments {
		words := make([]string, len(g.s.Magmoms))
		for i, m := range g.s.Magmoms {
			words[i] = number64(m)
		}
		out = append(out, tag{"MAGMOM", repeats(words)})
	}
	return out
}

// repeats writes equal neighbours as VASP does: 4*5 8*0.6.
func repeats(words []string) string {
	var out []string
	for i := 0; i < len(words); {
		n := 1
		for i+n < len(words) && words[i+n] == words[i] {
			n++
		}
		if n > 1 {
			out = append(out, fmt.Sprintf("%d*%s", n, words[i]))
		} else {
			out = append(out, words[i])
		}
		i += n
	}
	return strings.Join(out, " ")
}

func number64(v float64) string {
	text, _ := tagText(v)
	return text
}

func incar(tags []tag) []byte {
	var b bytes.Buffer
	for _, t := range tags {
		fmt.Fprintf(&b, "%s = %s\n", t.name, t.value)
	}
	return b.Bytes()
}

// kpoints writes KPOINTS: a mesh centred at Gamma, which fits every lattice, or
// lines between corners.
func (g *generator) kpoints(k kpoints) []byte {
	var b bytes.Buffer
	if k.path == nil {
		mesh := g.mesh(k)
		fmt.Fprintf(&b, "k-points\n0\nGamma\n%d %d %d\n", mesh[0], mesh[1], mesh[2])
		fmt.Fprintf(&b, "%g %g %g\n", float64(k.shift[0])/2, float64(k.shift[1])/2, float64(k.shift[2])/2)
		return b.Bytes()
	}
	fmt.Fprintf(&b, "k-points along lines\n%d\nLine-mode\nReciprocal\n", max(2, k.points))
	for i := 1; i < len(k.path); i++ {
		for _, c := range k.path[i-1 : i+1] {
			label := strings.Map(func(r rune) rune {
				if r < ' ' {
					return -1
				}
				return r
			}, c.label)
			fmt.Fprintf(&b, "%.8f %.8f %.8f ! %s\n", c.k[0], c.k[1], c.k[2], label)
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// planDirectory runs the files that the job brings as they are; only POTCAR is
// added to them.
func planDirectory(spec job.Spec, p params, problems []job.Problem, in engine.Inputs) (*engine.Plan, error) {
	problems = slices.Concat(problems, onlyDirectoryParams(spec.Params))
	if in.Files == nil {
		return nil, refusal(append(problems, job.Problem{Field: "files", Message: "the job's files are not here", Fix: "give them with the job"}))
	}
	plan := newPlan()
	text, err := printed.ReadAll(in.Files, incarName, maxInput)
	if err != nil {
		problems = append(problems, job.Problem{File: incarName, Message: "cannot be read", Why: err.Error(), Fix: "give INCAR with the job"})
	}
	set, tags := readINCAR(text)
	poscar, err := printed.ReadAll(in.Files, poscarName, crystal.MaxFileSize)
	if err != nil {
		return nil, refusal(append(problems, job.Problem{File: poscarName, Message: "cannot be read", Why: err.Error(), Fix: "give POSCAR with the job"}))
	}
	s, _, err := crystal.ReadPOSCAR(poscar)
	if err != nil {
		return nil, refusal(append(problems, job.Problem{File: poscarName, Message: "is not a structure", Why: err.Error()}))
	}
	_, more := addPotentials(plan, in, groupsOf(s.Species), p.Potentials)
	problems = slices.Concat(problems, more, lintDirectory(plan, in.Files, tags))
	if p.Variant == "" {
		p.Variant = "std"
		if set.noncollinear {
			p.Variant = "ncl"
		}
	}
	if len(problems) > 0 {
		return nil, refusal(problems)
	}
	plan.Files[incarName] = text
	plan.Steps = []engine.Step{{Program: "vasp_" + p.Variant, Ranks: ranks(ranksOf(spec, p))}}
	return plan, nil
}

func lintDirectory(plan *engine.Plan, files fs.FS, tags map[string]string) []job.Problem {
	var out []job.Problem
	if _, err := fs.Stat(files, kpointsName); err != nil && tags["KSPACING"] == "" {
		out = append(out, job.Problem{File: incarName, Message: "there are no k-points", Fix: "give KPOINTS with the job, or set KSPACING"})
	}
	for name := range tags {
		if strings.HasPrefix(name, "PLUGINS") {
			plan.Warnings = append(plan.Warnings, engine.Warning{Code: "runs_code", Message: "INCAR makes VASP run Python code of the directory", File: incarName})
			break
		}
	}
	return out
}

// onlyDirectoryParams refuses parameters that files run as they are would
// ignore.
func onlyDirectoryParams(raw []byte) []job.Problem {
	var out []job.Problem
	for _, name := range givenKeys(raw) {
		if !slices.Contains([]string{"variant", "ranks", "potentials"}, name) {
			out = append(out, job.Problem{Field: "parameters." + name, Message: "the files of the job run as they are", Fix: "change it in INCAR or KPOINTS, or give a structure"})
		}
	}
	return out
}
