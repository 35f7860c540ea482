package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
)

func newStatusCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show the installation in one screen: server, queues, workers, problems.", Args: noArgs,
		Example: `nanoos status
nanoos status --url http://cluster:8080
nanoos status -o json | jq .problems`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.status(cmd.Context()) },
	}
}

func (a *app) status(ctx context.Context) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	st, err := c.Status(ctx)
	if err != nil {
		return err
	}
	if a.data() {
		return show(a, listing[api.QueueInfo]{doc: st, rows: st.Queues, columns: queueColumns(), id: queueName})
	}
	s, cl := a.outScreen(), a.cells()
	versions := st.Version
	if st.Version != version {
		versions += fmt.Sprintf(" (this command is %s)", version)
	}
	var b strings.Builder
	b.WriteString(renderFields(s, []field{
		{name: "server", value: c.URL()}, {name: "version", value: versions},
		{name: "up since", value: cl.moment(st.StartedAt)},
	}))
	b.WriteString("\n" + renderTable(cl, s, st.Queues, visible(queueColumns(), a.opt.output), true))
	if len(st.Workers) > 0 {
		b.WriteString("\n" + renderTable(cl, s, st.Workers, visible(workerColumns(), a.opt.output), true))
	}
	if len(st.Problems) == 0 {
		b.WriteString("\n" + s.paint(green, "no problems") + "\n")
	}
	for _, p := range st.Problems {
		b.WriteString("\n")
		writeError(&b, s, "warning", &job.Error{Message: p.Message, Fix: p.Fix, Code: "warning"}, nil)
	}
	_, err = io.WriteString(a.io.out, b.String())
	return err
}
