package qe

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/engine/printed"
	"github.com/nano-os/nanoos/internal/job"
)

// kind is a species of pw.x: an element, or one of several kinds of it that
// differ in label or moment.
type kind struct {
	label, element string
	file           string // pseudopotential
	header         *upf   // nil when not known here
	moment         float64
	sites          int
}

// kindsOf groups the sites of a structure; of is the kind of each site.
func kindsOf(s *crystal.Structure) (kinds []kind, of []int) {
	type key struct {
		element, label string
		moment         float64
	}
	at := map[key]int{}
	perElement := map[string]int{}
	for i, el := range s.Species {
		k := key{element: el}
		if s.Labels != nil {
			k.label = s.Labels[i]
		}
		if s.Magmoms != nil {
			k.moment = s.Magmoms[i]
		}
		n, known := at[k]
		if !known {
			n = len(kinds)
			at[k] = n
			perElement[el]++
			kinds = append(kinds, kind{element: el, label: k.label, moment: k.moment})
		}
		kinds[n].sites++
		of = append(of, n)
	}
	used := map[string]bool{}
	for i := range kinds {
		k := &kinds[i]
		k.label = labelFor(k, perElement[k.element] == 1, used)
		used[k.label] = true
	}
	return kinds, of
}

// labelFor returns a label that pw.x accepts: the element's symbol, with a
// number or the user's own end behind it, at most three characters, unique.
func labelFor(k *kind, single bool, used map[string]bool) string {
	if valid := len(k.label) <= 3 && strings.HasPrefix(k.label, k.element) && elementOf(k.label) == k.element &&
		!strings.ContainsAny(k.label, " \t!#/,'\"&=()"); valid && !used[k.label] {
		return k.label
	}
	if single && !used[k.element] {
		return k.element
	}
	for n := 1; ; n++ {
		if label := fmt.Sprintf("%s%d", k.element, n); !used[label] {
			return label
		}
	}
}

// pseudoDir is where pseudopotentials lie in the work directory.
const pseudoDir = "pseudo"

// pseudos finds the pseudopotential of every kind, and stages it.
type pseudos struct {
	in       engine.Inputs
	plan     *engine.Plan
	problems []job.Problem
}

// assign names the file of each kind: what the job says for its label or its
// element, or the one file of the library that fits.
func (ps *pseudos) assign(kinds []kind, named map[string]string) {
	elements := map[string]bool{}
	for i := range kinds {
		k := &kinds[i]
		elements[k.element], elements[k.label] = true, true
		for _, name := range []string{k.label, k.element} {
			if file, ok := named[name]; ok {
				k.file = file
				break
			}
		}
	}
	for name := range named {
		if !elements[name] {
			ps.problems = append(ps.problems, job.Problem{Field: "parameters.pseudopotentials." + name, Message: name + " is not in the structure", Fix: "remove it, or correct the symbol"})
		}
	}
	for i := range kinds {
		if kinds[i].file != "" {
			field := "parameters.pseudopotentials." + kinds[i].element
			kinds[i].header = ps.stage(kinds[i].file, kinds[i].element, job.Problem{Field: field})
		}
	}
	wanted := ""
	for _, k := range kinds {
		if k.header != nil {
			wanted = k.header.functional
		}
	}
	for i := range kinds {
		if kinds[i].file == "" {
			ps.choose(&kinds[i], wanted)
		}
	}
}

// choose takes the only file of the library for an element.
func (ps *pseudos) choose(k *kind, functional string) {
	list := candidates(ps.in.Library, k.element)
	if functional != "" {
		list = slices.DeleteFunc(list, func(u *upf) bool { return u.functional != functional })
	}
	list = slices.DeleteFunc(list, func(u *upf) bool { return u.spinOrbit })
	problem := job.Problem{Field: "parameters.pseudopotentials." + k.element}
	switch len(list) {
	case 1:
		k.file = list[0].name
		k.header = ps.stage(k.file, k.element, problem)
		return
	case 0:
		problem.Message = "no pseudopotential for " + k.element
		problem.Why, problem.Fix = ps.where(), "name a file: pseudopotentials: {"+k.element+": FILE}"
		if ps.in.Library == nil {
			problem.Why = "none is named, and the library is not known here"
		}
	default:
		problem.Message = "several pseudopotentials for " + k.element
		problem.Why, problem.Fix = "the library has "+strings.Join(names(list), ", "), "name one: pseudopotentials: {"+k.element+": "+list[0].name+"}"
	}
	ps.problems = append(ps.problems, problem)
}

