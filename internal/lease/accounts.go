package lease

// account is what a Ledger records about a lease.
type account[N any] struct {
	lease      *Lease
	note       N
	room       int                // messages that the server still counts as leased
	bytes      int                // their size
	open       int                // those of them whose settles have not ended
	held       map[*Held]struct{} // those of them that Ledger.Overdue reports; nil for none
	prev, next *account[N]
}

// accounts holds one account for each lease that takes up room, in the order in which the leases end on the server. It is
// a linked list, because every receive adds an account near the end and a settle may remove one from the middle.
type accounts[N any] struct {
	byLease     map[*Lease]*account[N]
	holding     int // deliveries in held of all accounts
	first, last *account[N]
}

func (as *accounts[N]) add(a *account[N]) {
	as.byLease[a.lease] = a
	after := as.last
	for after != nil && a.lease.Until.Before(after.lease.Until) {
		after = after.prev
	}
	a.prev = after
	if after == nil {
		a.next, as.first = as.first, a
	} else {
		a.next, after.next = after.next, a
	}
	if a.next == nil {
		as.last = a
	} else {
		a.next.prev = a
	}
}

// free frees the room of one message of an account, and returns its bytes: the mean of those of the account.
func (as *accounts[N]) free(a *account[N]) (bytes int) {
	bytes = a.bytes / a.room
	a.bytes -= bytes
	if a.room--; a.room == 0 {
		as.remove(a)
	}
	return bytes
}

func (as *accounts[N]) remove(a *account[N]) {
	delete(as.byLease, a.lease)
	as.holding -= len(a.held)
	if a.prev == nil {
		as.first = a.next
	} else {
		a.prev.next = a.next
	}
	if a.next == nil {
		as.last = a.prev
	} else {
		a.next.prev = a.prev
	}
	a.prev, a.next = nil, nil
}

// hold adds a delivery to those that Ledger.Overdue reports.
func (as *accounts[N]) hold(a *account[N], h *Held) {
	if a.held == nil {
		a.held = map[*Held]struct{}{}
	}
	a.held[h] = struct{}{}
	as.holding++
}

// release removes a delivery from those that Ledger.Overdue reports. It reports false if it is not among them.
func (as *accounts[N]) release(a *account[N], h *Held) bool {
	if _, held := a.held[h]; !held {
		return false
	}
	delete(a.held, h)
	as.holding--
	return true
}
