package sequin

import (
	"fmt"
	"time"
)

// PublisherConfig configures a Publisher. The zero value works. NewPublisher copies it.
type PublisherConfig struct {
	// Lanes is how many requests may be in flight at once, beside at most 8 that repeat what may be at fault. With 1, all
	// messages keep their order. A key always uses the same lane, and a lane has one request in
	// flight, so that the versions of a key keep their order. 1 to 64; default 4.
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

// Limits and defaults of PublisherConfig; see also maxLanes.
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
