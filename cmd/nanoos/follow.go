package main

import (
	"context"
	"time"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
)

// follower keeps its copies of some jobs up to date: by the event stream, and
// now and then by asking, so that nothing depends on a single message.
type follower struct {
	c      *api.Client
	jobs   []*followed
	byID   map[job.ID]*followed
	events []api.Event // the last few that are kept by the server
	away   bool        // the server does not answer
}

type followed struct {
	api.Job
	trail []float64 // of the leading quantity
}

// view shows a follower.
type view interface {
	show(f *follower)
	// close leaves the screen as the next output needs it.
	close()
}

const (
	maxTrail  = 200
	maxEvents = 50
	// The first question closes the gap between the first copy and the start of
	// the event stream.
	firstResync = 300 * time.Millisecond
	lastResync  = 10 * time.Second
)

func newFollower(c *api.Client, jobs []api.Job) *follower {
	f := &follower{c: c, byID: make(map[job.ID]*followed, len(jobs))}
	for _, j := range jobs {
		one := &followed{Job: j}
		f.jobs = append(f.jobs, one)
		f.byID[j.ID] = one
	}
	return f
}

// run follows until done says so or ctx ends.
func (f *follower) run(ctx context.Context, v view, done func() bool) error {
	streamCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := f.stream(streamCtx)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	pause := firstResync
	resync := time.NewTimer(pause)
	defer resync.Stop()
	for {
		v.show(f)
		if done() {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case e, open := <-events:
			if !open {
				events = nil
				pause = firstResync
				resync.Reset(0)
				continue
			}
			f.take(ctx, e, events)
		case <-resync.C:
			if err := f.refresh(ctx, f.unended()); err != nil {
				return err
			}
			pause = min(2*pause, lastResync)
			if events == nil {
				pause = min(pause, time.Second)
			}
			resync.Reset(pause)
		case <-tick.C:
		}
	}
}

// stream passes events on until ctx ends or the stream does.
func (f *follower) stream(ctx context.Context) <-chan api.Event {
	out := make(chan api.Event, 64)
	source := f.c.Events(ctx, api.Now)
	if len(f.jobs) == 1 {
		source = f.c.JobEvents(ctx, string(f.jobs[0].ID), api.Now)
	}
	go func() {
		defer close(out)
		for e, err := range source {
			if err != nil {
				return
			}
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// take applies an event and those that wait behind it, and then asks once for
// each job that changed.
func (f *follower) take(ctx context.Context, e api.Event, more <-chan api.Event) {
	changed := map[job.ID]bool{}
	for {
		if j := f.byID[e.Job]; j != nil {
			if e.Progress != nil {
				j.advance(e.Progress)
			} else {
				changed[e.Job] = true
				f.events = append(f.events, e)
				f.events = f.events[max(0, len(f.events)-maxEvents):]
			}
		}
		select {
		case next, open := <-more:
			if open {
				e = next
				continue
			}
		default:
		}
		break
	}
	var jobs []*followed
	for _, j := range f.jobs {
		if changed[j.ID] {
			jobs = append(jobs, j)
		}
	}
	// An error here shows again at the next resync, which reports it.
	_ = f.refresh(ctx, jobs)
}

func (f *follower) unended() []*followed {
	var out []*followed
	for _, j := range f.jobs {
		if !j.State.Terminal() {
			out = append(out, j)
		}
	}
	return out
}

// refresh asks for jobs again. A server that is away is waited for.
func (f *follower) refresh(ctx context.Context, jobs []*followed) error {
	for _, j := range jobs {
		now, err := f.c.Get(ctx, string(j.ID))
		if job.CodeOf(err) == job.Unavailable {
			f.away = true
			return nil
		}
		if err != nil {
			return err
		}
		f.away = false
		progress := j.Progress
		j.Job = now
		// Progress in an event is newer than what is stored.
		if now.State == job.Running && progress != nil && now.Progress != nil && progress.At.After(now.Progress.At) {
			j.Progress = progress
		} else if now.Progress != nil {
			j.advance(now.Progress)
		}
	}
	return nil
}

// advance takes a progress and remembers its value for the small plot.
func (j *followed) advance(p *job.Progress) {
	fresh := j.Progress == nil || len(j.trail) == 0 || j.Progress.Step != p.Step || p.Value != nil && j.trail[len(j.trail)-1] != *p.Value
	j.Progress = p
	if p.Value != nil && fresh {
		j.trail = append(j.trail, *p.Value)
		j.trail = j.trail[max(0, len(j.trail)-maxTrail):]
	}
}

// ended reports whether nothing more happens to a job without a person.
func ended(j *api.Job) bool { return j.State.Terminal() || j.Reason == job.ReasonQuarantined }

func (f *follower) allEnded() bool {
	for _, j := range f.jobs {
		if !ended(&j.Job) {
			return false
		}
	}
	return true
}

func (f *follower) copies() []api.Job {
	out := make([]api.Job, len(f.jobs))
	for i, j := range f.jobs {
		out[i] = j.Job
	}
	return out
}

// onChange calls draw at once, after every change on the server, and every few
// seconds, until ctx ends. A burst of events is one call.
func (a *app) onChange(ctx context.Context, c *api.Client, draw func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := (&follower{c: c}).stream(ctx)
	if err := draw(); err != nil {
		return err
	}
	const slowest, fastest = 5 * time.Second, 200 * time.Millisecond
	timer := time.NewTimer(slowest)
	defer timer.Stop()
	pending := false
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case _, open := <-events:
			if !open {
				events = nil
			}
			if !pending {
				pending = true
				timer.Reset(fastest)
			}
		case <-timer.C:
			pending = false
			timer.Reset(slowest)
			// A server that is away for a moment is no reason to stop looking.
			if err := draw(); err != nil && job.CodeOf(err) != job.Unavailable {
				return err
			}
		}
	}
}

// outcome is the exit code for how jobs ended.
func outcome(jobs []api.Job, requireConverged bool) int {
	code := exitDone
	for i := range jobs {
		j := &jobs[i]
		switch {
		case j.State == job.Failed || j.Reason == job.ReasonQuarantined:
			return exitFailed
		case j.State == job.Cancelled:
			code = exitCancelled
		case requireConverged && j.State == job.Completed && j.Verdict != job.Converged && code == exitDone:
			code = exitNotConverged
		}
	}
	return code
}

// exitWith turns an exit code into an error, nil for 0.
func exitWith(code int) error {
	if code == exitDone {
		return nil
	}
	return quietExit(code)
}
