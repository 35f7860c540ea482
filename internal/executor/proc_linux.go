package executor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	clockBoot  = unix.CLOCK_BOOTTIME
	maxrssUnit = 1024 // of ru_maxrss
)

// BootID is the kernel's id of its current boot.
func BootID() (string, error) {
	b, err := readBounded("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// process is a line of the process table.
type process struct {
	identity
	parent int
	state  byte
	cpu    time.Duration // with that of its children that were waited for
}

// userHZ is the unit of times in /proc on every architecture of Linux.
const userHZ = 100

func readProcess(pid int) (process, error) {
	b, err := readBounded("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return process{}, err
	}
	// The name is in parentheses and may hold any character.
	_, rest, ok := bytes.Cut(b[max(0, bytes.LastIndexByte(b, ')')):], []byte(") "))
	fields := strings.Fields(string(rest))
	if !ok || len(fields) < 20 || len(fields[0]) != 1 {
		return process{}, errors.New("process status is cut")
	}
	number := func(field int) (n int64) { // numbered as in proc(5)
		if err == nil {
			n, err = strconv.ParseInt(fields[field-3], 10, 64)
		}
		return n
	}
	p := process{identity: identity{PID: pid}, state: fields[0][0], parent: int(number(4))}
	ticks := number(14) + number(15) + number(16) + number(17)
	p.cpu = time.Duration(ticks) * time.Second / userHZ
	p.Start = uint64(number(22))
	return p, err
}

func (p process) dead() bool { return p.state == 'Z' || p.state == 'X' }

// identify names the process that has a pid now.
func identify(pid int) (identity, error) {
	p, err := readProcess(pid)
	return p.identity, err
}

// alive reports whether the very process still runs. A zombie does not.
func (i identity) alive() bool {
	p, err := readProcess(i.PID)
	return err == nil && p.Start == i.Start && !p.dead()
}

// signal sends to the very process, never to a successor of its pid: a pid
// descriptor is opened first and the start time compared after.
func (i identity) signal(sig unix.Signal) error {
	if i.PID <= 1 {
		return unix.ESRCH
	}
	fd, err := unix.PidfdOpen(i.PID, 0)
	if errors.Is(err, unix.ENOSYS) {
		if !i.alive() {
			return unix.ESRCH
		}
		return unix.Kill(i.PID, sig)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !i.alive() {
		return unix.ESRCH
	}
	return unix.PidfdSendSignal(fd, sig, nil, 0)
}

// wait returns when the very process has ended. No thread is held meanwhile:
// the runtime's poller watches a pid descriptor.
func (i identity) wait(ctx context.Context) error {
	fd, err := unix.PidfdOpen(i.PID, unix.O_NONBLOCK)
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL): // before Linux 5.10
		return i.poll(ctx)
	case err != nil:
		return fmt.Errorf("watch process %d: %w", i.PID, err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	if !i.alive() {
		return nil
	}
	if err := f.SetReadDeadline(time.Time{}); err != nil {
		return i.poll(ctx) // this kernel cannot poll it
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	err = raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// endsWithin returns when the process has ended, when the time is over, or when
// a signal arrives. It is one blocking system call: wait, with the runtime's
// poller and timers, takes more threads.
func (i identity) endsWithin(d time.Duration) {
	fd, err := unix.PidfdOpen(i.PID, 0)
	if err != nil {
		if !errors.Is(err, unix.ESRCH) { // before Linux 5.3
			time.Sleep(min(d, closeTick))
		}
		return
	}
	defer unix.Close(fd)
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(d.Milliseconds()))
}

// pipe is os.Pipe without the runtime's poller.
func pipe() (reading, writing *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	return os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe"), nil
}

// descendants returns the living processes below pid.
func descendants(pid int) []process {
	var found []process
	below := children(pid)
	for len(below) > 0 {
		next := below[0]
		below = below[1:]
		p, err := readProcess(next)
		if err != nil {
			continue
		}
		if !p.dead() {
			found = append(found, p)
		}
		below = append(below, children(next)...)
	}
	return found
}

func children(pid int) []int {
	var pids []int
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil || len(tasks) == 0 {
		return childrenByScan(pid)
	}
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if err != nil {
			continue
		}
		for f := range strings.FieldsSeq(string(b)) {
			if n, err := strconv.Atoi(f); err == nil {
				pids = append(pids, n)
			}
		}
	}
	return pids
}

// childrenByScan is for kernels built without lists of children.
func childrenByScan(pid int) []int {
	if _, err := os.Stat("/proc/self/task/self/children"); err == nil {
		return nil
	}
	var pids []int
	for other := range allPIDs() {
		if p, err := readProcess(other); err == nil && p.parent == pid {
			pids = append(pids, other)
		}
	}
	return pids
}

func allPIDs() map[int]bool {
	entries, err := os.ReadDir("/proc")
	if err != nil && len(entries) == 0 {
		return nil
	}
	pids := make(map[int]bool, len(entries))
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids[pid] = true
		}
	}
	return pids
}

// tagged returns the living processes whose environment has the entry.
func tagged(entry string) []process {
	var found []process
	for pid := range allPIDs() {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "environ"))
		if err != nil || !slices.Contains(strings.Split(string(b), "\x00"), entry) {
			continue
		}
		if p, err := readProcess(pid); err == nil && !p.dead() {
			found = append(found, p)
		}
	}
	return found
}

