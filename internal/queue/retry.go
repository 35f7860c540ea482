package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// Retry starts a failed or cancelled job again with fresh budgets, or a job
// that waits for its retry at once.
func (s *Service) Retry(ctx context.Context, t job.Tenant, id job.ID, a Actor) (job.Job, error) {
	return s.decide(ctx, t, id, func(j job.Job, now time.Time) (*change, error) { return retry(j, a, now) })
}

func retry(j job.Job, a Actor, now time.Time) (*change, error) {
	c := &change{job: j}
	switch {
	case j.State == job.Failed || j.State == job.Cancelled:
		// The attempt counter goes on: its numbers are directories and rows.
		c.job.Failures, c.job.Losses = 0, 0
		c.job.Cancel, c.job.Failure, c.job.Progress = nil, nil, nil
		c.job.Verdict, c.job.Result, c.job.EndedAt = "", nil, time.Time{}
	case j.State == job.Pending && j.Reason == job.ReasonRetry:
	case j.State == job.Pending && j.Reason.Held():
		return nil, refuse(j, "retried", "it is "+j.Message, "set it free: "+command("release", j.ID))
	case j.State == job.Pending && j.Reason == job.ReasonBeginTime:
		return nil, refuse(j, "retried", fmt.Sprintf("it has not run yet: it waits until %s, as it was submitted", clock(j.RunAt)), "")
	case j.State == job.Completed:
		return nil, refuse(j, "retried", ended(j), "submit it again as a new job")
	default:
		return nil, refuse(j, "retried", fmt.Sprintf("it is %s already", j.State), "")
	}
	c.job.State, c.job.Reason, c.job.RunAt, c.job.QueuedAt = job.Queued, "", time.Time{}, now
	c.job.Message = saying("retried", a.By, a.Why)
	c.say(job.EventQueued, a)
	return c, nil
}

// retryHint is the command that makes a job run after all.
func retryHint(j job.Job) string {
	if j.State == job.Failed || j.State == job.Cancelled || j.Reason == job.ReasonRetry {
		return "start it: " + command("retry", j.ID)
	}
	return ""
}
