package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// viewer shows the jobs of one snapshot as people see them.
type viewer struct {
	ctx     context.Context
	s       *Server
	tx      store.ReadTx
	tenant  job.Tenant
	now     time.Time
	workers map[string]store.Worker
}

func (s *Server) viewer(ctx context.Context, tx store.ReadTx, t job.Tenant) (*viewer, error) {
	workers, err := tx.Workers(ctx)
	if err != nil {
		return nil, err
	}
	v := &viewer{ctx: ctx, s: s, tx: tx, tenant: t, now: tx.Now(), workers: map[string]store.Worker{}}
	for _, w := range workers {
		v.workers[w.Session.Worker] = w
	}
	return v, nil
}

// full shows everything that was submitted.
func (v *viewer) full(j job.Job) Job {
	shown := v.brief(j)
	shown.Parameters, shown.Structure, shown.Files = j.Spec.Params, j.Spec.Structure, j.Spec.Files
	return shown
}

// brief leaves out parameters, structure and files, which can be large.
func (v *viewer) brief(j job.Job) Job {
	shown := Job{
		APIVersion: Version, Kind: "Job", ID: j.ID, Tenant: j.Tenant,
		Name: j.Spec.Name, Engine: j.Spec.Engine, Formula: formula(j.Spec.Structure),
		Queue: j.Spec.Queue, Priority: int(j.Spec.Priority), Labels: j.Spec.Labels, Key: j.Spec.Key,
		State: j.State, Reason: j.Reason, Message: j.Message,
		Attempt: j.Attempt, Failures: j.Failures, Losses: j.Losses, Retry: j.Spec.Retry,
		Progress: j.Progress, Worker: j.Worker, Verdict: j.Verdict, Failure: j.Failure,
		Resources: Resources{Demand: j.Spec.Demand, Walltime: j.Spec.Walltime, SoftLimit: job.Duration(j.Spec.Soft())},
		CreatedAt: j.CreatedAt, QueuedAt: j.QueuedAt, StartedAt: j.StartedAt, EndedAt: j.EndedAt, RunAt: j.RunAt,
	}
	if j.Spec.AcceptNotConverged {
		shown.Accept = "not_converged"
	}
	if j.State == job.Running {
		v.derive(&shown, j)
	}
	return shown
}

// derive says what is not stored about a running job: that it is being
// cancelled, and that nobody has heard of it.
func (v *viewer) derive(shown *Job, j job.Job) {
	shown.Cancelling = j.Cancel != nil
	w, known := v.workers[j.Worker]
	if !known || !v.s.Queue.ContactLost(w, v.now) {
		return
	}
	shown.ContactLost, shown.LastHeard = true, w.SeenAt
	if shown.Message == "" {
		shown.Message = fmt.Sprintf("last heard of %s ago; the program may still be running", v.now.Sub(w.SeenAt).Round(time.Second))
	}
}

// addSummary adds the numbers of the result of a job that has ended.
func (v *viewer) addSummary(shown *Job) error {
	if !shown.State.Terminal() {
		return nil
	}
	raw, err := v.tx.Result(v.ctx, v.tenant, shown.ID)
	if err != nil || raw == nil {
		return err
	}
	summary, err := summaryOf(raw)
	if err != nil {
		return fmt.Errorf("read the stored result of %s: %w", shown.ID, err)
	}
	shown.Summary = summary
	if summary != nil && summary.Formula != "" {
		shown.Formula = summary.Formula
	}
	return nil
}

// summaryOf reads the summary of a stored report, and not the series and
// structures after it, which may be large.
func summaryOf(raw []byte) (*engine.Summary, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		if key == "summary" {
			var s engine.Summary
			return &s, dec.Decode(&s)
		}
		var skipped json.RawMessage
		if err := dec.Decode(&skipped); err != nil {
			return nil, err
		}
	}
	return nil, nil
}
