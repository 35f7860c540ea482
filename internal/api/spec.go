package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// Defaults and bounds of a spec. The bounds are far above what any machine
// offers; they keep typing errors and nonsense out of the arithmetic.
const (
	// DefaultMemory is for each CPU: what a small plane-wave run needs.
	DefaultMemory = 1 << 30
	maxCPUs       = 65_536
	maxMemory     = 1 << 50
	maxGPUs       = 4_096
	maxRetries    = 1_000
	maxLogLimit   = 1 << 40
	maxFiles      = 1_000
	maxLabels     = 64
	maxLabelKey   = 63
	maxLabelValue = 255
	maxTags       = 32
	maxKey        = 255
	maxFileName   = 500
	minWalltime   = job.Duration(time.Second)
	maxRunAt      = 10 * 365 * 24 * time.Hour
)

// Spec turns a request into a spec with its defaults, and returns everything
// that is wrong with the request itself. What depends on the engine is for
// NewCheck.
func (r JobRequest) Spec() (job.Spec, []job.Problem) {
	s, _, problems := r.spec()
	return s, problems
}

// spec also returns warnings about the structure's file.
func (r JobRequest) spec() (job.Spec, []engine.Warning, []job.Problem) {
	s := job.Spec{
		Name: r.Name, Queue: r.Queue, Engine: r.Engine, Params: r.Parameters,
		Demand:   job.Demand{CPUs: r.Resources.CPUs, Memory: int64(r.Resources.Memory), GPUs: r.Resources.GPUs, Tags: r.Resources.Tags},
		Priority: job.PriorityNormal, RunAt: r.RunAt,
		Walltime: r.Resources.Walltime, SoftLimit: r.Resources.SoftLimit, LogLimit: int64(r.Resources.Log),
		Retry: r.Retry.rule(), Labels: r.Labels, Key: r.Key, Held: r.Hold,
	}
	if r.Priority != nil {
		s.Priority = job.Priority(*r.Priority)
	}
	var problems []job.Problem
	switch r.Accept {
	case "":
	case "not_converged":
		s.AcceptNotConverged = true
	default:
		problems = append(problems, job.Problem{Field: "accept", Message: fmt.Sprintf("%q is not permitted", shorten(r.Accept)), Fix: "write not_converged, or leave it out"})
	}
	for i, f := range r.Files {
		stored, p := f.file(fmt.Sprintf("files[%d]", i))
		problems = append(problems, p...)
		s.Files = append(s.Files, stored)
	}
	structure, warnings, p := r.Structure.canonical()
	s.Structure = structure
	return s, warnings, append(problems, p...)
}

// rule is the retry rule with the changes of a request.
func (r *RetryInput) rule() job.Retry {
	rule := job.DefaultRetry
	if r == nil {
		return rule
	}
	if r.Max != nil {
		rule.Max = *r.Max
	}
	if r.Delay != nil {
		rule.Delay = *r.Delay
		rule.MaxDelay = max(rule.MaxDelay, rule.Delay)
	}
	if r.MaxDelay != nil {
		rule.MaxDelay = *r.MaxDelay
	}
	if r.MaxLosses != nil {
		rule.MaxLosses = *r.MaxLosses
	}
	return rule
}

// file is the stored form of an input file; the text itself is stored by who
// accepts the request.
func (f FileInput) file(at string) (job.File, []job.Problem) {
	switch {
	case f.Text != "" && f.SHA256 != "":
		return job.File{}, []job.Problem{{Field: at, Message: "has both a text and a hash", Fix: "give one of text and sha256"}}
	case f.SHA256 != "" && !isDigest(f.SHA256):
		return job.File{}, []job.Problem{{Field: at + ".sha256", Message: fmt.Sprintf("%q is not a SHA-256", shorten(f.SHA256)), Fix: "write 64 digits 0-9 a-f, as sha256sum prints them"}}
	case f.SHA256 != "":
		return job.File{Name: f.Name, SHA256: f.SHA256}, nil
	}
	sum := sha256.Sum256([]byte(f.Text))
	return job.File{Name: f.Name, SHA256: hex.EncodeToString(sum[:]), Size: int64(len(f.Text))}, nil
}

func isDigest(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && strings.ToLower(s) == s
}

// complete fills what a spec leaves open, whichever door it came through.
func complete(s job.Spec) job.Spec {
	if s.Queue == "" {
		s.Queue = job.DefaultQueue
	}
	if s.Demand.CPUs == 0 {
		s.Demand.CPUs = 1
	}
	if s.Demand.Memory == 0 && s.Demand.CPUs > 0 && s.Demand.CPUs <= maxCPUs {
		s.Demand.Memory = int64(s.Demand.CPUs) * DefaultMemory
	}
	if s.Walltime == 0 {
		s.Walltime = job.DefaultWalltime
	}
	if s.LogLimit == 0 {
		s.LogLimit = job.DefaultLogLimit
	}
	if s.Retry == (job.Retry{}) {
		s.Retry = job.DefaultRetry
	}
	return s
}

