package celery

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/celery/wire"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
	"github.com/nano-os/nanoos/internal/store"
)

// start is a waiting ticket on its way to a job, or to its answer.
type start struct {
	ticket store.Ticket
	task   wire.Task
	// priority is that of its job.
	priority job.Priority
	plan     plan
	answer   *wire.Answer
	err      error // why it has to wait
}

// plan is what is to be done for a task.
type plan struct {
	job job.ID // that does it already
	// spec is a job to be submitted, under the id as unless that is empty.
	spec *job.Spec
	as   job.ID
	done any // the result, when nothing is left to do
	// submitted, if not nil, is told of the job.
	submitted func(context.Context) error
}

const (
	// sideBySide bounds how many plans are made at the same time.
	sideBySide = 32
	// tryAgain is when a task that could not be started is tried again.
	tryAgain = 5 * time.Second
	// platformTime bounds what a platform that does not answer holds up.
	platformTime = 3 * time.Second
)

// starter begins what was accepted, together with what has come meanwhile: the
// consumer does not wait for it.
type starter struct {
	mu    sync.Mutex
	queue []start       // guarded by mu
	added chan struct{} // capacity 1
	idle  chan struct{} // guarded by mu; closed when nothing is queued or under way
}

// maxStarts bounds what is accepted ahead of what is started.
const maxStarts = 4 * maxBatch

func newStarter() *starter {
	idle := make(chan struct{})
	close(idle)
	return &starter{added: make(chan struct{}, 1), idle: idle}
}

// add queues starts. It returns how many there are, and a channel that closes when
// all of them are done.
func (q *starter) add(starts []start) (n int, done <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(starts) > 0 {
		q.queue = append(q.queue, starts...)
		select {
		case <-q.idle:
			q.idle = make(chan struct{})
		default:
		}
		select {
		case q.added <- struct{}{}:
		default:
		}
	}
	return len(q.queue), q.idle
}

// take returns what is queued, the highest priority first; the last call's is
// done.
func (q *starter) take() []start {
	q.mu.Lock()
	defer q.mu.Unlock()
	batch := q.queue
	q.queue = nil
	if len(batch) == 0 {
		select {
		case <-q.idle:
		default:
			close(q.idle)
		}
	}
	slices.SortStableFunc(batch, func(a, b start) int { return cmp.Compare(b.priority, a.priority) })
	return batch
}

// startLoop starts what is accepted until ctx ends. What is left then waits in its
// tickets.
func (s *Server) startLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.starter.added:
		}
		for batch := s.starter.take(); len(batch) > 0 && ctx.Err() == nil; batch = s.starter.take() {
			s.start(ctx, batch)
		}
	}
}

// start begins what tickets ask for. Jobs are submitted together and in order,
// so that none of a lower priority starts before the others are there. What
// cannot be done now stays waiting.
func (s *Server) start(ctx context.Context, starts []start) {
	if len(starts) == 0 {
		return
	}
	s.planAll(ctx, starts)
	s.submitAll(ctx, starts)
	var answered []store.Ticket
	var answers []wire.Answer
	for _, st := range starts {
		if st.answer != nil {
			answered, answers = append(answered, st.ticket), append(answers, *st.answer)
		}
	}
	err := s.finish(ctx, answered, answers)
	if err == nil {
		err = s.openAll(ctx, starts)
	}
	switch {
	case err == nil:
		s.works(ctx, notStarted)
	case ctx.Err() == nil:
		s.failed(ctx, notStarted, err)
	}
}

func (s *Server) planAll(ctx context.Context, starts []start) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, sideBySide)
	for i := range starts {
		st := &starts[i]
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			s.makePlan(ctx, st)
		})
	}
	wg.Wait()
}

// makePlan decides what is to be done for a task.
func (s *Server) makePlan(ctx context.Context, st *start) {
	entry, registered := s.table[st.task.Name]
	if !registered { // configured otherwise since it was accepted
		st.answer = answerTo(st.task, notRegistered(st.task.Name))
		return
	}
	if entry.answer != nil {
		if a, done := s.answerNow(ctx, st.task); done {
			st.answer = &a
		} else {
			st.err = errNotNow
		}
		return
	}
	if soft, hard := s.limits.Times(st.task.Name); st.task.HardLimit == 0 && st.task.SoftLimit == 0 {
		st.task.SoftLimit, st.task.HardLimit = soft, hard
	}
	args, err := entry.bind(st.task)
	if err == nil {
		st.plan, err = entry.work(ctx, st.task, args)
	}
	if err == nil && st.plan.done != nil {
		st.answer = answerTo(st.task, wire.Succeeded(st.plan.done))
	}
	st.fail(err)
}

