package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
)

func newExplainCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain JOB",
		Short: "Say why a job waits or why it failed, and what to do.",
		Example: `nanoos explain @last
nanoos explain si-relax
nanoos explain 3f9a11c2 -o json | jq -r .summary`,
		Args: exactArgs(1, "one job"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, ref, err := a.oneJob(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			e, err := c.Explain(cmd.Context(), ref)
			if err != nil {
				return err
			}
			if a.data() {
				return show(a, listing[api.Explanation]{doc: e, rows: []api.Explanation{e}, id: func(e *api.Explanation) string { return string(e.Job) },
					columns: []column[api.Explanation]{
						{name: "job", cell: func(_ *cells, e *api.Explanation) string { return string(e.Job) }},
						{name: "state", cell: func(_ *cells, e *api.Explanation) string { return string(e.State) }},
						{name: "summary", cell: func(_ *cells, e *api.Explanation) string { return e.Summary }},
					}})
			}
			return a.showExplanation(&e)
		},
	}
	a.completeJobs(cmd)
	return cmd
}

func (a *app) showExplanation(e *api.Explanation) error {
	s, c := a.outScreen(), a.cells()
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", oneLine(e.Summary))
	for _, r := range e.Waiting {
		if r.Message != e.Summary {
			writePart(&b, s, "why", r.Message)
		}
		writePart(&b, s, "fix", r.Fix)
	}
	writeFailure(&b, s, e.Failure)
	if e.Budgets != "" {
		fmt.Fprintf(&b, "\n%s  %s\n", s.paint(dim, "budgets"), oneLine(e.Budgets))
	}
	if len(e.Attempts) > 0 {
		b.WriteString("\n" + renderTable(c, s, e.Attempts, attemptColumns(), true))
	}
	if len(e.Commands) > 0 {
		b.WriteString("\n" + s.paint(bold, "what to do") + "\n")
		for _, command := range e.Commands {
			fmt.Fprintf(&b, "  %s\n", oneLine(command))
		}
	}
	_, err := io.WriteString(a.io.out, b.String())
	return err
}

func attemptColumns() []column[job.Attempt] {
	outcome := column[job.Attempt]{name: "outcome", flex: true, cell: func(_ *cells, t *job.Attempt) string {
		switch {
		case t.Outcome == "":
			return "running"
		case t.Failure != nil:
			return t.Outcome + ": " + t.Failure.Message
		}
		return t.Outcome
	}}
	return []column[job.Attempt]{
		{name: "attempt", right: true, cell: func(_ *cells, t *job.Attempt) string { return fmt.Sprint(t.Number) }},
		{name: "worker", cell: func(_ *cells, t *job.Attempt) string { return t.Worker }, flex: true, middle: true},
		{name: "started", cell: func(c *cells, t *job.Attempt) string { return c.when(t.StartedAt) }},
		{name: "took", right: true, cell: func(c *cells, t *job.Attempt) string {
			if t.EndedAt.IsZero() {
				return c.elapsed(c.now.Sub(t.StartedAt))
			}
			return c.elapsed(t.EndedAt.Sub(t.StartedAt))
		}},
		outcome,
	}
}
