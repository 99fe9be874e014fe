package sequin

import (
	"fmt"
	"time"

	"github.com/sequin-go/sequin/internal/lease"
	"github.com/sequin-go/sequin/internal/wire"
)

// PublisherConfig configures a Publisher. The zero value works. NewPublisher copies it.
type PublisherConfig struct {
	// Lanes is how many requests may be in flight at once, beside at most 8 that repeat what may be at fault. Where requests
	// of single messages time out together, fewer are in flight at once. With 1, all messages keep their order. A key always
	// uses the same lane, and a lane has one request in flight, so that the versions of a key keep their order. 1 to 64;
	// default 4.
	Lanes int
	// MaxBatch is the most messages in a request. 1 to 1,000; default 1,000.
	MaxBatch int
	// MaxBatchBytes is the most bytes of JSON in a request. A larger message is sent in a request of its own. 1 KiB to
	// 7,999,999 bytes; default 1 MiB. Where a request of several messages gets a 413, a time-out or no answer, its lane
	// sends smaller ones, and larger ones again as they get through.
	MaxBatchBytes int
	// MaxBuffered is the most messages that the Publisher holds: those that wait, are in flight, or have failed and are
	// not yet collected. While it is reached, Send waits. At least 1; default 20,000.
	MaxBuffered int
	// MaxBufferedBytes is the most bytes of JSON that the buffered messages take. At least 8,000,000; default 64 MiB.
	MaxBufferedBytes int
	// Linger is how long a batch that is not full waits for more messages. It never delays Flush, Close, SendSync,
	// Receipt.Wait or a full buffer. Default 0: a batch fills while others are in flight, and an idle Publisher sends
	// at once.
	Linger time.Duration
	// RetryFor is how long a message is retried while the server is unavailable or answers with a temporary error. It
	// counts from the first request that carried the message, and from the latest request of the Publisher that got
	// through; only for a message that alone is refused while others get through, the latter does not matter. After that
	// the message fails with the last error. Default 0: a message is retried until it is sent, or until other requests
	// have shown that it is at fault; once the buffer is full Send waits.
	RetryFor time.Duration
	// OnFailure, if set, is called once for each failed message that has no Receipt. Default nil: Flush and Close return
	// the failures.
	//
	// One call runs at a time, on a goroutine of the Publisher, after the message's room in the buffer has become free.
	// OnFailure may call Send, which returns ErrFailuresPending if only further calls of OnFailure could make room. It
	// must not call Flush or Close. A panic is recovered and logged. When Close's ctx ends, no further call begins, and
	// Close does not wait for one that is running.
	OnFailure func(MessageError)
}

// Limits and defaults of PublisherConfig.
const (
	minBatchBytes    = 1 << 10  // room for a few small messages
	defaultBuffered  = 20_000   // five full batches a lane; with half of it a fast producer waits for room twice as often and is a tenth slower
	defaultBufferMem = 64 << 20 // room for MaxBuffered messages of 3 KB
)

