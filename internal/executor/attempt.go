package executor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nano-os/nanoos/internal/job"
)

// attemptDir is the directory of one attempt. Its files are the whole truth
// about the attempt: there is no control socket, and whoever can read the files
// knows as much as the supervisor told anybody.
//
//	spec      what to run; durable before anything starts
//	lock      locked by the supervisor for its whole life
//	started   the identity of what runs; durable before its first instruction
//	beat      sign of life and resource use, overwritten in place
//	exit      preallocated slot for the exit records
//	stop      durable request to end
//	out, err  standard output and error, written by the program directly
//	work/     the only directory that the program may write
type attemptDir string

const (
	specFile    = "spec"
	lockFile    = "lock"
	startedFile = "started"
	beatFile    = "beat"
	exitFile    = "exit"
	stopFile    = "stop"
	outFile     = "out"
	errFile     = "err"
	workDir     = "work"
)

func (d attemptDir) file(name string) string { return filepath.Join(string(d), name) }

// tag marks every process of an attempt in its environment.
const tagName = "NANOOS_ATTEMPT"

func tagOf(id job.ID, attempt int) string {
	return tagName + "=" + string(id) + "/" + strconv.Itoa(attempt)
}

// takeLock locks the attempt for the life of the process. Readers hold the lock
// for microseconds when they look whether it is free, so busy is believed only
// after a while.
func (d attemptDir) takeLock(flag int) (*os.File, error) {
	f, err := open(d.file(lockFile), os.O_RDWR|flag, 0o600)
	if err != nil {
		return nil, err
	}
	for range 100 {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	if err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errBusy
		}
		return nil, fmt.Errorf("lock attempt: %w", err)
	}
	return f, nil
}

// alive reports whether a supervisor holds the lock. Nothing else decides that.
func (d attemptDir) alive() (bool, error) {
	f, err := open(d.file(lockFile), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// condition is what the files of an attempt say.
type condition struct {
	State  FoundState
	Detail string
	// Exit is set when the state is ended, lost or host lost.
	Exit    job.Exit
	Started started // when there is a start record
}

// inspect decides the condition of an attempt by the adopt table of the
// guarantees. The error is fs.ErrNotExist when there is no such attempt.
func (d attemptDir) inspect(boot string) (condition, error) {
	if _, err := os.Stat(string(d)); err != nil {
		return condition{}, err
	}
	// The lock is read before the exit record: a free lock means that no
	// record can follow.
	alive, err := d.alive()
	if err != nil {
		return damaged(err), nil
	}
	end, endErr := readEnding(d.file(exitFile))
	if endErr == nil && end.Final {
		return condition{State: FoundEnded, Exit: end.Exit}, nil
	}
	var c condition
	startErr := readRecord(d.file(startedFile), &c.Started)
	if alive {
		c.State = FoundAlive
		return c, nil
	}
	ended := endErr == nil
	none := errors.Is(endErr, errNoRecord) || errors.Is(endErr, fs.ErrNotExist)
	switch {
	case !ended && !none:
		return damaged(endErr), nil
	case errors.Is(startErr, fs.ErrNotExist) && none:
		return condition{State: FoundPrepared}, nil
	case startErr != nil:
		return damaged(startErr), nil
	case c.Started.Format > Format:
		return damaged(fmt.Errorf("format %d is newer than this program", c.Started.Format)), nil
	case errors.Is(endErr, fs.ErrNotExist):
		return damaged(errors.New("exit slot is missing")), nil
	}
	c.State, c.Exit = c.fate(d, boot), end.Exit
	if c.State == FoundLost || c.State == FoundReboot {
		if ended {
			// The leader's end was seen, and what it left is dead.
			c.State = FoundEnded
		} else {
			c.Exit = c.unobserved()
		}
	}
	return c, nil
}

// fate says what became of a tree without a supervisor.
func (c condition) fate(d attemptDir, boot string) FoundState {
	if c.Started.Boot != boot {
		return FoundReboot
	}
	if len(d.tree(c.Started).members()) > 0 {
		return FoundOrphan
	}
	return FoundLost
}

func (c condition) unobserved() job.Exit {
	e := job.Exit{Cause: job.CauseSupervisor, Step: c.Started.Step, StartedAt: c.Started.At}
	if c.State == FoundReboot {
		e.Cause = job.CauseHost
	}
	return e
}

func damaged(err error) condition {
	return condition{State: FoundDamaged, Detail: err.Error()}
}

// tree is the process tree that a start record names, seen from outside.
func (d attemptDir) tree(s started) tree {
	id := filepath.Base(filepath.Dir(string(d)))
	attempt, err := strconv.Atoi(filepath.Base(string(d)))
	if err != nil {
		attempt = 0
	}
	return tree{root: s.Leader, tag: tagOf(job.ID(id), attempt), group: s.Group}
}
