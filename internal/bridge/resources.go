package bridge

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/nano-os/nanoos/internal/job"
)

// amounts are resources on their way into a spec.
type amounts struct {
	cpus, gpus, nodes, perNode int64
	memory                     int64 // bytes
	perCPU                     int64 // bytes for each CPU
	walltime                   job.Duration
	retries                    int64 // -1: not said
}

// resources reads the free form of what a job asks for: that of the template,
// and that of the job above it.
func (d document) resources(spec *job.Spec, f *findings) {
	a := amounts{retries: -1}
	a.read(d.template.object("default_resources", "template.default_resources", f), "template.default_resources", f)
	a.read(d.job.object("resources", "resources", f), "resources", f)
	switch {
	case a.perNode > 0:
		a.cpus = max(a.nodes, 1) * a.perNode
	case a.nodes > 1:
		f.add("resources.nodes", "does not say how many CPUs there are in all", "a job runs on one machine", "give cores without nodes, or cores_per_node")
	}
	spec.Demand = job.Demand{CPUs: int(a.cpus), Memory: a.memory, GPUs: int(a.gpus)}
	if a.perCPU > 0 && a.memory == 0 {
		spec.Demand.Memory = int64(min(float64(a.perCPU)*float64(max(a.cpus, 1)), mostMemory))
	}
	spec.Walltime = a.walltime
	if a.retries >= 0 {
		spec.Retry = job.DefaultRetry
		spec.Retry.Max = int(a.retries)
	}
}

// mostCount and mostMemory bound numbers before they are multiplied; what is
// sensible is for the queue to say.
const (
	mostCount  = 1 << 30
	mostMemory = 1 << 60
)

func (a *amounts) read(in map[string]any, field string, f *findings) {
	for _, key := range slices.Sorted(maps.Keys(in)) {
		v := in[key]
		if v == nil || v == "" {
			continue
		}
		if why := a.readOne(fold(key), v); why != "" {
			f.add(field+"."+key, why, show(v), "")
		}
	}
}

func (a *amounts) readOne(name string, v any) (why string) {
	switch name {
	case "cores", "cpus", "cpu", "ncores", "n_cores", "num_cores", "cpu_cores", "num_cpus", "ncpus", "ntasks", "n_tasks", "mpi_ranks", "nprocs", "np":
		a.perNode = 0 // the job's own word ends that of its template
		return count(&a.cpus, v)
	case "nodes", "num_nodes", "n_nodes":
		return count(&a.nodes, v)
	case "cores_per_node", "cpus_per_node", "tasks_per_node", "ntasks_per_node", "ppn":
		return count(&a.perNode, v)
	case "gpu", "gpus", "ngpus", "n_gpus", "num_gpus", "gpu_count":
		if on, isBool := v.(bool); isBool {
			a.gpus = 0
			if on {
				a.gpus = 1
			}
			return ""
		}
		return count(&a.gpus, v)
	case "memory", "mem", "ram":
		return memory(&a.memory, v, 0)
	case "memory_gb", "mem_gb", "ram_gb":
		return memory(&a.memory, v, 1<<30)
	case "memory_mb", "mem_mb", "ram_mb":
		return memory(&a.memory, v, 1<<20)
	case "memory_bytes":
		return memory(&a.memory, v, 1)
	case "memory_per_cpu", "mem_per_cpu", "memory_per_core":
		return memory(&a.perCPU, v, 0)
	case "walltime", "wall_time", "time_limit", "timelimit", "max_walltime", "timeout", "max_runtime", "walltime_seconds", "timeout_seconds", "time":
		return limit(&a.walltime, v, 1)
	case "walltime_minutes", "time_limit_minutes", "timeout_minutes":
		return limit(&a.walltime, v, 60)
	case "walltime_hours", "time_limit_hours", "max_hours":
		return limit(&a.walltime, v, 3600)
	case "retries", "max_retries":
		return count(&a.retries, v)
	}
	return "is no resource that nanoos knows"
}

func count(into *int64, v any) (why string) {
	n, ok := whole(v)
	if !ok || n < 0 || n > mostCount {
		return "is no number of them"
	}
	*into = n
	return ""
}

// A number of memory without a unit is in what people count it in: GiB up to
// 127, MiB up to a million, bytes above.
const (
	lessIsGiB = 128
	lessIsMiB = 1_000_000
)

// memoryUnits are binary, as a batch system's are.
var memoryUnits = []struct {
	ending string
	bytes  float64
}{
	{"tib", 1 << 40}, {"tb", 1 << 40}, {"t", 1 << 40}, {"gib", 1 << 30}, {"gb", 1 << 30}, {"g", 1 << 30},
	{"mib", 1 << 20}, {"mb", 1 << 20}, {"m", 1 << 20}, {"kib", 1 << 10}, {"kb", 1 << 10}, {"k", 1 << 10}, {"b", 1},
}

// memory reads "8GB", "4096 MiB" or a number; unit is what a number counts, 0
// when that is not said.
func memory(into *int64, v any, unit float64) (why string) {
	x, ok := number(v)
	if text, isText := v.(string); isText && !ok {
		text = strings.ToLower(strings.TrimSpace(text))
		for _, u := range memoryUnits {
			if digits, found := strings.CutSuffix(text, u.ending); found {
				x, ok = number(digits)
				unit = u.bytes
				break
			}
		}
	}
	switch {
	case !ok || x < 0:
		return "is no amount of memory"
	case unit != 0:
	case x < lessIsGiB:
		unit = 1 << 30
	case x < lessIsMiB:
		unit = 1 << 20
	default:
		unit = 1
	}
	if x*unit > mostMemory {
		return "is more memory than there is"
	}
	*into = int64(math.Ceil(x * unit))
	return ""
}

// limit reads a walltime: a number of units of so many seconds, or a text such
// as "02:00:00", "2h" or "1-12:00:00".
func limit(into *job.Duration, v any, unit float64) (why string) {
	text, isText := v.(string)
	if x, ok := number(v); ok {
		text, isText = fmt.Sprintf("%g", x*unit), true
	}
	if !isText {
		return "is no duration"
	}
	d, err := job.ParseDuration(strings.ToLower(text))
	if err != nil {
		return err.Error()
	}
	*into = d
	return ""
}
