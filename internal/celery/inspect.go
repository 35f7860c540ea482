package celery

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nano-os/nanoos/internal/celery/wire"
)

// aliases are the old names of inspections.
var aliases = map[string]string{
	"dump_active": "active", "dump_reserved": "reserved", "dump_schedule": "scheduled",
	"dump_revoked": "revoked", "dump_tasks": "registered", "dump_conf": "conf",
}

// inspections change nothing.
func (r *remote) inspections() []method {
	return []method{
		{name: "active", run: r.tasks("active"), later: slowly},
		{name: "reserved", run: r.tasks("reserved"), later: slowly},
		{name: "scheduled", run: r.scheduled, later: slowly},
		{name: "query_task", run: r.queryTask, needs: []string{"ids"}, later: slowly},
		{name: "revoked", run: r.revoked, later: slowly},
		{name: "registered", run: r.registered},
		{name: "active_queues", run: r.activeQueues},
		{name: "stats", run: r.stats, later: slowly},
		{name: "conf", run: r.conf},
		{name: "report", run: r.report},
		{name: "clock", run: r.clock},
		{name: "hello", run: r.hello, needs: []string{"from_node"}, later: slowly},
		// These look into a Python interpreter.
		{name: "memsample", run: nothing},
		{name: "memdump", run: nothing},
		{name: "objgraph", run: nothing},
	}
}

// tasks lists the tasks of this node in a state.
func (r *remote) tasks(which string) func(context.Context, asked) (any, error) {
	return func(ctx context.Context, args asked) (any, error) {
		infos, err := r.desk.Tasks(ctx, which)
		if err != nil {
			return nil, err
		}
		list := make([]any, 0, len(infos))
		for _, info := range infos {
			list = append(list, r.request(info, args.truth("safe")))
		}
		return list, nil
	}
}

// timerPriority is what Celery's timer says of every task that waits for its
// time.
const timerPriority = 6

func (r *remote) scheduled(ctx context.Context, args asked) (any, error) {
	infos, err := r.desk.Tasks(ctx, "scheduled")
	if err != nil {
		return nil, err
	}
	list := make([]any, 0, len(infos))
	for _, info := range infos {
		var eta any
		if !info.ETA.IsZero() {
			eta = isoTime(info.ETA)
		}
		list = append(list, map[string]any{"eta": eta, "priority": timerPriority, "request": r.request(info, args.truth("safe"))})
	}
	return list, nil
}

// isoTime is a time as Python writes it.
func isoTime(t time.Time) string {
	if t.Nanosecond()/1000 == 0 {
		return t.UTC().Format("2006-01-02T15:04:05-07:00")
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000-07:00")
}

// queryTask tells how tasks stand, by their ids.
func (r *remote) queryTask(ctx context.Context, args asked) (any, error) {
	infos, err := r.desk.Find(ctx, args.texts("ids"))
	if err != nil {
		return nil, err
	}
	found := make(map[string]any, len(infos))
	for _, info := range infos {
		state := info.State
		if state == "scheduled" {
			state = "reserved" // Celery knows no other word for those
		}
		found[info.Task.ID] = []any{state, r.request(info, false)}
	}
	return found, nil
}

// request describes a task. Its arguments are written as they came; safe has
// them as texts, for readers that cannot know what is in them.
func (r *remote) request(info TaskInfo, safe bool) map[string]any {
	t := info.Task
	var args, kwargs any = orElse(t.RawArgs, "[]"), orElse(t.RawKwargs, "{}")
	if safe {
		args = cmp.Or(t.ArgsRepr, string(orElse(t.RawArgs, "()")))
		kwargs = cmp.Or(t.KwargsRepr, string(orElse(t.RawKwargs, "{}")))
	}
	var started, pid, redelivered any
	if !info.Started.IsZero() {
		started = float64(info.Started.UnixMicro()) / 1e6
	}
	if info.PID != 0 {
		pid = info.PID
	}
	if t.Redelivered {
		redelivered = true
	}
	return map[string]any{
		"id": t.ID, "name": cmp.Or(t.Shadow, t.Name), "type": t.Name, "args": args, "kwargs": kwargs,
		"hostname": r.node, "time_start": started, "acknowledged": info.Acknowledged, "worker_pid": pid,
		"delivery_info": map[string]any{"exchange": t.Exchange, "routing_key": t.RoutingKey, "priority": t.Priority, "redelivered": redelivered},
	}
}

func orElse(raw json.RawMessage, otherwise string) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage(otherwise)
	}
	return raw
}

