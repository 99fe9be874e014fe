package sequin

import (
	"context"
	"errors"
	"fmt"
)

// Pipe calls transform for each delivery, sends the messages that it returns by pub, and acks the delivery once the server
// has confirmed all of them. A delivery without messages is acked at once. A worker does not wait for the confirmation
// before it reads the next delivery, and a slow lane of pub delays only the acks of deliveries with messages in that lane.
//
// A delivery whose transform fails, or whose messages are refused as invalid, is treated as in Handle, according to cfg. If
// the target is unavailable, or refuses everything, the message is not at fault: the delivery is redelivered, and does not
// become a dead letter. (A process that starts after such an outage does not know of it, and may find that the server has
// delivered a message too often: see [DeadLetter].MaxAttempts.)
//
// Messages that pub has not sent by the delivery's Deadline are dropped from its buffer. If their request is in flight at
// that time and the delivery is redelivered, transform is not called again, and the redelivery waits for that request. An
// outage therefore does not cause many copies. All messages of a delivery are sent at least once. After a failure all of
// them are sent again.
//
// The order of a key is kept from end to end, with any number of Workers, if each target key is fed by one source key:
// the versions of a source key are delivered one after the other, and pub sends the messages of a key one after the other.
//
// Pipe returns as Handle does, with a *DrainError if the stop left deliveries unsettled, and with ErrClosed when another
// goroutine has closed pub. It does not close pub, which several pipes and senders may share.
func (s *Subscriber) Pipe(ctx context.Context, pub *Publisher, cfg HandlerConfig, transform func(context.Context, Delivery) ([]Message, error)) error {
	if pub == nil || transform == nil {
		return fmt.Errorf("%w: Pipe needs a Publisher and a function", ErrInvalidArgument)
	}
	p, err := newHandlerPool(ctx, s, cfg)
	if err != nil {
		return err
	}
	p.handle = func(ctx context.Context, batch []Delivery) ([]Message, error) { return transform(ctx, batch[0]) }
	p.pass = func(d Delivery, messages []Message) { p.passOutputs(pub, d, messages) }
	return p.run(p.serveEach)
}

// passOutputs passes the output messages of a delivery to pub.
func (p *handlerPool) passOutputs(pub *Publisher, d Delivery, messages []Message) {
	out := p.outputs.Begin(failureID(d), d, len(messages), func(d Delivery, err error) { p.outputsEnded(pub, d, err) })
	if out == nil {
		return
	}
	l := d.state.lease()
	for i, m := range messages {
		// This waits for room in pub's buffer, until the lease ends. The wait slows down the source.
		if err := pub.admitFor(l.Context(), l, m, out, true); err != nil {
			out.End(len(messages)-i, err)
			return
		}
	}
}

// outputsEnded settles a delivery once all of its output messages are confirmed, or one has failed with err.
func (p *handlerPool) outputsEnded(pub *Publisher, d Delivery, err error) {
	switch batch := []Delivery{d}; {
	case p.sub.hard.Err() != nil: // the DrainError counts the delivery already
	case err == nil:
		p.succeeded(batch, p.reportAside)
	case errors.Is(err, ErrClosed):
		p.abort(fmt.Errorf("sequin: the pipeline's Publisher: %w", err))
		_ = d.NackAfter(p.cfg.BackoffMax) // the stop sends the nack, as in returnInterrupted
	default:
		p.failed(batch, fmt.Errorf("sequin: send the output messages of %q: %w", clip(d.Key), err), pub.blames(err), p.aside.Go)
	}
}

// blames reports whether err is the fault of the messages themselves. An unexplained 500 is their fault if RetryFor is
// not set, because the Publisher then fails a message with it only after it has found that the server cannot store it.
func (p *Publisher) blames(err error) bool {
	switch classify(err).kind {
	case kindInvalid, kindRequestTooLarge:
		return true
	case kindUnexplained500:
		return p.cfg.RetryFor == 0
	}
	return false
}
