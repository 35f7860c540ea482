package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nano-os/nanoos/internal/auth"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// operationsOf lists every documented route of a server.
func operationsOf(s *Server) []*huma.Operation {
	var all []*huma.Operation
	doc := s.api.OpenAPI()
	for _, path := range sortedKeys(doc.Paths) {
		all = append(all, operations(doc.Paths[path])...)
	}
	return all
}

// pathOf fills the parameters of a route.
func pathOf(op *huma.Operation) string {
	return strings.NewReplacer("{ref}", "nobody", "{name}", "nobody", "{id}", "nobody", "{path}", "a/b").Replace(op.Path)
}

func TestT15_EveryRouteNeedsTheTokenAndHidesWhatIsNotThere(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{token: "secret"})
	r.server.failures.burst = 10_000
	ops := operationsOf(r.server)
	if len(ops) < 25 {
		t.Fatalf("only %d routes are known", len(ops))
	}
	for _, op := range ops {
		body := ""
		if op.RequestBody != nil {
			body = "{}"
		}
		if op.OperationID == "change-job" {
			body = `{"priority": 1}`
		}
		if op.OperationID == "change-queue" {
			body = `{"paused": true}`
		}
		path := pathOf(op)
		if access[op.Method+" "+op.Path] == auth.Public {
			if resp, _ := r.do(op.Method, path, body); resp.StatusCode != http.StatusOK {
				t.Errorf("%s: public route answers %s", op.OperationID, resp.Status)
			}
			continue
		}
		for _, header := range []string{"", "Bearer wrong", "Bearer ", "Basic secret", "bearer secret2"} {
			p := r.refused(http.StatusUnauthorized, op.Method, path, body, "Authorization", header)
			if p.Code != "forbidden" {
				t.Errorf("%s: code %s", op.OperationID, p.Code)
			}
		}
		if strings.Contains(op.Path, "{") {
			if p := r.refused(http.StatusNotFound, op.Method, path, body, "Authorization", "Bearer secret"); p.Code != "not_found" {
				t.Errorf("%s: code %s", op.OperationID, p.Code)
			}
		}
	}
	if _, err := r.client.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestG17_AJobOfAnotherTenantIsNotThere(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	stored, err := r.queue.Submit(t.Context(), "others", job.Spec{Engine: "mock", Name: "theirs"})
	if err != nil {
		t.Fatal(err)
	}
	id := string(stored[0].Job.ID)
	for _, op := range operationsOf(r.server) {
		if !strings.Contains(op.Path, "{ref}") {
			continue
		}
		for _, ref := range []string{id, id[:8], id[len(id)-8:], "theirs"} {
			body := ""
			if op.RequestBody != nil {
				body = `{"why": "x"}`
			}
			if op.OperationID == "change-job" {
				body = `{"priority": 1}`
			}
			path := strings.NewReplacer("{ref}", ref, "{path}", "stdout").Replace(op.Path)
			p := r.refused(http.StatusNotFound, op.Method, path, body)
			none := r.refused(http.StatusNotFound, op.Method, strings.Replace(path, ref, strings.Repeat("z", len(ref)), 1), body)
			if strings.ReplaceAll(p.Detail, ref, strings.Repeat("z", len(ref))) != none.Detail {
				t.Errorf("%s: %q differs from %q", op.OperationID, p.Detail, none.Detail)
			}
		}
	}
	st, err := r.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range st.Queues {
		if q.Jobs[job.Queued] != 0 {
			t.Errorf("queue %s counts the jobs of others", q.Name)
		}
	}
	if page, err := r.client.Page(t.Context(), ListQuery{All: true}); err != nil || len(page.Items) != 0 || *page.Total != 0 {
		t.Errorf("page is %+v, error %v", page, err)
	}
}

