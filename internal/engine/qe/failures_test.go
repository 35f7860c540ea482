package qe

import (
	"strings"
	"testing"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

func TestEverySignatureHasItsClassAndFix(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		routine, message string
		want             engine.Outcome
	}{
		{"cdiaghg", "problems computing cholesky", engine.RecoverableError},
		{"cdiaghg", "S matrix not positive definite", engine.RecoverableError},
		{"c_bands", "too many bands are not converged", engine.RecoverableError},
		{"cegterg", "eigenvectors failed to converge", engine.RecoverableError},
		{"rdiaghg", "diagonalization (ZHEGVD) failed", engine.RecoverableError},
		{"electrons", "dexx is negative!  Check that exxdiv_treatment is appropriate", engine.RecoverableError},
		{"broyden", "factorization", engine.RecoverableError},
		{"scale_h", "Not enough space allocated for radial FFT: try restarting with a larger cell_factor.", engine.RecoverableError},
		{"checkallsym", "not orthogonal operation", engine.RecoverableError},
		{"efermig", "internal error, cannot bracket Ef", engine.RecoverableError},
		{"electrons", "charge is wrong: smearing is needed", engine.InputError},
		{"electrons", "charge is wrong", engine.InputError},
		{"setup", "the system is metallic, specify occupations", engine.InputError},
		{"setup", "too few bands", engine.InputError},
		{"check_atoms", "atoms #   1 and #   2 overlap!", engine.InputError},
		{"read_namelists", "bad line in namelist &control: \"x\" (error could be in the previous line)", engine.InputError},
		{"read_namelists", "could not find namelist &control", engine.InputError},
		{"read_cards", "species Ge in ATOMIC_POSITIONS is nonexistent", engine.InputError},
		{"read_cards", "wrong number of columns in ATOMIC_POSITIONS", engine.InputError},
		{"set_cutoff", "ecutwfc not set", engine.InputError},
		{"cell_base_init", "ibrav=0: must read cell parameters", engine.InputError},
		{"set_dft_from_name", "conflicting values for icorr", engine.InputError},
		{"iosys", "fixed occupations and lsda need tot_magnetization", engine.InputError},
		{"readpp", "file /x/Si.UPF not found", engine.MissingFile},
		{"read_upf", "error reading", engine.BadPseudopotential},
		{"read_conf_from_file", "fatal error reading xml file", engine.MissingFile},
		{"check_tempdir", "temporary directory ./out/ cannot be created or accessed", engine.FileSystemError},
		{"davcio", "error writing file \"./out/si.wfc1\"", engine.FileSystemError},
		{"mp_start_pools", "invalid number of pools, out of range", engine.LaunchError},
		{"something", "nobody has seen this", engine.ProgramError},
	} {
		o, f := diagnose(errorBlock{routine: c.routine, message: c.message, evidence: job.Evidence{File: "stdout", Line: 3, Text: c.message}})
		if o != c.want || f.Class != o.Class() || !strings.Contains(f.Message, c.message) || len(f.Evidence) != 1 {
			t.Errorf("%s: %s is %s, want %s: %+v", c.routine, c.message, o, c.want, f)
		}
		if f.Fix == "" && o != engine.ProgramError {
			t.Errorf("%s: %s has no fix", c.routine, c.message)
		}
	}
}

func TestDigestsDifferInTheFaultAlone(t *testing.T) {
	t.Parallel()
	of := func(message string) string {
		_, f := diagnose(errorBlock{routine: "check_atoms", message: message})
		return f.Digest
	}
	if a, b := of("atoms #   1 and #   2 overlap!"), of("atoms # 12 and # 345 overlap!"); a != b {
		t.Errorf("%q and %q", a, b)
	}
	if of("atoms overlap!") == of("something else") {
		t.Error("two faults have one digest")
	}
}
