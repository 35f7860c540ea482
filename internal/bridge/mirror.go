package bridge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

const (
	// duty names the lease of the mirror, and metaCursor holds the last event
	// that the platform knows the consequences of.
	duty       = "bridge"
	metaCursor = "bridge.cursor"
	// leadFor is the lease, short because a cancel of the platform's waits for the
	// next leader; leadEvery is how often it is renewed, and how often the other
	// servers try to take it.
	leadFor, leadEvery = 8 * time.Second, 2 * time.Second
	// tick is how often progress is told.
	tick = time.Second
	// watchEvery is how often the rows are looked at: a job that the platform
	// cancelled is to stop within 5 s.
	watchEvery = 2 * time.Second
	// followBatch bounds the events of one step, and writeBatch the rows of one
	// transaction, which keeps their locks short.
	followBatch, writeBatch = 500, 100
	// lingering is how long the row of a job that has ended is still watched: the
	// platform writes QUEUED after it has published the task, and may be later
	// than the job.
	lingering = time.Minute
	// firstPause and lastPause bound the wait before the platform is tried again.
	firstPause, lastPause = 100 * time.Millisecond, 5 * time.Second
)

var errNotLeader = errors.New("another server keeps the mirror")

// mirror tells the platform what becomes of its jobs. Everything in it can be
// found again in the two databases.
type mirror struct {
	b       *Bridge
	cursor  int64     // all events up to here are told, or in owed
	stored  int64     // the cursor in the store
	until   time.Time // when the lease is renewed next, by the local clock
	kept    time.Time
	ticked  time.Time
	watched time.Time
	live    map[job.ID]told // the platform's jobs that go on or have just ended
	foreign map[job.ID]bool // jobs that are not the platform's
	// owed are jobs whose rows were locked, by the event before which nothing is
	// owed for them.
	owed map[job.ID]int64
}

// told is what a row says, as far as we know.
type told struct {
	status   string
	progress job.Progress // without its value
	tenant   job.Tenant
	ended    time.Time // zero while the job goes on
	gone     bool      // the row is, or it ended without us: nothing more is told
}

func (b *Bridge) newMirror() *mirror {
	return &mirror{b: b, live: map[job.ID]told{}, foreign: map[job.ID]bool{}, owed: map[job.ID]int64{}}
}

// Run keeps the mirror until ctx ends, once there are tables. The platform's database being away ends
// nothing: it is tried again, and told what happened meanwhile.
func (b *Bridge) Run(ctx context.Context) error {
	b.seek(ctx)
	m, pause := b.newMirror(), firstPause
	defer func() { m.leave() }()
	for ctx.Err() == nil {
		changed := b.opt.Queue.Changed()
		more, err := m.step(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errNotLeader):
			m = b.newMirror()
			b.ping(ctx)
			wait(ctx, leadEvery, nil)
		case err != nil:
			b.failed(ctx, err)
			wait(ctx, pause, nil)
			pause = min(2*pause, lastPause)
		default:
			b.works(ctx)
			pause = firstPause
			if !more {
				wait(ctx, tick, changed)
			}
		}
	}
	return nil
}

// seek waits until the platform's tables have been seen: by itself, or by whoever
// asks for a job of theirs.
func (b *Bridge) seek(ctx context.Context) {
	for !b.Found() && ctx.Err() == nil {
		err := b.db.use(ctx, func(context.Context, *session) error { return nil })
		switch {
		case err == nil, ctx.Err() != nil:
			return
		case errors.Is(err, ErrNoPlatform):
			b.fault.Store(nil) // it answers
			wait(ctx, seekEvery, b.db.found)
		default:
			b.failed(ctx, err)
			wait(ctx, seekEvery, b.db.found)
		}
	}
}

// leave ends the lease, so that another server need not wait for its end.
func (m *mirror) leave() {
	if m.until.IsZero() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := m.b.opt.Store.Write(ctx, func(tx store.Tx) error {
		_, err := tx.Lead(ctx, duty, m.b.opt.Name, 0)
		return err
	})
	if err != nil {
		m.b.opt.Log.DebugContext(ctx, "the lease of the mirror ends by itself", "error", err)
	}
}

