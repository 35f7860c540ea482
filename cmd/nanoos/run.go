package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/job"
)

func newRunCommand(a *app) *cobra.Command {
	var jf jobFlags
	var o waitOptions
	cmd := &cobra.Command{
		Use:   "run FILE…",
		Short: "Run a job file or input deck from start to end, and print the result.",
		Long: `Uses the server that runs, or starts one for itself. Ctrl-C stops following, not the simulation;
the same command again goes on following it. Exit codes are those of nanoos wait.`,
		Example: `nanoos run examples/silicon/scf.yaml
nanoos run examples/silicon/scf.yaml -o json | jq .summary.energy_eV
nanoos run in.lammps --cores 2 --set temperature=300`,
		Args: minArgs(1, "a job file or an input deck"),
		RunE: func(cmd *cobra.Command, args []string) error {
			drafts, err := a.drafts(args, &jf)
			if err != nil {
				return err
			}
			return a.run(cmd.Context(), drafts, o)
		},
	}
	jf.add(a, cmd)
	cmd.Flags().BoolVar(&o.converged, "require-converged", false, "exit with 13 if it did not converge")
	addProgressFlag(cmd, &o.progress)
	group(cmd, "Waiting", "require-converged", "progress")
	return cmd
}

// runLabel marks the jobs of a private server, so that the same command finds
// again what it had started.
const runLabel = "nanoos.run"

func (a *app) run(ctx context.Context, drafts []*draft, o waitOptions) error {
	server, err := a.runServer(ctx)
	if err != nil {
		return err
	}
	defer func() { server.stop() }()
	var jobs []api.Job
	for _, d := range drafts {
		j, err := a.startOrRejoin(ctx, server, d)
		if err != nil {
			return err
		}
		jobs = append(jobs, j)
	}
	f := newFollower(server.c, jobs)
	v, err := a.newView(o.progress)
	if err != nil {
		return err
	}
	for {
		err = f.run(ctx, v, func() bool { return f.allEnded() || f.away && server.borrowed })
		if err != nil || f.allEnded() {
			break
		}
		// The command whose server this was has ended; its jobs go on.
		if server, err = a.succeed(ctx); err != nil {
			break
		}
		f.c, f.away = server.c, false
	}
	v.close()
	if err != nil && ctx.Err() != nil {
		a.noteLeft(f.copies(), server.private)
		return quietExit(exitInterrupted)
	}
	if err != nil {
		return err
	}
	last := f.copies()
	if err := a.showRuns(ctx, server.c, last); err != nil {
		return err
	}
	return exitWith(outcome(last, o.converged))
}

// runServer is a server that run uses.
type runServer struct {
	c        *api.Client
	private  bool // it lives only as long as a command that runs jobs
	borrowed bool // that command is another one
	stop     func()
}

