package api

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

func (s *Server) queueRoutes() {
	op := func(id, method, path, summary string) huma.Operation {
		return huma.Operation{OperationID: id, Method: method, Path: "/api/v1/queues" + path, Tags: []string{"installation"}, Summary: summary}
	}
	route(s, op("list-queues", http.MethodGet, "", "List queues"), s.listQueues)
	route(s, op("get-queue", http.MethodGet, "/{name}", "Get one queue"), s.getQueue)
	create := op("make-queue", http.MethodPost, "", "Make a queue, or change the defaults of one")
	create.RequestBody = documentBody[QueueRequest](s, "The queue.", map[string]any{"name": "night", "walltime": "12h"})
	create.DefaultStatus = http.StatusCreated
	route(s, create, s.makeQueue)
	patch := op("change-queue", http.MethodPatch, "/{name}", "Pause or resume a queue")
	patch.Description = "A paused queue takes jobs and starts none; jobs that run go on."
	patch.RequestBody = documentBody[QueuePatch](s, "What to change.", map[string]any{"paused": true, "why": "maintenance"})
	route(s, patch, s.patchQueue)
}

type queueInput struct {
	Name string `path:"name" maxLength:"200" example:"simulations"`
}

type queueOutput struct{ Body QueueInfo }

type queuesOutput struct{ Body QueueList }

func (s *Server) listQueues(ctx context.Context, _ *struct{}) (*queuesOutput, error) {
	out := &queuesOutput{Body: QueueList{APIVersion: Version, Kind: "QueueList"}}
	err := s.read(ctx, func(tx store.ReadTx, t job.Tenant) (err error) {
		out.Body.Items, err = queueInfos(ctx, tx, t)
		return err
	})
	return out, err
}

// queueInfos are all queues and how many jobs of the tenant are in each.
func queueInfos(ctx context.Context, tx store.ReadTx, t job.Tenant) ([]QueueInfo, error) {
	queues, err := tx.Queues(ctx)
	if err != nil {
		return nil, err
	}
	counts, err := tx.Counts(ctx, t)
	if err != nil {
		return nil, err
	}
	infos := make([]QueueInfo, 0, len(queues))
	for _, q := range queues {
		info := QueueInfo{Name: q.Name, Paused: q.Paused, Walltime: q.Walltime, LostAfter: q.LostAfter, Jobs: map[job.State]int64{}}
		for _, state := range job.States {
			info.Jobs[state] = 0
		}
		for _, c := range counts {
			if c.Queue == q.Name {
				info.Jobs[c.State] += c.Jobs
			}
		}
		infos = append(infos, info)
	}
	return infos, nil
}

func (s *Server) getQueue(ctx context.Context, in *queueInput) (*queueOutput, error) {
	var out queueOutput
	err := s.read(ctx, func(tx store.ReadTx, t job.Tenant) error {
		infos, err := queueInfos(ctx, tx, t)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(infos, func(q QueueInfo) bool { return q.Name == in.Name })
		if i < 0 {
			return noQueue(in.Name, infos)
		}
		out.Body = infos[i]
		return nil
	})
	return &out, err
}

func noQueue(name string, infos []QueueInfo) error {
	var names []string
	for _, q := range infos {
		names = append(names, q.Name)
	}
	e := job.Errorf(job.NotFound, "there is no queue %q", shorten(name))
	e.Fix = nearestFix(name, names)
	return e
}

type makeQueueInput struct{ RawBody []byte }

func (s *Server) makeQueue(ctx context.Context, in *makeQueueInput) (*queueOutput, error) {
	var r QueueRequest
	if err := job.InvalidInput("the queue was not made", decodeStrict(in.RawBody, "", &r)); err != nil {
		return nil, err
	}
	if err := s.Queue.SetQueue(ctx, store.Queue{Name: r.Name, Walltime: r.Walltime, LostAfter: r.LostAfter}); err != nil {
		return nil, err
	}
	return s.getQueue(ctx, &queueInput{Name: r.Name})
}

type patchQueueInput struct {
	Name    string `path:"name" maxLength:"200" example:"simulations"`
	RawBody []byte
}

func (s *Server) patchQueue(ctx context.Context, in *patchQueueInput) (*queueOutput, error) {
	var r QueuePatch
	c := checks{problems: decodeStrict(in.RawBody, "", &r)}
	if len(c.problems) == 0 && r.Paused == nil {
		c.add("paused", "is missing", "write true or false")
	}
	if err := job.InvalidInput("the queue was not changed", c.problems); err != nil {
		return nil, err
	}
	a, err := actorOf(ctx, r.Why)
	if err != nil {
		return nil, err
	}
	set := s.Queue.ResumeQueue
	if *r.Paused {
		set = s.Queue.PauseQueue
	}
	if err := set(ctx, in.Name, a); err != nil {
		return nil, err
	}
	return s.getQueue(ctx, &queueInput{Name: in.Name})
}
