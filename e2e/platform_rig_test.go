package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/celery/redistest"
	"github.com/nano-os/nanoos/internal/store/postgres/pgtest"
)

// platform is a FastAPI platform with its PostgreSQL and its Redis, of which
// nanoos is the only worker: testdata/platform.
type platform struct {
	t      *testing.T
	dir    string
	python string
	env    []string // the platform's, and nanoos's: the same addresses
	redis  *redistest.Server
	db     *pgtest.Cluster
	web    *daemon
	base   string // of the platform's HTTP
	// nanoos serves, and runs the jobs too unless a worker does.
	nanoos, worker *daemon
	client         *api.Client // of nanoos
}

// Bounds of waits on a busy machine: for a process to serve, and for a job.
const serveTimeout, jobTimeout = 60 * time.Second, 2 * time.Minute

func newPlatform(t *testing.T, generation string) *platform {
	t.Helper()
	p := &platform{t: t, dir: dataDir(t), python: interpreter(t, "newest")}
	t.Cleanup(p.end)
	p.redis, p.db = redistest.Start(t, redistest.Options{}), pgtest.Start(t, pgtest.Options{Durable: true})
	p.env = []string{"REDIS_URL=" + p.redis.URL(0), "DATABASE_URL=" + p.db.CreateDB(t), "PLATFORM_GENERATION=" + generation,
		"PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1"}
	return p
}

// migrate makes the platform's tables.
func (p *platform) migrate() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), serveTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.python, filepath.Join("testdata", "platform", "tables.py"))
	cmd.Env = append(os.Environ(), p.env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Fatalf("migrate: %v\n%s", err, out)
	}
}

// startWeb starts the platform's HTTP server.
func (p *platform) startWeb() {
	p.t.Helper()
	addr := freeAddr(p.t)
	p.base = "http://" + addr
	p.web = newDaemon(p.t, "platform", p.python, []string{filepath.Join("testdata", "platform", "server.py"), addr}, p.env)
	p.web.start()
	eventually(p.t, serveTimeout, "the platform serves", func() bool { return p.try(http.MethodGet, "/health", nil, nil) == nil })
}

// startNode starts nanoos on one machine.
func (p *platform) startNode() {
	p.t.Helper()
	listen := freeAddr(p.t)
	p.client = api.NewClient("http://"+listen, "")
	p.nanoos = newDaemon(p.t, "nanoos", binary, []string{"up", "--data", filepath.Join(p.dir, "data"), "--listen", listen, "--cpus", "8", "--memory", "16GiB"}, p.env)
	p.restart()
}

// startCluster starts a server, whose database is the platform's, and a worker.
func (p *platform) startCluster() {
	p.t.Helper()
	listen := freeAddr(p.t)
	p.client = api.NewClient("http://"+listen, "")
	p.nanoos = newDaemon(p.t, "server", binary, []string{"server", "--listen", listen, "--artifacts", filepath.Join(p.dir, "artifacts"),
		"--data", filepath.Join(p.dir, "server")}, p.env)
	p.restart()
	p.worker = newDaemon(p.t, "worker", binary, []string{"worker", "--server", "http://" + listen, "--data", filepath.Join(p.dir, "worker"),
		"--cpus", "8", "--memory", "16GiB", "--beat", beat.String()}, nil)
	p.worker.start()
}

// restart starts nanoos, again perhaps, and waits until it serves.
func (p *platform) restart() {
	p.t.Helper()
	p.nanoos.start()
	eventually(p.t, serveTimeout, "nanoos serves", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		return p.client.Ready(ctx) == nil
	})
}

// end ends what the test runs.
func (p *platform) end() {
	for _, d := range []*daemon{p.web, p.worker, p.nanoos} {
		if d != nil {
			d.kill()
		}
	}
	eventually(p.t, 30*time.Second, "the programs of the test have ended", func() bool {
		left := supervisorsOf(p.t, p.dir)
		alive, err := liveProcesses(p.dir)
		if err != nil {
			p.t.Fatal(err)
		}
		for _, one := range alive {
			left = append(left, one.PID)
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself
		}
		return len(left) == 0
	})
}

// try asks the platform.
func (p *platform) try(method, path string, body, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var content io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(raw)
	}
	request, err := http.NewRequestWithContext(ctx, method, p.base+path, content)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, raw)
	}
	if err != nil || into == nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

// post sends a request that must be taken.
func (p *platform) post(path string, body, into any) {
	p.t.Helper()
	if err := p.try(http.MethodPost, path, body, into); err != nil {
		p.t.Fatalf("POST %s: %v", path, err)
	}
}

// fields are a row, or a part of one.
type fields map[string]any

// add makes a row of the platform's and returns its id.
func (p *platform) add(kind string, row fields) string {
	p.t.Helper()
	var made struct{ ID string }
	p.post("/"+kind, row, &made)
	return made.ID
}

// submit makes a job and sends its task.
func (p *platform) submit(row fields, query string) string {
	p.t.Helper()
	id := p.add("simulations", row)
	p.post("/simulations/"+id+"/submit"+query, nil, nil)
	return id
}

// simulation is a job as the platform shows it.
type simulation struct {
	Status       string
	Progress     float64
	CurrentStep  string         `json:"current_step"`
	ErrorMessage string         `json:"error_message"`
	WorkerID     string         `json:"worker_id"`
	StartedAt    string         `json:"started_at"`
	FinishedAt   string         `json:"finished_at"`
	Summary      map[string]any // nil without a result
	Artifacts    []struct{ Name, Path string }
	Converged    *bool
	History      []moment
}

// moment is one change of a row.
type moment struct {
	Status   string
	Progress float64
	Results  int
	By       string `json:"by_whom"`
}

// await waits until a job is in a status.
func (p *platform) await(id, status string) (s simulation) {
	p.t.Helper()
	var err error
	deadline := time.Now().Add(jobTimeout)
	for s.Status != status {
		if time.Now().After(deadline) || s.FinishedAt != "" {
			p.t.Fatalf("%s is not %s: %+v, %v", id, status, s, err)
		}
		wait(context.Background(), 50*time.Millisecond)
		s = simulation{}
		err = p.try(http.MethodGet, "/simulations/"+id, nil, &s)
	}
	return s
}

// task is what Celery says of a job's task.
type task struct {
	State     string
	Ready     bool
	Result    json.RawMessage
	Traceback string
}

// taskOf waits until the task of a job is ready.
func (p *platform) taskOf(id string) (result task) {
	p.t.Helper()
	eventually(p.t, jobTimeout, "the task of "+id+" is ready", func() bool {
		return p.try(http.MethodGet, "/simulations/"+id+"/task-status", nil, &result) == nil && result.Ready
	})
	return result
}
