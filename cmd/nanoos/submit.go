package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
)

// jobFlags change a job file from the command line.
type jobFlags struct {
	engine   string
	name     string
	labels   []string
	queue    string
	priority int
	cores    int
	gpus     int
	memory   string
	walltime string
	retries  int
	key      string
	hold     bool
	accept   bool
	set      []string
}

func (j *jobFlags) add(a *app, cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&j.name, "name", "", "`NAME` of the job")
	f.StringArrayVar(&j.labels, "label", nil, "`KEY=VALUE`; may be repeated")
	f.StringVar(&j.queue, "queue", "", "`NAME` of the queue")
	f.IntVar(&j.priority, "priority", -1, "`NUMBER`: 0 last, 5 normal, 20 first")
	f.BoolVar(&j.hold, "hold", false, "keep it from starting until it is released")
	f.StringVar(&j.key, "key", "", "`KEY` that makes submitting twice the same as once")
	f.StringVar(&j.engine, "engine", "", "`NAME` of the engine whose deck this is")
	f.StringArrayVar(&j.set, "set", nil, "`KEY=VALUE` of a parameter (ecutwfc=40), or of the file (resources.cpus=4)")
	f.BoolVar(&j.accept, "accept-not-converged", false, "count a run that did not converge as completed")
	f.IntVar(&j.cores, "cores", 0, "`NUMBER` of CPUs")
	f.IntVar(&j.gpus, "gpus", -1, "`NUMBER` of GPUs")
	f.StringVar(&j.memory, "mem", "", "`SIZE` of memory, such as 4GiB")
	f.StringVar(&j.walltime, "walltime", "", "`TIME` limit of one attempt, such as 2h")
	f.IntVar(&j.retries, "retries", -1, "`NUMBER` of retries after program failures")
	group(cmd, "Job", "name", "label", "queue", "priority", "hold", "key")
	group(cmd, "Input", "engine", "set", "accept-not-converged")
	group(cmd, "Resources", "cores", "gpus", "mem", "walltime", "retries")
	a.completeQueues(cmd, "queue")
	a.completeEngines(cmd)
}

// apply writes the flags that were given over a draft.
func (j *jobFlags) apply(d *draft) error {
	r := &d.request
	r.Name, r.Queue, r.Key = orDefault(j.name, r.Name), orDefault(j.queue, r.Queue), orDefault(j.key, r.Key)
	r.Hold = r.Hold || j.hold
	for _, l := range j.labels {
		k, v, ok := strings.Cut(l, "=")
		if !ok || k == "" {
			return usage("for example --label campaign=TiO2", "--label %s is not KEY=VALUE", l)
		}
		if r.Labels == nil {
			r.Labels = map[string]string{}
		}
		r.Labels[k] = v
	}
	if j.priority >= 0 {
		r.Priority = &j.priority
	}
	if j.cores != 0 {
		r.Resources.CPUs = j.cores
	}
	if j.gpus >= 0 {
		r.Resources.GPUs = j.gpus
	}
	if j.accept {
		r.Accept = "not_converged"
	}
	if j.retries >= 0 {
		if r.Retry == nil {
			r.Retry = &api.RetryInput{}
		}
		r.Retry.Max = &j.retries
	}
	if j.memory != "" {
		n, err := api.ParseBytes(j.memory)
		if err != nil {
			return usage("for example --mem 4GiB", "--mem: %v", err)
		}
		r.Resources.Memory = n
	}
	if j.walltime != "" {
		limit, err := job.ParseDuration(j.walltime)
		if err != nil {
			return usage("for example --walltime 2h", "--walltime: %v", err)
		}
		r.Resources.Walltime = limit
	}
	return nil
}

