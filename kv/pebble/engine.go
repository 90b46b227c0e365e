// Package pebble is the embedded engine: kv on Pebble, CockroachDB's log-structured store, in one directory of one process.
//
// Every commit is in the synced write-ahead log before it is acknowledged, but for those whose caller can do them again (kv.Batch.Lazy); commits that
// arrive together share one sync. Reads see a commit as soon as it is applied, a moment before it is durable; the log, Tail, snapshots and the
// acknowledgement of any commit (also one that writes nothing) wait until all that came before is durable, so nothing that
// was promised to anybody can rest on what a power cut takes away. The key layout is in docs/storage.md.
package pebble

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"

	"tombolo/kv"
	"tombolo/kv/engine"
)

// Options for Open. Only Dir must be set.
type Options struct {
	Dir string // made if it does not exist
	// CacheBytes is the memory that blocks of the store may come to take as they are read; an eighth of what this process may have if 0, and at least
	// 128 MiB. Buffers of writes take up to 256 MiB more.
	CacheBytes int64
	ReadOnly   bool         // refuse commits; the directory must exist
	Reserve    int64        // commits are refused while the disk has fewer bytes free; 128 MiB if 0, no reserve if < 0
	Log        *slog.Logger // faults of the store and its disk; slog.Default() if nil

	fs vfs.FS // what the directory lies on; tests put faults into it
}

// An Engine is one open directory. It implements kv.Engine.
type Engine struct {
	opts  Options
	db    *pebble.DB
	cache *pebble.Cache
	lock  *pebble.Lock
	space space

	gate *engine.Gate // who is inside, and whether the door is shut

	// applied counts commits that readers can see. It changes under commitMu only.
	applied atomic.Uint64
	// synced is the highest commit of which it is known that it and all before it are durable.
	synced atomic.Uint64

	commitMu sync.Mutex // guards the order of commits: checks, positions, application
	tail     kv.Position
	writes   *written

	log   *engine.Tail // how far the log is durable
	quiet *time.Timer  // writes a witness when nothing else was written for a moment; nil if nothing may be written

	logs    *logs         // the files of the write-ahead log
	copying sync.Mutex    // held while a Checkpoint copies them, and while old ones are emptied
	rest    *time.Timer   // gives the room of old ones back when nothing was written for a while; nil if nothing may be written
	leaving chan struct{} // closed by Close
	leave   sync.Once

	snapMu    sync.Mutex
	snapshots map[*snapshot]struct{}
}

var _ kv.Engine = (*Engine)(nil)

// largeValue is the least size in bytes of values that stand outside the tables.
const largeValue = 256 << 10

// formatValue marks a directory as written by this engine in this layout.
const formatValue = "tombolo kv 1"

// Open opens or makes the store in opts.Dir. It says so plainly when another process has it open or when it is damaged.
func Open(opts Options) (*Engine, error) {
	if opts.Dir == "" {
		return nil, errors.New("open store: no directory given")
	}
	if opts.CacheBytes == 0 {
		opts.CacheBytes = max(memory()/8, 128<<20)
	}
	if opts.Reserve == 0 {
		opts.Reserve = 128 << 20
	}
	if opts.Log == nil {
		opts.Log = slog.Default()
	}
	if opts.fs == nil {
		opts.fs = vfs.Default
	}
	if !opts.ReadOnly {
		if err := opts.fs.MkdirAll(opts.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("open store: make directory %s: %w", opts.Dir, err)
		}
	} else if _, err := opts.fs.Stat(opts.Dir); err != nil {
		return nil, fmt.Errorf("open store %s read-only: %w", opts.Dir, err)
	}
	lock, err := pebble.LockDirectory(opts.Dir, opts.fs)
	if err != nil {
		return nil, fmt.Errorf("open store %s: another process has it open (or its LOCK file cannot be written): "+
			"stop that process, or give this one its own directory: %w", opts.Dir, err)
	}
	e := &Engine{opts: opts, lock: lock, gate: engine.NewGate(), snapshots: map[*snapshot]struct{}{}, writes: newWritten(), logs: &logs{dir: opts.Dir, here: map[uint64]*logFile{}}, leaving: make(chan struct{})}
	e.space = space{fs: opts.fs, dir: opts.Dir, reserve: opts.Reserve}
	e.cache = pebble.NewCache(opts.CacheBytes)
	if err := checkLogs(opts.fs, opts.Dir); err != nil {
		e.cache.Unref()
		_ = lock.Close()
		return nil, openError(opts.Dir, err)
	}
	settings := e.settings()
	waits := &waitsForOpen{ConcurrencyLimitScheduler: pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest()}
	settings.Experimental.CompactionScheduler = waits
	if e.db, err = pebble.Open(opts.Dir, settings); err != nil {
		e.cache.Unref()
		_ = lock.Close()
		return nil, openError(opts.Dir, err)
	}
	waits.opened()
	if err := e.begin(); err != nil {
		_ = e.db.Close()
		e.cache.Unref()
		_ = lock.Close()
		return nil, err
	}
	return e, nil
}

