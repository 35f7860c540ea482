package celery

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nano-os/nanoos/internal/celery/outcome"
	"github.com/nano-os/nanoos/internal/celery/wire"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

const (
	// metaCursor holds the last event whose consequences were told.
	metaCursor = "celery.cursor"
	// leadFor is the lease of the server that tells results; leadEvery is how
	// often it is renewed, and how often the others try to take it.
	leadFor, leadEvery = 6 * time.Second, 2 * time.Second
	// reviewEvery is how often an open ticket is compared with its job even if
	// no event came by.
	reviewEvery = time.Minute
	// tick is how often progress is told, and tickets that are due are looked
	// for.
	tick = time.Second
	// followBatch bounds the events and tickets of one step.
	followBatch = 500
	// keepAnswered is how long an answered ticket is kept to recognise a message
	// that comes again.
	keepAnswered = 48 * time.Hour
)

var (
	errNotNow    = errors.New("the task cannot be answered now")
	errNotLeader = errors.New("another server tells the results")
)

// follower tells what becomes of jobs to those who asked for them. One server
// leads; its position in the history is stored.
type follower struct {
	s      *Server
	cursor int64
	stored int64     // the cursor in the database
	until  time.Time // the lease, by the local clock
	ticked time.Time // when the cursor was looked at for storing
	looked time.Time // when progress was looked for
	swept  time.Time
	told   map[string]told // by task id
}

// told is what a client knows of a running task.
type told struct {
	attempt int
	state   string
	at      time.Time // of the progress
}

// follow tells results until ctx ends.
func (s *Server) follow(ctx context.Context) {
	s.persist(ctx, notTold, func(ctx context.Context) error {
		f := &follower{s: s, told: make(map[string]told)}
		for ctx.Err() == nil {
			changed := s.parts.Queue.Changed()
			more, err := f.step(ctx)
			if errors.Is(err, errNotLeader) {
				f.until, f.told = time.Time{}, make(map[string]told)
				sleep(ctx, leadEvery)
				continue
			}
			if err != nil {
				return err
			}
			s.works(ctx, notTold)
			if more {
				continue
			}
			timer := time.NewTimer(tick)
			select {
			case <-ctx.Done():
			case <-changed:
			case <-s.answered:
			case <-timer.C:
			}
			timer.Stop()
		}
		return errClosing
	})
	s.resign(ctx)
}

// resign leaves the telling to others at once.
func (s *Server) resign(ctx context.Context) {
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaving)
	defer cancel()
	err := s.parts.Store.Write(after, func(tx store.Tx) error {
		_, err := tx.Lead(after, door, s.parts.Name, 0)
		return err
	})
	if err != nil {
		s.parts.Log.DebugContext(ctx, "the lease of the results ends by itself", "error", err)
	}
}

// lookSoon makes the follower of this process look for tickets that are due.
func (s *Server) lookSoon() {
	select {
	case s.answered <- struct{}{}:
	default:
	}
}

// step tells what has happened since the last one, and reports whether there
// may be more.
func (f *follower) step(ctx context.Context) (more bool, err error) {
	if time.Now().After(f.until) {
		if err := f.lead(ctx); err != nil {
			return false, err
		}
	}
	seen, err := f.look(ctx)
	if err != nil {
		return false, err
	}
	var starts []start
	for _, t := range seen.waiting {
		if task, fault := f.s.taskOf(t); fault == nil {
			starts = append(starts, start{ticket: t, task: task})
		}
	}
	f.s.start(ctx, starts)
	if err := f.review(ctx, seen.open); err != nil {
		return false, err
	}
	f.cursor = seen.cursor
	return seen.full, f.keep(ctx)
}

// lead takes or keeps the lease, and learns where the last leader was.
func (f *follower) lead(ctx context.Context) error {
	return f.s.parts.Store.Write(ctx, func(tx store.Tx) error {
		if err := f.take(ctx, tx); err != nil || !f.until.IsZero() {
			f.until = time.Now().Add(leadEvery)
			return err
		}
		text, err := tx.Meta(ctx, metaCursor)
		if err != nil {
			return err
		}
		if f.cursor, err = strconv.ParseInt(text, 10, 64); err != nil {
			// The first leader ever: nobody waits for what happened before.
			if f.cursor, err = tx.LastEvent(ctx); err != nil {
				return err
			}
			if err := tx.SetMeta(ctx, metaCursor, strconv.FormatInt(f.cursor, 10)); err != nil {
				return err
			}
		}
		f.stored, f.until = f.cursor, time.Now().Add(leadEvery)
		return nil
	})
}

func (f *follower) take(ctx context.Context, tx store.Tx) error {
	leads, err := tx.Lead(ctx, door, f.s.parts.Name, leadFor)
	if err != nil {
		return fmt.Errorf("lead the telling of results: %w", err)
	}
	if !leads {
		return errNotLeader
	}
	return nil
}

