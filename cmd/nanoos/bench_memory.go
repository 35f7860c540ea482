package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/job"
)

// memory looks at a real server and a real worker: idle, and with jobs that
// sleep.
func (b *bench) memory(ctx context.Context, place benchPlace) (err error) {
	o := &bed{place: place}
	defer func() { err = errors.Join(err, o.close()) }()
	dir, err := os.MkdirTemp(b.dir, "memory-")
	if err != nil {
		return err
	}
	args := []string{"server", "--data", filepath.Join(dir, "server"), "--listen", "127.0.0.1:0"}
	if place.url != "" {
		url, err := o.scratch(ctx)
		if err != nil {
			return err
		}
		args = append(args, "--database", url)
	}
	server, err := o.spawn(args...)
	if err != nil {
		return err
	}
	url, err := announced(ctx, filepath.Join(dir, "server"))
	if err != nil {
		return err
	}
	worker, err := o.spawn("worker", "--data", filepath.Join(dir, "worker"), "--server", url, "--name", "bench",
		"--cpus", strconv.Itoa(b.opt.asleep), "--memory", strconv.Itoa(b.opt.asleep)+"GiB")
	if err != nil {
		return err
	}
	client := api.NewClient(url, "")
	defer client.Close()
	if err := until(ctx, func() (bool, error) { list, err := client.Workers(ctx); return len(list) > 0, err }); err != nil {
		return fmt.Errorf("wait for the worker: %w", err)
	}
	b.sizes(ctx, place, "idle", server, worker, 60, 30)
	return b.asleep(ctx, place, client, server, worker)
}

// asleep looks again while jobs sleep, and ends them.
func (b *bench) asleep(ctx context.Context, place benchPlace, client *api.Client, server, worker int) (err error) {
	r := api.JobRequest{Engine: "mock", Parameters: json.RawMessage(`{"steps": 1, "step_seconds": 3000}`), Resources: api.ResourcesInput{Memory: memoryEach}}
	defer func() { err = errors.Join(err, cancelAll(context.WithoutCancel(ctx), client)) }()
	for at := 0; at < b.opt.asleep; at += bulk {
		n := min(bulk, b.opt.asleep-at)
		req := api.BulkRequest{}
		for range n {
			req.Jobs = append(req.Jobs, r)
		}
		if _, err := client.SubmitBulk(ctx, req); err != nil {
			return err
		}
	}
	err = until(ctx, func() (bool, error) {
		n, err := running(ctx, client)
		return n >= b.opt.asleep, err
	})
	if err != nil {
		return fmt.Errorf("wait until %d jobs run: %w", b.opt.asleep, err)
	}
	b.sizes(ctx, place, fmt.Sprintf("%d asleep", b.opt.asleep), server, worker, 0, 45)
	return nil
}

// settle is how long a process may take to give back what a start or a burst
// has left.
const settle = 10 * time.Second

// sizes adds what two processes occupy; a bound of 0 is none.
func (b *bench) sizes(ctx context.Context, place benchPlace, when string, server, worker int, serverMost, workerMost float64) {
	select {
	case <-time.After(settle):
	case <-ctx.Done():
	}
	for _, p := range []struct {
		name string
		pid  int
		most float64
	}{{"server", server, serverMost}, {"worker", worker, workerMost}} {
		mb := residentMB(p.pid)
		b.say("  %s, %s: %.0f MB", p.name, when, mb)
		row := benchRow{Name: p.name, About: "resident memory of the process, " + when, Database: place.name, Way: when, Unit: "MB",
			benchNumbers: benchNumbers{N: 1, Value: mb}}
		row.Rounds = []benchNumbers{row.benchNumbers}
		if p.most > 0 {
			row.Goals = []benchGoal{benchGoal{What: "MB", AtMost: p.most}.judge(row.Rounds, nil)}
		}
		b.report.Rows = append(b.report.Rows, row)
	}
}

// residentMB is the memory of a process in millions of bytes, 0 where the kernel
// does not say.
func residentMB(pid int) float64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(raw), "VmRSS:")
	kb, _ := strconv.ParseFloat(strings.Fields(rest + " 0")[0], 64)
	return kb * 1024 / 1e6
}

// spawn starts this program; closing the bed ends it.
func (o *bed) spawn(args ...string) (pid int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	c := exec.Command(self, args...)
	c.Env = append(os.Environ(), "NANOOS_CONFIG="+os.DevNull, "NANOOS_DATABASE=", "DATABASE_URL=", "NANOOS_URL=", "NANOOS_TOKEN=")
	if err := c.Start(); err != nil {
		return 0, fmt.Errorf("start nanoos %s: %w", args[0], err)
	}
	o.ends = append(o.ends, func() error {
		if err := c.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		_ = c.Wait() // it was told to end
		return nil
	})
	return c.Process.Pid, nil
}

// announced waits for a server and returns its address.
func announced(ctx context.Context, dir string) (url string, err error) {
	err = until(ctx, func() (bool, error) {
		raw, err := os.ReadFile(filepath.Join(dir, announcementFile))
		if err != nil {
			return false, nil
		}
		var ad announcement
		err = json.Unmarshal(raw, &ad)
		url = ad.URL
		return true, err
	})
	if err != nil {
		return "", fmt.Errorf("wait for the server: %w", err)
	}
	return url, nil
}

// cancelAll ends every job and waits for that.
func cancelAll(ctx context.Context, client *api.Client) error {
	var ids []string
	for j, err := range client.List(ctx, api.ListQuery{States: []job.State{job.Queued, job.Running}}) {
		if err != nil {
			return err
		}
		ids = append(ids, string(j.ID))
	}
	for _, id := range ids {
		if _, err := client.Cancel(ctx, id, "the measurement is over"); err != nil && job.CodeOf(err) != job.Conflict {
			return err
		}
	}
	return until(ctx, func() (bool, error) {
		n, err := running(ctx, client)
		return n == 0, err
	})
}

// running is how many jobs run.
func running(ctx context.Context, client *api.Client) (n int, err error) {
	queues, err := client.Queues(ctx)
	for _, q := range queues {
		n += int(q.Jobs[job.Running])
	}
	return n, err
}

// untilTimeout bounds how long real processes are waited for.
const untilTimeout = 10 * time.Minute

// until asks again and again.
func until(ctx context.Context, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, untilTimeout)
	defer cancel()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
