package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// Hold keeps a waiting job from starting; Release undoes it, and also frees a
// quarantined job.
func (s *Service) Hold(ctx context.Context, t job.Tenant, id job.ID, a Actor) (job.Job, error) {
	return s.decide(ctx, t, id, func(j job.Job, _ time.Time) (*change, error) { return hold(j, a) })
}

// Release sets a held or quarantined job free.
func (s *Service) Release(ctx context.Context, t job.Tenant, id job.ID, a Actor) (job.Job, error) {
	return s.decide(ctx, t, id, func(j job.Job, now time.Time) (*change, error) { return release(j, a, now) })
}

// SetPriority changes the order of a waiting job.
func (s *Service) SetPriority(ctx context.Context, t job.Tenant, id job.ID, p job.Priority) (job.Job, error) {
	return s.decide(ctx, t, id, func(j job.Job, _ time.Time) (*change, error) { return setPriority(j, p) })
}

func hold(j job.Job, a Actor) (*change, error) {
	switch {
	case j.State.Terminal():
		return nil, refuse(j, "held", ended(j), "")
	case j.State == job.Running:
		return nil, refuse(j, "held", "it is running on "+j.Worker, "stop it instead: "+command("cancel", j.ID))
	case j.Reason == job.ReasonQuarantined:
		return nil, refuse(j, "held", "it is "+j.Message, "it stays so until a person decides: "+command("release", j.ID))
	case j.Reason == job.ReasonHeld:
		return nil, nil
	}
	c := &change{job: j}
	c.hold(job.ReasonHeld, saying("held", a.By, a.Why))
	c.say(job.EventHeld, a)
	return c, nil
}

func release(j job.Job, a Actor, now time.Time) (*change, error) {
	switch {
	case j.State == job.Pending && j.Reason.Held():
	case j.State == job.Pending && (j.Reason == job.ReasonRetry || j.Reason == job.ReasonBeginTime):
		return nil, refuse(j, "released", fmt.Sprintf("it is not held: it waits until %s", clock(j.RunAt)), retryHint(j))
	case j.State.Terminal():
		return nil, refuse(j, "released", ended(j), retryHint(j))
	default:
		return nil, refuse(j, "released", fmt.Sprintf("it is not held: it is %s", j.State), "")
	}
	c := &change{job: j}
	if j.Reason == job.ReasonQuarantined {
		// A person has looked: the losses that led here are not held against it again.
		c.job.Losses, c.job.Failure = 0, nil
	}
	c.enqueue(now)
	kind := job.EventQueued
	if c.job.State == job.Pending {
		kind = job.EventReleased
	}
	c.say(kind, a)
	return c, nil
}

func setPriority(j job.Job, p job.Priority) (*change, error) {
	if p < job.PriorityLow || p > job.PriorityUrgent {
		return nil, job.InvalidInput("the priority was not changed", []job.Problem{{Field: "priority",
			Message: fmt.Sprintf("%d is outside %d … %d", p, job.PriorityLow, job.PriorityUrgent)}})
	}
	switch {
	case j.State.Terminal():
		return nil, refuse(j, "moved", ended(j), "")
	case j.State == job.Running:
		return nil, refuse(j, "moved", "it is running on "+j.Worker+" already", "")
	case j.Spec.Priority == p:
		return nil, nil
	}
	c := &change{job: j}
	c.job.Spec.Priority = p
	return c, nil
}
