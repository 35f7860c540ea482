package wire

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/nano-os/nanoos/internal/celery/redistest"
)

// monitor collects the events of a Redis.
type monitor struct {
	t   *testing.T
	sub *redis.PubSub
}

func watch(t *testing.T, c *Client) *monitor {
	t.Helper()
	sub := c.broker.PSubscribe(t.Context(), c.fanout("celeryev", "")+"*")
	t.Cleanup(func() { _ = sub.Close() }) // Redis may have gone
	if _, err := sub.ReceiveTimeout(t.Context(), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	return &monitor{t: t, sub: sub}
}

// next returns the events of the next publication, and its channel.
func (m *monitor) next() (channel string, events []map[string]any) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 20*time.Second)
	defer cancel()
	message, err := m.sub.ReceiveMessage(ctx)
	if err != nil {
		m.t.Fatal(err)
	}
	body, _, err := unwrapped([]byte(message.Payload))
	if err != nil {
		m.t.Fatal(err)
	}
	if json.Unmarshal(body, &events) != nil {
		var one map[string]any
		if err := json.Unmarshal(body, &one); err != nil {
			m.t.Fatalf("the event is %q: %v", body, err)
		}
		events = []map[string]any{one}
	}
	return message.Channel, events
}

// until collects events up to the first of a kind.
func (m *monitor) until(kind string) (all []map[string]any) {
	m.t.Helper()
	for {
		_, events := m.next()
		all = append(all, events...)
		for _, e := range events {
			if e["type"] == kind {
				return all
			}
		}
	}
}

// speaking runs an emitter until the test ends or leave is called.
func speaking(t *testing.T, c *Client) (e *Emitter, leave func()) {
	t.Helper()
	e = c.Emitter(testNode)
	return e, start(t, e)
}

func start(t *testing.T, e *Emitter) (leave func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { e.Run(ctx) })
	leave = func() { cancel(); wg.Wait() }
	t.Cleanup(leave)
	return leave
}

func TestCelery56_ANodeComesBeatsAndLeaves(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(3)})
	m := watch(t, c)
	e, leave := speaking(t, c)
	e.Load(2, 17)
	channel, events := m.next()
	if channel != "/3.celeryev/worker.online" || events[0]["type"] != "worker-online" {
		t.Errorf("the first event is %v on %s", events[0], channel)
	}
	_, events = m.next()
	beat := events[0]
	_, events = m.next()
	apart := events[0]["timestamp"].(float64) - beat["timestamp"].(float64)
	if apart < 1.5 || apart > 3 {
		t.Errorf("heartbeats are %.2f s apart, want 2", apart)
	}
	if age := float64(time.Now().UnixNano())/1e9 - events[0]["timestamp"].(float64); age < 0 || age > 1 {
		t.Errorf("the timestamp is %.2f s old", age)
	}
	want := map[string]any{"type": "worker-heartbeat", "hostname": testNode, "freq": 2.0, "active": 2.0, "processed": 17.0,
		"sw_ident": "nanoos", "sw_ver": Version(), "sw_sys": "Linux", "utcoffset": float64(hoursWest(time.Now()))}
	for key, value := range want {
		if beat[key] != value {
			t.Errorf("%s is %v, want %v", key, beat[key], value)
		}
	}
	if load, ok := beat["loadavg"].([]any); !ok || len(load) != 3 {
		t.Errorf("loadavg is %v, want three numbers", beat["loadavg"])
	}
	e.Task(testNode, "task-started", map[string]any{"uuid": "last"})
	leave()
	rest := m.until("worker-offline")
	if kinds := kindsOf(rest); !strings.HasSuffix(kinds, "task-started worker-offline") {
		t.Errorf("at the end came %s, want what was left and worker-offline", kinds)
	}
}

func kindsOf(events []map[string]any) string {
	var kinds []string
	for _, e := range events {
		kinds = append(kinds, fmt.Sprint(e["type"]))
	}
	return strings.Join(kinds, " ")
}

