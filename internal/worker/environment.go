package worker

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// environment is the whole environment of a run, built from constants and the
// plan: nothing of the worker's own and nothing that a user chose gets in (T4).
func (m *Machine) environment(l job.Lease, plan *engine.Plan, work string) []string {
	scratch := filepath.Join(work, scratchDir)
	env := map[string]string{
		"PATH":   "/usr/local/bin:/usr/bin:/bin",
		"HOME":   work,
		"TMPDIR": scratch,
		// Decimal points and English messages.
		"LC_ALL": "C",
		// One thread a rank: the threaded BLAS of distributions would otherwise
		// start one a core in every rank.
		"OMP_NUM_THREADS":      "1",
		"OPENBLAS_NUM_THREADS": "1",
		"NANOOS_JOB":           string(l.Job.ID),
		"NANOOS_TRY":           fmt.Sprint(l.Job.Attempt),
	}
	maps.Copy(env, openMPI(scratch))
	for eng, lib := range m.Libraries {
		if v := standardLibraries[eng].variable; v != "" && len(lib) > 0 {
			env[v] = lib[0]
		}
	}
	maps.Copy(env, plan.Env)
	out := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		out = append(out, name+"="+env[name])
	}
	return out
}

// openMPI keeps Open MPI inside the work directory and off its neighbours.
func openMPI(scratch string) map[string]string {
	env := map[string]string{
		// A run without the launcher starts no helper daemon.
		"OMPI_MCA_ess_singleton_isolated": "1",
		// Session files and shared-memory files disappear with the job.
		"OMPI_MCA_orte_tmpdir_base":            scratch,
		"OMPI_MCA_btl_vader_backing_directory": scratch,
		// The queue has counted the CPUs; the launcher's own count of slots
		// knows nothing of containers and hyperthreads.
		"OMPI_MCA_rmaps_base_oversubscribe": "1",
		// Two jobs on one machine would otherwise be bound to the same cores.
		"OMPI_MCA_hwloc_base_binding_policy": "none",
		// Ranks of one machine talk through memory and loopback.
		"OMPI_MCA_btl":                "self,vader",
		"OMPI_MCA_oob_tcp_if_include": "lo",
	}
	if os.Geteuid() == 0 {
		env["OMPI_ALLOW_RUN_AS_ROOT"] = "1"
		env["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
	}
	return env
}
