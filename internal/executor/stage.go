package executor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// A stage is the process that becomes the program. It waits at a barrier until
// its identity is durable and its limits are set, and leaves when the barrier
// closes without the token: that is what makes "no start record" mean that
// nothing ran.
type stage struct {
	pid     int
	barrier *os.File // ours: the token goes in
	result  *os.File // ours: an errno comes out, or nothing when the program runs
}

// stageFiles are the files that the program is born with.
type stageFiles struct{ in, out, err *os.File }

// release opens the barrier and returns when the program runs, or the reason
// why it could not be executed.
func (s *stage) release() error {
	defer s.close()
	if _, err := s.barrier.Write([]byte{1}); err != nil {
		return fmt.Errorf("open barrier: %w", err)
	}
	s.barrier.Close()
	var errno [4]byte
	_, err := io.ReadFull(s.result, errno[:])
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return fmt.Errorf("read result of exec: %w", err)
	}
	return syscall.Errno(binary.LittleEndian.Uint32(errno[:]))
}

// close leaves the barrier shut, which ends a stage that was not released.
func (s *stage) close() {
	s.barrier.Close()
	s.result.Close()
}

// stagePipes makes the barrier and the way back: reading end, writing end.
func stagePipes() (barrier, result [2]*os.File, err error) {
	if barrier[0], barrier[1], err = pipe(); err != nil {
		return barrier, result, err
	}
	if result[0], result[1], err = pipe(); err != nil {
		barrier[0].Close()
		barrier[1].Close()
	}
	return barrier, result, err
}

// Descriptors of a stage that is a new start of our binary.
const (
	stageBarrierFD = 3
	stageResultFD  = 4
)

// spawnStage starts our own binary as the stage. It works on every Unix, and
// costs a start of that binary; Linux forks instead.
func spawnStage(dir string, argv, env []string, files stageFiles) (*stage, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	barrier, result, err := stagePipes()
	if err != nil {
		return nil, err
	}
	defer barrier[0].Close()
	defer result[1].Close()
	p, err := os.StartProcess(exe, append([]string{exe, stageCommand}, argv...), &os.ProcAttr{
		Dir: dir, Env: env,
		Files: []*os.File{files.in, files.out, files.err, barrier[0], result[1]},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		barrier[1].Close()
		result[0].Close()
		return nil, err
	}
	// The supervisor waits for any child by itself.
	pid := p.Pid
	if err := p.Release(); err != nil {
		return nil, err
	}
	return &stage{pid: pid, barrier: barrier[1], result: result[0]}, nil
}

// stageMain is the stage's main.
func stageMain(argv []string) int {
	var token [1]byte
	if n, err := syscall.Read(stageBarrierFD, token[:]); n != 1 || err != nil || len(argv) == 0 {
		return 1
	}
	syscall.CloseOnExec(stageBarrierFD)
	syscall.CloseOnExec(stageResultFD)
	err := syscall.Exec(argv[0], argv, os.Environ())
	var b [4]byte
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		binary.LittleEndian.PutUint32(b[:], uint32(errno))
	}
	if _, err := syscall.Write(stageResultFD, b[:]); err != nil {
		return 1
	}
	return 127
}
