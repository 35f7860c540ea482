package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/column"
)

const (
	// The outer loop of a CROSS JOIN keeps the order asked, the index that of
	// each job's tickets.
	ticketColumns = `t.door, t.id, t.state, t.job, t.due, t.node, t.body, t.created_at, t.updated_at`
	selectTickets = `
SELECT ` + ticketColumns + `
FROM json_each(?2) e CROSS JOIN tickets t ON t.door = ?1 AND t.id = e.value`
	selectTicketsOf = `
SELECT ` + ticketColumns + `
FROM json_each(?2) e CROSS JOIN tickets t ON t.door = ?1 AND t.job = e.value AND t.job <> ''`
	selectTicketsDue = `
SELECT ` + ticketColumns + ` FROM tickets t
WHERE t.door = ? AND t.due > 0 AND t.due <= ? AND t.state IN ('waiting', 'open')
ORDER BY t.due, t.id LIMIT ?`
	selectTicketsIn = `
SELECT ` + ticketColumns + ` FROM tickets t
WHERE t.door = ? AND t.state = ?
ORDER BY t.created_at, t.id LIMIT ?`
	upsertTicket = `
INSERT INTO tickets (door, id, state, job, due, node, body, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)
ON CONFLICT (door, id) DO UPDATE SET state = excluded.state, job = excluded.job, due = excluded.due, node = excluded.node,
	body = excluded.body, updated_at = excluded.updated_at`
	deleteTickets = `
DELETE FROM tickets WHERE rowid IN (
	SELECT t.rowid FROM tickets t
	WHERE t.door = ? AND t.updated_at < ? AND t.state IN ('answered', 'revoked')
	ORDER BY t.updated_at, t.id LIMIT ?)`
)

// Tickets implements store.ReadTx.
func (tx *readTx) Tickets(ctx context.Context, door string, ids []string) ([]store.Ticket, error) {
	return tx.tickets(ctx, selectTickets, door, list(ids))
}

// TicketsOf implements store.ReadTx.
func (tx *readTx) TicketsOf(ctx context.Context, door string, jobs []job.ID) ([]store.Ticket, error) {
	return tx.tickets(ctx, selectTicketsOf, door, list(jobs))
}

// TicketsDue implements store.ReadTx.
func (tx *readTx) TicketsDue(ctx context.Context, door string, limit int) ([]store.Ticket, error) {
	return tx.tickets(ctx, selectTicketsDue, door, column.Micros(tx.now), max(0, limit))
}

// TicketsIn implements store.ReadTx.
func (tx *readTx) TicketsIn(ctx context.Context, door string, state store.TicketState, limit int) ([]store.Ticket, error) {
	return tx.tickets(ctx, selectTicketsIn, door, string(state), max(0, limit))
}

func (tx *readTx) tickets(ctx context.Context, query string, args ...any) ([]store.Ticket, error) {
	tickets, err := all(ctx, tx, query, args, column.Ticket)
	if err != nil {
		return nil, fmt.Errorf("list tickets: %w", err)
	}
	return tickets, nil
}

// SaveTickets implements store.Tx.
func (tx *writeTx) SaveTickets(_ context.Context, tickets []store.Ticket) error {
	for _, t := range tickets {
		body := t.Body
		if body == nil {
			body = []byte{}
		}
		_, err := tx.exec(upsertTicket, t.Door, t.ID, string(t.State), string(t.Job), column.Micros(t.Due), t.Node, body, column.Micros(tx.now))
		if err != nil {
			return fmt.Errorf("save ticket %s of %s: %w", t.ID, t.Door, err)
		}
	}
	return nil
}

// DeleteTickets implements store.Tx.
func (tx *writeTx) DeleteTickets(_ context.Context, door string, before time.Time, limit int) (int, error) {
	res, err := tx.exec(deleteTickets, door, column.Micros(before), max(0, limit))
	var n int64
	if err == nil {
		n, err = res.RowsAffected()
	}
	if err != nil {
		return 0, fmt.Errorf("delete tickets of %s: %w", door, err)
	}
	return int(n), nil
}
