package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/column"
)

// sparse is how many jobs of a state are sorted for a page. Beyond it the page
// is found sooner by walking over all jobs in their order, for then every other
// job or so is of that state.
const sparse = 10_000

const selectPage = `
SELECT ` + jobColumns + `
FROM json_each(?) e CROSS JOIN jobs j ON j.seq = e.value` + jobJoins

// Jobs implements store.ReadTx. The first query picks the rows of the page
// from the indexes, the second reads them.
func (tx *readTx) Jobs(ctx context.Context, q store.JobQuery) ([]job.Job, store.Cursor, error) {
	after, err := q.Check()
	if err != nil {
		return nil, "", err
	}
	counts, err := tx.Counts(ctx, "")
	if err != nil {
		return nil, "", err
	}
	limit := q.Page()
	sel := newSelection(q, after, counts, limit+1)
	var seqs []int64
	err = tx.once(ctx, sel.String(), sel.args, func(r *sql.Rows) error {
		var seq int64
		err := r.Scan(&seq)
		seqs = append(seqs, seq)
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("list jobs: %w", err)
	}
	var next store.Cursor
	if len(seqs) > limit {
		seqs = seqs[:limit]
		next = q.Next(seqs[limit-1])
	}
	jobs, err := tx.jobs(ctx, selectPage, list(seqs))
	return jobs, next, err
}

// selection is a query for the seqs of a page. It is a union of one ordered
// branch per state, so that each uses the index of that state and stops early.
type selection struct {
	branches []string
	args     []any
	order    string
	limit    int
}

func (s *selection) String() string {
	if len(s.branches) == 1 {
		return s.branches[0]
	}
	return "SELECT seq FROM (" + strings.Join(s.branches, ") UNION ALL SELECT seq FROM (") + ") ORDER BY seq" + s.order + " LIMIT " + strconv.Itoa(s.limit)
}

func newSelection(q store.JobQuery, after int64, counts []store.Count, limit int) *selection {
	s := &selection{order: " DESC", limit: limit}
	if q.Oldest {
		s.order = ""
	}
	common, args := conditions(q, after)
	states := slices.Compact(slices.Sorted(slices.Values(q.States)))
	if len(states) == 0 && !q.Updated.IsZero() {
		states = job.States
	}
	if len(states) == 0 {
		s.add("jobs j", common, args)
		return s
	}
	jobs := map[job.State]int64{}
	for _, c := range counts {
		jobs[c.State] += c.Jobs
	}
	for _, state := range states {
		from, where, args := "jobs j", []string{"j.state = '" + string(state) + "'"}, slices.Clone(args)
		if len(q.Labels) == 0 { // else the labels pick the rows
			from += index(state, q, jobs[state])
		}
		where = append(where, common...)
		if state.Terminal() && !q.Updated.IsZero() {
			where, args = append(where, "j.ended_at > 0", "j.ended_at >= ?"), append(args, column.Micros(q.Updated))
		}
		s.add(from, where, args)
	}
	return s
}

// index says how to find the jobs of a state. It names what the planner cannot
// know without statistics.
func index(state job.State, q store.JobQuery, jobs int64) string {
	switch {
	case state.Terminal() && !q.Updated.IsZero():
		return " INDEXED BY jobs_ended_at"
	case state == job.Completed:
		return " INDEXED BY jobs_completed"
	case state == job.Failed:
		return " INDEXED BY jobs_failed"
	case state == job.Cancelled:
		return " INDEXED BY jobs_cancelled"
	case jobs > sparse:
		return " NOT INDEXED"
	case state == job.Pending:
		return " INDEXED BY jobs_due"
	case state == job.Queued:
		return " INDEXED BY jobs_claim"
	}
	return " INDEXED BY jobs_running"
}

func (s *selection) add(from string, where []string, args []any) {
	branch := "SELECT j.seq AS seq FROM " + from
	if len(where) > 0 {
		branch += " WHERE " + strings.Join(where, " AND ")
	}
	s.branches = append(s.branches, branch+" ORDER BY j.seq"+s.order+" LIMIT "+strconv.Itoa(s.limit))
	s.args = append(s.args, args...)
}

// conditions returns those that every branch has. Only constants are put into
// the text of a query; values are bound.
func conditions(q store.JobQuery, after int64) (where []string, args []any) {
	add := func(cond string, values ...any) {
		where = append(where, cond)
		args = append(args, values...)
	}
	if q.After != "" {
		if q.Oldest {
			add("j.seq > ?", after)
		} else {
			add("j.seq < ?", after)
		}
	}
	if q.Tenant != "" {
		add("j.tenant = ?", string(q.Tenant))
	}
	if q.Queue != "" {
		add("j.lane IN (SELECT id FROM lanes WHERE queue = ?)", q.Queue)
	}
	if q.Engine != "" {
		add("j.lane IN (SELECT id FROM lanes WHERE engine = ?)", q.Engine)
	}
	if q.Name != "" {
		add("EXISTS (SELECT 1 FROM specs s WHERE s.seq = j.seq AND instr(s.folded, ?) > 0)", column.Fold(q.Name))
	}
	if !q.Since.IsZero() {
		add("j.created_at >= ?", column.Micros(q.Since))
	}
	for _, name := range slices.Sorted(maps.Keys(q.Labels)) {
		add("j.seq IN (SELECT seq FROM labels WHERE name = ? AND value = ?)", name, q.Labels[name])
	}
	return where, args
}

// once runs a query that is not worth keeping prepared: there are too many
// combinations of filters.
func (tx *readTx) once(ctx context.Context, query string, args []any, scan func(*sql.Rows) error) error {
	if tx.flush != nil {
		ctx = context.WithoutCancel(ctx)
	}
	rows, err := tx.conn.sql.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Ids are compared as texts; the end of one is what people copy, since the
// beginnings of ids made together are alike. The end needs a walk over the
// index of ids, which only a person's lookup pays; keeping a second index of
// reversed ids would cost every submission.
const selectResolve = `
SELECT j.id FROM jobs j
WHERE (?2 = '' OR j.tenant = ?2) AND j.seq IN (
	SELECT seq FROM jobs WHERE id >= ?1 AND id < ?3
	UNION SELECT seq FROM jobs INDEXED BY jobs_id WHERE substr(id, -length(?1)) = ?1
	UNION SELECT seq FROM specs WHERE name = ?1 AND name <> '')
ORDER BY j.seq DESC LIMIT ?4`

// Resolve implements store.ReadTx.
func (tx *readTx) Resolve(ctx context.Context, t job.Tenant, ref string, limit int) ([]job.ID, error) {
	if ref == "" {
		return nil, nil
	}
	return tx.ids(ctx, selectResolve, ref, string(t), ref+"\U0010ffff", max(0, limit))
}
