package seglog

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
)

// A record is a header of recordHeader bytes and a body. Numbers are little endian.
//
//	crc      u32  CRC-32C of the id of the store, the body, and the header behind the crc
//	length   u32  of the body
//	pos      u64  of the record: bytes that were copied to another place are no record there
//	synced   u64  all records below were synced when this one was appended
//	opening  u32
//	stream   u32
//	kind     u8
const recordHeader = 4 + 4 + 8 + 8 + 4 + 4 + 1

// The kinds of the log's own records. Callers see those of KindLost alone.
const (
	kindSeal    byte = MaxKind + 1 + iota // the last of a segment; the body is the number of the next one u32, and the size of its file u32
	kindMark                              // says what is synced when no other record does
	kindRemoved                           // the body lists segments that were removed
	KindLost                              // stands for bytes that Repair could not read
)

// sealSize is the size of a seal. Each segment keeps room for it.
const sealSize = recordHeader + 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seed is the start of each checksum in a store. It makes the records of another store, and bytes in a message that look
// like a record, bad records.
type seed uint32

func seedOf(store [16]byte) seed { return seed(crc32.Checksum(store[:], castagnoli)) }

// checksum computes what can be computed of a record's checksum before its position is known.
func (s seed) checksum(body []byte) uint32 { return crc32.Update(uint32(s), castagnoli, body) }

// header is what a record has besides its body.
type header struct {
	pos     Pos
	synced  Pos
	opening uint32
	stream  uint32
	kind    byte
}

// appendRecord appends the record to b. sum is what checksum returned for the body.
func appendRecord(b []byte, h header, body []byte, sum uint32) []byte {
	var head [recordHeader]byte
	binary.LittleEndian.PutUint32(head[4:], uint32(len(body)))
	binary.LittleEndian.PutUint64(head[8:], uint64(h.pos))
	binary.LittleEndian.PutUint64(head[16:], uint64(h.synced))
	binary.LittleEndian.PutUint32(head[24:], h.opening)
	binary.LittleEndian.PutUint32(head[28:], h.stream)
	head[32] = h.kind
	binary.LittleEndian.PutUint32(head[:], crc32.Update(sum, castagnoli, head[4:]))
	return append(append(b, head[:]...), body...)
}

var (
	errCut = errors.New("the record goes on behind the bytes that were read")
	errBad = errors.New("not a record")
)

// frame is a record as it stands in a file.
type frame struct {
	header
	body []byte
	size int64
}

// decode reads the record at pos, which starts with the first byte of b. It returns errCut with the size of the record
// when b has too few bytes for it, and errBad when these are not the bytes of a record at pos.
func (s seed) decode(b []byte, pos Pos) (frame, error) {
	if len(b) < recordHeader {
		return frame{size: recordHeader}, errCut
	}
	length := binary.LittleEndian.Uint32(b[4:])
	f := frame{size: recordHeader + int64(length)}
	f.pos = Pos(binary.LittleEndian.Uint64(b[8:]))
	if f.pos != pos || length > MaxBody || pos.Offset()+f.size > math.MaxUint32 {
		return frame{}, errBad
	}
	if int64(len(b)) < f.size {
		return frame{size: f.size}, errCut
	}
	f.body = b[recordHeader:f.size]
	if crc32.Update(s.checksum(f.body), castagnoli, b[4:recordHeader]) != binary.LittleEndian.Uint32(b) {
		return frame{}, errBad
	}
	f.synced = Pos(binary.LittleEndian.Uint64(b[16:]))
	f.opening = binary.LittleEndian.Uint32(b[24:])
	f.stream = binary.LittleEndian.Uint32(b[28:])
	f.kind = b[32]
	return f, nil
}

// record is the frame as callers see it.
func (f frame) record() Record {
	return Record{Pos: f.pos, End: f.pos + Pos(f.size), Kind: f.kind, Stream: f.stream, Opening: f.opening, Body: f.body}
}

// own reports whether the record is one of the log's own, which callers do not see.
func (f frame) own() bool { return f.kind > MaxKind && f.kind != KindLost }

// sealBody is the body of a seal before the segment with that number, whose file has at least that size.
func sealBody(next uint32, size int64) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, next), uint32(size))
}

// sealedBy returns the number of the segment that follows a seal, and the size that its file has at least.
func sealedBy(f frame) (number uint32, size int64) {
	if len(f.body) < 8 {
		return 0, 0
	}
	return binary.LittleEndian.Uint32(f.body), int64(binary.LittleEndian.Uint32(f.body[4:]))
}
