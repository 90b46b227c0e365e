package sim

import (
	"syscall"
	"time"
)

// ProcessorTime is what this process has used of the processors so far: what a piece of work costs is told by it also on a machine that is
// busy with something else, where a clock tells what the others cost.
func ProcessorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