// ping keeps the health of a server that does not lead true.
func (b *Bridge) ping(ctx context.Context) {
	if err := b.db.use(ctx, func(ctx context.Context, s *session) error { return s.pg.Ping(ctx) }); err != nil {
		b.failed(ctx, err)
	} else {
		b.works(ctx)
	}
}

func wait(ctx context.Context, d time.Duration, woken <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-woken:
	case <-timer.C:
	}
}

// step tells what has happened since the last one, and reports whether there may
// be more.
func (m *mirror) step(ctx context.Context) (more bool, err error) {
	if time.Now().After(m.until) {
		if err := m.lead(ctx); err != nil {
			return false, err
		}
	}
	seen, err := m.look(ctx)
	if err != nil {
		return false, err
	}
	if err := m.tell(ctx, seen.pictures); err != nil {
		for _, p := range seen.pictures { // progress has no event that would tell it again
			m.owe(p.id)
		}
		return false, err
	}
	m.cursor = seen.cursor
	if time.Since(m.watched) >= watchEvery {
		if err := m.watch(ctx); err != nil {
			return false, err
		}
		m.watched = time.Now()
	}
	return seen.full, m.keep(ctx)
}

// lead takes or keeps the lease. Whoever takes it begins with all the platform's
// jobs that go on or ended lately, whatever their rows say.
func (m *mirror) lead(ctx context.Context) error {
	err := m.b.opt.Store.Write(ctx, func(tx store.Tx) error {
		if err := m.take(ctx, tx); err != nil || !m.until.IsZero() {
			return err
		}
		text, err := tx.Meta(ctx, metaCursor)
		if err != nil {
			return err
		}
		if m.cursor, err = strconv.ParseInt(text, 10, 64); err != nil {
			// The first mirror ever: what ended before has no row that waits.
			if m.cursor, err = tx.LastEvent(ctx); err != nil {
				return err
			}
		}
		m.stored = m.cursor
		return nil
	})
	if err != nil {
		return err
	}
	if m.until.IsZero() {
		if err := m.gather(ctx); err != nil {
			return err
		}
	}
	m.until = time.Now().Add(leadEvery)
	return nil
}

func (m *mirror) take(ctx context.Context, tx store.Tx) error {
	leads, err := tx.Lead(ctx, duty, m.b.opt.Name, leadFor)
	if err != nil {
		return fmt.Errorf("lead the mirror of the platform: %w", err)
	}
	if !leads {
		return errNotLeader
	}
	return nil
}

// gather owes a look to every job of the platform's that goes on or ended lately.
func (m *mirror) gather(ctx context.Context) error {
	return m.b.opt.Store.Read(ctx, func(tx store.ReadTx) error {
		q := store.JobQuery{Labels: map[string]string{labelPlatform: ofNanoOS}, Updated: tx.Now().Add(-10 * lingering), Limit: 500}
		for {
			page, next, err := tx.Jobs(ctx, q)
			if err != nil {
				return fmt.Errorf("list the platform's jobs: %w", err)
			}
			for _, j := range page {
				m.owed[j.ID] = m.cursor
			}
			if next == "" {
				return nil
			}
			q.After = next
		}
	})
}

// sight is what a look at the store shows.
type sight struct {
	cursor   int64
	full     bool // there may be more
	pictures []picture
}

// look reads the jobs that something happened to, and those that are owed.
func (m *mirror) look(ctx context.Context) (sight, error) {
	var seen sight
	var owed map[job.ID]int64
	err := m.b.opt.Store.Read(ctx, func(tx store.ReadTx) error {
		seen, owed = sight{cursor: m.cursor}, maps.Clone(m.owed)
		events, err := tx.EventsAfter(ctx, "", "", m.cursor, followBatch)
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
		for _, e := range events {
			if _, known := owed[e.Job]; !known && e.Job != "" && !m.foreign[e.Job] {
				owed[e.Job] = e.Seq - 1
			}
			seen.cursor = e.Seq
		}
		seen.full = len(events) == followBatch
		running, err := m.progressed(ctx, tx)
		if err != nil {
			return err
		}
		return m.draw(ctx, tx, owed, running, &seen)
	})
	if err == nil {
		// Nobody else remembers them once the cursor has passed.
		m.owed = owed
	}
	return seen, err
}

