package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nano-os/nanoos/internal/job"
)

// Client speaks to a server. Its errors are *job.Error in the server's own
// words; a server that cannot be reached is job.Unavailable. Jobs are named by
// any reference that the server resolves: an id, its beginning or end, a
// unique name, or "@last".
type Client struct {
	url   string
	token string
	http  *http.Client
}

// NewClient returns a client of the server at url, such as
// "http://127.0.0.1:8080". The token may be empty on a loopback address.
func NewClient(url, token string) *Client {
	transport := &http.Transport{
		Proxy:       http.ProxyFromEnvironment,
		DialContext: (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		// Streams have no deadline for the body, so silence before the answer
		// is what is bounded. A commit waits for the disk, never for a minute.
		ResponseHeaderTimeout: time.Minute,
		TLSHandshakeTimeout:   5 * time.Second,
		IdleConnTimeout:       55 * time.Second, // shorter than the server's 60 s
		MaxIdleConnsPerHost:   16,
	}
	return &Client{url: strings.TrimRight(url, "/"), token: token, http: &http.Client{Transport: transport}}
}

// URL is the address that the client was made for.
func (c *Client) URL() string { return c.url }

// Close gives up the connections that nobody uses.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Submit stores a job. existing says that its key had been used before for
// the same job, which is then returned (G2).
func (c *Client) Submit(ctx context.Context, r JobRequest) (j Job, existing bool, err error) {
	status, err := c.call(ctx, http.MethodPost, "/api/v1/jobs", nil, r, &j)
	return j, status == http.StatusOK, err
}

// SubmitBulk stores up to 10 000 jobs in one call; see BulkRequest.
func (c *Client) SubmitBulk(ctx context.Context, r BulkRequest) (BulkResult, error) {
	return fetch[BulkResult](ctx, c, http.MethodPost, "/api/v1/jobs/bulk", nil, r)
}

// DryRun checks a job and returns it as it would be stored, with warnings and
// the plan, storing nothing.
func (c *Client) DryRun(ctx context.Context, r JobRequest) (Job, error) {
	return fetch[Job](ctx, c, http.MethodPost, "/api/v1/jobs", url.Values{"dry_run": {"true"}}, r)
}

// Get returns one job.
func (c *Client) Get(ctx context.Context, ref string) (Job, error) {
	return fetch[Job](ctx, c, http.MethodGet, jobPath(ref), nil, nil)
}

// ListQuery selects jobs. Zero fields do not restrict, but without All a list
// has only the jobs that have not ended, or ended in the last 24 h.
type ListQuery struct {
	States []job.State
	Queue  string
	Engine string
	Name   string // substring, case-insensitive
	Labels map[string]string
	Since  time.Time // created at or after
	All    bool
	// Summary asks for the numbers of the results too.
	Summary bool
	Limit   int    // of one page: 1…500; zero means 50
	Cursor  string // Next of the page before
}

// Page returns one page of jobs, the newest first.
func (c *Client) Page(ctx context.Context, q ListQuery) (JobList, error) {
	return fetch[JobList](ctx, c, http.MethodGet, "/api/v1/jobs", q.values(), nil)
}

// List yields all jobs, the newest first, page by page. An error ends it.
func (c *Client) List(ctx context.Context, q ListQuery) iter.Seq2[Job, error] {
	return func(yield func(Job, error) bool) {
		for {
			page, err := c.Page(ctx, q)
			if err != nil {
				yield(Job{}, err)
				return
			}
			for _, j := range page.Items {
				if !yield(j, nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			q.Cursor = page.Next
		}
	}
}

func (q ListQuery) values() url.Values {
	v := url.Values{}
	for _, s := range q.States {
		v.Add("state", string(s))
	}
	for k, label := range q.Labels {
		v.Add("label", k+"="+label)
	}
	for name, value := range map[string]string{"queue": q.Queue, "engine": q.Engine, "name": q.Name, "cursor": q.Cursor} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if !q.Since.IsZero() {
		v.Set("since", q.Since.UTC().Format(time.RFC3339Nano))
	}
	if q.All {
		v.Set("all", "true")
	}
	if q.Summary {
		v.Set("summary", "true")
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	return v
}

// Cancel, Retry, Hold and Release change one job and return it.
func (c *Client) Cancel(ctx context.Context, ref, why string) (Job, error) {
	return c.act(ctx, ref, "cancel", why)
}

func (c *Client) Retry(ctx context.Context, ref, why string) (Job, error) {
	return c.act(ctx, ref, "retry", why)
}

func (c *Client) Hold(ctx context.Context, ref, why string) (Job, error) {
	return c.act(ctx, ref, "hold", why)
}

func (c *Client) Release(ctx context.Context, ref, why string) (Job, error) {
	return c.act(ctx, ref, "release", why)
}

func (c *Client) act(ctx context.Context, ref, action, why string) (Job, error) {
	return fetch[Job](ctx, c, http.MethodPost, jobPath(ref, action), nil, ActionRequest{Why: why})
}

// SetPriority changes the order of a waiting job.
func (c *Client) SetPriority(ctx context.Context, ref string, priority int) (Job, error) {
	return fetch[Job](ctx, c, http.MethodPatch, jobPath(ref), nil, JobPatch{Priority: &priority})
}

// Result returns the result of a job that has one.
func (c *Client) Result(ctx context.Context, ref string) (Result, error) {
	return fetch[Result](ctx, c, http.MethodGet, jobPath(ref, "result"), nil, nil)
}

// Explain says why a job waits, or how it ended, and what can be done.
func (c *Client) Explain(ctx context.Context, ref string) (Explanation, error) {
	return fetch[Explanation](ctx, c, http.MethodGet, jobPath(ref, "explain"), nil, nil)
}

// Attempts returns the attempts of a job, the first one first.
func (c *Client) Attempts(ctx context.Context, ref string) ([]job.Attempt, error) {
	l, err := fetch[AttemptList](ctx, c, http.MethodGet, jobPath(ref, "attempts"), nil, nil)
	return l.Items, err
}

// History returns one page of a job's events after a Seq, the oldest first.
func (c *Client) History(ctx context.Context, ref string, after int64) (EventList, error) {
	return fetch[EventList](ctx, c, http.MethodGet, jobPath(ref, "events"),
		url.Values{"after": {strconv.FormatInt(after, 10)}}, nil)
}

// Files lists the stored files of a job: its inputs and what its attempts left.
func (c *Client) Files(ctx context.Context, ref string) ([]File, error) {
	l, err := fetch[FileList](ctx, c, http.MethodGet, jobPath(ref, "files"), nil, nil)
	return l.Items, err
}

// File opens one stored file, of the last attempt that has it.
func (c *Client) File(ctx context.Context, ref, name string) (io.ReadCloser, error) {
	parts := strings.Split(name, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	resp, err := c.do(ctx, http.MethodGet, jobPath(ref, "files")+"/"+strings.Join(parts, "/"), nil, nil, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// UploadInput stores an input file; its hash then names it in a job's files.
func (c *Client) UploadInput(ctx context.Context, r io.Reader) (Upload, error) {
	var up Upload
	resp, err := c.do(ctx, http.MethodPut, "/api/v1/inputs", nil, r, http.Header{"Content-Type": {"application/octet-stream"}})
	if err != nil {
		return up, err
	}
	return up, c.decode(resp, &up)
}

// Queues returns every queue.
func (c *Client) Queues(ctx context.Context) ([]QueueInfo, error) {
	l, err := fetch[QueueList](ctx, c, http.MethodGet, "/api/v1/queues", nil, nil)
	return l.Items, err
}

// MakeQueue creates a queue, or changes the defaults of one.
func (c *Client) MakeQueue(ctx context.Context, r QueueRequest) (QueueInfo, error) {
	return fetch[QueueInfo](ctx, c, http.MethodPost, "/api/v1/queues", nil, r)
}

// PauseQueue stops starts from a queue; what runs goes on.
func (c *Client) PauseQueue(ctx context.Context, name, why string) (QueueInfo, error) {
	return fetch[QueueInfo](ctx, c, http.MethodPatch, "/api/v1/queues/"+url.PathEscape(name), nil, QueuePatch{Paused: new(true), Why: why})
}

// ResumeQueue undoes PauseQueue.
func (c *Client) ResumeQueue(ctx context.Context, name string) (QueueInfo, error) {
	return fetch[QueueInfo](ctx, c, http.MethodPatch, "/api/v1/queues/"+url.PathEscape(name), nil, QueuePatch{Paused: new(false)})
}

// Workers returns every worker that the server knows.
func (c *Client) Workers(ctx context.Context) ([]WorkerInfo, error) {
	l, err := fetch[WorkerList](ctx, c, http.MethodGet, "/api/v1/workers", nil, nil)
	return l.Items, err
}

// DrainWorker keeps a worker from claiming; what it runs goes on.
func (c *Client) DrainWorker(ctx context.Context, name, why string) (WorkerInfo, error) {
	return fetch[WorkerInfo](ctx, c, http.MethodPost, workerNamed(name)+"/drain", nil, ActionRequest{Why: why})
}

// ResumeWorker undoes DrainWorker.
func (c *Client) ResumeWorker(ctx context.Context, name string) (WorkerInfo, error) {
	return fetch[WorkerInfo](ctx, c, http.MethodPost, workerNamed(name)+"/resume", nil, ActionRequest{})
}

// ForgetWorker removes a worker that is gone, and gives up what it ran. It
// returns the worker as it was.
func (c *Client) ForgetWorker(ctx context.Context, name, why string) (WorkerInfo, error) {
	v := url.Values{}
	if why != "" {
		v.Set("why", why)
	}
	return fetch[WorkerInfo](ctx, c, http.MethodDelete, workerNamed(name), v, nil)
}

func workerNamed(name string) string { return "/api/v1/workers/" + url.PathEscape(name) }

// Tokens returns every token, without secrets.
func (c *Client) Tokens(ctx context.Context) ([]TokenInfo, error) {
	l, err := fetch[TokenList](ctx, c, http.MethodGet, "/api/v1/tokens", nil, nil)
	return l.Items, err
}

// CreateToken makes a token. Its secret is in the answer, and never again.
func (c *Client) CreateToken(ctx context.Context, r TokenRequest) (TokenInfo, error) {
	return fetch[TokenInfo](ctx, c, http.MethodPost, "/api/v1/tokens", nil, r)
}

// RevokeToken ends a token on every server.
func (c *Client) RevokeToken(ctx context.Context, id string) (TokenInfo, error) {
	return fetch[TokenInfo](ctx, c, http.MethodDelete, "/api/v1/tokens/"+url.PathEscape(id), nil, nil)
}

// Engines returns every engine, without schemas.
func (c *Client) Engines(ctx context.Context) ([]EngineInfo, error) {
	l, err := fetch[EngineList](ctx, c, http.MethodGet, "/api/v1/engines", nil, nil)
	return l.Items, err
}

// Engine returns one engine by name or alias, with its schema.
func (c *Client) Engine(ctx context.Context, name string) (EngineInfo, error) {
	return fetch[EngineInfo](ctx, c, http.MethodGet, "/api/v1/engines/"+url.PathEscape(name), nil, nil)
}

// Status returns the whole installation in one screen.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return fetch[Status](ctx, c, http.MethodGet, "/api/v1/status", nil, nil)
}

// Version says what answers.
func (c *Client) Version(ctx context.Context) (VersionInfo, error) {
	return fetch[VersionInfo](ctx, c, http.MethodGet, "/api/v1/version", nil, nil)
}

// Ready returns nil when the server can do its work.
func (c *Client) Ready(ctx context.Context) error {
	_, err := fetch[Health](ctx, c, http.MethodGet, "/readyz", nil, nil)
	return err
}

// jobPath is the path of a job or of something below it.
func jobPath(ref string, below ...string) string {
	return "/api/v1/jobs/" + strings.Join(append([]string{url.PathEscape(ref)}, below...), "/")
}

// fetch makes one call with JSON in and out.
func fetch[T any](ctx context.Context, c *Client, method, path string, query url.Values, in any) (T, error) {
	var out T
	_, err := c.call(ctx, method, path, query, in, &out)
	return out, err
}

func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) (status int, err error) {
	var body io.Reader
	var header http.Header
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return 0, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(raw)
		header = http.Header{"Content-Type": {"application/json"}}
	}
	resp, err := c.do(ctx, method, path, query, body, header)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, c.decode(resp, out)
}

// do makes a call; an answer other than 2xx is an error.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, body io.Reader, header http.Header) (*http.Response, error) {
	target := c.url + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, &job.Error{Code: job.Invalid, Message: fmt.Sprintf("%q is not the address of a server", c.url), Why: err.Error(),
			Fix: "write it like http://127.0.0.1:8080", Err: err}
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", "nanoos")
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, c.refused(resp)
	}
	return resp, nil
}

func (c *Client) decode(resp *http.Response, out any) error {
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return &job.Error{Code: job.Unavailable, Message: "the answer of the server at " + c.url + " was cut or is not JSON",
			Why: err.Error(), Fix: "nanoos doctor", Err: err}
	}
	return nil
}

// unreachable words a failure of the network. A context that ended is no such
// failure and stays itself.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	e := &job.Error{Code: job.Unavailable, Message: "no server answers at " + c.url, Why: err.Error(), Fix: "nanoos doctor", Err: err}
	if ue, ok := errors.AsType[*url.Error](err); ok {
		e.Why = ue.Err.Error()
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		e.Why, e.Fix = "connection refused", "start one with: nanoos up, or see: nanoos doctor"
	}
	return e
}

// maxProblem bounds the answer that is read as an error.
const maxProblem = 1 << 20

// refused turns an answer into the error that the server meant.
func (c *Client) refused(resp *http.Response) error {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	var p Problem
	if err == nil && kind == problemType && json.Unmarshal(raw, &p) == nil && p.Code != "" {
		e := &job.Error{Code: job.Code(p.Code), Message: p.Message, Why: p.Why, Fix: p.Fix, Problems: p.Problems}
		if p.RequestID != "" && p.Status >= 500 {
			e.Why = strings.TrimPrefix(e.Why+"; request "+p.RequestID, "; ")
		}
		return e
	}
	return &job.Error{Code: codeOfStatus(resp.StatusCode), Message: fmt.Sprintf("the server at %s answered %s", c.url, resp.Status),
		Why: "the answer is not of this kind of server", Fix: "check NANOOS_URL, or see: nanoos doctor"}
}
