package gather

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// An alarm goes off after a while, to some tens of microseconds: a file of the kernel's that can be read then (timerfd_create(2)).
type alarm struct {
	fd   int
	file *os.File // of fd, for the runtime to wait for
}

func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	return &alarm{fd, os.NewFile(uintptr(fd), "alarm")}, nil
}

// set has it go off after d, and not when it was set to before.
func (a *alarm) set(d time.Duration) {
	when := unix.ItimerSpec{Value: unix.NsecToTimespec(max(int64(d), 1))} // 0 would be never
	if err := unix.TimerfdSettime(a.fd, 0, &when, nil); err != nil {
		panic("timerfd_settime: " + err.Error()) // for arguments that are wrong only
	}
}

// wait waits until it goes off.
func (a *alarm) wait() {
	var times [8]byte
	if _, err := a.file.Read(times[:]); err != nil {
		time.Sleep(time.Millisecond) // it can hardly fail, and nobody may be left waiting if it does
	}
}

func (a *alarm) close() { _ = a.file.Close() }
