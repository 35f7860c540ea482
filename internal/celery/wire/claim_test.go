package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/nano-os/nanoos/internal/celery/redistest"
)

// numbered is a message of its own for a priority.
func numbered(id string, priority int) []byte {
	raw := sent(`"task": "t", "id": "`+id+`"`, `, "priority": `+strconv.Itoa(priority), []byte(`[[], {}, null]`))
	return bytes.Replace(raw, []byte(`"delivery_tag": "tag"`), []byte(`"delivery_tag": "tag-`+id+`"`), 1)
}

func push(t *testing.T, c *Client, list string, messages ...[]byte) {
	t.Helper()
	for _, m := range messages {
		if err := c.broker.LPush(t.Context(), list, m).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func claim(t *testing.T, c *Client, most int, queues ...string) []Delivery {
	t.Helper()
	ds, err := c.Claim(t.Context(), queues, most)
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

func ids(ds []Delivery) []string {
	var all []string
	for _, d := range ds {
		all = append(all, d.Task.ID)
	}
	return all
}

// held returns how many messages are unacknowledged, by each of the three keys.
func held(t *testing.T, c *Client) [3]int64 {
	t.Helper()
	ctx := t.Context()
	return [3]int64{c.broker.HLen(ctx, c.key(c.opt.UnackedKey)).Val(), c.broker.ZCard(ctx, c.key(c.opt.UnackedIndexKey)).Val(), c.broker.ZCard(ctx, c.key(ours)).Val()}
}

func letters(t *testing.T, c *Client) []map[string]any {
	t.Helper()
	texts, err := c.broker.LRange(t.Context(), c.key(c.opt.DeadLetters), 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]any
	for _, text := range texts {
		var l map[string]any
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("the dead letter %q: %v", text, err)
		}
		all = append(all, l)
	}
	return all
}

func TestCelery5And6_TheOrderOfMessages(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	for database, c := range []struct {
		order string
		want  []string
	}{
		{OrderPriority, []string{"b20", "a20", "b10", "a10", "a9", "a7", "a6", "a5", "b0", "a0"}},
		{OrderRedis, []string{"b0", "a0", "a5", "a6", "a7", "b10", "b20", "a20", "a10", "a9"}},
	} {
		t.Run(c.order, func(t *testing.T) {
			t.Parallel()
			client := connected(t, Options{URL: server.URL(database), Order: c.order})
			for _, id := range []string{"a0", "a5", "a6", "a7", "a20", "a10", "a9", "b10", "b20", "b0"} {
				queue, n := id[:1], id[1:]
				priority, err := strconv.Atoi(n)
				if err != nil {
					t.Fatal(err)
				}
				push(t, client, client.listKey(queue, client.Step(priority)), numbered(id, priority))
			}
			ds := claim(t, client, 100, "b", "a")
			if d := cmp.Diff(c.want, ids(ds)); d != "" {
				t.Error(d)
			}
			for _, d := range ds {
				if d.Queue != d.Task.ID[:1] || d.Task.Queue != d.Queue || d.Tag != "tag-"+d.Task.ID || !strings.HasPrefix(d.Key, d.Queue) {
					t.Errorf("%s came as %s from %q over %s", d.Task.ID, d.Tag, d.Key, d.Queue)
				}
			}
		})
	}
}

func TestCelery23_AMessageIsUnacknowledgedUntilItIsSettled(t *testing.T) {
	t.Parallel()
	for name, settle := range map[string]func(*Client, []Delivery) error{
		"acknowledged": func(c *Client, ds []Delivery) error { return c.Ack(t.Context(), ds) },
		"buried": func(c *Client, ds []Delivery) error {
			for i := range ds {
				ds[i].Fault = &Fault{Reason: "a test"}
			}
			return c.Bury(t.Context(), ds)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, redistest.Options{})
			c := connected(t, Options{URL: server.URL(3), Prefix: "lab1:", Separator: ":"})
			push(t, c, "lab1:q:9", numbered("a", 9), numbered("b", 9))
			ds := claim(t, c, 10, "q")
			if n := held(t, c); len(ds) != 2 || n != [3]int64{2, 2, 2} {
				t.Fatalf("%d were taken and %v are unacknowledged", len(ds), n)
			}
			// As kombu reads it when it gives a message back.
			if got, want := c.broker.HGet(t.Context(), "lab1:unacked", "tag-a").Val(), "["+string(numbered("a", 9))+`, "", "default"]`; got != want {
				t.Errorf("what is kept is %s, want %s", got, want)
			}
			if err := settle(c, ds); err != nil {
				t.Fatal(err)
			}
			if n := held(t, c); n != [3]int64{} {
				t.Errorf("%v are unacknowledged", n)
			}
			dead := letters(t, c)
			if name == "buried" {
				if len(dead) != 2 || dead[1]["reason"] != "a test" || dead[1]["message"] != string(numbered("a", 9)) || dead[1]["list"] != "lab1:q:9" {
					t.Errorf("the dead letters are %v", dead)
				}
			} else if len(dead) != 0 {
				t.Errorf("the dead letters are %v", dead)
			}
		})
	}
}

