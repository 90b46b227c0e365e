//go:build linux

package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// strace gives the words with which a process is started so that the kernel does something to its calls.
func strace(t *testing.T, inject string) []string {
	t.Helper()
	path, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("SKIPPED: strace is not installed, so no fault is put into the calls that write to the disk")
	}
	if out, err := exec.Command(path, "-f", "-o", os.DevNull, "-e", "trace=none", "true").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: strace may not trace here (%v): %s", err, out)
	}
	return []string{path, "-f", "-o", os.DevNull, "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:" + inject}
}

// Killed as it asks the disk to keep something: the kth time, for each k (a few in a short run), of a run of a given length.
func TestNothingAcknowledgedIsLostWhenTheNodeIsKilledAtASync(t *testing.T) {
	messages, soak := 10, rounds(t, 0, 1) > 0
	if soak {
		messages = 200
	}
	died := 0
	for k, step := 1, 1; ; k += step {
		if !soak {
			step++ // 1, 3, 6, 10 …
		}
		dir, senders := Place{Dir: t.TempDir()}, NewSenders(1)
		p, err := StartProcess(dir, strace(t, fmt.Sprintf("signal=KILL:when=%d", k))...)
		survived := false
		if err == nil {
			senders.Run(t.Context(), p.Addr, messages)
			survived = !senders.Waiting(0)
			p.Kill()
		} else if died := new(DiedError); !errors.As(err, &died) {
			t.Fatal(err)
		}
		acked, err := senders.Take()
		if err != nil {
			t.Error(err)
		}
		if survived {
			t.Logf("killed at %d of the syncs of %d messages", died, messages)
			break
		}
		died++
		if allThere(t, dir, acked) > 0 {
			t.Fatalf("killed at sync %d: %d were acknowledged", k, len(acked))
		}
		p = start(t, dir) // and it goes on as if nothing had been
		senders.Run(t.Context(), p.Addr, messages)
		p.Kill()
		more, err := senders.Take()
		if err != nil || len(more) != messages {
			t.Fatalf("killed at sync %d: afterwards %d of %d were acknowledged (%v)", k, len(more), messages, err)
		}
		allThere(t, dir, append(acked, more...))
		once(t, dir)
	}
	if died < 3 {
		t.Errorf("the node was killed at %d syncs only: this proves little", died)
	}
}

// A disk that says that it could not write: nothing that may be lost is acknowledged, and a start afterwards finds all that was.
func TestNothingIsAcknowledgedThatTheDiskFailedToKeep(t *testing.T) {
	for _, fault := range []string{"error=EIO:when=30+", "error=EIO:when=12", "error=ENOSPC:when=25+"} {
		t.Run(fault, func(t *testing.T) {
			dir, senders := Place{Dir: t.TempDir()}, NewSenders(4)
			p, err := StartProcess(dir, strace(t, fault)...)
			if died := new(DiedError); err != nil && !errors.As(err, &died) {
				t.Fatal(err)
			}
			if err == nil {
				ctx, stop := context.WithTimeout(t.Context(), 3*time.Second)
				senders.Run(ctx, p.Addr, 100)
				stop()
				p.Kill()
			}
			acked, err := senders.Take()
			if err != nil {
				t.Error(err)
			}
			allThere(t, dir, acked)
			p = start(t, dir)
			senders.Run(t.Context(), p.Addr, 5)
			p.Kill()
			more, err := senders.Take()
			if err != nil || len(more) != 20 {
				t.Errorf("with a sound disk %d of 20 were acknowledged (%v)", len(more), err)
			}
			allThere(t, dir, append(acked, more...))
			once(t, dir)
			t.Logf("%d were acknowledged before and while the disk failed", len(acked))
		})
	}
}

// A disk that takes its time holds acknowledgements up and breaks nothing.
func TestASlowDiskHoldsUpAcknowledgementsOnly(t *testing.T) {
	slow := time.Second
	if rounds(t, 0, 1) > 0 {
		slow = 5 * time.Second
	}
	dir, senders := Place{Dir: t.TempDir()}, NewSenders(2)
	p := start(t, dir, strace(t, fmt.Sprintf("delay_enter=%d:when=10+10", slow.Microseconds()))...)
	senders.Run(t.Context(), p.Addr, 10)
	p.Kill()
	acked, err := senders.Take()
	if err != nil || len(acked) != 20 {
		t.Errorf("%d of 20 were acknowledged (%v)", len(acked), err)
	}
	allThere(t, dir, acked)
	once(t, dir)
}

// A disk that fills up: no acknowledgement of what is not kept. Down to the store's reserve, work goes on by itself once there is room again; where
// others have taken the reserve too, the node may end, and goes on when it is started again.
func TestAFullDiskIsNotAcknowledgedInto(t *testing.T) {
	for name, left := range map[string]int64{"nearly full": 64 << 20, "full": 0} {
		t.Run(name, func(t *testing.T) {
			dir := smallDisk(t)
			data, ballast := Place{Dir: filepath.Join(dir, "data")}, filepath.Join(dir, "ballast")
			senders := NewSenders(4)
			p := start(t, data)
			before := sendFor(t, senders, p.Addr, 300*time.Millisecond)
			if len(before) == 0 {
				t.Fatal("nothing was acknowledged with room on the disk")
			}
			fill(t, ballast, left)
			during := sendFor(t, senders, p.Addr, time.Second)
			during = append(during, sendFor(t, senders, p.Addr, time.Second)...)
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			ended, said := p.Ended()
			if ended {
				if left > 0 {
					t.Errorf("the node ended before the disk was full: %s", said)
				}
				p = start(t, data)
			}
			var after []Message
			for range 15 { // the followers try again with growing pauses
				if after = append(after, sendFor(t, senders, p.Addr, time.Second)...); len(after) > 0 {
					break
				}
			}
			if len(after) == 0 {
				_, said := p.Ended()
				t.Errorf("with room again the node did not go on: %s", said)
			}
			p.Kill()
			t.Logf("acknowledged: %d before, %d while it filled, %d after; the node ended: %t", len(before), len(during), len(after), ended)
			allThere(t, data, append(append(before, during...), after...))
			once(t, data)
		})
	}
}

// smallDisk is a file system of some hundred megabytes: the store keeps 128 in reserve and lays out its logs ahead.
func smallDisk(t *testing.T) string {
	t.Helper()
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("SKIPPED: a small file system can be mounted by root on Linux only")
	}
	dir := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=640m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: a small file system cannot be mounted here (%v): %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Logf("the small file system stays mounted at %s: %s", dir, out)
		}
	})
	return dir
}

// sendFor sends for a time, again and again where a connection is closed without an answer.
func sendFor(t *testing.T, s *Senders, addr string, d time.Duration) []Message {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), d)
	defer stop()
	for ctx.Err() == nil {
		s.Run(ctx, addr, 0)
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	acked, err := s.Take()
	if err != nil {
		t.Error(err)
	}
	return acked
}

// fill writes until no more than left bytes are free.
func fill(t *testing.T, path string, left int64) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 1<<20); ; {
		var free syscall.Statfs_t
		if err := syscall.Statfs(filepath.Dir(path), &free); err != nil {
			t.Fatal(err)
		}
		if int64(free.Bavail)*free.Bsize <= left {
			return
		}
		if _, err := f.Write(chunk); err != nil {
			if chunk = chunk[:len(chunk)/2]; len(chunk) == 0 {
				return
			}
		}
	}
}
