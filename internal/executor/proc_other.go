//go:build !linux

package executor

import (
	"context"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The monotonic clock of these systems counts through sleep.
const (
	clockBoot  = unix.CLOCK_MONOTONIC
	maxrssUnit = 1 // of ru_maxrss on Darwin
)

// process is a line of the process table.
type process struct {
	identity
	cpu time.Duration
}

func (process) dead() bool { return false }

func readProcess(pid int) (process, error) {
	id, err := identify(pid)
	return process{identity: id}, err
}

// identify names the process that has a pid now.
func identify(pid int) (identity, error) {
	start, err := startTime(pid)
	return identity{PID: pid, Start: start}, err
}

// alive reports whether the very process still runs.
func (i identity) alive() bool {
	now, err := identify(i.PID)
	return err == nil && now == i
}

func (i identity) signal(sig unix.Signal) error {
	if i.PID <= 1 || !i.alive() {
		return unix.ESRCH
	}
	return unix.Kill(i.PID, sig)
}

func (i identity) wait(ctx context.Context) error { return i.poll(ctx) }

// endsWithin lets a little time pass, for systems that cannot be asked to tell.
func (identity) endsWithin(d time.Duration) { time.Sleep(min(d, closeTick)) }

func pipe() (reading, writing *os.File, err error) { return os.Pipe() }

// descendants finds none: without a subreaper the tree is the process group of
// its leader, which killSession ends.
func descendants(int) []process { return nil }

func tagged(string) []process { return nil }

func residentSize(int) (anonymous, shared int64) { return 0, 0 }

func syncData(f *os.File) error { return f.Sync() }

func becomeSubreaper() error { return nil }

func protectSupervisor() {}

func exposeProgram(int) {}

// limitProcess has no way to limit another process here.
func limitProcess(int, Limits) error { return nil }

func keepDescriptors() {}

func landlockLevel() int { return 0 }

// programRuns cannot be answered here, so every program is kept.
func programRuns(string) bool { return true }

// killSession ends what is left of the leader's process group, which is all
// that can be found here, and reports whether there was anything. It is called
// at once after the leader ended, while the number of its group is still its own.
func killSession(leader identity) bool { return syscall.Kill(-leader.PID, syscall.SIGKILL) == nil }
