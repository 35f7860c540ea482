package executor

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/nano-os/nanoos/internal/job"
)

// checkName refuses names that are no single path element.
func checkName(id job.ID, attempt int) (problems []job.Problem) {
	bad := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	}
	if id == "" || len(id) > job.MaxNameLength || strings.ContainsFunc(string(id), bad) {
		problems = append(problems, job.Problem{Field: "id", Message: "a job id has letters, digits and hyphens only", Why: strconv.Quote(string(id))})
	}
	if attempt < 1 {
		problems = append(problems, job.Problem{Field: "attempt", Message: "attempts count from 1", Why: strconv.Itoa(attempt)})
	}
	return problems
}

// check finds everything in a task that cannot run.
func (t Task) check() error {
	problems := checkName(t.ID, t.Attempt)
	add := func(field, message, why string) {
		problems = append(problems, job.Problem{Field: field, Message: message, Why: why})
	}
	if len(t.Steps) == 0 {
		add("steps", "a task needs a command", "")
	}
	for i, s := range t.Steps {
		field := fmt.Sprintf("steps[%d]", i)
		if len(s.Argv) == 0 || !filepath.IsAbs(s.Argv[0]) {
			add(field+".argv", "a command begins with the absolute path of a program", strings.Join(s.Argv, " "))
		}
		if slices.ContainsFunc(s.Argv, hasNUL) {
			add(field+".argv", "an argument has a zero byte", "")
		}
		for from, to := range s.Copy {
			if !filepath.IsLocal(from) || !filepath.IsLocal(to) || hasNUL(from+to) {
				add(field+".copy", "a file to copy is outside the work directory", from+" to "+to)
			}
		}
	}
	for i, e := range t.Env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" || hasNUL(e) {
			add(fmt.Sprintf("env[%d]", i), "an environment entry is not NAME=value", "")
		}
	}
	for _, name := range t.Stop.Create {
		if !filepath.IsLocal(name) || hasNUL(name) {
			add("stop.create", "a soft stop file is outside the work directory", strconv.Quote(name))
		}
	}
	return job.InvalidInput("the task cannot be started", problems)
}

func hasNUL(s string) bool { return strings.ContainsRune(s, 0) }
