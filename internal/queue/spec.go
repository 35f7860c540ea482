package queue

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// Bounds of a spec. They are far above honest use and keep one job from
// costing everybody: rows, lanes and listings stay small.
const (
	maxLabels     = 64
	maxTags       = 32
	maxFiles      = 1000
	maxKeyLength  = 255
	maxValue      = 255
	maxCPUs       = 1 << 20
	maxGPUs       = 1 << 16
	maxMemory     = 1 << 50 // 1 PiB
	maxLog        = 1 << 40 // 1 TiB
	maxRetries    = 100
	maxBodyLength = 64 << 20 // parameters and structure: a million atoms
)

// defaultMemory is what a job gets that does not say: enough for small cells,
// and little enough that a laptop runs several.
const defaultMemory = 1 << 30

var (
	labelKey = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$`)
	tagName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/-]{0,62}$`)
	sha256ID = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// Complete fills what a spec leaves open with the defaults of its queue and of
// the system, except the priority, whose zero is a choice.
func Complete(spec job.Spec, q store.Queue) job.Spec {
	if spec.Queue == "" {
		spec.Queue = job.DefaultQueue
	}
	if spec.Walltime == 0 {
		spec.Walltime = q.Walltime
	}
	if spec.Walltime == 0 {
		spec.Walltime = job.DefaultWalltime
	}
	if spec.Retry == (job.Retry{}) {
		spec.Retry = job.DefaultRetry
	}
	if spec.Retry.MaxDelay == 0 {
		spec.Retry.MaxDelay = max(job.DefaultRetry.MaxDelay, spec.Retry.Delay)
	}
	if spec.Demand.CPUs == 0 {
		spec.Demand.CPUs = 1
	}
	if spec.Demand.Memory == 0 {
		spec.Demand.Memory = defaultMemory
	}
	if spec.LogLimit == 0 {
		spec.LogLimit = job.DefaultLogLimit
	}
	// Out of bounds it is refused as it was given; rounding up could overflow.
	if spec.Demand.Memory <= maxMemory {
		spec.Demand = spec.Demand.Rounded()
	}
	return spec
}

// validate returns everything that is wrong with a complete spec, apart from
// its queue and from what only its engine knows.
func validate(spec job.Spec) []job.Problem {
	var v findings
	v.text("name", spec.Name, job.MaxNameLength)
	v.text("key", spec.Key, maxKeyLength)
	if spec.Engine == "" {
		v.add("engine", "the engine is missing", "", "say which code runs the job, for example engine: qe")
	}
	v.text("engine", spec.Engine, maxKeyLength)
	inRange(&v, "priority", spec.Priority, job.PriorityLow, job.PriorityUrgent)
	inRange(&v, "resources.cpus", spec.Demand.CPUs, 1, maxCPUs)
	inRange(&v, "resources.memory", spec.Demand.Memory, 1, maxMemory)
	inRange(&v, "resources.gpus", spec.Demand.GPUs, 0, maxGPUs)
	v.duration("resources.walltime", spec.Walltime, job.Duration(time.Second))
	v.duration("resources.soft_limit", spec.SoftLimit, 0)
	if spec.SoftLimit > 0 && spec.SoftLimit > spec.Walltime {
		v.add("resources.soft_limit", "the soft limit is beyond the walltime",
			fmt.Sprintf("%s is more than %s", spec.SoftLimit, spec.Walltime), "make it shorter than the walltime, or leave it out")
	}
	inRange(&v, "resources.log", spec.LogLimit, 1, maxLog)
	inRange(&v, "retry.max", spec.Retry.Max, 0, maxRetries)
	inRange(&v, "retry.max_losses", spec.Retry.MaxLosses, 0, maxRetries)
	v.duration("retry.delay", spec.Retry.Delay, 0)
	v.duration("retry.max_delay", spec.Retry.MaxDelay, 0)
	if spec.Retry.MaxDelay < spec.Retry.Delay {
		v.add("retry.max_delay", "the longest delay is below the first",
			fmt.Sprintf("%s is less than %s", spec.Retry.MaxDelay, spec.Retry.Delay), "")
	}
	if y := spec.RunAt.Year(); !spec.RunAt.IsZero() && (y < 1970 || y > 2200) {
		v.add("run_at", "the begin time is not a sensible date", fmt.Sprintf("it is in the year %d", y), "")
	}
	if n := len(spec.Params) + len(spec.Structure); n > maxBodyLength {
		v.add("parameters", "the job is too large",
			fmt.Sprintf("parameters and structure have %d bytes, at most %d", n, maxBodyLength), "give large data as files")
	}
	v.json("parameters", spec.Params)
	v.json("structure", spec.Structure)
	v.tags(spec.Demand.Tags)
	v.labels(spec.Labels)
	v.files(spec.Files)
	return v.problems
}

