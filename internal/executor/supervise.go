package executor

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nano-os/nanoos/internal/job"
)

// Commands of our binary that are not for people.
const (
	superviseCommand = "supervise"
	stageCommand     = "supervise-stage"
	adoptWord        = "adopt"
)

// Main runs the process that argv asks for if it is one of ours: a supervisor or
// a stage. A program that uses NewLocal calls it before anything else.
func Main(argv []string) (code int, handled bool) {
	if len(argv) < 2 {
		return 0, false
	}
	switch argv[1] {
	case superviseCommand:
		return Supervise(argv[2:]), true
	case stageCommand:
		return stageMain(argv[2:]), true
	}
	return 0, false
}

// Supervise is the main of a supervisor: "DIR" starts the attempt of that
// directory, "adopt DIR" takes over from a supervisor that died.
func Supervise(args []string) int { return supervise(args, func(string) {}) }

// supervisor watches one attempt. Everything in it belongs to one goroutine.
type supervisor struct {
	dir     attemptDir
	spec    spec
	env     []string
	boot    string
	shake   *handshake
	lock    *os.File
	slot    *os.File // exit
	beats   *os.File
	files   stageFiles
	logs    logs
	tree    tree
	started started
	stopper stopper
	acted   phase
	exit    job.Exit
	usage   Usage
	beatAt  time.Duration // the first one is late: short runs need none
	beatNo  int64

	// at marks the points at which a crash is tested.
	at func(point string)
}

// supervise handles one attempt from the command line to the exit record.
func supervise(args []string, at func(string)) int {
	s := &supervisor{shake: openHandshake(), at: at}
	at("spawned")
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGINT, syscall.SIGTERM)
	var err error
	switch {
	case len(args) == 1:
		s.dir = attemptDir(args[0])
		err = s.begin()
	case len(args) == 2 && args[0] == adoptWord:
		s.dir = attemptDir(args[1])
		err = s.takeOver()
	default:
		err = errors.New("want the directory of one attempt")
	}
	if err != nil {
		s.shake.reply(err)
		return 1
	}
	if err := s.finish(); err != nil {
		s.complain(err)
		return 1
	}
	return 0
}

// begin runs the steps of a new attempt to their end. An error means that
// nothing ran.
func (s *supervisor) begin() error {
	// The environment comes when the attempt is prepared.
	var err error
	if s.env, err = s.shake.environment(); err != nil {
		return err
	}
	if err := s.open(); err != nil {
		return err
	}
	_, err = os.Stat(s.dir.file(startedFile))
	if _, endErr := readEnding(s.dir.file(exitFile)); err == nil || endErr == nil {
		return errBusy
	}
	if s.slot, err = open(s.dir.file(exitFile), os.O_RDWR, 0); err != nil {
		return fmt.Errorf("open exit record: %w", err)
	}
	if err := becomeSubreaper(); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	s.tree.own = true
	s.tree.group = s.makeGroup()
	for i := range s.spec.Steps {
		goOn, err := s.step(i)
		if err != nil {
			return errors.Join(err, s.tree.group.remove())
		}
		if !goOn {
			break
		}
	}
	return nil
}

// open takes the lock and opens what every supervisor needs.
func (s *supervisor) open() (err error) {
	if s.lock, err = s.dir.takeLock(0); err != nil {
		return err
	}
	s.at("locked")
	if err := readRecord(s.dir.file(specFile), &s.spec); err != nil {
		return err
	}
	if s.spec.Format > Format {
		return fmt.Errorf("spec of format %d is newer than this program", s.spec.Format)
	}
	if s.boot, err = BootID(); err != nil {
		return err
	}
	protectSupervisor()
	if s.files.in, err = open(os.DevNull, os.O_RDONLY, 0); err != nil {
		return err
	}
	for name, f := range map[string]**os.File{outFile: &s.files.out, errFile: &s.files.err} {
		if *f, err = open(s.dir.file(name), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
			return fmt.Errorf("open output: %w", err)
		}
	}
	s.logs = logs{files: [2]logFile{{f: s.files.out}, {f: s.files.err}}, limit: s.spec.Limits.Log, ends: s.spec.Limits.LogEnds}
	s.tree.tag = tagOf(s.spec.ID, s.spec.Attempt)
	return nil
}

