package storetest

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// dump is everything that can be read from a store, without the numbers that
// stores choose for themselves.
type dump struct {
	Jobs     []job.Job
	Results  map[job.ID]string
	Attempts map[job.ID][]job.Attempt
	Events   []job.Event
	JobEvent map[job.ID]int
	Heads    []laneHeads
	Counts   []store.Count
	Due      []job.ID
	NextDue  time.Time
	Running  []job.ID
	OnWorker []job.ID
	Usage    map[job.Tenant]float64
	Queues   []store.Queue
	Workers  []store.Worker
	Setting  string
	ByKey    map[string]job.ID
	Tickets  []store.Ticket
	Resolved []job.ID
	Err      string
}

// laneHeads is a lane with its first jobs.
type laneHeads struct {
	Lane  store.Lane
	Heads []job.ID
}

func contents(s store.Store) dump {
	ctx := context.Background()
	d := dump{Results: map[job.ID]string{}, Attempts: map[job.ID][]job.Attempt{}, JobEvent: map[job.ID]int{}, ByKey: map[string]job.ID{}}
	err := s.Read(ctx, func(tx store.ReadTx) error { return d.fill(ctx, tx) })
	if err != nil {
		d.Err = err.Error()
	}
	return d
}

// fill reads it all and stops at the first error.
func (d *dump) fill(ctx context.Context, tx store.ReadTx) (err error) {
	read := func(fn func() error) {
		if err == nil {
			err = fn()
		}
	}
	read(func() error { d.Jobs, _, err = tx.Jobs(ctx, store.JobQuery{Oldest: true, Limit: 500}); return err })
	for _, j := range d.Jobs {
		read(func() error {
			r, err := tx.Result(ctx, j.Tenant, j.ID)
			d.Results[j.ID] = string(r)
			return err
		})
		read(func() error { d.Attempts[j.ID], err = tx.Attempts(ctx, j.Tenant, j.ID); return err })
		read(func() error {
			ev, err := tx.EventsAfter(ctx, "", j.ID, 0, 1000)
			d.JobEvent[j.ID] = len(ev)
			return err
		})
	}
	read(func() error { d.Events, err = tx.EventsAfter(ctx, "", "", 0, 10000); return err })
	for i := range d.Events {
		d.Events[i].Seq = 0
	}
	read(func() error { return d.fillHeads(ctx, tx) })
	read(func() error { d.Counts, err = tx.Counts(ctx, ""); return err })
	read(func() error { d.Due, err = tx.Due(ctx, 100); return err })
	read(func() error { d.NextDue, err = tx.NextDue(ctx); return err })
	read(func() error { jobs, err := tx.RunningOn(ctx, ""); d.Running = idsOf(jobs); return err })
	read(func() error { jobs, err := tx.RunningOn(ctx, "w1"); d.OnWorker = idsOf(jobs); return err })
	read(func() error { d.Usage, err = tx.Usage(ctx); return err })
	read(func() error { d.Queues, err = tx.Queues(ctx); return err })
	read(func() error { d.Workers, err = tx.Workers(ctx); return err })
	read(func() error { d.Setting, err = tx.Meta(ctx, "k"); return err })
	read(func() error { d.Resolved, err = tx.Resolve(ctx, "", "job-01", 5); return err })
	for _, door := range []string{"d1", "d2"} {
		read(func() error { return d.fillTickets(ctx, tx, door) })
	}
	for _, key := range []string{"k1", "k2"} {
		read(func() error {
			j, _, err := tx.ByKey(ctx, "a", key)
			d.ByKey[key] = j.ID
			if job.CodeOf(err) == job.NotFound {
				return nil
			}
			return err
		})
	}
	return err
}

func (d *dump) fillHeads(ctx context.Context, tx store.ReadTx) error {
	lanes, err := tx.Lanes(ctx)
	if err != nil {
		return err
	}
	for _, l := range lanes {
		heads, err := tx.Heads(ctx, []store.LaneID{l.ID}, 3)
		if err != nil {
			return err
		}
		l.ID = 0
		d.Heads = append(d.Heads, laneHeads{l, headIDs(heads)})
	}
	// Lanes come in any order; each has a head, and no two have the same.
	slices.SortFunc(d.Heads, func(a, b laneHeads) int { return cmp.Compare(a.Heads[0], b.Heads[0]) })
	return nil
}

// fillTickets reads the tickets of a door in every way.
func (d *dump) fillTickets(ctx context.Context, tx store.ReadTx, door string) error {
	of, err := tx.TicketsOf(ctx, door, idsOf(d.Jobs))
	if err != nil {
		return err
	}
	due, err := tx.TicketsDue(ctx, door, 100)
	d.Tickets = append(append(d.Tickets, of...), due...)
	for _, s := range ticketStates {
		if err != nil {
			break
		}
		var in []store.Ticket
		in, err = tx.TicketsIn(ctx, door, s, 100)
		d.Tickets = append(d.Tickets, in...)
	}
	return err
}
