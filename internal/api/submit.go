package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nano-os/nanoos/internal/artifact"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// Bounds of submissions. A job file holds a structure and a deck at most; larger
// files are uploaded.
const (
	maxJobBody  = 16 << 20
	maxBulkBody = 64 << 20
	maxBulk     = 10_000
)

func (s *Server) submitRoutes() {
	route(s, huma.Operation{
		OperationID: "submit-job", Method: http.MethodPost, Path: "/api/v1/jobs", Tags: []string{"jobs"},
		Summary: "Submit a job",
		Description: "201 means that the job is stored and survives anything. The same `Idempotency-Key` with the same job answers 200 with " +
			"the job of the first time; with another job it is a conflict. With `dry_run=true` nothing is stored, and the answer " +
			"has the plan: the files and commands that would run.",
		DefaultStatus: http.StatusCreated, MaxBodyBytes: maxJobBody,
		RequestBody: documentBody[JobRequest](s, "A job file in JSON.", exampleJob),
		Responses:   map[string]*huma.Response{"200": {Description: "A dry run, or the key had been used for this job before."}},
	}, s.submit)
	route(s, huma.Operation{
		OperationID: "submit-jobs", Method: http.MethodPost, Path: "/api/v1/jobs/bulk", Tags: []string{"jobs"},
		Summary:      "Submit many jobs at once",
		Description:  "Up to 10 000. Each item of the answer is a job or a problem. With `atomic` one bad job refuses them all.",
		MaxBodyBytes: maxBulkBody,
		RequestBody:  documentBody[BulkRequest](s, "The jobs.", map[string]any{"jobs": []any{exampleJob}}),
	}, s.submitBulk)
}

type submitInput struct {
	DryRun  bool   `query:"dry_run" doc:"Check only."`
	Key     string `header:"Idempotency-Key" maxLength:"255" doc:"Unique for this job; makes it safe to send it again."`
	RawBody []byte
}

type submitOutput struct {
	Status   int
	Location string `header:"Location" doc:"Where the job is."`
	Body     Job
}

func (s *Server) submit(ctx context.Context, in *submitInput) (*submitOutput, error) {
	queues, err := s.queueNames(ctx)
	if err != nil {
		return nil, err
	}
	c, err := s.candidate(ctx, in.RawBody, "", in.Key, queues)
	if err != nil {
		return nil, err
	}
	if in.DryRun {
		shown, err := s.dryRun(ctx, c)
		return &submitOutput{Status: http.StatusOK, Body: shown}, err
	}
	stored, err := s.Queue.Submit(ctx, principal(ctx).tenant, c.spec)
	if err != nil {
		return nil, err
	}
	out := &submitOutput{Status: http.StatusCreated, Location: "/api/v1/jobs/" + string(stored[0].Job.ID)}
	if stored[0].Existing {
		out.Status = http.StatusOK
	}
	err = s.read(ctx, func(tx store.ReadTx, t job.Tenant) error {
		v, err := s.viewer(ctx, tx, t)
		if err == nil {
			out.Body = v.full(stored[0].Job)
		}
		return err
	})
	out.Body.Warnings = c.warnings
	return out, err
}

// candidate is a job that may be stored.
type candidate struct {
	spec job.Spec
	plan *engine.Plan
	// warnings are of the plan and of the structure's file.
	warnings []engine.Warning
}