// makeGroup makes the control group. Without it the attempt runs all the same,
// with its memory polled and its tree found through the process table.
func (s *supervisor) makeGroup() group {
	name := string(s.spec.ID) + "-" + strconv.Itoa(s.spec.Attempt)
	g, err := s.spec.Groups.create(name, s.spec.Limits)
	if err != nil {
		s.complain(err)
		return group{}
	}
	return g
}

// step runs one command to its end and reports whether the next may follow. An
// error means that this was the first step and it did not start.
func (s *supervisor) step(i int) (goOn bool, err error) {
	s.exit = job.Exit{Observed: true, Step: i}
	if s.stopRequested(bootClock()) {
		s.exit.Cause = s.stopper.cause
		s.shake.reply(nil)
		return false, nil
	}
	st, err := s.prepare(i)
	if err != nil && i == 0 {
		return false, err
	}
	if err == nil {
		s.at("started")
		err = st.release()
		s.at("released")
		s.shake.reply(nil)
	}
	if err != nil {
		s.launchFailed(i, err)
		return false, s.clear()
	}
	status := s.follow()
	s.ended(status)
	last := i == len(s.spec.Steps)-1
	goOn = status.Exited() && status.ExitStatus() == 0 && s.exit.Cause == job.CauseNone
	if (last || !goOn) && !s.gone() {
		s.recordSoon()
	}
	if err := s.clear(); err != nil || !goOn {
		return false, err
	}
	if err := copyWithin(s.dir.file(workDir), s.spec.Steps[i].Copy); err != nil {
		s.launchFailed(i, err)
		return false, nil
	}
	return !last, nil
}

// prepare starts the stage of a step, limits it and makes its identity durable.
// Only then is the barrier opened.
func (s *supervisor) prepare(i int) (*stage, error) {
	env := append(s.env[:len(s.env):len(s.env)], s.tree.tag)
	st, err := startStage(s.dir.file(workDir), s.spec.Steps[i].Argv, env, s.files, s.tree.group)
	if err != nil {
		return nil, fmt.Errorf("start stage: %w", err)
	}
	if err = cmp.Or(s.bind(st.pid), s.announce(i, st.pid)); err != nil {
		st.close()
		err = errors.Join(err, s.clear())
		if i == 0 {
			// Nothing ran, and the record must not say otherwise.
			err = errors.Join(err, ignoreAbsent(os.Remove(s.dir.file(startedFile))))
		}
		return nil, err
	}
	return st, nil
}

func (s *supervisor) bind(pid int) error {
	exposeProgram(pid)
	if err := s.tree.group.add(pid); err != nil {
		return err
	}
	return limitProcess(pid, s.spec.Limits)
}

