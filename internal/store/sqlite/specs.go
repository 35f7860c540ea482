package sqlite

import (
	"context"
	"database/sql"
	"maps"
	"slices"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store/column"
)

// specCache keeps specs that were decoded: a job is locked when it is claimed
// and again when it ends, its spec never changes, and decoding one costs as
// much as everything else that locking a job does. The older generation goes
// when the younger is full.
type specCache struct {
	young, old map[job.ID]job.Spec
	size       int // bytes of the young ones' texts
}

const (
	// maxSpecs is the size of a generation, in bytes of JSON: some 5 000 jobs
	// with small structures.
	maxSpecs = 4 << 20
	// specOverhead stands for what a decoded spec takes beyond its text.
	specOverhead = 256
)

func (c *specCache) get(id job.ID) (job.Spec, bool) {
	if s, ok := c.young[id]; ok {
		return s, true
	}
	s, ok := c.old[id]
	return s, ok
}

func (c *specCache) put(id job.ID, s job.Spec, text string) {
	if c.young == nil || c.size > maxSpecs {
		c.young, c.old, c.size = map[job.ID]job.Spec{}, c.young, 0
	}
	c.young[id] = s
	c.size += len(text) + specOverhead
}

// clear forgets all: a rollback may have undone the jobs they belong to.
func (c *specCache) clear() { *c = specCache{} }

const selectSpecs = `SELECT s.seq, s.spec FROM json_each(?) e CROSS JOIN specs s ON s.seq = e.value`

// fillSpecs gives rows their specs, from the cache or else from the database.
func (tx *writeTx) fillSpecs(ctx context.Context, rows []jobRow) error {
	missing := map[int64]string{} // texts by seq
	for i := range rows {
		r := &rows[i]
		spec, ok := tx.specs.get(r.job.ID)
		if !ok {
			missing[r.seq] = ""
			continue
		}
		spec.Priority = r.job.Spec.Priority
		r.job.Spec = spec
	}
	if len(missing) == 0 {
		return nil
	}
	seqs := slices.Collect(maps.Keys(missing))
	err := tx.rows(ctx, selectSpecs, []any{list(seqs)}, func(r *sql.Rows) error {
		var seq int64
		var text string
		err := r.Scan(&seq, &text)
		missing[seq] = text
		return err
	})
	if err != nil {
		return err
	}
	for i := range rows {
		r := &rows[i]
		text, ok := missing[r.seq]
		if !ok {
			continue
		}
		if err := column.DecodeSpec(&r.job, text); err != nil {
			r.bad = err
			continue
		}
		tx.specs.put(r.job.ID, r.job.Spec, text)
	}
	return nil
}
