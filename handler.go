package sequin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// HandlerConfig configures Subscriber.Handle and Subscriber.Pipe. The zero value works. It is copied.
type HandlerConfig struct {
	// Workers is how many handlers may run at once, each on a goroutine of its own, from 1 to the Subscriber's MaxInFlight.
	// Default 1, which handles deliveries in their order. Two versions of one key are not handled at once, unless the lease
	// of the first ends while its handler runs.
	Workers int
	// BackoffMin and BackoffMax bound the delay of the nack when a handler fails. The delay starts at BackoffMin, doubles
	// with each failure of the message up to BackoffMax, is jittered, and is cut to what the lease allows. While all
	// handlers fail they also bound the pause between two messages that are tried: see Handle. Defaults 500 ms and 30 s,
	// the default ack_wait.
	BackoffMin, BackoffMax time.Duration
	// DeadLetter says where messages go that cannot be handled. Without it they are redelivered again and again.
	DeadLetter *DeadLetter
	// OnError is called for each delivery whose handler failed, with the error, which is a *PanicError after a panic. It is
	// also called when the delivery's ack came after the deadline (ErrLeaseExpired), when its dead letter could not be
	// sent, and when its handler called NackAfter and returned an error. By then the delivery is settled, or its lease is
	// over. It is not called when a stop interrupted the handler.
	//
	// Each call runs on a goroutine of its own, several may run at once, and a worker or a Publisher's lane waits for each.
	// OnError must return soon, and must not call Close, nor Flush of the Publisher of a Pipe. A panic of it is recovered
	// and logged.
	OnError func(Delivery, error)
}

// The defaults of HandlerConfig.
const (
	defaultBackoffMin = 500 * time.Millisecond
	defaultBackoffMax = 30 * time.Second
)

func (c HandlerConfig) withDefaults() HandlerConfig {
	if c.Workers == 0 {
		c.Workers = 1
	}
	if c.BackoffMin == 0 {
		c.BackoffMin = defaultBackoffMin
		if c.BackoffMax > 0 {
			c.BackoffMin = min(c.BackoffMin, c.BackoffMax)
		}
	}
	if c.BackoffMax == 0 {
		c.BackoffMax = max(defaultBackoffMax, c.BackoffMin)
	}
	if c.DeadLetter != nil {
		dead := c.DeadLetter.withDefaults()
		c.DeadLetter = &dead
	}
	return c
}

func (c HandlerConfig) validate(s *Subscriber) error {
	switch {
	case c.Workers < 1 || c.Workers > s.cfg.MaxInFlight:
		return fmt.Errorf("%w: HandlerConfig.Workers is %d, must be 1 to the Subscriber's MaxInFlight %d", ErrInvalidConfig, c.Workers, s.cfg.MaxInFlight)
	case c.BackoffMin < 0 || c.BackoffMax < c.BackoffMin:
		return fmt.Errorf("%w: HandlerConfig.BackoffMin %v and BackoffMax %v, must be 0 < BackoffMin <= BackoffMax", ErrInvalidConfig, c.BackoffMin, c.BackoffMax)
	case c.DeadLetter != nil:
		return c.DeadLetter.validate(s)
	}
	return nil
}

// Handle calls handle for each delivery, on Workers goroutines, until ctx ends or the Subscriber stops. Nothing else may
// read the Subscriber's deliveries. When ctx ends the Subscriber stops as by Close, within DrainTimeout.
//
// When handle returns nil the delivery is acked. When it returns an error or panics the delivery is nacked, after a delay
// that grows with each failure of its message: see [HandlerConfig], [DeadLetter] and [Permanent]. A delivery that the
// handler has settled itself stays as it is. The handler's ctx has the values of Handle's ctx. It ends at the delivery's
// Deadline, or when DrainTimeout is over. A handler that has not settled its delivery by the Deadline is too late: the
// message is delivered again. Config.Logger is warned of the first, with its key, and then once a second at most;
// SubscriberStats.OutlivedLease counts them.
//
// Two things are no failures. They do not count towards the dead letter, the backoff or the slowdown below, and do not
// clear earlier failures:
//
//   - The handler called [Delivery.NackAfter], because it wants the message later. It may return nil or any error, which
//     OnError gets.
//   - A stop interrupted the handler: it returned an error after a stop had ended its ctx, or the error of a context after
//     a stop had begun. The message is nacked. Any other error after a stop has begun is reported, and does not count
//     towards the dead letter unless it is [Permanent].
//
// After ten calls in a row have failed the Subscriber slows down: it returns its buffered deliveries to the server and
// tries one message at a time, with pauses that grow from BackoffMin to BackoffMax. One success ends that.
//
// Handle returns when the Subscriber has stopped and its handlers have returned. The error is that of Err, nil after Close
// or the end of ctx. It is joined with the *DrainError of Close when the stop left deliveries unsettled, and with
// ErrHandlersRunning when handlers still run a second after their ctx has ended.
//
// Errors returned at once, after which the Subscriber still runs and must be closed, are ErrInvalidConfig,
// ErrInvalidArgument, ErrBusy when the deliveries are read in another way, and ErrNotFound when the server says that the
// stream of cfg.DeadLetter does not exist. The server is asked once, for at most 2 s; after any other answer, or none, the
// handlers start.
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

// firstToExpire returns the delivery of a batch whose lease ends first. It ends the handler's context.
func firstToExpire(batch []Delivery) Delivery {
	first := batch[0]
	for _, d := range batch[1:] {
		if d.Deadline.Before(first.Deadline) {
			first = d
		}
	}
	return first
}

// handlerContext ends when a lease ends, and has the values of the ctx that Handle was called with. It needs no timer and
// no goroutine of its own, nor do contexts derived from it: package context looks for the parent to attach to through
// Value, and values, which comes from context.WithoutCancel, hides its own parent from that, so that the lease's context
// is found.
type handlerContext struct {
	context.Context
	values context.Context
}

func (c handlerContext) Value(key any) any {
	if v := c.values.Value(key); v != nil {
		return v
	}
	return c.Context.Value(key)
}

// permanent wraps an error that Permanent has marked.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent marks an error that no retry helps, such as data that cannot be read. When a handler returns it the message
// becomes a dead letter at once or, without a [DeadLetter], is nacked after BackoffMax. The result has the text of err,
// and errors.Is and errors.As find err in it. Permanent(nil) is nil.
//
// When the handler of a batch of several messages returns it, each of them is handled again in a batch of its own, because
// any of them may be meant.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

// IsPermanent reports whether [Permanent] has marked err or an error that err wraps. It reports false for nil, and for an
// error whose methods panic, as those of a typed nil may do.
func IsPermanent(err error) (yes bool) {
	defer func() { _ = recover() }()
	var p permanent
	return errors.As(err, &p)
}

// isAny reports whether err is one of the targets that are not nil. The methods of err are the program's own, and may
// panic; the result is then false.
func isAny(err error, targets ...error) (yes bool) {
	defer func() { _ = recover() }()
	return slices.ContainsFunc(targets, func(target error) bool { return target != nil && errors.Is(err, target) })
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
