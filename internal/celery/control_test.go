package celery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/celery/redistest"
	"github.com/nano-os/nanoos/internal/celery/wire"
)

const testNode = "go1@host9"

// counter is a desk with tasks that the test put on it.
type counter struct {
	mu       sync.Mutex
	tasks    map[string][]TaskInfo
	queues   []wire.Queue
	size     int
	revoked  []string
	signals  []string
	shut     bool
	hang     bool // the database does not answer
	failures int  // so many revocations fail
}

func (c *counter) Tasks(ctx context.Context, which string) ([]TaskInfo, error) {
	c.mu.Lock()
	hang, infos := c.hang, c.tasks[which]
	c.mu.Unlock()
	if hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return infos, nil
}

func (c *counter) Find(_ context.Context, ids []string) (found []TaskInfo, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, which := range []string{"active", "reserved", "scheduled", "ready"} {
		for _, info := range c.tasks[which] {
			if slices.Contains(ids, info.Task.ID) {
				found = append(found, info)
			}
		}
	}
	return found, nil
}

func (c *counter) Revoke(_ context.Context, ids []string, terminate bool, signal string) (stopped []string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failures > 0 {
		c.failures--
		return nil, errors.New("the database is away")
	}
	c.revoked = append(c.revoked, ids...)
	for _, info := range c.tasks["active"] {
		if terminate && slices.Contains(ids, info.Task.ID) {
			stopped = append(stopped, info.Task.ID)
			c.signals = append(c.signals, signal)
		}
	}
	return stopped, nil
}

func (c *counter) Revoked(context.Context) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.revoked), nil
}

func (c *counter) Registered() []string { return []string{"simapp.noop", "simapp.add"} }

func (c *counter) Queues() []wire.Queue {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.queues)
}

func (c *counter) AddQueue(_ context.Context, q wire.Queue) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queues = append(c.queues, q)
	return nil
}

func (c *counter) CancelQueue(_ context.Context, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queues = slices.DeleteFunc(c.queues, func(q wire.Queue) bool { return q.Name == name })
	return nil
}

func (c *counter) Resize(n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.size+n < 1 {
		return errors.New("the pool cannot be empty")
	}
	c.size += n
	return nil
}

func (c *counter) Pool() PoolInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	return PoolInfo{Max: c.size, PIDs: []int{4711}, Totals: map[string]int64{"simapp.noop": 16, "shadow": 1}, Prefetch: c.size}
}

func (c *counter) Shutdown() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shut = true
}

var _ desk = (*counter)(nil)

// stage is remote control over a counter, on a Redis of its own.
type stage struct {
	t      *testing.T
	redis  *redistest.Server
	desk   *counter
	events *wire.Emitter
	remote *remote
	leave  func() // ends the node in good order, and waits for it
}

func newStage(t *testing.T) *stage {
	t.Helper()
	server := redistest.Start(t, redistest.Options{Password: "s3cret"})
	client, err := wire.Open(wire.Options{URL: server.URL(3)})
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, redis: server, desk: &counter{size: 2, queues: []wire.Queue{{Name: "simulations"}}}, events: client.Emitter(testNode)}
	s.remote = newRemote(s.desk, testNode, s.events, newLimits())
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.events.Run(ctx) })
	wg.Go(func() { s.remote.count(ctx) })
	wg.Go(func() {
		if err := client.Listen(ctx, testNode, s.remote.handle); err != nil {
			t.Errorf("listen: %v", err)
		}
	})
	s.leave = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		if err := client.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	t.Cleanup(s.leave)
	s.eventually("the node listens", func() bool {
		members, _ := server.Do(t, 3, "SMEMBERS", "_kombu.binding.celery.pidbox").([]any)
		return len(members) == 1
	})
	return s
}

// put changes or reads what is on the desk.
func (s *stage) put(change func(*counter)) {
	s.desk.mu.Lock()
	defer s.desk.mu.Unlock()
	change(s.desk)
}

