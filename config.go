package sequin

import (
	"cmp"
	"fmt"
	"time"

	"github.com/sequin-go/sequin/internal/lease"
)

// PublisherConfig configures a Publisher. The zero value works. NewPublisher copies it.
type PublisherConfig struct {
	// Lanes is how many requests may be in flight at once, beside at most 8 that repeat what may be at fault. Where requests
	// of single messages time out together, fewer are in flight at once. With 1, all messages keep their order. A key has at
	// most one request in flight, so that its versions keep their order. 1 to 64.
	//
	// Default: the Publisher finds the number itself, between 4 and 64. It begins with 4. It tries twice as many while full
	// requests take 10 ms or longer and more are waiting, and keeps them if they carry a fifth more; otherwise it tries again
	// after a minute. It tries half as many once a minute, and halves the number while requests are far from full.
	// While the server is unavailable, no more than 4 try.
	Lanes int
	// MaxBatch is the most messages in a request. 1 to 1,000; default 1,000.
	MaxBatch int
	// MaxBatchBytes is the most bytes of JSON in a request. A larger message is sent in a request of its own. 1 KiB to
	// 7,999,999 bytes; default 1 MiB. Where a request of several messages gets a 413, a time-out or no answer, its lane
	// sends smaller ones, and larger ones again as they get through.
	MaxBatchBytes int
	// MaxBuffered is the most messages that the Publisher holds: those that wait, are in flight, or have failed and are
	// not yet collected. While it is reached, Send waits. At least 1; default 20,000, and five requests of MaxBatch more for
	// each lane beyond 4. More lanes than it has two full requests for are not tried.
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
	// CloseTimeout is the longest time that Close takes, also if its ctx ends later or never. It is for programs that close by
	// an interface without a ctx. Default 0: only the ctx of Close bounds it.
	CloseTimeout time.Duration
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
	defaultLanes     = 4        // the least number where it adapts
	laneBatches      = 5        // full batches that the buffer holds for a lane; with half of it a fast producer waits for room twice as often and is a tenth slower
	defaultBuffered  = 20_000   // that for the default lanes
	defaultBufferMem = 64 << 20 // room for MaxBuffered messages of 3 KB
)

// adapting returns the most lanes of a Publisher that finds their number itself, and how much its buffer grows with each; 0 if it does not.
func (c PublisherConfig) adapting() (most, laneItems int) {
	if c.Lanes != 0 {
		return 0, 0
	}
	if c.MaxBuffered == 0 {
		laneItems = laneBatches * cmp.Or(c.MaxBatch, MaxBatch)
	}
	return maxLanes, laneItems
}

