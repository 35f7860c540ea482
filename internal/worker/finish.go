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
// one that reads the same end from the disk.
func (r *run) finish(ctx context.Context, out job.Outcome) {
	for wait := retryPause; ; wait = min(2*wait, time.Minute) {
		if r.report(ctx, out) {
			return
		}
		// Spread, so that the workers of a server that returns do not come at once.
		if !pause(ctx, time.Duration(float64(wait)*(0.5+r.w.opt.Rand()/2))) {
			return
		}
	}
}

// report tells the queue once, and says whether that settles it.
func (r *run) report(ctx context.Context, out job.Outcome) bool {
	done, in := r.w.settling.report(ctx)
	if !in {
		return false
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
	default:
		r.log.Warn("cannot report the end of the attempt; trying again", "error", err)
		return false
	}
	if r.keepFiles {
		return true
	}
	if err := r.discard(ctx); err != nil {
		r.log.Warn("cannot remove the attempt's files", "error", err)
	}
	return true
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
