package executor

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nano-os/nanoos/internal/job"
)

// LocalOptions configure the local executor.
type LocalOptions struct {
	// StateDir holds the attempts; it must be on a local file system.
	StateDir string
	// SupervisorArgv is the command that becomes a supervisor; empty means this
	// program's own, which must call Main first. The program in it is copied
	// into the state directory, so an upgrade does not disturb what runs (R2).
	SupervisorArgv []string
	// KillGrace is the time between SIGTERM and SIGKILL for tasks that say
	// nothing; zero means 30 s.
	KillGrace time.Duration
	// Cgroup "none" makes no control groups; empty uses what is there.
	Cgroup string
	// HostID and BootID stand for those of the machine if not empty.
	HostID, BootID string
}

// Local runs attempts on this machine, each under a supervisor of its own.
type Local struct {
	attempts     string
	trash        string
	argv         []string
	grace        time.Duration
	host, boot   string
	groups       groupParents
	capabilities Capabilities
	// at marks the points at which a crash is tested.
	at func(point string)

	mu sync.Mutex
	// supervisors are our own children, to be waited for when they end.
	supervisors map[attemptDir][]*os.Process
}

var _ Executor = (*Local)(nil)

const defaultGrace = 30 * time.Second

// NewLocal makes the local executor of a state directory.
func NewLocal(opt LocalOptions) (*Local, error) { return newLocal(opt, networkFS) }

func newLocal(opt LocalOptions, networkFS func(string) (string, error)) (*Local, error) {
	state, err := filepath.Abs(opt.StateDir)
	if err != nil {
		return nil, fmt.Errorf("find state directory: %w", err)
	}
	l := &Local{
		attempts: filepath.Join(state, "attempts"), trash: filepath.Join(state, "trash"),
		grace: opt.KillGrace, host: opt.HostID, boot: opt.BootID,
		at: func(string) {}, supervisors: map[attemptDir][]*os.Process{},
	}
	if l.grace <= 0 {
		l.grace = defaultGrace
	}
	for _, d := range []string{l.attempts, l.trash} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("make state directory: %w", err)
		}
	}
	if err := refuseNetwork(state, networkFS); err != nil {
		return nil, err
	}
	if l.host == "" {
		if l.host, err = HostID(state); err != nil {
			return nil, err
		}
	}
	if l.boot == "" {
		if l.boot, err = BootID(); err != nil {
			return nil, err
		}
	}
	if l.argv, err = keepBinary(state, opt.SupervisorArgv); err != nil {
		return nil, err
	}
	keepDescriptors()
	l.groups, l.capabilities = findGroups(opt.Cgroup)
	return l, l.emptyTrash()
}

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

// keepBinary copies the supervisor's program to a name made of its content. A
// copy and no link: a link would change with a program that is written over in
// place.
func keepBinary(state string, argv []string) ([]string, error) {
	if len(argv) == 0 {
		argv = []string{"/proc/self/exe", superviseCommand}
	}
	program := argv[0]
	if program == "/proc/self/exe" {
		exe, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find own program: %w", err)
		}
		program = exe
		if _, err := os.Stat("/proc/self/exe"); err == nil {
			program = "/proc/self/exe" // right even if the file was replaced since
		}
	}
	src, err := os.Open(program)
	if err != nil {
		return nil, fmt.Errorf("open supervisor program: %w", err)
	}
	defer src.Close()
	h := sha256.New()
	if _, err := io.Copy(h, src); err != nil {
		return nil, fmt.Errorf("read supervisor program: %w", err)
	}
	bin := filepath.Join(state, "bin")
	kept := filepath.Join(bin, hex.EncodeToString(h.Sum(nil)[:16]))
	argv = append([]string{kept}, argv[1:]...)
	if _, err := os.Stat(kept); err == nil {
		return argv, nil
	}
	if err := os.MkdirAll(bin, 0o700); err != nil {
		return nil, fmt.Errorf("keep supervisor program: %w", err)
	}
	if err := copyProgram(src, kept); err != nil {
		return nil, fmt.Errorf("keep supervisor program: %w", err)
	}
	return argv, nil
}

func copyProgram(src *os.File, path string) error {
	if _, err := src.Seek(0, io.SeekStart); err != nil {
		return err
	}
	dst, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(dst.Name())
	if _, err := io.Copy(dst, src); err != nil {
		dst.Close()
		return err
	}
	err = errors.Join(dst.Chmod(0o500), dst.Sync(), dst.Close())
	if err != nil {
		return err
	}
	return os.Rename(dst.Name(), path)
}

// Capabilities implements Executor.
func (l *Local) Capabilities() Capabilities { return l.capabilities }

func (l *Local) dir(id job.ID, attempt int) attemptDir {
	return attemptDir(filepath.Join(l.attempts, string(id), strconv.Itoa(attempt)))
}

// WorkDir implements Executor.
func (l *Local) WorkDir(id job.ID, attempt int) string {
	return l.dir(id, attempt).file(workDir)
}

// Attach implements Executor. An attempt whose supervisor died gets a successor.
func (l *Local) Attach(ctx context.Context, id job.ID, attempt int) (Run, error) {
	if problems := checkName(id, attempt); len(problems) > 0 {
		return nil, job.InvalidInput("that is not an attempt", problems)
	}
	d := l.dir(id, attempt)
	c, err := d.inspect(l.boot)
	if err != nil {
		return nil, l.missing(d, err)
	}
	switch c.State {
	case FoundPrepared:
		return nil, job.Errorf(job.NotFound, "attempt %d of job %s never started", attempt, id)
	case FoundDamaged:
		return nil, damagedError(d, c.Detail)
	case FoundOrphan:
		if err := l.adopt(ctx, d); err != nil {
			return nil, err
		}
	}
	return &run{local: l, dir: d}, nil
}

