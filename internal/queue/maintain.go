package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

const (
	// promoteBatch bounds a transaction when many jobs become due at once (F32).
	promoteBatch = 500
	// forgetAfter is how long a worker that is gone stays listed for people.
	forgetAfter = 24 * time.Hour
	// gapSweeps is for how many sweeps nobody may have led for the next leader
	// to go on with the term of the last.
	gapSweeps = 3
	// metaTerm holds the term of the leader, for the next one.
	metaTerm = "term"
	// dutyTimeout keeps a stalled store from stopping the leader for good.
	dutyTimeout = 15 * time.Second
)

// Maintain runs the leader's duties until ctx ends: promote jobs that are due,
// release the jobs of lost workers. Every process runs it; one leads. It also
// hears what the other processes have done.
func (s *Service) Maintain(ctx context.Context) error {
	var listening sync.WaitGroup
	defer listening.Wait()
	if others, shared := s.st.(store.Notifier); shared {
		listening.Go(func() { s.listen(ctx, others) })
	}
	var l leader
	for {
		due := s.bells.due.next()
		next, err := s.maintain(ctx, &l)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			// The store may be back at the next sweep.
			slog.WarnContext(ctx, "queue maintenance failed", "error", err)
			due = nil
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-due:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// listen wakes who waits here for what other processes do, until ctx ends.
func (s *Service) listen(ctx context.Context, others store.Notifier) {
	for ctx.Err() == nil {
		err := others.Listen(ctx, func(kinds uint8) { s.bells.ring(wakes(kinds)) })
		if ctx.Err() != nil {
			return
		}
		slog.WarnContext(ctx, "hints of other servers are not heard", "error", err)
		timer := s.lookAgain()
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// leader is what a process knows of the term in which it leads. A term goes on
// from leader to leader for as long as somebody leads; it is kept in the store.
type leader struct {
	// since is when the term began, by the store's clock; zero when this process
	// does not lead. No worker counts as silent for longer: that nobody answered
	// it may have been our own outage.
	since time.Time
	last  time.Time // the latest duty of anybody
	kept  time.Time // what is stored as last
}

// term is a leader's, as it is stored.
type term struct {
	Since time.Time `json:"since"`
	Last  time.Time `json:"last"`
}

// serve goes on with the term, and begins a new one when nobody led for longer
// than gap: everything was down, a machine slept, a clock jumped.
func (l *leader) serve(ctx context.Context, tx store.Tx, sweep time.Duration) error {
	now := tx.Now()
	if l.since.IsZero() {
		text, err := tx.Meta(ctx, metaTerm)
		if err != nil {
			return fmt.Errorf("read the leader's term: %w", err)
		}
		var t term
		// A term that cannot be read is as good as none.
		if text != "" && json.Unmarshal([]byte(text), &t) == nil {
			l.since, l.last, l.kept = t.Since, t.Last, t.Last
		}
	}
	if l.since.IsZero() || l.since.After(now) || now.Sub(l.last) > gapSweeps*sweep {
		l.since, l.kept = now, time.Time{}
	}
	l.last = now
	if age := now.Sub(l.kept); 0 <= age && age < sweep/2 {
		return nil
	}
	text, err := json.Marshal(term{l.since, now})
	if err == nil {
		err = tx.SetMeta(ctx, metaTerm, string(text))
	}
	if err != nil {
		return fmt.Errorf("keep the leader's term: %w", err)
	}
	l.kept = now
	return nil
}

var (
	// errNotLeader ends the duties of a process that has lost the lease.
	errNotLeader = errors.New("another process leads")
	// errFrozen ends the duties in an installation that is frozen.
	errFrozen = errors.New("the installation is frozen")
)

// idle reports whether an error means that there is nothing to do for now.
func idle(err error) bool { return errors.Is(err, errNotLeader) || errors.Is(err, errFrozen) }

// maintain does what is due, and returns when to look again.
func (s *Service) maintain(ctx context.Context, l *leader) (time.Duration, error) {
	// Half a sweep: a leader that dies is followed, and what was lost with it
	// found, within two.
	next := s.opt.Sweep / 2
	if err := s.prepareOnce(ctx); err != nil {
		return next, err
	}
	err := s.promoteDue(ctx, l)
	if !idle(err) {
		err = errors.Join(err, s.loseOrphans(ctx, l), s.forgetWorkers(ctx, l))
	}
	if idle(err) {
		*l = leader{}
		return next, nil
	}
	if err != nil {
		return next, err
	}
	err = s.st.Read(ctx, func(tx store.ReadTx) error {
		at, err := tx.NextDue(ctx)
		switch {
		case err != nil || at.IsZero():
		case at.After(tx.Now()):
			// Clocks are coarse: a little late is better than many times early.
			next = min(next, max(at.Sub(tx.Now()), 10*time.Millisecond))
		default:
			// Due since a moment, or a row that cannot be changed.
			next = min(next, lookAgain)
		}
		return err
	})
	return next, err
}

// duty runs fn as the leader. The lease is kept or taken by the same
// transaction, so a process that froze and has lost it changes nothing (F48).
func (s *Service) duty(ctx context.Context, l *leader, fn func(store.Tx) (wakes, error)) error {
	ctx, cancel := context.WithTimeout(ctx, dutyTimeout)
	defer cancel()
	before := *l
	err := s.write(ctx, func(tx store.Tx) (wakes, error) {
		*l = before // the transaction may run again
		// Two duties may be late before another process takes over.
		leads, err := tx.Lead(ctx, "leader", s.opt.Name, s.opt.Sweep*3/2)
		if err != nil {
			return 0, fmt.Errorf("take the leader's lease: %w", err)
		}
		if !leads {
			return 0, errNotLeader
		}
		if why, err := s.frozen(ctx, tx); err != nil || why != "" {
			return 0, cmp.Or(err, errFrozen)
		}
		if err := l.serve(ctx, tx, s.opt.Sweep); err != nil {
			return 0, err
		}
		return fn(tx)
	})
	if err != nil {
		*l = before
	}
	return err
}

// promoteDue queues the jobs whose time has come.
func (s *Service) promoteDue(ctx context.Context, l *leader) error {
	for {
		var ids []job.ID
		promoted := 0
		err := s.duty(ctx, l, func(tx store.Tx) (wakes, error) {
			var err error
			if ids, err = tx.Due(ctx, promoteBatch); err != nil || len(ids) == 0 {
				return 0, err
			}
			var w wakes
			w, promoted, err = promoteAll(ctx, tx, ids)
			return w, err
		})
		if err != nil && len(ids) > 1 && !idle(err) {
			// One row that cannot be changed must not keep the others.
			err = s.promoteEach(ctx, l, ids)
			promoted = 0
		}
		if err != nil {
			return fmt.Errorf("promote due jobs: %w", err)
		}
		if promoted < promoteBatch {
			return nil
		}
	}
}

func (s *Service) promoteEach(ctx context.Context, l *leader, ids []job.ID) error {
	var failed []error
	for _, id := range ids {
		err := s.duty(ctx, l, func(tx store.Tx) (wakes, error) {
			w, _, err := promoteAll(ctx, tx, []job.ID{id})
			return w, err
		})
		if err != nil {
			failed = append(failed, fmt.Errorf("job %s: %w", id, err))
		}
	}
	return errors.Join(failed...)
}

func promoteAll(ctx context.Context, tx store.Tx, ids []job.ID) (wakes, int, error) {
	jobs, err := tx.LockJobs(ctx, ids)
	if err != nil {
		return 0, 0, fmt.Errorf("lock %d jobs: %w", len(ids), err)
	}
	var changes []*change
	for _, j := range jobs {
		if c := promote(j, tx.Now()); c != nil {
			changes = append(changes, c)
		}
	}
	if len(changes) == 0 {
		return 0, 0, nil
	}
	w, err := apply(ctx, tx, changes...)
	return w, len(changes), err
}

// loseOrphans gives up the attempts of workers that were silent for too long.
// Each job is a transaction of its own that looks at everything again: the
// worker may have come back since.
func (s *Service) loseOrphans(ctx context.Context, l *leader) error {
	type orphan struct {
		id  job.ID
		why string
	}
	var orphans []orphan
	err := s.st.Read(ctx, func(tx store.ReadTx) error {
		ws, err := tx.Workers(ctx)
		if err != nil {
			return fmt.Errorf("read workers: %w", err)
		}
		patience, err := s.patience(ctx, tx)
		if err != nil {
			return err
		}
		for _, w := range ws {
			if silent(w, l, tx.Now()) <= min(s.opt.Session, s.opt.LostAfter) {
				continue
			}
			jobs, err := tx.RunningOn(ctx, w.Worker)
			if err != nil {
				return fmt.Errorf("read the jobs of worker %s: %w", w.Worker, err)
			}
			for _, j := range jobs {
				if silent(w, l, tx.Now()) > patience(j) {
					orphans = append(orphans, orphan{j.ID, fmt.Sprintf("worker %s has not been heard of since %s", w.Worker, clock(w.SeenAt))})
				}
			}
		}
		return nil
	})
	failed := []error{err}
	for _, o := range orphans {
		failed = append(failed, s.duty(ctx, l, func(tx store.Tx) (wakes, error) {
			return s.loseIf(ctx, tx, o.id, o.why, func(j job.Job, w store.Worker, patience time.Duration) bool {
				return silent(w, l, tx.Now()) > patience
			})
		}))
	}
	return errors.Join(failed...)
}

// silent is how long a worker was not heard of while somebody listened.
func silent(w store.Worker, l *leader, now time.Time) time.Duration {
	if l.since.IsZero() {
		return 0
	}
	if l.since.After(w.SeenAt) {
		return now.Sub(l.since)
	}
	return now.Sub(w.SeenAt)
}

// patience returns how long the silent worker of a job keeps it.
func (s *Service) patience(ctx context.Context, tx store.ReadTx) (func(job.Job) time.Duration, error) {
	queues, err := tx.Queues(ctx)
	if err != nil {
		return nil, fmt.Errorf("read queues: %w", err)
	}
	own := make(map[string]time.Duration, len(queues))
	for _, q := range queues {
		own[q.Name] = time.Duration(q.LostAfter)
	}
	return func(j job.Job) time.Duration {
		if d := own[j.Spec.Queue]; d > 0 {
			return d
		}
		return s.opt.LostAfter
	}, nil
}

// loseIf gives up the attempt of a job that still runs and of which ok holds.
func (s *Service) loseIf(ctx context.Context, tx store.Tx, id job.ID, why string, ok func(job.Job, store.Worker, time.Duration) bool) (wakes, error) {
	j, err := lockJob(ctx, tx, "", id)
	if err != nil || j.State != job.Running {
		return 0, err
	}
	ws, err := tx.Workers(ctx)
	if err != nil {
		return 0, fmt.Errorf("read workers: %w", err)
	}
	patience, err := s.patience(ctx, tx)
	if err != nil {
		return 0, err
	}
	for _, w := range ws {
		if w.Worker == j.Worker && !ok(j, w, patience(j)) {
			return 0, nil
		}
	}
	history, err := attemptsOf(ctx, tx, j)
	if err != nil || len(history) == 0 {
		return 0, err
	}
	return apply(ctx, tx, lose(j, history, why, tx.Now(), s.opt.Rand()))
}

// loseJob gives up an attempt whose lease never arrived, unless that changed.
func (s *Service) loseJob(ctx context.Context, seen job.Job, why string) error {
	return s.write(ctx, func(tx store.Tx) (wakes, error) {
		return s.loseIf(ctx, tx, seen.ID, why, func(j job.Job, _ store.Worker, _ time.Duration) bool {
			return j.Fence == seen.Fence
		})
	})
}

// forgetWorkers removes workers that are long gone and hold nothing, so that
// names that change with every start do not pile up.
func (s *Service) forgetWorkers(ctx context.Context, l *leader) error {
	var gone []string
	err := s.st.Read(ctx, func(tx store.ReadTx) error {
		ws, err := tx.Workers(ctx)
		for _, w := range ws {
			if tx.Now().Sub(w.SeenAt) > forgetAfter {
				gone = append(gone, w.Worker)
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("read workers: %w", err)
	}
	for _, name := range gone {
		err := s.duty(ctx, l, func(tx store.Tx) (wakes, error) {
			jobs, err := tx.RunningOn(ctx, name)
			if err != nil || len(jobs) > 0 {
				return 0, err
			}
			return wakeChanged, tx.DeleteWorker(ctx, name)
		})
		if err != nil {
			return fmt.Errorf("forget worker %s: %w", name, err)
		}
	}
	return nil
}
