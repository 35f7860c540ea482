package wire

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/celery/redistest"
)

// asked is a task with an embed, as a message brings it.
func asked(t *testing.T, id, headers, embed string) *Task {
	t.Helper()
	if headers != "" {
		headers = ", " + headers
	}
	task := decoded(t, sent(`"task": "t", "id": "`+id+`", "root_id": "root"`+headers, `, "reply_to": "client"`, []byte(`[[], {}, `+embed+`]`)))
	return &task
}

func answered(a Answer, task *Task) Answer {
	a.Task = task
	return a
}

func answer(t *testing.T, c *Client, answers ...Answer) {
	t.Helper()
	if err := c.Answer(t.Context(), answers); err != nil {
		t.Fatal(err)
	}
}

// record is what clients see of a task; nil if nothing.
func record(t *testing.T, c *Client, id string) map[string]any {
	t.Helper()
	text := c.results.Get(t.Context(), c.metaKey(id)).Val()
	if text == "" {
		return nil
	}
	var m map[string]any
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatalf("the record %q: %v", text, err)
	}
	return m
}

// published takes the tasks out of a queue, oldest first.
func published(t *testing.T, c *Client, queue string) []Task {
	t.Helper()
	var tasks []Task
	for _, step := range c.opt.Steps {
		list := c.listKey(queue, step)
		all := c.broker.LRange(t.Context(), list, 0, -1).Val()
		for i := range all {
			tasks = append(tasks, decoded(t, []byte(all[len(all)-1-i])))
		}
		c.broker.Del(t.Context(), list)
	}
	return tasks
}

func args(task Task) string { return string(task.RawArgs) }

func TestCelery32To34_AnAnswerIsStoredAndToldOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0), ResultExpires: time.Hour})
	sub := c.broker.Subscribe(t.Context(), c.metaKey("i"))
	t.Cleanup(func() { _ = sub.Close() })
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	task := asked(t, "i", `"group": "g", "parent_id": "p"`, "null")
	at := time.Date(2026, 11, 23, 7, 50, 33, 737814000, time.UTC)
	if err := c.Store(t.Context(), []Record{{Task: task, State: StateStarted, Result: map[string]any{"pid": 1}}}); err != nil {
		t.Fatal(err)
	}
	a := Answer{Record{Task: task, State: StateSuccess, Result: map[string]any{"job_id": "<42>"}, At: at}}
	answer(t, c, a, a)
	later := answered(Failed(&Exception{Type: "ValueError", Module: "builtins", Message: []any{"late"}}), task)
	answer(t, c, later)
	if err := c.Store(t.Context(), []Record{{Task: task, State: StateProgress, Result: 1}}); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"status": "SUCCESS", "result": map[string]any{"job_id": "<42>"}, "traceback": nil, "children": []any{},
		"date_done": "2026-11-23T07:50:33.737814+00:00", "task_id": "i", "group_id": "g", "parent_id": "p"}
	if d := cmp.Diff(want, record(t, c, "i")); d != "" {
		t.Error(d)
	}
	for _, state := range []string{StateStarted, StateSuccess} {
		m, err := sub.ReceiveMessage(t.Context())
		if err != nil || !strings.Contains(m.Payload, `"status":"`+state+`"`) {
			t.Errorf("%v, %v was told, want %s", m, err, state)
		}
	}
	if m, err := sub.ReceiveTimeout(t.Context(), 100*time.Millisecond); err == nil {
		t.Errorf("%v was told as well", m)
	}
	for _, key := range []string{c.metaKey("i"), c.markerKey("i")} {
		if ttl := c.results.TTL(t.Context(), key).Val(); ttl < 50*time.Minute || ttl > time.Hour {
			t.Errorf("%s is kept for %s", key, ttl)
		}
	}
}

func TestCelery15_ASilentTaskLeavesNoResult(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0)})
	task := asked(t, "i", `"ignore_result": true`, `{"callbacks": [{"task": "after", "options": {"queue": "q"}}]}`)
	if err := c.Store(t.Context(), []Record{{Task: task, State: StateStarted}}); err != nil {
		t.Fatal(err)
	}
	answer(t, c, answered(Succeeded(7), task))
	answer(t, c, answered(Succeeded(7), task))
	if r := record(t, c, "i"); r != nil {
		t.Errorf("the record is %v", r)
	}
	if next := published(t, c, "q"); len(next) != 1 || args(next[0]) != "[7]" {
		t.Errorf("%+v were called", next)
	}
}

