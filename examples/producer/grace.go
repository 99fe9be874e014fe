package main

import (
	"context"
	"errors"
	"time"

	"github.com/sequin-go/sequin"
)

var (
	errGraceOver = errors.New("-grace is over")
	errRefused   = errors.New("the server refuses everything, and -grace is over")
)

// graceContext is the context of sending. An outage alone does not end it. It ends once -grace has passed since ctrl-C,
// since reading failed, or since the server began to refuse everything.
type graceContext struct {
	context.Context
	grace  time.Duration
	cancel context.CancelCauseFunc
}

// newGraceContext starts no goroutine. The caller must call cancel.
func newGraceContext(ctx context.Context, grace time.Duration) *graceContext {
	c := &graceContext{grace: grace}
	c.Context, c.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, c.startGrace)
	context.AfterFunc(c, func() { stop() })
	return c
}

// startGrace ends the context after the grace time.
func (c *graceContext) startGrace() { time.AfterFunc(c.grace, func() { c.cancel(errGraceOver) }) }

// closePublisher closes the Publisher. It returns the reason when the context ended first. The tracker reports the messages
// that were not sent.
func (c *graceContext) closePublisher(pub *sequin.Publisher) error {
	go c.watchForRefusal(pub)
	if pub.Close(c) != nil {
		return context.Cause(c)
	}
	return nil
}

// watchForRefusal ends the context when the server has refused everything for the grace time. A Publisher waits without
// limit for a stream to be created or a token to be allowed; a command that has read its input must end.
func (c *graceContext) watchForRefusal(pub *sequin.Publisher) {
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	sent := pub.Stats().Sent
	var since time.Time // when a refusal was first seen after the last message was sent; zero if there was none
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
		// A token may be allowed to read and not to write. Then each read of the stream ends the refusal, and the next send
		// begins another one. Therefore only a message that was sent ends it here.
		if since.IsZero() && s.Refusal != nil {
			since = time.Now()
		}
		if !since.IsZero() && time.Since(since) >= c.grace {
			c.cancel(errRefused)
		}
	}
}
