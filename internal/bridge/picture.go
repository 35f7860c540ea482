package bridge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/nano-os/nanoos/internal/celery/outcome"
	"github.com/nano-os/nanoos/internal/job"
)

// picture is what a row is to say of a job.
type picture struct {
	id     job.ID
	status string
	fields []field
	result []field // of a result row; nil for none
	// late says that the job failed because its time was over: the later
	// generation has a status of its own for that.
	late bool
}

// Shares of a simulation's progress, as the platform's own worker tells it: the
// engine starts at 0.1 and has done its work at 0.9, while results are written.
const (
	progressStart = 0.1
	progressRun   = 0.8
)

// pictureOf is a pure function of a job and its stored result.
func pictureOf(j job.Job, result []byte) picture {
	p := picture{id: j.ID, status: statusOf(j)}
	p.fields = []field{
		say("current_step", stepOf(j)),
		say("retry_count", strconv.Itoa(j.Failures+j.Losses)),
	}
	if j.Worker != "" {
		p.fields = append(p.fields, say("worker_id", j.Worker), say("worker_hostname", hostOf(j.Worker, result)))
	}
	if !j.StartedAt.IsZero() {
		at := stamp(j.StartedAt)
		p.fields = append(p.fields, field{name: "started_at", text: &at, keep: true})
	}
	switch j.State {
	case job.Running:
		p.fields = append(p.fields, say("progress", decimal(progressOf(j))))
	case job.Completed:
		p.fields = append(p.fields, say("progress", "1"), field{name: "error_message"})
		p.result = resultOf(j, result)
	case job.Failed:
		p.fields = append(p.fields, say("error_message", complaint(j)))
		p.late = j.Failure != nil && (j.Failure.Code == "walltime" || j.Failure.Code == "time_limit")
	}
	if j.State.Terminal() {
		p.fields = append(p.fields, say("finished_at", stamp(j.EndedAt)))
	}
	return p
}

// statusOf is the status of the platform's that a job is in. A job that waits to
// be tried again still runs for the platform, which knows no way back.
func statusOf(j job.Job) string {
	switch j.State {
	case job.Running:
		return statusRunning
	case job.Completed:
		return statusCompleted
	case job.Failed:
		return statusFailed
	case job.Cancelled:
		return statusCancelled
	}
	if j.Attempt > 0 {
		return statusRunning
	}
	return statusQueued
}

// stepOf says in words how far a job is.
func stepOf(j job.Job) string {
	switch j.State {
	case job.Running:
		if j.Cancel != nil {
			return "Stopping"
		}
		if j.Progress != nil && j.Progress.Stage != "" {
			return j.Progress.Stage
		}
		return "Starting " + j.Spec.Engine
	case job.Completed:
		return "Completed"
	case job.Failed:
		return "Failed"
	case job.Cancelled:
		return "Cancelled"
	}
	switch {
	case j.Message != "":
		return "Waiting: " + j.Message
	case j.Attempt > 0:
		return "Waiting to be tried again"
	}
	return "Waiting for a worker"
}

func progressOf(j job.Job) float64 {
	done := 0.0
	if j.Progress != nil && j.Progress.Fraction > 0 { // a number that is none says nothing
		done = min(j.Progress.Fraction, 1)
	}
	if dummy(j) {
		return done // of four steps, 0.25 each
	}
	return progressStart + progressRun*done
}

// dummy reports whether a job is one that the front door started for the
// platform's run_dummy_job, under the id of a row.
func dummy(j job.Job) bool { return j.Spec.Labels["dummy_job"] == string(j.ID) }

func decimal(x float64) string { return strconv.FormatFloat(math.Round(x*1e4)/1e4, 'f', -1, 64) }

// complaint is why a job failed, for people.
func complaint(j job.Job) string {
	f := j.Failure
	if f == nil {
		return j.Message
	}
	text := fmt.Sprintf("%s (%s)", f.Message, f.Code)
	if f.Fix != "" {
		text += "\n" + f.Fix
	}
	return text
}

