package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sequin-go/sequin"
)

var (
	errGraceOver = errors.New("-grace is over")
	errRefused   = errors.New("the server refuses everything, and -grace is over")
)

// closing is the time that sending still has. An outage is waited for; but only so long as -grace once ctx has ended, or
// something else has cut the input short, or while the server refuses everything.
type closing struct {
	context.Context
	grace  time.Duration
	cancel context.CancelCauseFunc
}

// newClosing starts no goroutine; the caller calls cancel.
func newClosing(ctx context.Context, grace time.Duration) *closing {
	c := &closing{grace: grace}
	c.Context, c.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, c.hurry)
	context.AfterFunc(c, func() { stop() })
	return c
}

func (c *closing) hurry() { time.AfterFunc(c.grace, func() { c.cancel(errGraceOver) }) }

// finish closes the Publisher, and tells what has cut that short.
func (c *closing) finish(pub *sequin.Publisher) error {
	go c.awaitRefusal(pub)
	if pub.Close(c) != nil { // what is left the ledger knows best
		return context.Cause(c)
	}
	return nil
}

// awaitRefusal cancels when the server has refused everything for the grace time. A Publisher waits for a stream to come
// into being, or for a token to be let in; a command that has read its input must end.
func (c *closing) awaitRefusal(pub *sequin.Publisher) {
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	sent := pub.Stats().Sent
	var since time.Time // when a refusal was seen that nothing has been sent after; zero without
	for {
		select {
		case <-tick.C:
		case <-c.Done():
			return
		}
		s := pub.Stats()
		if s.Sent != sent {
			sent, since = s.Sent, time.Time{}
		}
		// With a token that may read and not write a refusal ends at every look, and begins again with the next send: only
		// what is sent ends it here.
		if since.IsZero() && s.Refusal != nil {
			since = time.Now()
		}
		if !since.IsZero() && time.Since(since) >= c.grace {
			c.cancel(errRefused)
		}
	}
}

// putAway spools what was not sent: what is left of the Publisher, then the rest. It returns nil when there is none.
func (o options) putAway(left []sequin.MessageError, rest []sequin.Message) error {
	messages := make([]sequin.Message, 0, len(left)+len(rest))
	var first sequin.MessageError
	failed := 0
	for _, e := range left {
		messages = append(messages, e.Message)
		if errors.Is(e.Err, sequin.ErrClosed) {
			continue
		}
		if failed++; failed == 1 {
			first = e
		}
	}
	messages = append(messages, rest...)
	spooled := o.spoolAway(messages)
	if len(messages) == 0 {
		return spooled
	}
	err := fmt.Errorf("%d messages were not sent", len(messages))
	if failed > 0 {
		err = fmt.Errorf("%w; %d failed, the first: %w", err, failed, first)
	}
	switch {
	case spooled != nil:
		return errors.Join(err, spooled)
	case o.spool == "":
		return fmt.Errorf("%w; these were lost, from key %q to key %q: -spool would have kept them", err, messages[0].Key, messages[len(messages)-1].Key)
	}
	return fmt.Errorf("%w; %d messages are in %s and will be sent first at the next start", err, len(messages), o.spool)
}
