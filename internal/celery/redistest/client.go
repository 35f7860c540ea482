package redistest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Do sends one command on a connection of its own and returns the reply: a
// string, an int64, nil, or a []any of these.
func (s *Server) Do(t testing.TB, database int, command ...string) any {
	t.Helper()
	reply, err := s.Try(database, command...)
	if err != nil {
		t.Fatalf("redis %.100q: %v", command, err)
	}
	return reply
}

// Try is Do for a server that may be down.
func (s *Server) Try(database int, command ...string) (any, error) {
	return s.TryAs(s.opt.Password, database, command...)
}

// TryAs is Try with another password than the one that the server started with.
func (s *Server) TryAs(password string, database int, command ...string) (any, error) {
	c, err := s.dial(password, database)
	if err != nil {
		return nil, err
	}
	defer c.close()
	return c.do(command...)
}

// conn speaks the protocol of Redis, version 2.
type conn struct {
	net net.Conn
	r   *bufio.Reader
}

// callTimeout bounds one command, on a server that saves to a busy disk.
const callTimeout = 30 * time.Second

func (s *Server) dial(password string, database int) (*conn, error) {
	n, err := net.DialTimeout("tcp", s.Addr(), callTimeout)
	if err != nil {
		return nil, err
	}
	if s.opt.TLS {
		roots, err := readCA(s.CA())
		if err != nil {
			return nil, errors.Join(err, n.Close())
		}
		n = tls.Client(n, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"})
	}
	c := &conn{net: n, r: bufio.NewReader(n)}
	if password != "" {
		if _, err := c.do("AUTH", password); err != nil {
			return nil, errors.Join(err, n.Close())
		}
	}
	if database != 0 {
		if _, err := c.do("SELECT", strconv.Itoa(database)); err != nil {
			return nil, errors.Join(err, n.Close())
		}
	}
	return c, nil
}

func (c *conn) close() { _ = c.net.Close() }

func (c *conn) do(command ...string) (any, error) {
	if err := c.net.SetDeadline(time.Now().Add(callTimeout)); err != nil {
		return nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(command))
	for _, word := range command {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(word), word)
	}
	if _, err := io.WriteString(c.net, b.String()); err != nil {
		return nil, err
	}
	return c.read()
}

func (c *conn) read() (any, error) {
	line, err := c.r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return nil, errors.New("empty reply")
	}
	kind, rest := line[0], line[1:]
	switch kind {
	case '+':
		return rest, nil
	case '-':
		return nil, errors.New(rest)
	case ':':
		return strconv.ParseInt(rest, 10, 64)
	}
	n, err := strconv.Atoi(rest)
	if err != nil || (kind != '$' && kind != '*') {
		return nil, fmt.Errorf("strange reply %q", line)
	}
	if n < 0 {
		return nil, nil
	}
	if kind == '$' {
		b := make([]byte, n+2)
		_, err := io.ReadFull(c.r, b)
		return string(b[:n]), err
	}
	items := make([]any, n)
	for i := range items {
		if items[i], err = c.read(); err != nil {
			return nil, err
		}
	}
	return items, nil
}
