package api

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

func (s *Server) engineRoutes() {
	route(s, huma.Operation{OperationID: "list-engines", Method: http.MethodGet, Path: "/api/v1/engines",
		Tags: []string{"installation"}, Summary: "List engines and where they are"}, s.listEngines)
	route(s, huma.Operation{OperationID: "get-engine", Method: http.MethodGet, Path: "/api/v1/engines/{name}",
		Tags: []string{"installation"}, Summary: "Get one engine with the JSON Schema of its parameters"}, s.getEngine)
}

type enginesOutput struct{ Body EngineList }

func (s *Server) listEngines(ctx context.Context, _ *struct{}) (*enginesOutput, error) {
	out := &enginesOutput{Body: EngineList{APIVersion: Version, Kind: "EngineList", Items: []EngineInfo{}}}
	found, err := s.found(ctx)
	if err != nil {
		return nil, err
	}
	for _, e := range s.Engines {
		info := describe(e, found)
		info.Schema = nil
		out.Body.Items = append(out.Body.Items, info)
	}
	return out, nil
}

type engineInput struct {
	Name string `path:"name" maxLength:"100" doc:"Name or alias." example:"qe"`
}

type engineOutput struct{ Body EngineInfo }

func (s *Server) getEngine(ctx context.Context, in *engineInput) (*engineOutput, error) {
	e, near := engine.ByName(s.Engines, in.Name)
	if e == nil {
		p := s.checker.unknownEngine(in.Name, near)
		return nil, &job.Error{Code: job.NotFound, Message: p.Message, Fix: p.Fix}
	}
	found, err := s.found(ctx)
	if err != nil {
		return nil, err
	}
	return &engineOutput{describe(e, found)}, nil
}

// found is what is known of the engines, by name: those of this machine, and
// those that workers elsewhere offer.
func (s *Server) found(ctx context.Context) (map[string]EngineInfo, error) {
	byName := map[string]EngineInfo{}
	if s.EngineInfo != nil {
		for _, info := range s.EngineInfo(ctx) {
			byName[info.Name] = info
		}
	}
	err := s.Store.Read(ctx, func(tx store.ReadTx) error {
		workers, err := tx.Workers(ctx)
		if err != nil {
			return err
		}
		for _, e := range s.Engines {
			info := byName[e.Name()]
			info.Workers = nil
			for _, w := range workers {
				if slices.Contains(w.Offer.Engines, e.Name()) && w.EndedAt.IsZero() && !s.Queue.ContactLost(w, tx.Now()) {
					info.Workers = append(info.Workers, w.Worker)
				}
			}
			byName[e.Name()] = available(info, s.EngineInfo == nil)
		}
		return nil
	})
	return byName, err
}

// available says whether jobs of an engine can run. onlyWorkers says that none
// run on this machine.
func available(info EngineInfo, onlyWorkers bool) EngineInfo {
	switch {
	case len(info.Workers) > 0:
		info.Available, info.Problem, info.Fix = true, "", ""
	case onlyWorkers:
		info.Problem, info.Fix = "no worker that is online has it", "install it on a worker's machine, and look with: nanoos doctor"
	}
	return info
}

// describe joins what the engine says of itself with what was found.
func describe(e engine.Engine, found map[string]EngineInfo) EngineInfo {
	info := found[e.Name()]
	info.Name, info.Title, info.Schema = e.Name(), e.Title(), e.Schema()
	info.Aliases = append([]string{}, e.Aliases()...)
	return info
}
