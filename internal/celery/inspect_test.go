package celery

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/celery/wire"
)

// three are a task that runs, one that waits, and one that waits for its time.
func three() map[string][]TaskInfo {
	eta := time.Date(2027, 1, 1, 12, 0, 0, 0, time.UTC)
	return map[string][]TaskInfo{
		"active": {{
			State: "active", Started: time.UnixMicro(1795420287536086), PID: 23292,
			Task: wire.Task{ID: "runs", Name: "simapp.noop", Shadow: "shadowname", RoutingKey: "default", ArgsRepr: "('slow',)", KwargsRepr: "{'seconds': 4}",
				RawArgs: json.RawMessage(`["slow", NaN, -Infinity, 12345678901234567890123, "\u00e9\ud83d\ude00", 1e2]`), RawKwargs: json.RawMessage(`{"seconds": 4}`)},
		}},
		"reserved": {{
			State: "reserved", Acknowledged: true,
			Task: wire.Task{ID: "waits", Name: "simapp.add", RoutingKey: "simulations", Priority: 9, Redelivered: true},
		}},
		"scheduled": {{State: "scheduled", ETA: eta, Task: wire.Task{ID: "later", Name: "simapp.add", RoutingKey: "simulations"}}},
	}
}

// running is how the task that runs is shown, besides its arguments.
func running(args, kwargs any) map[string]any {
	return map[string]any{
		"id": "runs", "name": "shadowname", "type": "simapp.noop", "args": args, "kwargs": kwargs, "hostname": testNode,
		"time_start": 1795420287.536086, "acknowledged": false, "worker_pid": 23292.0,
		"delivery_info": map[string]any{"exchange": "", "routing_key": "default", "priority": 0.0, "redelivered": nil},
	}
}

func waiting(id, name string, acknowledged bool, priority float64, redelivered any) map[string]any {
	return map[string]any{
		"id": id, "name": name, "type": name, "args": []any{}, "kwargs": map[string]any{}, "hostname": testNode,
		"time_start": nil, "acknowledged": acknowledged, "worker_pid": nil,
		"delivery_info": map[string]any{"exchange": "", "routing_key": "simulations", "priority": priority, "redelivered": redelivered},
	}
}

func TestCelery40_TasksAreShownAsCeleryShowsThem(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.put(func(c *counter) { c.tasks = three() })
	s.expect(`call("dump_active", safe=True)`, []any{running("('slow',)", "{'seconds': 4}")})
	s.expect(`call("reserved")`, []any{waiting("waits", "simapp.add", true, 9, true)})
	s.expect(`call("dump_schedule")`, []any{map[string]any{
		"eta": "2027-01-01T12:00:00+00:00", "priority": 6.0, "request": waiting("later", "simapp.add", false, 0, nil)}})
	s.expect(`call("query_task", ids=["waits", "later", "unknown"])`, map[string]any{
		"waits": []any{"reserved", waiting("waits", "simapp.add", true, 9, true)},
		"later": []any{"reserved", waiting("later", "simapp.add", false, 0, nil)},
	})
	s.expect(`call("registered")`, []any{"simapp.add", "simapp.noop"})
	s.expect(`call("dump_tasks", taskinfoitems=["serializer", "color"])`, []any{"simapp.add [serializer=json]", "simapp.noop [serializer=json]"})
}

func TestCelery09_ArgumentsComeBackEqualInPython(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.put(func(c *counter) { c.tasks = three() })
	var got []bool
	s.report(`
args = control.inspect(timeout=10, destination=[node]).active()[node][0]["args"]
report([args[0] == "slow", args[1] != args[1], args[2] == float("-inf"), args[3] == 12345678901234567890123, args[4] == "\u00e9\U0001f600", args[5] == 100.0])
`, &got)
	if diff := cmp.Diff([]bool{true, true, true, true, true, true}, got); diff != "" {
		t.Errorf("equal (-want +got):\n%s", diff)
	}
}

func TestCelery40_StatsHaveWhatFlowerReads(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	stats, _ := s.reply(`call("stats")`).(map[string]any)
	want := []string{"broker", "clock", "pid", "pool", "prefetch_count", "rusage", "total", "uptime"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(stats))); diff != "" {
		t.Fatalf("fields of stats (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{"simapp.noop": 16.0, "shadow": 1.0}, stats["total"]); diff != "" {
		t.Errorf("total (-want +got):\n%s", diff)
	}
	pool, _ := stats["pool"].(map[string]any)
	if pool["max-concurrency"] != 2.0 || !cmp.Equal(pool["processes"], []any{4711.0}) || !cmp.Equal(pool["timeouts"], []any{0.0, 0.0}) {
		t.Errorf("pool is %v", pool)
	}
	if _, isText := stats["clock"].(string); !isText || stats["pid"] != float64(os.Getpid()) {
		t.Errorf("clock is %#v and pid %v, want a text and %d", stats["clock"], stats["pid"], os.Getpid())
	}
	broker, _ := stats["broker"].(map[string]any)
	_, port, _ := strings.Cut(s.redis.Addr(), ":")
	if broker["hostname"] != "127.0.0.1" || fmt.Sprint(broker["port"]) != port || broker["virtual_host"] != "3" || broker["transport"] != "redis" {
		t.Errorf("broker is %v", broker)
	}
}

