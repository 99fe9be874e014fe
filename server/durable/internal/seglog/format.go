package seglog

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"

	"github.com/sequin-go/sequin/server/durable/internal/vfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

// The names of the files besides segments and snapshots.
const (
	formatFile    = "FORMAT"
	formatNew     = "FORMAT.new"
	lockFile      = "lock"
	spareFile     = "spare"
	spareNew      = "spare.new"
	largestFormat = 4 << 10 // bytes of FORMAT; a longer file is damaged
)

// format is the content of the file FORMAT. Later versions keep these three fields.
type format struct {
	Format int    `json:"format"`
	Store  string `json:"store"` // 32 hexadecimal digits
	Check  uint32 `json:"check"` // CRC-32C of the other fields
}

func (f format) check() uint32 {
	return crc32.Checksum(fmt.Appendf(nil, "%d %s", f.Format, f.Store), castagnoli)
}

func (f format) encode() []byte {
	return fmt.Appendf(nil, `{"format":%d,"store":%q,"check":%d}`+"\n", f.Format, f.Store, f.Check)
}

// readFormat returns the id of the store. It returns fs.ErrNotExist when there is no FORMAT.
func (l *Log) readFormat() (id [16]byte, err error) {
	file, err := l.o.FS.Open(l.path(formatFile))
	if err != nil {
		return id, err
	}
	defer file.Close()
	b, err := readAt(file, make([]byte, largestFormat), 0)
	if err != nil {
		return id, err
	}
	var f format
	if json.Unmarshal(b, &f) != nil || f.Check != f.check() {
		return id, &store.DamagedError{File: formatFile}
	}
	if f.Format != formatVersion {
		return id, &store.VersionError{Found: f.Format, Known: formatVersion}
	}
	if n, err := hex.Decode(id[:], []byte(f.Store)); err != nil || n != len(id) {
		return id, &store.DamagedError{File: formatFile}
	}
	return id, nil
}

// create makes the files of an empty log. FORMAT comes last: where it is, the first segment was.
func (l *Log) create() error {
	if _, err := rand.Read(l.store[:]); err != nil {
		return err
	}
	head := segmentHead{store: l.store, number: 1, opening: 0, capacity: uint32(l.o.SegmentBytes)}
	if err := l.writeFile(segmentName(1), l.o.SegmentBytes, head.encode()); err != nil {
		return err
	}
	return l.writeFormat()
}

// writeFormat makes the directory that of a log.
func (l *Log) writeFormat() error {
	f := format{Format: formatVersion, Store: hex.EncodeToString(l.store[:])}
	f.Check = f.check()
	if err := l.writeFile(formatNew, 0, f.encode()); err != nil {
		return err
	}
	if err := l.o.FS.Rename(l.path(formatNew), l.path(formatFile)); err != nil {
		return err
	}
	return l.o.FS.SyncDir(l.dir)
}

// writeFile writes a file of that size, or of that of the data, and syncs it and its name.
func (l *Log) writeFile(name string, size int64, data []byte) error {
	f, err := l.o.FS.Create(l.path(name))
	if err != nil {
		return err
	}
	if size > 0 {
		err = f.Allocate(size)
	}
	if err == nil && len(data) > 0 {
		_, err = f.WriteAt(data, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return l.o.FS.SyncDir(l.dir)
}

// openFailure turns an error of the file system at opening into one of the store. A file that is not there is one that the
// others belong to.
func openFailure(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	return diskFailure(err)
}

// diskFailure turns an error of a disk that is full or read-only into one of the store.
func diskFailure(err error) error {
	switch {
	case vfs.IsReadOnly(err):
		return fmt.Errorf("%w: %w", store.ErrReadOnly, err)
	case vfs.IsFull(err):
		return fmt.Errorf("%w: %w", store.ErrDiskFull, err)
	}
	return err
}
