package api

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheDocumentIsTheOneInTheRepository(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	resp, body := r.do("GET", documentPath, "")
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("answer is %s", resp.Status)
	}
	golden := filepath.Join("..", "..", "docs", "openapi.json")
	if *update {
		if err := os.WriteFile(golden, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(body, "\n")); diff != "" {
		t.Errorf("the interface has changed; if that is meant, run go test ./internal/api -update\n%s", diff)
	}
}

func TestTheDocumentIsComplete(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	for _, op := range operationsOf(r.server) {
		if op.OperationID == "" || op.Summary == "" || len(op.Tags) != 1 {
			t.Errorf("%s %s lacks an id, a summary or its tag", op.Method, op.Path)
		}
		if op.Responses["default"] == nil || len(op.Responses) < 2 {
			t.Errorf("%s does not say how it answers", op.OperationID)
		}
		if op.RequestBody != nil && op.RequestBody.Content["application/octet-stream"] == nil {
			if media := op.RequestBody.Content["application/json"]; media == nil || media.Example == nil {
				t.Errorf("%s has no example", op.OperationID)
			}
		}
	}
	_, body := r.do("GET", documentPath, "")
	var doc any
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatal(err)
	}
	schemas := r.server.api.OpenAPI().Components.Schemas.Map()
	walk(doc, func(key, value string) {
		if name, ok := strings.CutPrefix(value, "#/components/schemas/"); ok && key == "$ref" && schemas[name] == nil {
			t.Errorf("%s is not defined", value)
		}
	})
}

// walk visits every text of a JSON document.
func walk(v any, visit func(key, value string)) {
	switch v := v.(type) {
	case map[string]any:
		for k, child := range v {
			if s, ok := child.(string); ok {
				visit(k, s)
			}
			walk(child, visit)
		}
	case []any:
		for _, child := range v {
			walk(child, visit)
		}
	}
}

func TestThePagesNeedNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.submit(JobRequest{Engine: "mock", Name: "<script>alert(1)</script>"})
	for path, want := range map[string][]string{
		"/":         {"nanoos", "1.2.3", "QUEUED", "nanoos submit", "/api/docs", "no worker is online"},
		"/api/docs": {"POST", "/api/v1/jobs", "JobRequest", "Idempotency-Key"},
	} {
		resp, body := r.do("GET", path, "")
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("%s: %s %s", path, resp.Status, resp.Header.Get("Content-Type"))
		}
		for _, text := range want {
			if !strings.Contains(body, text) {
				t.Errorf("%s lacks %q", path, text)
			}
		}
		for _, bad := range []string{"<script", "style=", "onclick", "//cdn", "href=\"https", "src=\"http"} {
			if strings.Contains(body, bad) {
				t.Errorf("%s has %q", path, bad)
			}
		}
	}
	if resp, body := r.do("GET", "/assets/style.css", ""); resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/css") || body == "" {
		t.Errorf("style sheet: %s %s", resp.Status, resp.Header.Get("Content-Type"))
	}
}

func TestT41_TheFirstPageShowsNothingWithoutTheToken(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{token: "secret"})
	if _, body := r.do("GET", "/", ""); strings.Contains(body, "QUEUED") || !strings.Contains(body, "needs a token") {
		t.Errorf("the page is %s", body)
	}
	if _, body := r.do("GET", "/", "", "Authorization", "Bearer secret"); !strings.Contains(body, "QUEUED") {
		t.Errorf("the page is %s", body)
	}
	r.refused(http.StatusUnauthorized, "GET", "/metrics", "")
}

func TestMetricsCountJobsAndRequestsByRoute(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.submit(JobRequest{Engine: "mock"})
	r.do("GET", "/api/v1/jobs/some-secret-name", "")
	_, body := r.do("GET", "/metrics", "")
	for _, want := range []string{
		`nanoos_jobs{queue="simulations",state="QUEUED"} 1`, `nanoos_http_request_seconds_count{route="POST /api/v1/jobs",status="201"} 1`,
		`route="GET /api/v1/jobs/{ref}",status="404"`, "go_goroutines",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if strings.Contains(body, "some-secret-name") {
		t.Error("metrics have the names of jobs")
	}
}
