package lease

import (
	"iter"
	"slices"
	"sync"
	"time"
)

// Ledger counts what a Subscriber has in flight. N is the owner's note on a lease, and H is a nack that is sent later. Its
// methods may be called from any goroutine.
type Ledger[N, H any] struct {
	mu          sync.Mutex // guards all below; held for arithmetic only
	maxInFlight int
	inFlight    int // the sum of room over the accounts
	bytes       int // those of the messages in flight
	accounts    accounts[N]
	delayed     []Delayed[H] // earliest first
	deadLetters int          // being sent
	stopping    bool
	released    bool // no nack is delayed any more
	unsent      Unsent
}

// Delayed is a nack that is sent later.
type Delayed[H any] struct {
	Item H
	At   time.Time
}

// Unsent counts the settles that were not confirmed before a stop ended.
type Unsent struct {
	Unsettled int // certainly not carried out
	Unknown   int // may have been carried out
	Cause     error
}

// NewLedger returns the Ledger of a Subscriber that may have up to maxInFlight messages in flight.
func NewLedger[N, H any](maxInFlight int) *Ledger[N, H] {
	return &Ledger[N, H]{maxInFlight: maxInFlight, accounts: accounts[N]{byLease: map[*Lease]*account[N]{}}}
}

// Add opens an account for the n messages of a receive, which have the given bytes together. Each message takes up room until
// Settled records that the server has confirmed its settle, or until Expire finds that the lease is over.
func (g *Ledger[N, H]) Add(l *Lease, n, bytes int, note N) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inFlight += n
	g.bytes += bytes
	g.accounts.add(&account[N]{lease: l, note: note, room: n, open: n, bytes: bytes})
}

// Settled records how settles have ended, given for each the lease and the Held, which is nil for a delivery that has none. A
// settle that the server confirmed frees the room of its message. After any other settle the server may still count the
// message as leased, and the room becomes free when the lease is over. The sequence is read with the lock held: a lease
// that it yields is not extended meanwhile.
func (g *Ledger[N, H]) Settled(settles iter.Seq2[*Lease, *Held], confirmed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var a *account[N] // of the last lease: equal ones come in runs
	for l, h := range settles {
		if a == nil || a.lease != l {
			a = g.accounts.byLease[l]
		}
		if h != nil {
			if h.ended {
				continue // the lease is lost, and its room is free
			}
			h.ended = true
			if a != nil {
				g.accounts.release(a, h)
			}
		}
		if a == nil || a.room == 0 {
			continue // the lease is over, and its room is free
		}
		a.open--
		if confirmed {
			g.inFlight--
			g.bytes -= g.accounts.free(a)
		}
	}
}

// Expire frees the room of the leases that are over. It returns the notes of those that had messages whose settles had
// not ended, and when the next lease is over: the zero time if there is none.
func (g *Ledger[N, H]) Expire(now time.Time) (open []N, next time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for a := g.accounts.first; a != nil; a = g.accounts.first {
		if !Past(now, a.lease.Until) {
			return open, a.lease.Until
		}
		if a.open > 0 {
			open = append(open, a.note)
		}
		g.inFlight -= a.room
		g.bytes -= a.bytes
		g.accounts.remove(a)
	}
	return open, time.Time{}
}

// InFlight returns how many messages take up room, and how many of these have a delayed nack.
func (g *Ledger[N, H]) InFlight() (messages, delayed int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inFlight, len(g.delayed)
}

// Bytes returns the bytes of the messages that take up room.
func (g *Ledger[N, H]) Bytes() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.bytes
}

// Room returns how many more messages may be received with a prefetch window of the given size. Messages with a delayed
// nack, and messages whose dead letter is being sent, do not wait for the program. They count towards MaxInFlight but not
// towards the window, which they would otherwise fill.
func (g *Ledger[N, H]) Room(window int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return min(window+len(g.delayed)+g.deadLetters, g.maxInFlight) - g.inFlight
}

