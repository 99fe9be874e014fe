package backlog

import (
	"cmp"
	"slices"
)

// Position is what a consumer has not settled, as it goes to another store: without keys, whose hashes a store may compute in
// its own way, and without leases.
type Position struct {
	Next  int64          // seq of the first message that is not read
	Heads []PositionHead // by ascending seq
	Ahead []int64        // unread messages that are settled, by ascending seq
}

// PositionHead is the oldest unsettled message of a key. It is ready or delayed.
type PositionHead struct {
	Seq     int64
	Later   []int64 // later messages of the key that were read, by ascending seq
	More    int64   // 0, or the first later message that was left out
	Count   int     // deliveries of Seq
	Expired int     // those of them that ended with their leases, neither settled nor extended
	LastAt  int64   // when it was delivered last
	Until   int64   // end of the delay, 0 for none
	Length  int64   // of the delay
}

// OnLeaseNow returns the deliveries that are on lease.
func (b *Backlog) OnLeaseNow() []Delivery {
	all := make([]Delivery, 0, len(b.out))
	for _, v := range b.Leases() {
		all = append(all, Delivery{v.Seq, v.Lease})
	}
	return all
}

// Position returns the position. No message may be on lease, and no key may seek.
func (b *Backlog) Position() Position {
	p := Position{Next: b.next, Heads: make([]PositionHead, 0, len(b.bySeq))}
	for _, it := range b.bySeq {
		h := PositionHead{Seq: it.seq, Later: slices.Clone(it.later), More: it.more, Count: it.count, Expired: it.expired, LastAt: it.lastAt}
		if it.delayed {
			h.Until, h.Length = it.until, it.length
		}
		p.Heads = append(p.Heads, h)
	}
	slices.SortFunc(p.Heads, func(a, b PositionHead) int { return cmp.Compare(a.Seq, b.Seq) })
	for seq := range b.ahead {
		p.Ahead = append(p.Ahead, seq)
	}
	slices.Sort(p.Ahead)
	return p
}

// AtPosition returns a backlog at a position. keys are the hashes of the keys of p.Heads.
func AtPosition(s Stream, l Limits, p Position, keys []Hash) *Backlog {
	b := New(s, l)
	b.next = p.Next
	for _, seq := range p.Ahead {
		b.ahead[seq] = struct{}{}
	}
	for i, h := range p.Heads {
		it := &item{
			key: keys[i], seq: h.Seq, later: slices.Clone(h.Later), more: h.More, count: h.Count, expired: h.Expired, lastAt: h.LastAt,
			until: h.Until, length: h.Length, delayed: h.Until != 0,
		}
		b.restore(it, it.delayed)
	}
	return b
}
