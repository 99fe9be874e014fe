package flow

import (
	"sync"
	"time"
)

// Distance is how long a round trip to the server takes at least. Its methods may be called from any goroutine. The zero value is
// ready for use.
type Distance struct {
	mu       sync.Mutex // guards all below
	since    time.Time
	shortest time.Duration // since then
	before   time.Duration // in the minute before; 0 if nothing is known
}

// distanceFor is after which time a round trip counts no more, or after twice that time. A server may move.
const distanceFor = time.Minute

// Add records a round trip.
func (d *Distance) Add(now time.Time, took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch age := now.Sub(d.since); {
	case age >= 2*distanceFor:
		d.since, d.before, d.shortest = now, 0, max(1, took)
	case age >= distanceFor:
		d.since, d.before, d.shortest = now, d.shortest, max(1, took)
	default:
		d.shortest = max(1, min(d.shortest, took))
	}
}

// Far reports whether each round trip of the last minute took long.
func (d *Distance) Far() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.shortest >= far && (d.before == 0 || d.before >= far)
}
