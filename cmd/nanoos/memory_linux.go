package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
)

// totalMemory returns the machine's memory in bytes.
func totalMemory() (int64, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		var kib int64
		if _, err := fmt.Sscanf(sc.Text(), "MemTotal: %d kB", &kib); err == nil {
			return kib << 10, nil
		}
	}
	return 0, errors.Join(errors.New("/proc/meminfo has no MemTotal"), sc.Err())
}
