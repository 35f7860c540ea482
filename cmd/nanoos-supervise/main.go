// Command nanoos-supervise is the supervisor alone. Nobody installs it: nanoos
// carries it inside and starts one for each attempt, because a program of its
// size starts in a third of the time that nanoos takes.
package main

import (
	"fmt"
	"os"

	"github.com/nano-os/nanoos/internal/executor"
)

func main() {
	code, handled := executor.Main(os.Args)
	if !handled {
		fmt.Fprintln(os.Stderr, "nanoos-supervise: nanoos starts this program; it does nothing for people")
		code = 2
	}
	os.Exit(code)
}
