//go:build !linux

package gather

import "time"

// An alarm goes off after a while, as exactly as the runtime's timers do here.
type alarm struct{ timer *time.Timer }

func newAlarm() (*alarm, error) { return &alarm{time.NewTimer(time.Hour)}, nil }

// set has it go off after d, and not when it was set to before.
func (a *alarm) set(d time.Duration) { a.timer.Reset(d) }

// wait waits until it goes off.
func (a *alarm) wait() { <-a.timer.C }

func (a *alarm) close() { a.timer.Stop() }