func newSubmitCommand(a *app) *cobra.Command {
	var jf jobFlags
	var dryRun, wait, follow bool
	var o waitOptions
	cmd := &cobra.Command{
		Use:   "submit FILE…",
		Short: "Submit job files, or input decks as they are; - reads standard input.",
		Example: `nanoos submit examples/silicon/scf.yaml
nanoos submit pw.in --cores 4 --walltime 2h --follow
nanoos submit relax.yaml --set ecutwfc=40 --label campaign=Si --wait -o json`,
		Args: minArgs(1, "a job file or an input deck"),
		RunE: func(cmd *cobra.Command, args []string) error {
			drafts, err := a.drafts(args, &jf)
			if err != nil {
				return err
			}
			if dryRun {
				return a.dryRun(cmd.Context(), drafts)
			}
			return a.submit(cmd.Context(), drafts, wait, follow, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&dryRun, "dry-run", false, "check and show the job, and submit nothing")
	jf.add(a, cmd)
	f.BoolVar(&wait, "wait", false, "wait for the end, as nanoos wait does")
	f.BoolVarP(&follow, "follow", "f", false, "show the output of the program until the end, as nanoos logs -f does")
	f.BoolVar(&o.converged, "require-converged", false, "with --wait: exit with 13 if it did not converge")
	f.StringVar(&o.timeout, "timeout", "", "with --wait: `TIME` after which to give up")
	addProgressFlag(cmd, &o.progress)
	group(cmd, "Input", "dry-run")
	group(cmd, "Waiting", "wait", "follow", "require-converged", "timeout", "progress")
	return cmd
}

// drafts reads everything before anything is submitted.
func (a *app) drafts(files []string, jf *jobFlags) ([]*draft, error) {
	var all []*draft
	for _, name := range files {
		drafts, err := readInput(a.engines, name, jf.engine, a.io.in, jf.set)
		if err != nil {
			return nil, err
		}
		for _, d := range drafts {
			if err := jf.apply(d); err != nil {
				return nil, err
			}
		}
		all = append(all, drafts...)
	}
	if jf.key != "" && len(all) > 1 {
		return nil, usage("give each job file its own key", "--key belongs to one job, and there are %d", len(all))
	}
	return all, nil
}

// maxInline is the largest file that is sent inside the request.
const maxInline = 256 << 10

// send uploads a draft's files and returns the request that names them.
func send(ctx context.Context, c *api.Client, d *draft) (api.JobRequest, error) {
	r := d.request
	r.Files = append([]api.FileInput(nil), r.Files...)
	for _, u := range d.uploads {
		text := u.text
		if text == nil && u.size <= maxInline {
			var err error
			if text, err = os.ReadFile(u.path); err != nil {
				return r, unreadable(u.path, err)
			}
		}
		if text != nil && len(text) <= maxInline && utf8.Valid(text) && bytes.IndexByte(text, 0) < 0 {
			r.Files = append(r.Files, api.FileInput{Name: u.name, Text: string(text)})
			continue
		}
		up, err := uploadFile(ctx, c, u, text)
		if err != nil {
			return r, err
		}
		r.Files = append(r.Files, api.FileInput{Name: u.name, SHA256: up.SHA256})
	}
	return r, nil
}

func uploadFile(ctx context.Context, c *api.Client, u upload, text []byte) (api.Upload, error) {
	if text != nil {
		return c.UploadInput(ctx, bytes.NewReader(text))
	}
	f, err := os.Open(u.path)
	if err != nil {
		return api.Upload{}, unreadable(u.path, err)
	}
	defer f.Close()
	return c.UploadInput(ctx, f)
}

// submitOne sends a draft; faults that the server finds are placed in its file.
func (a *app) submitOne(ctx context.Context, c *api.Client, d *draft) (api.Job, error) {
	request, err := send(ctx, c, d)
	if err != nil {
		return api.Job{}, err
	}
	j, existing, err := c.Submit(ctx, request)
	if err != nil {
		return j, d.locate(named(err, d))
	}
	if existing {
		a.note("%s had been submitted before with the key %s: it is job %s", d.name, request.Key, shortID(j.ID))
	}
	a.warn(j.Warnings)
	return j, nil
}

// named says which file was refused, when the error speaks of the input.
func named(err error, d *draft) error {
	e, ok := errors.AsType[*job.Error](err)
	if !ok || e.Code != job.Invalid {
		return err
	}
	placed := *e
	placed.Message = d.name + " was not submitted"
	if !strings.Contains(e.Message, "not submitted") {
		placed.Message += ": " + e.Message
	}
	return &placed
}

func (a *app) submit(ctx context.Context, drafts []*draft, wait, follow bool, o waitOptions) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	var jobs []api.Job
	var failed error
	for _, d := range drafts {
		j, err := a.submitOne(ctx, c, d)
		if err != nil {
			if len(drafts) == 1 || job.CodeOf(err) == job.Unavailable || ctx.Err() != nil {
				return err
			}
			a.report(err)
			failed = errors.Join(failed, err)
			continue
		}
		jobs = append(jobs, j)
	}
	if len(jobs) == 0 || !wait && !follow {
		if err := a.showSubmitted(jobs); err != nil {
			return err
		}
		return partly(len(jobs), failed)
	}
	err = a.submitAndStay(ctx, c, jobs, follow, o)
	if err == nil {
		err = partly(len(jobs), failed)
	}
	return err
}

func (a *app) submitAndStay(ctx context.Context, c *api.Client, jobs []api.Job, follow bool, o waitOptions) error {
	for i := range jobs {
		a.note("submitted %s as %s", jobName(&jobs[i]), jobs[i].ID)
	}
	if follow {
		if err := a.followLogs(ctx, c, jobs); err != nil {
			return err
		}
		o.progress = "none"
	}
	last, err := a.waitFor(ctx, c, jobs, o)
	if len(last) > 0 && !(follow && !a.data()) {
		if showErr := a.showWaited(last); showErr != nil {
			return showErr
		}
	}
	return err
}

func (a *app) followLogs(ctx context.Context, c *api.Client, jobs []api.Job) error {
	if a.data() {
		return nil // the data is the jobs, not their logs
	}
	q := api.LogQuery{Follow: true, Stream: "stdout"}
	if len(jobs) > 1 {
		return a.manyLogs(ctx, c, jobs, q, nil)
	}
	return a.streamLog(ctx, c, string(jobs[0].ID), q, lineWriter{w: a.io.out, tame: a.outScreen().tty})
}

// showSubmitted prints the ids, and next to them what to do next.
func (a *app) showSubmitted(jobs []api.Job) error {
	if a.data() || a.opt.output == "wide" {
		return a.showWaited(jobs)
	}
	for i := range jobs {
		j := &jobs[i]
		if _, err := fmt.Fprintln(a.io.out, j.ID); err != nil {
			return err
		}
	}
	if len(jobs) == 1 {
		j := &jobs[0]
		a.note("%s is %s in queue %s", jobName(j), stateWord(j), j.Queue)
		a.note("  watch it: nanoos watch %s    its output: nanoos logs -f %s", shortID(j.ID), shortID(j.ID))
	} else if len(jobs) > 1 {
		a.note("%s submitted", countOf(len(jobs), "job"))
	}
	return nil
}

// dryRun shows the jobs as they would be stored, with every warning.
func (a *app) dryRun(ctx context.Context, drafts []*draft) error {
	c, err := a.client()
	if err != nil {
		return a.dryRunAlone(drafts, err)
	}
	var jobs []api.Job
	for _, d := range drafts {
		request, err := send(ctx, c, d)
		if job.CodeOf(err) == job.Unavailable {
			return a.dryRunAlone(drafts, err)
		}
		if err != nil {
			return err
		}
		j, err := c.DryRun(ctx, request)
		if job.CodeOf(err) == job.Unavailable {
			return a.dryRunAlone(drafts, err)
		}
		if err != nil {
			return d.locate(named(err, d))
		}
		a.warn(j.Warnings)
		jobs = append(jobs, j)
	}
	if a.opt.output == "table" {
		a.opt.output = "yaml"
	}
	a.note("nothing was submitted")
	return a.showWaited(jobs)
}

// dryRunAlone shows what would be sent, when there is no server to ask.
func (a *app) dryRunAlone(drafts []*draft, cause error) error {
	a.note("not checked by an engine: %s", asError(cause).Message)
	requests := make([]api.JobRequest, len(drafts))
	for i, d := range drafts {
		requests[i] = d.request
		for _, u := range d.uploads {
			requests[i].Files = append(requests[i].Files, api.FileInput{Name: u.name})
		}
	}
	var doc any = requests
	if len(requests) == 1 {
		doc = requests[0]
	}
	if a.opt.output == "json" || a.opt.output == "jsonl" {
		return writeJSON(a.io.out, doc)
	}
	return writeYAML(a.io.out, doc)
}
