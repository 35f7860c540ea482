package qe

import (
	"slices"
	"strings"
	"testing"

	"github.com/nano-os/nanoos/internal/engine"
)

func TestMonitorFollowsRunsOfEveryKind(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		quantity string
		stages   []string
	}{
		"si_scf/scf":         {"accuracy_Ry", []string{"starting", "SCF iteration 1", "SCF iteration 6", "finished"}},
		"si_relax/relax":     {"max_force_eV_per_A", []string{"ionic step 1, SCF iteration 1", "ionic step 5, SCF iteration 1"}},
		"si_vcrelax/vcrelax": {"max_force_eV_per_A", []string{"ionic step 8, SCF iteration 1"}},
		"si_md/md":           {"max_force_eV_per_A", []string{"MD step 1, SCF iteration 1", "MD step 8, SCF iteration 1"}},
		"si_bands_dos/bands": {"", []string{"starting", "finished"}},
	} {
		r := recordedStep(t, name)
		text := r.files[r.step.StdoutFile].Data
		for _, chunk := range []int{1, 64, 5000} {
			m := New().Monitor(&engine.Plan{Steps: make([]engine.Step, 1)})
			var stages []string
			last, seen := 0.0, map[string]bool{}
			for part := range slices.Chunk(text, chunk) {
				if n, err := m.Write(part); n != len(part) || err != nil {
					t.Fatal(n, err)
				}
				p := m.Progress()
				if p.Fraction < last || p.Fraction > 1 {
					t.Fatalf("%s: progress %v after %v", name, p.Fraction, last)
				}
				last = p.Fraction
				if p.Quantity != "" {
					seen[p.Quantity] = true
				}
				if chunk == 1 && (len(stages) == 0 || stages[len(stages)-1] != p.Stage) {
					stages = append(stages, p.Stage)
				}
			}
			if last != 1 || want.quantity != "" && !seen[want.quantity] {
				t.Errorf("%s: ends at %v with %v", name, last, seen)
			}
			for _, s := range want.stages {
				if chunk == 1 && !slices.Contains(stages, s) {
					t.Errorf("%s: no stage %q in %q", name, s, stages)
				}
			}
		}
	}
}

func TestMonitorMovesWithinOneCycle(t *testing.T) {
	t.Parallel()
	r := recordedStep(t, "si_scf/scf")
	text, _, _ := strings.Cut(string(r.files["scf.out"].Data), "End of self-consistent")
	m := New().Monitor(&engine.Plan{Steps: make([]engine.Step, 2)})
	if _, err := m.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if p := m.Progress(); p.Fraction < 0.3 || p.Fraction >= 0.5 || p.Value == nil || *p.Value > 1e-4 {
		t.Errorf("in the first of two steps: %+v", p)
	}
}

func TestMonitorSurvivesEndlessLines(t *testing.T) {
	t.Parallel()
	m := New().Monitor(&engine.Plan{}).(*monitor)
	junk := []byte(strings.Repeat("x", 1<<20))
	for range 20 {
		if _, err := m.Write(junk); err != nil {
			t.Fatal(err)
		}
	}
	if cap(m.rest) > 4<<20 {
		t.Errorf("keeps %d bytes", cap(m.rest))
	}
	if _, err := m.Write([]byte("\n     iteration #  3     ecut=    20.00 Ry     beta= 0.70\n")); err != nil {
		t.Fatal(err)
	}
	if p := m.Progress(); p.Stage != "SCF iteration 3" {
		t.Errorf("progress %+v", p)
	}
}
