package executor

import (
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// BootID is the kernel's id of its current boot.
func BootID() (string, error) {
	id, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.ToLower(id), nil
}

func startTime(pid int) (uint64, error) {
	p, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return 0, err
	}
	const zombie = 5 // SZOMB of sys/proc.h
	if int(p.Proc.P_pid) != pid || p.Proc.P_stat == zombie {
		return 0, unix.ESRCH
	}
	t := p.Proc.P_starttime
	return uint64(t.Sec)*1e6 + uint64(t.Usec), nil
}

// networkFS names the network file system that holds path, or "".
func networkFS(path string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return "", &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	if st.Flags&unix.MNT_LOCAL != 0 {
		return "", nil
	}
	return unix.ByteSliceToString(st.Fstypename[:]), nil
}

// punch is not used: the log limit ends the attempt here.
func punch(_ int, _, _ int64) error { return unix.ENOTSUP }