func TestCelery40_NothingThatIsShownHasThePassword(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	var got map[string]any
	s.report(`report({m: call(m) for m in ["stats", "conf", "dump_conf", "report", "active_queues", "registered"]})`, &got)
	text := fmt.Sprint(got)
	if strings.Contains(text, "s3cret") {
		t.Errorf("the password is shown: %s", text)
	}
	if !strings.Contains(text, "broker_url:redis://:xxxxx@127.0.0.1") || !strings.Contains(text, "software -> nanoos:") {
		t.Errorf("the settings are not shown: %s", text)
	}
	for address, want := range map[string]string{
		"redis://user:pw@h:1/0": "redis://user:xxxxx@h:1/0", "unix:///s?password=pw&virtual_host=2": "unix:///s?password=xxxxx&virtual_host=2",
		"redis://:p%zzw@h": "redis://********", "redis://h": "redis://h",
	} {
		if got := redacted(address); got != want {
			t.Errorf("%s is shown as %s, want %s", address, got, want)
		}
	}
}

func TestCelery40_TheCommandLineAcceptsEveryAnswer(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.put(func(c *counter) { c.tasks, c.revoked = three(), []string{"gone"} })
	got := make(map[string]struct {
		Code int
		Text string
	})
	s.report(`
commands = ["active", "reserved", "scheduled", "registered", "active_queues", "revoked", "stats", "conf", "report", "clock", "memsample"]
answers = {c: celery("inspect", "-t", "20", "-d", node, c) for c in commands}
answers["query_task"] = celery("inspect", "-t", "20", "-d", node, "query_task", "runs")
for c in [["rate_limit", "simapp.noop", "5/s"], ["time_limit", "simapp.noop", "5", "10"], ["add_consumer", "q"], ["cancel_consumer", "q"],
        ["pool_grow", "1"], ["pool_shrink", "1"], ["enable_events"], ["disable_events"], ["revoke", "x"], ["terminate", "TERM", "x"]]:
    answers[c[0]] = celery("control", "-t", "20", "-d", node, *c)
report(answers)
`, &got)
	if len(got) != 22 {
		t.Fatalf("%d commands were answered", len(got))
	}
	for command, answer := range got {
		if answer.Code != 0 || !strings.Contains(answer.Text, testNode+": OK") {
			t.Errorf("%s: exit %d: %s", command, answer.Code, answer.Text)
		}
	}
}

func TestCelery41_PingIsAnsweredWhileTheDatabaseHangs(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.put(func(c *counter) { c.hang = true })
	var got struct {
		Seconds float64
		Replies []map[string]any
	}
	s.report(`
for method in ["active", "reserved", "scheduled"] * 20:
    control.broadcast(method)
call("ping")
began = time.time()
replies = call("ping")
report({"seconds": time.time() - began, "replies": replies})
`, &got)
	if got.Seconds > 1 || len(got.Replies) != 1 {
		t.Errorf("%v after %.2f s, want a reply at once", got.Replies, got.Seconds)
	}
	s.expect(`call("active")`, map[string]any{"error": "RuntimeError('context deadline exceeded')"})
}

func TestCelery53_RepliesToClientsThatWereKilledDoNotStay(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	var got struct {
		Gone, Dead int
		Lives      []bool
	}
	s.report(`
import base64, redis
r = redis.Redis.from_url(os.environ["BROKER"])
def ask(client):
    body = {"method": "ping", "arguments": {}, "destination": None, "pattern": None, "matcher": None, "ticket": "t",
        "reply_to": {"exchange": "reply.celery.pidbox", "routing_key": client}}
    message = {"body": base64.b64encode(json.dumps(body).encode()).decode(), "content-encoding": "utf-8", "content-type": "application/json",
        "headers": {"clock": 1, "expires": time.time() + 1}, "properties": {"delivery_mode": 2, "body_encoding": "base64", "delivery_tag": "x",
        "delivery_info": {"exchange": "celery.pidbox", "routing_key": ""}}}
    r.publish("/3.celery.pidbox", json.dumps(message))
for i in range(200):  # these left no binding, those a binding and nobody who reads
    ask("gone-%d" % i)
for i in range(50):
    r.sadd("_kombu.binding.reply.celery.pidbox", "dead-%d\x06\x16\x06\x16dead-%d.reply.celery.pidbox" % (i, i))
    ask("dead-%d" % i)
call("ping")
keys = r.keys("*.reply.celery.pidbox")
report({"gone": sum(k.startswith(b"gone") for k in keys), "dead": sum(k.startswith(b"dead") for k in keys),
    "lives": sorted({0 < r.ttl(k) <= 60 for k in keys if k.startswith(b"dead")})})
`, &got)
	if got.Gone != 0 || got.Dead != 50 || !cmp.Equal(got.Lives, []bool{true}) {
		t.Errorf("%+v; want none for those that are gone, and 50 replies that live for a minute", got)
	}
}