// keep stores the position now and then: to tell something twice does no harm.
func (f *follower) keep(ctx context.Context) error {
	if time.Since(f.swept) > time.Hour {
		f.swept = time.Now()
		if err := f.forget(ctx); err != nil {
			return err
		}
	}
	if f.cursor-f.stored < followBatch && time.Since(f.ticked) < leadEvery {
		return nil
	}
	f.ticked = time.Now()
	if f.cursor == f.stored {
		return nil
	}
	err := f.s.parts.Store.Write(ctx, func(tx store.Tx) error {
		if err := f.take(ctx, tx); err != nil {
			return err
		}
		return tx.SetMeta(ctx, metaCursor, strconv.FormatInt(f.cursor, 10))
	})
	if err == nil {
		f.stored = f.cursor
	}
	return err
}

// forget removes tickets that are of no use any more.
func (f *follower) forget(ctx context.Context) error {
	for {
		var n int
		err := f.s.parts.Store.Write(ctx, func(tx store.Tx) (err error) {
			n, err = tx.DeleteTickets(ctx, door, tx.Now().Add(-keepAnswered), followBatch)
			return err
		})
		if err != nil || n < followBatch {
			return err
		}
	}
}

// sight is what a look at the database shows.
type sight struct {
	cursor  int64
	full    bool
	waiting []store.Ticket // due: to be started
	open    []review
}

// review is an open ticket and its job as it is now.
type review struct {
	ticket store.Ticket
	job    job.Job
	result []byte
	gone   bool // the job is
}

func (f *follower) look(ctx context.Context) (sight, error) {
	var seen sight
	err := f.s.parts.Store.Read(ctx, func(tx store.ReadTx) error {
		seen = sight{cursor: f.cursor}
		events, err := tx.EventsAfter(ctx, "", "", f.cursor, followBatch)
		if err != nil {
			return err
		}
		jobs := make(map[job.ID]bool)
		for _, e := range events {
			seen.cursor = e.Seq
			if e.Job != "" && e.Kind != job.EventSubmitted && e.Kind != job.EventQueued {
				jobs[e.Job] = true
			}
		}
		seen.full = len(events) == followBatch
		if err := f.progressed(ctx, tx, jobs); err != nil {
			return err
		}
		return f.tickets(ctx, tx, jobs, &seen)
	})
	return seen, err
}

// progressed adds the jobs that have come further.
func (f *follower) progressed(ctx context.Context, tx store.ReadTx, jobs map[job.ID]bool) error {
	if len(f.told) == 0 || time.Since(f.looked) < tick {
		return nil // nobody waits for a running job, or not yet again
	}
	f.looked = time.Now()
	running, err := tx.RunningOn(ctx, "")
	for _, j := range running {
		if j.Progress != nil && time.Since(j.Progress.At) < 3*tick {
			jobs[j.ID] = true
		}
	}
	return err
}

// tickets reads those of the jobs and those that are due.
func (f *follower) tickets(ctx context.Context, tx store.ReadTx, jobs map[job.ID]bool, seen *sight) error {
	ids := make([]job.ID, 0, len(jobs))
	for id := range jobs {
		ids = append(ids, id)
	}
	of, err := tx.TicketsOf(ctx, door, ids)
	if err != nil {
		return err
	}
	due, err := tx.TicketsDue(ctx, door, followBatch)
	if err != nil {
		return err
	}
	seen.full = seen.full || len(due) == followBatch
	done := make(map[string]bool)
	for _, t := range append(of, due...) {
		switch {
		case done[t.ID]:
		case t.State == store.TicketWaiting && !t.Due.After(tx.Now()):
			seen.waiting = append(seen.waiting, t)
		case t.State == store.TicketOpen:
			r, err := f.read(ctx, tx, t)
			if err != nil {
				return err
			}
			seen.open = append(seen.open, r)
		}
		done[t.ID] = true
	}
	return nil
}

func (f *follower) read(ctx context.Context, tx store.ReadTx, t store.Ticket) (review, error) {
	r := review{ticket: t}
	var err error
	r.job, err = tx.Job(ctx, "", t.Job)
	if job.CodeOf(err) == job.NotFound {
		r.gone = true
		return r, nil
	}
	if err == nil && r.job.State.Terminal() {
		r.result, err = tx.Result(ctx, "", t.Job)
	}
	return r, err
}

// review tells clients what they do not know yet.
func (f *follower) review(ctx context.Context, open []review) error {
	var records []wire.Record
	var answers []wire.Answer
	var answered, checked []store.Ticket
	var news []wire.News
	for _, r := range open {
		task, fault := f.s.taskOf(r.ticket)
		if fault != nil {
			continue
		}
		switch {
		case r.gone:
			answers = append(answers, *answerTo(task, wire.Failed(raised("RuntimeError", "the job "+string(r.ticket.Job)+" is gone"))))
			answered = append(answered, r.ticket)
		case r.job.State.Terminal():
			answers = append(answers, f.ended(task, r))
			answered = append(answered, r.ticket)
			news = append(news, f.news(task, r)...)
		default:
			changed := f.change(task, r)
			if len(changed) > 0 && changed[0].State != wire.StateProgress {
				news = append(news, f.news(task, r)...)
			}
			records = append(records, changed...)
			checked = append(checked, r.ticket)
		}
	}
	if err := f.s.redis.Store(ctx, records); err != nil {
		return err
	}
	if err := f.s.finish(ctx, answered, answers); err != nil {
		return err
	}
	if err := f.s.redis.Announce(ctx, news); err != nil {
		return err
	}
	for _, t := range answered {
		delete(f.told, t.ID)
	}
	return f.s.postpone(ctx, checked)
}

