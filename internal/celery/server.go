// Package celery is the front door for Celery programs: it takes their messages
// from Redis, turns them into jobs, and gives them results, events and remote
// control as a Celery worker would. A message is acknowledged when what it asks
// for is a ticket in the database; from then on the database is the queue.
//
// Package wire below it knows how messages look; this one knows what they mean.
package celery

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/celery/wire"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
	"github.com/nano-os/nanoos/internal/store"
)

// Options say what is served and under which names.
type Options struct {
	Redis wire.Options
	// Node is the name of this server among Celery's, such as nanoos@host.
	Node string
	// Queues are consumed from the start.
	Queues []wire.Queue
	// Prefixes are what the names of the built-in tasks may begin with, "" among
	// them.
	Prefixes []string
	// Templates are further tasks by name, each a job in which {args.0},
	// {kwargs.name} and {task_id} stand for what the message brings.
	Templates map[string]Template
	// Tenant owns the jobs: never what a message says (T31).
	Tenant job.Tenant
}

// Parts are what the front door works with.
type Parts struct {
	Store store.Store
	Queue *queue.Service
	// ReadJob reads a job in its JSON form, as the HTTP API does.
	ReadJob func(ctx context.Context, raw []byte) (job.Spec, error)
	// Platform is the NANO-OS platform whose jobs are named; nil for none.
	Platform Platform
	// Name is that of the process for the lease of the results: the same after a
	// restart where only one process can have the database.
	Name string
	// Pool is how many CPUs jobs may use.
	Pool func() int
	// Resize changes how many CPUs the jobs of this process may use; nil where
	// no job runs in it.
	Resize func(n int) error
	// Shutdown ends the process in good order.
	Shutdown func()
	Log      *slog.Logger
}

// Platform is what the tasks need of a NANO-OS platform's own tables.
type Platform interface {
	// Import returns the platform's job as a spec; an unknown one is job.NotFound.
	Import(ctx context.Context, id job.ID) (job.Spec, error)
	// Queued tells the platform that a task was accepted for its job.
	Queued(ctx context.Context, id job.ID, task string) error
	// Update changes the platform's row as update_job_status asks.
	Update(ctx context.Context, id job.ID, fields map[string]json.RawMessage) error
	// Cancel ends a job that only the platform knows, and reports whether it had
	// ended before, and how.
	Cancel(ctx context.Context, id job.ID) (was string, cancelled bool, err error)
}

// Server is the front door of one process. Any number of them share a database
// and a Redis.
type Server struct {
	opt    Options
	parts  Parts
	redis  *wire.Client
	events *wire.Emitter
	limits *limits
	table  table

	mu     sync.Mutex
	queues []wire.Queue     // guarded by mu: those consumed now
	totals map[string]int64 // guarded by mu: tasks accepted, by the name shown
	held   map[string]bool  // guarded by mu: delivery tags that are renewed
	faults map[string]error // guarded by mu: what does not work, and why

	starter  *starter
	answered chan struct{} // capacity 1: a ticket was opened that may be answered
}

// New returns the front door; Run opens it.
func New(opt Options, parts Parts) (*Server, error) {
	redis, err := wire.Open(opt.Redis)
	if err != nil {
		return nil, err
	}
	s := &Server{
		opt: opt, parts: parts, redis: redis,
		events: redis.Emitter(opt.Node), limits: newLimits(),
		queues: slices.Clone(opt.Queues), totals: make(map[string]int64), held: make(map[string]bool), faults: make(map[string]error),
		starter: newStarter(), answered: make(chan struct{}, 1),
	}
	s.table = s.newTable()
	return s, nil
}

// Health is why the front door does not work at the moment; nil when it does.
func (s *Server) Health() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(s.faults)) {
		return fmt.Errorf("%s: %w", what, s.faults[what])
	}
	return nil
}

