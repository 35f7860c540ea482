package lammps

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// wrapperName is the script that runs a person's script under a time limit.
const wrapperName = "nanoos.lmp"

// planScript runs a script that the job brings. The script stays as it is, byte
// by byte: a wrapper sets the timer, by which the run ends itself before its
// time limit, and then includes it.
func planScript(spec job.Spec, p params, in engine.Inputs) (*engine.Plan, error) {
	var problems []job.Problem
	for _, key := range slices.Sorted(maps.Keys(givenKeys(spec.Params))) {
		if key != "input" {
			problems = append(problems, job.Problem{Field: "parameters." + key, Message: "does not go with an input script, which says all", Fix: "remove it, or edit the script"})
		}
	}
	if len(spec.Structure) > 0 {
		problems = append(problems, job.Problem{Field: "structure", Message: "does not go with an input script, which makes or reads its own", Fix: "remove it"})
	}
	name, problem := chooseScript(spec, p.Input, in)
	if problem != nil {
		problems = append(problems, *problem)
		return nil, job.InvalidInput(refused, problems)
	}
	plan := &engine.Plan{Files: make(map[string][]byte), Library: make(map[string]string), Keep: []string{"log.*"}}
	l := &linter{in: in, plan: plan, stepsKnown: true}
	l.lint(name, 0)
	problems = append(problems, l.problems...)
	if err := job.InvalidInput(refused, problems); err != nil {
		return nil, err
	}
	l.finish(name)
	input := name
	if t := timerText(scriptLimit(spec.Soft())); t != "" {
		input = wrapperName
		plan.Files[wrapperName] = fmt.Appendf(nil, "# Written by nanoos: ends the run cleanly before its time limit.\ntimer timeout %s every %d\ninclude \"%s\"\n", t, haltEvery, name)
	}
	if !l.stepsKnown {
		l.steps = 0
	}
	plan.Steps = []engine.Step{step(spec, input, l.steps, 0)}
	return plan, nil
}

// scriptLimit leaves the script time to write its last files before the soft
// limit, at which a program without a stop file is terminated.
func scriptLimit(soft time.Duration) time.Duration {
	return soft - min(soft/2, max(5*time.Second, soft/100))
}

// chooseScript finds the input script among the files of a job.
func chooseScript(spec job.Spec, input string, in engine.Inputs) (string, *job.Problem) {
	var files, decks []string
	for _, f := range spec.Files {
		name := path.Clean(f.Name)
		files = append(files, name)
		if in.Files != nil && (New()).Deck(name, engine.Head(in.Files, name, headSize)) {
			decks = append(decks, name)
		}
	}
	chosen := path.Clean(input)
	switch {
	case input == "" && len(decks) == 1:
		chosen = decks[0]
	case input == "" && len(files) == 1:
		chosen = files[0]
	case input == "" && slices.Contains(decks, inputName):
		chosen = inputName
	case input == "" && len(decks) == 0:
		return "", &job.Problem{Field: "parameters.input", Message: "no file of the job is an input script of LAMMPS", Fix: "name it, as in input: in.lmp"}
	case input == "":
		return "", &job.Problem{Field: "parameters.input", Message: "several files are input scripts: " + strings.Join(decks, ", "), Fix: "name the one to run, as in input: " + decks[0]}
	case !slices.Contains(files, chosen):
		p := &job.Problem{Field: "parameters.input", Message: input + " is not among the job's files", Fix: "the files are " + strings.Join(files, ", ")}
		if near := job.Nearest(input, slices.Values(files)); near != "" {
			p.Fix = "perhaps " + near
		}
		return "", p
	}
	if strings.ContainsAny(chosen, "\"\n\r\x00") || chosen == wrapperName {
		return "", &job.Problem{Field: "parameters.input", Message: fmt.Sprintf("the name %q cannot be used", chosen), Fix: "rename the script"}
	}
	return chosen, nil
}

