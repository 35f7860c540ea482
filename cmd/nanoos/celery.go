package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/nano-os/nanoos/internal/bridge"
	"github.com/nano-os/nanoos/internal/celery"
	"github.com/nano-os/nanoos/internal/celery/wire"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/worker"
)

// celeryConfig is what a person may set about the front door for Celery programs.
// It is open when Redis is named.
type celeryConfig struct {
	Redis   string `json:"redis,omitempty"`
	Results string `json:"results,omitempty"` // another Redis for results
	// AllowOpen accepts a Redis on another machine that asks for no password.
	AllowOpen bool     `json:"allow_open,omitempty"`
	Node      string   `json:"node,omitempty"`
	Queues    []string `json:"queues,omitempty"`
	// Order is "priority", 20 first, or "redis", 0 first.
	Order string `json:"order,omitempty"`
	// Prefixes are what the names of NANO-OS's tasks may begin with.
	Prefixes      []string     `json:"prefixes,omitempty"`
	Tenant        string       `json:"tenant,omitempty"`
	ResultExpires job.Duration `json:"result_expires,omitempty"`
	// Tasks are templates of jobs by the names of tasks.
	Tasks map[string]any `json:"tasks,omitempty"`
	// Transport are the broker_transport_options of the programs.
	Transport transportOptions `json:"transport_options,omitempty"`
}

// transportOptions are those that Celery's transport for Redis has, and that must
// be the same on both sides. What else it has concerns the programs alone.
type transportOptions struct {
	Separator         string `json:"sep,omitempty"`
	Steps             []int  `json:"priority_steps,omitempty"`
	UnackedKey        string `json:"unacked_key,omitempty"`
	UnackedIndexKey   string `json:"unacked_index_key,omitempty"`
	UnackedMutexKey   string `json:"unacked_mutex_key,omitempty"`
	VisibilityTimeout int    `json:"visibility_timeout,omitempty"` // s
	FanoutPrefix      any    `json:"fanout_prefix,omitempty"`      // a text, or false
	FanoutPatterns    *bool  `json:"fanout_patterns,omitempty"`
	Prefix            string `json:"global_keyprefix,omitempty"`
	// Of the results: result_backend_transport_options.
	ResultPrefix string `json:"result_keyprefix,omitempty"`
}

// nanoOSQueues are the queues of both generations of NANO-OS, with the highest
// priority that each declares.
var nanoOSQueues = []wire.Queue{
	{Name: "default", Exchange: "tasks", RoutingKey: "task.default", MaxPriority: 10},
	{Name: "simulations", Exchange: "simulations", ExchangeType: "topic", RoutingKey: "simulation.#", MaxPriority: 20},
	{Name: "high_priority", Exchange: "tasks", RoutingKey: "task.high", MaxPriority: 20},
	{Name: "io", Exchange: "tasks", RoutingKey: "task.io", MaxPriority: 10},
	{Name: "dft", Exchange: "tasks", RoutingKey: "task.dft", MaxPriority: 20},
	{Name: "md", Exchange: "tasks", RoutingKey: "task.md", MaxPriority: 20},
	{Name: "ml", Exchange: "tasks", RoutingKey: "task.ml", MaxPriority: 20},
}

