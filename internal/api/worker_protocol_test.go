package api

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/artifact"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// exampleLease has every field that a worker of protocol 1 reads.
func exampleLease() job.Lease {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return job.Lease{Fence: 7, Job: job.Job{
		ID: "0192f0c1-0000-7000-8000-000000000001", Tenant: job.DefaultTenant, State: job.Running, Attempt: 2, Fence: 7, Worker: "w1", Rev: 9,
		Failures: 1, CreatedAt: at, QueuedAt: at, StartedAt: at,
		Spec: job.Spec{
			Name: "silicon", Queue: job.DefaultQueue, Engine: "qe", Params: json.RawMessage(`{"ecutwfc":30}`), Structure: json.RawMessage(`{"species":["Si"]}`),
			Files:  []job.File{{Name: "pw.in", SHA256: strings.Repeat("ab", 32), Size: 12}},
			Demand: job.Demand{CPUs: 2, Memory: 1 << 30, GPUs: 1, Tags: []string{"fast"}}, Priority: 10,
			Walltime: job.DefaultWalltime, SoftLimit: job.DefaultSoftLimit, Retry: job.DefaultRetry, LogLimit: job.DefaultLogLimit,
			AcceptNotConverged: true, Labels: map[string]string{"campaign": "demo"}, Key: "k",
		},
	}}
}

func exampleOutcome() job.Outcome {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return job.Outcome{
		Verdict: job.NotConverged, Result: json.RawMessage(`{"summary":{}}`), Marked: true, Released: true,
		Failure: &job.Failure{Class: job.ClassNumerical, Code: "scf_not_converged", Message: "it did not converge", Fix: "mix less",
			Evidence: []job.Evidence{{File: "stdout", Line: 3, Text: "no"}}, Exit: 1, Signal: "SIGTERM", Digest: "d"},
		Exit: &job.Exit{Observed: true, Code: 1, Signal: "SIGTERM", Cause: job.CauseWalltime, Step: 1, DiskFull: true, LogDropped: 5, PeakRSS: 6,
			CPUTime: job.Duration(time.Second), StartedAt: at, EndedAt: at, Wall: job.Duration(2 * time.Second)},
	}
}

// messages are all that protocol 1 says, by the golden file that holds it.
func messages() map[string]any {
	l := exampleLease()
	wire := leaseWire{l, "lease-proof"}
	found := []job.Found{{ID: l.Job.ID, Attempt: 1, Started: true, Ended: true}}
	value := 1.5
	sess := job.Session{Worker: "w1", Host: "h", Boot: "b", Version: "1.0",
		Offer: job.Offer{CPUs: 8, Memory: 1 << 34, GPUs: 1, Tags: []string{"fast"}, Queues: []string{"simulations"}, Engines: []string{"qe"}}}
	return map[string]any{
		"attach.request":    &attachRequest{Session: sess, Found: found},
		"attach.reply":      &attachReply{Proof: "session-proof", Carry: []leaseWire{wire}, Fenced: found},
		"claim.request":     &claimRequest{Worker: "w1", Proof: "session-proof", Free: sess.Offer, Max: 16, Wait: job.Duration(30 * time.Second), Poll: "P1"},
		"claim.reply":       &claimReply{Leases: []leaseWire{wire}},
		"interrupt.request": &interruptRequest{Worker: "w1", Proof: "session-proof", Poll: "P1"},
		"beat.request": &beatRequest{Worker: "w1", Proof: "session-proof", Held: []job.Held{{ID: l.Job.ID, Fence: 7, Progress: &job.Progress{
			Fraction: 0.5, Stage: "SCF iteration 7", Step: 7, Steps: 14, Quantity: "energy_eV", Value: &value, At: l.Job.StartedAt}}}},
		"orders.request": &ordersRequest{Worker: "w1", Proof: "session-proof", Wait: job.Duration(30 * time.Second)},
		"orders.reply":   &ordersReply{Orders: []job.Order{{ID: l.Job.ID, Fence: 7, Do: job.Stop, Why: "enough"}}},
		"finish.request": &finishRequest{Endings: []endingWire{{job.Ending{ID: l.Job.ID, Fence: 7, Outcome: exampleOutcome()}, "lease-proof"}}},
		"finish.reply":   &finishReply{Errors: []*job.Error{nil, {Code: job.Fenced, Message: "no", Why: "because", Fix: "so"}}},
		"leave.request":  &leaveRequest{Worker: "w1", Proof: "session-proof"},
		"output.reply":   &outputReply{Stored: 12},
	}
}

