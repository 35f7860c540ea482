package executor

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootClock counts from the start of the machine through suspend, and no clock
// adjustment moves it. Every limit of an attempt is measured by it.
func bootClock() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(clockBoot, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// wallClock is the time of day: data for people, which decides nothing.
func wallClock() time.Time { return time.Now().UTC() }
