//go:build linux

package disk

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// A mount is a Disk as the kernel sees it. It obeys FUSE's low-level protocol; nothing is cached outside, so that what is written is here at once.
type mount struct {
	fuse.RawFileSystem // what is not asked of a disk here: ENOSYS
	d                  *Disk
	server             *fuse.Server
	at                 string
	once               sync.Once
}

// Mount makes the disk usable at a folder that exists, by any user. It fails where the system has no FUSE or does not allow it.
func (d *Disk) Mount(at string) error {
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return fmt.Errorf("no FUSE here: %w", err)
	}
	m := &mount{RawFileSystem: fuse.NewDefaultRawFileSystem(), d: d, at: at}
	var err error
	m.server, err = fuse.NewServer(m, at, &fuse.MountOptions{AllowOther: os.Geteuid() == 0, DirectMount: true, Name: "disk", FsName: "disk", DisableXAttrs: true, DisableReadDirPlus: true, MaxWrite: 1 << 20, MaxBackground: 64})
	notInherited()
	if err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	d.mu.Lock()
	d.mount = m
	d.mu.Unlock()
	go m.server.Serve()
	return m.server.WaitMount()
}

// notInherited keeps the connections with the kernel, which the library opens without that, from the processes that are started: a database's, which stays
// when this process is killed, would hold the disk that it waits for.
func notInherited() {
	open, _ := os.ReadDir("/proc/self/fd")
	for _, e := range open {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && to == "/dev/fuse" {
			if fd, err := strconv.Atoi(e.Name()); err == nil {
				syscall.CloseOnExec(fd)
			}
		}
	}
}

// Unmount takes the disk away from under whoever still has it open.
func (d *Disk) Unmount() {
	d.mu.Lock()
	m := d.mount
	d.mu.Unlock()
	if m == nil {
		return
	}
	m.once.Do(func() {
		if syscall.Unmount(m.at, syscall.MNT_DETACH) != nil { // not root: fusermount mounted it
			_ = m.server.Unmount()
		}
	})
}

// on gives the inode of that number, with the disk locked; false if there is no power.
func (m *mount) on(number uint64) (*inode, func(), fuse.Status) {
	m.d.mu.Lock()
	n := m.d.nodes[number]
	switch {
	case m.d.dead:
		m.d.mu.Unlock()
		return nil, nil, fuse.EIO
	case n == nil:
		m.d.mu.Unlock()
		return nil, nil, fuse.Status(syscall.ESTALE)
	}
	return n, m.d.mu.Unlock, fuse.OK
}

func (m *mount) attr(n *inode, out *fuse.Attr) {
	out.Ino, out.Mode, out.Owner = n.number, n.mode, fuse.Owner{Uid: n.uid, Gid: n.gid}
	out.Nlink = 1
	if n.folder() {
		out.Nlink = 2
	}
	out.Size = uint64(len(n.seen.data))
	out.Blksize = 4096
	out.Blocks = (out.Size + 511) / 512
	out.SetTimes(&n.changed, &n.changed, &n.changed)
}

// entry answers with an inode that the kernel remembers from now on.
func (m *mount) entry(n *inode, out *fuse.EntryOut) fuse.Status {
	n.known++
	out.NodeId, out.Generation = n.number, 1
	m.attr(n, &out.Attr)
	return fuse.OK
}

func (m *mount) String() string { return "disk" }

// Lookup implements fuse.RawFileSystem, as the methods below do.
func (m *mount) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	dir, done, st := m.on(h.NodeId)
	if st != fuse.OK {
		return st
	}
	defer done()
	n, ok := dir.seen.names[name]
	if !ok {
		return fuse.ENOENT
	}
	return m.entry(n, out)
}

func (m *mount) Forget(number, times uint64) {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	if n := m.d.nodes[number]; n != nil && number != m.d.root.number {
		if n.known -= min(times, n.known); n.known == 0 && !m.d.named(n) {
			m.d.used -= int64(len(n.seen.data))
			delete(m.d.nodes, number)
		}
	}
}

