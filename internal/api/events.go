package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// heartbeat is the longest silence of an event stream.
const heartbeat = 15 * time.Second

// Frames of an event stream that are not events.
const (
	frameHello   = "hello"   // the first: version, time, and where the stream begins
	frameDropped = "dropped" // the reader is too slow: reconnect after the given position
	frameEnd     = "end"     // the job has ended; nothing more will come
)

// eventPage is how many events are read at a time.
const eventPage = 500

func (s *Server) eventRoutes() {
	after := intParam("after", "The seq to go on after; the header Last-Event-ID says the same.")
	s.plain(huma.Operation{
		OperationID: "list-events", Method: http.MethodGet, Path: "/api/v1/jobs/{ref}/events", Tags: []string{"results"},
		Summary: "The history of a job",
		Description: "A page of JSON, the oldest first; or, with `Accept: text/event-stream`, a stream that goes on until the job ends. " +
			"Each event of the stream has its kind as name and its seq as id.",
		Parameters: []*huma.Param{refParam(), after, intParam("limit", "1 … 500; the default is 500.")},
		Responses:  eventResponse(s, EventList{}),
	}, s.jobEvents)
	s.plain(huma.Operation{
		OperationID: "stream-events", Method: http.MethodGet, Path: "/api/v1/events", Tags: []string{"results"},
		Summary: "A stream of everything that happens",
		Description: "Server-sent events: `hello` first, then the kinds of job events with their seq as id, and `progress` without id, at most once a second for each job. " +
			"Without `after` it begins now. A comment comes at least every 15 s. A reader that is too slow is sent `dropped` and disconnected; " +
			"it loses nothing by reconnecting with `Last-Event-ID`.",
		Parameters: []*huma.Param{after},
		Responses:  eventResponse(s, nil),
	}, func(w http.ResponseWriter, r *http.Request) error {
		return s.stream(w, r, "")
	})
}

func (s *Server) jobEvents(w http.ResponseWriter, r *http.Request) error {
	var id job.ID
	err := s.read(r.Context(), func(tx store.ReadTx, t job.Tenant) error {
		j, err := find(r.Context(), tx, t, r.PathValue("ref"))
		id = j.ID
		return err
	})
	if err != nil {
		return err
	}
	if strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		return s.stream(w, r, id)
	}
	return s.eventList(w, r, id)
}

func (s *Server) eventList(w http.ResponseWriter, r *http.Request, id job.ID) error {
	q := query{values: r.URL.Query()}
	after, limit := q.number("after", 0, 1<<62, 0), q.number("limit", 1, eventPage, eventPage)
	if err := q.err(); err != nil {
		return err
	}
	list := EventList{APIVersion: Version, Kind: "EventList", Items: []Event{}}
	err := s.read(r.Context(), func(tx store.ReadTx, t job.Tenant) error {
		events, err := tx.EventsAfter(r.Context(), t, id, after, int(limit))
		for _, e := range events {
			list.Items = append(list.Items, Event{Event: e})
		}
		return err
	})
	if err != nil {
		return err
	}
	if n := len(list.Items); n == int(limit) {
		list.Next = strconv.FormatInt(list.Items[n-1].Seq, 10)
	}
	return writeJSON(w, http.StatusOK, list)
}

// stream sends the events of a job, or of all jobs of the tenant, until the job
// ends, the client goes, or the server stops.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, id job.ID) error {
	leave, err := s.streams.enter(r.RemoteAddr)
	if err != nil {
		return err
	}
	defer leave()
	e := eventStream{s: s, ctx: r.Context(), id: id, out: s.newStreamWriter(w), told: map[job.ID]time.Time{}}
	if err := e.begin(r); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy that buffers makes it useless
	if !e.hello() {
		return nil
	}
	e.run()
	return nil
}

// eventStream is one open stream. It holds a position in the stored events and
// no queue of its own, so a slow reader costs nobody anything (F47).
type eventStream struct {
	s     *Server
	ctx   context.Context
	id    job.ID // empty: all jobs of the tenant
	after int64
	out   *streamWriter
	told  map[job.ID]time.Time // the time of the progress that was sent last
}

// begin finds where the stream begins. A position from the future, of a
// database that was restored to an earlier state, is brought back to the end.
func (e *eventStream) begin(r *http.Request) error {
	q := query{values: r.URL.Query()}
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		q.values.Set("after", last)
	}
	after := q.number("after", 0, 1<<62, Now)
	if err := q.err(); err != nil {
		return err
	}
	return e.s.read(e.ctx, func(tx store.ReadTx, _ job.Tenant) error {
		last, err := tx.LastEvent(e.ctx)
		e.after = after
		if after == Now || after > last {
			e.after = last
		}
		return err
	})
}

func (e *eventStream) hello() bool {
	return e.frame(frameHello, 0, map[string]any{
		"version": e.s.opt.Version, "time": time.Now().UTC(), "heartbeat": heartbeat.Seconds(), "after": e.after,
	}) && e.out.flush()
}

