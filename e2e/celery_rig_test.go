package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/celery/redistest"
	"github.com/nano-os/nanoos/internal/job"
)

// pythons are the versions of the clients: see scripts/python.sh.
var pythons = []string{"debian", "newest"}

// celeryNode is the name of nanoos among Celery's workers.
const celeryNode = "go1@host9"

// celeryLayout says what a Celery installation under test is like.
type celeryLayout struct {
	python   string // the version of the clients
	cpus     int    // 4 when zero
	env      []string
	options  string // the broker_transport_options of the application, JSON
	database int
	redis    redistest.Options
	// plain runs the mock engine of the binary, which does not count its starts.
	plain bool
}

// celery is a Redis, a nanoos that serves it, and Python clients.
type celery struct {
	t      *testing.T
	layout celeryLayout
	dir    string
	python string // the interpreter
	redis  *redistest.Server
	worker *daemon // the worker under test
	client *api.Client
	second *celery // another server of the same database, if there is one
}

// celeryTasks are the tasks of testdata/celery/simapp.py as jobs.
const celeryTasks = `
simapp.noop: &noop
  engine: mock
  parameters: {steps: 1, step_seconds: 0}
  resources: {cpus: 1, memory: 64MiB}
  retry: {delay: 1s, max_losses: 100}
simapp.other: *noop
simapp.slow: &slow
  engine: mock
  parameters: {steps: 1, step_seconds: "{kwargs.seconds}"}
  resources: {cpus: 1, memory: 64MiB}
  retry: {max: 0, max_losses: 100}
simapp.steps:
  engine: mock
  parameters: {steps: "{kwargs.steps}", step_seconds: "{kwargs.seconds}"}
  resources: {cpus: 1, memory: 64MiB}
simapp.fail:
  engine: mock
  parameters: {steps: 1, step_seconds: 0, fail_at_step: 1}
  resources: {cpus: 1, memory: 64MiB}
  retry: {max: 0}
simapp.flaky:
  engine: mock
  parameters: {steps: 1, step_seconds: 0, fail_at_step: 1, fail_attempts: 1}
  resources: {cpus: 1, memory: 64MiB}
  retry: {max: 3, delay: 1s}
simapp.stubborn:
  engine: mock
  parameters: {steps: 1, step_seconds: "{kwargs.seconds}", ignore_sigterm: true, children: 2}
  resources: {cpus: 1, memory: 64MiB}
  retry: {max: 0}
`

// newCelery starts Redis and nanoos and waits until it serves.
func newCelery(t *testing.T, l celeryLayout) *celery {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: needs real processes; not run with -short")
	}
	l.cpus = cmp.Or(l.cpus, 4)
	l.options = cmp.Or(l.options, "{}")
	c := &celery{t: t, layout: l, dir: dataDir(t), python: interpreter(t, l.python), redis: redistest.Start(t, l.redis)}
	t.Cleanup(c.end)
	env := append([]string{
		"REDIS_URL=" + c.redis.URL(l.database), "NANOOS_CELERY_NODE=" + celeryNode, "NANOOS_CELERY_OPTIONS=" + l.options,
		"NANOOS_CELERY_TASKS=" + c.write("tasks.yaml", celeryTasks), "NANOOS_CELERY_RESULT_EXPIRES=1h"}, l.env...)
	if !l.plain {
		if err := os.Link(journal, filepath.Join(c.dir, "journal")); err != nil {
			t.Fatal(err)
		}
		env = append(env, "NANOOS_CONFIG="+c.write("config.yaml", fmt.Sprintf("programs: {nanoos: %s}\n", filepath.Join(c.dir, "journal"))))
	}
	if l.redis.TLS {
		env = append(env, "SSL_CERT_FILE="+c.redis.CA())
	}
	listen := freeAddr(t)
	c.client = api.NewClient("http://"+listen, "")
	args := []string{"up", "--data", filepath.Join(c.dir, "data"), "--listen", listen, "--cpus", fmt.Sprint(l.cpus), "--memory", "16GiB"}
	c.worker = newDaemon(t, "nanoos", binary, args, env)
	if reference() {
		args := []string{"-m", "celery", "-A", "simapp", "worker", "-n", celeryNode, "-c", fmt.Sprint(l.cpus), "-Q",
			"default,simulations,high_priority,io,dft,md,ml", "--without-gossip", "--without-mingle", "--loglevel", "INFO"}
		c.worker = newDaemon(t, "celery", c.python, args, append(c.environment(), "PYTHONPATH=testdata/celery"))
	}
	c.start()
	return c
}

