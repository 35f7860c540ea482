package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

func (s *Server) resultRoutes() {
	get := func(id, path, summary, description string) huma.Operation {
		return huma.Operation{OperationID: id, Method: http.MethodGet, Path: "/api/v1/jobs/{ref}/" + path,
			Tags: []string{"results"}, Summary: summary, Description: description}
	}
	route(s, get("get-result", "result", "Get the result of a job",
		"Also of a failed one, with whatever its last attempt produced. A job without a result is not found."), s.getResult)
	route(s, get("list-attempts", "attempts", "List the attempts of a job", "The first one first."), s.getAttempts)
	route(s, get("explain-job", "explain", "Explain why a job waits, or how it ended", "With what can be done about it."), s.explain)
}

type resultOutput struct{ Body Result }

func (s *Server) getResult(ctx context.Context, in *refInput) (*resultOutput, error) {
	var j job.Job
	var raw []byte
	err := s.read(ctx, func(tx store.ReadTx, t job.Tenant) (err error) {
		if j, err = find(ctx, tx, t, in.Ref); err == nil {
			raw, err = tx.Result(ctx, t, j.ID)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if raw == nil {
		return nil, noResult(j)
	}
	out := &resultOutput{Body: Result{APIVersion: Version, Kind: "Result", Job: j.ID, State: j.State}}
	if err := json.Unmarshal(raw, &out.Body.Report); err != nil {
		return nil, fmt.Errorf("read the stored result of %s: %w", j.ID, err)
	}
	return out, nil
}

// noResult says why there is none, and whether there will be one.
func noResult(j job.Job) error {
	e := job.Errorf(job.NotFound, "job %s has no result", j.ID)
	switch {
	case !j.State.Terminal():
		e.Why, e.Fix = fmt.Sprintf("it is %s and has not ended", j.State), fmt.Sprintf("nanoos wait %s", j.ID)
	case j.Failure != nil:
		e.Why, e.Fix = "it failed: "+j.Failure.Message, fmt.Sprintf("nanoos explain %s", j.ID)
	default:
		e.Why = fmt.Sprintf("it ended %s before it produced one", j.State)
	}
	return e
}

type attemptsOutput struct{ Body AttemptList }

func (s *Server) getAttempts(ctx context.Context, in *refInput) (*attemptsOutput, error) {
	out := &attemptsOutput{Body: AttemptList{APIVersion: Version, Kind: "AttemptList", Items: []job.Attempt{}}}
	err := s.read(ctx, func(tx store.ReadTx, t job.Tenant) error {
		j, err := find(ctx, tx, t, in.Ref)
		if err != nil {
			return err
		}
		attempts, err := tx.Attempts(ctx, t, j.ID)
		out.Body.Items = append(out.Body.Items, attempts...)
		return err
	})
	return out, err
}

type explainOutput struct{ Body Explanation }

func (s *Server) explain(ctx context.Context, in *refInput) (*explainOutput, error) {
	var e Explanation
	var shown Job
	err := s.read(ctx, func(tx store.ReadTx, t job.Tenant) error {
		j, err := find(ctx, tx, t, in.Ref)
		if err != nil {
			return err
		}
		if shown, err = s.show(ctx, tx, t, j); err != nil {
			return err
		}
		e = Explanation{APIVersion: Version, Kind: "Explanation", Job: j.ID, State: j.State, Failure: j.Failure, Budgets: budgets(j)}
		e.Attempts, err = tx.Attempts(ctx, t, j.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	if shown.State == job.Pending || shown.State == job.Queued {
		waiting, err := s.Queue.Explain(ctx, principal(ctx).tenant, e.Job)
		if err != nil {
			return nil, err
		}
		for _, w := range waiting {
			e.Waiting = append(e.Waiting, Reason(w))
		}
	}
	e.Summary = sentence(shown, e.Waiting)
	e.Commands = commands(shown)
	return &explainOutput{e}, nil
}

func budgets(j job.Job) string {
	return fmt.Sprintf("program failures %d of %d, losses %d of %d", j.Failures, j.Spec.Retry.Max, j.Losses, j.Spec.Retry.MaxLosses)
}

// sentence says how a job is in one sentence.
func sentence(j Job, waiting []Reason) string {
	switch {
	case len(waiting) > 0:
		return "it waits: " + waiting[0].Message
	case j.State == job.Running && j.ContactLost:
		return "contact with its worker is lost; " + j.Message
	case j.State == job.Running && j.Cancelling:
		return "it is being cancelled"
	case j.State == job.Running && j.Progress != nil && j.Progress.Stage != "":
		return fmt.Sprintf("it runs on %s: %s", j.Worker, j.Progress.Stage)
	case j.State == job.Running:
		return "it runs on " + j.Worker
	case j.State == job.Completed && j.Verdict == job.NotConverged:
		return "it finished without converging, which the job accepts"
	case j.State == job.Completed:
		return fmt.Sprintf("it finished after %s", took(j))
	case j.State == job.Failed && j.Failure != nil:
		return "it failed: " + j.Failure.Message
	case j.State == job.Cancelled && j.Message != "":
		return "it was " + j.Message
	case j.Message != "":
		return j.Message
	}
	return "it is " + string(j.State)
}

func took(j Job) time.Duration { return j.EndedAt.Sub(j.StartedAt).Round(time.Second) }

// commands are what a person can do next.
func commands(j Job) []string {
	id := string(j.ID)
	switch {
	case j.Reason.Held():
		return []string{"nanoos release " + id, "nanoos cancel " + id}
	case j.State == job.Pending && j.Reason == job.ReasonRetry:
		return []string{"nanoos logs " + id, "nanoos retry " + id, "nanoos cancel " + id}
	case j.State == job.Pending, j.State == job.Queued:
		return []string{"nanoos worker list", "nanoos cancel " + id}
	case j.State == job.Running:
		return []string{"nanoos logs -f " + id, "nanoos cancel " + id}
	case j.State == job.Completed:
		return []string{"nanoos get " + id, "nanoos logs " + id}
	}
	return []string{"nanoos logs " + id, "nanoos retry " + id}
}
