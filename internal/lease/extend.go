package lease

import "time"

// Hold makes Overdue return a delivery when its lease is over. It reports false if the lease is over already, or the delivery
// is settled.
func (g *Ledger[N, H]) Hold(h *Held) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.accounts.byLease[h.Lease()]
	if a == nil || h.ended || Past(time.Now(), a.lease.Deadline) {
		return false
	}
	g.accounts.hold(a, h)
	return true
}

// Extend makes to the lease of a delivery, unless its present one ends later. It reports false if the room of the present one
// is free already.
func (g *Ledger[N, H]) Extend(h *Held, to *Lease) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	from := g.accounts.byLease[h.Lease()]
	switch {
	case h.ended || from == nil:
		return false
	case !from.lease.Deadline.Before(to.Deadline):
		return true
	}
	a := g.accounts.byLease[to]
	if a == nil {
		a = &account[N]{lease: to, note: from.note}
		g.accounts.add(a)
	}
	a.room++
	a.open++
	if g.accounts.release(from, h) {
		g.accounts.hold(a, h)
	}
	from.open--
	a.bytes += g.accounts.free(from)
	h.current.Store(to)
	return true
}

// Lose frees the room of a delivery whose lease the server has ended before its time. The lease is over from then on. It
// reports false if the settle of the delivery has ended, or its lease was over.
func (g *Ledger[N, H]) Lose(h *Held, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := h.Lease()
	a := g.accounts.byLease[l]
	if h.ended || a == nil {
		return false
	}
	h.ended = true
	g.accounts.release(a, h)
	a.open--
	g.inFlight--
	g.bytes -= g.accounts.free(a)
	h.current.Store(&Lease{Began: l.Began, HandOverBy: now, Deadline: now, Until: now, Margin: l.Margin, Parent: l.Parent})
	h.lost.Store(true)
	return true
}

// Overdue returns the deliveries of Hold whose deadlines have passed, each once, and the next of their deadlines: the zero time
// if there is none.
func (g *Ledger[N, H]) Overdue(now time.Time) (over []*Held, next time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.accounts.holding == 0 {
		return nil, time.Time{}
	}
	for a := g.accounts.first; a != nil; a = a.next {
		switch {
		case len(a.held) == 0:
		case Past(now, a.lease.Deadline):
			for h := range a.held {
				over = append(over, h)
			}
			g.accounts.holding -= len(a.held)
			a.held = nil
		case next.IsZero() || a.lease.Deadline.Before(next):
			next = a.lease.Deadline
		}
	}
	return over, next
}

// NextHalf returns when the next lease with messages whose settles have not ended is half over, the zero time if there is none.
// For a lease that is half over already, that is after half of the time that a settle has, again and again until the
// Deadline: a message may be delivered that late.
func (g *Ledger[N, H]) NextHalf(now time.Time) (next time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for a := g.accounts.first; a != nil; a = a.next {
		l := a.lease
		if a.open == 0 || Past(now, l.Deadline) {
			continue
		}
		at := l.Half()
		if Past(now, at) {
			at = now.Add(l.Margin / 2)
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}