// linter reads a script and what it includes. It helps honest people; what a
// script really does is bounded by the sandbox.
type linter struct {
	in       engine.Inputs
	plan     *engine.Plan
	problems []job.Problem
	seen     []string // scripts that were read: each is read once
	written  []string // files that the script makes itself
	ran      bool
	python   bool // the potential is Python code
	// steps is the sum of all runs; stepsKnown is false with loops, conditions
	// or variables around them.
	steps      int64
	stepsKnown bool
	commands   int
}

const (
	maxIncludes = 8
	maxProblems = 50
	maxLinted   = 200_000 // commands
	maxWritten  = 200     // names of files
)

func (l *linter) problem(p job.Problem) {
	if len(l.problems) < maxProblems {
		l.problems = append(l.problems, p)
	}
}

func (l *linter) warn(code, file string, line int, message, fix string) {
	if len(l.plan.Warnings) < maxProblems {
		l.plan.Warnings = append(l.plan.Warnings, engine.Warning{Code: code, Message: message, Fix: fix, File: file, Line: line})
	}
}

func (l *linter) lint(name string, depth int) {
	if l.in.Files == nil {
		l.stepsKnown = false
		return
	}
	l.seen = append(l.seen, name)
	data, err := readHead(l.in.Files, name, maxScript)
	if err != nil {
		l.problem(job.Problem{File: name, Message: "cannot be read", Why: err.Error()})
		return
	}
	s := parseScript(name, data)
	if s.unclosed > 0 {
		l.problem(job.Problem{File: name, Line: s.unclosed, Message: "a quote is not closed", Fix: `close it with the same mark (", ' or """)`})
	}
	for _, c := range s.commands {
		if l.commands++; l.commands > maxLinted || len(l.problems) >= maxProblems {
			return
		}
		l.command(name, c, depth)
	}
}

func (l *linter) command(file string, c command, depth int) {
	switch {
	case strings.Contains(c.name, "$"):
		l.stepsKnown = false
		return
	case !commandNames[c.name] && !l.in.Styles["command "+c.name]:
		p := job.Problem{File: file, Line: c.line, Message: "unknown command " + clip(c.name), Fix: "look it up in the list of LAMMPS commands"}
		if near := job.Nearest(c.name, maps.Keys(commandNames)); near != "" {
			p.Fix = "perhaps " + near
		}
		l.problem(p)
		return
	case codeCommands[c.name]:
		l.warn("runs_commands", file, c.line, "the script runs commands or code of its own: "+c.name, "make sure that it is trusted")
	}
	l.style(file, c)
	l.files(file, c, depth)
	l.count(c)
}

// clip shortens a word that may be anything.
func clip(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:60], "") + "…"
	}
	return s
}

func (l *linter) style(file string, c command) {
	at, ok := styleCommands[c.name]
	if !ok || at >= len(c.args) || strings.Contains(c.args[at], "$") {
		return
	}
	if p := missingStyle(c.name, c.args[at], l.in.Styles); p != nil {
		p.File, p.Line = file, c.line
		l.problem(*p)
	}
}

// files looks for what a command reads, and remembers what it writes.
func (l *linter) files(file string, c command, depth int) {
	if at, ok := writeCommands[c.name]; ok && at < len(c.args) {
		l.writes(c.args[at])
	}
	if c.name == "restart" && len(c.args) > 1 {
		l.writes(c.args[1:]...)
	}
	if c.name == "pair_style" {
		l.python = slices.Contains(c.args, "python")
	}
	if c.name == "pair_coeff" {
		if l.python { // its words are modules, not files
			return
		}
		for _, w := range c.args[min(2, len(c.args)):] {
			_, isNumber := parseNumber(w)
			if dot := strings.IndexByte(w, '.'); !isNumber && dot > 0 && strings.ContainsFunc(w, isLetter) {
				l.need(file, c, w)
			}
		}
		return
	}
	at, ok := readCommands[c.name]
	if !ok || at >= len(c.args) || c.name == "jump" && c.args[at] == "SELF" {
		return
	}
	found := l.need(file, c, c.args[at])
	switch {
	case found == "" || c.name != "include":
	case depth >= maxIncludes:
		l.problem(job.Problem{File: file, Line: c.line, Message: fmt.Sprintf("more than %d files include one another", maxIncludes), Fix: "join some of them"})
	case slices.Contains(l.seen, found):
		l.stepsKnown = false // it may be the body of a loop
	default:
		l.lint(found, depth+1)
	}
}

