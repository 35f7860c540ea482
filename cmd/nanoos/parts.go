package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/artifact"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/engine/lammps"
	"github.com/nano-os/nanoos/internal/engine/qe"
	"github.com/nano-os/nanoos/internal/executor"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
	"github.com/nano-os/nanoos/internal/store/sqlite"
	"github.com/nano-os/nanoos/internal/worker"
)

// engines lists the simulation codes that this binary knows.
func engines() []engine.Engine {
	return []engine.Engine{qe.New(), lammps.New(), engine.Mock{}}
}

// node is a whole installation in one process: database, queue, worker, server.
type node struct {
	cfg       config
	log       *slog.Logger
	engines   []engine.Engine
	machine   *worker.Machine
	store     *sqlite.Store
	artifacts *artifact.Dir
	executor  *executor.Local
	queue     *queue.Service
	worker    *worker.Worker
	server    *api.Server
	listener  net.Listener
	token     string // empty when only this machine can reach the server
	newToken  bool   // made by this start
}

// openNode joins the parts. What it has opened it closes again when a later
// part fails.
func openNode(ctx context.Context, cfg config, log *slog.Logger) (*node, error) {
	n := &node{cfg: cfg, log: log, engines: engines()}
	if err := n.open(ctx); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

func (n *node) open(ctx context.Context) (err error) {
	if err := os.MkdirAll(n.cfg.Data, 0o700); err != nil {
		return &job.Error{Code: job.Invalid, Message: "cannot make the data directory", Why: err.Error(), Fix: "choose another with --data"}
	}
	if n.store, err = sqlite.Open(filepath.Join(n.cfg.Data, "nanoos.db"), sqlite.Options{}); err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	if n.artifacts, err = artifact.OpenDir(filepath.Join(n.cfg.Data, "artifacts")); err != nil {
		return err
	}
	if n.executor, err = executor.NewLocal(executor.LocalOptions{StateDir: n.cfg.Data}); err != nil {
		return fmt.Errorf("prepare local runs: %w", err)
	}
	if n.machine, err = worker.FindMachine(n.engines, n.cfg.Settings, n.cfg.Data); err != nil {
		return err
	}
	if err := n.openQueue(ctx); err != nil {
		return err
	}
	if err := n.openWorker(); err != nil {
		return err
	}
	return n.openServer(ctx)
}

func (n *node) openQueue(ctx context.Context) error {
	n.queue = queue.New(n.store, queue.Options{
		// The database admits one process, so a node that was killed is itself
		// again at once and need not wait for its own lease to end.
		Name:  n.machine.HostName,
		Check: api.NewCheck(n.engines, n.machine.Inputs, n.artifacts),
	})
	return n.queue.Prepare(ctx)
}

func (n *node) openWorker() error {
	host, err := executor.HostID(n.cfg.Data)
	if err != nil {
		return fmt.Errorf("read this host's id: %w", err)
	}
	boot, err := executor.BootID()
	if err != nil {
		return fmt.Errorf("read the id of this boot: %w", err)
	}
	offer, err := n.offer()
	if err != nil {
		return err
	}
	n.worker = worker.New(worker.Options{
		// The name is the same after a restart, so the node finds its jobs again.
		Session: job.Session{
			Worker: n.machine.HostName + "-" + host[:6], Host: host, Boot: boot, Version: version, Offer: offer,
		},
		Queue: n.queue, Executor: n.executor, Artifacts: n.artifacts,
		Machine: n.machine, Engines: n.engines, Log: n.log,
	})
	return nil
}

// offer is what jobs may use here.
func (n *node) offer() (job.Offer, error) {
	o := job.Offer{CPUs: n.cfg.CPUs, GPUs: n.cfg.GPUs, Tags: n.cfg.Tags, Queues: n.cfg.Queues, Engines: n.machine.Available(n.engines)}
	if o.CPUs == 0 {
		o.CPUs = runtime.NumCPU()
	}
	if n.cfg.Memory == "" {
		total, err := totalMemory()
		if err != nil {
			return o, fmt.Errorf("find out how much memory there is: %w", err)
		}
		// The rest is for us, the supervisors and the page cache.
		o.Memory = total / 10 * 9
		return o, nil
	}
	b, err := api.ParseBytes(n.cfg.Memory)
	if err != nil {
		return o, &job.Error{Code: job.Invalid, Message: "bad memory size", Why: err.Error(), Fix: "write for example 16GiB"}
	}
	o.Memory = int64(b)
	return o, nil
}

func (n *node) openServer(ctx context.Context) (err error) {
	if n.listener, err = new(net.ListenConfig).Listen(ctx, "tcp", n.cfg.Listen); err != nil {
		return &job.Error{Code: job.Unavailable, Message: "cannot listen on " + n.cfg.Listen, Why: err.Error(),
			Fix: "choose another address with --listen, for example 127.0.0.1:0 for any free port"}
	}
	opt := api.Options{Version: version, StartedAt: time.Now().UTC(), Listen: n.listener.Addr().String()}
	if n.cfg.RequireToken || !n.listener.Addr().(*net.TCPAddr).IP.IsLoopback() {
		if n.token, n.newToken, err = loadToken(n.cfg.Data); err != nil {
			return err
		}
		opt.Token = new(sha256.Sum256([]byte(n.token)))
	}
	n.server = api.New(api.Deps{
		Store: n.store, Queue: n.queue, Artifacts: n.artifacts, Engines: n.engines,
		Inputs: n.machine.Inputs, Live: n.worker, Logger: n.log,
		Metrics:    []prometheus.Collector{storeMetrics{n.store}},
		Ready:      func() error { return n.store.Stats().Halted },
		EngineInfo: func(ctx context.Context) []api.EngineInfo { return describeEngines(ctx, n.engines, n.machine) },
	}, opt)
	return nil
}

// close releases what openNode has opened; programs that run go on.
func (n *node) close() {
	if n.listener != nil {
		// The server may have closed it already.
		_ = n.listener.Close()
	}
	if n.artifacts != nil {
		if err := n.artifacts.Close(); err != nil {
			n.log.Error("cannot close the artifacts", "error", err)
		}
	}
	if n.store != nil {
		if err := n.store.Close(); err != nil {
			n.log.Error("cannot close the database", "error", err)
		}
	}
}

// machineEngines describes the engines of this machine without a server.
func machineEngines(ctx context.Context) []api.EngineInfo {
	cfg, err := loadConfig(os.Getenv)
	if err != nil {
		return nil
	}
	all := engines()
	m, err := worker.FindMachine(all, cfg.Settings, cfg.Data)
	if err != nil {
		return nil
	}
	return describeEngines(ctx, all, m)
}

// installHints are the packages that bring an engine on Debian and its kin.
var installHints = map[string]string{
	"qe":     "sudo apt-get install quantum-espresso quantum-espresso-data",
	"lammps": "sudo apt-get install lammps lammps-data",
}

func describeEngines(ctx context.Context, all []engine.Engine, m *worker.Machine) []api.EngineInfo {
	infos := make([]api.EngineInfo, 0, len(all))
	for _, e := range all {
		info := api.EngineInfo{
			Name: e.Name(), Title: e.Title(), Aliases: e.Aliases(), Schema: e.Schema(),
			Programs: map[string]string{}, Library: m.Libraries[e.Name()],
		}
		for _, p := range e.Programs() {
			if path, ok := m.Programs[p]; ok {
				info.Programs[p] = path
			}
		}
		main, ok := m.Programs[e.Programs()[0]]
		info.Available = ok
		switch {
		case !ok:
			info.Problem, info.Fix = e.Programs()[0]+" is not on the PATH and no setting names it", installHints[e.Name()]
		case e.Name() == "mock":
			info.Version = version
		default:
			info.Version = programVersion(ctx, e, main)
		}
		infos = append(infos, info)
	}
	return infos
}

// programVersion asks a program for its version; "" when it does not say.
func programVersion(ctx context.Context, e engine.Engine, path string) string {
	p, ok := e.(engine.Prober)
	if !ok {
		return ""
	}
	v, _ := p.ReadProbe(probe(ctx, path, p.ProbeArgs()))
	return v
}

// probe runs a program that prints what it is and ends.
func probe(ctx context.Context, path string, args []string) []byte {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = time.Second
	// pw.x leaves a CRASH file where it stands.
	dir, err := os.MkdirTemp("", "nanoos-probe-")
	if err != nil {
		return nil
	}
	defer os.RemoveAll(dir)
	cmd.Dir = dir
	// A serial run of an MPI program would otherwise start a helper.
	cmd.Env = append(os.Environ(), "OMPI_MCA_ess_singleton_isolated=1", "LC_ALL=C")
	// Its exit status says nothing here: what it printed does.
	out, _ := cmd.CombinedOutput()
	return out
}

// loadToken returns the token of this installation, made at its first start.
func loadToken(dir string) (token string, fresh bool, err error) {
	path := filepath.Join(dir, "token")
	raw, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(raw)), false, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", false, fmt.Errorf("read the token: %w", err)
	}
	token = "nos_" + rand.Text() + rand.Text()
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		return "", false, fmt.Errorf("store the token: %w", err)
	}
	return token, true, nil
}

// probeEngines asks the installed programs once what they can do, so that a job
// that needs more is refused when it is submitted. It returns at once; the
// function returned waits for the answers.
func (n *node) probeEngines(ctx context.Context) (wait func()) {
	var wg sync.WaitGroup
	for _, e := range n.engines {
		p, ok := e.(engine.Prober)
		path, installed := n.machine.Programs[e.Programs()[0]]
		if !ok || !installed {
			continue
		}
		answer := n.machine.Probe(e.Name())
		wg.Go(func() {
			_, styles := p.ReadProbe(probe(ctx, path, p.ProbeArgs()))
			answer(styles)
		})
	}
	return wg.Wait
}
