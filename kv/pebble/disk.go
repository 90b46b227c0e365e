package pebble

import (
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// logger passes on what an operator must act on. Pebble's running commentary is dropped.
type logger struct {
	log *slog.Logger
	dir string
}

func (l logger) Infof(string, ...any) {}

func (l logger) Errorf(format string, args ...any) {
	l.log.Error("store: "+fmt.Sprintf(format, args...), "dir", l.dir)
}

// Fatalf is called when a write or sync of the write-ahead log or manifest failed. What the disk then holds is not known and
// must not be guessed by trying again: the process ends, and the next start reads what is truly there.
func (l logger) Fatalf(format string, args ...any) {
	l.log.Error("store: the disk failed under a write; stopping, so that nothing is acknowledged that may be lost: "+fmt.Sprintf(format, args...), "dir", l.dir)
	exit(1)
}

// stop is Fatalf for what Pebble leaves to us.
func (e *Engine) stop(what string, err error) {
	logger{e.opts.Log, e.opts.Dir}.Fatalf("%s: %v", what, err)
}

var exit = os.Exit

// space refuses commits before the disk is full: a full disk stops Pebble for good, a refused commit can be tried again when
// somebody has made room.
type space struct {
	dir     string
	reserve int64

	mu      sync.Mutex
	checked time.Time
	err     error
}

func (s *space) enough() error {
	if s.reserve < 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.checked) < 250*time.Millisecond {
		return s.err
	}
	s.err = nil
	if u, err := vfs.Default.GetDiskUsage(s.dir); err == nil && u.AvailBytes < uint64(s.reserve) {
		s.err = fmt.Errorf("commit to store %s: the disk is nearly full (%d MiB free, %d MiB are kept in reserve): make room, then it goes on by itself",
			s.dir, u.AvailBytes>>20, s.reserve>>20)
	}
	s.checked = time.Now()
	return s.err
}
