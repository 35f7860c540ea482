package worker

import (
	"context"
	"errors"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// follow watches the run until nothing of it is left, obeying orders; its
// output is fed to the engine's monitor meanwhile. A run that is asleep costs
// one goroutine and no open file.
func (r *run) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errors.New("the run has ended"))
	stopped := make(chan struct{})
	unasked := context.AfterFunc(r.ordered, func() {
		defer close(stopped)
		r.obey(ctx)
	})
	defer func() {
		if !unasked() {
			<-stopped
		}
	}()
	r.w.lookout.add(r)
	defer r.w.lookout.remove(r)

	exit, err := r.proc.Wait(ctx)
	if ctx.Err() != nil {
		return errAbandoned
	}
	cancel(errors.New("the run has ended"))
	r.w.vacate(r)
	if err != nil {
		return r.endUnknown(err)
	}
	r.exit = &exit
	return nil
}

// obey stops the run as it was told to.
func (r *run) obey(ctx context.Context) {
	cause := r.cause()
	r.log.Info("stopping", "cause", cause)
	for {
		err := r.proc.Stop(ctx, cause)
		if err == nil || ctx.Err() != nil {
			return
		}
		r.log.Error("cannot stop the run", "error", err)
		if !r.w.again(ctx, 2*retryPause) {
			return
		}
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
