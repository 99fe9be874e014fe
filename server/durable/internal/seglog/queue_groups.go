package seglog

import (
	"github.com/sequin-go/sequin/server/internal/store"
)

// The methods of this file are called with the lock of the queue.

// maxKept is the size of the largest buffer that is kept for a later group.
const maxKept = 8 << 20

// place makes the end of the queue a place with room for a record of that size. It seals the segment when that has none.
func (q *queue) place(size int64) {
	fits := q.end.Offset()+size+sealSize <= int64(q.head.capacity)
	if q.sealed == 0 && q.skip <= q.head.number && fits {
		return
	}
	for {
		if q.sealed == 0 {
			q.seal(max(q.head.number+1, q.skip))
		}
		q.startSegment(size)
		if q.skip <= q.head.number {
			return
		}
	}
}

// seal appends the last record of the segment.
func (q *queue) seal(next uint32) {
	body := sealBody(next, q.size)
	q.add(kindSeal, 0, body, q.seed.checksum(body))
	q.groups[len(q.groups)-1].next = next
	q.sealed = next
}

// startSegment appends the header of the next segment, which gets room for a record of that size.
func (q *queue) startSegment(size int64) {
	h := segmentHead{
		store:    q.store,
		number:   q.sealed,
		opening:  q.opening,
		capacity: uint32(max(q.size, segmentHeader+size+sealSize)),
		previous: q.head.number,
		end:      uint32(q.end.Offset()),
		chain:    q.head.crc,
	}
	g := &group{segment: h.number, data: append(q.buffer(), h.encode()...), length: segmentHeader, head: &h}
	q.groups = append(q.groups, g)
	q.queued += segmentHeader
	q.head, q.sealed, q.end = h, 0, position(h.number, segmentHeader)
}

// add appends a record to the newest group, or to a new one if the writer has that.
func (q *queue) add(kind byte, stream uint32, body []byte, sum uint32) Pos {
	if len(q.groups) == 0 {
		q.signal()
	}
	n := len(q.groups)
	if n == 0 || q.groups[n-1] == q.taken || q.groups[n-1].next != 0 || q.groups[n-1].mark {
		q.groups = append(q.groups, &group{segment: q.end.Segment(), offset: q.end.Offset(), data: q.buffer()})
	}
	g, pos := q.groups[len(q.groups)-1], q.end
	h := header{pos: pos, synced: Pos(q.durable.Load()), opening: q.opening, stream: stream, kind: kind}
	g.data = appendRecord(g.data, h, body, sum)
	size := int64(len(g.data)) - g.length
	g.records++
	g.length += size
	q.end += Pos(size)
	q.queued += size
	return pos
}

// signal wakes the writer.
func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// refusal returns why nothing can be appended.
func (q *queue) refusal() error {
	if q.err == nil && q.closing {
		return store.ErrClosed
	}
	return withoutDoubt(q.err)
}

func (q *queue) buffer() []byte {
	if n := len(q.buffers); n > 0 {
		b := q.buffers[n-1]
		q.buffers = q.buffers[:n-1]
		return b
	}
	return nil
}

// recycle keeps the buffer of a group that was written. Two are enough: one is written while the other is filled.
func (q *queue) recycle(g *group) {
	if cap(g.data) <= maxKept && len(q.buffers) < 2 {
		q.buffers = append(q.buffers, g.data[:0])
	}
	g.data = nil
}

var closedChan = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// waiting returns the channel that wakeAll closes.
func waiting(c *chan struct{}) <-chan struct{} {
	if *c == nil {
		*c = make(chan struct{})
	}
	return *c
}

// wakeAll wakes everybody who waits on the channel.
func wakeAll(c *chan struct{}) {
	if *c != nil {
		close(*c)
		*c = nil
	}
}
