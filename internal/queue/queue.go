// Package queue decides what runs next and what happens when it ends. It is
// the only package that moves a job from one state to another. The decisions
// are pure functions of a job, an event and a time (decide.go); Service is the
// shell around them that reads and writes the store.
package queue

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// Service is the queue. Any number of them may share one store.
//
// What it keeps in memory are hints: losing them costs a little time after a
// restart, never an outcome.
type Service struct {
	st  store.Store
	opt Options

	prepared atomic.Bool
	thawed   thawed
	bells    bells
	ends     gathered
	recent   recentQueues
	allowed  allowances
	told     told
	reserved reservations
}

// Options of a Service; the zero value of a field means its default.
type Options struct {
	// Check completes and validates a spec before it is stored; nil accepts all.
	Check func(job.Spec) (job.Spec, []job.Warning, error)
	// Name identifies this process for the leader's lease.
	Name string
	// Session is how long a worker may be silent before contact counts as lost (60 s).
	Session time.Duration
	// LostAfter is how long a silent worker keeps its jobs (15 min).
	LostAfter time.Duration
	// Sweep is the period of the leader's duties (10 s).
	Sweep time.Duration
	// MaxQueued bounds the PENDING and QUEUED jobs of a tenant (1 000 000).
	MaxQueued int64
	// Shares is a tenant's entitlement; absent means 1.
	Shares map[job.Tenant]float64
	// Rand returns a number in [0, 1) for the jitter of retries.
	Rand func() float64
}

// Actor says who asks for a change and why.
type Actor struct {
	By  string
	Why string
	// Now cancels without the time that a program may take to end cleanly.
	Now bool
}

// New returns a queue on st.
func New(st store.Store, opt Options) *Service {
	if opt.Name == "" {
		opt.Name = string(job.NewID())
	}
	if opt.Session <= 0 {
		opt.Session = time.Minute
	}
	if opt.LostAfter <= 0 {
		opt.LostAfter = 15 * time.Minute
	}
	if opt.Sweep <= 0 {
		opt.Sweep = 10 * time.Second
	}
	if opt.MaxQueued <= 0 {
		opt.MaxQueued = 1_000_000
	}
	if opt.Rand == nil {
		opt.Rand = rand.Float64
	}
	return &Service{st: st, opt: opt}
}

// Changed returns a channel that is closed by the next commit of this process
// that changed a job, a queue or a worker.
func (s *Service) Changed() <-chan struct{} { return s.bells.changed.next() }

// ContactLost reports whether a RUNNING job's worker has been silent for
// longer than its session.
func (s *Service) ContactLost(w store.Worker, now time.Time) bool {
	return now.Sub(w.SeenAt) > s.opt.Session
}

// write commits fn and then wakes whoever waits for what it did.
func (s *Service) write(ctx context.Context, fn func(store.Tx) (wakes, error)) error {
	var w wakes
	err := s.st.Write(ctx, func(tx store.Tx) (err error) {
		w, err = fn(tx)
		return err
	})
	if err == nil && w != 0 {
		s.bells.ring(w)
		if others, shared := s.st.(store.Notifier); shared {
			others.Notify(uint8(w))
		}
	}
	return err
}

// decide changes one job as a person asked. A nil change means that there is
// nothing to do.
func (s *Service) decide(ctx context.Context, t job.Tenant, id job.ID, step func(job.Job, time.Time) (*change, error)) (job.Job, error) {
	var j job.Job
	err := s.write(ctx, func(tx store.Tx) (wakes, error) {
		var err error
		if j, err = lockJob(ctx, tx, t, id); err != nil {
			return 0, err
		}
		c, err := step(j, tx.Now())
		if c == nil || err != nil {
			return 0, err
		}
		w, err := apply(ctx, tx, c)
		j = c.job
		return w, err
	})
	return j, err
}

// lockJob reads a job for a change. A job of another tenant is as absent as one
// that does not exist (G17).
func lockJob(ctx context.Context, tx store.Tx, t job.Tenant, id job.ID) (job.Job, error) {
	jobs, err := tx.LockJobs(ctx, []job.ID{id})
	if err != nil {
		return job.Job{}, fmt.Errorf("lock job %s: %w", id, err)
	}
	if len(jobs) == 0 {
		if err := unreadable(ctx, tx, id); err != nil {
			return job.Job{}, err
		}
	}
	if len(jobs) == 0 || t != "" && jobs[0].Tenant != t {
		return job.Job{}, noJob(id)
	}
	return jobs[0], nil
}

// unreadable returns why a job that could not be locked is nevertheless there.
// A row that this version cannot read is a fault of ours, for which no result
// is refused and no program stopped; a job that is absent is nobody's.
func unreadable(ctx context.Context, tx store.ReadTx, id job.ID) error {
	if _, err := tx.Job(ctx, "", id); err != nil && job.CodeOf(err) != job.NotFound {
		return fmt.Errorf("read job %s: %w", id, err)
	}
	return nil
}

func noJob(id job.ID) error {
	return &job.Error{Code: job.NotFound, Message: fmt.Sprintf("there is no job %s", id), Fix: "nanoos ls --all"}
}

// apply stores what was decided: the jobs, their attempts and their history
// become visible together (G4, I13).
func apply(ctx context.Context, tx store.Tx, changes ...*change) (wakes, error) {
	var (
		jobs           []job.Job
		added, changed []job.Attempt
		events         []job.Event
		w              = wakeChanged
	)
	for _, c := range changes {
		if c.returned {
			if err := passQueued(ctx, tx, c); err != nil {
				return 0, err
			}
		}
		jobs = append(jobs, c.job)
		events = append(events, c.events...)
		for _, a := range c.earlier {
			if a.Number > c.rows {
				added = append(added, a)
			} else {
				changed = append(changed, a)
			}
		}
		if c.attempt != nil && c.newAttempt {
			added = append(added, *c.attempt)
		} else if c.attempt != nil {
			changed = append(changed, *c.attempt)
		}
		w |= wakesOf(c.job)
	}
	if err := tx.SaveJobs(ctx, jobs); err != nil {
		return 0, fmt.Errorf("save %d jobs: %w", len(jobs), err)
	}
	for i, c := range changes {
		c.job.Rev = jobs[i].Rev
	}
	if len(added) > 0 {
		if err := tx.InsertAttempts(ctx, added); err != nil {
			return 0, fmt.Errorf("add %d attempts: %w", len(added), err)
		}
	}
	if len(changed) > 0 {
		if err := tx.SaveAttempts(ctx, changed); err != nil {
			return 0, fmt.Errorf("save %d attempts: %w", len(changed), err)
		}
	}
	if len(events) == 0 {
		return w, nil
	}
	if err := tx.AppendEvents(ctx, events); err != nil {
		return 0, fmt.Errorf("append %d events: %w", len(events), err)
	}
	return w, nil
}

// passQueued takes a job that waits to QUEUED, from where alone it may run again.
func passQueued(ctx context.Context, tx store.Tx, c *change) error {
	step := []job.Job{c.job}
	step[0].State = job.Queued
	if err := tx.SaveJobs(ctx, step); err != nil {
		return fmt.Errorf("queue job %s: %w", c.job.ID, err)
	}
	c.job.Rev = step[0].Rev
	return nil
}
