package overview

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Load is what a consumer has to do.
type Load struct {
	Stream, Consumer string
	// Backlog counts the messages that the consumer has not settled, those on lease included. See Consumer.Estimated.
	Backlog   int64
	Estimated bool
	// Outstanding counts the messages on lease, Delayed those that a nack keeps back, and Waiting the receives that wait.
	Outstanding, Delayed, Waiting int64
	// OldestAge is the age of the oldest message that is not settled, or 0 if there is none.
	OldestAge time.Duration
}

// others is the label of the consumers that have none of their own.
const others = "other"

// loads returns what the metrics tell of consumers, the largest backlog first.
func (s samples) loads() (loads []Load) {
	for name := range s {
		labels, ok := strings.CutPrefix(name, consumerBacklog+"/")
		if !ok {
			continue
		}
		stream, consumer, _ := strings.Cut(labels, "/")
		if stream == others {
			continue
		}
		gauge := func(metric string) float64 { return s[key(metric, stream, consumer)] }
		loads = append(loads, Load{
			Stream: stream, Consumer: consumer, Backlog: int64(gauge(consumerBacklog)), Estimated: gauge(consumerEstimated) != 0,
			Outstanding: int64(gauge(consumerOutstanding)), Delayed: int64(gauge(consumerDelayed)), Waiting: int64(gauge(consumerWaiting)),
			OldestAge: time.Duration(gauge(consumerOldest) * float64(time.Second)),
		})
	}
	slices.SortFunc(loads, func(a, b Load) int {
		return cmp.Or(cmp.Compare(b.Backlog, a.Backlog), strings.Compare(a.Stream, b.Stream), strings.Compare(a.Consumer, b.Consumer))
	})
	return loads
}

// addLoads adds the consumers with the largest backlogs, and to each stream the largest one of its own. Of a stream of whose consumers
// the metrics do not tell it is not known: it may be one of the others, or the store did not answer in time.
func (s *Streams) addLoads(got samples) {
	s.Loads = got.loads()
	largest := map[string]Load{}
	for _, l := range slices.Backward(s.Loads) {
		largest[l.Stream] = l
	}
	for i := range s.Streams {
		of := &s.Streams[i]
		l, told := largest[of.Name]
		of.Backlog, of.BacklogKnown = l.Backlog, told || got != nil && of.Stats.ConsumerCount == 0
	}
}
