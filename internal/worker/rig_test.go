package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
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
	"github.com/nano-os/nanoos/internal/store/storetest"
)

// rig is a real queue on the model store, and a machine whose programs are
// played: they sleep and print. Time is virtual.
type rig struct {
	t    *testing.T
	st   *storetest.Model
	q    *queue.Service
	wire *wire
	disk *played
	art  *artifact.Dir
	eng  *easy
	opt  Options
}

// easy is the mock engine with a result that is good whatever was printed.
type easy struct {
	engine.Mock
	parses atomic.Int64
}

func (e *easy) Parse(engine.Run) (*engine.Result, error) {
	e.parses.Add(1)
	return &engine.Result{Outcome: engine.Success, Verdict: job.Converged}, nil
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, st: storetest.NewModel(time.Now), eng: &easy{}}
	r.q = queue.New(r.st, queue.Options{Rand: func() float64 { return 0.5 }})
	r.wire = &wire{Queue: r.q}
	r.disk = &played{dir: t.TempDir(), off: t.Context().Done(), runs: map[place]*playedRun{}}
	var err error
	if r.art, err = artifact.OpenDir(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.art.Close() })
	r.opt = Options{
		Session: job.Session{Worker: "w1", Host: "h1", Offer: job.Offer{CPUs: 2, Memory: 64 << 30, Engines: []string{"mock"}}},
		Queue:   r.wire, Executor: r.disk, Artifacts: r.art, Engines: []engine.Engine{r.eng}, MinFree: 1,
		Machine: &Machine{HostName: "here", StateDir: t.TempDir(), Programs: map[string]string{engine.MockProgram: "/bin/true"}},
		Rand:    func() float64 { return 0.5 },
	}
	return r
}

// start runs a worker until stop, which returns how long it took to leave.
func (r *rig) start() (stop func() time.Duration) {
	ctx, cancel := context.WithCancel(r.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := New(r.opt).Run(ctx); err != nil && ctx.Err() == nil {
			r.t.Errorf("the worker ended: %v", err)
		}
	})
	return func() time.Duration {
		begin := time.Now()
		cancel()
		wg.Wait()
		return time.Since(begin)
	}
}

// submit submits a job that runs for d.
func (r *rig) submit(d time.Duration) job.ID {
	r.t.Helper()
	params := fmt.Sprintf(`{"steps":1,"step_seconds":%g}`, d.Seconds())
	got, err := r.q.Submit(r.t.Context(), "t", job.Spec{Engine: "mock", Params: json.RawMessage(params)})
	if err != nil {
		r.t.Fatal(err)
	}
	return got[0].Job.ID
}

func (r *rig) job(id job.ID) (j job.Job) {
	r.t.Helper()
	err := r.st.Read(r.t.Context(), func(tx store.ReadTx) (err error) {
		j, err = tx.Job(r.t.Context(), "", id)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return j
}

func (r *rig) want(id job.ID, s job.State) {
	r.t.Helper()
	if j := r.job(id); j.State != s {
		r.t.Errorf("job is %s (%s), want %s", j.State, j.Message, s)
	}
}

// wire is the way to the queue, which may be cut.
type wire struct {
	Queue
	mu       sync.Mutex
	cut      bool
	finishes int // that arrived, or would have
	most     int // finishes at the same time
	now      int
}

func (w *wire) set(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
}

func (w *wire) check() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		return job.Errorf(job.Unavailable, "no server answers")
	}
	return nil
}

func (w *wire) Attach(ctx context.Context, s job.Session, found []job.Found) (job.Attachment, error) {
	if err := w.check(); err != nil {
		return job.Attachment{}, err
	}
	return w.Queue.Attach(ctx, s, found)
}

func (w *wire) Claim(ctx context.Context, name string, free job.Offer, most int, wait time.Duration) ([]job.Lease, error) {
	if err := w.check(); err != nil {
		return nil, err
	}
	return w.Queue.Claim(ctx, name, free, most, wait)
}

func (w *wire) Beat(ctx context.Context, name string, held []job.Held) ([]job.Order, error) {
	if err := w.check(); err != nil {
		return nil, err
	}
	return w.Queue.Beat(ctx, name, held)
}

func (w *wire) Orders(ctx context.Context, name string, wait time.Duration) ([]job.Order, error) {
	if err := w.check(); err != nil {
		return nil, err
	}
	return w.Queue.Orders(ctx, name, wait)
}