func TestCelery21_ARetryTellsItsCause(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0)})
	task := asked(t, "i", "", "null")
	cause := &Exception{Type: "RuntimeError", Module: "builtins", Message: []any{"transient"}}
	if err := c.Store(t.Context(), []Record{{Task: task, State: StateRetry, Exception: cause}}); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"status": "RETRY", "result": map[string]any{"exc_type": "RuntimeError", "exc_module": "builtins", "exc_message": []any{"transient"}},
		"traceback": nil, "date_done": nil, "task_id": "i", "children": []any{[]any{[]any{"i", nil}, nil}}}
	if d := cmp.Diff(want, record(t, c, "i")); d != "" {
		t.Error(d)
	}
}

func TestCelery33_ASuccessIsNotOverwritten(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0)})
	// A worker in Python was quicker, and has called what follows.
	c.results.Set(t.Context(), c.metaKey("i"), `{"status": "SUCCESS", "result": 1}`, 0)
	task := asked(t, "i", "", `{"callbacks": [{"task": "after", "options": {"queue": "q"}}]}`)
	answer(t, c, answered(Succeeded(2), task))
	if r := record(t, c, "i"); r["result"] != 1.0 {
		t.Errorf("the record is %v", r)
	}
	if next := published(t, c, "q"); len(next) != 0 {
		t.Errorf("%+v were called", next)
	}
	// Its failure may be ours to correct.
	c.results.Set(t.Context(), c.metaKey("k"), `{"status": "FAILURE", "result": 1}`, 0)
	answer(t, c, answered(Succeeded(2), asked(t, "k", "", "null")))
	if r := record(t, c, "k"); r["status"] != "SUCCESS" {
		t.Errorf("the record is %v", r)
	}
}

const callbacks = `{"callbacks": [
	{"task": "first", "args": [100, "a"], "kwargs": {"k": 1}, "options": {"task_id": "fixed", "queue": "q", "priority": 7, "time_limit": 5, "soft_time_limit": 4, "shadow": "s", "headers": {"x-trace": "t"}, "link": {"task": "linked"}}, "immutable": false},
	{"task": "routed", "args": [1], "immutable": true, "options": {}},
	{"task": "lost", "options": {"queue": {"name": "q2"}, "expires": 60, "countdown": 5}}],
	"errbacks": [{"task": "failed", "args": ["x"], "immutable": true, "options": {"queue": "q"}}], "chain": [], "chord": null}`

func TestCelery38_CallbacksAreCalled(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0), Routes: map[string]string{"routed": "r"}})
	task := asked(t, "i", "", callbacks)
	answer(t, c, answered(Succeeded([]int{1}), task))
	q, r, q2 := published(t, c, "q"), published(t, c, "r"), published(t, c, "q2")
	if len(q) != 1 || len(r) != 1 || len(q2) != 1 {
		t.Fatalf("%d, %d and %d were called", len(q), len(r), len(q2))
	}
	first := q[0]
	if first.ID != "fixed" || first.Name != "first" || args(first) != `[[1],100,"a"]` || first.ParentID != "i" || first.RootID != "root" || first.ReplyTo != "client" ||
		first.Priority != 7 || first.HardLimit != 5 || first.SoftLimit != 4 || first.Shadow != "s" || first.ArgsRepr != "([1], 100, 'a')" || len(first.Embed.Callbacks) != 1 || first.RoutingKey != "q" {
		t.Errorf("the first is %+v", first)
	}
	if args(r[0]) != "[1]" || len(r[0].ID) != 36 {
		t.Errorf("the immutable one is %+v", r[0])
	}
	if in := time.Until(q2[0].ETA); in < 3*time.Second || in > 5*time.Second || time.Until(q2[0].Expires) > time.Minute || q2[0].Expires.IsZero() {
		t.Errorf("the last is to be done at %s, before %s", q2[0].ETA, q2[0].Expires)
	}
	var children []string
	for _, child := range record(t, c, "i")["children"].([]any) {
		children = append(children, child.([]any)[0].([]any)[0].(string))
	}
	if d := cmp.Diff([]string{"fixed", r[0].ID, q2[0].ID}, children); d != "" {
		t.Error(d)
	}
	answer(t, c, answered(Failed(&Exception{Type: "ValueError", Module: "builtins", Message: []any{"no"}, Traceback: "Traceback"}), asked(t, "f", "", callbacks)))
	back := published(t, c, "q")
	if len(back) != 1 || back[0].Name != "failed" || args(back[0]) != `["f","x"]` || back[0].ParentID != "f" {
		t.Errorf("%+v were called back", back)
	}
	want := map[string]any{"exc_type": "ValueError", "exc_message": []any{"no"}, "exc_module": "builtins"}
	if m := record(t, c, "f"); !cmp.Equal(want, m["result"]) || m["traceback"] != "Traceback" || m["status"] != "FAILURE" {
		t.Errorf("the record is %v", m)
	}
}

