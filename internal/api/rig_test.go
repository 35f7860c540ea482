package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nano-os/nanoos/internal/artifact"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
	"github.com/nano-os/nanoos/internal/store/sqlite"
)

var update = flag.Bool("update", false, "rewrite golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// deckEngine is an engine whose decks begin with "deck".
type deckEngine struct{ engine.Mock }

func (deckEngine) Name() string      { return "deck" }
func (deckEngine) Title() string     { return "Deck engine" }
func (deckEngine) Aliases() []string { return nil }

func (deckEngine) Deck(_ string, head []byte) bool { return bytes.HasPrefix(head, []byte("deck")) }

func (deckEngine) Plan(spec job.Spec, in engine.Inputs) (*engine.Plan, error) {
	deck, err := fs.ReadFile(in.Files, spec.Files[0].Name)
	if err != nil {
		return nil, err
	}
	if bytes.Contains(deck, []byte("bad")) {
		return nil, job.InvalidInput("the deck was refused", []job.Problem{{File: spec.Files[0].Name, Line: 1, Message: "the deck is bad"}})
	}
	return &engine.Plan{
		Files: map[string][]byte{"extra": []byte("text")}, Steps: []engine.Step{{Program: "deck.x", Args: []string{"-in", spec.Files[0].Name}, Ranks: 2}},
		Warnings: []engine.Warning{{Code: "slow", Message: "this deck is slow"}},
	}, nil
}

// rig is a server on a real database with a worker that does what it is told.
type rig struct {
	*testing.T
	server *Server
	http   *httptest.Server
	client *Client
	queue  *queue.Service
	files  *artifact.Dir
	live   *liveLogs
	log    *lockedBuffer
}

type rigOptions struct {
	token    string
	tokens   bool // ask for one of the store
	patience time.Duration
}

func newRig(t *testing.T, o rigOptions) *rig {
	t.Helper()
	dir := t.TempDir()
	st, err := sqlite.Open(filepath.Join(dir, "nanoos.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	files, err := artifact.OpenDir(filepath.Join(dir, "artifacts"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { files.Close() })
	engines := []engine.Engine{engine.Mock{}, deckEngine{}}
	inputs := func(string) engine.Inputs { return engine.Inputs{} }
	r := &rig{T: t, files: files, live: &liveLogs{dir: dir}, log: &lockedBuffer{}}
	r.queue = queue.New(st, queue.Options{Check: NewCheck(engines, inputs, files), Rand: func() float64 { return 0 }})
	if err := r.queue.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	opt := Options{RequireToken: o.tokens, Version: "1.2.3", StartedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Listen: "127.0.0.1:8080"}
	if o.token != "" {
		opt.Token = new(sha256.Sum256([]byte(o.token)))
	}
	r.server = New(Deps{
		Store: st, Queue: r.queue, Artifacts: files, Engines: engines, Inputs: inputs, Live: r.live, LiveDir: filepath.Join(dir, "live"),
		Logger:     slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		EngineInfo: func(context.Context) []EngineInfo { return []EngineInfo{{Name: "mock", Available: true, Version: "1"}} },
	}, opt)
	if o.patience > 0 {
		r.server.patience = o.patience
	}
	r.http = httptest.NewServer(r.server.Handler())
	t.Cleanup(func() {
		r.server.close(errors.New("the test is over"))
		r.client.Close()
		r.http.Close()
	})
	r.client = NewClient(r.http.URL, o.token)
	return r
}

// do makes a request as it is.
func (r *rig) do(method, path, body string, header ...string) (*http.Response, string) {
	r.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(r.Context(), method, r.http.URL+path, reader)
	if err != nil {
		r.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := r.client.http.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	return resp, string(raw)
}

// refused makes a request that must fail with a status and a problem document.
func (r *rig) refused(status int, method, path, body string, header ...string) Problem {
	r.Helper()
	resp, raw := r.do(method, path, body, header...)
	var p Problem
	if err := json.Unmarshal([]byte(raw), &p); err != nil || resp.StatusCode != status || p.Status != status {
		r.Fatalf("%s %s: got %s %s, want a problem with status %d", method, path, resp.Status, raw, status)
	}
	if got := resp.Header.Get("Content-Type"); got != problemType {
		r.Errorf("%s %s: content type %q", method, path, got)
	}
	if p.RequestID == "" || p.Message == "" || p.Code == "" {
		r.Errorf("%s %s: a part is missing in %s", method, path, raw)
	}
	return p
}

func (r *rig) submit(req JobRequest) Job {
	r.Helper()
	j, _, err := r.client.Submit(r.Context(), req)
	if err != nil {
		r.Fatal(err)
	}
	return j
}

const workerName = "w1"

// attach begins the session of the worker.
func (r *rig) attach() {
	r.Helper()
	_, err := r.queue.Attach(r.Context(), job.Session{Worker: workerName, Host: "h1", Boot: "b1", Version: "1",
		Offer: job.Offer{CPUs: 8, Memory: 64 << 30, Engines: []string{"mock", "deck"}}}, nil)
	if err != nil {
		r.Fatal(err)
	}
}

// claim takes the next job, which must be there.
func (r *rig) claim() job.Lease {
	r.Helper()
	leases, err := r.queue.Claim(r.Context(), workerName, job.Offer{CPUs: 8, Memory: 64 << 30, Engines: []string{"mock", "deck"}}, 1, time.Minute)
	if err != nil || len(leases) != 1 {
		r.Fatalf("claimed %d jobs, error %v", len(leases), err)
	}
	return leases[0]
}

// keep stores a file of an attempt as the worker would.
func (r *rig) keep(l job.Lease, name, text string) engine.KeptFile {
	r.Helper()
	key := artifact.RunKey(l.Job.ID, l.Fence, name)
	info, err := r.files.Put(r.Context(), key, strings.NewReader(text), int64(len(text)))
	if err != nil {
		r.Fatal(err)
	}
	return engine.KeptFile{Name: name, Size: info.Size, SHA256: info.SHA256, Key: key}
}

// finish ends an attempt well, or with a failure.
func (r *rig) finish(l job.Lease, f *job.Failure, kept ...engine.KeptFile) {
	r.Helper()
	energy := -15.85
	report := engine.Report{Result: engine.Result{Outcome: engine.Success, Verdict: job.Converged,
		Summary: engine.Summary{Formula: "Si2", EnergyEV: &energy}}, Files: kept}
	raw, err := json.Marshal(report)
	if err != nil {
		r.Fatal(err)
	}
	out := job.Outcome{Verdict: job.Converged, Result: raw, Failure: f, Exit: &job.Exit{Observed: true}}
	if f != nil {
		out.Exit.Code, out.Verdict = 1, ""
	}
	if err := r.queue.Finish(r.Context(), l, out); err != nil {
		r.Fatal(err)
	}
}

// liveLogs are the growing logs of running attempts.
type liveLogs struct {
	dir string
	mu  sync.Mutex
	at  map[string]string // guarded by mu
}

func liveKey(id job.ID, attempt int, stream string) string {
	return filepath.Join(string(id), string(rune('0'+attempt)), stream)
}

func (l *liveLogs) Log(id job.ID, attempt int, stream string) (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	path, ok := l.at[liveKey(id, attempt, stream)]
	return path, ok
}

// write appends to a growing log.
func (l *liveLogs) write(t *testing.T, lease job.Lease, text string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	key := liveKey(lease.Job.ID, lease.Job.Attempt, engine.StdoutName)
	path, ok := l.at[key]
	if !ok {
		path = filepath.Join(l.dir, strings.ReplaceAll(key, "/", "-"))
		if l.at == nil {
			l.at = map[string]string{}
		}
		l.at[key] = path
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// remove ends a growing log, as a worker that has reported does.
func (l *liveLogs) remove(lease job.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := liveKey(lease.Job.ID, lease.Job.Attempt, engine.StdoutName)
	os.Remove(l.at[key])
	delete(l.at, key)
}

// lockedBuffer gathers log lines of many goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func asError(err error, to **job.Error) bool { return errors.As(err, to) }

// open makes a request whose answer is a stream.
func (r *rig) open(path string, header ...string) *http.Response {
	r.Helper()
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, r.http.URL+path, nil)
	if err != nil {
		r.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := r.client.http.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	return resp
}

// waitFor waits until something on the other side of a connection has happened.
func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen")
		}
	}
}

func (c *streamCap) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}

// front is the address of something between clients and the server.
func (r *rig) front(pass func(w http.ResponseWriter, q *http.Request, next http.Handler)) string {
	r.Helper()
	f := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { pass(w, q, r.server.Handler()) }))
	r.Cleanup(f.Close)
	return f.URL
}

// second is another server of the installation, on another machine.
func (r *rig) second() *Server {
	r.Helper()
	deps := r.server.Deps
	deps.Live, deps.Metrics = nil, nil
	s := New(deps, r.server.opt)
	r.Cleanup(func() { s.close(errors.New("the test is over")) })
	return s
}

// another is a client of a second server.
func (r *rig) another() *Client {
	r.Helper()
	h := httptest.NewServer(r.second().Handler())
	c := NewClient(h.URL, r.client.token)
	r.Cleanup(func() {
		c.Close()
		h.Close()
	})
	return c
}