func TestF29_WhatIsNoMessageGoesToTheDeadLetters(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0)})
	half := bytes.Replace(numbered("half", 0), []byte(`"task": "t"`), []byte(`"task": "t", "x": "\ud800 \\ud800", "y": NaN`), 1)
	huge := append([]byte(`{"properties": {"delivery_tag": "t"}, "body": "`), bytes.Repeat([]byte("x"), maxMessage)...)
	push(t, c, "q", []byte("hello"), []byte(`{"properties": null}`), []byte(`{"properties": {"delivery_tag": 5}}`), []byte(`"`), huge, []byte("\xff\x00"),
		bytes.Repeat([]byte("["), 100_000), half, numbered("good", 0))
	if err := c.broker.Set(t.Context(), "other", "no list", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"half", "good"}, ids(claim(t, c, 100, "other", "q"))); d != "" {
		t.Error(d)
	}
	dead, err := c.broker.LRange(t.Context(), c.opt.DeadLetters, 0, -1).Result()
	if err != nil || len(dead) != 7 {
		t.Fatalf("there are %d dead letters, %v, want 7", len(dead), err)
	}
	for _, letter := range dead {
		if len(letter) > 200_000 || !strings.Contains(letter, `"reason"`) || !strings.Contains(letter, `"time"`) {
			t.Errorf("the dead letter has %d bytes: %.300s", len(letter), letter)
		}
	}
	if n := held(t, c); n != [3]int64{2, 2, 2} {
		t.Errorf("%v are unacknowledged, want the two tasks", n)
	}
}

func TestT31_AClaimIsBounded(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0)})
	body := []byte(`[["` + strings.Repeat("x", 4<<20) + `"], {}, null]`)
	for i := range 6 {
		push(t, c, "q", sent(`"task": "t", "id": "i"`, "", body[:len(body)-i]))
	}
	taken := 0
	for _, d := range claim(t, c, 256, "q") {
		taken += len(d.Raw)
	}
	if taken < maxTaken/2 || taken > maxTaken+maxMessage {
		t.Errorf("%d bytes were taken at once", taken)
	}
	for range 20 {
		push(t, c, "q2", []byte("x"))
	}
	c.broker.LTrim(t.Context(), c.opt.DeadLetters, 1, 0)
	claim(t, c, 1, "q2")
	if n := c.broker.LLen(t.Context(), c.opt.DeadLetters).Val(); n != 20 {
		t.Errorf("there are %d dead letters, want 20", n)
	}
}

func TestCelery28_WhatIsGivenBackComesFirst(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0), Order: OrderRedis})
	list := c.listKey("q", 6)
	push(t, c, list, numbered("a", 7), numbered("b", 7), numbered("c", 7))
	if err := c.Requeue(t.Context(), claim(t, c, 2, "q")); err != nil {
		t.Fatal(err)
	}
	if n := held(t, c); n != [3]int64{} {
		t.Errorf("%v are unacknowledged", n)
	}
	raw := c.broker.LIndex(t.Context(), list, -1).Val()
	var m struct {
		Headers    struct{ Redelivered bool }
		Properties struct {
			Delivery_tag  string
			Delivery_info struct {
				Redelivered bool
				Routing_key string
			}
		}
	}
	if err := json.Unmarshal([]byte(raw), &m); err != nil {
		t.Fatal(err)
	}
	if !m.Headers.Redelivered || !m.Properties.Delivery_info.Redelivered || m.Properties.Delivery_tag != "tag-a" || m.Properties.Delivery_info.Routing_key != "default" {
		t.Errorf("the message is %s", raw)
	}
	again := claim(t, c, 10, "q")
	if d := cmp.Diff([]string{"a", "b", "c"}, ids(again)); d != "" {
		t.Error(d)
	}
	if !again[0].Task.Redelivered || again[2].Task.Redelivered {
		t.Error("those given back, and they alone, are to be known as such")
	}
}

