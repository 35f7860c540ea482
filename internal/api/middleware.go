package api

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/auth"
	"github.com/nano-os/nanoos/internal/job"
)

// requestInfo is what the layers of one request share.
type requestInfo struct {
	id   string
	who  identity
	fail error // what a 5xx answer is about, for the log
}

// identity is who makes a request.
type identity struct {
	name   string // for the record of who asked; empty on a machine of one person
	tenant job.Tenant
	role   auth.Role
	token  auth.Token // zero: it came without one of the store's
}

type requestKey struct{}

func infoOf(ctx context.Context) *requestInfo {
	info, ok := ctx.Value(requestKey{}).(*requestInfo)
	if !ok {
		return &requestInfo{}
	}
	return info
}

// requestID is the id under which the log has this request.
func requestID(ctx context.Context) string { return infoOf(ctx).id }

// principal is who makes the request, and whose jobs it can see.
func principal(ctx context.Context) identity { return infoOf(ctx).who }

// middleware wraps the routes in everything that holds for all of them, the
// outermost first.
func (s *Server) middleware(routes *http.ServeMux) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.deny(w, r, &job.Error{Code: job.Forbidden, Message: "a page of another site may not change anything here",
			Why: "the browser says that the request comes from " + shorten(r.Header.Get("Origin"))})
	}))
	h := http.Handler(s.routed(routes))
	h = s.onlyJSON(h)
	h = s.authenticate(routes, h)
	h = crossOrigin.Handler(h)
	h = s.onlyThisMachine(h)
	h = securityHeaders(h)
	return s.observed(h)
}

// answerTimeout bounds how long an ordinary answer may take to be read.
const answerTimeout = 60 * time.Second

// observed gives a request its id, logs and counts it, and answers for a panic.
func (s *Server) observed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		info := &requestInfo{id: rand.Text()[:12]}
		r = r.WithContext(context.WithValue(r.Context(), requestKey{}, info))
		answer := &recorder{ResponseWriter: w}
		answer.Header().Set("X-Request-Id", info.id)
		setDeadline(http.NewResponseController(w).SetWriteDeadline, answerTimeout)
		defer func() {
			p := recover()
			// A client that left in the middle of its answer is no fault.
			gone := answer.status != 0 && r.Context().Err() != nil
			if p != nil && p != http.ErrAbortHandler && !gone {
				info.fail = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
				if answer.status == 0 {
					s.deny(answer, r, info.fail)
					p = nil
				}
			}
			s.record(r, info, answer, time.Since(began))
			if p != nil {
				// The answer is cut, and the client must see that it is.
				panic(http.ErrAbortHandler)
			}
		}()
		next.ServeHTTP(answer, r)
	})
}

// record writes one line for every request at debug level, and one for every
// fault of ours at error level.
func (s *Server) record(r *http.Request, info *requestInfo, answer *recorder, took time.Duration) {
	status := answer.status
	if status == 0 {
		status = http.StatusOK
	}
	s.metrics.observe(r, status, took)
	log := s.Logger.With("request", info.id, "method", r.Method, "path", shorten(r.URL.Path), "status", status)
	if info.fail != nil {
		log.Error("request failed", "error", info.fail)
	}
	log.Log(r.Context(), slog.LevelDebug, "request", "took", took, "bytes", answer.bytes, "from", r.RemoteAddr)
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (a *recorder) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *recorder) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	n, err := a.ResponseWriter.Write(b)
	a.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (a *recorder) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// setDeadline sets a deadline from now where the connection has one; a test
// recorder has not. Zero removes it.
func setDeadline(set func(time.Time) error, d time.Duration) {
	at := time.Time{}
	if d > 0 {
		at = time.Now().Add(d)
	}
	_ = set(at) // without deadlines the request still works
}

