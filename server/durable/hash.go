package durable

import (
	"crypto/sha256"
	"unsafe"

	"github.com/sequin-go/sequin/server/internal/backlog"
)

// hash is a 128-bit hash that no one can make two texts for: keys are told apart by it alone.
type hash = [16]byte

func hashOf(s string) (h hash) {
	sum := sha256.Sum256(unsafe.Slice(unsafe.StringData(s), len(s)))
	copy(h[:], sum[:])
	return h
}

func keyHash(key string) backlog.Hash { return backlog.Hash(hashOf(key)) }

// view returns bytes as a string that shares them.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