// specProblems returns what is wrong with a complete spec, apart from its
// engine, parameters and structure.
func specProblems(s job.Spec) []job.Problem {
	var c checks
	if utf8.RuneCountInString(s.Name) > job.MaxNameLength {
		c.add("name", fmt.Sprintf("is longer than %d characters", job.MaxNameLength), "")
	}
	c.plainText("name", s.Name)
	c.plainText("queue", s.Queue)
	c.plainText("key", s.Key)
	if len(s.Key) > maxKey {
		c.add("key", fmt.Sprintf("is longer than %d bytes", maxKey), "")
	}
	c.between("priority", int64(s.Priority), 0, 20, "0 runs last, 20 runs first; the default is 5")
	c.between("resources.cpus", int64(s.Demand.CPUs), 1, maxCPUs, "")
	c.between("resources.memory", s.Demand.Memory, 1<<20, maxMemory, "write it with a unit, such as 2GiB")
	c.between("resources.gpus", int64(s.Demand.GPUs), 0, maxGPUs, "")
	c.between("resources.log", s.LogLimit, 1, maxLogLimit, "")
	c.duration("resources.walltime", s.Walltime, minWalltime)
	c.duration("resources.soft_limit", s.SoftLimit, 0)
	if s.SoftLimit > 0 && s.SoftLimit >= s.Walltime {
		c.add("resources.soft_limit", "must be shorter than the walltime", fmt.Sprintf("the walltime is %s", s.Walltime))
	}
	c.between("retry.max", int64(s.Retry.Max), 0, maxRetries, "")
	c.between("retry.max_losses", int64(s.Retry.MaxLosses), 0, maxRetries, "")
	c.duration("retry.delay", s.Retry.Delay, 0)
	c.duration("retry.max_delay", s.Retry.MaxDelay, 0)
	if !s.RunAt.IsZero() && (s.RunAt.Year() < 2000 || s.RunAt.After(time.Now().Add(maxRunAt))) {
		c.add("run_at", "is not a time within the next ten years", "")
	}
	c.labels(s.Labels)
	c.tags(s.Demand.Tags)
	c.files(s.Files)
	return c.problems
}

// checks collects problems.
type checks struct{ problems []job.Problem }

func (c *checks) add(field, message, fix string) {
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, job.Problem{Field: field, Message: message, Fix: fix})
	}
}

func (c *checks) between(field string, n, low, high int64, fix string) {
	if n < low || n > high {
		c.add(field, fmt.Sprintf("%d is outside %d … %d", n, low, high), fix)
	}
}

func (c *checks) duration(field string, d, low job.Duration) {
	if d < low || d > job.MaxDuration {
		c.add(field, fmt.Sprintf("%s is outside %s … 366 days", d, low), "write for example 90s, 10m, 24h or 2d")
	}
}

// plainText refuses what could not be shown in one line of a terminal (T40).
func (c *checks) plainText(field, s string) {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		c.add(field, "has characters that cannot be printed", "")
	}
}

func (c *checks) labels(labels map[string]string) {
	if len(labels) > maxLabels {
		c.add("labels", fmt.Sprintf("has %d labels, at most %d are kept", len(labels), maxLabels), "")
		return
	}
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		field := "labels." + shorten(k)
		if k == "" || len(k) > maxLabelKey || strings.ContainsFunc(k, notWordRune) {
			c.add(field, "is not a name for a label", fmt.Sprintf("use at most %d of A-Z a-z 0-9 . _ - /", maxLabelKey))
		}
		if len(labels[k]) > maxLabelValue {
			c.add(field, fmt.Sprintf("is longer than %d bytes", maxLabelValue), "")
		}
		c.plainText(field, labels[k])
	}
}

func (c *checks) tags(tags []string) {
	if len(tags) > maxTags {
		c.add("resources.tags", fmt.Sprintf("has %d tags, at most %d are permitted", len(tags), maxTags), "")
		return
	}
	for i, t := range tags {
		if t == "" || len(t) > maxLabelKey || strings.ContainsFunc(t, notWordRune) {
			c.add(fmt.Sprintf("resources.tags[%d]", i), "is not a tag", fmt.Sprintf("use at most %d of A-Z a-z 0-9 . _ - /", maxLabelKey))
		}
	}
}

func notWordRune(r rune) bool {
	return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-/", r))
}

// files checks the names of input files: they become files of the work
// directory and must stay inside (G18, T5).
func (c *checks) files(files []job.File) {
	if len(files) > maxFiles {
		c.add("files", fmt.Sprintf("has %d files, at most %d are permitted", len(files), maxFiles), "")
		return
	}
	seen := map[string]bool{}
	for i, f := range files {
		field := fmt.Sprintf("files[%d].name", i)
		switch {
		case !localName(f.Name):
			c.add(field, fmt.Sprintf("%q is not a name inside the work directory", shorten(f.Name)),
				"write a relative path of parts made of A-Z a-z 0-9 . _ - + = @ , that do not begin with a dot")
		case seen[strings.ToLower(f.Name)]:
			c.add(field, fmt.Sprintf("two files are called %s", f.Name), "upper and lower case count as one")
		}
		seen[strings.ToLower(f.Name)] = true
	}
}

// localName reports whether a name stays below the directory it is put in, on
// every file system.
func localName(name string) bool {
	if name == "" || len(name) > maxFileName || path.Clean(name) != name {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part[0] == '.' || len(part) > 200 {
			return false
		}
		if strings.ContainsFunc(part, func(r rune) bool { return notWordRune(r) && !strings.ContainsRune("+=@,", r) }) {
			return false
		}
	}
	return true
}

// formula of a stored structure, "" when there is none to read.
func formula(structure json.RawMessage) string {
	var s struct {
		Species []string `json:"species"`
	}
	if len(structure) == 0 || json.Unmarshal(structure, &s) != nil {
		return ""
	}
	return (&crystal.Structure{Species: s.Species}).Formula()
}
