package simulation

import (
	"context"
	"fmt"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
)

// Bounds of the calm. Every one allows for a call that was under way when the
// faults ended.
const (
	// settled is when every worker has attached and knows its own: 10 s (I18),
	// after a call that runs into its time limit, and a pause.
	settled = 10*time.Second + callTimeout + 5*time.Second
	// stopped is when a run that was cancelled or fenced is gone: when its worker
	// has settled, a heartbeat, the grace of 3 s, and a report.
	stopped = settled + 15*time.Second
	// picked is when a job that waits beside a free slot is claimed: two polls of
	// at most 2 s (I19), and the way.
	picked = 5 * time.Second
	// whole is when everything is over (I17): the longest job has 8 attempts of
	// 200 s and the pauses between them, and has waited for others.
	whole = 2 * time.Hour
	// rested is when no worker pauses any more before it reports an end again,
	// which takes a slot: a minute at most.
	rested = settled + time.Minute
	// late is how many jobs are submitted to servers and workers at rest.
	late = 4
	// look is how often the watch looks.
	look = 500 * time.Millisecond
)

// watch waits until every job has ended, and decides what must happen within a
// bound once there are no more faults.
func (w *world) watch() {
	began := time.Now()
	overdue := &lateness{world: w, since: map[string]time.Time{}, told: map[string]bool{}}
	for resumed, submitted := false, 0; sleep(w.ctx, look); {
		rows, living := w.history.now(), w.history.living()
		calm := time.Since(began)
		open := w.openJobs(rows)
		overdue.adoptions(living)
		overdue.stops(rows)
		if calm > settled && !resumed {
			// Not earlier: a pause may have been under way until now.
			resumed = true
			_ = w.ask(w.servers[0], "resume", func(ctx context.Context, q *queue.Service) error {
				return q.ResumeQueue(ctx, job.DefaultQueue, queue.Actor{By: "operator"})
			})
		}
		if calm > rested {
			overdue.claims(rows)
			if submitted < late && calm > rested+time.Duration(submitted)*10*time.Second {
				w.submitLate(submitted)
				submitted++
			}
		}
		if open == 0 && len(living) == 0 && submitted == late {
			return
		}
		if calm > whole {
			for _, r := range rows {
				if !r.State.Terminal() && r.Reason != job.ReasonQuarantined {
					w.violated("I17", "job %s is still %s after %s without faults", r.Name, r.State, whole)
				}
			}
			return
		}
	}
}

// submitLate adds a job by one of the servers, while the workers wait at either.
func (w *world) submitLate(n int) {
	name := fmt.Sprintf("late-%d", n)
	spec := specOf(w.chance.of(name), name, name, time.Now())
	spec.Held, spec.RunAt = false, time.Time{}
	_ = w.ask(w.servers[n%len(w.servers)], "submit", func(ctx context.Context, q *queue.Service) error {
		_, err := q.Submit(ctx, job.DefaultTenant, spec)
		return err
	})
}

// openJobs counts the jobs that have not ended, and releases those that a person
// holds. One in quarantine has ended, as far as the system is concerned.
func (w *world) openJobs(rows []row) int {
	open := 0
	for _, r := range rows {
		switch {
		case r.State.Terminal(), r.Reason == job.ReasonQuarantined:
			continue
		case r.Reason == job.ReasonHeld:
			_ = w.ask(w.servers[0], "release", func(ctx context.Context, q *queue.Service) error {
				_, err := q.Release(ctx, job.DefaultTenant, w.history.idOf(r.Name), queue.Actor{By: "operator"})
				return err
			})
		}
		open++
	}
	return open
}

func (w *world) violated(invariant, format string, args ...any) {
	w.found = append(w.found, violation{invariant, fmt.Sprintf(format, args...)})
}

// lateness measures how long something has been overdue.
type lateness struct {
	world *world
	since map[string]time.Time
	told  map[string]bool
}

// overdue reports a condition that has held for longer than its bound, once.
func (l *lateness) overdue(holds bool, bound time.Duration, invariant, what string) {
	if !holds {
		delete(l.since, what)
		return
	}
	if l.since[what].IsZero() {
		l.since[what] = time.Now()
	}
	if time.Since(l.since[what]) > bound && !l.told[what] {
		l.told[what] = true
		l.world.violated(invariant, "%s for more than %s after the faults", what, bound)
	}
}

// adoptions: a program that lives and is current has its owner back (I18), and
// one that is not ends (G8).
func (l *lateness) adoptions(living []*execution) {
	for _, e := range living {
		r := l.world.history.row(e.id)
		current := r.Attempt == e.attempt && !r.State.Terminal()
		owned := r.State == job.Running && r.Worker == e.host
		what := fmt.Sprintf("attempt %d of job %s on host %s", e.attempt, r.Name, e.host)
		l.overdue(current && !owned, settled, "I18", what+" lives without an owner")
		l.overdue(!current, stopped, "G8", what+" lives although it lost its job")
	}
}

// stops: a cancel reaches the run (I11, I17).
func (l *lateness) stops(rows []row) {
	for _, r := range rows {
		l.overdue(r.Cancel && r.State == job.Running, stopped, "I17", "job "+r.Name+" runs although it is cancelled")
	}
}

// claims: no job waits beside a free slot (I19).
func (l *lateness) claims(rows []row) {
	waiting, busy := 0, map[string]int{}
	for _, r := range rows {
		switch r.State {
		case job.Queued:
			waiting++
		case job.Running:
			busy[r.Worker]++
		}
	}
	for _, h := range l.world.hosts {
		l.overdue(waiting > 0 && busy[h.name] < slots, picked, "I19", "a job waits beside a free slot of worker "+h.name)
	}
}