func (ps *pseudos) where() string {
	if len(ps.in.LibraryDirs) == 0 {
		return "looked among the job's files and in the library"
	}
	return "looked among the job's files and in " + strings.Join(ps.in.LibraryDirs, ", ")
}

// stage puts a file into the plan and reads its header. at says where it was
// named.
func (ps *pseudos) stage(file, element string, at job.Problem) *upf {
	refuse := func(message, why, fix string) *upf {
		at.Message, at.Why, at.Fix = message, why, fix
		if !slices.Contains(ps.problems, at) {
			ps.problems = append(ps.problems, at)
		}
		return nil
	}
	if file != path.Base(file) || file == "." || file == ".." || strings.ContainsFunc(file, unsafeInDeck) {
		return refuse("the pseudopotential must be a plain file name", fmt.Sprintf("got %q", file), "give the file with the job, or name one of the library")
	}
	target := pseudoDir + "/" + file
	from := ps.in.Library
	switch own := ps.own(file); {
	case own == target:
		from = ps.in.Files
	case own != "":
		text, err := printed.ReadAll(ps.in.Files, own, maxDeckSize)
		if err != nil {
			return refuse("the pseudopotential "+file+" cannot be read", err.Error(), "give the file again")
		}
		ps.plan.Files[target] = text
		from = ps.in.Files
	case from == nil:
		ps.plan.Library[file] = target
		return nil
	case !exists(from, file):
		return refuse("pseudopotential file not found", file+": "+ps.where(), ps.similar(element))
	default:
		ps.plan.Library[file] = target
	}
	name := file
	if own := ps.own(file); own != "" {
		name = own
	}
	u, err := readUPF(from, name)
	switch {
	case err != nil && !strings.EqualFold(path.Ext(file), ".upf"):
		return nil // an older format, which pw.x reads and we do not
	case err != nil:
		return refuse("the pseudopotential cannot be used", err.Error(), ps.similar(element))
	case u.element != element:
		return refuse(fmt.Sprintf("%s is a pseudopotential of %s, not of %s", file, u.element, element), "", ps.similar(element))
	}
	return u
}

// unsafeInDeck finds what would end a file's name in a line of a deck, or
// begin a comment.
func unsafeInDeck(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`\'"!#,`, r) }

// own returns where a file lies among the user's own, "" when it is not there.
func (ps *pseudos) own(file string) string {
	if ps.in.Files == nil {
		return ""
	}
	for _, name := range []string{pseudoDir + "/" + file, file} {
		if exists(ps.in.Files, name) {
			return name
		}
	}
	return ""
}

func (ps *pseudos) similar(element string) string {
	if list := libraryFiles(ps.in.Library, element); len(list) > 0 {
		return "the library has for " + element + ": " + strings.Join(list[:min(8, len(list))], ", ")
	}
	return "give the file with the job, or put it into the library"
}

// electrons counts the valence electrons, less the charge; known is false when
// a header is not.
func electrons(kinds []kind, charge float64) (n float64, known bool) {
	for _, k := range kinds {
		if k.header == nil {
			return 0, false
		}
		n += float64(k.sites) * k.header.valence
	}
	return n - charge, true
}

// checkFunctionals refuses files of different functionals, which pw.x does too.
func checkFunctionals(kinds []kind, inputDFT string) []job.Problem {
	if inputDFT != "" {
		return nil
	}
	var first *kind
	for i := range kinds {
		k := &kinds[i]
		switch {
		case k.header == nil || k.header.functional == "":
		case first == nil:
			first = k
		case k.header.functional != first.header.functional:
			return []job.Problem{{Field: "parameters.pseudopotentials", Message: "the pseudopotentials belong to different functionals",
				Why: fmt.Sprintf("%s is %s, %s is %s", first.file, first.header.functional, k.file, k.header.functional), Fix: "choose files of one functional, or set input_dft"}}
		}
	}
	return nil
}

// cutoffWarnings compare the cut-offs with the advice in the headers.
func cutoffWarnings(kinds []kind, ecutwfc float64) []engine.Warning {
	var out []engine.Warning
	for _, k := range kinds {
		if k.header != nil && k.header.wavefunctions > ecutwfc+0.5 {
			out = append(out, engine.Warning{Code: "cutoff_low", File: k.file,
				Message: fmt.Sprintf("ecutwfc is %g Ry; %s suggests %.0f Ry", ecutwfc, k.file, k.header.wavefunctions), Fix: "raise ecutwfc, or test that the result is converged"})
		}
	}
	return out
}

func exists(files fs.FS, name string) bool {
	info, err := fs.Stat(files, name)
	return err == nil && info.Mode().IsRegular()
}
