package store

import (
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// Ticket is a request of another system that was accepted and whose answer is
// owed. From its commit on the other system may forget the request.
type Ticket struct {
	Door  string // which front door accepted it
	ID    string // the caller's, unique within the door; at most 255 bytes
	State TicketState
	Job   job.ID    // whose end answers it; empty: none yet
	Due   time.Time // when to look at it next; zero: never by time
	Node  string    // the server that accepted it
	Body  []byte    // the door's own; returns byte for byte

	CreatedAt, UpdatedAt time.Time // by the store
}

// TicketState says what became of a request.
type TicketState string

// The states of a ticket.
const (
	TicketWaiting  TicketState = "waiting"  // for its time; nothing was started
	TicketOpen     TicketState = "open"     // its job is at work on it
	TicketAnswered TicketState = "answered" // nothing is owed any more
	TicketRevoked  TicketState = "revoked"  // asked to be forgotten, perhaps before it came
)

// Owed reports whether the request still waits for its answer.
func (t Ticket) Owed() bool { return t.State == TicketWaiting || t.State == TicketOpen }
