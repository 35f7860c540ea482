package queue

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

const (
	// maxWait bounds a long poll, below the idle timeouts of usual proxies.
	maxWait = 60 * time.Second
	// lookAgain is how often a long poll looks by itself at least, in case
	// another process made the change and its hint was lost. The jitter keeps
	// the workers of a cluster apart.
	lookAgain = time.Second
	// maxClaim bounds the leases of one reply. More per commit gains little:
	// 20 have two thirds of the speed of 500.
	maxClaim = 64
)

// Claim waits at most wait for jobs that fit free, and gives up to max of them
// to the worker.
//
// Every submission wakes every waiting claim of this process. The crowd is one
// worker for each machine, each looks with a cheap read before it writes, and
// which worker suits a job is only known by looking.
func (s *Service) Claim(ctx context.Context, worker string, free job.Offer, max int, wait time.Duration) ([]job.Lease, error) {
	if max < 1 {
		return nil, nil
	}
	max = min(max, maxClaim)
	deadline := time.NewTimer(min(wait, maxWait))
	defer deadline.Stop()
	// A worker that calls has just become free and likely finds work; one that
	// was woken likely finds that another took it.
	promising := true
	for {
		woken := s.bells.work.next()
		if !promising {
			var err error
			if promising, err = s.look(ctx, worker, free); err != nil {
				return nil, err
			}
		}
		if promising {
			leases, err := s.claim(ctx, worker, free, max)
			if err != nil || len(leases) > 0 {
				return leases, err
			}
		}
		if wait <= 0 {
			return nil, nil
		}
		promising = false
		net := s.lookAgain()
		select {
		case <-woken:
		case <-net.C:
		case <-deadline.C:
			net.Stop()
			return nil, nil
		case <-ctx.Done():
			net.Stop()
			return nil, context.Cause(ctx)
		}
		net.Stop()
	}
}

// lookAgain is the timer of a long poll's own look.
func (s *Service) lookAgain() *time.Timer {
	return time.NewTimer(lookAgain/2 + time.Duration(s.opt.Rand()*float64(lookAgain)))
}

// look reports whether a claim would find anything.
func (s *Service) look(ctx context.Context, worker string, free job.Offer) (found bool, err error) {
	err = s.st.Read(ctx, func(tx store.ReadTx) error {
		w, err := session(ctx, tx, worker)
		if err != nil {
			return err
		}
		chosen, err := s.choose(ctx, tx, w, free, 1)
		found = len(chosen) > 0
		return err
	})
	return found, err
}

// claim starts what fits. A caller that leaves meanwhile still gets what was
// committed: a lease is either handed out or was never taken.
func (s *Service) claim(ctx context.Context, worker string, free job.Offer, max int) ([]job.Lease, error) {
	var leases []job.Lease
	err := s.write(ctx, func(tx store.Tx) (wakes, error) {
		leases = nil
		w, err := session(ctx, tx, worker)
		if err != nil {
			return 0, err
		}
		chosen, err := s.choose(ctx, tx, w, free, max)
		if err != nil || len(chosen) == 0 {
			return 0, err
		}
		changes, err := s.startAll(ctx, tx, w, chosen)
		if err != nil || len(changes) == 0 {
			return 0, err
		}
		woken, err := apply(ctx, tx, changes...)
		if err != nil {
			return 0, err
		}
		for _, c := range changes {
			leases = append(leases, job.Lease{Job: c.job, Fence: c.job.Fence})
		}
		// To claim is a sign of life, and the row keeps the session from being
		// removed meanwhile.
		return woken, tx.RenewWorker(ctx, worker)
	})
	if err != nil {
		return nil, fmt.Errorf("claim for worker %s: %w", worker, err)
	}
	return leases, nil
}

// startAll decides the start of the chosen jobs that nobody took meanwhile.
func (s *Service) startAll(ctx context.Context, tx store.Tx, w store.Worker, chosen []Candidate) ([]*change, error) {
	ids := make([]job.ID, len(chosen))
	for i, c := range chosen {
		ids[i] = c.ID
	}
	jobs, err := tx.LockJobs(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("lock %d jobs: %w", len(ids), err)
	}
	var changes []*change
	for _, j := range jobs {
		reuse, err := givenBack(ctx, tx, j)
		if err != nil {
			return nil, err
		}
		if c := start(j, w.Worker, w.Host, reuse, tx.Now()); c != nil {
			changes = append(changes, c)
		}
	}
	return changes, nil
}

