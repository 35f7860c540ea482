package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/artifact"
	"github.com/nano-os/nanoos/internal/bridge"
	"github.com/nano-os/nanoos/internal/celery"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/executor"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/postgres"
	"github.com/nano-os/nanoos/internal/store/sqlite"
	"github.com/nano-os/nanoos/internal/worker"
)

// serving is what "up" and "server" have in common: a database, a queue on it,
// and a server in front.
type serving struct {
	cfg       config
	log       *slog.Logger
	engines   []engine.Engine
	store     database
	artifacts *artifact.Dir
	queue     *queue.Service
	server    *api.Server
	celery    *celery.Server // nil without Redis
	bridge    *bridge.Bridge // nil without a platform
	listener  net.Listener
	token     string // the administrator's; empty when none is needed
	newToken  bool   // made by this start
	// shutdown ends run; set by it.
	shutdown atomic.Pointer[context.CancelFunc]
}

// database is what a server needs of either store.
type database interface {
	store.Store
	Stats() store.Stats
}

// runsHere is what a server knows of the machine when jobs run in its own
// process.
type runsHere struct {
	name       string // of the leader
	inputs     func(engine string) engine.Inputs
	engineInfo func(context.Context) []api.EngineInfo
	live       api.Live
}

// openStore opens the database and the artifacts.
func (s *serving) openStore(ctx context.Context) (err error) {
	if err := makeDataDir(s.cfg.Data); err != nil {
		return err
	}
	if s.store, err = openDatabase(ctx, s.cfg); err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	s.artifacts, err = artifact.OpenDir(s.cfg.artifacts())
	return err
}

func makeDataDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return &job.Error{Code: job.Invalid, Message: "cannot make the data directory", Why: err.Error(), Fix: "choose another with --data"}
	}
	return nil
}

// openDatabase opens PostgreSQL when one is named, else the file of this node.
func openDatabase(ctx context.Context, cfg config) (database, error) {
	// A nil store of either kind is no nil database, and close would use it.
	if cfg.Database == "" {
		st, err := sqlite.Open(cfg.sqliteFile(), sqlite.Options{})
		if err != nil {
			return nil, err
		}
		return st, nil
	}
	st, err := postgres.Open(ctx, cfg.Database, postgres.Options{})
	if err != nil {
		return nil, err
	}
	return st, nil
}

func (s *serving) openQueue(ctx context.Context, here runsHere) error {
	s.queue = queue.New(s.store, queue.Options{
		Name:    here.name,
		Check:   api.NewCheck(s.engines, here.inputs, s.artifacts),
		Session: time.Duration(s.cfg.Session), LostAfter: time.Duration(s.cfg.LostAfter), Sweep: time.Duration(s.cfg.Sweep),
	})
	return s.queue.Prepare(ctx)
}

func (s *serving) openServer(ctx context.Context, here runsHere) (err error) {
	if s.listener, err = listen(ctx, s.cfg); err != nil {
		return err
	}
	opt := api.Options{Version: version, StartedAt: time.Now().UTC(), Listen: s.listener.Addr().String()}
	if s.cfg.RequireToken || !loopback(s.listener) {
		if s.token, s.newToken, err = loadToken(s.cfg.tokenPath()); err != nil {
			return err
		}
		opt.Token = new(sha256.Sum256([]byte(s.token)))
	}
	s.server = api.New(api.Deps{
		Store: s.store, Queue: s.queue, Artifacts: s.artifacts, Engines: s.engines,
		Inputs: here.inputs, Live: here.live, LiveDir: filepath.Join(s.cfg.artifacts(), ".live"), Logger: s.log,
		Metrics:    append(collectors(s.store), doorMetrics{s.doorsHealth}),
		Ready:      func() error { return s.store.Stats().Halted },
		Doors:      s.doorsHealth,
		EngineInfo: here.engineInfo,
	}, opt)
	return nil
}

// listen opens the server's address, with TLS if there is a certificate.
func listen(ctx context.Context, cfg config) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return nil, &job.Error{Code: job.Unavailable, Message: "cannot listen on " + cfg.Listen, Why: err.Error(),
			Fix: "choose another address with --listen, for example 127.0.0.1:0 for any free port"}
	}
	if cfg.TLSCert == "" && cfg.TLSKey == "" {
		if loopback(l) || cfg.InsecureHTTP {
			return l, nil
		}
		return nil, errors.Join(&job.Error{Code: job.Invalid, Message: "refusing to serve other machines without TLS",
			Why: "tokens and results would cross the network in clear",
			Fix: "give --tls-cert and --tls-key, or --insecure-http behind a proxy that does TLS or on a network of your own"}, l.Close())
	}
	pair, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
	if err != nil {
		return nil, errors.Join(&job.Error{Code: job.Invalid, Message: "cannot use the certificate and its key", Why: err.Error(),
			Fix: "give both as PEM files with --tls-cert and --tls-key"}, l.Close())
	}
	return tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}), nil
}

// loopback reports whether only this machine can reach a listener.
func loopback(l net.Listener) bool { return l.Addr().(*net.TCPAddr).IP.IsLoopback() }

