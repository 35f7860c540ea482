package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// benchResult is what one measurement found. Latencies are in milliseconds.
type benchResult struct {
	Name      string  `json:"name"`
	About     string  `json:"about"`
	N         int     `json:"n"`
	PerSecond float64 `json:"per_second"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	Max       float64 `json:"max_ms"`
	Target    string  `json:"target,omitempty"`
}

// benchReport says what was measured and on what.
type benchReport struct {
	APIVersion string        `json:"apiVersion"`
	Kind       string        `json:"kind"` // "BenchReport"
	Version    string        `json:"version"`
	CPUs       int           `json:"cpus"`
	Durable    string        `json:"durable"`
	Results    []benchResult `json:"results"`
}

func newBenchCommand(a *app) *cobra.Command {
	var data string
	var n int
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure submit, pickup and drain beside what the disk allows.",
		Long: `Measure submit, pickup and drain beside what the disk allows.

A node is started in a directory of its own and removed afterwards. Every commit
is durable, as in real use: "flush" is what the disk itself takes for that.`,
		Example: `nanoos bench
nanoos bench -n 200
nanoos bench --data /scratch/bench -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.bench(cmd.Context(), data, n) },
	}
	cmd.Flags().StringVar(&data, "data", "", "parent of the temporary data directory (default: the system's)")
	cmd.Flags().IntVarP(&n, "number", "n", 1000, "jobs per measurement; processes are a tenth of it")
	return cmd
}

func (a *app) bench(ctx context.Context, parent string, n int) (err error) {
	if n < 10 || n > 1_000_000 {
		return &job.Error{Code: job.Invalid, Message: fmt.Sprintf("cannot measure with %d jobs", n), Fix: "choose 10 … 1000000 with -n"}
	}
	dir, err := os.MkdirTemp(parent, "nanoos-bench-")
	if err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b, stop, err := startBench(ctx, dir)
	if err != nil {
		return err
	}
	defer stop()
	report := benchReport{APIVersion: api.Version, Kind: "BenchReport", Version: version, CPUs: runtime.NumCPU(), Durable: "SQLite WAL, synchronous=FULL"}
	for _, m := range []func(context.Context, int) (benchResult, error){
		b.flush, b.submitOne, b.submitEight, b.submitBulk, b.pickup, b.start, b.firstLine, b.processes, b.drain,
	} {
		r, err := m(ctx, n)
		if err != nil {
			return err
		}
		report.Results = append(report.Results, r)
		fmt.Fprintf(a.io.err, "%s: done\n", r.Name)
	}
	if a.opt.output == "json" {
		enc := json.NewEncoder(a.io.out)
		enc.SetIndent("", "  ")
		return enc.Encode(report)
	}
	return report.print(a.io.out)
}

func (r benchReport) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MEASUREMENT\tN\tPER SECOND\tP50 MS\tP99 MS\tMAX MS\tTARGET\tWHAT")
	for _, m := range r.Results {
		fmt.Fprintf(t, "%s\t%d\t%.0f\t%.2f\t%.2f\t%.2f\t%s\t%s\n", m.Name, m.N, m.PerSecond, m.P50, m.P99, m.Max, m.Target, m.About)
	}
	return t.Flush()
}

// bench is a running node and a client of it.
type bench struct {
	node   *node
	client *api.Client
	dir    string
}

func startBench(ctx context.Context, dir string) (*bench, func(), error) {
	cfg := config{Data: filepath.Join(dir, "node"), Listen: "127.0.0.1:0"}
	n, err := openNode(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() {
		// An error shows in the measurements, which then cannot go on.
		_ = n.run(ctx)
		n.close()
	})
	return &bench{node: n, client: api.NewClient(n.url(), ""), dir: dir}, func() { cancel(); wg.Wait() }, nil
}

// flush is the limit: 4 KiB written and made durable, back to back.
func (b *bench) flush(_ context.Context, n int) (r benchResult, err error) {
	f, err := os.Create(filepath.Join(b.dir, "flush"))
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	page := make([]byte, 4096)
	r, err = measure(n, 1, func(int) error {
		if _, err := f.WriteAt(page, 0); err != nil {
			return err
		}
		return f.Sync()
	})
	r.Name, r.About = "flush", "limit of the disk: 4 KiB made durable"
	return r, err
}

// held is a job that waits: submitting it measures the submission alone.
func held() api.JobRequest { return api.JobRequest{Engine: "mock", Hold: true} }

