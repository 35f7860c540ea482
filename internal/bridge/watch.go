package bridge

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
)

// watch looks at the rows of the jobs that go on or have just ended. A job that
// the platform cancelled is stopped; a row that the platform set back, because
// it wrote later what it had decided earlier, is written again.
func (m *mirror) watch(ctx context.Context) error {
	now := time.Now()
	var ids, said []string
	for id, t := range m.live {
		if t.gone || !t.ended.IsZero() && now.Sub(t.ended) > lingering {
			if !t.ended.IsZero() {
				delete(m.live, id)
			}
			continue
		}
		ids, said = append(ids, string(id)), append(said, t.status)
	}
	if len(ids) == 0 {
		return nil
	}
	var other map[job.ID]string
	err := m.b.db.use(ctx, func(ctx context.Context, s *session) (err error) {
		other, err = s.differing(ctx, ids, said)
		return err
	})
	if err != nil {
		return err
	}
	for id, status := range other {
		if err := m.differs(ctx, id, status); err != nil {
			return err
		}
	}
	return nil
}

// differing returns the statuses of rows that say something else than they were
// told.
func (s *session) differing(ctx context.Context, ids, said []string) (map[job.ID]string, error) {
	rows, err := s.pg.Query(ctx, `
SELECT lower(j."id"::text), upper(j."status"::text)
FROM unnest($1::text[]::`+s.schema[jobsTable]["id"].cast+`[], $2::text[]) AS t(id, status) JOIN public.simulation_jobs j ON j."id" = t.id
WHERE upper(j."status"::text) <> t.status`, ids, said)
	if err != nil {
		return nil, err
	}
	other := make(map[job.ID]string)
	var id, status string
	_, err = pgx.ForEachRow(rows, []any{&id, &status}, func() error {
		other[job.ID(id)] = status
		return nil
	})
	return other, err
}

// differs deals with a row that says something else than it was told.
func (m *mirror) differs(ctx context.Context, id job.ID, status string) error {
	t := m.live[id]
	switch {
	case status == statusCancelled && t.ended.IsZero():
		_, err := m.b.opt.Queue.Cancel(ctx, t.tenant, id, queue.Actor{By: "platform", Why: "its row was set to CANCELLED"})
		switch job.CodeOf(err) {
		case "", job.Conflict, job.NotFound: // it is stopped, or has ended meanwhile
			m.giveUp(id)
		default:
			return fmt.Errorf("cancel job %s, as the platform did: %w", id, err)
		}
	case ended(status):
		m.b.opt.Log.InfoContext(ctx, "the platform ended a row whose job goes on", "job", id, "status", status)
		m.giveUp(id)
	case t.ended.IsZero() && way(status, t.status) == nil:
		// The row is ahead of the job, as that of one that waits for another try.
	default:
		m.owe(id)
	}
	return nil
}