func TestCelery57_ClocksOfEventsStrictlyIncrease(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0)})
	m := watch(t, c)
	e, _ := speaking(t, c)
	m.until("worker-online")
	const n = 250
	for i := range n {
		e.Task("other@host", "task-started", map[string]any{"uuid": fmt.Sprint(i)})
		if i%100 == 0 {
			e.Beat()
		}
	}
	e.Task(testNode, "task-failed", map[string]any{"uuid": "last", "exception": "E()", "traceback": nil})
	last, seen := 0.0, 0
	for _, event := range m.until("task-failed") {
		clock := event["clock"].(float64)
		if clock <= last {
			t.Fatalf("clock %v after %v", clock, last)
		}
		last = clock
		if event["type"] == "task-started" {
			if event["uuid"] != fmt.Sprint(seen) || event["hostname"] != "other@host" {
				t.Fatalf("event %d is %v", seen, event)
			}
			seen++
		}
	}
	if seen != n {
		t.Errorf("%d events came, want %d", seen, n)
	}
}

func TestCelery49_WhileEventsOfTasksAreOffHeartbeatsGoOn(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0)})
	m := watch(t, c)
	e, _ := speaking(t, c)
	m.until("worker-online")
	if !e.Tasks(false) || e.Tasks(false) || e.Wanted() {
		t.Error("turning the events off is reported wrongly")
	}
	e.Task(testNode, "task-started", map[string]any{"uuid": "unseen"})
	e.Beat()
	if kinds := kindsOf(m.until("worker-heartbeat")); kinds != "worker-heartbeat" {
		t.Errorf("%s came, want a heartbeat alone", kinds)
	}
	if !e.Tasks(true) || e.Tasks(true) || !e.Wanted() {
		t.Error("turning the events on is reported wrongly")
	}
	e.Task(testNode, "task-started", map[string]any{"uuid": "seen"})
	for _, event := range m.until("task-started") {
		if event["uuid"] == "unseen" {
			t.Error("an event came that was not wanted")
		}
	}
}

func TestCelery60_WhileRedisIsAwayTheNewestEventsAreKept(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0)})
	e, _ := speaking(t, c)
	server.Kill(t)
	const lost = 50
	for i := range maxEvents + lost {
		e.Task(testNode, "task-started", map[string]any{"uuid": fmt.Sprint(i)})
	}
	if n := e.pending(); n > maxEvents {
		t.Fatalf("%d events are kept, want at most %d", n, maxEvents)
	}
	server.Restart(t)
	// The emitter must not have told everything before the monitor listens: it is
	// told again that the node is there, at the latest with the next heartbeat.
	m := watch(t, connected(t, Options{URL: server.URL(0)}))
	e.Task(testNode, "task-failed", map[string]any{"uuid": "last", "exception": "E()"})
	all := m.until("task-failed")
	if len(all) > maxEvents+10 {
		t.Errorf("%d events came", len(all))
	}
}

func TestEventsAreDroppedFromTheOldest(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0)})
	e := c.Emitter(testNode)
	for i := range maxEvents + 3 {
		e.Task(testNode, "task-started", map[string]any{"uuid": fmt.Sprint(i)})
	}
	m := watch(t, c)
	start(t, e)
	var uuids []string
	for len(uuids) < maxEvents {
		_, events := m.next()
		for _, event := range events {
			if uuid, ok := event["uuid"].(string); ok {
				uuids = append(uuids, uuid)
			}
		}
	}
	if diff := cmp.Diff([]string{"3", fmt.Sprint(maxEvents + 2)}, []string{uuids[0], uuids[len(uuids)-1]}); diff != "" {
		t.Errorf("the first and the last that were kept (-want +got):\n%s", diff)
	}
}

func TestCelery57_TheOffsetIsInHoursWestDownwards(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int{"UTC": 0, "Etc/GMT-2": -2, "Etc/GMT+5": 5, "Asia/Kolkata": -6, "America/St_Johns": 3} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Skipf("SKIPPED: no time zones: %v", err)
		}
		if got := hoursWest(time.Date(2026, 1, 15, 0, 0, 0, 0, zone)); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
}
