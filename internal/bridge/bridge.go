// Package bridge lets nanoos take the place of a NANO-OS platform's own worker:
// it makes jobs of the rows in the platform's tables, and writes their life back
// into the same rows. It is a guest there: it looks which columns exist, writes
// only those that a worker owns, moves a status only along the platform's own
// rules, and never changes a row that has ended.
//
// The mirror is fed from the history of jobs and from a cursor in the store, so
// it survives restarts and catches up after the platform's database was away. It
// never holds up a job. It runs on one server at a time; if two should write for
// a moment, they write the same.
package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
	"github.com/nano-os/nanoos/internal/store"
)

// ErrNoPlatform means that the database has no tables of a platform, and by the
// kind of its address never will.
var ErrNoPlatform = errors.New("there are no tables of a NANO-OS platform")

// Options are what the bridge works with. Store and Queue are required.
type Options struct {
	Store store.Store
	Queue *queue.Service
	Log   *slog.Logger // nil: the default
	// Name is this server's in the lease of the mirror; empty: a random one. With
	// the same name after a crash it need not wait for the end of its own lease.
	Name string
}

// Bridge is the way between the platform's tables and the queue.
type Bridge struct {
	opt   Options
	db    *database
	fault atomic.Pointer[error] // why the platform is not served; nil in health
}

// Open connects to the platform's database. One of another kind is ErrNoPlatform.
// One without the platform's tables, whose migrations may be yet to run, is no
// error, and neither is one that does not answer: the bridge goes on trying.
func Open(ctx context.Context, url string, opt Options) (*Bridge, error) {
	db, err := newDatabase(url)
	if err != nil {
		return nil, err
	}
	if opt.Log == nil {
		opt.Log = slog.Default()
	}
	if opt.Name == "" {
		opt.Name = string(job.NewID())
	}
	b := &Bridge{opt: opt, db: db}
	err = db.use(ctx, func(context.Context, *session) error { return nil })
	switch {
	case errors.Is(err, ErrNoPlatform):
	case job.CodeOf(err) == job.Unavailable && ctx.Err() == nil:
		b.failed(ctx, err)
	case err != nil:
		db.close()
		return nil, err
	}
	return b, nil
}

// Close ends the sessions.
func (b *Bridge) Close() { b.db.close() }

// Found reports whether the platform's tables were seen.
func (b *Bridge) Found() bool {
	select {
	case <-b.db.found:
		return true
	default:
		return false
	}
}

// Health is why the platform is not served at the moment; nil when it is.
func (b *Bridge) Health() error {
	if fault := b.fault.Load(); fault != nil {
		return *fault
	}
	return nil
}

// failed remembers why the platform is not served, and says it once.
func (b *Bridge) failed(ctx context.Context, err error) {
	if before := b.Health(); before == nil || before.Error() != err.Error() {
		b.opt.Log.WarnContext(ctx, "the platform is not served", "error", err)
	}
	b.fault.Store(&err)
}

// works forgets it.
func (b *Bridge) works(ctx context.Context) {
	if b.fault.Swap(nil) != nil {
		b.opt.Log.InfoContext(ctx, "the platform is served again")
	}
}

// Known returns the status of the platform's job, in upper case. An unknown one
// is job.NotFound.
func (b *Bridge) Known(ctx context.Context, id job.ID) (status string, err error) {
	err = b.use(ctx, id, func(ctx context.Context, s *session) error {
		rows, err := s.statuses(ctx, []job.ID{id})
		if err != nil {
			return err
		}
		row, found := rows[id]
		if !found {
			return noJob(id)
		}
		status = row.status
		return nil
	})
	return status, err
}

// use uses the tables for a job, which is unknown where there are none.
func (b *Bridge) use(ctx context.Context, id job.ID, fn func(context.Context, *session) error) error {
	err := b.db.use(ctx, fn)
	if errors.Is(err, ErrNoPlatform) {
		return noJob(id)
	}
	return err
}

// noJob is what the platform's own worker says.
func noJob(id job.ID) error {
	return &job.Error{Code: job.NotFound, Message: fmt.Sprintf("Job %s not found", id)}
}
