// Package binary encodes the bodies of records and snapshots: unsigned and zigzag varints, fixed integers, and strings with
// their length. Append functions cannot fail. A Reader remembers the first error, so that a caller checks it once.
package binary

import (
	"encoding/binary"
	"errors"
)

// ErrShort is the error of a Reader whose bytes end early or do not make sense.
var ErrShort = errors.New("a record's body ends early")

// MaxVarint is the size of the largest varint.
const MaxVarint = binary.MaxVarintLen64

// AppendUint appends a varint.
func AppendUint(dst []byte, v uint64) []byte { return binary.AppendUvarint(dst, v) }

// AppendInt appends a zigzag varint.
func AppendInt(dst []byte, v int64) []byte { return binary.AppendVarint(dst, v) }

// AppendFixed appends 8 bytes.
func AppendFixed(dst []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(dst, v) }

// AppendString appends a length and the bytes of s.
func AppendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// AppendBool appends one byte.
func AppendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// AppendSeqs appends ascending or descending numbers as a count and their differences.
func AppendSeqs(dst []byte, seqs []int64) []byte {
	dst = AppendUint(dst, uint64(len(seqs)))
	var last int64
	for _, seq := range seqs {
		dst = AppendInt(dst, seq-last)
		last = seq
	}
	return dst
}

// Reader reads what the Append functions wrote. After an error every method returns a zero value.
type Reader struct {
	b   []byte
	err error
}

// NewReader returns a Reader of b. It keeps b.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Err returns ErrShort when a read has failed.
func (r *Reader) Err() error { return r.err }

// Rest returns the bytes that are not read yet.
func (r *Reader) Rest() []byte { return r.b }

func (r *Reader) fail() { r.b, r.err = nil, ErrShort }

// Uint reads a varint.
func (r *Reader) Uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// Int reads a zigzag varint.
func (r *Reader) Int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// Fixed reads 8 bytes.
func (r *Reader) Fixed() uint64 {
	if len(r.b) < 8 {
		r.fail()
		return 0
	}
	v := binary.LittleEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}

// Byte reads one byte.
func (r *Reader) Byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

// Bool reads one byte.
func (r *Reader) Bool() bool { return r.Byte() != 0 }

// Bytes reads n bytes. They are part of the Reader's.
func (r *Reader) Bytes(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail()
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// Text reads a length and that many bytes. They are part of the Reader's.
func (r *Reader) Text() []byte {
	n := r.Uint()
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	return r.Bytes(int(n))
}

// String reads a length and copies that many bytes.
func (r *Reader) String() string { return string(r.Text()) }

// Count reads a number of things that take at least size bytes each. It fails when the bytes that are left cannot hold
// them, so that a damaged count allocates nothing.
func (r *Reader) Count(size int) int {
	n := r.Uint()
	if n > uint64(len(r.b)/size) {
		r.fail()
		return 0
	}
	return int(n)
}

// Seqs reads what AppendSeqs wrote.
func (r *Reader) Seqs() []int64 {
	n := r.Count(1)
	if n == 0 {
		return nil
	}
	seqs := make([]int64, n)
	var last int64
	for i := range seqs {
		last += r.Int()
		seqs[i] = last
	}
	return seqs
}
