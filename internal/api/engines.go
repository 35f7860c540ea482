package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

func (s *Server) engineRoutes() {
	route(s, huma.Operation{OperationID: "list-engines", Method: http.MethodGet, Path: "/api/v1/engines",
		Tags: []string{"installation"}, Summary: "List engines and whether this machine has them"}, s.listEngines)
	route(s, huma.Operation{OperationID: "get-engine", Method: http.MethodGet, Path: "/api/v1/engines/{name}",
		Tags: []string{"installation"}, Summary: "Get one engine with the JSON Schema of its parameters"}, s.getEngine)
}

type enginesOutput struct{ Body EngineList }

func (s *Server) listEngines(ctx context.Context, _ *struct{}) (*enginesOutput, error) {
	out := &enginesOutput{Body: EngineList{APIVersion: Version, Kind: "EngineList", Items: []EngineInfo{}}}
	found := s.found(ctx)
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
	return &engineOutput{describe(e, s.found(ctx))}, nil
}

// found is what is known of the engines on this machine, by name.
func (s *Server) found(ctx context.Context) map[string]EngineInfo {
	byName := map[string]EngineInfo{}
	if s.EngineInfo != nil {
		for _, info := range s.EngineInfo(ctx) {
			byName[info.Name] = info
		}
	}
	return byName
}

// describe joins what the engine says of itself with what was found.
func describe(e engine.Engine, found map[string]EngineInfo) EngineInfo {
	info := found[e.Name()]
	info.Name, info.Title, info.Schema = e.Name(), e.Title(), e.Schema()
	info.Aliases = append([]string{}, e.Aliases()...)
	return info
}
