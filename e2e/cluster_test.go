package e2e

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/faultproxy"
	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store/postgres/pgtest"
)

// Times of a cluster under test: everything that takes minutes in production
// takes seconds here.
const (
	session   = 2 * time.Second
	lostAfter = 4 * time.Second
	sweep     = 500 * time.Millisecond
	beat      = 500 * time.Millisecond
)

// layout says what a cluster consists of.
type layout struct {
	servers, workers int
	// cpus of each worker; 4 when zero.
	cpus int
	// lostAfter of the servers; the constant when zero.
	lostAfter time.Duration
	// private PostgreSQL for tests that harm it; the others share one.
	private bool
	// postgresEnv is added to the environment of a private PostgreSQL.
	postgresEnv []string
	// serverArgs and workerArgs are added to every command line.
	serverArgs, workerArgs []string
}

// cluster is PostgreSQL, servers and workers, all real, on loopback: with a fault
// proxy between each server and the database, and between each worker and each
// server.
type cluster struct {
	t       *testing.T
	dir     string
	layout  layout
	db      *pgtest.Cluster
	dbURL   string
	servers []*server
	workers []*workerHost
	env     []string // of every process
	// unbroken are jobs that must be one attempt from the first to the last step.
	unbroken []job.ID

	mu          sync.Mutex
	submissions []submission // guarded by mu
	cancels     []job.ID     // guarded by mu
	retries     map[job.ID]int
}

type server struct {
	*daemon
	data   string
	listen string
	link   *faultproxy.Proxy // to the database
	client *api.Client
	token  string // empty on loopback
}

type workerHost struct {
	*daemon
	data  string
	links []*faultproxy.Proxy // to each server
}

// sharedPostgres serves the tests that leave their database alone.
var sharedPostgres = pgtest.Shared{Options: pgtest.Options{Durable: true}} // nanoos refuses any other

// newCluster starts a cluster and waits until it serves.
func newCluster(t *testing.T, l layout) *cluster {
	t.Helper()
	c := newInstallation(t, l)
	for range l.servers {
		c.addServer()
	}
	for _, s := range c.servers {
		c.awaitServer(s)
	}
	for range l.workers {
		c.addWorker()
	}
	c.awaitWorkers(l.workers)
	return c
}

// newInstallation is a database and a directory, without any process of ours.
func newInstallation(t *testing.T, l layout) *cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: needs real processes; not run with -short")
	}
	l.cpus = cmp.Or(l.cpus, 4)
	l.lostAfter = cmp.Or(l.lostAfter, lostAfter)
	c := &cluster{t: t, dir: dataDir(t), layout: l, retries: map[job.ID]int{}}
	if l.private {
		c.db = pgtest.Start(t, pgtest.Options{Durable: true, Env: l.postgresEnv})
	} else {
		c.db = sharedPostgres.Get(t)
	}
	c.dbURL = c.db.CreateDB(t)
	c.env = []string{"NANOOS_CONFIG=" + c.configure()}
	t.Cleanup(c.end)
	return c
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// configure installs the program that writes the start journal.
func (c *cluster) configure() string {
	c.t.Helper()
	program := filepath.Join(c.dir, "journal")
	if err := os.Link(journal, program); err != nil {
		c.t.Fatal(err)
	}
	file := filepath.Join(c.dir, "config.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "programs: {nanoos: %s}\n", program), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return file
}

func (c *cluster) proxy(target string) *faultproxy.Proxy {
	c.t.Helper()
	p, err := faultproxy.Start(target)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(p.Close)
	return p
}

// addServer starts one more server.
func (c *cluster) addServer() *server {
	c.t.Helper()
	link := c.proxy(c.db.Addr())
	address, err := url.Parse(c.dbURL)
	if err != nil {
		c.t.Fatal(err)
	}
	address.Host = link.Addr()
	s := c.newServer(address.String(), freeAddr(c.t))
	s.link = link
	s.client = api.NewClient("http://"+s.listen, "")
	s.start()
	return s
}

// newServer prepares a server on a database.
func (c *cluster) newServer(database, listen string, more ...string) *server {
	name := fmt.Sprintf("server%d", len(c.servers)+1)
	s := &server{data: filepath.Join(c.dir, name), listen: listen}
	args := slices.Concat([]string{"server", "--listen", listen, "--artifacts", filepath.Join(c.dir, "artifacts"), "--data", s.data,
		"--session", session.String(), "--lost-after", c.layout.lostAfter.String(), "--sweep", sweep.String()}, c.layout.serverArgs, more)
	s.daemon = newDaemon(c.t, name, binary, args, append(c.env, "DATABASE_URL="+database))
	c.servers = append(c.servers, s)
	return s
}

// addWorker starts one more worker, a host of its own.
func (c *cluster) addWorker(args ...string) *workerHost {
	c.t.Helper()
	var links []*faultproxy.Proxy
	var urls []string
	for _, s := range c.servers {
		link := c.proxy(s.listen)
		links = append(links, link)
		urls = append(urls, "http://"+link.Addr())
	}
	w := c.newWorker(urls, args...)
	w.links = links
	w.start()
	return w
}

// newWorker prepares a worker with a data directory and a host id of its own.
func (c *cluster) newWorker(urls []string, more ...string) *workerHost {
	name := fmt.Sprintf("worker%d", len(c.workers)+1)
	w := &workerHost{data: filepath.Join(c.dir, name)}
	args := slices.Concat([]string{"worker", "--server", strings.Join(urls, ","), "--data", w.data, "--name", name,
		"--cpus", fmt.Sprint(c.layout.cpus), "--memory", "16GiB", "--beat", beat.String()}, c.layout.workerArgs, more)
	w.daemon = newDaemon(c.t, name, binary, args, c.env)
	w.started = func(pid int) {
		if err := os.MkdirAll(w.data, 0o700); err != nil {
			c.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(w.data, "worker.pid"), fmt.Append(nil, pid), 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
	c.workers = append(c.workers, w)
	return w
}

// cut separates a worker from all servers; heal undoes it.
func (w *workerHost) cut() {
	for _, l := range w.links {
		l.Blackhole()
	}
}

func (w *workerHost) heal() {
	for _, l := range w.links {
		l.Cut()
		l.Heal()
	}
}

// freeAddr chooses a loopback port below the range of outgoing connections, so
// that a server finds it free again after a restart.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 200 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))
		if l, err := net.Listen("tcp", addr); err == nil {
			_ = l.Close()
			return addr
		}
	}
	t.Fatal("there is no free port")
	return ""
}

func (c *cluster) awaitServer(s *server) {
	c.t.Helper()
	eventually(c.t, 30*time.Second, s.name+" serves", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		return s.client.Ready(ctx) == nil
	})
}

