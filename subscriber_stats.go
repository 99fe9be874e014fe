package sequin

import (
	"sync/atomic"
)

// SubscriberStats are totals since Subscribe, but for InFlight.
type SubscriberStats struct {
	// Received counts the messages in answers. HandedOut counts those that were read from the channel.
	Received, HandedOut uint64
	// Acked and Nacked count the settles that the server confirmed, without the return of messages that the program did
	// not see.
	Acked, Nacked uint64
	// ExpiredInBuffer counts the messages that were returned because nobody read them in time.
	ExpiredInBuffer uint64
	// RefusedLate counts the settles that were not sent because the lease was over.
	RefusedLate uint64
	// OutlivedLease counts the deliveries whose handler returned after their Deadline and had not settled them: they are
	// delivered again. It counts calls of Handle, HandleBatch and Pipe only; Config.Logger is warned of them.
	OutlivedLease uint64
	// UnknownOutcomes counts the settles whose answer was lost.
	UnknownOutcomes uint64
	// Polls counts the receives. EmptyPolls counts those that returned no message.
	Polls, EmptyPolls uint64
	// InFlight is how many deliveries are buffered, or with the program and not settled on the server, now.
	InFlight int
	// LastError is the last error of a request, nil if there was none.
	LastError error
}

// Stats returns the totals so far. It may be called at any time.
func (s *Subscriber) Stats() SubscriberStats {
	c := &s.counts
	stats := SubscriberStats{Received: c.received.Load(), Acked: c.acked.Load(), Nacked: c.nacked.Load(),
		ExpiredInBuffer: c.expired.Load(), RefusedLate: c.refusedLate.Load(), OutlivedLease: c.outlived.Load(), UnknownOutcomes: c.unknown.Load(),
		Polls: c.polls.Load(), EmptyPolls: c.emptyPolls.Load()}
	// In this order, a delivery that is added or read in between is missed, and none is counted twice.
	recalled := c.recalled.Load()
	buffered := c.buffered.Load()
	stats.HandedOut = buffered - min(buffered, recalled+uint64(s.buffer.len()))
	if err := c.last.Load(); err != nil {
		stats.LastError = *err
	}
	stats.InFlight, _ = s.ledger.InFlight()
	return stats
}

type subscriberCounts struct {
	received, acked, nacked, expired, refusedLate, outlived, unknown, polls, emptyPolls atomic.Uint64

	buffered atomic.Uint64 // deliveries sent on the channel
	recalled atomic.Uint64 // of these, taken out again before the program saw them
	last     atomic.Pointer[error]
}

func (c *subscriberCounts) noteError(err error) { c.last.Store(&err) }
