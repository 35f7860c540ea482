package queue

import (
	"context"
	"fmt"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// DrainWorker keeps a worker from claiming; what it runs goes on. It stays so
// when the worker restarts, until ResumeWorker.
func (s *Service) DrainWorker(ctx context.Context, name string, a Actor) error {
	return s.setDraining(ctx, name, true, job.EventWorkerDrained, a)
}

// ResumeWorker undoes DrainWorker.
func (s *Service) ResumeWorker(ctx context.Context, name string, a Actor) error {
	return s.setDraining(ctx, name, false, job.EventWorkerResumed, a)
}

func (s *Service) setDraining(ctx context.Context, name string, draining bool, kind job.EventKind, a Actor) error {
	return s.write(ctx, func(tx store.Tx) (wakes, error) {
		w, err := knownWorker(ctx, tx, name)
		if err != nil || w.Draining == draining {
			return 0, err
		}
		w.Draining = draining
		if err := tx.SaveWorker(ctx, w); err != nil {
			return 0, fmt.Errorf("save worker %s: %w", name, err)
		}
		if err := tx.AppendEvents(ctx, []job.Event{notice(kind, name, a)}); err != nil {
			return 0, fmt.Errorf("append an event: %w", err)
		}
		// A claim of it that waits looks again.
		return wakeChanged | wakeWork, nil
	})
}

// ForgetWorker removes a worker that is not heard of any more. What it ran is
// given up at once, without waiting for it to come back.
func (s *Service) ForgetWorker(ctx context.Context, name string, a Actor) error {
	return s.write(ctx, func(tx store.Tx) (wakes, error) {
		w, err := knownWorker(ctx, tx, name)
		if err != nil {
			return 0, err
		}
		if w.EndedAt.IsZero() && !s.ContactLost(w, tx.Now()) {
			return 0, &job.Error{Code: job.Conflict, Message: fmt.Sprintf("worker %q was not forgotten", name),
				Why: "it was heard of at " + clock(w.SeenAt), Fix: "stop it first, or keep it from claiming: nanoos worker drain " + name}
		}
		woken, err := s.loseAll(ctx, tx, name, saying("worker "+name+" was forgotten", a.By, a.Why))
		if err != nil {
			return 0, err
		}
		if err := tx.DeleteWorker(ctx, name); err != nil {
			return 0, fmt.Errorf("forget worker %s: %w", name, err)
		}
		if err := tx.AppendEvents(ctx, []job.Event{notice(job.EventWorkerForgotten, name, a)}); err != nil {
			return 0, fmt.Errorf("append an event: %w", err)
		}
		return woken | wakeChanged, nil
	})
}

// loseAll gives up everything that a worker runs.
func (s *Service) loseAll(ctx context.Context, tx store.Tx, worker, why string) (wakes, error) {
	running, err := tx.RunningOn(ctx, worker)
	if err != nil || len(running) == 0 {
		return 0, err
	}
	ids := make([]job.ID, len(running))
	for i, j := range running {
		ids[i] = j.ID
	}
	jobs, history, err := lockAll(ctx, tx, ids)
	if err != nil {
		return 0, err
	}
	var changes []*change
	for _, id := range ids {
		if j := jobs[id]; j.State == job.Running && j.Worker == worker && len(history[id]) > 0 {
			changes = append(changes, lose(j, history[id], why, tx.Now(), s.opt.Rand()))
		}
	}
	if len(changes) == 0 {
		return 0, nil
	}
	return apply(ctx, tx, changes...)
}

// knownWorker returns a worker for a change by a person.
func knownWorker(ctx context.Context, tx store.ReadTx, name string) (store.Worker, error) {
	w, err := tx.Worker(ctx, name)
	if job.CodeOf(err) == job.NotFound {
		return w, &job.Error{Code: job.NotFound, Message: fmt.Sprintf("there is no worker %.80q", name), Fix: "nanoos worker list"}
	}
	if err != nil {
		return w, fmt.Errorf("read worker %s: %w", name, err)
	}
	return w, nil
}
