//go:build !linux

package pebble

import "io/fs"

// room is about how many bytes of disk a file takes.
func room(info fs.FileInfo) int64 { return info.Size() }