// readEnvironment takes what the environment says. A file or a JSON text in it
// that is wrong is an error.
func (c *celeryConfig) readEnvironment(env func(string) string) error {
	for _, v := range []struct {
		name  string
		field *string
	}{
		{"REDIS_URL", &c.Redis}, {"NANOOS_REDIS", &c.Redis}, {"NANOOS_CELERY_RESULTS", &c.Results},
		{"NANOOS_CELERY_NODE", &c.Node}, {"NANOOS_CELERY_ORDER", &c.Order},
	} {
		if value := env(v.name); value != "" {
			*v.field = value
		}
	}
	if queues := listOf(env("NANOOS_CELERY_QUEUES")); len(queues) > 0 {
		c.Queues = queues
	}
	var problems []job.Problem
	bad := func(name string, err error) {
		problems = append(problems, job.Problem{Field: name, Message: "cannot be read", Why: err.Error()})
	}
	if text := env("NANOOS_CELERY_RESULT_EXPIRES"); text != "" {
		d, err := job.ParseDuration(text)
		if err != nil {
			bad("NANOOS_CELERY_RESULT_EXPIRES", err)
		}
		c.ResultExpires = d
	}
	if text := env("NANOOS_CELERY_OPTIONS"); text != "" {
		if err := json.Unmarshal([]byte(text), &c.Transport); err != nil {
			bad("NANOOS_CELERY_OPTIONS", err)
		}
	}
	if path := env("NANOOS_CELERY_TASKS"); path != "" {
		if err := readYAML(path, &c.Tasks); err != nil {
			bad("NANOOS_CELERY_TASKS", err)
		}
	}
	return job.InvalidInput("the environment is wrong", problems)
}

