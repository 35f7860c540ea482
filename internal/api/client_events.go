package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// Now is a position for Events: only what happens from here on.
const Now int64 = -1

// silence is how long a stream may say nothing, not even a heartbeat, before
// the connection counts as lost: three heartbeats.
const silence = 3 * heartbeat

// Events yields what happens after a Seq, or from Now on, to all jobs of the
// tenant. It reconnects by itself and misses no durable event; progress may be
// missed. A server that is away is waited for as long as ctx lives; any other
// error ends the sequence.
func (c *Client) Events(ctx context.Context, after int64) iter.Seq2[Event, error] {
	return c.events(ctx, "/api/v1/events", after)
}

// JobEvents is Events of one job; it ends when the job ends.
func (c *Client) JobEvents(ctx context.Context, ref string, after int64) iter.Seq2[Event, error] {
	return c.events(ctx, jobPath(ref, "events"), after)
}

func (c *Client) events(ctx context.Context, path string, after int64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		stopped := false
		again := backoff{}
		for {
			last, ended, err := c.eventStream(ctx, path, after, func(e Event) bool {
				again = backoff{}
				stopped = !yield(e, nil)
				return !stopped
			})
			after = last
			switch {
			case stopped || ended:
				return
			case ctx.Err() != nil:
				yield(Event{}, context.Cause(ctx))
				return
			case err != nil && !canReconnect(err):
				yield(Event{}, err)
				return
			}
			if !again.wait(ctx) {
				yield(Event{}, context.Cause(ctx))
				return
			}
		}
	}
}

// eventStream reads one connection to its end. last is the position to go on
// from; ended says that nothing more will come.
func (c *Client) eventStream(ctx context.Context, path string, after int64, yield func(Event) bool) (last int64, ended bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errors.New("stream ended"))
	header := http.Header{"Accept": {"text/event-stream"}}
	if after != Now {
		header.Set("Last-Event-ID", strconv.FormatInt(after, 10))
	}
	resp, err := c.do(ctx, http.MethodGet, path, nil, nil, header)
	if err != nil {
		return after, false, err
	}
	defer resp.Body.Close()
	watch := time.AfterFunc(silence, func() { cancel(errors.New("the stream fell silent")) })
	defer watch.Stop()

	for f, err := range frames(resp.Body) {
		watch.Reset(silence)
		if err != nil {
			return after, false, c.unreachable(ctx, err)
		}
		switch f.event {
		case frameHello, frameDropped:
			var at struct {
				After *int64 `json:"after"`
			}
			if json.Unmarshal(f.data, &at) == nil && at.After != nil {
				after = *at.After
			}
			continue
		case frameEnd:
			return after, true, nil
		case "":
			continue
		}
		var e Event
		if json.Unmarshal(f.data, &e) != nil {
			continue // a kind of frame of a newer server
		}
		after = max(after, e.Seq)
		if !yield(e) {
			return after, true, nil
		}
	}
	return after, false, nil
}

// frame is one event of a stream; a comment is a frame without event.
type frame struct {
	event string
	data  []byte
}

// maxFrame bounds one line of an event stream.
const maxFrame = 4 << 20

// frames parses an event stream. A stream that just ends was cut, unless a
// frame said that it ends.
func frames(r io.Reader) iter.Seq2[frame, error] {
	return func(yield func(frame, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, maxFrame)
		var f frame
		for lines.Scan() {
			line := lines.Text()
			name, value, _ := strings.Cut(line, ":")
			value = strings.TrimPrefix(value, " ")
			switch {
			case line == "" || name == "":
				if !yield(f, nil) {
					return
				}
				f = frame{}
			case name == "event":
				f.event = value
			case name == "data":
				f.data = append(f.data, value...)
			}
		}
		if err := lines.Err(); err != nil {
			yield(frame{}, err)
		}
	}
}

// LogQuery says which log of a job, and which part of it.
type LogQuery struct {
	Stream  string // stdout (default) or stderr
	Attempt int    // 0: the last; with Follow: from this attempt on
	Tail    int    // only the last so many lines; 0: everything
	// Follow waits for a job that has not started, and reads on as the log
	// grows and into the next attempts, until the job ends.
	Follow bool
}

// Logs opens a log. With Follow the reader survives the loss of the connection
// without gaps or repeats; it returns io.EOF only when the job has ended.
func (c *Client) Logs(ctx context.Context, ref string, q LogQuery) (io.ReadCloser, error) {
	resp, err := c.openLog(ctx, ref, q, -1)
	if err != nil || !q.Follow {
		if err != nil {
			return nil, err
		}
		return resp.Body, nil
	}
	r := &logReader{c: c, ctx: ctx, ref: ref, q: q}
	r.took(resp)
	return r, nil
}

// openLog opens a log at a position, -1 meaning where the query says.
func (c *Client) openLog(ctx context.Context, ref string, q LogQuery, from int64) (*http.Response, error) {
	v := url.Values{}
	if q.Stream != "" {
		v.Set("stream", q.Stream)
	}
	if q.Attempt > 0 {
		v.Set("attempt", strconv.Itoa(q.Attempt))
	}
	if q.Follow {
		v.Set("follow", "true")
	}
	switch {
	case from >= 0:
		v.Set("from", strconv.FormatInt(from, 10))
	case q.Tail > 0:
		v.Set("tail", strconv.Itoa(q.Tail))
	}
	return c.do(ctx, http.MethodGet, jobPath(ref, "logs"), v, nil, nil)
}

// logReader follows a log over any number of connections. Positions count the
// bytes of the followed text from the beginning of the first attempt asked for.
type logReader struct {
	c     *Client
	ctx   context.Context
	ref   string
	q     LogQuery
	at    int64
	body  io.ReadCloser
	again backoff
}

// took goes on with a new connection, which says where it begins.
func (r *logReader) took(resp *http.Response) {
	r.body = resp.Body
	if n, err := strconv.Atoi(resp.Header.Get(headerAttempt)); err == nil {
		r.q.Attempt = n
	}
	if n, err := strconv.ParseInt(resp.Header.Get(headerFrom), 10, 64); err == nil {
		r.at = n
	}
}

func (r *logReader) Read(b []byte) (int, error) {
	for {
		n, err := r.body.Read(b)
		r.at += int64(n)
		if n > 0 {
			r.again = backoff{}
			return n, nil
		}
		if err == nil || errors.Is(err, io.EOF) {
			return 0, err
		}
		if err := r.reconnect(); err != nil {
			return 0, err
		}
	}
}

// reconnect waits for the server and goes on where the reader was.
func (r *logReader) reconnect() error {
	r.body.Close()
	for {
		if !r.again.wait(r.ctx) {
			return context.Cause(r.ctx)
		}
		resp, err := r.c.openLog(r.ctx, r.ref, r.q, r.at)
		if err == nil {
			r.took(resp)
			return nil
		}
		if !canReconnect(err) {
			return err
		}
	}
}

func (r *logReader) Close() error { return r.body.Close() }

// canReconnect reports whether an error may go away by itself.
func canReconnect(err error) bool {
	code := job.CodeOf(err)
	return code == job.Unavailable || code == job.Exhausted || code == job.Internal
}

// backoff spaces the attempts to reconnect: from 0.2 s, doubling to 10 s, with
// full jitter so that a restarted server is not met by all its clients at once.
type backoff struct{ last time.Duration }

// wait sleeps; false means that ctx ended first.
func (b *backoff) wait(ctx context.Context) bool {
	b.last = min(max(2*b.last, 200*time.Millisecond), 10*time.Second)
	t := time.NewTimer(time.Duration(rand.Float64() * float64(b.last)))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