func (r *remote) revoked(ctx context.Context, _ asked) (any, error) {
	ids, err := r.desk.Revoked(ctx)
	return append([]string{}, ids...), err
}

// registered lists the tasks by name, with what was asked for of each.
func (r *remote) registered(_ context.Context, args asked) (any, error) {
	items := args.texts("taskinfoitems")
	if len(items) == 0 {
		items = []string{"exchange", "routing_key", "rate_limit"}
	}
	names := slices.Sorted(slices.Values(r.desk.Registered()))
	list := make([]string, 0, len(names))
	for _, name := range names {
		var info []string
		for _, item := range items {
			if value := r.taskItem(name, item); value != "" {
				info = append(info, item+"="+value)
			}
		}
		if len(info) > 0 {
			name += " [" + strings.Join(info, " ") + "]"
		}
		list = append(list, name)
	}
	return list, nil
}

// taskItem is an attribute of a task as Celery calls it; "" for one that it has
// not.
func (r *remote) taskItem(task, item string) string {
	soft, hard := r.limits.Times(task)
	switch item {
	case "name":
		return task
	case "rate_limit":
		return r.limits.Rate(task)
	case "soft_time_limit":
		return secondsOrNothing(soft)
	case "time_limit":
		return secondsOrNothing(hard)
	case "serializer":
		return "json"
	case "acks_late", "track_started":
		return "True"
	}
	return ""
}

func secondsOrNothing(s float64) string {
	if s == 0 {
		return ""
	}
	return strconv.FormatFloat(s, 'g', -1, 64)
}

// activeQueues lists the queues that are consumed.
func (r *remote) activeQueues(context.Context, asked) (any, error) {
	queues := r.desk.Queues()
	list := make([]any, 0, len(queues))
	for _, q := range queues {
		list = append(list, map[string]any{
			"name": q.Name, "routing_key": cmp.Or(q.RoutingKey, q.Name),
			"exchange": map[string]any{
				"name": cmp.Or(q.Exchange, q.Name), "type": cmp.Or(q.ExchangeType, "direct"), "arguments": nil, "durable": true,
				"passive": false, "auto_delete": false, "delivery_mode": nil, "no_declare": false,
			},
			"queue_arguments": nil, "binding_arguments": nil, "consumer_arguments": nil,
			"durable": true, "exclusive": false, "auto_delete": false, "no_ack": false, "alias": nil, "bindings": []any{},
			"no_declare": nil, "expires": nil, "message_ttl": nil, "max_length": nil, "max_length_bytes": nil, "max_priority": nil,
		})
	}
	return list, nil
}

// stats describes the node. Flower shows no node without it.
func (r *remote) stats(context.Context, asked) (any, error) {
	pool := r.desk.Pool()
	totals := make(map[string]any, len(pool.Totals))
	var all int64
	for name, n := range pool.Totals {
		totals[name] = n
		all += n
	}
	return map[string]any{
		"total": totals, "pid": os.Getpid(), "clock": strconv.FormatInt(r.redis.Clock(), 10), "uptime": int64(time.Since(r.began).Seconds()),
		"pool": map[string]any{
			"max-concurrency": pool.Max, "processes": append([]int{}, pool.PIDs...), "max-tasks-per-child": "N/A",
			"put-guarded-by-semaphore": false, "timeouts": []int{0, 0},
			"writes": map[string]any{
				"total": all, "avg": "1.00", "all": "1.00", "raw": strconv.FormatInt(all, 10), "strategy": "fair",
				"inqueues": map[string]any{"total": len(pool.PIDs), "active": 0},
			},
		},
		"broker": r.broker(), "prefetch_count": pool.Prefetch, "rusage": rusage(),
	}, nil
}

// broker describes the connection, without its password.
func (r *remote) broker() map[string]any {
	b := r.redis.Broker()
	var user any
	if b.User != "" {
		user = b.User
	}
	return map[string]any{
		"hostname": b.Host, "port": b.Port, "userid": user, "virtual_host": strconv.Itoa(b.DB), "transport": "redis", "ssl": b.TLS,
		"uri_prefix": nil, "insist": false, "connect_timeout": 4, "transport_options": map[string]any{}, "login_method": nil,
		"heartbeat": 120.0, "failover_strategy": "round-robin", "alternates": []any{},
	}
}

