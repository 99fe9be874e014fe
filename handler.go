package sequin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// HandlerConfig of Subscriber.Handle and Subscriber.Pipe. The zero value works. It is copied.
type HandlerConfig struct {
	// Workers is how many handlers may run at once, each on a goroutine of its own. 1 to the Subscriber's MaxInFlight,
	// default 1, which keeps the order of deliveries. Versions of one key never run at once, unless a lease ends.
	Workers int
	// BackoffMin and BackoffMax bound how long a message is held back after its handler failed: it doubles with each of
	// its failures from one to the other, jittered, and is cut to what the lease allows. They are also the pace at which
	// a Subscriber whose every handler fails looks whether that is over. Defaults 500 ms and 30 s, the default lease.
	BackoffMin, BackoffMax time.Duration
	// DeadLetter says where messages go that cannot be handled. Default nowhere: they come again and again.
	DeadLetter *DeadLetter
	// OnError is told of each failure of a handler, a *PanicError among them, once for each delivery concerned, and of
	// what then goes wrong: an ack that came after the deadline (ErrLeaseExpired), a dead letter that could not be sent.
	// The delivery is settled already, or lost to its deadline. Each call has a goroutine of its own, several at once, and
	// is waited for: it must return soon, and not call Close, nor Flush of a pipeline's Publisher. A panic is recovered, and
	// logged.
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

// Handle calls handle for each delivery, on Workers goroutines, until ctx ends or the Subscriber stops. It owns the
// Subscriber: nothing else may consume its deliveries, and the end of ctx is a Close with DrainTimeout.
//
// When handle returns nil the delivery is acked, an error nacks it after a growing delay, and a panic is an error: see
// [HandlerConfig], [DeadLetter] and [Permanent]. A handler may settle the delivery itself; that then stands. The
// handler's ctx has the values of Handle's, and ends at the delivery's Deadline, or when DrainTimeout is over.
//
// While all handlers fail, ten in a row, the Subscriber slows down: what is buffered is given back, and one message at a
// time is tried, from BackoffMin apart to BackoffMax. One success, and it is back at full speed.
//
// Handle returns when nothing of the Subscriber is left. The error is Err's, nil after a Close or a cancelled ctx, joined
// with ErrHandlersRunning when handlers ignored the end of their ctx for a second; what had to be left unsettled is
// Close's to say. Errors before anything is done, after which the Subscriber runs on: ErrInvalidConfig,
// ErrInvalidArgument, and ErrBusy when its deliveries are consumed in another way.
func (s *Subscriber) Handle(ctx context.Context, cfg HandlerConfig, handle func(context.Context, Delivery) error) error {
	if handle == nil {
		return fmt.Errorf("%w: Handle needs a function", ErrInvalidArgument)
	}
	p, err := newHandlerPool(ctx, s, cfg)
	if err != nil {
		return err
	}
	p.handle = func(ctx context.Context, batch []Delivery) ([]Message, error) { return nil, handle(ctx, batch[0]) }
	return p.run(ctx, p.serveEach)
}

// permanent marks an error; see Permanent.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent marks a failure that no retry helps, such as data that cannot be read: returned by a handler, it sends the
// message to the dead letters at once. Without a [DeadLetter] the message is held back for BackoffMax each time. It
// keeps the error's text, errors.Is and errors.As; Permanent(nil) is nil.
//
// A batch handler that returns it for several messages does not say which is meant: each of them is then tried alone.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

// isPermanent looks into an error of the program's own, whose methods may panic, as those of a typed nil do.
func isPermanent(err error) (yes bool) {
	defer func() { _ = recover() }()
	var p permanent
	return errors.As(err, &p)
}

// DecodeJSON decodes a delivery's data. The error is [Permanent]: the same data will never decode.
func DecodeJSON[T any](d Delivery) (T, error) {
	var v T
	if err := json.Unmarshal([]byte(d.Data), &v); err != nil {
		return v, Permanent(fmt.Errorf("sequin: decode %q into %T: %w", clip(d.Key), v, err))
	}
	return v, nil
}