func TestF36_Protocol1SaysWhatItHasAlwaysSaid(t *testing.T) {
	t.Parallel()
	for name, v := range messages() {
		golden := filepath.Join("testdata", "worker-protocol-1", name+".json")
		raw, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(golden, append(raw, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(raw)+"\n"); diff != "" {
			t.Errorf("%s has changed; workers and servers of other versions rely on it: add fields, or make protocol 2\n%s", name, diff)
		}
		// Both sides ignore what a newer one adds.
		newer := bytes.Replace(want, []byte("{\n"), []byte("{\n  \"from_the_future\": {\"a\": [1]},\n"), 1)
		got := reflect.New(reflect.TypeOf(v).Elem()).Interface()
		if err := json.Unmarshal(newer, got); err != nil {
			t.Fatal(err)
		}
		compact := func(r json.RawMessage) string {
			var b bytes.Buffer
			if json.Compact(&b, r) != nil {
				return string(r)
			}
			return b.String()
		}
		if diff := cmp.Diff(v, got, cmp.Comparer(func(a, b json.RawMessage) bool { return compact(a) == compact(b) })); diff != "" {
			t.Errorf("%s is read differently\n%s", name, diff)
		}
	}
}

func TestF36_Protocol1AsksAsItHasAlwaysAsked(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var asked []string
	reply := messages()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			t.Error(err)
		}
		line := q.Method + " " + q.URL.RequestURI()
		for _, name := range []string{"Authorization", "Content-Type", headerProtocol, headerLease, headerSHA256, "Range"} {
			if v := q.Header.Get(name); v != "" {
				line += "\n  " + name + ": " + v
			}
		}
		if strings.Contains(q.URL.Path, "/output/") || strings.Contains(q.URL.Path, "/artifacts/") {
			line += "\n  body: " + strings.TrimSpace(string(body))
		}
		mu.Lock()
		asked = append(asked, line)
		mu.Unlock()
		name := strings.TrimPrefix(q.URL.Path, workerPath)
		answer := reply[name+".reply"]
		switch {
		case name == "beat":
			answer = reply["orders.reply"]
		case name == "finish":
			answer = finishReply{Errors: []*job.Error{nil}}
		case strings.HasPrefix(name, "output/"):
			answer = reply["output.reply"]
		case strings.HasPrefix(name, "artifacts/") && q.Method != http.MethodPut:
			w.Header().Set(headerSHA256, strings.Repeat("ab", 32))
			w.Header().Set("Content-Range", "bytes 2-3/4")
			io.WriteString(w, "xy")
			return
		case answer == nil:
			answer = nothing{}
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	c := NewWorkerClient([]string{server.URL}, "secret")
	defer c.Close()
	l, ctx := exampleLease(), t.Context()
	key := artifact.RunKey(l.Job.ID, l.Fence, "stdout")
	for _, call := range []func() error{
		func() error { _, err := c.Attach(ctx, job.Session{Worker: "w1"}, nil); return err },
		func() error { _, err := c.Claim(ctx, "w1", job.Offer{}, 1, time.Second); return err },
		func() error {
			return c.post(ctx, c.servers[0], "interrupt", time.Second, interruptRequest{}, &nothing{})
		},
		func() error { _, err := c.Beat(ctx, "w1", nil); return err },
		func() error { _, err := c.Orders(ctx, "w1", time.Second); return err },
		func() error { _, err := c.Put(ctx, key, strings.NewReader("text"), -1); return err },
		func() error {
			file, _, err := c.Get(ctx, key, 2)
			if err != nil {
				return err
			}
			return file.Close()
		},
		func() error { _, err := c.Stat(ctx, artifact.InputKey(l.Job.Spec.Files[0].SHA256)); return err },
		func() error { _, err := c.Append(ctx, l, "stdout", 5, []byte("text")); return err },
		func() error { return c.Finish(ctx, l, good()) },
		func() error { return c.Leave(ctx, "w1") },
	} {
		if err := call(); err != nil {
			t.Fatal(err)
		}
	}
	golden := filepath.Join("testdata", "worker-protocol-1", "requests.txt")
	got := strings.Join(asked, "\n") + "\n"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the requests have changed; servers of other versions rely on them\n%s", diff)
	}
}

