package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sync"

	"github.com/spf13/cobra"

	"github.com/nano-os/nanoos/internal/api"
)

func newLogsCommand(a *app) *cobra.Command {
	var q api.LogQuery
	var grep string
	cmd := &cobra.Command{
		Use:   "logs JOB…",
		Short: "Show what the program of a job printed.",
		Long: `With --follow it waits for a job that has not started, survives the loss of the
connection without gaps or repeats, follows into the next attempt, and ends when the job ends.`,
		Example: `nanoos logs -f @last
nanoos logs si-relax --tail 50 --stream stderr
nanoos logs 3f9a11c2 --grep '^!'`,
		Args: minArgs(1, "a job"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.logs(cmd.Context(), args, q, grep) },
	}
	f := cmd.Flags()
	f.BoolVarP(&q.Follow, "follow", "f", false, "go on until the job ends")
	f.StringVar(&q.Stream, "stream", "stdout", "`NAME` of the stream: stdout or stderr")
	f.IntVar(&q.Attempt, "attempt", 0, "`NUMBER` of the attempt, instead of the last")
	f.IntVar(&q.Tail, "tail", 0, "only the last `LINES`")
	f.StringVar(&grep, "grep", "", "only lines that match the regular `EXPRESSION`")
	group(cmd, "Log", "follow", "stream", "attempt", "tail", "grep")
	_ = cmd.RegisterFlagCompletionFunc("stream", cobra.FixedCompletions([]string{"stdout", "stderr"}, cobra.ShellCompDirectiveNoFileComp))
	a.completeJobs(cmd)
	return cmd
}

func (a *app) logs(ctx context.Context, args []string, q api.LogQuery, grep string) error {
	if q.Stream != "stdout" && q.Stream != "stderr" {
		return usage("--stream stdout, or --stream stderr", "there is no stream %q", q.Stream)
	}
	if q.Tail < 0 || q.Attempt < 0 {
		return usage("give a number above 0", "--tail and --attempt cannot be negative")
	}
	var pattern *regexp.Regexp
	if grep != "" {
		var err error
		if pattern, err = regexp.Compile(grep); err != nil {
			return usage("see https://pkg.go.dev/regexp/syntax", "--grep is no regular expression: %v", err)
		}
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	refs, err := a.refs(ctx, c, args)
	if err != nil {
		return err
	}
	if len(refs) == 1 {
		return a.streamLog(ctx, c, refs[0], q, lineWriter{w: a.io.out, pattern: pattern, tame: a.outScreen().tty})
	}
	jobs, getErr := a.getJobs(ctx, c, refs)
	return partly(len(jobs), errors.Join(getErr, a.manyLogs(ctx, c, jobs, q, pattern)))
}

// manyLogs writes the logs of several jobs, each line with the job's id before
// it: one after the other, or as they grow.
func (a *app) manyLogs(ctx context.Context, c *api.Client, jobs []api.Job, q api.LogQuery, pattern *regexp.Regexp) error {
	tones := []tone{cyan, green, yellow, blue, red}
	s := a.outScreen()
	var mu sync.Mutex
	var wg sync.WaitGroup
	errs := make([]error, len(jobs))
	for i, j := range jobs {
		w := lineWriter{w: a.io.out, pattern: pattern, tame: s.tty, mu: &mu, prefix: s.paint(tones[i%len(tones)], "["+shortID(j.ID)+"]") + " "}
		one := func() { errs[i] = a.streamLog(ctx, c, string(j.ID), q, w) }
		if q.Follow {
			wg.Go(one)
		} else {
			one()
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (a *app) streamLog(ctx context.Context, c *api.Client, ref string, q api.LogQuery, w lineWriter) error {
	r, err := c.Logs(ctx, ref, q)
	if err != nil {
		return err
	}
	defer r.Close()
	if w.plain() {
		_, err = io.Copy(w.w, r)
	} else {
		err = w.copy(r)
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// lineWriter passes text on line by line, with a prefix, a pattern, and on a
// terminal without the control characters that could take it over.
type lineWriter struct {
	w       io.Writer
	prefix  string
	pattern *regexp.Regexp
	tame    bool
	mu      *sync.Mutex // of several writers on one stream
}

// plain reports whether bytes can be passed on as they are.
func (l lineWriter) plain() bool { return l.prefix == "" && l.pattern == nil && !l.tame }

func (l lineWriter) copy(r io.Reader) error {
	br := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := br.ReadSlice('\n')
		if len(line) > 0 {
			if err := l.line(line); err != nil {
				return err
			}
		}
		// A line longer than the buffer comes in pieces.
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

func (l lineWriter) line(line []byte) error {
	if l.pattern != nil && !l.pattern.Match(line) {
		return nil
	}
	text, end := string(line), ""
	if n := len(text); n > 0 && text[n-1] == '\n' {
		text, end = text[:n-1], "\n"
	}
	if l.tame {
		text = tame(text)
	}
	if l.mu != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
	}
	_, err := fmt.Fprint(l.w, l.prefix, text, end)
	return err
}

// tame is oneLine that keeps tabs.
func tame(s string) string {
	out := []rune(s)
	for i, r := range out {
		if r != '\t' && (r < ' ' || r == 0x7f || 0x80 <= r && r < 0xa0) {
			out[i] = ' '
		}
	}
	return string(out)
}
