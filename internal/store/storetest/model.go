package storetest

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nano-os/nanoos/internal/auth"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// Model is a store in memory that is meant to be obviously right rather than
// fast: every transaction works on a copy of the whole state, every query is a
// loop over all rows. It starts no goroutine and waits for nothing but a mutex,
// so it can live in a synctest bubble.
type Model struct {
	now func() time.Time

	writing sync.Mutex            // held by the one Write that runs
	state   atomic.Pointer[state] // replaced by Write; what it points to never changes
}

var _ store.Store = (*Model)(nil)

// NewModel returns an empty store with that clock.
func NewModel(now func() time.Time) *Model {
	m := &Model{now: now}
	m.state.Store(&state{
		jobs:     map[job.ID]row{},
		attempts: map[job.ID][]job.Attempt{},
		queues:   map[string]store.Queue{},
		workers:  map[string]store.Worker{},
		meta:     map[string]string{},
		tokens:   map[string]auth.Token{},
		leases:   map[string]lease{},
		tickets:  map[ticketKey]store.Ticket{},
	})
	return m
}

// Read implements store.Store.
func (m *Model) Read(ctx context.Context, fn func(store.ReadTx) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fn(&modelTx{state: m.state.Load(), now: m.clock()})
}

// Write implements store.Store.
func (m *Model) Write(ctx context.Context, fn func(store.Tx) error) error {
	m.writing.Lock()
	defer m.writing.Unlock()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	tx := &modelTx{state: m.state.Load().clone(), now: m.clock()}
	if err := fn(tx); err != nil {
		return err
	}
	m.state.Store(tx.state)
	return nil
}

// Close implements store.Store; the model keeps nothing to close.
func (m *Model) Close() error { return nil }

func (m *Model) clock() time.Time { return m.now().UTC().Truncate(time.Microsecond) }

// state is everything that is stored. Its values are never changed in place.
type state struct {
	jobs     map[job.ID]row
	order    []job.ID // by insertion; the index is the row's seq
	lanes    []store.Lane
	attempts map[job.ID][]job.Attempt
	events   []job.Event
	queues   map[string]store.Queue
	workers  map[string]store.Worker
	meta     map[string]string
	tokens   map[string]auth.Token
	leases   map[string]lease // by duty
	tickets  map[ticketKey]store.Ticket
}

// lease says who has a duty until when.
type lease struct {
	owner string
	end   time.Time
}

// row is a stored job.
type row struct {
	job    job.Job // without its result
	result []byte
	digest string
	seq    int64
	lane   store.LaneID
}

func (s *state) clone() *state {
	c := *s
	c.jobs = maps.Clone(s.jobs)
	c.order = slices.Clone(s.order)
	c.lanes = slices.Clone(s.lanes)
	c.attempts = maps.Clone(s.attempts)
	c.events = slices.Clone(s.events)
	c.queues = maps.Clone(s.queues)
	c.workers = maps.Clone(s.workers)
	c.meta = maps.Clone(s.meta)
	c.tokens = maps.Clone(s.tokens)
	c.leases = maps.Clone(s.leases)
	c.tickets = maps.Clone(s.tickets)
	return &c
}

// copyOf cuts every tie between what callers hold and what is stored. All
// stored types are plain data whose JSON is complete.
func copyOf[T any](v T) T {
	b, err := json.Marshal(v)
	if err != nil {
		panic("storetest: copy: " + err.Error())
	}
	var c T
	if err := json.Unmarshal(b, &c); err != nil {
		panic("storetest: copy: " + err.Error())
	}
	return c
}

// modelTx is one transaction on its own state.
type modelTx struct {
	*state
	now time.Time
}

var _ store.Tx = (*modelTx)(nil)

// Now implements store.ReadTx.
func (tx *modelTx) Now() time.Time { return tx.now }

// rows yields the jobs of a tenant, oldest first.
func (tx *modelTx) rows(t job.Tenant) []row {
	var rows []row
	for _, id := range tx.order {
		if r := tx.jobs[id]; t == "" || r.job.Tenant == t {
			rows = append(rows, r)
		}
	}
	return rows
}

// in yields the jobs that are in a state, oldest first.
func (tx *modelTx) in(s job.State) []row {
	return slices.DeleteFunc(tx.rows(""), func(r row) bool { return r.job.State != s })
}

func (tx *modelTx) find(t job.Tenant, id job.ID) (row, error) {
	r, ok := tx.jobs[id]
	if !ok || t != "" && r.job.Tenant != t {
		return row{}, job.Errorf(job.NotFound, "there is no job %s", id)
	}
	return r, nil
}

// Queues implements store.ReadTx.
func (tx *modelTx) Queues(context.Context) ([]store.Queue, error) {
	return byName(tx.queues), nil
}

// SaveQueue implements store.Tx.
func (tx *modelTx) SaveQueue(_ context.Context, q store.Queue) error {
	tx.queues[q.Name] = copyOf(q)
	return nil
}

// Workers implements store.ReadTx.
func (tx *modelTx) Workers(context.Context) ([]store.Worker, error) {
	return byName(tx.workers), nil
}

// Worker implements store.ReadTx.
func (tx *modelTx) Worker(_ context.Context, name string) (store.Worker, error) {
	w, ok := tx.workers[name]
	if !ok {
		return store.Worker{}, job.Errorf(job.NotFound, "there is no worker %q", name)
	}
	return copyOf(w), nil
}

// SaveWorker implements store.Tx.
func (tx *modelTx) SaveWorker(_ context.Context, w store.Worker) error {
	tx.workers[w.Session.Worker] = copyOf(w)
	return nil
}

// RenewWorker implements store.Tx.
func (tx *modelTx) RenewWorker(_ context.Context, name string) error {
	w, ok := tx.workers[name]
	if !ok {
		return job.Errorf(job.NotFound, "there is no worker %q", name)
	}
	w.SeenAt = tx.now
	tx.workers[name] = w
	return nil
}

// DeleteWorker implements store.Tx.
func (tx *modelTx) DeleteWorker(_ context.Context, name string) error {
	delete(tx.workers, name)
	return nil
}

// Tokens implements store.ReadTx.
func (tx *modelTx) Tokens(context.Context) ([]auth.Token, error) {
	return byName(tx.tokens), nil
}

// SaveToken implements store.Tx.
func (tx *modelTx) SaveToken(_ context.Context, t auth.Token) error {
	tx.tokens[t.ID] = copyOf(t)
	return nil
}

// DeleteToken implements store.Tx.
func (tx *modelTx) DeleteToken(_ context.Context, id string) error {
	delete(tx.tokens, id)
	return nil
}

// Meta implements store.ReadTx.
func (tx *modelTx) Meta(_ context.Context, key string) (string, error) {
	return tx.meta[key], nil
}

// SetMeta implements store.Tx.
func (tx *modelTx) SetMeta(_ context.Context, key, value string) error {
	tx.meta[key] = value
	return nil
}

// Lead implements store.Tx.
func (tx *modelTx) Lead(_ context.Context, duty, name string, ttl time.Duration) (bool, error) {
	if l := tx.leases[duty]; l.owner != name && tx.now.Before(l.end) {
		return false, nil
	}
	tx.leases[duty] = lease{name, tx.now.Add(ttl)}
	return true, nil
}

func byName[T any](m map[string]T) []T {
	var all []T
	for _, name := range slices.Sorted(maps.Keys(m)) {
		all = append(all, copyOf(m[name]))
	}
	return all
}
