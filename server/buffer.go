package server

import "sync"

// maxPooled keeps the buffers of rare large answers out of the pool. A buffer of this size holds 1,000 messages of 10 KiB,
// or any body.
const maxPooled = 16 << 20

var buffers = sync.Pool{New: func() any { return new([]byte) }}

func getBuffer() *[]byte { return buffers.Get().(*[]byte) }

func putBuffer(b *[]byte) {
	if cap(*b) <= maxPooled {
		*b = (*b)[:0]
		buffers.Put(b)
	}
}
