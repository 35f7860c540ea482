package sqlite

import (
	"strings"
	"testing"
)

func TestTheTypeOfAMountIsFoundByItsDevice(t *testing.T) {
	t.Parallel()
	const mounts = `22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
45 22 0:51 / /mnt/far rw,nosuid master:2 propagate_from:3 - fuse.sshfs me@there:/ rw,user_id=0
junk
46 22 0:52 / /mnt/a\040b rw - fuseblk /dev/sdb1 rw
`
	for device, want := range map[string]string{
		"0:51": "fuse.sshfs", "0:52": "fuseblk", "254:0": "ext4", "9:9": "a file system in user space",
	} {
		if got, err := mountType(strings.NewReader(mounts), device); got != want || err != nil {
			t.Errorf("device %s is %q (%v), want %q", device, got, err, want)
		}
	}
}
