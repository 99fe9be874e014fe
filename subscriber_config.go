package sequin

import (
	"fmt"
	"time"
)

// SubscriberConfig configures a Subscriber. The zero value works. Subscribe copies it.
type SubscriberConfig struct {
	// MaxInFlight is the most deliveries that are in flight: buffered, or with the program and, by the
	// server's clock, neither settled nor expired. It bounds memory, and the number of messages that are redelivered only
	// after their leases have ended if the process crashes. The server may count more as in flight after ack_wait was
	// lengthened, until the Subscriber notices that, which takes a minute at most.
	//
	// Within this limit a Subscriber has as many deliveries in flight as the program settles in time. It begins with 32,
	// takes more while the program is quick compared with the lease, and fewer when deliveries expire in the buffer.
	// Deliveries with a delayed nack do not count towards that number. 1 to 100,000, default 1,000.
	MaxInFlight int
	// Pollers is how many receives may run at once. One of them may wait in a long poll; the others run only while
	// receives return as many messages as they ask for. 1 to 16, default 2.
	Pollers int
	// WaitFor is how long a receive may wait at the server for a message. 500 ms to 5 min, default 20 s, or less if
	// HTTPClient.Timeout is shorter. If the server refuses to wait, or the lease is too short to be spent waiting (see the
	// package comment), the Subscriber polls instead.
	WaitFor time.Duration
	// PollMin and PollMax bound the pause between receives that find nothing at a server that does not wait. The pause
	// grows from PollMin to PollMax. Defaults 10 ms and 1 s.
	PollMin, PollMax time.Duration
	// LeaseMargin is the part of the lease that is kept for a settle to reach the server: a Delivery's Deadline is that
	// much earlier than the server's. At most half of ack_wait. Default a quarter of ack_wait, at most 2 s.
	LeaseMargin time.Duration
	// DrainTimeout bounds how long a Subscriber whose ctx has ended waits for deliveries to be settled, and for the server
	// to confirm the return of those that the program did not read. A ctx passed to Close replaces it. Default 10 s.
	DrainTimeout time.Duration
	// OnAckError is called for each ack and nack that failed after its method had returned nil, with ErrOutcomeUnknown,
	// ErrLeaseExpired, an *APIError, or ErrClosed if the Subscriber stopped before it could send it. It is not called for
	// an error that AckSync has returned. Calls are made one at a time, on goroutines of the Subscriber, which Close waits
	// for: OnAckError must return soon and must not call Close. A panic is recovered and logged.
	OnAckError func(Delivery, error)
}

// maxInFlight is the upper limit of SubscriberConfig.MaxInFlight: ten times the server's default max_ack_pending. That of
// Pollers is maxPollers.
const maxInFlight = 100_000

func (c SubscriberConfig) withDefaults(limit time.Duration) SubscriberConfig {
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 1000
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
			c.WaitFor = 0 // too short for the server: the Subscriber polls
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
	case c.Pollers < 1 || c.Pollers > maxPollers:
		return fmt.Errorf("%w: SubscriberConfig.Pollers is %d, must be 1 to %d", ErrInvalidConfig, c.Pollers, maxPollers)
	case c.PollMin < time.Millisecond || c.PollMax < c.PollMin:
		return fmt.Errorf("%w: SubscriberConfig.PollMin %v and PollMax %v, must be 1ms <= PollMin <= PollMax", ErrInvalidConfig, c.PollMin, c.PollMax)
	case c.LeaseMargin < 0 || c.DrainTimeout < 0:
		return fmt.Errorf("%w: SubscriberConfig.LeaseMargin %v and DrainTimeout %v must not be negative", ErrInvalidConfig, c.LeaseMargin, c.DrainTimeout)
	}
	return nil
}
