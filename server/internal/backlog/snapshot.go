package backlog

import (
	"cmp"
	"slices"

	"github.com/sequin-go/sequin/server/internal/binary"
)

// AppendTo appends the whole state, for a snapshot. Equal backlogs append equal bytes.
func (b *Backlog) AppendTo(dst []byte) []byte {
	dst = binary.AppendInt(dst, b.limits.AckWait)
	dst = binary.AppendInt(dst, int64(b.limits.MaxAckPending))
	dst = binary.AppendInt(dst, int64(b.limits.MaxDeliver))
	dst = binary.AppendInt(dst, b.next)
	dst = b.lease.appendTo(dst)
	dst = binary.AppendInt(dst, b.known)
	ahead := make([]int64, 0, len(b.ahead))
	for seq := range b.ahead {
		ahead = append(ahead, seq)
	}
	slices.Sort(ahead)
	dst = binary.AppendSeqs(dst, ahead)

	items := make([]*item, 0, len(b.heads))
	for _, it := range b.heads {
		items = append(items, it)
	}
	slices.SortFunc(items, func(a, b *item) int {
		return cmp.Or(cmp.Compare(a.seq, b.seq), slices.Compare(a.key[:], b.key[:]))
	})
	dst = binary.AppendUint(dst, uint64(len(items)))
	for _, it := range items {
		dst = it.appendTo(dst)
	}
	return dst
}

func (l Lease) appendTo(dst []byte) []byte {
	return binary.AppendUint(binary.AppendUint(dst, l.Opening), l.Receive)
}

// The places of a head in a snapshot. A head that seeks is written as ready.
const (
	placeReady byte = iota
	placeLeased
	placeDelayed
)

// What may be added to the place.
const (
	wasExtended byte = 0x10 << iota // the lease was extended
	hasExpired                      // how often leases have ended by themselves follows the place
)

func (it *item) place() byte {
	flags := byte(0)
	if it.extended {
		flags |= wasExtended
	}
	if it.expired > 0 {
		flags |= hasExpired
	}
	switch {
	case it.delayed:
		return placeDelayed | flags
	case it.leased:
		return placeLeased | flags
	}
	return placeReady | flags
}

func (it *item) appendTo(dst []byte) []byte {
	dst = append(dst, it.key[:]...)
	dst = binary.AppendInt(dst, it.seq)
	dst = binary.AppendSeqs(dst, it.later)
	dst = binary.AppendInt(dst, it.more)
	dst = it.lease.appendTo(dst)
	dst = binary.AppendInt(dst, it.lastAt)
	dst = binary.AppendUint(dst, uint64(it.count))
	dst = append(dst, it.place())
	if it.expired > 0 {
		dst = binary.AppendUint(dst, uint64(it.expired))
	}
	if it.leased {
		dst = binary.AppendInt(dst, it.until)
		dst = binary.AppendInt(dst, it.length)
	}
	return dst
}

// Read reads what AppendTo wrote.
func Read(s Stream, in *binary.Reader) *Backlog {
	b := New(s, Limits{AckWait: in.Int(), MaxAckPending: int(in.Int()), MaxDeliver: int(in.Int())})
	b.next = in.Int()
	b.lease = Lease{in.Uint(), in.Uint()}
	b.known = in.Int()
	for _, seq := range in.Seqs() {
		b.ahead[seq] = struct{}{}
	}
	for range in.Count(len(Hash{}) + 7) {
		it := &item{key: readHash(in), seq: in.Int()}
		it.later = in.Seqs()
		it.more = in.Int()
		it.lease = Lease{in.Uint(), in.Uint()}
		it.lastAt = in.Int()
		it.count = int(in.Uint())
		place := in.Byte()
		it.extended = place&wasExtended != 0
		if place&hasExpired != 0 {
			it.expired = int(in.Uint())
		}
		place &^= wasExtended | hasExpired
		if place != placeReady {
			it.until, it.length = in.Int(), in.Int()
		}
		it.delayed = place == placeDelayed
		b.restore(it, place != placeReady)
	}
	return b
}

func (b *Backlog) restore(it *item, leased bool) {
	b.heads[it.key] = it
	b.met += len(it.later)
	if it.more != 0 {
		b.left++
	}
	if it.seq == 0 {
		b.sought++
		return
	}
	b.bySeq[it.seq] = it
	if leased {
		b.out.push(it)
	} else {
		b.ready.push(it)
	}
}
