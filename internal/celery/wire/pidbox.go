package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// pidboxExchange carries requests to all nodes, replyExchange the replies.
	pidboxExchange, replyExchange = "celery.pidbox", "reply.celery.pidbox"
	// replyLife is how long a reply waits for a client that went away before it
	// removed its queue. Clients that are alive read it within a second.
	replyLife = 60 * time.Second
	// expiryGrace is by how much the clocks of client and server may differ: a
	// request is not dropped as too old before that.
	expiryGrace = 30 * time.Second
	// silence is how long a subscription may say nothing before it is asked
	// whether it lives; twice that, and it is given up.
	silence = 2 * time.Second
	// replyTimeout bounds the commands that send a reply.
	replyTimeout = 2 * time.Second
	// maxReplies bounds how many replies are made at the same time.
	maxReplies = 256
	// firstRetry and lastRetry bound the wait before a lost subscription is
	// made again.
	firstRetry, lastRetry = 50 * time.Millisecond, time.Second
	// maxPattern bounds the pattern of a request.
	maxPattern = 1024
)

// Request is a broadcast that was meant for this node.
type Request struct {
	Method    string
	Arguments json.RawMessage
	// Destination, or Pattern with Matcher, say which nodes are meant; without
	// them all are.
	Destination      []string
	Pattern, Matcher string
	// Ticket and ReplyTo say where the reply goes; a request without them wants
	// none.
	Ticket, ReplyTo string
	Expires         time.Time // zero: never
}

// Later makes a reply that takes its time, such as one from a database. It runs
// on a goroutine of its own, so that other requests are answered meanwhile.
type Later func(ctx context.Context) any

// Listen serves the broadcasts to a node until ctx ends, and subscribes again
// whenever the connection is lost. It calls handle for one request after
// another, in the order they came, so handle must not wait: what takes time is
// returned as a Later. A reply that is not wanted is not sent.
func (c *Client) Listen(ctx context.Context, node string, handle func(Request) (reply any, wanted bool)) error {
	l := &listener{c: c, node: node, handle: handle, slots: make(chan struct{}, maxReplies)}
	defer l.replies.Wait()
	pause := firstRetry
	for ctx.Err() == nil {
		began := time.Now()
		// Why it ended is said by whoever takes tasks from the same Redis.
		_ = l.serve(ctx)
		if time.Since(began) > lastRetry {
			pause = firstRetry
		}
		l.wait(ctx, pause)
		pause = min(2*pause, lastRetry)
	}
	return l.leave(ctx)
}

// listener serves the broadcasts to one node.
type listener struct {
	c      *Client
	node   string
	handle func(Request) (any, bool)

	slots   chan struct{} // one for each reply that is being made
	replies sync.WaitGroup
}

func (l *listener) wait(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// binding is the node's member of the routing table. Nobody reads it but people.
func (l *listener) binding() (key, member string) {
	return l.c.key("_kombu.binding." + pidboxExchange), l.c.member("", l.node+"."+pidboxExchange)
}

// leave removes what announces the node.
func (l *listener) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), replyTimeout)
	defer cancel()
	key, member := l.binding()
	if err := l.c.broker.SRem(ctx, key, member).Err(); err != nil {
		return fmt.Errorf("remove the binding of %s: %w", l.node, err)
	}
	return nil
}

// serve subscribes and serves until the connection is lost.
func (l *listener) serve(ctx context.Context) error {
	sub := l.c.broker.Subscribe(ctx)
	defer sub.Close()
	// A read does not end with its context.
	defer context.AfterFunc(ctx, func() { _ = sub.Close() })()
	if err := l.subscribe(ctx, sub); err != nil {
		return fmt.Errorf("subscribe to remote control: %w", err)
	}
	asked := false // a sign of life was asked for
	for {
		message, err := sub.ReceiveTimeout(ctx, silence)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case isTimeout(err) && !asked:
			if err := l.bounded(ctx, func(ctx context.Context) error { return sub.Ping(ctx) }); err != nil {
				return fmt.Errorf("listen to remote control: %w", err)
			}
			asked = true
			continue
		case err != nil:
			return fmt.Errorf("listen to remote control: %w", err)
		}
		asked = false
		if m, ok := message.(*redis.Message); ok {
			l.receive(ctx, []byte(m.Payload))
		}
	}
}

func (l *listener) subscribe(ctx context.Context, sub *redis.PubSub) error {
	return l.bounded(ctx, func(ctx context.Context) error {
		if err := sub.Subscribe(ctx, l.c.fanout(pidboxExchange, "")); err != nil {
			return err
		}
		key, member := l.binding()
		return l.c.broker.SAdd(ctx, key, member).Err()
	})
}

