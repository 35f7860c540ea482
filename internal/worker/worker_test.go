package worker

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nano-os/nanoos/internal/artifact"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/executor"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
	"github.com/nano-os/nanoos/internal/store"
)

func TestJobsRunOneAfterTheOtherAsTheyFit(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		stop := r.start()
		defer stop()
		var ids []job.ID
		for range 6 {
			ids = append(ids, r.submit(10*time.Second))
		}
		// Two fit at a time: three rounds, and hardly anything between them.
		time.Sleep(30*time.Second + 500*time.Millisecond)
		synctest.Wait()
		for _, id := range ids {
			r.want(id, job.Completed)
		}
		if starts, here := r.disk.count(); starts != 6 || here != 0 {
			t.Errorf("%d starts, %d directories left", starts, here)
		}
	})
}

func TestAWorkerThatGrowsRunsMoreAtATime(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		w := New(r.opt)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx) }()
		var ids []job.ID
		for range 6 {
			ids = append(ids, r.submit(10*time.Second))
		}
		time.Sleep(time.Second)
		if err := w.Resize(2); err != nil { // while the first two run
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		for _, id := range ids {
			r.want(id, job.Completed)
		}
		if err := w.Resize(-3); err != nil || w.Offer().CPUs != 1 {
			t.Errorf("shrunk to %d CPUs: %v", w.Offer().CPUs, err)
		}
		if err := w.Resize(-1); job.CodeOf(err) != job.Invalid {
			t.Errorf("shrunk to nothing: %v", err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// slowly is a place for files that takes its time, or hangs.
type slowly struct {
	artifact.Store
	takes time.Duration
	hangs bool
}

func (s *slowly) Put(ctx context.Context, key string, from io.Reader, size int64) (artifact.Info, error) {
	t := time.NewTimer(s.takes)
	defer t.Stop()
	if s.hangs {
		t.Stop()
	}
	select {
	case <-t.C:
		return s.Store.Put(ctx, key, from, size)
	case <-ctx.Done():
		return artifact.Info{}, context.Cause(ctx)
	}
}

func TestTheNextJobDoesNotWaitForTheReportOfTheLast(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.opt.Artifacts = &slowly{Store: r.art, takes: 20 * time.Second}
		stop := r.start()
		defer stop()
		for range 4 {
			r.submit(5 * time.Second)
		}
		time.Sleep(5*time.Second + 500*time.Millisecond)
		synctest.Wait()
		if starts, here := r.disk.count(); starts != 4 || here != 4 {
			t.Errorf("%d started and %d on the disk, want all 4", starts, here)
		}
	})
}

func TestG14_AWorkerLeavesWithinTenSecondsWhateverHangs(t *testing.T) {
	for name, c := range map[string]struct {
		uploads bool // hang
		server  bool // is gone
		pulls   time.Duration
	}{
		"with programs running":                 {},
		"with uploads that hang":                {uploads: true},
		"without a server":                      {server: true},
		"without a server and with uploads too": {uploads: true, server: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				hung := &slowly{Store: r.art, hangs: c.uploads}
				r.opt.Artifacts = hung
				stop := r.start()
				short, long := r.submit(time.Second), r.submit(time.Hour)
				time.Sleep(10 * time.Second)
				r.wire.set(c.server)
				time.Sleep(time.Minute)
				if took := stop(); took > 10*time.Second {
					t.Errorf("left after %v", took)
				}
				r.want(long, job.Running)
				// The next process takes up what is on the disk.
				hung.hangs = false
				r.wire.set(false)
				next := r.start()
				defer next()
				time.Sleep(10 * time.Second)
				r.want(short, job.Completed)
				time.Sleep(time.Hour)
				r.want(long, job.Completed)
				if j := r.job(long); j.Attempt != 1 {
					t.Errorf("attempt %d, want the first", j.Attempt)
				}
				if starts, _ := r.disk.count(); starts != 2 {
					t.Errorf("%d starts, want 2", starts)
				}
			})
		})
	}
}

