package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

var queryRules = []rule{
	{"PagesFollowTheOrderOfInsertion", func(b *bench) {
		var jobs []job.Job
		for i := range 7 {
			jobs = append(jobs, queuedAs(func(j *job.Job) { j.CreatedAt = day.Add(-time.Duration(i) * time.Hour) }))
		}
		b.insert(jobs...)
		want := idsOf(jobs)
		b.same("oldest first", b.pages(store.JobQuery{Oldest: true, Limit: 3}), want)
		slices.Reverse(want)
		b.same("newest first", b.pages(store.JobQuery{Limit: 3}), want)
		b.same("one page of exactly all", b.pages(store.JobQuery{Limit: 7}), want)
	}},
	{"APageStaysPutWhenJobsAreAdded", func(b *bench) {
		var want []job.ID
		for range 4 {
			j := queued()
			b.insert(j)
			want = append([]job.ID{j.ID}, want...)
		}
		page, next := b.page(store.JobQuery{Limit: 2})
		b.insert(queued())
		rest, _ := b.page(store.JobQuery{Limit: 2, After: next})
		b.same("jobs", append(idsOf(page), idsOf(rest)...), want)
	}},
	{"AListedJobIsWholeButForItsResult", func(b *bench) {
		j := full()
		j.Result = []byte(`{"e":1}`)
		b.insert(j)
		page, next := b.page(store.JobQuery{})
		j.Result = nil
		b.same("jobs", page, []job.Job{j})
		b.same("cursors", next, store.Cursor(""))
	}},
	{"TheDefaultPageHasFiftyJobs", func(b *bench) {
		jobs := make([]job.Job, 51)
		for i := range jobs {
			jobs[i] = queued()
		}
		b.insert(jobs...)
		page, next := b.page(store.JobQuery{})
		if len(page) != 50 || next == "" {
			b.Errorf("the page has %d jobs and the cursor %q", len(page), next)
		}
	}},
	{"FiltersRestrictAndCombine", func(b *bench) { b.filters() }},
	{"BadQueriesAreInvalid", func(b *bench) {
		b.insert(queued(), queued())
		_, next := b.page(store.JobQuery{Limit: 1})
		for name, q := range map[string]store.JobQuery{
			"limit below":     {Limit: -1},
			"limit above":     {Limit: 501},
			"unknown state":   {States: []job.State{job.Queued, "queued' OR 1=1"}},
			"foreign cursor":  {After: "bm9uc2Vuc2U"},
			"binary cursor":   {After: "\x00\xff"},
			"number":          {After: "1"},
			"cut cursor":      {After: next[:len(next)-1] + "!"},
			"the other order": {After: next, Oldest: true},
		} {
			err := b.store.Read(b.Context(), func(tx store.ReadTx) error {
				_, _, err := tx.Jobs(b.Context(), q)
				return err
			})
			if job.CodeOf(err) != job.Invalid {
				b.Errorf("%s: error is %v, want invalid", name, err)
			}
		}
	}},
	{"ResolveFindsBeginningsEndsAndNames", func(b *bench) {
		x := queuedAs(func(j *job.Job) { j.ID, j.Spec.Name = "aaaa-1111-bbbb", "relax" })
		y := queuedAs(func(j *job.Job) { j.ID, j.Spec.Name = "aaaa-2222-cccc", "relax" })
		z := queuedAs(func(j *job.Job) { j.ID, j.Tenant, j.Spec.Name = "dddd-3333-bbbb", "other", "aaaa" })
		b.insert(x, y, z)
		for _, c := range []struct {
			tenant job.Tenant
			ref    string
			limit  int
			want   []job.ID
		}{
			{"", "aaaa", 9, []job.ID{z.ID, y.ID, x.ID}},
			{job.DefaultTenant, "aaaa", 9, []job.ID{y.ID, x.ID}},
			{"", "bbbb", 9, []job.ID{z.ID, x.ID}},
			{"other", "bbbb", 9, []job.ID{z.ID}},
			{"", "relax", 9, []job.ID{y.ID, x.ID}},
			{"", "relax", 1, []job.ID{y.ID}},
			{"", "relax", 0, nil},
			{"", string(x.ID), 9, []job.ID{x.ID}},
			{"", "rela", 9, nil},
			{"", "1111", 9, nil},
			{"", "%", 9, nil},
			{"", "____-1111-bbbb", 9, nil},
			{"", string(x.ID) + "x", 9, nil},
			{"", "", 9, nil},
		} {
			var got []job.ID
			b.read(func(tx store.ReadTx) (err error) {
				got, err = tx.Resolve(b.Context(), c.tenant, c.ref, c.limit)
				return err
			})
			b.same(fmt.Sprintf("jobs for %q of %q", c.ref, c.tenant), got, c.want)
		}
	}},
}

