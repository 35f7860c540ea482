// Command smallest is the smallest supervisor there can be, the limit that ours
// is compared with: it opens a log, starts a program, waits for it and writes
// how it ended. It has no lock, no barrier, no control group and no limits.
//
// With "durable" it flushes what the protocol demands of a supervisor: a start
// record with its name before the program begins, and the exit record.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	dir, durable, argv := os.Args[1], os.Args[2] == "durable", os.Args[3:]
	log := must(os.Create(filepath.Join(dir, "log")))
	// Made before the start, so that its name is flushed with that of the start
	// record.
	exit := must(os.Create(filepath.Join(dir, "exit")))
	if durable {
		started := must(os.Create(filepath.Join(dir, "started")))
		must(fmt.Fprintln(started, os.Getpid()))
		check(started.Sync())
		check(must(os.Open(dir)).Sync())
	}
	p := must(os.StartProcess(argv[0], argv, &os.ProcAttr{Dir: dir, Files: []*os.File{nil, log, log}}))
	must(fmt.Fprintln(exit, must(p.Wait()).ExitCode()))
	if durable {
		check(exit.Sync())
	}
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "smallest:", err)
		os.Exit(1)
	}
}
