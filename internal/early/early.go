// Package early turns this binary into one of its small programs (supervisor,
// stage, mock engine) before the packages of the large one are initialised:
// measured, a supervisor then costs 6 ms of processor time instead of 12. One
// that carries the small supervisor needs only the mock engine of these.
//
// Go initialises a package as soon as its own imports are, in the order of
// import paths, so this one, which imports little, comes before the web server,
// the database and the schema compiler. A program that wants it imports it for
// its effect: the one place where main is not where a program begins.
package early

import (
	"os"

	"github.com/nano-os/nanoos/internal/engine/mock"
	"github.com/nano-os/nanoos/internal/executor"
)

func init() {
	if code, handled := executor.Main(os.Args); handled {
		os.Exit(code)
	}
	if len(os.Args) == 2 && os.Args[1] == mock.Command {
		os.Exit(mock.Run(os.Stdout, os.Stderr))
	}
}