func (b *bench) submitOne(ctx context.Context, n int) (benchResult, error) {
	r, err := measure(n, 1, func(int) error { _, _, err := b.client.Submit(ctx, held()); return err })
	r.Name, r.About, r.Target = "submit-1", "submit over HTTP, 1 client", "p99 < 10 ms"
	return r, err
}

func (b *bench) submitEight(ctx context.Context, n int) (benchResult, error) {
	r, err := measure(n, 8, func(int) error { _, _, err := b.client.Submit(ctx, held()); return err })
	r.Name, r.About = "submit-8", "submit over HTTP, 8 clients"
	return r, err
}

func (b *bench) submitBulk(ctx context.Context, n int) (benchResult, error) {
	jobs := slices.Repeat([]api.JobRequest{held()}, min(n, 1000))
	r, err := measure(1, 1, func(int) error { _, err := b.client.SubmitBulk(ctx, api.BulkRequest{Jobs: jobs}); return err })
	r.Name, r.About = "submit-bulk", fmt.Sprintf("one call with %d jobs", len(jobs))
	r.N, r.PerSecond = len(jobs), r.PerSecond*float64(len(jobs))
	return r, err
}

// quick is the shortest real job: a process that prints one step and ends.
func quick() api.JobRequest {
	return api.JobRequest{Engine: "mock", Parameters: json.RawMessage(`{"steps": 1, "step_seconds": 0}`), Resources: api.ResourcesInput{CPUs: 1, Memory: 256 << 20}}
}

// pickup is from the submission to the claim by an idle worker.
func (b *bench) pickup(ctx context.Context, n int) (benchResult, error) {
	r, err := b.idle(ctx, n/10, func(j api.Job) (time.Duration, error) { return j.StartedAt.Sub(j.CreatedAt), nil })
	r.Name, r.About = "pickup", "idle worker: accepted to RUNNING"
	return r, err
}

// mockStarted finds the moment at which the program itself began.
var mockStarted = regexp.MustCompile(`mock start pid \d+ at (\S+)`)

// start is from the submission to the start record of the program: its process
// is there, limited and identified, and is let go next.
func (b *bench) start(ctx context.Context, n int) (benchResult, error) {
	r, err := b.idle(ctx, n/10, func(j api.Job) (time.Duration, error) {
		attempts, err := b.client.Attempts(ctx, string(j.ID))
		if err != nil {
			return 0, err
		}
		if len(attempts) != 1 || attempts[0].Exit == nil {
			return 0, fmt.Errorf("job %s has no record of its start", j.ID)
		}
		return attempts[0].Exit.StartedAt.Sub(j.CreatedAt), nil
	})
	r.Name, r.About, r.Target = "start", "idle worker: accepted to the program's start record", "p99 < 20 ms"
	return r, err
}

// firstLine is from the submission to what the program prints first: with the
// program's own start, which for the mock engine is that of a large Go binary.
func (b *bench) firstLine(ctx context.Context, n int) (benchResult, error) {
	r, err := b.idle(ctx, n/10, func(j api.Job) (time.Duration, error) {
		log, err := b.client.Logs(ctx, string(j.ID), api.LogQuery{})
		if err != nil {
			return 0, err
		}
		defer log.Close()
		text, err := io.ReadAll(log)
		if err != nil {
			return 0, err
		}
		m := mockStarted.FindSubmatch(text)
		if m == nil {
			return 0, fmt.Errorf("job %s has no start line in its output", j.ID)
		}
		at, err := time.Parse(time.RFC3339Nano, string(m[1]))
		return at.Sub(j.CreatedAt), err
	})
	r.Name, r.About = "first-line", "idle worker: accepted to the program's first line"
	return r, err
}

// idle submits one job at a time and takes a time from each that has ended.
func (b *bench) idle(ctx context.Context, n int, took func(api.Job) (time.Duration, error)) (benchResult, error) {
	var latencies []time.Duration
	begin := time.Now()
	for range n {
		j, _, err := b.client.Submit(ctx, quick())
		if err != nil {
			return benchResult{}, err
		}
		if j, err = b.ended(ctx, j.ID); err != nil {
			return benchResult{}, err
		}
		d, err := took(j)
		if err != nil {
			return benchResult{}, err
		}
		latencies = append(latencies, d)
	}
	return summarise(latencies, time.Since(begin)), nil
}

// ended waits for a job by the node's own signal, as the server does.
func (b *bench) ended(ctx context.Context, id job.ID) (api.Job, error) {
	for {
		changed := b.node.queue.Changed()
		j, err := b.client.Get(ctx, string(id))
		if err != nil || j.State.Terminal() {
			return j, err
		}
		select {
		case <-ctx.Done():
			return j, context.Cause(ctx)
		case <-changed:
		}
	}
}