func openError(dir string, err error) error {
	if pebble.IsCorruptionError(err) || errors.Is(err, errLogDamaged) || errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("open store %s: its files are damaged, or some are missing; keep this directory as it is, restore the newest backup into "+
			"another (tombolo store restore), and let the sources send again what came since: %w", dir, worded(err))
	}
	if errors.Is(err, syscall.EIO) {
		return fmt.Errorf("open store %s: its disk cannot be read or written; mend the disk, or copy what can be read of the directory to another, and start again: %w", dir, err)
	}
	return fmt.Errorf("open store %s: %w", dir, err)
}

// settings are tuned for records of a few hundred bytes to a few kilobytes that are written in random order of patient and
// read a patient at a time; figures in docs/storage.md.
func (e *Engine) settings() *pebble.Options {
	o := &pebble.Options{
		FS:                          careful{e.opts.fs, e.stop, e.logs},
		Cache:                       e.cache,
		Lock:                        e.lock,
		Merger:                      counters,
		ReadOnly:                    e.opts.ReadOnly,
		FormatMajorVersion:          pebble.FormatNewest,
		MemTableSize:                uint64(min(max(e.opts.CacheBytes/4, 4<<20), 64<<20)),
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       2,
		L0StopWritesThreshold:       32,
		LBaseMaxBytes:               64 << 20,
		MaxOpenFiles:                1000,
		BytesPerSync:                1 << 20,
		WALBytesPerSync:             0,
		CompactionConcurrencyRange:  func() (int, int) { return 1, max(2, runtime.NumCPU()/2) },
		Logger:                      logger{e.opts.Log, e.opts.Dir},
	}
	for i := range o.Levels {
		o.Levels[i].BlockSize = 16 << 10
		o.Levels[i].IndexBlockSize = 64 << 10
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10) // most look-ups of a new resource's key find nothing
		if i >= len(o.Levels)-2 {
			// Nine tenths of the store come to rest here: zstd takes half the room of snappy, and costs a block's first read 20 µs.
			o.Levels[i].Compression = func() *block.CompressionProfile { return block.BalancedCompression }
		}
	}
	// A document's megabytes stand in files of their own: a compaction holds each value that it moves some five times over, and these it does not move.
	o.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy {
		return pebble.ValueSeparationPolicy{Enabled: true, MinimumSize: largeValue, MaxBlobReferenceDepth: 10, RewriteMinimumAge: 5 * time.Minute, TargetGarbageRatio: 0.2}
	}
	// Left alone, Pebble ends the process when it meets a damaged block. One damaged block must cost no more than the reads
	// that need it: they get an error, the operator gets a line.
	o.EventListener = &pebble.EventListener{
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			e.opts.Log.Error("store: damaged block on disk; restore a backup", "dir", e.opts.Dir, "file", info.Path, "err", info.Details.Error())
		},
		BackgroundError: func(err error) {
			if !errors.Is(err, pebble.ErrCancelledCompaction) {
				e.opts.Log.Error("store: background work failed and will be tried again", "dir", e.opts.Dir, "err", err)
			}
		},
	}
	return o
}

