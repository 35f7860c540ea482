package worker

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

func TestCommandsAreArgumentVectorsOfWhatIsInstalled(t *testing.T) {
	t.Parallel()
	m := &Machine{Programs: map[string]string{"pw.x": "/opt/qe/bin/pw.x"}, Launcher: "/usr/bin/mpirun"}
	got, err := m.Commands([]engine.Step{
		{Program: "pw.x", Args: []string{"-in", "a b; rm"}},
		{Program: "pw.x", Ranks: 4, Args: []string{"-nk", "2"}, Copy: map[string]string{"a": "b"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{{"/opt/qe/bin/pw.x", "-in", "a b; rm"}, {"/usr/bin/mpirun", "-np", "4", "/opt/qe/bin/pw.x", "-nk", "2"}}
	for i, c := range got {
		if d := cmp.Diff(want[i], c.Argv); d != "" {
			t.Error(d)
		}
	}
	m.Launcher = ""
	for _, steps := range [][]engine.Step{{{Program: "lmp"}}, {{Program: "pw.x", Ranks: 2}}} {
		if _, err := m.Commands(steps); job.CodeOf(err) != job.Unavailable {
			t.Errorf("%v: %v", steps, err)
		}
	}
}

func TestT4_TheEnvironmentIsOurs(t *testing.T) {
	t.Setenv("LD_PRELOAD", "/tmp/evil.so")
	t.Setenv("NANOOS_TOKEN", "secret")
	m := &Machine{Libraries: map[string][]string{"lammps": {"/lib/a", "/lib/b"}}}
	l := job.Lease{Job: job.Job{ID: "j", Attempt: 2}}
	env := m.environment(l, &engine.Plan{Env: map[string]string{"OMP_NUM_THREADS": "4"}}, "/state/work")
	for _, want := range []string{"LC_ALL=C", "HOME=/state/work", "TMPDIR=/state/work/tmp", "OMP_NUM_THREADS=4", "LAMMPS_POTENTIALS=/lib/a", "NANOOS_JOB=j", "NANOOS_TRY=2"} {
		if !slices.Contains(env, want) {
			t.Errorf("%s is missing", want)
		}
	}
	for _, v := range env {
		if strings.Contains(v, "evil") || strings.Contains(v, "secret") {
			t.Errorf("leaked %s", v)
		}
	}
	if !slices.IsSorted(env) {
		t.Error("the order of the environment is not fixed")
	}
}

func TestTheFirstLibraryThatHasAFileWins(t *testing.T) {
	t.Parallel()
	a, b := t.TempDir(), t.TempDir()
	for path, text := range map[string]string{filepath.Join(a, "Si.UPF"): "a", filepath.Join(b, "Si.UPF"): "b", filepath.Join(b, "Al.UPF"): "b"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := libraryFS{a, b}
	if got, err := fs.ReadFile(l, "Si.UPF"); err != nil || string(got) != "a" {
		t.Errorf("%q, %v", got, err)
	}
	entries, err := fs.ReadDir(l, ".")
	if err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
	if _, err := fs.ReadFile(l, "../etc/passwd"); err == nil {
		t.Error("left the library")
	}
}

func TestSettingsComeBeforeWhatIsFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := filepath.Join(dir, "my-pw")
	if err := os.WriteFile(program, []byte("#!/bin/true\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	m, err := FindMachine([]engine.Engine{fakePrograms{}}, Settings{Programs: map[string]string{"pw.x": program}, Libraries: map[string][]string{"qe": {dir}}}, dir)
	if err != nil {
		t.Fatal(err)
	}
	if m.Programs["pw.x"] != program || m.Libraries["qe"][0] != dir {
		t.Errorf("programs %v, libraries %v", m.Programs, m.Libraries)
	}
}

// fakePrograms is the mock engine under the name and with the program of another.
type fakePrograms struct{ engine.Mock }

func (fakePrograms) Name() string       { return "qe" }
func (fakePrograms) Programs() []string { return []string{"pw.x"} }
