package celery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nano-os/nanoos/internal/celery/wire"
)

// desk is what remote control needs of the front door.
type desk interface {
	// Tasks lists tasks of this node: "active", "reserved" or "scheduled".
	Tasks(ctx context.Context, which string) ([]TaskInfo, error)
	Find(ctx context.Context, ids []string) ([]TaskInfo, error)
	// Revoke forgets tasks, those that have not come yet among them, and with
	// terminate stops those that run. It returns what it stopped.
	Revoke(ctx context.Context, ids []string, terminate bool, signal string) (stopped []string, err error)
	Revoked(ctx context.Context) ([]string, error)
	Registered() []string
	Queues() []wire.Queue
	AddQueue(ctx context.Context, q wire.Queue) error
	CancelQueue(ctx context.Context, name string) error
	// Resize adds n, or takes -n away, from how many tasks run at a time. Its
	// error is for people.
	Resize(n int) error
	Pool() PoolInfo
	// Shutdown begins a shutdown in good order, and does not wait for it.
	Shutdown()
}

// TaskInfo is a task as remote control shows it.
type TaskInfo struct {
	Task         wire.Task
	State        string    // active, reserved, scheduled; or ready: it is over
	Started      time.Time // zero: not yet
	PID          int       // 0: none
	Acknowledged bool
	ETA          time.Time // zero: as soon as possible
}

// PoolInfo is what runs the tasks.
type PoolInfo struct {
	Max      int
	PIDs     []int
	Totals   map[string]int64 // tasks begun, by the name shown
	Prefetch int
}

const (
	// quickly bounds a command that others wait behind, slowly one that has a
	// goroutine of its own; clients wait for a second.
	quickly, slowly = 2 * time.Second, 5 * time.Second
	// revokeFor is how long a revocation is tried while the database is away:
	// most clients do not stay to hear that it was.
	revokeFor = time.Minute
	// countEvery is how old the numbers in a heartbeat may be.
	countEvery = 4 * time.Second
	// maxRevoked bounds the ids of one request, as Celery does.
	maxRevoked = 50_000
	// maxResize bounds a change of the pool.
	maxResize = 4096
)

// remote answers remote control as a Celery worker does.
type remote struct {
	desk    desk
	node    string
	events  *wire.Emitter
	redis   *wire.Client
	limits  *limits
	began   time.Time
	methods map[string]method
}

// method is one command.
type method struct {
	name  string // what errors call it
	run   func(ctx context.Context, args asked) (any, error)
	needs []string
	// later, if not 0, is how long one may take that asks the database: it gets a
	// goroutine of its own, and others do not wait for it.
	later time.Duration
	// silent is one that never replies.
	silent bool
}

func newRemote(d desk, node string, events *wire.Emitter, l *limits) *remote {
	r := &remote{desk: d, node: node, events: events, redis: events.Client(), limits: l, began: time.Now()}
	r.methods = make(map[string]method)
	for _, m := range slices.Concat(r.commands(), r.inspections()) {
		r.methods[m.name] = m
	}
	for alias, name := range aliases {
		r.methods[alias] = r.methods[name]
	}
	return r
}

// count keeps what heartbeats say of the node's tasks up to date until ctx ends.
func (r *remote) count(ctx context.Context) {
	for ctx.Err() == nil {
		r.load(ctx)
		sleep(ctx, countEvery)
	}
}

// load looks once. While the database is away, the last numbers stand.
func (r *remote) load(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, quickly)
	defer cancel()
	active, err := r.desk.Tasks(ctx, "active")
	if err != nil {
		return
	}
	var processed int64
	for _, n := range r.desk.Pool().Totals {
		processed += n
	}
	r.events.Load(int64(len(active)), processed)
}

// handle answers one request: it is what wire.Client.Listen calls.
func (r *remote) handle(req wire.Request) (reply any, wanted bool) {
	m, known := r.methods[req.Method]
	if !known {
		return failure(&pythonError{"KeyError", req.Method}), true
	}
	args, err := readArguments(req.Arguments)
	if err == nil {
		err = args.need(m)
	}
	if err != nil {
		return failure(err), !m.silent
	}
	if m.later > 0 {
		return wire.Later(func(ctx context.Context) any { return m.answer(ctx, m.later, args) }), true
	}
	return m.answer(context.Background(), quickly, args), !m.silent
}

func (m method) answer(ctx context.Context, atMost time.Duration, args asked) any {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	reply, err := m.run(ctx, args)
	if err != nil {
		return failure(err)
	}
	return reply
}

