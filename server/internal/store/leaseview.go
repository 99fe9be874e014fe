package store

import (
	"cmp"
	"slices"
	"time"
)

// views shows a version that replaced a delivered one as delivered until that lease ends: what holds it back is the
// lease, whose ack id and times the view carries.
func (c *leaseConsumer) views(f func(View) bool) {
	c.expire(time.Now())
	var met []View
	for _, it := range c.heads {
		head := c.headView(it)
		if !it.entry.dead {
			met = append(met, head)
		}
		for _, e := range it.behind {
			if !e.dead {
				met = append(met, c.behindView(it, e))
			}
		}
	}
	slices.SortFunc(met, func(a, b View) int { return cmp.Compare(a.Message.Seq, b.Message.Seq) })
	for _, v := range met {
		if !f(v) {
			return
		}
	}
	c.unmetViews(f)
}

func (c *leaseConsumer) unmetViews(f func(View) bool) {
	first := map[string]bool{} // keys that were seen here already
	for _, e := range c.stream.log.from(c.next) {
		if e.dead || !c.filter.match(e.key) {
			continue
		}
		v := View{Message: e.message()}
		switch it := c.heads[e.key]; {
		case it != nil:
			v = c.behindView(it, e)
		case first[e.key]:
			v.State = Withheld
		}
		first[e.key] = true
		if !f(v) {
			return
		}
	}
}

func (c *leaseConsumer) headView(it *item) View {
	v := View{Message: it.entry.message(), ID: it.id, Count: it.count, LastDeliveredAt: it.lastAt}
	if it.leased() {
		v.State, v.NotVisibleUntil = Delivered, it.until.UnixMicro()
	}
	return v
}

func (c *leaseConsumer) behindView(it *item, e *entry) View {
	if it.leased() && it.entry.dead {
		v := c.headView(it)
		v.Message = e.message()
		return v
	}
	return View{Message: e.message(), State: Withheld}
}

func (c *leaseConsumer) view(e *entry) (View, bool) {
	if !c.filter.match(e.key) {
		return View{}, false
	}
	c.expire(time.Now())
	found := View{Message: e.message(), State: Acked}
	c.views(func(v View) bool {
		if v.Message.Seq == e.seq {
			found = v
		}
		return v.Message.Seq < e.seq
	})
	return found, true
}

func (c *leaseConsumer) outstanding() []Outstanding {
	c.expire(time.Now())
	return c.leases.list()
}
