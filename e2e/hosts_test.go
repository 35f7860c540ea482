package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/api"
	"github.com/nano-os/nanoos/internal/auth"
	"github.com/nano-os/nanoos/internal/job"
)

// Several hosts for real: each worker, and the server, in a network namespace
// with an address of its own, joined by a bridge to which the test belongs.

// network is a bridge with hosts on it.
type network struct {
	t      *testing.T
	prefix string // of names: an interface's has at most 15 letters
	subnet string // "10.77.5."
}

// host is one network namespace; its cable is the other end of its interface.
type host struct {
	n                 *network
	name, cable, addr string
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	need(t)
	k := 1 + rand.IntN(250)
	n := &network{t: t, prefix: fmt.Sprintf("nos%d", k), subnet: fmt.Sprintf("10.77.%d.", k)}
	if err := command("ip", "link", "add", n.prefix, "type", "bridge"); err != nil {
		if os.Getenv("CI") != "" && os.Geteuid() == 0 {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED: cannot make networks: %v", err)
	}
	t.Cleanup(func() { n.must("ip", "link", "del", n.prefix) })
	n.must("ip", "addr", "add", n.subnet+"254/24", "dev", n.prefix)
	n.must("ip", "link", "set", n.prefix, "up")
	return n
}

// host adds a host with the address that ends in i.
func (n *network) host(i int) *host {
	n.t.Helper()
	h := &host{n: n, name: fmt.Sprintf("%s-%d", n.prefix, i), cable: fmt.Sprintf("%sc%d", n.prefix, i), addr: fmt.Sprint(n.subnet, i)}
	n.must("ip", "netns", "add", h.name)
	n.t.Cleanup(func() { n.must("ip", "netns", "del", h.name) })
	n.must("ip", "link", "add", h.cable, "type", "veth", "peer", "name", "eth0", "netns", h.name)
	n.must("ip", "link", "set", h.cable, "master", n.prefix, "up")
	n.must("ip", "-n", h.name, "addr", "add", h.addr+"/24", "dev", "eth0")
	n.must("ip", "-n", h.name, "link", "set", "lo", "up")
	n.must("ip", "-n", h.name, "link", "set", "eth0", "up")
	return h
}

func (n *network) must(argv ...string) {
	n.t.Helper()
	if err := command(argv...); err != nil {
		n.t.Fatal(err)
	}
}

func command(argv ...string) error {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if cmd.Err != nil { // not on the path of this process
		cmd = exec.Command("/usr/sbin/"+argv[0], argv[1:]...)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
	}
	return nil
}

// inside is the command that runs another on the host.
func (h *host) inside() []string { return []string{"nsenter", "--net=/run/netns/" + h.name} }

// unplug separates a host from all others; plug undoes it.
func (h *host) unplug() { h.n.must("ip", "link", "set", h.cable, "down") }
func (h *host) plug()   { h.n.must("ip", "link", "set", h.cable, "up") }

// drop loses in silence what goes one way between this host and another: chain
// OUTPUT is what it sends, INPUT what it receives.
func (h *host) drop(chain string, other *host) {
	end := "-d"
	if chain == "INPUT" {
		end = "-s"
	}
	h.n.must(append(h.inside(), "iptables", "-A", chain, end, other.addr, "-j", "DROP")...)
}

func (h *host) pass() { h.n.must(append(h.inside(), "iptables", "-F")...) }

// newHosts is a cluster with a server and workers on hosts of their own.
func newHosts(t *testing.T, workers int) (c *cluster, srv *host, hosts []*host) {
	t.Helper()
	n := newNetwork(t)
	c = newInstallation(t, layout{lostAfter: lostAfter})
	srv = n.host(200)
	// The database is on this machine: its socket is a file, which namespaces share.
	database := c.dbURL[strings.LastIndex(c.dbURL, "/")+1 : strings.LastIndex(c.dbURL, "?")]
	socket := c.db.SQL(t, database, "SHOW unix_socket_directories")
	port := c.db.SQL(t, database, "SHOW port")
	local := fmt.Sprintf("postgres://postgres@/%s?host=%s&port=%s", database, url.QueryEscape(socket), port)
	s := c.newServer(local, srv.addr+":8080", "--insecure-http")
	s.prefix = srv.inside()
	// The administrator's token is made by the first start.
	s.start()
	eventually(t, 30*time.Second, "the server has a token", func() bool {
		raw, err := os.ReadFile(filepath.Join(s.data, "token"))
		s.token = strings.TrimSpace(string(raw))
		return err == nil
	})
	s.client = api.NewClient("http://"+s.listen, s.token)
	c.awaitServer(s)
	secret, err := s.client.CreateToken(t.Context(), api.TokenRequest{Role: string(auth.Worker), Name: "hosts of the test"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range workers {
		h := n.host(1 + i)
		hosts = append(hosts, h)
		w := c.newWorker([]string{"http://" + s.listen})
		w.prefix = h.inside()
		w.env = append(w.env, "NANOOS_TOKEN="+secret.Secret)
		w.start()
	}
	c.awaitWorkers(workers)
	return c, srv, hosts
}

// TestF10_AHostCutOffCannotPublish: its job goes on elsewhere; when it is back its
// program is stopped and its result is refused.
func TestF10_AHostCutOffCannotPublish(t *testing.T) {
	t.Parallel()
	c, _, hosts := newHosts(t, 2)
	long := c.submit(`{"steps": 200, "step_seconds": 0.1}`, job.Completed)
	short := c.submit(`{"steps": 30, "step_seconds": 0.1}`, job.Completed, func(r *api.JobRequest) { r.Resources.CPUs = 1 })
	c.running(short)
	cut := c.running(long).Worker
	var h *host
	for i, w := range c.workers {
		if w.name == cut {
			h = hosts[i]
		}
	}
	h.unplug()
	unplugged := time.Now()
	eventually(t, 60*time.Second, "the job is elsewhere", func() bool { return c.get(long).Attempt == 2 && c.get(long).Worker != cut })
	wait(t.Context(), time.Until(unplugged.Add(3*lostAfter)))
	if len(c.processes(long, 1)) == 0 {
		t.Error("the program must not be stopped because its host is alone")
	}
	h.plug()
	eventually(t, 60*time.Second, "the program that lost its job is stopped", func() bool { return len(c.processes(long, 1)) == 0 })
	history := c.check(10)
	if j := history.Jobs[long]; j.Attempt != 2 {
		t.Errorf("the job ended in attempt %d, want 2", j.Attempt)
	}
}

// TestF25_AWayThatWorksInOneDirection: no job has two authorities.
func TestF25_AWayThatWorksInOneDirection(t *testing.T) {
	t.Parallel()
	need(t, "iptables")
	c, srv, hosts := newHosts(t, 2)
	for _, chain := range []string{"OUTPUT", "INPUT"} {
		var ids []job.ID
		for range 4 {
			ids = append(ids, c.submit(`{"steps": 80, "step_seconds": 0.1}`, job.Completed))
		}
		for _, id := range ids {
			c.running(id)
		}
		hosts[0].drop(chain, srv)
		wait(t.Context(), 2*lostAfter)
		hosts[0].pass()
		for _, id := range ids {
			c.ended(id)
		}
	}
	c.check(20)
}
