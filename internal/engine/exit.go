package engine

import (
	"fmt"

	"github.com/nano-os/nanoos/internal/job"
)

// ExitFailure returns what the exit alone decides, whatever the output says:
// that we stopped the run, or that the machine did. The Outcome is "" when the
// exit decides nothing and the output must be read.
//
// A soft stop is not here: a code that was asked to end cleanly says so itself,
// or had in fact finished.
func ExitFailure(e *job.Exit) (Outcome, *job.Failure) {
	if e == nil {
		return "", nil
	}
	switch e.Cause {
	case job.CauseCancelled, job.CauseKilled:
		return StoppedByRequest, exitFailure(job.ClassProgram, "cancelled", "the run was cancelled", "")
	case job.CauseFenced:
		return StoppedByRequest, exitFailure(job.ClassInfrastructure, "fenced", "the run was stopped because the job had a new owner", "")
	case job.CauseOOM:
		return OutOfMemory, exitFailure(job.ClassResources, "oom",
			fmt.Sprintf("the program used more memory than the job may have (peak %d MiB)", e.PeakRSS>>20),
			"raise resources.memory, or use fewer ranks")
	case job.CauseWalltime:
		return Killed, exitFailure(job.ClassResources, "walltime",
			"the program was still running at the walltime and did not end cleanly", "raise resources.walltime")
	case job.CauseLogLimit:
		return Killed, exitFailure(job.ClassResources, "log_limit", "the program wrote more output than the job may keep", "raise resources.log")
	case job.CauseHang:
		return Hang, exitFailure(job.ClassProgram, "hang", "the program wrote nothing for too long and was ended", "")
	case job.CauseLaunch:
		return LaunchError, exitFailure(job.ClassEnvironment, "launch_failed", "the program could not be started", "see: nanoos doctor")
	case job.CauseHost:
		return Killed, exitFailure(job.ClassInfrastructure, "host_lost", "the machine was restarted while the program ran", "")
	case job.CauseSupervisor:
		return Killed, exitFailure(job.ClassInfrastructure, "supervisor_lost", "the end of the program was not observed: its supervisor was lost", "")
	}
	if e.DiskFull && (e.Code != 0 || e.Signal != "") {
		return FileSystemError, exitFailure(job.ClassResources, "disk_full", "the disk of the work directory was full", "free space, or choose another data directory")
	}
	return "", nil
}

// UnexplainedExit is the verdict on a bad end for which the output gives no
// reason. The Outcome is "" when the exit was good or unknown.
func UnexplainedExit(e *job.Exit) (Outcome, *job.Failure) {
	switch {
	case e == nil:
		return "", nil
	case !e.Observed:
		return Killed, exitFailure(job.ClassInfrastructure, "unknown", "the end of the program was not observed", "")
	case e.Signal != "":
		f := exitFailure(job.ClassProgram, "signal", "the program was ended by "+e.Signal, "")
		f.Signal = e.Signal
		return Killed, f
	case e.Code != 0:
		f := exitFailure(job.ClassProgram, "exit_code", fmt.Sprintf("the program ended with status %d and gave no reason", e.Code), "look at the end of the output: nanoos logs")
		f.Exit = e.Code
		return ProgramError, f
	}
	return "", nil
}

func exitFailure(class job.Class, code, message, fix string) *job.Failure {
	return &job.Failure{Class: class, Code: code, Message: message, Fix: fix, Digest: code}
}
