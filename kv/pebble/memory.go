package pebble

import (
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
)

// memory is how many bytes this process may have: the machine's, those of the control group that it is in, or GOMEMLIMIT's, whichever is least; 0 where
// nothing says.
func memory() int64 {
	n := memoryIn("/proc/meminfo", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 && (n == 0 || limit < n) {
		n = limit
	}
	return n
}

// memoryIn reads the machine's memory and the limits of control groups, version 2 and 1, as a container sees its own.
func memoryIn(machine string, limits ...string) (n int64) {
	data, _ := os.ReadFile(machine)
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			n = kib << 10
		}
	}
	for _, file := range limits {
		data, _ := os.ReadFile(file)
		if limit, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil && limit > 0 && (n == 0 || limit < n) {
			n = limit
		}
	}
	return n
}
