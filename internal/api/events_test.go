package api

import (
	"bufio"
	"context"
	"fmt"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// nextEvent returns the next event that is not progress.
func nextEvent(t *testing.T, next func() (Event, error, bool)) Event {
	t.Helper()
	for {
		e, err, ok := next()
		if err != nil || !ok {
			t.Fatalf("the stream ended: %v", err)
		}
		if e.Kind != EventProgress {
			return e
		}
	}
}

func TestEventsComeInOrderWithProgressBetween(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.attach()
	j := r.submit(JobRequest{Engine: "mock"})
	next, stop := iter.Pull2(r.client.JobEvents(t.Context(), string(j.ID), 0))
	defer stop()
	for _, want := range []job.EventKind{job.EventSubmitted, job.EventQueued} {
		if e := nextEvent(t, next); e.Kind != want || e.Job != j.ID || e.Seq == 0 {
			t.Fatalf("event is %+v, want %s", e, want)
		}
	}
	lease := r.claim()
	if e := nextEvent(t, next); e.Kind != job.EventStarted {
		t.Fatalf("event is %+v", e)
	}
	_, err := r.queue.Beat(t.Context(), workerName, []job.Held{{ID: j.ID, Fence: lease.Fence,
		Progress: &job.Progress{Fraction: 0.5, Stage: "half", At: time.Now()}}})
	if err != nil {
		t.Fatal(err)
	}
	e, err, ok := next()
	if err != nil || !ok || e.Kind != EventProgress || e.Progress.Fraction != 0.5 || e.Seq != 0 {
		t.Fatalf("event is %+v, error %v", e, err)
	}
	r.finish(lease, nil)
	if e := nextEvent(t, next); e.Kind != job.EventCompleted {
		t.Fatalf("event is %+v", e)
	}
	if e, err, ok := next(); ok {
		t.Errorf("after the end comes %+v, error %v", e, err)
	}
}

func TestAnInterruptedEventStreamLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	next, stop := iter.Pull2(r.client.Events(t.Context(), 0))
	defer stop()
	var last int64
	for i := range 4 {
		j := r.submit(JobRequest{Engine: "mock", Name: fmt.Sprint(i)})
		for _, want := range []job.EventKind{job.EventSubmitted, job.EventQueued} {
			e := nextEvent(t, next)
			if e.Kind != want || e.Job != j.ID || e.Seq <= last {
				t.Fatalf("event is %+v after %d, want %s of %s", e, last, want, j.ID)
			}
			last = e.Seq
		}
		r.http.CloseClientConnections()
	}
}

func TestAStreamFromNowSkipsThePast(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.submit(JobRequest{Engine: "mock"})
	resp := r.open("/api/v1/events", "Accept", "text/event-stream")
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() && lines.Text() != "" {
		// The hello frame has been sent, so the position is fixed.
	}
	late := r.submit(JobRequest{Engine: "mock"})
	for lines.Scan() {
		if text := lines.Text(); strings.HasPrefix(text, "data: ") {
			if !strings.Contains(text, string(late.ID)) {
				t.Errorf("first event is %s", text)
			}
			return
		}
	}
}

func TestF47_AReaderThatIsTooSlowIsToldAndDropped(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.server.patience = 1 // every part takes longer
	w := httptest.NewRecorder()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/v1/events", nil)
	if err := r.server.stream(w, req, ""); err != nil {
		t.Fatal(err)
	}
	if body := w.Body.String(); !strings.Contains(body, "event: dropped\ndata: {\"after\":0}\n\n") {
		t.Errorf("the stream is %q", body)
	}
}

func TestF47_AReaderThatNeverReadsHurtsNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{patience: 300 * time.Millisecond})
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.http.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /api/v1/events?after=0 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	waitFor(t, func() bool { return r.server.streams.count() == 1 })
	deadline := time.Now().Add(time.Minute)
	for r.server.streams.count() > 0 {
		if time.Now().After(deadline) {
			t.Fatal("the stream is still open")
		}
		r.fillEvents(4000)
	}
	if _, err := r.client.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

// fillEvents adds events as fast as the store can.
func (r *rig) fillEvents(n int) {
	r.Helper()
	id := r.submit(JobRequest{Engine: "mock"}).ID
	err := r.server.Store.Write(r.Context(), func(tx store.Tx) error {
		events := make([]job.Event, n)
		for i := range events {
			events[i] = job.Event{Tenant: job.DefaultTenant, Job: id, Kind: job.EventQueued, Data: []byte(`{"why":"` + strings.Repeat("x", 1000) + `"}`)}
		}
		return tx.AppendEvents(r.Context(), events)
	})
	if err != nil {
		r.Fatal(err)
	}
}

func TestF46_StreamsAreCappedPerAddress(t *testing.T) {
	t.Parallel()
	c := newStreamCap(maxStreams, maxStreamsPerHost)
	for range maxStreamsPerHost {
		if _, err := c.enter("10.0.0.1:1"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.enter("10.0.0.1:2"); job.CodeOf(err) != job.Exhausted {
		t.Errorf("error is %v", err)
	}
	leave, err := c.enter("10.0.0.2:1")
	if err != nil {
		t.Fatal(err)
	}
	leave()
	if c.count() != maxStreamsPerHost {
		t.Errorf("%d streams are open", c.count())
	}
}

func TestEventsCanBeReadPageByPage(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.submit(JobRequest{Engine: "mock"})
	page, err := r.client.History(t.Context(), "@last", 1)
	if err != nil || len(page.Items) != 1 || page.Items[0].Kind != job.EventQueued {
		t.Errorf("page is %+v, error %v", page, err)
	}
	for _, query := range []string{"after=x", "after=-1", "limit=0", "limit=501", "befor=1"} {
		r.refused(http.StatusUnprocessableEntity, "GET", "/api/v1/jobs/@last/events?"+query, "")
	}
	r.refused(http.StatusNotFound, "GET", "/api/v1/jobs/nobody/events", "")
}

func TestAStreamOfEventsEndsWithItsContext(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.submit(JobRequest{Engine: "mock"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range r.client.Events(ctx, 0) {
		cancel()
		last = err
	}
	if last != context.Canceled {
		t.Errorf("the last error is %v", last)
	}
}
