package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	prom "github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
)

func newWorkerCommand(a *app) *cobra.Command {
	var flags config
	cmd := &cobra.Command{
		Use:     "worker",
		Aliases: []string{"workers"},
		Short:   "Run jobs on this machine for a server; list, drain and resume workers.",
		Long: `Run jobs on this machine for a server; list, drain and resume workers.

It needs one address that it can reach and a token (NANOOS_TOKEN), no database. Stopping it does not stop the
simulations: the next worker with the same --data takes them over. See docs/guide/cluster.md.`,
		Example: `nanoos worker --server https://nanoos.lab:8080
nanoos worker --server http://a:8080,http://b:8080 --queue simulations --tag a100 --gpus 4
nanoos worker list`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			cfg, err := a.configured(cmd, flags)
			if err != nil {
				return err
			}
			if a.opt.url != "" {
				cfg.Servers = listOf(a.opt.url)
			}
			return a.work(cmd.Context(), cfg)
		},
	}
	flags.dataFlag(cmd)
	cmd.Flags().StringSliceVar(&flags.Servers, "server", nil, "`URL` of a server (NANOOS_URL); several: the next is used when one does not answer")
	cmd.Flags().StringVar(&flags.Name, "name", "", "unique name of this worker (default: the host's, with a part of its id)")
	cmd.Flags().StringVar(&flags.Health, "health", "", "address of a page for health and metrics, as 127.0.0.1:9090 (default: none)")
	flags.offerFlags(cmd)
	cmd.AddCommand(newWorkerList(a), newWorkerGet(a), newWorkerDrain(a), newWorkerResume(a), newWorkerForget(a))
	return cmd
}

// work runs a worker until ctx ends.
func (a *app) work(ctx context.Context, cfg config) error {
	if err := cfg.checkTimes(); err != nil {
		return err
	}
	servers, err := serverURLs(cfg.Servers)
	if err != nil {
		return err
	}
	lock, err := lockData(cfg.Data)
	if err != nil {
		return err
	}
	defer lock.Close()
	c, err := openComputing(cfg, a.logger())
	if err != nil {
		return err
	}
	client := api.NewWorkerClient(servers, a.getenv("NANOOS_TOKEN"))
	defer client.Close()
	fmt.Fprintf(a.io.err, "nanoos %s works as %s for %s\n", version, c.session.Worker, strings.Join(servers, ", "))
	fmt.Fprintf(a.io.err, "  data in %s; jobs may use %d CPUs; engines: %v\n", cfg.Data, c.session.Offer.CPUs, c.session.Offer.Engines)
	probed := c.probeEngines(ctx)
	defer probed()
	parts := []part{{"worker", c.worker(client, client, client).Run}}
	if cfg.Health != "" {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Health)
		if err != nil {
			return &job.Error{Code: job.Unavailable, Message: "cannot listen on " + cfg.Health, Why: err.Error(), Fix: "choose another address with --health"}
		}
		parts = append(parts, part{"health page", func(ctx context.Context) error { return serveHealth(ctx, l) }})
	}
	return runParts(ctx, parts...)
}

// serverURLs completes the addresses of the servers.
func serverURLs(given []string) ([]string, error) {
	var urls []string
	for _, u := range given {
		if !strings.Contains(u, "://") {
			u = "http://" + u
		}
		urls = append(urls, u)
	}
	if len(urls) == 0 {
		return nil, usage("nanoos worker --server http://HOST:8080, or set NANOOS_URL", "no server is named")
	}
	return urls, nil
}

// lockData makes this process the only worker of a data directory: two would
// take each other's attempts. The kernel drops the lock when the process ends.
func lockData(dir string) (*os.File, error) {
	if err := makeDataDir(dir); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "worker.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the data directory: %w", err)
	}
	// A worker that was killed while it started a supervisor left a child that
	// holds the lock until it becomes its program: busy is believed after a while.
	for range 50 {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err == unix.EWOULDBLOCK {
		f.Close()
		return nil, &job.Error{Code: job.Conflict, Message: "another worker uses " + dir,
			Why: "it holds " + f.Name(), Fix: "give each worker of a machine a directory of its own with --data"}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	return f, nil
}

// serveHealth answers /healthz and /metrics, for monitoring.
func serveHealth(ctx context.Context, l net.Listener) error {
	r := prometheus.NewRegistry()
	r.MustRegister(prom.NewGoCollector(), prom.NewProcessCollector(prom.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(r, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintln(w, `{"status":"healthy","service":"nano-os-worker"}`)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
