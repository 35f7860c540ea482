package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nano-os/nanoos/internal/job"
)

// documentPath is where the OpenAPI document is.
const documentPath = "/api/v1/openapi.json"

// config of the HTTP library: JSON only, no pages of its own, and errors in our
// shape.
func (s *Server) config() huma.Config {
	registry := huma.NewMapRegistry("#/components/schemas/", schemaName)
	registry.RegisterTypeAlias(reflect.TypeFor[job.Duration](), reflect.TypeFor[durationSchema]())
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "nanoos", Version: Version,
				Description: "Runs materials simulations: submit jobs, follow them, read their results.\n\n" +
					"Jobs are named by their id, by six or more characters of its beginning or end, by a unique name, or by `@last`. " +
					"Errors are problem documents (RFC 9457) with `code`, `message`, `why` and `fix`. " +
					"Times are ISO 8601 in UTC, durations seconds, sizes bytes; names of quantities end in their unit.",
				License: &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
			},
			Components: &huma.Components{
				Schemas: registry,
				SecuritySchemes: map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer",
					Description: "Not needed on a server that listens on a loopback address without a token."}},
			},
			Security: []map[string][]string{{"token": {}}, {}},
			Tags: []*huma.Tag{
				{Name: "jobs", Description: "Submit, find and change jobs."},
				{Name: "results", Description: "What jobs produced: results, logs, files, events."},
				{Name: "simulations", Description: "The endpoints of NANO-OS, for programs that were written for it: jobs as Celery tasks."},
				{Name: "installation", Description: "Queues, workers, engines, and how it all is."},
			},
		},
		Formats:       map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{asProblem},
		// A mistyped parameter would otherwise select everything in silence.
		RejectUnknownQueryParameters: true,
	}
}

// schemaName names schemas after their types, and tells those of package job
// apart from ours of the same name.
func schemaName(t reflect.Type, hint string) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case reflect.TypeFor[job.Problem]():
		return "InputProblem"
	case reflect.TypeFor[job.File]():
		return "StoredInput"
	}
	return huma.DefaultSchemaNamer(t, hint)
}

// durationSchema describes job.Duration.
type durationSchema struct{}

func (durationSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		OneOf:       []*huma.Schema{{Type: huma.TypeNumber}, {Type: huma.TypeString}},
		Description: "Seconds; texts such as 90s, 10m, 24h, 2d or 1-12:00:00 are read too.", Examples: []any{600},
	}
}

// Schema describes Bytes.
func (Bytes) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		OneOf:       []*huma.Schema{{Type: huma.TypeInteger}, {Type: huma.TypeString}},
		Description: "Bytes; texts such as 512MiB or 4GiB are read too.", Examples: []any{"4GiB"},
	}
}

// TransformSchema makes the sites optional: there is a file instead.
func (StructureInput) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Required = nil
	return s
}

// route adds an operation whose errors become problems.
func route[I, O any](s *Server, op huma.Operation, handle func(context.Context, *I) (*O, error)) {
	op.BodyReadTimeout = bodyTimeout
	op.SkipValidateBody = true // bodies are read by decodeStrict
	if op.MaxBodyBytes == 0 {
		op.MaxBodyBytes = 64 << 10
	}
	op.Responses = mergeResponses(op.Responses, problemResponse())
	s.patterns = append(s.patterns, op.Method+" "+op.Path)
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, problemOf(ctx, err)
		}
		return out, nil
	})
	if op.RequestBody != nil {
		// The library adds the type in which it hands us the bytes, and insists
		// on a body.
		delete(op.RequestBody.Content, "application/octet-stream")
		op.RequestBody.Required = op.RequestBody.Required && !optionalBody(op)
	}
}

// optionalBody reports whether an operation may come without a body.
func optionalBody(op huma.Operation) bool { return op.Metadata["optional body"] == true }

// documentBody describes the body of an operation by a type and an example.
func documentBody[T any](s *Server, description string, example any) *huma.RequestBody {
	return &huma.RequestBody{
		Description: description,
		Content: map[string]*huma.MediaType{"application/json": {
			Schema: s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, ""), Example: example,
		}},
	}
}

// plain adds a handler that streams, and documents it.
func (s *Server) plain(op huma.Operation, handle func(http.ResponseWriter, *http.Request) error) {
	op.Responses = mergeResponses(op.Responses, problemResponse())
	s.page(op.Method+" "+op.Path, handle)
	op.Path = strings.ReplaceAll(op.Path, "...}", "}") // a wildcard is a parameter like others there
	s.api.OpenAPI().AddOperation(&op)
}

// page adds a handler that is not part of the documented interface.
func (s *Server) page(pattern string, handle func(http.ResponseWriter, *http.Request) error) {
	s.patterns = append(s.patterns, pattern)
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if err := handle(w, r); err != nil {
			s.deny(w, r, err)
		}
	})
}

func mergeResponses(into, from map[string]*huma.Response) map[string]*huma.Response {
	if into == nil {
		into = map[string]*huma.Response{}
	}
	for status, r := range from {
		into[status] = r
	}
	return into
}

func problemResponse() map[string]*huma.Response {
	return map[string]*huma.Response{"default": {
		Description: "A problem document that says what happened, why, and what to do.",
		Content:     map[string]*huma.MediaType{problemType: {Schema: &huma.Schema{Ref: "#/components/schemas/Problem"}}},
	}}
}

// finishDocument serves the OpenAPI document, once all routes are known.
func (s *Server) finishDocument() {
	doc := s.api.OpenAPI()
	schemas := doc.Components.Schemas
	schemas.Schema(reflect.TypeFor[Problem](), true, "")
	// The library's own error type is never sent.
	delete(schemas.Map(), "ErrorModel")
	delete(schemas.Map(), "ErrorDetail")
	for name, schema := range schemas.Map() {
		if !takenIn(name) {
			// Fields are added within a version, so answers may have more.
			schema.AdditionalProperties = nil
		}
	}
	raw, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("the OpenAPI document cannot be written: %v", err))
	}
	s.page("GET "+documentPath, func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Content-Type", "application/json")
		// An error here means that the client is gone.
		_, _ = w.Write(append(raw, '\n'))
		return nil
	})
}

// takenIn reports whether a schema describes what clients send.
func takenIn(name string) bool {
	for _, suffix := range []string{"Request", "Input", "Patch"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}
