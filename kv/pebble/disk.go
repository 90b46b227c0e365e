package pebble

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
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
	log := l.log
	if !log.Enabled(context.Background(), slog.LevelError) { // why a process ends is said in any case
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	log.Error("store: the disk failed under a write; stopping, so that nothing is acknowledged that may be lost. Mend the disk and start again: what was acknowledged is kept. "+
		fmt.Sprintf(format, args...), "dir", l.dir)
	exit(1)
}

// A careful file system ends the process, and says why, where a folder cannot be synced. Pebble would panic over most of those. And it knows the
// write-ahead logs, see rest.go.
type careful struct {
	vfs.FS
	stop func(what string, err error)
	logs *logs
}

// OpenDir implements vfs.FS.
func (c careful) OpenDir(name string) (vfs.File, error) {
	f, err := c.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return carefulDir{f, c.stop}, nil
}

// Unwrap implements vfs.FS.
func (c careful) Unwrap() vfs.FS { return c.FS }

type carefulDir struct {
	vfs.File
	stop func(what string, err error)
}

// Sync implements vfs.File.
func (d carefulDir) Sync() error {
	err := d.File.Sync()
	if err != nil {
		d.stop("folder", err)
	}
	return err
}

// worded is an error of Pebble's about damage in words for a reader: where it is, and without the placeholder in which Pebble passes on what it knows of it.
func worded(err error) error {
	text := err.Error()
	said := strings.TrimSpace(strings.ReplaceAll(text, "<corruption detail carrier>", ""))
	if info := pebble.ExtractDataCorruptionInfo(err); info != nil && !strings.Contains(said, filepath.Base(info.Path)) {
		said = "in " + filepath.Base(info.Path) + ": " + said
	}
	if said == text {
		return err
	}
	return inWords{said, err}
}

type inWords struct {
	said string
	error
}

func (e inWords) Error() string { return e.said }
func (e inWords) Unwrap() error { return e.error }

// stop is Fatalf for what Pebble leaves to us.
func (e *Engine) stop(what string, err error) {
	logger{e.opts.Log, e.opts.Dir}.Fatalf("%s: %v", what, err)
}

var exit = os.Exit

// space refuses commits before the disk is full: a full disk stops Pebble for good, a refused commit can be tried again when
// somebody has made room.
type space struct {
	fs      vfs.FS
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
	if u, err := s.fs.GetDiskUsage(s.dir); err == nil && u.AvailBytes < uint64(s.reserve) {
		s.err = fmt.Errorf("commit to store %s: the disk is nearly full (%d MiB free, %d MiB are kept in reserve): make room, then it goes on by itself",
			s.dir, u.AvailBytes>>20, s.reserve>>20)
	}
	s.checked = time.Now()
	return s.err
}

// waitsForOpen is Pebble's scheduler of compactions, which holds them back until the store is open: one that runs while opening fails would find
// the caches gone, and Pebble would panic. (The name of the constructor that it is made with says "ForTest": it is the only one that is exported, and what
// it leaves out, looking ten times a second whether more may run, is done here.)
type waitsForOpen struct {
	*pebble.ConcurrencyLimitScheduler

	mu   sync.Mutex
	n    int
	db   pebble.DBForCompaction
	stop chan struct{} // nil until the store is open
}

// Register implements pebble.CompactionScheduler, as do the methods below.
func (w *waitsForOpen) Register(n int, db pebble.DBForCompaction) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n, w.db = n, db
}

// opened lets compactions run.
func (w *waitsForOpen) opened() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ConcurrencyLimitScheduler.Register(w.n, w.db)
	w.stop = make(chan struct{})
	go w.look(w.stop)
}

func (w *waitsForOpen) look(stop <-chan struct{}) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			if ok, permit := w.TrySchedule(); ok {
				permit.Done() // gives it to whichever compaction waits
			}
		}
	}
}

func (w *waitsForOpen) isOpen() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stop != nil
}

func (w *waitsForOpen) Unregister() {
	if w.isOpen() {
		close(w.stop)
		w.ConcurrencyLimitScheduler.Unregister()
	}
}

func (w *waitsForOpen) TrySchedule() (bool, pebble.CompactionGrantHandle) {
	if !w.isOpen() {
		return false, nil
	}
	return w.ConcurrencyLimitScheduler.TrySchedule()
}

func (w *waitsForOpen) UpdateGetAllowedWithoutPermission() {
	if w.isOpen() {
		w.ConcurrencyLimitScheduler.UpdateGetAllowedWithoutPermission()
	}
}
