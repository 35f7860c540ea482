// Command nanoos runs materials simulations: it is the queue, the worker, the
// supervisor of each run, the server and the client, in one binary.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	// Supervisors, stages and the mock engine are this binary too, and branch
	// off here.
	_ "github.com/nano-os/nanoos/internal/early"
)

// version is set by the linker.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr})
	stop()
	os.Exit(code)
}