// url is where clients of this machine reach the server.
func (s *serving) url() string {
	addr := *s.listener.Addr().(*net.TCPAddr)
	if addr.IP.IsUnspecified() {
		addr.IP = net.IPv4(127, 0, 0, 1)
	}
	scheme := "http://"
	if s.cfg.TLSCert != "" {
		scheme = "https://"
	}
	return scheme + addr.String()
}

// run runs the parts of a server beside those of its caller, until ctx ends or
// somebody shuts it down.
func (s *serving) run(ctx context.Context, more ...part) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.shutdown.Store(&cancel)
	parts := append([]part{{"queue", s.queue.Maintain}, {"server", s.serve}}, more...)
	return runParts(ctx, append(parts, s.doors()...)...)
}

// close releases what was opened; programs that run go on.
func (s *serving) close() {
	if s.bridge != nil {
		s.bridge.Close()
	}
	if s.listener != nil {
		// The server may have closed it already.
		_ = s.listener.Close()
	}
	if s.artifacts != nil {
		if err := s.artifacts.Close(); err != nil {
			s.log.Error("cannot close the artifacts", "error", err)
		}
	}
	if s.store != nil {
		if err := s.store.Close(); err != nil {
			s.log.Error("cannot close the database", "error", err)
		}
	}
}

// computing is what "up" and "worker" have in common: a machine that runs jobs.
type computing struct {
	cfg      config
	log      *slog.Logger
	engines  []engine.Engine
	machine  *worker.Machine
	executor *executor.Local
	session  job.Session
}

func openComputing(cfg config, log *slog.Logger) (*computing, error) {
	c := &computing{cfg: cfg, log: log, engines: engines()}
	if err := makeDataDir(cfg.Data); err != nil {
		return nil, err
	}
	var err error
	if c.executor, err = executor.NewLocal(executor.LocalOptions{StateDir: cfg.Data}); err != nil {
		return nil, fmt.Errorf("prepare local runs: %w", err)
	}
	if c.machine, err = worker.FindMachine(c.engines, cfg.Settings, cfg.Data); err != nil {
		return nil, err
	}
	host, err := executor.HostID(cfg.Data)
	if err != nil {
		return nil, fmt.Errorf("read this host's id: %w", err)
	}
	boot, err := executor.BootID()
	if err != nil {
		return nil, fmt.Errorf("read the id of this boot: %w", err)
	}
	offer, err := c.offer()
	if err != nil {
		return nil, err
	}
	c.session = job.Session{
		// The name is the same after a restart, so the worker finds its jobs again.
		Worker: orDefault(cfg.Name, c.machine.HostName+"-"+host[:6]),
		Host:   host, Boot: boot, Version: version, Offer: offer,
	}
	return c, nil
}

// worker is the part that runs jobs of a queue.
func (c *computing) worker(q worker.Queue, art artifact.Store, out worker.Outputs) *worker.Worker {
	return worker.New(worker.Options{
		Session: c.session, Queue: q, Executor: c.executor, Artifacts: art, Outputs: out,
		Machine: c.machine, Engines: c.engines, Log: c.log, BeatEvery: time.Duration(c.cfg.Beat),
	})
}

// offer is what jobs may use here.
func (c *computing) offer() (job.Offer, error) {
	o := job.Offer{CPUs: c.cfg.CPUs, GPUs: c.cfg.GPUs, Tags: c.cfg.Tags, Queues: c.cfg.Queues, Engines: c.machine.Available(c.engines)}
	if o.CPUs == 0 {
		o.CPUs = runtime.NumCPU()
	}
	if c.cfg.Memory == "" {
		total, err := totalMemory()
		if err != nil {
			return o, fmt.Errorf("find out how much memory there is: %w", err)
		}
		// The rest is for us, the supervisors and the page cache.
		o.Memory = total / 10 * 9
		return o, nil
	}
	b, err := api.ParseBytes(c.cfg.Memory)
	if err != nil {
		return o, &job.Error{Code: job.Invalid, Message: "bad memory size", Why: err.Error(), Fix: "write for example 16GiB"}
	}
	o.Memory = int64(b)
	return o, nil
}

// part is one service of a process.
type part struct {
	name string
	run  func(context.Context) error
}

// runParts runs all until ctx ends or one fails; then all stop.
func runParts(ctx context.Context, parts ...part) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, p := range parts {
		wg.Go(func() {
			if err := p.run(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s: %w", p.name, err))
			}
		})
	}
	<-ctx.Done()
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// logger writes what a process has to say, one line each.
func (a *app) logger() *slog.Logger {
	level := slog.LevelInfo
	if a.opt.debug {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(a.io.err, &slog.HandlerOptions{Level: level}))
}

// serve is how a server runs, as one of the parts.
func (s *serving) serve(ctx context.Context) error { return s.server.Run(ctx, s.listener) }

// tokenNote tells people how clients prove who they are.
func (s *serving) tokenNote() string {
	switch {
	case s.newToken:
		return "clients need this token, which is shown only now: NANOOS_TOKEN=" + s.token
	case s.token != "":
		return "clients need the token in " + s.cfg.tokenPath()
	}
	return ""
}

// listOf is a list of words from one text, "a, b,c".
func listOf(text string) []string {
	var words []string
	for w := range strings.SplitSeq(text, ",") {
		if w = strings.TrimSpace(w); w != "" {
			words = append(words, w)
		}
	}
	return words
}