// chained are the links after the first of a chain, the last one first.
const chained = `{"chain": [{"task": "third", "args": [100], "options": {"task_id": "c3"}}, {"task": "second", "args": [10], "options": {"task_id": "c2", "reply_to": "r"}}]}`

func TestCelery36_AChainGoesOn(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0)})
	answer(t, c, answered(Succeeded(3), asked(t, "c1", "", chained)))
	second := published(t, c, "default")
	if len(second) != 1 || second[0].ID != "c2" || args(second[0]) != "[3,10]" || second[0].ParentID != "c1" || len(second[0].Embed.Chain) != 1 || second[0].ReplyTo != "r" {
		t.Fatalf("%+v were called", second)
	}
	answer(t, c, answered(Succeeded(13), &second[0]))
	third := published(t, c, "default")
	if len(third) != 1 || third[0].ID != "c3" || args(third[0]) != "[13,100]" || third[0].ParentID != "c2" || third[0].RootID != "root" || len(third[0].Embed.Chain) != 0 {
		t.Errorf("%+v were called", third)
	}
}

func TestAChainThatFailsFailsToTheEnd(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0)})
	c.results.Set(t.Context(), c.metaKey("c3"), `{"status": "SUCCESS", "result": 1}`, 0)
	answer(t, c, answered(Revoked("terminated"), asked(t, "c1", "", chained)))
	if next := published(t, c, "default"); len(next) != 0 {
		t.Errorf("%+v were called", next)
	}
	for id, want := range map[string]string{"c1": "REVOKED", "c2": "REVOKED", "c3": "SUCCESS"} {
		if r := record(t, c, id); r["status"] != want {
			t.Errorf("the record of %s is %v, want %s", id, r, want)
		}
	}
}

// part is one of a chord of so many.
func part(t *testing.T, i int) *Task {
	t.Helper()
	return asked(t, fmt.Sprintf("part%d", i), fmt.Sprintf(`"group": "g", "group_index": %d`, i),
		`{"chord": {"task": "body", "args": ["own"], "options": {"task_id": "b", "queue": "q", "link_error": [{"task": "alarm", "options": {"queue": "alarms"}}]}}}`)
}

func TestCelery37_AChordOfTenPartsAnsweredTwiceCallsItsBodyOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	for database, name := range []string{"one Redis", "two"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opt := Options{URL: server.URL(database)}
			if name == "two" {
				opt.ResultURL = server.URL(9)
			}
			c := connected(t, opt)
			c.results.Set(t.Context(), c.groupKey("g", ".s"), "8", time.Hour)
			c.results.Set(t.Context(), c.groupKey("g", ".t"), "2", time.Hour)
			for round := range 2 {
				var wg sync.WaitGroup
				for i := range 10 {
					wg.Go(func() {
						if err := c.Answer(t.Context(), []Answer{answered(Succeeded(i), part(t, i))}); err != nil {
							t.Errorf("round %d: %v", round, err)
						}
					})
				}
				wg.Wait()
			}
			body := published(t, c, "q")
			if len(body) != 1 || body[0].ID != "b" || args(body[0]) != `[[0, 1, 2, 3, 4, 5, 6, 7, 8, 9],"own"]` {
				t.Errorf("the body is %+v", body)
			}
			if left := c.results.Keys(t.Context(), "celery-taskset*").Val(); len(left) != 0 {
				t.Errorf("%v are left", left)
			}
		})
	}
}

