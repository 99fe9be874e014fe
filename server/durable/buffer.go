package durable

import "sync"

// buffer is a byte slice that is used again.
type buffer struct{ bytes []byte }

// maxPooled is the size of the largest buffer that is kept: that of the largest request.
const maxPooled = 8 << 20

type bufferPool struct{ pool sync.Pool }

var buffers = bufferPool{sync.Pool{New: func() any { return &buffer{} }}}

func (p *bufferPool) get() *buffer { return p.pool.Get().(*buffer) }

func (p *bufferPool) put(b *buffer) {
	if cap(b.bytes) <= maxPooled {
		p.pool.Put(b)
	}
}
