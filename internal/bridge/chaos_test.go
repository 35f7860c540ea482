package bridge

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
	"github.com/nano-os/nanoos/internal/store/postgres/pgtest"
)

// TestF27_RowsAreRightAfterKillsAtRandom lets jobs live in any way while the
// platform's database is killed and the mirror restarted. The guard of the tables
// refuses illegal moves and a COMPLETED without a result meanwhile.
func TestF27_RowsAreRightAfterKillsAtRandom(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pgtest.Start(t, pgtest.Options{Durable: true}), "later")
	chance := rand.New(rand.NewPCG(7, 11))
	b := w.open()
	const jobs = 60
	var ids []job.ID
	for range jobs {
		id := w.pending()
		w.submit(b, id)
		ids = append(ids, id)
	}
	stop := w.run(b)
	var running []job.Lease
	fault := &job.Failure{Class: job.ClassInput, Code: "input_error", Message: "it was wrong"}
	for step := 0; len(over(w, ids)) < jobs; step++ {
		switch n := chance.IntN(10); {
		case step%60 == 30:
			if err := w.platform.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.cluster.Kill(t)
			w.cluster.Restart(t)
		case step%45 == 15:
			stop()
			stop = w.run(w.open())
		case n < 4:
			leases, err := w.q.Claim(t.Context(), "node7-abc123", offer, 1, 0)
			if err != nil {
				t.Fatal(err)
			}
			running = append(running, leases...)
		case n < 6 && len(running) > 0:
			w.progress(running[0], job.Progress{Fraction: chance.Float64(), Stage: "on"})
		case n < 7:
			id := ids[chance.IntN(jobs)]
			if _, err := w.q.Cancel(t.Context(), job.DefaultTenant, id, queue.Actor{}); err != nil && job.CodeOf(err) != job.Conflict {
				t.Fatal(err)
			}
		case len(running) > 0:
			l := running[0]
			running = running[1:]
			out := succeeded(l.Job.ID)
			if n == 9 {
				out = job.Outcome{Exit: &job.Exit{Observed: true, Code: 1}, Failure: fault}
			}
			w.finish(l, out)
		}
	}
	completed := 0
	for _, id := range ids {
		state := w.job(id).State
		w.wait(id, "status", string(state))
		if state == job.Completed {
			completed++
		}
	}
	if got := w.sql("SELECT count(*) FROM simulation_results"); got != fmt.Sprint(completed) || completed == 0 {
		t.Errorf("%s results of %d completed jobs", got, completed)
	}
}

// over are those of the jobs that have ended.
func over(w *world, ids []job.ID) (done []job.ID) {
	for _, id := range ids {
		if w.job(id).State.Terminal() {
			done = append(done, id)
		}
	}
	return done
}