// securityHeaders keep pages out of frames, caches and the hands of scripts
// (T23, T24). Handlers that serve public files relax caching themselves.
func securityHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// onlyThisMachine guards a server without a token: requests must come from this
// machine and be meant for it. The second is what a page of another site that
// makes its own name point here cannot fake (DNS rebinding).
func (s *Server) onlyThisMachine(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.open() && !(fromLoopback(r.RemoteAddr) && loopbackName(r.Host)) {
			s.deny(w, r, &job.Error{Code: job.Forbidden, Message: "this server talks to its own machine only",
				Why: fmt.Sprintf("the request is for %q and comes from %s, and the server has no token", shorten(r.Host), r.RemoteAddr),
				Fix: "use http://127.0.0.1, or start the server with a token"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func fromLoopback(remote string) bool {
	ap, err := netip.ParseAddrPort(remote)
	// A Unix socket has no address and port.
	return err != nil && !strings.Contains(remote, ":") || err == nil && ap.Addr().Unmap().IsLoopback()
}

func loopbackName(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// bodyTimeout bounds how long a document may take to arrive.
const bodyTimeout = 60 * time.Second

// onlyJSON refuses bodies of other types than the one that is expected, so that
// no form of another site can pose as one (T22), and compressed ones (T27).
func (s *Server) onlyJSON(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 && r.Method != http.MethodGet && r.Method != http.MethodHead {
			kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
			coding, want := r.Header.Get("Content-Encoding"), bodyKind(r)
			switch {
			case coding != "" && coding != "identity":
				s.unsupported(w, r, "compressed bodies are not taken", "send it plain")
				return
			case want != "" && (err != nil || kind != want):
				s.unsupported(w, r, fmt.Sprintf("the body must be of type %s, not %q", want, shorten(kind)), "send the header: Content-Type: "+want)
				return
			}
			setDeadline(http.NewResponseController(w).SetReadDeadline, bodyTimeout)
		}
		next.ServeHTTP(w, r)
	})
}

// bodyKind is the type that a body must have; "" means any. None of them can be
// sent by a form.
func bodyKind(r *http.Request) string {
	switch {
	case r.Method == http.MethodPut:
		return ""
	case strings.HasPrefix(r.URL.Path, workerPath+"output/"):
		return "application/octet-stream"
	}
	return "application/json"
}

func (s *Server) unsupported(w http.ResponseWriter, r *http.Request, message, fix string) {
	p := problemOf(r.Context(), &job.Error{Code: job.Invalid, Message: message, Fix: fix})
	p.Status, p.Title = http.StatusUnsupportedMediaType, http.StatusText(http.StatusUnsupportedMediaType)
	writeProblem(w, p)
}

// routed answers what no route matches with a problem instead of plain text.
func (s *Server) routed(routes *http.ServeMux) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h, pattern := routes.Handler(r)
		if pattern != "" {
			routes.ServeHTTP(w, r)
			return
		}
		none := &recorder{ResponseWriter: nowhere{http.Header{}}}
		h.ServeHTTP(none, r)
		p := problemOf(r.Context(), job.Errorf(job.NotFound, "there is nothing at %s", shorten(r.URL.Path)))
		p.Fix = "see /api/docs"
		if allow := none.Header().Get("Allow"); none.status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", allow)
			p = problemOf(r.Context(), job.Errorf(job.Invalid, "%s cannot be done to %s", shorten(r.Method), shorten(r.URL.Path)))
			p.Status, p.Title, p.Fix = none.status, http.StatusText(none.status), "use one of: "+allow
		}
		writeProblem(w, p)
	}
}

// nowhere is an answer that nobody reads.
type nowhere struct{ header http.Header }

func (n nowhere) Header() http.Header         { return n.header }
func (n nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (n nowhere) WriteHeader(int)             {}

// Caps on streams that are open at one time (F46): each holds a connection and
// reads the store on every commit.
const (
	maxStreams        = 512
	maxStreamsPerHost = 64
)

// Caps on long polls of workers, of which each has two. Many workers may share
// one address and one token.
const (
	maxPolls       = 10_000
	maxPollsPerKey = 4_000
)

// streamCap counts open streams.
type streamCap struct {
	most, mostPerKey int

	mu    sync.Mutex
	open  map[string]int // guarded by mu; by key, such as the remote host
	total int            // guarded by mu
}

func newStreamCap(most, mostPerKey int) *streamCap {
	return &streamCap{most: most, mostPerKey: mostPerKey, open: map[string]int{}}
}

// enter admits a stream from a remote address; leave must follow.
func (c *streamCap) enter(remote string) (leave func(), err error) { return c.take(hostOf(remote)) }

// take admits a stream that counts under several keys; leave must follow.
func (c *streamCap) take(keys ...string) (leave func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range keys {
		if c.total >= c.most || c.open[key] >= c.mostPerKey {
			return nil, &job.Error{Code: job.Exhausted, Message: "too many streams are open",
				Why: fmt.Sprintf("%d in all, %d from %s", c.total, c.open[key], key), Fix: "close some, or poll instead"}
		}
	}
	c.total++
	for _, key := range keys {
		c.open[key]++
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.total--
		for _, key := range keys {
			if c.open[key]--; c.open[key] == 0 {
				delete(c.open, key)
			}
		}
	}, nil
}

// hostOf is the host of a remote address.
func hostOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return host
}