// rusage is what the process used, by the names of getrusage.
func rusage() map[string]any {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return map[string]any{}
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return map[string]any{
		"utime": seconds(u.Utime), "stime": seconds(u.Stime), "maxrss": u.Maxrss, "ixrss": u.Ixrss, "idrss": u.Idrss, "isrss": u.Isrss,
		"minflt": u.Minflt, "majflt": u.Majflt, "nswap": u.Nswap, "inblock": u.Inblock, "oublock": u.Oublock,
		"msgsnd": u.Msgsnd, "msgrcv": u.Msgrcv, "nsignals": u.Nsignals, "nvcsw": u.Nvcsw, "nivcsw": u.Nivcsw,
	}
}

// conf are the settings by the names that Celery has for them. Addresses come
// without their passwords.
func (r *remote) conf(context.Context, asked) (any, error) {
	opt := r.redis.Options()
	queues := make([]string, 0, len(r.desk.Queues()))
	for _, q := range r.desk.Queues() {
		queues = append(queues, q.Name)
	}
	return map[string]any{
		"broker_url": redacted(opt.URL), "result_backend": redacted(cmp.Or(opt.ResultURL, opt.URL)),
		"result_expires": opt.ResultExpires.Seconds(), "task_queues": queues,
		"broker_transport_options": map[string]any{
			"sep": opt.Separator, "priority_steps": opt.Steps, "global_keyprefix": opt.Prefix,
			"visibility_timeout": opt.VisibilityTimeout.Seconds(),
			"unacked_key":        opt.UnackedKey, "unacked_index_key": opt.UnackedIndexKey, "unacked_mutex_key": opt.UnackedMutexKey,
		},
		"accept_content": []string{"json"}, "task_serializer": "json", "result_serializer": "json", "timezone": "UTC", "enable_utc": true,
		"task_acks_late": true, "task_track_started": true, "worker_send_task_events": r.events.Wanted(),
	}, nil
}

// report describes the software, for reports of faults.
func (r *remote) report(context.Context, asked) (any, error) {
	opt := r.redis.Options()
	return done("\nsoftware -> nanoos:%s go:%s\nplatform -> system:%s arch:%s\nnode     -> %s\nsettings -> transport:redis %s results:%s\n",
		wire.Version(), strings.TrimPrefix(runtime.Version(), "go"), runtime.GOOS, runtime.GOARCH, r.node,
		redacted(opt.URL), redacted(cmp.Or(opt.ResultURL, opt.URL))), nil
}

func (r *remote) clock(context.Context, asked) (any, error) {
	return map[string]any{"clock": r.redis.Clock()}, nil
}

// hello tells a node that starts what was revoked, and learns what it knows to
// be.
func (r *remote) hello(ctx context.Context, args asked) (any, error) {
	if args.text("from_node") == r.node {
		return nil, nil
	}
	theirs, err := revokedOf(args["revoked"])
	if err != nil {
		return nil, err
	}
	ours, err := r.desk.Revoked(ctx)
	if err != nil {
		return nil, err
	}
	for _, id := range ours {
		delete(theirs, id)
	}
	maps.DeleteFunc(theirs, func(id string, _ bool) bool { return noID(id) })
	if len(theirs) > 0 && len(theirs) <= maxRevoked {
		if _, err := r.desk.Revoke(ctx, slices.Sorted(maps.Keys(theirs)), false, ""); err != nil {
			return nil, err
		}
	}
	// Every Celery takes the ids alone, and counts their age from now on.
	return map[string]any{"revoked": append([]string{}, ours...), "clock": r.redis.Tick()}, nil
}

// revokedOf reads the ids that a node brings: the keys of an object that has
// their times, or a list from newer nodes.
func revokedOf(raw json.RawMessage) (map[string]bool, error) {
	ids := make(map[string]bool)
	var list []string
	if json.Unmarshal(orElse(raw, "[]"), &list) == nil {
		for _, id := range list {
			ids[id] = true
		}
		return ids, nil
	}
	var times map[string]json.RawMessage
	if err := json.Unmarshal(raw, &times); err != nil {
		return nil, typeError("revoked must be a list or an object of ids")
	}
	for id := range times {
		ids[id] = true
	}
	return ids, nil
}

// redacted is the address of a Redis without its password, wherever it stands.
func redacted(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "redis://********"
	}
	if query := u.Query(); query.Has("password") {
		query.Set("password", "xxxxx")
		u.RawQuery = query.Encode()
	}
	return u.Redacted()
}
