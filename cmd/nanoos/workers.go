package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
)

func newWorkerList(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the workers: what each has, what is free, what runs.", Args: noArgs,
		Example: `nanoos worker list
nanoos worker list -o wide
nanoos worker list -o json | jq '.items[].free.cpus'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			workers, err := a.workers(cmd.Context())
			if err != nil {
				return err
			}
			doc := api.WorkerList{APIVersion: api.Version, Kind: "WorkerList", Items: workers}
			return show(a, listing[api.WorkerInfo]{doc: doc, rows: workers, columns: workerColumns(), empty: "no workers", id: workerName})
		},
	}
}

func newWorkerGet(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "get WORKER", Short: "Show one worker.", Args: exactArgs(1, "the name of a worker"),
		Example: `nanoos worker get node7-3f9a1c
nanoos worker get node7-3f9a1c -o wide
nanoos worker get node7-3f9a1c -o json | jq .running`,
		ValidArgsFunction: a.completeWorkers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			workers, err := a.workers(cmd.Context())
			if err != nil {
				return err
			}
			for i := range workers {
				if workers[i].Name == args[0] {
					return a.showWorker(workers[i])
				}
			}
			names := make([]string, len(workers))
			for i := range workers {
				names[i] = workers[i].Name
			}
			return &job.Error{Code: job.NotFound, Message: fmt.Sprintf("there is no worker %q", args[0]),
				Fix: orDefault(didYouMean(args[0], slices.Values(names)), "nanoos worker list")}
		},
	}
}

func (a *app) showWorker(w api.WorkerInfo) error {
	return show(a, listing[api.WorkerInfo]{doc: w, rows: []api.WorkerInfo{w}, columns: workerColumns(), id: workerName})
}

func newWorkerDrain(a *app) *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use: "drain WORKER…", Short: "Let workers finish what they run, and claim nothing more.", Args: minArgs(1, "the name of a worker"),
		Long: "What runs goes on to its end. A drained worker stays so when it is started again, until it is resumed.",
		Example: `nanoos worker drain node7-3f9a1c --why "new memory at 18:00"
nanoos worker drain node7-3f9a1c node8-77ab02
nanoos worker list -o id | xargs nanoos worker drain`,
		ValidArgsFunction: a.completeWorkers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachWorker(cmd.Context(), args, func(c *api.Client, name string) error {
				w, err := c.DrainWorker(cmd.Context(), name, why)
				if err == nil {
					a.note("worker %s takes no more jobs; %d still run", name, len(w.Running))
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&why, "why", "", "reason, for the record")
	return cmd
}

func newWorkerResume(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "resume WORKER…", Short: "Let drained workers claim again.", Args: minArgs(1, "the name of a worker"),
		Example: `nanoos worker resume node7-3f9a1c
nanoos worker resume node7-3f9a1c node8-77ab02
nanoos worker list -o id | xargs nanoos worker resume`,
		ValidArgsFunction: a.completeWorkers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachWorker(cmd.Context(), args, func(c *api.Client, name string) error {
				_, err := c.ResumeWorker(cmd.Context(), name)
				if err == nil {
					a.note("worker %s takes jobs again", name)
				}
				return err
			})
		},
	}
}

func newWorkerForget(a *app) *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use: "forget WORKER…", Short: "Give up a worker that is gone for good; its jobs start elsewhere at once.", Args: minArgs(1, "the name of a worker"),
		Long: `Only for a machine that does not come back: jobs that it ran get a new attempt without waiting for lost_after. A
worker that is heard of is not forgotten. If it comes back after all, it stops what it ran and publishes nothing of it.`,
		Example: `nanoos worker forget node7-3f9a1c --why "its board is dead"
nanoos worker forget node7-3f9a1c node8-77ab02
nanoos worker list -o json | jq -r '.items[] | select(.state == "contact_lost") | .name' | xargs nanoos worker forget`,
		ValidArgsFunction: a.completeWorkers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachWorker(cmd.Context(), args, func(c *api.Client, name string) error {
				_, err := c.ForgetWorker(cmd.Context(), name, why)
				if err == nil {
					a.note("worker %s is forgotten", name)
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&why, "why", "", "reason, for the record")
	return cmd
}

// eachWorker does something to workers one by one, and reports each failure.
func (a *app) eachWorker(ctx context.Context, names []string, do func(*api.Client, string) error) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	var failed []error
	for _, name := range names {
		if err := do(c, name); err != nil {
			if len(names) == 1 || ctx.Err() != nil {
				return err
			}
			a.report(err)
			failed = append(failed, err)
		}
	}
	return partly(len(names)-len(failed), errors.Join(failed...))
}

func (a *app) workers(ctx context.Context) ([]api.WorkerInfo, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	workers, err := c.Workers(ctx)
	if workers == nil {
		workers = []api.WorkerInfo{}
	}
	return workers, err
}

func (a *app) completeWorkers() cobra.CompletionFunc {
	return a.complete(func(ctx context.Context) ([]string, error) {
		workers, err := a.workers(ctx)
		names := make([]string, len(workers))
		for i := range workers {
			names[i] = workers[i].Name
		}
		return names, err
	})
}

func workerName(w *api.WorkerInfo) string { return w.Name }

func workerColumns() []column[api.WorkerInfo] {
	return []column[api.WorkerInfo]{
		{name: "name", flex: true, middle: true, cell: func(_ *cells, w *api.WorkerInfo) string { return w.Name }},
		{name: "state", cell: func(_ *cells, w *api.WorkerInfo) string { return strings.ReplaceAll(w.State, "_", " ") },
			tone: func(w *api.WorkerInfo) tone {
				switch w.State {
				case "online":
					return green
				case "contact_lost":
					return yellow
				}
				return dim
			}},
		{name: "jobs", right: true, cell: func(_ *cells, w *api.WorkerInfo) string { return fmt.Sprint(len(w.Running)) }},
		{name: "cpus", right: true, cell: func(c *cells, w *api.WorkerInfo) string {
			return share(c, fmt.Sprint(w.Free.CPUs), fmt.Sprint(w.Offer.CPUs))
		}},
		{name: "memory", right: true, cell: func(c *cells, w *api.WorkerInfo) string {
			return share(c, c.bytes(w.Free.Memory), c.bytes(w.Offer.Memory))
		}},
		{name: "gpus", right: true, cell: func(c *cells, w *api.WorkerInfo) string {
			return share(c, fmt.Sprint(w.Free.GPUs), fmt.Sprint(w.Offer.GPUs))
		}},
		{name: "engines", flex: true, cell: func(_ *cells, w *api.WorkerInfo) string { return strings.Join(w.Offer.Engines, " ") }},
		{name: "seen", cell: func(c *cells, w *api.WorkerInfo) string { return c.when(w.SeenAt) }},
		{name: "started", wide: true, cell: func(c *cells, w *api.WorkerInfo) string { return c.when(w.StartedAt) }},
		{name: "queues", wide: true, cell: func(_ *cells, w *api.WorkerInfo) string {
			return orDefault(strings.Join(w.Offer.Queues, " "), "all")
		}},
		{name: "tags", wide: true, cell: func(c *cells, w *api.WorkerInfo) string {
			return orDefault(strings.Join(w.Offer.Tags, " "), c.missing())
		}},
		{name: "version", wide: true, cell: func(_ *cells, w *api.WorkerInfo) string { return w.Version }},
		{name: "host", wide: true, cell: func(_ *cells, w *api.WorkerInfo) string { return w.Host }},
	}
}

// share is free of all.
func share(c *cells, free, all string) string {
	if c.exact {
		return free
	}
	return free + "/" + all
}
