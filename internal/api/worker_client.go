package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// WorkerClient is the queue, the stored files and the outputs of an
// installation as a worker on another machine sees them. It speaks the worker
// protocol to one of several servers, stays with it while it works, and goes on
// to the next when it does not: a call that may have been carried out is safe to
// repeat. Its errors are *job.Error; job.Unavailable means that no server does
// its work now.
type WorkerClient struct {
	servers []*Client
	http    *http.Client
	closing context.Context
	close   context.CancelCauseFunc
	wg      sync.WaitGroup // what runs for several callers

	choice   choice
	known    known
	endings  endings
	transfer chan struct{} // one for each file or output on its way
}

// maxTransfers bounds the files and outputs that one worker sends and fetches
// at a time, so that a thousand jobs that end together are no flood (G15).
const maxTransfers = 8

// NewWorkerClient returns a client of the servers at urls, the preferred first.
func NewWorkerClient(urls []string, token string) *WorkerClient {
	transport := &http.Transport{
		Proxy:       http.ProxyFromEnvironment,
		DialContext: (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		// Long polls answer last.
		ResponseHeaderTimeout: maxPollWait + 2*callSlack,
		TLSHandshakeTimeout:   5 * time.Second,
		IdleConnTimeout:       55 * time.Second, // shorter than the server's 60 s
		MaxIdleConnsPerHost:   maxTransfers + 8,
		DisableCompression:    true,
	}
	c := &WorkerClient{http: &http.Client{Transport: transport}, transfer: make(chan struct{}, maxTransfers)}
	for _, u := range urls {
		c.servers = append(c.servers, &Client{url: strings.TrimRight(u, "/"), token: token, http: c.http})
	}
	c.choice.rests = make([]rest, len(c.servers))
	c.closing, c.close = context.WithCancelCause(context.Background())
	return c
}

// Close ends what is under way and gives up the connections.
func (c *WorkerClient) Close() {
	c.close(&job.Error{Code: job.Unavailable, Message: "the worker is leaving"})
	c.wg.Wait()
	c.http.CloseIdleConnections()
}

// callSlack is how long a call may take beyond the wait that it asks for.
const callSlack = 10 * time.Second

// try makes a call at one server after another, each at most twice. An answer
// that another server would give as well ends it.
func (c *WorkerClient) try(ctx context.Context, call func(at *Client) error) error {
	err := error(&job.Error{Code: job.Invalid, Message: "the worker has no server to speak to", Fix: "set NANOOS_URL"})
	for range 2 * len(c.servers) {
		i, wait := c.choice.next()
		if !pause(ctx, wait) {
			return context.Cause(ctx)
		}
		began := time.Now()
		if err = call(c.servers[i]); !elsewhere(err) {
			if ctx.Err() == nil {
				c.choice.worked(i)
			}
			return err
		}
		if code := job.CodeOf(err); code == job.Exhausted || code == job.Internal {
			// The server is well; only this kind of call has to wait. A disk that is
			// full of results must not keep a heartbeat waiting.
			if !pause(ctx, jittered(max(retryTime(err), firstRest))) {
				return context.Cause(ctx)
			}
			continue
		}
		c.choice.failed(i, began, retryTime(err))
	}
	return err
}

// insist is try for calls without which a worker cannot go on: it waits for a
// server as long as ctx lives.
func (c *WorkerClient) insist(ctx context.Context, call func(at *Client) error) error {
	again := backoff{}
	for {
		err := c.try(ctx, call)
		if err == nil || !elsewhere(err) || ctx.Err() != nil {
			return err
		}
		if !again.wait(ctx) {
			return context.Cause(ctx)
		}
	}
}

// callError is an answer that was an error, or no answer.
type callError struct {
	error
	elsewhere bool          // another server may do better
	after     time.Duration // when to come back; zero: the server did not say
	header    http.Header
}

func (e *callError) Unwrap() error { return e.error }

// plain is an error as callers get it.
func plain(err error) error {
	if e, ok := errors.AsType[*callError](err); ok {
		return e.error
	}
	return err
}

func elsewhere(err error) bool {
	e, ok := errors.AsType[*callError](err)
	return ok && e.elsewhere
}

func retryTime(err error) time.Duration {
	if e, ok := errors.AsType[*callError](err); ok {
		return e.after
	}
	return 0
}

// post makes a call with JSON in and out.
func (c *WorkerClient) post(ctx context.Context, at *Client, name string, timeout time.Duration, in, out any) error {
	raw, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	limited, cancel := context.WithTimeoutCause(ctx, timeout,
		&job.Error{Code: job.Unavailable, Message: "the server at " + at.url + " does not answer", Why: fmt.Sprintf("%s took more than %s", name, timeout)})
	defer cancel()
	req, err := c.request(limited, at, http.MethodPost, workerPath+name, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.do(ctx, at, req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return c.lost(ctx, limited, at, fmt.Errorf("the answer was cut or is not JSON: %w", err))
	}
	// Read to its end the connection can be used again.
	_, _ = io.Copy(io.Discard, resp.Body)
	return nil
}

func (c *WorkerClient) request(ctx context.Context, at *Client, method, path string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, at.url+path, body)
	if err != nil {
		return nil, &job.Error{Code: job.Invalid, Message: fmt.Sprintf("%q is not the address of a server", at.url), Why: err.Error(),
			Fix: "write it like https://nanoos.example:8080", Err: err}
	}
	req.Header.Set("User-Agent", "nanoos")
	req.Header.Set(headerProtocol, strconv.Itoa(protocol))
	if at.token != "" {
		req.Header.Set("Authorization", "Bearer "+at.token)
	}
	return req, nil
}

// do sends a request; an answer other than 2xx is an error. The end of caller is
// the caller's own matter, every other failure the server's.
func (c *WorkerClient) do(caller context.Context, at *Client, req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.lost(caller, req.Context(), at, err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	return nil, &callError{error: at.refused(resp), header: resp.Header, after: time.Duration(min(max(after, 0), 60)) * time.Second,
		elsewhere: resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests}
}

// lost words a call that has no answer.
func (c *WorkerClient) lost(caller, call context.Context, at *Client, err error) error {
	if caller.Err() != nil {
		return context.Cause(caller)
	}
	if call.Err() != nil {
		err = context.Cause(call)
		if e, ok := errors.AsType[*job.Error](err); ok {
			return &callError{error: e, elsewhere: true}
		}
	}
	return &callError{error: at.unreachable(context.WithoutCancel(call), err), elsewhere: true}
}

// choice is which server the next call goes to.
type choice struct {
	mu      sync.Mutex
	current int    // guarded by mu
	rests   []rest // guarded by mu; one for each server
}

// rest keeps a server that failed from being asked again at once.
type rest struct {
	last  time.Duration
	from  time.Time
	until time.Time
}

// Pauses after a failure double from firstRest to lastRest.
const (
	firstRest = 200 * time.Millisecond
	lastRest  = 10 * time.Second
)

// next returns the server to ask and how long to wait before: the current one,
// or the next that does not rest, or the one whose rest ends first.
func (c *choice) next() (server int, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	best := c.current
	for k := range c.rests {
		i := (c.current + k) % len(c.rests)
		if !c.rests[i].until.After(now) {
			return i, 0
		}
		if c.rests[i].until.Before(c.rests[best].until) {
			best = i
		}
	}
	return best, c.rests[best].until.Sub(now)
}

func (c *choice) worked(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current, c.rests[i] = i, rest{}
}

// failed lets a server rest: as long as it asked for, or longer each time, with
// jitter, so that a server that returns is not met by all workers at once.
// Calls that failed together count once.
func (c *choice) failed(i int, began time.Time, asked time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &c.rests[i]
	if began.Before(r.from) {
		return
	}
	r.last = min(max(2*r.last, firstRest), lastRest)
	pause := time.Duration(rand.Float64() * float64(r.last))
	if asked > 0 {
		pause = jittered(asked)
	}
	r.from = time.Now()
	r.until = r.from.Add(pause)
}

// jittered is about a time, spread so that those who were told the same do not
// come back together.
func jittered(d time.Duration) time.Duration {
	return d/2 + time.Duration(rand.Float64()*float64(d))
}
