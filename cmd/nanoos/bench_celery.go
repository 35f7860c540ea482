package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
)

//go:embed bench_celery.py
var benchCeleryProgram []byte

// celeryBench measures the front door beside a Celery worker, with a Celery
// client, on one Redis.
type celeryBench struct {
	opt    celeryBenchOptions
	dir    string
	report celeryReport
	say    func(format string, args ...any)
}

type celeryBenchOptions struct {
	redis, python string
	n             int // messages of a drain
	slow          int // of one by the slowest contestant
	rounds        int
}

// celeryReport is what was measured.
type celeryReport struct {
	APIVersion string      `json:"apiVersion"`
	Kind       string      `json:"kind"` // "CeleryBenchReport"
	Version    string      `json:"version"`
	At         time.Time   `json:"at"`
	CPUs       int         `json:"cpus"`
	Load       float64     `json:"load"`
	Rows       []celeryRow `json:"rows"`
}

// celeryRow is one contestant in one round.
type celeryRow struct {
	Round  int    `json:"round"`
	Worker string `json:"worker"`
	// Drain: Value are messages a second, P50 and Max the time between two ends.
	Drain benchNumbers `json:"drain"`
	// Latency is from the call to the result in the caller's hands.
	Latency benchNumbers `json:"latency"`
	// Ratio is nanoos's rate divided by this one's, in the same round.
	Ratio float64 `json:"ratio,omitempty"`
}

