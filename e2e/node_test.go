// Package e2e tests the binary as people run it: real processes, real files,
// real codes, and kill -9.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nano-os/nanoos/internal/api"
)

// binary is nanoos, and journal the program of the mock engine that writes down
// its starts; both are built once for all tests.
var binary, journal string

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		os.Exit(m.Run())
	}
	// Most of these tests wait for something to be lost or found again.
	if err := flag.Set("test.parallel", strconv.Itoa(max(4, runtime.GOMAXPROCS(0)))); err != nil {
		panic(err)
	}
	os.Exit(runAll(m))
}

func runAll(m *testing.M) int {
	dir, err := os.MkdirTemp("", "nanoos-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary, journal = filepath.Join(dir, "nanoos"), filepath.Join(dir, "journal")
	for target, source := range map[string]string{binary: "cmd/nanoos", journal: "e2e/journal"} {
		if out, err := build(target, source, "test"); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", source, err, out)
			return 1
		}
	}
	defer sharedPostgres.Close()
	return m.Run()
}

// build makes a program of this source that calls itself by a version.
func build(target, source, version string) ([]byte, error) {
	cmd := exec.Command("go", "build", "-ldflags", "-X main.version="+version, "-o", target, "github.com/nano-os/nanoos/"+source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return cmd.CombinedOutput()
}

// node is a data directory and the nanoos that serves it, if it lives.
type node struct {
	user
	data string
	args []string
	cmd  *exec.Cmd
	log  *lockedBuffer
}

// newNode starts "nanoos up" in a fresh data directory; the test's end stops
// it and everything that it ran.
func newNode(t *testing.T, args ...string) *node {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: needs real processes; not run with -short")
	}
	return newNodeAt(t, dataDir(t), args...)
}

// newNodeAt is newNode in a directory of the test's choice.
func newNodeAt(t *testing.T, data string, args ...string) *node {
	t.Helper()
	n := &node{user: user{t: t}, data: data, args: args, log: &lockedBuffer{}}
	t.Cleanup(func() {
		if n.cmd == nil {
			n.start()
		}
		n.cancelAll()
		n.stop()
		if t.Failed() {
			t.Logf("log of the node:\n%s", n.log.tail(20_000))
		}
	})
	n.start()
	return n
}

// dataDir is like t.TempDir, with a short path: Open MPI puts sockets below it.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "nos-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// start runs the node and waits until it serves.
func (n *node) start() {
	n.t.Helper()
	args := append([]string{"up", "--data", n.data, "--listen", "127.0.0.1:0"}, n.args...)
	n.cmd = exec.Command(binary, args...)
	n.cmd.Env = append(os.Environ(), "NANOOS_CONFIG="+os.DevNull)
	n.cmd.Stderr = n.log
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.eventually(20*time.Second, "the node serves", func() bool {
		raw, err := os.ReadFile(filepath.Join(n.data, "server.json"))
		if err != nil {
			return false
		}
		var ad struct {
			URL string `json:"url"`
			PID int    `json:"pid"`
		}
		if json.Unmarshal(raw, &ad) != nil || ad.PID != n.cmd.Process.Pid {
			return false
		}
		n.Client = api.NewClient(ad.URL, "")
		return n.Ready(n.t.Context()) == nil || n.t.Context().Err() != nil && n.Ready(context.Background()) == nil
	})
}

// kill ends the node without warning, as a power cut would; its runs go on.
func (n *node) kill() {
	n.t.Helper()
	if err := n.cmd.Process.Kill(); err != nil {
		n.t.Fatal(err)
	}
	_ = n.cmd.Wait() // it was killed: that is its error
	n.cmd = nil
}

// stop ends the node as an operator would, and checks that it leaves in time (G14).
func (n *node) stop() {
	n.t.Helper()
	if n.cmd == nil {
		return
	}
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		n.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- n.cmd.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			n.t.Errorf("the node ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		n.t.Error("the node did not leave within 10 s of SIGTERM")
		_ = n.cmd.Process.Kill()
		<-done
	}
	n.cmd = nil
}

func eventually(t *testing.T, within time.Duration, what string, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !so() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
		wait(context.Background(), 20*time.Millisecond)
	}
}

// wait passes a moment between two looks at a real process.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// nanoos runs a command of the binary and returns what it printed.
func nanoos(t *testing.T, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Env = append(append(os.Environ(), "NANOOS_CONFIG="+os.DevNull), env...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if ee, ok := errors.AsType[*exec.ExitError](err); ok {
		code = ee.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return out.String(), errOut.String(), code
}

// need skips without a program on a laptop, and fails in continuous integration.
func need(t *testing.T, programs ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: needs real processes; not run with -short")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is not installed", p)
			}
			t.Skipf("SKIPPED: %s is not installed", p)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.b.String()
	return strings.TrimSpace(s[max(0, len(s)-n):])
}
