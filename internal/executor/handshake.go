package executor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// handshakeFD is the only descriptor a supervisor inherits, besides the null
// device: a socket to whoever started it.
const handshakeFD = 3

// errBusy says that the attempt has, or had, another supervisor.
var errBusy = errors.New("attempt has a supervisor already")

// handshake gives the supervisor the environment of the program, and its starter
// the answer whether the attempt runs.
type handshake struct{ f *os.File }

func openHandshake() *handshake {
	unix.CloseOnExec(handshakeFD)
	return &handshake{f: os.NewFile(handshakeFD, "handshake")}
}

// environment reads the values that are nowhere on disk.
func (h *handshake) environment() ([]string, error) {
	line, err := bufio.NewReader(io.LimitReader(h.f, maxRecord)).ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("read environment: %w", err)
	}
	var env []string
	if err := json.Unmarshal(line, &env); err != nil {
		return nil, fmt.Errorf("read environment: %w", err)
	}
	return env, nil
}

const (
	answerOK   = "ok"
	answerBusy = "busy"
)

// reply answers once; the starter may be gone by now, which changes nothing.
func (h *handshake) reply(err error) {
	if h.f == nil {
		return
	}
	text := answerOK
	switch {
	case errors.Is(err, errBusy):
		text = answerBusy
	case err != nil:
		text = err.Error()
	}
	_, _ = h.f.WriteString(text)
	h.f.Close()
	h.f = nil
}

// converse hands the environment over and reads the answer.
func converse(ctx context.Context, f *os.File, env []string) (string, error) {
	stop := context.AfterFunc(ctx, func() { _ = f.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := json.Marshal(env)
	if err != nil {
		return "", fmt.Errorf("encode environment: %w", err)
	}
	// A supervisor that found the attempt taken does not read it.
	if _, err := f.Write(append(line, '\n')); err != nil && !errors.Is(err, unix.EPIPE) {
		return "", handshakeError(ctx, err)
	}
	answer, err := io.ReadAll(io.LimitReader(f, maxAnswer))
	if err != nil && !errors.Is(err, unix.ECONNRESET) {
		return "", handshakeError(ctx, err)
	}
	return string(answer), nil
}

// maxAnswer is far more than any error text.
const maxAnswer = 64 << 10

func handshakeError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("talk to supervisor: %w", err)
}

// handshakePair makes a socket pair; our end is polled by the runtime, the other
// blocks.
func handshakePair() (ours, theirs *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, err
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, nil, errors.Join(err, unix.Close(fds[0]), unix.Close(fds[1]))
	}
	return os.NewFile(uintptr(fds[0]), "handshake"), os.NewFile(uintptr(fds[1]), "handshake"), nil
}
