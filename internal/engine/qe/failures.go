package qe

import (
	"strings"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/engine/printed"
	"github.com/nano-os/nanoos/internal/job"
)

// diagnosis is what a signature in the output means.
type diagnosis struct {
	// routine, when given, must be part of the routine's name.
	routine string
	mark    string // part of the message, in lower case
	outcome engine.Outcome
	code    string
	message string
	fix     string
}

// diagnoses in the order of trial: the more particular first.
var diagnoses = []diagnosis{
	{"", "problems computing cholesky", engine.RecoverableError, "diagonalization_failed", "the overlap matrix could not be factorised", "set diagonalization: cg, use fewer ranks, raise ecutrho, and check for atoms that are too close"},
	{"", "s matrix not positive definite", engine.RecoverableError, "diagonalization_failed", "the overlap matrix is not positive definite", "set diagonalization: cg, use fewer ranks, raise ecutrho, and check for atoms that are too close"},
	{"", "too many bands are not converged", engine.RecoverableError, "bands_not_converged", "too many bands did not converge", "set diagonalization: cg, raise ecutrho, and check for atoms that are too close"},
	{"", "eigenvectors failed to converge", engine.RecoverableError, "diagonalization_failed", "the eigenvectors did not converge", "set diagonalization: cg"},
	{"", "zhegvd", engine.RecoverableError, "diagonalization_failed", "the dense diagonalisation failed", "set diagonalization: cg, or use fewer ranks"},
	{"", "error in routine pdpotf", engine.RecoverableError, "diagonalization_failed", "the dense diagonalisation failed", "use fewer ranks, or set diagonalization: cg"},
	{"", "[q, r] = qr", engine.RecoverableError, "diagonalization_failed", "the orthogonalisation failed", "set diagonalization: david or cg"},
	{"", "g_par is not", engine.RecoverableError, "berry_phase_failed", "the string of k-points of the Berry phase does not close", "check gdir and nppstr, and use fewer ranks"},
	{"", "qr factorization", engine.RecoverableError, "diagonalization_failed", "the orthogonalisation failed", "set diagonalization: david or cg"},
	{"diaghg", "", engine.RecoverableError, "diagonalization_failed", "the dense diagonalisation failed", "set diagonalization: cg, or use fewer ranks"},
	{"", "dexx is negative", engine.RecoverableError, "exx_failed", "the exchange energy has the wrong sign", "lower conv_thr, and check nqx1, nqx2, nqx3"},
	{"broyden", "", engine.RecoverableError, "mixing_failed", "the mixing of densities failed", "lower mixing_beta"},
	{"", "larger cell_factor", engine.RecoverableError, "cell_factor", "the cell has grown beyond the space set aside for it", "set namelists.cell.cell_factor to 2 or 3, and start from the last cell"},
	{"", "symmetry operations not satisfied", engine.RecoverableError, "symmetry_broken", "the atoms have moved out of the symmetry that the run began with", "start from the last structure, or set nosym"},
	{"", "not orthogonal operation", engine.RecoverableError, "symmetry_broken", "a symmetry operation no longer fits the cell", "start from the last cell, made exactly symmetric"},
	{"", "cannot bracket ef", engine.RecoverableError, "fermi_not_found", "the Fermi energy was not found", "raise nbnd, or set smearing: cold"},

	{"", "smearing is needed", engine.InputError, "smearing_needed", "the electrons do not fill whole bands", "set occupations: smearing"},
	{"", "system is metallic, specify occupations", engine.InputError, "smearing_needed", "an odd number of electrons needs smearing", "set occupations: smearing"},
	{"", "specify occupations", engine.InputError, "smearing_needed", "a spin-polarised system needs its occupations", "set occupations: smearing, or tot_magnetization"},
	{"", "charge is wrong", engine.InputError, "charge_wrong", "the bands hold another charge than the electrons", "raise nbnd, or set diagonalization: cg"},
	{"", "too few bands", engine.InputError, "too_few_bands", "there are fewer bands than the electrons need", "raise nbnd, or leave it out"},
	{"", "overlap!", engine.InputError, "atoms_overlap", "two atoms are at the same place", "correct the structure"},
	{"", "need tot_magnetization", engine.InputError, "magnetization_missing", "fixed occupations with spin need the magnetisation of the cell", "set tot_magnetization, or occupations: smearing"},
	{"", "conflicting values for", engine.InputError, "functionals_differ", "the pseudopotentials belong to different functionals", "choose pseudopotentials of one functional"},
	{"", "bad line in namelist", engine.InputError, "bad_namelist", "a line of a namelist could not be read", "correct that line, or the one before it"},
	{"", "could not find namelist", engine.InputError, "bad_namelist", "a namelist is missing", "add the namelist"},
	{"", "not allowed", engine.InputError, "bad_input", "the input asks for something that pw.x does not allow", "correct the input"},
	{"", "ecutwfc not set", engine.InputError, "ecutwfc_missing", "the cut-off of the wavefunctions is missing", "set ecutwfc"},
	{"", "wrong number of columns in atomic_positions", engine.InputError, "bad_positions", "a line of ATOMIC_POSITIONS is wrong, or there are fewer than nat", "correct nat or the positions"},
	{"", "is nonexistent", engine.InputError, "species_mismatch", "a label of ATOMIC_POSITIONS is not in ATOMIC_SPECIES", "correct the label, or add the species"},
	{"", "must read cell parameters", engine.InputError, "cell_missing", "the cell is missing", "add CELL_PARAMETERS, or set ibrav"},

	{"", "2d cutoff is smaller", engine.InputError, "slab_too_near", "the room between the slabs is too small for assume_isolated 2D", "lengthen the cell along z"},

	{"", "number of pools", engine.LaunchError, "bad_pools", "the number of pools does not fit the ranks", "choose pools that divide the ranks"},
	{"", "some nodes have no k-points", engine.LaunchError, "bad_pools", "there are more pools than k-points", "use fewer pools"},
	{"", "nproc_pool", engine.LaunchError, "bad_pools", "the number of pools does not fit the ranks", "choose pools that divide the ranks"},
	{"check_tempdir", "", engine.FileSystemError, "outdir_unusable", "the directory for temporary files cannot be used", "check that the directory can be written"},
	{"", "cannot be created or accessed", engine.FileSystemError, "outdir_unusable", "the directory for temporary files cannot be used", "check that the directory can be written"},
	{"", "error writing file", engine.FileSystemError, "file_io", "a file could not be written", "check the space on the disk, and that the directory can be written"},
	{"davcio", "", engine.FileSystemError, "file_io", "a file of wavefunctions could not be read or written", "check the space on the disk, and that no other run uses the directory"},
	{"diropn", "", engine.FileSystemError, "file_io", "a file of wavefunctions could not be opened", "check the space on the disk, and that no other run uses the directory"},

	{"read_conf_from_file", "", engine.MissingFile, "previous_run_missing", "the results of the run before it are not there", "run the scf step first, with the same prefix"},
	{"read_xml_file", "", engine.MissingFile, "previous_run_missing", "the results of the run before it are not there", "run the scf step first, with the same prefix"},
	{"", "xml data file", engine.MissingFile, "previous_run_missing", "the results of the run before it are not there", "run the scf step first, with the same prefix"},
	{"read_rhog", "", engine.MissingFile, "previous_run_missing", "the density of the run before it is not there", "run the scf step first, with the same prefix"},
	{"readpp", "not found", engine.MissingFile, "pseudopotential_missing", "a pseudopotential file was not found", "name a file that is there in pseudopotentials"},
	{"readpp", "", engine.BadPseudopotential, "bad_pseudopotential", "a pseudopotential file could not be read", "fetch the file again, and compare its hash"},
	{"read_upf", "", engine.BadPseudopotential, "bad_pseudopotential", "a pseudopotential file could not be read", "fetch the file again, and compare its hash"},
	{"upf", "", engine.BadPseudopotential, "bad_pseudopotential", "a pseudopotential file could not be read", "fetch the file again, and compare its hash"},
	{"", "opening input file", engine.MissingFile, "input_missing", "the input could not be opened", ""},
	{"", "not found", engine.MissingFile, "file_missing", "a file was not found", ""},
	{"", "allocat", engine.OutOfMemory, "out_of_memory", "memory could not be allocated", "raise resources.memory, or use fewer pools"},
	{"", "not enough memory", engine.OutOfMemory, "out_of_memory", "memory could not be allocated", "raise resources.memory, or use fewer pools"},
	{"", "not implemented", engine.InputError, "not_implemented", "this combination is not implemented in pw.x", ""},
	{"read_namelists", "", engine.InputError, "bad_namelist", "a namelist could not be read", ""},
	{"read_cards", "", engine.InputError, "bad_input", "a card of the input could not be read", ""},
	{"card_", "", engine.InputError, "bad_input", "a card of the input could not be read", ""},
	{"iosys", "", engine.InputError, "bad_input", "the input was refused", ""},
	{"input", "", engine.InputError, "bad_input", "the input was refused", ""},
	{"setup", "", engine.InputError, "bad_input", "the input was refused", ""},
	{"cell_base", "", engine.InputError, "bad_input", "the cell was refused", ""},
	{"latgen", "", engine.InputError, "bad_input", "the cell was refused", ""},
	{"set_", "", engine.InputError, "bad_input", "the input was refused", ""},
	{"check_", "", engine.InputError, "bad_input", "the input was refused", ""},
}

