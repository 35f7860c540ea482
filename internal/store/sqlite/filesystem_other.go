//go:build !linux

package sqlite

// networkFilesystem knows none: only Linux tells the kinds apart by number.
func networkFilesystem(string) (string, error) { return "", nil }
