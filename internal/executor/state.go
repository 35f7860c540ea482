package executor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nano-os/nanoos/internal/job"
)

// refuseNetwork refuses a file system on which a lock would lie.
func refuseNetwork(state string, networkFS func(string) (string, error)) error {
	kind, err := networkFS(state)
	if err != nil {
		return fmt.Errorf("look at the file system of the state directory: %w", err)
	}
	if kind == "" {
		return nil
	}
	return &job.Error{
		Code: job.Invalid, Message: "the data directory cannot be on a network file system",
		Why: fmt.Sprintf("%s is on %s, where a lock does not prove that a process is alive", state, kind),
		Fix: "choose a data directory on a local disk",
	}
}

// HostID is a random id of this machine's state directory, made at first use.
func HostID(stateDir string) (string, error) {
	path := filepath.Join(stateDir, "host-id")
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return "", fmt.Errorf("make host id: %w", err)
	}
	var id string
	err := readRecord(path, &id)
	if errors.Is(err, fs.ErrNotExist) {
		id = strings.ToLower(rand.Text())
		if err = writeRecordOnce(path, id); errors.Is(err, fs.ErrExist) {
			err = readRecord(path, &id)
		}
	}
	if err != nil {
		return "", fmt.Errorf("host id: %w", err)
	}
	return id, nil
}

func (l *Local) emptyTrash() error {
	entries, err := os.ReadDir(l.trash)
	if err != nil {
		return fmt.Errorf("empty trash: %w", err)
	}
	for _, e := range entries {
		if err := removeAll(filepath.Join(l.trash, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// removeAll deletes a tree in which a program may have made directories that
// nobody may write.
func removeAll(path string) error {
	err := os.RemoveAll(path)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	err = filepath.WalkDir(path, func(p string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			return os.Chmod(p, 0o700)
		}
		return nil
	})
	return errors.Join(err, os.RemoveAll(path))
}

// lockDir keeps other starters of the same attempt out, in this process and in
// others. A starter that dies lets go.
func lockDir(ctx context.Context, path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock attempt directory: %w", err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
