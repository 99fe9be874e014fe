package sequin

import (
	"context"
	"errors"
	"fmt"
)

// Pipe calls transform for each delivery, sends the messages that it returns by pub, and acks the delivery once the
// server has all of them; with no messages, at once. It waits for neither before it takes the next delivery, and a lane
// of pub that is slow holds back only the acks that depend on it.
//
// Otherwise it is Handle: cfg says what becomes of a delivery whose transform fails or whose messages are refused as
// invalid. A target that is away, or refuses everything, is no fault of a message and brings none to the dead letters:
// its delivery comes again. (A process that takes over after such an outage knows nothing of it, and may find that the
// server has delivered a message too often: see [DeadLetter].MaxAttempts.) What pub could not send before the delivery's
// Deadline is dropped from its buffer, and a delivery that comes again while its messages are still on their way waits for
// these: no outage piles up copies. The messages of a delivery are at least once, all or again.
//
// Versions of a source's key are delivered one after the other, and messages of a key are sent by pub one after the
// other: order per key is kept from end to end, with any number of Workers, where one source key feeds each target key.
//
// Pipe returns as Handle does, and with ErrClosed when pub was closed by somebody else. It does not close pub, which may
// serve several pipes and senders.
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
	return p.run(ctx, p.serveEach)
}

// passOutputs hands the output messages of a delivery to pub.
func (p *handlerPool) passOutputs(pub *Publisher, d Delivery, messages []Message) {
	out := p.outputs.begin(d, len(messages), func(d Delivery, err error) { p.outputsEnded(pub, d, err) })
	if out == nil {
		return
	}
	l := d.state.lease
	for i, m := range messages {
		// Waiting for room in pub's buffer, for as long as the lease lasts, is what slows the source down.
		if err := pub.admitFor(l.context(), l, m, out, true); err != nil {
			out.end(len(messages)-i, err)
			return
		}
	}
}

// outputsEnded settles a delivery once all of its output messages are confirmed, or one has failed with err.
func (p *handlerPool) outputsEnded(pub *Publisher, d Delivery, err error) {
	switch batch := []Delivery{d}; {
	case p.sub.hard.Err() != nil: // the DrainError counts the delivery already
	case err == nil:
		p.succeeded(batch)
	case errors.Is(err, ErrClosed):
		_ = d.Nack()
		p.abort(fmt.Errorf("sequin: the pipeline's Publisher: %w", err))
	default:
		p.failed(batch, fmt.Errorf("sequin: send the output messages of %q: %w", clip(d.Key), err), pub.blames(err))
	}
}

// blames reports whether err is the messages' own fault. A crash of the server is, where the Publisher has found out
// that it is this message's: it does when it has no limit of time.
func (p *Publisher) blames(err error) bool {
	switch classify(err).kind {
	case kindInvalid, kindTooLarge:
		return true
	case kindUnexplained500:
		return p.cfg.RetryFor == 0
	}
	return false
}
