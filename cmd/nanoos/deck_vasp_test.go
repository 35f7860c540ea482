package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestADirectoryOfVASPIsSubmittedWithoutItsPotentials(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"INCAR": "SYSTEM = with POTCAR\nENCUT = 300\nISMEAR = 0\nSIGMA = 0.1\n", "POSCAR": "x", "KPOINTS": "x", "POTCAR": "licensed", "WAVECAR": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	drafts, err := readInput(engines(), dir, "", strings.NewReader(""), nil)
	if err != nil || len(drafts) != 1 {
		t.Fatalf("%v %v", drafts, err)
	}
	var names []string
	for _, u := range drafts[0].uploads {
		names = append(names, u.name)
	}
	slices.Sort(names)
	if got := strings.Join(names, " "); got != "INCAR KPOINTS POSCAR" || drafts[0].request.Engine != "vasp" {
		t.Errorf("engine %s, files %s", drafts[0].request.Engine, got)
	}
}