// candidate reads and checks one job of a request. at is where it is in the
// request. All of its problems are found together, unless it cannot be read.
func (s *Server) candidate(ctx context.Context, raw []byte, at, key string, queues []string) (candidate, error) {
	var r JobRequest
	if problems := decodeStrict(raw, at, &r); len(problems) > 0 {
		return candidate{}, job.InvalidInput("the job was not submitted", problems)
	}
	spec, warnings, problems := r.spec()
	if key != "" {
		if spec.Key != "" && spec.Key != key {
			problems = append(problems, job.Problem{Field: "key", Message: "differs from the header Idempotency-Key", Fix: "give one of them"})
		}
		spec.Key = key
	}
	if spec.Queue != "" && len(queues) > 0 && !slices.Contains(queues, spec.Queue) {
		// A job in a queue that does not exist would wait for ever.
		problems = append(problems, job.Problem{Field: "queue", Message: fmt.Sprintf("there is no queue %q", shorten(spec.Queue)),
			Fix: nearestFix(spec.Queue, queues)})
	}
	// The files are stored before the job, so the job never names what is not
	// there; what a refused job leaves behind is found by its hash if it comes again.
	if len(problems) == 0 {
		if err := s.storeTexts(ctx, r.Files, spec.Files); err != nil {
			return candidate{}, err
		}
	}
	spec, plan, err := s.checker.check(ctx, spec)
	if err != nil {
		e, ok := errors.AsType[*job.Error](err)
		if !ok {
			return candidate{}, err
		}
		problems = append(problems, e.Problems...)
	}
	prefix(problems, at)
	if plan != nil {
		warnings = append(warnings, plan.Warnings...)
	}
	return candidate{spec, plan, warnings}, job.InvalidInput(notSubmitted(spec), problems)
}

// prefix puts the fields of problems below at.
func prefix(problems []job.Problem, at string) {
	for i := range problems {
		if problems[i].Field != "" || problems[i].File == "" {
			problems[i].Field = strings.Trim(at+"."+problems[i].Field, ".")
		}
	}
}

func (s *Server) queueNames(ctx context.Context) (names []string, err error) {
	err = s.read(ctx, func(tx store.ReadTx, _ job.Tenant) error {
		queues, err := tx.Queues(ctx)
		for _, q := range queues {
			names = append(names, q.Name)
		}
		return err
	})
	return names, err
}

func nearestFix(name string, names []string) string {
	if near := job.Nearest(name, slices.Values(names)); near != "" {
		return fmt.Sprintf("did you mean %q? One of: %s", near, strings.Join(names, ", "))
	}
	return "choose one of: " + strings.Join(names, ", ")
}

// storeTexts keeps the files whose text came with the request.
func (s *Server) storeTexts(ctx context.Context, inputs []FileInput, files []job.File) error {
	for i, f := range inputs {
		if f.SHA256 != "" {
			continue
		}
		key := artifact.InputKey(files[i].SHA256)
		if _, err := s.Artifacts.Stat(ctx, key); err == nil {
			continue
		}
		if _, err := s.Artifacts.Put(ctx, key, strings.NewReader(f.Text), files[i].Size); err != nil {
			return fmt.Errorf("store input %s: %w", files[i].Name, err)
		}
	}
	return nil
}

// dryRun shows the job that would be stored, and the plan.
func (s *Server) dryRun(ctx context.Context, c candidate) (shown Job, err error) {
	err = s.read(ctx, func(tx store.ReadTx, t job.Tenant) error {
		v, err := s.viewer(ctx, tx, t)
		if err != nil {
			return err
		}
		shown = v.full(job.Job{Tenant: t, Spec: c.spec, State: job.Queued, CreatedAt: v.now})
		return nil
	})
	shown.Warnings, shown.Plan = c.warnings, showPlan(c.plan)
	return shown, err
}

// maxShownFile bounds how much of a planned file is shown.
const maxShownFile = 64 << 10

func showPlan(p *engine.Plan) *Plan {
	shown := &Plan{Files: map[string]string{}, Library: sortedKeys(p.Library)}
	for name, text := range p.Files {
		if len(text) > maxShownFile {
			text = append(slices.Clone(text[:maxShownFile]), "\n… cut …\n"...)
		}
		shown.Files[name] = strings.ToValidUTF8(string(text), "\uFFFD")
	}
	for _, step := range p.Steps {
		line := strings.Join(append([]string{step.Program}, step.Args...), " ")
		if step.Ranks > 0 {
			line = fmt.Sprintf("mpirun -n %d %s", step.Ranks, line)
		}
		shown.Commands = append(shown.Commands, line)
	}
	return shown
}

