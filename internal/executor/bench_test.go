package executor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nano-os/nanoos/internal/job"
)

// BenchmarkTrue runs /bin/true four at a time, in rounds that give every way its
// turn, and reports the medians of the rounds: rates depend on who else uses the
// machine, ratios within a round hardly.
//
//   - bare: os/exec with a new directory and a log file.
//   - smallest: testdata/smallest, a program that starts it and waits.
//   - durable: the same with what the protocol demands to be flushed: the spec,
//     the start record and the exit record, and the names of the first two.
//   - ours: the supervisor that nanoos carries; limited: in control groups.
//   - other: the supervisor that NANOOS_BENCH_SUPERVISOR names, for example
//     nanoos itself.
func BenchmarkTrue(b *testing.B) {
	ways := waysToRunTrue(b)
	rounds := map[string][]measure{}
	for b.Loop() {
		for _, w := range ways {
			rounds[w.name] = append(rounds[w.name], fourAtATime(b, w.run))
		}
	}
	median := func(name string, of func(measure, int) float64) float64 {
		var all []float64
		for i, m := range rounds[name] {
			all = append(all, of(m, i))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	b.ReportMetric(0, "ns/op") // a round says nothing
	for _, w := range ways {
		b.ReportMetric(median(w.name, func(m measure, _ int) float64 { return attemptsARound / m.elapsed.Seconds() }), w.name+"-jobs/s")
		b.ReportMetric(median(w.name, func(m measure, _ int) float64 { return m.cpu.Seconds() * 1e3 / attemptsARound }), w.name+"-cpu-ms/job")
		for _, limit := range []string{"smallest", "durable"} {
			ratio := median(w.name, func(m measure, i int) float64 { return rounds[limit][i].elapsed.Seconds() / m.elapsed.Seconds() })
			b.ReportMetric(ratio, w.name+"/"+limit)
		}
	}
}

type way struct {
	name string
	run  func() error
}

func waysToRunTrue(b *testing.B) []way {
	smallest := filepath.Join(b.TempDir(), "smallest")
	goBuild(b, smallest, "./testdata/smallest")
	dir := b.TempDir()
	var next atomic.Int64
	directory := func() string { return filepath.Join(dir, strconv.FormatInt(next.Add(1), 10)) }
	ways := []way{
		{"bare", func() error { return runBare(directory()) }},
		{"smallest", func() error { return runSmallest(smallest, directory(), false) }},
		{"durable", func() error { return runSmallest(smallest, directory(), true) }},
	}
	ours := setup(b)
	ways = append(ways, way{"ours", func() error { return ours.runTrue(Limits{}) }},
		way{"limited", func() error { return ours.runTrue(Limits{Memory: 1 << 30, CPUs: 1, Processes: 100}) }})
	if path := os.Getenv("NANOOS_BENCH_SUPERVISOR"); path != "" {
		other := setup(b, func(o *LocalOptions) { o.SupervisorArgv = []string{path, superviseCommand} })
		ways = append(ways, way{"other", func() error { return other.runTrue(Limits{}) }})
	}
	return ways
}

func runBare(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	c := exec.Command("/bin/true")
	c.Dir, c.Stdout, c.Stderr = dir, log, log
	return c.Run()
}

// runSmallest is the starter's part of the limit: a directory, the spec, and a
// supervisor in a session of its own.
func runSmallest(program, dir string, durable bool) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	mode := "plain"
	if durable {
		mode = "durable"
		spec, err := os.Create(filepath.Join(dir, "spec"))
		if err != nil {
			return err
		}
		defer spec.Close()
		if _, err := spec.WriteString("/bin/true\n"); err != nil {
			return err
		}
		if err := flush(spec, filepath.Dir(dir)); err != nil {
			return err
		}
	}
	c := exec.Command(program, dir, mode, "/bin/true")
	c.Env = supervisorEnv
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return c.Run()
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
		err = fmt.Errorf("did not succeed: %+v", e)
	}
	return err
}

// attemptsARound is enough to be measured by clocks of 10 ms, and few enough
// for many rounds.
const attemptsARound = 100

type measure struct{ elapsed, cpu time.Duration }

func fourAtATime(b *testing.B, f func() error) measure {
	cpu, start := processorTime(b), time.Now()
	var taken atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for taken.Add(1) <= attemptsARound {
				if err := f(); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return measure{time.Since(start), processorTime(b) - cpu}
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

// goBuild builds a program as a release does.
func goBuild(t testing.TB, to, pkg string) {
	t.Helper()
	c := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", to, pkg)
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatal(errors.Join(fmt.Errorf("build %s: %s", pkg, out), err))
	}
}