// Open counts the messages whose settles have not ended and whose deadlines have not passed. They are in the channel, or
// with the program, or their settles are being sent. It returns the first of their deadlines, the zero time if there is
// none.
func (g *Ledger[N, H]) Open(now time.Time) (open int, next time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for a := g.accounts.first; a != nil; a = a.next {
		if a.open == 0 || Past(now, a.lease.Deadline) {
			continue
		}
		open += a.open
		if next.IsZero() || a.lease.Deadline.Before(next) {
			next = a.lease.Deadline
		}
	}
	return open, next
}

// OpenNotes returns the notes of the leases that have messages whose settles have not ended.
func (g *Ledger[N, H]) OpenNotes() (notes []N) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for a := g.accounts.first; a != nil; a = a.next {
		if a.open > 0 {
			notes = append(notes, a.note)
		}
	}
	return notes
}

// Unsettled counts the messages whose settles have not ended, whether or not their deadlines have passed.
func (g *Ledger[N, H]) Unsettled() (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for a := g.accounts.first; a != nil; a = a.next {
		n += a.open
	}
	return n
}

// Delay keeps a nack until at, or until half a margin before the deadline of its lease if that is earlier, so that it can
// be sent in time. It reports false if the nack is to be sent now, because that time has come or Release has been called.
func (g *Ledger[N, H]) Delay(l *Lease, item H, at time.Time) bool {
	if latest := l.Deadline.Add(-l.Margin / 2); at.After(latest) {
		at = latest
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.released || !time.Now().Before(at) {
		return false
	}
	i, _ := slices.BinarySearchFunc(g.delayed, at, func(d Delayed[H], at time.Time) int { return d.At.Compare(at) })
	g.delayed = slices.Insert(g.delayed, i, Delayed[H]{item, at})
	g.limitDelayedLocked()
	return true
}

// Due removes and returns the delayed nacks that are due, and returns when the next one is, the zero time if there is
// none.
func (g *Ledger[N, H]) Due(now time.Time) (due []Delayed[H], next time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for n < len(g.delayed) && !g.delayed[n].At.After(now) {
		n++
	}
	due, g.delayed = g.delayed[:n:n], g.delayed[n:]
	if len(g.delayed) > 0 {
		next = g.delayed[0].At
	}
	return due, next
}

// TakePlace takes a place for a dead letter. If none is free, the earliest delayed nack gives up its place and is sent now.
// TakePlace reports false if dead letters have all the places.
func (g *Ledger[N, H]) TakePlace() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.deadLetters >= g.places() {
		return false
	}
	g.deadLetters++
	g.limitDelayedLocked()
	return true
}

// FreePlace frees the place of a dead letter, whether or not it was sent.
func (g *Ledger[N, H]) FreePlace() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.deadLetters--
}

// PlacesTaken reports whether all places are taken: to delay one more nack, another must be sent early.
func (g *Ledger[N, H]) PlacesTaken() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.delayed)+g.deadLetters >= g.places()
}

// places is how many delayed nacks and dead letters there may be together. It is half of maxInFlight, because messages that
// fail must leave room for others.
func (g *Ledger[N, H]) places() int { return max(1, g.maxInFlight/2) }

// limitDelayedLocked makes the earliest delayed nacks due now, just enough to stay within places.
func (g *Ledger[N, H]) limitDelayedLocked() {
	for i := range min(len(g.delayed), len(g.delayed)+g.deadLetters-g.places()) {
		g.delayed[i].At = time.Now()
	}
}

// Stop notes that the Subscriber stops.
func (g *Ledger[N, H]) Stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopping = true
}

// Release removes and returns the delayed nacks. Afterwards Delay delays no nack.
func (g *Ledger[N, H]) Release() []Delayed[H] {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.released = true
	delayed := g.delayed
	g.delayed = nil
	return delayed
}

// Stopping reports whether Stop has been called.
func (g *Ledger[N, H]) Stopping() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.stopping
}

// NoteUnsent counts n settles that were not confirmed before a stop ended. unknown reports that they may have been carried
// out. The error of the first call becomes the cause.
func (g *Ledger[N, H]) NoteUnsent(n int, unknown bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.unsent.Cause == nil {
		g.unsent.Cause = err
	}
	if unknown {
		g.unsent.Unknown += n
	} else {
		g.unsent.Unsettled += n
	}
}

// Unsent returns what NoteUnsent has counted.
func (g *Ledger[N, H]) Unsent() Unsent {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.unsent
}
