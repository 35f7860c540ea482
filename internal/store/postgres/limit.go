package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/column"
)

// Limit issues the statements of the store's hot paths and nothing else: no
// queue, no contract, no checks, and one round trip where that is possible at
// all. What a bare loop around it reaches is what this database server allows.
type Limit struct {
	conns  []*conn // of a submitter and a claimer
	lane   store.LaneID
	spec   string
	result []byte
	began  time.Time // every time that is stored
}

// limitResult is the size of a stored result, that of a small calculation.
const limitResult = 300

// OpenLimit makes the tables in a database that was made for this, and fills
// with what nobody needs.
func OpenLimit(ctx context.Context, url string, opt Options) (*Limit, error) {
	s, err := Open(ctx, url, opt)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	l := &Limit{
		began:  time.Now(),
		spec:   `{"name":"limit","queue":"simulations","engine":"mock","parameters":{"note":"` + strings.Repeat("x", 400) + `"}}`,
		result: []byte(`{"summary":"` + strings.Repeat("y", limitResult-14) + `"}`),
	}
	for range 2 {
		c, err := s.server.connect(ctx)
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		l.conns = append(l.conns, c)
	}
	key := laneArgs([]laneKey{laneKeyOf(l.job())})
	b := &pgx.Batch{}
	b.Queue(insertLanes, key...)
	queue(b, func(r pgx.Rows) error {
		return r.Scan((*int64)(&l.lane), nil, nil, nil, nil, nil, nil, nil)
	}, selectLaneIDs, key...)
	if err := l.conns[0].send(ctx, b); err != nil {
		return nil, errors.Join(fault("make a lane", err), l.Close())
	}
	return l, nil
}

// Close ends the sessions.
func (l *Limit) Close() error {
	for _, c := range l.conns {
		c.close()
	}
	return nil
}

// Submit stores n jobs in one commit.
func (l *Limit) Submit(ctx context.Context, n int) error {
	var rows rowChanges
	var events []event
	for range n {
		j := l.job()
		rows.inserts = append(rows.inserts, insertedJob{job: j, lane: int64(l.lane), spec: l.spec})
		for range 2 { // submitted and queued
			events = append(events, l.event(event{id: string(j.ID)}, job.EventSubmitted))
		}
	}
	return l.commit(ctx, l.conns[0], true, rows, events, laneCounts{1: int64(n)})
}

// Bulk stores n jobs with COPY in one commit.
func (l *Limit) Bulk(ctx context.Context, n int) error {
	if err := l.copy(ctx, n); err != nil {
		return fmt.Errorf("limit: %w", err)
	}
	return nil
}

func (l *Limit) copy(ctx context.Context, n int) error {
	tx, err := l.conns[0].pg.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) // nothing after a commit
	var seqs []int64
	rows, err := tx.Query(ctx, "SELECT nextval('nanoos.specs_seq_seq') FROM generate_series(1, $1)", n)
	if err == nil {
		seqs, err = pgx.CollectRows(rows, pgx.RowTo[int64])
	}
	if err != nil {
		return err
	}
	jobs := make([]job.Job, n)
	for i := range jobs {
		jobs[i] = l.job()
	}
	at := column.Micros(l.began)
	if err := l.copyRows(ctx, tx, "specs", []string{"seq", "id", "tenant", "key", "digest", "name", "folded", "spec"}, n, func(i int) []any {
		return []any{seqs[i], string(jobs[i].ID), string(job.DefaultTenant), "", "", "limit", "limit", l.spec}
	}); err != nil {
		return err
	}
	if err := l.copyRows(ctx, tx, "jobs", []string{"seq", "id", "tenant", "lane", "state", "priority", "reason", "message", "attempt", "fence",
		"worker", "failures", "losses", "cancel", "run_at", "verdict", "failure", "created_at", "queued_at", "started_at", "ended_at", "rev"}, n, func(i int) []any {
		return []any{seqs[i], string(jobs[i].ID), string(job.DefaultTenant), int64(l.lane), string(job.Queued), int64(job.PriorityNormal), "", "", int64(0), int64(0),
			"", int64(0), int64(0), "", int64(0), "", "", at, at, int64(0), int64(0), int64(0)}
	}); err != nil {
		return err
	}
	var last int64
	if err := tx.QueryRow(ctx, "UPDATE nanoos.event_seq SET last = last + $1 RETURNING last", 2*n).Scan(&last); err != nil {
		return err
	}
	if err := l.copyRows(ctx, tx, "events", []string{"seq", "tenant", "job", "kind", "at", "data"}, 2*n, func(i int) []any {
		e := l.event(event{job: seqs[i/2]}, job.EventSubmitted)
		return []any{last - int64(2*n) + int64(i) + 1, e.tenant, e.job, e.kind, at, e.data}
	}); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, updateCounts, countArgs(map[store.LaneID]*laneCounts{l.lane: {1: int64(n)}})...); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

