package main

import (
	"slices"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
)

// filter is a -q text: every term must match.
type filter []condition

// condition is one condition: one of its values must match, or none when negated.
type condition struct {
	key    string
	values []string
	not    bool
	since  time.Time // of created
	after  bool      // created after since, not before
}

var filterKeys = []string{"state", "engine", "queue", "name", "label", "formula", "worker", "id", "is", "text", "created", "verdict"}

// parseFilter reads the filter language: key:value terms, a leading minus to
// negate, bare words that match names, ids, label values and formulas.
func parseFilter(text string, now time.Time) (filter, error) {
	var f filter
	words, err := splitWords(text)
	if err != nil {
		return nil, err
	}
	for _, w := range words {
		t := condition{key: "any", values: []string{strings.ToLower(w)}}
		body := w
		if rest, ok := strings.CutPrefix(w, "-"); ok && rest != "" {
			t.not, body = true, rest
		}
		if key, value, ok := strings.Cut(body, ":"); ok && key != "" {
			if !slices.Contains(filterKeys, key) {
				fix := didYouMean(key, slices.Values(filterKeys))
				return nil, usage(strings.TrimSpace(fix+" Known: "+strings.Join(filterKeys, ", ")), "a filter has no key %q", key)
			}
			if t, err = keyedTerm(key, value, t.not, now); err != nil {
				return nil, err
			}
		} else if t.not {
			t.values = []string{strings.ToLower(body)}
		}
		f = append(f, t)
	}
	return f, nil
}

func keyedTerm(key, value string, not bool, now time.Time) (condition, error) {
	if value == "" {
		return condition{}, usage("for example state:failed", "the filter %s: has no value", key)
	}
	switch key {
	case "state":
		t, err := stateTerm(value)
		t.not = not
		return t, err
	case "created":
		t := condition{key: key, not: not, after: true}
		value = strings.TrimSpace(value)
		// "created:>7d" is older than 7 days; "created:<7d" or "created:7d" newer.
		if rest, ok := strings.CutPrefix(value, ">"); ok {
			t.after, value = false, rest
		}
		var err error
		t.since, err = parseSince(strings.TrimPrefix(value, "<"), now)
		return t, err
	case "label", "text":
		return condition{key: key, values: []string{strings.ToLower(value)}, not: not}, nil
	}
	return condition{key: key, values: strings.Split(strings.ToLower(value), ","), not: not}, nil
}

// splitWords splits at spaces outside double quotes.
func splitWords(text string) ([]string, error) {
	var words []string
	var b strings.Builder
	quoted, started := false, false
	for _, r := range text {
		switch {
		case r == '"':
			quoted, started = !quoted, true
		case !quoted && (r == ' ' || r == '\t' || r == '\n'):
			if started {
				words = append(words, b.String())
			}
			b.Reset()
			started = false
		default:
			b.WriteRune(r)
			started = true
		}
	}
	if quoted {
		return nil, usage(`write for example text:"not converged"`, "a quote in the filter is not closed")
	}
	if started {
		words = append(words, b.String())
	}
	return words, nil
}

// Words for states: those of the wire, and those of people for what is derived
// from them.
var stateTests = map[string]func(*api.Job) bool{
	"pending":     func(j *api.Job) bool { return j.State == job.Pending },
	"queued":      func(j *api.Job) bool { return j.State == job.Queued },
	"running":     func(j *api.Job) bool { return j.State == job.Running },
	"completed":   func(j *api.Job) bool { return j.State == job.Completed },
	"succeeded":   func(j *api.Job) bool { return j.State == job.Completed },
	"failed":      func(j *api.Job) bool { return j.State == job.Failed },
	"cancelled":   func(j *api.Job) bool { return j.State == job.Cancelled },
	"held":        func(j *api.Job) bool { return j.State == job.Pending && j.Reason == job.ReasonHeld },
	"blocked":     func(j *api.Job) bool { return j.State == job.Pending && j.Reason == job.ReasonDependency },
	"retrying":    func(j *api.Job) bool { return j.State == job.Pending && j.Reason == job.ReasonRetry },
	"quarantined": func(j *api.Job) bool { return j.State == job.Pending && j.Reason == job.ReasonQuarantined },
	"cancelling":  func(j *api.Job) bool { return j.Cancelling },
	"suspect":     func(j *api.Job) bool { return j.ContactLost },
}

// stateOf is the stored state behind each word.
var stateOf = map[string]job.State{
	"pending": job.Pending, "queued": job.Queued, "running": job.Running, "completed": job.Completed,
	"succeeded": job.Completed, "failed": job.Failed, "cancelled": job.Cancelled, "held": job.Pending,
	"blocked": job.Pending, "retrying": job.Pending, "quarantined": job.Pending,
	"cancelling": job.Running, "suspect": job.Running,
}

func stateWords() []string { return sortedKeys(stateTests) }

func stateTerm(value string) (condition, error) {
	t := condition{key: "state", values: strings.Split(strings.ToLower(value), ",")}
	for i, v := range t.values {
		t.values[i] = strings.TrimSpace(v)
		if stateTests[t.values[i]] == nil {
			fix := didYouMean(v, slices.Values(stateWords()))
			return t, usage(strings.TrimSpace(fix+" One of: "+strings.Join(stateWords(), ", ")), "there is no state %q", v)
		}
	}
	return t, nil
}

// narrow lets the server select what it can.
func (f filter) narrow(q *api.ListQuery) {
	for _, t := range f {
		if t.not {
			continue
		}
		switch t.key {
		case "state":
			if len(q.States) > 0 {
				continue // two conditions on the state: only the filter can do both
			}
			for _, v := range t.values {
				if !slices.Contains(q.States, stateOf[v]) {
					q.States = append(q.States, stateOf[v])
				}
			}
		case "created":
			if t.after && t.since.After(q.Since) {
				q.Since = t.since
			}
		}
	}
}

func (f filter) match(j *api.Job) bool {
	for _, t := range f {
		if t.match(j) == t.not {
			return false
		}
	}
	return true
}

func (t condition) match(j *api.Job) bool {
	if t.key == "created" {
		return j.CreatedAt.After(t.since) == t.after
	}
	return slices.ContainsFunc(t.values, func(v string) bool { return t.matchOne(v, j) })
}

func (t condition) matchOne(v string, j *api.Job) bool {
	has := func(s string) bool { return strings.Contains(strings.ToLower(s), v) }
	switch t.key {
	case "state":
		return stateTests[v](j)
	case "engine":
		return strings.EqualFold(j.Engine, v)
	case "queue":
		return strings.EqualFold(j.Queue, v)
	case "worker":
		return strings.EqualFold(j.Worker, v)
	case "verdict":
		return strings.EqualFold(string(j.Verdict), v)
	case "name":
		return has(j.Name)
	case "formula":
		return has(j.Formula)
	case "id":
		return has(string(j.ID))
	case "is":
		return v == "attention" && attention(j)
	case "text":
		return has(j.Message) || j.Failure != nil && (has(j.Failure.Message) || has(j.Failure.Code))
	case "label":
		key, value, exact := strings.Cut(v, "=")
		for k, got := range j.Labels {
			if strings.EqualFold(k, key) && (!exact || strings.EqualFold(got, value)) {
				return true
			}
		}
		return false
	}
	return has(j.Name) || has(string(j.ID)) || has(j.Formula) || has(labelText(j.Labels))
}
