package seglog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/sequin-go/sequin/server/internal/store"
)

// formatVersion is the version of FORMAT and of the segments that this package reads and writes.
const formatVersion = 1

// segmentMagic are the first bytes of a segment.
const segmentMagic = "seqinseg"

// A segment's file starts with a header of segmentHeader bytes. The rest of it is kept 0 for later versions.
//
//	magic     [8]byte
//	format    u32
//	store     [16]byte
//	number    u32
//	opening   u32       of the process that started the segment
//	capacity  u32       the file had at least this size when it got its header
//	previous  u32       the number of the segment before this one, 0 for the first
//	end       u32       where the records of the segment before this one end
//	chain     u32       the crc of the header before this one
//	…
//	crc       u32       of the bytes before it
const segmentHeader = 64

// segmentHead is what a segment's header says.
type segmentHead struct {
	store    [16]byte
	number   uint32
	opening  uint32
	capacity uint32
	previous uint32
	end      uint32
	chain    uint32
	crc      uint32
}

func (h *segmentHead) encode() []byte {
	b := make([]byte, segmentHeader)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint32(b[8:], formatVersion)
	copy(b[12:], h.store[:])
	for i, n := range []uint32{h.number, h.opening, h.capacity, h.previous, h.end, h.chain} {
		binary.LittleEndian.PutUint32(b[28+4*i:], n)
	}
	h.crc = crc32.Checksum(b[:segmentHeader-4], castagnoli)
	binary.LittleEndian.PutUint32(b[segmentHeader-4:], h.crc)
	return b
}

// decodeSegmentHead reads a header. It returns errBad for bytes that are none, and a *store.VersionError for the header of
// another format.
func decodeSegmentHead(b []byte) (h segmentHead, err error) {
	if len(b) < segmentHeader || string(b[:8]) != segmentMagic {
		return h, errBad
	}
	h.crc = binary.LittleEndian.Uint32(b[segmentHeader-4:])
	if crc32.Checksum(b[:segmentHeader-4], castagnoli) != h.crc {
		return h, errBad
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != formatVersion {
		return h, &store.VersionError{Found: int(v), Known: formatVersion}
	}
	copy(h.store[:], b[12:])
	for i, n := range []*uint32{&h.number, &h.opening, &h.capacity, &h.previous, &h.end, &h.chain} {
		*n = binary.LittleEndian.Uint32(b[28+4*i:])
	}
	return h, nil
}

func segmentName(number uint32) string { return fmt.Sprintf("%08d.seg", number) }

// segmentNumber returns the number in the name of a segment's file, or 0 for the name of another file.
func segmentNumber(name string) uint32 {
	var n uint32
	if _, err := fmt.Sscanf(name, "%d.seg", &n); err != nil || segmentName(n) != name {
		return 0
	}
	return n
}

// damaged is the error for the bytes at pos.
func damaged(pos Pos) error {
	return &store.DamagedError{File: segmentName(pos.Segment()), Offset: pos.Offset(), Position: uint64(pos)}
}