// killSession has nothing to add where nothing can leave the tree.
func killSession(identity) bool { return false }

// residentSize is what a process has in memory of its own: anonymous pages, and
// shared ones, which are apart because ranks of one run map the same.
func residentSize(pid int) (anonymous, shared int64) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		if name != "RssAnon" && name != "RssShmem" {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			continue
		}
		if name == "RssAnon" {
			anonymous = n << 10
		} else {
			shared = n << 10
		}
	}
	return anonymous, shared
}

// syncData flushes what was written into a place that is allocated and durable
// already, without the times of the file, which would cost a commit of the file
// system's journal.
func syncData(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }

// becomeSubreaper makes every orphan below this process its child.
func becomeSubreaper() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// protectSupervisor lowers the chance that the kernel picks the supervisor when
// memory is short, where that is allowed; exposeProgram undoes it for the
// program.
func protectSupervisor() { _ = writeKernelFile("/proc/self", "oom_score_adj", "-500") }

func exposeProgram(pid int) {
	_ = writeKernelFile("/proc/"+strconv.Itoa(pid), "oom_score_adj", "0")
}

// limitProcess sets the resource limits of a stage that waits at the barrier.
func limitProcess(pid int, l Limits) error {
	set := func(resource int, value uint64) error {
		var old unix.Rlimit
		if err := unix.Prlimit(pid, resource, nil, &old); err != nil {
			return err
		}
		value = min(value, old.Max) // raising it takes a privilege
		return unix.Prlimit(pid, resource, &unix.Rlimit{Cur: value, Max: value}, nil)
	}
	if err := set(unix.RLIMIT_CORE, 0); err != nil {
		return fmt.Errorf("limit core size: %w", err)
	}
	if l.OpenFiles > 0 {
		if err := set(unix.RLIMIT_NOFILE, uint64(l.OpenFiles)); err != nil {
			return fmt.Errorf("limit open files: %w", err)
		}
	}
	if l.FileSize > 0 {
		if err := set(unix.RLIMIT_FSIZE, uint64(l.FileSize)); err != nil {
			return fmt.Errorf("limit file size: %w", err)
		}
	}
	return nil
}

// keepDescriptors keeps what this process inherited from its own parent, such as
// the pipe of a login session, from supervisors and programs. What Go opened is
// closed at exec anyway.
func keepDescriptors() {
	if unix.CloseRange(3, 1<<31-1, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	fds, err := filepath.Glob("/proc/self/fd/*") // before Linux 5.11
	if err != nil {
		return
	}
	for _, name := range fds {
		if fd, err := strconv.Atoi(filepath.Base(name)); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}

// programRuns reports whether a process executes the file.
func programRuns(path string) bool {
	program, err := os.Stat(path)
	if err != nil {
		return false
	}
	for pid := range allPIDs() {
		exe, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid), "exe"))
		if err == nil && os.SameFile(program, exe) {
			return true
		}
	}
	return false
}

// landlockLevel is the version of the kernel's Landlock interface, 0 without.
func landlockLevel() int {
	const version = 1 // LANDLOCK_CREATE_RULESET_VERSION
	n, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, version)
	if errno != 0 {
		return 0
	}
	return int(n)
}
