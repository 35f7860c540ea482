package executor

import (
	"context"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// open is os.OpenFile for files that nobody waits for. It spares the offer to
// the runtime's poller, which are five system calls for each file.
func open(path string, flag int, mode uint32) (*os.File, error) {
	for {
		fd, err := unix.Open(path, flag|unix.O_CLOEXEC, mode)
		if err == nil {
			return os.NewFile(uintptr(fd), path), nil
		}
		if err != unix.EINTR {
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// identity is a process that cannot be taken for another: a pid alone is used
// again within minutes on a busy machine.
type identity struct {
	PID int `json:"pid"`
	// Start is the kernel's start time of the process.
	Start uint64 `json:"start"`
}

// poll is wait for systems that cannot be asked to tell.
func (i identity) poll(ctx context.Context) error {
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for i.alive() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
		}
	}
	return nil
}

// tree is all the processes of an attempt.
type tree struct {
	// own means that this process is the subreaper above the tree, so that
	// nothing can leave it. Otherwise the tree is what its control group has,
	// what is below the root, and whatever carries the tag.
	own   bool
	root  identity
	tag   string
	group group
}

// members returns the living processes.
func (t tree) members() []process {
	var all []process
	if t.own {
		all = descendants(os.Getpid())
	} else {
		if t.root.alive() {
			all = append(descendants(t.root.PID), process{identity: t.root})
		}
		all = append(all, tagged(t.tag)...)
	}
	seen := map[int]bool{os.Getpid(): true}
	unique := all[:0]
	for _, p := range all {
		if !seen[p.PID] {
			seen[p.PID] = true
			unique = append(unique, p)
		}
	}
	for _, pid := range t.group.members() {
		if p, err := readProcess(pid); err == nil && !p.dead() && !seen[pid] {
			unique = append(unique, p)
		}
	}
	return unique
}

// kill ends every member there is now. Killing a process may bring its children
// to light, so the caller repeats until none is left.
func (t tree) kill() (found int) {
	t.group.kill()
	members := t.members()
	for _, p := range members {
		_ = p.signal(unix.SIGKILL) // it may just have ended
	}
	if t.own && t.root.PID > 1 && killSession(t.root) {
		found++
	}
	return found + len(members)
}

// usage is what the living members use.
func (t tree) usage() Usage {
	var u Usage
	var shared int64
	for _, p := range t.members() {
		anonymous, s := residentSize(p.PID)
		u.RSS += anonymous
		shared = max(shared, s)
		u.CPUTime += p.cpu
	}
	u.RSS += shared
	u.PeakRSS = u.RSS
	return u
}
