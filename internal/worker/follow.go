package worker

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// readEvery is the period at which growing output is looked at: often enough
// for a live bar, rare enough that a thousand idle runs cost nothing.
const readEvery = 250 * time.Millisecond

// follow watches the run until nothing of it is left, feeding its output to the
// engine's monitor and obeying orders.
func (r *run) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(errors.New("the run has ended"))
	wg.Go(func() { r.watchOutput(ctx) })
	wg.Go(func() { r.awaitOrder(ctx) })

	exit, err := r.proc.Wait(ctx)
	if ctx.Err() != nil {
		return errAbandoned
	}
	if err != nil {
		return r.endUnknown(err)
	}
	r.exit = &exit
	return nil
}

// awaitOrder stops the run when it is told to.
func (r *run) awaitOrder(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-r.ordered:
	}
	cause := job.CauseCancelled
	if r.dropped() {
		cause = job.CauseFenced
	}
	r.log.Info("stopping", "cause", cause)
	for {
		err := r.proc.Stop(ctx, cause)
		if err == nil || ctx.Err() != nil {
			return
		}
		r.log.Error("cannot stop the run", "error", err)
		if !pause(ctx, retryPause) {
			return
		}
	}
}

// watchOutput feeds the growing output to the engine's monitor.
func (r *run) watchOutput(ctx context.Context) {
	monitor := r.eng.Monitor(r.plan)
	f, err := os.Open(r.proc.Stdout())
	if err != nil {
		r.log.Warn("cannot read the output", "error", err)
		return
	}
	defer f.Close()
	tick := time.NewTicker(readEvery)
	defer tick.Stop()
	for {
		n, err := io.Copy(monitor, f)
		if err != nil {
			r.log.Warn("cannot read the output", "error", err)
			return
		}
		if n > 0 {
			r.publish(monitor)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// publish shows the monitor's progress; the fraction never falls.
func (r *run) publish(m engine.Monitor) {
	p := m.Progress()
	p.At = time.Now().UTC()
	r.mu.Lock()
	if r.last != nil && p.Fraction < r.last.Fraction {
		p.Fraction = r.last.Fraction
	}
	changed := r.last == nil || p.Fraction != r.last.Fraction || p.Stage != r.last.Stage || p.Step != r.last.Step
	r.last = &p
	r.mu.Unlock()
	if changed {
		r.w.progressed()
	}
}

// Log returns the path of a held job's growing output, stdout or stderr, while
// the worker has it.
func (w *Worker) Log(id job.ID, attempt int, stream string) (path string, ok bool) {
	r := w.held(id, 0)
	if r == nil || r.lease.Job.Attempt != attempt {
		return "", false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.files == nil:
		return "", false
	case stream == engine.StderrName:
		return r.files.Stderr(), true
	default:
		return r.files.Stdout(), true
	}
}