func (l *linter) writes(names ...string) {
	for _, n := range names {
		if len(l.written) < maxWritten && !slices.Contains(l.written, n) {
			l.written = append(l.written, n)
		}
	}
}

func isLetter(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }

// need makes sure that a file is there, and returns its name among the job's
// own files. What is only known in the run is left to the run.
func (l *linter) need(file string, c command, name string) string {
	if strings.ContainsAny(name, "$*%") || l.isWritten(name) {
		return ""
	}
	clean := path.Clean(name)
	if path.IsAbs(clean) || !fs.ValidPath(clean) {
		l.warn("path_outside", file, c.line, clip(name)+" lies outside the job's directory: the machine that runs the job may not have it", "add the file to the job and use its bare name")
		return ""
	}
	if l.in.Files != nil {
		if info, err := fs.Stat(l.in.Files, clean); err == nil && !info.IsDir() {
			return clean
		}
	}
	if l.in.Library == nil {
		return ""
	}
	if info, err := fs.Stat(l.in.Library, path.Base(clean)); err == nil && !info.IsDir() {
		l.plan.Library[path.Base(clean)] = clean
		return ""
	}
	p := job.Problem{File: file, Line: c.line, Message: fmt.Sprintf("%s reads %s, which is not there", c.name, clip(name)), Fix: "add the file to the job"}
	if near := similarFiles(l.in.Library, path.Base(clean), slices.DeleteFunc(slices.Clone(c.args), func(w string) bool { return !isElement(w) })); len(near) > 0 && c.name == "pair_coeff" {
		p.Fix += ", or use " + strings.Join(near, ", ")
	}
	if len(l.in.LibraryDirs) > 0 {
		p.Why = "looked among the job's files and in " + strings.Join(l.in.LibraryDirs, ", ")
	}
	l.problem(p)
	return ""
}

// isWritten reports whether the script may make the file itself.
func (l *linter) isWritten(name string) bool {
	return slices.ContainsFunc(l.written, func(w string) bool {
		return w == name || strings.ContainsAny(w, "$*") && strings.HasPrefix(name, w[:strings.IndexAny(w, "$*")])
	})
}

// count adds up the steps that the script asks for.
func (l *linter) count(c command) {
	switch {
	case c.name == "run":
		var a ask
		if len(c.args) == 0 || !a.readRun(c.args) || !a.known || a.upto {
			l.stepsKnown = false
		}
		l.steps = min(l.steps+a.steps, 1<<53)
	case stepCommands[c.name], branchCommands[c.name]:
		l.stepsKnown = false
	default:
		return
	}
	l.ran = true
}

// finish adds what is known after all has been read.
func (l *linter) finish(name string) {
	if !l.ran && l.in.Files != nil {
		l.warn("no_run", name, 0, "the script has no run or minimize: nothing is simulated", "")
	}
	for _, w := range l.written {
		glob := path.Clean(globOf(w))
		if glob != "." && glob != "*" && fs.ValidPath(glob) && !slices.Contains(l.plan.Keep, glob) && len(l.plan.Keep) < maxProblems {
			l.plan.Keep = append(l.plan.Keep, glob)
		}
	}
}

// globOf turns a file name with places for steps, ranks and variables into a
// pattern, and keeps other signs from being one.
func globOf(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		switch c := name[i]; c {
		case '%', '*':
			b.WriteByte('*')
		case '$':
			b.WriteByte('*')
			if end := strings.IndexAny(name[i:], "})"); end > 0 && i+1 < len(name) && strings.IndexByte("{(", name[i+1]) >= 0 {
				i += end
			} else {
				i++
			}
		case '[', ']', '?', '\\':
			b.WriteByte('?')
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