// named says whether any folder has the inode, as programs see it.
func (d *Disk) named(n *inode) bool {
	for _, folder := range d.nodes {
		for _, child := range folder.seen.names {
			if child == n {
				return true
			}
		}
	}
	return false
}

func (m *mount) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	n, done, st := m.on(in.NodeId)
	if st != fuse.OK {
		return st
	}
	defer done()
	m.attr(n, &out.Attr)
	return fuse.OK
}

func (m *mount) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	n, done, st := m.on(in.NodeId)
	if st != fuse.OK {
		return st
	}
	defer done()
	if mode, ok := in.GetMode(); ok {
		n.mode = n.mode&syscall.S_IFMT | mode
	}
	if uid, ok := in.GetUID(); ok {
		n.uid = uid
	}
	if gid, ok := in.GetGID(); ok {
		n.gid = gid
	}
	if size, ok := in.GetSize(); ok {
		if err := m.d.resize(n, int64(size)); err != 0 {
			return fuse.Status(err)
		}
	}
	m.attr(n, &out.Attr)
	return fuse.OK
}

// make adds a new inode to a folder.
func (m *mount) make(h *fuse.InHeader, name string, mode uint32, data []byte, out *fuse.EntryOut) (*inode, fuse.Status) {
	dir, done, st := m.on(h.NodeId)
	if st != fuse.OK {
		return nil, st
	}
	defer done()
	if dir.seen.names[name] != nil {
		return nil, fuse.Status(syscall.EEXIST)
	}
	n := m.d.node(mode, h.Uid, h.Gid)
	n.seen.data, n.kept.data = data, data
	dir.seen.names[name] = n
	return n, m.entry(n, out)
}

func (m *mount) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	_, st := m.make(&in.InHeader, name, syscall.S_IFDIR|in.Mode&0o7777, nil, out)
	return st
}

func (m *mount) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	_, st := m.make(&in.InHeader, name, in.Mode, nil, out)
	return st
}

func (m *mount) Symlink(_ <-chan struct{}, h *fuse.InHeader, to, name string, out *fuse.EntryOut) fuse.Status {
	_, st := m.make(h, name, syscall.S_IFLNK|0o777, []byte(to), out)
	return st
}

func (m *mount) Readlink(_ <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	n, done, st := m.on(h.NodeId)
	if st != fuse.OK {
		return nil, st
	}
	defer done()
	return slices.Clone(n.seen.data), fuse.OK
}

func (m *mount) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_DIRECT_IO
	_, st := m.make(&in.InHeader, name, syscall.S_IFREG|in.Mode&0o7777, nil, &out.EntryOut)
	return st
}

func (m *mount) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	dir, done, st := m.on(in.NodeId)
	if st != fuse.OK {
		return st
	}
	defer done()
	n := m.d.nodes[in.Oldnodeid]
	switch {
	case n == nil:
		return fuse.ENOENT
	case dir.seen.names[name] != nil:
		return fuse.Status(syscall.EEXIST)
	}
	dir.seen.names[name] = n
	return m.entry(n, out)
}

func (m *mount) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return m.remove(h, name, false)
}

func (m *mount) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return m.remove(h, name, true)
}

func (m *mount) remove(h *fuse.InHeader, name string, folder bool) fuse.Status {
	dir, done, st := m.on(h.NodeId)
	if st != fuse.OK {
		return st
	}
	defer done()
	n := dir.seen.names[name]
	switch {
	case n == nil:
		return fuse.ENOENT
	case folder && len(n.seen.names) > 0:
		return fuse.Status(syscall.ENOTEMPTY)
	}
	delete(dir.seen.names, name)
	m.d.drop(n)
	return fuse.OK
}

// drop lets go of an inode that nobody knows any more. (A power cut may bring it back: the folders' other state holds it then.)
func (d *Disk) drop(n *inode) {
	if n.known == 0 && !d.named(n) {
		d.used -= int64(len(n.seen.data))
		delete(d.nodes, n.number)
	}
}

