package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/nano-os/nanoos/internal/api"
)

func newWatchCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "watch JOB",
		Short: "Show a job live: progress, leading quantity, events; then its result.",
		Example: `nanoos watch @last
nanoos watch si-relax
nanoos watch 3f9a11c2 -o jsonl | jq .progress.value`,
		Args: exactArgs(1, "one job"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.watch(cmd.Context(), args[0]) },
	}
	a.completeJobs(cmd)
	return cmd
}

func (a *app) watch(ctx context.Context, arg string) error {
	c, ref, err := a.oneJob(ctx, arg)
	if err != nil {
		return err
	}
	if a.data() {
		return a.watchEvents(ctx, c, ref)
	}
	j, err := c.Get(ctx, ref)
	if err != nil {
		return err
	}
	f := newFollower(c, []api.Job{j})
	history, err := c.History(ctx, string(j.ID), 0)
	if err != nil {
		return err
	}
	f.events = history.Items
	var v view = &watchView{a: a, area: area{w: a.io.out}}
	if !a.outScreen().tty {
		if v, err = a.newView("plain"); err != nil {
			return err
		}
	}
	err = f.run(ctx, v, f.allEnded)
	if err != nil && ctx.Err() != nil {
		a.note("stopped watching; the job goes on")
		return quietExit(exitInterrupted)
	}
	if err != nil {
		return err
	}
	v.close()
	return a.showRun(ctx, c, &f.jobs[0].Job, true)
}

// watchEvents passes events on to a program, one JSON object a line.
func (a *app) watchEvents(ctx context.Context, c *api.Client, ref string) error {
	if a.opt.output != "json" && a.opt.output != "jsonl" {
		return usage("use -o jsonl", "watch cannot write %s", a.opt.output)
	}
	for e, err := range c.JobEvents(ctx, ref, 0) {
		if err != nil {
			return err
		}
		if err := writeJSONLines(a.io.out, []api.Event{e}); err != nil {
			return err
		}
	}
	return nil
}
