package sequin

import (
	"sync"
	"time"
)

// transit is what came of deliveries and is on its way to another stream: the messages of a pipeline, and dead letters.
//
// A stream that accepts requests and does not answer keeps them there for longer than leases last. So a redelivery whose
// messages are still on their way is not sent once more: it takes the place of the delivery that they came from, and waits
// for their fate, which is its own.
type transit struct {
	mu   sync.Mutex // guards open, and what transfers say it does
	open map[identity]*transfer
}

// transfer is a delivery whose messages are on their way. The last of them to end decides.
type transfer struct {
	pool   *handlerPool
	settle func(Delivery, error) // told once how all of it ended

	// Guarded by transit's mu.
	d     Delivery // that with the latest Deadline
	count int      // messages that have not ended
	err   error    // of the first that failed
}

func identityOf(d Delivery) identity { return identity{d.Key, d.Seq} }

// adopts reports whether what came of an earlier delivery of the same message is still on its way. Then it is this one
// that is settled in the end. It says nothing about the handler.
func (p *handlerPool) adopts(d Delivery) bool {
	p.transit.mu.Lock()
	t := p.transit.open[identityOf(d)]
	if t != nil {
		t.succeedLocked(d)
	}
	p.transit.mu.Unlock()
	if t == nil {
		return false
	}
	p.history.update(d, func(r *record) { r.waits++ })
	p.slowDown([]Delivery{d}, false, true, time.Now())
	return true
}

// succeedLocked lets a delivery take an earlier one's place. A handler that outlived its lease may come with the earlier
// one after the later.
func (t *transfer) succeedLocked(d Delivery) {
	if d.Deadline.After(t.d.Deadline) {
		t.d = d
	}
}

// setOut begins a transfer of so many messages, whose end is told to settle. It returns nil where one is open: two
// workers may have had the same message, the first for longer than its lease.
func (p *handlerPool) setOut(d Delivery, count int, settle func(Delivery, error)) *transfer {
	p.transit.mu.Lock()
	defer p.transit.mu.Unlock()
	if t := p.transit.open[identityOf(d)]; t != nil {
		t.succeedLocked(d)
		return nil
	}
	t := &transfer{pool: p, settle: settle, d: d, count: count}
	p.transit.open[identityOf(d)] = t
	return t
}

// complete implements completer.
func (t *transfer) complete(_ int, err error) { t.end(1, err) }

// end notes that n messages have ended, and settles the delivery with the last one.
func (t *transfer) end(n int, err error) {
	t.pool.transit.mu.Lock()
	if t.err == nil {
		t.err = err
	}
	t.count -= n
	d, err, over := t.d, t.err, t.count == 0
	if over {
		delete(t.pool.transit.open, identityOf(d))
	}
	t.pool.transit.mu.Unlock()
	if over {
		t.settle(d, err)
	}
}
