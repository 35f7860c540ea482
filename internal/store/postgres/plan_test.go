package postgres

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// A query that falls back to a scan gives the right answer, slowly: only its
// plan shows it, and only on tables that are large enough. Prepared statements
// get a plan for the values at hand or one for all values; both must be good.
func TestEveryHotQueryUsesItsIndex(t *testing.T) {
	t.Parallel()
	c := crowded(t)
	counts := "'{1}', '{1}', '{-1}', '{0}', '{0}', '{0}', '{0}'"
	seqs := "'{5,6,7}'"
	for name, q := range map[string]struct {
		query, args string
		want        []string // all of them are in the plan
	}{
		"heads":         {selectHeads, "'{1,2}', 16", []string{"jobs_claim"}},
		"claim heads":   {claimHeads, "'{1,2}', 16", []string{"jobs_claim"}},
		"due":           {selectDue, "1000, 10", []string{"jobs_due"}},
		"next due":      {selectNextDue, "", []string{"jobs_due"}},
		"running on":    {selectRunningOn, "'w1'", []string{"jobs_running"}},
		"lock":          {selectLocked, "'{id-5,id-6}'", []string{"specs_id_key", "jobs_pkey"}},
		"seqs":          {selectSeqs, "'{id-5,id-6}'", []string{"specs_id_key"}},
		"used":          {selectUsed, "'{id-5}', '{default}', '{key-5}'", []string{"specs_id_key", "specs_key"}},
		"by key":        {selectByKey, "'default', 'key-5'", []string{"specs_key"}},
		"job":           {selectJob, "'id-5', ''", []string{"specs_id_key", "jobs_pkey"}},
		"result":        {selectResult, "'id-5', ''", []string{"specs_id_key", "jobs_pkey"}},
		"attempts":      {selectAttempts, "'id-5', ''", []string{"specs_id_key", "attempts_pkey"}},
		"attempts of":   {selectAttemptsOf, "'{id-5,id-6}'", []string{"specs_id_key", "attempts_pkey"}},
		"events":        {selectEvents, "39000, '', 100", []string{"events_pkey"}},
		"job's events":  {selectJobEvents, "0, '', 100, 'id-5'", []string{"events_job"}},
		"save":          {updateJobs, seqs + strings.Repeat(", '{}'", 19), []string{"jobs_pkey"}},
		"counts":        {updateCounts, counts, nil},
		"delete row":    {deleteProgress, seqs, []string{"progress_pkey"}},
		"oldest queued": {selectOldestQueued, "", []string{"jobs_claim"}},
		"tickets":       {selectTickets, "'d', '{t-5,t-6}'", []string{"tickets_pkey"}},
		"lock tickets":  {lockTickets, "'d', '{t-5,t-6}'", []string{"tickets_pkey"}},
		"tickets of":    {selectTicketsOf, "'d', '{id-5,id-6}'", []string{"tickets_job"}},
		"lock their":    {lockTicketsOf, "'d', '{id-5,id-6}'", []string{"tickets_job"}},
		"tickets due":   {selectTicketsDue, "'d', 30000, 10", []string{"tickets_due"}},
		"take due":      {lockTicketsDue, "'d', 30000, 10", []string{"tickets_due"}},
		"tickets in":    {selectTicketsIn, "'d', 'open', 10", []string{"tickets_state"}},
		"old tickets":   {lockTicketsOld, "'d', 30000, 10", []string{"tickets_old"}},
		"delete ticket": {deleteTickets, "'d', '{t-5,t-6}'", []string{"tickets_pkey"}},
		"resolve":       {selectResolve, "'id-123', '', 'id-123~', 5", []string{"specs_id_key", "specs_name"}},
	} {
		for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
			plan := explain(t, c, mode, q.query, q.args)
			for _, want := range q.want {
				if !strings.Contains(plan, want) {
					t.Errorf("%s, %s: plan has no %q:\n%s", name, mode, want, plan)
				}
			}
			for _, table := range []string{"jobs", "specs", "attempts", "events", "tickets"} {
				if strings.Contains(plan, "Seq Scan on "+table) {
					t.Errorf("%s, %s: plan scans %s:\n%s", name, mode, table, plan)
				}
			}
		}
	}
}

func TestListingsUseTheIndexOfTheirStates(t *testing.T) {
	t.Parallel()
	c := crowded(t)
	for name, q := range map[string]struct {
		query store.JobQuery
		want  []string
	}{
		"all":             {store.JobQuery{}, []string{"jobs_pkey"}},
		"next page":       {store.JobQuery{After: store.JobQuery{}.Next(20000)}, []string{"jobs_pkey"}},
		"running":         {store.JobQuery{States: []job.State{job.Running}}, []string{"jobs_running"}},
		"failed":          {store.JobQuery{States: []job.State{job.Failed}}, []string{"jobs_failed"}},
		"many queued":     {store.JobQuery{States: []job.State{job.Queued}}, []string{"jobs_pkey"}},
		"recent":          {store.JobQuery{Updated: time.Now()}, []string{"jobs_ended_at", "jobs_running", "jobs_pending"}},
		"label":           {store.JobQuery{Labels: map[string]string{"campaign": "c5"}}, []string{"labels_pkey"}},
		"label and state": {store.JobQuery{Labels: map[string]string{"campaign": "c5"}, States: []job.State{job.Failed}}, []string{"labels_pkey"}},
	} {
		after, err := q.query.Check()
		if err != nil {
			t.Fatal(err)
		}
		query, args := pageQuery(q.query, after, 51)
		rows, err := c.Query(t.Context(), "EXPLAIN (COSTS OFF) "+query, args...)
		plan := planOf(t, rows, err)
		for _, want := range q.want {
			if !strings.Contains(plan, want) {
				t.Errorf("%s: plan has no %q:\n%s", name, want, plan)
			}
		}
	}
}

