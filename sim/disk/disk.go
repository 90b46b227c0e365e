//go:build linux

// Package disk is a disk for tests that behaves as badly as real ones may: a file system in memory, mounted by FUSE, that forgets at a power cut
// what was not synced, whose syncs can fail or take their time, and which can be full.
//
// Two states are kept of everything: as programs see it, and as it would be found after a power cut. A file's content goes from the first to the
// second by fsync of the file, a folder's names by fsync of the folder. A cut keeps of the rest nothing, or of each write in pieces of 512 bytes what
// chance keeps, so that files are torn too.
//
// The model is as harsh as POSIX allows but for one thing: fsync of a file keeps its name also, as ext4, xfs and btrfs do, unless Strict says otherwise.
// What it does not show: a disk that says that it has synced and has not.
package disk

import (
	"math/rand/v2"
	"sync"
	"syscall"
	"time"
)

// A Fault is what a sync meets.
type Fault struct {
	Err   syscall.Errno // it fails so, and keeps nothing: not the next time either, since Linux takes what it failed to write for written
	Delay time.Duration // it takes so long
	Cut   bool          // the power goes before it has kept anything
}

// Options of a Disk.
type Options struct {
	Size   int64 // bytes that fit; 4 GiB if 0
	Strict bool  // a file's name is kept by fsync of its folder only
	// Sync is told of each sync, counted from 1, and says what it meets. It is called by one at a time. nil: nothing.
	Sync func(n int) Fault
}

// A Disk is one file system. Its methods may be called from many goroutines.
type Disk struct {
	o Options

	mu            sync.Mutex
	root          *inode
	nodes         map[uint64]*inode // by number, what the kernel or a folder knows
	last          uint64            // number given last
	used          int64             // bytes in files
	syncs, failed int
	dead          bool          // the power is off: nothing works any more
	cut           chan struct{} // closed when it went

	faults sync.Mutex // guards calls of o.Sync
	mount  *mount
}

// An inode is a file, a folder or a symbolic link.
type inode struct {
	number   uint64
	mode     uint32
	uid, gid uint32
	changed  time.Time
	known    uint64 // how many look-ups of it the kernel holds

	seen, kept content
	dirty      []span // of seen.data, since it was last kept
}

// A content is one of an inode's two states.
type content struct {
	data  []byte            // of a file; of a link where it leads
	names map[string]*inode // of a folder
}

// A span is a piece of a file.
type span struct{ from, to int64 }

// New makes an empty disk. Mount makes it usable.
func New(o Options) *Disk {
	if o.Size == 0 {
		o.Size = 4 << 30
	}
	d := &Disk{o: o, nodes: map[uint64]*inode{}, cut: make(chan struct{})}
	d.root = d.node(syscall.S_IFDIR|0o777, 0, 0)
	return d
}

func (d *Disk) node(mode, uid, gid uint32) *inode {
	d.last++
	n := &inode{number: d.last, mode: mode, uid: uid, gid: gid, changed: time.Now()}
	if n.folder() {
		n.seen.names, n.kept.names = map[string]*inode{}, map[string]*inode{}
	}
	d.nodes[n.number] = n
	return n
}

func (n *inode) folder() bool { return n.mode&syscall.S_IFMT == syscall.S_IFDIR }

// Syncs is how many syncs there have been.
func (d *Disk) Syncs() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.syncs
}

// Failed is how many syncs have failed.
func (d *Disk) Failed() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.failed
}

// SetSync changes what syncs meet from now on, and counts them from 1 again.
func (d *Disk) SetSync(f func(n int) Fault) {
	d.faults.Lock()
	defer d.faults.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.o.Sync, d.syncs = f, 0
}

// SetSize changes how many bytes fit: what is there stays, also if it is more.
func (d *Disk) SetSize(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.o.Size = n
}

// Used is how many bytes the files hold.
func (d *Disk) Used() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used
}

// Cut takes the power away: every call fails from now on, and what is found afterwards is decided.
func (d *Disk) Cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.off()
}

func (d *Disk) off() {
	if !d.dead {
		d.dead = true
		close(d.cut)
	}
}

// Gone is closed when the power goes.
func (d *Disk) Gone() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cut
}

