package lease

// account is what a Ledger notes of a lease.
type account[N any] struct {
	lease      *Lease
	note       N
	room       int // messages that the server may hold to be leased
	open       int // of these, the ones whose settles have not ended
	prev, next *account[N]
}

// accounts are those of the leases that take up room, by the end of the server's lease, earliest first. They form a list
// because every receive adds one, near the end, and every settle may remove one from the middle.
type accounts[N any] struct {
	of          map[*Lease]*account[N]
	first, last *account[N]
}

func (as *accounts[N]) add(a *account[N]) {
	as.of[a.lease] = a
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

func (as *accounts[N]) remove(a *account[N]) {
	delete(as.of, a.lease)
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
