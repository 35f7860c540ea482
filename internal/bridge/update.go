package bridge

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// Update changes the row of a job that nanoos does not run, as a program of the
// platform's asks for with update_job_status: by legal moves and in the columns
// that the task names. Everything that is wrong is told at once; an unknown job
// is job.NotFound, an illegal move job.Conflict.
func (b *Bridge) Update(ctx context.Context, id job.ID, fields map[string]json.RawMessage) error {
	to, set, problems := readUpdate(fields)
	if err := job.InvalidInput(fmt.Sprintf("job %s was not updated", id), problems); err != nil {
		return err
	}
	return b.change(ctx, id, func(row held) (string, []field, error) {
		switch {
		case row.status == to && ended(row.status):
			return "", nil, nil // told twice
		case to != "" && row.status != to && !slices.Contains(moves[row.status], to), ended(row.status):
			return "", nil, &job.Error{Code: job.Conflict, Message: fmt.Sprintf("Job %s is %s and cannot be set to %s", id, row.status, to),
				Why: "permitted from there: " + strings.Join(append(slices.Clone(moves[row.status]), "nothing else"), ", ")}
		}
		set := slices.Clone(set)
		switch {
		case to == statusRunning && row.status != to && !has(set, "started_at"):
			set = append(set, now("started_at"))
		case ended(to) && to != "" && !has(set, "finished_at"):
			set = append(set, now("finished_at"))
		}
		return to, set, nil
	})
}

func has(fields []field, name string) bool {
	return slices.ContainsFunc(fields, func(f field) bool { return f.name == name })
}

// readUpdate reads the arguments of update_job_status.
func readUpdate(fields map[string]json.RawMessage) (to string, set []field, problems []job.Problem) {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		raw := fields[name]
		if name == "job_id" || string(raw) == "null" {
			continue
		}
		text, why := "", ""
		switch name {
		case "status":
			text, why = readText(raw)
			if to = strings.ToUpper(strings.TrimSpace(text)); why == "" && !known(to) {
				why = fmt.Sprintf("there is no status %.40q; there are %s", text, strings.Join(statuses, ", "))
			}
		case "progress":
			text, why = readNumber(raw, 0, 1)
		case "retry_count":
			if text, why = readNumber(raw, 0, math.MaxInt32); why == "" && strings.ContainsAny(text, ".e") {
				why = "it is no whole number"
			}
		case "current_step", "error_message", "worker_id":
			text, why = readText(raw)
		case "started_at", "finished_at":
			text, why = readTime(raw)
		default:
			why = "update_job_status has no such argument"
		}
		switch {
		case why != "":
			problems = append(problems, job.Problem{Field: name, Message: why})
		case name != "status":
			set = append(set, say(name, text))
		}
	}
	return to, set, problems
}

func readText(raw json.RawMessage) (text, why string) {
	if json.Unmarshal(raw, &text) != nil {
		return "", "it is not a text"
	}
	return text, ""
}

// readNumber takes a number, or a text that is one, as the platform's HTTP
// arguments are.
func readNumber(raw json.RawMessage, least, most float64) (text, why string) {
	x, err := strconv.ParseFloat(strings.Trim(string(raw), `" `), 64)
	switch {
	case err != nil || math.IsNaN(x):
		return "", "it is not a number"
	case x < least || x > most:
		return "", fmt.Sprintf("%g is outside %g … %g", x, least, most)
	}
	return strconv.FormatFloat(x, 'f', -1, 64), ""
}

// pythonTime is what isoformat writes of a time without a zone; that of the
// platform is UTC.
const pythonTime = "2006-01-02T15:04:05.999999"

func readTime(raw json.RawMessage) (text, why string) {
	if text, why = readText(raw); why != "" {
		return "", why
	}
	text = strings.Replace(text, " ", "T", 1)
	for _, layout := range []string{time.RFC3339Nano, pythonTime} {
		if at, err := time.Parse(layout, text); err == nil {
			return stamp(at), ""
		}
	}
	return "", "it is not a time in ISO 8601"
}

// stamp writes a time for a column with a zone, and for one without, which is UTC.
func stamp(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }
