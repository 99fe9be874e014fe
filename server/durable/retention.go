package durable

import (
	"fmt"

	"github.com/sequin-go/sequin/server/durable/internal/keyindex"
	"github.com/sequin-go/sequin/server/internal/store"
)

// Retention drops the oldest messages. MaxBytes drops them before a send, but none once only RetainAtLeast are left, and
// none of the send itself: then the stream is full. RetainUpTo drops them after the send.

// planTrim decides what a send to a stream that appends drops. It sets needs when it has to know the size of a message that
// has to be read.
func (p *sending) planTrim(r *sendRecord) error {
	s, o := p.s, &p.s.options
	first, count := s.first, int64(s.messages()+r.count)
	bytes := s.appended.bytes + p.bytes
	drop := func() (ok bool) {
		size, ok := p.size(first)
		if ok {
			count--
			bytes -= size
			r.trimBytes += size
			first = s.appended.holes.behind(first + 1)
		}
		return ok
	}
	for o.MaxBytes > 0 && bytes > o.MaxBytes {
		if first > s.last || count <= int64(o.RetainAtLeast) {
			return store.ErrFull
		}
		if !drop() {
			p.needs = first
			return nil
		}
	}
	for o.RetainUpTo > 0 && count > int64(o.RetainUpTo) {
		if !drop() {
			p.needs = first
			return nil
		}
	}
	if first > s.first {
		r.trim = first
	}
	return nil
}

// size returns the size of a message of the stream or of the send.
func (p *sending) size(seq int64) (int64, bool) {
	if i := seq - p.s.last - 1; i >= 0 {
		return p.messages[i].Size(), true
	}
	return p.s.appended.sizes.at(seq)
}

// noteSizes keeps the sizes of messages that are about to be stored, so that retention need not read them.
func (s *stream) noteSizes(first int64, messages []store.Message) {
	if s.options.MaxBytes == 0 && s.options.RetainUpTo == 0 {
		return
	}
	for i := range messages {
		if !s.appended.sizes.add(first+int64(i), messages[i].Size()) {
			return
		}
	}
}

// readSizes reads the sizes of the oldest messages from a seq on. One that a repair could not save has none.
func (s *stream) readSizes(from int64) error {
	read := sizes{first: from}
	err := s.scan(from, func(m *rawMessage) bool {
		for read.next() < m.seq && read.add(read.next(), 0) {
		}
		return read.add(m.seq, m.size()) && len(read.list) < sizesAtOnce
	})
	if err != nil {
		return err
	}
	return s.locked(func() error {
		if len(read.list) == 0 {
			for read.next() <= s.last && read.add(read.next(), 0) {
			}
		}
		z := &s.appended.sizes
		if z.next() != read.first || len(z.list) >= maxSizes {
			*z = read
		} else {
			z.list = append(z.list, read.list...)
		}
		z.trim(s.first)
		return nil
	})
}

// sizesAtOnce is how many sizes are read at once.
const sizesAtOnce = 4096

// planTrimKeyed decides what a send to a stream with one message per key drops. The messages that it replaces are gone by
// then.
func (s *stream) planTrimKeyed(r *sendRecord) error {
	o := &s.options
	count, bytes := s.keyed.index.Len(), s.keyed.index.Bytes()
	replaced := make(map[int64]bool, len(r.sums))
	for i := range r.sums {
		if old := s.keyed.index.Find(keyindex.Hash(r.sums[i].key)); old != nil {
			replaced[old.Seq] = true
			count--
			bytes -= int64(old.Size)
		}
		count++
		bytes += int64(r.sums[i].size)
	}
	if err := s.store.roomForKeys(int64(len(r.sums) - len(replaced))); err != nil {
		return err
	}
	tooLarge := o.MaxBytes > 0 && bytes > o.MaxBytes
	if tooLarge || o.RetainUpTo > 0 && count > o.RetainUpTo {
		s.keyed.index.Ascend(0, func(e *keyindex.Entry) bool {
			if replaced[e.Seq] {
				return true
			}
			if tooLarge = o.MaxBytes > 0 && bytes > o.MaxBytes; tooLarge && count <= o.RetainAtLeast {
				return false
			}
			if !tooLarge && (o.RetainUpTo == 0 || count <= o.RetainUpTo) {
				return false
			}
			count--
			bytes -= int64(e.Size)
			r.trim = e.Seq + 1
			return true
		})
	}
	if o.MaxBytes > 0 && bytes > o.MaxBytes {
		return store.ErrFull
	}
	// RetainUpTo may drop messages of the send itself.
	if over := int64(count - o.RetainUpTo); o.RetainUpTo > 0 && over > 0 {
		r.trim = r.first + over
	}
	return nil
}

// roomForKeys returns an error when there is no memory for more keys.
func (st *Store) roomForKeys(more int64) error {
	if keys := st.keys.Load() + more; more > 0 && keys*bytesPerKey > st.options.MaxKeyBytes {
		return fmt.Errorf("%w: the index of %d keys would exceed the limit of %d bytes", store.ErrFull, keys, st.options.MaxKeyBytes)
	}
	return nil
}

// bytesPerKey is what a key takes in an index without holes.
const bytesPerKey = 80
