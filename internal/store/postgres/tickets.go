package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/column"
)

const (
	ticketColumns = `t.door, t.id, t.state, t.job, t.due, t.node, t.body, t.created_at, t.updated_at`
	selectTickets = `
SELECT ` + ticketColumns + ` FROM nanoos.tickets t
WHERE t.door = $1 AND t.id = ANY($2::text[])
ORDER BY t.id`
	selectTicketsOf = `
SELECT ` + ticketColumns + ` FROM nanoos.tickets t
WHERE t.door = $1 AND t.job = ANY($2::text[]) AND t.job <> ''
ORDER BY t.id`
	selectTicketsDue = `
SELECT ` + ticketColumns + ` FROM nanoos.tickets t
WHERE t.door = $1 AND t.due > 0 AND t.due <= $2 AND t.state IN ('waiting', 'open')
ORDER BY t.due, t.id LIMIT $3`
	selectTicketsIn = `
SELECT ` + ticketColumns + ` FROM nanoos.tickets t
WHERE t.door = $1 AND t.state = $2
ORDER BY t.created_at, t.id LIMIT $3`

	// Tickets are locked in the order of their ids, so that two transactions
	// that lock the same do not wait for each other crosswise. Servers that look
	// for work pass over what another one holds (S1, F48).
	lockTickets    = selectTickets + ` FOR UPDATE`
	lockTicketsOf  = selectTicketsOf + ` FOR UPDATE`
	lockTicketsDue = selectTicketsDue + ` FOR UPDATE SKIP LOCKED`
	lockTicketsOld = `
SELECT t.id FROM nanoos.tickets t
WHERE t.door = $1 AND t.updated_at < $2 AND t.state IN ('answered', 'revoked')
ORDER BY t.updated_at, t.id LIMIT $3 FOR UPDATE SKIP LOCKED`

	upsertTickets = `
INSERT INTO nanoos.tickets (door, id, state, job, due, node, body, created_at, updated_at)
SELECT u.door, u.id, u.state, u.job, u.due, u.node, u.body, $8, $8
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::bytea[])
	AS u(door, id, state, job, due, node, body)
ON CONFLICT (door, id) DO UPDATE SET state = excluded.state, job = excluded.job, due = excluded.due, node = excluded.node,
	body = excluded.body, updated_at = excluded.updated_at`
	deleteTickets = `DELETE FROM nanoos.tickets WHERE door = $1 AND id = ANY($2::text[])`
)

// Tickets implements store.ReadTx.
func (tx *readTx) Tickets(ctx context.Context, door string, ids []string) ([]store.Ticket, error) {
	return tx.ticketsByID(ctx, selectTickets, door, ids)
}

// Tickets implements store.ReadTx. It locks what it finds.
func (tx *writeTx) Tickets(ctx context.Context, door string, ids []string) ([]store.Ticket, error) {
	return tx.ticketsByID(ctx, lockTickets, door, ids)
}

// TicketsOf implements store.ReadTx.
func (tx *readTx) TicketsOf(ctx context.Context, door string, jobs []job.ID) ([]store.Ticket, error) {
	return tx.ticketsByJob(ctx, selectTicketsOf, door, jobs)
}

// TicketsOf implements store.ReadTx. It locks what it finds.
func (tx *writeTx) TicketsOf(ctx context.Context, door string, jobs []job.ID) ([]store.Ticket, error) {
	return tx.ticketsByJob(ctx, lockTicketsOf, door, jobs)
}

// TicketsDue implements store.ReadTx.
func (tx *readTx) TicketsDue(ctx context.Context, door string, limit int) ([]store.Ticket, error) {
	return tx.tickets(ctx, selectTicketsDue, clean(door), column.Micros(tx.Now()), max(0, limit))
}

// TicketsDue implements store.ReadTx. It locks what it finds, and leaves out
// what other transactions hold.
func (tx *writeTx) TicketsDue(ctx context.Context, door string, limit int) ([]store.Ticket, error) {
	return tx.tickets(ctx, lockTicketsDue, clean(door), column.Micros(tx.Now()), max(0, limit))
}

// TicketsIn implements store.ReadTx.
func (tx *readTx) TicketsIn(ctx context.Context, door string, state store.TicketState, limit int) ([]store.Ticket, error) {
	return tx.tickets(ctx, selectTicketsIn, clean(door), clean(state), max(0, limit))
}

// ticketsByID brings tickets into the order asked.
func (tx *readTx) ticketsByID(ctx context.Context, query, door string, ids []string) ([]store.Ticket, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	asked := texts(ids)
	tickets, err := tx.tickets(ctx, query, clean(door), asked)
	place := places(asked)
	slices.SortFunc(tickets, func(a, b store.Ticket) int { return cmp.Compare(place[a.ID], place[b.ID]) })
	return tickets, err
}

// ticketsByJob brings tickets into the order of their jobs.
func (tx *readTx) ticketsByJob(ctx context.Context, query, door string, jobs []job.ID) ([]store.Ticket, error) {
	if len(jobs) == 0 {
		return nil, nil
	}
	asked := texts(jobs)
	tickets, err := tx.tickets(ctx, query, clean(door), asked)
	place := places(asked)
	slices.SortFunc(tickets, func(a, b store.Ticket) int {
		return cmp.Or(cmp.Compare(place[string(a.Job)], place[string(b.Job)]), a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return tickets, err
}

func places(asked []string) map[string]int {
	place := make(map[string]int, len(asked))
	for i, s := range asked {
		place[s] = i
	}
	return place
}

func (tx *readTx) tickets(ctx context.Context, query string, args ...any) ([]store.Ticket, error) {
	tickets, err := all(ctx, tx, otherRows, query, args, column.Ticket)
	if err != nil {
		return nil, fmt.Errorf("list tickets: %w", err)
	}
	return tickets, nil
}

// SaveTickets implements store.Tx. The rows are written in the order of their
// keys, as they are locked.
func (tx *writeTx) SaveTickets(_ context.Context, tickets []store.Ticket) error {
	n := len(tickets)
	if n == 0 {
		return nil
	}
	sorted := slices.SortedFunc(slices.Values(tickets), func(a, b store.Ticket) int {
		return cmp.Or(cmp.Compare(a.Door, b.Door), cmp.Compare(a.ID, b.ID))
	})
	doors, ids, states, jobs, nodes := make([]string, n), make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	due, bodies := make([]int64, n), make([][]byte, n)
	for i, t := range sorted {
		doors[i], ids[i], states[i], jobs[i], nodes[i] = clean(t.Door), clean(t.ID), clean(string(t.State)), clean(string(t.Job)), clean(t.Node)
		due[i], bodies[i] = column.Micros(t.Due), append([]byte{}, t.Body...) // the caller may go on with its own
	}
	tx.other(upsertTickets, doors, ids, states, jobs, due, nodes, bodies, column.Micros(tx.Now()))
	return nil
}

// DeleteTickets implements store.Tx.
func (tx *writeTx) DeleteTickets(ctx context.Context, door string, before time.Time, limit int) (int, error) {
	var old []string
	err := tx.query(ctx, otherRows, lockTicketsOld, []any{clean(door), column.Micros(before), max(0, limit)}, func(r pgx.Rows) error {
		var id string
		err := r.Scan(&id)
		old = append(old, id)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("delete tickets of %s: %w", door, err)
	}
	if len(old) > 0 {
		tx.other(deleteTickets, clean(door), old)
	}
	return len(old), nil
}
