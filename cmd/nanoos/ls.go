package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
)

// selection says which jobs a person means, by flags and by -q.
type selection struct {
	query  string
	states []string
	labels []string
	since  string
	list   api.ListQuery
	limit  int
}

func newListCommand(a *app) *cobra.Command {
	var sel selection
	var watch bool
	cmd := &cobra.Command{
		Use: "ls [flags]", Aliases: []string{"list"},
		Short: "List jobs: those that have not ended, and those that ended in the last 24 h.",
		Example: `nanoos ls --state failed
nanoos ls -q 'state:running label:campaign=TiO2' --watch
nanoos ls --all --since 7d -o csv`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watch {
				return a.watchList(cmd.Context(), sel)
			}
			return a.list(cmd.Context(), sel)
		},
	}
	f := cmd.Flags()
	sel.flags(a, cmd)
	f.BoolVar(&sel.list.All, "all", false, "jobs that ended long ago too")
	f.IntVar(&sel.limit, "limit", 50, "`NUMBER` of jobs at most")
	f.BoolVarP(&watch, "watch", "w", false, "go on and show changes")
	group(cmd, "Selection", "all", "limit")
	group(cmd, "Live", "watch")
	return cmd
}

// flags adds the flags that select jobs.
func (s *selection) flags(a *app, cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&s.query, "query", "q", "", "`FILTER` such as 'state:failed label:k=v -queue:debug'")
	f.StringSliceVar(&s.states, "state", nil, "`STATE`s: queued, running, completed, failed …")
	f.StringVar(&s.list.Queue, "queue", "", "`NAME` of the queue")
	f.StringVar(&s.list.Engine, "engine", "", "`NAME` of the engine")
	f.StringArrayVar(&s.labels, "label", nil, "`KEY=VALUE`")
	f.StringVar(&s.list.Name, "name", "", "`TEXT` in the name")
	f.StringVar(&s.since, "since", "", "created since `TIME`: 2h, 7d or 2026-01-31")
	group(cmd, "Selection", "query", "state", "queue", "engine", "label", "name", "since")
	a.completeQueues(cmd, "queue")
	a.completeEngines(cmd)
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(stateWords(), cobra.ShellCompDirectiveNoFileComp))
}

// given reports whether anything narrows the selection.
func (s *selection) given() bool {
	q := s.list
	return s.query != "" || len(s.states) > 0 || len(s.labels) > 0 || s.since != "" || q.Queue != "" || q.Engine != "" || q.Name != ""
}

// resolve turns the texts into a query for the server and a filter for what
// the server cannot select.
func (s *selection) resolve(now time.Time) (api.ListQuery, filter, error) {
	q := s.list
	f, err := parseFilter(s.query, now)
	if err != nil {
		return q, f, err
	}
	if len(s.states) > 0 {
		t, err := stateTerm(strings.Join(s.states, ","))
		if err != nil {
			return q, f, err
		}
		f = append(f, t)
	}
	for _, l := range s.labels {
		k, v, ok := strings.Cut(l, "=")
		if !ok {
			return q, f, usage("for example --label campaign=TiO2", "--label %s is not KEY=VALUE", l)
		}
		if q.Labels == nil {
			q.Labels = map[string]string{}
		}
		q.Labels[k] = v
	}
	if s.since != "" {
		if q.Since, err = parseSince(s.since, now); err != nil {
			return q, f, err
		}
	}
	f.narrow(&q)
	q.Limit = 200
	if s.limit > 0 && len(f) == 0 {
		q.Limit = min(s.limit, 500)
	}
	return q, f, nil
}

// collect fetches the selected jobs, at most limit of them (0: all), and says
// whether there are more.
func (s *selection) collect(ctx context.Context, c *api.Client, now time.Time) (doc api.JobList, err error) {
	doc = api.JobList{APIVersion: api.Version, Kind: "JobList", Items: []api.Job{}}
	q, f, err := s.resolve(now)
	if err != nil {
		return doc, err
	}
	for {
		page, err := c.Page(ctx, q)
		if err != nil {
			return doc, err
		}
		if len(f) == 0 && q.Cursor == "" {
			doc.Total = page.Total
		}
		for i := range page.Items {
			if !f.match(&page.Items[i]) {
				continue
			}
			if s.limit > 0 && len(doc.Items) == s.limit {
				doc.Next = q.Cursor
				return doc, nil
			}
			doc.Items = append(doc.Items, page.Items[i])
		}
		doc.Next, q.Cursor = page.Next, page.Next
		if page.Next == "" || s.limit > 0 && len(doc.Items) == s.limit {
			return doc, nil
		}
	}
}

