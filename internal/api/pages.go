package api

import (
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/nano-os/nanoos/internal/job"
)

// The pages need no script and nothing from elsewhere.
//
//go:embed pages
var pageFiles embed.FS

func (s *Server) pageRoutes() {
	pages := template.Must(template.New("").Funcs(template.FuncMap{"words": words}).ParseFS(pageFiles, "pages/*.html"))
	s.page("GET /{$}", func(w http.ResponseWriter, r *http.Request) error {
		return render(w, pages, "landing.html", s.landing(r))
	})
	s.page("GET /assets/style.css", func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Cache-Control", "public, max-age=3600")
		http.ServeFileFS(w, r, pageFiles, "pages/style.css")
		return nil
	})
	s.page("GET /api/docs", func(w http.ResponseWriter, _ *http.Request) error {
		return render(w, pages, "docs.html", documentation(s.api.OpenAPI()))
	})
}

// run is a piece of a description: words, or code that stood in backquotes.
type run struct {
	Code bool
	Text string
}

// words splits a description at its backquotes.
func words(description string) []run {
	var runs []run
	for i, text := range strings.Split(description, "`") {
		runs = append(runs, run{Code: i%2 == 1, Text: text})
	}
	return runs
}

func render(w http.ResponseWriter, pages *template.Template, name string, data any) error {
	var b strings.Builder
	if err := pages.ExecuteTemplate(&b, name, data); err != nil {
		return fmt.Errorf("render %s: %w", name, err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	// An error here means that the client is gone.
	_, _ = w.Write([]byte(b.String()))
	return nil
}

// landingPage is what the first page shows.
type landingPage struct {
	Version string
	Address string
	Known   bool // the reader may see the counts
	Counts  []stateCount
	Workers int
	Trouble []Reason
}

type stateCount struct {
	State job.State
	Jobs  int64
}

func (s *Server) landing(r *http.Request) landingPage {
	page := landingPage{Version: s.opt.Version, Address: s.opt.Listen, Known: principal(r.Context()).tenant != ""}
	if !page.Known {
		return page
	}
	status, err := s.getStatus(r.Context(), nil)
	if err != nil {
		s.Logger.Error("the landing page has no counts", "request", requestID(r.Context()), "error", err)
		page.Trouble = []Reason{{Message: "the database does not answer"}}
		return page
	}
	for _, state := range job.States {
		n := stateCount{State: state}
		for _, q := range status.Body.Queues {
			n.Jobs += q.Jobs[state]
		}
		page.Counts = append(page.Counts, n)
	}
	for _, w := range status.Body.Workers {
		if w.State == workerOnline {
			page.Workers++
		}
	}
	page.Trouble = status.Body.Problems
	return page
}

// docsPage is the OpenAPI document, arranged for reading.
type docsPage struct {
	Title, Version string
	Intro          []string
	Sections       []docsSection
	Schemas        []docsSchema
}

type docsSection struct {
	Name, Description string
	Operations        []docsOperation
}

type docsOperation struct {
	ID, Method, Path     string
	Summary, Description string
	Params               []docsField
	Body, Answer         string // names of schemas
	Example              string
}

type docsSchema struct {
	Name   string
	Fields []docsField
}

type docsField struct {
	Name, Type, Description string
	Required                bool
	Ref                     string // the schema that Type names
}

// documentation arranges the document by its tags.
func documentation(doc *huma.OpenAPI) docsPage {
	page := docsPage{Title: doc.Info.Title, Version: doc.Info.Version, Intro: strings.Split(doc.Info.Description, "\n\n")}
	for _, tag := range doc.Tags {
		section := docsSection{Name: tag.Name, Description: tag.Description}
		for _, path := range sortedKeys(doc.Paths) {
			for _, op := range operations(doc.Paths[path]) {
				if op.Tags[0] == tag.Name {
					section.Operations = append(section.Operations, describeOperation(op))
				}
			}
		}
		page.Sections = append(page.Sections, section)
	}
	schemas := doc.Components.Schemas.Map()
	for _, name := range sortedKeys(schemas) {
		s := docsSchema{Name: name}
		for _, field := range sortedKeys(schemas[name].Properties) {
			s.Fields = append(s.Fields, describeField(field, schemas[name]))
		}
		page.Schemas = append(page.Schemas, s)
	}
	return page
}

// operations of a path in the order in which people think of them.
func operations(p *huma.PathItem) []*huma.Operation {
	var ops []*huma.Operation
	for _, op := range []*huma.Operation{p.Get, p.Post, p.Put, p.Patch, p.Delete} {
		if op != nil {
			ops = append(ops, op)
		}
	}
	return ops
}

func describeOperation(op *huma.Operation) docsOperation {
	d := docsOperation{ID: op.OperationID, Method: op.Method, Path: op.Path, Summary: op.Summary, Description: op.Description}
	for _, p := range op.Parameters {
		name, ref := typeOf(p.Schema)
		d.Params = append(d.Params, docsField{Name: p.Name, Type: name, Ref: ref, Required: p.Required, Description: p.Description})
	}
	if op.RequestBody != nil {
		for kind, media := range op.RequestBody.Content {
			if d.Body, _ = typeOf(media.Schema); kind != "application/json" {
				d.Body = kind
			}
			d.Example = exampleText(media.Example)
		}
	}
	for _, status := range []string{"201", "200"} {
		if r := op.Responses[status]; r != nil && d.Answer == "" {
			for kind, media := range r.Content {
				if d.Answer, _ = typeOf(media.Schema); kind != "application/json" {
					d.Answer = kind
				}
			}
		}
	}
	return d
}

func describeField(name string, in *huma.Schema) docsField {
	s := in.Properties[name]
	f := docsField{Name: name, Description: s.Description}
	f.Type, f.Ref = typeOf(s)
	for _, r := range in.Required {
		f.Required = f.Required || r == name
	}
	return f
}

// typeOf names the type of a schema, and the schema that it refers to.
func typeOf(s *huma.Schema) (name, ref string) {
	switch {
	case s == nil:
		return "any", ""
	case s.Ref != "":
		ref = strings.TrimPrefix(s.Ref, "#/components/schemas/")
		return ref, ref
	case s.Items != nil:
		name, ref = typeOf(s.Items)
		return "list of " + name, ref
	case len(s.OneOf) > 0:
		var names []string
		for _, one := range s.OneOf {
			n, _ := typeOf(one)
			names = append(names, n)
		}
		return strings.Join(names, " or "), ""
	case s.Format != "":
		return s.Format, ""
	case s.Type == "":
		return "any", ""
	}
	return s.Type, ""
}

func exampleText(example any) string {
	if example == nil {
		return ""
	}
	raw, err := json.MarshalIndent(example, "", "  ")
	if err != nil {
		return ""
	}
	return string(raw)
}
