package storetest

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// ticketKey is what no two tickets have in common.
type ticketKey struct{ door, id string }

// Tickets implements store.ReadTx.
func (tx *modelTx) Tickets(_ context.Context, door string, ids []string) ([]store.Ticket, error) {
	var found []store.Ticket
	for _, id := range ids {
		if t, ok := tx.tickets[ticketKey{door, id}]; ok {
			found = append(found, copyOf(t))
		}
	}
	return found, nil
}

// TicketsOf implements store.ReadTx.
func (tx *modelTx) TicketsOf(_ context.Context, door string, jobs []job.ID) ([]store.Ticket, error) {
	var found []store.Ticket
	for _, id := range jobs {
		found = append(found, tx.ticketsThat(door, created, func(t store.Ticket) bool { return t.Job == id && id != "" })...)
	}
	return found, nil
}

// TicketsDue implements store.ReadTx.
func (tx *modelTx) TicketsDue(_ context.Context, door string, limit int) ([]store.Ticket, error) {
	due := tx.ticketsThat(door, func(t store.Ticket) time.Time { return t.Due }, func(t store.Ticket) bool {
		return t.Owed() && !t.Due.IsZero() && !t.Due.After(tx.now)
	})
	return firstOf(due, limit), nil
}

// TicketsIn implements store.ReadTx.
func (tx *modelTx) TicketsIn(_ context.Context, door string, state store.TicketState, limit int) ([]store.Ticket, error) {
	return firstOf(tx.ticketsThat(door, created, func(t store.Ticket) bool { return t.State == state }), limit), nil
}

// SaveTickets implements store.Tx.
func (tx *modelTx) SaveTickets(_ context.Context, tickets []store.Ticket) error {
	for _, t := range tickets {
		key := ticketKey{t.Door, t.ID}
		t = copyOf(t)
		t.CreatedAt, t.UpdatedAt = tx.now, tx.now
		if before, ok := tx.tickets[key]; ok {
			t.CreatedAt = before.CreatedAt
		}
		tx.tickets[key] = t
	}
	return nil
}

// DeleteTickets implements store.Tx.
func (tx *modelTx) DeleteTickets(_ context.Context, door string, before time.Time, limit int) (int, error) {
	old := firstOf(tx.ticketsThat(door, func(t store.Ticket) time.Time { return t.UpdatedAt }, func(t store.Ticket) bool {
		return !t.Owed() && t.UpdatedAt.Before(before)
	}), limit)
	for _, t := range old {
		delete(tx.tickets, ticketKey{door, t.ID})
	}
	return len(old), nil
}

// ticketsThat returns tickets of a door by a time, then by id.
func (tx *modelTx) ticketsThat(door string, by func(store.Ticket) time.Time, ok func(store.Ticket) bool) []store.Ticket {
	var found []store.Ticket
	for _, t := range tx.tickets {
		if t.Door == door && ok(t) {
			found = append(found, copyOf(t))
		}
	}
	slices.SortFunc(found, func(a, b store.Ticket) int { return cmp.Or(by(a).Compare(by(b)), cmp.Compare(a.ID, b.ID)) })
	return found
}

func created(t store.Ticket) time.Time { return t.CreatedAt }

// firstOf returns at most limit of all.
func firstOf[T any](all []T, limit int) []T { return all[:min(len(all), max(0, limit))] }
