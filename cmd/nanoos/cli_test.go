package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
)

var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

func TestEveryErrorHasItsExitCode(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]int{
		nil: 0, errors.New("x"): 1, usage("", "x"): 2,
		job.Errorf(job.NotFound, "x"): 3, job.Errorf(job.Ambiguous, "x"): 3, job.Errorf(job.Forbidden, "x"): 4,
		job.Errorf(job.Conflict, "x"): 5, job.Errorf(job.Exhausted, "x"): 6, job.Errorf(job.Unavailable, "x"): 7,
		job.Errorf(job.Invalid, "x"): 8, job.Errorf(job.Internal, "x"): 1, quietExit(12): 12,
		fmt.Errorf("wait: %w", context.Canceled): 130, fmt.Errorf("write: %w", syscall.EPIPE): 141,
	} {
		if got := exitCode(err); got != want {
			t.Errorf("%v exits with %d, want %d", err, got, want)
		}
	}
}

// The order is the flag, NO_COLOR, the forcing variables, TERM, the terminal.
func TestC04ColourFollowsThePrecedence(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		flag string
		tty  bool
		env  map[string]string
		want bool
	}{
		{"auto", true, nil, true},
		{"auto", false, nil, false},
		{"always", false, map[string]string{"NO_COLOR": "1", "TERM": "dumb"}, true},
		{"never", true, map[string]string{"CLICOLOR_FORCE": "1"}, false},
		{"auto", true, map[string]string{"NO_COLOR": "1", "CLICOLOR_FORCE": "1"}, false},
		{"auto", true, map[string]string{"NO_COLOR": ""}, true},
		{"auto", false, map[string]string{"CLICOLOR_FORCE": "1", "TERM": "dumb"}, true},
		{"auto", false, map[string]string{"FORCE_COLOR": "1"}, true},
		{"auto", false, map[string]string{"CLICOLOR_FORCE": "0"}, false},
		{"auto", true, map[string]string{"TERM": "dumb"}, false},
	} {
		if got := wantsColour(c.flag, c.tty, func(k string) string { return c.env[k] }); got != c.want {
			t.Errorf("%+v: colour is %v", c, got)
		}
	}
}

func someJobs() []api.Job {
	value := -215.3869
	jobs := []api.Job{
		{ID: "01a212f3-d768-73b4-bd8f-8370fa541aeb", Name: "silicon-relaxation-with-a-very-long-name", Engine: "qe", Queue: "simulations",
			State: job.Running, StartedAt: noon.Add(-time.Minute), CreatedAt: noon.Add(-time.Hour),
			Progress: &job.Progress{Fraction: 0.45, Stage: "SCF iteration 7 of the third ionic step", Quantity: "energy_eV", Value: &value}},
		{ID: "01a212f3-d768-73b4-bd8f-8370fa541aec", Name: "二酸化チタン", Engine: "lammps", State: job.Failed, CreatedAt: noon.Add(-48 * time.Hour),
			Labels: map[string]string{"campaign": "TiO2"}, Queue: "debug",
			Failure: &job.Failure{Code: "scf_not_converged", Message: "SCF did not converge\x1b[31m in 100 iterations"}},
		{ID: "01a212f3-d768-73b4-bd8f-8370fa541aed", Engine: "mock", Formula: "Si2", State: job.Completed, Verdict: job.NotConverged, CreatedAt: noon.Add(-time.Minute), Queue: "simulations"},
		{ID: "01a212f3-d768-73b4-bd8f-8370fa541aee", Name: "kept", Engine: "mock", State: job.Pending, Reason: job.ReasonHeld, CreatedAt: noon, Queue: "simulations"},
	}
	return jobs
}

func TestATableFitsTheTerminalAndCutsNothingElsewhere(t *testing.T) {
	t.Parallel()
	for _, unicode := range []bool{true, false} {
		s := screen{tty: true, width: 80, unicode: unicode}
		table := renderTable(&cells{now: noon, relative: true, zone: time.UTC, screen: s}, s, someJobs(), visible(jobColumns(), "table"), true)
		for line := range strings.Lines(table) {
			if n := width(strings.TrimRight(line, "\n")); n > 80 {
				t.Errorf("%d columns: %q", n, line)
			}
			if strings.ContainsRune(line, 0x1b) {
				t.Errorf("an escape byte passed: %q", line)
			}
		}
		if !strings.HasPrefix(table, "ID ") || !strings.Contains(table, "8370fa541aeb"[4:]) {
			t.Errorf("no header or short id:\n%s", table)
		}
	}
	plain := renderTable(&cells{now: noon, zone: time.UTC}, screen{}, someJobs(), visible(jobColumns(), "table"), true)
	for _, whole := range []string{"silicon-relaxation-with-a-very-long-name", "SCF iteration 7 of the third ionic step", "2026-01-31T11:00:00Z", "finished, not converged"} {
		if !strings.Contains(plain, whole) {
			t.Errorf("%q was cut:\n%s", whole, plain)
		}
	}
}

