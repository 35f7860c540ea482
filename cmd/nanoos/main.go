// Command nanoos runs materials simulations: it is the queue, the worker, the
// supervisor of each run, the server and the client, in one binary.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/nano-os/nanoos/internal/engine"
	"github.com/nano-os/nanoos/internal/executor"
)

// version is set by the linker.
var version = "unknown"

func main() {
	// Supervisors and the mock engine are this binary too. They are many and
	// small, so they branch off before anything is set up.
	if code, handled := executor.Main(os.Args); handled {
		os.Exit(code)
	}
	if len(os.Args) == 2 && os.Args[1] == engine.MockCommand {
		os.Exit(runMock(os.Stdout, os.Stderr))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr})
	stop()
	os.Exit(code)
}
