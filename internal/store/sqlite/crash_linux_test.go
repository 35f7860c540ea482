package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nano-os/nanoos/internal/job"
	"github.com/nano-os/nanoos/internal/store"
)

// Every round kills a process that writes, wherever it is, and looks for all
// that any of them had accepted.
func TestF20_G1_AcceptedJobsSurviveSIGKILL(t *testing.T) {
	t.Parallel()
	rounds := 100
	if testing.Short() {
		rounds = 10
	}
	path := filepath.Join(t.TempDir(), "nanoos.db")
	var accepted []job.ID
	for round := range rounds {
		w := startSubmitter(t, path)
		w.waitFor(1 + rand.IntN(20))
		w.kill()
		accepted = append(accepted, w.accepted()...)
		s, err := Open(path, Options{})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		haveAll(t, s, accepted)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What lies on the disk at a moment is what a power loss at that moment leaves,
// as far as the kernel has written it; the log and the database are copied
// while the writer stands still, in the middle of whatever it was doing.
func TestF20_G1_ACopyOfTheFilesAtAnyMomentHasEveryAcceptedJob(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "nanoos.db")
	w := startSubmitter(t, path)
	defer w.kill()
	for round := range 30 {
		w.waitFor(len(w.accepted()) + 1 + rand.IntN(20))
		w.stop()
		accepted := w.accepted()
		copied := filepath.Join(dir, fmt.Sprint("copy", round), "nanoos.db")
		if err := os.Mkdir(filepath.Dir(copied), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, suffix := range []string{"", "-wal"} {
			content, err := os.ReadFile(path + suffix)
			if err == nil {
				err = os.WriteFile(copied+suffix, content, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		s, err := Open(copied, Options{})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		haveAll(t, s, accepted)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		w.signal(unix.SIGCONT)
	}
}

// submitter is a process that submits until it dies, and writes the id of each
// job that was accepted to a file.
type submitter struct {
	*testing.T
	cmd *exec.Cmd
	log string
}

func startSubmitter(t *testing.T, path string) *submitter {
	t.Helper()
	w := &submitter{T: t, cmd: child("submit", path), log: filepath.Join(t.TempDir(), "accepted")}
	f, err := os.Create(w.log)
	if err == nil {
		w.cmd.Stdout, w.cmd.Stderr = f, f
		err = errors.Join(w.cmd.Start(), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// accepted returns what the process has been answered so far; its last line
// may not be whole.
func (w *submitter) accepted() []job.ID {
	w.Helper()
	text, err := os.ReadFile(w.log)
	if err != nil {
		w.Fatal(err)
	}
	return idLines(string(text[:strings.LastIndexByte(string(text), '\n')+1]))
}

// waitFor waits until the process has been answered n times.
func (w *submitter) waitFor(n int) {
	w.Helper()
	deadline := time.Now().Add(time.Minute)
	for len(w.accepted()) < n {
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(w.log)
			w.Fatalf("there are no %d answers: %s", n, text)
		}
		time.Sleep(time.Millisecond)
	}
}

func (w *submitter) signal(s unix.Signal) {
	w.Helper()
	if err := w.cmd.Process.Signal(s); err != nil {
		w.Fatal(err)
	}
}

// stop returns when the process stands still.
func (w *submitter) stop() {
	w.Helper()
	w.signal(unix.SIGSTOP)
	var status unix.WaitStatus
	if _, err := unix.Wait4(w.cmd.Process.Pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
		w.Fatalf("stop the process: status %x, %v", status, err)
	}
}

func (w *submitter) kill() {
	w.Helper()
	w.signal(unix.SIGKILL)
	_ = w.cmd.Wait() // killed, as it should be
}

// submitForever prints the id of every job that was accepted. It has the log
// written back after every sixteenth, so that some die in the middle of that.
func submitForever(path string) int {
	s, err := Open(path, Options{})
	for n := 0; err == nil; n++ {
		j := benchJob(1)
		err = s.Write(context.Background(), func(tx store.Tx) error {
			if n%16 == 0 {
				s.writer.written = -checkpointPages
			}
			return tx.InsertJobs(context.Background(), []job.Job{j}, make([]string, 1))
		})
		if err == nil {
			fmt.Println("accepted", j.ID)
		}
	}
	fmt.Println(err)
	return 1
}
