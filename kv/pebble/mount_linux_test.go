package pebble

import (
	"os"
	"strings"
	"testing"
)

func TestHowADiskIsMountedIsKnown(t *testing.T) {
	const mounts = `22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
40 27 254:1 / /srv/slow rw,relatime - ext4 /dev/vdb rw
41 27 254:2 / /srv/fast rw,relatime - ext4 /dev/vdc rw,nobarrier,data=ordered
42 27 254:3 / /srv/old rw,barrier=0 - xfs /dev/vdd rw
43 27 0:30 / /srv/box rw - overlay overlay rw,lowerdir=/a,upperdir=/b,volatile
44 27 0:31 / /srv/box/volume rw - ext4 /dev/vde rw
45 27 0:32 / /srv/memory\040stick rw,nosuid - tmpfs tmpfs rw,size=24684096k
46 27 0:33 / /srv/twice rw - tmpfs tmpfs rw
47 46 254:5 / /srv/twice rw - ext4 /dev/vdf rw
48 27 0:34 / /srv/layers rw - overlay overlay rw,lowerdir=/a,upperdir=/b
49 27 0:35 / /srv/crate rw - overlay overlay rw,lowerdir=/a,upperdir=/b,uuid=on,fsync=volatile
a line that is none
`
	for _, c := range []struct{ path, unsynced, passing string }{
		{"/home/ann/data", "", ""},
		{"/srv/slow/data", "", ""},
		{"/srv/fast", "nobarrier", ""},
		{"/srv/fast/data", "nobarrier", ""},
		{"/srv/faster/data", "", ""},
		{"/srv/old/data", "barrier=0", ""},
		{"/srv/box/data", "volatile", ""},
		{"/srv/box/volume/data", "", ""},
		{"/srv/crate/data", "volatile", ""},
		{"/srv/memory stick/data", "", "gone when the machine"},
		{"/srv/twice/data", "", ""},
		{"/srv/layers/data", "", ""},
	} {
		unsynced, passing := unsafeMount(mounts, c.path)
		if (unsynced == "") != (c.unsynced == "") || !strings.Contains(unsynced, c.unsynced) || (passing == "") != (c.passing == "") || !strings.Contains(passing, c.passing) {
			t.Errorf("%s: %q, %q; want %q, %q", c.path, unsynced, passing, c.unsynced, c.passing)
		}
	}
}

func TestAFolderInMemoryIsSaidToBe(t *testing.T) {
	const shm = "/dev/shm"
	if info, err := os.Stat(shm); err != nil || !info.IsDir() {
		t.Skip("there is no /dev/shm here")
	}
	if unsynced, passing := Unsafe(shm + "/is/not/there/yet"); unsynced != "" || !strings.Contains(passing, "tmpfs at /dev/shm") {
		t.Errorf("%q, %q; want that it is in memory", unsynced, passing)
	}
}
