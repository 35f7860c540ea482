package simulation

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// database is the model as one server reaches it: slowly, not always, and not
// always with an answer.
type database struct {
	inner   store.Store
	history *history
	faults  *faults
	mutant  mutant
	server  *process
	skew    time.Duration // of the server's own clock, which only a mutant reads
	tell    func(format string, args ...any)
	commits atomic.Int64 // of this server that a waiter is told of
}

var _ store.Store = (*database)(nil)

var (
	errNoDatabase = &job.Error{Code: job.Unavailable, Message: "the database does not answer"}
	errNoAnswer   = &job.Error{Code: job.Unavailable, Message: "the connection was lost while the transaction was committed"}
	errUndo       = errors.New("undo")
)

// Read implements store.Store.
func (d *database) Read(ctx context.Context, fn func(store.ReadTx) error) error {
	o := opOf(ctx)
	if err := d.reach(ctx, o); err != nil {
		return err
	}
	blind := false
	if d.mutant == notifyOnly && o.kind == "claim" {
		seen := d.commits.Load()
		blind, o.noticed = seen == o.noticed, seen
	}
	return d.inner.Read(ctx, func(tx store.ReadTx) error { return fn(view{tx, d.clockSkew(), blind}) })
}

// Write implements store.Store.
func (d *database) Write(ctx context.Context, fn func(store.Tx) error) error {
	o := opOf(ctx)
	if err := d.reach(ctx, o); err != nil {
		return err
	}
	if d.faults.active() && o.chance.happens(d.faults.writeFails) {
		if d.mutant == acknowledgeFirst {
			return d.pretend(ctx, fn)
		}
		return errNoDatabase
	}
	if d.faults.active() && o.chance.happens(d.faults.writeRepeats) {
		// What a serialization failure looks like from inside.
		_ = d.pretend(ctx, fn)
	}
	c := &commit{op: o}
	err := d.history.commitWith(c, func() error {
		if !d.server.alive() {
			return errKilled
		}
		return d.inner.Write(ctx, func(tx store.Tx) error {
			c.at = time.Now()
			return fn(d.record(tx, c))
		})
	})
	if err != nil {
		return err
	}
	if len(c.events) > 0 {
		d.commits.Add(1)
	}
	for _, ch := range c.changes {
		d.tell("%s: %s %s: %s %s", d.server.name, o.kind, o.worker, ch.after.Name, ch)
	}
	if d.faults.active() {
		lost := o.chance.happens(d.faults.answerLost)
		time.Sleep(o.chance.within(0, d.faults.latency))
		if lost {
			return errNoAnswer
		}
	}
	if !d.server.passWith(o.chance) {
		return errKilled
	}
	return nil
}

// pretend does everything but the commit.
func (d *database) pretend(ctx context.Context, fn func(store.Tx) error) error {
	err := d.inner.Write(ctx, func(tx store.Tx) error {
		if err := fn(d.record(tx, &commit{})); err != nil {
			return err
		}
		return errUndo
	})
	if errors.Is(err, errUndo) {
		return nil
	}
	return err
}

// Close implements store.Store.
func (d *database) Close() error { return nil }

// reach is the way to the database.
func (d *database) reach(ctx context.Context, o *op) error {
	if !d.server.passWith(o.chance) {
		return errKilled
	}
	delay := o.chance.within(0, 2*time.Millisecond)
	if d.faults.active() && o.chance.happens(d.faults.slow) {
		delay = o.chance.within(0, 3*time.Second)
	}
	sleep(ctx, delay)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !d.server.passWith(o.chance) {
		return errKilled
	}
	return nil
}

func (d *database) clockSkew() time.Duration {
	if d.mutant == localClock {
		return d.skew
	}
	return 0
}

func (d *database) record(tx store.Tx, c *commit) store.Tx {
	return &recorder{Tx: tx, c: c, skew: d.clockSkew(), mutant: d.mutant}
}

// view is a snapshot as a server sees it.
type view struct {
	store.ReadTx
	skew  time.Duration
	blind bool // sees no work
}

func (v view) Now() time.Time { return v.ReadTx.Now().Add(v.skew) }

func (v view) Lanes(ctx context.Context) ([]store.Lane, error) {
	if v.blind {
		return nil, nil
	}
	return v.ReadTx.Lanes(ctx)
}

// recorder notes what a transaction does.
type recorder struct {
	store.Tx
	c      *commit
	skew   time.Duration
	mutant mutant
}

func (r *recorder) Now() time.Time { return r.Tx.Now().Add(r.skew) }

func (r *recorder) InsertJobs(ctx context.Context, jobs []job.Job, digests []string) error {
	if err := r.Tx.InsertJobs(ctx, jobs, digests); err != nil {
		return err
	}
	for _, j := range jobs {
		r.c.changes = append(r.c.changes, change{id: j.ID, new: true, after: rowOf(j)})
	}
	return nil
}

func (r *recorder) SaveJobs(ctx context.Context, jobs []job.Job) error {
	if err := r.Tx.SaveJobs(ctx, jobs); err != nil {
		return err
	}
	for _, j := range jobs {
		r.saved(j)
	}
	return nil
}

// saved notes a row once for a transaction, as it leaves it.
func (r *recorder) saved(j job.Job) {
	ch := change{id: j.ID, after: rowOf(j), result: j.Result}
	for i := range r.c.changes {
		if r.c.changes[i].id == j.ID {
			ch.new = r.c.changes[i].new
			r.c.changes[i] = ch
			return
		}
	}
	r.c.changes = append(r.c.changes, ch)
}

func (r *recorder) InsertAttempts(ctx context.Context, as []job.Attempt) error {
	r.c.attempts = append(r.c.attempts, as...)
	return r.Tx.InsertAttempts(ctx, as)
}

func (r *recorder) SaveAttempts(ctx context.Context, as []job.Attempt) error {
	r.c.attempts = append(r.c.attempts, as...)
	return r.Tx.SaveAttempts(ctx, as)
}

func (r *recorder) AppendEvents(ctx context.Context, ev []job.Event) error {
	if r.mutant == eventLost && len(ev) > 0 && ev[0].Kind == job.EventQueued {
		return nil
	}
	r.c.events = append(r.c.events, ev...)
	return r.Tx.AppendEvents(ctx, ev)
}

func (r *recorder) SaveWorker(ctx context.Context, w store.Worker) error {
	r.c.heard = append(r.c.heard, w.Worker)
	return r.Tx.SaveWorker(ctx, w)
}

func (r *recorder) RenewWorker(ctx context.Context, name string) error {
	r.c.heard = append(r.c.heard, name)
	return r.Tx.RenewWorker(ctx, name)
}

// attemptOf reads which attempt a stored result is of.
func attemptOf(result json.RawMessage) int {
	var r struct {
		Provenance struct {
			Attempt int `json:"attempt"`
		} `json:"provenance"`
	}
	if json.Unmarshal(result, &r) != nil {
		return 0
	}
	return r.Provenance.Attempt
}