func TestAnEndThatCannotBeReportedIsReadOnceAndKept(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		const n = 200
		r.opt.Session.Offer.CPUs = n
		r.opt.Session.Offer.Memory = 1 << 50
		stop := r.start()
		defer stop()
		var ids []job.ID
		for range n {
			ids = append(ids, r.submit(time.Minute))
		}
		time.Sleep(30 * time.Second)
		r.wire.set(true)
		time.Sleep(3 * time.Hour)
		if _, here := r.disk.count(); here != n {
			t.Errorf("%d of %d ends are on the disk", here, n)
		}
		r.wire.mu.Lock()
		before := r.wire.finishes
		r.wire.mu.Unlock()
		// At most one report a minute or so each.
		if before > n*3*60*3/2 {
			t.Errorf("%d reports in three hours", before)
		}
		r.wire.set(false)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		for _, id := range ids {
			r.want(id, job.Completed)
		}
		if got := r.eng.parses.Load(); got != n {
			t.Errorf("%d results were parsed %d times", n, got)
		}
		r.wire.mu.Lock()
		defer r.wire.mu.Unlock()
		if again := r.wire.finishes - before; again > 2*n {
			t.Errorf("%d reports for %d ends after the return", again, n)
		}
	})
}

func TestR10_AfterALongSilenceTheSameAttemptGoesOn(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		ctx, cancel := context.WithCancel(t.Context())
		var leader sync.WaitGroup
		leader.Go(func() { _ = r.q.Maintain(ctx) })
		defer leader.Wait()
		defer cancel()
		stop := r.start()
		defer stop()
		id := r.submit(time.Hour)
		time.Sleep(time.Minute)
		r.wire.set(true)
		time.Sleep(20 * time.Minute)
		if s := r.job(id).State; s == job.Running {
			t.Error("the silent worker still has its job")
		}
		r.wire.set(false)
		time.Sleep(15 * time.Second)
		r.want(id, job.Running)
		time.Sleep(time.Hour)
		r.want(id, job.Completed)
		if j := r.job(id); j.Attempt != 1 || j.Losses != 0 {
			t.Errorf("attempt %d with %d losses", j.Attempt, j.Losses)
		}
	})
}

func TestACancelStopsARunWithinTwoSeconds(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		stop := r.start()
		defer stop()
		id := r.submit(time.Hour)
		time.Sleep(5 * time.Second)
		if _, err := r.q.Cancel(t.Context(), "t", id, queue.Actor{By: "ada"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		r.want(id, job.Cancelled)
	})
}

func TestG21_ANumberThatTheDiskHasIsNotStartedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		id := r.submit(time.Minute)
		// An attempt that the database has forgotten, and that the queue was not told of.
		if _, err := r.disk.Start(t.Context(), executorTask(id, 1)); err != nil {
			t.Fatal(err)
		}
		r.opt.Executor = &forgetful{played: r.disk}
		stop := r.start()
		defer stop()
		time.Sleep(5 * time.Minute)
		r.want(id, job.Completed)
		if j := r.job(id); j.Attempt != 2 || j.Failures+j.Losses != 0 {
			t.Errorf("attempt %d, %d failures, %d losses; want the second, at no cost", j.Attempt, j.Failures, j.Losses)
		}
		if starts, here := r.disk.count(); starts != 2 || here != 0 {
			t.Errorf("%d starts, %d directories left", starts, here)
		}
	})
}

// forgetful is an executor whose first list is empty.
type forgetful struct {
	*played
	listed atomic.Bool
}

func (f *forgetful) List(ctx context.Context) ([]executor.Found, error) {
	if !f.listed.Swap(true) {
		return nil, nil
	}
	return f.played.List(ctx)
}

func executorTask(id job.ID, attempt int) executor.Task {
	return executor.Task{ID: id, Attempt: attempt, Stage: func(_ context.Context, dir string) error {
		return os.WriteFile(filepath.Join(dir, "mock.json"), []byte(`{"step_seconds":3600}`), 0o600)
	}}
}

// readers keep the output that a worker sends.
type readers struct {
	mu     sync.Mutex
	text   map[string]string // by attempt and stream
	calls  int
	broken bool
	loses  bool // forgets everything before the next call
	most   int
}

