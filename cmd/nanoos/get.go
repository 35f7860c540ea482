package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
)

func newGetCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "get JOB…", Aliases: []string{"show"},
		Short: "Show jobs in full: state, result, failure, resources, times.",
		Example: `nanoos get @last
nanoos get si-relax -o json | jq .summary.energy_eV
nanoos ls -o id --state failed | nanoos get - -o yaml`,
		Args: minArgs(1, "a job"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.get(cmd.Context(), args) },
	}
	a.completeJobs(cmd)
	return cmd
}

func (a *app) get(ctx context.Context, args []string) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	refs, err := a.refs(ctx, c, args)
	if err != nil {
		return err
	}
	jobs, getErr := a.getJobs(ctx, c, refs)
	if getErr != nil && len(jobs) == 0 {
		return getErr
	}
	if err := a.showJobs(jobs); err != nil {
		return err
	}
	return partly(len(jobs), getErr)
}

// showJobs writes jobs in full: one as its document, several as a list.
func (a *app) showJobs(jobs []api.Job) error {
	if a.data() || a.opt.output == "wide" || a.opt.columns != "" {
		var doc any = jobList(jobs)
		if len(jobs) == 1 {
			doc = jobs[0]
		}
		return show(a, listing[api.Job]{doc: doc, rows: jobs, columns: jobColumns(), id: jobID})
	}
	for i := range jobs {
		if i > 0 {
			fmt.Fprintln(a.io.out)
		}
		if err := a.showJob(&jobs[i]); err != nil {
			return err
		}
	}
	return nil
}

func jobList(jobs []api.Job) api.JobList {
	if jobs == nil {
		jobs = []api.Job{}
	}
	return api.JobList{APIVersion: api.Version, Kind: "JobList", Items: jobs, Total: new(int64(len(jobs)))}
}

// showJob writes all that matters of one job, for people.
func (a *app) showJob(j *api.Job) error {
	s, c := a.outScreen(), a.cells()
	var b strings.Builder
	fields := []field{
		{name: "job", value: string(j.ID), tone: bold},
		{name: "name", value: j.Name},
		{name: "state", value: stateWord(j), tone: stateTone(j)},
		{name: "verdict", value: verdictWords(j.State, j.Verdict), tone: verdictTone(j.Verdict)},
		{name: "message", value: j.Message},
	}
	if j.Progress != nil && !j.State.Terminal() {
		fields = append(fields, field{name: "progress", value: c.progress(j.Progress)})
	}
	fields = append(fields,
		field{name: "engine", value: j.Engine},
		field{name: "structure", value: j.Formula},
		field{name: "queue", value: fmt.Sprintf("%s, priority %d", j.Queue, j.Priority)},
		field{name: "resources", value: resourceText(j)},
		field{name: "attempt", value: attemptText(j)},
		field{name: "worker", value: j.Worker},
		field{name: "labels", value: labelText(j.Labels)},
		field{name: "key", value: j.Key},
		field{name: "submitted", value: c.moment(j.CreatedAt)},
		field{name: "started", value: c.moment(j.StartedAt)},
		field{name: "ended", value: c.moment(j.EndedAt)},
		field{name: "starts", value: startsText(c, j)},
	)
	if d := c.ranFor(j); d > 0 {
		fields = append(fields, field{name: "took", value: long(d)})
	}
	b.WriteString(renderFields(s, fields))
	if sum := c.summaryFields(j.Summary); len(sum) > 0 {
		b.WriteString("\n" + s.paint(bold, "result") + "\n" + renderFields(s, sum))
	}
	writeFailure(&b, s, j.Failure)
	_, err := io.WriteString(a.io.out, b.String())
	return err
}

func startsText(c *cells, j *api.Job) string {
	if j.RunAt.IsZero() || j.State != job.Pending {
		return ""
	}
	return c.moment(j.RunAt)
}

func resourceText(j *api.Job) string {
	parts := []string{countOf(j.Resources.CPUs, "CPU"), size(j.Resources.Memory)}
	if j.Resources.GPUs > 0 {
		parts = append(parts, countOf(j.Resources.GPUs, "GPU"))
	}
	if len(j.Resources.Tags) > 0 {
		parts = append(parts, "tags "+strings.Join(j.Resources.Tags, " "))
	}
	return strings.Join(append(parts, "at most "+clock(toTime(j.Resources.Walltime))), ", ")
}

func attemptText(j *api.Job) string {
	if j.Attempt == 0 {
		return ""
	}
	text := fmt.Sprint(j.Attempt)
	if j.Failures > 0 || j.Losses > 0 {
		text += fmt.Sprintf("; program failures %d of %d, losses %d of %d", j.Failures, j.Retry.Max, j.Losses, j.Retry.MaxLosses)
	}
	return text
}

func newFilesCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "files JOB",
		Short: "List the stored files of a job: inputs and what the run left.",
		Example: `nanoos job files @last
nanoos job files si-relax -o csv
nanoos job files 3f9a11c2 -o json | jq '.items[].sha256'`,
		Args: exactArgs(1, "one job"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, ref, err := a.oneJob(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			files, err := c.Files(cmd.Context(), ref)
			if err != nil {
				return err
			}
			if files == nil {
				files = []api.File{}
			}
			doc := api.FileList{APIVersion: api.Version, Kind: "FileList", Items: files}
			return show(a, listing[api.File]{doc: doc, rows: files, columns: fileColumns(), id: func(f *api.File) string { return f.Name }, empty: "no files"})
		},
	}
	a.completeJobs(cmd)
	return cmd
}

