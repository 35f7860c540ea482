package wire

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/celery/redistest"
)

const testNode = "go1@host9"

// listening is a node that answers with the name of the method.
func listening(t *testing.T, opt Options, handle func(Request) (any, bool)) *Client {
	t.Helper()
	c := connected(t, opt)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Listen(ctx, testNode, handle); err != nil {
			t.Errorf("listen: %v", err)
		}
	})
	t.Cleanup(wg.Wait)
	t.Cleanup(cancel)
	heard(t, c)
	return c
}

func connected(t *testing.T, opt Options) *Client {
	t.Helper()
	c, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

// heard waits until somebody listens to broadcasts.
func heard(t *testing.T, c *Client) {
	t.Helper()
	channel := c.fanout(pidboxExchange, "")
	eventually(t, "the node listens", func() bool {
		n, err := c.broker.PubSubNumSub(t.Context(), channel).Result()
		return err == nil && n[channel] == 1
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("it did not come to pass that %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func echo(r Request) (any, bool) { return r.Method, true }

// ask broadcasts a request as a client does that bound its queue for replies.
func ask(t *testing.T, c *Client, client string, body, headers map[string]any) {
	t.Helper()
	member := c.member(client, client+"."+replyExchange)
	if err := c.broker.SAdd(t.Context(), c.key("_kombu.binding."+replyExchange), member).Err(); err != nil {
		t.Fatal(err)
	}
	broadcast(t, c, client, body, headers)
}

func broadcast(t *testing.T, c *Client, client string, body, headers map[string]any) {
	t.Helper()
	body["ticket"], body["reply_to"] = "ticket-"+client, map[string]any{"exchange": replyExchange, "routing_key": client}
	raw, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.broker.Publish(t.Context(), c.fanout(pidboxExchange, ""), envelope(raw, headers, pidboxExchange, "")).Err(); err != nil {
		t.Fatal(err)
	}
}

// reply waits for the reply to a client.
func reply(t *testing.T, c *Client, client string) (body, headers map[string]any) {
	t.Helper()
	got, err := c.broker.BLPop(t.Context(), 10*time.Second, c.key(client+"."+replyExchange)).Result()
	if err != nil {
		t.Fatalf("reply to %s: %v", client, err)
	}
	var message struct {
		Body       string
		Headers    map[string]any
		Properties struct {
			BodyEncoding string `json:"body_encoding"`
		}
	}
	if err := json.Unmarshal([]byte(got[1]), &message); err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(message.Body)
	if err != nil || json.Unmarshal(raw, &body) != nil {
		t.Fatalf("the body is %q: %v", message.Body, err)
	}
	return body, message.Headers
}

func TestCelery30_ListenGoesOnAfterItsConnectionIsLost(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := listening(t, Options{URL: server.URL(0)}, echo)
	lost := []struct {
		how string
		do  func()
	}{
		{"CLIENT KILL TYPE pubsub", func() { server.Do(t, 0, "CLIENT", "KILL", "TYPE", "pubsub") }},
		{"CLIENT KILL TYPE normal", func() { server.Do(t, 0, "CLIENT", "KILL", "TYPE", "normal") }},
		{"a restart", func() { server.Kill(t); server.Restart(t) }},
		{"a silent end", func() { server.Freeze(t); time.AfterFunc(3*silence, func() { server.Thaw(t) }) }},
	}
	for i, l := range lost {
		l.do()
		began := time.Now()
		client := fmt.Sprintf("c%d", i)
		// A broadcast reaches those who listen at the moment, so it is repeated.
		eventually(t, "the node answers after "+l.how, func() bool {
			if err := c.broker.SAdd(t.Context(), c.key("_kombu.binding."+replyExchange), c.member(client, client+"."+replyExchange)).Err(); err != nil {
				return false
			}
			raw := []byte(`{"method": "ping", "ticket": "t", "reply_to": {"routing_key": "` + client + `"}}`)
			if err := c.broker.Publish(t.Context(), c.fanout(pidboxExchange, ""), envelope(raw, nil, pidboxExchange, "")).Err(); err != nil {
				return false
			}
			return c.broker.BLPop(t.Context(), time.Second, c.key(client+"."+replyExchange)).Err() == nil
		})
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("after %s it took %v", l.how, took)
		}
	}
	member := c.member("", testNode+"."+pidboxExchange)
	if bound, err := c.broker.SIsMember(t.Context(), c.key("_kombu.binding."+pidboxExchange), member).Result(); err != nil || !bound {
		t.Errorf("the node is not in the table after a restart of Redis: %v %v", bound, err)
	}
}

func TestCelery39_AReplyNamesTheNodeAndTheTicketOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := listening(t, Options{URL: server.URL(3)}, func(r Request) (any, bool) {
		return Later(func(context.Context) any { return map[string]any{"ok": r.Arguments} }), true
	})
	ask(t, c, "c1", map[string]any{"method": "ping", "arguments": map[string]any{"a": 1}}, map[string]any{"clock": maxClock / 2})
	body, headers := reply(t, c, "c1")
	if diff := cmp.Diff(map[string]any{testNode: map[string]any{"ok": map[string]any{"a": 1.0}}}, body); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
	if headers["ticket"] != "ticket-c1" || headers["clock"].(float64) <= maxClock/2 {
		t.Errorf("headers are %v, want the ticket and a clock that is later than the client's", headers)
	}
	if n, err := c.broker.LLen(t.Context(), c.key("c1."+replyExchange)).Result(); err != nil || n != 0 {
		t.Errorf("%d more replies, %v", n, err)
	}
}

func TestCelery53_RepliesWaitForAMinuteAndForNobodyElse(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := listening(t, Options{URL: server.URL(0)}, echo)
	broadcast(t, c, "gone", map[string]any{"method": "ping"}, nil)
	table, queue := c.key("_kombu.binding."+replyExchange), "another.name"
	if err := c.broker.SAdd(t.Context(), table, c.member("odd", queue)).Err(); err != nil {
		t.Fatal(err)
	}
	broadcast(t, c, "odd", map[string]any{"method": "ping"}, nil)
	eventually(t, "the reply is there", func() bool { return c.broker.LLen(t.Context(), c.key(queue)).Val() == 1 })
	if ttl := c.broker.TTL(t.Context(), c.key(queue)).Val(); ttl <= 0 || ttl > time.Minute {
		t.Errorf("the reply lives for %v, want at most a minute", ttl)
	}
	if n := c.broker.Exists(t.Context(), c.key("gone."+replyExchange)).Val(); n != 0 {
		t.Error("there is a reply for a client that has gone")
	}
}

func TestListenEndsAtOnceAndLeavesTheTable(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0)})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- c.Listen(ctx, testNode, echo) }()
	heard(t, c)
	key := c.key("_kombu.binding." + pidboxExchange)
	eventually(t, "the node is in the table", func() bool { return c.broker.SCard(t.Context(), key).Val() == 1 })
	began := time.Now()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > silence/2 {
		t.Errorf("it took %v", took)
	}
	if n := c.broker.Exists(t.Context(), key).Val(); n != 0 {
		t.Error("the node is still in the table")
	}
}

