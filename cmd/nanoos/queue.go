package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
)

func newQueueNoun(a *app) *cobra.Command {
	noun := nounCommand("queue", "queues", "Queues: list, get, pause, resume, create.", `nanoos queue list
nanoos queue pause simulations --why "maintenance at 18:00"
nanoos queue create gpu --walltime 24h`)
	noun.AddCommand(newQueueList(a), newQueueGet(a), newQueuePause(a), newQueueResume(a), newQueueCreate(a))
	return noun
}

func queueColumns() []column[api.QueueInfo] {
	count := func(s job.State) column[api.QueueInfo] {
		return column[api.QueueInfo]{name: strings.ToLower(string(s)), right: true,
			cell: func(_ *cells, q *api.QueueInfo) string { return fmt.Sprint(q.Jobs[s]) }}
	}
	columns := []column[api.QueueInfo]{
		{name: "name", flex: true, middle: true, cell: func(_ *cells, q *api.QueueInfo) string { return q.Name }},
		{name: "state", cell: func(_ *cells, q *api.QueueInfo) string {
			if q.Paused != nil {
				return "paused"
			}
			return "open"
		}, tone: func(q *api.QueueInfo) tone {
			if q.Paused != nil {
				return yellow
			}
			return plain
		}},
	}
	for _, s := range job.States {
		columns = append(columns, count(s))
	}
	return append(columns,
		column[api.QueueInfo]{name: "walltime", wide: true, cell: func(c *cells, q *api.QueueInfo) string { return c.elapsed(toTime(q.Walltime)) }},
		column[api.QueueInfo]{name: "why", wide: true, cell: func(c *cells, q *api.QueueInfo) string {
			if q.Paused == nil {
				return c.missing()
			}
			return strings.TrimSpace(q.Paused.Why + " (by " + orDefault(q.Paused.By, "somebody") + ")")
		}})
}

func queueName(q *api.QueueInfo) string { return q.Name }

func newQueueList(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the queues and how many jobs are in each.", Args: noArgs,
		Example: `nanoos queue list
nanoos queue list -o wide
nanoos queue list -o json | jq '.items[].jobs.QUEUED'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			queues, err := a.queues(cmd.Context())
			if err != nil {
				return err
			}
			if queues == nil {
				queues = []api.QueueInfo{}
			}
			doc := api.QueueList{APIVersion: api.Version, Kind: "QueueList", Items: queues}
			return show(a, listing[api.QueueInfo]{doc: doc, rows: queues, columns: queueColumns(), id: queueName, empty: "no queues"})
		},
	}
}

func newQueueGet(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "get QUEUE", Short: "Show one queue.", Args: exactArgs(1, "the name of a queue"),
		Example: `nanoos queue get simulations
nanoos queue get high_priority -o wide
nanoos queue get default -o json | jq .paused`,
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := a.queueNamed(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.showQueue(q)
		},
	}
	a.completeQueues(cmd, "")
	return cmd
}

func (a *app) queueNamed(ctx context.Context, name string) (api.QueueInfo, error) {
	queues, err := a.queues(ctx)
	if err != nil {
		return api.QueueInfo{}, err
	}
	var names []string
	for _, q := range queues {
		if q.Name == name {
			return q, nil
		}
		names = append(names, q.Name)
	}
	fix := didYouMean(name, slices.Values(names))
	return api.QueueInfo{}, &job.Error{Code: job.NotFound, Message: fmt.Sprintf("there is no queue %q", name),
		Why: "queues: " + strings.Join(names, ", "), Fix: orDefault(fix, "make it with: nanoos queue create "+name)}
}

func (a *app) showQueue(q api.QueueInfo) error {
	return show(a, listing[api.QueueInfo]{doc: q, rows: []api.QueueInfo{q}, columns: queueColumns(), id: queueName})
}

func newQueuePause(a *app) *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use: "pause QUEUE", Short: "Stop starting jobs from a queue; those that run go on.", Args: exactArgs(1, "the name of a queue"),
		Example: `nanoos queue pause simulations
nanoos queue pause simulations --why "maintenance at 18:00"
nanoos queue pause default -o json`,
		RunE: a.onQueue(func(ctx context.Context, c *api.Client, name string) (api.QueueInfo, error) {
			return c.PauseQueue(ctx, name, why)
		}),
	}
	cmd.Flags().StringVar(&why, "why", "", "`REASON`, shown to those whose jobs wait")
	a.completeQueues(cmd, "")
	return cmd
}

func newQueueResume(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "resume QUEUE", Short: "Start jobs from a queue again.", Args: exactArgs(1, "the name of a queue"),
		Example: `nanoos queue resume simulations
nanoos queue resume default -o wide
nanoos queue resume high_priority --quiet`,
		RunE: a.onQueue(func(ctx context.Context, c *api.Client, name string) (api.QueueInfo, error) {
			return c.ResumeQueue(ctx, name)
		}),
	}
	a.completeQueues(cmd, "")
	return cmd
}

func newQueueCreate(a *app) *cobra.Command {
	var walltime string
	cmd := &cobra.Command{
		Use: "create QUEUE", Short: "Make a queue, or change the defaults of one.", Args: exactArgs(1, "the name of the queue"),
		Example: `nanoos queue create gpu
nanoos queue create long --walltime 7d
nanoos queue create night -o json`,
	}
	cmd.Flags().StringVar(&walltime, "walltime", "", "`TIME` limit of its jobs that name none")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r := api.QueueRequest{Name: args[0]}
		if walltime != "" {
			d, err := job.ParseDuration(walltime)
			if err != nil {
				return usage("for example --walltime 24h", "--walltime: %v", err)
			}
			r.Walltime = d
		}
		return a.onQueue(func(ctx context.Context, c *api.Client, _ string) (api.QueueInfo, error) {
			return c.MakeQueue(ctx, r)
		})(cmd, args)
	}
	return cmd
}

// onQueue makes a command of a call about one queue.
func (a *app) onQueue(call func(context.Context, *api.Client, string) (api.QueueInfo, error)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := a.client()
		if err != nil {
			return err
		}
		q, err := call(cmd.Context(), c, args[0])
		if err != nil {
			return err
		}
		return a.showQueue(q)
	}
}