func fileColumns() []column[api.File] {
	return []column[api.File]{
		{name: "name", cell: func(_ *cells, f *api.File) string { return f.Name }},
		{name: "size", right: true, cell: func(c *cells, f *api.File) string { return c.bytes(f.Size) }},
		{name: "attempt", right: true, cell: func(_ *cells, f *api.File) string {
			if f.Attempt == 0 {
				return "input"
			}
			return fmt.Sprint(f.Attempt)
		}},
		{name: "time", cell: func(c *cells, f *api.File) string { return c.when(f.At) }},
		{name: "sha256", cell: func(c *cells, f *api.File) string {
			if c.exact || !c.screen.tty {
				return f.SHA256
			}
			return f.SHA256[:min(12, len(f.SHA256))]
		}},
	}
}

// oneJob resolves one reference to what the server understands.
func (a *app) oneJob(ctx context.Context, arg string) (*api.Client, string, error) {
	c, err := a.client()
	if err != nil {
		return nil, "", err
	}
	refs, err := a.refs(ctx, c, []string{arg})
	if err != nil {
		return nil, "", err
	}
	if len(refs) != 1 {
		return nil, "", usage("name one job", "%d jobs were named where one is needed", len(refs))
	}
	return c, refs[0], nil
}

func newCopyCommand(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "cp JOB FILE [TO]",
		Short: "Copy a stored file of a job to a local file, a directory, or - for standard output.",
		Example: `nanoos job cp @last pw.in .
nanoos job cp si-relax pwscf.xml - | xmllint --format -
nanoos job cp 3f9a11c2 dump.lammpstrj traj.lammpstrj`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 || len(args) > 3 {
				return usage("nanoos job cp JOB FILE [TO]", "cp takes a job, a file and where to put it")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			to := "."
			if len(args) == 3 {
				to = args[2]
			}
			return a.copyFile(cmd.Context(), args[0], args[1], to, force)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace a file that is there")
	a.completeJobs(cmd)
	return cmd
}

func (a *app) copyFile(ctx context.Context, arg, name, to string, force bool) error {
	c, ref, err := a.oneJob(ctx, arg)
	if err != nil {
		return err
	}
	r, err := c.File(ctx, ref, name)
	if err != nil {
		return err
	}
	defer r.Close()
	if to == "-" {
		_, err := io.Copy(a.io.out, r)
		return err
	}
	if info, err := os.Stat(to); err == nil && info.IsDir() {
		to = filepath.Join(to, filepath.Base(filepath.FromSlash(name)))
	}
	mode := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		mode = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(to, mode, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return &job.Error{Code: job.Conflict, Message: to + " was not written", Why: "it exists", Fix: "choose another name, or --force"}
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", to, err)
	}
	n, err := io.Copy(f, r)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("copy %s to %s: %w", name, to, err)
	}
	a.note("%s: %s", to, size(n))
	return nil
}

func newEventsCommand(a *app) *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "events JOB",
		Short: "Show the history of a job: every change of state, and who asked for it.",
		Example: `nanoos job events @last
nanoos job events si-relax --follow
nanoos job events 3f9a11c2 -o jsonl`,
		Args: exactArgs(1, "one job"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.events(cmd.Context(), args[0], follow) },
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the job ends")
	group(cmd, "Live", "follow")
	a.completeJobs(cmd)
	return cmd
}

func (a *app) events(ctx context.Context, arg string, follow bool) error {
	c, ref, err := a.oneJob(ctx, arg)
	if err != nil {
		return err
	}
	if follow {
		first := !a.opt.noHeaders
		for e, err := range c.JobEvents(ctx, ref, 0) {
			if err != nil {
				return err
			}
			if err := a.printEvent(e, first); err != nil {
				return err
			}
			first = false
		}
		return nil
	}
	doc := api.EventList{APIVersion: api.Version, Kind: "EventList", Items: []api.Event{}}
	for after := int64(0); ; {
		page, err := c.History(ctx, ref, after)
		if err != nil {
			return err
		}
		doc.Items = append(doc.Items, page.Items...)
		if page.Next == "" || len(page.Items) == 0 {
			break
		}
		after = page.Items[len(page.Items)-1].Seq
	}
	return show(a, listing[api.Event]{doc: doc, rows: doc.Items, columns: eventColumns(), id: func(e *api.Event) string { return fmt.Sprint(e.Seq) }, empty: "no events"})
}

func (a *app) printEvent(e api.Event, header bool) error {
	if a.data() {
		return writeJSONLines(a.io.out, []api.Event{e})
	}
	_, err := io.WriteString(a.io.out, renderTable(a.cells(), a.outScreen(), []api.Event{e}, eventColumns(), header))
	return err
}

func eventColumns() []column[api.Event] {
	return []column[api.Event]{
		{name: "seq", right: true, cell: func(_ *cells, e *api.Event) string { return fmt.Sprint(e.Seq) }},
		{name: "time", cell: func(c *cells, e *api.Event) string { return c.when(e.At) }},
		{name: "event", cell: func(_ *cells, e *api.Event) string { return string(e.Kind) }},
		{name: "detail", flex: true, cell: func(c *cells, e *api.Event) string {
			if e.Progress != nil {
				return c.progress(e.Progress)
			}
			return dataText(e.Data)
		}},
	}
}