func TestARequestThatIsTooOldIsDropped(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := listening(t, Options{URL: server.URL(0)}, echo)
	now := float64(time.Now().Unix())
	ask(t, c, "old", map[string]any{"method": "ping"}, map[string]any{"expires": now - 40})
	ask(t, c, "skewed", map[string]any{"method": "ping"}, map[string]any{"expires": now - 10})
	reply(t, c, "skewed") // in order: the old one was seen
	if n := c.broker.Exists(t.Context(), c.key("old."+replyExchange)).Val(); n != 0 {
		t.Error("a request that expired 40 s ago was answered")
	}
}

func TestBadBroadcastsDisturbNothing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := listening(t, Options{URL: server.URL(0)}, echo)
	for _, bad := range []string{"", "{", "[]", `{"body": "?"}`, `{"body": "W10=", "properties": {"body_encoding": "base64"}}`,
		`{"body": "bnVsbA==", "properties": {"body_encoding": "base64"}}`, `{"body": "{\"destination\": 7}", "properties": {}}`} {
		if err := c.broker.Publish(t.Context(), c.fanout(pidboxExchange, ""), bad).Err(); err != nil {
			t.Fatal(err)
		}
	}
	ask(t, c, "good", map[string]any{"method": "ping"}, nil)
	reply(t, c, "good")
}

