package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nano-os/nanoos/internal/artifact"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
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
		Responses:   jsonResponse(s, Job{}, "A dry run, or the key had been used for this job before."),
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
	c, err := s.candidate(ctx, in.RawBody, in.Key)
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
	j := stored[0].Job
	out := &submitOutput{Status: http.StatusCreated, Location: jobPath(string(j.ID))}
	if stored[0].Existing {
		out.Status = http.StatusOK
	}
	err = s.showStored(ctx, stored, func(v *viewer) { out.Body = v.full(j) })
	out.Body.Warnings = append(c.warnings, stored[0].Warnings...)
	return out, err
}

// showStored calls show with what shows the jobs that a submission returned. A
// new job is what was stored a moment ago, and nothing needs to be read for it;
// one of before may be running meanwhile.
func (s *Server) showStored(ctx context.Context, stored []queue.Submitted, show func(*viewer)) error {
	if !slices.ContainsFunc(stored, func(one queue.Submitted) bool { return one.Existing }) {
		show(&viewer{s: s})
		return nil
	}
	return s.read(ctx, func(tx store.ReadTx, t job.Tenant) error {
		v, err := s.viewer(ctx, tx, t)
		if err == nil {
			show(v)
		}
		return err
	})
}

// candidate is a job as it was asked for, on its way to the queue.
type candidate struct {
	spec     job.Spec
	warnings []engine.Warning
}

// candidate reads one job of a request and stores the files that came with it.
func (s *Server) candidate(ctx context.Context, raw []byte, key string) (candidate, error) {
	var r JobRequest
	if problems := decodeStrict(raw, "", &r); len(problems) > 0 {
		return candidate{}, job.InvalidInput("the job was not submitted", problems)
	}
	if problems := r.licensedFiles(); len(problems) > 0 {
		return candidate{}, job.InvalidInput("the job was not submitted", problems)
	}
	spec, warnings, problems := r.spec()
	if key != "" {
		if spec.Key != "" && spec.Key != key {
			problems = append(problems, job.Problem{Field: "key", Message: "differs from the header Idempotency-Key", Fix: "give one of them"})
		}
		spec.Key = key
	}
	if len(problems) == 0 {
		// The files are stored before the job, so the job never names what is not
		// there; what a refused job leaves behind is found by its hash if it comes again.
		if err := s.storeTexts(ctx, r.Files, spec.Files); err != nil {
			return candidate{}, err
		}
		_, problems = s.checker.engineOf(ctx, &spec)
	}
	if len(problems) > 0 {
		// What the queue would say of the rest comes with them: all at once.
		if e, ok := errors.AsType[*job.Error](s.checked(ctx, spec)); ok && e.Code == job.Invalid {
			problems = mergeProblems(problems, e.Problems)
		}
	}
	return candidate{spec, warnings}, job.InvalidInput(notSubmitted(spec), problems)
}

// ReadJob reads a job as a submission does, for the other front doors of the
// same process, and stores the files that came with it.
func (s *Server) ReadJob(ctx context.Context, raw []byte) (job.Spec, error) {
	c, err := s.candidate(ctx, raw, "")
	return c.spec, err
}

func (s *Server) checked(ctx context.Context, spec job.Spec) error {
	_, err := s.Queue.Check(ctx, spec)
	return err
}

// mergeProblems adds those that concern other fields.
func mergeProblems(problems, more []job.Problem) []job.Problem {
	for _, p := range more {
		if !slices.ContainsFunc(problems, func(o job.Problem) bool { return o.Field == p.Field }) {
			problems = append(problems, p)
		}
	}
	return problems
}

