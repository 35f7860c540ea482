package executor

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// keepProgram copies the supervisor's program to a name made of its content. A
// copy and no link: a link would change with a program that is written over in
// place. What nobody uses any more is removed.
func (l *Local) keepProgram(bin string, argv []string) error {
	source, argv, err := supervisorProgram(argv)
	if err != nil {
		return err
	}
	defer source.Close()
	if err := os.MkdirAll(bin, 0o700); err != nil {
		return err
	}
	h := sha256.New()
	if _, err := io.Copy(h, source); err != nil {
		return err
	}
	kept := filepath.Join(bin, hex.EncodeToString(h.Sum(nil)[:16]))
	l.argv = append([]string{kept}, argv[1:]...)
	// A round more for every time that another process removes it before it is
	// locked.
	for l.program == nil {
		if l.program, err = lockProgram(kept); err != nil {
			return err
		}
		if l.program == nil {
			if err := copyProgram(source, kept); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return prunePrograms(bin)
}

// supervisorProgram finds the program that becomes a supervisor.
func supervisorProgram(argv []string) (source io.ReadSeekCloser, _ []string, err error) {
	if len(argv) > 0 {
		source, err = os.Open(argv[0])
		return source, argv, err
	}
	argv = []string{"", superviseCommand}
	if len(carriedSupervisor) > 0 {
		return carried{bytes.NewReader(carriedSupervisor)}, argv, nil
	}
	// Right even if the file was replaced since.
	if source, err = os.Open("/proc/self/exe"); err == nil {
		return source, argv, nil
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	source, err = os.Open(exe)
	return source, argv, err
}

// carried is a program in memory.
type carried struct{ *bytes.Reader }

func (carried) Close() error { return nil }

// lockProgram opens a kept program and marks it as used as long as it is open.
// It is nil when there is none.
func lockProgram(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	opened, err := f.Stat()
	if err == nil {
		var named os.FileInfo
		if named, err = os.Stat(path); err == nil && os.SameFile(opened, named) {
			return f, nil
		}
	}
	f.Close()
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return nil, err
}

// copyProgram gives the program its name when it is whole and durable. The error
// is os.ErrNotExist when another process has removed it before it was locked.
func copyProgram(source io.ReadSeeker, path string) error {
	if _, err := source.Seek(0, io.SeekStart); err != nil {
		return err
	}
	dst, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer dst.Close()
	defer os.Remove(dst.Name())
	if err := unix.Flock(int(dst.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	if _, err := io.Copy(dst, source); err != nil {
		return err
	}
	if err := errors.Join(dst.Chmod(0o500), dst.Sync()); err != nil {
		return err
	}
	return os.Rename(dst.Name(), path)
}

// prunePrograms removes the programs that no executor has locked and no
// supervisor runs, and copies that a crash left unfinished.
func prunePrograms(bin string) error {
	entries, err := os.ReadDir(bin)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(bin, e.Name())
		if programRuns(path) {
			continue
		}
		f, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		// The lock is held until the name is gone, see lockProgram.
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			err = os.Remove(path)
		}
		f.Close()
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
