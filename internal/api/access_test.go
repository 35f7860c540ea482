package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/auth"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// issue makes a token and returns its id and secret.
func (r *rig) issue(role auth.Role, queues ...string) (id, secret string) {
	r.Helper()
	t, err := r.client.CreateToken(r.Context(), TokenRequest{Name: "t of " + string(role), Role: string(role), Queues: queues})
	if err != nil {
		r.Fatal(err)
	}
	return t.ID, t.Secret
}

// remoteWith is a worker across the network with a token of its own.
func (r *rig) remoteWith(secret string) *WorkerClient {
	c := NewWorkerClient([]string{r.http.URL}, secret)
	r.Cleanup(c.Close)
	return c
}

func TestEveryRouteHasADecision(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	registered := slices.Sorted(slices.Values(r.server.patterns))
	if diff := cmp.Diff(sortedKeys(access), registered); diff != "" {
		t.Errorf("routes and decisions differ\n%s", diff)
	}
}

func TestT20_AWorkersTokenOpensNothingButItsProtocol(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{token: "secret"})
	_, secret := r.issue(auth.Worker)
	header := []string{"Authorization", "Bearer " + secret}
	for _, pattern := range r.server.patterns {
		method, path, _ := strings.Cut(pattern, " ")
		path = strings.NewReplacer("{ref}", "a", "{name}", "a", "{id}", "a", "{path...}", "a", "{$}", "", "{key...}", "a", "{job}", "a", "{attempt}", "1", "{stream}", "stdout").Replace(path)
		body := ""
		if method == http.MethodPost || method == http.MethodPatch {
			body = "{}"
		}
		resp, raw := r.do(method, path, body, header...)
		inside := strings.HasPrefix(path, workerPath)
		switch want := access[pattern]; {
		case inside != (want == auth.Work):
			t.Errorf("%s is decided as %q", pattern, want)
		case want == auth.Public || inside:
			if resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusUnauthorized {
				t.Errorf("%s: %s %s", pattern, resp.Status, raw)
			}
		case resp.StatusCode != http.StatusForbidden || !strings.Contains(raw, "does not permit"):
			t.Errorf("%s: %s %s", pattern, resp.Status, raw)
		}
	}
}

func TestARouteWithoutADecisionIsClosed(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.server.page("GET /api/v1/new", func(w http.ResponseWriter, _ *http.Request) error { return writeJSON(w, http.StatusOK, 1) })
	r.refused(http.StatusForbidden, "GET", "/api/v1/new", "")
}

func TestT20_AWorkerIsGivenJobsOfItsQueuesOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{token: "secret"})
	_, secret := r.issue(auth.Worker, "default", "high_priority")
	c := r.remoteWith(secret)
	if _, err := c.Attach(t.Context(), session, nil); err != nil {
		t.Fatal(err)
	}
	workers, err := r.client.Workers(t.Context())
	if err != nil || len(workers) != 1 || !slices.Equal(workers[0].Offer.Queues, []string{"default", "high_priority"}) || workers[0].Token == "" {
		t.Fatalf("workers are %+v, error %v", workers, err)
	}
	r.submit(JobRequest{Engine: "mock", Queue: "simulations", Priority: new(20)})
	mine := r.submit(JobRequest{Engine: "mock", Queue: "default"})
	for _, queues := range [][]string{nil, {"default", "simulations"}} {
		o := offer
		o.Queues = queues
		leases, err := c.Claim(t.Context(), workerName, o, 5, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range leases {
			if l.Job.ID != mine.ID {
				t.Errorf("it was given a job of queue %s", l.Job.Spec.Queue)
			}
		}
	}
	o := offer
	o.Queues = []string{"simulations"}
	if _, err := c.Claim(t.Context(), workerName, o, 5, 0); job.CodeOf(err) != job.Forbidden {
		t.Errorf("a claim from another queue: error %v", err)
	}
	s := session
	s.Offer.Queues = o.Queues
	if _, err := c.Attach(t.Context(), s, nil); job.CodeOf(err) != job.Forbidden {
		t.Errorf("an attachment to another queue: error %v", err)
	}
}

