package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/column"
)

// Jobs implements store.ReadTx.
func (tx *readTx) Jobs(ctx context.Context, q store.JobQuery) ([]job.Job, store.Cursor, error) {
	after, err := q.Check()
	if err != nil {
		return nil, "", err
	}
	limit := q.Page()
	query, args := pageQuery(q, after, limit+1)
	rows, err := tx.jobRows(ctx, query, args...)
	if err != nil {
		return nil, "", fmt.Errorf("list jobs: %w", err)
	}
	var next store.Cursor
	if len(rows) > limit {
		rows = rows[:limit]
		next = q.Next(rows[limit-1].seq)
	}
	return readable(rows), next, nil
}

// pageQuery selects the rows of a page. It is a union of one ordered branch for
// each state, so that each uses the index of that state and stops early.
func pageQuery(q store.JobQuery, after int64, limit int) (string, []any) {
	order := " DESC"
	if q.Oldest {
		order = ""
	}
	f := &filters{}
	f.common(q, after)
	states := slices.Compact(slices.Sorted(slices.Values(q.States)))
	if len(states) == 0 && !q.Updated.IsZero() {
		states = job.States
	}
	limited := order + " LIMIT " + strconv.Itoa(limit)
	var branches []string
	for _, s := range states {
		where := append([]string{"j.state = '" + string(s) + "'"}, f.where...)
		if s.Terminal() && !q.Updated.IsZero() {
			where = append(where, "j.ended_at > 0", "j.ended_at >= "+f.bind(column.Micros(q.Updated)))
		}
		by := " ORDER BY j.seq"
		if s == job.Running {
			// There are no more than the workers can run, but they may lie behind
			// a million others: sort them instead of walking there.
			by += " + 0"
		}
		branches = append(branches, "(SELECT j.seq FROM nanoos.jobs j WHERE "+strings.Join(where, " AND ")+by+limited+")")
	}
	if len(states) == 0 {
		where := append([]string{"true"}, f.where...)
		branches = []string{"(SELECT j.seq FROM nanoos.jobs j WHERE " + strings.Join(where, " AND ") + " ORDER BY j.seq" + limited + ")"}
	}
	page := "SELECT seq FROM (" + strings.Join(branches, " UNION ALL ") + ") b ORDER BY seq" + limited
	return selectJobs + " JOIN (" + page + ") e ON e.seq = j.seq ORDER BY j.seq" + order, f.args
}

// filters are the conditions that every branch has. Only constants are put into
// the text of a query; values are bound.
type filters struct {
	where []string
	args  []any
}

// bind returns the place of a value.
func (f *filters) bind(value any) string {
	f.args = append(f.args, value)
	return "$" + strconv.Itoa(len(f.args))
}

func (f *filters) add(parts ...string) { f.where = append(f.where, strings.Join(parts, "")) }

func (f *filters) common(q store.JobQuery, after int64) {
	if q.After != "" {
		if q.Oldest {
			f.add("j.seq > ", f.bind(after))
		} else {
			f.add("j.seq < ", f.bind(after))
		}
	}
	if q.Tenant != "" {
		f.add("j.tenant = ", f.bind(clean(q.Tenant)))
	}
	if q.Queue != "" {
		f.add("j.lane IN (SELECT id FROM nanoos.lanes WHERE queue = ", f.bind(clean(q.Queue)), ")")
	}
	if q.Engine != "" {
		f.add("j.lane IN (SELECT id FROM nanoos.lanes WHERE engine = ", f.bind(clean(q.Engine)), ")")
	}
	if q.Name != "" {
		f.add("EXISTS (SELECT 1 FROM nanoos.specs n WHERE n.seq = j.seq AND position(", f.bind(clean(column.Fold(q.Name))), " IN n.folded) > 0)")
	}
	if !q.Since.IsZero() {
		f.add("j.created_at >= ", f.bind(column.Micros(q.Since)))
	}
	for _, name := range slices.Sorted(maps.Keys(q.Labels)) {
		f.add("j.seq IN (SELECT seq FROM nanoos.labels WHERE name = ", f.bind(clean(name)), " AND value = ", f.bind(clean(q.Labels[name])), ")")
	}
}

// Ids are compared as texts; the end of one is what people copy, since the
// beginnings of ids made together are alike. The end needs a walk over the
// index of ids, which only a person's lookup pays; keeping a second index of
// reversed ids would cost every submission.
const selectResolve = `
SELECT s.id FROM nanoos.specs s
WHERE ($2 = '' OR s.tenant = $2) AND s.id IN (
	SELECT id FROM nanoos.specs WHERE id >= $1 AND id < $3
	UNION SELECT id FROM nanoos.specs WHERE right(id, length($1)) = $1
	UNION SELECT id FROM nanoos.specs WHERE name = $1 AND name <> '')
ORDER BY s.seq DESC LIMIT $4`

// Resolve implements store.ReadTx.
func (tx *readTx) Resolve(ctx context.Context, t job.Tenant, ref string, limit int) ([]job.ID, error) {
	if ref == "" {
		return nil, nil
	}
	ref = clean(ref)
	return tx.ids(ctx, selectResolve, ref, clean(t), ref+"\U0010ffff", max(0, limit))
}