func (l *Limit) copyRows(ctx context.Context, tx pgx.Tx, table string, columns []string, n int, row func(i int) []any) error {
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"nanoos", table}, columns, pgx.CopyFromSlice(n, func(i int) ([]any, error) { return row(i), nil }))
	return err
}

// Claim finishes the jobs that are held and starts up to n others, in one
// commit; it reads what a worker needs to run them.
func (l *Limit) Claim(ctx context.Context, held []int64, n int) ([]int64, error) {
	c := l.conns[1]
	rows := rowChanges{}
	var events []event
	for _, seq := range held {
		rows.save(seq, savedJob{job: l.moved(job.Completed, 2, l.result)})
		rows.setAttempt(attemptRow{seq: seq, number: 1, worker: "limit", host: "limit", started: column.Micros(l.began), ended: column.Micros(l.began),
			outcome: "succeeded", exit: `{"observed":true,"code":0,"step":0}`})
		events = append(events, l.event(event{job: seq}, job.EventCompleted))
	}
	counts := laneCounts{2: -int64(len(held)), 3: int64(len(held))}
	var ids []string
	b := &pgx.Batch{}
	b.Queue("BEGIN")
	queue(b, func(r pgx.Rows) error {
		ids = append(ids, "")
		return r.Scan(nil, nil, &ids[len(ids)-1], nil)
	}, selectHeads, []int64{int64(l.lane)}, n)
	if err := c.send(ctx, b); err != nil {
		return nil, fault("limit", err)
	}
	var next []int64
	b = &pgx.Batch{}
	queue(b, func(r pgx.Rows) error {
		row, err := scanJob(r)
		next = append(next, row.seq)
		return err
	}, selectLocked, ids)
	if err := c.send(ctx, b); err != nil {
		return nil, fault("limit", err)
	}
	for _, seq := range next {
		rows.save(seq, savedJob{job: l.moved(job.Running, 1, nil)})
		rows.setAttempt(attemptRow{seq: seq, number: 1, worker: "limit", host: "limit", started: column.Micros(l.began)})
		events = append(events, l.event(event{job: seq}, job.EventStarted))
	}
	counts[1] -= int64(len(next))
	counts[2] += int64(len(next))
	return next, l.commit(ctx, c, false, rows, events, counts)
}

func (l *Limit) job() job.Job {
	return job.Job{ID: job.NewID(), Tenant: job.DefaultTenant, State: job.Queued, CreatedAt: l.began, QueuedAt: l.began,
		Spec: job.Spec{Name: "limit", Queue: job.DefaultQueue, Engine: "mock", Priority: job.PriorityNormal,
			Demand: job.Demand{CPUs: 1, Memory: job.MemoryQuantum}}}
}

func (l *Limit) moved(to job.State, rev int64, result []byte) job.Job {
	j := l.job()
	j.State, j.Rev, j.Attempt, j.Fence, j.Worker, j.StartedAt, j.Result = to, rev, 1, 1, "limit", l.began, result
	if to.Terminal() {
		j.EndedAt = l.began
	}
	return j
}

func (l *Limit) event(e event, kind job.EventKind) event {
	e.tenant, e.kind = string(job.DefaultTenant), string(kind)
	e.data = []byte(`{"state":"` + string(kind) + `","attempt":1,"fence":1,"worker":"limit"}`)
	return e
}

// commit sends a transaction, or the rest of one.
func (l *Limit) commit(ctx context.Context, c *conn, begin bool, rows rowChanges, events []event, counts laneCounts) error {
	b := &pgx.Batch{}
	if begin {
		b.Queue("BEGIN")
	}
	rows.queue(b, jobRows|attemptRows)
	queueEvents(b, events, column.Micros(l.began))
	b.Queue(updateCounts, countArgs(map[store.LaneID]*laneCounts{l.lane: &counts})...)
	b.Queue("COMMIT")
	return fault("limit", c.send(ctx, b))
}