// crowded returns a session on a database with 40 000 jobs in all states, most
// of them queued in a lane that fits nobody or completed.
func crowded(t *testing.T) *pgx.Conn {
	t.Helper()
	s := openURL(t, emptyDB(t))
	c, err := s.server.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.close(); s.Close() })
	for _, q := range []string{`
INSERT INTO nanoos.lanes (id, queue, tenant, engine, cpus, memory, gpus, tags, queued)
SELECT n, 'q', 'default', 'mock', n, 1, 0, '', 1 FROM generate_series(1, 20) AS n`, `
INSERT INTO nanoos.specs (seq, id, tenant, key, digest, name, folded, spec)
SELECT n, 'id-' || n, 'default', 'key-' || n, '', 'name-' || n, 'name-' || n, '{"note":"' || repeat('x', 400) || '"}' FROM generate_series(1, 40000) AS n`, `
INSERT INTO nanoos.jobs (seq, id, tenant, lane, state, priority, reason, message, attempt, fence, worker, failures, losses,
	cancel, run_at, verdict, failure, created_at, queued_at, started_at, ended_at, rev)
SELECT n, 'id-' || n, 'default', CASE WHEN n <= 20000 THEN 2 ELSE 1 + n % 20 END, s.state, 5, '', '', 1, 1,
	CASE s.state WHEN 'RUNNING' THEN 'w' || n % 30 ELSE '' END, 0, 0, '', CASE s.state WHEN 'PENDING' THEN n ELSE 0 END, '', '',
	n, n, 0, CASE WHEN s.state IN ('COMPLETED', 'FAILED', 'CANCELLED') THEN n ELSE 0 END, 1
FROM generate_series(1, 40000) AS n CROSS JOIN LATERAL (SELECT CASE
	WHEN n <= 20000 THEN 'QUEUED' WHEN n % 100 = 0 THEN 'FAILED' WHEN n % 100 = 1 THEN 'PENDING' WHEN n % 100 = 2 THEN 'RUNNING'
	WHEN n % 100 = 3 THEN 'CANCELLED' WHEN n % 100 < 10 THEN 'QUEUED' ELSE 'COMPLETED' END AS state) s`, `
INSERT INTO nanoos.attempts (seq, number, worker, host, started_at, ended_at, outcome, exit, failure)
SELECT n, 1, 'w', 'h', 0, 0, '', '', '' FROM generate_series(1, 40000) AS n`, `
INSERT INTO nanoos.events (seq, tenant, job, kind, at) SELECT n, 'default', n, 'queued', n FROM generate_series(1, 40000) AS n`, `
INSERT INTO nanoos.progress (seq, progress) SELECT n, '{}' FROM generate_series(1, 40000) AS n`, `
INSERT INTO nanoos.labels (name, value, seq) SELECT 'campaign', 'c' || n % 1000, n FROM generate_series(1, 40000) AS n`,
		`
INSERT INTO nanoos.tickets (door, id, state, job, due, node, body, created_at, updated_at)
SELECT 'd', 't-' || n, CASE WHEN n % 100 = 0 THEN 'open' WHEN n % 100 = 1 THEN 'waiting' WHEN n % 100 = 2 THEN 'revoked' ELSE 'answered' END,
	'id-' || n, n, 'host', decode(repeat('ab', 400), 'hex'), n, n FROM generate_series(1, 40000) AS n`,
		`VACUUM ANALYZE`} {
		if _, err := c.pg.Exec(t.Context(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	return c.pg
}

// explain returns the plan of a prepared statement.
func explain(t *testing.T, c *pgx.Conn, mode, query, args string) string {
	t.Helper()
	if args != "" {
		args = "(" + args + ")"
	}
	script := fmt.Sprintf("SET plan_cache_mode = %s; DEALLOCATE ALL; PREPARE q AS %s", mode, query)
	if _, err := c.Exec(t.Context(), script, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("prepare %s: %v", query, err)
	}
	rows, err := c.Query(t.Context(), "EXPLAIN (COSTS OFF) EXECUTE q"+args, pgx.QueryExecModeSimpleProtocol)
	return planOf(t, rows, err)
}

func planOf(t *testing.T, rows pgx.Rows, err error) string {
	t.Helper()
	if err == nil {
		var lines []string
		if lines, err = pgx.CollectRows(rows, pgx.RowTo[string]); err == nil {
			return strings.Join(lines, "\n")
		}
	}
	t.Fatalf("explain: %v", err)
	return ""
}
