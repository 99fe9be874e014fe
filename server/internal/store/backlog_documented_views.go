package store

import (
	"cmp"
	"slices"
	"time"
)

// views shows a version that replaced a delivered one as delivered until that lease ends, with the ack id and the times of
// the lease that withholds it.
func (b *documentedBacklog) views(f func(View) bool) {
	b.expire(time.Now())
	var read []View
	for _, it := range b.heads {
		head := b.headView(it)
		if !it.entry.dead {
			read = append(read, head)
		}
		for _, e := range it.later {
			if !e.dead {
				read = append(read, b.laterView(it, e))
			}
		}
	}
	slices.SortFunc(read, func(a, b View) int { return cmp.Compare(a.Message.Seq, b.Message.Seq) })
	for _, v := range read {
		if !f(v) {
			return
		}
	}
	b.unreadViews(f)
}

func (b *documentedBacklog) unreadViews(f func(View) bool) {
	seen := map[string]bool{} // keys of unread messages
	for _, e := range b.feed.log.from(b.next) {
		if e.dead || !b.feed.filter.Match(e.key) {
			continue
		}
		v := View{Message: e.message()}
		switch it := b.heads[e.key]; {
		case it != nil:
			v = b.laterView(it, e)
		case seen[e.key]:
			v.State = Withheld
		}
		seen[e.key] = true
		if !f(v) {
			return
		}
	}
}

func (b *documentedBacklog) headView(it *item) View {
	v := View{Message: it.entry.message(), ID: it.id, Count: it.count, LastDeliveredAt: it.lastAt}
	switch {
	case it.leased():
		v.State, v.NotVisibleUntil = Delivered, it.until.UnixMicro()
	case it.where == inDelayed:
		v.State, v.NotVisibleUntil = Delayed, it.until.UnixMicro()
	}
	return v
}

func (b *documentedBacklog) laterView(it *item, e *entry) View {
	if it.leased() && it.entry.dead {
		v := b.headView(it)
		v.Message = e.message()
		return v
	}
	return View{Message: e.message(), State: Withheld}
}

func (b *documentedBacklog) view(e *entry) (View, bool) {
	if !b.feed.filter.Match(e.key) {
		return View{}, false
	}
	b.expire(time.Now())
	found := View{Message: e.message(), State: Acked}
	b.views(func(v View) bool {
		if v.Message.Seq == e.seq {
			found = v
		}
		return v.Message.Seq < e.seq
	})
	return found, true
}

func (b *documentedBacklog) outstanding() []Outstanding {
	b.expire(time.Now())
	return b.leases.list()
}