// begin checks that the directory is ours and finds the end of the log.
func (e *Engine) begin() error {
	v, closer, err := e.db.Get(formatKey)
	switch {
	case err == nil:
		got := string(v)
		_ = closer.Close()
		if got != formatValue {
			return fmt.Errorf("open store %s: written in format %.40q, this program reads %q: use the version of the program that wrote it", e.opts.Dir, got, formatValue)
		}
	case !errors.Is(err, pebble.ErrNotFound):
		return openError(e.opts.Dir, err)
	case e.opts.ReadOnly:
		return fmt.Errorf("open store %s read-only: there is no store in it", e.opts.Dir)
	default:
		if err := e.mustBeEmpty(); err != nil {
			return err
		}
		if err := e.db.Set(formatKey, []byte(formatValue), pebble.Sync); err != nil {
			return fmt.Errorf("open store %s: %w", e.opts.Dir, err)
		}
		if err := e.db.Flush(); err != nil { // the first log of a store does not yet say how far it was synced, the next one does
			return fmt.Errorf("open store %s: %w", e.opts.Dir, err)
		}
		if err := syncAbove(e.opts.fs, e.opts.Dir); err != nil {
			return fmt.Errorf("open store %s: %w", e.opts.Dir, err)
		}
	}
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: logKey(0), UpperBound: logEnd})
	if err != nil {
		return openError(e.opts.Dir, err)
	}
	if it.Last() {
		e.tail = logPosition(it.Key())
	}
	if err := it.Close(); err != nil {
		return openError(e.opts.Dir, err)
	}
	e.log = engine.NewTail(e.tail)
	if !e.opts.ReadOnly {
		e.quiet = time.AfterFunc(quiet, e.whenQuiet) // also of what the last process left
		e.rest = time.AfterFunc(rest, e.whenAtRest)
	}
	return nil
}

func (e *Engine) mustBeEmpty() error {
	it, err := e.db.NewIter(nil)
	if err != nil {
		return openError(e.opts.Dir, err)
	}
	some := it.First()
	if err := it.Close(); err != nil {
		return openError(e.opts.Dir, err)
	}
	if some {
		return fmt.Errorf("open store %s: the directory holds a database of some other program: give another directory", e.opts.Dir)
	}
	return nil
}

// syncAbove makes a new directory's own name survive a power cut, and those of the directories above it, which may be as new. Those that
// this user may not even open are not.
func syncAbove(fs vfs.FS, dir string) error {
	dir, err := filepath.Abs(dir)
	for err == nil && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
		if err = syncDir(fs, dir); errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EINVAL) {
			return nil
		}
	}
	return err
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}

// Checkpoint writes a copy of one moment into dir. On the same file system its unchanging files are hard links, so that it is
// quick; move it to another disk for it to be a backup.
func (e *Engine) Checkpoint(ctx context.Context, dir string) error {
	if err := e.gate.Enter(ctx); err != nil {
		return err
	}
	defer e.gate.Leave()
	if _, err := e.opts.fs.Stat(dir); err == nil {
		return fmt.Errorf("checkpoint: %s exists already: name a new directory", dir)
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("checkpoint: %w", err)
	}
	e.copying.Lock()
	defer e.copying.Unlock()
	if err := e.db.Checkpoint(dir, pebble.WithFlushedWAL()); err != nil {
		return fmt.Errorf("checkpoint into %s: %w", dir, err)
	}
	return nil
}

// DiskBytes is the room that the store takes on its disk, with what is preallocated for its write-ahead log and old logs that are kept to be written over.
func (e *Engine) DiskBytes(ctx context.Context) (int64, error) {
	if err := e.gate.Enter(ctx); err != nil {
		return 0, err
	}
	defer e.gate.Leave()
	_, all, err := e.room()
	return all, err
}

// Close waits for calls under way (a Scan that is being read is one, so do not call it from inside one's loop), then closes
// the store and whatever snapshots are still open. A second Close does nothing.
func (e *Engine) Close() error {
	e.leave.Do(func() { close(e.leaving) })
	if !e.gate.Shut() {
		return nil
	}
	var unmarked error
	if e.quiet != nil {
		e.quiet.Stop()
		e.rest.Stop()
		unmarked = e.mark()
	}
	e.log.Close()
	e.snapMu.Lock()
	for s := range e.snapshots {
		_ = s.snap.Close()
	}
	e.snapshots = nil
	e.snapMu.Unlock()
	err := errors.Join(unmarked, e.db.Close())
	e.cache.Unref()
	if err := errors.Join(err, e.lock.Close()); err != nil {
		return fmt.Errorf("close store %s: %w", e.opts.Dir, err)
	}
	return nil
}
