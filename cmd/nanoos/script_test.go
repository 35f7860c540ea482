package main

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// The test binary is nanoos itself when it is started under that name, so the
// scripts, the supervisors and the mock engine all run the code under test.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"nanoos": main})
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			for name, value := range map[string]string{
				"XDG_STATE_HOME": filepath.Join(env.WorkDir, "state"), "XDG_CONFIG_HOME": filepath.Join(env.WorkDir, "config"),
				"NANOOS_URL": "", "NANOOS_TOKEN": "", "NANOOS_OUTPUT": "", "NANOOS_DATA": "", "NO_COLOR": "", "TZ": "UTC",
				"FIXTURES": fixtureDir(), "PORT": freePort(),
			} {
				env.Setenv(name, value)
			}
			return nil
		},
		Condition: func(name string) (bool, error) {
			if name == "fixtures" {
				_, err := os.Stat(fixtureDir())
				return err == nil, nil
			}
			return false, errors.New("unknown condition " + name)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "ready": ready, "noescapes": noEscapes},
	})
}

// freePort is a port that nobody listens on at the moment.
func freePort() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "0"
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// fixtureDir is where runs made by real programs are kept, beside the checkout
// unless the environment says otherwise.
func fixtureDir() string {
	if dir := os.Getenv("NANOOS_FIXTURES"); dir != "" {
		return dir
	}
	dir, err := filepath.Abs("../../../shared/fixtures")
	if err != nil {
		return ""
	}
	return dir
}

// exits runs a command and checks for exactly that exit code:
// exits 8 nanoos submit bad.yaml
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG…]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		status, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		got = status.ExitCode()
	}
	if got != want {
		ts.Fatalf("%v: exit code %d, want %d", args[1:], got, want)
	}
}

// ready waits for the server that the script has started in the background.
func ready(ts *testscript.TestScript, neg bool, args []string) {
	path := filepath.Join(ts.Getenv("XDG_STATE_HOME"), "nanoos", announcementFile)
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		if _, err := os.Stat(path); err == nil {
			if ts.Exec("nanoos", "status", "-o", "json") == nil {
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	ts.Fatalf("the server did not come up")
}

// noEscapes checks that a file has no escape byte and no carriage return.
func noEscapes(ts *testscript.TestScript, neg bool, args []string) {
	for _, name := range args {
		for i, b := range []byte(ts.ReadFile(name)) {
			if b == 0x1b || b == '\r' {
				ts.Fatalf("%s has the byte 0x%02x at %d", name, b, i)
			}
		}
	}
}
