package pgcheck

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"
)

// account is what happened in one stream with one consumer: what was sent, and what each delivery was. Times are those of this
// process, counted from the start. What is certain from them must not contradict the promises.
type account struct {
	name    string
	keyed   bool // the stream keeps one message per key
	ackWait time.Duration

	mu   sync.Mutex // guards keys
	keys map[string]*keyAccount
}

// keyAccount is what happened to one key. Version n of a key is its n-th message, counted from 0.
type keyAccount struct {
	confirmed  []time.Duration // when the send of each version has succeeded; 0 when it has not
	deliveries []*delivery
}

// delivery is one delivery. It took place between began and ended.
type delivery struct {
	key          string
	version      int
	began, ended time.Duration // of the receive

	settling time.Duration // when its settle was sent; 0 for never
	ack      bool          // it was acked, not nacked
	settled  time.Duration // when its settle had succeeded; 0 when it is in doubt
}

func newAccount(name string, keyed bool, ackWait time.Duration) *account {
	return &account{name: name, keyed: keyed, ackWait: ackWait, keys: map[string]*keyAccount{}}
}

// of returns the account of a key. It requires the lock.
func (a *account) of(key string) *keyAccount {
	k := a.keys[key]
	if k == nil {
		k = &keyAccount{}
		a.keys[key] = k
	}
	return k
}

// sending notes that the next version of a key is sent, and returns its number.
func (a *account) sending(key string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	k := a.of(key)
	k.confirmed = append(k.confirmed, 0)
	return len(k.confirmed) - 1
}

// sent notes that the send of a version has succeeded.
func (a *account) sent(key string, version int, at time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.of(key).confirmed[version] = at
}

// received notes deliveries.
func (a *account) received(all []*delivery) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range all {
		k := a.of(d.key)
		k.deliveries = append(k.deliveries, d)
	}
}

// settle notes that some deliveries are settled now, and that they were when succeeded is not 0.
func (a *account) settle(all []*delivery, ack bool, now, succeeded time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range all {
		d.ack, d.settling, d.settled = ack, now, succeeded
	}
}

// left returns how many keys have messages that must still be delivered.
func (a *account) left() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range a.keys {
		if a.unacked(k) >= 0 {
			n++
		}
	}
	return n
}

// unacked returns a version that must be delivered again, or -1: each delivery of it that was acked was before another one. An
// ack in doubt may have taken place.
func (a *account) unacked(k *keyAccount) int {
	began := map[int]time.Duration{} // when the last delivery of each version began
	for _, d := range k.deliveries {
		began[d.version] = max(began[d.version], d.began)
	}
	acked := map[int]bool{}
	for _, d := range k.deliveries {
		acked[d.version] = acked[d.version] || d.ack && d.ended >= began[d.version]
	}
	for version := len(k.confirmed) - 1; version >= 0; version-- {
		if k.confirmed[version] > 0 && !acked[version] {
			return version
		}
		if a.keyed && acked[version] {
			return -1 // it has replaced the others
		}
	}
	return -1
}

// done reports whether a delivery is certain to have ended by its ack: the ack was there before the lease can have ended.
func (a *account) done(d *delivery) bool {
	return d.ack && d.settled > 0 && d.settled < d.began+a.ackWait
}

// counts returns how many versions are confirmed, and how many deliveries there were.
func (a *account) counts() (confirmed, deliveries int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range a.keys {
		deliveries += len(k.deliveries)
		for _, at := range k.confirmed {
			if at > 0 {
				confirmed++
			}
		}
	}
	return confirmed, deliveries
}

// check returns what contradicts the promises.
func (a *account) check() (faults []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for key, k := range a.keys {
		slices.SortFunc(k.deliveries, func(x, y *delivery) int { return cmp.Compare(x.began, y.began) })
		fault := func(format string, args ...any) {
			faults = append(faults, fmt.Sprintf("%s, key %s: ", a.name, key)+fmt.Sprintf(format, args...))
		}
		for i, d := range k.deliveries {
			if d.version < 0 || d.version >= len(k.confirmed) {
				fault("version %d was delivered and never sent", d.version)
				continue
			}
			for _, later := range k.deliveries[i+1:] {
				a.checkPair(d, later, fault)
			}
			a.checkOrder(k, d, fault)
		}
		if version := a.unacked(k); version >= 0 {
			fault("version %d of %d was sent and is not acked after its last delivery", version, len(k.confirmed))
		}
	}
	slices.Sort(faults)
	return faults
}

// checkPair compares two deliveries of a key. later began later.
func (a *account) checkPair(d, later *delivery, fault func(string, ...any)) {
	if later.began <= d.ended {
		return // they may have been in any order
	}
	end := d.began + a.ackWait // before it the lease of d cannot have ended by itself
	if d.settling > 0 {
		end = min(end, d.settling)
	}
	switch {
	case later.ended < end:
		fault("version %d was leased at %v to %v, while version %d of %v was on lease until %v", later.version, later.began, later.ended, d.version, d.ended, end)
	case later.version == d.version && a.done(d) && later.began > d.settled:
		fault("version %d was acked at %v and delivered again at %v", d.version, d.settled, later.began)
	case later.version < d.version:
		fault("version %d was delivered at %v, after version %d at %v", later.version, later.began, d.version, d.ended)
	}
}

// checkOrder compares a delivery with the versions before it and with what was stored before it began.
func (a *account) checkOrder(k *keyAccount, d *delivery, fault func(string, ...any)) {
	if a.keyed {
		for version := d.version + 1; version < len(k.confirmed); version++ {
			if at := k.confirmed[version]; at > 0 && at < d.began {
				fault("version %d was delivered at %v, after version %d was stored at %v", d.version, d.began, version, at)
				return
			}
		}
		return
	}
	if d.version == 0 {
		return
	}
	acked := slices.ContainsFunc(k.deliveries, func(o *delivery) bool {
		return o.version == d.version-1 && o.ack && o.settling < d.ended
	})
	if !acked {
		fault("version %d was delivered at %v, before version %d was acked", d.version, d.ended, d.version-1)
	}
}

// checkStored returns what contradicts the promises in what a stream has, the versions of each key in their order.
func (a *account) checkStored(found map[string][]int) (faults []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for key, k := range a.keys {
		var want []int // what is not confirmed may be missing
		last := -1
		for _, version := range found[key] {
			if version <= last {
				faults = append(faults, fmt.Sprintf("%s, key %s: version %d is stored behind version %d", a.name, key, version, last))
			}
			last = version
		}
		for version, at := range k.confirmed {
			if at > 0 && (!a.keyed || version == len(k.confirmed)-1) {
				want = append(want, version)
			}
		}
		for _, version := range want {
			if !slices.Contains(found[key], version) {
				faults = append(faults, fmt.Sprintf("%s, key %s: version %d was sent and is not stored", a.name, key, version))
			}
		}
		if a.keyed && len(found[key]) != 1 {
			faults = append(faults, fmt.Sprintf("%s, key %s: %d messages are stored", a.name, key, len(found[key])))
		}
	}
	return faults
}