func (l *listener) bounded(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, replyTimeout)
	defer cancel()
	return do(ctx)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// receive serves one broadcast.
func (l *listener) receive(ctx context.Context, raw []byte) {
	r, clock, err := decodeRequest(raw)
	l.c.clock.see(clock)
	if err != nil || !r.meant(l.node) {
		return // what is no request has nobody who could be told
	}
	if !r.Expires.IsZero() && time.Since(r.Expires) > expiryGrace {
		return
	}
	reply, wanted := l.handle(r)
	if later, ok := reply.(Later); ok {
		select {
		case l.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		l.replies.Go(func() {
			defer func() { <-l.slots }()
			l.reply(ctx, r, later(ctx), wanted)
		})
		return
	}
	l.reply(ctx, r, reply, wanted)
}

// reply sends a reply if anybody waits for it. One that cannot be sent is lost:
// its client gives up after a second.
func (l *listener) reply(ctx context.Context, r Request, reply any, wanted bool) {
	if !wanted || r.ReplyTo == "" {
		return
	}
	_ = l.bounded(ctx, func(ctx context.Context) error {
		queues, err := l.waiting(ctx, r.ReplyTo)
		if err != nil || len(queues) == 0 {
			return err
		}
		body, err := appendJSON(nil, map[string]any{l.node: reply})
		if err != nil {
			return err
		}
		headers := map[string]any{"ticket": r.Ticket, "clock": l.c.clock.tick()}
		message := envelope(body, headers, replyExchange, r.ReplyTo)
		_, err = l.c.broker.TxPipelined(ctx, func(p redis.Pipeliner) error {
			for _, queue := range queues {
				p.LPush(ctx, l.c.key(queue), message)
				p.Expire(ctx, l.c.key(queue), replyLife)
			}
			return nil
		})
		return err
	})
}

// waiting returns the queues that a client reads its replies from; none when it
// has gone. A client's own name for its queue is tried first: the table keeps
// the entries of clients that died.
func (l *listener) waiting(ctx context.Context, client string) ([]string, error) {
	key := l.c.key("_kombu.binding." + replyExchange)
	usual := client + "." + replyExchange
	bound, err := l.c.broker.SIsMember(ctx, key, l.c.member(client, usual)).Result()
	if err != nil || bound {
		return []string{usual}, err
	}
	members, err := l.c.broker.SMembers(ctx, key).Result()
	var queues []string
	for _, member := range members {
		if parts := strings.Split(member, l.c.opt.Separator); len(parts) == 3 && parts[0] == client {
			queues = append(queues, parts[2])
		}
	}
	return queues, err
}

// decodeRequest reads a broadcast, and the clock of whoever sent it.
func decodeRequest(raw []byte) (Request, int64, error) {
	body, headers, err := unwrapped(raw)
	if err != nil {
		return Request{}, 0, fmt.Errorf("read a request: %w", err)
	}
	var clock, expires float64
	header(headers, "clock", &clock)
	header(headers, "expires", &expires)
	var b struct {
		Method      string          `json:"method"`
		Arguments   json.RawMessage `json:"arguments"`
		Destination json.RawMessage `json:"destination"`
		Pattern     string          `json:"pattern"`
		Matcher     string          `json:"matcher"`
		Ticket      string          `json:"ticket"`
		ReplyTo     *struct {
			RoutingKey string `json:"routing_key"`
		} `json:"reply_to"`
	}
	if err := json.Unmarshal(body, &b); err != nil {
		return Request{}, int64(clock), fmt.Errorf("read a request: %w", err)
	}
	r := Request{Method: b.Method, Arguments: b.Arguments, Pattern: b.Pattern, Matcher: b.Matcher, Ticket: b.Ticket}
	if b.ReplyTo != nil {
		r.ReplyTo = b.ReplyTo.RoutingKey
	}
	if expires > 0 && expires < maxClock {
		r.Expires = time.UnixMicro(int64(expires * 1e6))
	}
	r.Destination, err = destination(b.Destination)
	return r, int64(clock), err
}

// unwrapped takes a broadcast out of its envelope.
func unwrapped(raw []byte) (body []byte, headers map[string]json.RawMessage, err error) {
	if len(raw) > maxMessage {
		return nil, nil, fmt.Errorf("it has %d bytes, more than %d", len(raw), maxMessage)
	}
	text, err := strict(raw)
	if err != nil {
		return nil, nil, err
	}
	e, err := envelopeIn(text)
	if err != nil {
		return nil, nil, err
	}
	body, fault := e.body()
	if fault != nil {
		return nil, nil, errors.New(fault.Reason)
	}
	return body, e.Headers, nil
}

// destination reads the nodes that a request is for: a list, or one name.
func destination(raw json.RawMessage) ([]string, error) {
	var names []string
	if len(raw) == 0 || json.Unmarshal(raw, &names) == nil {
		return names, nil
	}
	var name string
	if err := json.Unmarshal(raw, &name); err != nil {
		return nil, fmt.Errorf("read the destination of a request: %w", err)
	}
	return []string{name}, nil
}

// meant reports whether the request is for the node.
func (r Request) meant(node string) bool {
	switch {
	case len(r.Destination) > 0:
		return slices.Contains(r.Destination, node)
	case r.Pattern == "" || r.Matcher == "":
		return true
	case len(r.Pattern) > maxPattern:
		return false
	}
	pattern := r.Pattern
	switch r.Matcher {
	case "glob":
		pattern = globPattern(pattern)
	case "pcre":
		pattern = `\A(?:` + pattern + `)` // matches at the beginning, like Python's re.match
	default:
		return false
	}
	re, err := regexp.Compile(pattern)
	return err == nil && re.MatchString(node)
}

// globPattern is the regular expression for a shell pattern with *, ?, [abc] and
// [!abc]. A star matches anything.
func globPattern(glob string) string {
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	for i := 0; i < len(glob); i++ {
		switch glob[i] {
		case '*':
			b.WriteString(`.*`)
		case '?':
			b.WriteByte('.')
		case '[':
			end := strings.IndexByte(glob[min(i+2, len(glob)):], ']')
			if end < 0 {
				b.WriteString(`\[`)
				continue
			}
			set := glob[i+1 : i+2+end]
			i += 2 + end
			b.WriteByte('[')
			if rest, not := strings.CutPrefix(set, "!"); not {
				b.WriteByte('^')
				set = rest
			}
			b.WriteString(strings.NewReplacer(`\`, `\\`, `[`, `\[`, `]`, `\]`, `^`, `\^`).Replace(set))
			b.WriteByte(']')
		default:
			b.WriteString(regexp.QuoteMeta(glob[i : i+1]))
		}
	}
	b.WriteString(`\z`)
	return b.String()
}

// appendJSON writes a reply. Arguments of tasks, which are json.RawMessage, are
// written as they came, although Python's NaN and Infinity are no JSON: the
// client is Python.
func appendJSON(b []byte, v any) ([]byte, error) {
	var err error
	switch v := v.(type) {
	case json.RawMessage:
		if len(v) == 0 {
			return append(b, "null"...), nil
		}
		return append(b, v...), nil
	case map[string]any:
		b = append(b, '{')
		for i, key := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = appendJSON(b, key); err != nil {
				return nil, err
			}
			if b, err = appendJSON(append(b, ':'), v[key]); err != nil {
				return nil, err
			}
		}
		return append(b, '}'), nil
	case []any:
		b = append(b, '[')
		for i, item := range v {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = appendJSON(b, item); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	}
	var plain bytes.Buffer
	encoder := json.NewEncoder(&plain)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, fmt.Errorf("encode a reply: %w", err)
	}
	return append(b, bytes.TrimSpace(plain.Bytes())...), nil
}

// maxClock bounds a clock that is believed: beyond it JSON loses digits.
const maxClock = 1 << 52

// lamport is the logical clock that monitors order events by. It is never behind
// the milliseconds of the time of day, so that it goes on where it was after a
// restart, and the clocks of several nodes agree.
type lamport struct{ last atomic.Int64 }

// tick returns the next value.
func (l *lamport) tick() int64 {
	for {
		last := l.last.Load()
		next := max(last+1, time.Now().UnixMilli())
		if l.last.CompareAndSwap(last, next) {
			return next
		}
	}
}

// see notes the clock of a message, so that what follows from it is later.
func (l *lamport) see(other int64) {
	for other < maxClock {
		last := l.last.Load()
		if other <= last || l.last.CompareAndSwap(last, other) {
			break
		}
	}
	l.tick()
}

// Clock is the logical clock as it is.
func (c *Client) Clock() int64 { return c.clock.last.Load() }

// Tick is the logical clock for something that happens now.
func (c *Client) Tick() int64 { return c.clock.tick() }

// Broker says where the messages come from, for people: without the password.
type Broker struct {
	Host string
	Port int // 0: a socket of the machine
	User string
	DB   int
	TLS  bool
}

// Broker is the Redis that is used.
func (c *Client) Broker() Broker {
	opt := c.broker.Options()
	b := Broker{Host: opt.Addr, User: opt.Username, DB: opt.DB, TLS: opt.TLSConfig != nil}
	if host, port, err := net.SplitHostPort(opt.Addr); err == nil {
		b.Host = host
		b.Port, _ = strconv.Atoi(port) // it was dialled
	}
	return b
}

// Options are those in force.
func (c *Client) Options() Options { return c.opt }