// awaitWorkers waits until so many workers are online.
func (c *cluster) awaitWorkers(n int) {
	c.t.Helper()
	eventually(c.t, 30*time.Second, fmt.Sprintf("%d workers are online", n), func() bool {
		online := 0
		for _, w := range ask(c, (*api.Client).Workers) {
			online += boolInt(w.State == "online")
		}
		return online >= n
	})
}

// end heals everything, ends what runs and takes the cluster down.
func (c *cluster) end() {
	for _, w := range c.workers {
		for _, l := range w.links {
			l.Heal()
		}
		w.thaw()
	}
	for _, s := range c.servers {
		if s.link != nil {
			s.link.Heal()
		}
		s.thaw()
	}
	for _, w := range c.workers {
		w.kill()
	}
	// Programs outlive their workers: that is the product, and not for a test.
	eventually(c.t, 30*time.Second, "the programs of the test have ended", func() bool {
		alive, err := liveProcesses(c.dir)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, p := range alive {
			_ = syscall.Kill(p.PID, syscall.SIGKILL) // it may have ended by itself
		}
		left := supervisorsOf(c.t, c.dir)
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL) // likewise
		}
		return len(alive)+len(left) == 0
	})
	for _, s := range c.servers {
		s.kill()
	}
}

// ask asks one server after another until one answers. It is for questions that
// must be answered in the end, whatever fails meanwhile.
func ask[T any](c *cluster, do func(*api.Client, context.Context) (T, error)) T {
	c.t.Helper()
	var last error
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); wait(context.Background(), 50*time.Millisecond) {
		for _, s := range c.servers {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			answer, err := do(s.client, ctx)
			cancel()
			if err == nil {
				return answer
			}
			if last = err; job.CodeOf(err) != job.Unavailable && !errors.Is(err, context.DeadlineExceeded) {
				c.t.Fatalf("%s: %v", s.name, err)
			}
		}
	}
	c.t.Fatalf("no server answers: %v", last)
	panic("unreachable")
}

