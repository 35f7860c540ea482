package wire

import (
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/nano-os/nanoos/internal/celery/redistest"
)

func TestT32_AnOpenRedisOfAnotherMachineIsRefused(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0)})
	if err := c.Check(t.Context()); err != nil {
		t.Errorf("on this machine it is fine: %v", err)
	}
	// The same server, at an address that others may have.
	address := strings.Replace(server.URL(0), "127.0.0.1", "0.0.0.0", 1)
	far := connected(t, Options{URL: address})
	err := far.Check(t.Context())
	if err == nil || !strings.Contains(err.Error(), "password") || !strings.Contains(err.Error(), "celery.allow_open") {
		t.Errorf("it is accepted: %v", err)
	}
	if err := connected(t, Options{URL: address, AllowOpen: true}).Check(t.Context()); err != nil {
		t.Errorf("it is refused although it is allowed: %v", err)
	}
}

func TestWhatIsWrongWithRedisIsSaidInWords(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{Password: "right"})
	encrypted := redistest.Start(t, redistest.Options{TLS: true})
	gone := redistest.Start(t, redistest.Options{})
	gone.Stop(t)
	for name, c := range map[string]struct{ url, want string }{
		"no password":  {"redis://" + server.Addr() + "/0", "wants a password"},
		"wrong":        {"redis://:s3cret@" + server.Addr() + "/0", "the password is wrong"},
		"not there":    {"redis://:s3cret@" + gone.Addr() + "/0", "does not answer"},
		"plain to TLS": {"redis://:s3cret@" + encrypted.Addr() + "/0", "perhaps it speaks TLS"},
		"TLS to plain": {"rediss://:s3cret@" + server.Addr() + "/0", "perhaps it does not speak TLS"},
		"unknown CA":   {"rediss://:s3cret@" + encrypted.Addr() + "/0?ssl_cert_reqs=none", "TLS failed"},
	} {
		err := connected(t, Options{URL: c.url}).Check(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
			continue
		}
		if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the error tells the password: %v", name, err)
		}
	}
	own := connected(t, Options{URL: encrypted.URL(0) + "?ssl_cert_reqs=required&ssl_ca_certs=" + url.QueryEscape(encrypted.CA())})
	if err := own.Check(t.Context()); err != nil {
		t.Errorf("with the certificate of the authority: %v", err)
	}
}

func TestAnAddressThatIsWrongDoesNotTellThePassword(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"redis://:s3cret@host:port/0", "redis://:s3cret@host/many", "http://:s3cret@host", "redis://:s3cret%@host", "redis://u:s3cret@host/0?what=1",
		"rediss://:s3cret@host/0?ssl_ca_certs=/nowhere", "redis://:s3cret/x@host:6379/0"} {
		for _, opt := range []Options{{URL: address}, {URL: "redis://localhost", ResultURL: address}} {
			if c, err := Open(opt); err == nil {
				t.Errorf("%s is accepted", address)
				_ = c.Close()
			} else if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the error tells the password: %v", err)
			}
		}
	}
}

func TestASocketIsReachedInCelerysWords(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "redis.sock")
	redistest.Start(t, redistest.Options{Settings: []string{"unixsocket " + socket}})
	c := connected(t, Options{URL: "redis+socket://" + socket + "?virtual_host=3"})
	if err := c.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if got := c.fanout("celery.pidbox", ""); got != "/3.celery.pidbox" {
		t.Errorf("the channel is %s", got)
	}
}

func TestKeysAreThoseOfCelery(t *testing.T) {
	t.Parallel()
	plain := connected(t, Options{URL: "redis://localhost/3"})
	other := connected(t, Options{URL: "redis://localhost", Prefix: "lab1:", Separator: ":", Steps: []int{8, 2, 5}, ResultPrefix: "lab", FanoutPrefix: "f{db}."})
	got := []string{
		plain.listKey("q", plain.Step(-5)), plain.listKey("q", plain.Step(2)), plain.listKey("q", plain.Step(3)), plain.listKey("q", plain.Step(20)),
		other.listKey("q", other.Step(7)), other.listKey("q", other.Step(0)), plain.metaKey("i"), other.metaKey("i"), plain.groupKey("g", ".j"),
		plain.fanout("celeryev", "task.sent"), other.fanout("celeryev", "task.sent"),
		plain.binding(Queue{Name: "simulations"}), other.binding(Queue{Name: "s", RoutingKey: "simulation.*.#", ExchangeType: "topic"}),
	}
	want := []string{
		"q", "q", "q\x06\x163", "q\x06\x169",
		"lab1:q:5", "lab1:q:8", "celery-task-meta-i", "lab_celery-task-meta-i", "celery-taskset-meta-g.j",
		"/3.celeryev/task.sent", "lab1:f0.celeryev/task.sent",
		"simulations\x06\x16\x06\x16simulations", `simulation.*.#:^simulation\..*?[^\.]\..*?$:s`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestAQueueIsFoundByItsBinding(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0)})
	queues := []Queue{
		{Name: "simulations", Exchange: "simulations", ExchangeType: "topic", RoutingKey: "simulation.#"},
		{Name: "md", Exchange: "simulations", ExchangeType: "topic", RoutingKey: "simulation.md"},
		{Name: "default", Exchange: "tasks", RoutingKey: "task.default"},
	}
	if err := c.Bind(t.Context(), queues); err != nil {
		t.Fatal(err)
	}
	members := c.broker.SMembers(t.Context(), "_kombu.binding.simulations").Val()
	slices.Sort(members)
	if d := cmp.Diff([]string{c.binding(queues[0]), c.binding(queues[1])}, members); d != "" {
		t.Error(d)
	}
	for key, want := range map[[2]string]string{
		{"", "anything"}: "anything", {"simulations", "simulation.a.b"}: "simulations", {"simulations", "simulation.md"}: "md", {"simulations", "other"}: "",
		{"tasks", "task.default"}: "default", {"tasks", "task.high"}: "", {"nowhere", "task.default"}: "",
	} {
		if got := c.queueFor(key[0], key[1]); got != want {
			t.Errorf("%v leads to %q, want %q", key, got, want)
		}
	}
}

func TestWaitEndsWhenAMessageComes(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0)})
	done := make(chan error, 1)
	began := time.Now()
	go func() { done <- c.Wait(t.Context(), []string{"q"}, 30*time.Second) }()
	push(t, c, c.listKey("q", 9), numbered("a", 9))
	if err := <-done; err != nil || time.Since(began) > 20*time.Second {
		t.Errorf("it took %s, %v", time.Since(began), err)
	}
	if err := c.Wait(t.Context(), []string{"empty"}, time.Millisecond); err != nil {
		t.Errorf("a wait that is over: %v", err)
	}
}

func TestAScriptThatRedisForgotIsTaughtAgain(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	c := connected(t, Options{URL: server.URL(0)})
	for i := range 2 {
		c.broker.ScriptFlush(t.Context())
		push(t, c, "q", numbered("a", 0), numbered("b", 0))
		ds := claim(t, c, 10, "q")
		if len(ds) != 2 {
			t.Fatalf("%d were taken the %d. time", len(ds), i)
		}
		answer(t, c, answered(Succeeded(1), &ds[0].Task), answered(Succeeded(1), &ds[1].Task))
		if err := c.Ack(t.Context(), ds); err != nil {
			t.Fatal(err)
		}
	}
}