// progressed returns the running jobs that have come further, once in a tick.
func (m *mirror) progressed(ctx context.Context, tx store.ReadTx) (map[job.ID]job.Job, error) {
	if time.Since(m.ticked) < tick || len(m.live) == 0 {
		return nil, nil
	}
	m.ticked = time.Now()
	running, err := tx.RunningOn(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("read the running jobs: %w", err)
	}
	further := make(map[job.ID]job.Job)
	for _, j := range running {
		if t, ours := m.live[j.ID]; ours && !t.gone && t.progress != shown(j.Progress) {
			further[j.ID] = j
		}
	}
	return further, nil
}

// shown is the part of a progress that a row shows.
func shown(p *job.Progress) job.Progress {
	if p == nil {
		return job.Progress{}
	}
	return job.Progress{Fraction: p.Fraction, Stage: p.Stage}
}

// draw makes pictures of the jobs. What is not the platform's is not owed.
func (m *mirror) draw(ctx context.Context, tx store.ReadTx, owed map[job.ID]int64, running map[job.ID]job.Job, seen *sight) error {
	if len(m.foreign) > 100_000 { // a bound on memory; they are found again
		clear(m.foreign)
	}
	ids := slices.SortedFunc(maps.Keys(owed), func(x, y job.ID) int { return int(owed[x] - owed[y]) })
	if len(ids) > followBatch {
		ids, seen.full = ids[:followBatch], true
	}
	for _, id := range ids {
		j, result, err := read(ctx, tx, id)
		if job.CodeOf(err) == job.Unavailable || ctx.Err() != nil {
			return err
		}
		if err != nil && job.CodeOf(err) != job.NotFound {
			m.b.opt.Log.ErrorContext(ctx, "a job is not mirrored", "error", err)
		}
		if err != nil || !mirrored(j) {
			m.foreign[id] = true
			delete(owed, id)
			continue
		}
		delete(running, id)
		seen.pictures = append(seen.pictures, m.picture(j, result))
	}
	for _, j := range running {
		seen.pictures = append(seen.pictures, m.picture(j, nil))
	}
	return nil
}

// read reads a job, and its result if it has succeeded.
func read(ctx context.Context, tx store.ReadTx, id job.ID) (j job.Job, result []byte, err error) {
	if j, err = tx.Job(ctx, "", id); err == nil && j.State == job.Completed {
		result, err = tx.Result(ctx, "", id)
	}
	if err != nil {
		err = fmt.Errorf("read job %s: %w", id, err)
	}
	return j, result, err
}

// mirrored reports whether a job is the platform's: it was imported, or is one of
// the dummies that the front door starts under the platform's ids.
func mirrored(j job.Job) bool {
	return j.Spec.Labels[labelPlatform] == ofNanoOS || dummy(j)
}

func (m *mirror) picture(j job.Job, result []byte) picture {
	t := m.live[j.ID]
	t.progress, t.tenant, t.ended = shown(j.Progress), j.Tenant, j.EndedAt
	if !j.State.Terminal() {
		t.ended = time.Time{}
	}
	m.live[j.ID] = t
	return pictureOf(j, result)
}