func TestT20_AWorkerCannotTakeTheNameOrTheJobsOfAnother(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{token: "secret"})
	id, secret := r.issue(auth.Worker)
	owner := r.remoteWith(secret)
	attachTo(t, owner)
	r.submit(JobRequest{Engine: "mock"})
	l := claimFrom(t, owner, 1)[0]
	_, secret = r.issue(auth.Worker)
	thief := r.remoteWith(secret)
	if err := owner.Leave(t.Context(), workerName); err != nil {
		t.Fatal(err)
	}
	s := session
	s.Host = "h2"
	if _, err := thief.Attach(t.Context(), s, nil); job.CodeOf(err) != job.Conflict {
		t.Errorf("the name of a worker that has left: error %v", err)
	}
	attachTo(t, owner)
	proof := owner.known.prove(l.Job.ID, l.Fence)
	stolen := known{}
	stolen.attached(workerName, owner.known.session(workerName))
	thief.known.sessions = stolen.sessions
	if _, err := thief.Beat(t.Context(), workerName, nil); job.CodeOf(err) != job.NotFound {
		t.Errorf("a beat with another's proof: error %v", err)
	}
	errs := thief.finishAll(finishRequest{Endings: []endingWire{{job.Ending{ID: l.Job.ID, Fence: l.Fence, Outcome: good()}, proof}}})
	if job.CodeOf(errs[0]) != job.Fenced {
		t.Errorf("a finish with another's proof: error %v", errs[0])
	}
	if _, err := r.client.RevokeToken(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	// Once the token of the name has ended the name is free. The queue itself still
	// refuses while that worker is heard of.
	if err := r.queue.Leave(t.Context(), workerName); err != nil {
		t.Fatal(err)
	}
	if _, err := thief.Attach(t.Context(), s, nil); err != nil {
		t.Errorf("the name of a revoked token: error %v", err)
	}
}

func TestT19_ARevokedTokenEndsDuringUse(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{token: "secret"})
	id, secret := r.issue(auth.Worker)
	c := r.remoteWith(secret)
	attachTo(t, c)
	if _, err := c.Beat(t.Context(), workerName, nil); err != nil {
		t.Fatal(err)
	}
	tokens, err := r.client.Tokens(t.Context())
	if err != nil || len(tokens) != 1 || tokens[0].ID != id || tokens[0].Secret != "" || tokens[0].UsedAt.IsZero() || !tokens[0].RevokedAt.IsZero() {
		t.Fatalf("tokens are %+v, error %v", tokens, err)
	}
	gone, err := r.client.RevokeToken(t.Context(), id)
	if err != nil || gone.RevokedAt.IsZero() {
		t.Fatalf("token is %+v, error %v", gone, err)
	}
	if _, err := c.Beat(t.Context(), workerName, nil); job.CodeOf(err) != job.Forbidden {
		t.Errorf("error is %v", err)
	}
	if again, err := r.client.RevokeToken(t.Context(), id); err != nil || !again.RevokedAt.Equal(gone.RevokedAt) {
		t.Errorf("revoked again: %+v, error %v", again, err)
	}
	if _, err := r.client.RevokeToken(t.Context(), "nobody"); job.CodeOf(err) != job.NotFound {
		t.Errorf("error is %v", err)
	}
}

func TestT19_ALongPollEndsWithItsToken(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{token: "secret"})
	id, secret := r.issue(auth.Worker)
	c := r.remoteWith(secret)
	attachTo(t, c)
	ended := make(chan error, 1)
	go func() {
		_, err := c.Claim(t.Context(), workerName, offer, 1, 50*time.Second)
		ended <- err
	}()
	waitFor(t, func() bool { return r.server.pollCap.count() == 1 })
	if _, err := r.client.RevokeToken(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := r.server.keys.current(t.Context()); err != nil { // as guard does every while
		t.Fatal(err)
	}
	if err := <-ended; job.CodeOf(err) != job.Forbidden {
		t.Errorf("error is %v", err)
	}
}

