package backlog

import (
	"cmp"
	"slices"
)

// State is the state of a message.
type State uint8

const (
	Available State = iota
	Delivered       // on lease
	Withheld        // waits for an earlier message of its key
	_               // done: a message that the backlog does not have
	Delayed         // nacked, and not ready yet
)

// View is a message that was read and is not settled.
type View struct {
	Seq   int64
	Key   Hash
	State State
	// Of the head of its key, when the message is the head, or when it has replaced a message that is on lease.
	Head   int64 // seq, 0 for a message that waits
	Lease  Lease
	Count  int
	LastAt int64 // 0 for never
	Until  int64 // end of the lease or of the delay, 0 for none
}

// Views returns the living messages that were read and are not settled, by ascending seq. Those that a key has left out
// are not among them.
func (b *Backlog) Views() []View {
	views := make([]View, 0, len(b.bySeq)+b.met)
	for _, it := range b.heads {
		alive := it.seq != 0 && b.stream.Alive(it.seq)
		if alive {
			views = append(views, it.view())
		}
		for _, seq := range it.later {
			if b.stream.Alive(seq) {
				views = append(views, it.laterView(seq, alive))
			}
		}
	}
	slices.SortFunc(views, func(a, b View) int { return cmp.Compare(a.Seq, b.Seq) })
	return views
}

func (it *item) view() View {
	v := View{Seq: it.seq, Key: it.key, Head: it.seq, Count: it.count, LastAt: it.lastAt}
	switch {
	case it.delayed:
		v.State, v.Until = Delayed, it.until
	case it.leased:
		v.State, v.Lease, v.Until = Delivered, it.lease, it.until
	}
	return v
}

// laterView shows a version that has replaced a delivered one as delivered until that lease ends.
func (it *item) laterView(seq int64, headAlive bool) View {
	if it.leased && !headAlive {
		v := it.view()
		v.Seq = seq
		return v
	}
	return View{Seq: seq, Key: it.key, State: Withheld}
}

// Leases returns the leases by ascending seq, those of messages that were replaced among them.
func (b *Backlog) Leases() []View {
	views := make([]View, 0, len(b.out))
	for _, it := range b.out {
		if !it.delayed {
			views = append(views, it.view())
		}
	}
	slices.SortFunc(views, func(a, b View) int { return cmp.Compare(a.Seq, b.Seq) })
	return views
}