func TestTheBarFitsTheTerminal(t *testing.T) {
	t.Parallel()
	for _, columns := range []int{60, 80, 200} {
		s := screen{tty: true, width: columns, unicode: true}
		c := &cells{now: noon, relative: true, zone: time.UTC, screen: s}
		f := newFollower(nil, someJobs())
		v := &barView{}
		for _, line := range append(v.manyLines(s, c, f), v.jobLine(s, c, f.jobs[0], "", 100), v.jobLine(s, c, f.jobs[1], "", 100)) {
			if n := width(line); n > columns {
				t.Errorf("%d of %d columns: %q", n, columns, line)
			}
		}
	}
}

func TestFiltersSelectWhatTheySay(t *testing.T) {
	t.Parallel()
	jobs := someJobs()
	for text, want := range map[string]string{
		"":                             "silicon 二酸化 Si2 kept",
		"state:failed":                 "二酸化",
		"state:running,failed":         "silicon 二酸化",
		"state:held":                   "kept",
		"-state:failed -state:running": "Si2 kept",
		"is:attention":                 "二酸化 Si2",
		"engine:qe":                    "silicon",
		"label:campaign=tio2":          "二酸化",
		"label:campaign":               "二酸化",
		"-queue:simulations":           "二酸化",
		"tio2":                         "二酸化",
		"RELAX":                        "silicon",
		"id:aee":                       "kept",
		`text:"not converge"`:          "二酸化",
		"created:1d":                   "silicon Si2 kept",
		"created:>1d":                  "二酸化",
		"formula:si":                   "Si2",
		"verdict:not_converged":        "Si2",
	} {
		f, err := parseFilter(text, noon)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		var got []string
		for i := range jobs {
			if f.match(&jobs[i]) {
				name, _, _ := strings.Cut(jobName(&jobs[i]), "-")
				got = append(got, strings.TrimSuffix(name, "チタン"))
			}
		}
		if diff := cmp.Diff(want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
	for _, bad := range []string{"stat:failed", "state:fialed", "state:", `text:"open`, "created:soon"} {
		if _, err := parseFilter(bad, noon); exitCode(err) != exitUsage {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestADeckBringsTheFilesItNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"in.lmp":   "include other.in\nread_data ./data.al # data.not\npair_coeff * * Al.eam Al\nread_restart ../secret\npseudo_dir='pot/'\nSi 28 Si.UPF\n",
		"other.in": "include in.lmp\nmolecule m mol.txt\n", "data.al": "", "data.not": "", "Al.eam": "", "mol.txt": "", "pot/Si.UPF": "", "run": "", "10": "",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	deck, err := os.ReadFile(filepath.Join(dir, "in.lmp"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, u := range namedBy(deck, dir, "in.lmp") {
		got[u.name] = true
	}
	want := map[string]bool{"other.in": true, "data.al": true, "Al.eam": true, "mol.txt": true, "pot/Si.UPF": true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestOutcomesBecomeExitCodes(t *testing.T) {
	t.Parallel()
	ok := api.Job{State: job.Completed, Verdict: job.Converged}
	loose := api.Job{State: job.Completed, Verdict: job.NotConverged}
	failed, cancelled := api.Job{State: job.Failed}, api.Job{State: job.Cancelled}
	quarantined := api.Job{State: job.Pending, Reason: job.ReasonQuarantined}
	for _, c := range []struct {
		jobs   []api.Job
		strict bool
		want   int
	}{
		{[]api.Job{ok, ok}, true, 0}, {[]api.Job{ok, loose}, false, 0}, {[]api.Job{ok, loose}, true, 13},
		{[]api.Job{cancelled, ok}, true, 11}, {[]api.Job{cancelled, failed}, false, 10}, {[]api.Job{quarantined}, false, 10},
		{[]api.Job{loose, cancelled}, true, 11},
	} {
		if got := outcome(c.jobs, c.strict); got != c.want {
			t.Errorf("%v, strict %v: %d, want %d", c.jobs, c.strict, got, c.want)
		}
	}
}

func TestTextsAreShortenedToTheCell(t *testing.T) {
	t.Parallel()
	s := screen{unicode: true}
	for _, c := range []struct {
		text, want string
		n          int
		middle     bool
	}{
		{"silicon", "silicon", 7, false}, {"silicon", "sili…", 5, false}, {"silicon-relax", "sil…lax", 7, true},
		{"二酸化チタン", "二酸…", 5, false}, {"ab", "…", 1, true}, {"ab", "", 0, false},
	} {
		if got := s.shorten(c.text, c.n, c.middle); got != c.want {
			t.Errorf("%q in %d: %q, want %q", c.text, c.n, got, c.want)
		}
	}
}

func TestHelpNeedsNoServerAndShowsExamplesOfEveryCommand(t *testing.T) {
	t.Parallel()
	a := &app{getenv: func(string) string { return "" }, now: time.Now, engines: engines()}
	a.io.out, a.io.err = &strings.Builder{}, &strings.Builder{}
	pending := newRoot(a).Commands()
	for len(pending) > 0 {
		cmd := pending[0]
		pending = append(pending[1:], cmd.Commands()...)
		if cmd.Hidden {
			continue
		}
		if cmd.Short == "" || strings.Count(cmd.Example, "\n") < 2 {
			t.Errorf("%s: purpose %q, examples %q", cmd.CommandPath(), cmd.Short, cmd.Example)
		}
	}
}