// Pace of a stream.
const (
	// eventPace is the shortest time between two looks: a burst of commits is
	// read as one.
	eventPace = 50 * time.Millisecond
	// progressPace is how often progress is sent for each job; it is also how
	// soon the commits of other processes are seen.
	progressPace = time.Second
)

func (e *eventStream) run() {
	progress := time.NewTicker(progressPace)
	defer progress.Stop()
	withProgress := true
	for {
		changed := e.s.Queue.Changed()
		ended, err := e.send(withProgress)
		if err != nil {
			e.s.Logger.Error("an event stream cannot go on", "request", requestID(e.ctx), "error", err)
			return
		}
		if !e.out.flush() {
			return
		}
		if ended {
			e.frame(frameEnd, 0, map[string]any{})
			e.out.flush()
			return
		}
		if e.out.slow() {
			e.frame(frameDropped, 0, map[string]any{"after": e.after})
			e.out.flush()
			return
		}
		if e.out.quietFor() >= heartbeat/2 {
			e.out.buf.WriteString(": still here\n\n")
		}
		withProgress = false
		select {
		case <-e.ctx.Done():
			return
		case <-e.s.closing.Done():
			return
		case <-progress.C:
			withProgress = true
		case <-changed:
			if !pause(e.ctx, eventPace) {
				return
			}
		}
	}
}

// send writes what has happened since. ended says that the job of the stream
// has ended and everything has been sent.
func (e *eventStream) send(withProgress bool) (ended bool, err error) {
	err = e.s.read(e.ctx, func(tx store.ReadTx, t job.Tenant) error {
		for {
			events, err := tx.EventsAfter(e.ctx, t, e.id, e.after, eventPage)
			if err != nil {
				return err
			}
			for _, ev := range events {
				e.frame(string(ev.Kind), ev.Seq, Event{Event: ev})
				e.after = ev.Seq
			}
			if len(events) < eventPage || !e.out.flush() {
				break
			}
		}
		if e.id != "" {
			j, err := tx.Job(e.ctx, t, e.id)
			ended = err == nil && j.State.Terminal()
			if err == nil && withProgress {
				e.progress(j)
			}
			return err
		}
		if !withProgress {
			return nil
		}
		running, _, err := tx.Jobs(e.ctx, store.JobQuery{Tenant: t, States: []job.State{job.Running}, Limit: eventPage})
		for _, j := range running {
			e.progress(j)
		}
		return err
	})
	if e.ctx.Err() != nil {
		return false, nil
	}
	return ended, err
}

// progress sends the progress of a running job if it has moved.
func (e *eventStream) progress(j job.Job) {
	p := j.Progress
	if j.State != job.Running || p == nil || p.At.Equal(e.told[j.ID]) {
		return
	}
	if len(e.told) > 4*eventPage {
		clear(e.told) // of jobs that ended long ago
	}
	e.told[j.ID] = p.At
	e.frame(string(EventProgress), 0, Event{Event: job.Event{Tenant: j.Tenant, Job: j.ID, Kind: EventProgress, At: p.At}, Progress: p})
}

// frame adds one frame to what is sent next.
func (e *eventStream) frame(name string, id int64, data any) bool {
	raw, err := json.Marshal(data)
	if err != nil {
		return false
	}
	if id > 0 {
		fmt.Fprintf(&e.out.buf, "id: %d\n", id)
	}
	fmt.Fprintf(&e.out.buf, "event: %s\ndata: %s\n\n", name, raw)
	return true
}

// streamWriter sends the parts of a stream, each within a time.
type streamWriter struct {
	w        http.ResponseWriter
	control  *http.ResponseController
	patience time.Duration
	buf      bytes.Buffer
	last     time.Time     // of the last part
	took     time.Duration // the longest that a part took
	gone     bool
}

// streamPatience is how long one part of a stream may take to leave. A reader
// that needs half of it is told that it is too slow, one that needs all of it
// is cut off.
const streamPatience = 10 * time.Second

func (s *Server) newStreamWriter(w http.ResponseWriter) *streamWriter {
	control := http.NewResponseController(w)
	// The connection is watched for its end by a read that must not time out.
	setDeadline(control.SetReadDeadline, 0)
	return &streamWriter{w: w, control: control, patience: s.patience, last: time.Now()}
}

// flush sends what has gathered; false means that the reader is gone.
func (o *streamWriter) flush() bool {
	if o.gone || o.buf.Len() == 0 {
		return !o.gone
	}
	began := time.Now()
	setDeadline(o.control.SetWriteDeadline, o.patience)
	_, err := o.w.Write(o.buf.Bytes())
	if err == nil {
		err = o.control.Flush()
	}
	o.buf.Reset()
	o.gone = err != nil
	o.last = time.Now()
	o.took = max(o.took, o.last.Sub(began))
	return !o.gone
}

func (o *streamWriter) slow() bool { return o.took > o.patience/2 }

func (o *streamWriter) quietFor() time.Duration { return time.Since(o.last) }

// pause sleeps; false means that ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
