package queue_test

import (
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
)

// theirs is an id that another system made.
const theirs job.ID = "59716d71-a660-4162-b298-206ae30d5c9b"

func TestG2_AJobKeepsTheIDThatAnotherSystemGaveIt(t *testing.T) {
	t.Parallel()
	checks := 0
	q, st := newQueue(t, queue.Options{Check: func(s job.Spec) (job.Spec, []job.Warning, error) {
		checks++
		if checks > 1 {
			return s, nil, errors.New("a job that is known needs no check")
		}
		return s, []job.Warning{{Message: "odd"}}, nil
	}})
	spec := job.Spec{Engine: "mock", Params: json.RawMessage(`{"a":1,"b":2}`), Priority: 7}
	first, err := q.SubmitAs(t.Context(), "t", theirs, spec)
	if err != nil || first.Job.ID != theirs || first.Existing || len(first.Warnings) != 1 || first.Job.State != job.Queued {
		t.Fatalf("first: %+v (%v)", first, err)
	}
	spec.Params = json.RawMessage(`{ "b": 2, "a": 1 }`)
	again, err := q.SubmitAs(t.Context(), "t", theirs, spec)
	if err != nil || again.Job.ID != theirs || !again.Existing {
		t.Errorf("again: %+v (%v)", again, err)
	}
	if n := stored(t, st); n != 1 {
		t.Errorf("%d jobs are stored", n)
	}
}

func TestG2_AnIDThatIsInUseIsAConflict(t *testing.T) {
	t.Parallel()
	spec := job.Spec{Engine: "mock"}
	other := job.Spec{Engine: "mock", Priority: 9}
	keyed := job.Spec{Engine: "mock", Key: "k"}
	for name, c := range map[string]struct {
		tenant job.Tenant
		id     job.ID
		spec   job.Spec
	}{
		"other contents":               {"t", theirs, other},
		"another tenant":               {"u", theirs, spec},
		"another key":                  {"t", theirs, job.Spec{Engine: "mock", Key: "k2"}},
		"the key of another job":       {"t", "a9716d71-a660-4162-b298-206ae30d5c9b", keyed},
		"the id of a job that we made": {"t", "", spec},
	} {
		q, st := newQueue(t, queue.Options{})
		if _, err := q.SubmitAs(t.Context(), "t", theirs, spec); err != nil {
			t.Fatal(err)
		}
		ours, err := q.Submit(t.Context(), "t", keyed)
		if err != nil {
			t.Fatal(err)
		}
		if c.id == "" {
			c.id = ours[0].Job.ID
		}
		if got, err := q.SubmitAs(t.Context(), c.tenant, c.id, c.spec); job.CodeOf(err) != job.Conflict || got.Job.ID != "" {
			t.Errorf("%s: %+v (%v)", name, got, err)
		}
		if n := stored(t, st); n != 2 {
			t.Errorf("%s: %d jobs are stored", name, n)
		}
	}
}

func TestAnIDOfAnotherSystemIsAUUID(t *testing.T) {
	t.Parallel()
	q, st := newQueue(t, queue.Options{})
	for _, id := range []job.ID{"", "job-42", "59716D71-A660-4162-B298-206AE30D5C9B", "59716d71a6604162b298206ae30d5c9b", theirs + "\n"} {
		if _, err := q.SubmitAs(t.Context(), "t", id, job.Spec{Engine: "mock"}); job.CodeOf(err) != job.Invalid {
			t.Errorf("%q: error is %v", id, err)
		}
	}
	if _, err := q.SubmitAs(t.Context(), "", theirs, job.Spec{Engine: "mock"}); job.CodeOf(err) != job.Invalid {
		t.Errorf("no tenant: error is %v", err)
	}
	if _, err := q.SubmitAs(t.Context(), "t", theirs, job.Spec{Engine: "mock", Priority: -1, RunAt: time.Unix(-1, 0)}); len(problemsOf(t, err)) != 2 {
		t.Errorf("a bad spec: error is %v", err)
	}
	if n := stored(t, st); n != 0 {
		t.Errorf("%d jobs are stored", n)
	}
}

func TestG2_OneOfManySubmissionsUnderOneIDIsNew(t *testing.T) {
	t.Parallel()
	q, st := newQueue(t, queue.Options{})
	var mu sync.Mutex
	var fresh int
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			got, err := q.SubmitAs(t.Context(), "t", theirs, job.Spec{Engine: "mock"})
			if err != nil || got.Job.ID != theirs {
				t.Errorf("%+v (%v)", got, err)
			}
			mu.Lock()
			defer mu.Unlock()
			if !got.Existing {
				fresh++
			}
		})
	}
	wg.Wait()
	if n := stored(t, st); n != 1 || fresh != 1 {
		t.Errorf("%d jobs are stored, %d were new", n, fresh)
	}
}
