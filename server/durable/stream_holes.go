package durable

import (
	"math"
	"sort"

	"github.com/sequin-go/sequin/server/durable/internal/seglog"
)

// holes are the messages of a stream that appends which a repair could not save, by ascending seq. There are none in a store
// that was not repaired.
type holes []hole

type hole struct{ first, last int64 }

// find returns the index of the first hole that ends at seq or later.
func (h holes) find(seq int64) int {
	return sort.Search(len(h), func(i int) bool { return h[i].last >= seq })
}

func (h holes) has(seq int64) bool { return len(h) > 0 && h.behind(seq) != seq }

// behind returns seq, or the first seq behind the hole that has it.
func (h holes) behind(seq int64) int64 {
	if i := h.find(seq); i < len(h) && h[i].first <= seq {
		return h[i].last + 1
	}
	return seq
}

// next returns where the first hole behind seq starts.
func (h holes) next(seq int64) int64 {
	if i := h.find(seq); i < len(h) {
		return h[i].first
	}
	return math.MaxInt64
}

// before returns the seq behind the last hole that ends before seq, or 0.
func (h holes) before(seq int64) int64 {
	if i := h.find(seq); i > 0 {
		return h[i-1].last + 1
	}
	return 0
}

// count returns how many of the seqs from first to last are in holes.
func (h holes) count(first, last int64) (n int64) {
	for i := h.find(first); i < len(h) && h[i].first <= last; i++ {
		n += min(last, h[i].last) - max(first, h[i].first) + 1
	}
	return n
}

// extent is where messages of a stream that appends are.
type extent struct {
	first, last int64
	pos         seglog.Pos
	size        int64 // of their record
}

// extents are where the messages of a stream are, by ascending seq. A message that was copied is in the newest of its extents.
type extents []extent

// add adds an extent behind all others in the log.
func (p *extents) add(x extent) {
	all := *p
	if len(all) == 0 || all[len(all)-1].last < x.first {
		*p = append(all, x)
		return
	}
	i := sort.Search(len(all), func(i int) bool { return all[i].last >= x.first })
	j := sort.Search(len(all), func(j int) bool { return all[j].first > x.last })
	var parts []extent
	if i < j && all[i].first < x.first {
		head := all[i]
		head.last = x.first - 1
		parts = append(parts, head)
	}
	parts = append(parts, x)
	if i < j && all[j-1].last > x.last {
		tail := all[j-1]
		tail.first = x.last + 1
		parts = append(parts, tail)
	}
	*p = append(all[:i:i], append(parts, all[j:]...)...)
}

// record adds the extents of the messages of a record.
func (p *extents) record(rec seglog.Record) error {
	x := extent{pos: rec.Pos, size: int64(len(rec.Body))}
	err := eachMessage(rec, func(m *rawMessage) bool {
		if x.first > 0 && m.seq != x.last+1 {
			p.add(x)
			x.first = 0
		}
		if x.first == 0 {
			x.first = m.seq
		}
		x.last = m.seq
		return true
	})
	if x.first > 0 {
		p.add(x)
	}
	return err
}

// index makes the index of the messages from first to last. What none of the extents has is in holes; of the beginning, the
// first message that is there is returned.
func (p extents) index(first, last int64) (l *appendedLog, oldest int64) {
	l = &appendedLog{}
	next := first
	for _, x := range p {
		from, to := max(x.first, first), min(x.last, last)
		if from > to {
			continue
		}
		if len(l.entries) == 0 {
			first = from
		} else if from > next {
			l.holes = append(l.holes, hole{next, from - 1})
			l.entries = append(l.entries, indexEntry{from, x.pos})
		}
		l.add(from, to, x.pos, 0, x.size)
		next = to + 1
	}
	if len(l.entries) == 0 {
		first = last + 1
	} else if next <= last {
		l.holes = append(l.holes, hole{next, last})
	}
	l.sizes.first = first
	return l, first
}

// rebuild makes the index of a stream that appends after a repair, which may have lost some of its messages.
func (s *stream) rebuild(p extents) {
	s.appended, s.first = p.index(s.first, s.last)
	for _, c := range s.consumers {
		c.backlog.Trimmed(s.first)
		for _, h := range s.appended.holes {
			for seq := h.first; seq <= h.last; seq++ {
				c.backlog.Dropped(seq)
			}
		}
	}
}
