package executor

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nano-os/nanoos/internal/job"
)

// BenchmarkStartTrue runs /bin/true four at a time: under a supervisor, and
// bare, by os/exec with a new directory and a log file. A supervisor other than
// the test binary is measured when NANOOS_BENCH_SUPERVISOR names it.
func BenchmarkStartTrue(b *testing.B) {
	b.Run("bare", func(b *testing.B) {
		dir := b.TempDir()
		fourAtATime(b, func(i int64) error {
			d := filepath.Join(dir, strconv.FormatInt(i, 10))
			if err := os.Mkdir(d, 0o700); err != nil {
				return err
			}
			log, err := os.Create(filepath.Join(d, "log"))
			if err != nil {
				return err
			}
			defer log.Close()
			c := exec.Command("/bin/true")
			c.Dir, c.Stdout, c.Stderr = d, log, log
			return c.Run()
		})
	})
	for name, limits := range map[string]Limits{"": {}, ", limited": {Memory: 1 << 30, CPUs: 1, Processes: 100}} {
		b.Run("supervised"+name, func(b *testing.B) {
			bench := setup(b, func(o *LocalOptions) {
				if other := os.Getenv("NANOOS_BENCH_SUPERVISOR"); other != "" {
					o.SupervisorArgv = []string{other, superviseCommand}
				}
			})
			fourAtATime(b, func(int64) error { return bench.runTrue(limits) })
		})
	}
}

func (b *bench) runTrue(limits Limits) error {
	task := Task{ID: job.NewID(), Attempt: 1, Steps: []Command{{Argv: []string{"/bin/true"}}}, Limits: limits}
	ctx := b.t.Context()
	r, err := b.Start(ctx, task)
	if err != nil {
		return err
	}
	e, err := r.Wait(ctx)
	if err == nil && (!e.Observed || e.Code != 0) {
		err = errors.New("did not succeed")
	}
	return err
}

func fourAtATime(b *testing.B, f func(i int64) error) {
	before := processorTime(b)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if err := f(i); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	// On a machine that others use, this is what can be compared.
	b.ReportMetric(float64(processorTime(b)-before)/1e6/float64(b.N), "cpu-ms/job")
}

// processorTime is what this process and its children that ended have used.
func processorTime(b *testing.B) time.Duration {
	var total time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var r unix.Rusage
		if err := unix.Getrusage(who, &r); err != nil {
			b.Fatal(err)
		}
		total += time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	return total
}