// runServer is the server that runs, or that of another run, or one of our own
// in this process.
func (a *app) runServer(ctx context.Context) (runServer, error) {
	s := runServer{stop: func() {}}
	var err error
	if s.c, err = a.client(); err == nil {
		_, err = s.c.Version(ctx)
	}
	if err == nil {
		return s, nil
	}
	if job.CodeOf(err) != job.Unavailable || a.opt.url != "" || a.getenv("NANOOS_URL") != "" {
		return s, err
	}
	cfg, err := loadConfig(a.getenv)
	if err != nil {
		return s, err
	}
	s.private = true
	dir := filepath.Join(cfg.Data, "run")
	if info, err := readAnnouncement(filepath.Join(dir, announcementFile)); err == nil {
		s.c = api.NewClient(info.URL, "")
		if _, err := s.c.Version(ctx); err == nil {
			s.borrowed = true
			return s, nil
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return s, fmt.Errorf("make the data directory: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(dir, "server.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return s, fmt.Errorf("open the log of the embedded server: %w", err)
	}
	url, stop, err := startEmbedded(ctx, dir, log)
	if err != nil {
		log.Close()
		return s, err
	}
	s.c, s.stop = api.NewClient(url, ""), func() { stop(); log.Close() }
	return s, nil
}

// succeed finds a server again after the one that was borrowed has gone. For a
// moment that one may still hold the database.
func (a *app) succeed(ctx context.Context) (s runServer, err error) {
	const tries, pause = 50, 200 * time.Millisecond
	for range tries {
		if s, err = a.runServer(ctx); err == nil {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return runServer{stop: func() {}, private: true}, context.Cause(ctx)
		case <-time.After(pause):
		}
	}
	return s, err
}

// startOrRejoin submits a draft; on a private server it first looks for the
// same job, still going on since an earlier command was interrupted.
func (a *app) startOrRejoin(ctx context.Context, server runServer, d *draft) (api.Job, error) {
	c := server.c
	if !server.private {
		return a.submitOne(ctx, c, d)
	}
	digest, err := d.digest()
	if err != nil {
		return api.Job{}, err
	}
	page, err := c.Page(ctx, api.ListQuery{States: []job.State{job.Pending, job.Queued, job.Running}, Labels: map[string]string{runLabel: digest}, Limit: 1})
	if err != nil {
		return api.Job{}, err
	}
	if len(page.Items) == 1 {
		a.note("going on with %s, started %s", shortID(page.Items[0].ID), ago(a.now().Sub(page.Items[0].CreatedAt)))
		return page.Items[0], nil
	}
	if d.request.Labels == nil {
		d.request.Labels = map[string]string{}
	}
	d.request.Labels[runLabel] = digest
	return a.submitOne(ctx, c, d)
}

// digest is equal for drafts that are the same job.
func (d *draft) digest() (string, error) {
	h := sha256.New()
	raw, err := json.Marshal(d.request)
	if err != nil {
		return "", fmt.Errorf("encode the job: %w", err)
	}
	h.Write(raw)
	for _, u := range d.uploads {
		fmt.Fprintf(h, "\n%s %d\n", u.name, u.size)
		if u.text != nil {
			h.Write(u.text)
			continue
		}
		f, err := os.Open(u.path)
		if err != nil {
			return "", unreadable(u.path, err)
		}
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil {
			return "", unreadable(u.path, err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}

// noteLeft says what happens to jobs that are no longer followed.
func (a *app) noteLeft(jobs []api.Job, private bool) {
	open := 0
	for i := range jobs {
		if !ended(&jobs[i]) {
			open++
		}
	}
	switch {
	case open == 0:
	case private:
		a.note("stopped following; what has started goes on without us. The same command again goes on following it.")
	default:
		a.note("stopped following; the server goes on with it: nanoos wait %s", idList(jobs))
	}
}

// runDocument is a job with everything that is known of its result.
type runDocument struct {
	api.Job
	Series     []engine.Series   `json:"series,omitempty"`
	Structures engine.Structures `json:"structures,omitzero"`
	Outcome    engine.Outcome    `json:"outcome,omitempty"`
	RunWarning []engine.Warning  `json:"run_warnings,omitempty"`
	Provenance engine.Provenance `json:"provenance,omitzero"`
	Kept       []engine.KeptFile `json:"kept_files,omitempty"`
}

func (a *app) showRuns(ctx context.Context, c *api.Client, jobs []api.Job) error {
	if !a.data() {
		for i := range jobs {
			if i > 0 {
				fmt.Fprintln(a.io.out)
			}
			if err := a.showRun(ctx, c, &jobs[i], len(jobs) == 1); err != nil {
				return err
			}
		}
		return nil
	}
	docs := make([]runDocument, len(jobs))
	for i, j := range jobs {
		docs[i].Job = j
		r, err := c.Result(ctx, string(j.ID))
		if job.CodeOf(err) == job.NotFound || job.CodeOf(err) == job.Conflict {
			continue // it ended without one
		}
		if err != nil {
			return err
		}
		docs[i].Series, docs[i].Structures, docs[i].Outcome = r.Series, r.Structures, r.Outcome
		docs[i].RunWarning, docs[i].Provenance, docs[i].Kept = r.Warnings, r.Provenance, r.Files
	}
	var doc any = docs[0]
	if len(docs) > 1 {
		doc = struct {
			APIVersion string        `json:"apiVersion"`
			Kind       string        `json:"kind"`
			Items      []runDocument `json:"items"`
			Total      int           `json:"total"`
		}{api.Version, "JobList", docs, len(docs)}
	}
	var columns []column[runDocument]
	for _, col := range jobColumns() {
		columns = append(columns, column[runDocument]{name: col.name, cell: func(c *cells, d *runDocument) string { return col.cell(c, &d.Job) }})
	}
	columns = append(columns, column[runDocument]{name: "energy_ev", cell: func(c *cells, d *runDocument) string {
		if d.Summary == nil || d.Summary.EnergyEV == nil {
			return c.missing()
		}
		return trimZeros(*d.Summary.EnergyEV)
	}})
	return show(a, listing[runDocument]{doc: doc, rows: docs, columns: columns, id: func(d *runDocument) string { return string(d.ID) }})
}

// showRun prints how a run ended: state, verdict, numbers, failure, and where
// there is room for it one plot.
func (a *app) showRun(ctx context.Context, c *api.Client, j *api.Job, room bool) error {
	s, cl := a.outScreen(), a.cells()
	r, err := c.Result(ctx, string(j.ID))
	hasResult := err == nil
	if err != nil && !errors.Is(ctx.Err(), context.Canceled) && job.CodeOf(err) != job.NotFound && job.CodeOf(err) != job.Conflict {
		return err
	}
	var b strings.Builder
	fields := []field{
		{name: "job", value: strings.TrimSpace(jobName(j) + "  " + shortID(j.ID))},
		{name: "state", value: stateWord(j), tone: stateTone(j)},
		{name: "verdict", value: verdictWords(j.State, j.Verdict), tone: verdictTone(j.Verdict)},
	}
	if j.State != job.Completed && j.Message != "" && j.Failure == nil {
		fields = append(fields, field{name: "message", value: j.Message})
	}
	if d := cl.ranFor(j); d > 0 {
		took := long(d)
		if j.Attempt > 1 {
			took += fmt.Sprintf(", attempt %d", j.Attempt)
		}
		fields = append(fields, field{name: "took", value: took})
	}
	summary := j.Summary
	if summary == nil && hasResult {
		summary = &r.Summary
	}
	b.WriteString(renderFields(s, append(fields, cl.summaryFields(summary)...)))
	if hasResult {
		if title, x, y := leadingSeries(r.Series); title != "" && s.tty && room {
			fmt.Fprintf(&b, "\n%s\n%s", s.paint(bold, title), plot(s, x, y, min(s.width, 100), 8))
		}
	}
	writeFailure(&b, s, j.Failure)
	if _, err := io.WriteString(a.io.out, b.String()); err != nil {
		return err
	}
	if hasResult {
		a.warn(r.Warnings)
	}
	return nil
}

func (a *app) warn(warnings []engine.Warning) {
	if !a.opt.quiet {
		writeWarnings(a.io.err, a.errScreen(), warnings)
	}
}
