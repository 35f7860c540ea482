package api

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// expect reads exactly that text.
func expect(t *testing.T, from io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(from, got); err != nil || string(got) != want {
		t.Fatalf("read %q, want %q, error %v", got[:n], want, err)
	}
}

var programFailure = &job.Failure{Class: job.ClassProgram, Code: "exit_code", Message: "it ended with status 1"}

func TestAFollowedLogWaitsGrowsGoesOnAndEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.attach()
	j := r.submit(JobRequest{Engine: "mock", Hold: true, Retry: &RetryInput{Max: new(1)}})
	log, err := r.client.Logs(t.Context(), string(j.ID), LogQuery{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if _, err := r.client.Release(t.Context(), string(j.ID), ""); err != nil {
		t.Fatal(err)
	}
	first := r.claim()
	r.live.write(t, first, "one\n")
	expect(t, log, "one\n")
	r.http.CloseClientConnections() // a lost network shows neither gap nor repeat
	r.live.write(t, first, "two\n")
	expect(t, log, "two\n")
	r.live.write(t, first, "three")
	r.finish(first, programFailure, r.keep(first, "stdout", "one\ntwo\nthree"))
	r.live.remove(first)
	expect(t, log, "three")

	if _, err := r.client.Retry(t.Context(), string(j.ID), ""); err != nil {
		t.Fatal(err)
	}
	second := r.claim()
	expect(t, log, "\n==> attempt 2 <==\n")
	r.http.CloseClientConnections()
	// It ends before anybody has looked at it: it is read from what was stored.
	r.finish(second, nil, r.keep(second, "stdout", "four\n"))
	expect(t, log, "four\n")
	if n, err := log.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("after the end: %d bytes, error %v", n, err)
	}
}

func TestAFollowedLogOfAnEndedJobEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.attach()
	r.submit(JobRequest{Engine: "mock"})
	lease := r.claim()
	r.finish(lease, nil, r.keep(lease, "stdout", "a\nb\nc\n"))
	for query, want := range map[LogQuery]string{
		{Follow: true}: "a\nb\nc\n", {Follow: true, Tail: 2}: "b\nc\n", {Follow: true, Attempt: 1}: "a\nb\nc\n",
		{}: "a\nb\nc\n", {Tail: 1}: "c\n", {Tail: 3}: "a\nb\nc\n", {Tail: 99}: "a\nb\nc\n",
	} {
		log, err := r.client.Logs(t.Context(), "@last", query)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(log)
		log.Close()
		if err != nil || string(got) != want {
			t.Errorf("%+v reads %q, want %q, error %v", query, got, want, err)
		}
	}
}

func TestALogIsServedInRangesAsPlainText(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.attach()
	r.submit(JobRequest{Engine: "mock"})
	lease := r.claim()
	r.live.write(t, lease, "<script>alert(1)</script>\n")
	check := func(from string) {
		t.Helper()
		resp, body := r.do("GET", "/api/v1/jobs/@last/logs", "", "Range", "bytes=8-12")
		if resp.StatusCode != http.StatusPartialContent || body != "alert" {
			t.Errorf("%s: %s %q", from, resp.Status, body)
		}
		h := resp.Header
		if h.Get("Content-Type") != "text/plain; charset=utf-8" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get(headerAttempt) != "1" {
			t.Errorf("%s: headers are %v", from, h)
		}
	}
	check("growing")
	r.finish(lease, nil, r.keep(lease, "stdout", "<script>alert(1)</script>\n"))
	r.live.remove(lease)
	check("stored")
}

func TestALogThatIsNotThereSaysWhy(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.attach()
	r.submit(JobRequest{Engine: "mock", Name: "waits", Hold: true})
	if p := r.refused(http.StatusNotFound, "GET", "/api/v1/jobs/waits/logs", ""); !strings.Contains(p.Fix, "logs -f") {
		t.Errorf("problem is %+v", p)
	}
	r.submit(JobRequest{Engine: "mock", Name: "runs"})
	r.claim()
	if p := r.refused(http.StatusNotFound, "GET", "/api/v1/jobs/runs/logs", ""); !strings.Contains(p.Why, workerName) {
		t.Errorf("problem is %+v", p)
	}
	for _, query := range []string{"stream=both", "attempt=0", "tail=-1", "tail=1000001", "follow=yes", "from=3", "from=3&follow=true&tail=1", "lines=3"} {
		r.refused(http.StatusUnprocessableEntity, "GET", "/api/v1/jobs/runs/logs?"+query, "")
	}
}

