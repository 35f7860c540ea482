package celery

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/celery/wire"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// The answers to remote control: Server is its desk.

// listed bounds a list for people.
const listed = 1000

// Tasks implements desk.
func (s *Server) Tasks(ctx context.Context, which string) (infos []TaskInfo, err error) {
	err = s.parts.Store.Read(ctx, func(tx store.ReadTx) error {
		switch which {
		case "active":
			infos, err = s.active(ctx, tx)
		case "scheduled":
			infos, err = s.waiting(ctx, tx, true)
		default:
			infos, err = s.reserved(ctx, tx)
		}
		return err
	})
	return infos, err
}

// active lists the tasks of this node whose jobs run.
func (s *Server) active(ctx context.Context, tx store.ReadTx) ([]TaskInfo, error) {
	running, err := tx.RunningOn(ctx, "")
	if err != nil {
		return nil, err
	}
	jobs := make(map[job.ID]job.Job, len(running))
	ids := make([]job.ID, 0, len(running))
	for _, j := range running {
		jobs[j.ID] = j
		ids = append(ids, j.ID)
	}
	tickets, err := tx.TicketsOf(ctx, door, ids)
	if err != nil {
		return nil, err
	}
	var infos []TaskInfo
	for _, t := range tickets {
		if t.State == store.TicketOpen {
			infos = s.list(infos, t, jobs[t.Job])
		}
	}
	return infos, nil
}

// reserved lists those that were accepted and do not run: their jobs wait, or
// they have just come.
func (s *Server) reserved(ctx context.Context, tx store.ReadTx) ([]TaskInfo, error) {
	infos, err := s.waiting(ctx, tx, false)
	if err != nil {
		return nil, err
	}
	open, err := tx.TicketsIn(ctx, door, store.TicketOpen, listed)
	if err != nil {
		return nil, err
	}
	for _, t := range open {
		j, err := tx.Job(ctx, "", t.Job)
		if err != nil && job.CodeOf(err) != job.NotFound {
			return nil, err
		}
		if err == nil && !j.State.Terminal() && j.State != job.Running {
			infos = s.list(infos, t, j)
		}
	}
	return infos, nil
}

// waiting lists the tasks that wait for their time, or those that wait to be
// started.
func (s *Server) waiting(ctx context.Context, tx store.ReadTx, scheduled bool) (infos []TaskInfo, err error) {
	tickets, err := tx.TicketsIn(ctx, door, store.TicketWaiting, listed)
	for _, t := range tickets {
		before := len(infos)
		infos = s.list(infos, t, job.Job{})
		if len(infos) > before && !infos[before].ETA.IsZero() != scheduled {
			infos = infos[:before]
		}
	}
	return infos, err
}

// list adds a ticket of this node.
func (s *Server) list(infos []TaskInfo, t store.Ticket, j job.Job) []TaskInfo {
	task, fault := s.taskOf(t)
	if fault != nil || t.Node != s.opt.Node {
		return infos
	}
	info := TaskInfo{Task: task, State: "reserved", Acknowledged: true}
	if t.State == store.TicketWaiting && (!task.ETA.IsZero() || t.Due.Sub(t.CreatedAt) > startLease+time.Second) {
		info.ETA = t.Due
	}
	if j.State == job.Running {
		info.State, info.Started, info.PID = "active", j.StartedAt, pid
	}
	return append(infos, info)
}

// Find implements desk.
func (s *Server) Find(ctx context.Context, ids []string) (infos []TaskInfo, err error) {
	err = s.parts.Store.Read(ctx, func(tx store.ReadTx) error {
		tickets, err := tx.Tickets(ctx, door, ids)
		if err != nil {
			return err
		}
		for _, t := range tickets {
			var j job.Job
			if t.State == store.TicketOpen {
				if j, err = tx.Job(ctx, "", t.Job); err != nil && job.CodeOf(err) != job.NotFound {
					return err
				}
			}
			if t.State != store.TicketRevoked {
				infos = s.list(infos, t, j)
				if t.State == store.TicketAnswered && len(infos) > 0 {
					infos[len(infos)-1].State = "ready"
				}
			}
		}
		return nil
	})
	return infos, err
}

