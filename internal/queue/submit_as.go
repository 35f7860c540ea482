package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/nano-os/nanoos/internal/job"
)

// SubmitAs stores one job under the id that another system has given it, a UUID
// of any version. Again with the same id and the same contents it is Existing
// (G2); with other contents, or when another tenant has a job of that id, it is
// job.Conflict. A spec without a key gets the id for one.
func (s *Service) SubmitAs(ctx context.Context, t job.Tenant, id job.ID, spec job.Spec) (Submitted, error) {
	if t == "" || !id.Valid() {
		return Submitted{}, &job.Error{Code: job.Invalid, Message: nameOf(spec) + " was not submitted",
			Why: fmt.Sprintf("tenant %q; id %.80q, which must be a UUID in lower case with hyphens", t, id)}
	}
	if spec.Key == "" {
		spec.Key = string(id)
	}
	out, err := s.accept(ctx, t, []submission{{asked: spec, id: id}})
	if errors.Is(err, errKeyTaken) {
		return Submitted{}, &job.Error{Code: job.Conflict, Err: err, Message: nameOf(spec) + " was not submitted: its id is in use",
			Why: fmt.Sprintf("there is another job %s already", id), Fix: "give every different job an id of its own"}
	}
	if err != nil {
		return Submitted{}, err
	}
	return out[0], nil
}
