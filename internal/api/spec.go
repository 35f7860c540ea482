package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"strings"

	"github.com/nano-os/nanoos/internal/crystal"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// Spec turns a request into a spec, and returns what is wrong with the request
// itself. The queue completes the spec and checks it.
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

// licensedFiles refuses what may not be stored.
func (r JobRequest) licensedFiles() (problems []job.Problem) {
	for i, f := range r.Files {
		if engine.Licensed(f.Name) {
			problems = append(problems, job.Problem{Field: fmt.Sprintf("files[%d]", i), Message: path.Base(f.Name) + " is licensed, and is not stored",
				Fix: "leave it out: the worker takes it from its own library, VASP_PP_PATH"})
		}
	}
	return problems
}
