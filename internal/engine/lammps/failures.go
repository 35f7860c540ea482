package lammps

import (
	"strings"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// diagnosis recognises one kind of error by pieces of its text.
type diagnosis struct {
	all     []string // pieces that must all be there, in lower case
	outcome engine.Outcome
	code    string
	fix     string
}

// diagnoses are tried in order: the first whose pieces are all in the message.
var diagnoses = []diagnosis{
	{[]string{"fix halt condition"}, engine.StoppedByRequest, "stopped", "the script's own fix halt ended the run; error continue lets it end cleanly"},
	{[]string{"lost atoms"}, engine.Unstable, "lost_atoms", unstableFix},
	{[]string{"out of range atoms"}, engine.Unstable, "out_of_range_atoms", unstableFix},
	{[]string{"non-numeric"}, engine.Unstable, "not_finite", unstableFix},
	{[]string{"atoms", "missing on proc"}, engine.Unstable, "bond_atoms_missing", "raise comm_modify cutoff; " + unstableFix},
	{[]string{"bond atom missing"}, engine.Unstable, "bond_atoms_missing", "raise comm_modify cutoff; " + unstableFix},
	{[]string{"too many neighbor bins"}, engine.Unstable, "box_exploded", unstableFix},
	{[]string{"domain too large for neighbor bins"}, engine.Unstable, "box_exploded", unstableFix},
	{[]string{"tilted box too far"}, engine.Unstable, "box_distorted", "use a softer barostat (larger damping) or flip yes"},
	{[]string{"neighbor list overflow"}, engine.RecoverableError, "neighbor_overflow", "double neigh_modify one, and set page to ten times as much"},
	{[]string{"bondchk failed"}, engine.RecoverableError, "reaxff_overflow", "raise safezone and mincap of pair_style reaxff"},
	{[]string{"is part of the", "package"}, engine.FeatureNotBuilt, "feature_not_built", "use a LAMMPS that was built with this package, or another style"},
	{[]string{"package", "not enabled"}, engine.FeatureNotBuilt, "feature_not_built", "use a LAMMPS that was built with this package"},
	{[]string{"not compiled with"}, engine.FeatureNotBuilt, "feature_not_built", "use a LAMMPS that was built with this feature"},
	{[]string{"compiled without"}, engine.FeatureNotBuilt, "feature_not_built", "use a LAMMPS that was built with this feature"},
	{[]string{"no space left on device"}, engine.FileSystemError, "disk_full", "free space, or choose another data directory"},
	{[]string{"disk quota exceeded"}, engine.FileSystemError, "disk_full", "free space, or choose another data directory"},
	{[]string{"annot open", "permission denied"}, engine.FileSystemError, "permission_denied", "let the program read and write in its work directory"},
	{[]string{"read-only file system"}, engine.FileSystemError, "permission_denied", "let the program write in its work directory"},
	{[]string{"input/output error"}, engine.FileSystemError, "io_error", "look at the health of the disk"},
	{[]string{"annot open"}, engine.MissingFile, "missing_file", "add the file to the job, or correct its name"},
	{[]string{"could not open"}, engine.MissingFile, "missing_file", "add the file to the job, or correct its name"},
	{[]string{"could not find", "file"}, engine.MissingFile, "missing_file", "add the file to the job, or correct its name"},
	{[]string{"no such file or directory"}, engine.MissingFile, "missing_file", "add the file to the job, or correct its name"},
	{[]string{"failed to", "allocate"}, engine.OutOfMemory, "oom", "raise resources.memory, or use a smaller system"},
	{[]string{"no matching element in"}, engine.BadPseudopotential, "bad_potential", "use a potential file that has every element of the structure"},
	{[]string{"potential file", "missing"}, engine.BadPseudopotential, "bad_potential", "use a potential file that has every element of the structure"},
	{[]string{"potential file", "format"}, engine.BadPseudopotential, "bad_potential", "use an undamaged potential file of the style's own format"},
	{[]string{"potential file", "ncorrect"}, engine.BadPseudopotential, "bad_potential", "use an undamaged potential file of the style's own format"},
	{[]string{"end", "potential file"}, engine.BadPseudopotential, "bad_potential", "use an undamaged potential file"},
	{[]string{"processor", "partition"}, engine.LaunchError, "launch_failed", "start as many ranks as the partitions need"},
	{[]string{"unknown command"}, engine.InputError, "unknown_command", "correct the command"},
	{[]string{"did not assign all atoms"}, engine.InputError, "atoms_outside_box", "make the box of the data file hold all atoms"},
	{[]string{"all per-type masses"}, engine.InputError, "masses_missing", "give a mass for each atom type"},
	{[]string{"all pair coeffs"}, engine.InputError, "pair_coeff_missing", "give pair_coeff for every pair of atom types"},
	{[]string{"simulation box is defined"}, engine.InputError, "command_order", "move the command to the other side of create_box, read_data or read_restart"},
	{[]string{"illegal variable"}, engine.InputError, "unknown_variable", "define the variable before it is used"},
	{[]string{"illegal"}, engine.InputError, "illegal_command", "look up the arguments of the command"},
	{[]string{"unrecognized"}, engine.InputError, "unknown_style", "correct the name of the style"},
	{[]string{"invalid"}, engine.InputError, "invalid_input", "correct the command"},
	{[]string{"unknown"}, engine.InputError, "invalid_input", "correct the command"},
	{[]string{"incorrect"}, engine.InputError, "invalid_input", "correct the command"},
	{[]string{"expected"}, engine.InputError, "invalid_input", "correct the command"},
	{[]string{"unexpected end"}, engine.InputError, "file_incomplete", "give the whole file"},
}

// classify turns an error into a decision. What is not in the table is the
// input's fault as long as no step was made.
func classify(e *logError, computed bool) decision {
	text := strings.ToLower(e.message)
	for _, d := range diagnoses {
		if containsAll(text, d.all) {
			return failed(d.outcome, d.code, plain(e.message), d.fix)
		}
	}
	if computed {
		return failed(engine.ProgramError, "lammps_error", plain(e.message), "")
	}
	return failed(engine.InputError, "lammps_error", plain(e.message), "correct the script at its last command")
}

func containsAll(s string, pieces []string) bool {
	for _, p := range pieces {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

// systemTexts are messages of the run-time library and of the MPI launcher.
var systemTexts = []diagnosis{
	{[]string{"no space left on device"}, engine.FileSystemError, "disk_full", "free space, or choose another data directory"},
	{[]string{"std::bad_alloc"}, engine.OutOfMemory, "oom", "raise resources.memory, or use a smaller system"},
	{[]string{"not enough slots available"}, engine.LaunchError, "launch_failed", "ask for no more CPUs than the machine has"},
	{[]string{"was unable to find the specified executable"}, engine.LaunchError, "launch_failed", "see: nanoos doctor"},
	{[]string{"was unable to launch the specified application"}, engine.LaunchError, "launch_failed", "see: nanoos doctor"},
	{[]string{"error while loading shared libraries"}, engine.LaunchError, "launch_failed", "see: nanoos doctor"},
	{[]string{"has detected an attempt to run as root"}, engine.LaunchError, "launch_failed", "run as an ordinary user"},
}

// systemText recognises an end that the program itself could not explain.
func (rec *record) systemText() (decision, bool) {
	for line := range strings.Lines(rec.stderr) {
		low := strings.ToLower(line)
		for _, d := range systemTexts {
			if containsAll(low, d.all) {
				return failed(d.outcome, d.code, plain(line), d.fix, job.Evidence{File: rec.stderrName, Text: plain(line)}), true
			}
		}
	}
	return decision{}, false
}

// toldBySystem reports whether anything outside LAMMPS says why it ended.
func (rec *record) toldBySystem() bool {
	_, ok := rec.systemText()
	return ok
}
