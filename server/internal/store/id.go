package store

import (
	crand "crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"

	"github.com/google/uuid"
)

// ID is an ack id: a UUID. Those that a store makes are of version 4. Its first four bytes are a slot number, which finds the lease without a map.
type ID [16]byte

// ParseID reads the 36-character form, in upper or lower case, of a UUID of any version.
func ParseID(s []byte) (id ID, ok bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return ID{}, false
	}
	var digits [32]byte
	n := copy(digits[:], s[:8])
	n += copy(digits[n:], s[9:13])
	n += copy(digits[n:], s[14:18])
	n += copy(digits[n:], s[19:23])
	copy(digits[n:], s[24:])
	if _, err := hex.Decode(id[:], digits[:]); err != nil {
		return ID{}, false
	}
	return id, true
}

// IsVersion4 reports whether the UUID is of version 4 and of the variant of RFC 4122.
func (id ID) IsVersion4() bool { return id[6]>>4 == 4 && id[8]>>6 == 2 }

// Append appends the 36-character form in lower case.
func (id ID) Append(dst []byte) []byte {
	dst = hex.AppendEncode(dst, id[:4])
	dst = hex.AppendEncode(append(dst, '-'), id[4:6])
	dst = hex.AppendEncode(append(dst, '-'), id[6:8])
	dst = hex.AppendEncode(append(dst, '-'), id[8:10])
	return hex.AppendEncode(append(dst, '-'), id[10:])
}

func (id ID) String() string { return string(id.Append(make([]byte, 0, 36))) }

// IsZero reports whether id is the zero ID, which no lease has.
func (id ID) IsZero() bool { return id == ID{} }

func (id ID) slot() uint32 { return binary.BigEndian.Uint32(id[:4]) }

// idSource makes ids. It is seeded by the system once, so that an id takes no system call. Copies share their state,
// which the stream's lock guards.
type idSource struct{ r *rand.ChaCha8 }

func newIDSource() idSource {
	var seed [32]byte
	// Read never fails: since Go 1.24 the program ends instead.
	_, _ = crand.Read(seed[:])
	return idSource{rand.NewChaCha8(seed)}
}

func (s idSource) next() (id ID) {
	binary.BigEndian.PutUint64(id[:8], s.r.Uint64())
	binary.BigEndian.PutUint64(id[8:], s.r.Uint64())
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

func (s idSource) forSlot(slot uint32) ID {
	id := s.next()
	binary.BigEndian.PutUint32(id[:4], slot)
	return id
}

// newUUID returns an id for a stream or a consumer.
func newUUID() string { return uuid.NewString() }
