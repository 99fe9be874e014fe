package durable

import (
	"slices"
	"sort"

	"github.com/sequin-go/sequin/server/durable/internal/seglog"
)

// holes are the messages of a stream that appends which are not there, by ascending seq: those that were purged, and those that
// a repair could not save.
type holes []hole

type hole struct {
	first, last int64
	purged      bool
}

// find returns the index of the first hole that ends at seq or later.
func (h holes) find(seq int64) int {
	return sort.Search(len(h), func(i int) bool { return h[i].last >= seq })
}

func (h holes) has(seq int64) bool { return len(h) > 0 && h.behind(seq) != seq }

// behind returns seq, or the first seq behind the hole that has it. A hole of the other kind may follow it.
func (h holes) behind(seq int64) int64 {
	for i := h.find(seq); i < len(h) && h[i].first <= seq; i++ {
		seq = h[i].last + 1
	}
	return seq
}

// start returns seq, or where the holes that follow one another up to seq start.
func (h holes) start(seq int64) int64 {
	i := h.find(seq)
	if i == len(h) || h[i].first > seq {
		return seq
	}
	for i > 0 && h[i-1].last+1 == h[i].first {
		i--
	}
	return h[i].first
}

// lostFrom returns where the first lost messages behind seq start.
func (h holes) lostFrom(seq, before int64) int64 {
	for i := h.find(seq); i < len(h) && h[i].first < before; i++ {
		if !h[i].purged {
			return h[i].first
		}
	}
	return before
}

// lostBefore returns the seq behind the last lost messages that end before seq and not before from, or from.
func (h holes) lostBefore(seq, from int64) int64 {
	for i := h.find(seq) - 1; i >= 0 && h[i].last >= from; i-- {
		if !h[i].purged {
			return h[i].last + 1
		}
	}
	return from
}

// between returns the holes that have seqs from first and before the seq before.
func (h holes) between(first, before int64) holes {
	h = h[h.find(first):]
	return h[:sort.Search(len(h), func(i int) bool { return h[i].first >= before })]
}

// count returns how many of the seqs from first to last are in holes.
func (h holes) count(first, last int64) (n int64) {
	for i := h.find(first); i < len(h) && h[i].first <= last; i++ {
		n += min(last, h[i].last) - max(first, h[i].first) + 1
	}
	return n
}

// size returns how many seqs are in holes.
func (h holes) size() (n int64) {
	for _, x := range h {
		n += x.last - x.first + 1
	}
	return n
}

// purged returns the ranges that were purged.
func (h holes) purged() (ranges []SeqRange) {
	for _, x := range h {
		if x.purged {
			ranges = append(ranges, SeqRange{x.first, x.last})
		}
	}
	return ranges
}

// lost returns the ranges that were lost.
func (h holes) lost() (ranges []SeqRange) {
	for _, x := range h {
		if !x.purged {
			ranges = append(ranges, SeqRange{x.first, x.last})
		}
	}
	return ranges
}

// purge returns the holes with ranges that were purged, by ascending seq. What was lost in a range counts as purged. It does not
// change h, which readers may use.
func (h holes) purge(ranges []SeqRange) holes {
	old, out := slices.Clone(h), make(holes, 0, len(h)+len(ranges))
	i := 0
	for _, r := range ranges {
		for ; i < len(old) && old[i].last < r.First; i++ {
			out = out.join(old[i])
		}
		if i < len(old) && old[i].first < r.First {
			out = out.join(hole{old[i].first, r.First - 1, old[i].purged})
		}
		for i < len(old) && old[i].last <= r.Last {
			i++
		}
		if i < len(old) && old[i].first <= r.Last {
			old[i].first = r.Last + 1
		}
		out = out.join(hole{r.First, r.Last, true})
	}
	for ; i < len(old); i++ {
		out = out.join(old[i])
	}
	return out
}

// join appends a hole, or makes the last one longer.
func (h holes) join(x hole) holes {
	if n := len(h); n > 0 && h[n-1].purged == x.purged && h[n-1].last+1 == x.first {
		h[n-1].last = x.last
		return h
	}
	return append(h, x)
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
			l.holes = append(l.holes, hole{first: next, last: from - 1})
			l.entries = append(l.entries, indexEntry{from, x.pos})
		}
		l.add(from, to, x.pos, 0, x.size)
		next = to + 1
	}
	if len(l.entries) == 0 {
		first = last + 1
	} else if next <= last {
		l.holes = append(l.holes, hole{first: next, last: last})
	}
	l.missing = l.holes.size()
	l.sizes.first = first
	return l, first
}

// rebuild makes the index of a stream that appends after a repair, which may have lost some of its messages.
func (s *stream) rebuild(p extents) {
	purged := s.appended.holes.purged()
	s.appended, s.first = p.index(s.first, s.last)
	if len(purged) > 0 {
		s.appended.purge(purged, s.first, 0)
		s.trimHoles()
	}
	for _, c := range s.consumers {
		c.backlog.Trimmed(s.first)
		for _, h := range s.appended.holes {
			for seq := h.first; seq <= h.last; seq++ {
				c.backlog.Dropped(seq)
			}
		}
	}
}