// newCeleryCluster starts Redis, PostgreSQL, two servers and a worker.
func newCeleryCluster(t *testing.T, python string) *celery {
	t.Helper()
	if reference() {
		t.Skip("SKIPPED: a Python worker has no servers")
	}
	cl := newInstallation(t, layout{})
	c := &celery{t: t, dir: cl.dir, layout: celeryLayout{python: python, options: impatient}, python: interpreter(t, python), redis: redistest.Start(t, redistest.Options{})}
	cl.env = append(cl.env, "REDIS_URL="+c.redis.URL(0), "NANOOS_CELERY_TASKS="+c.write("tasks.yaml", celeryTasks), "NANOOS_CELERY_RESULT_EXPIRES=1h",
		"NANOOS_CELERY_OPTIONS="+impatient)
	second := *c
	common := cl.env
	for i, door := range []*celery{c, &second} {
		cl.env = append(slices.Clip(common), fmt.Sprintf("NANOOS_CELERY_NODE=go%d@host9", i+1))
		s := cl.addServer()
		cl.awaitServer(s)
		door.worker, door.client = s.daemon, s.client
	}
	cl.env = common
	cl.addWorker()
	cl.awaitWorkers(1)
	c.second = &second
	return c
}

// reference reports whether a Python worker takes the place of nanoos.
func reference() bool { return os.Getenv("CELERY_REFERENCE") == "1" }

// interpreter finds the Python of a version of the clients.
func interpreter(t *testing.T, version string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "build", "python", version, "bin", "python"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		const missing = "the Python clients are not installed: run scripts/python.sh"
		if os.Getenv("CI") != "" {
			t.Fatal(missing)
		}
		t.Skip("SKIPPED: " + missing)
	}
	return path
}

// write makes a file of the installation.
func (c *celery) write(name, text string) string {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// environment is that of the Python processes.
func (c *celery) environment() []string {
	broker := c.redis.URL(c.layout.database)
	if c.layout.redis.TLS {
		broker += "?ssl_cert_reqs=required&ssl_ca_certs=" + url.QueryEscape(c.redis.CA())
	}
	return []string{
		"CELERY_BROKER=" + broker, "CELERY_OPTIONS=" + c.layout.options, "CELERY_NODE=" + celeryNode,
		"CELERY_EXECUTED=" + filepath.Join(c.dir, "executed"), "PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1"}
}

// start starts the worker under test and waits until it serves.
func (c *celery) start() {
	c.t.Helper()
	c.worker.start()
	if reference() {
		return // the points wait for its answers
	}
	eventually(c.t, 30*time.Second, "nanoos serves", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		return c.client.Ready(ctx) == nil
	})
}

// end ends the worker and what it runs.
func (c *celery) end() {
	if c.worker != nil {
		c.worker.kill()
	}
	eventually(c.t, 30*time.Second, "the programs of the test have ended", func() bool {
		left := supervisorsOf(c.t, c.dir)
		for _, p := range c.processes() {
			left = append(left, p.PID)
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself
		}
		return len(left) == 0
	})
}

func (c *celery) processes() []process {
	c.t.Helper()
	alive, err := liveProcesses(c.dir)
	if err != nil {
		c.t.Fatal(err)
	}
	return alive
}

// line is what the Python process says: a plan, a request to us, or how a point went.
type line struct {
	Plan  []string        `json:"plan"`
	Ask   string          `json:"ask"`
	Args  json.RawMessage `json:"args"`
	Point string          `json:"point"`
	Error string          `json:"error"`
	Skip  string          `json:"skip"`
	Note  any             `json:"note"`
	Took  float64         `json:"seconds"`
}

// groupTimeout bounds one group of points on a busy machine, and longTimeout one in
// the long form of the tests.
const groupTimeout, longTimeout = 5 * time.Minute, 2 * time.Hour

// run runs the points of a file and makes each a test of its own.
func (c *celery) run(file string, points ...string) {
	c.t.Helper()
	timeout := groupTimeout
	if os.Getenv("CELERY_LONG") != "" {
		timeout = longTimeout
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.python, append([]string{file + ".py"}, points...)...)
	cmd.Dir, cmd.Env = filepath.Join("testdata", "celery"), append(os.Environ(), c.environment()...)
	cmd.WaitDelay = 5 * time.Second
	if reference() {
		cmd.Env = append(cmd.Env, "CELERY_REFERENCE=1")
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	left := c.converse(stdout, stdin)
	if err := cmd.Wait(); err != nil {
		c.t.Errorf("%s: %v", file, err)
	}
	if len(left) > 0 {
		c.t.Errorf("these points of %s were not reached: %q", file, left)
	}
	if c.t.Failed() && stderr.Len() > 0 {
		c.t.Logf("errors of %s:\n%s", file, stderr.String())
	}
}

// converse answers the Python process, and returns the points that it owes.
func (c *celery) converse(stdout io.Reader, stdin io.Writer) []string {
	c.t.Helper()
	left := []string{"(the plan)"}
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			c.t.Logf("python: %s", lines.Text())
			continue
		}
		switch {
		case l.Plan != nil:
			if left = l.Plan; len(left) == 0 {
				c.t.Error("there is no point to run")
			}
		case l.Ask != "":
			answer := map[string]any{}
			value, err := c.answer(l.Ask, l.Args)
			if err != nil {
				answer["error"] = err.Error()
			} else {
				answer["value"] = value
			}
			if err := json.NewEncoder(stdin).Encode(answer); err != nil {
				c.t.Errorf("answer %s: %v", l.Ask, err)
			}
		default:
			left = slices.DeleteFunc(left, func(p string) bool { return p == l.Point })
			c.report(l)
		}
	}
	if err := lines.Err(); err != nil {
		c.t.Errorf("read from python: %v", err)
	}
	return left
}