// filters checks every field of a query alone and with others.
func (b *bench) filters() {
	b.Helper()
	mk := func(name string, change func(*job.Job)) job.Job {
		return queuedAs(func(j *job.Job) {
			j.Spec.Name = name
			change(j)
		})
	}
	jobs := []job.Job{
		mk("plain", func(j *job.Job) {}),
		mk("Si-Relax", func(j *job.Job) {
			j.Tenant, j.Spec.Labels, j.State = "t", map[string]string{"campaign": "demo", "phase": "1"}, job.Running
		}),
		mk("si-RELAX-2", func(j *job.Job) {
			j.Spec.Labels, j.State, j.EndedAt = map[string]string{"campaign": "demo"}, job.Failed, day.Add(time.Hour)
		}),
		mk("ÄTHER_100%", func(j *job.Job) {
			j.State, j.EndedAt, j.CreatedAt = job.Completed, day.Add(2*time.Hour), day.Add(time.Minute)
		}),
		mk("", func(j *job.Job) {
			j.Spec.Queue, j.Spec.Engine, j.State = "other", "qe", job.Pending
			j.Spec.Labels = map[string]string{"campaign": "other", "empty": ""}
		}),
		mk("gone", func(j *job.Job) { j.State, j.EndedAt = job.Cancelled, day.Add(time.Hour) }),
	}
	b.insert(jobs...)
	for name, c := range map[string]struct {
		q    store.JobQuery
		want []int
	}{
		"nothing":             {store.JobQuery{}, []int{0, 1, 2, 3, 4, 5}},
		"tenant":              {store.JobQuery{Tenant: "t"}, []int{1}},
		"unknown tenant":      {store.JobQuery{Tenant: "nobody"}, nil},
		"one state":           {store.JobQuery{States: []job.State{job.Failed}}, []int{2}},
		"states":              {store.JobQuery{States: []job.State{job.Running, job.Cancelled, job.Running}}, []int{1, 5}},
		"all states":          {store.JobQuery{States: job.States}, []int{0, 1, 2, 3, 4, 5}},
		"queue":               {store.JobQuery{Queue: "other"}, []int{4}},
		"engine":              {store.JobQuery{Engine: "mock"}, []int{0, 1, 2, 3, 5}},
		"queue and engine":    {store.JobQuery{Queue: "other", Engine: "mock"}, nil},
		"name":                {store.JobQuery{Name: "relax"}, []int{1, 2}},
		"name in capitals":    {store.JobQuery{Name: "SI-"}, []int{1, 2}},
		"name beyond ASCII":   {store.JobQuery{Name: "äther"}, []int{3}},
		"name is no pattern":  {store.JobQuery{Name: "r_100%"}, []int{3}},
		"name is no wildcard": {store.JobQuery{Name: "%"}, []int{3}},
		"label":               {store.JobQuery{Labels: map[string]string{"campaign": "demo"}}, []int{1, 2}},
		"labels":              {store.JobQuery{Labels: map[string]string{"campaign": "demo", "phase": "1"}}, []int{1}},
		"empty label":         {store.JobQuery{Labels: map[string]string{"empty": ""}}, []int{4}},
		"unknown label":       {store.JobQuery{Labels: map[string]string{"campaign": "none"}}, nil},
		"since":               {store.JobQuery{Since: day.Add(time.Minute)}, []int{3}},
		"since all":           {store.JobQuery{Since: day}, []int{0, 1, 2, 3, 4, 5}},
		"updated":             {store.JobQuery{Updated: day.Add(2 * time.Hour)}, []int{0, 1, 3, 4}},
		"updated on the dot":  {store.JobQuery{Updated: day.Add(time.Hour)}, []int{0, 1, 2, 3, 4, 5}},
		"updated and states":  {store.JobQuery{Updated: day.Add(2 * time.Hour), States: []job.State{job.Completed, job.Failed}}, []int{3}},
		"everything": {store.JobQuery{Tenant: "t", States: []job.State{job.Running}, Queue: job.DefaultQueue, Engine: "mock", Name: "rel",
			Labels: map[string]string{"phase": "1"}, Since: day, Updated: day}, []int{1}},
	} {
		var want []job.ID
		for _, i := range c.want {
			want = append(want, jobs[i].ID)
		}
		for _, limit := range []int{1, 500} {
			c.q.Limit, c.q.Oldest = limit, true
			b.same(name+", oldest first", b.pages(c.q), want)
			c.q.Oldest = false
			newest := slices.Clone(want)
			slices.Reverse(newest)
			b.same(name+", newest first", b.pages(c.q), newest)
		}
	}
}

func (b *bench) page(q store.JobQuery) (page []job.Job, next store.Cursor) {
	b.Helper()
	b.read(func(tx store.ReadTx) (err error) {
		page, next, err = tx.Jobs(b.Context(), q)
		return err
	})
	return page, next
}

// pages follows the cursors to the end, which must not be an empty page.
func (b *bench) pages(q store.JobQuery) (ids []job.ID) {
	b.Helper()
	for {
		page, next := b.page(q)
		ids = append(ids, idsOf(page)...)
		if next == "" {
			return ids
		}
		if len(page) != q.Limit {
			b.Errorf("a page before the last has %d jobs of %d", len(page), q.Limit)
		}
		q.After = next
	}
}
