package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// history is everything that happened, in order: what the checker reads.
type history struct {
	mu       sync.Mutex
	commits  []*commit            // guarded by mu, as is all below
	rows     map[job.ID]row       // after the last commit
	order    []job.ID             // by insertion
	contact  map[string]time.Time // when a worker was last heard of
	finishes map[job.ID][]report
	calls    []*call
	journal  []*execution
}

func newHistory() *history {
	return &history{rows: map[job.ID]row{}, contact: map[string]time.Time{}, finishes: map[job.ID][]report{}}
}

// row is what the checker needs of a stored job.
type row struct {
	Name, Key        string
	State            job.State
	Reason           job.Reason
	Attempt          int
	Fence            job.Fence
	Worker           string
	Failures, Losses int
	Retry            job.Retry
	Cancel           bool
	Rev              int64
}

func rowOf(j job.Job) row {
	return row{Name: j.Spec.Name, Key: j.Spec.Key, State: j.State, Reason: j.Reason, Attempt: j.Attempt, Fence: j.Fence, Worker: j.Worker,
		Failures: j.Failures, Losses: j.Losses, Retry: j.Spec.Retry, Cancel: j.Cancel != nil, Rev: j.Rev}
}

// commit is one transaction that changed something.
type commit struct {
	at       time.Time
	op       *op
	changes  []change
	attempts []job.Attempt // as they were saved
	events   []job.Event
	heard    []string // workers
	contact  map[string]time.Time
}

// change is what a commit did to one row.
type change struct {
	id            job.ID
	new           bool
	before, after row
	result        json.RawMessage
}

func (c change) String() string {
	return fmt.Sprintf("%s %s attempt %d fence %d worker %s, was %s fence %d", c.after.State, c.after.Reason, c.after.Attempt, c.after.Fence, c.after.Worker, c.before.State, c.before.Fence)
}

// op is the call on whose behalf a server works; it travels with the context.
type op struct {
	kind    string
	about   string // the job, where several calls may be made at once
	worker  string // "" for people and for the leader's duties
	held    map[job.ID]job.Fence
	once    bool // it may not be delivered twice
	chance  *chance
	noticed int64 // the commits of its server that a claim has looked after
}

type opKey struct{}

func withOp(ctx context.Context, o *op) context.Context { return context.WithValue(ctx, opKey{}, o) }

func opOf(ctx context.Context) *op { return ctx.Value(opKey{}).(*op) }

// report is one call of Finish as the worker made it.
type report struct {
	worker  string
	fence   job.Fence
	attempt int
}

// call is what one client asked for and was told.
type call struct {
	kind     string
	id       job.ID
	name     string // of a submission
	key      string
	invoked  time.Time
	returned time.Time
	answer   answer
	state    job.State // of the job in the answer
}

type answer string

const (
	acknowledged answer = "ok"
	refused      answer = "refused"
	unknown      answer = "unknown"
)

// execution is a line of the start journal: one tree of processes.
type execution struct {
	id      job.ID
	attempt int
	host    string
	began   time.Time
	ended   time.Time // zero while it lives
	good    bool      // the program did what it was asked for, by its own word
}

// commitWith runs write, which must not wait, and keeps the order of commits.
func (h *history) commitWith(c *commit, write func() error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := write(); err != nil {
		return err
	}
	c.contact = map[string]time.Time{}
	for i := range c.changes {
		ch := &c.changes[i]
		ch.before = h.rows[ch.id]
		if ch.new {
			h.order = append(h.order, ch.id)
		}
		h.rows[ch.id] = ch.after
		if ch.before.Worker != "" {
			c.contact[ch.before.Worker] = h.contact[ch.before.Worker]
		}
	}
	for _, w := range c.heard {
		h.contact[w] = c.at
	}
	if len(c.changes)+len(c.attempts)+len(c.events) > 0 {
		h.commits = append(h.commits, c)
	}
	return nil
}

func (h *history) reported(id job.ID, r report) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.finishes[id] = append(h.finishes[id], r)
}

func (h *history) invoke(c *call) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.invoked = time.Now()
	c.answer = unknown
	h.calls = append(h.calls, c)
}

func (h *history) answered(c *call, a answer, id job.ID, s job.State) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.returned, c.answer, c.state = time.Now(), a, s
	if id != "" {
		c.id = id
	}
}

// starts adds a line to the journal.
func (h *history) starts(e *execution) *execution {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.began = time.Now()
	h.journal = append(h.journal, e)
	return e
}

func (h *history) ends(e *execution, good bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.ended, e.good = time.Now(), good
}

// now returns the rows as they are, oldest first.
func (h *history) now() []row {
	h.mu.Lock()
	defer h.mu.Unlock()
	rows := make([]row, len(h.order))
	for i, id := range h.order {
		rows[i] = h.rows[id]
	}
	return rows
}

func (h *history) row(id job.ID) row {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rows[id]
}

func (h *history) idOf(name string) job.ID {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, r := range h.rows {
		if r.Name == name {
			return id
		}
	}
	return ""
}

// living returns the executions that have not ended.
func (h *history) living() []*execution {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(h.journal), func(e *execution) bool { return !e.ended.IsZero() })
}
