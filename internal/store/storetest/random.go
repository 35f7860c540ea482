package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// RunModel runs the same random transactions on a Model and on stores that open
// makes with the same clock, and compares every answer and, after each
// transaction, everything that can be read.
func RunModel(t *testing.T, open ...func(t *testing.T, now func() time.Time) store.Store) {
	rapid.Check(t, func(rt *rapid.T) {
		now := day
		clock := func() time.Time { return now }
		model := NewModel(clock)
		stores := make([]store.Store, len(open))
		for i := range open {
			stores[i] = open[i](t, clock)
			defer stores[i].Close()
		}
		rt.Repeat(map[string]func(*rapid.T){
			"write": func(rt *rapid.T) {
				steps := rapid.SliceOfN(stepGen, 1, 4).Draw(rt, "steps")
				undo := rapid.IntRange(0, 5).Draw(rt, "undo") == 0
				now = now.Add(time.Duration(rapid.IntRange(0, 90).Draw(rt, "seconds")) * time.Second)
				answers := transact(model, steps, undo)
				want := contents(model)
				for _, tested := range stores {
					same(rt, "answers", transact(tested, steps, undo), answers)
					same(rt, "contents", contents(tested), want)
				}
			},
			"list": func(rt *rapid.T) {
				q := queryGen.Draw(rt, "query")
				for _, tested := range stores {
					same(rt, "pages", pagesOf(tested, q), pagesOf(model, q))
				}
			},
		})
	})
}

func same(rt *rapid.T, what string, got, want any) {
	rt.Helper()
	if d := diff(got, want); d != "" {
		rt.Fatalf("%s differ (-model +tested):\n%s", what, d)
	}
}

// answer is what a step returned, in a form that two stores can agree on.
type answer struct {
	Step  string
	Code  job.Code
	Value any
}

// transact runs steps in one transaction. A step may fail and leave the
// transaction usable.
func transact(s store.Store, steps []step, undo bool) []answer {
	var answers []answer
	undone := errors.New("undo")
	err := s.Write(context.Background(), func(tx store.Tx) error {
		answers = nil
		for _, st := range steps {
			value, err := st.run(context.Background(), tx)
			answers = append(answers, answer{st.name, job.CodeOf(err), value})
		}
		if undo {
			return undone
		}
		return nil
	})
	if undo && errors.Is(err, undone) {
		err = nil
	}
	return append(answers, answer{"commit", job.CodeOf(err), nil})
}

// step is one call of a transaction, or a few that belong together.
type step struct {
	name string
	run  func(ctx context.Context, tx store.Tx) (any, error)
}

// String shows a step in the log of a failure.
func (s step) String() string { return s.name }

// A few ids, so that the steps meet.
var (
	idGen     = rapid.Map(rapid.IntRange(0, 11), func(n int) job.ID { return job.ID(fmt.Sprintf("job-%02d-%02d", n%3, n)) })
	nameGen   = rapid.SampledFrom([]string{"", "relax", "Relax-2", "scf"})
	workerGen = rapid.SampledFrom([]string{"", "w1", "w2"})
	stateGen  = rapid.SampledFrom(job.States)
	timeGen   = rapid.Map(rapid.IntRange(-1, 20), func(n int) time.Time {
		if n < 0 {
			return time.Time{}
		}
		return day.Add(time.Duration(n) * 30 * time.Second)
	})
	priorityGen = rapid.SampledFrom([]job.Priority{0, 5, 20})
	tenantGen   = rapid.SampledFrom([]job.Tenant{"a", "b"})
	queueGen    = rapid.SampledFrom([]string{"q1", "q2"})
	progressGen = rapid.Map(rapid.IntRange(0, 3), func(n int) *job.Progress {
		if n == 0 {
			return nil
		}
		return &job.Progress{Fraction: float64(n) / 4, Stage: "step"}
	})
)

var stepGen = rapid.OneOf(insertStep, insertStep, moveStep, moveStep, moveStep, progressStep, attemptStep, eventStep, queueStep, workerStep, leadStep, ticketStep)