// readYAML reads a file of settings.
func readYAML(path string, into any) error {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxConfig {
		err = errors.New("it is larger than 1 MiB")
	}
	var raw []byte
	if err == nil {
		raw, err = os.ReadFile(path)
	}
	if err != nil {
		return err
	}
	if err := yaml.UnmarshalWithOptions(raw, into, yaml.Strict()); err != nil {
		return errors.New(strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	return nil
}

// options are what the front door is opened with; all that is wrong is told at
// once.
func (c *celeryConfig) options() (celery.Options, error) {
	opt := celery.Options{
		Redis: wire.Options{
			URL: c.Redis, ResultURL: c.Results, AllowOpen: c.AllowOpen, Order: cmp.Or(c.Order, wire.OrderPriority),
			Separator: c.Transport.Separator, Steps: c.Transport.Steps, Prefix: c.Transport.Prefix, ResultPrefix: c.Transport.ResultPrefix,
			UnackedKey: c.Transport.UnackedKey, UnackedIndexKey: c.Transport.UnackedIndexKey, UnackedMutexKey: c.Transport.UnackedMutexKey,
			VisibilityTimeout: time.Duration(c.Transport.VisibilityTimeout) * time.Second, ResultExpires: time.Duration(c.ResultExpires),
		},
		Node: cmp.Or(c.Node, celery.DefaultNode()), Prefixes: c.Prefixes, Tenant: job.Tenant(cmp.Or(c.Tenant, string(job.DefaultTenant))),
		Queues: nanoOSQueues, Templates: make(map[string]celery.Template),
	}
	if len(opt.Prefixes) == 0 {
		opt.Prefixes = []string{"", "src.worker.tasks."}
	}
	var problems []job.Problem
	switch prefix := c.Transport.FanoutPrefix.(type) {
	case nil:
	case string:
		opt.Redis.FanoutPrefix = prefix
	case bool:
		opt.Redis.NoFanoutPrefix = !prefix
	default:
		problems = append(problems, job.Problem{Field: "celery.transport_options.fanout_prefix", Message: "it is neither a text nor true or false"})
	}
	opt.Redis.NoFanoutPatterns = c.Transport.FanoutPatterns != nil && !*c.Transport.FanoutPatterns
	if !slices.Contains([]string{wire.OrderPriority, wire.OrderRedis}, opt.Redis.Order) {
		problems = append(problems, job.Problem{Field: "celery.order", Message: fmt.Sprintf("there is no order %q", c.Order), Fix: "choose priority or redis"})
	}
	if len(c.Queues) > 0 {
		opt.Queues = nil
		for _, name := range c.Queues {
			opt.Queues = append(opt.Queues, queueNamed(name))
		}
	}
	for name, task := range c.Tasks {
		raw, err := json.Marshal(task)
		if err != nil {
			problems = append(problems, job.Problem{Field: "celery.tasks." + name, Message: "is no job", Why: err.Error()})
		}
		opt.Templates[name] = raw
	}
	return opt, job.InvalidInput("the settings of the Celery front door are wrong", problems)
}

// queueNamed is one of NANO-OS's queues, or a direct one as Celery makes it.
func queueNamed(name string) wire.Queue {
	if i := slices.IndexFunc(nanoOSQueues, func(q wire.Queue) bool { return q.Name == name }); i >= 0 {
		return nanoOSQueues[i]
	}
	return wire.Queue{Name: name, Exchange: name, RoutingKey: name}
}

// openCelery opens the front door, and the bridge where the platform's tables are
// or may come to be. here is nil where no job runs in this process.
func (s *serving) openCelery(ctx context.Context, here *worker.Worker) error {
	parts := celery.Parts{Store: s.store, Queue: s.queue, ReadJob: s.server.ReadJob, Log: s.log,
		Name: string(job.NewID()), Pool: s.poolOfWorkers,
		Shutdown: func() {
			if cancel := s.shutdown.Load(); cancel != nil {
				(*cancel)()
			}
		}}
	if here != nil {
		// The database admits one process: after a crash it is itself again.
		parts.Name, parts.Resize, parts.Pool = "up", here.Resize, func() int { return here.Offer().CPUs }
	}
	if s.cfg.Platform != "" {
		b, err := bridge.Open(ctx, s.cfg.Platform, bridge.Options{Store: s.store, Queue: s.queue, Log: s.log, Name: parts.Name})
		switch {
		case errors.Is(err, bridge.ErrNoPlatform):
		case err != nil:
			return fmt.Errorf("open the platform's database: %w", err)
		default:
			s.bridge, parts.Platform = b, b
		}
	}
	if s.cfg.Celery.Redis == "" {
		return nil
	}
	opt, err := s.cfg.Celery.options()
	if err != nil {
		return err
	}
	s.celery, err = celery.New(opt, parts)
	return err
}

// poolOfWorkers is how many CPUs the workers have together. It is for people:
// without the database it is 0.
func (s *serving) poolOfWorkers() (cpus int) {
	ctx, cancel := context.WithTimeout(context.Background(), poolTimeout)
	defer cancel()
	err := s.store.Read(ctx, func(tx store.ReadTx) error {
		cpus = 0
		workers, err := tx.Workers(ctx)
		for _, w := range workers {
			if w.EndedAt.IsZero() {
				cpus += w.Offer.CPUs
			}
		}
		return err
	})
	if err != nil {
		s.log.Debug("the workers cannot be counted", "error", err)
	}
	return cpus
}

// poolTimeout bounds the count of the workers' CPUs: remote control waits for it.
const poolTimeout = 2 * time.Second

// doors are the parts of a server beside HTTP.
func (s *serving) doors() (parts []part) {
	if s.celery != nil {
		parts = append(parts, part{"celery", s.celery.Run})
	}
	if s.bridge != nil {
		parts = append(parts, part{"bridge", s.bridge.Run})
	}
	return parts
}

// doorsHealth says how the front doors are, by name.
func (s *serving) doorsHealth() map[string]error {
	health := make(map[string]error)
	if s.celery != nil {
		health["celery"] = s.celery.Health()
	}
	if s.bridge != nil && (s.bridge.Found() || s.bridge.Health() != nil) {
		health["platform"] = s.bridge.Health()
	}
	return health
}

// printNotes tells people what they need to reach a server.
func (s *serving) printNotes(w io.Writer) {
	if note := s.tokenNote(); note != "" {
		fmt.Fprintf(w, "  %s\n", note)
	}
	if s.celery != nil {
		fmt.Fprintf(w, "  Celery programs on %s\n", redacted(s.cfg.Celery.Redis, "Redis"))
	}
	if s.bridge != nil && s.bridge.Found() {
		fmt.Fprintf(w, "  jobs of the platform in %s\n", redacted(s.cfg.Platform, "PostgreSQL"))
	}
}

// redacted is a URL without its password. What is no URL may hold one anywhere
// (G19).
func redacted(text, otherwise string) string {
	u, err := url.Parse(text)
	if err != nil {
		return otherwise
	}
	return u.Redacted()
}
