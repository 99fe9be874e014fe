package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/sequin-go/sequin"
)

// mostOpen is how many messages the ledger follows at once: twice what a Publisher buffers by default, so that it is the
// Publisher that sets the pace, and the memory is bounded all the same while one lane stalls and the others go on.
const mostOpen = 40_000

// mostFailed is how many messages may fail before reading ends: they are kept in memory, and so many is no mishap.
const mostFailed = 10_000

var errManyFailed = fmt.Errorf("%d messages have failed", mostFailed)

// ledger hands messages to a Publisher and follows each to its fate, in the order of the sends. What is left in the end
// has that order too, so that the versions of a key can be sent again one after the other: those that failed, those
// that were never tried. A failure is not left once a later version of its key was sent.
type ledger struct {
	pub     *sequin.Publisher
	rejects *rejects
	stop    context.CancelCauseFunc // ends the reading

	room    chan struct{} // holds one for each entry of open, and for the one that is about to be
	open    chan entry
	settled chan struct{} // closed when open is closed and all in it have their fate

	failed atomic.Int64 // how many of left are failures

	// Of settle's goroutine, until it has ended.
	left []sequin.MessageError
	keys map[string]bool // of the failures in left
}

type entry struct {
	message sequin.Message
	receipt sequin.Receipt
}

// newLedger starts the goroutine that settles; it ends after end.
func newLedger(pub *sequin.Publisher, r *rejects, stop context.CancelCauseFunc) *ledger {
	l := &ledger{pub: pub, rejects: r, stop: stop,
		room: make(chan struct{}, mostOpen), open: make(chan entry, mostOpen), settled: make(chan struct{}), keys: map[string]bool{}}
	go l.settle()
	return l
}

// send waits for room, in the ledger and in the Publisher. It is called by one goroutine.
func (l *ledger) send(ctx context.Context, m sequin.Message) error {
	select {
	case l.room <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	receipt, err := l.pub.SendReceipt(ctx, m)
	if err != nil {
		<-l.room
		return err
	}
	l.open <- entry{m, receipt} // does not wait: there is room
	return nil
}

func (l *ledger) settle() {
	defer close(l.settled)
	for e := range l.open {
		<-e.receipt.Done()
		<-l.room
		switch err := e.receipt.Err(); {
		case err == nil:
			l.overtake(e.message.Key)
		case hopeless(err):
			l.rejects.add(e.message, err, 0)
		default:
			l.leave(e.message, err)
		}
	}
}

// hopeless reports whether err says that the message itself can never be sent. Anything else may be different at the
// next start: a token, the name of a stream, the server's health.
func hopeless(err error) bool {
	for _, own := range []error{sequin.ErrInvalidKey, sequin.ErrInvalidData, sequin.ErrTooLarge, sequin.ErrValidation} {
		if errors.Is(err, own) {
			return true
		}
	}
	return false
}

func (l *ledger) leave(m sequin.Message, err error) {
	l.left = append(l.left, sequin.MessageError{Message: m, Err: err})
	if errors.Is(err, sequin.ErrClosed) {
		return // Close left it untried, and nothing is sent any more
	}
	l.keys[m.Key] = true
	if l.failed.Add(1) == mostFailed {
		l.stop(errManyFailed)
	}
}

// overtake rejects the failures of a key of which a later version was sent: sending them again would put them back.
func (l *ledger) overtake(key string) {
	if !l.keys[key] {
		return
	}
	delete(l.keys, key)
	l.left = slices.DeleteFunc(l.left, func(e sequin.MessageError) bool {
		if e.Message.Key != key {
			return false
		}
		l.failed.Add(-1)
		l.rejects.add(e.Message, fmt.Errorf("a later message of its key was sent; this one had failed: %w", e.Err), 0)
		return true
	})
}

// end returns what is left, once the Publisher is closed.
func (l *ledger) end() []sequin.MessageError {
	close(l.open)
	<-l.settled
	return l.left
}
