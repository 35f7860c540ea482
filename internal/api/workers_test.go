package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

func TestAWorkerIsDrainedResumedAndForgotten(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	c := r.remote()
	attachTo(t, c)
	w, err := r.client.DrainWorker(t.Context(), workerName, "maintenance")
	if err != nil || w.State != "draining" || !w.Draining {
		t.Fatalf("worker is %+v, error %v", w, err)
	}
	r.submit(JobRequest{Engine: "mock"})
	if leases, err := c.Claim(t.Context(), workerName, offer, 1, 0); err != nil || len(leases) != 0 {
		t.Errorf("a draining worker got %d jobs, error %v", len(leases), err)
	}
	if w, err = r.client.ResumeWorker(t.Context(), workerName); err != nil || w.State != "online" {
		t.Errorf("worker is %+v, error %v", w, err)
	}
	claimFrom(t, c, 1)
	if _, err := r.client.ForgetWorker(t.Context(), workerName, "gone"); job.CodeOf(err) != job.Conflict {
		t.Errorf("a worker that is heard of: error %v", err)
	}
	if err := c.Leave(t.Context(), workerName); err != nil {
		t.Fatal(err)
	}
	if w, err = r.client.ForgetWorker(t.Context(), workerName, "gone"); err != nil || w.State != "left" || w.EndedAt.IsZero() {
		t.Errorf("worker is %+v, error %v", w, err)
	}
	if workers, err := r.client.Workers(t.Context()); err != nil || len(workers) != 0 {
		t.Errorf("workers are %+v, error %v", workers, err)
	}
	for _, do := range []func() error{
		func() error { _, err := r.client.DrainWorker(t.Context(), "nobody", ""); return err },
		func() error { _, err := r.client.ResumeWorker(t.Context(), "nobody"); return err },
		func() error { _, err := r.client.ForgetWorker(t.Context(), "nobody", ""); return err },
	} {
		if err := do(); job.CodeOf(err) != job.NotFound {
			t.Errorf("error is %v", err)
		}
	}
	r.refused(http.StatusUnprocessableEntity, "POST", "/api/v1/workers/"+workerName+"/drain", `{"way": "x"}`)
}

func TestAnEngineIsWhereWorkersHaveIt(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.server.EngineInfo, r.server.Inputs = nil, nil // a server that runs nothing itself
	if e, err := r.client.Engine(t.Context(), "deck"); err != nil || e.Available || e.Problem == "" || e.Fix == "" {
		t.Errorf("engine is %+v, error %v", e, err)
	}
	r.submit(JobRequest{Engine: "deck", Files: []FileInput{{Name: "in", Text: "deck"}}})
	c := r.remote()
	attachTo(t, c)
	if e, err := r.client.Engine(t.Context(), "deck"); err != nil || !e.Available || e.Problem != "" || strings.Join(e.Workers, " ") != workerName {
		t.Errorf("engine is %+v, error %v", e, err)
	}
	if err := c.Leave(t.Context(), workerName); err != nil {
		t.Fatal(err)
	}
	if e, err := r.client.Engine(t.Context(), "deck"); err != nil || e.Available || len(e.Workers) != 0 {
		t.Errorf("engine is %+v, error %v", e, err)
	}
	accepted := NewCheck(r.server.Engines, nil, r.files)
	if _, _, err := accepted(job.Spec{Engine: "mock"}); err != nil {
		t.Errorf("an engine that no machine is known to have: %v", err)
	}
}

func TestG21_AFrozenInstallationIsReadyAndSaysSo(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	err := r.server.Store.Write(t.Context(), func(tx store.Tx) error { return tx.SetMeta(t.Context(), metaFrozen, "restored from a backup") })
	if err != nil {
		t.Fatal(err)
	}
	if resp, body := r.do("GET", "/readyz", ""); resp.StatusCode != http.StatusOK || !strings.Contains(body, "frozen: restored from a backup") {
		t.Errorf("/readyz answers %s %s", resp.Status, body)
	}
	st, err := r.client.Status(t.Context())
	if err != nil || len(st.Problems) == 0 || st.Problems[0].Code != "frozen" || !strings.Contains(st.Problems[0].Fix, "thaw") {
		t.Errorf("status is %+v, error %v", st.Problems, err)
	}
}

func TestF22_AStoreThatIsAwayIsUnavailableWithATimeToComeBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.server.Store = brokenStore{r.server.Store, &job.Error{Code: job.Unavailable, Message: "the database does not answer"}}
	for _, path := range []string{"/api/v1/jobs", "/api/v1/engines", "/readyz"} {
		r.refused(http.StatusServiceUnavailable, "GET", path, "")
		if resp, _ := r.do("GET", path, ""); resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", path)
		}
	}
}
