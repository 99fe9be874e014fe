package sequin

import (
	"sync"
	"sync/atomic"
	"time"
)

// PublisherStats are totals since NewPublisher. At any moment Accepted = Sent + Failed + Buffered.
type PublisherStats struct {
	// Accepted, Sent and Failed count messages.
	Accepted, Sent, Failed uint64
	// Buffered is the number of messages that wait or are in flight, including those that Close left. BufferedBytes is the
	// size of their JSON, and of the JSON of failed messages that are not yet collected.
	Buffered, BufferedBytes int
	// Batches counts the requests with messages that succeeded, and Bytes the bytes of JSON in them. Retries counts the
	// requests that repeated an earlier one with the same messages; the requests of a batch that was split are new ones.
	Batches, Bytes, Retries uint64
	// Blocked is the sum of the times that calls have waited for room.
	Blocked time.Duration
	// OldestAge is about how long the oldest buffered message has been waiting, 0 if none is. It may be an eighth too long, and
	// by as much as the latest request took.
	OldestAge time.Duration
	// LastError is the error of the latest request that failed, nil if none has, and LastErrorAt is when it failed. A success
	// does not clear them.
	LastError   error
	LastErrorAt time.Time
	// UnavailableSince is when a request failed after the latest success, with an error that is not the fault of its messages. It
	// is zero if the latest request succeeded.
	UnavailableSince time.Time
	// Refusal is the answer with which the server refused the stream. While it is set, the Publisher neither sends nor
	// accepts messages. It is nil again when a send without messages has succeeded. See [Publisher.SendMessage].
	Refusal error
}

// publisherCounts are the figures of PublisherStats that requests change.
type publisherCounts struct {
	mu sync.Mutex
	s  PublisherStats
}

// failed records the error of a send without messages.
func (c *publisherCounts) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.s.LastError, c.s.LastErrorAt = err, time.Now()
}

func (c *publisherCounts) snapshot() PublisherStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.s
}

// attempt counts one request with messages.
func (c *publisherCounts) attempt(bytes int, err error, retry bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if retry {
		c.s.Retries++
	}
	if err != nil {
		c.s.LastError, c.s.LastErrorAt = err, time.Now()
		return
	}
	c.s.Batches++
	c.s.Bytes += uint64(bytes)
}

// SubscriberStats are totals since Subscribe, except for InFlight and what is below it.
type SubscriberStats struct {
	// Received counts the messages in answers. HandedOut counts those that were read from the channel; it may be
	// one too low while the program reads.
	Received, HandedOut uint64
	// Acked and Nacked count the settles that the server confirmed, without the return of messages that the program did
	// not see. A Release counts as a nack.
	Acked, Nacked uint64
	// ExpiredInBuffer counts the messages that were returned because nobody read them in time.
	ExpiredInBuffer uint64
	// RefusedLate counts the settles that were not sent because the lease was over.
	RefusedLate uint64
	// OutlivedLease counts the deliveries whose handler returned after their Deadline and had not settled them. They are
	// redelivered. It counts the deliveries of Handle, HandleBatch and Pipe only, which also log a warning.
	OutlivedLease uint64
	// UnknownOutcomes counts the settles whose answer was lost.
	UnknownOutcomes uint64
	// Polls counts the receives, whether or not they waited at the server. EmptyPolls counts those that returned no message.
	Polls, EmptyPolls uint64
	// InFlight is how many deliveries are buffered now, or with the program and not settled on the server. OldestAge is how long
	// ago the oldest of them that is not settled was received, 0 if there is none.
	InFlight  int
	OldestAge time.Duration
	// HandlersOverdue is how many handlers run now whose delivery is not settled although its lease is over.
	HandlersOverdue int
	// LastError is the last error of a request, nil if there was none, and LastErrorAt is when it failed. A success does not
	// clear them.
	LastError   error
	LastErrorAt time.Time
	// UnavailableSince is when the first of the receives failed that have failed in a row. It is zero if the latest succeeded.
	UnavailableSince time.Time
}

type subscriberCounts struct {
	received, acked, nacked, expired, refusedLate, outlived, unknown, polls, emptyPolls atomic.Uint64

	buffered atomic.Uint64 // deliveries sent on the channel
	recalled atomic.Uint64 // those of them that were removed again before the program saw them
	last     atomic.Pointer[lastError]

	handedOut atomic.Uint64 // the most that Stats has reported, because counters must not go back
}

// handOut returns n, or the most that it has returned before.
func (c *subscriberCounts) handOut(n uint64) uint64 {
	for {
		most := c.handedOut.Load()
		if n <= most {
			return most
		}
		if c.handedOut.CompareAndSwap(most, n) {
			return n
		}
	}
}

type lastError struct {
	err error
	at  time.Time
}

func (c *subscriberCounts) noteError(err error) { c.last.Store(&lastError{err, time.Now()}) }
