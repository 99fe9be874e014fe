// Package figures sums up the Stats of Publishers and Subscribers, for the modules that export them as metrics. Those of one
// stream, or of one consumer, share their labels, and therefore their figures.
package figures

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sequin-go/sequin"
)

// Publishers are the figures of all Publishers of a stream. OldestAge is the largest, UnavailableSince the earliest, and everything
// else the sum. LastError is not used.
type Publishers struct {
	Stream string
	sequin.PublisherStats
	Suspended int // how many of them the server refuses
}

// Subscribers are the figures of all Subscribers of a consumer, summed up as those of Publishers.
type Subscribers struct {
	Stream, Consumer string
	sequin.SubscriberStats
}

// Set holds Publishers and Subscribers. The zero Set is empty. Its methods may be called from any goroutine.
type Set struct {
	mu          sync.Mutex // guards all below
	publishers  map[*sequin.Publisher]struct{}
	subscribers map[*sequin.Subscriber]struct{}
	// What those that were removed have counted: a sum must not fall.
	sent     map[string]Publishers
	received map[[2]string]Subscribers
}

// AddPublisher adds a Publisher, unless it is there.
func (s *Set) AddPublisher(p *sequin.Publisher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.publishers == nil {
		s.publishers, s.sent = map[*sequin.Publisher]struct{}{}, map[string]Publishers{}
	}
	s.publishers[p] = struct{}{}
}

// RemovePublisher removes a Publisher. What it has counted so far stays in the sums.
func (s *Set) RemovePublisher(p *sequin.Publisher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.publishers[p]; !there {
		return
	}
	delete(s.publishers, p)
	t, stats := s.sent[p.Stream()], p.Stats()
	t.Stream = p.Stream()
	t.count(stats)
	s.sent[p.Stream()] = t
}

// AddSubscriber adds a Subscriber, unless it is there.
func (s *Set) AddSubscriber(sub *sequin.Subscriber) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subscribers == nil {
		s.subscribers, s.received = map[*sequin.Subscriber]struct{}{}, map[[2]string]Subscribers{}
	}
	s.subscribers[sub] = struct{}{}
}

// RemoveSubscriber removes a Subscriber. What it has counted so far stays in the sums.
func (s *Set) RemoveSubscriber(sub *sequin.Subscriber) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.subscribers[sub]; !there {
		return
	}
	delete(s.subscribers, sub)
	name := [2]string{sub.Stream(), sub.Consumer()}
	t := s.received[name]
	t.Stream, t.Consumer = name[0], name[1]
	t.count(sub.Stats())
	s.received[name] = t
}

// Publishers returns the figures by stream, in the order of the names.
func (s *Set) Publishers() []Publishers {
	s.mu.Lock()
	defer s.mu.Unlock()
	sums := maps.Clone(s.sent)
	for p := range s.publishers {
		t, stats := sums[p.Stream()], p.Stats()
		t.Stream = p.Stream()
		t.count(stats)
		t.Buffered += stats.Buffered
		t.BufferedBytes += stats.BufferedBytes
		t.OldestAge = max(t.OldestAge, stats.OldestAge)
		t.UnavailableSince = earlier(t.UnavailableSince, stats.UnavailableSince)
		if stats.Refusal != nil {
			t.Suspended++
		}
		sums[p.Stream()] = t
	}
	return slices.SortedFunc(maps.Values(sums), func(a, b Publishers) int { return cmp.Compare(a.Stream, b.Stream) })
}

// Subscribers returns the figures by stream and consumer, in the order of the names.
func (s *Set) Subscribers() []Subscribers {
	s.mu.Lock()
	defer s.mu.Unlock()
	sums := maps.Clone(s.received)
	for sub := range s.subscribers {
		name, stats := [2]string{sub.Stream(), sub.Consumer()}, sub.Stats()
		t := sums[name]
		t.Stream, t.Consumer = name[0], name[1]
		t.count(stats)
		t.InFlight += stats.InFlight
		t.HandlersOverdue += stats.HandlersOverdue
		t.OldestAge = max(t.OldestAge, stats.OldestAge)
		t.UnavailableSince = earlier(t.UnavailableSince, stats.UnavailableSince)
		sums[name] = t
	}
	return slices.SortedFunc(maps.Values(sums), func(a, b Subscribers) int {
		return cmp.Or(cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.Consumer, b.Consumer))
	})
}

// earlier returns the earlier of two times; the zero time is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// count adds what another Publisher has counted.
func (t *Publishers) count(s sequin.PublisherStats) {
	t.Accepted += s.Accepted
	t.Sent += s.Sent
	t.Failed += s.Failed
	t.Batches += s.Batches
	t.Bytes += s.Bytes
	t.Retries += s.Retries
	t.Blocked += s.Blocked
}

// count adds what another Subscriber has counted.
func (t *Subscribers) count(s sequin.SubscriberStats) {
	t.Received += s.Received
	t.HandedOut += s.HandedOut
	t.Acked += s.Acked
	t.Nacked += s.Nacked
	t.ExpiredInBuffer += s.ExpiredInBuffer
	t.RefusedLate += s.RefusedLate
	t.OutlivedLease += s.OutlivedLease
	t.UnknownOutcomes += s.UnknownOutcomes
	t.Polls += s.Polls
	t.EmptyPolls += s.EmptyPolls
}
