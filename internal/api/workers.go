package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/queue"
	"github.com/nano-os/nanoos/internal/store"
)

// What a worker is, as people see it.
const (
	workerOnline   = "online"
	workerDraining = "draining"
	workerLost     = "contact_lost"
	workerLeft     = "left"
)

func (s *Server) workerRoutes() {
	route(s, huma.Operation{OperationID: "list-workers", Method: http.MethodGet, Path: "/api/v1/workers",
		Tags: []string{"installation"}, Summary: "List workers and what they run"}, s.listWorkers)
	op := func(id, method, below, summary, description string) huma.Operation {
		o := huma.Operation{OperationID: id, Method: method, Path: "/api/v1/workers/{name}" + below, Tags: []string{"installation"},
			Summary: summary, Description: description}
		if method == http.MethodPost {
			o.RequestBody = documentBody[ActionRequest](s, "Why, for the record.", map[string]any{"why": "maintenance"})
			o.Metadata = map[string]any{"optional body": true}
		}
		return o
	}
	route(s, op("drain-worker", http.MethodPost, "/drain", "Keep a worker from claiming",
		"What it runs goes on. It stays so when it restarts."), s.drainWorker)
	route(s, op("resume-worker", http.MethodPost, "/resume", "Let a worker claim again", ""), s.resumeWorker)
	route(s, op("forget-worker", http.MethodDelete, "", "Forget a worker that is gone",
		"Refused while it is heard of. What it ran is given up at once, without waiting for it to come back."), s.forgetWorker)
}

type workerInput struct {
	Name    string `path:"name" maxLength:"255" example:"node-1"`
	RawBody []byte
}

type forgetInput struct {
	Name string `path:"name" maxLength:"255" example:"node-1"`
	Why  string `query:"why" maxLength:"1000" doc:"For the record."`
}

type workerOutput struct{ Body WorkerInfo }

func (s *Server) drainWorker(ctx context.Context, in *workerInput) (*workerOutput, error) {
	return s.changeWorker(ctx, in, s.Queue.DrainWorker)
}

func (s *Server) resumeWorker(ctx context.Context, in *workerInput) (*workerOutput, error) {
	return s.changeWorker(ctx, in, s.Queue.ResumeWorker)
}

func (s *Server) changeWorker(ctx context.Context, in *workerInput, do func(context.Context, string, queue.Actor) error) (*workerOutput, error) {
	var r ActionRequest
	if len(in.RawBody) > 0 {
		if err := job.InvalidInput("nothing was done", decodeStrict(in.RawBody, "", &r)); err != nil {
			return nil, err
		}
	}
	a, err := actorOf(ctx, r.Why)
	if err == nil {
		err = do(ctx, in.Name, a)
	}
	if err != nil {
		return nil, err
	}
	return s.oneWorker(ctx, in.Name)
}

func (s *Server) forgetWorker(ctx context.Context, in *forgetInput) (*workerOutput, error) {
	out, err := s.oneWorker(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	a, err := actorOf(ctx, in.Why)
	if err == nil {
		err = s.Queue.ForgetWorker(ctx, in.Name, a)
	}
	return out, err
}

func (s *Server) oneWorker(ctx context.Context, name string) (*workerOutput, error) {
	var out workerOutput
	err := s.read(ctx, func(tx store.ReadTx, t job.Tenant) error {
		infos, err := s.workerInfos(ctx, tx, t)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(infos, func(w WorkerInfo) bool { return w.Name == name })
		if i < 0 {
			var names []string
			for _, w := range infos {
				names = append(names, w.Name)
			}
			return &job.Error{Code: job.NotFound, Message: fmt.Sprintf("there is no worker %q", shorten(name)), Fix: nearestFix(name, names)}
		}
		out.Body = infos[i]
		return nil
	})
	return &out, err
}

type workersOutput struct{ Body WorkerList }

func (s *Server) listWorkers(ctx context.Context, _ *struct{}) (*workersOutput, error) {
	out := &workersOutput{Body: WorkerList{APIVersion: Version, Kind: "WorkerList"}}
	err := s.read(ctx, func(tx store.ReadTx, t job.Tenant) (err error) {
		out.Body.Items, err = s.workerInfos(ctx, tx, t)
		return err
	})
	return out, err
}

// workerInfos are all workers. What is free counts the jobs of everybody; the
// ids are those of the tenant alone (G17).
func (s *Server) workerInfos(ctx context.Context, tx store.ReadTx, t job.Tenant) ([]WorkerInfo, error) {
	workers, err := tx.Workers(ctx)
	if err != nil {
		return nil, err
	}
	running, err := tx.RunningOn(ctx, "")
	if err != nil {
		return nil, err
	}
	infos := make([]WorkerInfo, 0, len(workers))
	for _, w := range workers {
		info := WorkerInfo{
			Name: w.Session.Worker, Host: w.Host, Version: w.Version, State: s.workerState(w, tx.Now()),
			StartedAt: w.StartedAt, SeenAt: w.SeenAt, EndedAt: w.EndedAt, Draining: w.Draining, Token: w.Token,
			Offer: w.Offer, Free: w.Offer, Running: []job.ID{},
		}
		for _, j := range running {
			if j.Worker != info.Name {
				continue
			}
			info.Free = info.Free.Less(j.Spec.Demand)
			if j.Tenant == t {
				info.Running = append(info.Running, j.ID)
			}
		}
		infos = append(infos, info)
	}
	return infos, nil
}

func (s *Server) workerState(w store.Worker, now time.Time) string {
	switch {
	case !w.EndedAt.IsZero():
		return workerLeft
	case s.Queue.ContactLost(w, now):
		return workerLost
	case w.Draining:
		return workerDraining
	}
	return workerOnline
}
