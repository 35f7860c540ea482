package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/executor"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/worker"
)

// processesAtOnce is how many processes run at the same time.
const processesAtOnce = 4

// process measures processes that end at once: the supervisor alone, and the
// whole way of a job through the system.
func (b *bench) process(ctx context.Context, place benchPlace) (err error) {
	o, err := b.openBed(ctx, place)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	if place.url == "" { // no database is in it
		if err := b.supervised(ctx, o); err != nil {
			return err
		}
	}
	return b.jobsThatRun(ctx, o)
}

// supervised runs a program that does nothing under a supervisor each, beside
// the same program started with a directory and a log.
func (b *bench) supervised(ctx context.Context, o *bed) error {
	program, err := exec.LookPath("true")
	if err != nil {
		return fmt.Errorf("find a program that does nothing: %w", err)
	}
	local, err := executor.NewLocal(executor.LocalOptions{StateDir: filepath.Join(o.cfg.Data, "supervised")})
	if err != nil {
		return err
	}
	n := max(processesAtOnce, b.opt.n/10)
	return b.compare(ctx, comparison{
		name: "supervised", about: "true, each under a supervisor of its own that outlives us", place: benchPlace{name: "none"},
		limit: b.bareProcesses(o, n, program),
		ways: []contestant{{way: "executor", run: func(ctx context.Context) (sample, error) {
			return repeat(n, processesAtOnce, func(int) error {
				run, err := local.Start(ctx, executor.Task{ID: job.NewID(), Attempt: 1, Steps: []executor.Command{{Argv: []string{program}}}})
				if err != nil {
					return err
				}
				exit, err := run.Wait(ctx)
				if err == nil && (!exit.Observed || exit.Code != 0) {
					err = fmt.Errorf("%s ended with %+v", program, exit)
				}
				return err
			})
		}}},
	})
}

// bareProcesses starts a program with a directory and a log, as little as a job
// needs.
func (b *bench) bareProcesses(o *bed, n int, argv ...string) *contestant {
	var next atomic.Int64
	return o.bare("the same program with a directory and a log", func(ctx context.Context) (sample, error) {
		return repeat(n, processesAtOnce, func(int) error {
			dir := filepath.Join(o.cfg.Data, "bare-"+strconv.FormatInt(next.Add(1), 10))
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			log, err := os.Create(filepath.Join(dir, "log"))
			if err != nil {
				return err
			}
			defer log.Close()
			c := exec.CommandContext(ctx, argv[0], argv[1:]...)
			c.Dir, c.Stdout, c.Stderr = dir, log, log
			return c.Run()
		})
	})
}

// atOnce is the shortest job of the mock engine.
var atOnce = benchJob{parameters: json.RawMessage(`{"steps": 1, "step_seconds": 0}`)}

// jobsThatRun measures jobs from a full queue to stored results, by a worker in
// this process, and by one that speaks to the server.
func (b *bench) jobsThatRun(ctx context.Context, o *bed) error {
	n := max(processesAtOnce, b.opt.n/10)
	c := comparison{name: "jobs", about: "the mock engine's program at once over, from the queue to stored results", place: o.place, bed: o}
	for _, w := range b.bothWays(o) {
		c.ways = append(c.ways, contestant{way: w.name(), run: func(ctx context.Context) (sample, error) {
			ids, err := w.submit(ctx, n, atOnce)
			if err != nil {
				return sample{}, err
			}
			stop, err := startWorker(ctx, o, w)
			if err != nil {
				return sample{}, err
			}
			defer stop()
			began := time.Now()
			for _, id := range ids {
				if err := o.awaitEnd(ctx, id); err != nil {
					return sample{}, err
				}
			}
			return sample{n: n, wall: time.Since(began)}, nil
		}})
	}
	return b.compare(ctx, c)
}

// startWorker runs a worker of this machine until stop is called.
func startWorker(ctx context.Context, o *bed, w way) (stop func(), err error) {
	c, err := openComputing(config{Data: filepath.Join(o.cfg.Data, "worker"), CPUs: processesAtOnce}, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	q, leave := w.worker()
	var work *worker.Worker
	if remote, ok := q.(*api.WorkerClient); ok {
		work = c.worker(remote, remote, remote)
	} else {
		work = c.worker(q, o.artifacts, nil)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		// An error shows in the jobs, which then do not end.
		_ = work.Run(ctx)
	}()
	return func() { cancel(); <-done; leave() }, nil
}

// awaitEnd waits until a job has succeeded, as the server lets clients wait.
func (o *bed) awaitEnd(ctx context.Context, id job.ID) error {
	for {
		changed := o.queue.Changed()
		state, err := storedState(ctx, o.store, id)
		switch {
		case err != nil || state == job.Completed:
			return err
		case state.Terminal():
			return fmt.Errorf("job %s ended %s", id, state)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}
