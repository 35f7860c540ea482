package faultproxy

import (
	"bufio"
	"fmt"
	"net"
	"testing"
	"time"
)

func TestEveryFaultDoesWhatItSaysAndHeals(t *testing.T) {
	t.Parallel()
	p := proxyToEcho(t)
	c := dial(t, p)
	c.echo(t, "hello")

	p.CutAfter(Down, 3)
	if got := c.ask("lost"); got != "los" {
		t.Errorf("a cut after 3 bytes lets %q through", got)
	}
	c = dial(t, p)
	c.echo(t, "again")

	p.CutAfter(Up, 0)
	if got := c.ask("x"); got != "" {
		t.Errorf("a cut before the request lets %q through", got)
	}

	c = dial(t, p)
	c.echo(t, "before")
	p.Blackhole()
	fmt.Fprintln(c.conn, "late")
	_ = c.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if line, err := c.in.ReadString('\n'); err == nil {
		t.Errorf("a black hole answers %q", line)
	}
	p.Heal()
	c.expect(t, "late")

	p.Refuse()
	if conn, err := net.Dial("tcp", p.Addr()); err == nil {
		defer conn.Close()
		if got := (&client{conn, bufio.NewReader(conn)}).ask("x"); got != "" {
			t.Errorf("a refused connection answers %q", got)
		}
	}
	p.Heal()
	c = dial(t, p)
	c.echo(t, "healed")
	p.Cut()
	if got := c.ask("x"); got != "" {
		t.Errorf("a cut connection answers %q", got)
	}
	if n := p.Counts(); n.Connections < 5 || n.Cuts < 4 || n.Bytes[Up] == 0 || n.Bytes[Down] == 0 {
		t.Errorf("counts are %+v", n)
	}
}

func TestLatencyHoldsInEachDirection(t *testing.T) {
	t.Parallel()
	p := proxyToEcho(t)
	c := dial(t, p)
	c.echo(t, "fast")
	p.Latency(30 * time.Millisecond)
	began := time.Now()
	c.echo(t, "slow")
	if took := time.Since(began); took < 60*time.Millisecond {
		t.Errorf("there and back took %v, want at least 60 ms", took)
	}
}

// proxyToEcho is a proxy before a server that repeats every line.
func proxyToEcho(t *testing.T) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for lines := bufio.NewScanner(c); lines.Scan(); {
					fmt.Fprintln(c, lines.Text())
				}
			}()
		}
	}()
	p, err := Start(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

type client struct {
	conn net.Conn
	in   *bufio.Reader
}

func dial(t *testing.T, p *Proxy) *client {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &client{conn: c, in: bufio.NewReader(c)}
}

// ask sends a line and returns what comes back until a line or the connection ends.
func (c *client) ask(line string) string {
	fmt.Fprintln(c.conn, line)
	_ = c.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	answer, _ := c.in.ReadString('\n')
	return answer
}

func (c *client) echo(t *testing.T, line string) {
	t.Helper()
	if got := c.ask(line); got != line+"\n" {
		t.Errorf("%q comes back as %q", line, got)
	}
}

func (c *client) expect(t *testing.T, line string) {
	t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if got, err := c.in.ReadString('\n'); got != line+"\n" {
		t.Errorf("got %q (%v), want %q", got, err, line)
	}
}
