package executor

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// diskFull reports whether the disk of the work directory is so full that it
// explains the end of a program.
func diskFull(work string) bool {
	var st unix.Statfs_t
	if err := unix.Statfs(work, &st); err == nil {
		free := uint64(st.Bavail)
		if os.Geteuid() == 0 { // who may use the reserve
			free = uint64(st.Bfree)
		}
		if free*uint64(st.Bsize) < 1<<20 || free < st.Blocks/1000 {
			return true
		}
	}
	return full(probe(work))
}

// probe writes a little, which also finds quotas.
func probe(work string) error {
	f, err := os.CreateTemp(work, ".probe-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(make([]byte, 64<<10))
	return errors.Join(err, f.Close())
}

func full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// createSoftStop makes the files that ask the program to end. It follows no
// link, and a file that is there already asks as well.
func createSoftStop(work string, names []string) error {
	root, err := os.OpenRoot(work)
	if err != nil {
		return err
	}
	defer root.Close()
	var errs []error
	for _, name := range names {
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err == nil {
			err = f.Close()
		}
		if err != nil && !errors.Is(err, os.ErrExist) {
			errs = append(errs, fmt.Errorf("create soft stop file: %w", err))
		}
	}
	return errors.Join(errs...)
}

// copyWithin copies regular files inside the work directory, from → to.
func copyWithin(work string, names map[string]string) error {
	if len(names) == 0 {
		return nil
	}
	root, err := os.OpenRoot(work)
	if err != nil {
		return err
	}
	defer root.Close()
	for from, to := range names {
		if err := copyFile(root, from, to); err != nil {
			return fmt.Errorf("copy %s to %s: %w", from, to, err)
		}
	}
	return nil
}

func copyFile(root *os.Root, from, to string) error {
	// A program may leave a pipe there, which would block the opening.
	src, err := root.OpenFile(from, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer src.Close()
	if st, err := src.Stat(); err != nil || !st.Mode().IsRegular() {
		return errors.Join(err, errors.New("not a regular file"))
	}
	if err := root.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	dst, err := root.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}
