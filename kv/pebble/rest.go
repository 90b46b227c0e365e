package pebble

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Pebble keeps the write-ahead logs that it no longer needs, to write new ones over them: that spares a sync the change of a file's size. There are up to
// five of 60 MiB and more, which after an import of a million resources were nearly half of the room that the store took. So when nothing has been written for a
// while, and they are a fair part of it, they are emptied, after what stands in the newest has been moved into tables.

const (
	rest    = 2 * time.Second // after the last commit
	spare   = 16 << 20        // logs of fewer bytes are left as they are,
	portion = 16              // and those that take less than one part in so many of the store
)

// logs are the write-ahead logs that this process has made, by number. Pebble reuses and removes them under the same lock under which they are emptied.
type logs struct {
	dir    string // of the store. A copy's logs, made through the same file system, are none of these
	mu     sync.Mutex
	here   map[uint64]*logFile
	newest uint64
}

type logFile struct {
	name   string
	closed bool // nobody writes it any more
}

// number is that of a write-ahead log of this store.
func (l *logs) number(name string) (uint64, bool) {
	if filepath.Clean(filepath.Dir(name)) != filepath.Clean(l.dir) {
		return 0, false
	}
	return logNumber(name)
}

// logNumber is that of a write-ahead log's file.
func logNumber(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(filepath.Base(name), ".log")
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, ok && err == nil
}

// made notes a log that is being written. The caller holds the lock.
func (l *logs) made(name string, f vfs.File) vfs.File {
	n, ok := l.number(name)
	if !ok {
		return f
	}
	l.here[n] = &logFile{name: name}
	l.newest = max(l.newest, n)
	return writtenLog{f, l, n}
}

// writtenLog is a log that is being written until it is closed.
type writtenLog struct {
	vfs.File
	logs *logs
	n    uint64
}

// Preallocate implements vfs.File. Pebble would take the room of a whole log, 70 MiB, however little is written.
func (f writtenLog) Preallocate(offset, length int64) error {
	return f.File.Preallocate(offset, min(length, preallocated))
}

const preallocated = 4 << 20

// Close implements vfs.File.
func (f writtenLog) Close() error {
	err := f.File.Close()
	f.logs.mu.Lock()
	defer f.logs.mu.Unlock()
	if l := f.logs.here[f.n]; l != nil {
		l.closed = true
	}
	return err
}

// Create implements vfs.FS, as do the methods below.
func (c careful) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if _, ok := c.logs.number(name); !ok {
		return c.FS.Create(name, category)
	}
	c.logs.mu.Lock()
	defer c.logs.mu.Unlock()
	f, err := c.FS.Create(name, category)
	if err != nil {
		return nil, err
	}
	return c.logs.made(name, f), nil
}

func (c careful) ReuseForWrite(old, name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	c.logs.mu.Lock()
	defer c.logs.mu.Unlock()
	f, err := c.FS.ReuseForWrite(old, name, category)
	if err != nil {
		return nil, err
	}
	if n, ok := c.logs.number(old); ok {
		delete(c.logs.here, n)
	}
	return c.logs.made(name, f), nil
}

func (c careful) Remove(name string) error {
	n, ok := c.logs.number(name)
	if !ok {
		return c.FS.Remove(name)
	}
	c.logs.mu.Lock()
	defer c.logs.mu.Unlock()
	err := c.FS.Remove(name)
	if err == nil {
		delete(c.logs.here, n)
	}
	return err
}

// empty empties the logs up to a number, of which all are in tables, and says how many bytes that gave back.
func (l *logs) empty(on vfs.FS, upTo uint64) (freed int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n, f := range l.here {
		if n > upTo || !f.closed {
			continue
		}
		info, err := on.Stat(f.name)
		if err != nil {
			return freed, err
		}
		was := room(info)
		if was == 0 {
			continue
		}
		file, err := on.Create(f.name, "pebble-wal") // in its place
		if err != nil {
			return freed, err
		}
		if err := file.Close(); err != nil {
			return freed, err
		}
		freed += was
	}
	return freed, nil
}

// whenAtRest is called when nothing was written for a while.
func (e *Engine) whenAtRest() {
	if e.gate.Enter(context.Background()) != nil {
		return // it is being closed
	}
	defer e.gate.Leave()
	held, all, err := e.room()
	if err != nil || held < spare || held < all/portion || e.space.enough() != nil {
		return
	}
	err = e.emptyLogs()
	if held, _, err2 := e.room(); err == nil && err2 == nil && held >= spare {
		err = e.emptyLogs() // the log that is being written now was one of the old ones, and the next will be an empty one
	}
	if err != nil {
		e.opts.Log.Warn("store: the room of old write-ahead logs could not be given back, and will be when more was written", "dir", e.opts.Dir, "err", err)
	}
}

// flushTime is how long whoever empties logs waits for what is in memory to be written. When a disk fails Pebble tries again for ever.
const flushTime = time.Minute

// emptyLogs moves what is in memory into tables, and then empties the logs that told of it. Not while a Checkpoint is being written: it copies logs of before.
func (e *Engine) emptyLogs() error {
	if !e.copying.TryLock() {
		return nil
	}
	defer e.copying.Unlock()
	e.logs.mu.Lock()
	upTo := e.logs.newest // what it tells of is in memory, or in tables
	e.logs.mu.Unlock()
	flushed, err := e.db.AsyncFlush()
	if err != nil {
		return err
	}
	select {
	case <-flushed:
	case <-e.leaving:
		return nil
	case <-time.After(flushTime):
		return fmt.Errorf("what was in memory was not written within %v", flushTime)
	}
	_, err = e.logs.empty(e.opts.fs, upTo)
	return err
}

// room is how many bytes of disk the write-ahead logs of this process hold, and how many all files of the store, preallocated ones with them.
func (e *Engine) room() (logs, all int64, err error) {
	names, err := e.opts.fs.List(e.opts.Dir)
	if err != nil {
		return 0, 0, err
	}
	for _, name := range names {
		info, err := e.opts.fs.Stat(e.opts.fs.PathJoin(e.opts.Dir, name))
		if err != nil {
			continue // removed meanwhile
		}
		if info.IsDir() || info.Mode()&fs.ModeType != 0 {
			continue
		}
		n := room(info)
		all += n
		if _, ok := logNumber(name); ok {
			logs += n
		}
	}
	return logs, all, nil
}
