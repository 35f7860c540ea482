package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/artifact"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/executor"
	"github.com/nano-os/nanoos/internal/job"
)

// run takes one lease from the claim to the finish.
type run struct {
	w      *Worker
	wg     *sync.WaitGroup // of the worker's Run
	lease  job.Lease       // its Fence is read with fence()
	onDisk bool            // the attempt is here already: take it over
	log    *slog.Logger
	vacant bool // it occupies nothing any more; guarded by the worker's mu
	// ordered ends by the first order to stop; why says which.
	ordered context.Context
	end     context.CancelFunc
	// fencedOff closes when the job has another owner.
	fencedOff chan struct{}

	// What the phases leave for each other.
	eng  engine.Engine
	plan *engine.Plan
	proc executor.Run
	exit *job.Exit
	sent *sent // what sends its output; nil where nobody reads along
	// begun says that the executor was asked to start the attempt.
	begun bool
	// keepFiles leaves the attempt's directory where it is.
	keepFiles bool

	mu      sync.Mutex
	current job.Fence     // guarded by mu
	last    *job.Progress // guarded by mu
	why     job.Action    // guarded by mu
	now     bool          // guarded by mu: the order leaves no time to end cleanly
	files   executor.Run  // guarded by mu; set once the attempt has files to show
}

func newRun(w *Worker, wg *sync.WaitGroup, l job.Lease, onDisk bool) *run {
	r := &run{
		w: w, wg: wg, lease: l, onDisk: onDisk, current: l.Fence, fencedOff: make(chan struct{}),
		log: w.opt.Log.With("job", l.Job.ID, "attempt", l.Job.Attempt),
	}
	r.ordered, r.end = context.WithCancel(context.Background())
	return r
}

// errAbandoned means that this worker is leaving: the attempt goes on without it.
var errAbandoned = errors.New("the worker is leaving")

// live is the life of an attempt, phase by phase. A phase that cannot go on
// ends the attempt with a failure of its own words; losing the job or leaving
// ends it in silence.
func (r *run) live(ctx context.Context) {
	phases := []struct {
		name string
		do   func(context.Context) error
	}{
		{"plan", r.makePlan},
		{"start", r.start},
		{"follow", r.follow},
		{"collect", r.collect},
	}
	for _, p := range phases {
		err := context.Cause(ctx)
		if err == nil {
			err = p.do(ctx)
		}
		if err == nil {
			continue
		}
		switch {
		case ctx.Err() != nil && !r.begun && !r.onDisk:
			r.giveBack(ctx)
		case ctx.Err() != nil || errors.Is(err, errAbandoned):
			r.log.Debug("left an attempt to its supervisor", "phase", p.name)
		case errors.Is(err, errNumberUsed):
			r.log.Warn("the number of the attempt is used already on this machine; the job gets another")
			r.finish(ctx, job.Outcome{Released: true, Exit: &job.Exit{}})
			r.w.buryUnknown(ctx, r.lease.Job.ID, r.lease.Job.Attempt)
		default:
			r.log.Warn("attempt cannot go on", "phase", p.name, "error", err)
			if !r.onDisk {
				r.w.vacate(r) // nothing of it is alive
			}
			r.finish(ctx, job.Outcome{Failure: failureOf(p.name, err)})
		}
		return
	}
}

// giveBack returns a lease under which nothing was begun, so that the job need
// not wait for the next worker here.
func (r *run) giveBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeTime)
	defer cancel()
	if settled, refused := r.report(ctx, job.Outcome{Released: true}); settled || refused {
		r.clear(ctx)
	}
}

// makePlan finds the engine and asks it for files and commands.
func (r *run) makePlan(ctx context.Context) error {
	spec := r.lease.Job.Spec
	eng, _ := engine.ByName(r.w.opt.Engines, spec.Engine)
	if eng == nil {
		return &job.Error{Code: job.Unavailable, Message: fmt.Sprintf("engine %q is not known here", spec.Engine)}
	}
	r.eng = eng
	inputs := r.w.opt.Machine.Inputs(eng.Name())
	inputs.Files = artifact.InputFS(ctx, r.w.opt.Artifacts, spec.Files)
	plan, err := eng.Plan(spec, inputs)
	if err != nil {
		return err
	}
	r.plan = plan
	return nil
}

// start begins the attempt, or takes over the one that is here.
func (r *run) start(ctx context.Context) error {
	if r.dropped() {
		return job.Errorf(job.Fenced, "the job had a new owner before it started")
	}
	if r.onDisk {
		proc, err := r.w.opt.Executor.Attach(ctx, r.lease.Job.ID, r.lease.Job.Attempt)
		if err == nil {
			r.log.Info("took over an attempt")
			r.setProc(proc)
			return nil
		}
		if job.CodeOf(err) != job.NotFound {
			return r.endUnknown(fmt.Errorf("take over the attempt: %w", err))
		}
	}
	if err := r.checkUnused(ctx); err != nil {
		return err
	}
	task, err := r.task()
	if err != nil {
		return err
	}
	r.begun = true
	proc, err := r.w.opt.Executor.Start(ctx, task)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	r.log.Info("started", "engine", r.eng.Name())
	r.setProc(proc)
	return nil
}

