package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
)

// user is somebody who speaks to one server and expects no errors.
type user struct {
	t *testing.T
	*api.Client
}

// cancelAll ends what the test left.
func (u *user) cancelAll() {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for j, err := range u.List(ctx, api.ListQuery{All: true}) {
		if err != nil {
			u.t.Errorf("list the jobs left: %v", err)
			return
		}
		if !j.State.Terminal() {
			if _, err := u.Cancel(ctx, string(j.ID), "end of the test"); err != nil && job.CodeOf(err) != job.Conflict {
				u.t.Errorf("cancel: %v", err)
			}
			u.await(ctx, j.ID)
		}
	}
}

// submit sends a job of the mock engine.
func (u *user) submit(params string, change ...func(*api.JobRequest)) api.Job {
	u.t.Helper()
	r := api.JobRequest{Engine: "mock", Parameters: json.RawMessage(params)}
	for _, c := range change {
		c(&r)
	}
	j, _, err := u.Submit(u.t.Context(), r)
	if err != nil {
		u.t.Fatal(err)
	}
	return j
}

// ended waits until a job has ended and returns it.
func (u *user) ended(id job.ID) api.Job {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(u.t.Context(), 90*time.Second)
	defer cancel()
	return u.await(ctx, id)
}

func (u *user) await(ctx context.Context, id job.ID) api.Job {
	u.t.Helper()
	for {
		j, err := u.Get(ctx, string(id))
		if err != nil {
			u.t.Fatalf("get %s: %v", id, err)
		}
		if j.State.Terminal() {
			return j
		}
		wait(ctx, 20*time.Millisecond)
	}
}

// state waits until a job is in a state.
func (u *user) state(id job.ID, want job.State) api.Job {
	u.t.Helper()
	var j api.Job
	u.eventually(60*time.Second, fmt.Sprintf("job %s is %s", id, want), func() bool {
		var err error
		if j, err = u.Get(u.t.Context(), string(id)); err != nil {
			u.t.Fatal(err)
		}
		return j.State == want
	})
	return j
}

// output returns the standard output of an attempt.
func (u *user) output(id job.ID, attempt int) string {
	u.t.Helper()
	r, err := u.Logs(u.t.Context(), string(id), api.LogQuery{Attempt: attempt})
	if err != nil {
		u.t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		u.t.Fatal(err)
	}
	return string(b)
}

// eventually polls a real process until something is so, or fails.
func (u *user) eventually(within time.Duration, what string, so func() bool) {
	u.t.Helper()
	eventually(u.t, within, what, so)
}
