package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

var ticketStates = []store.TicketState{store.TicketWaiting, store.TicketOpen, store.TicketAnswered, store.TicketRevoked}

var ticketRules = []rule{
	{"EveryFieldComesBack", func(b *bench) {
		full := ticket("a full one")
		full.Job, full.Due, full.Node = job.NewID(), day, "host-1"
		full.Body = []byte("{\"body\":\"\x00\xff\xfe\"} \n")
		bare := store.Ticket{Door: "celery", ID: "bare", State: store.TicketRevoked}
		large := ticket("large")
		large.Body = []byte(strings.Repeat("0123456789abcdef", 1<<16))
		now := b.saveTickets(full, bare, large)
		for _, t := range []*store.Ticket{&full, &bare, &large} {
			t.CreatedAt, t.UpdatedAt = now, now
		}
		b.same("tickets in the order asked", b.tickets("large", "absent", "a full one", "bare"), []store.Ticket{large, full, bare})
		b.same("no tickets", b.tickets(), []store.Ticket(nil))
	}},
	{"ASavedTicketIsReplacedAndKeepsItsAge", func(b *bench) {
		x, other := ticket("x"), ticket("x")
		other.Door = "another door"
		first := b.saveTickets(x, other)
		x.State, x.Job, x.Due, x.Node, x.Body = store.TicketOpen, job.NewID(), day, "host-2", []byte("b")
		second := b.saveTickets(x)
		x.CreatedAt, x.UpdatedAt = first, second
		b.same("tickets", b.tickets("x"), []store.Ticket{x})
		var got []store.Ticket
		b.read(func(tx store.ReadTx) (err error) {
			got, err = tx.Tickets(b.Context(), "another door", []string{"x"})
			return err
		})
		other.CreatedAt, other.UpdatedAt = first, first
		b.same("tickets of another door", got, []store.Ticket{other})
	}},
	{"ATransactionSeesTheTicketsItSaved", func(b *bench) {
		x := ticket("x")
		b.refused(job.Invalid, func(tx store.Tx) error {
			for _, s := range ticketStates {
				x.State = s
				if err := tx.SaveTickets(b.Context(), []store.Ticket{x}); err != nil {
					return err
				}
				got, err := tx.Tickets(b.Context(), "celery", []string{"x"})
				if err != nil || len(got) != 1 || got[0].State != s || !got[0].UpdatedAt.Equal(tx.Now()) {
					return fmt.Errorf("tickets are %+v (%v)", got, err)
				}
			}
			return job.Errorf(job.Invalid, "undo")
		})
		b.same("tickets", b.tickets("x"), []store.Ticket(nil))
	}},
	{"TicketsAreFoundByTheirJobInAnyState", func(b *bench) {
		first, second := job.NewID(), job.NewID()
		var all []store.Ticket
		for i, s := range ticketStates {
			t := ticket(fmt.Sprint(i))
			t.State, t.Job = s, first
			all = append(all, t)
		}
		all[3].Job = second
		b.saveTickets(append(all, ticket("without a job"))...)
		var got []string
		b.read(func(tx store.ReadTx) error {
			ts, err := tx.TicketsOf(b.Context(), "celery", []job.ID{second, job.NewID(), first})
			got = ticketIDs(ts)
			return err
		})
		b.same("tickets", got, []string{"3", "0", "1", "2"})
	}},
	{"OwedTicketsAreDueEarliestFirst", func(b *bench) {
		now := b.saveTickets(ticket("never by time"))
		due := func(id string, s store.TicketState, d time.Duration) store.Ticket {
			t := ticket(id)
			t.State, t.Due = s, now.Add(d)
			return t
		}
		b.saveTickets(due("late", store.TicketWaiting, -time.Minute), due("early", store.TicketOpen, -time.Hour), due("a tie", store.TicketOpen, -time.Hour),
			due("later", store.TicketWaiting, time.Hour), due("answered", store.TicketAnswered, -time.Hour), due("revoked", store.TicketRevoked, -time.Hour))
		b.same("due tickets", b.dueTickets(10), []string{"a tie", "early", "late"})
		b.same("first due tickets", b.dueTickets(2), []string{"a tie", "early"})
		b.same("no due tickets", b.dueTickets(0), []string(nil))
		b.saveTickets(due("early", store.TicketAnswered, -time.Hour))
		b.same("due tickets", b.dueTickets(10), []string{"a tie", "late"})
	}},
	{"ATicketIsDueFromItsMomentOn", func(b *bench) {
		b.write(func(tx store.Tx) error { // in which time stands still
			x, y := ticket("x"), ticket("y")
			x.Due, y.Due = tx.Now(), tx.Now().Add(time.Microsecond)
			if err := tx.SaveTickets(b.Context(), []store.Ticket{x, y}); err != nil {
				return err
			}
			due, err := tx.TicketsDue(b.Context(), "celery", 10)
			b.same("due tickets", ticketIDs(due), []string{"x"})
			return err
		})
	}},
	{"TicketsInAStateComeOldestFirst", func(b *bench) {
		for i := range 3 {
			t := ticket(fmt.Sprint(9 - i))
			t.State = store.TicketOpen
			b.saveTickets(t)
		}
		b.saveTickets(ticket("waiting"))
		in := func(s store.TicketState, limit int) (ids []string) {
			b.read(func(tx store.ReadTx) error {
				ts, err := tx.TicketsIn(b.Context(), "celery", s, limit)
				ids = ticketIDs(ts)
				return err
			})
			return ids
		}
		b.same("open tickets", in(store.TicketOpen, 10), []string{"9", "8", "7"})
		b.same("first open tickets", in(store.TicketOpen, 2), []string{"9", "8"})
		b.same("waiting tickets", in(store.TicketWaiting, 10), []string{"waiting"})
		b.same("no tickets", in(store.TicketOpen, -1), []string(nil))
	}},
	{"OldTicketsWithoutDebtAreDeleted", func(b *bench) {
		var first, last time.Time
		for _, s := range ticketStates {
			t := ticket(string(s))
			t.State = s
			last = b.saveTickets(t)
			if first.IsZero() {
				first = last
			}
		}
		another := ticket("another")
		another.Door, another.State = "another door", store.TicketAnswered
		last = b.saveTickets(another)
		b.deleteTickets(first, 10, 0)
		b.deleteTickets(last, 0, 0)
		b.deleteTickets(last, 1, 1)
		b.same("tickets", ticketIDs(b.tickets("waiting", "open", "answered", "revoked")), []string{"waiting", "open", "revoked"})
		b.deleteTickets(last.Add(time.Second), 10, 1)
		b.same("tickets", ticketIDs(b.tickets("waiting", "open", "answered", "revoked")), []string{"waiting", "open"})
	}},
	{"ADeletedTicketMayComeAgain", func(b *bench) {
		x := ticket("x")
		x.State = store.TicketAnswered
		first := b.saveTickets(x)
		var now time.Time
		b.write(func(tx store.Tx) error {
			now = tx.Now()
			if n, err := tx.DeleteTickets(b.Context(), "celery", first.Add(time.Microsecond), 10); err != nil || n != 1 {
				return fmt.Errorf("deleted %d tickets (%v)", n, err)
			}
			return tx.SaveTickets(b.Context(), []store.Ticket{x})
		})
		x.CreatedAt, x.UpdatedAt = now, now
		b.same("tickets", b.tickets("x"), []store.Ticket{x})
	}},
}

