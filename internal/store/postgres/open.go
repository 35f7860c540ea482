// Package postgres keeps the store's contract in PostgreSQL, for any number of
// servers on any number of machines. It runs on versions 10 to 18 and is tested
// on 15.
//
// In each process one goroutine writes: it runs what callers have queued in one
// transaction, keeps the changes in memory, and sends them with the commit in
// one round trip. So whoever holds a row that all share holds it for no longer
// than a commit. Reads have connections and snapshots of their own. What Write
// has returned is durable (G1); when the answer to a commit is lost, the
// database is asked what became of it (R9).
//
// Nothing waits without bound: a database that is away or frozen ends calls as
// job.Unavailable, and work goes on by itself once it is back.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/group"
)

// Store is an open database.
type Store struct {
	server *server
	opt    Options
	writer *writer
	pool   *pool
	notes  *notifier
	tasks  sync.WaitGroup // what runs in the background until Close
}

var _ store.Store = (*Store)(nil)

// Options of Open; the zero value of a field means its default.
type Options struct {
	// AllowUnsafeServer accepts a server that does not flush what it commits.
	// It is for tests, which lose nothing of value.
	AllowUnsafeServer bool

	now    func() time.Time // instead of the database's clock, for tests
	bounds bounds           // the usual ones
}

// Open connects to a database and creates or updates its schema. It refuses a
// server that would lose commits, and a schema that is too new.
func Open(ctx context.Context, url string, opt Options) (*Store, error) {
	cfg, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	if opt.bounds == (bounds{}) {
		opt.bounds = usualBounds
	}
	srv := &server{cfg: cfg, bounds: opt.bounds}
	c, err := srv.connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := prepare(ctx, c, opt); err != nil {
		c.close()
		return nil, fmt.Errorf("open database %s: %w", cfg.Database, err)
	}
	s := &Store{server: srv, opt: opt, pool: newPool(opt.bounds.reader), notes: newNotifier(srv)}
	s.writer = startWriter(s, c)
	s.tasks.Go(s.notes.send)
	return s, nil
}

func prepare(ctx context.Context, c *conn, opt Options) error {
	if err := checkServer(ctx, c, opt); err != nil {
		return err
	}
	return migrate(ctx, c)
}

// Read implements store.Store.
func (s *Store) Read(ctx context.Context, fn func(store.ReadTx) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c, err := s.pool.take(ctx)
	if err != nil {
		return err
	}
	tx := &readTx{c: c, opt: s.opt, begin: beginReading, renew: s.server.connect}
	defer s.release(tx)
	if err := fn(tx); err != nil {
		return err
	}
	return tx.broken
}

// release ends a snapshot and gives its session back. The caller need not wait
// for it.
func (s *Store) release(tx *readTx) {
	if !tx.begun {
		s.pool.put(tx.c)
		return
	}
	s.tasks.Go(func() {
		_ = tx.c.exec(context.Background(), "ROLLBACK")
		s.pool.put(tx.c)
	})
}

// Write implements store.Store.
func (s *Store) Write(ctx context.Context, fn func(store.Tx) error) error {
	return s.writer.calls.Do(ctx, fn)
}

// Stats returns the writer's numbers so far.
func (s *Store) Stats() store.Stats { return s.writer.stats() }

// Close finishes the writes that were queued and the reads that have begun,
// and ends the sessions.
func (s *Store) Close() error {
	s.writer.calls.Stop()
	s.notes.stop()
	s.pool.close()
	s.tasks.Wait()
	return nil
}

// pool keeps the connections of readers.
type pool struct {
	slots chan *conn // idle readers; nil stands for one that is not open yet
	wait  time.Duration
}

// maxReaders bounds the snapshots that are open at once in a process. Reads are
// short, and a few saturate a small database server.
const maxReaders = 8

func newPool(wait time.Duration) *pool {
	p := &pool{slots: make(chan *conn, maxReaders), wait: wait}
	for range maxReaders {
		p.slots <- nil
	}
	return p
}

// take waits for a reader. It may be one that is not open yet, or that has
// broken: the first query finds out.
func (p *pool) take(ctx context.Context) (*conn, error) {
	select {
	case c, open := <-p.slots:
		if !open {
			return nil, group.Closed()
		}
		return c, nil
	default:
	}
	timer := time.NewTimer(p.wait)
	defer timer.Stop()
	select {
	case c, open := <-p.slots:
		if !open {
			return nil, group.Closed()
		}
		return c, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-timer.C:
		return nil, errWaited(fmt.Sprintf("all %d readers were busy for %v", maxReaders, p.wait))
	}
}

func (p *pool) put(c *conn) {
	if c != nil && c.broken() {
		c.close()
		c = nil
	}
	p.slots <- c
}

// close waits for the readers and ends them.
func (p *pool) close() {
	for range maxReaders {
		if c := <-p.slots; c != nil {
			c.close()
		}
	}
	close(p.slots)
}

var errNotConnected = errors.New("not connected")