func (a *app) list(ctx context.Context, sel selection) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	doc, err := sel.collect(ctx, c, a.now())
	if err != nil {
		return err
	}
	if err := show(a, listing[api.Job]{doc: doc, rows: doc.Items, columns: jobColumns(), id: jobID, empty: "no jobs"}); err != nil {
		return err
	}
	a.noteOthers(ctx, c, sel, doc)
	return nil
}

// noteOthers says how many jobs a list left out, and how to see them.
func (a *app) noteOthers(ctx context.Context, c *api.Client, sel selection, doc api.JobList) {
	if doc.Next != "" {
		a.note("there are more: --limit %d", 4*max(sel.limit, 50))
		return
	}
	if sel.given() || sel.list.All || a.opt.quiet {
		return
	}
	queues, err := c.Queues(ctx)
	if err != nil {
		return
	}
	others := -int64(len(doc.Items))
	for _, q := range queues {
		for _, n := range q.Jobs {
			others += n
		}
	}
	if others > 0 {
		a.note("%s ended more than 24 h ago: --all, or --since 7d", countOf(int(others), "job"))
	}
}

func countOf(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// parseSince reads a distance in time, or a date.
func parseSince(text string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	d, err := job.ParseDuration(text)
	if err != nil {
		return time.Time{}, usage("for example 2h, 7d or 2026-01-31", "%q is no time", text)
	}
	return now.Add(-time.Duration(d)), nil
}

// chosen are the jobs that a bulk command is about: those named, or those that
// the flags select.
func (a *app) chosen(ctx context.Context, c *api.Client, args []string, sel selection) ([]api.Job, error) {
	switch {
	case len(args) > 0 && sel.given():
		return nil, usage("name jobs, or select them", "ids and a selection were both given")
	case len(args) > 0:
		refs, err := a.refs(ctx, c, args)
		if err != nil {
			return nil, err
		}
		return a.getJobs(ctx, c, refs)
	case !sel.given():
		return nil, usage("nanoos ls shows them; @last is the newest", "no job is named")
	}
	sel.list.All = true
	doc, err := sel.collect(ctx, c, a.now())
	return doc.Items, err
}

// watchList shows a list and its changes until interrupted: redrawn on a
// terminal, as changed rows elsewhere.
func (a *app) watchList(ctx context.Context, sel selection) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	if a.opt.output == "yaml" || a.opt.output == "csv" {
		return usage("use -o jsonl", "--watch cannot write %s", a.opt.output)
	}
	s := a.outScreen()
	area := &area{w: a.io.out}
	last := map[job.ID]string{}
	return a.onChange(ctx, c, func() error {
		doc, err := sel.collect(ctx, c, a.now())
		if err != nil {
			return err
		}
		if s.tty && !a.data() {
			s = a.outScreen()
			rows := doc.Items[:min(len(doc.Items), max(s.height-2, 1))]
			return area.draw(strings.Split(strings.TrimRight(renderTable(a.cells(), s, rows, visible(jobColumns(), a.opt.output), true), "\n"), "\n"))
		}
		return a.printChanged(doc.Items, last)
	})
}

// printChanged writes the rows that differ from the last time, oldest first.
func (a *app) printChanged(jobs []api.Job, last map[job.ID]string) error {
	header := len(last) == 0 && !a.opt.noHeaders
	var changed []api.Job
	for _, j := range slices.Backward(jobs) {
		mark := stateWord(&j) + fmt.Sprint(j.Attempt)
		if a.data() && j.Progress != nil {
			mark += j.Progress.At.String()
		}
		if last[j.ID] != mark {
			last[j.ID] = mark
			changed = append(changed, j)
		}
	}
	if len(changed) == 0 {
		return nil
	}
	switch a.opt.output {
	case "json", "jsonl":
		return writeJSONLines(a.io.out, changed)
	case "id":
		return writeIDs(a.io.out, changed, jobID)
	}
	_, err := fmt.Fprint(a.io.out, renderTable(a.cells(), a.outScreen(), changed, visible(jobColumns(), a.opt.output), header))
	return err
}
