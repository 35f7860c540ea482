package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// After a restore the hosts know more than the database: attempts that began
// after the backup was taken. The rules here decide what becomes of them (F26).

// thawedAt returns when the installation was last thawed; zero means never.
func thawedAt(ctx context.Context, tx store.ReadTx) (time.Time, error) {
	text, err := tx.Meta(ctx, metaThawed)
	if err != nil || text == "" {
		return time.Time{}, err
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("read when the installation was thawed: %w", err)
	}
	return at, nil
}

// unknownOf returns the newest attempt on a disk that began although the row of
// its job does not say so, 0 for none.
func unknownOf(j job.Job, found []job.Found) int {
	newest := 0
	for _, f := range found {
		if f.Started && f.Attempt > j.Attempt {
			newest = max(newest, f.Attempt)
		}
	}
	return newest
}

// notInBackup is what is known of an attempt between those of the backup and
// one that was found on a disk.
func notInBackup(j job.Job, number int, now time.Time) job.Attempt {
	return job.Attempt{Job: j.ID, Number: number, StartedAt: now, EndedAt: now, Outcome: outcomeLost,
		Failure: &job.Failure{Class: job.ClassInfrastructure, Code: "unknown", Message: "the attempt is not in the backup that was restored"}}
}

// recognise counts the attempts up to number n, so that none of them is used
// again. The fence rises as if they had been claimed.
func recognise(j job.Job, history []job.Attempt, n int, now time.Time) *change {
	c := &change{job: j, rows: len(history)}
	for number := j.Attempt + 1; number < n; number++ {
		c.earlier = append(c.earlier, notInBackup(j, number, now))
	}
	a := notInBackup(j, n, now)
	c.attempt, c.newAttempt = &a, n > len(history)
	c.job.Fence += job.Fence(n - j.Attempt)
	c.job.Attempt = n
	return c
}

// takeUp lets a job go on with an attempt that the backup did not have. One that
// the backup has as running was over when this one began.
func takeUp(j job.Job, history []job.Attempt, n int, worker, host string, now time.Time) *change {
	c := recognise(j, history, n, now)
	if j.State == job.Running {
		old := history[j.Attempt-1]
		gone := notInBackup(j, old.Number, now)
		old.EndedAt, old.Outcome = now, outcomeLost
		old.Failure = gone.Failure
		old.Failure.Message = "a later attempt was found; how this one ended is not in the backup that was restored"
		c.earlier = append([]job.Attempt{old}, c.earlier...)
	} else {
		c.returned = true
	}
	a := c.attempt
	a.Worker, a.Host, a.EndedAt, a.Outcome, a.Failure = worker, host, time.Time{}, "", nil
	c.job.State, c.job.Reason, c.job.Message = job.Running, "", ""
	c.job.Failure, c.job.RunAt, c.job.Progress = nil, time.Time{}, nil
	c.job.Worker, c.job.StartedAt = worker, now
	c.say(job.EventAdopted, Actor{Why: "the attempt was found on its host; it is not in the backup that was restored"})
	return c
}

// setAside counts an attempt that the backup did not have and that may not go
// on, for a person has held its job since.
func setAside(j job.Job, history []job.Attempt, n int, worker, host string, now time.Time) *change {
	c := recognise(j, history, n, now)
	c.attempt.Worker, c.attempt.Host = worker, host
	c.say(job.EventLost, Actor{Why: fmt.Sprintf("attempt %d was found on its host; it is not in the backup that was restored, and the job is held", n)})
	return c
}

// settleUnknown decides about an attempt that the row of its job does not know,
// and returns the number of the attempt that the worker carries on, 0 for none.
//
// What ran last goes on, unless somebody speaks for the job already. Then the
// number stays unknown: a worker starts nothing under a number that its disk
// has, and reports it as used.
func (a *attaching) settleUnknown(ctx context.Context, j job.Job, history []job.Attempt, n int) (int, error) {
	worker, host, now := a.sess.Worker, a.sess.Host, a.tx.Now()
	switch {
	case j.State.Terminal():
		return 0, nil
	case j.State == job.Pending && j.Reason.Held():
		return 0, a.apply(ctx, setAside(j, history, n, worker, host, now))
	case j.State == job.Running && j.Worker != worker && a.alive(a.workers[j.Worker]):
		return 0, nil
	}
	c := takeUp(j, history, n, worker, host, now)
	if err := a.apply(ctx, c); err != nil {
		return 0, err
	}
	a.carry = append(a.carry, job.Lease{Job: c.job, Fence: c.job.Fence})
	return n, nil
}
