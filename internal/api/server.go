// Package api serves HTTP: jobs, queues, workers, engines and tokens below
// /api/v1, events and logs as streams, health, metrics, and a few plain pages;
// and, below /worker/v1, the queue and the files to workers on other machines.
// It is also the Go client of both. Reads go to the store, changes of jobs,
// queues and workers through the queue; it decides nothing itself.
//
// Errors are problem documents (RFC 9457) with the parts of a job.Error, so the
// command line, pages and programs word an error alike. Documents that come in
// are read strictly. Without a token the server talks to this machine only.
package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/nano-os/nanoos/internal/artifact"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
	"github.com/nano-os/nanoos/internal/store"
)

// Deps are the parts that a server speaks for. Store, Queue, Artifacts and
// Engines are required.
type Deps struct {
	Store     store.Store
	Queue     *queue.Service
	Artifacts artifact.Store
	Engines   []engine.Engine
	// Inputs is what this machine has for an engine; nil: jobs run elsewhere.
	Inputs func(engine string) engine.Inputs
	// EngineInfo says which engines this machine has; nil: none is known to be.
	EngineInfo func(ctx context.Context) []EngineInfo
	// Live has the growing logs of attempts that run here; nil: none do.
	Live Live
	// LiveDir keeps the growing output of attempts that run on other machines. All
	// servers of an installation share it; empty: it is not kept.
	LiveDir string
	// Metrics are served beside the server's own: those of the store, of the worker.
	Metrics []prometheus.Collector
	// Ready says what else keeps the server from doing its work, such as a store
	// that no longer writes; nil: nothing.
	Ready func() error
	// Doors says by name what keeps the other front doors of the process from
	// their work: the server is ready all the same. nil: there are none.
	Doors  func() map[string]error
	Logger *slog.Logger // nil: says nothing
}

// Live finds the growing output of a running attempt.
type Live interface {
	Log(id job.ID, attempt int, stream string) (path string, ok bool)
}

// Options of a Server.
type Options struct {
	// Token is the SHA-256 of a token that may do everything; nil: there is none.
	Token *[sha256.Size]byte
	// RequireToken asks every request for a token: that one, or one of the store.
	// A server with neither asks for none and talks to this machine only.
	RequireToken bool

	Version   string
	StartedAt time.Time
	Listen    string // address to show to people, such as "127.0.0.1:8080"
}

// Server answers requests. Any number of them may share one store.
type Server struct {
	Deps
	opt     Options
	checker checker
	api     huma.API
	mux     *http.ServeMux
	handler http.Handler
	// patterns are the routes, each of which needs a line in access.
	patterns []string
	keys     keys
	failures failures
	metrics  *metrics
	streams  *streamCap
	// What serves workers on other machines.
	pollCap     *streamCap
	transferCap *streamCap
	polls       polls
	prover      prover
	live        liveDir
	printing    printers
	// patience is how long a reader may take for one part of a stream.
	patience time.Duration
	// closing ends the streams when the server stops.
	closing context.Context
	close   context.CancelCauseFunc
}

// New builds a server; Run or Handler puts it to work.
func New(deps Deps, opt Options) *Server {
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		Deps: deps, opt: opt, mux: http.NewServeMux(), streams: newStreamCap(maxStreams, maxStreamsPerHost), patience: streamPatience,
		pollCap: newStreamCap(maxPolls, maxPollsPerKey), transferCap: newStreamCap(maxUploads, maxUploadsPerKey), live: liveDir(deps.LiveDir),
		checker: checker{engines: deps.Engines, inputs: deps.Inputs, artifacts: deps.Artifacts},
	}
	s.prover.st, s.keys.st = deps.Store, deps.Store
	s.closing, s.close = context.WithCancelCause(context.Background())
	s.metrics = newMetrics(deps.Store, deps.Metrics)
	s.api = humago.New(s.mux, s.config())
	s.jobRoutes()
	s.resultRoutes()
	s.eventRoutes()
	s.logRoutes()
	s.fileRoutes()
	s.queueRoutes()
	s.workerRoutes()
	s.engineRoutes()
	s.tokenRoutes()
	s.workerProtocolRoutes()
	s.workerFileRoutes()
	s.workerOutputRoutes()
	s.healthRoutes()
	s.pageRoutes()
	s.finishDocument()
	s.handler = s.middleware(s.mux)
	return s
}

// Handler answers requests without a listener of its own.
func (s *Server) Handler() http.Handler { return s.handler }

// Bounds of connections (T27). Bodies and answers have deadlines of their own,
// set per request, because streams and uploads take as long as they take.
const (
	headerTimeout  = 5 * time.Second
	idleTimeout    = 60 * time.Second
	maxHeaderBytes = 64 << 10
	// shutdownGrace is how long requests may take to end when the server stops.
	shutdownGrace = 5 * time.Second
)

// Run serves connections of l until ctx ends, then ends the streams, lets the
// other requests finish and returns.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	if s.open() && !isLoopback(l.Addr()) {
		return &job.Error{Code: job.Forbidden, Message: fmt.Sprintf("refusing to listen on %s without a token", l.Addr()),
			Why: "anybody who reaches this address could run programs here", Fix: "listen on 127.0.0.1, or set a token"}
	}
	server := &http.Server{
		Handler: s.handler, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: slog.NewLogLogger(s.Logger.Handler(), slog.LevelDebug),
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	beside, stopBeside := context.WithCancel(ctx)
	defer stopBeside()
	stopped := make(chan struct{})
	defer close(stopped)
	wg.Go(func() {
		select {
		case <-stopped:
			return
		case <-ctx.Done():
		}
		s.close(errStopping)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
		defer cancel()
		if err := server.Shutdown(grace); err != nil {
			s.Logger.Warn("ending connections that did not end by themselves", "error", err)
			server.Close()
		}
	})
	if s.live != "" {
		wg.Go(func() { s.sweepLive(beside) })
	}
	wg.Go(func() { s.keys.guard(beside) })
	err := server.Serve(l)
	if ctx.Err() != nil && errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve %s: %w", l.Addr(), err)
}

// isLoopback reports whether only this machine can reach an address.
func isLoopback(a net.Addr) bool {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return false
}

// read runs fn on one snapshot for the tenant of the request.
func (s *Server) read(ctx context.Context, fn func(tx store.ReadTx, t job.Tenant) error) error {
	return s.Store.Read(ctx, func(tx store.ReadTx) error { return fn(tx, principal(ctx).tenant) })
}