// report is what is needed of a stored result.
type report struct {
	Summary map[string]json.RawMessage `json:"summary"`
	Files   []struct {
		Name string `json:"name"`
		Size int64  `json:"size"`
		Key  string `json:"key"`
	} `json:"files"`
	Warnings   []json.RawMessage `json:"warnings"`
	Provenance struct {
		Engine string `json:"engine"`
		Nanoos string `json:"nanoos"`
		Host   string `json:"host"`
	} `json:"provenance"`
}

// hostOf is the name of the machine that a worker is on: the result says it, and
// until then a worker is called by its machine unless a person named it.
func hostOf(worker string, result []byte) string {
	var r report
	if json.Unmarshal(result, &r) == nil && r.Provenance.Host != "" {
		return r.Provenance.Host
	}
	if host, id, cut := cutLast(worker, "-"); cut && len(id) == hostSuffix {
		return host
	}
	return worker
}

// hostSuffix is the length of what makes the name of a worker unique.
const hostSuffix = 6

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// resultOf are the fields of a result row.
func resultOf(j job.Job, raw []byte) []field {
	var r report
	if err := json.Unmarshal(raw, &r); err != nil {
		r = report{}
	}
	fields := []field{
		say("id", string(job.NewID())), say("simulation_job_id", string(j.ID)), say("summary", encode(outcome.Summary(j.Verdict, r.Summary, len(r.Warnings) > 0))),
		say("artifacts", encode(artifactsOf(r))), say("metadata", encode(originOf(j, r))), say("extra_metadata", encode(originOf(j, r))),
	}
	if dir := folder(r); dir != "" {
		fields = append(fields, say("artifacts_path", dir))
	}
	if len(raw) > 0 && json.Valid(raw) {
		fields = append(fields, say("detailed_results", storable(raw)))
	}
	return append(fields, judgement(j)...)
}

// judgement says whether the science worked. What has no notion of convergence
// has converged for a platform that asks yes or no, and is given no score.
func judgement(j job.Job) []field {
	switch j.Verdict {
	case job.Converged:
		return []field{say("convergence_reached", "true"), say("quality_score", "1")}
	case job.NotConverged, job.Unstable:
		return []field{say("convergence_reached", "false"), say("quality_score", "0")}
	}
	return []field{say("convergence_reached", "true")}
}

type platformFile struct {
	Name string `json:"name"`
	Path string `json:"path"`
	Size int64  `json:"size"`
}

// artifactsOf lists the files, with their keys in the artifact store as paths.
func artifactsOf(r report) []platformFile {
	files := make([]platformFile, len(r.Files))
	for i, f := range r.Files {
		files[i] = platformFile{Name: f.Name, Path: f.Key, Size: f.Size}
	}
	return files
}

// folder is where all the files are: jobs/<id>/<fence>.
func folder(r report) string {
	for _, f := range r.Files {
		if parts := strings.SplitN(f.Key, "/", 4); len(parts) == 4 {
			return strings.Join(parts[:3], "/")
		}
	}
	return ""
}

func originOf(j job.Job, r report) map[string]any {
	return map[string]any{"source": "nanoos", "version": r.Provenance.Nanoos, "engine": j.Spec.Engine, "attempt": j.Attempt, "verdict": j.Verdict}
}

// encode writes a value that JSON can always hold.
func encode(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return "null"
	}
	return storable(raw)
}

// storable leaves out of a JSON text what PostgreSQL's binary form cannot hold:
// zero characters.
func storable(raw []byte) string {
	if !bytes.Contains(raw, []byte(`\u0000`)) {
		return string(raw)
	}
	// A backslash that is itself escaped begins no escape.
	var b strings.Builder
	for i := 0; i < len(raw); i++ {
		switch {
		case raw[i] != '\\' || i+1 == len(raw):
			b.WriteByte(raw[i])
		case bytes.HasPrefix(raw[i:], []byte(`\u0000`)):
			b.WriteString(`\ufffd`)
			i += len(`\u0000`) - 1
		default:
			b.Write(raw[i : i+2])
			i++
		}
	}
	return b.String()
}
