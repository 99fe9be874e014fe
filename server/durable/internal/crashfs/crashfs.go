// Package crashfs is a file system in memory for tests. It knows which bytes and names were synced, so that Crash can make
// the file system that a loss of power leaves. A hook sees every change before it is made, and can let it fail.
package crashfs

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/sequin-go/sequin/server/durable/internal/vfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

// FS is a file system in memory. Its methods may be called concurrently. This file takes its lock.
type FS struct {
	hooking  chan struct{} // has room for one, whose hook runs; a channel, so that those who wait are blocked for synctest
	mu       sync.Mutex
	names    map[string]*node
	synced   map[string]*node // what is found under each name after a loss of power
	pending  []change         // of names, since the last SyncDir
	locks    map[string]bool
	hook     func(Op) error
	gate     func(Op)
	capacity int64 // 0 is unlimited
}

var _ vfs.FS = (*FS)(nil)

// New returns an empty file system.
func New() *FS {
	return &FS{hooking: make(chan struct{}, 1), names: map[string]*node{}, synced: map[string]*node{}, locks: map[string]bool{}}
}

// SetHook makes hook see every change before it is made. The change fails with the error of hook. Hook runs for one
// change at a time. It may call Crash.
func (f *FS) SetHook(hook func(Op) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

// SetGate makes gate see every change before the hook does. It runs for several changes at the same time, so that it may
// hold one back while others are made.
func (f *FS) SetGate(gate func(Op)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gate = gate
}

// SetCapacity limits the bytes of all files together; 0 is no limit.
func (f *FS) SetCapacity(bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.capacity = bytes
}

// Crash returns the file system that a loss of power leaves. Each sector that was not synced is kept with the probability
// keep, and so is each change of names, unless an earlier one is lost. With 1 everything is kept, as after the end of the
// process alone. f stays as it is.
func (f *FS) Crash(keep float64, random *rand.Rand) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	kept := 0
	for kept < len(f.pending) && random.Float64() < keep {
		kept++
	}
	names := maps.Clone(f.synced)
	for _, c := range f.pending[:kept] {
		c.apply(names)
	}
	after, nodes := New(), map[*node]*node{}
	after.capacity = f.capacity
	for _, name := range slices.Sorted(maps.Keys(names)) {
		n := names[name]
		if nodes[n] == nil {
			nodes[n] = n.crash(keep, random)
		}
		after.names[name], after.synced[name] = nodes[n], nodes[n]
	}
	return after
}

// Edit replaces the contents of a file by what edit returns. They are synced.
func (f *FS) Edit(name string, edit func([]byte) []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.names[filepath.Clean(name)]
	n.data = edit(slices.Clone(n.data))
	n.synced, n.dirty = slices.Clone(n.data), map[int64]bool{}
}

// begin lets the hook see a change, and takes the lock, also when it returns an error.
func (f *FS) begin(op Op) error {
	f.mu.Lock()
	gate := f.gate
	f.mu.Unlock()
	if gate != nil {
		gate(op)
	}
	f.mu.Lock()
	hook := f.hook
	f.mu.Unlock()
	var err error
	if hook != nil {
		f.hooking <- struct{}{}
		err = hook(op)
		<-f.hooking
	}
	f.mu.Lock()
	if err != nil {
		return &fs.PathError{Op: string(op.Kind), Path: op.Name, Err: err}
	}
	return nil
}

func (f *FS) rename(c change) {
	c.apply(f.names)
	f.pending = append(f.pending, c)
}

// MkdirAll does nothing: every directory exists.
func (f *FS) MkdirAll(string) error { return nil }

func (f *FS) List(dir string) (infos []vfs.Info, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(f.names)) {
		if filepath.Dir(name) == filepath.Clean(dir) {
			infos = append(infos, vfs.Info{Name: filepath.Base(name), Size: int64(len(f.names[name].data))})
		}
	}
	return infos, nil
}

func (f *FS) SyncDir(dir string) error {
	defer f.mu.Unlock()
	if err := f.begin(Op{Kind: SyncDir, Name: dir}); err != nil {
		return err
	}
	for _, c := range f.pending {
		c.apply(f.synced)
	}
	f.pending = nil
	return nil
}

func (f *FS) Space(string) (free, total int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.capacity == 0 {
		return 1 << 40, 1 << 41, nil
	}
	return f.capacity - f.used(), f.capacity, nil
}

func (f *FS) used() (sum int64) {
	for _, n := range f.names {
		sum += int64(len(n.data))
	}
	return sum
}

func (f *FS) Create(name string) (vfs.File, error) {
	name = filepath.Clean(name)
	defer f.mu.Unlock()
	if err := f.begin(Op{Kind: Create, Name: name}); err != nil {
		return nil, err
	}
	if f.names[name] == nil {
		f.rename(change{name: name, node: newNode()})
	}
	f.names[name].resize(0)
	return &file{fs: f, name: name, node: f.names[name], writes: true}, nil
}