func (m *mount) Rename(_ <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	dir, done, st := m.on(in.NodeId)
	if st != fuse.OK {
		return st
	}
	defer done()
	next, n := m.d.nodes[in.Newdir], dir.seen.names[from]
	if next == nil || n == nil {
		return fuse.ENOENT
	}
	const noReplace = 1 // RENAME_NOREPLACE
	old := next.seen.names[to]
	switch {
	case in.Flags&^noReplace != 0:
		return fuse.EINVAL
	case in.Flags&noReplace != 0 && old != nil:
		return fuse.Status(syscall.EEXIST)
	case old == n:
		return fuse.OK
	case old != nil && len(old.seen.names) > 0:
		return fuse.Status(syscall.ENOTEMPTY)
	}
	delete(dir.seen.names, from)
	next.seen.names[to] = n
	if old != nil {
		m.d.drop(old)
	}
	return fuse.OK
}

func (m *mount) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n, done, st := m.on(in.NodeId)
	if st != fuse.OK {
		return st
	}
	defer done()
	out.OpenFlags = fuse.FOPEN_DIRECT_IO
	if in.Flags&syscall.O_TRUNC != 0 {
		return fuse.Status(m.d.resize(n, 0))
	}
	return fuse.OK
}

func (m *mount) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	n, done, st := m.on(in.NodeId)
	if st != fuse.OK {
		return nil, st
	}
	defer done()
	from := min(int64(in.Offset), int64(len(n.seen.data)))
	return fuse.ReadResultData(buf[:copy(buf, n.seen.data[from:])]), fuse.OK
}

func (m *mount) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	n, done, st := m.on(in.NodeId)
	if st != fuse.OK {
		return 0, st
	}
	defer done()
	if err := m.d.write(n, data, int64(in.Offset)); err != 0 {
		return 0, fuse.Status(err)
	}
	return uint32(len(data)), fuse.OK
}

func (m *mount) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	n, done, st := m.on(in.NodeId)
	if st != fuse.OK {
		return st
	}
	defer done()
	const keepSize = 1 // FALLOC_FL_KEEP_SIZE
	switch in.Mode {
	case 0:
		return fuse.Status(m.d.resize(n, max(int64(in.Offset+in.Length), int64(len(n.seen.data)))))
	case keepSize:
		return fuse.OK
	}
	return fuse.Status(syscall.EOPNOTSUPP)
}

func (m *mount) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	n, done, st := m.on(in.NodeId)
	if st != fuse.OK {
		return st
	}
	done() // it may take its time
	return fuse.Status(m.d.sync(n))
}

func (m *mount) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return m.Fsync(cancel, in)
}

func (m *mount) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

func (m *mount) Access(<-chan struct{}, *fuse.AccessIn) fuse.Status { return fuse.OK }

func (m *mount) OpenDir(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.OK }

func (m *mount) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	dir, done, st := m.on(in.NodeId)
	if st != fuse.OK {
		return st
	}
	defer done()
	// In the order of their numbers, which is the place to go on from: names that come and go meanwhile disturb nobody else's.
	type named struct {
		name string
		n    *inode
	}
	var all []named
	for name, n := range dir.seen.names {
		if n.number > in.Offset {
			all = append(all, named{name, n})
		}
	}
	slices.SortFunc(all, func(a, b named) int { return int(int64(a.n.number) - int64(b.n.number)) })
	for _, e := range all {
		if !out.AddDirEntry(fuse.DirEntry{Name: e.name, Mode: e.n.mode, Ino: e.n.number, Off: e.n.number}) {
			break
		}
	}
	return fuse.OK
}

func (m *mount) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	m.d.mu.Lock()
	defer m.d.mu.Unlock()
	const block = 4096
	free := uint64(max(m.d.o.Size-m.d.used, 0)) / block
	*out = fuse.StatfsOut{Blocks: uint64(m.d.o.Size) / block, Bfree: free, Bavail: free, Files: 1 << 20, Ffree: 1 << 20, Bsize: block, NameLen: 255, Frsize: block}
	return fuse.OK
}
