package storetest

import (
	"encoding/json"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

var eventRules = []rule{
	{"I13_EventsComeBackInOrderWithTimeAndNumber", func(b *bench) {
		j := full()
		b.insert(j)
		b.same("the last event", b.lastEvent(), int64(0))
		ev := []job.Event{
			{Tenant: j.Tenant, Job: j.ID, Kind: job.EventSubmitted, Data: json.RawMessage("{ \"by\" : \"ann\" }")},
			{Tenant: j.Tenant, Job: j.ID, Kind: job.EventQueued, Seq: 99, At: day},
			{Kind: job.EventHeld},
		}
		var now time.Time
		b.write(func(tx store.Tx) error {
			now = tx.Now()
			return tx.AppendEvents(b.Context(), ev)
		})
		got := b.events("", "", 0, 10)
		if len(got) != 3 {
			b.Fatalf("there are %d events", len(got))
		}
		for i, e := range got {
			if i > 0 && e.Seq <= got[i-1].Seq || e.Seq <= 0 {
				b.Errorf("event %d has number %d", i, e.Seq)
			}
			want := ev[i]
			want.Seq, want.At = e.Seq, now
			b.same("events", e, want)
			if string(e.Data) != string(want.Data) {
				b.Errorf("data is %q, want %q", e.Data, want.Data)
			}
		}
		b.same("the last event", b.lastEvent(), got[2].Seq)
	}},
	{"EventsAreReadInPages", func(b *bench) {
		j := queued()
		b.insert(j)
		for range 5 {
			b.append(job.Event{Tenant: j.Tenant, Job: j.ID, Kind: job.EventQueued})
		}
		all := b.events("", "", 0, 100)
		var paged []job.Event
		for after := int64(0); ; {
			page := b.events("", "", after, 2)
			if len(page) == 0 {
				break
			}
			paged = append(paged, page...)
			after = page[len(page)-1].Seq
		}
		b.same("events", paged, all)
		b.same("no events", len(b.events("", "", 0, 0)), 0)
		b.same("events after the last", len(b.events("", "", b.lastEvent(), 10)), 0)
	}},
	{"G17_EventsAreFilteredByTenantAndJob", func(b *bench) {
		mine, theirs := queued(), queuedAs(func(j *job.Job) { j.Tenant = "other" })
		b.insert(mine, theirs)
		b.append(job.Event{Tenant: mine.Tenant, Job: mine.ID, Kind: job.EventSubmitted},
			job.Event{Tenant: theirs.Tenant, Job: theirs.ID, Kind: job.EventSubmitted},
			job.Event{Tenant: mine.Tenant, Job: mine.ID, Kind: job.EventQueued})
		for _, c := range []struct {
			tenant job.Tenant
			id     job.ID
			want   int
		}{
			{"", "", 3}, {mine.Tenant, "", 2}, {theirs.Tenant, "", 1}, {"", mine.ID, 2}, {mine.Tenant, mine.ID, 2},
			{theirs.Tenant, mine.ID, 0}, {"nobody", "", 0}, {"", job.NewID(), 0},
		} {
			if got := b.events(c.tenant, c.id, 0, 10); len(got) != c.want {
				b.Errorf("tenant %q job %q: %d events, want %d", c.tenant, c.id, len(got), c.want)
			}
		}
	}},
	{"AnEventOfAnAbsentJobIsNotFoundAndNoneIsAppended", func(b *bench) {
		j := queued()
		b.insert(j)
		b.refused(job.NotFound, func(tx store.Tx) error {
			return tx.AppendEvents(b.Context(), []job.Event{{Job: j.ID, Kind: job.EventQueued}, {Job: job.NewID(), Kind: job.EventQueued}})
		})
		b.same("the last event", b.lastEvent(), int64(0))
	}},
	{"I13_AnEventIsUndoneWithItsTransaction", func(b *bench) {
		b.refused(job.Invalid, func(tx store.Tx) error {
			if err := tx.AppendEvents(b.Context(), []job.Event{{Kind: job.EventHeld}}); err != nil {
				return err
			}
			return job.Errorf(job.Invalid, "undo")
		})
		b.same("events", len(b.events("", "", 0, 10)), 0)
		b.same("the last event", b.lastEvent(), int64(0))
	}},
}

func (b *bench) append(ev ...job.Event) {
	b.Helper()
	b.write(func(tx store.Tx) error { return tx.AppendEvents(b.Context(), ev) })
}

func (b *bench) events(t job.Tenant, id job.ID, after int64, limit int) (ev []job.Event) {
	b.Helper()
	b.read(func(tx store.ReadTx) (err error) {
		ev, err = tx.EventsAfter(b.Context(), t, id, after, limit)
		return err
	})
	return ev
}

func (b *bench) lastEvent() (seq int64) {
	b.Helper()
	b.read(func(tx store.ReadTx) (err error) {
		seq, err = tx.LastEvent(b.Context())
		return err
	})
	return seq
}
