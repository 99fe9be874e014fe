package sequin

import (
	"errors"
	"fmt"
	"time"
)

// DrainError says what a stop had to leave: because the ctx of Close, or DrainTimeout, ended first, or because what was
// not handed out could not be given back.
type DrainError struct {
	// Unsettled counts deliveries of which the server was told nothing: they were handed out and not acked or nacked, or
	// an ack, a nack or the giving back could not be sent. They come again when their leases end.
	Unsettled int
	// Unknown counts deliveries whose ack, nack or giving back was on its way: they may come again.
	Unknown int

	cause error
}

// Error counts what was left.
func (e *DrainError) Error() string {
	return fmt.Sprintf("sequin: stopped with %d deliveries unsettled and %d settles of unknown outcome: %v", e.Unsettled, e.Unknown, e.cause)
}

// Unwrap returns the error of the ctx that ended, or else why something could not be given back.
func (e *DrainError) Unwrap() error { return e.cause }

// add counts a settle that ended with err.
func (e *DrainError) add(err error) {
	if e.cause == nil {
		e.cause = err
	}
	if errors.Is(err, ErrOutcomeUnknown) {
		e.Unknown++
	} else {
		e.Unsettled++
	}
}

// leftLocked reports whether a settle that failed is for Close to tell: of what no program has seen nobody else does, and
// what a program has settled is reported to it, unless the stop was cut off in the midst of it. Of the latter a lease
// that is over leaves nothing: it was awaited, or refused.
func (s *Subscriber) leftLocked(x *settling, err error) bool {
	if x.undelivered {
		return s.stopping
	}
	return s.cut.Err() != nil && (errors.Is(err, ErrOutcomeUnknown) || !past(time.Now(), x.state.lease.deadline))
}

// openLocked counts the deliveries whose fate is not known and whose leases are not over: in the channel, handed out, or
// with a settle on its way. It says when the first of these leases ends.
func (s *Subscriber) openLocked(now time.Time) (open int, next time.Time) {
	next = now.Add(never)
	for l := s.leases.first; l != nil; l = l.next {
		if l.open == 0 || past(now, l.deadline) {
			continue
		}
		open += l.open
		if l.deadline.Before(next) {
			next = l.deadline
		}
	}
	return open, next
}