type bulkInput struct {
	RawBody []byte
}

type bulkOutput struct{ Body BulkResult }

// rawBulk is a BulkRequest whose jobs are read one by one, so that one that
// cannot be read does not refuse the others.
type rawBulk struct {
	Jobs   []json.RawMessage `json:"jobs"`
	Atomic bool              `json:"atomic"`
}

func (s *Server) submitBulk(ctx context.Context, in *bulkInput) (*bulkOutput, error) {
	var r rawBulk
	c := checks{problems: decodeStrict(in.RawBody, "", &r)}
	if n := len(r.Jobs); len(c.problems) == 0 && (n == 0 || n > maxBulk) {
		c.add("jobs", fmt.Sprintf("has %d jobs", n), fmt.Sprintf("send 1 … %d", maxBulk))
	}
	if err := job.InvalidInput("no job was submitted", c.problems); err != nil {
		return nil, err
	}
	queues, err := s.queueNames(ctx)
	if err != nil {
		return nil, err
	}
	b := bulk{s: s, items: make([]BulkItem, len(r.Jobs))}
	var problems []job.Problem
	for i, raw := range r.Jobs {
		at := ""
		if r.Atomic {
			at = fmt.Sprintf("jobs[%d]", i)
		}
		c, err := s.candidate(ctx, raw, at, "", queues)
		switch {
		case err == nil:
			b.at, b.specs = append(b.at, i), append(b.specs, c.spec)
		case job.CodeOf(err) != job.Invalid:
			return nil, err
		default:
			b.items[i].Problem = problemOf(ctx, err)
			problems = append(problems, b.items[i].Problem.Problems...)
		}
	}
	if r.Atomic {
		problems = problems[:min(len(problems), maxProblems)]
		if err := job.InvalidInput("no job was submitted", problems); err != nil {
			return nil, err
		}
	}
	if err := b.store(ctx, r.Atomic); err != nil {
		return nil, err
	}
	return &bulkOutput{b.result()}, nil
}

// bulk is many jobs on their way into the store.
type bulk struct {
	s     *Server
	items []BulkItem
	specs []job.Spec
	at    []int // which item each spec is
}

// store submits the jobs in one transaction. When that is refused, for the key
// of one of them, each is submitted for itself, unless all or none was asked for.
func (b *bulk) store(ctx context.Context, atomic bool) error {
	if len(b.specs) == 0 {
		return nil
	}
	err := b.submit(ctx, b.specs, b.at)
	if job.CodeOf(err) != job.Conflict || atomic {
		return err
	}
	for i := range b.specs {
		err := b.submit(ctx, b.specs[i:i+1], b.at[i:i+1])
		switch job.CodeOf(err) {
		case "":
		case job.Conflict, job.Invalid, job.Exhausted:
			b.items[b.at[i]].Problem = problemOf(ctx, err)
		default:
			return err
		}
	}
	return nil
}

func (b *bulk) submit(ctx context.Context, specs []job.Spec, at []int) error {
	stored, err := b.s.Queue.Submit(ctx, principal(ctx).tenant, specs...)
	if err != nil {
		return err
	}
	return b.s.read(ctx, func(tx store.ReadTx, t job.Tenant) error {
		v, err := b.s.viewer(ctx, tx, t)
		if err != nil {
			return err
		}
		for i, one := range stored {
			b.items[at[i]].Job, b.items[at[i]].Existing = new(v.brief(one.Job)), one.Existing
		}
		return nil
	})
}

func (b *bulk) result() BulkResult {
	r := BulkResult{APIVersion: Version, Kind: "BulkResult", Items: b.items}
	for _, item := range b.items {
		if item.Job != nil {
			r.Accepted++
		} else {
			r.Refused++
		}
	}
	return r
}
