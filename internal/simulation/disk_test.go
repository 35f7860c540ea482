package simulation

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nano-os/nanoos/internal/executor"
	"github.com/nano-os/nanoos/internal/job"
)

// directory is an attempt on a disk, with its supervisor and its program. Its
// fields are guarded by the host's mutex.
type directory struct {
	host *host
	place
	does behaviour

	locked    bool // a supervisor lives
	successor bool // it is not the one that started the program
	started   bool // the start record is there
	boot      int  // of the start
	tree      *execution
	stop      job.StopCause
	hard      time.Time // the walltime
	exit      *job.Exit
	good      bool // the program left what it was asked for
	changed   chan struct{}
}

// signal tells everybody who watches the directory.
func (d *directory) signal() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// condition is a row of the table of the guarantees (2.5).
func (d *directory) condition() executor.FoundState {
	switch {
	case d.exit != nil:
		return executor.FoundEnded
	case d.locked:
		return executor.FoundAlive
	case !d.started:
		return executor.FoundPrepared
	case d.boot != d.host.boot:
		return executor.FoundReboot
	case d.tree != nil:
		return executor.FoundOrphan
	}
	return executor.FoundLost
}

// loseAll is a reboot: nothing that ran is left, and nobody recorded its end.
func (d *directory) loseAll() {
	d.locked = false
	d.endTree(false)
	d.signal()
}

func (d *directory) endTree(good bool) {
	if d.tree != nil {
		d.host.world.history.ends(d.tree, good)
		d.tree, d.good = nil, good
	}
}

// begin is the supervisor's start of the program: at most once for a directory,
// because it looks under the lock.
func (d *directory) begin(hard time.Duration) {
	h := d.host
	d.started, d.boot, d.hard = true, h.boot, time.Now().Add(hard)
	d.tree = h.world.history.starts(&execution{id: d.id, attempt: d.attempt, host: h.name})
	tree := d.tree
	h.world.wg.Go(func() { d.run(tree) })
	d.signal()
}

