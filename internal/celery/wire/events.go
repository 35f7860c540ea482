package wire

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// heartbeatEvery is below the 4 s without any event after which a monitor
	// takes a node with this frequency for dead.
	heartbeatEvery = 2 * time.Second
	// maxEvents bounds what is kept while Redis is away: some megabytes.
	maxEvents = 10_000
	// eventBatch bounds how many events of tasks are published at once.
	eventBatch = 100
	// eventTimeout bounds one publication, so that a heartbeat is late by less
	// than a monitor allows.
	eventTimeout = time.Second
	// eventPause is how long a Redis that took no event is left alone.
	eventPause = 500 * time.Millisecond
	// lastEvents bounds what is still told when the node leaves.
	lastEvents = 2 * time.Second
)

// Emitter tells monitors, such as celery events and Flower, that a node is alive
// and what becomes of its tasks. It never waits: while Redis is away it keeps
// the newest events.
type Emitter struct {
	c    *Client
	node string

	beat  chan struct{} // capacity 1: a heartbeat is wanted now
	wake  chan struct{} // capacity 1: there are events
	muted atomic.Bool   // events of tasks are not wanted

	active, processed atomic.Int64

	mu    sync.Mutex
	queue []event // guarded by mu
	first int64   // guarded by mu: how many left the queue before queue[0]
}

// event is something that happened, without the clock that it gets when it is
// published.
type event struct {
	kind, node string
	at         time.Time
	fields     map[string]any
}

// Emitter returns the emitter of a node; Run makes it speak.
func (c *Client) Emitter(node string) *Emitter {
	return &Emitter{c: c, node: node, beat: make(chan struct{}, 1), wake: make(chan struct{}, 1)}
}

// Client is what the emitter speaks through.
func (e *Emitter) Client() *Client { return e.c }

// Task tells that a task came further at a node, such as task-started: fields
// are what events of that kind have besides the common ones. It does not block.
func (e *Emitter) Task(node, kind string, fields map[string]any) {
	if e.muted.Load() {
		return
	}
	e.mu.Lock()
	if len(e.queue) == maxEvents {
		e.queue[0] = event{}
		e.queue, e.first = e.queue[1:], e.first+1
	}
	e.queue = append(e.queue, event{kind: kind, node: node, at: time.Now(), fields: fields})
	e.mu.Unlock()
	signal(e.wake)
}

// Tasks turns the events of tasks on or off, and reports whether that changed
// anything. They are on at first.
func (e *Emitter) Tasks(on bool) (changed bool) {
	return e.muted.CompareAndSwap(on, !on)
}

// Wanted reports whether the events of tasks are on.
func (e *Emitter) Wanted() bool { return !e.muted.Load() }

// Beat asks for a heartbeat at once.
func (e *Emitter) Beat() { signal(e.beat) }

// Load sets what heartbeats say of the node's tasks: how many run, and how many
// were begun.
func (e *Emitter) Load(active, processed int64) {
	e.active.Store(active)
	e.processed.Store(processed)
}

// Run speaks until ctx ends: that the node has come, its heartbeats, the events
// of tasks in the order they came in, and that the node leaves.
func (e *Emitter) Run(ctx context.Context) {
	present := false // the monitors were told of the node
	beats := time.NewTicker(heartbeatEvery)
	defer beats.Stop()
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		wake := e.wake
		if !present {
			wake = nil // the node comes before its tasks
		}
		var err error
		select {
		case <-ctx.Done():
			e.leave(ctx, present)
			return
		case <-retry.C:
			if !present {
				err = e.worker(ctx, "worker-online")
				present = err == nil
			}
			signal(e.wake)
		case <-beats.C:
			if present {
				err = e.worker(ctx, "worker-heartbeat")
			}
		case <-e.beat:
			if present {
				err = e.worker(ctx, "worker-heartbeat")
			}
		case <-wake:
			err = e.some(ctx)
		}
		if err != nil {
			// Monitors may have given the node up by the time it is heard again.
			present = false
			retry.Reset(eventPause)
		}
	}
}