func TestT19_AnotherServerLearnsOfARevocationWithinItsCache(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{token: "secret"})
	_, secret := r.issue(auth.Worker)
	var k keys
	k.st = r.server.Store
	find := func() bool { _, ok, err := k.find(t.Context(), secret); return ok && err == nil }
	if !find() {
		t.Fatal("the token is not known")
	}
	if _, err := r.client.RevokeToken(t.Context(), auth.IDOf(secret)); err != nil {
		t.Fatal(err)
	}
	k.at = k.at.Add(-keysFresh) // the time passes
	if find() {
		t.Error("it is valid after the cache has aged")
	}
	broken := errors.New("away")
	k.st = brokenStore{r.server.Store, broken}
	k.at = k.at.Add(-keysFresh)
	if _, _, err := k.find(t.Context(), secret); err != nil {
		t.Errorf("a store that is away for a moment: error %v", err)
	}
	k.at = k.at.Add(-keysStale)
	if _, _, err := k.find(t.Context(), secret); job.CodeOf(err) != job.Unavailable || !errors.Is(err, broken) {
		t.Errorf("a store that is away: error %v", err)
	}
}

// countingStore counts reads, each of which waits for a word.
type countingStore struct {
	store.Store
	reads chan struct{}
	word  chan struct{}
}

func (c countingStore) Read(ctx context.Context, fn func(store.ReadTx) error) error {
	c.reads <- struct{}{}
	<-c.word
	return c.Store.Read(ctx, fn)
}

func TestF46_ManyRequestsReadTheTokensOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	c := countingStore{r.server.Store, make(chan struct{}, 100), make(chan struct{})}
	k := keys{st: c}
	done := make(chan error, 50)
	for range cap(done) {
		go func() { _, err := k.current(t.Context()); done <- err }()
	}
	<-c.reads
	close(c.word)
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := len(c.reads); n > 0 {
		t.Errorf("%d reads too many", n)
	}
}

func TestATokenOfTheStoreIsWhoAsks(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{tokens: true})
	token, secret := auth.New(auth.Admin, "Ada", nil, time.Now(), time.Time{})
	err := r.server.Store.Write(t.Context(), func(tx store.Tx) error { return tx.SaveToken(t.Context(), token) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.Status(t.Context()); job.CodeOf(err) != job.Forbidden {
		t.Errorf("without a token: error %v", err)
	}
	c := NewClient(r.http.URL, secret)
	defer c.Close()
	if _, err := c.PauseQueue(t.Context(), "simulations", "cleaning"); err != nil {
		t.Fatal(err)
	}
	queues, err := c.Queues(t.Context())
	if i := slices.IndexFunc(queues, func(q QueueInfo) bool { return q.Name == "simulations" }); err != nil || i < 0 || queues[i].Paused.By != "Ada" {
		t.Errorf("queues are %+v, error %v", queues, err)
	}
}

func TestT18_WrongTokensFromOneAddressAreToldToWait(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{token: "secret"})
	r.server.failures.burst = 3
	for range 3 {
		r.refused(http.StatusUnauthorized, "GET", "/api/v1/jobs", "", "Authorization", "Bearer wrong")
	}
	r.refused(http.StatusTooManyRequests, "GET", "/api/v1/jobs", "", "Authorization", "Bearer wrong")
	if resp, _ := r.do("GET", "/api/v1/jobs", "", "Authorization", "Bearer wrong"); resp.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if _, err := r.client.Status(t.Context()); err != nil {
		t.Errorf("a valid token from there: %v", err)
	}
	var f failures
	now := time.Now()
	for range failureBurst {
		f.spend(now, "a")
	}
	if f.spend(now, "a") || !f.spend(now, "b") || !f.spend(now.Add(2*time.Second), "a") || f.spend(now.Add(2*time.Second), "b", "a", "a") {
		t.Error("the allowance is not kept by key, or does not come back")
	}
}

func TestABadTokenIsNotMade(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	_, err := r.client.CreateToken(t.Context(), TokenRequest{Role: "king", Queues: []string{""}})
	var e *job.Error
	if !asError(err, &e) || e.Code != job.Invalid || len(e.Problems) != 4 {
		t.Errorf("error is %v", err)
	}
	made, err := r.client.CreateToken(t.Context(), TokenRequest{Name: "short", Role: "worker", Queues: []string{"default"}, Lifetime: job.Duration(time.Hour)})
	if err != nil || made.ExpiresAt.Sub(made.CreatedAt) != time.Hour || !strings.HasPrefix(made.Secret, "nos_"+made.ID+"_") || !slices.Equal(made.Queues, []string{"default"}) {
		t.Errorf("token is %+v, error %v", made, err)
	}
	if strings.Contains(r.log.String(), made.Secret) {
		t.Error("the secret is in the log")
	}
}
