package vasp

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/engine/printed"
	"github.com/nano-os/nanoos/internal/job"
)

// seeds adds pieces of recorded runs where they are known, and hostile ones.
func seeds(f *testing.F, names ...string) {
	for _, text := range []string{"", "<", "<modeling><calculation></modeling>", "</a></b>", "<modeling><kpoints><varray name=\"kpointlist\"><v>1 2</v>",
		"vasp.6 x\n executed on x date 1\n VRHFIN =Si:\n ions per type = 1000000000000\n", "DAV:   1 **** NaN 1\n  1 F= -1 E0= NaN mag= 1 2 3\n",
		"NELM = ; = ;; NSW = 1e99 ! x\n"} {
		f.Add([]byte(text))
	}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "shared", "fixtures", "vasp", name))
		if err == nil {
			f.Add(data[:min(len(data), 20_000)])
			f.Add(data[len(data)-min(len(data), 20_000):])
		}
	}
}

func fuzzFile(f *testing.F, name string) {
	f.Fuzz(func(t *testing.T, data []byte) {
		res, err := New().Parse(engine.Run{Files: fstest.MapFS{name: &fstest.MapFile{Data: data}}})
		if err != nil {
			return
		}
		if res.Outcome.Succeeded() != (res.Failure == nil) || !res.Outcome.Succeeded() && res.Verdict == job.Converged {
			t.Errorf("outcome %s, verdict %s, failure %+v", res.Outcome, res.Verdict, res.Failure)
		}
		if e := res.Summary.EnergyEV; e != nil && !printed.Finite(*e) {
			t.Errorf("energy %v", *e)
		}
	})
}

func FuzzVasprun(f *testing.F) {
	seeds(f, "converged/vasprun.xml", "lepsilon/vasprun.xml")
	fuzzFile(f, "vasprun.xml")
}

func FuzzOUTCAR(f *testing.F) {
	seeds(f, "converged/OUTCAR", "relaxation/OUTCAR")
	fuzzFile(f, "OUTCAR")
}

func FuzzOSZICAR(f *testing.F) {
	seeds(f, "static_silicon/OSZICAR", "positive_energy/OSZICAR")
	fuzzFile(f, "OSZICAR")
}

func FuzzOutput(f *testing.F) {
	seeds(f, "converged/vasp_output", "stdout_errors/vasp6.bzint.out")
	fuzzFile(f, engine.StdoutName)
}

func FuzzINCAR(f *testing.F) {
	seeds(f, "converged/INCAR", "real_optlay/INCAR")
	f.Fuzz(func(t *testing.T, data []byte) {
		s, _ := readINCAR(data)
		if tol := s.energyTolerance(); !(tol >= 0) || !printed.Finite(tol) {
			t.Errorf("EDIFF %v", tol)
		}
		New().Deck("INCAR", data)
	})
}

func FuzzMonitor(f *testing.F) {
	seeds(f, "static_silicon/OSZICAR")
	f.Fuzz(func(t *testing.T, data []byte) {
		m := New().Monitor(nil)
		last := 0.0
		for line := range bytes.Lines(data) {
			if _, err := m.Write(line); err != nil {
				t.Fatal(err)
			}
			p := m.Progress()
			if !(p.Fraction >= last && p.Fraction <= 1) || p.Value != nil && !printed.Finite(*p.Value) {
				t.Fatalf("progress %+v", p)
			}
			last = p.Fraction
		}
	})
}
