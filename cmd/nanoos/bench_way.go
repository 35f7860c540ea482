package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/worker"
)

// way is how a client and a worker reach the queue.
type way interface {
	name() string
	// submit stores n equal jobs in one call.
	submit(ctx context.Context, n int, like benchJob) ([]job.ID, error)
	// state is what a client sees of a job.
	state(ctx context.Context, id job.ID) (job.State, error)
	// worker connects a worker; leave ends that.
	worker() (q worker.Queue, leave func())
	close()
}

// benchJob is what distinguishes the jobs of the measurements. The zero value
// fits every worker.
type benchJob struct {
	cpus       int
	priority   job.Priority
	parameters json.RawMessage
}

// ordinary are parameters of the mock engine that make the stored job as large
// as that of a small calculation, and as that of the limit.
var ordinary = json.RawMessage(`{"steps": 100, "step_seconds": 36.5, "as": "qe", "seed": 20260101, "converge": true, "fail_at_step": 100, "fail_attempts": 1, ` +
	`"exit_code": 3, "memory_mb": 2048, "output_bytes": 1000000, "children": 4, "ignore_sigterm": false}`)

// orOrdinary are the parameters of a job like this.
func (j benchJob) orOrdinary() json.RawMessage {
	if j.parameters == nil {
		return ordinary
	}
	return j.parameters
}

// memoryEach is what a job asks for; processes are limited to it.
const memoryEach = 256 << 20

func (b *bench) bothWays(o *bed) []way { return []way{inProcess{o}, newOverHTTP(o)} }

// inProcess calls the queue.
type inProcess struct{ *bed }

func (inProcess) name() string                     { return "in process" }
func (w inProcess) worker() (worker.Queue, func()) { return w.queue, func() {} }
func (inProcess) close()                           {}

func (w inProcess) submit(ctx context.Context, n int, like benchJob) ([]job.ID, error) {
	spec := job.Spec{Engine: "mock", Priority: like.priority, Params: like.orOrdinary()}
	spec.Demand = job.Demand{CPUs: max(1, like.cpus), Memory: memoryEach}
	jobs, err := w.queue.Submit(ctx, job.DefaultTenant, slices.Repeat([]job.Spec{spec}, n)...)
	ids := make([]job.ID, len(jobs))
	for i, s := range jobs {
		ids[i] = s.Job.ID
	}
	return ids, err
}

func (w inProcess) state(ctx context.Context, id job.ID) (job.State, error) {
	return storedState(ctx, w.store, id)
}

// overHTTP is a client and workers of the server, on loopback.
type overHTTP struct {
	*bed
	client *api.Client
}

func newOverHTTP(o *bed) overHTTP { return overHTTP{o, api.NewClient(o.url(), "")} }

func (overHTTP) name() string { return "http" }
func (w overHTTP) close()     { w.client.Close() }

func (w overHTTP) worker() (worker.Queue, func()) {
	c := api.NewWorkerClient([]string{w.url()}, "")
	return c, c.Close
}

func (w overHTTP) submit(ctx context.Context, n int, like benchJob) ([]job.ID, error) {
	r := api.JobRequest{Engine: "mock", Priority: new(int(like.priority)), Parameters: like.orOrdinary()}
	r.Resources = api.ResourcesInput{CPUs: max(1, like.cpus), Memory: memoryEach}
	if n == 1 {
		j, _, err := w.client.Submit(ctx, r)
		return []job.ID{j.ID}, err
	}
	res, err := w.client.SubmitBulk(ctx, api.BulkRequest{Jobs: slices.Repeat([]api.JobRequest{r}, n)})
	if err != nil {
		return nil, err
	}
	ids := make([]job.ID, len(res.Items))
	for i, item := range res.Items {
		if item.Problem != nil {
			return nil, item.Problem
		}
		ids[i] = item.Job.ID
	}
	return ids, nil
}

func (w overHTTP) state(ctx context.Context, id job.ID) (job.State, error) {
	j, err := w.client.Get(ctx, string(id))
	return j.State, err
}

// bulk is how many jobs a bulk submission has.
const bulk = 1000

// fill submits n jobs in bulk.
func fill(ctx context.Context, w way, n int, like benchJob) error {
	for at := 0; at < n; at += bulk {
		if _, err := w.submit(ctx, min(bulk, n-at), like); err != nil {
			return fmt.Errorf("submit %d jobs: %w", n, err)
		}
	}
	return nil
}