func TestWithoutATokenOnlyThisMachineIsAnswered(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	for _, host := range []string{"localhost", "localhost:80", "127.0.0.1", "127.9.9.9:8080", "[::1]:80", "LOCALHOST.", "a.localhost"} {
		if resp, body := r.do("GET", "/api/v1/version", "", "Host", host); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s %s", host, resp.Status, body)
		}
	}
	for _, host := range []string{"evil.example", "127.0.0.1.evil.example", "10.0.0.1:8080", "localhost.evil.example", "0x7f.1", "[2001:db8::1]"} {
		r.refused(http.StatusForbidden, "GET", "/api/v1/version", "", "Host", host)
		r.refused(http.StatusForbidden, "GET", "/", "", "Host", host)
	}
	w := httptest.NewRecorder()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/api/v1/version", nil)
	req.RemoteAddr = "192.0.2.1:1234"
	r.server.Handler().ServeHTTP(w, req)
	if w.Code != http.StatusForbidden {
		t.Errorf("a request from another machine is answered %d", w.Code)
	}
}

func TestT42_ListeningBeyondThisMachineNeedsAToken(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := r.server.Run(t.Context(), l); job.CodeOf(err) != job.Forbidden {
		t.Errorf("error is %v", err)
	}
}

func TestT22_OtherSitesCannotChangeAnything(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	body := `{"engine": "mock"}`
	for name, header := range map[string][]string{
		"another site":     {"Sec-Fetch-Site", "cross-site"},
		"a sibling":        {"Sec-Fetch-Site", "same-site"},
		"another origin":   {"Origin", "https://evil.example"},
		"an opaque origin": {"Origin", "null"},
	} {
		if p := r.refused(http.StatusForbidden, "POST", "/api/v1/jobs", body, header...); p.Code != "forbidden" {
			t.Errorf("%s: problem is %+v", name, p)
		}
	}
	for _, kind := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ";"} {
		r.refused(http.StatusUnsupportedMediaType, "POST", "/api/v1/jobs", body, "Content-Type", kind)
	}
	r.refused(http.StatusUnsupportedMediaType, "POST", "/api/v1/jobs", body, "Content-Encoding", "gzip")
	if resp, _ := r.do("POST", "/api/v1/jobs", body, "Sec-Fetch-Site", "same-origin"); resp.StatusCode != http.StatusCreated {
		t.Errorf("our own page is answered %s", resp.Status)
	}
}

func TestT24_EveryAnswerHasTheSecurityHeaders(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	for _, path := range []string{"/", "/api/docs", "/api/v1/jobs", "/api/v1/nothing", "/healthz", "/metrics", "/assets/style.css", documentPath} {
		resp, _ := r.do("GET", path, "")
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
		csp := resp.Header.Get("Content-Security-Policy")
		if !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") || resp.Header.Get("X-Request-Id") == "" {
			t.Errorf("%s: headers are %v", path, resp.Header)
		}
		if store := resp.Header.Get("Cache-Control"); store != "no-store" && path != "/assets/style.css" {
			t.Errorf("%s: Cache-Control is %q", path, store)
		}
	}
}

func TestWhatNoRouteMatchesIsAProblem(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.refused(http.StatusNotFound, "GET", "/api/v2/jobs", "")
	p := r.refused(http.StatusMethodNotAllowed, "DELETE", "/api/v1/jobs", "")
	if !strings.Contains(p.Fix, "GET") {
		t.Errorf("problem is %+v", p)
	}
	r.refused(http.StatusNotFound, "GET", "/api/v1/jobs/a/b/c/d", "")
}

// brokenStore fails every read.
type brokenStore struct {
	store.Store
	err error
}

func (b brokenStore) Read(context.Context, func(store.ReadTx) error) error { return b.err }

func TestAFaultOfOursIsLoggedAndNotShown(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.server.Store = brokenStore{r.server.Store, errors.New("disk of /secret/place is broken")}
	p := r.refused(http.StatusInternalServerError, "GET", "/api/v1/jobs", "")
	if raw := fmt.Sprint(p); strings.Contains(raw, "secret") || p.Code != "internal" {
		t.Errorf("problem is %+v", p)
	}
	lines := 0
	for line := range strings.Lines(r.log.String()) {
		if strings.Contains(line, "level=ERROR") {
			lines++
			if !strings.Contains(line, p.RequestID) || !strings.Contains(line, "/secret/place") {
				t.Errorf("the log says %s", line)
			}
		}
	}
	if lines != 1 {
		t.Errorf("the fault is logged %d times", lines)
	}
	if resp, body := r.do("GET", "/readyz", ""); resp.StatusCode != http.StatusServiceUnavailable || strings.Contains(body, "secret") {
		t.Errorf("/readyz answers %s %s", resp.Status, body)
	}
	if resp, _ := r.do("GET", "/healthz", ""); resp.StatusCode != http.StatusOK {
		t.Errorf("/healthz answers %s", resp.Status)
	}
	if resp, _ := r.do("GET", "/", ""); resp.StatusCode != http.StatusOK {
		t.Errorf("/ answers %s", resp.Status)
	}
}

