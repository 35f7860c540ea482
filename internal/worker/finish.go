package worker

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// finish reports the end until the queue has taken it or refuses it. The
// attempt's files stay until then, so a worker that dies here is followed by
// one that reads the same end from the disk. Here it is read once, however often
// it is reported.
func (r *run) finish(ctx context.Context, out job.Outcome) {
	asked := false
	for wait := retryPause; ; wait = min(2*wait, maxReportPause) {
		back, session, fence := r.w.contact.again(), r.w.sessions.Load(), r.fence()
		settled, refused := r.report(ctx, out)
		if refused && !asked {
			asked = true
			if r.stillOurs(ctx, session, fence) {
				continue
			}
		}
		if settled || refused {
			r.clear(ctx)
			return
		}
		if !r.awaitTurn(ctx, wait, back) {
			return
		}
	}
}

const (
	// maxReportPause bounds the time between two reports of an end while the
	// queue does not take it.
	maxReportPause = time.Minute
	// reportSpread is over how long the ends that have gathered are reported
	// once the queue is back.
	reportSpread = 2 * time.Second
)

// awaitTurn waits before an end is reported anew: for some time, or until the
// queue answers again. It reports false when there is nothing to report any more.
func (r *run) awaitTurn(ctx context.Context, wait time.Duration, back <-chan struct{}) bool {
	t := time.NewTimer(r.w.spread(wait))
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-back:
		return pause(ctx, time.Duration(float64(reportSpread)*r.w.opt.Rand()))
	case <-r.fencedOff:
		r.log.Warn("the job has another owner; the result is not published")
		r.clear(ctx)
		return false
	case <-ctx.Done():
		return false
	}
}

// stillOurs asks the queue whose a job is whose report was refused. It may be
// ours under a newer fence: an attach that arrived twice or too late gave it to us
// a second time, and its answer never came.
func (r *run) stillOurs(ctx context.Context, session int64, fence job.Fence) bool {
	if err := r.w.attach(ctx, r.wg, session); err != nil {
		r.log.Warn("cannot attach to the queue", "error", err)
	}
	return r.fence() != fence
}

// report tells the queue once, and says whether that settles it, or whether the
// queue knows of a newer owner.
func (r *run) report(ctx context.Context, out job.Outcome) (settled, refused bool) {
	done, in := r.w.settling.report(ctx)
	if !in {
		return false, false
	}
	defer done()
	lease := r.lease
	lease.Fence = r.fence()
	err := r.w.opt.Queue.Finish(ctx, lease, out)
	switch {
	case err == nil:
		r.log.Info("finished", "verdict", out.Verdict, "failure", failureCode(out.Failure))
	case job.CodeOf(err) == job.Fenced, job.CodeOf(err) == job.NotFound:
		r.log.Warn("the job has another owner; the result is not published", "error", err)
		return false, true
	case ctx.Err() != nil:
		return false, false
	default:
		r.log.Warn("cannot report the end of the attempt; trying again", "error", err)
		return false, false
	}
	return true, false
}

// clear removes what the attempt left, unless a person is to look at it.
func (r *run) clear(ctx context.Context) {
	if r.keepFiles {
		return
	}
	if err := r.discard(ctx); err != nil {
		r.log.Warn("cannot remove the attempt's files", "error", err)
	}
}

// discard removes the attempt's directory.
func (r *run) discard(ctx context.Context) error {
	err := r.w.opt.Executor.Remove(context.WithoutCancel(ctx), r.lease.Job.ID, r.lease.Job.Attempt)
	if job.CodeOf(err) == job.NotFound {
		return nil
	}
	return err
}

func failureCode(f *job.Failure) string {
	if f == nil {
		return ""
	}
	return f.Code
}

// provenance says what made the result.
func (r *run) provenance() engine.Provenance {
	m := r.w.opt.Machine
	p := engine.Provenance{
		Engine: r.eng.Name(), Nanoos: r.w.opt.Session.Version,
		Host: m.HostName, Worker: r.w.opt.Session.Worker,
		Attempt: r.lease.Job.Attempt, StartedAt: r.exit.StartedAt, EndedAt: r.exit.EndedAt, Exit: r.exit,
	}
	commands, err := m.Commands(r.plan.Steps)
	if err != nil {
		p.Notes = append(p.Notes, err.Error())
	}
	for i, c := range commands {
		p.Commands = append(p.Commands, c.Argv)
		program := r.plan.Steps[i].Program
		if h, err := m.hash(m.Programs[program]); err == nil {
			p.Programs = append(p.Programs, h)
		}
	}
	for _, f := range r.lease.Job.Spec.Files {
		p.Inputs = append(p.Inputs, engine.HashedFile{Path: f.Name, SHA256: f.SHA256, Size: f.Size})
	}
	for name, to := range r.plan.Library {
		h, err := hashFile(r.proc.Dir(), to)
		if err != nil {
			p.Notes = append(p.Notes, fmt.Sprintf("no hash of %s: %v", name, err))
			continue
		}
		h.Path = name
		p.Library = append(p.Library, h)
	}
	for _, j := range r.plan.Joined {
		h, err := hashFile(r.proc.Dir(), j.To)
		if err != nil {
			p.Notes = append(p.Notes, fmt.Sprintf("no hash of %s: %v", j.To, err))
			continue
		}
		h.Path, h.Version = j.To, j.Version
		p.Library = append(p.Library, h)
	}
	return p
}

// hashFile hashes a file of a work directory.
func hashFile(dir, name string) (engine.HashedFile, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return engine.HashedFile{}, err
	}
	defer root.Close()
	f, err := root.Open(name)
	if err != nil {
		return engine.HashedFile{}, err
	}
	defer f.Close()
	return hashOf(f)
}
