package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/worker"
)

func newUpCommand(a *app) *cobra.Command {
	var flags config
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
			cfg, err := a.configured(cmd, flags)
			if err != nil {
				return err
			}
			cfg.Database = "" // a node has its own
			return a.up(cmd.Context(), cfg)
		},
	}
	flags.dataFlag(cmd)
	flags.serverFlags(cmd)
	flags.offerFlags(cmd)
	return cmd
}

// node is a whole installation in one process: database, queue, worker, server.
type node struct {
	*serving
	*computing
	work *worker.Worker
	log  *slog.Logger
}

// openNode joins the parts. What it has opened it closes again when a later
// part fails.
func openNode(ctx context.Context, cfg config, log *slog.Logger) (*node, error) {
	n := &node{serving: &serving{cfg: cfg, log: log, engines: engines()}, log: log}
	if err := n.open(ctx, cfg); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

func (n *node) open(ctx context.Context, cfg config) (err error) {
	// The database comes first: its lock makes this the only process here.
	if err := n.openStore(ctx); err != nil {
		return err
	}
	if n.computing, err = openComputing(cfg, n.log); err != nil {
		return err
	}
	here := runsHere{
		// The database admits one process, so a node that was killed is itself
		// again at once and need not wait for its own lease to end.
		name:   n.machine.HostName,
		inputs: n.machine.Inputs,
		engineInfo: func(ctx context.Context) []api.EngineInfo {
			return describeEngines(ctx, n.computing.engines, n.machine)
		},
	}
	if err := n.openQueue(ctx, here); err != nil {
		return err
	}
	n.work = n.computing.worker(n.queue, n.artifacts, nil)
	here.live = n.work
	if err := n.openServer(ctx, here); err != nil {
		return err
	}
	return n.openCelery(ctx, n.work)
}

// up opens a node and runs it until ctx ends.
func (a *app) up(ctx context.Context, cfg config) error {
	n, err := openNode(ctx, cfg, a.logger())
	if err != nil {
		return err
	}
	defer n.close()
	fmt.Fprintf(a.io.err, "nanoos %s is up at %s\n", version, n.url())
	fmt.Fprintf(a.io.err, "  data in %s; jobs may use %d CPUs; engines: %v\n", cfg.Data, n.session.Offer.CPUs, n.session.Offer.Engines)
	n.printNotes(a.io.err)
	fmt.Fprintln(a.io.err, "  try:  nanoos submit examples/silicon/scf.yaml   (Ctrl-C stops the node, not the simulations)")
	return n.run(ctx)
}

// run serves until ctx ends or a part fails; then all parts stop.
func (n *node) run(ctx context.Context) error {
	probed := n.probeEngines(ctx)
	defer probed()
	if err := n.announce(); err != nil {
		return err
	}
	defer n.withdraw()
	return n.serving.run(ctx, part{"worker", n.work.Run})
}

// startEmbedded runs a node inside a client until stop is called.
func startEmbedded(ctx context.Context, dataDir string, logTo io.Writer) (url string, stop func(), err error) {
	cfg, err := loadConfig(os.Getenv)
	if err != nil {
		return "", nil, err
	}
	cfg.Data, cfg.Listen, cfg.Database, cfg.Platform = dataDir, "127.0.0.1:0", "", ""
	cfg.Celery.Redis = "" // a node for one command takes no messages
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