// findings collects problems.
type findings struct{ problems []job.Problem }

func (v *findings) add(field, message, why, fix string) {
	v.problems = append(v.problems, job.Problem{Field: field, Message: message, Why: why, Fix: fix})
}

func inRange[T ~int | ~int64](v *findings, field string, got, least, most T) {
	if got < least || got > most {
		v.add(field, fmt.Sprintf("%d is outside %d … %d", got, least, most), "", "")
	}
}

func (v *findings) duration(field string, got, least job.Duration) {
	if got < least || got > job.MaxDuration {
		v.add(field, fmt.Sprintf("%s is outside %s … %s", got, least, job.MaxDuration), "", "")
	}
}

func (v *findings) json(field string, raw json.RawMessage) {
	if len(raw) > 0 && !json.Valid(raw) {
		v.add(field, "it is not JSON", "", "")
	}
}

func (v *findings) text(field, s string, most int) {
	switch {
	case len(s) > most:
		v.add(field, fmt.Sprintf("it is too long: %d bytes, at most %d", len(s), most), "", "")
	case !utf8.ValidString(s):
		v.add(field, "it is not valid UTF-8", fmt.Sprintf("%q", s), "")
	case slices.ContainsFunc([]rune(s), unprintable):
		v.add(field, "it has characters that cannot be printed", fmt.Sprintf("%q", s), "")
	}
}

// unprintable characters could forge lines in logs and on terminals (T40).
func unprintable(r rune) bool { return !unicode.IsPrint(r) }

func (v *findings) tags(tags []string) {
	if len(tags) > maxTags {
		v.add("resources.tags", fmt.Sprintf("%d tags are too many, at most %d", len(tags), maxTags), "", "")
		return
	}
	for i, t := range tags {
		if !tagName.MatchString(t) {
			v.add(fmt.Sprintf("resources.tags[%d]", i), fmt.Sprintf("%.80q is not a tag", t), "",
				"use letters, digits and . _ : / -, at most 63")
		}
	}
}

func (v *findings) labels(labels map[string]string) {
	if len(labels) > maxLabels {
		v.add("labels", fmt.Sprintf("%d labels are too many, at most %d", len(labels), maxLabels), "", "")
		return
	}
	keys := make([]string, 0, len(labels))
	for k := range labels {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if !labelKey.MatchString(k) {
			v.add("labels", fmt.Sprintf("%.80q is not a label key", k), "", "use letters, digits and . _ / -, at most 63")
			continue
		}
		v.text("labels."+k, labels[k], maxValue)
	}
}

func (v *findings) files(files []job.File) {
	if len(files) > maxFiles {
		v.add("files", fmt.Sprintf("%d files are too many, at most %d", len(files), maxFiles), "", "")
		return
	}
	seen := make(map[string]bool, len(files))
	for i, f := range files {
		field := fmt.Sprintf("files[%d]", i)
		switch {
		case !fs.ValidPath(f.Name) || f.Name == "." || len(f.Name) > maxValue || slices.ContainsFunc([]rune(f.Name), unprintable):
			v.add(field+".name", fmt.Sprintf("%.80q is not a file name below the work directory", f.Name), "", "")
		case seen[f.Name]:
			v.add(field+".name", fmt.Sprintf("%q is given twice", f.Name), "", "")
		}
		if !sha256ID.MatchString(f.SHA256) || f.Size < 0 {
			v.add(field+".sha256", "the file was not uploaded", "it needs its SHA-256 in 64 hexadecimal digits, and its size", "")
		}
		seen[f.Name] = true
	}
}
