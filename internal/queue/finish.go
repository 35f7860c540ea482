package queue

import (
	"context"
	"fmt"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// Finish ends an attempt; job.Fenced when the lease is no longer current. To
// repeat what has been stored already is no error: the answer to the first call
// may have been lost (R9).
//
// Job, attempt, result, retry decision and history are one transaction, guarded
// by the fence: one outcome, from the attempt that was current (G3, G4).
func (s *Service) Finish(ctx context.Context, l job.Lease, out job.Outcome) error {
	chance := s.opt.Rand()
	return s.write(ctx, func(tx store.Tx) (wakes, error) {
		j, err := lockJob(ctx, tx, "", l.Job.ID)
		if err != nil {
			return 0, err
		}
		history, err := attemptsOf(ctx, tx, j)
		if err != nil {
			return 0, err
		}
		if j.Fence != l.Fence || len(history) == 0 {
			return 0, fenced(j, l.Fence)
		}
		last := &history[len(history)-1]
		if canReturn(j, *last) {
			// Given up, but nobody else has begun: the outcome is still worth having.
			c := comeBack(j, *last)
			if _, err := apply(ctx, tx, c); err != nil {
				return 0, err
			}
			j, *last = c.job, *c.attempt
		}
		if j.State != job.Running {
			if repeats(j, *last, out) {
				return 0, nil
			}
			return 0, fenced(j, l.Fence)
		}
		return apply(ctx, tx, finish(j, history, out, tx.Now(), chance))
	})
}

// repeats reports whether an outcome is the one that ended the attempt.
func repeats(j job.Job, a job.Attempt, out job.Outcome) bool {
	return a.Outcome != "" && (a.Outcome == outcomeOf(out, judge(j.Spec, out)) || a.Outcome == outcomeCancelled)
}

func fenced(j job.Job, f job.Fence) error {
	why := fmt.Sprintf("the attempt of fence %d has ended, and the job is %s", f, j.State)
	if j.Fence != f {
		why = fmt.Sprintf("fence %d belongs to worker %s now; the report carries fence %d", j.Fence, j.Worker, f)
	}
	return &job.Error{Code: job.Fenced, Message: fmt.Sprintf("the lease of job %s is no longer current", j.ID), Why: why}
}

// attemptsOf reads the attempts of a job, oldest first.
func attemptsOf(ctx context.Context, tx store.ReadTx, j job.Job) ([]job.Attempt, error) {
	as, err := tx.Attempts(ctx, j.Tenant, j.ID)
	if err != nil {
		return nil, fmt.Errorf("read attempts of job %s: %w", j.ID, err)
	}
	return as, nil
}

// Leave ends the session; running programs go on and wait to be adopted, as
// long as those of a silent worker do.
func (s *Service) Leave(ctx context.Context, worker string) error {
	return s.write(ctx, func(tx store.Tx) (wakes, error) {
		w, err := session(ctx, tx, worker)
		if job.CodeOf(err) == job.NotFound {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		w.SeenAt, w.EndedAt = tx.Now(), tx.Now()
		if err := tx.SaveWorker(ctx, w); err != nil {
			return 0, fmt.Errorf("save worker %s: %w", worker, err)
		}
		// Its claims that still wait end with this.
		return wakeChanged | wakeWork, nil
	})
}