// ticket returns a ticket that waits.
func ticket(id string) store.Ticket {
	return store.Ticket{Door: "celery", ID: id, State: store.TicketWaiting, Body: []byte("a body")}
}

// saveTickets saves tickets and returns when, by the store's clock, which has
// gone on since whatever was saved before.
func (b *bench) saveTickets(tickets ...store.Ticket) (now time.Time) {
	b.Helper()
	var before time.Time
	b.read(func(tx store.ReadTx) error {
		before = tx.Now()
		return nil
	})
	for now.IsZero() {
		b.write(func(tx store.Tx) error {
			if !tx.Now().After(before) {
				return nil
			}
			now = tx.Now()
			return tx.SaveTickets(b.Context(), tickets)
		})
	}
	return now
}

func (b *bench) tickets(ids ...string) (ts []store.Ticket) {
	b.Helper()
	b.read(func(tx store.ReadTx) (err error) {
		ts, err = tx.Tickets(b.Context(), "celery", ids)
		return err
	})
	return ts
}

func (b *bench) dueTickets(limit int) (ids []string) {
	b.Helper()
	b.read(func(tx store.ReadTx) error {
		ts, err := tx.TicketsDue(b.Context(), "celery", limit)
		ids = ticketIDs(ts)
		return err
	})
	return ids
}

func (b *bench) deleteTickets(before time.Time, limit, want int) {
	b.Helper()
	var n int
	b.write(func(tx store.Tx) (err error) {
		n, err = tx.DeleteTickets(b.Context(), "celery", before, limit)
		return err
	})
	b.same("deleted tickets", n, want)
}

func ticketIDs(ts []store.Ticket) []string {
	var ids []string
	for _, t := range ts {
		ids = append(ids, t.ID)
	}
	return ids
}
