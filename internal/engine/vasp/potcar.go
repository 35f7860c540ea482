package vasp

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/engine/printed"
	"github.com/nano-os/nanoos/internal/job"
)

// potcarName is the file that VASP reads its potentials from. Its contents are
// licensed: they are copied on the machine of the run from its library into the
// work directory and nowhere else. Only titles, cut-offs and hashes leave it.
const potcarName = "POTCAR"

// potential is what may be told of one.
type potential struct {
	file  string // in the library
	title string // "PAW_PBE Si 05Jan2001"
	enmax float64
	zval  float64
}

// places are where libraries keep the potential of a name.
var places = []string{"%s/POTCAR", "potpaw_PBE/%s/POTCAR", "potpaw_PBE.54/%s/POTCAR", "potpaw_PBE.64/%s/POTCAR", "POTCAR.%s", "POTCAR_%s", "%s.POTCAR"}

// findPotential looks a potential up by its name. The library is nil where it
// is not known, and then its usual place is taken.
func findPotential(library fs.FS, element, name string) (potential, *job.Problem) {
	field := "parameters.potentials." + element
	if !fs.ValidPath(name) || strings.ContainsAny(name, "/\\ \t") || elementOf(name) != element {
		return potential{}, &job.Problem{Field: field, Message: fmt.Sprintf("%q is not the name of a potential of %s", name, element), Fix: "give a name of the library, such as " + element + " or " + element + "_sv"}
	}
	if library == nil {
		return potential{file: fmt.Sprintf(places[0], name)}, nil
	}
	for _, place := range places {
		file := fmt.Sprintf(place, name)
		head := engine.Head(library, file, headSize)
		if len(head) == 0 {
			continue
		}
		p, err := readPotential(head)
		if err == nil && elementOf(p.titleName()) != element {
			err = fmt.Errorf("its title is %q", p.title)
		}
		if err != nil {
			return p, &job.Problem{Field: field, Message: file + " is not a potential of " + element, Why: err.Error(), Fix: "see the library: nanoos doctor"}
		}
		p.file = file
		return p, nil
	}
	return potential{}, &job.Problem{Field: field, Message: "there is no potential " + name + " in the library", Fix: "name another, or set VASP_PP_PATH to your licensed potentials"}
}

// readPotential reads the header alone.
func readPotential(head []byte) (potential, error) {
	var p potential
	for line := range bytes.Lines(head) {
		text := bytes.TrimSpace(line)
		if rest, ok := bytes.CutPrefix(text, []byte("TITEL")); ok && p.title == "" {
			_, title, _ := bytes.Cut(rest, []byte{'='})
			p.title = clip(title)
		}
		if bytes.HasPrefix(text, []byte("ENMAX")) && p.enmax == 0 {
			p.enmax, _ = printed.After(text, "=")
		}
		if v, ok := printed.After(text, "ZVAL   ="); ok && p.zval == 0 {
			p.zval = v
		}
	}
	if p.title == "" {
		return p, errors.New("it has no TITEL")
	}
	return p, nil
}

// titleName is the name in a title: "Li_sv" in "PAW_PBE Li_sv 23Jan2001".
func (p *potential) titleName() string {
	f := strings.Fields(p.title)
	if len(f) < 2 {
		return p.title
	}
	return f[1]
}

// addPotentials plans POTCAR for groups of atoms in their order, and says what
// cut-off the potentials ask for; 0 when they are not known here.
func addPotentials(plan *engine.Plan, in engine.Inputs, groups []string, names map[string]string) (found []potential, problems []job.Problem) {
	var files, titles []string
	for element := range names {
		if !slices.Contains(groups, element) {
			problems = append(problems, job.Problem{Field: "parameters.potentials." + element, Message: element + " is not in the structure", Fix: "remove it"})
		}
	}
	for _, element := range groups {
		name := names[element]
		if name == "" {
			name = element
		}
		p, problem := findPotential(in.Library, element, name)
		if problem != nil {
			problems = append(problems, *problem)
			continue
		}
		files, found = append(files, p.file), append(found, p)
		if p.title != "" {
			titles = append(titles, p.title)
		}
	}
	family := map[string]bool{}
	for _, t := range titles {
		first, _, _ := strings.Cut(t, " ")
		family[first] = true
	}
	if len(family) > 1 {
		problems = append(problems, job.Problem{Field: "parameters.potentials", Message: "the potentials are of different functionals", Why: strings.Join(titles, ", "), Fix: "take all from one set"})
	}
	plan.Joined = []engine.Joined{{To: potcarName, From: files, Version: strings.Join(titles, ", ")}}
	return found, problems
}