func (l *Local) missing(d attemptDir, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return job.Errorf(job.NotFound, "no attempt is at %s", d)
	}
	return fmt.Errorf("look at attempt: %w", err)
}

func damagedError(d attemptDir, detail string) error {
	return &job.Error{
		Code: job.Internal, Message: "the attempt's control files cannot be read, and how it ended is unknown",
		Why: fmt.Sprintf("%s: %s", d, detail), Fix: "keep the directory for a look, then remove it",
	}
}

// adopt starts a successor of a supervisor that died. Another may be faster.
func (l *Local) adopt(ctx context.Context, d attemptDir) error {
	err := l.spawn(ctx, d, []string{adoptWord, string(d)}, nil)
	if errors.Is(err, errBusy) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("adopt attempt: %w", err)
	}
	return nil
}

// List implements Executor.
func (l *Local) List(ctx context.Context) ([]Found, error) {
	jobs, err := os.ReadDir(l.attempts)
	if err != nil {
		return nil, fmt.Errorf("list attempts: %w", err)
	}
	var found []Found
	for _, j := range jobs {
		numbers, err := os.ReadDir(filepath.Join(l.attempts, j.Name()))
		if err != nil {
			continue // not a directory, or just removed
		}
		for _, n := range numbers {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			number, err := strconv.Atoi(n.Name())
			if err != nil || len(checkName(job.ID(j.Name()), number)) > 0 {
				continue
			}
			f := Found{ID: job.ID(j.Name()), Attempt: number}
			c, err := l.dir(f.ID, number).inspect(l.boot)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				c = damaged(err)
			}
			f.State, f.Detail = c.State, c.Detail
			found = append(found, f)
		}
	}
	return found, nil
}

// Remove implements Executor. Removing what is not there is no error.
func (l *Local) Remove(_ context.Context, id job.ID, attempt int) error {
	if problems := checkName(id, attempt); len(problems) > 0 {
		return job.InvalidInput("that is not an attempt", problems)
	}
	d := l.dir(id, attempt)
	c, err := d.inspect(l.boot)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at attempt: %w", err)
	}
	if c.State == FoundAlive || c.State == FoundOrphan {
		return job.Errorf(job.Conflict, "attempt %d of job %s still runs", attempt, id)
	}
	l.reap(d)
	if err := l.groups.of(id, attempt).remove(); err != nil {
		return err
	}
	// Renaming first makes the removal whole: a crash leaves no half attempt.
	gone := filepath.Join(l.trash, string(id)+"-"+strconv.Itoa(attempt)+"-"+rand.Text())
	if err := os.Rename(string(d), gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove attempt: %w", err)
	}
	_ = os.Remove(filepath.Dir(string(d))) // stays while other attempts are in it
	return removeAll(gone)
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

// reap waits for our supervisors of an attempt, which have ended or are about to.
func (l *Local) reap(d attemptDir) {
	l.mu.Lock()
	ended := l.supervisors[d]
	delete(l.supervisors, d)
	l.mu.Unlock()
	for _, p := range ended {
		_, _ = p.Wait()
	}
}

// checkName refuses names that are no single path element.
func checkName(id job.ID, attempt int) (problems []job.Problem) {
	bad := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	}
	if id == "" || len(id) > job.MaxNameLength || strings.ContainsFunc(string(id), bad) {
		problems = append(problems, job.Problem{Field: "id", Message: "a job id has letters, digits and hyphens only", Why: strconv.Quote(string(id))})
	}
	if attempt < 1 {
		problems = append(problems, job.Problem{Field: "attempt", Message: "attempts count from 1", Why: strconv.Itoa(attempt)})
	}
	return problems
}

// check finds everything in a task that cannot run.
func (t Task) check() error {
	problems := checkName(t.ID, t.Attempt)
	add := func(field, message, why string) {
		problems = append(problems, job.Problem{Field: field, Message: message, Why: why})
	}
	if len(t.Steps) == 0 {
		add("steps", "a task needs a command", "")
	}
	for i, s := range t.Steps {
		field := fmt.Sprintf("steps[%d]", i)
		if len(s.Argv) == 0 || !filepath.IsAbs(s.Argv[0]) {
			add(field+".argv", "a command begins with the absolute path of a program", strings.Join(s.Argv, " "))
		}
		if slices.ContainsFunc(s.Argv, hasNUL) {
			add(field+".argv", "an argument has a zero byte", "")
		}
		for from, to := range s.Copy {
			if !filepath.IsLocal(from) || !filepath.IsLocal(to) || hasNUL(from+to) {
				add(field+".copy", "a file to copy is outside the work directory", from+" to "+to)
			}
		}
	}
	for i, e := range t.Env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" || hasNUL(e) {
			add(fmt.Sprintf("env[%d]", i), "an environment entry is not NAME=value", "")
		}
	}
	for _, name := range t.Stop.Create {
		if !filepath.IsLocal(name) || hasNUL(name) {
			add("stop.create", "a soft stop file is outside the work directory", strconv.Quote(name))
		}
	}
	return job.InvalidInput("the task cannot be started", problems)
}

func hasNUL(s string) bool { return strings.ContainsRune(s, 0) }

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
