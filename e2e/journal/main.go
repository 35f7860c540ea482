// Command journal is the program of the mock engine for tests that count its
// starts. Before it computes, it appends one line to the file "starts" beside
// its binary, with a single write, so that every start of every attempt on every
// worker is known, whatever becomes of the attempt.
//
// A job that brings a file named "poison" ends the worker that started it, its
// supervisor, and itself: the poison job of F33.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nano-os/nanoos/internal/engine/mock"
)

// start is one line of the journal.
type start struct {
	Job     string    `json:"job"`
	Attempt int       `json:"attempt"`
	PID     int       `json:"pid"`
	At      time.Time `json:"at"`
	Dir     string    `json:"dir"`
}

func main() {
	if err := record(); err != nil {
		fmt.Fprintln(os.Stderr, "journal:", err)
		os.Exit(125)
	}
	if _, err := os.Stat("poison"); err == nil {
		if err := endEverything(); err != nil {
			fmt.Fprintln(os.Stderr, "journal:", err)
			os.Exit(125)
		}
	}
	os.Exit(mock.Run(os.Stdout, os.Stderr))
}

func record() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	attempt, err := strconv.Atoi(os.Getenv("NANOOS_TRY"))
	if err != nil {
		return fmt.Errorf("number of the attempt: %w", err)
	}
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	line, err := json.Marshal(start{os.Getenv("NANOOS_JOB"), attempt, os.Getpid(), time.Now().UTC(), dir})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(filepath.Dir(self), "starts"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Write(append(line, '\n'))
	return err
}

// endEverything kills the worker that the tests name in the data directory that
// holds this attempt, the supervisor and this program.
func endEverything() error {
	dir, err := os.Getwd() // <data>/attempts/<job>/<attempt>/work
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(filepath.Join(dir, "..", "..", "..", "..", "worker.pid"))
	if err != nil {
		return err
	}
	worker, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return fmt.Errorf("process of the worker: %w", err)
	}
	for _, pid := range []int{worker, os.Getppid(), os.Getpid()} {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return fmt.Errorf("kill %d: %w", pid, err)
		}
	}
	return nil
}