func newBenchCeleryCommand(a *app) *cobra.Command {
	opt := celeryBenchOptions{}
	cmd := &cobra.Command{
		Use:   "celery",
		Short: "Measure the Celery front door beside a real Celery worker.",
		Long: `Measure the Celery front door beside a real Celery worker.

One Celery client sends health_check, the smallest of NANO-OS's tasks, and reads the results; nanoos and Celery's worker
take turns, on the same Redis. Celery runs with NANO-OS's settings (acks late, prefetch 1, events), with one process
and with four. Give it a Redis of its own.`,
		Example: `nanoos bench celery --redis redis://127.0.0.1:6379/15
nanoos bench celery --redis redis://127.0.0.1:6379/15 --python venv/bin/python --rounds 3
nanoos bench celery --redis redis://127.0.0.1:6379/15 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.benchCelery(cmd.Context(), opt) },
	}
	f := cmd.Flags()
	f.StringVar(&opt.redis, "redis", a.getenv("REDIS_URL"), "`URL` of Redis (REDIS_URL)")
	f.StringVar(&opt.python, "python", "python3", "a Python that has celery and redis")
	f.IntVarP(&opt.n, "number", "n", 5000, "messages per measurement")
	f.IntVar(&opt.slow, "slow", 15, "messages for Celery with one process, which takes a second for each")
	f.IntVar(&opt.rounds, "rounds", 1, "how often the workers take turns")
	return cmd
}

func (a *app) benchCelery(ctx context.Context, opt celeryBenchOptions) (err error) {
	if opt.redis == "" || opt.n < 10 || opt.slow < 5 || opt.rounds < 1 {
		return &job.Error{Code: job.Invalid, Message: "nothing was measured",
			Why: "it needs --redis, at least 10 messages, 5 slow ones and one round", Fix: "nanoos bench celery --help"}
	}
	python, err := exec.LookPath(opt.python)
	if err == nil {
		opt.python, err = filepath.Abs(python) // it runs in another directory
	}
	if err != nil {
		return &job.Error{Code: job.Invalid, Message: "there is no such Python", Why: err.Error(), Fix: "name one that has celery and redis with --python"}
	}
	dir, err := os.MkdirTemp("", "nanoos-bench-celery-")
	if err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.WriteFile(filepath.Join(dir, "bench_celery.py"), benchCeleryProgram, 0o600); err != nil {
		return err
	}
	b := &celeryBench{opt: opt, dir: dir, say: func(format string, args ...any) { fmt.Fprintf(a.io.err, format+"\n", args...) }}
	b.report = celeryReport{APIVersion: api.Version, Kind: "CeleryBenchReport", Version: version, At: time.Now().UTC(), CPUs: runtime.NumCPU(), Load: loadAverage()}
	for round := range opt.rounds {
		if err := b.round(ctx, round+1); err != nil {
			return err
		}
	}
	if a.opt.output == "json" {
		enc := json.NewEncoder(a.io.out)
		enc.SetIndent("", "  ")
		return enc.Encode(b.report)
	}
	return b.report.print(a.io.out)
}

// contender is a worker that takes its turn.
type contender struct {
	name    string
	command []string
	env     []string
	n, one  int // messages of a drain; calls one after the other
}

func (b *celeryBench) contenders(queue string) ([]contender, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	celery := []string{b.opt.python, "-m", "celery", "-A", "bench_celery", "worker", "-l", "error", "-E", "-c"}
	return []contender{
		{name: "nanoos", n: b.opt.n, one: 200,
			command: []string{self, "up", "--data", filepath.Join(b.dir, "data"), "--listen", "127.0.0.1:0"},
			env:     []string{"REDIS_URL=" + b.opt.redis, "NANOOS_CELERY_QUEUES=" + queue, "NANOOS_CONFIG=", "DATABASE_URL=", "NANOOS_DATABASE="}},
		{name: "celery -c 4", n: max(b.opt.n/5, 10), one: 100, command: append(celery[:len(celery):len(celery)], "4")},
		{name: "celery -c 1", n: b.opt.slow, one: b.opt.slow, command: append(celery[:len(celery):len(celery)], "1")},
	}, nil
}

func (b *celeryBench) round(ctx context.Context, round int) error {
	queue := "nanoos-bench-" + strconv.Itoa(os.Getpid())
	contenders, err := b.contenders(queue)
	if err != nil {
		return err
	}
	first := len(b.report.Rows)
	for _, c := range contenders {
		b.say("round %d: %s", round, c.name)
		row := celeryRow{Round: round, Worker: c.name}
		if err := b.turn(ctx, c, queue, &row); err != nil {
			return fmt.Errorf("measure %s: %w", c.name, err)
		}
		if len(b.report.Rows) > first {
			row.Ratio = b.report.Rows[first].Drain.Value / row.Drain.Value
		}
		b.report.Rows = append(b.report.Rows, row)
	}
	return nil
}

// turn starts a worker, measures it, and ends it.
func (b *celeryBench) turn(ctx context.Context, c contender, queue string, row *celeryRow) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	var said bytes.Buffer
	worker := exec.CommandContext(ctx, c.command[0], c.command[1:]...)
	worker.Stdout, worker.Stderr = &said, &said
	b.place(worker, queue)
	worker.Env = append(worker.Env, c.env...)
	worker.Cancel = func() error { return worker.Process.Signal(syscall.SIGTERM) }
	worker.WaitDelay = 30 * time.Second
	if err := worker.Start(); err != nil {
		return fmt.Errorf("start it: %w", err)
	}
	defer func() {
		cancel()
		// How it ends says nothing; what it said may explain an error.
		_ = worker.Wait()
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, said.String())
		}
	}()
	var none struct{}
	if err := b.client(ctx, queue, "ready", 1, &none); err != nil {
		return err
	}
	if err := b.client(ctx, queue, "drain", c.n, &row.Drain); err != nil {
		return err
	}
	return b.client(ctx, queue, "latency", c.one, &row.Latency)
}

// client runs one measurement of the Celery client.
func (b *celeryBench) client(ctx context.Context, queue, what string, n int, into any) error {
	cmd := exec.CommandContext(ctx, b.opt.python, "bench_celery.py", what, strconv.Itoa(n))
	b.place(cmd, queue)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the Celery client: %w\n%s", err, said.String())
	}
	if err := json.Unmarshal(out.Bytes(), into); err != nil {
		return fmt.Errorf("the Celery client answered %q: %w", out.String(), err)
	}
	return nil
}

func (b *celeryBench) place(cmd *exec.Cmd, queue string) {
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), "BENCH_REDIS="+b.opt.redis, "BENCH_QUEUE="+queue, "PYTHONDONTWRITEBYTECODE=1")
}

func (r celeryReport) print(w io.Writer) error {
	fmt.Fprintf(w, "nanoos %s, %d CPUs, load %.2f at the start; one Celery client, health_check\n\n", r.Version, r.CPUs, r.Load)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ROUND\tWORKER\tN\tMESSAGES/S\tGAP P50 MS\tGAP MAX MS\tLATENCY P50 MS\tLATENCY P99 MS\tNANOOS IS")
	for _, row := range r.Rows {
		fmt.Fprintf(t, "%d\t%s\t%d\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%s\n", row.Round, row.Worker, row.Drain.N, row.Drain.Value, row.Drain.P50, row.Drain.Max,
			row.Latency.P50, row.Latency.P99, unlessZero("%.1fx", row.Ratio))
	}
	return t.Flush()
}
