package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
	"github.com/nano-os/nanoos/internal/store/postgres/pgtest"
)

// durable is the cluster of the benchmarks, with every flush.
var durable = pgtest.Shared{Options: pgtest.Options{Durable: true}}

// openBench opens a store on a server as in real use.
func openBench(b *testing.B) *Store {
	b.Helper()
	s, err := Open(b.Context(), durable.Get(b).CreateDB(b), Options{})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// BenchmarkSubmit stores one job with its event per call.
func BenchmarkSubmit(b *testing.B) {
	for _, callers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s := openBench(b)
			defer s.Close()
			cpu := cpuTime()
			b.ResetTimer()
			together(b, callers, func() error { return submit(s, benchJob(1)) })
			report(b, s.Stats(), cpu)
		})
	}
}

// BenchmarkBulk stores 1000 jobs per call; one op is one job.
func BenchmarkBulk(b *testing.B) {
	s := openBench(b)
	defer s.Close()
	cpu := cpuTime()
	b.ResetTimer()
	fill(b, s, b.N, 1)
	report(b, s.Stats(), cpu)
}

// BenchmarkDrain claims jobs and finishes them with a result of 300 bytes, by
// several callers at once, in batches; one op is one job.
func BenchmarkDrain(b *testing.B) {
	for _, c := range []struct{ callers, batch int }{{1, 1}, {8, 1}, {1, 20}, {4, 20}, {1, 100}} {
		b.Run(fmt.Sprintf("callers=%d/batch=%d", c.callers, c.batch), func(b *testing.B) {
			s := openBench(b)
			defer s.Close()
			fill(b, s, b.N, 1)
			lane := onlyLane(b, s)
			var left atomic.Int64
			left.Store(int64(b.N))
			cpu := cpuTime()
			b.ResetTimer()
			var wg sync.WaitGroup
			for range c.callers {
				wg.Go(func() {
					for left.Load() > 0 {
						n, err := claimAndFinish(s, lane, c.batch)
						if err != nil {
							b.Error(err)
							return
						}
						left.Add(-int64(n))
					}
				})
			}
			wg.Wait()
			report(b, s.Stats(), cpu)
		})
	}
}

// BenchmarkClaim claims jobs beside much that is queued, and beside little, in
// turns; the ratio must stay below 1.2. The jobs are given back, so that the
// backlog stays as it is.
func BenchmarkClaim(b *testing.B) {
	for _, c := range []struct {
		name      string
		fit, wide int // jobs that fit the worker, and jobs that do not
	}{{"queued=1000000", 1_000_000, 0}, {"unfit=150000", 1000, 150_000}} {
		b.Run(c.name, func(b *testing.B) {
			few := backlog(b, 1000, 0)
			many := backlog(b, c.fit, c.wide)
			took := map[*Store][]time.Duration{}
			for b.Loop() {
				for _, s := range []*Store{few, many} {
					took[s] = append(took[s], claimAndRelease(b, s))
				}
			}
			median := func(s *Store) float64 {
				slices.Sort(took[s])
				return float64(took[s][len(took[s])/2].Nanoseconds())
			}
			b.ReportMetric(median(few), "few-ns")
			b.ReportMetric(median(many), "many-ns")
			b.ReportMetric(median(many)/median(few), "ratio")
		})
	}
}

