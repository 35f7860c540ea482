package queue

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// Waiting is one reason why a job has not started.
type Waiting struct {
	Code    string `json:"code"` // held, quarantined, begin_time, retry, queue_paused, no_worker, never_fits, busy
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"`
}

// Explain says why a waiting job waits, in order of weight, the first being
// the primary reason. A job that runs or has ended waits for nothing.
func (s *Service) Explain(ctx context.Context, t job.Tenant, id job.ID) ([]Waiting, error) {
	var reasons []Waiting
	err := s.st.Read(ctx, func(tx store.ReadTx) error {
		reasons = nil
		j, err := tx.Job(ctx, t, id)
		if err != nil || j.State != job.Pending && j.State != job.Queued {
			return err
		}
		reasons = append(reasons, pendingReason(j)...)
		queues, err := tx.Queues(ctx)
		if err != nil {
			return fmt.Errorf("read queues: %w", err)
		}
		reasons = append(reasons, pausedReason(j, queues)...)
		placement, err := s.placement(ctx, tx, j)
		reasons = append(reasons, placement...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("explain job %s: %w", id, err)
	}
	return reasons, nil
}

// pendingReason is what the job itself waits for.
func pendingReason(j job.Job) []Waiting {
	if j.State != job.Pending {
		return nil
	}
	w := Waiting{Code: string(j.Reason), Message: j.Message}
	switch j.Reason {
	case job.ReasonHeld:
		w.Fix = command("release", j.ID)
	case job.ReasonQuarantined:
		w.Fix = "look at the evidence, then " + command("release", j.ID) + " or " + command("cancel", j.ID)
	case job.ReasonRetry:
		w.Message = fmt.Sprintf("starts again at %s after attempt %d (program failures %d of %d, losses %d of %d)",
			clock(j.RunAt), j.Attempt, j.Failures, j.Spec.Retry.Max, j.Losses, j.Spec.Retry.MaxLosses)
		if j.Failure != nil {
			w.Message += ": " + j.Failure.Message
		}
		w.Fix = "start it now: " + command("retry", j.ID)
	}
	return []Waiting{w}
}

func pausedReason(j job.Job, queues []store.Queue) []Waiting {
	for _, q := range queues {
		if q.Name == j.Spec.Queue && q.Paused != nil {
			return []Waiting{{Code: "queue_paused",
				Message: saying(fmt.Sprintf("queue %s was paused", q.Name), q.Paused.By, q.Paused.Why),
				Fix:     "nanoos queue resume " + q.Name}}
		}
	}
	return nil
}

// placement is what keeps a job from the machines.
func (s *Service) placement(ctx context.Context, tx store.ReadTx, j job.Job) ([]Waiting, error) {
	all, err := tx.Workers(ctx)
	if err != nil {
		return nil, fmt.Errorf("read workers: %w", err)
	}
	var here, suitable, away []store.Worker
	for _, w := range all {
		fits := w.Offer.Fits(j.Spec.Queue, j.Spec.Engine, j.Spec.Demand)
		switch {
		case !w.EndedAt.IsZero():
		case w.Draining || s.ContactLost(w, tx.Now()):
			if fits {
				away = append(away, w)
			}
		default:
			here = append(here, w)
			if fits {
				suitable = append(suitable, w)
			}
		}
	}
	switch {
	case len(suitable) > 0:
	case len(away) > 0:
		return []Waiting{s.outOfReach(away[0], tx.Now())}, nil
	case len(here) == 0:
		return []Waiting{{Code: "no_worker", Message: "no worker is connected", Fix: "start one: nanoos worker, or nanoos up"}}, nil
	default:
		return []Waiting{neverFits(j, here)}, nil
	}
	if j.State != job.Queued {
		return nil, nil
	}
	return s.busy(ctx, tx, j, suitable)
}

// outOfReach says why a worker that would suit a job gets none.
func (s *Service) outOfReach(w store.Worker, now time.Time) Waiting {
	if w.Draining {
		return Waiting{Code: "worker_drained", Message: fmt.Sprintf("the worker that suits it, %s, is drained", w.Worker),
			Fix: "nanoos worker resume " + w.Worker}
	}
	return Waiting{Code: "worker_lost", Message: fmt.Sprintf("the worker that suits it, %s, has not been heard of since %s", w.Worker, clock(w.SeenAt)),
		Fix: "look at that machine; if it does not come back, start another worker"}
}

// neverFits names the worker that comes closest, and what it lacks.
func neverFits(j job.Job, here []store.Worker) Waiting {
	closest, fewest := here[0], lacks(here[0].Offer, j.Spec)
	for _, w := range here[1:] {
		l := lacks(w.Offer, j.Spec)
		if len(l) < len(fewest) || len(l) == len(fewest) && shortfall(w.Offer, j.Spec.Demand) < shortfall(closest.Offer, j.Spec.Demand) {
			closest, fewest = w, l
		}
	}
	return Waiting{Code: "never_fits",
		Message: fmt.Sprintf("no worker can ever run it (%d connected); %s comes closest, but %s",
			len(here), closest.Worker, strings.Join(fewest, ", and ")),
		Fix: "start a worker that has this, or cancel the job and submit it with other resources"}
}

// shortfall is how much of a demand an offer cannot give, 1 for each resource
// of which it has none.
func shortfall(o job.Offer, d job.Demand) float64 {
	short := func(want, have int64) float64 { return float64(max(0, want-have)) / float64(max(1, want)) }
	return short(int64(d.CPUs), int64(o.CPUs)) + short(d.Memory, o.Memory) + short(int64(d.GPUs), int64(o.GPUs))
}

// lacks says what an offer is short of.
func lacks(o job.Offer, spec job.Spec) []string {
	var l []string
	d := spec.Demand
	if !slices.Contains(o.Engines, spec.Engine) {
		l = append(l, "it does not have engine "+spec.Engine)
	}
	if d.CPUs > o.CPUs {
		l = append(l, fmt.Sprintf("%d CPUs are asked for and it has %d", d.CPUs, o.CPUs))
	}
	if d.Memory > o.Memory {
		l = append(l, fmt.Sprintf("%s of memory are asked for and it has %s", mebibytes(d.Memory), mebibytes(o.Memory)))
	}
	if d.GPUs > o.GPUs {
		l = append(l, fmt.Sprintf("%d GPUs are asked for and it has %d", d.GPUs, o.GPUs))
	}
	if len(o.Queues) > 0 && !slices.Contains(o.Queues, spec.Queue) {
		l = append(l, fmt.Sprintf("it does not serve queue %s", spec.Queue))
	}
	for _, t := range d.Tags {
		if !slices.Contains(o.Tags, t) {
			l = append(l, "it does not have tag "+t)
		}
	}
	return l
}

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }

// lineLength bounds the counting of jobs ahead.
const lineLength = 1000

// busy says how the suitable workers are occupied, and how long the line is.
func (s *Service) busy(ctx context.Context, tx store.ReadTx, j job.Job, suitable []store.Worker) ([]Waiting, error) {
	var rooms []string
	open := ""
	for _, w := range suitable {
		jobs, err := tx.RunningOn(ctx, w.Worker)
		if err != nil {
			return nil, fmt.Errorf("read the jobs of worker %s: %w", w.Worker, err)
		}
		free := w.Offer
		for _, r := range jobs {
			free = free.Less(r.Spec.Demand)
		}
		if free.Fits(j.Spec.Queue, j.Spec.Engine, j.Spec.Demand) {
			open = w.Worker
		}
		if len(rooms) < 3 {
			rooms = append(rooms, fmt.Sprintf("%s has %d of %d CPUs and %s of %s free", w.Worker,
				max(0, free.CPUs), w.Offer.CPUs, mebibytes(max(0, free.Memory)), mebibytes(w.Offer.Memory)))
		}
	}
	ahead, err := s.ahead(ctx, tx, j, suitable)
	if err != nil {
		return nil, err
	}
	line := "it is next in line"
	switch {
	case ahead >= lineLength:
		line = fmt.Sprintf("%d jobs or more are ahead of it", lineLength)
	case ahead > 0:
		line = plural(ahead, "job is", "jobs are") + " ahead of it"
	}
	if open != "" {
		return []Waiting{{Code: "busy", Message: fmt.Sprintf("worker %s has room for it; %s", open, line)}}, nil
	}
	return []Waiting{{Code: "busy", Message: fmt.Sprintf("%s busy: %s; %s",
		plural(int64(len(suitable)), "suitable worker is", "suitable workers are"), strings.Join(rooms, ", "), line)}}, nil
}

// ahead counts the jobs that may start before j on the workers that suit it, by
// priority and age; shares between tenants can change that.
func (s *Service) ahead(ctx context.Context, tx store.ReadTx, j job.Job, suitable []store.Worker) (int64, error) {
	lanes, err := tx.Lanes(ctx)
	if err != nil {
		return 0, fmt.Errorf("read lanes: %w", err)
	}
	var ids []store.LaneID
	for _, l := range lanes {
		if slices.ContainsFunc(suitable, func(w store.Worker) bool { return w.Offer.Fits(l.Queue, l.Engine, l.Demand) }) {
			ids = append(ids, l.ID)
		}
	}
	heads, err := tx.Heads(ctx, ids, lineLength)
	if err != nil {
		return 0, fmt.Errorf("read the heads of %d lanes: %w", len(ids), err)
	}
	own := slices.IndexFunc(heads, func(h store.Head) bool { return h.ID == j.ID })
	if own < 0 {
		// Paused, or beyond the heads of its lane.
		own = len(heads)
		heads = append(heads, store.Head{Priority: j.Spec.Priority, Seq: 1<<63 - 1})
	}
	var n int64
	for _, h := range heads {
		if before(h, heads[own]) {
			n++
		}
	}
	return n, nil
}
