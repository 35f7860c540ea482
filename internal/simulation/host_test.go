package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/artifact"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/worker"
)

// slots is how many jobs of the simulation fit on a host.
const slots = 2

// host is a machine with a disk, on which workers come and go.
type host struct {
	world *world
	name  string
	wire  wire

	mu   sync.Mutex
	boot int                  // guarded by mu
	disk map[place]*directory // guarded by mu
	proc *process             // guarded by mu; nil while no worker runs
	runs int                  // guarded by mu
	up   time.Time            // guarded by mu; when the worker was started
}

// place is where an attempt is on a disk.
type place struct {
	id      job.ID
	attempt int
}

// startWorker starts a worker; one that ends by itself is started again, as a
// service manager does.
func (h *host) startWorker() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.proc != nil {
		return
	}
	h.runs++
	h.up = time.Now()
	w := h.world
	p := newProcess(w.ctx, h.name)
	h.proc = p
	l := &link{world: w, proc: p, wire: &h.wire, life: h.runs}
	wk := worker.New(worker.Options{
		Session: job.Session{Worker: h.name, Host: "host-" + h.name, Boot: fmt.Sprint(h.boot),
			Offer: job.Offer{CPUs: slots, Memory: 64 << 30, Engines: []string{"simulated"}}},
		Queue: l, Executor: &disks{host: h, proc: p}, Artifacts: nowhere{}, Machine: w.machine,
		Engines: []engine.Engine{program{}}, BeatEvery: beatEvery, MinFree: 1,
		Rand: w.chance.of(fmt.Sprintf("%s/%d/jitter", h.name, h.runs)).now,
	})
	w.wg.Go(func() {
		err := wk.Run(p.ctx)
		h.mu.Lock()
		current := h.proc == p
		if current && p.alive() {
			h.proc = nil
		}
		h.mu.Unlock()
		if current && p.alive() && err != nil && sleep(w.ctx, 5*time.Second) {
			h.startWorker()
		}
	})
}

// crashWorker kills the worker; what it started goes on.
func (h *host) crashWorker() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.proc != nil {
		h.proc.kill()
		h.proc = nil
	}
}

// stopWorker asks the worker to leave.
func (h *host) stopWorker() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.proc != nil {
		h.proc.end(errStopped)
	}
}

func (h *host) worker() *process {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.proc
}

// reboot ends everything on the machine but its disk.
func (h *host) reboot() {
	h.crashWorker()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.boot++
	for _, d := range h.disk {
		d.loseAll()
	}
}

// program is the engine of the simulation: one step, named by the job.
type program struct{ engine.Mock }

func (program) Name() string       { return "simulated" }
func (program) Programs() []string { return []string{"simulated"} }

func (program) Plan(spec job.Spec, _ engine.Inputs) (*engine.Plan, error) {
	return &engine.Plan{Steps: []engine.Step{{Program: "simulated", Args: []string{spec.Name}}}, Keep: []string{markerFile}}, nil
}

// markerFile is what a program leaves when it did what it was asked for.
const markerFile = "done"

// Parse is the check of the result: the marker stands for it.
func (program) Parse(r engine.Run) (*engine.Result, error) {
	res := &engine.Result{Verdict: job.Converged, Outcome: engine.Success}
	marker, err := r.Files.Open(markerFile)
	if err == nil {
		marker.Close()
	}
	switch {
	case r.Exit != nil && !r.Exit.Observed && r.Exit.Cause == job.CauseSupervisor && err == nil:
		return res, nil
	case r.Exit != nil:
		if res.Outcome, res.Failure = engine.ExitFailure(r.Exit); res.Failure != nil {
			break
		}
		res.Outcome, res.Failure = engine.UnexplainedExit(r.Exit)
	}
	if res.Failure == nil && err != nil {
		res.Outcome = engine.ResultInvalid
		res.Failure = &job.Failure{Class: job.ClassProgram, Code: "result_invalid", Message: "the marker is missing", Digest: "marker"}
	}
	if res.Failure != nil {
		res.Verdict = job.NotApplicable
	} else {
		res.Outcome = engine.Success
	}
	return res, nil
}

// behaviour is what a program does in one attempt, by seed.
type behaviour struct {
	Runs    time.Duration // until it ends by itself
	Code    int
	Good    bool // it leaves what it was asked for
	Orphans time.Duration
	Dies    bool // with its supervisor
}

func behaviourOf(ch *chance, name string, attempt int, endless float64) behaviour {
	c := ch.of(fmt.Sprintf("program/%s/%d", name, attempt))
	b := behaviour{Runs: c.within(time.Second, 20*time.Second), Good: true}
	if c.happens(0.4) {
		b.Runs = c.within(20*time.Second, 100*time.Second)
	}
	switch x := c.float(); {
	case x < 0.15:
		b.Code, b.Good = 1+c.below(5), false
	case x < 0.22:
		b.Good = false
	case x < 0.22+endless:
		b.Runs = time.Hour // until somebody stops it
	}
	if c.happens(0.08) {
		b.Orphans = c.within(0, min(b.Runs, time.Minute))
		b.Dies = c.happens(0.4)
	}
	return b
}

// nowhere keeps no files: what of them is published is tested with their stores.
type nowhere struct{ artifact.Store }

func (nowhere) Put(_ context.Context, key string, _ io.Reader, _ int64) (artifact.Info, error) {
	return artifact.Info{Key: key}, nil
}

// specOf makes the spec of a job.
func specOf(ch *chance, name, key string, now time.Time) job.Spec {
	s := job.Spec{
		Name: name, Key: key, Engine: "simulated", Params: json.RawMessage(`{}`), Walltime: job.Duration(200 * time.Second),
		Priority: job.Priority(ch.below(3)), Held: ch.happens(0.08),
		Retry: job.Retry{Max: ch.below(3), Delay: job.Duration(5 * time.Second), MaxDelay: job.Duration(20 * time.Second), MaxLosses: 1 + ch.below(4)},
	}
	if ch.happens(0.1) {
		s.RunAt = now.Add(ch.within(5*time.Second, 90*time.Second))
	}
	return s
}