// backlog opens a store with jobs that need one CPU, and others that need very
// many, in ten lanes.
func backlog(b *testing.B, fit, wide int) *Store {
	b.Helper()
	s := openBench(b)
	b.Cleanup(func() { s.Close() })
	for i := range 10 {
		stuff(b, s, wide/10, 128+i)
	}
	stuff(b, s, fit, 1)
	c, err := s.server.connect(b.Context())
	if err == nil {
		_, err = c.pg.Exec(b.Context(), "VACUUM ANALYZE") // as it would have been done meanwhile
		c.close()
	}
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// stuff queues n jobs of one lane in one statement each, copies of a first one.
func stuff(b *testing.B, s *Store, n, cpus int) {
	b.Helper()
	if n == 0 {
		return
	}
	first := benchJob(cpus)
	if err := submit(s, first); err != nil {
		b.Fatal(err)
	}
	c, err := s.server.connect(b.Context())
	if err == nil {
		err = c.takeTime(b.Context())
		defer c.close()
	}
	for _, q := range []string{`
INSERT INTO nanoos.specs (id, tenant, key, digest, name, folded, spec)
SELECT id || '-' || n, tenant, key, digest, name, folded, spec FROM nanoos.specs, generate_series(2, $2) AS n WHERE id = $1`, `
INSERT INTO nanoos.jobs
SELECT s.seq, s.id, j.tenant, j.lane, j.state, j.priority, j.reason, j.message, j.attempt, j.fence, j.worker, j.failures, j.losses,
	j.cancel, j.run_at, j.verdict, j.failure, j.created_at, j.queued_at, j.started_at, j.ended_at, j.rev
FROM nanoos.jobs j JOIN nanoos.specs s ON s.id LIKE j.id || '-%' WHERE j.id = $1 AND $2 > 0`, `
UPDATE nanoos.lanes l SET queued = $2 FROM nanoos.jobs j WHERE j.id = $1 AND l.id = j.lane`} {
		if err == nil {
			_, err = c.pg.Exec(b.Context(), q, string(first.ID), n)
		}
	}
	if err != nil {
		b.Fatal(err)
	}
}

// claimAndRelease starts sixteen of the jobs that fit and gives them back. It
// returns how long the transaction of the start ran; the flush after it costs
// the same for all.
func claimAndRelease(b *testing.B, s *Store) (took time.Duration) {
	b.Helper()
	ctx := context.Background()
	var jobs []job.Job
	err := s.Write(ctx, func(tx store.Tx) error {
		began := time.Now()
		lanes, err := tx.Lanes(ctx)
		if err != nil {
			return err
		}
		var fit []store.LaneID
		for _, l := range lanes {
			if l.Demand.CPUs == 1 {
				fit = append(fit, l.ID)
			}
		}
		heads, err := tx.Heads(ctx, fit, 16)
		if err != nil {
			return err
		}
		if len(heads) != 16 {
			return fmt.Errorf("there are %d heads", len(heads))
		}
		if jobs, err = tx.LockJobs(ctx, idsOf(heads)); err != nil {
			return err
		}
		for i := range jobs {
			jobs[i].State, jobs[i].Worker = job.Running, "bench"
		}
		if err := tx.SaveJobs(ctx, jobs); err != nil {
			return err
		}
		if err := tx.AppendEvents(ctx, eventsOf(jobs, job.EventStarted)); err != nil {
			return err
		}
		if _, err := tx.Usage(ctx); err != nil { // which also counts the jobs
			return err
		}
		took = time.Since(began)
		return nil
	})
	if err == nil {
		err = s.Write(ctx, func(tx store.Tx) error {
			for i := range jobs {
				jobs[i].State = job.Queued
			}
			return tx.SaveJobs(ctx, jobs)
		})
	}
	if err != nil {
		b.Fatal(err)
	}
	return took
}

func idsOf(heads []store.Head) []job.ID {
	ids := make([]job.ID, len(heads))
	for i, h := range heads {
		ids[i] = h.ID
	}
	return ids
}

var benchParams = json.RawMessage(`{"note":"` + strings.Repeat("x", 400) + `"}`)

func benchJob(cpus int) job.Job {
	now := time.Now()
	return job.Job{
		ID: job.NewID(), Tenant: job.DefaultTenant, State: job.Queued, CreatedAt: now, QueuedAt: now,
		Spec: job.Spec{Name: "bench", Queue: job.DefaultQueue, Engine: "mock", Params: benchParams, Priority: job.PriorityNormal,
			Demand: job.Demand{CPUs: cpus, Memory: job.MemoryQuantum}, Walltime: job.DefaultWalltime, Retry: job.DefaultRetry},
	}
}

func submit(s *Store, jobs ...job.Job) error {
	ctx := context.Background()
	return s.Write(ctx, func(tx store.Tx) error {
		if err := tx.InsertJobs(ctx, jobs, make([]string, len(jobs))); err != nil {
			return err
		}
		return tx.AppendEvents(ctx, eventsOf(jobs, job.EventSubmitted))
	})
}

func eventsOf(jobs []job.Job, kind job.EventKind) []job.Event {
	ev := make([]job.Event, len(jobs))
	for i, j := range jobs {
		ev[i] = job.Event{Tenant: j.Tenant, Job: j.ID, Kind: kind, Data: json.RawMessage(`{"by":"bench"}`)}
	}
	return ev
}

var benchResult = json.RawMessage(`{"summary":"` + strings.Repeat("y", 280) + `"}`)

// claimAndFinish is what a worker's claim and finish do to the store.
func claimAndFinish(s *Store, lane store.LaneID, n int) (int, error) {
	ctx := context.Background()
	var jobs []job.Job
	err := s.Write(ctx, func(tx store.Tx) error {
		heads, err := tx.Heads(ctx, []store.LaneID{lane}, n)
		if err != nil {
			return err
		}
		if jobs, err = tx.LockJobs(ctx, idsOf(heads)); err != nil {
			return err
		}
		return saveAll(ctx, tx, jobs, job.EventStarted, tx.InsertAttempts, func(j *job.Job) {
			j.State, j.Worker, j.StartedAt = job.Running, "bench", tx.Now()
			j.Attempt++
			j.Fence++
		})
	})
	if err != nil || len(jobs) == 0 {
		return 0, err
	}
	ids := make([]job.ID, len(jobs))
	for i, j := range jobs {
		ids[i] = j.ID
	}
	err = s.Write(ctx, func(tx store.Tx) error {
		if jobs, err = tx.LockJobs(ctx, ids); err != nil {
			return err
		}
		return saveAll(ctx, tx, jobs, job.EventCompleted, tx.SaveAttempts, func(j *job.Job) {
			j.State, j.EndedAt, j.Result = job.Completed, tx.Now(), benchResult
		})
	})
	return len(jobs), err
}

func saveAll(ctx context.Context, tx store.Tx, jobs []job.Job, kind job.EventKind,
	attempts func(context.Context, []job.Attempt) error, change func(*job.Job)) error {
	as := make([]job.Attempt, len(jobs))
	for i := range jobs {
		change(&jobs[i])
		as[i] = job.Attempt{Job: jobs[i].ID, Number: jobs[i].Attempt, Worker: "bench", StartedAt: tx.Now()}
	}
	if err := tx.SaveJobs(ctx, jobs); err != nil {
		return err
	}
	if err := attempts(ctx, as); err != nil {
		return err
	}
	return tx.AppendEvents(ctx, eventsOf(jobs, kind))
}

// fill queues n jobs of one lane.
func fill(b *testing.B, s *Store, n, cpus int) {
	b.Helper()
	for n > 0 {
		jobs := make([]job.Job, min(n, 1000))
		for i := range jobs {
			jobs[i] = benchJob(cpus)
		}
		if err := submit(s, jobs...); err != nil {
			b.Fatal(err)
		}
		n -= len(jobs)
	}
}

func onlyLane(b *testing.B, s *Store) (id store.LaneID) {
	b.Helper()
	err := s.Read(context.Background(), func(tx store.ReadTx) error {
		lanes, err := tx.Lanes(context.Background())
		id = lanes[0].ID
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return id
}

// together runs b.N calls of fn from several goroutines.
func together(b *testing.B, callers int, fn func() error) {
	var begun atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for begun.Add(1) <= int64(b.N) {
				if err := fn(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// report adds what is comparable between machines of different load: the
// processor time of an op.
func report(b *testing.B, st store.Stats, cpu time.Duration) {
	b.StopTimer()
	b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	if st.Commits > 0 {
		b.ReportMetric(float64(st.Ops)/float64(st.Commits), "ops/commit")
		b.ReportMetric(float64(st.AvgCommit.Microseconds()), "commit-µs")
	}
}

// cpuTime is what the process has used so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
