// Package worker runs the jobs that one machine has claimed: it claims what
// fits, stages files, starts the engine under the executor, follows its output,
// parses what it left and reports. It never touches the database.
package worker

import (
	"context"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// Queue is what a worker needs of the queue: the service itself in one process,
// an HTTP client in another. Every call is safe to repeat.
type Queue interface {
	// Attach begins the session of a worker and settles what its host ran before.
	Attach(ctx context.Context, s job.Session, found []job.Found) (job.Attachment, error)
	// Claim waits at most wait for jobs that fit free, and returns up to max
	// leases, possibly none.
	Claim(ctx context.Context, worker string, free job.Offer, max int, wait time.Duration) ([]job.Lease, error)
	// Beat renews the session and reports progress. The answer has an order
	// for every job held.
	Beat(ctx context.Context, worker string, held []job.Held) ([]job.Order, error)
	// Orders waits at most wait for orders other than Carry.
	Orders(ctx context.Context, worker string, wait time.Duration) ([]job.Order, error)
	// Finish ends an attempt; job.Fenced when the lease is no longer current.
	Finish(ctx context.Context, l job.Lease, out job.Outcome) error
	// Leave ends the session; running programs go on and wait to be adopted.
	Leave(ctx context.Context, worker string) error
}
