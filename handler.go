package sequin

import (
	"context"
	"encoding/json"
	"fmt"
)

// Handle calls handle for each delivery, on Workers goroutines, until ctx ends or the Subscriber stops. Nothing else may
// read the Subscriber's deliveries. When ctx ends the Subscriber stops as by Close, within DrainTimeout.
//
// When handle returns nil the delivery is acked. When it returns an error or panics the delivery is nacked, after a delay
// that grows with each failure of its message: see [HandlerConfig], [DeadLetter] and [Permanent]. A delivery that the
// handler has settled itself stays as it is. The handler's ctx has the values of Handle's ctx. It ends at the delivery's
// Deadline, or when DrainTimeout is over. If a handler has not settled its delivery by the Deadline,
// the message is redelivered. A warning with the key is logged for the first such delivery, and then at most once a second.
// SubscriberStats.OutlivedLease counts these deliveries.
//
// Two kinds of calls are not failures. They do not count towards the dead letter, the backoff or the slowdown below, and do
// not clear earlier failures:
//
//   - The handler called [Delivery.NackAfter], because it wants the message later. It may return nil or any error, which
//     OnError gets.
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
