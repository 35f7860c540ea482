package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// daemon is a long-running process of nanoos that a test kills, freezes,
// starts again and upgrades.
type daemon struct {
	t    *testing.T
	name string
	log  *lockedBuffer
	// binary, args and env are those of the next start; prefix is a command that
	// runs another, such as one that enters a network namespace.
	prefix []string
	binary string
	args   []string
	env    []string
	// started, if set, is called after each start with the process id.
	started func(pid int)
	// mortal processes may end without being told to; supervised ones, too, and
	// are then started again, as an init system does.
	mortal, supervised bool

	mu   sync.Mutex
	told bool          // guarded by mu; it was told to end
	done bool          // guarded by mu; the test is over
	cmd  *exec.Cmd     // guarded by mu; nil when it does not run
	gone chan struct{} // guarded by mu; closed when cmd has ended
	err  error         // guarded by mu; how the last one ended
}

// uneventful matches the lines of a worker's log that nobody needs.
var uneventful = regexp.MustCompile(`(?m)^.*level=INFO msg=(started|finished) .*\n`)

func newDaemon(t *testing.T, name, binary string, args, env []string) *daemon {
	d := &daemon{t: t, name: name, log: &lockedBuffer{}, binary: binary, args: args, env: env}
	t.Cleanup(func() {
		d.mu.Lock()
		d.done = true
		d.mu.Unlock()
		d.kill()
		if t.Failed() {
			t.Logf("log of %s, without the jobs that went well:\n%s", name, uneventful.ReplaceAllString(d.log.tail(200_000), ""))
		}
	})
	return d
}

// start runs the process; it does not wait until it serves.
func (d *daemon) start() {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd != nil && d.supervised || d.done {
		return
	}
	if d.cmd != nil {
		d.t.Fatalf("%s runs already", d.name)
	}
	fmt.Fprintf(d.log, "--- start of %s\n", d.name)
	argv := slices.Concat(d.prefix, []string{d.binary}, d.args)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(append(os.Environ(), "NANOOS_CONFIG="+os.DevNull), d.env...)
	cmd.Stdout, cmd.Stderr = d.log, d.log
	// What it starts may hold its output open: only the process itself counts.
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		d.t.Fatalf("start %s: %v", d.name, err)
	}
	if d.started != nil {
		d.started(cmd.Process.Pid)
	}
	gone := make(chan struct{})
	d.cmd, d.gone, d.told = cmd, gone, false
	go d.await(cmd, gone)
}

// await reaps a process and judges how it ended.
func (d *daemon) await(cmd *exec.Cmd, gone chan struct{}) {
	err := cmd.Wait()
	d.mu.Lock()
	alone := d.cmd == cmd && !d.told
	if d.cmd == cmd {
		d.cmd, d.err = nil, err
	}
	close(gone)
	d.mu.Unlock()
	switch {
	case !alone || d.mortal:
	case d.supervised:
		wait(context.Background(), 200*time.Millisecond)
		d.start()
	default:
		d.t.Errorf("%s ended by itself: %v", d.name, err)
	}
}

// pid returns the process id, 0 when it does not run.
func (d *daemon) pid() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd == nil {
		return 0
	}
	return d.cmd.Process.Pid
}

// signal sends a signal to a process that runs, and returns a channel that
// closes when it has ended.
func (d *daemon) signal(s syscall.Signal) <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cmd == nil {
		closed := make(chan struct{})
		close(closed)
		return closed
	}
	d.told = d.told || s == syscall.SIGKILL || s == syscall.SIGTERM
	if err := d.cmd.Process.Signal(s); err != nil && d.cmd.ProcessState == nil {
		d.t.Errorf("signal %s: %v", d.name, err)
	}
	return d.gone
}

// kill ends the process without warning and waits until it is gone.
func (d *daemon) kill() { <-d.signal(syscall.SIGKILL) }

// stop ends it as an operator would, and checks that it leaves in time (G14).
func (d *daemon) stop() {
	d.t.Helper()
	gone := d.signal(syscall.SIGTERM)
	select {
	case <-gone:
		d.mu.Lock()
		defer d.mu.Unlock()
		ee, ok := errors.AsType[*exec.ExitError](d.err)
		early := ok && ee.Sys().(syscall.WaitStatus).Signal() == syscall.SIGTERM // before it listens to signals
		if d.err != nil && !early {
			d.t.Errorf("%s ended with %v", d.name, d.err)
		}
	case <-time.After(10 * time.Second):
		d.t.Errorf("G14: %s did not leave within 10 s of SIGTERM", d.name)
		d.kill()
	}
}

func (d *daemon) freeze() { d.signal(syscall.SIGSTOP) }
func (d *daemon) thaw()   { d.signal(syscall.SIGCONT) }

// openFiles counts the descriptors of the process.
func (d *daemon) openFiles() int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.pid()))
	if err != nil {
		return 0
	}
	return len(entries)
}
