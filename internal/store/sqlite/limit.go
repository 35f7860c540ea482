package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// Limit issues the statements of the store's hot paths and nothing else: no
// queue, no contract, no checks. What a bare loop around it reaches is what this
// machine allows.
type Limit struct {
	db     *sql.DB
	conn   *conn
	lane   int64
	spec   string
	result []byte
	began  int64 // in microseconds, for every time that is stored
}

// limitResult is the size of a stored result, that of a small calculation.
const limitResult = 300

// OpenLimit makes a database of its own in a directory.
func OpenLimit(dir string) (*Limit, error) {
	path := filepath.Join(dir, "limit.db")
	s, err := Open(path, Options{}) // for the schema
	if err != nil {
		return nil, err
	}
	if err := s.Close(); err != nil {
		return nil, err
	}
	// The store writes its log back by itself, as often.
	pragmas := append(writerPragmas[:len(writerPragmas):len(writerPragmas)], fmt.Sprintf("wal_autocheckpoint(%d)", checkpointPages))
	db, err := sql.Open("sqlite", dsn(path, pragmas))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	c, err := db.Conn(context.Background())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), db.Close())
	}
	l := &Limit{
		db: db, conn: &conn{sql: c, stmts: map[string]*sql.Stmt{}}, began: time.Now().UnixMicro(),
		spec:   `{"name":"limit","queue":"simulations","engine":"mock","parameters":{"note":"` + strings.Repeat("x", 400) + `"}}`,
		result: []byte(`{"summary":"` + strings.Repeat("y", limitResult-14) + `"}`),
	}
	res, err := l.conn.exec(insertLane, job.DefaultQueue, string(job.DefaultTenant), "mock", 1, int64(job.MemoryQuantum), 0, "")
	if err == nil {
		l.lane, err = res.LastInsertId()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a lane: %w", err), l.Close())
	}
	return l, nil
}

// Close releases the database.
func (l *Limit) Close() error { return errors.Join(l.conn.close(), l.db.Close()) }

// Submit stores n jobs in one commit.
func (l *Limit) Submit(_ context.Context, n int) error {
	return l.commit(func(t *limitTx) { t.submit(n) })
}

// Bulk is Submit: there is no faster way for many.
func (l *Limit) Bulk(ctx context.Context, n int) error { return l.Submit(ctx, n) }

// Claim finishes the jobs that are held and starts up to n others, in one commit.
func (l *Limit) Claim(_ context.Context, held []int64, n int) (claimed []int64, err error) {
	err = l.commit(func(t *limitTx) {
		t.finish(held)
		claimed = t.claim(n)
	})
	return claimed, err
}

// commit runs one transaction.
func (l *Limit) commit(fn func(*limitTx)) error {
	t := &limitTx{Limit: l}
	t.exec("BEGIN IMMEDIATE")
	fn(t)
	if c := t.counts; c != (laneCounts{}) {
		t.exec(updateCounts, c[0], c[1], c[2], c[3], c[4], c[5], l.lane)
	}
	t.exec("COMMIT")
	if t.err != nil {
		return fmt.Errorf("limit: %w", t.err)
	}
	return nil
}

// limitTx is a transaction that stops at its first error.
type limitTx struct {
	*Limit
	counts laneCounts
	err    error
}

func (t *limitTx) exec(query string, args ...any) (id int64) {
	if t.err != nil {
		return 0
	}
	res, err := t.conn.exec(query, args...)
	if err == nil {
		id, err = res.LastInsertId()
	}
	t.err = err
	return id
}

// read calls scan for each row of a query.
func (t *limitTx) read(query string, args []any, scan func(*sql.Rows) error) {
	if t.err == nil {
		tx := readTx{conn: t.conn}
		t.err = tx.rows(context.Background(), query, args, scan)
	}
}

func (t *limitTx) submit(n int) {
	seqs := make([]int64, n)
	for i := range seqs {
		seqs[i] = t.exec(insertJob, string(job.NewID()), string(job.DefaultTenant), t.lane, string(job.Queued), int(job.PriorityNormal),
			"", "", 0, int64(0), "", 0, 0, "", int64(0), "", "", t.began, t.began, int64(0), int64(0), int64(0))
		t.exec(insertSpec, seqs[i], string(job.DefaultTenant), "", "", "limit", "limit", t.spec)
	}
	t.events(append(seqs, seqs...), job.EventSubmitted)
	t.counts[1] += int64(n)
}

// claim starts up to n jobs and reads what a worker needs to run them.
func (t *limitTx) claim(n int) []int64 {
	var ids []string
	t.read(selectHeads, []any{t.lane, n}, func(r *sql.Rows) error {
		var seq, priority int64
		var id string
		err := r.Scan(&seq, &id, &priority)
		ids = append(ids, id)
		return err
	})
	if len(ids) == 0 {
		return nil
	}
	var seqs []int64
	t.read(selectLocked, []any{list(ids)}, func(r *sql.Rows) error {
		var attempts int
		row, err := scanRow(r, &attempts)
		seqs = append(seqs, row.seq)
		return err
	})
	t.read(selectSpecs, []any{list(seqs)}, func(r *sql.Rows) error {
		var seq int64
		var spec string
		return r.Scan(&seq, &spec)
	})
	for _, seq := range seqs {
		t.move(seq, job.Running, 1, 0)
		t.exec(insertAttempt, "limit", "limit", t.began, int64(0), "", "", "", seq, 1)
	}
	t.events(seqs, job.EventStarted)
	t.counts[1] -= int64(len(seqs))
	t.counts[2] += int64(len(seqs))
	return seqs
}

func (t *limitTx) finish(seqs []int64) {
	for _, seq := range seqs {
		t.move(seq, job.Completed, 2, t.began)
		t.exec(upsertResult, seq, t.result)
		t.exec(updateAttempt, "limit", "limit", t.began, t.began, "succeeded", `{"observed":true,"code":0,"step":0}`, "", seq, 1)
	}
	t.events(seqs, job.EventCompleted)
	t.counts[2] -= int64(len(seqs))
	t.counts[3] += int64(len(seqs))
}

func (t *limitTx) move(seq int64, to job.State, rev, ended int64) {
	t.exec(updateJob, string(to), int(job.PriorityNormal), "", "", 1, int64(1), "limit", 0, 0, "", int64(0), "", "",
		t.began, t.began, ended, rev, seq)
}

func (t *limitTx) events(seqs []int64, kind job.EventKind) {
	data := []byte(`{"state":"` + string(kind) + `","attempt":1,"fence":1,"worker":"limit"}`)
	for len(seqs) > 0 {
		n, query := 1, insertEvent
		if len(seqs) >= eventRows {
			n, query = eventRows, insertEvents
		}
		args := make([]any, 0, 5*eventRows)
		for _, seq := range seqs[:n] {
			args = append(args, string(job.DefaultTenant), seq, string(kind), t.began, data)
		}
		t.exec(query, args...)
		seqs = seqs[n:]
	}
}