// givenBack reports whether the next attempt of a job has a row already,
// because its number was claimed and given back. Every claim raises both
// numbers by one, a restore adds whole eras to the fence, and giving back lowers
// only the attempt, so that most jobs need no look.
func givenBack(ctx context.Context, tx store.ReadTx, j job.Job) (bool, error) {
	if int64(j.Fence)&(1<<eraBits-1) == int64(j.Attempt) {
		return false, nil
	}
	as, err := tx.Attempts(ctx, j.Tenant, j.ID)
	if err != nil {
		return false, fmt.Errorf("read attempts of job %s: %w", j.ID, err)
	}
	return len(as) > j.Attempt, nil
}

// choose picks the jobs for a worker's turn.
func (s *Service) choose(ctx context.Context, tx store.ReadTx, w store.Worker, free job.Offer, max int) ([]Candidate, error) {
	// A worker that is silent, with a claim of before still open, gets nothing
	// until it beats: it would be given the very jobs that were taken from it,
	// as new attempts, and its own attempts could not come back (R10).
	if w.Draining || s.ContactLost(w, tx.Now()) {
		return nil, nil
	}
	if why, err := s.frozen(ctx, tx); err != nil || why != "" {
		return nil, err
	}
	lanes, err := tx.Lanes(ctx)
	if err != nil {
		return nil, fmt.Errorf("read lanes: %w", err)
	}
	byID := make(map[store.LaneID]store.Lane, len(lanes))
	var fit, tooBig []store.LaneID
	for _, l := range lanes {
		byID[l.ID] = l
		switch {
		case free.Fits(l.Queue, l.Engine, l.Demand):
			fit = append(fit, l.ID)
		case w.Offer.Fits(l.Queue, l.Engine, l.Demand):
			tooBig = append(tooBig, l.ID)
		}
	}
	if len(fit) == 0 {
		return nil, nil
	}
	turn := Turn{Free: free, Max: max, Shares: s.opt.Shares}
	if turn.Reserved, err = s.reservation(ctx, tx, w.Worker, tooBig); err != nil {
		return nil, err
	}
	if shared(byID, fit) {
		if turn.Used, err = tx.Usage(ctx); err != nil {
			return nil, fmt.Errorf("read usage: %w", err)
		}
	}
	heads, err := tx.Heads(ctx, fit, max)
	if err != nil {
		return nil, fmt.Errorf("read the heads of %d lanes: %w", len(fit), err)
	}
	candidates := make([]Candidate, len(heads))
	for i, h := range heads {
		candidates[i] = Candidate{Head: h, In: byID[h.Lane]}
	}
	return turn.Pick(candidates), nil
}

// shared reports whether more than one tenant wants this turn: only then is it
// of interest who uses how much already.
func shared(byID map[store.LaneID]store.Lane, lanes []store.LaneID) bool {
	return slices.ContainsFunc(lanes, func(id store.LaneID) bool { return byID[id].Tenant != byID[lanes[0]].Tenant })
}

// reservation returns the job that this worker makes room for: the first of
// those that would fit if the worker were empty, once it has waited too long.
func (s *Service) reservation(ctx context.Context, tx store.ReadTx, worker string, tooBig []store.LaneID) (*store.Head, error) {
	if len(tooBig) == 0 || s.reserved.quiet(worker, tx.Now()) {
		return nil, nil
	}
	heads, err := tx.Heads(ctx, tooBig, 1)
	if err != nil || len(heads) == 0 {
		return nil, err
	}
	first := heads[0]
	for _, h := range heads[1:] {
		if before(h, first) {
			first = h
		}
	}
	j, err := tx.Job(ctx, "", first.ID)
	if err != nil {
		return nil, fmt.Errorf("read job %s: %w", first.ID, err)
	}
	if tx.Now().Sub(j.QueuedAt) < reserveAfter || !s.reserved.take(first.ID, worker, tx.Now()) {
		s.reserved.hush(worker, tx.Now())
		return nil, nil
	}
	return &first, nil
}

// session returns a worker that is attached; any other must attach first.
func session(ctx context.Context, tx store.ReadTx, name string) (store.Worker, error) {
	w, err := tx.Worker(ctx, name)
	switch {
	case job.CodeOf(err) == job.NotFound, err == nil && !w.EndedAt.IsZero():
		return store.Worker{}, noSession(name)
	case err != nil:
		return store.Worker{}, fmt.Errorf("read worker %s: %w", name, err)
	}
	return w, nil
}

func noSession(name string) error {
	return &job.Error{Code: job.NotFound, Message: fmt.Sprintf("worker %q has no session", name),
		Fix: "the worker attaches again by itself"}
}
