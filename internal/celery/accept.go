package celery

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/celery/wire"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// door is the name of this front door among the tickets.
const door = "celery"

const (
	// maxBatch bounds how many messages are taken at once: their answers come
	// together, and the time from one batch to the next is the longest between two
	// answers.
	maxBatch = 48
	// startLease is how long whoever accepted a message has to start what it
	// asks for, before another does.
	startLease = 30 * time.Second
	// leaving bounds what is still done for messages when the process ends.
	leaving = 5 * time.Second
	// maxAhead bounds how far in the future a task may lie (T31).
	maxAhead = time.Duration(job.MaxDuration)
)

// consume takes messages from Redis until ctx ends.
func (s *Server) consume(ctx context.Context) {
	s.persist(ctx, notTaken, func(ctx context.Context) error {
		if err := s.redis.Check(ctx); err != nil {
			return err
		}
		if err := s.redis.Bind(ctx, s.consuming()); err != nil {
			return err
		}
		return s.consumeAll(ctx)
	})
}

// consumeAll accepts one batch after the other, and takes the next meanwhile.
func (s *Server) consumeAll(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	batches := make(chan []wire.Delivery)
	var taking sync.WaitGroup
	defer taking.Wait()
	defer stop(errClosing)
	taking.Go(func() {
		defer close(batches)
		for ctx.Err() == nil {
			batch, err := s.take(ctx)
			if err != nil {
				stop(err)
				return
			}
			if len(batch) == 0 {
				continue
			}
			select {
			case batches <- batch:
			case <-ctx.Done():
				s.giveBack(ctx, batch)
			}
		}
	})
	for batch := range batches {
		err := s.settle(ctx, batch)
		s.hold(batch, false)
		if err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// take takes one batch, or waits a while until there may be one.
func (s *Server) take(ctx context.Context) ([]wire.Delivery, error) {
	var names []string
	for _, q := range s.consuming() {
		names = append(names, q.Name)
	}
	batch, err := s.redis.Claim(ctx, names, maxBatch)
	if err != nil {
		return nil, err
	}
	s.works(ctx, notTaken)
	if len(batch) == 0 {
		return nil, s.redis.Wait(ctx, names, time.Second)
	}
	s.hold(batch, true)
	return batch, nil
}

// giveBack puts messages back into their lists.
func (s *Server) giveBack(ctx context.Context, batch []wire.Delivery) {
	defer s.hold(batch, false)
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaving)
	defer cancel()
	if err := s.redis.Requeue(after, batch); err != nil {
		// Whoever sweeps next gives them back.
		s.parts.Log.WarnContext(ctx, "messages were not given back", "messages", len(batch), "error", err)
	}
}

// hold keeps messages from being given to others until they are let go.
func (s *Server) hold(batch []wire.Delivery, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range batch {
		if on {
			s.held[d.Tag] = true
		} else {
			delete(s.held, d.Tag)
		}
	}
}

// settle accepts a batch, however long the database is away; a process that
// ends gives it back.
func (s *Server) settle(ctx context.Context, batch []wire.Delivery) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := s.accept(ctx, batch)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			s.giveBack(ctx, batch)
			return nil
		}
		s.failed(ctx, notTaken, err)
		sleep(ctx, pause)
	}
}

// sorted is a batch by what is to be done.
type sorted struct {
	bad     []wire.Delivery
	drop    []wire.Delivery // known already: their tickets tell the rest
	keep    []wire.Delivery // keep[i] has tickets[i], which is new
	tickets []store.Ticket
	later   map[string]bool // those of them that wait for their time
	now     []wire.Delivery // answered without a ticket
	answers []wire.Answer   // of those that need no thought
	quick   []wire.Delivery // answers[i] answers quick[i]
}

