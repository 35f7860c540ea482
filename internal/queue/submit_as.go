package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/nano-os/nanoos/internal/job"
)

// Named is a job that may have got its id elsewhere.
type Named struct {
	ID   job.ID // a UUID of any version; empty: a new one
	Spec job.Spec
}

// SubmitAs stores one job under the id that another system has given it, a UUID
// of any version. Again with the same id and the same contents it is Existing
// (G2); with other contents, or when another tenant has a job of that id, it is
// job.Conflict. A spec without a key gets the id for one.
func (s *Service) SubmitAs(ctx context.Context, t job.Tenant, id job.ID, spec job.Spec) (Submitted, error) {
	if !id.Valid() {
		return Submitted{}, badID(nameOf(spec)+" was not submitted", id)
	}
	out, err := s.SubmitNamed(ctx, t, Named{id, spec})
	if err != nil {
		return Submitted{}, err
	}
	return out[0], nil
}

// SubmitNamed is Submit, and SubmitAs for those that have an id: all or none.
func (s *Service) SubmitNamed(ctx context.Context, t job.Tenant, jobs ...Named) ([]Submitted, error) {
	batch := make([]submission, len(jobs))
	for i, n := range jobs {
		if n.ID != "" && !n.ID.Valid() {
			return nil, badID("nothing was submitted", n.ID)
		}
		if n.Spec.Key == "" {
			n.Spec.Key = string(n.ID)
		}
		batch[i] = submission{asked: n.Spec, id: n.ID}
	}
	if err := bounded(t, len(jobs)); err != nil {
		return nil, err
	}
	out, err := s.accept(ctx, t, batch)
	if errors.Is(err, errKeyTaken) {
		return nil, &job.Error{Code: job.Conflict, Err: err, Message: refusal(batch) + ": an id is in use",
			Why: "there is another job with the same id already", Fix: "give every different job an id of its own"}
	}
	return out, err
}

func badID(message string, id job.ID) error {
	return &job.Error{Code: job.Invalid, Message: message, Why: fmt.Sprintf("id %.80q must be a UUID in lower case with hyphens", id)}
}
