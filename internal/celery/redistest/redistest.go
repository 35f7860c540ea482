// Package redistest starts private Redis servers for tests: on a free loopback
// port, in a directory of their own, gone with the test binary however that ends.
// It needs the program redis-server and no driver.
package redistest

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Server is a Redis server that belongs to a test.
type Server struct {
	opt  Options
	bin  string
	dir  string
	port int

	mu      sync.Mutex
	process *process // nil while it is down
}

// Options of a server. The zero value keeps nothing over a restart.
type Options struct {
	// Password that clients must give.
	Password string
	// AppendOnly writes every change through to the disk before it is answered,
	// so that a killed server comes back with all that it said it had.
	AppendOnly bool
	// MaxMemory in bytes, beyond which writes are refused; 0: no bound.
	MaxMemory int64
	// TLS makes the server speak TLS alone, with a certificate of its own (see CA).
	TLS bool
	// Settings are more lines for the configuration file.
	Settings []string
}

// startTimeout bounds a start, with the append-only file read on a busy machine.
const startTimeout = 30 * time.Second

// Start makes and starts a server that ends with the test. A machine without
// Redis skips the test; where everything must be tested, that is a failure.
func Start(t testing.TB, opt Options) *Server {
	t.Helper()
	bin, err := exec.LookPath("redis-server")
	if err != nil {
		const missing = "Redis is not installed: run scripts/services.sh"
		if os.Getenv("CI") == "" {
			t.Skip("SKIPPED: " + missing)
		}
		t.Fatal(missing)
	}
	s := &Server{opt: opt, bin: bin, dir: t.TempDir()}
	if opt.TLS {
		if err := writeCertificates(s.dir); err != nil {
			t.Fatal(err)
		}
	}
	// Another program may take the port between the choice and the start.
	for range 3 {
		if s.port, err = freePort(); err != nil {
			t.Fatal(err)
		}
		if err = s.start(); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p := s.running(); p != nil {
			_ = s.end(syscall.SIGKILL)
		}
	})
	return s
}

// Addr is the server's TCP address.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// URL is the address of a database, with the password if there is one.
func (s *Server) URL(database int) string {
	u := url.URL{Scheme: "redis", Host: s.Addr(), Path: "/" + strconv.Itoa(database)}
	if s.opt.TLS {
		u.Scheme = "rediss"
	}
	if s.opt.Password != "" {
		u.User = url.UserPassword("", s.opt.Password)
	}
	return u.String()
}

// CA is the file of the certificate authority that signed the server's own.
func (s *Server) CA() string { return filepath.Join(s.dir, "ca.pem") }

// Kill ends the server with SIGKILL, as a crash does.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if err := s.end(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// Stop ends the server in order.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if err := s.end(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// Restart starts a server that is down, on the same port and with what it kept.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

// Lose forgets everything that a server which is down kept on its disk.
func (s *Server) Lose(t testing.TB) {
	t.Helper()
	if s.running() != nil {
		t.Fatal("Redis is running")
	}
	if err := os.RemoveAll(filepath.Join(s.dir, "appendonlydir")); err != nil {
		t.Fatal(err)
	}
}

// Freeze stops the server in its tracks; Thaw lets it go on.
func (s *Server) Freeze(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGSTOP)
}

// Thaw undoes Freeze.
func (s *Server) Thaw(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGCONT)
}

func (s *Server) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	p := s.running()
	if p == nil {
		t.Fatal("Redis is not running")
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// process is a server that runs, or has ended.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// start starts the server and waits until it answers.
func (s *Server) start() error {
	config := filepath.Join(s.dir, "redis.conf")
	if err := os.WriteFile(config, s.config(), 0o600); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(s.bin, config)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel sends the signal when the thread that started the process
		// ends, so this one lives as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start Redis: %w", err)
	}
	s.mu.Lock()
	s.process = p
	s.mu.Unlock()
	return s.await(p)
}

func (s *Server) config() []byte {
	var b bytes.Buffer
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("bind 127.0.0.1")
	line("dir %s", s.dir)
	line(`save ""`)
	if s.opt.TLS {
		line("port 0\ntls-port %d\ntls-auth-clients no", s.port)
		line("tls-ca-cert-file ca.pem\ntls-cert-file server.pem\ntls-key-file server.key")
	} else {
		line("port %d", s.port)
	}
	if s.opt.Password != "" {
		line("requirepass %q", s.opt.Password)
	}
	if s.opt.AppendOnly {
		line("appendonly yes\nappendfsync always")
	}
	if s.opt.MaxMemory > 0 {
		line("maxmemory %d\nmaxmemory-policy noeviction", s.opt.MaxMemory)
	}
	for _, setting := range s.opt.Settings {
		line("%s", setting)
	}
	return b.Bytes()
}

// await waits until the server answers and has read what it kept.
func (s *Server) await(p *process) error {
	var err error
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); {
		if err = s.ping(); err == nil {
			return nil
		}
		select {
		case <-p.done:
			_ = s.end(syscall.SIGKILL)
			return fmt.Errorf("redis-server ended while it started:\n%s", s.logTail())
		case <-time.After(5 * time.Millisecond):
		}
	}
	_ = s.end(syscall.SIGKILL)
	return fmt.Errorf("redis-server is not ready after %v: %w\n%s", startTimeout, err, s.logTail())
}

func (s *Server) ping() error {
	c, err := s.dial(s.opt.Password, 0)
	if err != nil {
		return err
	}
	defer c.close()
	_, err = c.do("PING")
	return err
}

func (s *Server) logTail() string {
	b, _ := os.ReadFile(filepath.Join(s.dir, "server.log"))
	return string(b[max(0, len(b)-2000):])
}

func (s *Server) running() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process
}

// end signals the server and waits for its end. A stopped process hears SIGTERM
// only when it goes on.
func (s *Server) end(sig syscall.Signal) error {
	p := s.running()
	if p == nil {
		return errors.New("Redis is not running")
	}
	_ = p.cmd.Process.Signal(sig) // it may have ended
	_ = p.cmd.Process.Signal(syscall.SIGCONT)
	select {
	case <-p.done:
	case <-time.After(startTimeout):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	s.mu.Lock()
	s.process = nil
	s.mu.Unlock()
	return nil
}

// freePort returns a port below the range of outgoing connections, so that none
// takes it before the server does, nor while the server is down.
func freePort() (int, error) {
	for range 200 {
		port := 10000 + int(time.Now().UnixNano()/1000%10000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("there is no free port in 10000…19999")
}
