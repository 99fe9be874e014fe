package batch

import (
	"slices"
	"time"
)

// minHold is the least hold. A request over loopback takes a few hundred microseconds, and a lane in which one goroutine puts every
// fourth of its messages needs half a millisecond to fill: with twice the median alone a third of the batches left three quarters full.
const minHold = time.Millisecond

// pace measures how long recent runs took.
type pace struct {
	last        [15]time.Duration // 15 follow a change within a second; an odd number, so that the median is a measured value
	n           int
	least, held time.Duration
}

func (p *pace) record(took time.Duration) {
	p.last[p.n%len(p.last)] = took
	p.n++
	sorted := p.last
	known := sorted[:min(p.n, len(sorted))]
	slices.Sort(known)
	p.least, p.held = known[0], max(minHold, min(2*known[len(known)/2], MaxHold))
}

// hold returns the longest that a partial batch waits for more items: twice the median, between minHold and MaxHold.
func (p *pace) hold() time.Duration {
	if p.n == 0 {
		return MaxHold
	}
	return p.held
}
