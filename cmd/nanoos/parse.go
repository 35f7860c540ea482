package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

// parsed is a run made anywhere, read by the parser that jobs use.
type parsed struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"` // "ParsedRun"
	Engine     string `json:"engine"`
	engine.Result
}

func newParseCommand(a *app) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "parse FILE… | DIR",
		Short: "Read the files of a run made anywhere and say what came out of it.",
		Long: `The engine is recognised by the files; .gz files are read as they are. A run that
failed is a good answer, with exit code 0; files that are no run are not.`,
		Example: `nanoos parse pw.out
nanoos parse finished-run/ -o json | jq .summary.energy_eV
nanoos parse log.lammps.gz --engine lammps`,
		Args: minArgs(1, "the files or the directory of a run"),
		RunE: func(_ *cobra.Command, args []string) error { return a.parse(args, name) },
	}
	cmd.Flags().StringVar(&name, "engine", "", "`NAME` of the engine, instead of recognising it")
	group(cmd, "Reading", "engine")
	a.completeEngines(cmd)
	return cmd
}

func (a *app) parse(paths []string, name string) error {
	what := strings.Join(paths, ", ")
	files, err := engine.OpenRun(paths...)
	if err != nil {
		return unreadable(what, err)
	}
	e, err := a.recognise(files, name)
	if err != nil {
		return unreadable(what, err)
	}
	result, err := e.Parse(engine.Run{Files: files})
	if err != nil {
		return unreadable(what, err)
	}
	doc := parsed{api.Version, "ParsedRun", e.Name(), *result}
	if a.data() {
		return show(a, listing[parsed]{doc: doc, rows: []parsed{doc}, columns: parsedColumns(), id: func(*parsed) string { return filepath.Base(paths[0]) }})
	}
	return a.showParsed(&doc, e)
}

// unreadable is an input that cannot be read, whatever the reason.
func unreadable(what string, err error) error {
	if e, ok := errors.AsType[*job.Error](err); ok {
		placed := *e
		placed.Code = job.Invalid
		placed.Fix = orDefault(placed.Fix, readableFix)
		return &placed
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return err
	}
	return &job.Error{Code: job.Invalid, Message: "cannot read " + what, Why: plainError(err), Fix: readableFix, Err: err}
}

const readableFix = "name files that can be read, or the directory of one run"

// recognise finds the engine that is surest that the files are a run of its code.
func (a *app) recognise(files fs.FS, name string) (engine.Engine, error) {
	if name != "" {
		return engineNamed(a.engines, name)
	}
	if e := engine.Recognise(a.engines, files); e != nil {
		return e, nil
	}
	var titles []string
	for _, e := range a.engines {
		titles = append(titles, e.Title())
	}
	return nil, &job.Error{Code: job.Invalid, Message: "cannot tell which program made these files",
		Why: "none of them looks like the output of " + strings.Join(titles, ", "),
		Fix: "name the run's directory or its main output; or say who made it: --engine qe"}
}

func (a *app) showParsed(p *parsed, e engine.Engine) error {
	s, c := a.outScreen(), a.cells()
	var b strings.Builder
	outcomeTone := red
	if p.Outcome.Succeeded() {
		outcomeTone = green
	}
	fields := []field{
		{name: "engine", value: e.Title()},
		{name: "outcome", value: strings.ReplaceAll(string(p.Outcome), "_", " "), tone: outcomeTone},
		{name: "verdict", value: verdictWords("", p.Verdict), tone: verdictTone(p.Verdict)},
	}
	b.WriteString(renderFields(s, append(fields, c.summaryFields(&p.Summary)...)))
	writeFailure(&b, s, p.Failure)
	if title, x, y := leadingSeries(p.Series); title != "" {
		columns := 72
		if s.width > 0 {
			columns = min(s.width, 100)
		}
		fmt.Fprintf(&b, "\n%s\n%s", s.paint(bold, title), plot(s, x, y, columns, 8))
	}
	if _, err := fmt.Fprint(a.io.out, b.String()); err != nil {
		return err
	}
	a.warn(p.Warnings)
	return nil
}

// parsedColumns make one line of a run, for csv.
func parsedColumns() []column[parsed] {
	text := func(name string, get func(*parsed) string) column[parsed] {
		return column[parsed]{name: name, cell: func(_ *cells, p *parsed) string { return get(p) }}
	}
	return []column[parsed]{
		text("engine", func(p *parsed) string { return p.Engine }),
		text("outcome", func(p *parsed) string { return string(p.Outcome) }),
		text("verdict", func(p *parsed) string { return string(p.Verdict) }),
		text("formula", func(p *parsed) string { return p.Summary.Formula }),
		text("energy_ev", func(p *parsed) string {
			raw, err := json.Marshal(p.Summary.EnergyEV)
			if err != nil || p.Summary.EnergyEV == nil {
				return ""
			}
			return string(raw)
		}),
	}
}
