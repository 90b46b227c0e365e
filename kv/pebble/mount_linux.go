package pebble

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Unsafe looks at how the disk of a folder, which need not be there yet, is mounted. unsynced says that a sync keeps nothing there, so that what was acknowledged is lost
// with the power; passing, that all of it goes when the machine is switched off. Both say how to mend it, and are "" where nothing is known against the folder. What lies
// behind the mount (a disk that lies about its cache, a file system whose syncs were turned off in its own settings) cannot be seen from here.
func Unsafe(dir string) (unsynced, passing string) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return "", ""
	}
	for { // as far as it is there
		real, err := filepath.EvalSymlinks(path)
		if err == nil {
			path = real
			break
		}
		if !errors.Is(err, os.ErrNotExist) || path == filepath.Dir(path) {
			return "", ""
		}
		path = filepath.Dir(path)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", ""
	}
	return unsafeMount(string(mounts), path)
}

// unsafeMount is Unsafe of a path without links, among these mounts.
//
// proc(5) /proc/pid/mountinfo, mount(8), kernel Documentation/filesystems/overlayfs.rst "Volatile mount"
func unsafeMount(mounts, path string) (unsynced, passing string) {
	var at, kind string
	var options []string
	for line := range strings.Lines(mounts) {
		// 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
		before, after, _ := strings.Cut(strings.TrimSpace(line), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if len(left) < 6 || len(right) < 3 {
			continue
		}
		point := unescape.Replace(left[4])
		within := point == "/" || path == point || strings.HasPrefix(path, point+"/")
		if within && len(point) >= len(at) { // of two at one place the later hides the other
			at, kind, options = point, right[0], append(strings.Split(left[5], ","), strings.Split(right[2], ",")...)
		}
	}
	for _, o := range []string{"nobarrier", "barrier=0", "barrier=none"} {
		if slices.Contains(options, o) {
			return fmt.Sprintf("%s is on a file system (%s at %s) mounted with %s, and what is acknowledged can be lost with the power: mount it without", path, kind, at, o), ""
		}
	}
	switch {
	case kind == "overlay" && (slices.Contains(options, "volatile") || slices.Contains(options, "fsync=volatile")): // as older and newer kernels write it
		return fmt.Sprintf("%s is in a container's own layer, mounted so that nothing in it is synced (overlay at %s, volatile): give a volume or a folder of the machine instead", path, at), ""
	case kind == "tmpfs" || kind == "ramfs":
		return "", fmt.Sprintf("%s is in memory (%s at %s), and all of it is gone when the machine is switched off: for records to keep give a folder on a disk", path, kind, at)
	}
	return "", ""
}

// What the kernel escapes in a mount's path.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