// accept settles every message of a batch. After an error it may be called
// again: what was done is found by its tickets.
func (s *Server) accept(ctx context.Context, batch []wire.Delivery) error {
	b, err := s.sort(ctx, batch)
	if err != nil {
		return err
	}
	if err := s.save(ctx, b.tickets); err != nil {
		return err
	}
	if err := s.redis.Ack(ctx, append(b.keep, b.drop...)); err != nil {
		return err
	}
	n, started := s.starter.add(s.due(b))
	if n > maxStarts || len(b.now) > 0 {
		// What is answered at once may concern a job that came before.
		select {
		case <-started:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	for _, d := range b.now {
		// In order: what comes later may mean what came before.
		a, done := s.answerNow(ctx, d.Task)
		if !done {
			return errNotNow
		}
		b.quick, b.answers = append(b.quick, d), append(b.answers, a)
	}
	if err := s.reply(ctx, b.answers); err != nil {
		return err
	}
	if err := s.bury(ctx, b.bad); err != nil {
		return err
	}
	return s.redis.Ack(ctx, b.quick)
}

// sort decides what becomes of each message.
func (s *Server) sort(ctx context.Context, batch []wire.Delivery) (sorted, error) {
	known, now, err := s.known(ctx, batch)
	if err != nil {
		return sorted{}, err
	}
	b := sorted{later: make(map[string]bool)}
	for _, d := range batch {
		if d.Fault != nil {
			b.bad = append(b.bad, d)
			continue
		}
		t, seen := known[d.Task.ID]
		switch {
		case seen && t.State != store.TicketRevoked:
			b.drop = append(b.drop, d)
			continue
		case seen:
			b.refuse(d, wire.Revoked("revoked")) // as often as it comes
			continue
		}
		s.received(d.Task, d.Task.Retries)
		s.sortNew(&b, d, now)
		known[d.Task.ID] = store.Ticket{ID: d.Task.ID, State: store.TicketOpen}
	}
	return b, nil
}

// due are the new tickets that are not to wait, in the order of the messages.
func (s *Server) due(b sorted) (starts []start) {
	for i, t := range b.tickets {
		if !b.later[t.ID] {
			starts = append(starts, start{ticket: t, task: b.keep[i].Task, priority: s.priority(b.keep[i].Task)})
		}
	}
	return starts
}

// sortNew decides about a task that is not known.
func (s *Server) sortNew(b *sorted, d wire.Delivery, now time.Time) {
	entry, registered := s.table[d.Task.Name]
	due := d.Task.ETA
	if !d.Task.Expires.IsZero() && !now.Before(d.Task.Expires) {
		b.refuse(d, wire.Revoked("expired"))
		return
	}
	if !registered {
		b.refuse(d, notRegistered(d.Task.Name))
		return
	}
	if due.After(now.Add(maxAhead)) {
		b.refuse(d, wire.Failed(raised("ValueError", "the eta "+due.Format(time.RFC3339)+" is more than a year ahead")))
		return
	}
	if delay := s.limits.Delay(d.Task.Name, now); delay > 0 && due.Before(now.Add(delay)) {
		due = now.Add(delay)
	}
	s.count(d.Task)
	if entry.answer != nil && !due.After(now) {
		b.now = append(b.now, d)
		return
	}
	if b.later[d.Task.ID] = due.After(now); !due.After(now) {
		due = now.Add(startLease)
	}
	b.keep = append(b.keep, d)
	b.tickets = append(b.tickets, store.Ticket{Door: door, ID: d.Task.ID, State: store.TicketWaiting, Due: due, Node: s.opt.Node, Body: d.Raw})
}

func (b *sorted) refuse(d wire.Delivery, a wire.Answer) {
	a.Task = &d.Task
	b.quick, b.answers = append(b.quick, d), append(b.answers, a)
}

// known returns the tickets of the tasks that came before.
func (s *Server) known(ctx context.Context, batch []wire.Delivery) (map[string]store.Ticket, time.Time, error) {
	ids := make([]string, 0, len(batch))
	seen := make(map[string]bool, len(batch))
	for _, d := range batch {
		if d.Fault == nil && !seen[d.Task.ID] {
			seen[d.Task.ID] = true
			ids = append(ids, d.Task.ID)
		}
	}
	known := make(map[string]store.Ticket)
	var now time.Time
	err := s.parts.Store.Read(ctx, func(tx store.ReadTx) error {
		now = tx.Now()
		found, err := tx.Tickets(ctx, door, ids)
		for _, t := range found {
			known[t.ID] = t
		}
		return err
	})
	return known, now, err
}

func (s *Server) save(ctx context.Context, tickets []store.Ticket) error {
	if len(tickets) == 0 {
		return nil
	}
	return s.parts.Store.Write(ctx, func(tx store.Tx) error { return tx.SaveTickets(ctx, tickets) })
}

// answerNow does what needs no job. It reports whether that is the answer, or
// something has to pass first.
func (s *Server) answerNow(ctx context.Context, task wire.Task) (wire.Answer, bool) {
	entry := s.table[task.Name]
	began := time.Now()
	s.started(task, s.opt.Node)
	args, err := entry.bind(task)
	var result any
	if err == nil {
		result, err = entry.answer(ctx, args)
	}
	if err == nil {
		a := answerTo(task, wire.Succeeded(result))
		a.Runtime = time.Since(began)
		return *a, true
	}
	if e := exception(err); e != nil {
		return *answerTo(task, wire.Failed(e)), true
	}
	s.failed(ctx, notStarted, err)
	return wire.Answer{}, false
}

func answerTo(task wire.Task, a wire.Answer) *wire.Answer {
	a.Task = &task
	return &a
}

// bury puts messages that are no tasks with the dead letters, and tells their
// senders when these can be told.
func (s *Server) bury(ctx context.Context, bad []wire.Delivery) error {
	if len(bad) == 0 {
		return nil
	}
	var answers []wire.Answer
	for _, d := range bad {
		s.parts.Log.WarnContext(ctx, "a message is no task", "queue", d.Queue, "task", d.Task.ID, "why", d.Fault.Reason)
		if d.Task.ID != "" && d.Fault.Exception != nil {
			answers = append(answers, *answerTo(d.Task, wire.Failed(d.Fault.Exception)))
		}
	}
	if err := s.reply(ctx, answers); err != nil {
		return err
	}
	return s.redis.Bury(ctx, bad)
}

// count counts an accepted task for the statistics.
func (s *Server) count(t wire.Task) {
	name := t.Name
	if t.Shadow != "" {
		name = t.Shadow
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.totals[name]++
}

var pid = os.Getpid()