func TestTheTailOfALargeLogIsFound(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	text := b.String()
	for _, n := range []int64{1, 2, 999, 19_999, 20_000, 20_001} {
		at, err := tailStart(strings.NewReader(text), n)
		if err != nil {
			t.Fatal(err)
		}
		if got := int64(strings.Count(text[at:], "\n")); got != min(n, 20_000) {
			t.Errorf("the last %d lines are %d", n, got)
		}
	}
	if at, err := tailStart(strings.NewReader(""), 3); at != 0 || err != nil {
		t.Errorf("the tail of nothing begins at %d, error %v", at, err)
	}
}

func TestFilesOfAttemptsAreNeverMixed(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.attach()
	r.submit(JobRequest{Files: []FileInput{{Name: "in.deck", Text: "deck"}}, Retry: &RetryInput{Max: new(1)}})
	first := r.claim()
	r.finish(first, programFailure, r.keep(first, "out put.txt", "first"), r.keep(first, "sub/only", "x"))
	if _, err := r.client.Retry(t.Context(), "@last", ""); err != nil {
		t.Fatal(err)
	}
	second := r.claim()
	r.finish(second, nil, r.keep(second, "out put.txt", "second"))

	files, err := r.client.Files(t.Context(), "@last")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, fmt.Sprintf("%d %s %d", f.Attempt, f.Name, f.Size))
		resp, body := r.do("GET", f.URL, "")
		if resp.StatusCode != http.StatusOK || int64(len(body)) != f.Size || resp.Header.Get("ETag") != `"`+f.SHA256+`"` {
			t.Errorf("%s: %s %q", f.URL, resp.Status, body)
		}
	}
	if want := "2 out put.txt 6, 1 out put.txt 5, 1 sub/only 1, 0 in.deck 4"; strings.Join(got, ", ") != want {
		t.Errorf("files are %q", got)
	}
	for name, want := range map[string]string{"out put.txt": "second", "sub/only": "x", "in.deck": "deck"} {
		body, err := r.client.File(t.Context(), "@last", name)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(body)
		body.Close()
		if err != nil || string(text) != want {
			t.Errorf("%s is %q, error %v", name, text, err)
		}
	}
}

func TestT23_FilesAreDownloadedAndNeverShown(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.attach()
	r.submit(JobRequest{Engine: "mock"})
	lease := r.claim()
	r.finish(lease, nil, r.keep(lease, "page.html", "<script>alert(1)</script>"))
	resp, body := r.do("GET", "/api/v1/jobs/@last/files/page.html", "", "Range", "bytes=1-6")
	if resp.StatusCode != http.StatusPartialContent || body != "script" {
		t.Errorf("answer is %s %q", resp.Status, body)
	}
	for name, want := range map[string]string{
		"Content-Disposition": "attachment; filename=page.html", "Content-Type": "application/octet-stream",
		"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
}

func TestT5_NamesOfFilesNeverLeadOutside(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.attach()
	r.submit(JobRequest{Engine: "mock"})
	lease := r.claim()
	r.finish(lease, nil, r.keep(lease, engine.StdoutName, "x"))
	for _, name := range []string{
		"..%2f..%2f..%2fnanoos.db", "%2e%2e/%2e%2e/nanoos.db", "..%5c..%5cnanoos.db", "%2fetc%2fpasswd", "stdout%00", "CON", "C:%5cx",
		".stdout.sha256", strings.Repeat("a/", 400) + "b", "%ff%fe", "stdout/", "~2e", "nobody",
	} {
		resp, body := r.do("GET", "/api/v1/jobs/@last/files/"+name, "")
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s %s", name, resp.Status, body)
		}
	}
}
