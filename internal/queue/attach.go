package queue

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// Attach begins the session of a worker and settles what its host ran before
// (section 2.5 of the guarantees). Every running job that becomes the worker's
// gets a new fence: an earlier process of the same worker cannot speak for it.
func (s *Service) Attach(ctx context.Context, sess job.Session, found []job.Found) (job.Attachment, error) {
	if err := validSession(sess); err != nil {
		return job.Attachment{}, err
	}
	chance := s.opt.Rand()
	var at job.Attachment
	err := s.write(ctx, func(tx store.Tx) (wakes, error) {
		at = job.Attachment{}
		if err := s.moving(ctx, tx); err != nil {
			return 0, err
		}
		old, err := tx.Workers(ctx)
		if err != nil {
			return 0, fmt.Errorf("read workers: %w", err)
		}
		a := attaching{Service: s, tx: tx, sess: sess, workers: make(map[string]store.Worker, len(old)), chance: chance}
		for _, w := range old {
			a.workers[w.Worker] = w
		}
		if a.thawed, err = thawedAt(ctx, tx); err != nil {
			return 0, err
		}
		if err := a.enter(ctx); err != nil {
			return 0, err
		}
		if err := a.takeOver(ctx, found); err != nil {
			return 0, err
		}
		at.Carry, at.Fenced = a.carry, a.fenced
		return wakeChanged | a.woken, nil
	})
	if err != nil {
		return job.Attachment{}, fmt.Errorf("attach worker %s: %w", sess.Worker, err)
	}
	return at, nil
}

func validSession(sess job.Session) error {
	var v findings
	for _, f := range []struct{ name, value string }{{"worker", sess.Worker}, {"host", sess.Host}} {
		if f.value == "" {
			v.add(f.name, "it is missing", "", "")
		}
		v.text(f.name, f.value, maxKeyLength)
	}
	inRange(&v, "offer.cpus", sess.Offer.CPUs, 0, maxCPUs)
	inRange(&v, "offer.memory", sess.Offer.Memory, 0, maxMemory)
	inRange(&v, "offer.gpus", sess.Offer.GPUs, 0, maxGPUs)
	return job.InvalidInput("the worker was not attached", v.problems)
}

// attaching is one Attach under way.
type attaching struct {
	*Service
	tx      store.Tx
	sess    job.Session
	workers map[string]store.Worker // as they were before
	chance  float64
	thawed  time.Time // the last thaw; zero for none

	carry  []job.Lease
	fenced []job.Found
	woken  wakes
}

// enter stores the session. Two machines under one name would take each
// other's jobs, so the second is refused while the first is heard of.
func (a *attaching) enter(ctx context.Context) error {
	now := a.tx.Now()
	w := store.Worker{Session: a.sess, StartedAt: now, SeenAt: now}
	if old, known := a.workers[a.sess.Worker]; known {
		if old.Host != a.sess.Host && a.alive(old) {
			return &job.Error{Code: job.Conflict, Message: fmt.Sprintf("worker name %q is in use", a.sess.Worker),
				Why: fmt.Sprintf("another host attached under it, and was heard of at %s", clock(old.SeenAt)),
				Fix: "give this worker a name of its own"}
		}
		w.Draining = old.Draining
	}
	if err := a.tx.SaveWorker(ctx, w); err != nil {
		return fmt.Errorf("save worker: %w", err)
	}
	return nil
}

// alive reports whether a worker is attached and heard of.
func (a *attaching) alive(w store.Worker) bool {
	return w.EndedAt.IsZero() && !a.ContactLost(w, a.tx.Now())
}

// takeOver gives the worker what its host ran, and tells it what of the found
// it has lost.
func (a *attaching) takeOver(ctx context.Context, found []job.Found) error {
	running, err := a.runningHere(ctx)
	if err != nil {
		return err
	}
	ids := make([]job.ID, 0, len(found))
	for _, f := range found {
		ids = append(ids, f.ID)
	}
	for _, j := range running {
		ids = append(ids, j.ID)
	}
	slices.Sort(ids)
	locked, err := a.tx.LockJobs(ctx, slices.Compact(ids))
	if err != nil {
		return fmt.Errorf("lock %d jobs: %w", len(ids), err)
	}
	onDisk := make(map[job.ID][]job.Found)
	for _, f := range found {
		onDisk[f.ID] = append(onDisk[f.ID], f)
	}
	for _, j := range locked {
		attempt, err := a.settle(ctx, j, onDisk[j.ID])
		if err != nil {
			return fmt.Errorf("job %s: %w", j.ID, err)
		}
		if err := a.bury(ctx, j, attempt, onDisk[j.ID]); err != nil {
			return err
		}
		delete(onDisk, j.ID)
	}
	// What is left is of jobs that this installation does not know.
	for _, f := range found {
		if _, unknown := onDisk[f.ID]; unknown && unreadable(ctx, a.tx, f.ID) == nil {
			a.fenced = append(a.fenced, f)
		}
	}
	return nil
}

