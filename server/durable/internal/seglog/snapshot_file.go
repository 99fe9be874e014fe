package seglog

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/sequin-go/sequin/server/durable/internal/vfs"
	"github.com/sequin-go/sequin/server/internal/store"
)

// A snapshot's file starts with a header of snapshotHeader bytes, which is written last. Blocks follow, each with its length
// u32, the CRC-32C of the id of the store and the data u32, and the data. The first block lists the segments that were
// removed. The others are the caller's.
//
//	magic    [8]byte
//	version  u32   see snapshotVersion
//	store    [16]byte
//	from     u64   where replay starts
//	until    u64   everything below was synced before the snapshot got its name
//	size     u64   of the file
//	opening  u32
//	crc      u32   of the bytes before it
const (
	// snapshotVersion is the version of the snapshots that are written. With each the caller may add what a program of an earlier
	// one would leave out without an error, in the snapshot or in the records below it, so that such a program has to refuse
	// it. All are read.
	snapshotVersion = 3
	oldestSnapshot  = 1

	snapshotHeader = 8 + 4 + 16 + 8 + 8 + 8 + 4 + 4
	snapshotBlock  = 64 << 10 // data of a block, at most
	snapshotMagic  = "seqinsnp"
	snapshotPrefix = "snap-"
	snapshotNew    = ".new" // the end of the name until the snapshot is complete
	snapshotsKept  = 2
)

// snapshotHead is what a snapshot's header says.
type snapshotHead struct {
	store   [16]byte
	from    Pos
	until   Pos
	size    int64
	opening uint32
}

func (h snapshotHead) name() string { return fmt.Sprintf("%s%016x", snapshotPrefix, uint64(h.from)) }

func (h snapshotHead) encode() []byte {
	b := make([]byte, 0, snapshotHeader)
	b = append(b, snapshotMagic...)
	b = binary.LittleEndian.AppendUint32(b, snapshotVersion)
	b = append(b, h.store[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.from))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.until))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.size))
	b = binary.LittleEndian.AppendUint32(b, h.opening)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeSnapshotHead reads a header. It returns errBad for bytes that are none, and a *store.VersionError for the header of
// a version that is not read.
func decodeSnapshotHead(b []byte) (h snapshotHead, err error) {
	if len(b) < snapshotHeader || string(b[:8]) != snapshotMagic {
		return h, errBad
	}
	if crc32.Checksum(b[:snapshotHeader-4], castagnoli) != binary.LittleEndian.Uint32(b[snapshotHeader-4:]) {
		return h, errBad
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v < oldestSnapshot || v > snapshotVersion {
		return h, &store.VersionError{Found: int(v), Known: snapshotVersion}
	}
	copy(h.store[:], b[12:])
	h.from = Pos(binary.LittleEndian.Uint64(b[28:]))
	h.until = Pos(binary.LittleEndian.Uint64(b[36:]))
	h.size = int64(binary.LittleEndian.Uint64(b[44:]))
	h.opening = binary.LittleEndian.Uint32(b[52:])
	return h, nil
}

// blockWriter writes the blocks of a snapshot.
type blockWriter struct {
	file vfs.File
	seed seed
	at   int64
	buf  []byte
}

// Write writes b as blocks.
func (w *blockWriter) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		data := b[:min(len(b), snapshotBlock)]
		w.buf = binary.LittleEndian.AppendUint32(w.buf[:0], uint32(len(data)))
		w.buf = binary.LittleEndian.AppendUint32(w.buf, w.seed.checksum(data))
		w.buf = append(w.buf, data...)
		if _, err := w.file.WriteAt(w.buf, w.at); err != nil {
			return n, err
		}
		w.at += int64(len(w.buf))
		b, n = b[len(data):], n+len(data)
	}
	return n, nil
}

// buffered collects what is written into large blocks.
func (w *blockWriter) buffered() *bufio.Writer { return bufio.NewWriterSize(w, snapshotBlock) }

// blockReader reads the blocks of a snapshot. A block that is not what was written is a *store.DamagedError.
type blockReader struct {
	file vfs.File
	name string
	seed seed
	at   int64
	end  int64
	buf  [snapshotBlock]byte
	rest []byte
}

func (r *blockReader) Read(b []byte) (int, error) {
	if len(r.rest) == 0 {
		data, err := r.next()
		if err != nil {
			return 0, err
		}
		r.rest = data
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// next returns the data of the next block, or io.EOF.
func (r *blockReader) next() ([]byte, error) {
	if r.at == r.end {
		return nil, io.EOF
	}
	bad := &store.DamagedError{File: r.name, Offset: r.at}
	var head [8]byte
	if b, err := readAt(r.file, head[:], r.at); err != nil || len(b) < len(head) {
		return nil, cmpErr(err, bad)
	}
	length := int64(binary.LittleEndian.Uint32(head[:]))
	if length == 0 || length > snapshotBlock || r.at+int64(len(head))+length > r.end {
		return nil, bad
	}
	data, err := readAt(r.file, r.buf[:length], r.at+int64(len(head)))
	if err != nil || int64(len(data)) < length || r.seed.checksum(data) != binary.LittleEndian.Uint32(head[4:]) {
		return nil, cmpErr(err, bad)
	}
	r.at += int64(len(head)) + length
	return data, nil
}

// cmpErr returns err, or other when err is nil.
func cmpErr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// verify reads all blocks.
func (r *blockReader) verify() error {
	for {
		if _, err := r.next(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}
