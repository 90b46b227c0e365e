//go:build !linux

package pebble

// Unsafe says nothing here: how a folder's disk is mounted is only looked at on Linux.
func Unsafe(string) (unsynced, passing string) { return "", "" }
