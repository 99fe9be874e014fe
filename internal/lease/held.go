package lease

import "sync/atomic"

// Held is a delivery with a lease of its own: one that has been extended, or may be. It points to its current lease. The
// other deliveries of a receive share that of the receive.
type Held struct {
	AckID     string
	Settled   *atomic.Bool // whether the program has settled the delivery
	Extending atomic.Bool  // an extension is queued, or its request runs

	current atomic.Pointer[Lease] // changed with the Ledger's lock held
	lost    atomic.Bool
	work    atomic.Pointer[Work]
	ended   bool // its settle has ended, or its lease is lost; guarded by the Ledger's lock
}

// NewHeld returns the Held of a delivery with that lease.
func NewHeld(ackID string, settled *atomic.Bool, l *Lease) *Held {
	h := &Held{AckID: ackID, Settled: settled}
	h.current.Store(l)
	return h
}

// Lease returns the current lease.
func (h *Held) Lease() *Lease { return h.current.Load() }

// Lost reports whether the server has ended the lease before its time.
func (h *Held) Lost() bool { return h.lost.Load() }

// Work returns the context of work on the delivery. It is the same at every call. made reports whether this call has made
// it: the caller then passes the Held to Ledger.Hold.
func (h *Held) Work() (w *Work, made bool) {
	if w := h.work.Load(); w != nil {
		return w, false
	}
	made = h.work.CompareAndSwap(nil, &Work{parent: h.Lease().Parent, held: h})
	return h.work.Load(), made
}

// EndWork ends the context of the delivery, if Work has made one. See Work.End.
func (h *Held) EndWork(cause error) {
	if w := h.work.Load(); w != nil {
		w.End(cause)
	}
}
