package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
)

// client is the client of the server that the flags, the environment or the
// running default name, in this order.
func (a *app) client() (*api.Client, error) {
	token := a.getenv("NANOOS_TOKEN")
	if urls, err := serverURLs(listOf(orDefault(a.opt.url, a.getenv("NANOOS_URL")))); err == nil {
		return firstThatAnswers(urls, token), nil
	}
	info, path, err := a.runningServer()
	if err != nil {
		return nil, &job.Error{Code: job.Unavailable, Message: "no server is known",
			Why: "neither --url nor NANOOS_URL is set, and " + path + " " + missingOr(err),
			Fix: "start one with: nanoos up", Err: err}
	}
	if token == "" && info.TokenFile != "" {
		raw, err := os.ReadFile(info.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("read the token of the running server: %w", err)
		}
		token = strings.TrimSpace(string(raw))
	}
	return api.NewClient(info.URL, token), nil
}

// firstThatAnswers is a client of the first of several servers that is there,
// or of the first one if none is: its error then says why.
func firstThatAnswers(urls []string, token string) *api.Client {
	first := api.NewClient(urls[0], token)
	if len(urls) == 1 {
		return first
	}
	for _, u := range urls {
		c := api.NewClient(u, token)
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		err := c.Ready(ctx)
		cancel()
		if err == nil {
			return c
		}
		c.Close()
	}
	return first
}

func missingOr(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "does not exist"
	}
	return "cannot be read: " + plainError(err)
}

// runningServer reads what the server of this person on this machine has said
// of itself.
func (a *app) runningServer() (info announcement, path string, err error) {
	cfg, err := loadConfig(a.getenv)
	if err != nil {
		return info, "the configuration", err
	}
	path = filepath.Join(cfg.Data, announcementFile)
	info, err = readAnnouncement(path)
	return info, path, err
}

func readAnnouncement(path string) (info announcement, err error) {
	raw, err := readBounded(path, 64<<10)
	if err != nil {
		return info, err
	}
	if err := json.Unmarshal(raw, &info); err != nil {
		return info, fmt.Errorf("read %s: %w", path, err)
	}
	return info, nil
}

// recentJobs are the newest jobs, ended ones too.
func (a *app) recentJobs(ctx context.Context, n int) ([]api.Job, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	page, err := c.Page(ctx, api.ListQuery{All: true, Limit: n})
	return page.Items, err
}

func (a *app) queues(ctx context.Context) ([]api.QueueInfo, error) {
	c, err := a.client()
	if err != nil {
		return nil, err
	}
	return c.Queues(ctx)
}

// refs are the references that a person gave: arguments, and with "-" the
// lines of standard input. "@last-2" is the second before the newest.
func (a *app) refs(ctx context.Context, c *api.Client, args []string) ([]string, error) {
	var out []string
	for _, arg := range args {
		switch {
		case arg == "-":
			sc := bufio.NewScanner(a.io.in)
			for sc.Scan() {
				if line := strings.TrimSpace(sc.Text()); line != "" {
					out = append(out, line)
				}
			}
			if err := sc.Err(); err != nil {
				return nil, fmt.Errorf("read ids from standard input: %w", err)
			}
		case arg == "@last" || strings.HasPrefix(arg, "@last-"):
			id, err := nthLast(ctx, c, arg)
			if err != nil {
				return nil, err
			}
			out = append(out, id)
		default:
			out = append(out, arg)
		}
	}
	return out, nil
}

func nthLast(ctx context.Context, c *api.Client, arg string) (string, error) {
	n := 0
	if rest, ok := strings.CutPrefix(arg, "@last-"); ok {
		var err error
		if n, err = strconv.Atoi(rest); err != nil || n < 0 || n > 400 {
			return "", usage("@last, or @last-1 … @last-400", "%s names no job", arg)
		}
	}
	page, err := c.Page(ctx, api.ListQuery{All: true, Limit: n + 1})
	if err != nil {
		return "", err
	}
	if len(page.Items) <= n {
		return "", &job.Error{Code: job.NotFound, Message: "there is no job " + arg,
			Why: fmt.Sprintf("there are %d jobs", len(page.Items)), Fix: "submit one with: nanoos submit FILE"}
	}
	return string(page.Items[n].ID), nil
}

// getJobs fetches jobs by reference. Those that cannot be had are reported one
// by one; err is the first of them.
func (a *app) getJobs(ctx context.Context, c *api.Client, refs []string) (jobs []api.Job, err error) {
	seen := map[job.ID]bool{}
	for _, ref := range refs {
		j, getErr := c.Get(ctx, ref)
		if getErr != nil {
			if len(refs) == 1 || job.CodeOf(getErr) == job.Unavailable || ctx.Err() != nil {
				return jobs, getErr
			}
			a.report(getErr)
			err = errors.Join(err, getErr)
			continue
		}
		if !seen[j.ID] {
			seen[j.ID] = true
			jobs = append(jobs, j)
		}
	}
	return jobs, err
}

// partly is the exit of a command over several items of which some failed;
// the failures have been reported.
func partly(done int, err error) error {
	switch {
	case err == nil:
		return nil
	case done > 0:
		return quietExit(exitPartly)
	}
	return quietExit(exitCode(firstOf(err)))
}

func firstOf(err error) error {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()[0]
	}
	return err
}