// leave tells what is left, and that the node is gone.
func (e *Emitter) leave(ctx context.Context, present bool) {
	if !present {
		return
	}
	for until := time.Now().Add(lastEvents); e.pending() > 0 && time.Now().Before(until); {
		if err := e.some(ctx); err != nil {
			return // Redis is away: the missing heartbeats say the same
		}
	}
	_ = e.worker(ctx, "worker-offline") // as above
}

// worker publishes an event of the node itself.
func (e *Emitter) worker(ctx context.Context, kind string) error {
	body, err := json.Marshal(e.complete(event{kind: kind, node: e.node, at: time.Now(), fields: map[string]any{
		"freq": heartbeatEvery.Seconds(), "active": e.active.Load(), "processed": e.processed.Load(), "loadavg": loadAverage(),
		"sw_ident": "nanoos", "sw_ver": Version(), "sw_sys": "Linux",
	}}))
	if err != nil {
		return fmt.Errorf("encode %s: %w", kind, err)
	}
	return e.publish(ctx, strings.ReplaceAll(kind, "-", "."), body)
}

// some publishes the oldest events of tasks. Those that were published leave the
// queue; what Redis did not take is tried again.
func (e *Emitter) some(ctx context.Context) error {
	e.mu.Lock()
	n := min(len(e.queue), eventBatch)
	batch, until := append([]event(nil), e.queue[:n]...), e.first+int64(n)
	e.mu.Unlock()
	if n == 0 {
		return nil
	}
	bodies := make([]json.RawMessage, 0, n)
	for _, one := range batch {
		// What cannot be written as JSON, such as an infinite number, is left out.
		if raw, err := json.Marshal(e.complete(one)); err == nil {
			bodies = append(bodies, raw)
		}
	}
	body, err := json.Marshal(bodies)
	if err != nil {
		return fmt.Errorf("encode events: %w", err)
	}
	if err := e.publish(ctx, "task.multi", body); err != nil {
		return err
	}
	e.mu.Lock()
	// Some of the batch may have been dropped meanwhile.
	if gone := until - e.first; gone > 0 {
		clear(e.queue[:gone])
		e.queue, e.first = e.queue[gone:], until
	}
	more := len(e.queue) > 0
	e.mu.Unlock()
	if more {
		signal(e.wake)
	}
	return nil
}

func (e *Emitter) pending() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.queue)
}

// complete adds what all events have. The clock ticks for each.
func (e *Emitter) complete(one event) map[string]any {
	full := make(map[string]any, len(one.fields)+6)
	maps.Copy(full, one.fields)
	full["type"], full["hostname"], full["pid"] = one.kind, one.node, os.Getpid()
	full["clock"], full["timestamp"], full["utcoffset"] = e.c.clock.tick(), seconds(one.at), hoursWest(one.at)
	return full
}

// publish is not interrupted by a node that leaves: it is bounded, and what was
// begun is told once.
func (e *Emitter) publish(ctx context.Context, key string, body []byte) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), eventTimeout)
	defer cancel()
	message := envelope(body, map[string]any{"hostname": e.node}, "celeryev", key)
	return e.c.broker.Publish(ctx, e.c.fanout("celeryev", key), message).Err()
}

// hoursWest is how many hours a time zone is west of Greenwich, downwards, as
// Python says it.
func hoursWest(at time.Time) int {
	_, east := at.Zone()
	west := -east / 3600
	if -east < 0 && east%3600 != 0 {
		west--
	}
	return west
}

func seconds(at time.Time) float64 { return float64(at.UnixMicro()) / 1e6 }

// loadAverage is the machine's load over 1, 5 and 15 minutes.
func loadAverage() [3]float64 {
	var load [3]float64
	raw, err := os.ReadFile("/proc/loadavg")
	if err == nil {
		_, _ = fmt.Sscan(string(raw), &load[0], &load[1], &load[2]) // zeros where it is not known
	}
	return load
}

// Version is the version of this program; "devel" when it was not built from one.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

// signal sets a channel of capacity 1.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