func TestMarkingAMessageChangesNothingElse(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"a": NaN, "headers": {"n": 12345678901234567890123}, "properties": {"delivery_info": {"exchange": "x"}, "p": "<\ud800>"}}`: `{"a": NaN, "headers": {"n": 12345678901234567890123, "redelivered": true}, "properties": {"delivery_info": {"exchange": "x", "redelivered": true}, "p": "<\ud800>"}}`,
		`{"headers": {"redelivered": null}, "properties": null}`:                                                                     `{"headers": {"redelivered": true}, "properties": {"delivery_info": {"redelivered": true}}}`,
		`{}`:    `{"headers": {"redelivered": true}, "properties": {"delivery_info": {"redelivered": true}}}`,
		` {} `:  `{"headers": {"redelivered": true}, "properties": {"delivery_info": {"redelivered": true}}}`,
		`hello`: `hello`,
	} {
		if got := redelivered([]byte(in)); string(got) != want {
			t.Errorf("redelivered(%s) = %s, want %s", in, got, want)
		}
	}
}

// ago makes it look as if a message was last heard of some time ago.
func ago(t *testing.T, c *Client, index, tag string, d time.Duration) {
	t.Helper()
	if err := c.broker.ZAddXX(t.Context(), c.key(index), redis.Z{Score: unixTime(time.Now().Add(-d)), Member: tag}).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestCelery29_MessagesOfDeadConsumersComeBack(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0)})
	ctx := t.Context()
	push(t, c, c.listKey("default", 6), numbered("dead", 7), numbered("alive", 7))
	push(t, c, "default", numbered("crashed", 0))
	topic := bytes.Replace(numbered("topic", 20), []byte(`"exchange": "", "routing_key": "default"`), []byte(`"exchange": "simulations", "routing_key": "simulation.a.b"`), 1)
	push(t, c, c.listKey("sims", 9), topic)
	if err := c.Bind(ctx, []Queue{{Name: "sims", Exchange: "simulations", ExchangeType: "topic", RoutingKey: "simulation.#"}, {Name: "other", Exchange: "simulations", ExchangeType: "topic", RoutingKey: "other.*"}}); err != nil {
		t.Fatal(err)
	}
	if n := len(claim(t, c, 10, "default", "sims")); n != 4 {
		t.Fatalf("%d were taken", n)
	}
	// Python's are not in our index, and have their hour. Ours have not.
	c.broker.ZRem(ctx, ours, "tag-dead", "tag-topic")
	ago(t, c, "unacked_index", "tag-dead", time.Hour+time.Minute)
	ago(t, c, "unacked_index", "tag-topic", time.Hour+time.Minute)
	ago(t, c, "unacked_index", "tag-alive", time.Hour-time.Minute)
	ago(t, c, "unacked_index", "tag-crashed", heldFor+time.Second)
	ago(t, c, ours, "tag-crashed", heldFor+time.Second)
	c.broker.ZAdd(ctx, "unacked_index", redis.Z{Score: 1, Member: "acknowledged"}, redis.Z{Score: 1, Member: "garbage"})
	c.broker.HSet(ctx, "unacked", "garbage", "hello")
	if n, err := c.Sweep(ctx); err != nil || n != 4 {
		t.Fatalf("%d were given back, %v, want 4", n, err)
	}
	if d := cmp.Diff([3]int64{1, 1, 1}, held(t, c)); d != "" {
		t.Error(d)
	}
	for list, want := range map[string]string{c.listKey("default", 6): "dead", "default": "crashed", c.listKey("sims", 9): "topic"} {
		all := c.broker.LRange(ctx, list, 0, -1).Val()
		if len(all) != 1 {
			t.Errorf("%q has %d messages, want %s", list, len(all), want)
			continue
		}
		if task := decoded(t, []byte(all[0])); task.ID != want || !task.Redelivered {
			t.Errorf("%q has the message %s", list, all[0])
		}
	}
	if dead := letters(t, c); len(dead) != 1 || dead[0]["message"] != "hello" {
		t.Errorf("the dead letters are %v", dead)
	}
	if n := c.broker.Exists(ctx, "unacked_mutex").Val(); n != 0 {
		t.Error("the lock is still held")
	}
	c.broker.Set(ctx, "unacked_mutex", "another", time.Minute)
	ago(t, c, "unacked_index", "tag-alive", 2*time.Hour)
	if n, err := c.Sweep(ctx); err != nil || n != 0 {
		t.Errorf("%d were given back under the lock of another, %v", n, err)
	}
}

func TestCelery24_ARenewedMessageStaysWhereItIs(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0), VisibilityTimeout: time.Minute})
	push(t, c, "default", numbered("a", 0), numbered("b", 0))
	ds := claim(t, c, 10, "default")
	for _, index := range []string{"unacked_index", ours} {
		for _, tag := range []string{"tag-a", "tag-b"} {
			ago(t, c, index, tag, 2*time.Minute)
		}
	}
	if err := c.Ack(t.Context(), ds[1:]); err != nil {
		t.Fatal(err)
	}
	if err := c.Renew(t.Context(), []string{"tag-a", "tag-b"}); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Sweep(t.Context()); err != nil || n != 0 {
		t.Errorf("%d were given back, %v", n, err)
	}
	if n := held(t, c); n != [3]int64{1, 1, 1} {
		t.Errorf("%v are unacknowledged, want the one that is held", n)
	}
	// A holder that is heard of between the look and the return keeps its message.
	cmds, err := runAll(t.Context(), c.broker, restoreScript, []execution{c.restoring("default", "tag-a", ds[0].Raw, score(time.Now().Add(-time.Minute)), score(time.Now().Add(-time.Minute)))})
	if err != nil || cmds[0].Val() != int64(0) {
		t.Errorf("it was given back: %v, %v", cmds, err)
	}
}

// TestCelery26_NoMomentLosesAMessage kills Redis again and again while messages
// are taken: each must be in its list or unacknowledged afterwards, never gone.
func TestCelery26_NoMomentLosesAMessage(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{AppendOnly: true})
	c := connected(t, Options{URL: server.URL(0)})
	const messages, rounds = 400, 4
	for i := range messages {
		push(t, c, "default", numbered(strconv.Itoa(i), 0))
	}
	for range rounds {
		ctx, cancel := context.WithCancel(t.Context())
		var takers sync.WaitGroup
		begun := make(chan struct{}, 2)
		for range 2 {
			takers.Go(func() {
				for ctx.Err() == nil {
					_, err := c.Claim(ctx, []string{"default"}, 3)
					select {
					case begun <- struct{}{}:
					default:
					}
					if err != nil {
						return
					}
				}
			})
		}
		<-begun
		server.Kill(t)
		cancel()
		takers.Wait()
		server.Restart(t)
	}
	eventually(t, "Redis answers", func() bool { return c.broker.Ping(t.Context()).Err() == nil })
	there := make(map[string]bool)
	for _, raw := range c.broker.LRange(t.Context(), "default", 0, -1).Val() {
		there["tag-"+decoded(t, []byte(raw)).ID] = true
	}
	index := c.broker.ZRange(t.Context(), "unacked_index", 0, -1).Val()
	for _, tag := range c.broker.HKeys(t.Context(), "unacked").Val() {
		if there[tag] {
			t.Errorf("%s is in two places", tag)
		}
		if !slices.Contains(index, tag) {
			t.Errorf("%s is kept but not in the index", tag)
		}
		there[tag] = true
	}
	if len(there) != messages {
		t.Errorf("%d of %d messages are there", len(there), messages)
	}
}

func TestConsumersShareAQueue(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	const messages = 2000
	first := connected(t, Options{URL: server.URL(0)})
	_, err := first.broker.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		for i := range messages {
			p.LPush(t.Context(), "q", numbered(fmt.Sprint(i), 0))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	seen := make(map[string]int)
	var wg sync.WaitGroup
	for range 4 {
		c := connected(t, Options{URL: server.URL(0)})
		wg.Go(func() {
			for {
				ds, err := c.Claim(t.Context(), []string{"q"}, 37)
				if err != nil || len(ds) == 0 {
					if err != nil {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				for _, d := range ds {
					seen[d.Task.ID]++
				}
				mu.Unlock()
				if err := c.Ack(t.Context(), ds); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s was taken %d times", id, n)
		}
	}
	if len(seen) != messages {
		t.Errorf("%d of %d messages were taken", len(seen), messages)
	}
}
