package sequin

import (
	"fmt"
	"math"
	"time"

	"github.com/sequin-go/sequin/internal/wire"
)

// HandlerConfig configures Subscriber.Handle and Subscriber.Pipe. The zero value works. It is copied.
type HandlerConfig struct {
	// Workers is how many handlers may run at once, each on a goroutine of its own, from 1 to the Subscriber's MaxInFlight.
	// Default 1, which handles deliveries in the order of Deliveries: with SubscriberConfig.Pollers 1 the order of the
	// stream while no message is redelivered, with SubscriberConfig.Ordered always, with more Pollers the order of each key.
	// With more workers the handlers of different keys run at once, and end in any order. Two versions of one key are not handled at once, unless the lease of the
	// first ends while its handler runs.
	Workers int
	// BackoffMin and BackoffMax bound the delay of the nack when a handler fails. The delay starts at BackoffMin, doubles
	// with each failure of the message up to BackoffMax, and is jittered. Unless the server announces nack-delay, it ends
	// before the lease does. While all handlers fail, BackoffMin and BackoffMax also bound the pause between two messages that
	// are tried: see Handle. Defaults 500 ms and 30 s, the default ack_wait.
	//
	// If BackoffMin is NoBackoff, a failed message is nacked at once, each time. The pause while all handlers fail, and the
	// delay of a message whose dead letter cannot be sent, are then those of the default BackoffMin.
	BackoffMin, BackoffMax time.Duration
	// MaxHandling is how long a handler may work on a delivery. Where the server announces extend, the leases of deliveries
	// whose handlers run are extended by ack_wait each time when they are half over, until then. The handler's ctx ends after
	// MaxHandling, or at the delivery's Deadline if that is later; the message is then redelivered when its lease is over.
	// Elsewhere a handler has until the Deadline. More than 0, default 10 minutes.
	MaxHandling time.Duration
	// DeadLetter names the stream for messages that cannot be handled. Without it they are redelivered again and again.
	DeadLetter *DeadLetter
	// OnError is called for each delivery whose handler failed, with the error, which is a *PanicError after a panic. It is
	// also called when the delivery's ack came after the deadline (ErrLeaseExpired), when its dead letter could not be
	// sent, and when its handler called NackAfter or Release and returned an error. By then the delivery is settled, or its
	// lease is over. It is not called when a stop interrupted the handler.
	//
	// Each call runs on a goroutine of its own, several may run at once, and a worker waits for that of its own delivery.
	// The lanes of the Publishers of a Pipe and of the dead letters do not wait, so that OnError may use these Publishers.
	// While MaxInFlight such calls run, workers call no handler. OnError must return soon, and must not call Close of the
	// Subscriber. A panic of it is recovered and logged.
	OnError func(Delivery, error)
}

// NoBackoff is the HandlerConfig.BackoffMin that nacks failed messages at once.
const NoBackoff time.Duration = math.MinInt64

// The defaults of HandlerConfig.
const (
	defaultBackoffMin  = 500 * time.Millisecond
	defaultBackoffMax  = 30 * time.Second
	defaultMaxHandling = 10 * time.Minute // so that a handler that hangs keeps its message from others for no longer
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
	if c.MaxHandling == 0 {
		c.MaxHandling = defaultMaxHandling
	}
	if c.DeadLetter != nil {
		dead := c.DeadLetter.withDefaults()
		c.DeadLetter = &dead
	}
	return c
}

func (c HandlerConfig) validate(s SubscriberConfig, o *origin, server wire.Extensions) error {
	switch {
	case c.Workers < 1 || c.Workers > s.MaxInFlight:
		return fmt.Errorf("%w: HandlerConfig.Workers is %d, must be 1 to the Subscriber's MaxInFlight %d", ErrInvalidConfig, c.Workers, s.MaxInFlight)
	case s.Ordered && c.Workers != 1:
		return fmt.Errorf("%w: HandlerConfig.Workers is %d, must be 1 with SubscriberConfig.Ordered", ErrInvalidConfig, c.Workers)
	case c.BackoffMin < 0 && c.BackoffMin != NoBackoff || c.BackoffMax < max(0, c.BackoffMin):
		return fmt.Errorf("%w: HandlerConfig.BackoffMin %v and BackoffMax %v, must be 0 < BackoffMin <= BackoffMax, or BackoffMin NoBackoff", ErrInvalidConfig, c.BackoffMin, c.BackoffMax)
	case c.MaxHandling < 0:
		return fmt.Errorf("%w: HandlerConfig.MaxHandling is %v, must be more than 0", ErrInvalidConfig, c.MaxHandling)
	case c.DeadLetter != nil:
		return c.DeadLetter.validate(o, server.Has(wire.Attempts) && server.Has(wire.Extend))
	}
	return nil
}

// BatchHandlerConfig configures Subscriber.HandleBatch. The zero value works. It is copied. Workers, BackoffMin, BackoffMax,
// MaxHandling, DeadLetter and OnError are as in [HandlerConfig].
type BatchHandlerConfig struct {
	// Size is how many deliveries a batch may hold, from 1 to the Subscriber's MaxInFlight. Default 100, or MaxInFlight if
	// that is less.
	Size int
	// Wait is how long a batch that is not full waits for more deliveries, counted from its first one. Default 50 ms.
	//
	// A batch does not wait if no more deliveries can arrive, because MaxInFlight or the consumer's max_ack_pending is
	// reached by those in the batch and those being handled. It waits for at most half of the time until its first
	// delivery would have to be returned.
	Wait time.Duration
	// Workers is how many batches may be handled at once. While all workers are busy the next batch grows. Default 1.
	Workers int

	BackoffMin, BackoffMax time.Duration
	MaxHandling            time.Duration
	DeadLetter             *DeadLetter
	OnError                func(Delivery, error)
}

