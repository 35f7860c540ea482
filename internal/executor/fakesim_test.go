package executor

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nano-os/nanoos/internal/job"
)

// TestMain lets the test binary be everything that a test starts: supervisor,
// stage, supervisor with a crash built in, and the simulation.
func TestMain(m *testing.M) {
	if code, handled := Main(os.Args); handled {
		os.Exit(code)
	}
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "fakesim":
			os.Exit(fakesim(os.Args[2:]))
		case "crash": // crash POINT supervise …
			os.Exit(supervise(os.Args[4:], crashAt(os.Args[2])))
		case "starter": // starter POINT STATE ID JOURNAL
			os.Exit(starter(os.Args[2:]))
		}
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := os.RemoveAll(small.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(code)
	}))
}

// small is where the supervisor that a release carries was built.
var small struct {
	sync.Once
	dir string
}

// smallSupervisor is the supervisor that a release carries, built once.
func smallSupervisor(t testing.TB) string {
	t.Helper()
	small.Do(func() {
		dir, err := os.MkdirTemp("", "nanoos-supervise-")
		if err != nil {
			t.Fatal(err)
		}
		small.dir = dir
		goBuild(t, filepath.Join(dir, "supervise"), "../../cmd/nanoos-supervise")
	})
	return filepath.Join(small.dir, "supervise")
}

// crashAt returns a hook that kills the process at a point.
func crashAt(point string) func(string) {
	return func(here string) {
		if here == point {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
}

// starter starts an attempt and dies on the way.
func starter(args []string) int {
	l, err := NewLocal(LocalOptions{StateDir: args[1]})
	if err != nil {
		return 2
	}
	l.at = crashAt(args[0])
	task := sim("--journal", args[3], "--steps", "20")
	task.ID = job.ID(args[2])
	if _, err := l.Start(context.Background(), task); err != nil {
		return 3
	}
	l.at("answered")
	return 0
}

// fakesim is a simulation that fails in every way. Each start appends a line to
// the journal, each step writes its own file.
func fakesim(args []string) int {
	f := flag.NewFlagSet("fakesim", flag.ContinueOnError)
	steps := f.Int("steps", 1, "steps to compute")
	every := f.Duration("every", 10*time.Millisecond, "time of a step")
	journal := f.String("journal", "", "start journal")
	exit := f.Int("exit", 0, "status to end with")
	kill := f.Int("signal", 0, "signal to end with")
	allocate := f.Int("allocate", 0, "MiB to allocate")
	flood := f.Int64("flood", 0, "bytes to print")
	fill := f.Bool("fill", false, "fill the disk")
	spawn := f.Int("spawn-setsid", 0, "children in sessions of their own to leave")
	nested := f.Bool("nested", false, "children leave children")
	ignore := f.Bool("ignore-term", false, "ignore SIGTERM")
	stopFile := f.String("stop-file", "", "end cleanly when this file is there")
	stop := f.Bool("stop", false, "stop itself by SIGSTOP")
	write := f.String("write", "", "file to write")
	environ := f.Bool("environ", false, "print the environment and the open descriptors")
	if err := f.Parse(args); err != nil {
		return 2
	}
	if *ignore {
		signal.Ignore(syscall.SIGTERM)
	}
	if *journal != "" {
		j, err := os.OpenFile(*journal, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return 2
		}
		fmt.Fprintf(j, "%d\n", os.Getpid())
		j.Close()
	}
	if *environ {
		printSelf()
	}
	for i := range *spawn {
		spawnChild(i, *nested)
	}
	if *allocate > 0 {
		b := make([]byte, *allocate<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		defer func() { _ = b[len(b)-1] }()
	}
	line := bytes.Repeat([]byte{'x', 0, 0xff, '\n'}, 16<<10)
	for n := int64(0); n < *flood; n += int64(len(line)) {
		if _, err := os.Stdout.Write(line); err != nil {
			return 3
		}
	}
	if *fill && !fillDisk() {
		return 4
	}
	if *write != "" {
		if err := os.WriteFile(*write, []byte("result"), 0o600); err != nil {
			return 2
		}
	}
	if *stop {
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	}
	for i := range *steps {
		if *stopFile != "" {
			if _, err := os.Stat(*stopFile); err == nil {
				fmt.Println("stopped cleanly")
				return 0
			}
		}
		_ = os.WriteFile("step-"+strconv.Itoa(i), []byte("x"), 0o600)
		fmt.Println("step", i)
		time.Sleep(*every)
	}
	if *kill != 0 {
		_ = syscall.Kill(os.Getpid(), syscall.Signal(*kill))
		time.Sleep(time.Minute)
	}
	return *exit
}

func printSelf() {
	for _, e := range os.Environ() {
		fmt.Println(e)
	}
	fds, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil {
			fmt.Println("fd", filepath.Base(fd), target)
		}
	}
	dir, _ := os.Getwd()
	fmt.Println("cwd", dir)
}

// spawnChild leaves a child in a session of its own, which leaves one more.
func spawnChild(i int, nested bool) {
	args := []string{"fakesim", "--steps", "6000", "--ignore-term"}
	if nested {
		args = append(args, "--spawn-setsid", "1")
	}
	dir := "child-" + strconv.Itoa(i)
	_ = os.Mkdir(dir, 0o700)
	c := exec.Command("/proc/self/exe", args...)
	c.Dir, c.SysProcAttr = dir, &syscall.SysProcAttr{Setsid: true}
	_ = c.Start()
}

func fillDisk() bool {
	f, err := os.Create("filler")
	if err != nil {
		return false
	}
	for {
		if _, err := f.Write(make([]byte, 64<<10)); err != nil {
			return false
		}
	}
}