// bury tells the worker of the attempts of a job that it does not carry on, and
// which of them were finished before it could remove their files.
func (a *attaching) bury(ctx context.Context, j job.Job, carried int, found []job.Found) error {
	found = slices.DeleteFunc(found, func(f job.Found) bool { return f.Attempt == carried })
	if len(found) == 0 {
		return nil
	}
	history, err := attemptsOf(ctx, a.tx, j)
	if err != nil {
		return err
	}
	for _, f := range found {
		f.Recorded = slices.ContainsFunc(history, func(at job.Attempt) bool {
			return at.Number == f.Attempt && !at.EndedAt.IsZero() && at.Outcome != outcomeLost && at.Outcome != "unknown"
		})
		a.fenced = append(a.fenced, f)
	}
	return nil
}

// runningHere returns the running jobs of this worker and of those that shared
// its host.
func (a *attaching) runningHere(ctx context.Context) ([]job.Job, error) {
	names := []string{a.sess.Worker}
	for name, w := range a.workers {
		if w.Host == a.sess.Host && name != a.sess.Worker {
			names = append(names, name)
		}
	}
	var running []job.Job
	for _, name := range names {
		jobs, err := a.tx.RunningOn(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("read the jobs of worker %s: %w", name, err)
		}
		running = append(running, jobs...)
	}
	return running, nil
}

// settle decides one job, and returns the number of the attempt that the worker
// carries on, 0 for none.
func (a *attaching) settle(ctx context.Context, j job.Job, found []job.Found) (int, error) {
	waits, unknown := j.State == job.Queued || j.State == job.Pending, unknownOf(j, found)
	if j.State != job.Running && !waits && unknown == 0 {
		return 0, nil
	}
	history, err := attemptsOf(ctx, a.tx, j)
	if err != nil {
		return 0, err
	}
	if unknown > 0 {
		return a.settleUnknown(ctx, j, history, unknown)
	}
	if len(history) == 0 {
		return 0, nil
	}
	last := history[len(history)-1]
	onDisk := slices.ContainsFunc(found, func(f job.Found) bool { return f.Attempt == j.Attempt })
	switch {
	case waits && onDisk && last.Host == a.sess.Host && canReturn(j, last):
		c := comeBack(j, last)
		if err := a.apply(ctx, c); err != nil {
			return 0, err
		}
		j, last = c.job, *c.attempt
	case j.State == job.Running && last.Host == a.sess.Host && !onDisk && a.mayTake(j, false) && last.StartedAt.Before(a.thawed):
		// It may have run to its end, and been cleared away, after the backup.
		return 0, a.apply(ctx, lose(j, history, "nothing of it was found on its host after a restore", a.tx.Now(), a.chance))
	case j.State == job.Running && last.Host == a.sess.Host && a.mayTake(j, onDisk):
	case j.State == job.Running && j.Worker == a.sess.Worker && last.Host != a.sess.Host:
		// The name has moved to another machine, whose disk has no trace of the run.
		why := fmt.Sprintf("worker %s came back on another host", j.Worker)
		return 0, a.apply(ctx, lose(j, history, why, a.tx.Now(), a.chance))
	default:
		return 0, nil
	}
	c := adopt(j, last, a.sess.Worker, a.sess.Host)
	if err := a.apply(ctx, c); err != nil {
		return 0, err
	}
	a.carry = append(a.carry, job.Lease{Job: c.job, Fence: c.job.Fence})
	return j.Attempt, nil
}

// mayTake reports whether a job that runs on this host is this worker's: its
// own, or one of a worker that is gone, or one whose files it owns.
func (a *attaching) mayTake(j job.Job, onDisk bool) bool {
	return j.Worker == a.sess.Worker || onDisk || !a.alive(a.workers[j.Worker])
}

func (a *attaching) apply(ctx context.Context, c *change) error {
	w, err := apply(ctx, a.tx, c)
	a.woken |= w
	return err
}