// Revoke implements desk. What is stored is in force for every server and after
// every restart, and for tasks that have not come yet.
func (s *Server) Revoke(ctx context.Context, ids []string, terminate bool, signal string) (stopped []string, err error) {
	var cancel []store.Ticket
	var refused []store.Ticket
	err = s.parts.Store.Write(ctx, func(tx store.Tx) error {
		cancel, refused = nil, nil
		found, err := tx.Tickets(ctx, door, ids)
		if err != nil {
			return err
		}
		var unknown []store.Ticket
		for _, id := range ids {
			i := slices.IndexFunc(found, func(t store.Ticket) bool { return t.ID == id })
			switch {
			case i < 0:
				unknown = append(unknown, store.Ticket{Door: door, ID: id, State: store.TicketRevoked, Node: s.opt.Node})
			case found[i].State == store.TicketWaiting:
				refused = append(refused, found[i])
			case found[i].State == store.TicketOpen:
				cancel = append(cancel, found[i])
			}
		}
		return tx.SaveTickets(ctx, unknown)
	})
	if err != nil {
		return nil, err
	}
	var answers []wire.Answer
	for _, t := range refused {
		task, _ := s.taskOf(t)
		answers = append(answers, *answerTo(task, wire.Revoked("revoked")))
	}
	if err := s.finish(ctx, refused, answers); err != nil {
		return nil, err
	}
	return s.stop(ctx, cancel, terminate, signal)
}

// stop cancels the jobs of tasks: those that run only if that is meant.
func (s *Server) stop(ctx context.Context, tickets []store.Ticket, terminate bool, signal string) (stopped []string, err error) {
	for _, t := range tickets {
		j, err := s.job(ctx, t.Job)
		switch {
		case job.CodeOf(err) == job.NotFound:
			continue
		case err != nil:
			return stopped, err
		case j.State == job.Running && !terminate:
			continue
		}
		if _, cancelled, err := s.cancel(ctx, t.Job, "revoked", kills(signal)); err != nil {
			return stopped, err
		} else if cancelled {
			stopped = append(stopped, t.ID)
		}
	}
	return stopped, nil
}

// kills reports whether a signal leaves a process no time.
func kills(signal string) bool {
	return slices.Contains([]string{"SIGKILL", "KILL", "9"}, strings.ToUpper(signal))
}

// Revoked implements desk.
func (s *Server) Revoked(ctx context.Context) (ids []string, err error) {
	err = s.parts.Store.Read(ctx, func(tx store.ReadTx) error {
		tickets, err := tx.TicketsIn(ctx, door, store.TicketRevoked, listed)
		for _, t := range tickets {
			ids = append(ids, t.ID)
		}
		return err
	})
	return ids, err
}

// Registered implements desk.
func (s *Server) Registered() []string { return s.table.names() }

// Queues implements desk.
func (s *Server) Queues() []wire.Queue { return s.consuming() }

// AddQueue implements desk.
func (s *Server) AddQueue(ctx context.Context, q wire.Queue) error {
	s.mu.Lock()
	if !slices.ContainsFunc(s.queues, func(have wire.Queue) bool { return have.Name == q.Name }) {
		s.queues = append(s.queues, q)
	}
	s.mu.Unlock()
	return s.redis.Bind(ctx, []wire.Queue{q})
}

// CancelQueue implements desk.
func (s *Server) CancelQueue(ctx context.Context, name string) error {
	s.mu.Lock()
	s.queues = slices.DeleteFunc(s.queues, func(q wire.Queue) bool { return q.Name == name })
	s.mu.Unlock()
	return nil
}

// Resize implements desk.
func (s *Server) Resize(n int) error {
	if s.parts.Resize == nil {
		return errors.New("the pool of this server is made of its workers: start or stop nanoos workers")
	}
	return s.parts.Resize(n)
}

// Pool implements desk.
func (s *Server) Pool() PoolInfo {
	cpus := s.parts.Pool()
	s.mu.Lock()
	defer s.mu.Unlock()
	return PoolInfo{Max: cpus, Prefetch: cpus, PIDs: []int{pid}, Totals: maps.Clone(s.totals)}
}

// Shutdown implements desk.
func (s *Server) Shutdown() { s.parts.Shutdown() }
