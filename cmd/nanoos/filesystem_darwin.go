package main

import "golang.org/x/sys/unix"

// fileSystem names the file system of a directory, and says whether it is on a
// disk of this machine.
func fileSystem(dir string) (kind string, local bool) {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return "", true
	}
	return unix.ByteSliceToString(st.Fstypename[:]), st.Flags&unix.MNT_LOCAL != 0
}