// processes runs many real processes through the whole node.
func (b *bench) processes(ctx context.Context, n int) (benchResult, error) {
	n /= 10
	begin := time.Now()
	res, err := b.client.SubmitBulk(ctx, api.BulkRequest{Jobs: slices.Repeat([]api.JobRequest{quick()}, n)})
	if err != nil {
		return benchResult{}, err
	}
	var latencies []time.Duration
	for _, item := range res.Items {
		j, err := b.ended(ctx, item.Job.ID)
		if err != nil {
			return benchResult{}, err
		}
		if j.State != job.Completed {
			return benchResult{}, fmt.Errorf("job %s ended %s", j.ID, j.State)
		}
		latencies = append(latencies, j.EndedAt.Sub(j.StartedAt))
	}
	r := summarise(latencies, time.Since(begin))
	r.Name, r.About = "processes", "real processes, claim to stored result"
	return r, nil
}

// drain is the queue alone: claim and finish with a stored result, no process.
func (b *bench) drain(ctx context.Context, n int) (benchResult, error) {
	const name = "bench"
	// The tag keeps the node's own worker away.
	offer := job.Offer{CPUs: 1 << 20, Memory: 1 << 50, Engines: []string{"mock"}, Tags: []string{name}}
	if _, err := b.node.queue.Attach(ctx, job.Session{Worker: name, Host: name, Boot: name, Offer: offer}, nil); err != nil {
		return benchResult{}, err
	}
	if err := b.submitTagged(ctx, n, name); err != nil {
		return benchResult{}, err
	}
	result, err := json.Marshal(engine.Report{Result: engine.Result{Outcome: engine.Success, Verdict: job.Converged}})
	if err != nil {
		return benchResult{}, err
	}
	out := job.Outcome{Verdict: job.Converged, Result: result, Exit: &job.Exit{Observed: true}}
	var latencies []time.Duration
	begin := time.Now()
	for len(latencies) < n {
		leases, err := b.node.queue.Claim(ctx, name, offer, 100, time.Second)
		if err != nil {
			return benchResult{}, err
		}
		took, err := b.finishAll(ctx, leases, out)
		if err != nil {
			return benchResult{}, err
		}
		latencies = append(latencies, took...)
	}
	r := summarise(latencies, time.Since(begin))
	r.Name, r.About = "drain", "claim and finish with a stored result, 100 at a time, no process"
	return r, nil
}

// submitTagged submits jobs that only a worker with the tag may claim.
func (b *bench) submitTagged(ctx context.Context, n int, tag string) error {
	r := quick()
	r.Resources.Tags = []string{tag}
	for at := 0; at < n; at += 1000 {
		if _, err := b.client.SubmitBulk(ctx, api.BulkRequest{Jobs: slices.Repeat([]api.JobRequest{r}, min(1000, n-at))}); err != nil {
			return err
		}
	}
	return nil
}

// finishAll finishes leases at once, as a worker with many slots does.
func (b *bench) finishAll(ctx context.Context, leases []job.Lease, out job.Outcome) ([]time.Duration, error) {
	took := make([]time.Duration, len(leases))
	errs := make([]error, len(leases))
	var wg sync.WaitGroup
	for i, l := range leases {
		wg.Go(func() {
			begin := time.Now()
			errs[i] = b.node.queue.Finish(ctx, l, out)
			took[i] = time.Since(begin)
		})
	}
	wg.Wait()
	return took, errors.Join(errs...)
}

// measure calls do n times from some clients and takes the time of each call.
func measure(n, clients int, do func(i int) error) (benchResult, error) {
	latencies := make([]time.Duration, n)
	errs := make([]error, clients)
	begin := time.Now()
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := c; i < n && errs[c] == nil; i += clients {
				start := time.Now()
				errs[c] = do(i)
				latencies[i] = time.Since(start)
			}
		})
	}
	wg.Wait()
	return summarise(latencies, time.Since(begin)), errors.Join(errs...)
}

func summarise(latencies []time.Duration, wall time.Duration) benchResult {
	slices.Sort(latencies)
	at := func(q float64) float64 {
		return float64(latencies[min(int(q*float64(len(latencies))), len(latencies)-1)]) / float64(time.Millisecond)
	}
	return benchResult{N: len(latencies), PerSecond: float64(len(latencies)) / wall.Seconds(), P50: at(0.5), P99: at(0.99), Max: at(1)}
}
