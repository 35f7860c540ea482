package worker

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/artifact"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/executor"
	"github.com/nano-os/nanoos/internal/job"
)

// BenchmarkAsleep holds runs whose programs sleep: what they cost in memory, and
// in processor time while nothing happens.
func BenchmarkAsleep(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprintf("runs=%d", n), func(b *testing.B) {
			disk := &sleeping{dir: b.TempDir()}
			art, err := artifact.OpenDir(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			defer art.Close()
			before := inUse()
			w := New(Options{
				Session: job.Session{Worker: "w1", Host: "h1", Offer: job.Offer{CPUs: n, Memory: 1 << 50, Engines: []string{"mock"}}},
				Queue:   &plenty{left: n}, Executor: disk, Artifacts: art, Engines: []engine.Engine{engine.Mock{}}, MinFree: 1, Outputs: &readers{},
				Machine: &Machine{StateDir: b.TempDir(), Programs: map[string]string{engine.MockProgram: "/bin/true"}},
			})
			ctx, cancel := context.WithCancel(b.Context())
			var wg sync.WaitGroup
			wg.Go(func() { _ = w.Run(ctx) })
			for disk.count() < n {
				time.Sleep(10 * time.Millisecond)
			}
			time.Sleep(3 * time.Second)
			held := inUse() - before
			var cpu, wall time.Duration
			for b.Loop() {
				begin, used := time.Now(), cpuTime()
				time.Sleep(2 * time.Second)
				cpu, wall = cpu+cpuTime()-used, wall+time.Since(begin)
			}
			b.ReportMetric(float64(held)/float64(n)/1024, "KiB/run")
			b.ReportMetric(100*cpu.Seconds()/wall.Seconds(), "%cpu")
			cancel()
			wg.Wait()
		})
	}
}

// inUse is the memory of heap and stacks after a collection.
func inUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// plenty is a queue that has so many jobs and takes everything.
type plenty struct {
	mu   sync.Mutex
	left int
}

func (q *plenty) Attach(context.Context, job.Session, []job.Found) (job.Attachment, error) {
	return job.Attachment{}, nil
}

func (q *plenty) Claim(ctx context.Context, _ string, _ job.Offer, most int, _ time.Duration) ([]job.Lease, error) {
	q.mu.Lock()
	n := min(q.left, most)
	q.left -= n
	q.mu.Unlock()
	if n == 0 {
		<-ctx.Done()
		return nil, nil
	}
	leases := make([]job.Lease, n)
	for i := range leases {
		spec := job.Spec{Name: "sleep", Engine: "mock", Queue: job.DefaultQueue, Demand: job.Demand{CPUs: 1, Memory: 1 << 20}, Walltime: job.DefaultWalltime}
		leases[i] = job.Lease{Job: job.Job{ID: job.NewID(), Spec: spec, State: job.Running, Attempt: 1, Fence: 1}, Fence: 1}
	}
	return leases, nil
}

func (q *plenty) Beat(context.Context, string, []job.Held) ([]job.Order, error) { return nil, nil }

func (q *plenty) Orders(ctx context.Context, _ string, _ time.Duration) ([]job.Order, error) {
	<-ctx.Done()
	return nil, nil
}

func (q *plenty) Finish(context.Context, job.Lease, job.Outcome) error { return nil }
func (q *plenty) Leave(context.Context, string) error                  { return nil }

// sleeping is an executor whose programs never end.
type sleeping struct {
	dir string
	mu  sync.Mutex
	n   int
}

func (s *sleeping) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

func (s *sleeping) Start(context.Context, executor.Task) (executor.Run, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	return asleep{filepath.Join(s.dir, fmt.Sprint(s.n))}, nil
}

func (s *sleeping) Attach(context.Context, job.ID, int) (executor.Run, error) {
	return nil, job.Errorf(job.NotFound, "nothing is here")
}

func (s *sleeping) WorkDir(job.ID, int) string                     { return s.dir }
func (s *sleeping) List(context.Context) ([]executor.Found, error) { return nil, nil }
func (s *sleeping) Remove(context.Context, job.ID, int) error      { return nil }
func (s *sleeping) Capabilities() executor.Capabilities            { return executor.Capabilities{} }

type asleep struct{ dir string }

func (a asleep) Wait(ctx context.Context) (job.Exit, error) {
	<-ctx.Done()
	return job.Exit{}, context.Cause(ctx)
}

func (a asleep) Stop(context.Context, job.StopCause) error { return nil }
func (a asleep) Dir() string                               { return a.dir }
func (a asleep) Stdout() string                            { return filepath.Join(a.dir, "out") }
func (a asleep) Stderr() string                            { return filepath.Join(a.dir, "err") }
func (a asleep) Usage() (executor.Usage, error)            { return executor.Usage{}, nil }
