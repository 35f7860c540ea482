package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
)

// stateWord is the state of a job for people, with what the state alone does
// not say.
func stateWord(j *api.Job) string {
	switch {
	case j.ContactLost:
		return "CONTACT LOST"
	case j.Cancelling:
		return "CANCELLING"
	case j.State == job.Pending && j.Reason != "":
		return "PENDING " + strings.ReplaceAll(string(j.Reason), "_", " ")
	}
	return string(j.State)
}

func stateTone(j *api.Job) tone {
	switch {
	case j.ContactLost, j.State != job.Failed && attention(j):
		return yellow
	case j.Cancelling:
		return dim
	}
	switch j.State {
	case job.Running:
		return blue
	case job.Completed:
		return green
	case job.Failed:
		return red
	case job.Pending, job.Queued:
		return cyan
	}
	return dim
}

// attention reports whether a person should look: a failure, a quarantine,
// lost contact, or an end that is no success of the science.
func attention(j *api.Job) bool {
	return j.State == job.Failed || j.Reason == job.ReasonQuarantined || j.ContactLost ||
		j.State == job.Completed && (j.Verdict == job.NotConverged || j.Verdict == job.Unstable)
}

// stateLetter is the state in one letter, for narrow places.
func stateLetter(j *api.Job) string {
	switch {
	case j.ContactLost:
		return "L"
	case j.Cancelling:
		return "C"
	}
	switch j.State {
	case job.Queued:
		return "Q"
	case job.Running:
		return "R"
	case job.Completed:
		return "S"
	case job.Failed:
		return "F"
	case job.Cancelled:
		return "X"
	}
	switch j.Reason {
	case job.ReasonQuarantined:
		return "Z"
	case job.ReasonDependency:
		return "B"
	case job.ReasonRetry:
		return "W"
	}
	return "H"
}

// detail is the one line that says most about a job now.
func (c *cells) detail(j *api.Job) string {
	switch {
	case j.State == job.Running && j.Progress != nil:
		return c.progress(j.Progress)
	case j.Failure != nil && (j.State == job.Failed || j.State == job.Pending):
		return string(j.Failure.Code) + ": " + j.Failure.Message
	case j.State == job.Completed:
		text := verdictWords(j.State, j.Verdict)
		if j.Summary != nil && j.Summary.EnergyEV != nil {
			text += ", " + c.withUnit("energy_eV", *j.Summary.EnergyEV)
		}
		return strings.TrimPrefix(text, ", ")
	}
	return j.Message
}

// progress is "45 %  SCF iteration 7  energy -215.1 eV".
func (c *cells) progress(p *job.Progress) string {
	text := fmt.Sprintf("%d %%", int(p.Fraction*100))
	if p.Stage != "" {
		text += "  " + p.Stage
	}
	if p.Quantity != "" && p.Value != nil {
		text += "  " + c.withUnit(p.Quantity, *p.Value)
	}
	return text
}

// ranFor is how long the job has run, or ran.
func (c *cells) ranFor(j *api.Job) time.Duration {
	switch {
	case j.StartedAt.IsZero():
		return 0
	case !j.EndedAt.IsZero():
		return j.EndedAt.Sub(j.StartedAt)
	case j.State == job.Running:
		return c.now.Sub(j.StartedAt)
	}
	return 0
}

// jobName is the name, or what else tells the job from others.
func jobName(j *api.Job) string {
	return orDefault(j.Name, orDefault(j.Formula, "("+j.Engine+")"))
}

func jobColumns() []column[api.Job] {
	col := func(name string, cell func(*cells, *api.Job) string) column[api.Job] {
		return column[api.Job]{name: name, cell: cell}
	}
	wide := func(name string, cell func(*cells, *api.Job) string) column[api.Job] {
		return column[api.Job]{name: name, cell: cell, wide: true}
	}
	id := col("id", func(c *cells, j *api.Job) string {
		if c.exact || c.full {
			return string(j.ID)
		}
		return shortID(j.ID)
	})
	state := col("state", func(c *cells, j *api.Job) string {
		if c.exact {
			return string(j.State)
		}
		return stateWord(j)
	})
	state.tone = stateTone
	name := col("name", func(_ *cells, j *api.Job) string { return jobName(j) })
	name.flex, name.middle = true, true
	detail := col("detail", func(c *cells, j *api.Job) string { return c.detail(j) })
	detail.flex = true
	return []column[api.Job]{
		id, state, name,
		col("engine", func(_ *cells, j *api.Job) string { return j.Engine }),
		col("age", func(c *cells, j *api.Job) string { return c.when(j.CreatedAt) }),
		col("time", func(c *cells, j *api.Job) string { return c.elapsed(c.ranFor(j)) }),
		wide("queue", func(_ *cells, j *api.Job) string { return j.Queue }),
		wide("priority", func(_ *cells, j *api.Job) string { return fmt.Sprint(j.Priority) }),
		wide("attempt", func(_ *cells, j *api.Job) string { return fmt.Sprint(j.Attempt) }),
		wide("worker", func(c *cells, j *api.Job) string { return orDefault(j.Worker, c.missing()) }),
		wide("verdict", func(c *cells, j *api.Job) string { return orDefault(string(j.Verdict), c.missing()) }),
		wide("formula", func(c *cells, j *api.Job) string { return orDefault(j.Formula, c.missing()) }),
		wide("started", func(c *cells, j *api.Job) string { return c.when(j.StartedAt) }),
		wide("ended", func(c *cells, j *api.Job) string { return c.when(j.EndedAt) }),
		wide("labels", func(c *cells, j *api.Job) string { return orDefault(labelText(j.Labels), c.missing()) }),
		detail,
	}
}

func labelText(labels map[string]string) string {
	var parts []string
	for _, k := range sortedKeys(labels) {
		parts = append(parts, k+"="+labels[k])
	}
	return strings.Join(parts, ",")
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func jobID(j *api.Job) string { return string(j.ID) }
