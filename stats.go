package sequin

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sequin-go/sequin/internal/background"
	"github.com/sequin-go/sequin/internal/linelog"
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

// Stats returns the totals so far. It may be called at any time.
func (p *Publisher) Stats() PublisherStats {
	s := p.counts.snapshot()
	e := p.engine.Stats()
	s.Accepted, s.Sent, s.Failed, s.Blocked = e.Admitted, e.Done, e.Failed, e.Blocked
	s.Buffered, s.BufferedBytes, s.Refusal = e.Live, e.Bytes, e.Suspended
	if !e.Oldest.IsZero() {
		s.OldestAge = time.Since(e.Oldest)
	}
	s.UnavailableSince = p.outage.since()
	return s
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
	// Received counts the messages in answers. HandedOut counts those that were read from the channel.
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

// Stats returns the totals so far. It may be called at any time.
func (s *Subscriber) Stats() SubscriberStats {
	c := &s.counts
	stats := SubscriberStats{Received: c.received.Load(), Acked: c.acked.Load(), Nacked: c.nacked.Load(),
		ExpiredInBuffer: c.expired.Load(), RefusedLate: c.refusedLate.Load(), OutlivedLease: c.outlived.Load(), UnknownOutcomes: c.unknown.Load(),
		Polls: c.polls.Load(), EmptyPolls: c.emptyPolls.Load()}
	// The order of these reads matters. A delivery that is added or read in between may be missed, but none is counted twice.
	recalled := c.recalled.Load()
	buffered := c.buffered.Load()
	stats.HandedOut = buffered - min(buffered, recalled+uint64(s.buffer.len()))
	if last := c.last.Load(); last != nil {
		stats.LastError, stats.LastErrorAt = last.err, last.at
	}
	if since := c.failing.Load(); since != nil {
		stats.UnavailableSince = *since
	}
	stats.InFlight, _ = s.ledger.InFlight()
	now := time.Now()
	for _, r := range s.ledger.OpenNotes() {
		stats.OldestAge = max(stats.OldestAge, now.Sub(r.fetched.lease.Began))
	}
	if p := s.handlers.Load(); p != nil {
		stats.HandlersOverdue = p.overdue(now)
	}
	return stats
}

type subscriberCounts struct {
	received, acked, nacked, expired, refusedLate, outlived, unknown, polls, emptyPolls atomic.Uint64

	buffered atomic.Uint64 // deliveries sent on the channel
	recalled atomic.Uint64 // those of them that were removed again before the program saw them
	last     atomic.Pointer[lastError]
	failing  atomic.Pointer[time.Time] // when the first of the receives failed that have failed in a row; nil for none
}

type lastError struct {
	err error
	at  time.Time
}

func (c *subscriberCounts) noteError(err error) { c.last.Store(&lastError{err, time.Now()}) }

// backgroundLog writes a Publisher's log lines in the background. A lane must not wait for the log: a slog.Handler may send
// through this Publisher, and then wait for room that only a lane can free.
type backgroundLog struct {
	logger *linelog.Log
	stream string
	lines  background.Queue

	mu       sync.Mutex // guards all below
	next     time.Time  // when the next failed batch may be logged
	failures int        // failed messages that have not been logged
}

const (
	// maxLines limits the lines that wait to be written; further ones are dropped. A Publisher or a Subscriber logs fewer
	// while the handler blocks for a minute.
	maxLines = 64
	// failureInterval is the least time between two log lines for failed batches. Thousands of messages may fail one by one.
	failureInterval = time.Second
)

// add writes a log line in the background.
func (l *backgroundLog) add(level slog.Level, what string, args ...any) {
	if !l.logger.Enabled(context.Background(), level) {
		return
	}
	args = append([]any{"stream", l.stream}, args...)
	l.lines.Add(func() { l.logger.Write(context.Background(), level, "publisher "+what, args...) }, maxLines)
}

// await waits until all lines are written, or ctx ends.
func (l *backgroundLog) await(ctx context.Context) { l.lines.Await(ctx) }

// failed logs that messages have failed, at most once a second. The next line includes the messages that were not logged. Those
// from Config.Logger do not count: a line about a line that could not be sent would fail as well, and so on.
func (l *backgroundLog) failed(items []messageEntry, err error) {
	messages := 0
	for i := range items {
		if !items[i].Item.quiet {
			messages++
		}
	}
	if messages == 0 {
		return
	}
	l.mu.Lock()
	now := time.Now()
	l.failures += messages
	total, log := l.failures, !now.Before(l.next)
	if log {
		l.next, l.failures = now.Add(failureInterval), 0
	}
	l.mu.Unlock()
	if log {
		l.add(slog.LevelError, "could not send messages", "messages", total, "error", err)
	}
}
