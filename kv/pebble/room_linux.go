package pebble

import (
	"io/fs"
	"syscall"
)

// room is how many bytes of disk a file takes, which are more than its length when some were preallocated.
func room(info fs.FileInfo) int64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Blocks * 512
	}
	return info.Size()
}