func (s *stage) eventually(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			s.t.Fatalf("it did not come to pass that %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// interpreter is a Python that has Celery.
func interpreter(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "build", "python", "debian", "bin", "python"))
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

// prelude gives scripts an application, its remote control, the command line as
// a function, and a way to report.
const prelude = `
import json, os, sys, time
from celery import Celery
app = Celery("simapp", broker=os.environ["BROKER"])
control, node = app.control, "` + testNode + `"
def call(method, **arguments):
    return control.broadcast(method, arguments=arguments, reply=True, destination=[node], timeout=10)
def celery(*args):
    from click.testing import CliRunner
    from celery.bin.celery import celery as command
    r = CliRunner().invoke(command, ["-b", os.environ["BROKER"], *args])
    return {"code": r.exit_code, "text": r.output}
def report(value):
    print(json.dumps(value))
`

func (s *stage) python(script string) *exec.Cmd {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), interpreter(s.t), "-c", prelude+script)
	cmd.Env = append(os.Environ(), "BROKER="+s.redis.URL(3), "PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1")
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// report runs a script and reads what it reports.
func (s *stage) report(script string, into any) {
	s.t.Helper()
	cmd := s.python(script)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("python: %v\n%s\n%s", err, out, stderr.Bytes())
	}
	if err := json.Unmarshal(out, into); err != nil {
		s.t.Fatalf("python said %q: %v\n%s", out, err, stderr.Bytes())
	}
}

// reply runs an expression that gives a list of replies, and returns that of
// the only node.
func (s *stage) reply(expression string) any {
	s.t.Helper()
	var replies []map[string]any
	s.report("report("+expression+")", &replies)
	if len(replies) != 1 || len(replies[0]) != 1 {
		s.t.Fatalf("%s: %d replies, want 1 of %s: %v", expression, len(replies), testNode, replies)
	}
	return replies[0][testNode]
}

func (s *stage) expect(expression string, want any) {
	s.t.Helper()
	if diff := cmp.Diff(want, s.reply(expression)); diff != "" {
		s.t.Errorf("%s (-want +got):\n%s", expression, diff)
	}
}

func TestCelery39_StatusAndPingListTheNode(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	var got struct {
		Status, Ping, To struct {
			Code int
			Text string
		}
		Took float64
	}
	s.report(`
began = time.time()
assert control.ping(destination=[node], timeout=20) == [{node: {"ok": "pong"}}]
took = time.time() - began
report({"status": celery("status"), "ping": celery("inspect", "ping"), "to": celery("inspect", "-t", "20", "-d", node, "ping"), "took": took})
`, &got)
	for _, command := range []struct {
		code int
		text string
	}{{got.Status.Code, got.Status.Text}, {got.Ping.Code, got.Ping.Text}, {got.To.Code, got.To.Text}} {
		if command.code != 0 || !strings.Contains(command.text, testNode+": OK") || !strings.Contains(command.text, "1 node online") {
			t.Errorf("exit %d: %s", command.code, command.text)
		}
	}
	if got.Took > 5 {
		t.Errorf("a ping with a destination took %.1f s: the client waited for its timeout", got.Took)
	}
}

func TestCelery42_RevokedIdsReachTheDesk(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.put(func(c *counter) { c.failures = 2 }) // of the database: tried again
	s.expect(`control.revoke("id-1", reply=True, timeout=10, destination=[node])`, map[string]any{"ok": "tasks id-1 flagged as revoked"})
	s.expect(`call("revoked")`, []any{"id-1"})
}

func TestCelery43_TerminateNamesTheSignalAndWhatItStopped(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	runs := TaskInfo{Task: wire.Task{ID: "runs", Name: "simapp.noop"}, State: "active"}
	s.put(func(c *counter) { c.tasks = map[string][]TaskInfo{"active": {runs}} })
	s.expect(`control.revoke(["runs"], terminate=True, signal="SIGKILL", reply=True, timeout=10, destination=[node])`, map[string]any{"ok": "terminate: runs"})
	s.expect(`call("revoke", task_id=["else"], terminate=1)`, map[string]any{"ok": "terminate: tasks unknown"})
	s.expect(`call("terminate", signal="KILL", task_id="runs")`, map[string]any{"ok": "terminate: runs"})
	s.expect(`call("revoke", task_id="runs", terminate=True, signal="SIGFOO")`, map[string]any{"error": "ValueError('signal SIGFOO is unknown')"})
	s.expect(`call("revoke", task_id="runs", terminate=True, signal=15)`, map[string]any{"ok": "terminate: runs"})
	s.put(func(c *counter) {
		if diff := cmp.Diff([]string{"SIGKILL", "SIGKILL", "SIGTERM"}, c.signals); diff != "" {
			t.Errorf("signals (-want +got):\n%s", diff)
		}
	})
}

func TestCelery44_RevokeOfSeveralListsThemAll(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.expect(`control.revoke(["id1", "no id", "x" * 256, "", "id2", "id1"], reply=True, timeout=10, destination=[node])`, map[string]any{"ok": "tasks id1, id2 flagged as revoked"})
}