func (o *readers) Append(_ context.Context, l job.Lease, stream string, from int64, data []byte) (int64, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls++
	o.most = max(o.most, len(data))
	if o.broken {
		return 0, job.Errorf(job.Unavailable, "nobody takes it")
	}
	if o.loses {
		o.text, o.loses = nil, false
	}
	if o.text == nil {
		o.text = map[string]string{}
	}
	key := string(l.Job.ID) + " " + stream
	if have := int64(len(o.text[key])); from <= have && have < from+int64(len(data)) {
		o.text[key] += string(data[have-from:])
	}
	return int64(len(o.text[key])), nil
}

func (o *readers) read(id job.ID) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text[string(id)+" "+engine.StdoutName]
}

func TestOutputIsSentAsItGrows(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		out := &readers{}
		r.opt.Outputs, r.disk.says = out, "line\n"
		stop := r.start()
		defer stop()
		id, short := r.submit(20*time.Second+500*time.Millisecond), r.submit(500*time.Millisecond)
		time.Sleep(10*time.Second + 500*time.Millisecond)
		if got := strings.Count(out.read(id), "\n"); got < 8 {
			t.Errorf("%d lines were sent after 10 s", got)
		}
		out.mu.Lock()
		if out.calls > 12 {
			t.Errorf("%d calls in 10 s", out.calls)
		}
		out.broken = true
		out.mu.Unlock()
		time.Sleep(5 * time.Second)
		out.mu.Lock()
		out.broken, out.loses = false, true
		out.mu.Unlock()
		time.Sleep(6 * time.Second)
		r.want(id, job.Completed)
		// Everything, though a server had lost what it had.
		if got := out.read(id); got != strings.Repeat("line\n", 20) {
			t.Errorf("sent %q", got)
		}
		r.want(short, job.Completed)
		if got := out.read(short); got != "" {
			t.Errorf("a run that is over at once has sent %q", got)
		}
	})
}

func TestALargeOutputIsSentInChunks(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		out := &readers{}
		r.opt.Outputs, r.disk.says = out, strings.Repeat("x", 3<<20)
		stop := r.start()
		defer stop()
		id := r.submit(5*time.Second + 500*time.Millisecond)
		time.Sleep(12 * time.Second)
		r.want(id, job.Completed)
		if out.most > 256<<10 || out.most == 0 {
			t.Errorf("a call carried %d bytes", out.most)
		}
	})
}

func TestADrainedWorkerFinishesAndClaimsNoMore(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		stop := r.start()
		defer stop()
		first := r.submit(30 * time.Second)
		time.Sleep(time.Second)
		if err := r.q.DrainWorker(t.Context(), "w1", queue.Actor{By: "ada"}); err != nil {
			t.Fatal(err)
		}
		second := r.submit(time.Second)
		time.Sleep(time.Minute)
		r.want(first, job.Completed)
		r.want(second, job.Queued)
		if err := r.q.ResumeWorker(t.Context(), "w1", queue.Actor{By: "ada"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		r.want(second, job.Completed)
	})
}

func TestG21_AWorkerWaitsForTheThawAndGoesOn(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		stop := r.start()
		defer stop()
		running, ended := r.submit(time.Hour), r.submit(30*time.Second)
		time.Sleep(10 * time.Second)
		if err := r.st.Write(t.Context(), func(tx store.Tx) error {
			jobs, err := tx.LockJobs(t.Context(), []job.ID{running, ended})
			if err != nil {
				return err
			}
			for i := range jobs {
				jobs[i].Fence += 1 << 40
			}
			if err := tx.SaveJobs(t.Context(), jobs); err != nil {
				return err
			}
			return tx.SetMeta(t.Context(), "frozen", "restored")
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		r.want(ended, job.Running) // its end is kept on the disk
		if err := r.q.Thaw(t.Context(), queue.Actor{By: "ada"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		r.want(ended, job.Completed)
		r.want(running, job.Running)
		time.Sleep(time.Hour)
		r.want(running, job.Completed)
		if j := r.job(running); j.Attempt != 1 || j.Losses != 0 {
			t.Errorf("attempt %d with %d losses", j.Attempt, j.Losses)
		}
	})
}
