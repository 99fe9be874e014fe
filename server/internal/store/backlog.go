package store

import (
	"time"

	"github.com/sequin-go/sequin/server/internal/waitqueue"
)

// backlog is what a consumer has not settled: the messages that it can deliver and those on lease. Each dialect has its
// own implementation. A backlog has no lock: callers hold the stream's.
type backlog interface {
	// receive leases up to n messages and returns dst with them appended.
	receive(n int, dst []Delivery) []Delivery
	// settle ends the leases with these ids. It ignores other ids. With a delay, which comes with Nack and Return only, the
	// messages become available after it.
	settle(ids []ID, how Settlement, delay time.Duration)
	// extend makes the leases with these ids end wait from now, unless they end later, and returns the ids that it found.
	extend(ids []ID, wait time.Duration) []ID
	waitqueue.Source

	// limitsChanged applies changed limits.
	limitsChanged()
	// stored adds new entries, lowest seq first.
	stored(entries []*entry)
	// removed handles an entry that was replaced or dropped.
	removed(e *entry)

	// views calls f with every message that is not settled and has a higher seq than after, by ascending seq, until f returns
	// false.
	views(after int64, f func(View) bool)
	// view returns the state of the newest message of a key; ok is false when it has none here.
	view(e *entry) (v View, ok bool)
	// measure returns what the consumer has to do, without its queue.
	measure(now time.Time) Measure
	// outstanding returns the leases by ascending seq.
	outstanding() []Outstanding
}

// feed is what a backlog reads of its stream and its consumer.
type feed struct {
	log       *log
	ids       idSource
	filter    Filter
	limits    *ConsumerLimits // Update changes them in place
	start     int64           // of the consumer
	createdAt time.Time       // of the consumer
}
