package queue

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// maxFinish bounds the endings of one transaction, each of which may carry a
// result: it must end well within the time that a statement is given.
const maxFinish = 256

// Finish ends an attempt; job.Fenced when the lease is no longer current. To
// repeat what has been stored already is no error: the answer to the first call
// may have been lost (R9).
//
// Calls that come while one commits are committed together by the next.
func (s *Service) Finish(ctx context.Context, l job.Lease, out job.Outcome) error {
	return s.ends.finish(ctx, s, job.Ending{ID: l.Job.ID, Fence: l.Fence, Outcome: out})
}

// FinishAll ends attempts, in one transaction if it can, and returns an error
// or nil for each. Job, attempt, result, retry decision and history of an
// attempt become visible together, guarded by its fence: one outcome, from the
// attempt that was current (G3, G4).
func (s *Service) FinishAll(ctx context.Context, ends []job.Ending) []error {
	errs := make([]error, len(ends))
	rest := make([]int, len(ends))
	for i := range ends {
		rest[i] = i
	}
	for len(rest) > 0 {
		var batch []int
		batch, rest = distinct(ends, rest)
		s.finishBatch(ctx, ends, batch, errs)
	}
	return errs
}

// distinct takes what one transaction may end from the front of rest, each job
// once: a second report of a job is judged by what the first made of it.
func distinct(ends []job.Ending, rest []int) (batch, later []int) {
	seen := make(map[job.ID]bool, len(rest))
	for _, i := range rest {
		if id := ends[i].ID; !seen[id] && len(batch) < maxFinish {
			seen[id] = true
			batch = append(batch, i)
		} else {
			later = append(later, i)
		}
	}
	return batch, later
}

// finishBatch ends the attempts of different jobs together. What the store
// refuses together is tried one by one, so that a row that cannot be read or
// written keeps nobody else's.
func (s *Service) finishBatch(ctx context.Context, ends []job.Ending, batch []int, errs []error) {
	err := s.write(ctx, func(tx store.Tx) (wakes, error) {
		if err := s.moving(ctx, tx); err != nil {
			return 0, err
		}
		e := ending{tx: tx, ends: ends, chance: s.opt.Rand, errs: errs}
		return e.all(ctx, batch)
	})
	if err == nil {
		return
	}
	if len(batch) > 1 && job.CodeOf(err) != job.Unavailable && ctx.Err() == nil {
		for _, i := range batch {
			s.finishBatch(ctx, ends, []int{i}, errs)
		}
		return
	}
	for _, i := range batch {
		errs[i] = err
	}
}

// ending is the end of some attempts under way.
type ending struct {
	tx     store.Tx
	ends   []job.Ending
	chance func() float64
	errs   []error // by ending
}

// all decides for each of the batch and stores what was decided for all. An
// error concerns the whole batch.
func (e *ending) all(ctx context.Context, batch []int) (wakes, error) {
	ids := make([]job.ID, len(batch))
	for i, n := range batch {
		ids[i] = e.ends[n].ID
		e.errs[n] = nil // the transaction may run again
	}
	jobs, history, err := lockAll(ctx, e.tx, ids)
	if err != nil {
		return 0, err
	}
	if err := e.takeBack(ctx, batch, jobs, history); err != nil {
		return 0, err
	}
	var changes []*change
	for _, n := range batch {
		end := e.ends[n]
		j, found := jobs[end.ID]
		if !found {
			if e.errs[n] = unreadable(ctx, e.tx, end.ID); e.errs[n] == nil {
				e.errs[n] = noJob(end.ID)
			}
			continue
		}
		c, err := finishOne(j, history[end.ID], end, e.tx.Now(), e.chance())
		if e.errs[n] = err; c != nil {
			changes = append(changes, c)
		}
	}
	if len(changes) == 0 {
		return 0, nil
	}
	return apply(ctx, e.tx, changes...)
}

// takeBack lets the attempts run again that were given up although nobody else
// has begun: their outcomes are still worth having (R10).
func (e *ending) takeBack(ctx context.Context, batch []int, jobs map[job.ID]job.Job, history map[job.ID][]job.Attempt) error {
	var back []*change
	for _, n := range batch {
		end := e.ends[n]
		j, as := jobs[end.ID], history[end.ID]
		if j.Fence == end.Fence && len(as) > 0 && canReturn(j, as[len(as)-1]) {
			back = append(back, comeBack(j, as[len(as)-1]))
		}
	}
	if len(back) == 0 {
		return nil
	}
	if _, err := apply(ctx, e.tx, back...); err != nil {
		return err
	}
	for _, c := range back {
		jobs[c.job.ID] = c.job
		as := history[c.job.ID]
		as[len(as)-1] = *c.attempt
	}
	return nil
}

// finishOne decides what the report of an end does to a job; a nil change means
// that there is nothing to do.
func finishOne(j job.Job, history []job.Attempt, end job.Ending, now time.Time, chance float64) (*change, error) {
	if beforeRestore(end.Fence, j.Fence) {
		return nil, attachAgain(j.ID)
	}
	if j.Fence != end.Fence || len(history) == 0 {
		return nil, fenced(j, end.Fence)
	}
	if j.State == job.Running {
		return finish(j, history, end.Outcome, now, chance), nil
	}
	if repeats(j, history[len(history)-1], end.Outcome) {
		return nil, nil
	}
	return nil, fenced(j, end.Fence)
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

// lockAll locks jobs for a change and reads their attempts.
func lockAll(ctx context.Context, tx store.Tx, ids []job.ID) (map[job.ID]job.Job, map[job.ID][]job.Attempt, error) {
	// In one order everywhere: nobody waits for somebody who waits for him.
	ids = slices.Sorted(slices.Values(ids))
	locked, err := tx.LockJobs(ctx, ids)
	if err != nil {
		return nil, nil, fmt.Errorf("lock %d jobs: %w", len(ids), err)
	}
	jobs := make(map[job.ID]job.Job, len(locked))
	for _, j := range locked {
		jobs[j.ID] = j
	}
	history, err := tx.AttemptsOf(ctx, ids)
	if err != nil {
		return nil, nil, fmt.Errorf("read the attempts of %d jobs: %w", len(ids), err)
	}
	return jobs, history, nil
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