func (f *FS) Open(name string) (vfs.File, error) { return f.open(name, false) }

func (f *FS) OpenWrite(name string) (vfs.File, error) { return f.open(name, true) }

func (f *FS) open(name string, writes bool) (vfs.File, error) {
	name = filepath.Clean(name)
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.names[name]
	if n == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &file{fs: f, name: name, node: n, writes: writes}, nil
}

func (f *FS) Rename(from, to string) error {
	from, to = filepath.Clean(from), filepath.Clean(to)
	return f.change(Rename, to, func() (change, error) {
		if f.names[from] == nil {
			return change{}, fs.ErrNotExist
		}
		return change{name: to, node: f.names[from], also: from}, nil
	})
}

func (f *FS) Link(from, to string) error {
	from, to = filepath.Clean(from), filepath.Clean(to)
	return f.change(Link, to, func() (change, error) {
		switch {
		case f.names[from] == nil:
			return change{}, fs.ErrNotExist
		case f.names[to] != nil:
			return change{}, fs.ErrExist
		}
		return change{name: to, node: f.names[from]}, nil
	})
}

func (f *FS) Remove(name string) error {
	name = filepath.Clean(name)
	return f.change(Remove, name, func() (change, error) {
		if f.names[name] == nil {
			return change{}, fs.ErrNotExist
		}
		return change{name: name}, nil
	})
}

// change changes a name.
func (f *FS) change(kind Kind, name string, plan func() (change, error)) error {
	defer f.mu.Unlock()
	if err := f.begin(Op{Kind: kind, Name: name}); err != nil {
		return err
	}
	c, err := plan()
	if err != nil {
		return &fs.PathError{Op: string(kind), Path: name, Err: err}
	}
	f.rename(c)
	return nil
}

func (f *FS) Lock(name string) (io.Closer, error) {
	name = filepath.Clean(name)
	defer f.mu.Unlock()
	if err := f.begin(Op{Kind: Lock, Name: name}); err != nil {
		return nil, err
	}
	if f.locks[name] {
		return nil, &store.LockedError{PID: os.Getpid()}
	}
	f.locks[name] = true
	if f.names[name] == nil {
		f.rename(change{name: name, node: newNode()})
	}
	return unlocker{f, name}, nil
}

type unlocker struct {
	fs   *FS
	name string
}

func (u unlocker) Close() error {
	u.fs.mu.Lock()
	defer u.fs.mu.Unlock()
	delete(u.fs.locks, u.name)
	return nil
}

// file is an open file.
type file struct {
	fs     *FS
	name   string
	node   *node
	writes bool
	closed bool
}

// begin is that of FS, for a file that must be open for writing.
func (f *file) begin(op Op) error {
	op.Name = f.name
	err := f.fs.begin(op)
	if f.closed {
		return &fs.PathError{Op: string(op.Kind), Path: f.name, Err: fs.ErrClosed}
	}
	if !f.writes {
		return &fs.PathError{Op: string(op.Kind), Path: f.name, Err: fs.ErrPermission}
	}
	return err
}

func (f *file) ReadAt(b []byte, at int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: fs.ErrClosed}
	}
	n := copy(b, f.node.data[min(at, int64(len(f.node.data))):])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(b []byte, at int64) (int, error) {
	defer f.fs.mu.Unlock()
	err := f.begin(Op{Kind: Write, Offset: at, Size: int64(len(b))})
	if short := (*Short)(nil); errors.As(err, &short) {
		b = b[:min(short.N, len(b))]
	} else if err != nil {
		return 0, err
	}
	if full := f.grow(at + int64(len(b))); full != nil {
		return 0, full
	}
	copy(f.node.data[at:], b)
	f.node.touch(at, at+int64(len(b)))
	return len(b), err
}

// grow makes the file at least size bytes long.
func (f *file) grow(size int64) error {
	more := size - int64(len(f.node.data))
	if more <= 0 {
		return nil
	}
	if f.fs.capacity > 0 && f.fs.used()+more > f.fs.capacity {
		return &fs.PathError{Op: "write", Path: f.name, Err: vfs.ErrNoSpace}
	}
	f.node.resize(size)
	return nil
}

func (f *file) Allocate(size int64) error {
	defer f.fs.mu.Unlock()
	if err := f.begin(Op{Kind: Allocate, Size: size}); err != nil {
		return err
	}
	return f.grow(size)
}

func (f *file) Truncate(size int64) error {
	defer f.fs.mu.Unlock()
	if err := f.begin(Op{Kind: Truncate, Size: size}); err != nil {
		return err
	}
	f.node.resize(size)
	return nil
}

func (f *file) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.node.data)), nil
}

func (f *file) Sync() error {
	defer f.fs.mu.Unlock()
	if err := f.begin(Op{Kind: Sync}); err != nil {
		return err
	}
	f.node.sync()
	return nil
}

func (f *file) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.closed = true
	return nil
}
