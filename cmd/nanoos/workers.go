package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nano-os/nanoos/internal/api"
)

func newWorkerNoun(a *app) *cobra.Command {
	noun := nounCommand("worker", "workers", "Workers: the machines that run jobs.", `nanoos worker list
nanoos worker list -o wide
nanoos worker list -o json | jq '.items[].free.cpus'`)
	noun.AddCommand(&cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the workers: what each has, what is free, what runs.", Args: noArgs,
		Example: noun.Example,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			workers, err := c.Workers(cmd.Context())
			if err != nil {
				return err
			}
			if workers == nil {
				workers = []api.WorkerInfo{}
			}
			doc := api.WorkerList{APIVersion: api.Version, Kind: "WorkerList", Items: workers}
			return show(a, listing[api.WorkerInfo]{doc: doc, rows: workers, columns: workerColumns(), empty: "no workers",
				id: func(w *api.WorkerInfo) string { return w.Name }})
		},
	})
	return noun
}

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