func TestCelery51_WhoIsMeant(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		request Request
		want    bool
	}{
		{Request{}, true},
		{Request{Destination: []string{testNode}}, true},
		{Request{Destination: []string{"other@host"}, Pattern: "*", Matcher: "glob"}, false},
		{Request{Pattern: "go*", Matcher: "glob"}, true},
		{Request{Pattern: "go?@host[0-9]", Matcher: "glob"}, true},
		{Request{Pattern: "go?@host[!0-8]", Matcher: "glob"}, true},
		{Request{Pattern: "go?@host[!0-9]", Matcher: "glob"}, false},
		{Request{Pattern: "go1", Matcher: "glob"}, false},
		{Request{Pattern: "go1@host.", Matcher: "glob"}, false},
		{Request{Pattern: "go1[", Matcher: "glob"}, false},
		{Request{Pattern: "[g]o*", Matcher: "glob"}, true},
		{Request{Pattern: "go1", Matcher: "pcre"}, true},
		{Request{Pattern: "host9", Matcher: "pcre"}, false},
		{Request{Pattern: "(", Matcher: "pcre"}, false},
		{Request{Pattern: "go*", Matcher: "unknown"}, false},
		{Request{Pattern: "other*"}, true}, // without a matcher it is no pattern
	} {
		if got := c.request.meant(testNode); got != c.want {
			t.Errorf("%+v: %v, want %v", c.request, got, c.want)
		}
	}
}

func TestRepliesKeepArgumentsAsTheyCame(t *testing.T) {
	t.Parallel()
	got, err := appendJSON(nil, map[string]any{
		"b": []any{json.RawMessage(`[NaN, 12345678901234567890123]`), nil, json.RawMessage(nil)}, "a": map[string]any{"<é>": 1.5}})
	if want := `{"a":{"<é>":1.5},"b":[[NaN, 12345678901234567890123],null,null]}`; err != nil || string(got) != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
	if _, err := appendJSON(nil, map[string]any{"a": func() {}}); err == nil {
		t.Error("a function was written")
	}
}

func TestTheClockIsNeverBehindWhatWasSeen(t *testing.T) {
	t.Parallel()
	var l lamport
	first := l.tick()
	if now := time.Now().UnixMilli(); first > now || first < now-60_000 {
		t.Errorf("the clock begins at %d, want about %d", first, now)
	}
	ahead := first + 1_000_000
	l.see(ahead)
	if next := l.tick(); next <= ahead+1 {
		t.Errorf("after %d was seen the clock is %d", ahead, next)
	}
	before := l.tick()
	l.see(maxClock)
	l.see(-5)
	if next := l.tick(); next <= before || next > before+10 {
		t.Errorf("a clock beyond belief moved ours from %d to %d", before, next)
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"body": "e30=", "headers": {"clock": 1, "expires": 1.5}, "properties": {"body_encoding": "base64"}}`))
	f.Add([]byte(`{"body": "{\"method\": \"ping\", \"destination\": \"a\", \"pattern\": \"[!a]\", \"matcher\": \"glob\"}", "properties": {}}`))
	f.Fuzz(func(_ *testing.T, raw []byte) {
		if r, _, err := decodeRequest(raw); err == nil {
			r.meant(testNode)
		}
	})
}
