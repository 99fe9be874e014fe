package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/sequin-go/sequin"
)

// maxPending is how many messages the tracker follows at once. It is twice what a Publisher buffers by default, so that
// send rarely waits for the tracker. It bounds the memory while one lane hangs and the others continue.
const maxPending = 40_000

// maxFailed is how many messages may fail before reading ends. They are kept in memory, and so many failures must have
// a common cause.
const maxFailed = 10_000

var errManyFailed = fmt.Errorf("%d messages have failed", maxFailed)

// tracker passes messages to a Publisher and waits for the result of each, in the order of the sends. It keeps the messages
// that were not sent, in that order, so that the versions of a key can be sent again in order. It drops a failed message
// when a later version of its key was sent.
type tracker struct {
	pub     *sequin.Publisher
	rejects *rejects
	stop    context.CancelCauseFunc // ends reading

	room    chan struct{} // holds one token for each entry of pending, and for the one that is being sent
	pending chan entry
	done    chan struct{} // closed when pending is closed and every entry has its result

	failed atomic.Int64 // number of failures in left

	// Used by the goroutine of collectResults until it has ended.
	left []sequin.MessageError
	keys map[string]bool // of the failures in left
}

// entry is a message that the Publisher has accepted.
type entry struct {
	message sequin.Message
	receipt sequin.Receipt
}

// newTracker starts the goroutine that collects the results. It ends after unsent was called.
func newTracker(pub *sequin.Publisher, r *rejects, stop context.CancelCauseFunc) *tracker {
	t := &tracker{pub: pub, rejects: r, stop: stop,
		room: make(chan struct{}, maxPending), pending: make(chan entry, maxPending), done: make(chan struct{}), keys: map[string]bool{}}
	go t.collectResults()
	return t
}

// send waits for room, in the tracker and in the Publisher. It is called by one goroutine.
func (t *tracker) send(ctx context.Context, m sequin.Message) error {
	select {
	case t.room <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	receipt, err := t.pub.SendReceipt(ctx, m)
	if err != nil {
		<-t.room
		return err
	}
	t.pending <- entry{m, receipt} // does not wait: there is room
	return nil
}

// collectResults waits for the result of each message.
func (t *tracker) collectResults() {
	defer close(t.done)
	for e := range t.pending {
		<-e.receipt.Done()
		<-t.room
		switch err := e.receipt.Err(); {
		case err == nil:
			t.dropSuperseded(e.message.Key)
		case isPermanent(err):
			t.rejects.add(e.message, err, 0)
		default:
			t.keep(e.message, err)
		}
	}
}

// isPermanent reports whether err says that the message itself can never be sent. Any other error may be gone at the next
// start: the token, the name of the stream, or the state of the server may have changed.
func isPermanent(err error) bool {
	for _, own := range []error{sequin.ErrInvalidKey, sequin.ErrInvalidData, sequin.ErrInvalidHeaders, sequin.ErrTooLarge, sequin.ErrValidation} {
		if errors.Is(err, own) {
			return true
		}
	}
	return false
}

// keep adds a message that was not sent.
func (t *tracker) keep(m sequin.Message, err error) {
	t.left = append(t.left, sequin.MessageError{Message: m, Err: err})
	if errors.Is(err, sequin.ErrClosed) {
		return // Close left it unsent, and no later message is sent
	}
	t.keys[m.Key] = true
	if t.failed.Add(1) == maxFailed {
		t.stop(errManyFailed)
	}
}

// dropSuperseded rejects the failures of a key when a later version of it was sent. Sending them again would put an older
// version back.
func (t *tracker) dropSuperseded(key string) {
	if !t.keys[key] {
		return
	}
	delete(t.keys, key)
	t.left = slices.DeleteFunc(t.left, func(e sequin.MessageError) bool {
		if e.Message.Key != key {
			return false
		}
		t.failed.Add(-1)
		t.rejects.add(e.Message, fmt.Errorf("a later message of its key was sent; this one had failed: %w", e.Err), 0)
		return true
	})
}

// unsent returns the messages that were not sent. The Publisher must be closed.
func (t *tracker) unsent() []sequin.MessageError {
	close(t.pending)
	<-t.done
	return t.left
}
