package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nano-os/nanoos/internal/job"
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
			StartedAt: w.StartedAt, SeenAt: w.SeenAt, Offer: w.Offer, Free: w.Offer, Running: []job.ID{},
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