var jobGen = rapid.Custom(func(t *rapid.T) job.Job {
	j := job.Job{
		ID: idGen.Draw(t, "id"), Tenant: tenantGen.Draw(t, "tenant"), State: stateGen.Draw(t, "state"),
		CreatedAt: day, RunAt: timeGen.Draw(t, "run at"), Worker: workerGen.Draw(t, "worker"),
		Fence: job.Fence(rapid.IntRange(0, 1).Draw(t, "fence")), Progress: progressGen.Draw(t, "progress"),
		Spec: job.Spec{
			Name: nameGen.Draw(t, "name"), Queue: queueGen.Draw(t, "queue"), Engine: "mock", Priority: priorityGen.Draw(t, "priority"),
			Demand: job.Demand{CPUs: rapid.IntRange(1, 2).Draw(t, "cpus"), Memory: 1},
			Key:    rapid.SampledFrom([]string{"", "", "k1", "k2"}).Draw(t, "key"),
		},
	}
	if rapid.Bool().Draw(t, "labelled") {
		j.Spec.Labels = map[string]string{"campaign": nameGen.Draw(t, "label")}
	}
	if j.State.Terminal() {
		j.EndedAt, j.Result = timeGen.Draw(t, "ended"), json.RawMessage(`{"e":1}`)
	}
	return j
})

var insertStep = rapid.Custom(func(t *rapid.T) step {
	jobs := rapid.SliceOfN(jobGen, 1, 3).Draw(t, "jobs")
	return step{"insert", func(ctx context.Context, tx store.Tx) (any, error) {
		return nil, tx.InsertJobs(ctx, jobs, make([]string, len(jobs)))
	}}
})

// moveStep locks some jobs, changes them all in the same way, and saves them.
var moveStep = rapid.Custom(func(t *rapid.T) step {
	ids := rapid.SliceOfNDistinct(idGen, 1, 3, rapid.ID).Draw(t, "ids")
	change := jobGen.Draw(t, "change")
	stale := rapid.IntRange(0, 7).Draw(t, "stale") == 0
	return step{"move", func(ctx context.Context, tx store.Tx) (any, error) {
		jobs, err := tx.LockJobs(ctx, ids)
		if err != nil {
			return nil, err
		}
		for i := range jobs {
			j := &jobs[i]
			j.State, j.Spec.Priority, j.Worker, j.Fence = change.State, change.Spec.Priority, change.Worker, change.Fence
			j.RunAt, j.EndedAt, j.Progress, j.Result = change.RunAt, change.EndedAt, change.Progress, change.Result
			j.Failure = &job.Failure{Code: change.Spec.Name}
		}
		if stale && len(jobs) > 0 {
			jobs[len(jobs)-1].Rev--
		}
		err = tx.SaveJobs(ctx, jobs)
		if err != nil {
			jobs = nil
		}
		return jobs, err
	}}
})

var progressStep = rapid.Custom(func(t *rapid.T) step {
	held := []job.Held{
		{ID: idGen.Draw(t, "id"), Fence: 1, Progress: progressGen.Draw(t, "progress")},
		{ID: idGen.Draw(t, "id"), Fence: 0, Progress: progressGen.Draw(t, "progress")},
	}
	return step{"progress", func(ctx context.Context, tx store.Tx) (any, error) { return nil, tx.SaveProgress(ctx, held) }}
})

var attemptStep = rapid.Custom(func(t *rapid.T) step {
	as := []job.Attempt{{Job: idGen.Draw(t, "id"), Number: rapid.IntRange(1, 3).Draw(t, "number"), Worker: workerGen.Draw(t, "worker")}}
	if rapid.Bool().Draw(t, "save") {
		as[0].Outcome = "succeeded"
		return step{"save attempt", func(ctx context.Context, tx store.Tx) (any, error) { return nil, tx.SaveAttempts(ctx, as) }}
	}
	return step{"insert attempt", func(ctx context.Context, tx store.Tx) (any, error) { return nil, tx.InsertAttempts(ctx, as) }}
})

var eventStep = rapid.Custom(func(t *rapid.T) step {
	ev := []job.Event{{Tenant: tenantGen.Draw(t, "tenant"), Job: idGen.Draw(t, "id"), Kind: job.EventQueued}, {Kind: job.EventHeld}}
	return step{"events", func(ctx context.Context, tx store.Tx) (any, error) { return nil, tx.AppendEvents(ctx, ev) }}
})

var queueStep = rapid.Custom(func(t *rapid.T) step {
	q := store.Queue{Name: queueGen.Draw(t, "queue"), Walltime: job.Duration(time.Minute)}
	if rapid.Bool().Draw(t, "paused") {
		q.Paused = &job.Request{By: "ann", At: day}
	}
	return step{"queue", func(ctx context.Context, tx store.Tx) (any, error) { return nil, tx.SaveQueue(ctx, q) }}
})

