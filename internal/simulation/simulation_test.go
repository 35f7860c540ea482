package simulation

import (
	"flag"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

var (
	seeds = flag.Int("seeds", defaultSeeds(), "how many seeds to simulate")
	seed  = flag.Uint64("seed", 1, "the first seed")
	story = flag.Bool("story", false, "print what happens in the first seed")
)

// defaultSeeds is what takes about 20 s on two cores, at a quarter of a second each;
// SEEDS says otherwise. The long form is 10 000.
func defaultSeeds() int {
	if n, err := strconv.Atoi(os.Getenv("SEEDS")); err == nil && n > 0 {
		return n
	}
	return 80
}

func TestMain(m *testing.M) {
	flag.Parse()
	// The leader's warnings about a database that fails are no news here.
	slog.SetDefault(slog.New(slog.DiscardHandler))
	code := m.Run()
	if f, err := makeFiles(); err == nil {
		os.RemoveAll(f.state)
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			code = 1
		}
	}
	os.Exit(code)
}

func TestI1toI23_HoldWhateverFails(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		*seeds = min(*seeds, 10)
	}
	began := time.Now()
	var next, jobs, starts atomic.Int64
	first := *seed
	for range min(runtime.GOMAXPROCS(0), *seeds) {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for n := next.Add(1) - 1; n < int64(*seeds) && !t.Failed(); n = next.Add(1) - 1 {
				var tell func(string)
				if *story && n == 0 {
					tell = func(line string) { t.Log(line) }
				}
				out := simulate(t, first+uint64(n), intact, tell)
				for _, v := range out.violations {
					t.Errorf("%s\n\trepeat with: go test ./internal/simulation -run HoldWhateverFails -cpu 1 -seed %d -seeds 1 -v -story", v, first+uint64(n))
				}
				jobs.Add(int64(out.jobs))
				starts.Add(int64(out.starts))
			}
		})
	}
	t.Cleanup(func() {
		t.Logf("%d seeds, %d jobs, %d starts of programs in %s", *seeds, jobs.Load(), starts.Load(), time.Since(began).Round(time.Second))
	})
}

// A seed fixes every fault and every number that is drawn. What is left to chance
// is who runs first of two that are woken at the same instant, by a thaw or by the
// end of the faults; on one processor that is fixed, too.
func TestTheSameSeedGivesTheSameHistory(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for s := range uint64(5) {
		a, b := simulate(t, 1000+s, intact, nil), simulate(t, 1000+s, intact, nil)
		if d := cmp.Diff(a.story, b.story); d != "" {
			t.Errorf("seed %d gave two histories:\n%s", 1000+s, d)
		}
	}
}