func TestF36_AWorkerOfAnotherProtocolIsToldWhatToUpgrade(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	for sent, want := range map[string]string{"2": "upgrade the servers first", "0": "upgrade the worker", "": "nanoos worker", "x": "nanoos worker"} {
		for _, call := range []string{"attach", "claim", "interrupt", "beat", "orders", "finish", "leave", "output/a/1/stdout"} {
			p := r.refused(http.StatusBadRequest, "POST", workerPath+call, "", headerProtocol, sent)
			if !strings.Contains(p.Fix, want) {
				t.Errorf("%s with protocol %q: problem is %+v", call, sent, p)
			}
		}
		resp, _ := r.do("PUT", workerPath+"artifacts/a", "x", headerProtocol, sent)
		if resp.StatusCode != http.StatusBadRequest || resp.Header.Get(headerProtocol) != "1" {
			t.Errorf("protocol %q: %s, header %q", sent, resp.Status, resp.Header.Get(headerProtocol))
		}
	}
}

func TestG14_AWorkerGoesOnWithTheNextServer(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	var away atomic.Bool
	var first, second atomic.Int32
	one := r.front(func(w http.ResponseWriter, q *http.Request, next http.Handler) {
		first.Add(1)
		if away.Load() {
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(w, q)
	})
	other := r.second().Handler()
	two := r.front(func(w http.ResponseWriter, q *http.Request, _ http.Handler) { second.Add(1); other.ServeHTTP(w, q) })
	c := r.remote(one, two)
	attachTo(t, c)
	for range 5 {
		r.submit(JobRequest{Engine: "mock"})
	}
	leases := claimFrom(t, c, 5)
	if first.Load() != 2 || second.Load() != 0 {
		t.Errorf("the servers were asked %d and %d times", first.Load(), second.Load())
	}
	away.Store(true)
	for _, l := range leases {
		if err := c.Finish(t.Context(), l, good()); err != nil {
			t.Fatal(err)
		}
	}
	if first.Load() > 4 {
		t.Errorf("the server that is away was asked %d times", first.Load()-2)
	}
	for _, l := range leases {
		if got := r.state(l.Job.ID); got.State != job.Completed {
			t.Errorf("the job is %s", got.State)
		}
	}
}

func TestF23_AFinishWhoseAnswerIsCutIsSentAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	var cut atomic.Int32
	front := r.front(func(w http.ResponseWriter, q *http.Request, next http.Handler) {
		if strings.HasSuffix(q.URL.Path, "/finish") && cut.Add(1) == 1 {
			next.ServeHTTP(httptest.NewRecorder(), q)
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(w, q)
	})
	c := r.remote(front)
	attachTo(t, c)
	r.submit(JobRequest{Engine: "mock"})
	l := claimFrom(t, c, 1)[0]
	if err := c.Finish(t.Context(), l, good()); err != nil {
		t.Fatal(err)
	}
	if got := r.state(l.Job.ID); got.State != job.Completed || cut.Load() != 2 {
		t.Errorf("the job is %s after %d requests", got.State, cut.Load())
	}
}

func TestG15_AServerThatAsksForTimeIsGivenIt(t *testing.T) {
	t.Parallel()
	var c choice
	c.rests = make([]rest, 2)
	c.failed(0, time.Now(), 10*time.Second)
	if i, wait := c.next(); i != 1 || wait != 0 {
		t.Errorf("next is %d after %s", i, wait)
	}
	c.worked(1)
	c.failed(1, time.Now(), 20*time.Second)
	if i, wait := c.next(); i != 0 && i != 1 || wait < 4*time.Second || wait > 30*time.Second {
		t.Errorf("next is %d after %s", i, wait)
	}
	began := time.Now().Add(-time.Second)
	before := c.rests[1]
	c.failed(1, began, 0) // it failed together with the call before
	if c.rests[1] != before {
		t.Error("a call that failed together with another counts again")
	}
}

func TestAStoppingServerSendsWorkersAway(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	c := r.remote()
	attachTo(t, c)
	var wg sync.WaitGroup
	began := time.Now()
	for _, call := range []string{"claim", "orders"} {
		in := any(ordersRequest{Worker: workerName, Proof: c.known.session(workerName), Wait: job.Duration(50 * time.Second)})
		if call == "claim" {
			in = claimRequest{Worker: workerName, Proof: c.known.session(workerName), Free: offer, Max: 1, Wait: job.Duration(50 * time.Second)}
		}
		wg.Go(func() {
			err := c.post(t.Context(), c.servers[0], call, time.Minute, in, &nothing{})
			if job.CodeOf(err) != job.Unavailable || !elsewhere(err) || retryTime(err) == 0 {
				t.Errorf("%s: error %v, come back in %s", call, err, retryTime(err))
			}
		})
	}
	waitFor(t, func() bool { return r.server.pollCap.count() == 2 })
	r.server.close(errStopping)
	wg.Wait()
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestF46_LongPollsAreCappedPerToken(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	c := r.remote()
	attachTo(t, c)
	r.server.pollCap = newStreamCap(10, 1)
	leave, err := r.server.pollCap.take("address 127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	in := ordersRequest{Worker: workerName, Proof: c.known.session(workerName)}
	err = c.post(t.Context(), c.servers[0], "orders", time.Minute, in, &nothing{})
	if job.CodeOf(err) != job.Exhausted || !elsewhere(err) || retryTime(err) == 0 {
		t.Errorf("error %v, come back in %s", err, retryTime(err))
	}
	leave()
	if err := c.post(t.Context(), c.servers[0], "orders", time.Minute, in, &nothing{}); err != nil {
		t.Error(err)
	}
}

func TestNoBodyOfAWorkerMakesTheServerPanic(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	for _, call := range []string{"attach", "claim", "interrupt", "beat", "orders", "finish", "leave"} {
		for _, body := range []string{"null", "{}", "[]", "{", `{"session": 1}`, `{"endings": [{}, null]}`, `{"wait": "never"}`, strings.Repeat("[", 50_000)} {
			resp, raw := r.do("POST", workerPath+call, body, headerProtocol, "1")
			if resp.StatusCode >= 500 {
				t.Errorf("%s %.40s: %s %.300s", call, body, resp.Status, raw)
			}
		}
	}
	for _, path := range []string{"output/a/1/stdout?fence=1&from=0", "output/a/x/stdout?fence=1", "output/a/1/" + engine.StderrName + "?fence=x"} {
		resp, raw := r.do("POST", workerPath+path, "x", headerProtocol, "1", "Content-Type", "application/octet-stream")
		if resp.StatusCode >= 500 || resp.StatusCode < 400 {
			t.Errorf("%s: %s %.300s", path, resp.Status, raw)
		}
	}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost"+workerPath+"claim", io.LimitReader(zeros{}, maxCall+1))
	req.RemoteAddr = "127.0.0.1:1"
	req.Header.Set(headerProtocol, "1")
	req.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	r.server.Handler().ServeHTTP(w, req)
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a large call is answered %d", w.Code)
	}
}
