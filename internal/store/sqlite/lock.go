package sqlite

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nano-os/nanoos/internal/job"
)

// lockProcess makes this process the only one that has the database open
// (F41). The lock lies on a file of its own, which is never removed: removing
// it would let two processes hold a lock each. The kernel drops it when the
// process ends, however that happens.
func lockProcess(path string) (*os.File, error) {
	name := path + ".lock"
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the database: %w", err)
	}
	// A process that was killed while it started another one left a child that
	// holds the lock until it becomes its program: busy is believed after a while.
	for range 50 {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err == unix.EWOULDBLOCK {
		defer f.Close()
		return nil, inUse(path, name)
	}
	if err == nil {
		err = writePID(f)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock the database: %w", err)
	}
	return f, nil
}

func inUse(path, name string) error {
	holder := "another process"
	if b, err := os.ReadFile(name); err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			holder = fmt.Sprintf("process %d", pid)
		}
	}
	return &job.Error{
		Code:    job.Conflict,
		Message: "the database is in use by " + holder,
		Why:     holder + " holds " + name,
		Fix:     "use the server that runs there, stop it, or choose another directory than " + filepath.Dir(path) + " with --data",
	}
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}