// announce makes the start record durable.
func (s *supervisor) announce(step, pid int) error {
	leader, err := identify(pid)
	if err != nil {
		return fmt.Errorf("identify stage: %w", err)
	}
	self, err := identify(os.Getpid())
	if err != nil {
		return fmt.Errorf("identify supervisor: %w", err)
	}
	if step == 0 {
		s.started = started{Format: Format, Boot: s.boot, Since: bootClock(), At: wallClock()}
		s.stopper = newStopper(&s.spec, s.started.Since)
		s.logs.grownAt = s.started.Since
		s.beatAt = s.started.Since + firstBeat
	}
	s.started.Step, s.started.Leader, s.started.Supervisor, s.started.Group = step, leader, self, s.tree.group
	s.tree.root = leader
	if err := writeRecord(s.dir.file(startedFile), s.started); err != nil {
		return fmt.Errorf("write start record: %w", err)
	}
	return nil
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// launchFailed records that a step could not run, with the reason in the
// standard error of the attempt.
func (s *supervisor) launchFailed(i int, err error) {
	s.complain(fmt.Errorf("cannot run step %d, %s: %w", i+1, s.spec.Steps[i].Argv[0], err))
	s.exit.Observed, s.exit.Code, s.exit.Cause = true, 127, job.CauseLaunch
	s.exit.DiskFull = diskFull(s.dir.file(workDir))
	s.recordSoon()
}

// complain tells the user, where the user looks.
func (s *supervisor) complain(err error) {
	if s.files.err != nil {
		fmt.Fprintf(s.files.err, "nanoos: %v\n", err)
	}
}

// tick is how soon a limit that is passed is noticed, and how long a stop
// request can stay unseen: its signal, SIGUSR1, ends a wait, but only on the
// thread that waits; to be sure would take the threads of os/signal. A flood of
// output, or a tree that nears a polled memory limit, is watched more closely.
const (
	tick      = 200 * time.Millisecond
	closeTick = 20 * time.Millisecond
	beatEvery = 10 * time.Second
	firstBeat = time.Second
)

// follow returns when the leader has ended, and does meanwhile what limits and
// requests demand.
func (s *supervisor) follow() unix.WaitStatus {
	for {
		if status, ended := s.reap(); ended {
			return status
		}
		s.tree.root.endsWithin(s.tend(bootClock()))
	}
}

// reap waits for whoever has ended below us.
func (s *supervisor) reap() (status unix.WaitStatus, leaderEnded bool) {
	if !s.tree.own {
		return 0, !s.tree.root.alive()
	}
	for {
		var w unix.WaitStatus
		pid, err := unix.Wait4(-1, &w, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || pid <= 0:
			return status, leaderEnded
		case pid == s.tree.root.PID:
			status, leaderEnded = w, true
		}
	}
}

// tend does what is due now and says when to look again.
func (s *supervisor) tend(now time.Duration) time.Duration {
	next := tick
	s.stopRequested(now)
	grown, over, err := s.logs.check(now)
	if err == nil && over {
		s.stopper.request(job.CauseLogLimit, now)
	}
	if l := s.spec.Limits.Log; l > 0 && grown > l/4 {
		next = closeTick
	}
	if silence := s.spec.Limits.Silence; silence > 0 && now-s.logs.grownAt >= silence {
		s.stopper.request(job.CauseHang, now)
	}
	if s.checkMemory(now) {
		next = closeTick
	}
	s.act(s.stopper.tick(now))
	if now >= s.beatAt {
		s.beat(now)
	}
	return next
}

// stopRequested looks for a stop request, and for the directory itself: an
// attempt that lost it could never be stopped again.
func (s *supervisor) stopRequested(now time.Duration) bool {
	var st unix.Stat_t
	if err := unix.Fstat(int(s.lock.Fd()), &st); err == nil && st.Nlink == 0 {
		s.stopper.request(job.CauseFenced, now)
		return true
	}
	var r stopRequest
	err := readRecord(s.dir.file(stopFile), &r)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil || r.Cause == job.CauseNone {
		r.Cause = job.CauseCancelled // whoever made the file wanted an end
	}
	s.stopper.request(r.Cause, now)
	return true
}

// checkMemory ends the attempt that passed its memory limit, where the kernel
// did not end all of it, and reports whether the limit is near.
func (s *supervisor) checkMemory(now time.Duration) (near bool) {
	limit := s.spec.Limits.Memory
	if limit <= 0 {
		return false
	}
	if s.tree.group.limitsMemory() {
		if s.tree.group.oomKills() > 0 {
			s.stopper.request(job.CauseOOM, now)
		}
		return false
	}
	rss := s.sample().RSS
	if rss > limit {
		s.stopper.request(job.CauseOOM, now)
	}
	return rss > limit/2
}

// act enters the phase that the stopper asks for, once, and kills until nothing
// is left.
func (s *supervisor) act(to phase) {
	if to == killed {
		s.tree.kill()
	}
	if to <= s.acted {
		return
	}
	s.acted = to
	switch to {
	case asked:
		if err := createSoftStop(s.dir.file(workDir), s.spec.Stop.Create); err != nil {
			s.complain(err)
		}
	case termed:
		// A stopped program cannot answer before it is continued.
		_ = s.tree.root.signal(unix.SIGTERM)
		_ = s.tree.root.signal(unix.SIGCONT)
	}
}

// sample measures the living tree and keeps the peak.
func (s *supervisor) sample() Usage {
	u := s.tree.usage()
	u.CPUTime += reaped().CPUTime
	u.PeakRSS = max(u.RSS, s.usage.PeakRSS)
	s.usage = u
	return u
}

// beat writes the sign of life. A full disk may prevent it, which is no harm:
// the lock tells whether we live.
func (s *supervisor) beat(now time.Duration) {
	s.sample()
	s.beatNo++
	s.beatAt = now + beatEvery
	if s.beats == nil {
		var err error
		if s.beats, err = createSlot(s.dir.file(beatFile)); err != nil {
			s.beats = nil
			return
		}
	}
	_ = writeBeat(s.beats, beat{Sequence: s.beatNo, Boot: now, Usage: s.usage})
}

// clear kills what the leader left, until nothing is left: killing a process
// gives its children to us only afterwards, so one pass is not enough.
func (s *supervisor) clear() error {
	for pause := time.Millisecond; ; pause = min(2*pause, closeTick) {
		if s.gone() && !killSession(s.tree.root) {
			return nil
		}
		if s.tree.kill() == 0 && !s.tree.own {
			return nil
		}
		time.Sleep(pause)
	}
}

// gone reports whether the leader certainly left nothing.
func (s *supervisor) gone() bool {
	s.reap()
	return s.tree.own && childless() && len(s.tree.group.members()) == 0
}

// childless reports whether no child is left, not even one to wait for. Below a
// subreaper that means that the tree is gone.
func childless() bool {
	_, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
	return errors.Is(err, unix.ECHILD)
}

// ended notes how the leader ended and why.
func (s *supervisor) ended(status unix.WaitStatus) {
	if status.Signaled() {
		s.exit.Signal = unix.SignalName(status.Signal())
	} else {
		s.exit.Code = status.ExitStatus()
	}
	s.stopRequested(bootClock())
	s.exit.Cause = s.stopper.cause
	bad := s.exit.Code != 0 || s.exit.Signal != ""
	if s.exit.Cause == job.CauseNone && bad && s.tree.group.oomKills() > 0 {
		s.exit.Cause = job.CauseOOM
	}
	if bad { // looking costs a file in the work directory
		s.exit.DiskFull = diskFull(s.dir.file(workDir))
	}
}

// recordSoon writes the provisional record, so that the leader's end is known
// even if the supervisor dies while it clears up.
func (s *supervisor) recordSoon() {
	if err := s.record(false); err != nil {
		s.complain(err)
	}
}

// record writes the exit record, provisional or final.
func (s *supervisor) record(final bool) error {
	now := bootClock()
	if _, _, err := s.logs.check(now); err != nil {
		s.complain(err)
	}
	s.exit.LogDropped = s.logs.dropped()
	done := reaped()
	s.exit.PeakRSS = max(s.usage.PeakRSS, done.PeakRSS)
	s.exit.CPUTime = job.Duration(max(s.usage.CPUTime, done.CPUTime))
	s.exit.StartedAt, s.exit.EndedAt = s.started.At, wallClock()
	if s.started.Since > 0 {
		s.exit.Wall = job.Duration(now - s.started.Since)
	}
	return writeEnding(s.slot, ending{Final: final, Exit: s.exit})
}

// finish makes the end known.
func (s *supervisor) finish() error {
	if err := s.record(true); err != nil {
		return err
	}
	return s.tree.group.remove()
}

// reaped is what the children used that were waited for.
func reaped() Usage {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &r); err != nil {
		return Usage{}
	}
	cpu := time.Duration(r.Utime.Nano() + r.Stime.Nano())
	return Usage{CPUTime: cpu, PeakRSS: int64(r.Maxrss) * maxrssUnit}
}
