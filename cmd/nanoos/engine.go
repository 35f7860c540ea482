package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

func newEngineNoun(a *app) *cobra.Command {
	noun := nounCommand("engine", "engines", "Engines: the simulation codes, where they are, what parameters they take.", `nanoos engine list
nanoos engine show qe
nanoos engine show lammps --schema`)
	noun.AddCommand(newEngineList(a), newEngineShow(a))
	return noun
}

func newEngineList(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the engines of the server, or of this machine when none runs.", Args: noArgs,
		Example: `nanoos engine list
nanoos engine list -o wide
nanoos engine list -o json | jq '.items[] | select(.available).name'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			infos, err := a.engineInfos(cmd.Context())
			if err != nil {
				return err
			}
			for i := range infos {
				infos[i].Schema = nil
			}
			doc := api.EngineList{APIVersion: api.Version, Kind: "EngineList", Items: infos}
			return show(a, listing[api.EngineInfo]{doc: doc, rows: infos, columns: engineColumns(), id: func(e *api.EngineInfo) string { return e.Name }})
		},
	}
}

// engineInfos asks the server; without one it looks at this machine.
func (a *app) engineInfos(ctx context.Context) ([]api.EngineInfo, error) {
	c, err := a.client()
	if err == nil {
		var infos []api.EngineInfo
		if infos, err = c.Engines(ctx); err == nil {
			return infos, nil
		}
	}
	if job.CodeOf(err) != job.Unavailable || a.opt.url != "" || a.getenv("NANOOS_URL") != "" {
		return nil, err
	}
	a.note("no server runs; these are the engines of this machine")
	return machineEngines(ctx), nil
}

func engineColumns() []column[api.EngineInfo] {
	return []column[api.EngineInfo]{
		{name: "name", cell: func(_ *cells, e *api.EngineInfo) string { return e.Name }},
		{name: "title", flex: true, cell: func(_ *cells, e *api.EngineInfo) string { return e.Title }},
		{name: "state", cell: func(_ *cells, e *api.EngineInfo) string {
			if e.Available {
				return "available"
			}
			return "not found"
		}, tone: func(e *api.EngineInfo) tone {
			if e.Available {
				return green
			}
			return yellow
		}},
		{name: "version", flex: true, cell: func(c *cells, e *api.EngineInfo) string { return orDefault(e.Version, c.missing()) }},
		{name: "path", flex: true, cell: func(c *cells, e *api.EngineInfo) string {
			return orDefault(mainProgram(e), orDefault(e.Problem, c.missing()))
		}},
		{name: "library", wide: true, cell: func(c *cells, e *api.EngineInfo) string {
			return orDefault(strings.Join(e.Library, ":"), c.missing())
		}},
		{name: "aliases", wide: true, cell: func(_ *cells, e *api.EngineInfo) string { return strings.Join(e.Aliases, " ") }},
	}
}

// mainProgram is the path of the program whose presence means that the engine
// is installed.
func mainProgram(e *api.EngineInfo) string {
	if known, _ := engine.ByName(engines(), e.Name); known != nil {
		return e.Programs[known.Programs()[0]]
	}
	return ""
}

func newEngineShow(a *app) *cobra.Command {
	var schema bool
	cmd := &cobra.Command{
		Use: "show ENGINE", Aliases: []string{"get"}, Short: "Show one engine: programs, libraries, parameters.", Args: exactArgs(1, "the name of an engine"),
		Example: `nanoos engine show qe
nanoos engine show lammps --schema
nanoos engine show mock -o json | jq '.schema.properties | keys'`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.showEngine(cmd.Context(), args[0], schema) },
	}
	cmd.Flags().BoolVar(&schema, "schema", false, "print the JSON Schema of its parameters")
	var words []string
	for _, e := range a.engines {
		words = append(words, e.Name()+"\t"+e.Title())
	}
	cmd.ValidArgsFunction = cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
	return cmd
}

func (a *app) showEngine(ctx context.Context, name string, schema bool) error {
	eng, err := engineNamed(a.engines, name)
	if err != nil {
		e := asError(err)
		return &job.Error{Code: job.NotFound, Message: e.Message, Fix: e.Fix}
	}
	if schema {
		var out bytes.Buffer
		if err := json.Indent(&out, eng.Schema(), "", "  "); err != nil {
			return fmt.Errorf("format the schema: %w", err)
		}
		_, err := fmt.Fprintln(a.io.out, strings.TrimSpace(out.String()))
		return err
	}
	infos, err := a.engineInfos(ctx)
	if err != nil {
		return err
	}
	for _, info := range infos {
		if info.Name != eng.Name() {
			continue
		}
		info.Schema = eng.Schema()
		if a.data() || a.opt.output == "wide" {
			return show(a, listing[api.EngineInfo]{doc: info, rows: []api.EngineInfo{info}, columns: engineColumns(), id: func(e *api.EngineInfo) string { return e.Name }})
		}
		return a.showEngineText(&info)
	}
	return job.Errorf(job.NotFound, "the server has no engine %q", name)
}

func (a *app) showEngineText(e *api.EngineInfo) error {
	s := a.outScreen()
	state := field{name: "state", value: "available", tone: green}
	if !e.Available {
		state = field{name: "state", value: "not found: " + e.Problem, tone: yellow}
	}
	fields := []field{
		{name: "engine", value: e.Title + " (" + e.Name + ")"}, state,
		{name: "version", value: e.Version},
		{name: "aliases", value: strings.Join(e.Aliases, " ")},
	}
	for _, program := range sortedKeys(e.Programs) {
		fields = append(fields, field{name: program, value: e.Programs[program]})
	}
	for _, dir := range e.Library {
		fields = append(fields, field{name: "library", value: dir})
	}
	fields = append(fields, field{name: "fix", value: e.Fix})
	text := renderFields(s, fields)
	if params := parameterLines(e.Schema); len(params) > 0 {
		text += "\n" + s.paint(bold, "parameters") + "\n" + renderFields(s, params)
	}
	_, err := io.WriteString(a.io.out, text)
	return err
}

// parameterLines are the top-level parameters of a schema and what they mean.
func parameterLines(schema json.RawMessage) []field {
	var doc struct {
		Properties map[string]struct {
			Description string          `json:"description"`
			Title       string          `json:"title"`
			Default     json.RawMessage `json:"default"`
		} `json:"properties"`
	}
	if json.Unmarshal(schema, &doc) != nil {
		return nil
	}
	var out []field
	for _, name := range sortedKeys(doc.Properties) {
		p := doc.Properties[name]
		text := orDefault(p.Description, orDefault(p.Title, "–"))
		if len(p.Default) > 0 {
			text += fmt.Sprintf(" (default %s)", p.Default)
		}
		out = append(out, field{name: "  " + name, value: text})
	}
	return out
}