// errNumberUsed says that an attempt which the queue does not know ran under
// this number: the database was restored from a backup of before (G21).
var errNumberUsed = errors.New("an attempt of this number is on the disk already")

// checkUnused looks for an attempt that would be taken for this one (G5).
func (r *run) checkUnused(ctx context.Context) error {
	_, err := r.w.opt.Executor.Attach(ctx, r.lease.Job.ID, r.lease.Job.Attempt)
	switch {
	case job.CodeOf(err) == job.NotFound:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	r.keepFiles = true // they are not this attempt's
	return errNumberUsed
}

// task turns the plan into what the executor runs.
func (r *run) task() (executor.Task, error) {
	spec := r.lease.Job.Spec
	commands, err := r.w.opt.Machine.Commands(r.plan.Steps)
	if err != nil {
		return executor.Task{}, err
	}
	return executor.Task{
		ID: r.lease.Job.ID, Attempt: r.lease.Job.Attempt,
		Stage: r.stage,
		Steps: commands,
		Env:   r.w.opt.Machine.environment(r.lease, r.plan, r.w.opt.Executor.WorkDir(r.lease.Job.ID, r.lease.Job.Attempt)),
		Stop:  softStop(r.plan.Stop),
		Soft:  spec.Soft(), Hard: time.Duration(spec.Walltime),
		Limits: executor.Limits{
			Memory: spec.Demand.Memory, CPUs: spec.Demand.CPUs, Log: spec.LogLimit,
			// Enough for the threads of any MPI run on one machine, and far
			// below what hurts the machine.
			Processes: 1024 + 64*spec.Demand.CPUs,
			OpenFiles: 8192,
		},
	}, nil
}

// softStop fills in how long a code may take to end cleanly.
func softStop(s engine.SoftStop) executor.SoftStop {
	if s.Wait == 0 {
		s.Wait = time.Minute
	}
	return executor.SoftStop{Create: s.Create, Wait: s.Wait}
}

// order makes the run stop: job.Stop for a cancel, job.Drop when it was fenced.
// A drop after a stop changes the ending from a report to silence. now leaves no
// time to end cleanly.
func (r *run) order(a job.Action, now bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.why == job.Drop {
		return
	}
	r.now = now
	if r.why = a; a == job.Drop {
		close(r.fencedOff)
	}
	r.end()
}

func (r *run) dropped() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.why == job.Drop
}

// cause is why the run is to stop.
func (r *run) cause() job.StopCause {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.why == job.Drop:
		return job.CauseFenced
	case r.now:
		return job.CauseKilled
	}
	return job.CauseCancelled
}

func (r *run) fence() job.Fence {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current
}

// setFence renews the lease; an answer that arrives late does not lower it.
func (r *run) setFence(f job.Fence) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current = max(r.current, f)
}

func (r *run) progress() *job.Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// setProc makes the attempt's files visible to readers of its logs.
func (r *run) setProc(p executor.Run) {
	r.proc = p
	r.plan.Files = nil // they are staged, and a thousand runs would keep a thousand decks
	r.mu.Lock()
	defer r.mu.Unlock()
	r.files = p
}

// errEndUnknown marks an attempt whose control files do not say how it ended.
var errEndUnknown = errors.New("how the attempt ended is unknown")

// endUnknown ends an attempt that cannot be followed; its files stay for a
// person to look at (F45).
func (r *run) endUnknown(err error) error {
	r.keepFiles = true
	return errors.Join(errEndUnknown, err)
}

// failureOf words a phase that could not go on.
func failureOf(phase string, err error) *job.Failure {
	if errors.Is(err, errEndUnknown) {
		return &job.Failure{Class: job.ClassInfrastructure, Code: "unknown", Message: "the end of the attempt was not observed: " + err.Error()}
	}
	f := &job.Failure{Class: job.ClassInternal, Code: "launch_failed", Message: phase + ": " + err.Error(), Digest: phase + "\x00" + err.Error()}
	e, ok := errors.AsType[*job.Error](err)
	if !ok {
		return f
	}
	f.Message, f.Fix = e.Error(), e.Fix
	switch e.Code {
	case job.Invalid:
		f.Class, f.Code = job.ClassInput, "input_error"
	case job.Unavailable, job.NotFound:
		f.Class = job.ClassEnvironment
	}
	return f
}
