package backlog

// Frozen is a copy of what a backlog shows.
type Frozen struct {
	Views  []View // living messages that were read and are not settled, by ascending seq
	Leases []View // by ascending seq, those of messages that were replaced among them
	next   int64
	heads  map[Hash]frozenHead
	ahead  map[int64]struct{}
	from   int64
}

type frozenHead struct {
	item  item
	alive bool
}

// Freeze copies the backlog. The copy needs no lock.
func (b *Backlog) Freeze() *Frozen {
	f := &Frozen{Views: b.Views(), Leases: b.Leases(), next: b.next, heads: make(map[Hash]frozenHead, len(b.heads)), from: b.next}
	for key, it := range b.heads {
		f.heads[key] = frozenHead{*it, it.seq != 0 && b.stream.Alive(it.seq)}
		if it.more != 0 {
			f.from = min(f.from, it.more)
		}
	}
	f.ahead = make(map[int64]struct{}, len(b.ahead))
	for seq := range b.ahead {
		f.ahead[seq] = struct{}{}
	}
	return f
}

// From returns the lowest seq that an unread message can have.
func (f *Frozen) From() int64 { return f.from }

// IsUnread reports whether a living message that matches the consumer's filter is not read, or left out by its key.
func (f *Frozen) IsUnread(seq int64, key Hash) bool {
	if seq < f.next {
		head, ok := f.heads[key]
		return ok && head.item.more != 0 && seq >= head.item.more
	}
	_, settled := f.ahead[seq]
	return !settled
}

// Unread returns the view of an unread message. earlier says that an earlier message of its key is unread too.
func (f *Frozen) Unread(seq int64, key Hash, earlier bool) View {
	v := View{Seq: seq, Key: key}
	head, ok := f.heads[key]
	switch {
	case ok && head.item.seq != 0:
		return head.item.laterView(seq, head.alive)
	case earlier:
		v.State = Withheld
	}
	return v
}