// The defaults of BatchHandlerConfig.
const (
	defaultSize = 100
	defaultWait = 50 * time.Millisecond // too short for a person to notice
)

func (c BatchHandlerConfig) withDefaults(s SubscriberConfig) BatchHandlerConfig {
	if c.Size == 0 {
		c.Size = min(defaultSize, s.MaxInFlight)
	}
	if c.Wait == 0 {
		c.Wait = defaultWait
	}
	return c
}

func (c BatchHandlerConfig) validate(s SubscriberConfig) error {
	switch {
	case c.Size < 1 || c.Size > s.MaxInFlight:
		return fmt.Errorf("%w: BatchHandlerConfig.Size is %d, must be 1 to the Subscriber's MaxInFlight %d: no more can be in flight", ErrInvalidConfig, c.Size, s.MaxInFlight)
	case c.Wait < 0:
		return fmt.Errorf("%w: BatchHandlerConfig.Wait is %v, must not be negative", ErrInvalidConfig, c.Wait)
	}
	return nil
}

// DeadLetter names the stream for messages that their handler cannot handle. Each of them is sent there as a [DeadMessage].
// The original is acked once the server has confirmed the dead letter, so that no message is lost.
//
// While the dead letter cannot be sent, the original is nacked after BackoffMax, is redelivered, and OnError is called
// each time. This happens while the stream is unavailable or refuses the dead letter, and while the dead letters in flight
// number half of MaxInFlight. [Client.Redrive] sends dead letters back.
//
// It replaces the consumer's max_deliver: once the server stops delivering a message, no handler can send it to the dead
// letters. Handle refuses a consumer that has one, except where the server announces attempts and extend, and max_deliver is
// more than MaxAttempts. Each crash of a process then takes one of the deliveries that are left.
type DeadLetter struct {
	// Stream is the name or id of the stream for dead letters. It must exist when the handlers start, and must not be the
	// stream of the messages.
	Stream string
	// MaxAttempts is how many handler calls must fail for a version of a message before it becomes a dead letter. Default 5. A
	// snooze and a call that a stop interrupted are no failures: see [Subscriber.Handle].
	//
	// Where the server announces attempts and extend, as that of package server, calls are counted over all processes. A call
	// during which the process crashes is one of them, at the latest after two crashes: from then on the server is told of a call
	// before it begins. A message becomes a dead letter without another call when MaxAttempts calls are known, and never if none
	// is.
	//
	// Anywhere else each process counts its own calls, and remembers the 10,000 messages that failed last. A message that crashes
	// its worker (poison message), for example by using up the memory, causes no failed call that could be counted. On a stream that appends, and with a server that reports Delivery.Attempt, a message therefore also
	// becomes a dead letter, without another call, when it has been delivered more than three times MaxAttempts and no
	// handler of this process has returned from it in time.
	MaxAttempts int
	// Client sends the dead letters. Default that of the Subscriber. A Subscriber of a sink needs one for another server, since
	// Sequin v0.4.11 and later have no streams.
	Client *Client
	// Key returns the key of a dead letter. The default is dead.<consumer>.<a new UUID>, so that no dead letter replaces
	// another. If Key panics, the original is nacked after BackoffMax, as if the dead letter could not be sent. Several
	// goroutines may call it at once.
	Key func(Delivery) string
}

// defaultMaxAttempts is reached after about ten seconds with the default backoff. In that time most services that a handler
// needs can be restarted.
const defaultMaxAttempts = 5

func (c DeadLetter) withDefaults() DeadLetter {
	if c.MaxAttempts == 0 {
		c.MaxAttempts = defaultMaxAttempts
	}
	return c
}

// validate checks the config. counts reports whether the server counts attempts.
func (c DeadLetter) validate(o *origin, counts bool) error {
	switch {
	case checkName("stream", c.Stream) != nil || c.Client == nil && (c.Stream == o.stream.Name || c.Stream == o.stream.ID):
		return fmt.Errorf("%w: DeadLetter.Stream is %q, must name another stream than that of the messages", ErrInvalidConfig, c.Stream)
	case c.MaxAttempts < 1:
		return fmt.Errorf("%w: DeadLetter.MaxAttempts is %d, must be at least 1", ErrInvalidConfig, c.MaxAttempts)
	case o.consumer.MaxDeliver != Unlimited && counts && o.consumer.MaxDeliver <= c.MaxAttempts:
		return fmt.Errorf("%w: DeadLetter with a consumer whose max_deliver is %d: the server would stop delivering a message before "+
			"MaxAttempts (%d) handler calls have failed; set ConsumerOptions.MaxDeliver to Unlimited, or to more", ErrInvalidConfig, o.consumer.MaxDeliver, c.MaxAttempts)
	case o.consumer.MaxDeliver != Unlimited && !counts:
		return fmt.Errorf("%w: DeadLetter with a consumer whose max_deliver is %d: the server could stop delivering a message before "+
			"MaxAttempts handler calls have failed; set ConsumerOptions.MaxDeliver to Unlimited", ErrInvalidConfig, o.consumer.MaxDeliver)
	}
	return nil
}
