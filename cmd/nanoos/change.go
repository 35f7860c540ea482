package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
)

// change is a verb that changes jobs.
type change struct {
	verb, done  string
	short       string
	example     string
	destructive bool
	act         func(c *api.Client, ctx context.Context, ref, why string) (api.Job, error)
}

func newCancelCommand(a *app) *cobra.Command {
	return a.changeCommand(change{verb: "cancel", done: "cancelled", destructive: true, act: (*api.Client).Cancel,
		short: "Stop jobs: waiting ones at once, running ones cleanly.",
		example: `nanoos cancel @last
nanoos cancel 3f9a11c2 si-relax --why "wrong pseudopotential" --yes
nanoos cancel -q 'state:queued label:campaign=TiO2' --dry-run`})
}

func newRetryCommand(a *app) *cobra.Command {
	return a.changeCommand(change{verb: "retry", done: "queued again", act: (*api.Client).Retry,
		short: "Start failed or cancelled jobs again, or at once those that wait for a retry.",
		example: `nanoos retry @last
nanoos retry -q 'state:failed label:campaign=TiO2'
nanoos ls --state failed -o id | nanoos retry -`})
}

func newHoldCommand(a *app) *cobra.Command {
	return a.changeCommand(change{verb: "hold", done: "held", act: (*api.Client).Hold,
		short: "Keep waiting jobs from starting until they are released.",
		example: `nanoos hold 3f9a11c2
nanoos hold @last --why "waiting for the new structure"
nanoos hold -q 'state:queued queue:simulations'`})
}

func newReleaseCommand(a *app) *cobra.Command {
	return a.changeCommand(change{verb: "release", done: "released", act: (*api.Client).Release,
		short: "Let held or quarantined jobs start.",
		example: `nanoos release 3f9a11c2
nanoos release @last @last-1
nanoos release -q state:held`})
}

func (a *app) changeCommand(ch change) *cobra.Command {
	var sel selection
	var why string
	var yes, dryRun bool
	cmd := &cobra.Command{
		Use: ch.verb + " JOB… | -q FILTER", Short: ch.short, Example: ch.example,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.change(cmd.Context(), ch, args, sel, why, yes, dryRun)
		},
	}
	f := cmd.Flags()
	f.StringVar(&why, "why", "", "`REASON`, kept in the history of the job")
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	f.BoolVar(&dryRun, "dry-run", false, "show which jobs it would be, and change nothing")
	sel.flags(a, cmd)
	group(cmd, "Change", "why", "yes", "dry-run")
	a.completeJobs(cmd)
	return cmd
}

func (a *app) change(ctx context.Context, ch change, args []string, sel selection, why string, yes, dryRun bool) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	jobs, getErr := a.chosen(ctx, c, args, sel)
	if getErr != nil && len(jobs) == 0 {
		return partlyOrAlone(args, getErr)
	}
	if dryRun || len(jobs) == 0 {
		a.note("%s would be %s", countOf(len(jobs), "job"), ch.done)
		if err := show(a, listing[api.Job]{doc: jobList(jobs), rows: jobs, columns: jobColumns(), id: jobID}); err != nil {
			return err
		}
		return partly(len(jobs), getErr)
	}
	// A selection shows its count before it acts, whatever the verb.
	if (ch.destructive || len(args) == 0) && !yes {
		if err := a.confirm(ch.verb, jobs); err != nil {
			return err
		}
	}
	changed := make([]api.Job, 0, len(jobs))
	for _, j := range jobs {
		after, err := ch.act(c, ctx, string(j.ID), why)
		if err != nil {
			if len(jobs) == 1 && getErr == nil || ctx.Err() != nil {
				return err
			}
			a.report(err)
			getErr = errors.Join(getErr, err)
			continue
		}
		changed = append(changed, after)
	}
	if err := a.showChanged(ch, changed); err != nil {
		return err
	}
	return partly(len(changed), getErr)
}

// partlyOrAlone reports a failure that left nothing to do.
func partlyOrAlone(args []string, err error) error {
	if len(args) > 1 {
		return partly(0, err)
	}
	return err
}

func (a *app) showChanged(ch change, jobs []api.Job) error {
	if a.data() || a.opt.output == "wide" {
		var doc any = jobList(jobs)
		if len(jobs) == 1 {
			doc = jobs[0]
		}
		return show(a, listing[api.Job]{doc: doc, rows: jobs, columns: jobColumns(), id: jobID})
	}
	for i := range jobs {
		j := &jobs[i]
		done := ch.done
		if j.Cancelling {
			done = "is being cancelled"
		}
		if _, err := fmt.Fprintf(a.io.out, "%s %s %s\n", shortID(j.ID), oneLine(jobName(j)), done); err != nil {
			return err
		}
	}
	return nil
}

// confirm shows what would be done and asks, when there is somebody to ask.
func (a *app) confirm(verb string, jobs []api.Job) error {
	in, ok := a.io.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) || !a.errScreen().tty {
		return usage("add --yes, or look first with --dry-run",
			"%s of %s needs a confirmation, and there is no terminal to ask on", verb, countOf(len(jobs), "job"))
	}
	const shown = 10
	fmt.Fprint(a.io.err, renderTable(a.cells(), a.errScreen(), jobs[:min(len(jobs), shown)], visible(jobColumns(), "table"), true))
	if len(jobs) > shown {
		fmt.Fprintf(a.io.err, "and %d more\n", len(jobs)-shown)
	}
	fmt.Fprintf(a.io.err, "%s %s? [y/N] ", verb, countOf(len(jobs), "job"))
	answer, err := bufio.NewReader(a.io.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	a.note("nothing was changed")
	return quietExit(exitInterrupted)
}

func newPriorityCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "priority JOB NUMBER",
		Short: "Change the order of a waiting job: 0 last, 5 normal, 20 first.",
		Example: `nanoos job priority @last 20
nanoos job priority si-relax 0
nanoos job priority 3f9a11c2 10 -o json`,
		Args: exactArgs(2, "a job and a priority"),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := strconv.Atoi(args[1])
			if err != nil || p < int(job.PriorityLow) || p > int(job.PriorityUrgent) {
				return usage("0 last, 5 normal, 10 high, 20 first", "%q is no priority", args[1])
			}
			c, ref, err := a.oneJob(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			j, err := c.SetPriority(cmd.Context(), ref, p)
			if err != nil {
				return err
			}
			return a.showChanged(change{done: fmt.Sprintf("has priority %d", j.Priority)}, []api.Job{j})
		},
	}
	a.completeJobs(cmd)
	return cmd
}

// dataText is the data of an event in words: "by anna, why: wrong cell".
func dataText(raw json.RawMessage) string {
	var fields map[string]any
	if json.Unmarshal(raw, &fields) != nil {
		return string(raw)
	}
	var parts []string
	for _, k := range sortedKeys(fields) {
		value := fields[k]
		if k == "fence" || k == "state" {
			continue // for programs; the kind of the event says it in words
		}
		if nested, ok := value.(map[string]any); ok {
			if message, ok := nested["message"]; ok {
				value = message
			}
		}
		parts = append(parts, fmt.Sprintf("%s %v", strings.ReplaceAll(k, "_", " "), value))
	}
	return strings.Join(parts, ", ")
}