// run is the life of the program and of its supervisors.
func (d *directory) run(tree *execution) {
	h := d.host
	ch := h.world.chance.of(fmt.Sprintf("run/%s/%d/%d", h.world.nameOf(d.id), d.attempt, h.boot))
	natural := time.Now().Add(d.does.Runs)
	var orphaned, killed time.Time
	if d.does.Orphans > 0 && h.world.faults.active() {
		orphaned = time.Now().Add(d.does.Orphans)
	}
	for {
		h.mu.Lock()
		now := time.Now()
		if d.tree != tree {
			h.mu.Unlock()
			return
		}
		if d.locked && d.stop == "" && !now.Before(d.hard) {
			d.stop = job.CauseWalltime
		}
		if d.locked && d.stop != "" && killed.IsZero() {
			killed = now.Add(ch.within(0, 3*time.Second))
		}
		switch {
		case !killed.IsZero() && !now.Before(killed) && d.locked:
			d.ended(job.Exit{Observed: true, Signal: "SIGTERM", Cause: d.stop}, false)
		case !now.Before(natural):
			d.ended(job.Exit{Observed: true, Code: d.does.Code}, d.does.Good)
		case !orphaned.IsZero() && !now.Before(orphaned) && !d.successor:
			orphaned, d.locked = time.Time{}, false
			if d.does.Dies {
				d.endTree(false)
			}
			d.signal()
		}
		changed, next := d.changed, natural
		for _, t := range []time.Time{d.hard, orphaned, killed} {
			if t.After(now) && t.Before(next) {
				next = t
			}
		}
		done := d.tree != tree
		h.mu.Unlock()
		if done {
			return
		}
		timer := time.NewTimer(next.Sub(now))
		select {
		case <-changed:
		case <-timer.C:
		case <-h.world.ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// ended is the end of the program, which a supervisor records if there is one. A
// successor did not see the status.
func (d *directory) ended(e job.Exit, good bool) {
	d.endTree(good)
	if d.locked {
		if d.successor {
			e.Observed, e.Code, e.Signal = false, 0, ""
			e.Cause = cmp.Or(e.Cause, job.CauseSupervisor)
		}
		e.EndedAt = time.Now()
		d.exit = &e
	}
	d.locked = false
	d.signal()
}

// disks is the executor of one worker process.
type disks struct {
	host *host
	proc *process
}

var _ executor.Executor = (*disks)(nil)

func (x *disks) Capabilities() executor.Capabilities { return executor.Capabilities{} }
func (x *disks) WorkDir(job.ID, int) string          { return "" }

// Start implements executor.Executor. The supervisor lives on when the worker
// dies in between, or leaves because it was not given what it needs.
func (x *disks) Start(ctx context.Context, t executor.Task) (executor.Run, error) {
	if !x.proc.pass() {
		return nil, errKilled
	}
	h, at := x.host, place{t.ID, t.Attempt}
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.disk[at]
	if d == nil {
		d = &directory{host: h, place: at, changed: make(chan struct{}), does: behaviourOf(h.world.chance, h.world.nameOf(at.id), at.attempt, h.world.mutant.endless())}
		h.disk[at] = d
	}
	relaunch := h.world.mutant == relaunches
	for spawned := false; ; {
		if d.started && !(relaunch && !spawned && d.exit == nil) {
			return &run{x, d}, nil
		}
		if !spawned && (!d.locked || relaunch) {
			d.locked, spawned = true, true
			x.spawn(d, t)
		} else if !d.locked {
			spawned = false // the supervisor left without a start
			continue
		}
		if err := x.watch(ctx, d); err != nil {
			return nil, err
		}
	}
}

// spawn starts a supervisor. The caller holds the host's mutex.
func (x *disks) spawn(d *directory, t executor.Task) {
	h, boot := x.host, x.host.boot
	ch := h.world.chance.of(fmt.Sprintf("spawn/%s/%s/%d/%d", h.name, h.world.nameOf(d.id), d.attempt, time.Now().UnixNano()))
	h.world.wg.Go(func() {
		slow := 5 * time.Millisecond
		if ch.happens(h.world.faults.rate(0.3)) {
			slow = 8 * time.Second
		}
		time.Sleep(ch.within(0, slow))
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.boot != boot || d.removed() {
			return
		}
		if !x.proc.alive() && ch.happens(0.5) && !d.started {
			d.locked = false
			d.signal()
			return
		}
		d.begin(t.Hard)
	})
}

// removed reports whether the directory is gone from the disk.
func (d *directory) removed() bool { return d.host.disk[d.place] != d }

// watch waits for a change of d, without the host's mutex, which the caller holds.
func (x *disks) watch(ctx context.Context, d *directory) error {
	changed := d.changed
	x.host.mu.Unlock()
	defer x.host.mu.Lock()
	select {
	case <-changed:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-x.proc.dead:
	}
	if !x.proc.pass() {
		return errKilled
	}
	return nil
}

// Attach implements executor.Executor.
func (x *disks) Attach(_ context.Context, id job.ID, attempt int) (executor.Run, error) {
	if !x.proc.pass() {
		return nil, errKilled
	}
	x.host.mu.Lock()
	defer x.host.mu.Unlock()
	d := x.host.disk[place{id, attempt}]
	blind := d != nil && d.exit == nil && x.host.world.mutant == relaunches
	if d == nil || d.condition() == executor.FoundPrepared || blind {
		return nil, job.Errorf(job.NotFound, "attempt %d of job %s is not here", attempt, id)
	}
	x.adopt(d)
	return &run{x, d}, nil
}

// adopt gives a tree without a supervisor a successor.
func (x *disks) adopt(d *directory) {
	if d.condition() == executor.FoundOrphan {
		d.locked, d.successor = true, true
		d.signal()
	}
}

// List implements executor.Executor.
func (x *disks) List(context.Context) ([]executor.Found, error) {
	if !x.proc.pass() {
		return nil, errKilled
	}
	x.host.mu.Lock()
	defer x.host.mu.Unlock()
	var found []executor.Found
	for at, d := range x.host.disk {
		found = append(found, executor.Found{ID: at.id, Attempt: at.attempt, State: d.condition()})
	}
	slices.SortFunc(found, func(a, b executor.Found) int {
		return cmp.Or(cmp.Compare(x.host.world.nameOf(a.ID), x.host.world.nameOf(b.ID)), a.Attempt-b.Attempt)
	})
	return found, nil
}

// Remove implements executor.Executor.
func (x *disks) Remove(_ context.Context, id job.ID, attempt int) error {
	if !x.proc.pass() {
		return errKilled
	}
	x.host.mu.Lock()
	defer x.host.mu.Unlock()
	at := place{id, attempt}
	d := x.host.disk[at]
	if d == nil {
		return nil
	}
	if c := d.condition(); c == executor.FoundAlive || c == executor.FoundOrphan {
		return job.Errorf(job.Conflict, "attempt %d of job %s still runs", attempt, id)
	}
	delete(x.host.disk, at)
	d.signal()
	return nil
}

// run is an attempt in the hands of a worker.
type run struct {
	x *disks
	d *directory
}

var _ executor.Run = (*run)(nil)

func (r *run) Stdout() string                 { return r.Dir() + "/stdout" }
func (r *run) Stderr() string                 { return r.Dir() + "/stderr" }
func (r *run) Usage() (executor.Usage, error) { return executor.Usage{}, nil }

// Dir is one of two: with the marker of success, or without.
func (r *run) Dir() string {
	r.x.host.mu.Lock()
	defer r.x.host.mu.Unlock()
	if r.d.good {
		return r.x.host.world.files.marked
	}
	return r.x.host.world.files.bare
}

// Wait implements executor.Run.
func (r *run) Wait(ctx context.Context) (job.Exit, error) {
	if !r.x.proc.pass() {
		return job.Exit{}, errKilled
	}
	r.x.host.mu.Lock()
	defer r.x.host.mu.Unlock()
	for {
		if r.d.removed() {
			return job.Exit{}, job.Errorf(job.NotFound, "the attempt was removed")
		}
		switch r.d.condition() {
		case executor.FoundEnded:
			return *r.d.exit, nil
		case executor.FoundLost:
			return r.lost(job.CauseSupervisor), nil
		case executor.FoundReboot:
			return r.lost(job.CauseHost), nil
		case executor.FoundPrepared:
			return job.Exit{}, job.Errorf(job.NotFound, "the attempt never started")
		case executor.FoundOrphan:
			r.x.adopt(r.d)
		}
		if err := r.x.watch(ctx, r.d); err != nil {
			return job.Exit{}, err
		}
	}
}

// lost is the end that nobody saw.
func (r *run) lost(cause job.StopCause) job.Exit {
	if r.x.host.world.mutant == finishWithoutExit {
		r.d.good = true
		return job.Exit{Observed: true}
	}
	return job.Exit{Cause: cause}
}

// Stop implements executor.Run: durable before it returns.
func (r *run) Stop(_ context.Context, cause job.StopCause) error {
	if !r.x.proc.pass() {
		return errKilled
	}
	r.x.host.mu.Lock()
	defer r.x.host.mu.Unlock()
	if r.d.removed() {
		return job.Errorf(job.NotFound, "the attempt was removed")
	}
	if r.x.host.world.mutant == stopLost {
		return nil
	}
	r.d.stop = cmp.Or(r.d.stop, cause)
	r.x.adopt(r.d)
	r.d.signal()
	return nil
}
