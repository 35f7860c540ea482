package lammps

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// interaction is a checked potential: the lines of the script and the files
// that they name.
type interaction struct {
	style    string   // with arguments
	coeffs   []string // arguments of pair_coeff
	library  []string // files to stage
	problems []job.Problem
}

// maxPotential bounds how much of a potential file is read for its check.
const maxPotential = 8 << 20

// newInteraction checks a potential against the elements, which are in the
// order of the atom types, and against what is there.
func newInteraction(p *potential, types []string, in engine.Inputs) *interaction {
	it := &interaction{style: p.Style}
	name, _, _ := strings.Cut(p.Style, " ")
	if problem := missingStyle("pair_style", name, in.Styles); problem != nil {
		it.problems = append(it.problems, job.Problem{Field: "parameters.potential.style", Message: problem.Message, Why: problem.Why, Fix: problem.Fix})
	}
	it.checkPaths("style", p.Style)
	for i, c := range p.Coeffs {
		it.checkPaths(fmt.Sprintf("coeffs[%d]", i), c)
	}
	given := len(p.Coeffs) > 0
	file := p.File.one != "" || len(p.File.each) > 0
	switch {
	case given && (file || len(p.Elements) > 0):
		it.problem("coeffs", "does not go with file and elements", "give one or the other")
	case given:
		it.listed(p, in)
	case name == "eam" && file:
		it.single(p, types, in)
	case !file && name == "lj/cut":
		it.problem("coeffs", "is required for lj/cut and missing", `give epsilon and sigma of every pair of types: coeffs: ["1 1 0.0104 3.40"]`)
	case !file:
		it.problem("file", "is required for "+name+" and missing", "give the potential file, or the arguments of pair_coeff as coeffs")
	case p.File.one == "":
		it.problem("file", "only eam has one file for each element", "give one file")
	default:
		it.manyBody(name, p, types, in)
	}
	return it
}

func (it *interaction) problem(field, message, fix string) {
	it.problems = append(it.problems, job.Problem{Field: "parameters.potential." + field, Message: message, Fix: fix})
}

// checkPaths refuses words that name files elsewhere: of a file, only the bare
// name may stand in the script. A slash is also part of the names of styles,
// which have no dot.
func (it *interaction) checkPaths(field, words string) {
	for _, w := range strings.Fields(words) {
		if strings.HasPrefix(w, "/") || strings.Contains(w, "..") || strings.Contains(w, "/") && strings.Contains(w, ".") {
			it.problem(field, w+" is a path", "give the bare name of a file in the library or among the job's files")
		}
	}
}

// listed takes pair_coeff as it was given, and stages the files named in it.
func (it *interaction) listed(p *potential, in engine.Inputs) {
	for i, c := range p.Coeffs {
		it.coeffs = append(it.coeffs, c)
		for _, w := range strings.Fields(c) {
			if _, isNumber := parseNumber(w); isNumber || !strings.Contains(w, ".") || w[0] < 'A' {
				continue
			}
			it.need(fmt.Sprintf("coeffs[%d]", i), w, nil, in)
		}
	}
}

// single is style eam: one file for each element, which has no name inside.
func (it *interaction) single(p *potential, types []string, in engine.Inputs) {
	if p.File.one != "" && len(types) > 1 {
		it.problem("file", "style eam has one file for each element", fmt.Sprintf("give %s each its file, as in {%s: %s}", strings.Join(types, ", "), types[0], p.File.one))
		return
	}
	for _, e := range slices.Sorted(maps.Keys(p.File.each)) {
		if !slices.Contains(types, e) {
			it.problem("file."+e, "is not an element of the structure", "its elements are "+strings.Join(types, ", "))
		}
	}
	for i, e := range types {
		file, field := p.File.one, "file"
		if file == "" {
			if file = p.File.each[e]; file == "" {
				it.problem("file."+e, "is missing", "give a potential file for "+e)
				continue
			}
			field = "file." + e
		}
		it.coeffs = append(it.coeffs, fmt.Sprintf("%d %d %s", i+1, i+1, file))
		data, ok := it.need(field, file, types, in)
		if !ok || data == nil {
			continue
		}
		if has := funcflElement(data); has != "" && has != e {
			it.problem(field, fmt.Sprintf("%s is a potential of %s", file, has), "give a file of "+e)
		}
	}
}

// manyBody is a file that names its elements.
func (it *interaction) manyBody(style string, p *potential, types []string, in engine.Inputs) {
	names := types
	if len(p.Elements) > 0 {
		if len(p.Elements) != len(types) {
			it.problem("elements", fmt.Sprintf("has %d names for %d elements (%s)", len(p.Elements), len(types), strings.Join(types, ", ")), "give one for each, in this order")
			return
		}
		names = p.Elements
	}
	it.coeffs = []string{"* * " + p.File.one + " " + strings.Join(names, " ")}
	data, ok := it.need("file", p.File.one, types, in)
	if !ok || data == nil {
		return
	}
	known, missing := potentialElements(style, data, names)
	_, triples := entryWords[style]
	switch {
	case !triples && style != "eam/alloy" && style != "eam/fs": // a format that is left to LAMMPS
	case known == nil:
		it.problem("file", fmt.Sprintf("%s is not a potential file of style %s", p.File.one, style), "give the file and the style that belong together")
	case len(missing) > 0:
		it.problem("file", fmt.Sprintf("%s has nothing for %s", p.File.one, strings.Join(missing, ", ")), "it has "+strings.Join(known, ", ")+"; choose a file with every element of the structure")
	}
}

