package vasp

import (
	"bytes"
	"strings"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// diagnosis is what a message of the program means.
type diagnosis struct {
	mark    string // part of the line
	outcome engine.Outcome
	code    string
	message string
	fix     string
	// mild messages do not end the run: after one a run may still converge,
	// and then it is a warning.
	mild bool
}

// Fixes that several messages share.
const (
	fixDiagonal = "set ALGO = Normal, remove WAVECAR, and check the structure for atoms that are too close"
	fixSymmetry = "standardise the cell, or set SYMPREC to 1e-6 or 1e-4; ISYM = 0 switches symmetry off"
	fixReal     = "set LREAL = .FALSE."
	fixMesh     = "use a mesh centred at Gamma, with divisions that fit the cell"
	fixSmearing = "set ISMEAR = 0 and SIGMA = 0.05, or use 4 k-points or more, centred at Gamma"
	fixWavecar  = "remove WAVECAR, and start anew"
	fixParallel = "remove NCORE and NPAR"
)

// diagnoses in the order of trial: the more particular first.
var diagnoses = []diagnosis{
	{"ALGO=A and IALGO=5X tend to fail", engine.RecoverableError, "algo_tet_only", "the algorithm tends to fail with the tetrahedron method", "set ALGO = Fast, or ISMEAR = 0", true},
	{"Routine TETIRR needs special values", engine.RecoverableError, "tetirr", "the tetrahedra do not fit the mesh of k-points", fixSmearing, false},
	{"in subroutine BZINTS", engine.RecoverableError, "bzint", "the tetrahedron method failed", fixSmearing, false},
	{"Tetrahedron method fails", engine.RecoverableError, "tet", "the tetrahedron method failed", fixSmearing, false},
	{"tetrahedron method fails", engine.RecoverableError, "tet", "the tetrahedron method failed", fixSmearing, false},
	{"DENTET", engine.RecoverableError, "dentet", "the tetrahedron method found no Fermi energy", fixSmearing, true},
	{"Could not get correct shifts", engine.RecoverableError, "incorrect_shift", "the shift of the mesh does not fit the lattice", fixMesh, false},

	{"ZBRENT: fatal", engine.RecoverableError, "zbrent", "the line minimisation of the relaxation failed", "continue from CONTCAR with a smaller EDIFF, or change IBRION between 1 and 2", false},
	{"BRIONS problems: POTIM should be increased", engine.RecoverableError, "brions", "the steps of the relaxation are too small", "continue from CONTCAR with POTIM raised by 0.1", true},
	{"supplied exchange-correlation table", engine.RecoverableError, "fexcf", "the density left the table of the functional: atoms are too close", "check the structure, or lower POTIM", false},
	{"ERROR FEXCP: supplied Exchange", engine.RecoverableError, "fexcp", "the density left the table of the functional: atoms are too close", "check the structure, or lower POTIM", false},

	{"BRMIX: very serious problems", engine.RecoverableError, "brmix", "the mixing of densities failed", "set ALGO = Normal or IMIX = 1, remove CHGCAR, and use a mesh centred at Gamma", true},

	{"Routine ZPOTRF", engine.RecoverableError, "zpotrf", "the overlap matrix could not be factorised", "lower POTIM, set ALGO = Normal, and check the structure for atoms that are too close", false},
	{"ZTRTRI", engine.RecoverableError, "zpotrf", "the overlap matrix could not be inverted", fixDiagonal, false},
	{"Sub-Space-Matrix is not hermitian", engine.RecoverableError, "subspace", "the subspace matrix is not hermitian", "set LREAL = .FALSE. and PREC = Accurate", true},
	{"Error EDDDAV", engine.RecoverableError, "edddav", "the diagonalisation (EDDDAV) failed", "set ALGO = All, and remove CHGCAR and WAVECAR", false},
	{"WARNING in EDDRMM", engine.RecoverableError, "eddrmm", "the diagonalisation (EDDRMM) failed", fixDiagonal, true},
	{"Error EDDRMM", engine.RecoverableError, "eddrmm", "the diagonalisation (EDDRMM) failed", fixDiagonal, false},
	{"ERROR in subspace rotation PSSYEVX", engine.RecoverableError, "pssyevx", "the parallel diagonalisation (PSSYEVX) failed", fixDiagonal, false},
	{"ERROR in subspace rotation PDSYEVX", engine.RecoverableError, "pdsyevx", "the parallel diagonalisation (PDSYEVX) failed", fixDiagonal, false},
	{"ERROR EDDIAG", engine.RecoverableError, "eddiag", "the dense diagonalisation (EDDIAG) failed", "set ALGO = Normal, then Exact", false},
	{"ERROR in EDDIAG", engine.RecoverableError, "eddiag", "the dense diagonalisation (EDDIAG) failed", "set ALGO = Normal, then Exact", false},
	{"PZSTEIN parameter number", engine.RecoverableError, "pssyevx", "the parallel diagonalisation failed", fixDiagonal, false},
	{"gradient is not orthogonal", engine.RecoverableError, "grad_not_orth", "the gradient is not orthogonal", "set ALGO = Fast or Normal", false},
	{"lattice vectors is very long (>50 A), but AMIN", engine.RecoverableError, "amin", "the cell is long, and the mixing of densities may slosh", "set AMIN = 0.01", true},
	{"WARNING: CNORMN", engine.RecoverableError, "cnormn", "the norm of the wavefunctions is wrong", fixDiagonal, true},
	{"can't reach specified precision", engine.RecoverableError, "denmp", "the Fermi energy was not found", "raise SIGMA, or use more k-points", true},

	{"TOO FEW BANDS", engine.InputError, "too_few_bands", "there are too few bands", "raise NBANDS by a tenth", true},
	{"number of bands is not sufficient", engine.InputError, "nbands_not_sufficient", "there are too few bands for the electrons", "raise NBANDS", false},

	{"group operation missing", engine.RecoverableError, "point_group", "an operation of the point group is missing", fixSymmetry, false},
	{"unable to match k-point", engine.RecoverableError, "ksymm", "the mesh of k-points does not have the symmetry of the cell", fixMesh + "; or set SYMPREC = 1e-6", false},
	{"Fatal error detecting k-mesh", engine.RecoverableError, "ksymm", "the mesh of k-points does not have the symmetry of the cell", fixMesh + "; or set SYMPREC = 1e-6", false},
	{"not all point group operations", engine.RecoverableError, "ibzkpt", "the mesh of k-points does not have the symmetry of the cell", fixMesh, true},
	{"rotation matrix was not found", engine.RecoverableError, "inv_rot_mat", "a rotation of the cell was not found", fixSymmetry, false},
	{"in subroutine INVGRP", engine.RecoverableError, "inv_rot_mat", "the inverse of a rotation was not found", fixSymmetry, false},
	{"non-integer element in rotation matrix", engine.RecoverableError, "rot_matrix", "a rotation does not fit the lattice", fixSymmetry, false},
	{"SGRCON", engine.RecoverableError, "rot_matrix", "a rotation does not fit the lattice", fixSymmetry, false},
	{"RHOSYG", engine.RecoverableError, "rhosyg", "the symmetry of the density failed", fixSymmetry, false},
	{"POSMAP internal error", engine.RecoverableError, "posmap", "the symmetry of the positions failed", fixSymmetry, false},
	{"in subroutine POSMAP", engine.RecoverableError, "posmap", "the symmetry of the positions failed", fixSymmetry, false},
	{"POSMAP: symmetry", engine.RecoverableError, "posmap", "the symmetry of the positions failed", fixSymmetry, false},
	{"in subroutine PRICELV", engine.RecoverableError, "pricelv", "the lattice and its primitive cell do not fit", fixSymmetry, false},
	{"PRICELV: current lattice", engine.RecoverableError, "pricelv", "the lattice and its primitive cell do not fit", fixSymmetry, false},
	{"in subroutine PRICEL", engine.RecoverableError, "pricel", "the primitive cell was not found", fixSymmetry, false},
	{"Inconsistent Bravais lattice", engine.RecoverableError, "bravais", "the Bravais lattices of the cell and of its reciprocal differ", fixSymmetry, false},
	{"the symmetry of your systems shows a strong", engine.RecoverableError, "symprec_noise", "the symmetry depends on SYMPREC", fixSymmetry, true},
	{"determination of the symmetry of your systems", engine.RecoverableError, "symprec_noise", "the symmetry depends on SYMPREC", fixSymmetry, true},
	{"HNFORM", engine.RecoverableError, "hnform", "the k-points and the reciprocal lattice do not fit", fixMesh + "; or set ISYM = 0", false},
	{"internal error in GENERATE_KPOINTS_TRANS", engine.RecoverableError, "kpoints_trans", "the mesh of k-points does not have the symmetry of the cell", "use one division for all three directions", false},
	{"internal error in subroutine IBZKPT", engine.RecoverableError, "ibzkpt", "the symmetry of the k-points failed", fixSymmetry, false},

	{"REAL_OPTLAY: internal error", engine.RecoverableError, "real_optlay", "the real-space projectors could not be optimised", fixReal, false},
	{"REAL_OPT: internal ERROR", engine.RecoverableError, "real_optlay", "the real-space projectors could not be optimised", fixReal, false},
	{"nicht konvergent", engine.RecoverableError, "nicht_konvergent", "the real-space projectors did not converge", fixReal, true},
	{"ERROR RSPHER", engine.RecoverableError, "rspher", "the real-space projectors do not fit the cell", fixReal, false},
	{"triple product of the basis vectors", engine.InputError, "triple_product", "the lattice vectors are left-handed", "swap two of them", false},

	{"Error reading item", engine.InputError, "read_error", "an item of INCAR cannot be read", "correct it", false},
	{"Error code was IERR= 5", engine.InputError, "read_error", "an item of INCAR cannot be read", "correct it", false},
	{"while reading plane wave coef", engine.RecoverableError, "coef", "WAVECAR does not fit this run", fixWavecar, false},
	{"while reading plane", engine.RecoverableError, "coef", "WAVECAR does not fit this run", fixWavecar, false},
	{"while reading WAVECAR", engine.RecoverableError, "coef", "WAVECAR does not fit this run", fixWavecar, false},
	{"SET_CORE_WF", engine.BadPseudopotential, "set_core_wf", "the POTCAR has other core electrons than VASP finds", "take another POTCAR of the element", false},
	{"PEAD routines do not work for NCORE", engine.InputError, "dfpt_ncore", "this feature does not work with NCORE or NPAR", fixParallel, false},
	{"remove the tag NPAR", engine.InputError, "dfpt_ncore", "this feature does not work with NPAR", fixParallel, false},
	{"ELF: KPAR>1 not implemented", engine.InputError, "elf_kpar", "ELF does not work with KPAR", "set KPAR = 1", false},
	{"Spin polarized Harris functional dynamics", engine.InputError, "harris_spin", "a fixed density does not go with spin and moving ions", "set ICHARG below 10", false},
	{"non collinear calculations require", engine.FeatureNotBuilt, "not_ncl", "this program cannot do non-collinear runs", "use vasp_ncl", false},
	{"IBRION=0, but no entry for POTIM", engine.InputError, "potim_missing", "dynamics need POTIM", "set POTIM in fs", false},
	{"LRF_COMMUTATOR internal error", engine.RecoverableError, "lrf_commutator", "the linear response failed", "set LPEAD = .TRUE.", false},
	{"internal error in FOCK_ACC", engine.RecoverableError, "fock_acc", "the exchange failed", "use fewer ranks, or another NCORE", false},

	{"Allocation would exceed memory limit", engine.OutOfMemory, "out_of_memory", "there was not enough memory", "raise resources.memory, or lower KPAR", false},
	{"Cannot allocate memory", engine.OutOfMemory, "out_of_memory", "there was not enough memory", "raise resources.memory, or use fewer ranks", false},
	{"SET_INDPW_FULL: insufficient", engine.OutOfMemory, "out_of_memory", "there was not enough memory", "raise resources.memory, or use fewer ranks", false},
	{"insufficient virtual memory", engine.OutOfMemory, "out_of_memory", "there was not enough memory", "raise resources.memory, or use fewer ranks", false},
	{"insufficient memory", engine.OutOfMemory, "out_of_memory", "there was not enough memory", "raise resources.memory, or use fewer ranks", false},
	{"oom-kill", engine.OutOfMemory, "out_of_memory", "the machine ended the program for its use of memory", "raise resources.memory, or use fewer ranks", false},
	{"oom_kill", engine.OutOfMemory, "out_of_memory", "the machine ended the program for its use of memory", "raise resources.memory, or use fewer ranks", false},
	{"Out Of Memory", engine.OutOfMemory, "out_of_memory", "the machine ended the program for its use of memory", "raise resources.memory, or use fewer ranks", false},
	{"Exceeded job memory limit", engine.OutOfMemory, "out_of_memory", "the program used more memory than it may", "raise resources.memory, or use fewer ranks", false},
	{"No space left on device", engine.FileSystemError, "disk_full", "the disk was full", "free space, or choose another data directory", false},
	{"Disk quota exceeded", engine.FileSystemError, "disk_full", "the quota of the disk is used up", "free space, or choose another data directory", false},
	{"DUE TO TIME LIMIT", engine.Killed, "walltime", "the scheduler ended the run at its time limit", "raise resources.walltime", false},
}

// killed is a line of a launcher that says that a program was killed and not why;
// they count when nothing else is known.
var killed = diagnosis{": Killed", engine.Killed, "killed", "the program was killed", "", false}

// diagnosisOf finds the message in a line.
func diagnosisOf(line []byte) *diagnosis {
	if bytes.HasPrefix(line, []byte("Subroutine ")) {
		return nil // the report of a search for symmetry
	}
	for i := range diagnoses {
		if bytes.Contains(line, []byte(diagnoses[i].mark)) {
			return &diagnoses[i]
		}
	}
	if bytes.HasSuffix(line, []byte(killed.mark)) {
		return &killed
	}
	return nil
}

// worst chooses among messages: what ended the run before what did not, and
// the machine's before the program's, since a program that lost its memory says
// all kinds of things.
func worst(hits []hit) *hit {
	var best *hit
	for i := range hits {
		if best == nil || rank(hits[i].d) < rank(best.d) {
			best = &hits[i]
		}
	}
	return best
}

func rank(d *diagnosis) int {
	switch {
	case d.outcome == engine.OutOfMemory || d.outcome == engine.FileSystemError:
		return 0
	case d == &killed:
		return 4
	case d.mild:
		return 3
	case d.code == "ibzkpt":
		return 2 // the line after it is more particular
	}
	return 1
}

func failure(o engine.Outcome, code, message, fix string, evidence ...job.Evidence) *job.Failure {
	return &job.Failure{Class: o.Class(), Code: code, Message: message, Fix: fix, Evidence: evidence, Digest: code}
}

func (h *hit) failure() (engine.Outcome, *job.Failure) {
	f := failure(h.d.outcome, h.d.code, h.d.message, h.d.fix, h.evidence)
	if h.d.code == "read_error" {
		f.Message += ": " + strings.TrimSuffix(h.evidence.Text, ".")
	}
	return h.d.outcome, f
}