func (c PublisherConfig) withDefaults() PublisherConfig {
	buffered := defaultBuffered + laneBatches*cmp.Or(c.MaxBatch, MaxBatch)*max(0, c.Lanes-defaultLanes)
	defaults := []struct {
		field *int
		value int
	}{{&c.Lanes, defaultLanes}, {&c.MaxBatch, MaxBatch}, {&c.MaxBatchBytes, 1 << 20}, {&c.MaxBuffered, buffered}, {&c.MaxBufferedBytes, defaultBufferMem}}
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
	if c.Linger < 0 || c.RetryFor < 0 || c.CloseTimeout < 0 {
		return fmt.Errorf("%w: PublisherConfig.Linger %v, RetryFor %v and CloseTimeout %v must not be negative", ErrInvalidConfig, c.Linger, c.RetryFor, c.CloseTimeout)
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
	// Beyond 1,000 for each of Pollers (2 where it is not set), and as many for the program, it grows only while the program has
	// to wait. While 1,000 are unread and the server has fewer messages than were asked for, the Subscriber asks for no more.
	// Deliveries with a delayed nack do not count towards that number. Over a link with a long delay it bounds the rate: each
	// message is in flight for a round trip of its receive and one of its ack. 1 to 100,000. Default 10,000, which is the
	// server's default max_ack_pending, or the MaxAckPending that Subscribe finds at the consumer if that is more, up to
	// 100,000. MaxInFlightBytes bounds the memory also then.
	MaxInFlight int
	// MaxInFlightBytes is how many bytes of JSON the deliveries in flight may have. A receive asks for as many messages as fit,
	// if they are as large as those of the last answers; when they are larger, the bytes may exceed MaxInFlightBytes once.
	// One message may always be in flight. At least 1, default 64 MiB.
	MaxInFlightBytes int
	// Pollers is how many receives may run at once. One of them may wait in a long poll; the others run only while
	// receives return as many messages as they ask for, and while their answers are not too slow. 1 to 64.
	//
	// Default 0: the Subscriber finds the number, from 2 to 64. It is 2 while the server answers within 10 ms. It doubles while
	// the program waits for messages although all receives return as many as they ask for, if messages come faster then. It
	// is 2 again when a receive returns fewer.
	//
	// Versions of one key come in order with any number. With 1, all deliveries come in the order in which the server
	// delivers them: that of Seq, while none is redelivered. With more, two receives may be answered in either order, and
	// messages of different keys come in the order of the answers. Ordered keeps the order in all cases.
	Pollers int
	// Ordered delivers all messages in the order of Seq, whatever their keys: a message is delivered when the one before it is
	// acked. That holds over nacks, delays, leases that end, restarts, and all Subscribers of the consumer together. A message
	// that fails holds up all that follow, until it is acked or becomes a dead letter.
	//
	// It is the consumer that keeps the order: its MaxAckPending must be 1, or Subscribe returns ErrInvalidConfig. A Subscriber
	// whose consumer gets another MaxAckPending stops with that error within about a minute. Pollers and the Workers of
	// handlers must be 1, their value if they are not set; Pollers is then 1, too.
	//
	// Each message takes a round trip to the server, and more where the server has no long polls. If a process crashes, the next
	// message comes when the lease of the one that it had is over. The server of August 2024 may deliver only one message in the
	// first five minutes of a consumer whose MaxAckPending is 1, so that the Subscriber stalls there: see docs/guarantees.md.
	// Default false.
	Ordered bool
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

// firstPollers is how many receives run at once where Pollers is not set and the link is short: one that is answered while
// another is on its way.
const firstPollers = 2

// The defaults of SubscriberConfig.MaxInFlight, if the consumer allows no more, and MaxInFlightBytes. The first is the server's
// default max_ack_pending, the second is that of PublisherConfig.MaxBufferedBytes.
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
	if c.Pollers == 0 && c.Ordered {
		c.Pollers = 1 // another one would only be told that nothing may be delivered
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
	case c.Pollers < 0 || c.Pollers > maxPollers:
		return fmt.Errorf("%w: SubscriberConfig.Pollers is %d, must be 1 to %d", ErrInvalidConfig, c.Pollers, maxPollers)
	case c.Ordered && c.Pollers != 1:
		return fmt.Errorf("%w: SubscriberConfig.Pollers is %d, must be 1 with Ordered", ErrInvalidConfig, c.Pollers)
	case c.PollMin < time.Millisecond || c.PollMax < c.PollMin:
		return fmt.Errorf("%w: SubscriberConfig.PollMin %v and PollMax %v, must be 1ms <= PollMin <= PollMax", ErrInvalidConfig, c.PollMin, c.PollMax)
	case c.LeaseMargin < 0 || c.DrainTimeout < 0:
		return fmt.Errorf("%w: SubscriberConfig.LeaseMargin %v and DrainTimeout %v must not be negative", ErrInvalidConfig, c.LeaseMargin, c.DrainTimeout)
	}
	return nil
}

// pollers returns how many receives may run at once, at the beginning and at most.
func (c SubscriberConfig) pollers() (first, most int) {
	if c.Pollers == 0 {
		return firstPollers, maxPollers
	}
	return c.Pollers, c.Pollers
}

// inFlightOf returns MaxInFlight for a consumer with that max_ack_pending, where MaxInFlight is not set.
func inFlightOf(maxAckPending int) int { return min(max(defaultInFlight, maxAckPending), maxInFlight) }

// checkOrder checks that the consumer keeps the order that the config wants. An answer without max_ack_pending is not checked.
func (c SubscriberConfig) checkOrder(maxAckPending int) error {
	if !c.Ordered || maxAckPending == 1 || maxAckPending == 0 {
		return nil
	}
	return fmt.Errorf("%w: SubscriberConfig.Ordered needs a consumer whose max_ack_pending is 1, and not %d: create it with "+
		"ConsumerOptions.MaxAckPending 1, or change it by UpdateConsumer", ErrInvalidConfig, maxAckPending)
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
