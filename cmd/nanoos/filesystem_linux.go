package main

import "golang.org/x/sys/unix"

// fileSystem names the file system of a directory, and says whether it is on a
// disk of this machine.
func fileSystem(dir string) (kind string, local bool) {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return "", true
	}
	switch uint32(st.Type) {
	case unix.NFS_SUPER_MAGIC:
		return "nfs", false
	case 0xff534d42, 0xfe534d42:
		return "cifs", false
	case 0x0bd00bd0:
		return "lustre", false
	case 0x47504653:
		return "gpfs", false
	case 0x19830326:
		return "beegfs", false
	case 0x00c36400:
		return "ceph", false
	case unix.FUSE_SUPER_MAGIC:
		return "fuse", false
	case unix.EXT4_SUPER_MAGIC:
		return "ext", true
	case unix.XFS_SUPER_MAGIC:
		return "xfs", true
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs", true
	case unix.TMPFS_MAGIC:
		return "tmpfs, gone after a restart", true
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlay", true
	}
	return "", true
}