// commands change something.
func (r *remote) commands() []method {
	return []method{
		{name: "ping", run: r.ping},
		{name: "revoke", run: r.revoke, needs: []string{"task_id"}, later: revokeFor},
		{name: "terminate", run: r.terminate, needs: []string{"signal", "task_id"}, later: revokeFor},
		{name: "rate_limit", run: r.rateLimit, needs: []string{"task_name", "rate_limit"}},
		{name: "time_limit", run: r.timeLimit},
		{name: "add_consumer", run: r.addConsumer, needs: []string{"queue"}},
		{name: "cancel_consumer", run: r.cancelConsumer, needs: []string{"queue"}},
		{name: "pool_grow", run: r.resize(+1, "pool will grow")},
		{name: "pool_shrink", run: r.resize(-1, "pool will shrink")},
		{name: "pool_restart", run: refuse("Pool restarts not enabled")},
		{name: "autoscale", run: refuse("Autoscale not enabled")},
		{name: "enable_events", run: r.tellTasks(true, "enabled")},
		{name: "disable_events", run: r.tellTasks(false, "disabled")},
		{name: "heartbeat", run: r.heartbeat},
		// Nodes elect nobody: one of the servers leads by the database.
		{name: "election", run: nothing, needs: []string{"id", "topic"}},
		{name: "shutdown", run: r.shutdown, silent: true},
	}
}

// done and failure are what clients know as success and as an error.
func done(format string, args ...any) map[string]any {
	return map[string]any{"ok": fmt.Sprintf(format, args...)}
}

func failure(err error) any {
	if e, ok := errors.AsType[*pythonError](err); ok {
		return map[string]any{"error": e.class + "(" + wire.Repr(e.message) + ")"}
	}
	return map[string]any{"error": "RuntimeError(" + wire.Repr(err.Error()) + ")"}
}

func nothing(context.Context, asked) (any, error) { return nil, nil }

func refuse(why string) func(context.Context, asked) (any, error) {
	return func(context.Context, asked) (any, error) { return nil, &pythonError{"ValueError", why} }
}

func (r *remote) ping(context.Context, asked) (any, error) { return done("pong"), nil }

// revoke forgets tasks, and with terminate stops them.
func (r *remote) revoke(ctx context.Context, args asked) (any, error) {
	ids := slices.DeleteFunc(args.texts("task_id"), noID)
	signal, err := signalName(args.text("signal"))
	if err != nil {
		return nil, err
	}
	if len(ids) > maxRevoked {
		return nil, valueError("%d ids are too many: %d at a time", len(ids), maxRevoked)
	}
	terminate := args.truth("terminate")
	stopped, err := r.persistently(ctx, ids, terminate, signal)
	switch {
	case err != nil:
		return nil, err
	case !terminate:
		return done("tasks %s flagged as revoked", strings.Join(ids, ", ")), nil
	case len(stopped) == 0:
		return done("terminate: tasks unknown"), nil
	}
	return done("terminate: %s", strings.Join(stopped, ", ")), nil
}

func (r *remote) terminate(ctx context.Context, args asked) (any, error) {
	args["terminate"] = json.RawMessage("true")
	return r.revoke(ctx, args)
}

// persistently revokes tasks as soon as the database is there.
func (r *remote) persistently(ctx context.Context, ids []string, terminate bool, signal string) ([]string, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		stopped, err := r.desk.Revoke(ctx, ids, terminate, signal)
		if err == nil || ctx.Err() != nil || exception(err) != nil {
			return stopped, err
		}
		sleep(ctx, pause)
	}
}

// noID reports whether no task can have the id: there is nothing to forget then.
func noID(id string) bool {
	return id == "" || len(id) > 255 || strings.ContainsFunc(id, func(c rune) bool { return c <= ' ' || c == 0x7f || c == utf8.RuneError })
}

// signals are those that make sense for a program that runs.
var signals = map[string]string{
	"1": "HUP", "2": "INT", "3": "QUIT", "6": "ABRT", "9": "KILL", "10": "USR1", "12": "USR2", "15": "TERM",
}

// signalName reads a signal: SIGTERM, TERM or 15, in either case.
func signalName(text string) (string, error) {
	if text == "" {
		return "SIGTERM", nil
	}
	name := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	for number, known := range signals {
		if name == known || name == number {
			return "SIG" + known, nil
		}
	}
	return "", valueError("signal %s is unknown", text)
}

// rateLimit sets how often a task may start.
func (r *remote) rateLimit(_ context.Context, args asked) (any, error) {
	task, rate := args.text("task_name"), args.text("rate_limit")
	interval, err := parseRate(rate)
	if e, ok := errors.AsType[*pythonError](err); ok {
		return map[string]any{"error": "Invalid rate limit string: " + e.class + "(" + wire.Repr(e.message) + ")"}, nil
	}
	if !slices.Contains(r.desk.Registered(), task) {
		return map[string]any{"error": "unknown task"}, nil
	}
	r.limits.SetRate(task, rate, interval)
	if interval == 0 {
		return done("rate limit disabled successfully"), nil
	}
	return done("new rate limit set successfully"), nil
}

// timeLimit sets how long a task may run that does not say so itself.
func (r *remote) timeLimit(_ context.Context, args asked) (any, error) {
	soft, err := args.seconds("soft")
	if err != nil {
		return nil, err
	}
	hard, err := args.seconds("hard")
	if err != nil {
		return nil, err
	}
	task := args.text("task_name")
	if !slices.Contains(r.desk.Registered(), task) {
		return map[string]any{"error": "unknown task"}, nil
	}
	r.limits.SetTimes(task, soft, hard)
	return done("time limits set successfully"), nil
}

