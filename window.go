package sequin

import (
	"sync/atomic"
	"time"
)

// window is how many deliveries may be in flight, up to MaxInFlight. What waits in the channel uses up its lease, so the
// window follows the program: it doubles while twice as many would be settled in time too, and shrinks to what the
// program gets through when it does not.
//
// The arithmetic is Little's: with twice as many in flight, a program that is busy takes at most twice as long from a
// message's receive to its settle.
type window struct {
	size, most int
	share      int // what one receive asks for at most
	part       int // what it may at most, however small the messages
	round      int // counts the sizes: what was asked for under another says nothing about this one
	tempo      *tempo

	level int           // what the channel held when it was last gauged
	pause time.Duration // until it is gauged again
}

// firstWindow is enough for a batch to be worth its request, few enough that a program which needs seconds for each gives
// most of them back in time.
const firstWindow = 32

func newWindow(cfg SubscriberConfig, t *tempo) window {
	parts := cfg.Pollers + 1 // every poller's receive, and one being worked on
	part := min(MaxBatch, (cfg.MaxInFlight+parts-1)/parts)
	return window{size: min(firstWindow, cfg.MaxInFlight), most: cfg.MaxInFlight, share: part, part: part, tempo: t}
}

// ask is what a receive may ask for, with so much room left.
func (w *window) ask(room int) int { return min(room, w.share) }

// tooLarge is told that the answer to an ask was. What it had brought is away until its lease ends, so that only now and
// then more is tried: see widen. The size is another matter: a batch that needs more than it gets it by several receives.
func (w *window) tooLarge(ask int) { w.share = max(1, min(w.share, ask/2)) }

// widen lets a receive ask for more again: the large messages may be gone.
func (w *window) widen() { w.share = min(2*w.share, w.part) }

// small reports whether a receive would be hardly worth its request while the program has something else to do.
func (w *window) small(ask int) bool { return ask < 1 || ask < min(w.share, w.size)/2 }

// taken is told that the last message of l has left the channel. It is a reason for more when the window held l back, and
// the program would settle what waits twice as long in time.
func (w *window) taken(now time.Time, l *lease) {
	took := now.Sub(l.began)
	l.shelved.Store(int64(took))
	fastest, slowest := w.tempo.extremes()
	whole := 2 * max(slowest, took+fastest)
	if l.limits && l.round == w.round && took < l.near.Sub(l.began)/2 && whole <= l.deadline.Sub(l.began) {
		w.resize(2 * w.size)
	}
}

// expired is told that a message of l was not taken from the channel in time, and how many were since l was put there.
func (w *window) expired(l *lease, taken uint64) {
	if l.round == w.round {
		w.resize(min(w.size/2, int(min(taken, uint64(w.most)))/2))
	}
}

// late is told of a settle that came after the deadline of l. It counts where waiting in the channel took a good part of
// the lease: a program that is slow by itself is not helped by a smaller window.
func (w *window) late(l *lease) {
	if time.Duration(l.shelved.Load()) > l.deadline.Sub(l.began)/4 && l.round == w.round {
		w.resize(w.size / 2)
	}
}

// stuck is told that l ended with deliveries which the program had taken at once, and that it settled nothing at
// all meanwhile, with the channel empty: it may be waiting for more than the window allows, to settle them together.
func (w *window) stuck(l *lease) {
	if l.round == w.round {
		w.resize(2 * w.size)
	}
}

func (w *window) resize(size int) {
	w.size = max(1, min(size, w.most))
	w.round++
}

// gauge returns when to look at the channel again: it tells nobody that it was read. 1 ms while it moves, 50 ms when it
// does not.
func (w *window) gauge(level int) time.Duration {
	if level != w.level {
		w.pause = time.Millisecond
	} else {
		w.pause = min(max(2*w.pause, time.Millisecond), 50*time.Millisecond)
	}
	w.level = level
	return w.pause
}

// tempo is how long the program took lately from a message's receive to its settle.
type tempo struct {
	settles atomic.Uint64
	last    [256]atomic.Int64 // enough to see the slow among the fast of 200 workers, few enough to forget a bad minute soon
}

func (t *tempo) note(took time.Duration) {
	t.last[(t.settles.Add(1)-1)%uint64(len(t.last))].Store(int64(took))
}

// extremes returns the shortest and the longest of the last times, zero before the first settle.
func (t *tempo) extremes() (fastest, slowest time.Duration) {
	known := min(t.settles.Load(), uint64(len(t.last)))
	for i := range known {
		took := time.Duration(t.last[i].Load())
		if i == 0 || took < fastest {
			fastest = took
		}
		slowest = max(slowest, took)
	}
	return fastest, slowest
}
