package sequin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// Handle calls handle for each delivery, on Workers goroutines, until ctx ends or the Subscriber stops. Nothing else may
// read the Subscriber's deliveries. When ctx ends the Subscriber stops as by Close, within DrainTimeout.
//
// When handle returns nil the delivery is acked. When it returns an error or panics the delivery is nacked, after a delay
// that grows with each failure of its message: see [HandlerConfig], [DeadLetter] and [Permanent]. A delivery that the
// handler has settled itself stays as it is.
//
// Where the server announces extend, the lease of a delivery is extended while its handler runs, up to
// [HandlerConfig].MaxHandling, also during a stop. Extensions of many handlers share requests, and no goroutine or timer belongs
// to a handler. The handler's ctx has the values of Handle's ctx. It ends when the handler has returned, after MaxHandling, when
// the server has lost the lease, or when DrainTimeout is over. context.Cause is then ErrLeaseExpired if the lease is
// over or lost. Elsewhere the ctx ends at the delivery's Deadline, or when DrainTimeout is over.
//
// If a handler has not settled its delivery when the lease is over, the message is redelivered. A warning with the key is logged for the first such delivery, and then at most once a second.
// SubscriberStats.OutlivedLease counts these deliveries.
//
// Two kinds of calls are not failures. They do not count towards the dead letter, the backoff or the slowdown below, and do
// not clear earlier failures:
//
//   - The handler called [Delivery.NackAfter], because it wants the message later, or [Delivery.Release], because another
//     program shall have it. It may return nil or any error, which OnError gets.
//   - A stop interrupted the handler: it returned an error after a stop had ended its ctx, or the error of a context after
//     a stop had begun. The message is nacked. Any other error after a stop has begun is reported, and does not count
//     towards the dead letter unless it is [Permanent].
//
// After ten calls in a row have failed the Subscriber slows down: it returns its buffered deliveries to the server and
// tries one message at a time, with pauses that grow from BackoffMin to BackoffMax. One success ends the slowdown.
//
// Handle returns when the Subscriber has stopped and its handlers have returned. The error is that of Err, nil after Close
// or the end of ctx. It is joined with the *DrainError of Close when the stop left deliveries unsettled, and with
// ErrHandlersRunning when handlers still run a second after their ctx has ended.
//
// Errors returned at once, after which the Subscriber still runs and must be closed, are ErrInvalidConfig,
// ErrInvalidArgument, ErrBusy when the deliveries are read in another way, and ErrNotFound when the server says that the
// stream of cfg.DeadLetter does not exist. Handle asks the server once and waits at most 2 s. After any other answer, or
// none, the handlers start.
func (s *Subscriber) Handle(ctx context.Context, cfg HandlerConfig, handle func(context.Context, Delivery) error) error {
	if handle == nil {
		return fmt.Errorf("%w: Handle needs a function", ErrInvalidArgument)
	}
	p, err := newHandlerPool(ctx, s, cfg)
	if err != nil {
		return err
	}
	p.handle = func(ctx context.Context, batch []Delivery) ([]Message, error) { return nil, handle(ctx, batch[0]) }
	return p.run(p.serveEach)
}

// DecodeJSON decodes a delivery's data from JSON into a T. The error is [Permanent], because the same data will never
// decode.
func DecodeJSON[T any](d Delivery) (T, error) {
	var v T
	if err := json.Unmarshal([]byte(d.Data), &v); err != nil {
		return v, Permanent(fmt.Errorf("sequin: decode %q into %T: %w", clip(d.Key), v, err))
	}
	return v, nil
}

// Typed sends and handles messages whose data is the JSON of a T. It names the type and its key once:
//
//	var orders = sequin.Typed[Order]{Key: func(o Order) string { return "orders." + o.ID }}
//
// It is a small value. Its methods may be called concurrently, also by the goroutines of handlers.
type Typed[T any] struct {
	// Key returns the key of a value. Only Message and Send need it.
	Key func(T) string
}

// Message returns the message of a value. Its errors are those of [EncodeJSON].
func (t Typed[T]) Message(v T) (Message, error) {
	if t.Key == nil {
		return Message{}, fmt.Errorf("%w: Typed[%T].Key is nil", ErrInvalidConfig, v)
	}
	return EncodeJSON(t.Key(v), v)
}

// Send sends a value by pub. Its errors are those of Message and of [Publisher.SendMessage].
func (t Typed[T]) Send(ctx context.Context, pub *Publisher, v T) error {
	m, err := t.Message(v)
	if err != nil {
		return err
	}
	return pub.SendMessage(ctx, m)
}

// Handler returns a function for [Subscriber.Handle]. Data that is not the JSON of a T is an error that is [Permanent].
func (t Typed[T]) Handler(handle func(ctx context.Context, v T, d Delivery) error) func(context.Context, Delivery) error {
	return func(ctx context.Context, d Delivery) error {
		v, err := DecodeJSON[T](d)
		if err != nil {
			return err
		}
		return handle(ctx, v, d)
	}
}

// BatchHandler returns a function for [Subscriber.HandleBatch]. handle gets the value of each delivery. If the data of one is not
// the JSON of a T, the batch fails with an error that is [Permanent], and HandleBatch then handles its deliveries alone.
func (t Typed[T]) BatchHandler(handle func(ctx context.Context, vs []T, ds []Delivery) error) func(context.Context, []Delivery) error {
	return func(ctx context.Context, ds []Delivery) error {
		vs := make([]T, len(ds))
		for i, d := range ds {
			var err error
			if vs[i], err = DecodeJSON[T](d); err != nil {
				return err
			}
		}
		return handle(ctx, vs, ds)
	}
}

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
	p.pass = func(ctx context.Context, d Delivery, messages []Message) { p.passOutputs(ctx, pub, d, messages) }
	return p.run(p.serveEach)
}

// passOutputs passes the output messages of a delivery to pub. The transform had the context of.
func (p *handlerPool) passOutputs(of context.Context, pub *Publisher, d Delivery, messages []Message) {
	out := p.outputs.Begin(failureID(d), d, len(messages), func(d Delivery, err error) { p.outputsEnded(pub, d, err) })
	if out == nil {
		return
	}
	l := d.state.Lease()
	ctx := l.Context()
	if pub.client.hooks.sends() {
		ctx = handlerContext{ctx, context.WithoutCancel(of)}
	}
	for i, m := range messages {
		// This waits for room in pub's buffer, until the lease ends. The wait slows down the source.
		if err := pub.admitFor(ctx, l, m, out, true); err != nil {
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
		p.sub.settler.returnAtStop(d, p.cfg.BackoffMax)
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
