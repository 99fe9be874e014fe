package sequin

import (
	"time"
)

// window is how many messages may be buffered or asked for at once. Messages that wait in the buffer use up their lease,
// so that the window follows the program: it doubles while the buffer empties quickly, and halves when something
// expires in it.
type window struct {
	size, most int
	share      int // of one receive: one of so many parts
	fills      []fill
	quietUntil time.Time // no growth: something has just expired

	level int           // what the buffer held when it was last gauged
	pause time.Duration // until it is gauged again
}

// fill is a full receive that went into the buffer.
type fill struct {
	to uint64 // its last message, in the order of handing over
	at time.Time
}

// firstAsk is what the first receive asks for: enough for a batch to be worth its request, few enough that a program
// which needs seconds for each gives most of them back in time.
const firstAsk = 32

func newWindow(cfg SubscriberConfig) window {
	share := cfg.Pollers + 1 // every poller's receive, and one being worked on
	ask := min(MaxBatch, (cfg.MaxInFlight+share-1)/share)
	return window{size: share * min(firstAsk, ask), most: share * ask, share: share}
}

// ask is what one receive may ask for.
func (w *window) ask() int { return (w.size + w.share - 1) / w.share }

// filled notes a full receive, whose last message is the to-th.
func (w *window) filled(now time.Time, to uint64) { w.fills = append(w.fills, fill{to, now}) }

// observe doubles the window for a full receive that was handed over within half of the time that its messages could
// have waited: twice as many would have been handed over in time, too.
func (w *window) observe(now time.Time, handed uint64, terms leaseTerms) {
	usable := terms.ackWait - 2*terms.margin
	for len(w.fills) > 0 && w.fills[0].to <= handed {
		if now.Sub(w.fills[0].at) < usable/2 && now.After(w.quietUntil) {
			w.size = min(2*w.size, w.most)
		}
		w.fills = w.fills[1:]
	}
}

// shrink halves the window, and lets it be for one lease.
func (w *window) shrink(now time.Time, terms leaseTerms) {
	w.size = max(1, w.size/2)
	w.quietUntil = now.Add(terms.ackWait)
	w.fills = nil
}

// gauge returns when to look at the buffer again: a channel tells nobody that it was read. 1 ms while it moves, 50 ms
// when it does not.
func (w *window) gauge(level int) time.Duration {
	if level != w.level {
		w.pause = time.Millisecond
	} else {
		w.pause = min(max(2*w.pause, time.Millisecond), 50*time.Millisecond)
	}
	w.level = level
	return w.pause
}
