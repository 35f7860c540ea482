package queue_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
	"github.com/nano-os/nanoos/internal/store/sqlite"
)

// BenchmarkDrain claims jobs and finishes them with a stored result of 300
// bytes; one op is one job. The processor time of a job is what compares
// between machines of different load.
func BenchmarkDrain(b *testing.B) {
	for _, c := range []struct {
		name   string
		batch  int
		finish func(*testing.B, *queue.Service, []job.Lease)
	}{
		{"finish=all", 100, finishAll},
		{"finish=each", 100, finishEach},
		{"finish=apart", 100, finishApart},
		{"finish=all", 16, finishAll},
		{"finish=all", 1, finishAll},
	} {
		b.Run(fmt.Sprintf("claim=%d/%s", c.batch, c.name), func(b *testing.B) {
			st, err := sqlite.Open(filepath.Join(b.TempDir(), "nanoos.db"), sqlite.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer st.Close()
			q := queue.New(st, queue.Options{})
			offer := free(1 << 20)
			offer.Memory = 1 << 50
			if _, err := q.Attach(b.Context(), job.Session{Worker: "w1", Host: "h1", Offer: offer}, nil); err != nil {
				b.Fatal(err)
			}
			for n := 0; n < b.N; n += 500 {
				if _, err := q.Submit(b.Context(), "t", benchSpecs(min(500, b.N-n))...); err != nil {
					b.Fatal(err)
				}
			}
			cpu := cpuTime()
			b.ResetTimer()
			for n := 0; n < b.N; {
				leases, err := q.Claim(b.Context(), "w1", offer, c.batch, 0)
				if err != nil || len(leases) == 0 {
					b.Fatalf("claimed %d after %d: %v", len(leases), n, err)
				}
				c.finish(b, q, leases)
				n += len(leases)
			}
			b.StopTimer()
			b.ReportMetric(float64((cpuTime()-cpu).Microseconds())/float64(b.N), "cpu-µs/job")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}

func benchSpecs(n int) []job.Spec {
	specs := make([]job.Spec, n)
	for i := range specs {
		specs[i] = job.Spec{Engine: "mock", Name: "bench"}
	}
	return specs
}

var benchOutcome = job.Outcome{Verdict: job.Converged, Exit: &job.Exit{Observed: true},
	Result: json.RawMessage(`{"summary":"` + strings.Repeat("y", 280) + `"}`)}

func finishAll(b *testing.B, q *queue.Service, leases []job.Lease) {
	ends := make([]job.Ending, len(leases))
	for i, l := range leases {
		ends[i] = job.Ending{ID: l.Job.ID, Fence: l.Fence, Outcome: benchOutcome}
	}
	for _, err := range q.FinishAll(b.Context(), ends) {
		if err != nil {
			b.Error(err)
		}
	}
}

func finishEach(b *testing.B, q *queue.Service, leases []job.Lease) {
	var wg sync.WaitGroup
	for _, l := range leases {
		wg.Go(func() {
			if err := q.Finish(b.Context(), l, benchOutcome); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
}

// finishApart is what finishing costs without being merged by the queue.
func finishApart(b *testing.B, q *queue.Service, leases []job.Lease) {
	var wg sync.WaitGroup
	for _, l := range leases {
		wg.Go(func() {
			if err := q.FinishAll(b.Context(), []job.Ending{{ID: l.Job.ID, Fence: l.Fence, Outcome: benchOutcome}})[0]; err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
}

// cpuTime is what the process has used so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