func TestAStoreThatNoLongerWritesIsNotReady(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.server.Ready = func() error { return errors.New("the disk is full") }
	if err := r.client.Ready(t.Context()); job.CodeOf(err) != job.Unavailable {
		t.Errorf("error is %v", err)
	}
}

func TestAPanicHurtsOneRequest(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.server.Store = nil
	r.refused(http.StatusInternalServerError, "GET", "/api/v1/jobs", "")
	if resp, _ := r.do("GET", "/healthz", ""); resp.StatusCode != http.StatusOK {
		t.Errorf("/healthz answers %s", resp.Status)
	}
}

func TestG15_TooMuchIsRefusedWithATimeToComeBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	for range maxStreamsPerHost {
		if _, err := r.server.streams.enter("127.0.0.1:1"); err != nil {
			t.Fatal(err)
		}
	}
	r.refused(http.StatusTooManyRequests, "GET", "/api/v1/events", "")
	resp, _ := r.do("GET", "/api/v1/events", "")
	if resp.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

func TestT27_ALargeBodyIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	big := `{"engine": "mock", "name": "` + strings.Repeat("x", maxJobBody) + `"}`
	r.refused(http.StatusRequestEntityTooLarge, "POST", "/api/v1/jobs", big)
	r.refused(http.StatusRequestEntityTooLarge, "PATCH", "/api/v1/jobs/x", strings.Repeat(" ", 65<<10))
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPut, "http://localhost/api/v1/inputs", io.LimitReader(zeros{}, maxInput+1))
	req.RemoteAddr = "127.0.0.1:1"
	w := httptest.NewRecorder()
	r.server.Handler().ServeHTTP(w, req)
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a large upload is answered %d", w.Code)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestAStoppingServerEndsItsStreamsAndReturns(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- r.server.Run(ctx, l) }()
	c := NewClient("http://"+l.Addr().String(), "")
	defer c.Close()
	if err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.submit(JobRequest{Engine: "mock", Hold: true})
	log, err := c.Logs(t.Context(), "@last", LogQuery{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the server does not stop")
	}
}

func TestT30_NoBodyMakesTheServerPanicOrWait(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	bodies := []string{
		"", "null", "[]", "3", `"x"`, "{", `{"a":`, `{"engine":"mock"}{}`, `{"engine":"mock","engine":"mock"}`, `{"ENGINE":"mock"}`, "\xef\xbb\xbf{}", "{\"name\":\"\xff\"}",
		strings.Repeat("[", 100_000), strings.Repeat(`{"a":`, 100_000), `{"priority": 1e999}`, `{"priority": 99999999999999999999}`, `{"priority": 1.5}`,
		`{"resources": {"walltime": -1, "memory": "1e400GiB"}}`, `{"engine": "mock", "structure": {"species": ["H"], "positions": [[0, 0]]}}`,
		`{"engine": "mock", "structure": {"lattice": [[1,0,0]], "species": ["H"], "positions": [[0,0,1e999]]}}`, `{"engine":"mock","name":"\u0000\u001b[31m"}`,
		`{"engine":"mock","run_at":"yesterday"}`, `{"engine":"mock","labels":{"a":null}}` + " x",
	}
	for _, body := range bodies {
		resp, raw := r.do("POST", "/api/v1/jobs", body, "Content-Type", "application/json")
		var p Problem
		if err := json.Unmarshal([]byte(raw), &p); err != nil || resp.StatusCode < 400 || resp.StatusCode >= 500 {
			t.Errorf("%.60q: %s %.300s", body, resp.Status, raw)
		}
	}
}
