// Package flow decides how many messages a Subscriber has in flight, how large requests may be, and how long a receive waits.
//
// A [Window] is the prefetch window: how many messages may be in flight, and how many one receive asks for. It follows
// [HandlingTimes], which keeps the latest times from a message's receive to its settle. [Sizes] limits the bytes of a request,
// [Link] those of all requests in flight, [Parallel] the number of receives, [Slots] that of requests with acks, and [Wait] how long
// a receive waits at the server. [Distance] tells whether the server is far. [Ending] says how a stop ends a receive, and [Shrunk]
// whether the window has shrunk.
//
// Only the goroutine of the Subscriber's loop uses the Window, every [Batch], the Parallel, the Wait, every Ending and the Shrunk.
// HandlingTimes, Slots, Distance and Link may be used from any goroutine: each settle adds its time.
//
// The package knows nothing of requests, of the channel or of settles. Its callers report events to it, and it returns
// numbers.
package flow

import (
	"time"

	"github.com/sequin-go/sequin/internal/lease"
)

// Window is how many messages may be in flight. The lease of a message runs while it waits in the buffer, so the window
// follows the speed of the program. It doubles while twice as many messages would still be settled in time; otherwise it
// shrinks to what the program manages. Once each receive may ask for all that one answer holds, the window doubles only if
// the program waits for messages that a larger one would bring: otherwise it would keep more messages from other processes, and do no
// more work.
//
// The arithmetic is Little's law: with twice as many messages in flight, a program that is busy takes at most twice as
// long from a message's receive to its settle.
type Window struct {
	size, maxInFlight int
	parts             int // one for each receive that runs, and one for the program
	share             share
	each              int // the bytes of a message, as in the last answers; 0 before the first
	round             Round
	times             *HandlingTimes

	level int           // how many messages were buffered at the last sample
	pause time.Duration // until the next sample
}

// firstSize is the size of a new Window. It is large enough for a batch to be worth its request, and small enough that a
// program which needs seconds for each message returns most of them in time.
const firstSize = 32

// NewWindow returns the window of a Subscriber that has at most maxInFlight messages in flight, makes at most pollers
// receives at once, and receives at most maxBatch messages with each.
func NewWindow(maxInFlight, pollers, maxBatch int, times *HandlingTimes) Window {
	parts := pollers + 1
	part := min(maxBatch, (maxInFlight+parts-1)/parts)
	return Window{size: min(firstSize, maxInFlight), maxInFlight: maxInFlight, parts: parts, share: share{size: part, largest: part}, times: times}
}

// answerBytes is how large an answer may be. Larger ones cost more for each message: at 2 MiB and more, the memory of an
// answer is no longer in the caches of the processor when it is decoded.
const answerBytes = 1 << 20

// Sized records that an answer held n messages with the given bytes. What a receive asks for follows the mean of the last
// answers: up at once, and down slowly, because a size that is taken for too small exceeds the limits.
func (w *Window) Sized(n, bytes int) {
	mean := max(1, bytes/n)
	if mean < w.each {
		mean = w.each - (w.each-mean)/4
	}
	w.each = mean
}

// Each returns how many bytes a message is likely to have, 0 if that is not known yet.
func (w *Window) Each() int { return w.each }

// part returns how many messages one receive asks for at most.
func (w *Window) part() int {
	if w.each == 0 {
		return w.share.size
	}
	return min(w.share.size, max(1, answerBytes/w.each))
}

// Size returns how many messages may be in flight.
func (w *Window) Size() int { return w.size }

// Round counts the changes of a Window. A batch of an earlier round does not make it grow, and one from before it last shrank
// does not make it shrink.
type Round struct{ changes, shrinks int }

// Round returns the present round.
func (w *Window) Round() Round { return w.round }

// Ask returns how many messages a receive asks for if there is room for room messages.
func (w *Window) Ask(room int) int { return min(room, w.part()) }

// Small reports whether a receive that asks for ask messages is hardly worth its request while the program has other
// messages.
func (w *Window) Small(ask int) bool { return ask < 1 || ask < min(w.part(), w.size)/2 }

// Enough reports whether unread messages are as many as one receive brings. While the server has few, more of them would come in small
// answers and wait for the program. While it has more than was asked for, the size of the window alone counts: a program that takes
// many messages at once, or is quick, needs what it had time to fetch meanwhile.
func (w *Window) Enough(unread int) bool { return unread >= w.part() }

// Batch is what a Window records of the messages of one receive.
type Batch struct {
	lease    *lease.Lease
	round    Round         // that of the window when the receive started
	limited  bool          // a larger window would have been of use
	settles  uint64        // how many settles the program had made when the answer arrived
	buffered time.Duration // how long the last of the messages stayed in the buffer
}

// NewBatch returns the Batch of a receive that started in the given round. limited reports whether the server had more
// messages, and it was the window that limited the receive. starved reports whether the program waits for messages that a larger
// window would bring.
func (w *Window) NewBatch(l *lease.Lease, round Round, limited, starved bool) Batch {
	limited = limited && (starved || w.size < w.parts*w.part())
	return Batch{lease: l, round: round, limited: limited, settles: w.times.Count()}
}

// Read records that the program has read the last message of b from the buffer. The window doubles if it was the window that
// limited the receive, and if the program would settle messages in time that wait twice as long.
func (w *Window) Read(now time.Time, b *Batch) {
	l := b.lease
	took := now.Sub(l.Began)
	b.buffered = took
	fastest, slowest := w.times.Extremes()
	whole := 2 * max(slowest, took+fastest)
	if b.limited && b.round == w.round && took < l.HandOverBy.Sub(l.Began)/2 && whole <= l.Deadline.Sub(l.Began) {
		w.resize(2 * w.size)
	}
}

// Expired records that a message of b was not read from the buffer in time. read is how many messages the program has read
// since those of b were buffered.
func (w *Window) Expired(now time.Time, b *Batch, read uint64) {
	b.buffered = now.Sub(b.lease.Began)
	if b.round.shrinks == w.round.shrinks {
		w.resize(min(w.size/2, int(min(read, uint64(w.maxInFlight)))/2))
	}
}

// Late records that the settle of a message of b came after its deadline. The window shrinks if the message waited in the
// buffer for more than a quarter of its lease. Otherwise the program itself is slow, and a smaller window would not help.
func (w *Window) Late(b *Batch) {
	if b.buffered > b.lease.Deadline.Sub(b.lease.Began)/4 && b.round.shrinks == w.round.shrinks {
		w.resize(w.size / 2)
	}
}

// Unsettled records that the lease of b is over and that some of its messages were not settled, while the buffer is empty.
// The window doubles if the program has settled nothing at all since they arrived, because it may be waiting for more
// messages than the window allows, to settle them together.
func (w *Window) Unsettled(b *Batch) {
	if b.settles == w.times.Count() && b.round == w.round {
		w.resize(2 * w.size)
	}
}

func (w *Window) resize(size int) {
	before := w.size
	w.size = max(1, min(size, w.maxInFlight))
	w.round.changes++
	if w.size < before {
		w.round.shrinks++
	}
}

// Sample records how many messages are buffered and returns the pause until the next sample: 1 ms after a change, and up to
// 50 ms while nothing changes. Samples are needed because a read from a channel causes no event.
func (w *Window) Sample(level int) time.Duration {
	if level != w.level {
		w.pause = time.Millisecond
	} else {
		w.pause = min(max(2*w.pause, time.Millisecond), 50*time.Millisecond)
	}
	w.level = level
	return w.pause
}
