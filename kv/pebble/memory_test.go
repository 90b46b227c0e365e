package pebble

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMemoryIsWhatTheProcessMayHave(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	machine := file("meminfo", "MemTotal:       24689764 kB\nMemFree:        13230468 kB\n")
	for _, c := range []struct {
		name    string
		machine string
		limits  []string
		want    int64
	}{
		{"the machine's", machine, nil, 24689764 << 10},
		{"no limit", machine, []string{file("max", "max\n"), filepath.Join(dir, "none")}, 24689764 << 10},
		{"a container's", machine, []string{file("limited", "536870912\n")}, 512 << 20},
		{"a limit above the machine", machine, []string{file("huge", "9223372036854771712\n")}, 24689764 << 10},
		{"a system that does not say", filepath.Join(dir, "none"), nil, 0},
	} {
		if got := memoryIn(c.machine, c.limits...); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