// notSubmitted says what did not happen to the user's thing.
func notSubmitted(s job.Spec) string {
	if s.Name == "" {
		return "the job was not submitted"
	}
	return shorten(s.Name) + " was not submitted"
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
	spec, err := s.Queue.Check(ctx, c.spec)
	if err != nil {
		return shown, err
	}
	spec, plan, err := s.checker.check(ctx, spec)
	if err != nil {
		return shown, err
	}
	err = s.read(ctx, func(tx store.ReadTx, t job.Tenant) error {
		v, err := s.viewer(ctx, tx, t)
		if err == nil {
			shown = v.full(job.Job{Tenant: t, Spec: spec, State: job.Queued, CreatedAt: v.now})
		}
		return err
	})
	shown.Warnings, shown.Plan = append(c.warnings, plan.Warnings...), showPlan(plan)
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
	Jobs   []unread `json:"jobs"`
	Atomic bool     `json:"atomic"`
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
	b := bulk{s: s, items: make([]BulkItem, len(r.Jobs))}
	for i, raw := range r.Jobs {
		c, err := s.candidate(ctx, raw.RawMessage, "")
		if err == nil {
			b.at, b.specs = append(b.at, i), append(b.specs, c.spec)
		} else if err := b.refuse(ctx, i, err); err != nil {
			return nil, err
		}
	}
	if err := b.store(ctx, r.Atomic); err != nil {
		return nil, err
	}
	return &bulkOutput{b.result()}, nil
}

// bulk is many jobs on their way into the queue.
type bulk struct {
	s     *Server
	items []BulkItem
	specs []job.Spec
	at    []int // which item each spec is
}

// refuse keeps the problem of one item; what is not the item's own fault is
// returned, and ends the whole call.
func (b *bulk) refuse(ctx context.Context, i int, err error) error {
	switch job.CodeOf(err) {
	case job.Invalid, job.Conflict, job.Exhausted:
		b.items[i].Problem = problemOf(ctx, err)
		return nil
	}
	return err
}

// store submits the jobs in one transaction. When some of them are refused, and
// not all or none was asked for, the others are submitted without them.
func (b *bulk) store(ctx context.Context, atomic bool) error {
	if atomic {
		if err := b.allRefused(); err != nil {
			return err
		}
		return b.submit(ctx, b.specs, b.at)
	}
	err := b.submit(ctx, b.specs, b.at)
	if job.CodeOf(err) == job.Invalid {
		if err := b.dropInvalid(ctx); err != nil {
			return err
		}
		err = b.submit(ctx, b.specs, b.at)
	}
	if job.CodeOf(err) != job.Conflict {
		return err
	}
	// A key in use is found in the transaction, so each has one of its own.
	for i := range b.specs {
		if err := b.submit(ctx, b.specs[i:i+1], b.at[i:i+1]); err != nil {
			if err := b.refuse(ctx, b.at[i], err); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropInvalid refuses the jobs that the queue would.
func (b *bulk) dropInvalid(ctx context.Context) error {
	specs, at := b.specs, b.at
	b.specs, b.at = nil, nil
	for i, spec := range specs {
		err := b.s.checked(ctx, spec)
		if err == nil {
			b.specs, b.at = append(b.specs, spec), append(b.at, at[i])
		} else if err := b.refuse(ctx, at[i], err); err != nil {
			return err
		}
	}
	return nil
}

// allRefused is the error of a call in which one bad job refuses all.
func (b *bulk) allRefused() error {
	var problems []job.Problem
	for i, item := range b.items {
		if item.Problem == nil {
			continue
		}
		for _, p := range item.Problem.Problems {
			p.Field = strings.TrimSuffix(fmt.Sprintf("jobs[%d].%s", i, p.Field), ".")
			problems = append(problems, p)
		}
	}
	return job.InvalidInput("no job was submitted", problems[:min(len(problems), maxProblems)])
}

func (b *bulk) submit(ctx context.Context, specs []job.Spec, at []int) error {
	if len(specs) == 0 {
		return nil
	}
	stored, err := b.s.Queue.Submit(ctx, principal(ctx).tenant, specs...)
	if err != nil {
		return err
	}
	return b.s.showStored(ctx, stored, func(v *viewer) {
		for i, one := range stored {
			b.items[at[i]].Job, b.items[at[i]].Existing = new(v.brief(one.Job)), one.Existing
		}
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
