package worker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nano-os/nanoos/internal/executor"
	"github.com/nano-os/nanoos/internal/job"
)

// maxAttachPause bounds the time between two tries to attach: a worker is back
// within seconds of its server.
const maxAttachPause = 4 * time.Second

// attach begins the session that follows the one numbered after, unless somebody
// else here has done so. It tells the queue which attempts are on this disk
// and takes up what is still ours (section 2.5 of the guarantees). Until the
// queue answers nothing is touched: a program is never ended because of our own
// blindness.
func (w *Worker) attach(ctx context.Context, wg *sync.WaitGroup, after int64) error {
	done, in := w.settling.settle(ctx)
	if !in {
		return context.Cause(ctx)
	}
	defer done()
	if w.sessions.Load() > after {
		return nil
	}
	found, err := w.opt.Executor.List(ctx)
	if err != nil {
		return fmt.Errorf("look for earlier attempts: %w", err)
	}
	report := make([]job.Found, 0, len(found))
	for _, f := range found {
		report = append(report, job.Found{
			ID: f.ID, Attempt: f.Attempt,
			Started: f.State != executor.FoundPrepared,
			Ended:   f.State == executor.FoundEnded,
		})
		if f.State == executor.FoundDamaged {
			w.opt.Log.Error("the files of an attempt are damaged", "job", f.ID, "attempt", f.Attempt, "detail", f.Detail)
		}
	}
	var at job.Attachment
	for wait := retryPause; ; wait = min(2*wait, maxAttachPause) {
		if at, err = w.opt.Queue.Attach(ctx, w.opt.Session, report); err == nil {
			break
		}
		if ctx.Err() == nil && job.CodeOf(err) != job.Unavailable {
			return err
		}
		w.opt.Log.Warn("the queue does not let us attach", "error", err)
		if !w.again(ctx, wait) {
			return context.Cause(ctx)
		}
	}
	w.sessions.Add(1)
	defer w.contact.found()
	onDisk := make(map[job.ID]int, len(found))
	for _, f := range found {
		onDisk[f.ID] = max(onDisk[f.ID], f.Attempt)
	}
	for _, l := range at.Carry {
		w.hold(ctx, wg, l, onDisk[l.Job.ID] == l.Job.Attempt)
	}
	for _, f := range at.Fenced {
		if r := w.held(f.ID, 0); r != nil && r.lease.Job.Attempt == f.Attempt {
			r.order(job.Drop, false) // it ends and clears away its own
		} else {
			wg.Go(func() { w.bury(ctx, f) })
		}
	}
	return nil
}

// buryUnknown ends an attempt that the queue does not know.
func (w *Worker) buryUnknown(ctx context.Context, id job.ID, attempt int) {
	found, err := w.opt.Executor.List(ctx)
	if err != nil {
		w.opt.Log.Warn("cannot look for an attempt that the queue does not know", "job", id, "attempt", attempt, "error", err)
		return
	}
	for _, f := range found {
		if f.ID == id && f.Attempt == attempt {
			w.bury(ctx, job.Found{ID: id, Attempt: attempt, Started: true, Ended: f.State == executor.FoundEnded})
		}
	}
}

// bury ends an attempt that has lost its job. What it had finished is kept for
// a while as a late result, for a person to look at.
func (w *Worker) bury(ctx context.Context, f job.Found) {
	log := w.opt.Log.With("job", f.ID, "attempt", f.Attempt)
	if f.Ended && f.Recorded {
		log.Debug("removing the files of an attempt that was finished before")
	} else if f.Ended {
		r, err := w.opt.Executor.Attach(ctx, f.ID, f.Attempt)
		if err != nil {
			log.Warn("cannot read a late result", "error", err)
			return
		}
		if e, err := r.Wait(ctx); err == nil && time.Since(e.EndedAt) < w.opt.LateKeep {
			log.Info("keeping the files of an attempt that lost its job", "directory", r.Dir(), "exit_code", e.Code)
			return
		}
	} else if r, err := w.opt.Executor.Attach(ctx, f.ID, f.Attempt); err == nil {
		log.Info("stopping an attempt that lost its job")
		if err := r.Stop(ctx, job.CauseFenced); err != nil {
			log.Warn("cannot stop a lost attempt", "error", err)
			return
		}
		if _, err := r.Wait(ctx); err != nil {
			log.Warn("cannot watch a lost attempt end", "error", err)
			return
		}
	} else if job.CodeOf(err) != job.NotFound {
		log.Warn("cannot reach a lost attempt", "error", err)
		return
	}
	if err := w.opt.Executor.Remove(ctx, f.ID, f.Attempt); err != nil {
		log.Warn("cannot remove a lost attempt", "error", err)
	}
}
