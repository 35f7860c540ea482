package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/spf13/cobra"
)

func newUpCommand(a *app) *cobra.Command {
	var cfg config
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run everything in this process: database, queue, worker, server.",
		Long: `Run everything in this process: database, queue, worker, server.

Stopping it, even with kill -9, does not stop the simulations: they go on under
supervisors of their own, and the next "nanoos up" takes them over.`,
		Example: `nanoos up
nanoos up --data /scratch/nanoos --cpus 8 --memory 32GiB
nanoos up --listen 127.0.0.1:0`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			full, err := loadConfig(a.getenv)
			if err != nil {
				return err
			}
			full.override(cmd, cfg)
			return a.up(cmd.Context(), full)
		},
	}
	cfg.addFlags(cmd)
	return cmd
}

// addFlags declares the flags of a node.
func (c *config) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.Data, "data", "", "directory of everything that is kept (default: in your state directory)")
	f.StringVar(&c.Listen, "listen", defaultListen, "address of the server; off this machine a token is needed")
	f.BoolVar(&c.RequireToken, "require-token", false, "ask clients on this machine for the token, too")
	f.IntVar(&c.CPUs, "cpus", 0, "CPUs that jobs may use (default: all)")
	f.StringVar(&c.Memory, "memory", "", "memory that jobs may use, as 16GiB (default: 90 % of all)")
	f.IntVar(&c.GPUs, "gpus", 0, "GPUs that jobs may use")
	f.StringSliceVar(&c.Tags, "tag", nil, "something this machine has that jobs may ask for; may be repeated")
	f.StringSliceVar(&c.Queues, "queue", nil, "queues to serve (default: all); may be repeated")
}

// override takes from flags what was given there.
func (c *config) override(cmd *cobra.Command, flags config) {
	for name, take := range map[string]func(){
		"data":          func() { c.Data = flags.Data },
		"listen":        func() { c.Listen = flags.Listen },
		"require-token": func() { c.RequireToken = flags.RequireToken },
		"cpus":          func() { c.CPUs = flags.CPUs },
		"memory":        func() { c.Memory = flags.Memory },
		"gpus":          func() { c.GPUs = flags.GPUs },
		"tag":           func() { c.Tags = flags.Tags },
		"queue":         func() { c.Queues = flags.Queues },
	} {
		if cmd.Flags().Changed(name) {
			take()
		}
	}
}

// up opens a node and runs it until ctx ends.
func (a *app) up(ctx context.Context, cfg config) error {
	level := slog.LevelInfo
	if a.opt.debug {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(a.io.err, &slog.HandlerOptions{Level: level}))
	n, err := openNode(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer n.close()
	fmt.Fprintf(a.io.err, "nanoos %s is up at %s\n", version, n.url())
	fmt.Fprintf(a.io.err, "  data in %s; jobs may use %d CPUs; engines: %v\n", cfg.Data, n.worker.Offer().CPUs, n.worker.Offer().Engines)
	switch {
	case n.newToken:
		fmt.Fprintf(a.io.err, "  clients need this token, which is shown only now: NANOOS_TOKEN=%s\n", n.token)
	case n.token != "":
		fmt.Fprintf(a.io.err, "  clients need the token in %s\n", filepath.Join(cfg.Data, "token"))
	}
	fmt.Fprintln(a.io.err, "  try:  nanoos submit examples/silicon/scf.yaml   (Ctrl-C stops the node, not the simulations)")
	return n.run(ctx)
}

// run serves until ctx ends or a part fails; then all parts stop.
func (n *node) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	probed := n.probeEngines(ctx)
	defer probed()
	if err := n.announce(); err != nil {
		return err
	}
	defer n.withdraw()

	var wg sync.WaitGroup
	start := func(name string, part func(context.Context) error) {
		wg.Go(func() {
			if err := part(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	start("queue", n.queue.Maintain)
	start("worker", n.worker.Run)
	start("server", func(ctx context.Context) error { return n.server.Run(ctx, n.listener) })
	<-ctx.Done()
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// url is where clients of this machine reach the server.
func (n *node) url() string {
	addr := *n.listener.Addr().(*net.TCPAddr)
	if addr.IP.IsUnspecified() {
		addr.IP = net.IPv4(127, 0, 0, 1)
	}
	return "http://" + addr.String()
}

// announcement is how clients find the running node.
type announcement struct {
	URL       string `json:"url"`
	PID       int    `json:"pid"`
	TokenFile string `json:"token_file,omitempty"`
}

const announcementFile = "server.json"

func (n *node) announce() error {
	ad := announcement{URL: n.url(), PID: os.Getpid()}
	if n.token != "" {
		ad.TokenFile = filepath.Join(n.cfg.Data, "token")
	}
	raw, err := json.Marshal(ad)
	if err != nil {
		return err
	}
	path := filepath.Join(n.cfg.Data, announcementFile)
	if err := os.WriteFile(path+".tmp", append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("announce the server: %w", err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("announce the server: %w", err)
	}
	return nil
}

func (n *node) withdraw() {
	if err := os.Remove(filepath.Join(n.cfg.Data, announcementFile)); err != nil {
		n.log.Warn("cannot withdraw the announcement", "error", err)
	}
}

// startEmbedded runs a node inside a client until stop is called.
func startEmbedded(ctx context.Context, dataDir string, logTo io.Writer) (url string, stop func(), err error) {
	cfg, err := loadConfig(os.Getenv)
	if err != nil {
		return "", nil, err
	}
	cfg.Data, cfg.Listen = dataDir, "127.0.0.1:0"
	n, err := openNode(ctx, cfg, slog.New(slog.NewTextHandler(logTo, nil)))
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := n.run(ctx); err != nil {
			n.log.Error("the embedded node failed", "error", err)
		}
		n.close()
	}()
	return n.url(), func() { cancel(); <-done }, nil
}