func TestCelery37_AChordWithAFailedPartFails(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0)})
	c.results.Set(t.Context(), c.groupKey("g", ".s"), "3", time.Hour)
	// Python's part, with what is no JSON.
	c.results.Do(t.Context(), "ZADD", c.groupKey("g", ".j"), "0", `[1, "python", "SUCCESS", NaN]`)
	fail := answered(Failed(&Exception{Type: "ValueError", Module: "builtins", Message: []any{"bad input", "x"}}), part(t, 1))
	answer(t, c, fail)
	for range 3 {
		answer(t, c, answered(Succeeded(2), part(t, 2)), fail)
	}
	b := record(t, c, "b")
	if b["status"] != "FAILURE" || !cmp.Equal(b["result"], map[string]any{"exc_type": "ChordError", "exc_module": "celery.exceptions", "exc_message": []any{"Dependency part1 raised ValueError('bad input', 'x')"}}) {
		t.Errorf("the record of the body is %v", b)
	}
	if body := published(t, c, "q"); len(body) != 0 {
		t.Errorf("the body was called: %+v", body)
	}
	if alarms := published(t, c, "alarms"); len(alarms) != 1 || args(alarms[0]) != `["b"]` {
		t.Errorf("%+v were called", alarms)
	}
}

func TestAChordTakesPythonsPartsAsTheyAre(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0)})
	c.results.Set(t.Context(), c.groupKey("g", ".s"), "2", time.Hour)
	c.results.Do(t.Context(), "ZADD", c.groupKey("g", ".j"), "0", `[1, "python", "SUCCESS", {"a": [NaN, 12345678901234567890123]}]`)
	answer(t, c, answered(Succeeded(nil), part(t, 1)))
	body := published(t, c, "q")
	if len(body) != 1 || args(body[0]) != `[[{"a": [NaN, 12345678901234567890123]}, null],"own"]` {
		t.Errorf("the body is %+v", body)
	}
}

func TestAChordIsFoundCompleteByWhoeverAnswersAgain(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0)})
	c.results.Set(t.Context(), c.groupKey("g", ".s"), "1", time.Hour)
	// The process ends between the script and what comes after it.
	e, err := c.effects(answered(Succeeded(1), part(t, 0)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := runAll(t.Context(), c.results, answerScript, []execution{c.telling("part0", e)}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		answer(t, c, answered(Succeeded(1), part(t, 0)))
	}
	if body := published(t, c, "q"); len(body) != 1 {
		t.Errorf("the body was called %d times", len(body))
	}
}

func TestAnswersGivenOftenAndAtTheSameTimeContinueOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0)})
	var wg sync.WaitGroup
	for range 3 {
		another := connected(t, Options{URL: server.URL(0)})
		for range 3 {
			wg.Go(func() {
				if err := another.Answer(t.Context(), []Answer{answered(Succeeded(3), asked(t, "c1", "", chained)), answered(Succeeded(3), asked(t, "i", "", callbacks))}); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	for queue, want := range map[string]int{"default": 2, "q": 1, "q2": 1} { // routed follows its parent's queue
		if n := len(published(t, c, queue)); n != want {
			t.Errorf("%s has %d messages, want %d", queue, n, want)
		}
	}
}

func TestT31_KeysOfAnotherKindHoldNothingUp(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0)})
	ctx := t.Context()
	c.broker.Set(ctx, "q", "no list", 0)
	c.broker.Set(ctx, c.groupKey("g", ".j"), "no set", 0)
	c.broker.LPush(ctx, c.groupKey("g", ".s"), "no size")
	c.broker.LPush(ctx, c.metaKey("part0"), "no record")
	c.broker.LPush(ctx, c.metaKey("i"), "no record")
	if err := c.Store(ctx, []Record{{Task: asked(t, "i", "", callbacks), State: StateStarted}}); err != nil {
		t.Error(err)
	}
	answer(t, c, answered(Succeeded(1), part(t, 0)), answered(Succeeded(1), asked(t, "i", "", callbacks)))
	for _, id := range []string{"part0", "i"} {
		if r := record(t, c, id); r["status"] != "SUCCESS" {
			t.Errorf("the record of %s is %v", id, r)
		}
	}
}