// submit sends a job of the mock engine under a key of its own, again and again
// until a server answers, and writes down what it was told. want is how the job
// must end, "" for any end.
func (c *cluster) submit(params string, want job.State, change ...func(*api.JobRequest)) job.ID {
	c.t.Helper()
	r := api.JobRequest{Engine: "mock", Parameters: json.RawMessage(params), Key: crand.Text(),
		Resources: api.ResourcesInput{CPUs: 1, Memory: 64 << 20}, Retry: soon()}
	for _, f := range change {
		f(&r)
	}
	j := ask(c, func(s *api.Client, ctx context.Context) (api.Job, error) {
		j, _, err := s.Submit(ctx, r)
		return j, err
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.submissions = append(c.submissions, submission{Key: r.Key, ID: j.ID, Answer: accepted, Want: want})
	return j.ID
}

// soon tries again after a second, and after many losses.
func soon() *api.RetryInput {
	return &api.RetryInput{Delay: new(job.Duration(time.Second)), MaxLosses: new(20)}
}

func (c *cluster) cancel(id job.ID) {
	c.t.Helper()
	ask(c, func(s *api.Client, ctx context.Context) (api.Job, error) {
		j, err := s.Cancel(ctx, string(id), "the test says so")
		if err == nil {
			c.mu.Lock()
			c.cancels = append(c.cancels, id)
			c.mu.Unlock()
		}
		if job.CodeOf(err) == job.Conflict { // it had ended
			err = nil
		}
		return j, err
	})
}

func (c *cluster) get(id job.ID) api.Job {
	c.t.Helper()
	return ask(c, func(s *api.Client, ctx context.Context) (api.Job, error) { return s.Get(ctx, string(id)) })
}

// running waits until a job's program runs.
func (c *cluster) running(id job.ID) api.Job {
	c.t.Helper()
	var j api.Job
	eventually(c.t, 60*time.Second, fmt.Sprintf("job %s runs", id), func() bool {
		j = c.get(id)
		return j.State == job.Running && len(processesOf(c.t, id)) > 0
	})
	return j
}

// ended waits until a job has ended.
func (c *cluster) ended(id job.ID) api.Job {
	c.t.Helper()
	var j api.Job
	eventually(c.t, 120*time.Second, fmt.Sprintf("job %s ends", id), func() bool {
		j = c.get(id)
		return j.State.Terminal()
	})
	return j
}

// host returns the worker that runs a job.
func (c *cluster) host(j api.Job) *workerHost {
	c.t.Helper()
	i := slices.IndexFunc(c.workers, func(w *workerHost) bool { return w.name == j.Worker })
	if i < 0 {
		c.t.Fatalf("job %s is on %q, which is no worker of this test", j.ID, j.Worker)
	}
	return c.workers[i]
}

// settled waits until nothing is left to do: every job has ended or is held.
func (c *cluster) settled(within time.Duration) {
	c.t.Helper()
	for deadline := time.Now().Add(within); ; wait(context.Background(), 50*time.Millisecond) {
		page := ask(c, func(s *api.Client, ctx context.Context) (api.JobList, error) {
			return s.Page(ctx, api.ListQuery{States: []job.State{job.Pending, job.Queued, job.Running}, All: true, Limit: 500})
		})
		left := slices.DeleteFunc(page.Items, func(j api.Job) bool { return j.Reason.Held() })
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			for _, j := range left {
				c.t.Errorf("I17: job %s is %s on %s, attempt %d: %s", j.ID, j.State, j.Worker, j.Attempt, j.Message)
			}
			c.t.Fatalf("not within %v: every job has ended", within)
		}
	}
}

// check settles the cluster, reads everything and reports each invariant that
// does not hold. more adds what only the test knows.
func (c *cluster) check(files int, more ...func(*history)) *history {
	c.t.Helper()
	c.settled(3 * time.Minute)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	h, err := readHistory(ctx, c.servers[0], files, c.unbroken)
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	h.Submissions, h.Cancels, h.Retries, h.Unbroken = c.submissions, c.cancels, c.retries, c.unbroken
	c.mu.Unlock()
	if h.Starts, err = readStarts(filepath.Join(c.dir, "starts")); err != nil {
		c.t.Fatal(err)
	}
	// I16 allows a grace in which the last programs and directories go.
	leftovers := func() []string {
		if h.Processes, err = liveProcesses(c.dir); err == nil {
			h.Directories, err = c.attemptDirs()
		}
		if err != nil {
			c.t.Fatal(err)
		}
		var found []string
		fail := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
		checkRest(h, fail)
		checkLeftovers(h, fail)
		return found
	}
	for deadline := time.Now().Add(15 * time.Second); len(leftovers()) > 0 && time.Now().Before(deadline); {
		wait(ctx, 100*time.Millisecond)
	}
	for _, f := range more {
		f(h)
	}
	broken := h.broken()
	for _, b := range broken[:min(len(broken), 30)] {
		c.t.Error(b)
	}
	if more := len(broken) - 30; more > 0 {
		c.t.Errorf("and %d more", more)
	}
	return h
}

// attemptDirs lists the attempts that have a directory on some worker.
func (c *cluster) attemptDirs() ([]try, error) {
	dirs, err := filepath.Glob(filepath.Join(c.dir, "worker*", "attempts", "*", "*"))
	if err != nil {
		return nil, err
	}
	var found []try
	for _, dir := range dirs {
		if n, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			found = append(found, try{job.ID(filepath.Base(filepath.Dir(dir))), n})
		}
	}
	return found, nil
}

// open reads a path that an answer of the server named.
func (s *server) open(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.client.URL()+path, nil)
	if err != nil {
		return nil, err
	}
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%s: %s", path, resp.Status)
	}
	return resp.Body, nil
}
