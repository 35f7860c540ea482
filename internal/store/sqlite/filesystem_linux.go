package sqlite

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// networkMagic are the file systems whose locks or flushes depend on another
// machine.
var networkMagic = map[uint32]string{
	0x6969:     "NFS",
	0x517b:     "SMB",
	0xff534d42: "CIFS",
	0xfe534d42: "SMB2",
	0x0bd00bd0: "Lustre",
	0x01021997: "9p",
	0x00c36400: "CephFS",
	0x47504653: "GPFS",
	0x19830326: "BeeGFS",
	0x5346414f: "AFS",
	0x73757245: "Coda",
	0x013111a8: "IBRIX",
	0xaad7aaea: "PanFS",
	0x7461636f: "OCFS2",
	0x01161970: "GFS2",
}

// fuseMagic is shared by all file systems in user space, local or not.
const fuseMagic = 0x65735546

// localFuse are the ones known to be a disk of this machine; ntfs-3g and exFAT
// call themselves fuseblk.
var localFuse = []string{"fuseblk", "fuse.fuse-overlayfs", "fuse.gocryptfs", "fuse.encfs", "fuse.bindfs", "fuse.mergerfs"}

// networkFilesystem returns the name of the network file system that dir is
// on, or "" when it is on a local one.
func networkFilesystem(dir string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "", err
	}
	magic := uint32(st.Type)
	if magic != fuseMagic {
		return networkMagic[magic], nil
	}
	var file unix.Stat_t
	if err := unix.Stat(dir, &file); err != nil {
		return "", err
	}
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer mounts.Close()
	device := fmt.Sprintf("%d:%d", unix.Major(uint64(file.Dev)), unix.Minor(uint64(file.Dev)))
	name, err := mountType(mounts, device)
	if err != nil || slices.Contains(localFuse, name) {
		return "", err
	}
	return name, nil
}

// mountType finds the type of a mounted device in the lines of mountinfo:
// "36 35 98:0 /root /mnt rw,noatime master:1 - ext3 /dev/root rw".
func mountType(mountinfo io.Reader, device string) (string, error) {
	lines := bufio.NewScanner(mountinfo)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields, types := strings.Fields(before), strings.Fields(after)
		if ok && len(fields) > 2 && len(types) > 0 && fields[2] == device {
			return types[0], nil
		}
	}
	return "a file system in user space", lines.Err()
}
