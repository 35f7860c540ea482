// Package column says how the values of jobs, workers and the rest stand in the
// columns of a database, the same in every database.
package column

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// Micros is a time in microseconds; the zero time is 0.
func Micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// Time turns Micros back.
func Time(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

// Encode turns an optional value into JSON; nil is "".
func Encode[T any](v *T) (string, error) {
	if v == nil {
		return "", nil
	}
	b, err := json.Marshal(v)
	return string(b), err
}

// Decode turns it back.
func Decode[T any](s string) (*T, error) {
	if s == "" {
		return nil, nil
	}
	v := new(T)
	return v, json.Unmarshal([]byte(s), v)
}

// Fold is what makes names compare without case, in every script.
func Fold(name string) string { return strings.ToLower(name) }

// DecodeSpec reads the spec of a job. The priority of the row wins over the one
// in the spec.
func DecodeSpec(j *job.Job, spec string) error {
	priority := j.Spec.Priority
	err := json.Unmarshal([]byte(spec), &j.Spec)
	j.Spec.Priority = priority
	return unreadable(j.ID, err)
}

// DecodeParts reads the other parts of a job that are stored as JSON.
func DecodeParts(j *job.Job, cancel, failure, progress string) (err error) {
	if j.Cancel, err = Decode[job.Request](cancel); err == nil {
		j.Failure, err = Decode[job.Failure](failure)
	}
	if err == nil {
		j.Progress, err = Decode[job.Progress](progress)
	}
	return unreadable(j.ID, err)
}

func unreadable(id job.ID, err error) error {
	if err == nil {
		return nil
	}
	e := job.Errorf(job.Internal, "job %s cannot be read: %w", id, err)
	e.Why = "its row in the database is damaged, or was written by another program"
	return e
}
