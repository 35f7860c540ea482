package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
)

// waitOptions say what to wait for.
type waitOptions struct {
	forState  string
	any       bool
	converged bool
	timeout   string
	progress  string
}

func newWaitCommand(a *app) *cobra.Command {
	var o waitOptions
	var sel selection
	cmd := &cobra.Command{
		Use:   "wait JOB… | -q FILTER",
		Short: "Wait until jobs have ended; the exit code says how.",
		Long: `Exit codes: 0 all completed, 10 at least one failed, 11 at least one was cancelled, 12 the time
limit was reached, 13 not converged with --require-converged. Ctrl-C stops waiting, not the jobs.`,
		Example: `nanoos wait @last
nanoos wait -q label:campaign=TiO2 --timeout 2h --require-converged
nanoos wait 3f9a11c2 si-relax --any`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.wait(cmd.Context(), args, sel, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.forState, "for", "finished", "`WHAT` to wait for: finished, succeeded, running")
	f.BoolVar(&o.any, "any", false, "end with the first job that gets there")
	f.BoolVar(&o.converged, "require-converged", false, "exit with 13 if a job completed without having converged")
	f.StringVar(&o.timeout, "timeout", "", "`TIME` after which to give up, such as 2h")
	addProgressFlag(cmd, &o.progress)
	sel.flags(a, cmd)
	group(cmd, "Waiting", "for", "any", "require-converged", "timeout", "progress")
	_ = cmd.RegisterFlagCompletionFunc("for", cobra.FixedCompletions([]string{"finished", "succeeded", "running"}, cobra.ShellCompDirectiveNoFileComp))
	a.completeJobs(cmd)
	return cmd
}

func addProgressFlag(cmd *cobra.Command, to *string) {
	cmd.Flags().StringVar(to, "progress", "auto", "`STYLE` of progress on standard error: auto, bar, plain, none")
	_ = cmd.RegisterFlagCompletionFunc("progress", cobra.FixedCompletions([]string{"auto", "bar", "plain", "none"}, cobra.ShellCompDirectiveNoFileComp))
}

func (a *app) wait(ctx context.Context, args []string, sel selection, o waitOptions) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	jobs, err := a.chosen(ctx, c, args, sel)
	if err != nil {
		return err
	}
	if len(jobs) == 0 {
		a.note("no jobs")
		return nil
	}
	last, err := a.waitFor(ctx, c, jobs, o)
	if len(last) > 0 {
		if showErr := a.showWaited(last); showErr != nil {
			return showErr
		}
	}
	return err
}

// errTimeLimit is the cause of the end of a wait that took too long.
var errTimeLimit = errors.New("the time limit was reached")

// waitFor follows jobs until the condition holds, and returns them as they are
// then. The error carries the exit code.
func (a *app) waitFor(ctx context.Context, c *api.Client, jobs []api.Job, o waitOptions) ([]api.Job, error) {
	reached, impossible, err := o.conditions()
	if err != nil {
		return nil, err
	}
	v, err := a.newView(o.progress)
	if err != nil {
		return nil, err
	}
	if o.timeout != "" {
		limit, err := job.ParseDuration(o.timeout)
		if err != nil {
			return nil, usage("for example 90s, 10m, 2h", "--timeout: %v", err)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Duration(limit), errTimeLimit)
		defer cancel()
	}
	f := newFollower(c, jobs)
	err = f.run(ctx, v, func() bool {
		open := 0
		for _, j := range f.jobs {
			switch {
			case impossible(&j.Job):
				return true
			case reached(&j.Job):
				if o.any {
					return true
				}
			default:
				open++
			}
		}
		return open == 0
	})
	v.close()
	last := f.copies()
	switch {
	case errors.Is(err, errTimeLimit):
		a.note("%s; %s", errTimeLimit, tally(f))
		return last, quietExit(exitTimeout)
	case err != nil && ctx.Err() != nil:
		a.note("stopped waiting; the jobs go on: nanoos wait %s", idList(last))
		return nil, quietExit(exitInterrupted)
	case err != nil:
		return nil, err
	}
	return last, exitWith(o.exit(last, reached))
}

// conditions are when a job is where it should be, and when it can no longer
// get there.
func (o waitOptions) conditions() (reached, impossible func(*api.Job) bool, err error) {
	never := func(*api.Job) bool { return false }
	switch o.forState {
	case "", "finished", "any":
		return ended, never, nil
	case "succeeded", "completed":
		return func(j *api.Job) bool { return j.State == job.Completed },
			func(j *api.Job) bool { return ended(j) && j.State != job.Completed }, nil
	case "running":
		return func(j *api.Job) bool { return j.State == job.Running || j.State == job.Completed },
			func(j *api.Job) bool { return ended(j) && j.State != job.Completed }, nil
	}
	return nil, nil, usage("one of: finished, succeeded, running", "cannot wait for %q", o.forState)
}

// exit looks at the jobs that got where they should; with --any only at those.
func (o waitOptions) exit(jobs []api.Job, reached func(*api.Job) bool) int {
	if !o.any {
		return outcome(jobs, o.converged)
	}
	var there []api.Job
	for i := range jobs {
		if reached(&jobs[i]) || ended(&jobs[i]) {
			there = append(there, jobs[i])
		}
	}
	return outcome(there, o.converged)
}

// showWaited writes how the jobs ended, one line each.
func (a *app) showWaited(jobs []api.Job) error {
	var doc any = jobList(jobs)
	if len(jobs) == 1 {
		doc = jobs[0]
	}
	return show(a, listing[api.Job]{doc: doc, rows: jobs, columns: jobColumns(), id: jobID})
}

func idList(jobs []api.Job) string {
	const shown = 5
	var ids []string
	for i := range jobs[:min(len(jobs), shown)] {
		ids = append(ids, shortID(jobs[i].ID))
	}
	if len(jobs) > shown {
		ids = append(ids, fmt.Sprintf("… (%d jobs)", len(jobs)))
	}
	return strings.Join(ids, " ")
}
