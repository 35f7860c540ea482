package e2e

import (
	"encoding/json"
	"math"
	"path/filepath"
	"testing"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// runExample runs a job file through a node that nanoos starts for itself.
func runExample(t *testing.T, file string) (state job.State, verdict job.Verdict, s engine.Summary) {
	t.Helper()
	home := dataDir(t)
	stdout, stderr, code := nanoos(t, []string{"XDG_STATE_HOME=" + home, "NANOOS_URL="}, "run", file, "-o", "json")
	if code != 0 {
		t.Fatalf("exit %d\n%s\n%s", code, stdout, stderr)
	}
	var doc struct {
		State   job.State      `json:"state"`
		Verdict job.Verdict    `json:"verdict"`
		Summary engine.Summary `json:"summary"`
	}
	if err := json.Unmarshal([]byte(stdout), &doc); err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	return doc.State, doc.Verdict, doc.Summary
}

func near(t *testing.T, name string, got *float64, want, within float64) {
	t.Helper()
	if got == nil {
		t.Errorf("%s is absent", name)
	} else if math.Abs(*got-want) > within {
		t.Errorf("%s = %v, want %v ± %v", name, *got, want, within)
	}
}

// TestSiliconSCF: the reference values were read independently from a run of
// pw.x 6.7 by hand (ibrav 2, celldm 10.2, the same settings).
func TestSiliconSCF(t *testing.T) {
	need(t, "pw.x")
	state, verdict, s := runExample(t, "../examples/silicon/scf.yaml")
	if state != job.Completed || verdict != job.Converged {
		t.Errorf("%s, %s", state, verdict)
	}
	near(t, "energy_eV", s.EnergyEV, -215.38692629544576, 1e-4)
	near(t, "band_gap_eV", s.BandGapEV, 0.60504170950367, 2e-4)
	near(t, "pressure_GPa", s.PressureGPa, -0.3782878891796755, 0.002)
}

// TestAluminiumNPT: molecular dynamics agrees with a run of the same settings by
// hand as far as the chaos of trajectories allows.
func TestAluminiumNPT(t *testing.T) {
	need(t, "lmp")
	state, verdict, s := runExample(t, "../examples/aluminium/npt.yaml")
	if state != job.Completed || verdict != job.Converged {
		t.Errorf("%s, %s", state, verdict)
	}
	near(t, "temperature_K", s.TemperatureK, 292.90786, 30)
	near(t, "volume_A3", s.VolumeA3, 8708.8899, 90)
	near(t, "potential_energy_eV", s.PotentialEnergyEV, -1768.4374, 5)
}

// TestEveryExampleIsAccepted, and so are those that the documentation shows.
func TestEveryExampleIsAccepted(t *testing.T) {
	need(t, "pw.x", "lmp")
	n := newNode(t)
	examples, err := filepath.Glob("../examples/*/*.yaml")
	if err != nil || len(examples) < 6 {
		t.Fatalf("examples %v, %v", examples, err)
	}
	for _, file := range examples {
		if _, stderr, code := nanoos(t, []string{"NANOOS_URL=" + n.URL()}, "submit", file, "--dry-run"); code != 0 {
			t.Errorf("%s: exit %d\n%s", file, code, stderr)
		}
	}
}