// After is the disk as it is found after a power cut, not yet mounted: a copy, so that one moment can be gone on from many times. keep, if set, decides
// which 512-byte pieces of unsynced writes have reached the disk nevertheless; without it none has.
func (d *Disk) After(keep *rand.Rand) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := New(Options{Size: d.o.Size, Strict: d.o.Strict})
	copies := map[*inode]*inode{d.root: next.root}
	copyOf := func(n *inode) *inode {
		if c, ok := copies[n]; ok { // a file may have several names
			return c
		}
		c := next.node(n.mode, n.uid, n.gid)
		copies[n] = c
		c.seen.data = n.survives(keep)
		next.used += int64(len(c.seen.data))
		c.kept.data = append([]byte(nil), c.seen.data...)
		return c
	}
	var walk func(n *inode)
	walk = func(n *inode) {
		for name, child := range n.kept.names {
			c := copyOf(child)
			copies[n].seen.names[name], copies[n].kept.names[name] = c, c
			if child.folder() {
				walk(child)
			}
		}
	}
	d.root.copyMeta(next.root)
	walk(d.root)
	return next
}

// Discard lets go of all that the disk holds: whoever still waits for it, which the system may keep waiting for long, gets an error.
func (d *Disk) Discard() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead, d.nodes, d.root = true, nil, nil
}

func (n *inode) copyMeta(to *inode) { to.mode, to.uid, to.gid = n.mode, n.uid, n.gid }

// survives is what a power cut leaves of a file.
func (n *inode) survives(keep *rand.Rand) []byte {
	out := append([]byte(nil), n.kept.data...)
	if keep == nil {
		return out
	}
	const piece = 512
	for _, s := range n.dirty {
		for from := s.from; from < s.to; {
			to := min(from-from%piece+piece, s.to)
			if keep.IntN(2) == 0 && to <= int64(len(n.seen.data)) {
				out = grown(out, to)
				copy(out[from:to], n.seen.data[from:to])
			}
			from = to
		}
	}
	return out
}

func grown(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

// write changes a file's content as programs see it.
func (d *Disk) write(n *inode, data []byte, at int64) syscall.Errno {
	if err := d.resize(n, max(at+int64(len(data)), int64(len(n.seen.data)))); err != 0 {
		return err
	}
	copy(n.seen.data[at:], data)
	n.touch(at, at+int64(len(data)))
	return 0
}

func (d *Disk) resize(n *inode, size int64) syscall.Errno {
	was := int64(len(n.seen.data))
	if size == was {
		return 0
	}
	if more := size - was; more > 0 && d.used+more > d.o.Size {
		return syscall.ENOSPC
	}
	if size < was {
		n.seen.data = n.seen.data[:size:size]
	} else {
		n.seen.data = grown(n.seen.data, size)
	}
	n.touch(min(was, size), max(was, size))
	d.used += size - was
	return 0
}

// touch remembers what a sync will have to keep; neighbours become one.
func (n *inode) touch(from, to int64) {
	n.changed = time.Now()
	if k := len(n.dirty) - 1; k >= 0 && n.dirty[k].from <= from && from <= n.dirty[k].to {
		n.dirty[k].to = max(n.dirty[k].to, to)
		return
	}
	n.dirty = append(n.dirty, span{from, to})
}

// keep makes a file or a folder survive a power cut as it is now.
func (d *Disk) keep(n *inode) {
	if n.folder() {
		n.kept.names = make(map[string]*inode, len(n.seen.names))
		for name, child := range n.seen.names {
			n.kept.names[name] = child
		}
		return
	}
	size := int64(len(n.seen.data))
	n.kept.data = grown(n.kept.data, size)[:size]
	for _, s := range n.dirty {
		if to := min(s.to, size); s.from < to {
			copy(n.kept.data[s.from:to], n.seen.data[s.from:to])
		}
	}
	n.dirty = nil
	if !d.o.Strict {
		d.keepNames(n)
	}
}

// keepNames makes the names of a file survive, and those of the folders above it, as journals do.
func (d *Disk) keepNames(n *inode) {
	var find func(folder *inode) bool
	find = func(folder *inode) (above bool) {
		for name, child := range folder.seen.names {
			if child == n || child.folder() && find(child) {
				folder.kept.names[name] = child
				above = true
			}
		}
		if above { // where it no longer is, it is not found again either
			for name, child := range folder.kept.names {
				if child == n && folder.seen.names[name] != n {
					delete(folder.kept.names, name)
				}
			}
		}
		return above
	}
	find(d.root)
}

// sync is what fsync of a file or a folder comes to.
func (d *Disk) sync(n *inode) syscall.Errno {
	d.faults.Lock()
	d.mu.Lock()
	d.syncs++
	nth, meet := d.syncs, d.o.Sync
	d.mu.Unlock()
	var f Fault
	if meet != nil {
		f = meet(nth)
	}
	d.faults.Unlock()
	if f.Delay > 0 {
		time.Sleep(f.Delay)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case f.Cut:
		d.off()
		return syscall.EIO
	case d.dead:
		return syscall.EIO
	case f.Err != 0:
		d.failed++
		n.dirty = nil
		return f.Err
	}
	d.keep(n)
	return 0
}
