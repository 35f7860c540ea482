//go:build !linux && !darwin

package executor

import "golang.org/x/sys/unix"

// BootID is unknown here: no attempt is ever taken for one of another boot.
func BootID() (string, error) { return "unknown", nil }

// startTime is unknown here, so no pid is trusted after its supervisor died.
func startTime(int) (uint64, error) { return 0, unix.ENOTSUP }

func networkFS(string) (string, error) { return "", nil }

func punch(_ int, _, _ int64) error { return unix.ENOTSUP }
