package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// dirNode and fileNode show a disk's nodes to the kernel.
type dirNode struct {
	fs.Inode
	disk *disk
	dir  *dir
}

type fileNode struct {
	fs.Inode
	disk *disk
	file *file
}

// handle is an open file; synced was opened with O_SYNC or O_DSYNC.
type handle struct{ synced bool }

// mount shows the disk at a path.
func mount(d *disk, path string) (*fuse.Server, error) {
	zero := time.Duration(0)
	o := &fs.Options{EntryTimeout: &zero, AttrTimeout: &zero, NegativeTimeout: &zero}
	o.MountOptions = fuse.MountOptions{DirectMountStrict: true, FsName: "powercut", Name: "powercut", MaxWrite: 1 << 20, DirectMountFlags: syscall.MS_NOSUID | syscall.MS_NODEV}
	server, err := fs.Mount(path, &dirNode{disk: d, dir: d.root}, o)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w (it needs root and /dev/fuse)", path, err)
	}
	return server, nil
}

func stable(n node) fs.StableAttr {
	if _, isDir := n.(*dir); isDir {
		return fs.StableAttr{Mode: fuse.S_IFDIR, Ino: n.number()}
	}
	return fs.StableAttr{Mode: fuse.S_IFREG, Ino: n.number()}
}

// inode is the kernel's handle of a node. The lock must be held.
func (n *dirNode) inode(ctx context.Context, child node, out *fuse.EntryOut) *fs.Inode {
	fill(child, &out.Attr)
	var embedder fs.InodeEmbedder
	switch c := child.(type) {
	case *dir:
		embedder = &dirNode{disk: n.disk, dir: c}
	case *file:
		embedder = &fileNode{disk: n.disk, file: c}
	}
	return n.NewInode(ctx, embedder, stable(child))
}

func fill(n node, a *fuse.Attr) {
	a.Ino, a.Nlink, a.Blksize = n.number(), 1, 4096
	switch c := n.(type) {
	case *dir:
		a.Mode = fuse.S_IFDIR | 0o700
	case *file:
		a.Mode, a.Size = fuse.S_IFREG|0o600, uint64(len(c.live))
		a.Blocks = (a.Size + 511) / 512
	}
}

func (n *dirNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno := n.disk.enter(); errno != 0 {
		return nil, errno
	}
	defer n.disk.mu.Unlock()
	child, ok := n.dir.live[name]
	if !ok {
		return nil, syscall.ENOENT
	}
	return n.inode(ctx, child, out), 0
}

func (n *dirNode) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	if errno := n.disk.enter(); errno != 0 {
		return nil, errno
	}
	defer n.disk.mu.Unlock()
	var list []fuse.DirEntry
	for name, child := range n.dir.live {
		list = append(list, fuse.DirEntry{Name: name, Mode: stable(child).Mode, Ino: child.number()})
	}
	return fs.NewListDirStream(list), 0
}

func (n *dirNode) Mkdir(ctx context.Context, name string, _ uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno := n.disk.enterToChange(); errno != 0 {
		return nil, errno
	}
	defer n.disk.mu.Unlock()
	made := &dir{ino: n.disk.next(), live: map[string]node{}, durable: map[string]node{}}
	n.disk.change(change{dir: n.dir, name: name, node: made})
	return n.inode(ctx, made, out), 0
}

func (n *dirNode) Create(ctx context.Context, name string, flags, _ uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	if errno := n.disk.enterToChange(); errno != 0 {
		return nil, nil, 0, errno
	}
	defer n.disk.mu.Unlock()
	made := &file{ino: n.disk.next()}
	n.disk.change(change{dir: n.dir, name: name, node: made})
	return n.inode(ctx, made, out), opened(flags), 0, 0
}

func (n *dirNode) Unlink(_ context.Context, name string) syscall.Errno { return n.remove(name) }
func (n *dirNode) Rmdir(_ context.Context, name string) syscall.Errno  { return n.remove(name) }

func (n *dirNode) remove(name string) syscall.Errno {
	if errno := n.disk.enterToChange(); errno != 0 {
		return errno
	}
	defer n.disk.mu.Unlock()
	switch c := n.dir.live[name].(type) {
	case nil:
		return syscall.ENOENT
	case *dir:
		if len(c.live) > 0 {
			return syscall.ENOTEMPTY
		}
	case *file:
		n.disk.free += int64(len(c.live))
	}
	n.disk.change(change{dir: n.dir, name: name})
	return 0
}