func (r *remote) addConsumer(ctx context.Context, args asked) (any, error) {
	name := args.text("queue")
	if err := r.redis.CheckQueue(name); err != nil {
		return nil, valueError("%s", err)
	}
	q := wire.Queue{Name: name, Exchange: args.text("exchange"), ExchangeType: args.text("exchange_type"), RoutingKey: args.text("routing_key")}
	if err := r.desk.AddQueue(ctx, q); err != nil {
		return nil, err
	}
	return done("add consumer %s", name), nil
}

func (r *remote) cancelConsumer(ctx context.Context, args asked) (any, error) {
	name := args.text("queue")
	if err := r.desk.CancelQueue(ctx, name); err != nil {
		return nil, err
	}
	return done("no longer consuming from %s", name), nil
}

// resize grows the pool, or with a direction of -1 shrinks it.
func (r *remote) resize(direction int, reply string) func(context.Context, asked) (any, error) {
	return func(_ context.Context, args asked) (any, error) {
		n, err := args.whole("n", 1)
		if err != nil {
			return nil, err
		}
		if n < 1 || n > maxResize {
			return nil, valueError("n must be from 1 to %d, not %d", maxResize, n)
		}
		if err := r.desk.Resize(direction * n); err != nil {
			return map[string]any{"error": err.Error()}, nil
		}
		return done("%s", reply), nil
	}
}

// tellTasks turns the events of tasks on or off.
func (r *remote) tellTasks(on bool, word string) func(context.Context, asked) (any, error) {
	return func(context.Context, asked) (any, error) {
		if r.events.Tasks(on) {
			return done("task events %s", word), nil
		}
		return done("task events already %s", word), nil
	}
}

func (r *remote) heartbeat(context.Context, asked) (any, error) {
	r.events.Beat()
	return nil, nil
}

// shutdown is obeyed without a word: the client expects none.
func (r *remote) shutdown(context.Context, asked) (any, error) {
	r.desk.Shutdown()
	return nil, nil
}

// asked are the arguments of a request. Clients are loose about types: a number
// may be a text, one text may stand for a list of texts, null is like nothing.
type asked map[string]json.RawMessage

func readArguments(raw json.RawMessage) (asked, error) {
	args := make(asked)
	if len(raw) == 0 || string(raw) == "null" {
		return args, nil
	}
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, typeError("arguments must be an object")
	}
	return args, nil
}

// need complains about arguments that are missing, in Python's words.
func (a asked) need(m method) error {
	var missing []string
	for _, name := range m.needs {
		if _, given := a[name]; !given {
			missing = append(missing, "'"+name+"'")
		}
	}
	n := len(missing)
	switch n {
	case 0:
		return nil
	case 1:
		return typeError("%s() missing 1 required positional argument: %s", m.name, missing[0])
	case 2:
		return typeError("%s() missing 2 required positional arguments: %s and %s", m.name, missing[0], missing[1])
	}
	return typeError("%s() missing %d required positional arguments: %s, and %s", m.name, n, strings.Join(missing[:n-1], ", "), missing[n-1])
}

// text is a text, or a number as it was written.
func (a asked) text(name string) string { return plainText(a[name]) }

func plainText(raw json.RawMessage) string {
	var text string
	raw = bytes.TrimSpace(raw)
	if json.Unmarshal(raw, &text) == nil || len(raw) == 0 || raw[0] == '{' || raw[0] == '[' {
		return text
	}
	return string(raw)
}

// texts is a list of texts, or one of them; each once.
func (a asked) texts(name string) []string {
	var items []json.RawMessage
	if json.Unmarshal(a[name], &items) != nil {
		items = []json.RawMessage{a[name]}
	}
	texts := make([]string, 0, len(items))
	seen := make(map[string]bool, len(items))
	for _, item := range items {
		if text := plainText(item); text != "" && !seen[text] {
			seen[text] = true
			texts = append(texts, text)
		}
	}
	return texts
}

// truth is what Python takes for true.
func (a asked) truth(name string) bool {
	switch string(bytes.TrimSpace(a[name])) {
	case "", "null", "false", "0", "0.0", `""`, "[]", "{}":
		return false
	}
	return true
}

// seconds is a time of 0 or more; nothing is 0.
func (a asked) seconds(name string) (float64, error) {
	text := a.text(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(n) || n < 0 || n > maxAhead.Seconds() {
		return 0, valueError("%s must be a number of seconds from 0 to %.0f, not %s", name, maxAhead.Seconds(), text)
	}
	return n, nil
}

// whole is a whole number.
func (a asked) whole(name string, orElse int) (int, error) {
	text := a.text(name)
	if text == "" {
		return orElse, nil
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n != math.Trunc(n) || math.Abs(n) > math.MaxInt32 {
		return 0, valueError("%s must be a whole number, not %s", name, text)
	}
	return int(n), nil
}