func (w *wire) Finish(ctx context.Context, l job.Lease, out job.Outcome) error {
	w.mu.Lock()
	w.finishes++
	w.now++
	w.most = max(w.most, w.now)
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.now--
	}()
	if err := w.check(); err != nil {
		return err
	}
	return w.Queue.Finish(ctx, l, out)
}

func (w *wire) Leave(ctx context.Context, name string) error {
	if err := w.check(); err != nil {
		return err
	}
	return w.Queue.Leave(ctx, name)
}

type place struct {
	id      job.ID
	attempt int
}

// played is an executor whose programs sleep as long as their parameters say.
// Their directories are real files, and outlive the worker.
type played struct {
	dir string
	off <-chan struct{} // closed when the machine is switched off

	mu     sync.Mutex
	runs   map[place]*playedRun
	starts int
	says   string // what a program prints each second
}

type playedRun struct {
	of   *played
	dir  string
	done chan struct{} // closed at the end
	exit job.Exit
	stop chan job.StopCause
}

func (p *played) Capabilities() executor.Capabilities { return executor.Capabilities{} }

func (p *played) WorkDir(id job.ID, attempt int) string {
	return filepath.Join(p.dir, string(id), fmt.Sprint(attempt), "work")
}

func (p *played) Start(ctx context.Context, t executor.Task) (executor.Run, error) {
	r := &playedRun{of: p, dir: filepath.Dir(p.WorkDir(t.ID, t.Attempt)), done: make(chan struct{}), stop: make(chan job.StopCause, 1)}
	if err := os.MkdirAll(r.Dir(), 0o700); err != nil {
		return nil, err
	}
	if err := t.Stage(ctx, r.Dir()); err != nil {
		return nil, err
	}
	for _, f := range []string{r.Stdout(), r.Stderr()} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			return nil, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.runs[place{t.ID, t.Attempt}] = r
	p.starts++
	go r.play(p.says)
	return r, nil
}

// play is the program.
func (r *playedRun) play(says string) {
	var params struct {
		StepSeconds float64 `json:"step_seconds"`
	}
	raw, err := os.ReadFile(filepath.Join(r.Dir(), "mock.json"))
	if err == nil {
		err = json.Unmarshal(raw, &params)
	}
	r.exit = job.Exit{Observed: true}
	if err != nil {
		r.exit.Code = 1
	}
	end := time.After(time.Duration(params.StepSeconds * float64(time.Second)))
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	defer close(r.done)
	for {
		select {
		case <-tick.C:
			r.print(says)
		case cause := <-r.stop:
			r.exit.Signal, r.exit.Cause = "SIGTERM", cause
			return
		case <-end:
			return
		case <-r.of.off:
			return
		}
	}
}

func (r *playedRun) print(text string) {
	f, err := os.OpenFile(r.Stdout(), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = f.WriteString(text)
}

func (p *played) Attach(_ context.Context, id job.ID, attempt int) (executor.Run, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.runs[place{id, attempt}]; r != nil {
		return r, nil
	}
	return nil, job.Errorf(job.NotFound, "no such attempt")
}

func (p *played) List(context.Context) ([]executor.Found, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []executor.Found
	for at, r := range p.runs {
		f := executor.Found{ID: at.id, Attempt: at.attempt, State: executor.FoundAlive}
		select {
		case <-r.done:
			f.State = executor.FoundEnded
		default:
		}
		found = append(found, f)
	}
	return found, nil
}

func (p *played) Remove(_ context.Context, id job.ID, attempt int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.runs, place{id, attempt})
	return os.RemoveAll(filepath.Dir(p.WorkDir(id, attempt)))
}

func (p *played) count() (starts, here int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.starts, len(p.runs)
}

func (r *playedRun) Dir() string    { return filepath.Join(r.dir, "work") }
func (r *playedRun) Stdout() string { return filepath.Join(r.dir, "out") }
func (r *playedRun) Stderr() string { return filepath.Join(r.dir, "err") }

func (r *playedRun) Usage() (executor.Usage, error) { return executor.Usage{}, nil }

func (r *playedRun) Wait(ctx context.Context) (job.Exit, error) {
	select {
	case <-r.done:
		return r.exit, nil
	case <-ctx.Done():
		return job.Exit{}, context.Cause(ctx)
	}
}

func (r *playedRun) Stop(_ context.Context, cause job.StopCause) error {
	select {
	case r.stop <- cause:
	default:
	}
	return nil
}

// inBubble runs a test in virtual time.
func inBubble(t *testing.T, test func(*testing.T, *rig)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { test(t, newRig(t)) })
}