func (n *dirNode) Rename(_ context.Context, name string, to fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	if flags != 0 {
		return syscall.EINVAL
	}
	if errno := n.disk.enterToChange(); errno != 0 {
		return errno
	}
	defer n.disk.mu.Unlock()
	target, ok := to.(*dirNode)
	if !ok {
		return syscall.EXDEV
	}
	moved, ok := n.dir.live[name]
	if !ok {
		return syscall.ENOENT
	}
	if old, ok := target.dir.live[newName].(*file); ok {
		n.disk.free += int64(len(old.live))
	}
	if target.dir == n.dir {
		n.disk.change(change{dir: n.dir, name: newName, node: moved, old: name})
		return 0
	}
	n.disk.change(change{dir: target.dir, name: newName, node: moved})
	n.disk.change(change{dir: n.dir, name: name})
	return 0
}

func (n *dirNode) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	return attributes(n.disk, n.dir, out)
}

func (n *dirNode) OpendirHandle(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	list, errno := n.Readdir(context.Background())
	if errno != 0 {
		return nil, 0, errno
	}
	return &dirHandle{list, n}, 0, 0
}

// dirHandle is an open directory.
type dirHandle struct {
	fs.DirStream
	node *dirNode
}

func (h *dirHandle) Readdirent(context.Context) (*fuse.DirEntry, syscall.Errno) {
	if !h.HasNext() {
		return nil, 0
	}
	e, errno := h.Next()
	return &e, errno
}

func (h *dirHandle) Fsyncdir(context.Context, uint32) syscall.Errno { return h.node.synced() }

func (n *dirNode) synced() syscall.Errno {
	if errno := n.disk.enterToChange(); errno != 0 {
		return errno
	}
	defer n.disk.mu.Unlock()
	return n.disk.sync(n.dir)
}

func (n *dirNode) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	out.Bsize, out.Frsize, out.NameLen = 4096, 4096, 255
	out.Blocks = uint64(n.disk.rules.size) / 4096
	out.Bfree = uint64(n.disk.free) / 4096
	out.Bavail = out.Bfree
	return 0
}

func opened(flags uint32) *handle { return &handle{flags&(syscall.O_SYNC|syscall.O_DSYNC) != 0} }

func (n *fileNode) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	enter := n.disk.enter
	if flags&(syscall.O_WRONLY|syscall.O_RDWR|syscall.O_TRUNC) != 0 {
		enter = n.disk.enterToChange
	}
	if errno := enter(); errno != 0 {
		return nil, 0, errno
	}
	defer n.disk.mu.Unlock()
	if flags&syscall.O_TRUNC != 0 {
		n.disk.write(n.file, write{truncate: true})
	}
	return opened(flags), 0, 0
}

func (n *fileNode) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if errno := n.disk.enter(); errno != 0 {
		return nil, errno
	}
	defer n.disk.mu.Unlock()
	if off >= int64(len(n.file.live)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(dest[:copy(dest, n.file.live[off:])]), 0
}

func (n *fileNode) Write(_ context.Context, h fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	if errno := n.disk.enterToChange(); errno != 0 {
		return 0, errno
	}
	defer n.disk.mu.Unlock()
	if errno := n.disk.write(n.file, write{at: off, data: append([]byte(nil), data...)}); errno != 0 {
		return 0, errno
	}
	if open, ok := h.(*handle); ok && open.synced {
		if errno := n.disk.sync(n.file); errno != 0 {
			return 0, errno
		}
	}
	return uint32(len(data)), 0
}

func (n *fileNode) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	if errno := n.disk.enterToChange(); errno != 0 {
		return errno
	}
	defer n.disk.mu.Unlock()
	return n.disk.sync(n.file)
}

func (n *fileNode) Flush(context.Context, fs.FileHandle) syscall.Errno { return 0 }

func (n *fileNode) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	return attributes(n.disk, n.file, out)
}

func (n *fileNode) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if errno := n.disk.enterToChange(); errno != 0 {
		return errno
	}
	defer n.disk.mu.Unlock()
	if size, ok := in.GetSize(); ok {
		if errno := n.disk.write(n.file, write{at: int64(size), truncate: true}); errno != 0 {
			return errno
		}
	}
	fill(n.file, &out.Attr)
	return 0
}

func attributes(d *disk, n node, out *fuse.AttrOut) syscall.Errno {
	if errno := d.enter(); errno != 0 {
		return errno
	}
	defer d.mu.Unlock()
	fill(n, &out.Attr)
	return 0
}