// fail ends a start with an error: a last one is the answer.
func (st *start) fail(err error) {
	if err == nil {
		return
	}
	if e := exception(err); e != nil {
		st.answer = answerTo(st.task, wire.Failed(e))
		return
	}
	st.err = err
}

func (st *start) submits() bool { return st.answer == nil && st.err == nil && st.plan.spec != nil }

// submitAll submits the jobs of the plans: all at once, or, if one of them is
// refused, each alone.
func (s *Server) submitAll(ctx context.Context, starts []start) {
	var batch []*start
	var jobs []queue.Named
	for i := range starts {
		if st := &starts[i]; st.submits() {
			batch, jobs = append(batch, st), append(jobs, queue.Named{ID: st.plan.as, Spec: *st.plan.spec})
		}
	}
	if len(batch) == 0 {
		return
	}
	out, err := s.parts.Queue.SubmitNamed(ctx, s.opt.Tenant, jobs...)
	for i, st := range batch {
		switch {
		case err == nil:
			st.plan.job = out[i].Job.ID
		case len(batch) > 1 && exception(err) != nil:
			one, err := s.parts.Queue.SubmitNamed(ctx, s.opt.Tenant, jobs[i])
			if st.fail(err); err == nil {
				st.plan.job = one[0].Job.ID
			}
		default:
			st.fail(err)
		}
	}
	s.tellPlatform(ctx, batch)
}

// tellPlatform tells a platform that its jobs are queued. It learns so again when
// they run, so one that is away is not waited for.
func (s *Server) tellPlatform(ctx context.Context, batch []*start) {
	ctx, cancel := context.WithTimeout(ctx, platformTime)
	defer cancel()
	for _, st := range batch {
		if st.plan.job == "" || st.plan.submitted == nil {
			continue
		}
		if err := st.plan.submitted(ctx); err != nil {
			s.parts.Log.WarnContext(ctx, "the platform was not told that its job is queued", "job", st.plan.job, "error", err)
		}
	}
}

// openAll binds tickets to their jobs, and has those tried again later that have
// to wait. Tickets that were revoked meanwhile stay so, and their jobs end.
func (s *Server) openAll(ctx context.Context, starts []start) error {
	byID := make(map[string]*start)
	var ids []string
	for i := range starts {
		st := &starts[i]
		if st.err != nil {
			s.parts.Log.WarnContext(ctx, "a task waits", "task", st.task.ID, "name", st.task.Name, "error", st.err)
		}
		if st.answer == nil {
			byID[st.ticket.ID] = st
			ids = append(ids, st.ticket.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	var late bool
	var revoked []job.ID
	err := s.parts.Store.Write(ctx, func(tx store.Tx) error {
		late, revoked = false, nil
		found, err := tx.Tickets(ctx, door, ids)
		if err != nil {
			return err
		}
		var opened []store.Ticket
		for _, t := range found {
			st := byID[t.ID]
			if t.State != store.TicketWaiting {
				if t.State == store.TicketRevoked && st.plan.job != "" {
					revoked = append(revoked, st.plan.job)
				}
				continue
			}
			begun, err := s.bind(ctx, tx, &t, st)
			if err != nil {
				return err
			}
			late = late || begun
			opened = append(opened, t)
		}
		return tx.SaveTickets(ctx, opened)
	})
	for _, id := range revoked {
		if _, _, cancelErr := s.cancel(ctx, id, "revoked", false); err == nil {
			err = cancelErr
		}
	}
	if late {
		s.lookSoon()
	}
	return err
}

// bind binds a ticket to its job. A job that has begun already is looked at soon:
// its history may have been read before the ticket was there.
func (s *Server) bind(ctx context.Context, tx store.Tx, t *store.Ticket, st *start) (begun bool, err error) {
	if st.err != nil {
		t.Due = tx.Now().Add(tryAgain)
		return false, nil
	}
	j, err := tx.Job(ctx, s.opt.Tenant, st.plan.job)
	if err != nil {
		return false, err
	}
	t.State, t.Job, t.Due = store.TicketOpen, j.ID, tx.Now().Add(reviewEvery)
	if begun = j.State != job.Queued; begun {
		t.Due = tx.Now()
	}
	return begun, nil
}

func notRegistered(name string) wire.Answer {
	return wire.Failed(&wire.Exception{Type: "NotRegistered", Module: "celery.exceptions", Message: []any{name}})
}