func TestT31_ACallbackIsNoWayIntoOtherKeys(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0), ResultPrefix: "lab"})
	for i, queue := range []string{"unacked", "unacked_index", "unacked_mutex", "nanoos.dead-letters", "nanoos.held", "celery-task-meta-x", "lab_celery-task-meta-x",
		"celery-taskset-meta-g.j", "_kombu.binding.q", "x.reply.celery.pidbox", strings.Repeat("q", 256), ""} {
		for k, name := range []string{fmt.Sprintf("%q", queue), fmt.Sprintf(`{"name": %q}`, queue)} {
			answer(t, c, answered(Succeeded(1), asked(t, fmt.Sprint(i, "-", k), `"ignore_result": true`, `{"callbacks": [{"task": "after", "options": {"queue": `+name+`}}]}`)))
		}
		if next := published(t, c, "default"); len(next) != 2 {
			t.Errorf("%q: %d calls went the usual way", queue, len(next))
		}
	}
	for _, key := range c.broker.Keys(t.Context(), "*").Val() {
		if !strings.HasPrefix(key, "lab_nanoos.answered.") {
			t.Errorf("there is a key %q", key)
		}
	}
	// A message may lie about where it came from.
	liar := asked(t, "liar", "", `{"callbacks": [{"task": "after"}]}`)
	liar.RoutingKey = "unacked"
	answer(t, c, answered(Succeeded(1), liar))
	if n := len(published(t, c, "celery")); n != 1 {
		t.Errorf("%d calls went to the last resort", n)
	}
}

func TestAResultThatIsNoJSONFails(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0)})
	answer(t, c, answered(Succeeded(math.NaN()), asked(t, "i", "", callbacks)))
	if r := record(t, c, "i"); r["status"] != "FAILURE" || r["result"].(map[string]any)["exc_type"] != "EncodeError" {
		t.Errorf("the record is %v", r)
	}
	if err := c.Answer(t.Context(), []Answer{Succeeded(1)}); err == nil {
		t.Error("an answer without its task was taken")
	}
}

func TestAFullRedisTakesAnAnswerWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0)})
	c.broker.ConfigSet(t.Context(), "maxmemory", "1")
	a := answered(Succeeded(3), asked(t, "c1", "", chained))
	if err := c.Answer(t.Context(), []Answer{a}); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("the answer was taken: %v", err)
	}
	c.broker.ConfigSet(t.Context(), "maxmemory", "0")
	if n := c.broker.DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys were written", n)
	}
	answer(t, c, a)
	if next := published(t, c, "default"); len(next) != 1 || record(t, c, "c1")["status"] != "SUCCESS" {
		t.Errorf("%+v were called", next)
	}
}

// BenchmarkSmallTasks takes, answers and acknowledges small tasks in batches, as
// the front door does.
func BenchmarkSmallTasks(b *testing.B) {
	server := redistest.Start(b, redistest.Options{})
	c, err := Open(Options{URL: server.URL(0)})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	const batch = 256
	messages := make([]any, batch)
	n := 0
	for b.Loop() {
		b.StopTimer()
		for i := range messages {
			messages[i] = numbered(fmt.Sprintf("%d-%d", n, i), 0)
		}
		n++
		if err := c.broker.LPush(ctx, "q", messages...).Err(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		ds, err := c.Claim(ctx, []string{"q"}, batch)
		if err != nil || len(ds) != batch {
			b.Fatalf("%d were taken, %v", len(ds), err)
		}
		answers := make([]Answer, len(ds))
		for i := range ds {
			answers[i] = answered(Succeeded("done"), &ds[i].Task)
		}
		if err := c.Answer(ctx, answers); err != nil {
			b.Fatal(err)
		}
		if err := c.Ack(ctx, ds); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "tasks/s")
}
