package batch

import (
	"math/bits"
	"time"
)

// This file opens and closes lanes where their number adapts. Each item has a home, a number below Config.MaxLanes. It is in
// the open lane with that number, or else in the one that the homes of the closed lane are in. A lane opens and closes at a
// moment when the lane that its items come from has nothing in flight, no retry and no candidate. Only queued items then
// change their lane. They keep their order, and nothing that left the old lane is without its final result. That moment
// comes at the end of nearly every batch, so that no lane waits for it.

// Lane returns the lane of the items with that ID, for Admit and FlushLane.
func (e *Engine[T, W]) Lane(id uint64) int { return e.cfg.home(id) }

// home returns the lane of the items with that ID if all lanes were open.
func (c *Config[T, W]) home(id uint64) int { return int(id % uint64(c.mostLanes())) }

func (c *Config[T, W]) mostLanes() int { return max(c.Lanes, c.MaxLanes) }

// laneAt returns the lane that items with that home are in. The items of a closed lane are in the lane whose number lacks the
// highest bit. Each doubling of the number of lanes thus halves each lane.
func (s *state[T, W]) laneAt(home int) *lane[T, W] {
	for home >= s.cfg.Lanes && !s.isOpen(home) {
		home -= 1 << (bits.Len(uint(home)) - 1)
	}
	return s.lanes[home]
}

func (s *state[T, W]) isOpen(home int) bool { return home < len(s.lanes) && s.lanes[home].open }

func (s *state[T, W]) findHomes() {
	for home := range s.homes {
		s.homes[home] = uint8(s.laneAt(home).number)
	}
}

// addLanes makes lanes until there are n. Those beyond Config.Lanes begin closed.
func (s *state[T, W]) addLanes(n int) {
	for i := len(s.lanes); i < n; i++ {
		s.lanes = append(s.lanes, &lane[T, W]{number: i, open: i < s.cfg.Lanes})
	}
}

// wake makes the lanes of an engine that has none. There are no items, so that all of them open at once.
func (s *state[T, W]) wake() {
	s.addLanes(s.tuner.want)
	for _, l := range s.lanes {
		l.open = true
	}
	s.findHomes()
}

// spread opens and closes lanes until as many are open as the tuner wants. Lanes for which it is too early are left to later
// calls.
func (s *state[T, W]) spread() {
	want, complete := s.tuner.want, true
	s.addLanes(want)
	for _, l := range s.lanes[s.cfg.Lanes:] {
		switch wanted := l.number < want; {
		case wanted && !l.open && s.laneAt(l.number).quiet():
			s.open(l)
		case !wanted && l.open && l.quiet():
			s.close(l)
		default:
			complete = complete && wanted == l.open
		}
	}
	s.findHomes()
	s.spreadOver = 0
	if complete {
		s.spreadOver = want
	}
}

// open moves the queued items of a lane to it.
func (s *state[T, W]) open(l *lane[T, W]) {
	from := s.laneAt(l.number)
	pending, urgent := from.queue.appendTo(nil), from.urgent
	l.open, l.since, l.limits, l.resume = true, from.since, from.limits, from.resume
	from.queue.empty()
	from.urgent = 0
	for i := range pending {
		e, to := &pending[i], from
		if s.laneAt(s.cfg.home(e.ID)) == l {
			to = l
		}
		to.queue.push(e, to.limits)
		if i < urgent {
			to.urgent++
		}
	}
}

// close moves the queued items of a lane to the one that they have come from. The memory of the lane becomes free.
func (s *state[T, W]) close(l *lane[T, W]) {
	l.open = false
	to := s.laneAt(l.number)
	if to.queued() == 0 || l.queued() > 0 && l.since.Before(to.since) {
		to.since = l.since
	}
	urgent := l.urgent > 0
	pending := l.queue.appendTo(nil)
	for i := range pending {
		to.queue.push(&pending[i], to.limits)
	}
	if urgent {
		to.makeUrgent() // a few other items then count as urgent, which does no harm
	}
	if l.resume.After(to.resume) {
		to.resume = l.resume
	}
	*l = lane[T, W]{number: l.number}
}

// quiet reports whether nothing that has left the lane is without its final result.
func (l *lane[T, W]) quiet() bool {
	return l.inFlight == 0 && len(l.retries) == 0 && len(l.candidates.list) == 0
}

// adapt tells the tuner that a batch has ended.
func (s *state[T, W]) adapt(b *Batch[T, W], r Result[T, W], now time.Time) {
	if !s.tuner.adapts() || b.Candidate {
		return
	}
	b.lane.ran = true
	e := ending{at: now, items: len(r.Done) + len(r.Failed), failed: len(r.Again) > 0, idle: s.live == 0}
	open, busy, full := 0, 0, 0
	settled := s.spreadOver == s.tuner.want
	e.heard = settled
	for _, l := range s.lanes {
		if !l.open {
			continue
		}
		open++
		if l.inFlight > 0 || l == b.lane {
			busy++
		}
		if l.isFull() {
			full++
		}
		e.heard = e.heard && l.ran
		e.failed = e.failed || len(l.retries)+len(l.candidates.list) > 0
	}
	// Some lanes have fewer items than others, because IDs are hashes.
	e.limited = settled && b.full && 4*busy >= 3*open && 2*full >= open && s.pace.least >= minTook
	s.tuner.ended(e, s.mayGrow)
}

// mayGrow reports whether the buffer holds two full batches for each of so many lanes: one in flight, and the next one. With
// less, more lanes would only have smaller batches.
func (s *state[T, W]) mayGrow(lanes int) bool {
	lim := s.lanes[0].limits
	bytes := min(lim.Bytes, lim.Count*(s.bytes/max(1, s.buffered)))
	return (s.cfg.MaxItems == 0 || 2*lanes*lim.Count <= s.maxItems(lanes) && 2*lanes*bytes <= s.cfg.MaxBytes) &&
		(s.cfg.MayGrow == nil || s.cfg.MayGrow())
}

// maxItems returns the most buffered items with so many lanes.
func (s *state[T, W]) maxItems(lanes int) int {
	return s.cfg.MaxItems + (lanes-s.cfg.Lanes)*s.cfg.LaneItems
}
