// Package pgtest starts private PostgreSQL clusters for tests: on a free
// loopback port, in a directory of their own, gone with the test binary however
// that ends. It needs the programs of a PostgreSQL installation and no driver.
package pgtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Cluster is a PostgreSQL server that belongs to a test.
type Cluster struct {
	bin, dir   string
	env        []string
	port       int
	credential *syscall.Credential // nil: run as we are
	databases  atomic.Int64

	mu     sync.Mutex
	server *process // nil while it is down
}

// Options of a cluster.
type Options struct {
	// Durable keeps every durability setting at its default, for crash tests
	// and benchmarks. The zero value is fast and unsafe: no flush.
	Durable bool
	// Settings are lines for the configuration file, such as "max_connections = 5".
	Settings []string
	// Env is added to the environment of the server, such as a library that
	// moves its clock.
	Env []string
}

// startTimeout bounds a start, with recovery on a busy machine.
const startTimeout = 60 * time.Second

// Start makes and starts a cluster that ends with the test.
func Start(t testing.TB, opt Options) *Cluster {
	t.Helper()
	c, err := open(opt)
	if err != nil {
		missing(t, err)
	}
	t.Cleanup(c.close)
	return c
}

// Shared is a fast cluster that all tests of a binary share, each with a
// database of its own. TestMain closes it.
type Shared struct {
	Options Options
	once    sync.Once
	cluster *Cluster
	err     error
}

// Get starts the cluster on first use.
func (s *Shared) Get(t testing.TB) *Cluster {
	t.Helper()
	s.once.Do(func() { s.cluster, s.err = open(s.Options) })
	if s.err != nil {
		missing(t, s.err)
	}
	return s.cluster
}

// Close ends the cluster, if there is one.
func (s *Shared) Close() {
	if s.cluster != nil {
		s.cluster.close()
	}
}

var errMissing = errors.New("PostgreSQL is not installed: run scripts/services.sh")

// missing ends a test that cannot run here. Where everything must be tested, a
// missing server is a failure.
func missing(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, errMissing) && os.Getenv("CI") == "" {
		t.Skipf("SKIPPED: %v", err)
	}
	t.Fatal(err)
}

// URL is the address of the database "postgres".
func (c *Cluster) URL() string { return c.url("postgres") }

// Addr is the server's TCP address.
func (c *Cluster) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)) }

func (c *Cluster) url(database string) string {
	return fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable", c.Addr(), database)
}

// CreateDB makes an empty database and returns its URL.
func (c *Cluster) CreateDB(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", c.databases.Add(1))
	c.SQL(t, "postgres", "CREATE DATABASE "+name+" TEMPLATE template0")
	return c.url(name)
}

// SQL runs statements with psql and returns the rows without decoration.
func (c *Cluster) SQL(t testing.TB, database, statements string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(c.bin, "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1",
		"-d", c.url(database), "-c", statements)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("psql %s: %v\n%s", statements, err, out)
	}
	return strings.TrimSpace(string(out))
}

