package executor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// takeOver makes this process the successor of a supervisor that died while its
// tree lived. It is no ancestor of the tree, so it sees the end of the leader
// but not how it ended; everything else is as before.
func (s *supervisor) takeOver() error {
	if err := s.open(); err != nil {
		return err
	}
	if err := readRecord(s.dir.file(startedFile), &s.started); err != nil {
		return err
	}
	if s.started.Boot != s.boot {
		return errors.New("the attempt ran before this machine was started again")
	}
	end, err := readEnding(s.dir.file(exitFile))
	if err == nil && end.Final {
		return errBusy
	}
	seen := err == nil
	if err != nil && !errors.Is(err, errNoRecord) {
		return err
	}
	if s.slot, err = open(s.dir.file(exitFile), os.O_RDWR, 0); err != nil {
		return fmt.Errorf("open exit record: %w", err)
	}
	if s.started.Supervisor, err = identify(os.Getpid()); err != nil {
		return fmt.Errorf("identify supervisor: %w", err)
	}
	if err := writeRecord(s.dir.file(startedFile), s.started); err != nil {
		return fmt.Errorf("write start record: %w", err)
	}
	s.tree.root, s.tree.group = s.started.Leader, s.started.Group
	s.stopper = newStopper(&s.spec, s.started.Since)
	s.logs.grownAt = bootClock()
	s.shake.reply(nil)
	s.exit = end.Exit
	if !seen {
		s.watchLeader()
	}
	return s.clear()
}

// watchLeader returns when the leader has ended.
func (s *supervisor) watchLeader() {
	s.follow()
	s.exit.Step = s.started.Step
	s.stopRequested(bootClock())
	s.exit.Cause = s.stopper.cause
	s.exit.DiskFull = diskFull(s.dir.file(workDir))
}

// requestStop makes the wish durable and wakes the supervisor. The first wish stays.
func (d attemptDir) requestStop(r stopRequest) error {
	err := writeRecordOnce(d.file(stopFile), r)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("write stop request: %w", err)
	}
	var s started
	if err := readRecord(d.file(startedFile), &s); err == nil {
		// A lost signal costs a tick of the supervisor, no more.
		_ = s.Supervisor.signal(unix.SIGUSR1)
	}
	return nil
}
