package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// remote is a worker that speaks to the rig's server over HTTP.
func (r *rig) remote(urls ...string) *WorkerClient {
	r.Helper()
	if len(urls) == 0 {
		urls = []string{r.http.URL}
	}
	c := NewWorkerClient(urls, r.client.token)
	r.Cleanup(c.Close)
	return c
}

var session = job.Session{Worker: workerName, Host: "h1", Boot: "b1", Version: "1", Offer: offer}

var offer = job.Offer{CPUs: 8, Memory: 64 << 30, Engines: []string{"mock", "deck"}}

// attachTo begins a session over HTTP.
func attachTo(t *testing.T, c *WorkerClient) job.Attachment {
	t.Helper()
	at, err := c.Attach(t.Context(), session, nil)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// claimFrom takes the next jobs, of which there must be n.
func claimFrom(t *testing.T, c *WorkerClient, n int) []job.Lease {
	t.Helper()
	leases, err := c.Claim(t.Context(), workerName, offer, n, 30*time.Second)
	if err != nil || len(leases) != n {
		t.Fatalf("claimed %d jobs, want %d, error %v", len(leases), n, err)
	}
	return leases
}

// good is the end of an attempt that went well.
func good() job.Outcome {
	return job.Outcome{Verdict: job.Converged, Result: json.RawMessage(`{"summary": {}}`), Exit: &job.Exit{Observed: true}}
}

func (r *rig) state(id job.ID) Job {
	r.Helper()
	j, err := r.client.Get(r.Context(), string(id))
	if err != nil {
		r.Fatal(err)
	}
	return j
}

func TestAWorkerAcrossTheNetworkTakesAJobThroughItsLife(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	c := r.remote()
	if at := attachTo(t, c); len(at.Carry) != 0 || len(at.Fenced) != 0 {
		t.Errorf("attachment is %+v", at)
	}
	j := r.submit(JobRequest{Engine: "mock", Parameters: json.RawMessage(`{"steps": 3}`)})
	l := claimFrom(t, c, 1)[0]
	if l.Job.ID != j.ID || l.Fence != 1 || l.Job.Attempt != 1 || string(l.Job.Spec.Params) != `{"steps":3}` && string(l.Job.Spec.Params) != `{"steps": 3}` {
		t.Errorf("lease is %+v", l)
	}
	orders, err := c.Beat(t.Context(), workerName, []job.Held{{ID: l.Job.ID, Fence: l.Fence, Progress: &job.Progress{Fraction: 0.5, Stage: "half"}}})
	if err != nil || len(orders) != 1 || orders[0].Do != job.Carry {
		t.Fatalf("orders are %+v, error %v", orders, err)
	}
	if got := r.state(j.ID); got.Progress == nil || got.Progress.Fraction != 0.5 {
		t.Errorf("progress is %+v", got.Progress)
	}
	if _, err := r.client.Cancel(t.Context(), string(j.ID), "enough"); err != nil {
		t.Fatal(err)
	}
	orders, err = c.Orders(t.Context(), workerName, 30*time.Second)
	if err != nil || len(orders) != 1 || orders[0].Do != job.Stop {
		t.Fatalf("orders are %+v, error %v", orders, err)
	}
	if err := c.Finish(t.Context(), l, good()); err != nil {
		t.Fatal(err)
	}
	if got := r.state(j.ID); got.State != job.Cancelled {
		t.Errorf("the job is %s", got.State)
	}
	if err := c.Leave(t.Context(), workerName); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Claim(t.Context(), workerName, offer, 1, 0); job.CodeOf(err) != job.NotFound {
		t.Errorf("a claim after leaving: error %v", err)
	}
}

func TestF23_AFinishThatIsRepeatedChangesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	c := r.remote()
	attachTo(t, c)
	r.submit(JobRequest{Engine: "mock"})
	l := claimFrom(t, c, 1)[0]
	proof := c.known.prove(l.Job.ID, l.Fence)
	for range 2 {
		errs := c.finishAll(finishRequest{Endings: []endingWire{{job.Ending{ID: l.Job.ID, Fence: l.Fence, Outcome: good()}, proof}}})
		if errs[0] != nil {
			t.Fatal(errs[0])
		}
	}
	if got := r.state(l.Job.ID); got.State != job.Completed || got.Attempt != 1 {
		t.Errorf("the job is %s in attempt %d", got.State, got.Attempt)
	}
}

func TestG3_AFencedFinishSaysSo(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	c := r.remote()
	attachTo(t, c)
	r.submit(JobRequest{Engine: "mock"})
	old := claimFrom(t, c, 1)[0]
	oldProof := c.known.prove(old.Job.ID, old.Fence)
	at := attachTo(t, c) // a new process of the worker: the old one cannot speak any more
	if len(at.Carry) != 1 || at.Carry[0].Fence != old.Fence+1 {
		t.Fatalf("attachment is %+v", at)
	}
	if err := c.Finish(t.Context(), old, good()); job.CodeOf(err) != job.Fenced {
		t.Errorf("error is %v", err)
	}
	errs := c.finishAll(finishRequest{Endings: []endingWire{{job.Ending{ID: old.Job.ID, Fence: old.Fence, Outcome: good()}, oldProof}}})
	if job.CodeOf(errs[0]) != job.Fenced {
		t.Errorf("with the proof of its time: error %v", errs[0])
	}
	if err := c.Finish(t.Context(), at.Carry[0], good()); err != nil {
		t.Error(err)
	}
}

func TestT21_AFinishWithoutTheProofIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	c := r.remote()
	attachTo(t, c)
	for range 2 {
		r.submit(JobRequest{Engine: "mock"})
	}
	leases := claimFrom(t, c, 2)
	one, other := leases[0], leases[1]
	for _, p := range []proof{"", "guess", c.known.prove(other.Job.ID, other.Fence)} {
		errs := c.finishAll(finishRequest{Endings: []endingWire{
			{job.Ending{ID: one.Job.ID, Fence: one.Fence, Outcome: good()}, p},
		}})
		if job.CodeOf(errs[0]) != job.Fenced {
			t.Errorf("proof %q: error %v", p, errs[0])
		}
	}
	if got := r.state(one.Job.ID); got.State != job.Running {
		t.Errorf("the job is %s", got.State)
	}
	if _, err := c.post2(t.Context(), "beat", beatRequest{Worker: workerName, Proof: "guess"}); job.CodeOf(err) != job.NotFound {
		t.Errorf("a beat without the proof: error %v", err)
	}
}

// post2 makes a call as it is.
func (c *WorkerClient) post2(ctx context.Context, name string, in any) (json.RawMessage, error) {
	var out json.RawMessage
	return out, plain(c.post(ctx, c.servers[0], name, 10*time.Second, in, &out))
}

func TestFinishesThatComeTogetherGoTogether(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	requests := 0
	var mu sync.Mutex
	front := r.front(func(w http.ResponseWriter, q *http.Request, next http.Handler) {
		if q.URL.Path == workerPath+"finish" {
			mu.Lock()
			requests++
			mu.Unlock()
		}
		next.ServeHTTP(w, q)
	})
	c := r.remote(front)
	attachTo(t, c)
	const jobs = 32
	for i := range jobs {
		r.submit(JobRequest{Engine: "mock", Name: fmt.Sprint("j", i), Resources: ResourcesInput{Memory: 1 << 28}})
	}
	var leases []job.Lease
	for len(leases) < jobs {
		more, err := c.Claim(t.Context(), workerName, job.Offer{CPUs: 99, Memory: 64 << 30, Engines: offer.Engines}, jobs, 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		leases = append(leases, more...)
	}
	var wg sync.WaitGroup
	for _, l := range leases {
		wg.Go(func() {
			if err := c.Finish(t.Context(), l, good()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if requests > jobs/2 {
		t.Errorf("%d endings went in %d requests", jobs, requests)
	}
	for _, l := range leases {
		if got := r.state(l.Job.ID); got.State != job.Completed {
			t.Errorf("the job is %s", got.State)
		}
	}
}

func TestAClaimWhoseWorkerAsksAnewLosesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	c := r.remote()
	attachTo(t, c)
	got := map[job.ID]bool{}
	const jobs = 40
	for i := range jobs {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			r.submit(JobRequest{Engine: "mock", Name: fmt.Sprint("j", i), Resources: ResourcesInput{Memory: 1 << 28}})
			cancel()
		})
		leases, err := c.Claim(ctx, workerName, offer, 1, 30*time.Second)
		wg.Wait()
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		for _, l := range leases {
			got[l.Job.ID] = true
		}
	}
	for len(got) < jobs {
		for _, l := range claimFrom(t, c, 1) {
			got[l.Job.ID] = true
		}
	}
}

func TestAClaimWhoseClientIsGoneGivesItsLeasesBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	gone := make(chan struct{})
	front := r.front(func(w http.ResponseWriter, q *http.Request, next http.Handler) {
		if q.URL.Path != workerPath+"claim" {
			next.ServeHTTP(w, q)
			return
		}
		// The server gets no word of the client's leaving before the lease is there.
		ctx, leave := context.WithCancel(q.Context())
		defer leave()
		next.ServeHTTP(&leaver{ResponseWriter: w, leave: leave}, q.WithContext(ctx))
		close(gone)
		panic(http.ErrAbortHandler)
	})
	c := r.remote(front)
	attachTo(t, c)
	j := r.submit(JobRequest{Engine: "mock"})
	in := claimRequest{Worker: workerName, Proof: c.known.session(workerName), Free: offer, Max: 1, Wait: job.Duration(30 * time.Second)}
	if _, err := c.post2(t.Context(), "claim", in); job.CodeOf(err) != job.Unavailable {
		t.Fatalf("error is %v", err)
	}
	<-gone
	if got := r.state(j.ID); got.State != job.Queued || got.Attempt != 0 || got.Losses != 0 {
		t.Errorf("the job is %s after %d attempts and %d losses", got.State, got.Attempt, got.Losses)
	}
	direct := r.remote()
	attachTo(t, direct)
	if l := claimFrom(t, direct, 1)[0]; l.Job.Attempt != 1 || l.Fence != 2 {
		t.Errorf("the next lease is attempt %d under fence %d", l.Job.Attempt, l.Fence)
	}
}

func TestAClaimEndsWithTheConnectionOfItsClient(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	c := r.remote()
	attachTo(t, c)
	ctx, leave := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		in := claimRequest{Worker: workerName, Proof: c.known.session(workerName), Free: offer, Max: 1, Wait: job.Duration(50 * time.Second)}
		ended <- c.post(ctx, c.servers[0], "claim", time.Minute, in, &nothing{})
	}()
	waitFor(t, func() bool { return r.server.pollCap.count() == 1 })
	leave()
	<-ended
	waitFor(t, func() bool { return r.server.pollCap.count() == 0 })
	j := r.submit(JobRequest{Engine: "mock"})
	if got := r.state(j.ID); got.State != job.Queued {
		t.Errorf("the job is %s", got.State)
	}
}

// leaver is an answer that cannot be written.
type leaver struct {
	http.ResponseWriter
	leave func()
}

func (l *leaver) Write([]byte) (int, error) {
	l.leave()
	return 0, errors.New("the client is gone")
}