// change is what a client does not know of a job that goes on.
func (f *follower) change(task wire.Task, r review) []wire.Record {
	before, now := f.told[task.ID], told{attempt: r.job.Attempt}
	record := wire.Record{Task: &task, Worker: r.ticket.Node}
	switch {
	case r.job.State == job.Running && before.attempt < r.job.Attempt:
		now.state = wire.StateStarted
		record.Result = map[string]any{"pid": pid, "hostname": r.ticket.Node}
		f.s.started(task, r.ticket.Node)
	case r.job.State == job.Running && r.job.Progress != nil && r.job.Progress.At.After(before.at) && r.job.Progress.Fraction > 0:
		now.state, now.at = wire.StateProgress, r.job.Progress.At
		record.Result = map[string]any{"progress": r.job.Progress.Fraction, "current_step": r.job.Progress.Stage, "pid": pid, "hostname": r.ticket.Node}
	case r.job.Reason == job.ReasonRetry && before.state != wire.StateRetry:
		now.state = wire.StateRetry
		record.Exception = exceptionOf(outcome.Failure(r.job))
		f.s.retried(task, r.ticket.Node, record.Exception, r.job.Attempt)
	default:
		return nil
	}
	record.State = now.state
	f.told[task.ID] = now
	return []wire.Record{record}
}

// news is the state of a job for the channel of NANO-OS's later platform.
func (f *follower) news(task wire.Task, r review) []wire.News {
	if !f.s.table[task.Name].named() {
		return nil
	}
	payload := map[string]any{"job_id": r.job.ID, "status": r.job.State, "attempt": r.job.Attempt, "worker_id": r.job.Worker}
	if r.job.Failure != nil {
		payload["error_message"] = r.job.Failure.Message
	}
	at := r.job.StartedAt
	if r.job.State.Terminal() {
		at = r.job.EndedAt
	}
	return []wire.News{{Job: string(r.job.ID), Event: "job.status." + strings.ToLower(string(r.job.State)), At: at, Payload: payload}}
}

// ended is the answer to a task whose job has ended.
func (f *follower) ended(task wire.Task, r review) wire.Answer {
	if f.told[task.ID].attempt < r.job.Attempt {
		f.s.started(task, r.ticket.Node)
	}
	state, result, e := outcome.Of(r.job, r.result)
	if m, ok := result.(map[string]any); ok {
		f.s.table[task.Name].dress(task, m)
	}
	a := wire.Answer{Record: wire.Record{Task: &task, State: state, Result: result, Exception: exceptionOf(e), At: r.job.EndedAt, Worker: r.ticket.Node}}
	if c := r.job.Cancel; c != nil && c.Now {
		a.Signal = int(syscall.SIGKILL)
	}
	if !r.job.StartedAt.IsZero() {
		a.Runtime = r.job.EndedAt.Sub(r.job.StartedAt)
	}
	return a
}

func exceptionOf(e *outcome.Exception) *wire.Exception {
	if e == nil {
		return nil
	}
	return &wire.Exception{Type: e.Type, Message: e.Message, Module: e.Module, Traceback: e.Traceback}
}

// finish gives answers and notes that they were given.
func (s *Server) finish(ctx context.Context, tickets []store.Ticket, answers []wire.Answer) error {
	if len(answers) == 0 {
		return nil
	}
	if err := s.reply(ctx, answers); err != nil {
		return err
	}
	for i := range tickets {
		tickets[i].State, tickets[i].Due = store.TicketAnswered, time.Time{}
	}
	return s.save(ctx, tickets)
}

// reply writes answers, and tells the monitors.
func (s *Server) reply(ctx context.Context, answers []wire.Answer) error {
	if len(answers) == 0 {
		return nil
	}
	for i := range answers {
		if answers[i].Worker == "" {
			answers[i].Worker = s.opt.Node
		}
		if answers[i].At.IsZero() {
			answers[i].At = time.Now()
		}
	}
	if err := s.redis.Answer(ctx, answers); err != nil {
		return err
	}
	for _, a := range answers {
		s.ended(a)
	}
	return nil
}

// postpone has the due ones of open tickets looked at again later.
func (s *Server) postpone(ctx context.Context, tickets []store.Ticket) error {
	var due []store.Ticket
	for _, t := range tickets {
		if time.Until(t.Due) < reviewEvery/2 {
			t.Due = time.Now().Add(reviewEvery)
			due = append(due, t)
		}
	}
	return s.save(ctx, due)
}

// taskOf is the task that a ticket was made for.
func (s *Server) taskOf(t store.Ticket) (wire.Task, *wire.Fault) {
	if len(t.Body) == 0 { // asked for over HTTP
		return wire.Task{ID: t.ID, Name: "run_simulation_job", RootID: t.ID}, nil
	}
	return wire.Decode(t.Body)
}