func TestCelery45_ConsumersAreAddedAndCancelled(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.expect(`control.add_consumer("extra_q", reply=True, timeout=10, destination=[node])`, map[string]any{"ok": "add consumer extra_q"})
	s.expect(`[{n: [q["name"] for q in queues] for n, queues in r.items()} for r in call("active_queues")]`, []any{"simulations", "extra_q"})
	s.expect(`call("cancel_consumer", queue="extra_q")`, map[string]any{"ok": "no longer consuming from extra_q"})
	s.expect(`call("cancel_consumer", queue="unknown")`, map[string]any{"ok": "no longer consuming from unknown"})
	s.expect(`[{n: [q["name"] for q in queues] for n, queues in r.items()} for r in call("active_queues")]`, []any{"simulations"})
	s.expect(`call("add_consumer", queue="unacked_index")`,
		map[string]any{"error": `ValueError("'unacked_index' is not a queue: the name belongs to Celery, or to nanoos")`})
	s.expect(`call("add_consumer")`, map[string]any{"error": `TypeError("add_consumer() missing 1 required positional argument: 'queue'")`})
}

func TestCelery46_ThePoolGrowsAndShrinks(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.expect(`control.pool_grow(2, reply=True, timeout=10, destination=[node])`, map[string]any{"ok": "pool will grow"})
	s.expect(`[{n: v["prefetch_count"] for n, v in r.items()} for r in call("stats")]`, 4.0)
	s.expect(`control.pool_shrink(3, reply=True, timeout=10, destination=[node])`, map[string]any{"ok": "pool will shrink"})
	s.expect(`call("pool_shrink", n="1")`, map[string]any{"error": "the pool cannot be empty"})
	s.expect(`call("pool_grow", n=0)`, map[string]any{"error": "ValueError('n must be from 1 to 4096, not 0')"})
	s.expect(`call("autoscale", max=5, min=1)`, map[string]any{"error": "ValueError('Autoscale not enabled')"})
	s.expect(`call("pool_restart", reload=False)`, map[string]any{"error": "ValueError('Pool restarts not enabled')"})
}

func TestCelery47_RateLimitsAreSetByName(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.expect(`control.rate_limit("simapp.noop", "10/m", reply=True, timeout=10, destination=[node])`, map[string]any{"ok": "new rate limit set successfully"})
	s.expect(`call("registered")`, []any{"simapp.add", "simapp.noop [rate_limit=10/m]"})
	now := time.Unix(1000, 0)
	if first, second := s.remote.limits.Delay("simapp.noop", now), s.remote.limits.Delay("simapp.noop", now); first != 0 || second != 6*time.Second {
		t.Errorf("starts are delayed by %v and %v, want 0 and 6 s", first, second)
	}
	s.expect(`call("rate_limit", task_name="simapp.noop", rate_limit=0)`, map[string]any{"ok": "rate limit disabled successfully"})
	s.expect(`call("rate_limit", task_name="nope", rate_limit="1/s")`, map[string]any{"error": "unknown task"})
	s.expect(`call("rate_limit", task_name="simapp.noop", rate_limit="fast")`,
		map[string]any{"error": `Invalid rate limit string: ValueError("could not convert string to float: 'fast'")`})
	s.expect(`call("rate_limit")`,
		map[string]any{"error": `TypeError("rate_limit() missing 2 required positional arguments: 'task_name' and 'rate_limit'")`})
}

func TestCelery48_TimeLimitsAreSetByName(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.expect(`control.time_limit("simapp.noop", soft=1.5, hard=3, reply=True, timeout=10, destination=[node])`, map[string]any{"ok": "time limits set successfully"})
	if soft, hard := s.remote.limits.Times("simapp.noop"); soft != 1.5 || hard != 3 {
		t.Errorf("limits are %v and %v, want 1.5 and 3", soft, hard)
	}
	s.expect(`call("time_limit", task_name="nope", soft=None, hard=None)`, map[string]any{"error": "unknown task"})
}

func TestCelery49_EventsOfTasksAreTurnedOffAndOn(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.expect(`call("enable_events")`, map[string]any{"ok": "task events already enabled"})
	s.expect(`call("disable_events")`, map[string]any{"ok": "task events disabled"})
	s.expect(`call("disable_events")`, map[string]any{"ok": "task events already disabled"})
	if s.events.Wanted() {
		t.Error("events of tasks are still on")
	}
	s.expect(`call("enable_events")`, map[string]any{"ok": "task events enabled"})
	s.expect(`call("heartbeat")`, nil)
}