// diagnose names the fault of an error block of pw.x.
func diagnose(e errorBlock) (engine.Outcome, *job.Failure) {
	routine, message := strings.ToLower(e.routine), strings.ToLower(e.message)
	for _, d := range diagnoses {
		if strings.Contains(routine, d.routine) && strings.Contains(message, d.mark) {
			return d.outcome, failure(d.outcome, d.code, d.message, d.fix, e.message, e.evidence)
		}
	}
	return engine.ProgramError, failure(engine.ProgramError, "error_in_routine", "pw.x stopped in routine "+e.routine, "", e.message, e.evidence)
}

// stderrMarks are signatures on standard error.
var stderrMarks = []diagnosis{
	{"", "fortran runtime error: end of file", engine.BadPseudopotential, "file_cut", "a file that pw.x reads ends too early", "check the sizes and hashes of the pseudopotentials, and the space on the disk"},
	{"", "no space left on device", engine.FileSystemError, "disk_full", "the disk is full", "free space, or choose another data directory"},
	{"", "disk quota exceeded", engine.FileSystemError, "disk_full", "the disk quota is used up", "free space, or choose another data directory"},
	{"", "mkdir fail", engine.FileSystemError, "outdir_unusable", "the directory for temporary files cannot be created", "check that the directory can be written"},
	{"", "not enough slots available", engine.LaunchError, "not_enough_slots", "mpirun has fewer slots than ranks were asked", "ask for fewer cpus"},
	{"", "mpirun has detected an attempt to run as root", engine.LaunchError, "run_as_root", "mpirun refuses to run as root", ""},
	{"", "error while loading shared libraries", engine.LaunchError, "library_missing", "pw.x misses a shared library", "see: nanoos doctor"},
	{"", "oom-kill", engine.OutOfMemory, "oom", "the machine ran out of memory", "raise resources.memory"},
	{"", "out of memory", engine.OutOfMemory, "oom", "memory could not be allocated", "raise resources.memory"},
	{"", "fortran runtime error", engine.ProgramError, "runtime_error", "pw.x was ended by its run-time library", ""},
	{"", "mpi_abort was invoked", engine.ProgramError, "aborted", "pw.x ended itself without saying why", "check the structure and the cut-offs"},
	{"", "sigsegv", engine.ProgramError, "crashed", "pw.x crashed", "use fewer ranks, or raise resources.memory"},
	{"", "segmentation fault", engine.ProgramError, "crashed", "pw.x crashed", "use fewer ranks, or raise resources.memory"},
}

// failure words a diagnosis; detail is what the program itself said.
func failure(o engine.Outcome, code, message, fix, detail string, evidence ...job.Evidence) *job.Failure {
	if detail != "" {
		message += ": " + detail
	}
	return &job.Failure{
		Class: o.Class(), Code: code, Message: message, Fix: fix, Evidence: evidence,
		Digest: code + " " + normalised(detail),
	}
}

// normalised is equal for messages that differ only in numbers and blanks.
func normalised(s string) string {
	var b strings.Builder
	last := byte(' ')
	for i := range len(s) {
		c := s[i]
		switch {
		case printed.IsDigit(c):
			c = '#'
		case c == '\t':
			c = ' '
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		}
		if (c == '#' || c == ' ') && c == last {
			continue
		}
		b.WriteByte(c)
		last = c
	}
	return strings.TrimSpace(b.String())
}