func (c PublisherConfig) withDefaults() PublisherConfig {
	defaults := []struct {
		field *int
		value int
	}{{&c.Lanes, 4}, {&c.MaxBatch, MaxBatch}, {&c.MaxBatchBytes, 1 << 20}, {&c.MaxBuffered, defaultBuffered}, {&c.MaxBufferedBytes, defaultBufferMem}}
	for _, d := range defaults {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return c
}

func (c PublisherConfig) validate() error {
	const unbounded = int(^uint(0) >> 1)
	for _, limit := range []struct {
		name         string
		value        int
		least, most  int
		whyNotBeyond string
	}{
		{"Lanes", c.Lanes, 1, maxLanes, ""},
		{"MaxBatch", c.MaxBatch, 1, MaxBatch, " (the API's limit)"},
		{"MaxBatchBytes", c.MaxBatchBytes, minBatchBytes, MaxRequestBytes - 1, " (the server answers 413 beyond)"},
		{"MaxBuffered", c.MaxBuffered, 1, unbounded, ""},
		{"MaxBufferedBytes", c.MaxBufferedBytes, MaxRequestBytes, unbounded, ""}, // any single message must fit
	} {
		if limit.value < limit.least || limit.value > limit.most {
			return fmt.Errorf("%w: PublisherConfig.%s is %d, must be %d to %d%s", ErrInvalidConfig, limit.name, limit.value, limit.least, limit.most, limit.whyNotBeyond)
		}
	}
	if c.Linger < 0 || c.RetryFor < 0 {
		return fmt.Errorf("%w: PublisherConfig.Linger %v and RetryFor %v must not be negative", ErrInvalidConfig, c.Linger, c.RetryFor)
	}
	return nil
}

// SubscriberConfig configures a Subscriber. The zero value works. Subscribe copies it.
type SubscriberConfig struct {
	// MaxInFlight is how many deliveries may be in flight. A delivery is in flight while it is buffered, or with the
	// program and, by the server's clock, neither settled nor expired. MaxInFlight bounds memory, and the number of
	// messages that wait for the end of their leases if the process crashes. After ack_wait was lengthened the server may
	// count more deliveries as in flight for up to a minute, until the Subscriber has read the new ack_wait.
	//
	// Within this limit a Subscriber has as many deliveries in flight as the program settles in time. It begins with 32.
	// The number grows while the program is quick compared with the lease, and shrinks when deliveries expire in the buffer.
	// Beyond 1,000 for each receive that may run, and as many for the program, it grows only while the program has to wait.
	// Deliveries with a delayed nack do not count towards that number. 1 to 100,000, default 10,000, which is the server's
	// default max_ack_pending.
	MaxInFlight int
	// MaxInFlightBytes is how many bytes of JSON the deliveries in flight may have. A receive asks for as many messages as fit,
	// if they are as large as those of the last answers; when they are larger, the bytes may exceed MaxInFlightBytes once.
	// One message may always be in flight. At least 1, default 64 MiB.
	MaxInFlightBytes int
	// Pollers is how many receives may run at once. One of them may wait in a long poll; the others run only while
	// receives return as many messages as they ask for, and while their answers are not too slow. 1 to 16, default 2.
	//
	// Versions of one key come in order with any number. With 1, all deliveries come in the order in which the server
	// delivers them: that of Seq, while none is redelivered. With more, two receives may be answered in either order, and
	// messages of different keys come in the order of the answers.
	Pollers int
	// WaitFor is how long a receive may wait at the server for a message. 500 ms to 5 min, default 20 s, or less if
	// HTTPClient.Timeout is shorter. If the server refuses to wait, or the lease is too short for a long poll (see the
	// package comment), the Subscriber short-polls instead.
	WaitFor time.Duration
	// PollMin and PollMax bound the pause between receives that return no message while the Subscriber short-polls. The
	// pause grows from PollMin to PollMax. Defaults 10 ms and 1 s.
	PollMin, PollMax time.Duration
	// LeaseMargin is the part of the lease that is kept for a settle to reach the server: a Delivery's Deadline is
	// earlier than the server's by LeaseMargin. At most half of ack_wait. Default a quarter of ack_wait, at most 2 s.
	LeaseMargin time.Duration
	// DrainTimeout bounds how long a Subscriber whose ctx has ended waits for deliveries to be settled, and for the server
	// to confirm the return of those that the program did not read. A ctx passed to Close replaces it. Default 10 s.
	DrainTimeout time.Duration
	// OnAckError is called for each ack and nack that failed after its method had returned nil, with ErrOutcomeUnknown,
	// ErrLeaseExpired, an *APIError, or ErrClosed if the Subscriber stopped before it could send it. It is not called for
	// an error that AckSync has returned. Calls are made one at a time, on goroutines of the Subscriber. Close waits up to a
	// second for them. OnAckError may call Close, which then takes that second longer. A panic is recovered and logged.
	OnAckError func(Delivery, error)
}

// maxInFlight is the upper limit of SubscriberConfig.MaxInFlight: ten times the server's default max_ack_pending. The upper
// limit of Pollers is maxPollers.
const maxInFlight = 100_000

// The defaults of SubscriberConfig.MaxInFlight and MaxInFlightBytes. The first is the server's default max_ack_pending, the
// second is that of PublisherConfig.MaxBufferedBytes.
const (
	defaultInFlight    = 10_000
	defaultInFlightMem = 64 << 20
)

func (c SubscriberConfig) withDefaults(limit time.Duration) SubscriberConfig {
	if c.MaxInFlight == 0 {
		c.MaxInFlight = defaultInFlight
	}
	if c.MaxInFlightBytes == 0 {
		c.MaxInFlightBytes = defaultInFlightMem
	}
	if c.Pollers == 0 {
		c.Pollers = 2
	}
	if c.WaitFor == 0 {
		c.WaitFor = 20 * time.Second
		if limit > 0 {
			c.WaitFor = min(c.WaitFor, (limit - time.Second).Truncate(time.Millisecond))
		}
		if c.WaitFor < minWaitFor {
			c.WaitFor = 0 // too short for the server: the Subscriber short-polls
		}
	}
	if c.PollMin == 0 {
		c.PollMin = 10 * time.Millisecond
	}
	if c.PollMax == 0 {
		c.PollMax = max(time.Second, c.PollMin)
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = 10 * time.Second
	}
	return c
}

func (c SubscriberConfig) validate() error {
	switch {
	case c.MaxInFlight < 1 || c.MaxInFlight > maxInFlight:
		return fmt.Errorf("%w: SubscriberConfig.MaxInFlight is %d, must be 1 to %d", ErrInvalidConfig, c.MaxInFlight, maxInFlight)
	case c.MaxInFlightBytes < 1:
		return fmt.Errorf("%w: SubscriberConfig.MaxInFlightBytes is %d, must be at least 1", ErrInvalidConfig, c.MaxInFlightBytes)
	case c.Pollers < 1 || c.Pollers > maxPollers:
		return fmt.Errorf("%w: SubscriberConfig.Pollers is %d, must be 1 to %d", ErrInvalidConfig, c.Pollers, maxPollers)
	case c.PollMin < time.Millisecond || c.PollMax < c.PollMin:
		return fmt.Errorf("%w: SubscriberConfig.PollMin %v and PollMax %v, must be 1ms <= PollMin <= PollMax", ErrInvalidConfig, c.PollMin, c.PollMax)
	case c.LeaseMargin < 0 || c.DrainTimeout < 0:
		return fmt.Errorf("%w: SubscriberConfig.LeaseMargin %v and DrainTimeout %v must not be negative", ErrInvalidConfig, c.LeaseMargin, c.DrainTimeout)
	}
	return nil
}

// checkLease checks the config of a Subscriber against the ack_wait of its consumer.
func (c SubscriberConfig) checkLease(ackWait time.Duration) error {
	if err := checkLease(ackWait); err != nil {
		return err
	}
	if c.LeaseMargin > ackWait/2 {
		return fmt.Errorf("%w: SubscriberConfig.LeaseMargin is %v, more than half of the consumer's ack_wait %v", ErrInvalidConfig, c.LeaseMargin, ackWait)
	}
	return nil
}

func checkLease(ackWait time.Duration) error {
	if ackWait < lease.MinAckWait {
		return fmt.Errorf("%w: the consumer's ack_wait is %v, a Subscriber needs %v", ErrLeaseTooShort, ackWait, lease.MinAckWait)
	}
	return nil
}

// HandlerConfig configures Subscriber.Handle and Subscriber.Pipe. The zero value works. It is copied.
type HandlerConfig struct {
	// Workers is how many handlers may run at once, each on a goroutine of its own, from 1 to the Subscriber's MaxInFlight.
	// Default 1, which handles deliveries in the order of Deliveries: with SubscriberConfig.Pollers 1 the order of the
	// stream, with more the order of each key. Two versions of one key are not handled at once, unless the lease of the
	// first ends while its handler runs.
	Workers int
	// BackoffMin and BackoffMax bound the delay of the nack when a handler fails. The delay starts at BackoffMin, doubles
	// with each failure of the message up to BackoffMax, and is jittered. Unless the server announces nack-delay, it ends
	// before the lease does. While all handlers fail, BackoffMin and BackoffMax also bound the pause between two messages that
	// are tried: see Handle. Defaults 500 ms and 30 s, the default ack_wait.
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
	// sent, and when its handler called NackAfter and returned an error. By then the delivery is settled, or its lease is
	// over. It is not called when a stop interrupted the handler.
	//
	// Each call runs on a goroutine of its own, several may run at once, and a worker waits for that of its own delivery.
	// The lanes of the Publishers of a Pipe and of the dead letters do not wait, so that OnError may use these Publishers.
	// While MaxInFlight such calls run, workers call no handler. OnError must return soon, and must not call Close of the
	// Subscriber. A panic of it is recovered and logged.
	OnError func(Delivery, error)
}

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
	case c.BackoffMin < 0 || c.BackoffMax < c.BackoffMin:
		return fmt.Errorf("%w: HandlerConfig.BackoffMin %v and BackoffMax %v, must be 0 < BackoffMin <= BackoffMax", ErrInvalidConfig, c.BackoffMin, c.BackoffMax)
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