// Times of the loops.
const (
	// renewEvery is how often the messages that are held are renewed: nobody's
	// visibility timeout, whatever it is, is to end meanwhile.
	renewEvery = 500 * time.Millisecond
	// sweepEvery is how often messages of dead consumers are looked for.
	sweepEvery = 10 * time.Second
	// firstPause and lastPause bound the wait before Redis or the database is
	// tried again.
	firstPause, lastPause = 100 * time.Millisecond, 5 * time.Second
)

// Run serves until ctx ends. Redis being away ends nothing: it is tried again.
func (s *Server) Run(ctx context.Context) error {
	defer s.redis.Close()
	var wg sync.WaitGroup
	for _, loop := range []func(context.Context){s.consume, s.startLoop, s.renew, s.sweep, s.follow, s.remote} {
		wg.Go(func() { loop(ctx) })
	}
	wg.Go(func() { s.events.Run(ctx) })
	wg.Wait()
	return nil
}

// remote serves the broadcasts.
func (s *Server) remote(ctx context.Context) {
	r := newRemote(s, s.opt.Node, s.events, s.limits)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { r.count(ctx) })
	s.persist(ctx, "remote control", func(ctx context.Context) error {
		return s.redis.Listen(ctx, s.opt.Node, r.handle)
	})
}

// persist calls fn until ctx ends, with growing pauses after errors.
func (s *Server) persist(ctx context.Context, what string, fn func(context.Context) error) {
	pause := firstPause
	for ctx.Err() == nil {
		began := time.Now()
		err := fn(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > lastPause {
			pause = firstPause
		}
		s.failed(ctx, what, err)
		sleep(ctx, pause)
		pause = min(2*pause, lastPause)
	}
}

// failed remembers why something does not work, and says it once.
func (s *Server) failed(ctx context.Context, what string, err error) {
	s.mu.Lock()
	before := s.faults[what]
	s.faults[what] = err
	s.mu.Unlock()
	if before == nil || before.Error() != err.Error() {
		s.parts.Log.WarnContext(ctx, "the Celery front door does not work: "+what, "error", err)
	}
}

// works forgets it.
func (s *Server) works(ctx context.Context, what string) {
	s.mu.Lock()
	before := s.faults[what]
	delete(s.faults, what)
	s.mu.Unlock()
	if before != nil {
		s.parts.Log.InfoContext(ctx, "the Celery front door works again: "+what+" no more")
	}
}

// What may not work.
const (
	notTaken   = "messages are not taken"
	notRenewed = "messages are not renewed"
	notTold    = "results are not told"
	notStarted = "tasks wait"
)

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// renew keeps the messages that are held from being given to others.
func (s *Server) renew(ctx context.Context) {
	for {
		sleep(ctx, renewEvery)
		if ctx.Err() != nil {
			return
		}
		s.mu.Lock()
		tags := make([]string, 0, len(s.held))
		for tag := range s.held {
			tags = append(tags, tag)
		}
		s.mu.Unlock()
		if len(tags) == 0 {
			s.works(ctx, notRenewed)
			continue
		}
		switch err := s.redis.Renew(ctx, tags); {
		case err == nil:
			s.works(ctx, notRenewed)
		case ctx.Err() == nil:
			s.failed(ctx, notRenewed, err)
		}
	}
}

// sweep gives back what consumers left behind that died, Python's among them.
func (s *Server) sweep(ctx context.Context) {
	for ctx.Err() == nil {
		if n, err := s.redis.Sweep(ctx); err == nil && n > 0 {
			s.parts.Log.InfoContext(ctx, "gave back messages of consumers that are gone", "messages", n)
		}
		sleep(ctx, sweepEvery)
	}
}

// consuming returns the queues that are consumed now.
func (s *Server) consuming() []wire.Queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.queues)
}

// DefaultNode names a node after its host.
func DefaultNode() string {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	return "nanoos@" + cmp.Or(host, "localhost")
}

// errClosing tells that the process is leaving.
var errClosing = errors.New("the server is shutting down")
