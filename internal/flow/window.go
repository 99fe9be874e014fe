// Package flow decides how many messages a Subscriber has in flight.
//
// A [Window] is the prefetch window: how many messages may be in flight, and how many one receive asks for. It follows
// [HandlingTimes], which keeps how long the program took lately from a message's receive to its settle.
//
// The Window belongs to the goroutine of the Subscriber's loop, which also owns every [Batch]. HandlingTimes may be used
// from any goroutine: whoever settles a message adds to it.
//
// The package knows nothing of requests, of the channel or of settles. It is told what has happened and returns numbers.
package flow

import (
	"time"

	"github.com/sequin-go/sequin/internal/lease"
)

// Window is how many messages may be in flight. A message that waits in the buffer uses up its lease, so the window
// follows the program: it doubles while twice as many messages would still be settled in time, and shrinks to what the
// program gets through if they would not.
//
// The arithmetic is Little's law: with twice as many messages in flight, a program that is busy takes at most twice as
// long from a message's receive to its settle.
type Window struct {
	size, most int
	share      share
	round      int // counts the changes of size: a batch that was asked for under another size says nothing about this one
	times      *HandlingTimes

	level int           // how much was buffered at the last sample
	pause time.Duration // until the next sample
}

// firstSize is enough for a batch to be worth its request, and few enough that a program which needs seconds for each
// message returns most of them in time.
const firstSize = 32

// NewWindow returns the window of a Subscriber that has at most so many messages in flight, makes so many receives at
// once, and receives at most maxBatch messages with each.
func NewWindow(maxInFlight, pollers, maxBatch int, times *HandlingTimes) Window {
	parts := pollers + 1 // one for each receive that runs, and one that the program works on
	part := min(maxBatch, (maxInFlight+parts-1)/parts)
	return Window{size: min(firstSize, maxInFlight), most: maxInFlight, share: share{now: part, most: part}, times: times}
}

// Size returns how many messages may be in flight.
func (w *Window) Size() int { return w.size }

// Round returns a number that changes whenever the size is set.
func (w *Window) Round() int { return w.round }

// Ask returns how many messages a receive asks for if there is room for so many.
func (w *Window) Ask(room int) int { return min(room, w.share.now) }

// Small reports whether a receive that asks for so many is hardly worth its request while the program has something else
// to do.
func (w *Window) Small(ask int) bool { return ask < 1 || ask < min(w.share.now, w.size)/2 }

// Batch is what a Window notes of the messages of one receive.
type Batch struct {
	lease    *lease.Lease
	round    int           // of the window when the messages were asked for
	limited  bool          // the server had more, and the window did not let the Subscriber receive it
	settles  uint64        // that the program had made by then
	buffered time.Duration // how long the last of the messages stayed in the buffer
}

// NewBatch returns the Batch of a receive that was made in a round. limited says that there was more to receive, and
// that the window did not let the Subscriber receive it.
func (w *Window) NewBatch(l *lease.Lease, round int, limited bool) Batch {
	return Batch{lease: l, round: round, limited: limited, settles: w.times.Count()}
}

// Taken notes that the program has taken the last message of b from the buffer. The window grows if it kept more
// messages from being received, and if the program would settle in time what waits twice as long.
func (w *Window) Taken(now time.Time, b *Batch) {
	l := b.lease
	took := now.Sub(l.Began)
	b.buffered = took
	fastest, slowest := w.times.Extremes()
	whole := 2 * max(slowest, took+fastest)
	if b.limited && b.round == w.round && took < l.HandOverBy.Sub(l.Began)/2 && whole <= l.Deadline.Sub(l.Began) {
		w.resize(2 * w.size)
	}
}

// Expired notes that a message of b was not taken from the buffer in time. taken is how many messages the program has
// taken since those of b were buffered.
func (w *Window) Expired(now time.Time, b *Batch, taken uint64) {
	b.buffered = now.Sub(b.lease.Began)
	if b.round == w.round {
		w.resize(min(w.size/2, int(min(taken, uint64(w.most)))/2))
	}
}

// Late notes that a message of b was settled after its deadline. The window shrinks if waiting in the buffer took a good
// part of the lease: a program that is slow by itself is not helped by a smaller window.
func (w *Window) Late(b *Batch) {
	if b.buffered > b.lease.Deadline.Sub(b.lease.Began)/4 && b.round == w.round {
		w.resize(w.size / 2)
	}
}

// Unsettled notes that the lease of b is over and that some of its messages were not settled, while the buffer is empty.
// The window grows if the program has settled nothing at all in the meantime: it may wait for more messages than the
// window allows, to settle them together.
func (w *Window) Unsettled(b *Batch) {
	if b.settles == w.times.Count() && b.round == w.round {
		w.resize(2 * w.size)
	}
}

func (w *Window) resize(size int) {
	w.size = max(1, min(size, w.most))
	w.round++
}

// Sample notes how much is buffered and returns when to look again: a channel tells nobody that it was read. That is 1 ms
// after a change, and up to 50 ms while nothing changes.
func (w *Window) Sample(level int) time.Duration {
	if level != w.level {
		w.pause = time.Millisecond
	} else {
		w.pause = min(max(2*w.pause, time.Millisecond), 50*time.Millisecond)
	}
	w.level = level
	return w.pause
}
