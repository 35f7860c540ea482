package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
	"github.com/nano-os/nanoos/internal/store"
)

// refInput is a request about one job.
type refInput struct {
	Ref string `path:"ref" maxLength:"250" doc:"Id, six or more characters of its beginning or end, unique name, or @last." example:"@last"`
}

type jobOutput struct{ Body Job }

// exampleJob is the job of every example.
var exampleJob = map[string]any{
	"name": "silicon-scf", "engine": "mock", "parameters": map[string]any{"steps": 4},
	"resources": map[string]any{"cpus": 1, "memory": "1GiB", "walltime": "10m"}, "labels": map[string]any{"campaign": "demo"},
}

func (s *Server) jobRoutes() {
	s.submitRoutes()
	s.simulationRoutes()
	route(s, huma.Operation{
		OperationID: "list-jobs", Method: http.MethodGet, Path: "/api/v1/jobs", Tags: []string{"jobs"},
		Summary:     "List jobs",
		Description: "The newest first. Without `all`, `since` or `state` a list has only the jobs that have not ended, or ended in the last 24 h.",
	}, s.listJobs)
	route(s, huma.Operation{
		OperationID: "get-job", Method: http.MethodGet, Path: "/api/v1/jobs/{ref}", Tags: []string{"jobs"}, Summary: "Get one job",
	}, s.getJob)
	route(s, huma.Operation{
		OperationID: "change-job", Method: http.MethodPatch, Path: "/api/v1/jobs/{ref}", Tags: []string{"jobs"},
		Summary:     "Change the priority of a waiting job",
		RequestBody: documentBody[JobPatch](s, "What to change.", map[string]any{"priority": 10}),
	}, s.patchJob)
	s.actionRoute("cancel", "Cancel a job", "The job ends CANCELLED, unless it has ended before: then the answer is a conflict that says how.", s.Queue.Cancel)
	s.actionRoute("retry", "Start a failed or cancelled job again", "With fresh budgets; a job that waits for its retry starts at once.", s.Queue.Retry)
	s.actionRoute("hold", "Keep a waiting job from starting", "Release undoes it.", s.Queue.Hold)
	s.actionRoute("release", "Let a held job go", "Also frees a job that was quarantined.", s.Queue.Release)
}

type listInput struct {
	State   []string `query:"state,explode" doc:"One or more of PENDING, QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED."`
	Queue   string   `query:"queue" maxLength:"200"`
	Engine  string   `query:"engine" maxLength:"100"`
	Label   []string `query:"label,explode" doc:"key=value; repeat it to demand several."`
	Name    string   `query:"name" maxLength:"200" doc:"Part of the name; upper and lower case are equal."`
	Since   string   `query:"since" maxLength:"40" doc:"Created at or after: a time, or a duration back from now such as 24h." example:"24h"`
	Limit   int      `query:"limit" minimum:"1" maximum:"500" default:"50"`
	Cursor  string   `query:"cursor" maxLength:"500" doc:"The value of next of the page before."`
	All     bool     `query:"all" doc:"Also those that ended more than 24 h ago."`
	Summary bool     `query:"summary" doc:"With the numbers of the results."`
}

type listOutput struct{ Body JobList }

func (s *Server) listJobs(ctx context.Context, in *listInput) (*listOutput, error) {
	q, err := in.query(time.Now(), s)
	if err != nil {
		return nil, err
	}
	out := &listOutput{Body: JobList{APIVersion: Version, Kind: "JobList", Items: []Job{}}}
	err = s.read(ctx, func(tx store.ReadTx, t job.Tenant) error {
		q.Tenant = t
		page, next, err := tx.Jobs(ctx, q)
		if err != nil {
			return err
		}
		v, err := s.viewer(ctx, tx, t)
		if err != nil {
			return err
		}
		for _, j := range page {
			shown := v.brief(j)
			if in.Summary {
				if err := v.addSummary(&shown); err != nil {
					return err
				}
			}
			out.Body.Items = append(out.Body.Items, shown)
		}
		out.Body.Next = string(next)
		out.Body.Total, err = total(ctx, tx, q)
		return err
	})
	return out, err
}

// recent is how long ended jobs stay in a list that does not ask for more.
const recent = 24 * time.Hour

func (in *listInput) query(now time.Time, s *Server) (store.JobQuery, error) {
	var c checks
	q := store.JobQuery{Queue: in.Queue, Engine: in.Engine, Name: in.Name, After: store.Cursor(in.Cursor), Limit: in.Limit}
	for _, word := range in.State {
		state, ok := stateOf(word)
		if !ok {
			c.add("state", fmt.Sprintf("there is no state %q", shorten(word)), "choose of PENDING, QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED")
		}
		q.States = append(q.States, state)
	}
	for _, l := range in.Label {
		k, v, ok := strings.Cut(l, "=")
		if !ok {
			c.add("label", fmt.Sprintf("%q is not key=value", shorten(l)), "")
			continue
		}
		if q.Labels == nil {
			q.Labels = map[string]string{}
		}
		q.Labels[k] = v
	}
	if in.Engine != "" {
		if e, _ := engine.ByName(s.Engines, in.Engine); e != nil {
			q.Engine = e.Name()
		}
	}
	since, ok := sinceTime(in.Since, now)
	if !ok {
		c.add("since", fmt.Sprintf("%q is neither a time nor a duration", shorten(in.Since)), "write it like 2026-01-31T12:00:00Z or 24h")
	}
	q.Since = since
	if !in.All && since.IsZero() && len(q.States) == 0 {
		q.Updated = now.Add(-recent)
	}
	return q, job.InvalidInput("the list was not made", c.problems)
}

