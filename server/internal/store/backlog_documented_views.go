package store

import (
	"container/heap"
	"slices"
	"sort"
	"time"
)

// views shows a version that replaced a delivered one as delivered until that lease ends, with the ack id and the times of
// the lease that withholds it.
//
// It walks through the messages of all heads at once, and through unread ones then: the first views of a backlog of millions cost no more than
// a look at each head.
func (b *documentedBacklog) views(after int64, f func(View) bool) {
	b.expire(time.Now())
	walks := make(walkHeap, 0, len(b.heads))
	for _, it := range b.heads {
		if w := (walk{it: it, entry: it.entry}); w.start(after) {
			walks = append(walks, w)
		}
	}
	heap.Init(&walks)
	for len(walks) > 0 {
		w := &walks[0]
		v := b.headView(w.it)
		if w.entry != w.it.entry {
			v = b.laterView(w.it, w.entry)
		}
		if !f(v) {
			return
		}
		if w.next() {
			heap.Fix(&walks, 0)
		} else {
			heap.Pop(&walks)
		}
	}
	b.unreadViews(after, f)
}

// walk is a way through the living messages of a head.
type walk struct {
	it    *item
	entry *entry
	seen  int // of it.later
}

// start goes to the first living message behind a seq, and returns false if there is none.
func (w *walk) start(after int64) bool {
	if w.entry.seq > after && !w.entry.dead {
		return true
	}
	w.seen = sort.Search(len(w.it.later), func(i int) bool { return w.it.later[i].seq > after })
	return w.next()
}

// next goes to the next living message, and returns false if there is none.
func (w *walk) next() bool {
	for w.seen < len(w.it.later) {
		w.entry = w.it.later[w.seen]
		if w.seen++; !w.entry.dead {
			return true
		}
	}
	return false
}

// walkHeap has the walk with the lowest seq at the top.
type walkHeap []walk

// Len implements heap.Interface.
func (h walkHeap) Len() int { return len(h) }

// Less implements heap.Interface.
func (h walkHeap) Less(i, j int) bool { return h[i].entry.seq < h[j].entry.seq }

// Swap implements heap.Interface.
func (h walkHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface. It is not used.
func (h *walkHeap) Push(x any) { *h = append(*h, x.(walk)) }

// Pop implements heap.Interface.
func (h *walkHeap) Pop() any {
	last := len(*h) - 1
	w := (*h)[last]
	*h = (*h)[:last]
	return w
}

// firstLook is how many unread messages are looked at together at first: about as many as a page of the console has.
const firstLook = 100

// unreadViews looks at some messages together, and at more the next time. What lies before them is passed over once for all of them.
func (b *documentedBacklog) unreadViews(after int64, f func(View) bool) {
	rest := b.feed.log.from(b.next)
	from := sort.Search(len(rest), func(i int) bool { return rest[i].seq > after })
	before, rest := rest[:from], rest[from:]
	seen := map[string]bool{} // keys of unread messages
	for n := firstLook; len(rest) > 0; n *= 8 {
		some := rest[:min(n, len(rest))]
		rest = rest[len(some):]
		b.lookBack(before, some, seen)
		for _, e := range some {
			if e.dead || !b.feed.filter.Match(e.key) {
				continue
			}
			if !f(b.unreadView(e, seen[e.key])) {
				return
			}
			seen[e.key] = true
		}
	}
}

// lookBack adds to seen the keys that some messages have in common with those before.
func (b *documentedBacklog) lookBack(before, some []*entry, seen map[string]bool) {
	if len(before) == 0 {
		return
	}
	wanted := map[string]bool{}
	for _, e := range some {
		if !e.dead && !seen[e.key] && b.feed.filter.Match(e.key) {
			wanted[e.key] = true
		}
	}
	for _, e := range before {
		if len(wanted) == 0 {
			return
		}
		if !e.dead && wanted[e.key] {
			seen[e.key] = true
			delete(wanted, e.key)
		}
	}
}

// unreadView shows a message that is not read. earlier says that an earlier one of its key is not read, either.
func (b *documentedBacklog) unreadView(e *entry, earlier bool) View {
	v := View{Message: e.message()}
	switch it := b.heads[e.key]; {
	case it != nil:
		v = b.laterView(it, e)
	case earlier:
		v.State = Withheld
	}
	return v
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
	if e.seq >= b.next {
		earlier := slices.ContainsFunc(b.feed.log.from(b.next), func(o *entry) bool { return o.seq < e.seq && !o.dead && o.key == e.key })
		return b.unreadView(e, earlier), true
	}
	switch it := b.heads[e.key]; {
	case it == nil:
	case it.entry == e:
		return b.headView(it), true
	case slices.Contains(it.later, e):
		return b.laterView(it, e), true
	}
	return View{Message: e.message(), State: Acked}, true
}

func (b *documentedBacklog) outstanding() []Outstanding {
	b.expire(time.Now())
	return b.leases.list()
}