// need finds a file in the job's files or the library and reads it. Without a
// library here, nothing can be checked.
func (it *interaction) need(field, name string, types []string, in engine.Inputs) (data []byte, ok bool) {
	if in.Files != nil {
		if data, err := readHead(in.Files, name, maxPotential); err == nil {
			return data, true
		}
	}
	if in.Library == nil {
		it.stage(name)
		return nil, true
	}
	data, err := readHead(in.Library, name, maxPotential)
	if err == nil {
		it.stage(name)
		if strings.HasSuffix(name, ".gz") { // LAMMPS unpacks it; its content is not checked
			data = nil
		}
		return data, true
	}
	message := name + " is not in the library"
	if !errors.Is(err, fs.ErrNotExist) {
		message = name + " cannot be read"
	}
	p := job.Problem{Field: "parameters.potential." + field, Message: message}
	if len(in.LibraryDirs) > 0 {
		p.Why = "looked in " + strings.Join(in.LibraryDirs, ", ")
	}
	if near := similarFiles(in.Library, name, types); len(near) > 0 {
		p.Fix = "similar files there: " + strings.Join(near, ", ")
	} else {
		p.Fix = "put the file into the library, or add it to the job's files"
	}
	it.problems = append(it.problems, p)
	return nil, false
}

func (it *interaction) stage(name string) {
	if !slices.Contains(it.library, name) {
		it.library = append(it.library, name)
	}
}

// readHead reads a file up to a bound.
func readHead(files fs.FS, name string, bound int64) ([]byte, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, bound))
}

// similarFiles are the nearest name, and the files of the same kind that begin
// with one of the elements; at most eight.
func similarFiles(library fs.FS, name string, types []string) []string {
	entries, err := fs.ReadDir(library, ".")
	if err != nil {
		return nil
	}
	var names, out []string
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	if near := job.Nearest(name, slices.Values(names)); near != "" {
		out = append(out, near)
	}
	_, kind, _ := strings.Cut(name, ".")
	for _, n := range names {
		stem, k, _ := strings.Cut(n, ".")
		if k == kind && !slices.Contains(out, n) && slices.ContainsFunc(types, func(e string) bool { return strings.HasPrefix(stem, e) }) {
			out = append(out, n)
		}
	}
	return out[:min(len(out), 8)]
}

// entryWords is the number of words in an entry of the files that have one for
// every triple of elements.
var entryWords = map[string]int{"sw": 14, "tersoff": 17, "tersoff/mod": 20, "tersoff/zbl": 21, "vashishta": 17}

// potentialElements returns the elements of a file and what it lacks of those
// wanted: elements, or triples of them. known is nil for a file of another kind.
func potentialElements(style string, data []byte, want []string) (known, missing []string) {
	if n, ok := entryWords[style]; ok {
		return tripleElements(data, n, want)
	}
	if style == "eam/alloy" || style == "eam/fs" {
		known = setflElements(data)
	}
	for _, e := range want {
		if known != nil && !slices.Contains(known, e) && !slices.Contains(missing, e) {
			missing = append(missing, e)
		}
	}
	return known, missing
}

// setflElements reads the fourth line of a setfl file: "2 Ni Al".
func setflElements(data []byte) []string {
	lines := strings.SplitN(string(data), "\n", 5)
	if len(lines) < 4 {
		return nil
	}
	f := strings.Fields(lines[3])
	if len(f) < 2 {
		return nil
	}
	n, err := strconv.Atoi(f[0])
	if err != nil || n < 1 || n != len(f)-1 {
		return nil
	}
	return f[1:]
}

// funcflElement reads the second line of a funcfl file, which begins with the
// number of protons; "" when it is not one.
func funcflElement(data []byte) string {
	lines := strings.SplitN(string(data), "\n", 3)
	if len(lines) < 2 {
		return ""
	}
	f := strings.Fields(lines[1])
	if len(f) < 2 {
		return ""
	}
	z, err := strconv.Atoi(f[0])
	if err != nil {
		return ""
	}
	e, _ := crystal.ElementOfZ(z)
	return e.Symbol
}

// tripleElements reads entries of a fixed number of words, each beginning with
// three elements.
func tripleElements(data []byte, entry int, want []string) (known, missing []string) {
	var words []string
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		words = append(words, strings.Fields(line)...)
	}
	have := make(map[string]bool)
	for i := 0; i+entry <= len(words); i += entry {
		for _, w := range words[i : i+3] {
			if _, number := parseNumber(w); number {
				return nil, nil
			}
			if !slices.Contains(known, w) {
				known = append(known, w)
			}
		}
		have[strings.Join(words[i:i+3], " ")] = true
	}
	want = slices.Compact(slices.Sorted(slices.Values(want)))
	for _, a := range want {
		for _, b := range want {
			for _, c := range want {
				if triple := a + " " + b + " " + c; !have[triple] && len(missing) < 8 {
					missing = append(missing, "("+triple+")")
				}
			}
		}
	}
	return known, missing
}

// missingStyle is the problem of a style that the installed program does not
// have; nil when it has, or is not known.
func missingStyle(kind, name string, styles map[string]bool) *job.Problem {
	if styles == nil || styles[kind+" "+name] || name == "none" || name == "zero" {
		return nil
	}
	var same []string
	for s := range styles {
		if rest, ok := strings.CutPrefix(s, kind+" "); ok {
			same = append(same, rest)
		}
	}
	if len(same) == 0 {
		return nil
	}
	slices.Sort(same)
	p := &job.Problem{Message: fmt.Sprintf("the installed LAMMPS has no %s %s", kind, name), Fix: "it has " + strings.Join(same, ", ")}
	if near := job.Nearest(name, slices.Values(same)); near != "" {
		p.Fix = fmt.Sprintf("did you mean %s? lmp -h lists what it has", near)
	}
	return p
}