func stateOf(word string) (job.State, bool) {
	for _, s := range job.States {
		if strings.EqualFold(string(s), word) {
			return s, true
		}
	}
	return "", false
}

// sinceTime reads a time, or a duration back from now.
func sinceTime(text string, now time.Time) (time.Time, bool) {
	if text == "" {
		return time.Time{}, true
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil && t.Year() >= 1970 {
			return t, true
		}
	}
	d, err := job.ParseDuration(text)
	return now.Add(-time.Duration(d)), err == nil
}

// total counts the jobs of a query without regard to time; nil when the store
// would have to read them all to know.
func total(ctx context.Context, tx store.ReadTx, q store.JobQuery) (*int64, error) {
	if q.Engine != "" || q.Name != "" || len(q.Labels) > 0 || !q.Since.IsZero() {
		return nil, nil
	}
	counts, err := tx.Counts(ctx, q.Tenant)
	if err != nil {
		return nil, err
	}
	n := int64(0)
	for _, c := range counts {
		if (q.Queue == "" || c.Queue == q.Queue) && (len(q.States) == 0 || slices.Contains(q.States, c.State)) {
			n += c.Jobs
		}
	}
	return &n, nil
}

func (s *Server) getJob(ctx context.Context, in *refInput) (*jobOutput, error) {
	var out jobOutput
	err := s.read(ctx, func(tx store.ReadTx, t job.Tenant) error {
		j, err := find(ctx, tx, t, in.Ref)
		if err != nil {
			return err
		}
		out.Body, err = s.show(ctx, tx, t, j)
		return err
	})
	return &out, err
}

// show is a job in full, with its summary.
func (s *Server) show(ctx context.Context, tx store.ReadTx, t job.Tenant, j job.Job) (Job, error) {
	v, err := s.viewer(ctx, tx, t)
	if err != nil {
		return Job{}, err
	}
	shown := v.full(j)
	return shown, v.addSummary(&shown)
}

type patchInput struct {
	Ref     string `path:"ref" maxLength:"250" doc:"Id, six or more characters of its beginning or end, unique name, or @last." example:"@last"`
	RawBody []byte
}

func (s *Server) patchJob(ctx context.Context, in *patchInput) (*jobOutput, error) {
	var patch JobPatch
	c := checks{problems: decodeStrict(in.RawBody, "", &patch)}
	switch {
	case len(c.problems) > 0:
	case patch.Priority == nil:
		c.add("priority", "is missing", "it is the only thing about a job that can be changed")
	default:
		c.between("priority", int64(*patch.Priority), 0, 20, "0 runs last, 20 runs first")
	}
	if err := job.InvalidInput("the job was not changed", c.problems); err != nil {
		return nil, err
	}
	return s.change(ctx, in.Ref, func(t job.Tenant, id job.ID) (job.Job, error) {
		return s.Queue.SetPriority(ctx, t, id, job.Priority(*patch.Priority))
	})
}

// action is a change of one job that somebody asks for.
type action func(context.Context, job.Tenant, job.ID, queue.Actor) (job.Job, error)

func (s *Server) actionRoute(verb, summary, description string, do action) {
	route(s, huma.Operation{
		OperationID: verb + "-job", Method: http.MethodPost, Path: "/api/v1/jobs/{ref}/" + verb, Tags: []string{"jobs"},
		Summary: summary, Description: description,
		RequestBody: documentBody[ActionRequest](s, "Why, for the record.", map[string]any{"why": "wrong pseudopotential"}),
		Metadata:    map[string]any{"optional body": true},
	}, func(ctx context.Context, in *patchInput) (*jobOutput, error) {
		var r ActionRequest
		if len(in.RawBody) > 0 {
			if err := job.InvalidInput("nothing was done to the job", decodeStrict(in.RawBody, "", &r)); err != nil {
				return nil, err
			}
		}
		a, err := actorOf(ctx, r.Why)
		if err != nil {
			return nil, err
		}
		return s.change(ctx, in.Ref, func(t job.Tenant, id job.ID) (job.Job, error) { return do(ctx, t, id, a) })
	})
}

// maxWhy bounds the reason that goes into the record.
const maxWhy = 1000

func actorOf(ctx context.Context, why string) (queue.Actor, error) {
	var c checks
	if len(why) > maxWhy {
		c.add("why", "is longer than "+strconv.Itoa(maxWhy)+" bytes", "")
	}
	c.plainText("why", why)
	return queue.Actor{By: principal(ctx).name, Why: why}, job.InvalidInput("nothing was done", c.problems)
}

// change finds a job, lets do change it, and shows what became of it.
func (s *Server) change(ctx context.Context, ref string, do func(job.Tenant, job.ID) (job.Job, error)) (*jobOutput, error) {
	var id job.ID
	err := s.read(ctx, func(tx store.ReadTx, t job.Tenant) error {
		j, err := find(ctx, tx, t, ref)
		id = j.ID
		return err
	})
	if err != nil {
		return nil, err
	}
	if _, err := do(principal(ctx).tenant, id); err != nil {
		return nil, err
	}
	return s.getJob(ctx, &refInput{Ref: string(id)})
}
