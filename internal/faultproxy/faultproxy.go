// Package faultproxy is a TCP proxy for tests that makes a network misbehave on
// command: slow, cut, silent, closed. It knows no protocol.
package faultproxy

import (
	"errors"
	"net"
	"sync"
	"time"
)

// Proxy forwards connections to a target. Faults hold until the next Heal, and
// for connections that exist as well as for new ones.
type Proxy struct {
	target   string
	listener net.Listener
	pumps    sync.WaitGroup

	mu      sync.Mutex
	links   map[*link]bool
	fault   fault
	changed chan struct{} // closed and replaced when fault changes
	counts  Counts
	closed  bool
}

// Direction of bytes through the proxy.
type Direction int

const (
	Up   Direction = iota // from the client to the target
	Down                  // from the target to the client
)

// Counts is what a proxy has seen.
type Counts struct {
	Connections int    // accepted
	Cuts        int    // connections that a fault ended
	Bytes       [2]int // forwarded, by Direction
}

type fault struct {
	latency time.Duration
	silent  bool
	refuse  bool
	armed   bool // cut after left more bytes in direction at
	at      Direction
	left    int
}

// link is one client's connection and its other half.
type link struct{ ends [2]net.Conn }

func (l *link) close() {
	for _, c := range l.ends {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset, as from a host that has gone
			_ = tcp.Close()
		}
	}
}

// Start listens on a free loopback port for connections to target.
func Start(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{target: target, listener: l, links: map[*link]bool{}, changed: make(chan struct{})}
	p.pumps.Go(p.accept)
	return p, nil
}

// Addr is where clients connect.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close ends all connections and waits for what the proxy has started.
func (p *Proxy) Close() {
	p.set(func(f *fault) { *f = fault{}; p.closed = true })
	_ = p.listener.Close()
	p.Cut()
	p.pumps.Wait()
}

// Latency delays every piece of data by d, in each direction.
func (p *Proxy) Latency(d time.Duration) { p.set(func(f *fault) { f.latency = d }) }

// Cut resets all connections now; new ones work.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		p.counts.Cuts++
		l.close()
	}
	clear(p.links)
}

// CutAfter forwards n more bytes in one direction, counted over all
// connections, and resets the connection that carries the next one. With Down
// and 0 a request arrives and its answer does not. It acts once.
func (p *Proxy) CutAfter(d Direction, n int) {
	p.set(func(f *fault) { f.armed, f.at, f.left = true, d, n })
}

// Blackhole keeps connections open, and opens new ones, but forwards nothing.
func (p *Proxy) Blackhole() { p.set(func(f *fault) { f.silent = true }) }

// Refuse resets all connections, and new ones as soon as they are accepted.
func (p *Proxy) Refuse() {
	p.set(func(f *fault) { f.refuse = true })
	p.Cut()
}

// Heal ends all faults; what a black hole has swallowed is forwarded late.
func (p *Proxy) Heal() { p.set(func(f *fault) { *f = fault{} }) }

// Counts returns what the proxy has seen so far.
func (p *Proxy) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts
}

func (p *Proxy) set(change func(*fault)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.fault)
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.pumps.Go(func() { p.serve(c) })
	}
}

// serve connects a client with the target and forwards until either ends.
func (p *Proxy) serve(client net.Conn) {
	up, err := net.DialTimeout("tcp", p.target, 10*time.Second)
	l := &link{ends: [2]net.Conn{client, up}}
	p.mu.Lock()
	p.counts.Connections++
	gone := err != nil || p.closed || p.fault.refuse
	p.links[l] = !gone
	p.mu.Unlock()
	var both sync.WaitGroup
	if !gone {
		both.Go(func() { p.pump(l, Up) })
		both.Go(func() { p.pump(l, Down) })
	}
	both.Wait()
	l.close()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// pump forwards one direction. An end of data ends the whole connection, which
// is what the protocols under test do too.
func (p *Proxy) pump(l *link, d Direction) {
	from, to := l.ends[d], l.ends[1-d]
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		pass, cut := p.admit(l, d, n)
		if _, werr := to.Write(buf[:pass]); werr != nil {
			err = errors.Join(err, werr)
		}
		if cut || err != nil {
			l.end(cut)
			return
		}
	}
}

// end closes a connection: with a reset if it was cut, else so that what was
// written before still arrives.
func (l *link) end(cut bool) {
	if cut {
		l.close()
		return
	}
	for _, c := range l.ends {
		_ = c.Close()
	}
}

// admit waits as the faults demand and says how many of n bytes go on, and
// whether the connection is cut behind them.
func (p *Proxy) admit(l *link, d Direction, n int) (pass int, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.links[l] && (p.fault.silent || p.fault.latency > 0) {
		delay, silent, changed := p.fault.latency, p.fault.silent, p.changed
		p.mu.Unlock()
		if silent {
			<-changed
		} else {
			time.Sleep(delay)
		}
		p.mu.Lock()
		if !silent {
			break
		}
	}
	pass = n
	if f := &p.fault; f.armed && f.at == d && n > 0 {
		pass, cut = min(n, f.left), n > f.left
		f.left -= pass
		f.armed = !cut
	}
	if cut {
		p.counts.Cuts++
	}
	p.counts.Bytes[d] += pass
	return pass, cut
}
