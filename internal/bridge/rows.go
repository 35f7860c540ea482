package bridge

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/nano-os/nanoos/internal/job"
)

// Statuses of the platform's jobs.
const (
	statusPending   = "PENDING"
	statusQueued    = "QUEUED"
	statusRunning   = "RUNNING"
	statusCompleted = "COMPLETED"
	statusFailed    = "FAILED"
	statusCancelled = "CANCELLED"
	statusTimeout   = "TIMEOUT" // in the later generation
)

// moves is the life of a row by the platform's rules. What is not in it has
// ended.
var moves = map[string][]string{
	statusPending: {statusQueued, statusCancelled, statusFailed},
	statusQueued:  {statusRunning, statusCancelled, statusFailed},
	statusRunning: {statusCompleted, statusFailed, statusCancelled, statusTimeout},
}

// statuses are all that there are.
var statuses = []string{statusPending, statusQueued, statusRunning, statusCompleted, statusFailed, statusCancelled, statusTimeout}

func ended(status string) bool { return len(moves[status]) == 0 }

// way is the shortest legal way from one status to another, without the first;
// nil when there is none.
func way(from, to string) []string {
	queue := [][]string{{from}}
	for len(queue) > 0 {
		path := queue[0]
		queue = queue[1:]
		last := path[len(path)-1]
		if last == to {
			return path[1:]
		}
		for _, next := range moves[last] {
			queue = append(queue, append(slices.Clone(path), next))
		}
	}
	return nil
}

// held is a row that is locked, or was read.
type held struct {
	status string // in upper case
	owner  string // owner_id; "" for none
	task   string // celery_task_id; "" for none
	busy   bool   // somebody else holds it
}

// statuses reads rows by the ids of their jobs; those that are absent are left
// out.
func (s *session) statuses(ctx context.Context, ids []job.ID) (map[job.ID]held, error) {
	return s.rows(ctx, ids, "")
}

// lock also keeps the rows from other writers until the transaction ends. Those
// that somebody holds are waited for, or left out with "SKIP LOCKED".
func (s *session) lock(ctx context.Context, ids []job.ID, how string) (map[job.ID]held, error) {
	return s.rows(ctx, ids, ` ORDER BY "id" FOR NO KEY UPDATE `+how)
}

func (s *session) rows(ctx context.Context, ids []job.ID, suffix string) (map[job.ID]held, error) {
	jobs := s.schema[jobsTable]
	optional := func(name string) string {
		if jobs.has(name) {
			return fmt.Sprintf(`coalesce(%q::text, '')`, name)
		}
		return "''"
	}
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = string(id)
	}
	rows, err := s.pg.Query(ctx, `SELECT lower("id"::text), upper("status"::text), `+optional("owner_id")+", "+optional("celery_task_id")+
		` FROM public.simulation_jobs WHERE "id" = ANY($1::text[]::`+jobs["id"].cast+"[])"+suffix, texts)
	if err != nil {
		return nil, err
	}
	found := make(map[job.ID]held, len(ids))
	var id string
	var row held
	_, err = pgx.ForEachRow(rows, []any{&id, &row.status, &row.owner, &row.task}, func() error {
		found[job.ID(id)] = row
		return nil
	})
	return found, err
}

// change runs fn on one row that is locked, in a transaction. fn returns the
// fields to write, and the status to end in; "" or the present one stays.
func (b *Bridge) change(ctx context.Context, id job.ID, fn func(held) (to string, fields []field, err error)) error {
	return b.use(ctx, id, func(ctx context.Context, s *session) error {
		return pgx.BeginFunc(ctx, s.pg, func(pgx.Tx) error {
			rows, err := s.lock(ctx, []job.ID{id}, "")
			if err != nil {
				return err
			}
			row, found := rows[id]
			if !found {
				return noJob(id)
			}
			to, fields, err := fn(row)
			if err != nil {
				return err
			}
			var batch pgx.Batch
			s.schema.move(&batch, id, row, to, fields)
			return s.pg.SendBatch(ctx, &batch).Close()
		})
	})
}

// move queues what takes a locked row to a status by legal steps, and writes the
// fields with the last one.
func (s schema) move(batch *pgx.Batch, id job.ID, row held, to string, fields []field) {
	status := row.status
	steps := []string{status}
	if to != "" && to != status {
		steps = way(status, to)
	}
	for i, step := range steps {
		var set []field
		if step != status {
			set = append(set, say("status", step))
		}
		if i == len(steps)-1 {
			set = append(set, fields...)
		}
		if sql, args := s.updateJob(string(id), status, set); sql != "" && len(set) > 0 {
			batch.Queue(sql, args...)
		}
		status = step
	}
}

// Queued tells the platform that a task was accepted for its job. The id of the
// task is written where there is none. A job that is not the platform's, or has
// ended, is left alone.
func (b *Bridge) Queued(ctx context.Context, id job.ID, task string) error {
	queued := func(task string) error {
		return b.change(ctx, id, func(row held) (string, []field, error) {
			var fields []field
			switch {
			case ended(row.status):
				return "", nil, nil
			case row.task == "" && task != "":
				fields = append(fields, say("celery_task_id", task))
			}
			if row.status == statusPending {
				return statusQueued, append(fields, now("submitted_at")), nil
			}
			return "", fields, nil
		})
	}
	err := queued(task)
	if hasCode(err, codeUnique) { // another row has this task
		err = queued("")
	}
	if job.CodeOf(err) == job.NotFound {
		return nil
	}
	return err
}

// Cancel ends a job that only the platform knows. It returns the status that
// kept it from doing so. An unknown job is job.NotFound.
func (b *Bridge) Cancel(ctx context.Context, id job.ID) (was string, cancelled bool, err error) {
	err = b.change(ctx, id, func(row held) (string, []field, error) {
		if ended(row.status) {
			was = row.status
			return "", nil, nil
		}
		was = ""
		return statusCancelled, []field{now("finished_at"), say("current_step", "Cancelled")}, nil
	})
	return was, err == nil && was == "", err
}

// now sets a time that is not set yet to the clock of the database.
func now(name string) field {
	return field{name: name, now: true, keep: true}
}

// known reports whether there is such a status.
func known(status string) bool { return slices.Contains(statuses, strings.ToUpper(status)) }
