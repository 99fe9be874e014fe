package durable

import (
	"slices"
	"sort"

	"github.com/sequin-go/sequin/server/durable/internal/seglog"
)

// indexDistance is how far the messages of a stream may be from the index entry that finds them: a read of one message reads
// at most this much and one record of the log.
const indexDistance = 64 << 10

// appendedLog says where the messages of a stream that appends are. It takes 16 bytes for each 64 KiB of the log.
//
// An entry covers the messages up to that of the next entry. Their records are at its position and behind it, at most
// indexDistance, and in the same segment.
type appendedLog struct {
	entries []indexEntry // by seq
	spans   []span       // by seq
	holes   holes
	missing int64 // messages in holes
	bytes   int64 // of the keys and data of all messages
	sizes   sizes
}

type indexEntry struct {
	first int64
	pos   seglog.Pos
}

// span is the messages of the stream that follow one another in one segment.
type span struct {
	last    int64 // seq
	size    int64 // of their records
	segment uint32
}

// add adds the messages of a record.
func (l *appendedLog) add(first, last int64, pos seglog.Pos, bytes, size int64) {
	l.bytes += bytes
	// Positions in two segments are further apart, and the difference to a later position is larger still.
	if n := len(l.entries); n == 0 || pos-l.entries[n-1].pos >= indexDistance {
		l.entries = append(l.entries, indexEntry{first, pos})
	}
	l.spans = addSpan(l.spans, span{last, size, pos.Segment()})
}

func addSpan(spans []span, s span) []span {
	if n := len(spans); n > 0 && spans[n-1].segment == s.segment {
		spans[n-1].last = s.last
		spans[n-1].size += s.size
		return spans
	}
	return append(spans, s)
}

// trim drops all messages below first.
func (l *appendedLog) trim(first, bytes int64) {
	l.bytes -= bytes
	if i := l.find(first); i > 0 {
		l.entries = l.entries[i:]
	}
	for len(l.spans) > 0 && l.spans[0].last < first {
		l.spans = l.spans[1:]
	}
	i := l.holes.find(first)
	l.missing -= l.holes[:i].size()
	l.holes = l.holes[i:]
	l.sizes.trim(first)
}

// purge notes that the messages of ranges were purged. oldest is the first message that was there before, and bytes are those of
// their keys and data. A span without a living message is gone, so that its segment can be removed.
func (l *appendedLog) purge(ranges []SeqRange, oldest, bytes int64) {
	l.bytes -= bytes
	from, to := ranges[0].First, ranges[len(ranges)-1].Last
	i := sort.Search(len(l.spans), func(i int) bool { return l.spans[i].last >= from })
	j, living := i, []int64(nil)
	for ; j < len(l.spans) && l.spanStart(j, oldest) <= to; j++ {
		living = append(living, l.living(j, oldest))
	}
	l.holes = l.holes.purge(ranges)
	l.missing = l.holes.size()
	kept := slices.Clone(l.spans[:i])
	for k, before := range living {
		s := l.spans[i+k]
		if after := l.living(i+k, oldest); after > 0 {
			s.size = s.size * after / before
			kept = append(kept, s)
		}
	}
	l.spans = append(kept, l.spans[j:]...)
}

// spanStart returns where a span starts, if it does not start with dead messages.
func (l *appendedLog) spanStart(i int, oldest int64) int64 {
	if i > 0 {
		oldest = max(oldest, l.spans[i-1].last+1)
	}
	return oldest
}

// living returns how many messages of a span are there.
func (l *appendedLog) living(i int, oldest int64) int64 {
	first, last := l.spanStart(i, oldest), l.spans[i].last
	return max(0, last-first+1-l.holes.count(first, last))
}

// find returns the index of the entry that covers a message.
func (l *appendedLog) find(seq int64) int {
	return sort.Search(len(l.entries), func(i int) bool { return l.entries[i].first > seq }) - 1
}

// move notes that the messages from first to last, which follow one another in one segment, were copied to the record at
// pos. oldest is the first living message.
func (l *appendedLog) move(first, last, oldest int64, pos seglog.Pos, size int64) {
	if len(l.entries) == 0 || first < l.entries[0].first || l.spans[len(l.spans)-1].last < last {
		return // records are missing, and a repair makes the index anew
	}
	i, j := l.find(first), l.find(last+1)
	if i < 0 || l.spans[len(l.spans)-1].last < first {
		return // a repair could not save the record that stored them
	}
	rest := indexEntry{last + 1, l.entries[j].pos}
	var with []indexEntry
	if l.entries[i].first < first && oldest < first {
		with = append(with, l.entries[i])
	}
	with = append(with, indexEntry{first, pos})
	if more := l.moveSpan(first, last, oldest, span{last, size, pos.Segment()}); more {
		with = append(with, rest)
	}
	l.entries = slices.Replace(l.entries, i, j+1, with...)
}

// moveSpan moves messages to another span. It reports whether the stream has messages behind them.
func (l *appendedLog) moveSpan(first, last, oldest int64, to span) (more bool) {
	i := sort.Search(len(l.spans), func(i int) bool { return l.spans[i].last >= first })
	old := l.spans[i]
	if i > 0 {
		oldest = max(oldest, l.spans[i-1].last+1)
	}
	left := max(0, old.size-to.size) // of what stays
	parts := slices.Clone(l.spans[:i])
	if l.holes.count(oldest, first-1) < first-oldest {
		part := span{first - 1, 0, old.segment}
		if old.last == last {
			part.size = left
		}
		parts = addSpan(parts, part)
	}
	parts = addSpan(parts, to)
	if l.holes.count(last+1, old.last) < old.last-last {
		parts = addSpan(parts, span{old.last, left, old.segment})
	}
	for _, s := range l.spans[i+1:] {
		parts = addSpan(parts, s)
	}
	more = old.last > last || i+1 < len(l.spans)
	l.spans = parts
	return more
}

// sizes are the sizes of the oldest messages of a stream, for retention. They are read from the log when they are needed,
// and are no part of the state.
type sizes struct {
	first int64 // seq of list[0]
	list  []uint32
}

// maxSizes bounds the sizes that are kept.
const maxSizes = 1 << 16

func (z *sizes) next() int64 { return z.first + int64(len(z.list)) }

func (z *sizes) trim(first int64) {
	if first >= z.next() {
		z.first, z.list = first, nil
		return
	}
	if first > z.first {
		z.list = z.list[first-z.first:]
		z.first = first
	}
}

// add adds the size of the message that follows, if there is room.
func (z *sizes) add(seq, size int64) bool {
	if seq != z.next() || len(z.list) >= maxSizes {
		return false
	}
	z.list = append(z.list, uint32(size))
	return true
}

// at returns the size of a message; ok is false when it has to be read.
func (z *sizes) at(seq int64) (size int64, ok bool) {
	if i := seq - z.first; i >= 0 && i < int64(len(z.list)) {
		return int64(z.list[i]), true
	}
	return 0, false
}