// report makes a point a test.
func (c *celery) report(l line) {
	c.t.Helper()
	name := strings.TrimPrefix(strings.TrimPrefix(l.Point, "p"), "x_")
	c.t.Run(name, func(t *testing.T) {
		if l.Note != nil {
			t.Logf("%v", l.Note)
		}
		switch {
		case l.Skip != "":
			t.Skip("SKIPPED: " + l.Skip)
		case l.Error != "":
			t.Errorf("after %.1f s: %s", l.Took, l.Error)
		case testing.Verbose():
			t.Logf("%.1f s", l.Took)
		}
	})
}

// answer does what a point asks for.
func (c *celery) answer(ask string, raw json.RawMessage) (any, error) {
	var args struct {
		Seconds  float64  `json:"seconds"`
		Task     string   `json:"task"`
		Command  []string `json:"command"`
		Password string   `json:"password"`
	}
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, err
	}
	switch ask {
	case "start":
		c.start()
	case "kill":
		c.worker.kill()
	case "stop": // returns how long it took
		began := time.Now()
		c.worker.stop()
		return time.Since(began).Seconds(), nil
	case "expect_end": // it was told to end in another way
		c.worker.mu.Lock()
		defer c.worker.mu.Unlock()
		c.worker.told = true
	case "exit": // waits for an end by itself and returns the error, if any
		select {
		case <-c.worker.signal(0):
		case <-time.After(time.Duration(args.Seconds * float64(time.Second))):
			return nil, fmt.Errorf("the worker still runs after %v s", args.Seconds)
		}
		c.worker.mu.Lock()
		defer c.worker.mu.Unlock()
		if c.worker.err != nil {
			return c.worker.err.Error(), nil
		}
	case "swap": // makes the other server the worker under test
		c.worker, c.client, c.second.worker, c.second.client = c.second.worker, c.second.client, c.worker, c.client
	case "redis": // sends a command, with another password if one is given
		return c.redis.TryAs(cmp.Or(args.Password, c.layout.redis.Password), c.layout.database, args.Command...)
	case "redis_freeze":
		c.redis.Freeze(c.t)
	case "redis_thaw":
		c.redis.Thaw(c.t)
	case "redis_kill":
		c.redis.Kill(c.t)
	case "redis_lose":
		c.redis.Lose(c.t)
	case "redis_restart":
		c.redis.Restart(c.t)
	case "processes":
		return c.processesOf(args.Task)
	case "programs":
		return len(c.processes()), nil
	case "memory": // resident, KiB
		return c.resident()
	case "log":
		return c.worker.log.tail(1 << 20), nil
	case "health":
		return c.health()
	case "jobs":
		return c.jobs()
	case "executions":
		return c.executions()
	case "starts":
		starts, err := readStarts(filepath.Join(c.dir, "starts"))
		return len(starts), err
	default:
		return nil, fmt.Errorf("nobody knows how to %s", ask)
	}
	return nil, nil
}

// resident is the memory of the worker under test, KiB.
func (c *celery) resident() (n int, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.worker.pid()))
	if err != nil {
		return 0, err
	}
	for l := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(l, "VmRSS:"); ok {
			_, err := fmt.Sscan(rest, &n)
			return n, err
		}
	}
	return 0, fmt.Errorf("no VmRSS of %d", c.worker.pid())
}

// health is what anybody may ask a server.
func (c *celery) health() (h api.Health, err error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.client.URL()+"/readyz", nil)
	if err != nil {
		return h, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return h, err
	}
	defer response.Body.Close()
	return h, json.NewDecoder(response.Body).Decode(&h)
}

// processesOf counts the processes that run for a task.
func (c *celery) processesOf(task string) (n int, err error) {
	for j, err := range c.client.List(c.t.Context(), api.ListQuery{All: true}) {
		if err != nil {
			return 0, err
		}
		if j.Key != "celery:"+task {
			continue
		}
		for _, p := range c.processes() {
			n += boolInt(p.Job == j.ID)
		}
	}
	return n, nil
}

// executions counts the programs that were started by task.
func (c *celery) executions() (map[string]int, error) {
	starts, err := readStarts(filepath.Join(c.dir, "starts"))
	if err != nil {
		return nil, err
	}
	byJob := map[job.ID]int{}
	for _, s := range starts {
		byJob[s.Job]++
	}
	count := map[string]int{}
	for j, err := range c.client.List(c.t.Context(), api.ListQuery{All: true}) {
		if err != nil {
			return nil, err
		}
		if task, ok := strings.CutPrefix(j.Key, "celery:"); ok {
			count[task] += byJob[j.ID]
		}
	}
	return count, nil
}

// jobs counts the jobs of nanoos by state.
func (c *celery) jobs() (map[job.State]int, error) {
	count := map[job.State]int{}
	for j, err := range c.client.List(c.t.Context(), api.ListQuery{All: true}) {
		if err != nil {
			return nil, err
		}
		count[j.State]++
	}
	return count, nil
}
