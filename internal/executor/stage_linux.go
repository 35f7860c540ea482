package executor

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// startStage forks the supervisor. The child never returns to Go: it makes
// nothing but system calls until it executes the program, as package syscall
// does between fork and exec. Package syscall has no barrier at that place, and
// a stage that is a new start of our binary costs as much as the supervisor.
//
// The child is born in its v2 control group, and enters those of version 1 by
// itself: a process of one thread that moves itself does so at once, while to
// move another makes the kernel wait for a grace period, 5 to 13 ms. When this
// returns, that has happened or was refused.
func startStage(dir string, argv, env []string, files stageFiles, g group) (*stage, error) {
	var c child
	var err error
	if c.argv, err = syscall.SlicePtrFromStrings(argv); err != nil {
		return nil, err
	}
	if c.env, err = syscall.SlicePtrFromStrings(env); err != nil {
		return nil, err
	}
	if c.dir, err = syscall.BytePtrFromString(filepath.Clean(dir)); err != nil {
		return nil, err
	}
	barrier, result, err := stagePipes()
	if err != nil {
		return nil, err
	}
	defer barrier[0].Close()
	defer result[1].Close()
	c.files = [3]uintptr{files.in.Fd(), files.out.Fd(), files.err.Fd()}
	c.barrier = [2]uintptr{barrier[0].Fd(), barrier[1].Fd()}
	c.result = result[1].Fd()
	c.clone = cloneArgs{exitSignal: uint64(unix.SIGCHLD)}
	if g.Unified != "" {
		if fd, err := unix.Open(g.Unified, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
			defer unix.Close(fd)
			c.clone.flags, c.clone.cgroup = unix.CLONE_INTO_CGROUP, uint64(fd)
		}
	}
	for i, dir := range []string{g.Memory, g.Pids, g.CPU} {
		if dir == "" {
			continue
		}
		if fd, err := unix.Open(filepath.Join(dir, "tasks"), unix.O_WRONLY|unix.O_CLOEXEC, 0); err == nil {
			defer unix.Close(fd)
			c.groups[i] = uintptr(fd)
		}
	}
	c.self[0], c.ready[0] = '0', stageReady
	pid, errno := c.start()
	if errno != 0 {
		barrier[1].Close()
		result[0].Close()
		return nil, os.NewSyscallError("clone", errno)
	}
	// The writing end must be closed here for the end of the child to be seen.
	result[1].Close()
	st := &stage{pid: pid, barrier: barrier[1], result: result[0]}
	if err := st.awaitReady(); err != nil {
		st.close()
		return nil, err
	}
	return st, nil
}

// stageReady is what a stage writes when it is in its control groups.
const stageReady = 'r'

func (s *stage) awaitReady() error {
	var b [1]byte
	if _, err := io.ReadFull(s.result, b[:]); err != nil {
		return fmt.Errorf("the stage ended before it was ready: %w", err)
	}
	return nil
}

// child holds what the forked child needs, prepared before the fork: after it,
// nothing may allocate, grow the stack or take a lock.
type child struct {
	argv, env []*byte // ended by nil
	dir       *byte
	files     [3]uintptr
	barrier   [2]uintptr
	result    uintptr
	groups    [3]uintptr // tasks files of v1 groups; 0 for none
	clone     cloneArgs

	mask    uint64  // all signals, then those that were blocked before
	self    [8]byte // "0": whoever writes it
	ready   [8]byte
	none    [4]uint64 // an empty signal set, and the default disposition
	token   [8]byte
	failure [4]byte
}

// cloneArgs is struct clone_args of the kernel, as of its third version.
type cloneArgs struct {
	flags, pidFD, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

func (c *child) start() (int, syscall.Errno) {
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	c.mask = ^uint64(0)
	pid, errno := c.fork()
	runtime.KeepAlive(c)
	return int(pid), errno
}

// fork returns in the parent only. Signals are blocked meanwhile, so that no
// handler of the Go runtime can run in the child; and since nothing in here is a
// place where the scheduler may step in, it stays on one thread, without the
// second one that the runtime keeps for a locked thread. Where clone3 is refused
// (old kernels and container filters), clone does without the control group.
//
//go:nosplit
//go:noinline
//go:norace
//go:nocheckptr
func (c *child) fork() (pid uintptr, errno syscall.Errno) {
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&c.mask)), uintptr(unsafe.Pointer(&c.mask)), 8, 0, 0)
	pid, _, errno = syscall.RawSyscall6(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&c.clone)), unsafe.Sizeof(c.clone), 0, 0, 0, 0)
	if errno != 0 {
		pid, _, errno = syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	}
	if errno == 0 && pid == 0 {
		c.run()
	}
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&c.mask)), 0, 8, 0, 0)
	return pid, errno
}

// run is the child's life.
//
//go:nosplit
//go:noinline
//go:norace
//go:nocheckptr
func (c *child) run() {
	// A writing end of the barrier in the child itself would keep it waiting
	// for ever when the supervisor dies.
	syscall.RawSyscall6(unix.SYS_CLOSE, c.barrier[1], 0, 0, 0, 0, 0)
	for sig := uintptr(1); sig <= 64; sig++ {
		syscall.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&c.none)), 0, 8, 0, 0)
	}
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&c.none)), 0, 8, 0, 0)
	syscall.RawSyscall6(unix.SYS_SETSID, 0, 0, 0, 0, 0, 0)
	for i := 0; i < len(c.groups); i++ {
		if c.groups[i] != 0 {
			syscall.RawSyscall6(unix.SYS_WRITE, c.groups[i], uintptr(unsafe.Pointer(&c.self)), 1, 0, 0, 0)
		}
	}
	syscall.RawSyscall6(unix.SYS_WRITE, c.result, uintptr(unsafe.Pointer(&c.ready)), 1, 0, 0, 0)
	n, _, errno := syscall.RawSyscall6(unix.SYS_READ, c.barrier[0], uintptr(unsafe.Pointer(&c.token)), 1, 0, 0, 0)
	if errno == 0 && n == 1 {
		_, _, errno = syscall.RawSyscall6(unix.SYS_CHDIR, uintptr(unsafe.Pointer(c.dir)), 0, 0, 0, 0, 0)
		for i := 0; errno == 0 && i < len(c.files); i++ {
			_, _, errno = syscall.RawSyscall6(unix.SYS_DUP3, c.files[i], uintptr(i), 0, 0, 0, 0)
		}
		if errno == 0 {
			_, _, errno = syscall.RawSyscall6(unix.SYS_EXECVE, uintptr(unsafe.Pointer(c.argv[0])),
				uintptr(unsafe.Pointer(&c.argv[0])), uintptr(unsafe.Pointer(&c.env[0])), 0, 0, 0)
		}
		c.failure = [4]byte{byte(errno), byte(errno >> 8), 0, 0}
		syscall.RawSyscall6(unix.SYS_WRITE, c.result, uintptr(unsafe.Pointer(&c.failure)), 4, 0, 0, 0)
	}
	for {
		syscall.RawSyscall6(unix.SYS_EXIT_GROUP, 127, 0, 0, 0, 0, 0)
	}
}