var workerStep = rapid.Custom(func(t *rapid.T) step {
	name := workerGen.Draw(t, "worker")
	switch rapid.IntRange(0, 3).Draw(t, "what") {
	case 0:
		return step{"renew", func(ctx context.Context, tx store.Tx) (any, error) { return nil, tx.RenewWorker(ctx, name) }}
	case 1:
		return step{"delete worker", func(ctx context.Context, tx store.Tx) (any, error) { return nil, tx.DeleteWorker(ctx, name) }}
	case 2:
		return step{"setting", func(ctx context.Context, tx store.Tx) (any, error) { return nil, tx.SetMeta(ctx, "k", name) }}
	}
	w := store.Worker{Session: job.Session{Worker: name}, StartedAt: day}
	return step{"worker", func(ctx context.Context, tx store.Tx) (any, error) { return nil, tx.SaveWorker(ctx, w) }}
})

var leadStep = rapid.Custom(func(t *rapid.T) step {
	name := workerGen.Draw(t, "name")
	duty := rapid.SampledFrom([]string{"leader", "celery"}).Draw(t, "duty")
	ttl := time.Duration(rapid.IntRange(0, 60).Draw(t, "ttl")) * time.Second
	return step{"lead", func(ctx context.Context, tx store.Tx) (any, error) { return tx.Lead(ctx, duty, name, ttl) }}
})

// ticketStep saves tickets, reads them as another step would, or deletes some.
var ticketStep = rapid.Custom(func(t *rapid.T) step {
	door := rapid.SampledFrom([]string{"d1", "d2"}).Draw(t, "door")
	limit := rapid.IntRange(0, 3).Draw(t, "limit")
	switch rapid.IntRange(0, 5).Draw(t, "what") {
	case 0:
		before := timeGen.Draw(t, "before")
		return step{"delete tickets", func(ctx context.Context, tx store.Tx) (any, error) { return tx.DeleteTickets(ctx, door, before, limit) }}
	case 1:
		return step{"due tickets", func(ctx context.Context, tx store.Tx) (any, error) { return tx.TicketsDue(ctx, door, limit) }}
	case 2:
		ids := rapid.SliceOfNDistinct(ticketIDGen, 1, 3, rapid.ID).Draw(t, "ids")
		return step{"tickets", func(ctx context.Context, tx store.Tx) (any, error) { return tx.Tickets(ctx, door, ids) }}
	}
	tickets := rapid.SliceOfNDistinct(ticketGen, 1, 3, func(t store.Ticket) [2]string { return [2]string{t.Door, t.ID} }).Draw(t, "tickets")
	return step{"save tickets", func(ctx context.Context, tx store.Tx) (any, error) { return nil, tx.SaveTickets(ctx, tickets) }}
})

var (
	ticketIDGen    = rapid.SampledFrom([]string{"t1", "t2", "t3", "t4"})
	ticketStateGen = rapid.SampledFrom(ticketStates)
	ticketGen      = rapid.Custom(func(t *rapid.T) store.Ticket {
		return store.Ticket{
			Door: rapid.SampledFrom([]string{"d1", "d2"}).Draw(t, "door"), ID: ticketIDGen.Draw(t, "id"), State: ticketStateGen.Draw(t, "state"),
			Job: rapid.OneOf(rapid.Just(job.ID("")), idGen).Draw(t, "job"), Due: timeGen.Draw(t, "due"), Node: workerGen.Draw(t, "node"),
			Body: []byte(nameGen.Draw(t, "body")),
		}
	})
)

var queryGen = rapid.Custom(func(t *rapid.T) store.JobQuery {
	q := store.JobQuery{
		Tenant:  rapid.SampledFrom([]job.Tenant{"", "", "a"}).Draw(t, "tenant"),
		States:  rapid.SliceOfN(stateGen, 0, 3).Draw(t, "states"),
		Queue:   rapid.SampledFrom([]string{"", "", "q1"}).Draw(t, "queue"),
		Name:    rapid.SampledFrom([]string{"", "", "relax"}).Draw(t, "name"),
		Updated: timeGen.Draw(t, "updated"),
		Oldest:  rapid.Bool().Draw(t, "oldest"),
		Limit:   rapid.IntRange(1, 5).Draw(t, "limit"),
	}
	if rapid.IntRange(0, 3).Draw(t, "labelled") == 0 {
		q.Labels = map[string]string{"campaign": nameGen.Draw(t, "label")}
	}
	return q
})

// pagesOf lists jobs page by page.
func pagesOf(s store.Store, q store.JobQuery) [][]job.ID {
	var pages [][]job.ID
	for {
		var page []job.Job
		err := s.Read(context.Background(), func(tx store.ReadTx) (err error) {
			page, q.After, err = tx.Jobs(context.Background(), q)
			return err
		})
		pages = append(pages, idsOf(page))
		if err != nil || q.After == "" {
			return pages
		}
	}
}