func TestCelery50_AnUnknownMethodIsAKeyError(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.expect(`call("nosuch")`, map[string]any{"error": "KeyError('nosuch')"})
	s.expect(`call("ping", a=1)`, map[string]any{"ok": "pong"})
}

func TestCelery51_OnlyTheNodesThatAreMeantAnswer(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	var got []int
	s.report(`
def answers(timeout, **where):
    return len(control.broadcast("ping", reply=True, limit=1, timeout=timeout, **where))
def meant(**where):
    return answers(20, **where)
def spared(**where):
    return answers(0.5, **where)
report([meant(), spared(destination=["other@host"]), meant(destination=["other@host", node]), meant(pattern="go*", matcher="glob"),
    spared(pattern="py*", matcher="glob"), meant(pattern=r"go\d@", matcher="pcre"), spared(pattern="host9", matcher="pcre")])
`, &got)
	if diff := cmp.Diff([]int{1, 0, 1, 1, 0, 1, 0}, got); diff != "" {
		t.Errorf("replies (-want +got):\n%s", diff)
	}
}

func TestCelery52_AShutdownIsObeyedWithoutAReply(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	var got struct {
		Code int
		Text string
	}
	s.report(`report(celery("control", "-d", node, "-t", "0.5", "shutdown"))`, &got)
	if got.Code != 69 || !strings.Contains(got.Text, "No nodes replied") {
		t.Errorf("exit %d: %s; want 69, as with a Python worker", got.Code, got.Text)
	}
	s.eventually("the desk is told to shut down", func() (shut bool) {
		s.put(func(c *counter) { shut = c.shut })
		return shut
	})
	s.leave()
	if left, _ := s.redis.Do(t, 3, "SMEMBERS", "_kombu.binding.celery.pidbox").([]any); len(left) > 0 {
		t.Errorf("the node left its binding: %v", left)
	}
}

func TestCelery54_APythonWorkerThatStartsLearnsWhatWasRevoked(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.put(func(c *counter) { c.revoked = []string{"aaaa-bbbb"} })
	var got []string
	s.report(`
inspect = app.control.inspect(timeout=10, destination=[node])
hello = inspect.hello("w2@host1", {"cccc-dddd": [1760.5, "cccc-dddd"]})
assert call("hello", from_node="newer@host", revoked=["cccc-dddd", "eeee-ffff"])[0][node]["revoked"] == ["aaaa-bbbb", "cccc-dddd"]
from celery.worker import state
state.revoked.update(hello[node]["revoked"])
assert hello[node]["clock"] > 0
assert inspect.hello(node) == {node: None}, "a node does not greet itself"
report(sorted(state.revoked))
`, &got)
	if diff := cmp.Diff([]string{"aaaa-bbbb"}, got); diff != "" {
		t.Errorf("revoked at the Python worker (-want +got):\n%s", diff)
	}
	s.put(func(c *counter) {
		if diff := cmp.Diff([]string{"aaaa-bbbb", "cccc-dddd", "eeee-ffff"}, c.revoked); diff != "" {
			t.Errorf("revoked here (-want +got):\n%s", diff)
		}
	})
}

func TestCelery55_AnElectionDisturbsNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.expect(`control.election("e1", "topic", {"task": "x"}) or call("ping")`, map[string]any{"ok": "pong"})
}

func TestCelery56_EventsDumpShowsTheNodeAndItsTasks(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	cmd := s.python(`
from celery.bin.celery import celery as command
command(["-b", os.environ["BROKER"], "events", "--dump"])
`)
	var out lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill() // it never ends by itself
		_ = cmd.Wait()
	}()
	sees := func(what string) {
		t.Helper()
		s.eventually("celery events shows "+what, func() bool { return strings.Contains(out.String(), what) })
	}
	sees("heartbeat: ") // the dump listens
	sees("active=0")
	sees("processed=17")
	s.events.Task(testNode, "task-received", map[string]any{"uuid": "u1", "name": "simapp.noop", "args": "('a',)", "kwargs": "{}",
		"root_id": "u1", "parent_id": nil, "retries": 0, "eta": nil, "expires": nil})
	s.events.Task(testNode, "task-started", map[string]any{"uuid": "u1"})
	s.events.Task(testNode, "task-succeeded", map[string]any{"uuid": "u1", "result": "'x'", "runtime": 0.25})
	for _, kind := range []string{"task received: simapp.noop(u1)", "task started: simapp.noop(u1)", "task succeeded: simapp.noop(u1)"} {
		sees(kind)
	}
	s.leave()
	sees("shutdown: ")
	if t.Failed() {
		fmt.Println(out.String())
	}
}

// lockedBuffer may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
