package sqlite

import (
	"context"
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// A query that falls back to a scan gives the right answer, slowly: only its
// plan shows it.
func TestEveryHotQueryUsesItsIndex(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "nanoos.db"), Options{})
	t.Cleanup(func() { s.Close() })
	for name, c := range map[string]struct {
		query string
		want  []string // all of them are in the plan
	}{
		"heads":        {selectHeads, []string{"SEARCH jobs USING INDEX jobs_claim (lane=?)"}},
		"lanes":        {selectLanes, []string{"USING INDEX lanes_queued"}},
		"usage":        {selectUsage, []string{"USING INDEX lanes_running"}},
		"due":          {selectDue, []string{"SEARCH jobs USING INDEX jobs_due (run_at>? AND run_at<?)"}},
		"next due":     {selectNextDue, []string{"SEARCH jobs USING COVERING INDEX jobs_due (run_at>?)"}},
		"running on":   {selectRunningOn, []string{"SEARCH j USING INDEX jobs_running (worker=?)"}},
		"running":      {selectRunning, []string{"SCAN j USING INDEX jobs_running"}},
		"lock":         {selectLocked, []string{"SEARCH j USING INDEX jobs_id (id=?)", "SEARCH a USING PRIMARY KEY (seq=?)"}},
		"known":        {selectKnown, []string{"SEARCH j USING INDEX jobs_id (id=?)", "SEARCH a USING PRIMARY KEY (seq=?)"}},
		"used ids":     {selectUsedID, []string{"SEARCH j USING COVERING INDEX jobs_id (id=?)"}},
		"used key":     {selectUsedKey, []string{"USING COVERING INDEX specs_key (tenant=? AND key=?)"}},
		"by key":       {selectByKey, []string{"USING INDEX specs_key (tenant=? AND key=?)"}},
		"job":          {selectJob, []string{"SEARCH j USING INDEX jobs_id (id=?)"}},
		"specs":        {selectSpecs, []string{"SEARCH s USING INTEGER PRIMARY KEY"}},
		"page":         {selectPage, []string{"SEARCH j USING INTEGER PRIMARY KEY"}},
		"attempts":     {selectAttempts, []string{"SEARCH a USING PRIMARY KEY (seq=?)"}},
		"events":       {selectEvents, []string{"SEARCH e USING INTEGER PRIMARY KEY (rowid>?)"}},
		"job's events": {selectJobEvents, []string{"SEARCH e USING INDEX events_job (job=? AND seq>?)"}},
		"attempts of":  {selectAttemptsOf, []string{"SEARCH j USING COVERING INDEX jobs_id (id=?)", "SEARCH a USING PRIMARY KEY (seq=?)"}},
		"worker":       {selectWorker, []string{"SEARCH workers USING PRIMARY KEY (name=?)"}},
		"seen":         {updateSeen, []string{"SEARCH workers USING PRIMARY KEY (name=?)"}},
		"tokens":       {selectTokens, []string{"SCAN tokens"}},
		"tickets":      {selectTickets, []string{"SEARCH t USING INDEX sqlite_autoindex_tickets_1 (door=? AND id=?)"}},
		"tickets of":   {selectTicketsOf, []string{"SEARCH t USING INDEX tickets_job (door=? AND job=?)"}},
		"tickets due":  {selectTicketsDue, []string{"SEARCH t USING INDEX tickets_due (door=? AND due>? AND due<?)"}},
		"tickets in":   {selectTicketsIn, []string{"SEARCH t USING INDEX tickets_state (door=? AND state=?)"}},
		"old tickets":  {deleteTickets, []string{"SEARCH tickets USING INTEGER PRIMARY KEY", "SEARCH t USING INDEX tickets_old (door=? AND updated_at<?)"}},
		"resolve":      {selectResolve, []string{"USING COVERING INDEX jobs_id (id>? AND id<?)", "SCAN jobs USING COVERING INDEX jobs_id", "specs_name (name=?)"}},
	} {
		plan := explain(t, s.reads, c.query)
		for _, want := range c.want {
			if !strings.Contains(plan, want) {
				t.Errorf("%s: plan has no %q:\n%s", name, want, plan)
			}
		}
		if strings.Contains(plan, "TEMP B-TREE") && name != "running" && name != "usage" && name != "resolve" {
			t.Errorf("%s sorts:\n%s", name, plan)
		}
	}
}

func TestListingsUseTheIndexOfTheirStates(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "nanoos.db"), Options{})
	t.Cleanup(func() { s.Close() })
	many := []store.Count{{State: job.Queued, Jobs: sparse + 1}, {State: job.Running, Jobs: 3}}
	for name, c := range map[string]struct {
		q    store.JobQuery
		want []string
	}{
		"all":                 {store.JobQuery{}, []string{"SCAN j"}},
		"next page":           {store.JobQuery{After: store.JobQuery{}.Next(7)}, []string{"SEARCH j USING INTEGER PRIMARY KEY (rowid<?)"}},
		"running":             {store.JobQuery{States: []job.State{job.Running}}, []string{"INDEX jobs_running"}},
		"many queued":         {store.JobQuery{States: []job.State{job.Queued}}, []string{"SCAN j"}},
		"failed":              {store.JobQuery{States: []job.State{job.Failed}}, []string{"INDEX jobs_failed"}},
		"failed or completed": {store.JobQuery{States: []job.State{job.Failed, job.Completed}}, []string{"INDEX jobs_failed", "INDEX jobs_completed"}},
		"recent":              {store.JobQuery{Updated: time.Now()}, []string{"SEARCH j USING INDEX jobs_ended_at (ended_at>?)", "INDEX jobs_running", "INDEX jobs_due"}},
		"label":               {store.JobQuery{Labels: map[string]string{"a": "b"}}, []string{"SEARCH j USING INTEGER PRIMARY KEY (rowid=?)", "SEARCH labels USING PRIMARY KEY (name=? AND value=?)"}},
		"label and state":     {store.JobQuery{Labels: map[string]string{"a": "b"}, States: []job.State{job.Failed}}, []string{"SEARCH labels USING PRIMARY KEY (name=? AND value=?)"}},
	} {
		after, err := c.q.Check()
		if err != nil {
			t.Fatal(err)
		}
		sel := newSelection(c.q, after, many, 51)
		plan := explain(t, s.reads, sel.String(), sel.args...)
		for _, want := range c.want {
			if !strings.Contains(plan, want) {
				t.Errorf("%s: plan has no %q:\n%s", name, want, plan)
			}
		}
	}
}

func explain(t *testing.T, db *sql.DB, query string, args ...any) string {
	t.Helper()
	if len(args) == 0 {
		args = []any{1, 2, 3, 4, 5, 6}[:params(query)]
	}
	rows, err := db.QueryContext(context.Background(), "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatalf("explain %s: %v", query, err)
	}
	defer rows.Close()
	var plan strings.Builder
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		plan.WriteString(detail + "\n")
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return plan.String()
}

// params counts the parameters of a query: ? each, or the highest of ?1, ?2 ….
func params(query string) int {
	for n := 6; n > 0; n-- {
		if strings.Contains(query, "?"+string(rune('0'+n))) {
			return n
		}
	}
	return strings.Count(query, "?")
}