// tell writes pictures into their rows. What cannot be written for a while stays
// owed; what cannot be written at all is told to the row and given up.
func (m *mirror) tell(ctx context.Context, pictures []picture) error {
	for batch := range slices.Chunk(pictures, writeBatch) {
		if err := m.write(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

func (m *mirror) write(ctx context.Context, batch []picture) error {
	var after map[job.ID]held
	err := m.b.db.use(ctx, func(ctx context.Context, s *session) (err error) {
		after, err = s.draw(ctx, batch)
		return err
	})
	switch {
	case err == nil:
		m.wrote(ctx, batch, after)
		return nil
	case !refused(err):
		return err
	case hasCode(err, busyCodes...):
		for _, p := range batch {
			m.owe(p.id)
		}
		return nil
	case len(batch) > 1: // one that is bad keeps nobody else's
		for _, p := range batch {
			if err := m.write(ctx, []picture{p}); err != nil {
				return err
			}
		}
		return nil
	}
	m.complain(ctx, batch[0].id, err)
	return nil
}

// owe remembers that a row does not say yet what it should.
func (m *mirror) owe(id job.ID) {
	if _, owed := m.owed[id]; !owed {
		m.owed[id] = m.cursor
	}
}

// complain gives up a row that takes nothing more, and says so in it.
func (m *mirror) complain(ctx context.Context, id job.ID, why error) {
	m.b.opt.Log.ErrorContext(ctx, "a row of the platform takes nothing more from us", "job", id, "error", why)
	err := m.b.change(ctx, id, func(row held) (string, []field, error) {
		if ended(row.status) {
			return "", nil, nil
		}
		return "", []field{say("error_message", "nanoos cannot write this row: "+why.Error())}, nil
	})
	if err != nil {
		m.b.opt.Log.WarnContext(ctx, "the reason could not be written either", "job", id, "error", err)
	}
	m.giveUp(id)
}

func (m *mirror) giveUp(id job.ID) {
	t := m.live[id]
	t.gone = true
	m.live[id] = t
	delete(m.owed, id)
}

// draw writes pictures in one transaction, and returns the rows as they are
// then. A row that has ended stays as it is, and so does one that somebody else
// holds.
func (s *session) draw(ctx context.Context, batch []picture) (after map[job.ID]held, err error) {
	ids := make([]job.ID, len(batch))
	for i, p := range batch {
		ids[i] = p.id
	}
	err = pgx.BeginFunc(ctx, s.pg, func(pgx.Tx) error {
		if after, err = s.lock(ctx, ids, "SKIP LOCKED"); err != nil {
			return err
		}
		if len(after) < len(ids) {
			if err := s.addBusy(ctx, ids, after); err != nil {
				return err
			}
		}
		var b pgx.Batch
		for _, p := range batch {
			if row := after[p.id]; !row.busy && !ended(row.status) {
				after[p.id] = s.schema.draw(&b, p, row)
			}
		}
		return s.pg.SendBatch(ctx, &b).Close()
	})
	return after, err
}

// addBusy adds the rows that are there and were not locked.
func (s *session) addBusy(ctx context.Context, ids []job.ID, rows map[job.ID]held) error {
	all, err := s.statuses(ctx, ids)
	for id, row := range all {
		if _, locked := rows[id]; !locked {
			row.busy = true
			rows[id] = row
		}
	}
	return err
}

// draw queues what makes a row say what a picture does, the result before the
// status, and returns the row as it is then.
func (s schema) draw(b *pgx.Batch, p picture, row held) held {
	if p.result != nil && s[resultsTable].has("simulation_job_id") {
		fields := p.result
		if row.owner != "" {
			fields = append(slices.Clone(fields), say("owner_id", row.owner))
		}
		sql, args := s.insertResult(string(p.id), fields)
		b.Queue(sql, args...)
	}
	to := p.status
	if p.late && s.knowsTimeout() {
		to = statusTimeout
	}
	if way(row.status, to) == nil {
		to = row.status // there is no way back
	}
	s.move(b, p.id, row, to, p.fields)
	row.status = to
	return row
}

// wrote remembers what rows say now.
func (m *mirror) wrote(ctx context.Context, batch []picture, after map[job.ID]held) {
	for _, p := range batch {
		row, found := after[p.id]
		if row.busy {
			m.owe(p.id)
			continue
		}
		delete(m.owed, p.id)
		said := p.status
		if p.late && row.status == statusTimeout {
			said = statusTimeout
		}
		if !found || ended(row.status) && row.status != said {
			if !m.live[p.id].gone {
				m.b.opt.Log.InfoContext(ctx, "a job of the platform goes on without its row", "job", p.id, "row", row.status)
			}
			if row.status != statusCancelled { // a cancel is for watch to see
				m.giveUp(p.id)
				continue
			}
		}
		t := m.live[p.id]
		t.status = said
		m.live[p.id] = t
	}
}

// keep stores the position now and then: to tell something twice does no harm.
func (m *mirror) keep(ctx context.Context) error {
	position := m.cursor
	for _, before := range m.owed {
		position = min(position, before)
	}
	if position == m.stored || time.Since(m.kept) < tick && position-m.stored < followBatch {
		return nil
	}
	m.kept = time.Now()
	err := m.b.opt.Store.Write(ctx, func(tx store.Tx) error {
		if err := m.take(ctx, tx); err != nil {
			return err
		}
		return tx.SetMeta(ctx, metaCursor, strconv.FormatInt(position, 10))
	})
	if err == nil {
		m.stored = position
		m.until = time.Now().Add(leadEvery)
	}
	return err
}