// Kill ends the server and all its processes with SIGKILL, as a crash does.
func (c *Cluster) Kill(t testing.TB) {
	t.Helper()
	p := c.running()
	if p == nil {
		t.Fatal("PostgreSQL is not running")
	}
	// Stopped, it has no more children while they are listed.
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	orphans := children(p.cmd.Process.Pid)
	if err := c.signalTree(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.ended()
	// The next server refuses to start while one of them holds the memory.
	for _, pid := range orphans {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		for deadline := time.Now().Add(startTimeout); alive(pid) && time.Now().Before(deadline); {
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// alive reports whether a process has not ended yet.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	return len(fields) > 0 && fields[0] != "Z" && fields[0] != "X"
}

// Stop ends the server at once and without a checkpoint ("immediate").
func (c *Cluster) Stop(t testing.TB) {
	t.Helper()
	if err := c.stop(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
}

// Restart starts a server that is down, on the same data and port.
func (c *Cluster) Restart(t testing.TB) {
	t.Helper()
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
}

// Freeze stops every process of the server in its tracks; Thaw lets them go on.
func (c *Cluster) Freeze(t testing.TB) {
	t.Helper()
	if err := c.signalTree(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
}

// Thaw undoes Freeze.
func (c *Cluster) Thaw(t testing.TB) {
	t.Helper()
	if err := c.signalTree(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// open makes a cluster and starts it.
func open(opt Options) (*Cluster, error) {
	bin, err := findBin()
	if err != nil {
		return nil, err
	}
	c := &Cluster{bin: bin, env: opt.Env}
	if os.Geteuid() == 0 { // the server refuses to run as root
		if c.credential, err = serverUser(); err != nil {
			return nil, err
		}
	}
	if c.dir, err = os.MkdirTemp("", "pgtest-"); err != nil {
		return nil, err
	}
	if c.credential != nil {
		err = os.Chown(c.dir, int(c.credential.Uid), int(c.credential.Gid))
	}
	if err == nil {
		err = c.initialise(opt)
	}
	if err == nil {
		err = c.start()
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// findBin returns the directory of the newest installed server.
func findBin() (string, error) {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.SortFunc(dirs, func(a, b string) int { return version(a) - version(b) })
	for _, dir := range slices.Backward(dirs) {
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err == nil {
			return dir, nil
		}
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	return "", errMissing
}

func version(bin string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return n
}

func serverUser() (*syscall.Credential, error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", errMissing, err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err1, err2)
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

func (c *Cluster) initialise(opt Options) error {
	args := []string{"-D", c.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"}
	if opt.Durable {
		args = append(args, "--data-checksums")
	}
	cmd := exec.Command(filepath.Join(c.bin, "initdb"), args...)
	cmd.Dir, cmd.SysProcAttr = c.dir, &syscall.SysProcAttr{Credential: c.credential}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb in %s, which user postgres must be able to enter: %w\n%s", c.dir, err, out)
	}
	settings := []string{"", "listen_addresses = '127.0.0.1'", "unix_socket_directories = '" + c.dir + "'",
		"max_connections = 200", "log_min_messages = warning", "shared_buffers = 128MB"}
	if opt.Durable {
		settings = append(settings, "max_wal_size = 4GB")
	} else {
		settings = append(settings, "fsync = off", "full_page_writes = off", "wal_level = minimal", "max_wal_senders = 0", "max_wal_size = 1GB")
	}
	settings = append(settings, opt.Settings...)
	f, err := os.OpenFile(filepath.Join(c.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strings.Join(settings, "\n") + "\n")
	return errors.Join(err, f.Close())
}

// process is a server that runs, or has ended.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// start starts the server and waits until it accepts connections. Another
// program may take the port between the choice and the start, so it tries again.
func (c *Cluster) start() error {
	var err error
	for range 3 {
		if c.port == 0 {
			if c.port, err = freePort(); err != nil {
				return err
			}
		}
		if err = c.startOnce(); err == nil {
			return nil
		}
		c.port = 0
	}
	return err
}

func (c *Cluster) startOnce() error {
	log, err := os.OpenFile(filepath.Join(c.dir, "server.log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(c.bin, "postgres"), "-D", c.data(), "-p", strconv.Itoa(c.port))
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = c.dir, append(os.Environ(), c.env...), log, log
	// An immediate shutdown when the test binary ends, however it ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.credential, Pdeathsig: syscall.SIGQUIT}
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
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	if err := c.await(p); err != nil {
		return err
	}
	c.mu.Lock()
	c.server = p
	c.mu.Unlock()
	return nil
}

// await waits until the server says in its lock file that it is ready.
func (c *Cluster) await(p *process) error {
	deadline := time.Now().Add(startTimeout)
	for {
		b, _ := os.ReadFile(filepath.Join(c.data(), "postmaster.pid"))
		lines := strings.Split(string(b), "\n")
		if len(lines) >= 8 && lines[0] == strconv.Itoa(p.cmd.Process.Pid) && strings.TrimSpace(lines[7]) == "ready" {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("PostgreSQL ended while it started:\n%s", c.logTail())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			_ = p.cmd.Process.Kill()
			<-p.done
			return fmt.Errorf("PostgreSQL is not ready after %v:\n%s", startTimeout, c.logTail())
		}
	}
}

func (c *Cluster) logTail() string {
	b, _ := os.ReadFile(filepath.Join(c.dir, "server.log"))
	return string(b[max(0, len(b)-2000):])
}

// freePort returns a port below the range of outgoing connections, so that none
// takes it before the server does.
func freePort() (int, error) {
	for range 200 {
		port := 20000 + int(time.Now().UnixNano()/1000%10000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("there is no free port in 20000…29999")
}

func (c *Cluster) running() *process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.server
}

// ended waits for the server's process and forgets it.
func (c *Cluster) ended() {
	if p := c.running(); p != nil {
		<-p.done
		c.mu.Lock()
		c.server = nil
		c.mu.Unlock()
	}
}

func (c *Cluster) stop(sig syscall.Signal) error {
	p := c.running()
	if p == nil {
		return errors.New("PostgreSQL is not running")
	}
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	c.ended()
	return nil
}

// signalTree signals the server's first process and its children, which are
// all there are. The children of a stopped parent stay what they are.
func (c *Cluster) signalTree(sig syscall.Signal) error {
	p := c.running()
	if p == nil {
		return errors.New("PostgreSQL is not running")
	}
	pid := p.cmd.Process.Pid
	if sig != syscall.SIGCONT {
		if err := syscall.Kill(pid, sig); err != nil {
			return fmt.Errorf("signal PostgreSQL: %w", err)
		}
	}
	for _, child := range children(pid) {
		_ = syscall.Kill(child, sig) // it may have ended
	}
	if sig == syscall.SIGCONT {
		return syscall.Kill(pid, sig)
	}
	return nil
}

// children returns the processes whose parent is pid.
func children(pid int) []int {
	var pids []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		// "pid (name) state parent …", and a name may contain anything.
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			child, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, child)
		}
	}
	return pids
}

// close ends the server and removes its files.
func (c *Cluster) close() {
	if c.running() != nil {
		_ = c.signalTree(syscall.SIGCONT)
		_ = c.stop(syscall.SIGQUIT)
	}
	_ = os.RemoveAll(c.dir)
}
