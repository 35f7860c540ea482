package mock

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// signals are the signals by which the mock program may end itself.
var signals = map[string]syscall.Signal{
	"SIGABRT": syscall.SIGABRT, "SIGSEGV": syscall.SIGSEGV, "SIGKILL": syscall.SIGKILL,
	"SIGTERM": syscall.SIGTERM, "SIGFPE": syscall.SIGFPE, "SIGBUS": syscall.SIGBUS,
}

// Run is the program: it reads its parameters from the current directory, takes
// its time and ends as it is told.
func Run(stdout, stderr io.Writer) int {
	raw, err := os.ReadFile(ParamsFile)
	if err != nil {
		fmt.Fprintln(stderr, "mock engine:", err)
		return 2
	}
	m := run{out: bufio.NewWriter(stdout)}
	if err := json.Unmarshal(raw, &m.p); err != nil {
		fmt.Fprintf(stderr, "mock engine: read %s: %v\n", ParamsFile, err)
		return 2
	}
	code, err := m.run()
	if flushErr := m.out.Flush(); err == nil {
		err = flushErr
	}
	if err != nil {
		fmt.Fprintln(stderr, "mock engine:", err)
		return 3
	}
	return code
}

type run struct {
	p      Params
	out    *bufio.Writer
	memory [][]byte
}

func (m *run) run() (int, error) {
	if m.p.IgnoreSIGTERM {
		signal.Ignore(syscall.SIGTERM)
	}
	// One line a start: a second one in the same output would show that an
	// attempt was started twice.
	fmt.Fprintf(m.out, "mock start pid %d at %s\n", os.Getpid(), time.Now().UTC().Format(time.RFC3339Nano))
	if err := m.out.Flush(); err != nil {
		return 0, err
	}
	if err := m.leaveChildren(); err != nil {
		return 0, err
	}
	for i := 1; i <= m.p.Steps; i++ {
		stopped, err := m.step(i)
		if err != nil {
			return 0, err
		}
		if stopped {
			fmt.Fprintln(m.out, Stopped)
			return 0, nil
		}
		if m.fails(i) {
			return m.fail(i)
		}
	}
	if m.p.FailAtStep == 0 && (m.p.Signal != "" || m.exitCode(0) != 0) && m.failingAttempt() {
		return m.fail(m.p.Steps)
	}
	result, err := json.Marshal(Result{Steps: m.p.Steps, Converged: m.p.Converge})
	if err != nil {
		return 0, err
	}
	return 0, os.WriteFile(ResultFile, append(result, '\n'), 0o600)
}

// step takes the time, memory and output of one step, and reports whether the
// stop file ended it.
func (m *run) step(i int) (stopped bool, err error) {
	m.grow(i)
	if err := m.flood(i); err != nil {
		return false, err
	}
	end := time.Now().Add(time.Duration(m.p.StepSeconds * float64(time.Second)))
	for {
		if m.stopAsked() {
			return true, nil
		}
		left := time.Until(end)
		if left <= 0 {
			break
		}
		time.Sleep(min(left, 100*time.Millisecond))
	}
	fmt.Fprint(m.out, StepLine(i, m.p.Steps, Energy(m.p.Seed, i)))
	return false, m.out.Flush()
}

func (m *run) stopAsked() bool {
	if m.p.IgnoreSIGTERM {
		return false
	}
	_, err := os.Stat(StopFile)
	return !errors.Is(err, fs.ErrNotExist)
}

// grow takes this step's share of the memory and touches every page of it.
func (m *run) grow(i int) {
	total := m.p.MemoryMB << 20
	n := int64(m.p.Steps)
	b := make([]byte, total*int64(i)/n-total*int64(i-1)/n)
	for at := 0; at < len(b); at += 4096 {
		b[at] = 1
	}
	m.memory = append(m.memory, b)
}

// flood prints this step's share of the output.
func (m *run) flood(i int) error {
	n := int64(m.p.Steps)
	left := m.p.OutputBytes*int64(i)/n - m.p.OutputBytes*int64(i-1)/n
	line := []byte("nothing to see here, only output that takes space and says nothing at all.....\n")
	for left > 0 {
		part := line[:min(left, int64(len(line)))]
		if _, err := m.out.Write(part); err != nil {
			return err
		}
		left -= int64(len(part))
	}
	return nil
}

// leaveChildren starts processes in sessions of their own that outlive us.
func (m *run) leaveChildren() error {
	for range m.p.Children {
		c := exec.Command("sleep", "3600")
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := c.Start(); err != nil {
			return fmt.Errorf("start a child: %w", err)
		}
	}
	return nil
}

func (m *run) fails(step int) bool { return step == m.p.FailAtStep && m.failingAttempt() }

// failingAttempt reports whether this attempt is one of those that fail.
func (m *run) failingAttempt() bool {
	attempt, err := strconv.Atoi(os.Getenv("NANOOS_TRY"))
	return err != nil || m.p.FailAttempts == 0 || attempt <= m.p.FailAttempts
}

func (m *run) fail(step int) (int, error) {
	fmt.Fprintf(m.out, "error: told to fail at step %d\n", step)
	if err := m.out.Flush(); err != nil {
		return 0, err
	}
	if s, ok := signals[m.p.Signal]; ok {
		signal.Reset(s)
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			return 0, err
		}
		time.Sleep(time.Minute) // the signal arrives first
	}
	return m.exitCode(1), nil
}

func (m *run) exitCode(otherwise int) int {
	if m.p.ExitCode != nil {
		return *m.p.ExitCode
	}
	return otherwise
}
