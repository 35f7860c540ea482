package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// Cancel ends a job that waits, and orders the worker of one that runs to stop
// it. A job that has ended is job.Conflict.
func (s *Service) Cancel(ctx context.Context, t job.Tenant, id job.ID, a Actor) (job.Job, error) {
	return s.decide(ctx, t, id, func(j job.Job, now time.Time) (*change, error) { return cancel(j, a, now) })
}

// cancel is durable from here on: what a worker reports later cannot undo it (G13).
func cancel(j job.Job, a Actor, now time.Time) (*change, error) {
	if j.State.Terminal() {
		return nil, refuse(j, "cancelled", ended(j), "")
	}
	if j.Cancel != nil {
		return nil, nil
	}
	c := &change{job: j}
	c.job.Cancel = &job.Request{By: a.By, At: now, Why: a.Why, Now: a.Now}
	if j.State != job.Running {
		c.cancelled("", now)
		return c, nil
	}
	c.job.Message = saying("cancel requested", a.By, a.Why)
	c.say(job.EventCancel, a)
	return c, nil
}

// refuse is the answer to a change that the state of a job does not allow.
func refuse(j job.Job, done, why, fix string) error {
	name := "job " + string(j.ID)
	if j.Spec.Name != "" {
		name = j.Spec.Name
	}
	return &job.Error{Code: job.Conflict, Message: fmt.Sprintf("%s was not %s", name, done), Why: why, Fix: fix}
}

func ended(j job.Job) string {
	return fmt.Sprintf("it is %s since %s", j.State, clock(j.EndedAt))
}

// command is a line that can be pasted.
func command(verb string, id job.ID) string { return "nanoos " + verb + " " + string(id) }
