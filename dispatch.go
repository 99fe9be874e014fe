package sequin

import (
	"slices"
	"time"
)

// maxHold is the longest that a partial batch waits for company beside a lane that stalls. It is the price of few, full
// requests when the server is slow: a person does not notice it, and 20 small requests a second a lane cost little.
const maxHold = 50 * time.Millisecond

// dispatchLocked lets leave what may. A lane with a free slot, not in backoff, leaves
//
//   - at once: what is to be run again, a full batch, and what is in a hurry;
//   - when its head has waited twice the recent median time of a run, at most maxHold: so that a lane that stalls holds
//     back nobody;
//   - when nothing is in flight: the one lane whose head has waited longest.
//
// Letting one leave at every completion as well keeps as many in flight as ever were: at 2,000 items a second and 5 ms a
// run, in four lanes, 594 runs a second of 3.4 items instead of 346 of 5.8, to save 2.5 ms of latency at the median.
//
// With a linger, a partial batch that is in no hurry stays until its head has waited that long.
func (b *batcher[T, W]) dispatchLocked() {
	if b.aborted || b.refusal != nil {
		b.setTimerLocked(time.Time{}) // resume looks again
		return
	}
	now := time.Now()
	var wake time.Time
	soonest := func(t time.Time) {
		if wake.IsZero() || t.Before(wake) {
			wake = t
		}
	}
	b.lim = b.cfg.limits()
	var oldest *lane[T, W] // of the partial ones that could leave if nothing were in flight
	due := func(l *lane[T, W]) time.Time { return l.since.Add(b.pace.hold()) }
	for i := range b.lanes {
		l := &b.lanes[i]
		for l.inFlight < b.cfg.slots && l.waiting() {
			if now.Before(l.resume) {
				if b.cfg.unordered && l.hurry > 0 && len(l.pending()) > 0 {
					b.leaveLocked(l, now)
					continue
				}
				soonest(l.resume)
				break
			}
			if l.forced(b.lim) {
				b.leaveLocked(l, now)
				continue
			}
			ready := l.since.Add(b.cfg.linger)
			if now.Before(ready) {
				soonest(ready)
				break
			}
			if !now.Before(due(l)) {
				b.leaveLocked(l, now)
				continue
			}
			younger := l
			if oldest == nil || l.since.Before(oldest.since) {
				younger, oldest = oldest, l
			}
			if younger != nil {
				soonest(due(younger))
			}
			break
		}
	}
	switch {
	case oldest == nil:
	case b.inFlight == 0:
		b.leaveLocked(oldest, now)
	default:
		soonest(due(oldest))
	}
	b.setTimerLocked(wake)
}

// waiting reports whether the lane has anything to run.
func (l *lane[T, W]) waiting() bool {
	return len(l.stuck) > 0 || len(l.redo) > 0 || len(l.queue) > l.head
}

// forced reports whether the lane leaves without regard to others.
func (l *lane[T, W]) forced(lim limits) bool {
	return len(l.stuck) > 0 || len(l.redo) > 0 || l.hurry > 0 || len(l.pending()) >= lim.count || lim.filled(l.bytes)
}

func (b *batcher[T, W]) leaveLocked(l *lane[T, W], now time.Time) {
	next := b.nextLocked(l, now)
	l.inFlight++
	b.inFlight++
	if b.free {
		b.free, b.next = false, next
		return
	}
	go func() {
		b.topUp(next)
		b.exec(next)
	}()
}

// topUp adds to a batch that was just cut what has come since. A new goroutine may begin only when the one that admits
// items, in a loop, pauses: an idle batcher would send the loop's first item in a request of its own, and the others
// would wait for that to end. Another batch of the lane may have left meanwhile: where order matters it is as it was cut.
func (b *batcher[T, W]) topUp(x *batch[T, W]) {
	if !b.cfg.unordered {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if x.fresh && len(x.items) < b.lim.count && len(x.lane.pending()) > 0 {
		x.items, _ = b.takeLocked(x.lane, time.Now(), nil, x.items)
	}
}

// nextLocked takes the lane's next batch: what is to be run again comes first, and stuck ones take turns with others.
func (b *batcher[T, W]) nextLocked(l *lane[T, W], now time.Time) *batch[T, W] {
	if now.Before(l.resume) {
		return b.cutLocked(l, now, nil) // in a hurry: what is to be run again waits
	}
	if len(l.stuck) > 0 {
		if !l.turn {
			l.turn = true
			if w := b.witnessLocked(l, now); w != nil {
				return w
			}
		}
		l.turn = false
		stuck := l.stuck[0]
		l.stuck = slices.Delete(l.stuck, 0, 1)
		return stuck
	}
	l.turn = false
	if again := l.takeRedo(); again != nil {
		again.witness = false
		return again
	}
	return b.cutLocked(l, now, nil)
}

// witnessLocked takes a batch that holds no id of a stuck one, or nil when the lane has none. What is to be run again
// holds none, or it would have been requeued when that one got stuck.
func (b *batcher[T, W]) witnessLocked(l *lane[T, W], now time.Time) *batch[T, W] {
	w := l.takeRedo()
	if w == nil && len(l.pending()) > 0 {
		var avoid []uint64
		for _, stuck := range l.stuck {
			for i := range stuck.items {
				avoid = append(avoid, stuck.items[i].id)
			}
		}
		w = b.cutLocked(l, now, avoid)
	}
	if w != nil {
		w.witness = true
	}
	return w
}

func (l *lane[T, W]) takeRedo() *batch[T, W] {
	if len(l.redo) == 0 {
		return nil
	}
	next := l.redo[0]
	l.redo = slices.Delete(l.redo, 0, 1)
	return next
}

// cutLocked cuts a batch off the lane's queue. Only with ids to avoid it may find none.
func (b *batcher[T, W]) cutLocked(l *lane[T, W], now time.Time, avoid []uint64) *batch[T, W] {
	items, skipped := b.takeLocked(l, now, avoid, l.room(min(len(l.pending()), b.lim.count)))
	if len(items) == 0 {
		l.spares = append(l.spares, items)
		return nil
	}
	return &batch[T, W]{items: items, skipped: skipped && avoid == nil, lane: l, fresh: true}
}

// takeLocked moves items from the lane's queue to a batch, as many as fit beside those that are in it. It reports whether
// it passed over any.
func (b *batcher[T, W]) takeLocked(l *lane[T, W], now time.Time, avoid []uint64, into []entry[T]) (items []entry[T], passed bool) {
	pending := l.pending()
	if b.cfg.first != nil && len(pending) > b.lim.count {
		slices.SortStableFunc(pending, func(x, y entry[T]) int { return b.cfg.first(x.item, y.item) })
	}
	items, rest, skipped := cut(&b.cutter, pending, b.lim, avoid, into)
	taken := items[len(into):]
	if len(taken) == 0 {
		return items, skipped > 0
	}
	for i := range taken {
		l.bytes -= taken[i].size
	}
	// What was passed over keeps its order, so that what is in a hurry stays in front; how much of it was taken is not
	// counted where something was passed over: a little too much hurry does no harm.
	if skipped == 0 {
		l.hurry = max(0, l.hurry-len(taken))
	}
	l.hurry = min(l.hurry, len(rest))
	if l.head = len(l.queue) - len(rest); len(rest) == 0 {
		l.queue, l.head = l.queue[:0], 0
	}
	// The time of each item is not kept: it would cost more than all the rest of an admission. What stays behind has
	// waited at least since now.
	if skipped == 0 { // what was passed over has waited longer: with a hot key the lane's head is always such
		l.since = now
	}
	return items, skipped > 0
}

// room returns an empty list for n items, that of an earlier batch where there is one.
func (l *lane[T, W]) room(n int) []entry[T] {
	if last := len(l.spares) - 1; last >= 0 {
		spare := l.spares[last]
		l.spares = l.spares[:last]
		if cap(spare) >= n {
			return spare
		}
	}
	return make([]entry[T], 0, n)
}

// exec runs a batch, and then whatever leaves when it has ended: a goroutine that has run one has the stack for the next.
func (b *batcher[T, W]) exec(x *batch[T, W]) {
	for x != nil {
		x = b.step(x)
	}
}

// step runs a batch and applies its verdict. It returns one of those that leave now, or nil; the others have goroutines
// of their own.
func (b *batcher[T, W]) step(x *batch[T, W]) *batch[T, W] {
	began := time.Now()
	x.fresh = false
	v := b.cfg.run(b.ctx, x)
	took := time.Since(began)
	// Outside mu, because done may be anybody's code, and before the room is free, so that a Flush which returns has
	// seen every receipt complete.
	if len(v.done) > 0 {
		b.cfg.done(v.done, nil)
	}
	if len(v.failed) > 0 {
		b.cfg.done(v.failed, v.err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	l := x.lane
	l.inFlight--
	b.inFlight--
	if len(v.done)+len(v.failed) > 0 {
		b.pace.note(took)
	}
	b.completeLocked(v.done, true)
	b.completeLocked(v.failed, false)
	b.totals.done += uint64(len(v.done))
	b.totals.failed += uint64(len(v.failed))
	b.putBackLocked(l, v)
	if len(v.done) == len(x.items) && len(l.spares) < b.cfg.slots {
		clear(x.items)
		l.spares = append(l.spares, x.items[:0])
	}
	b.turnEpochsLocked()
	b.free, b.next = true, nil
	b.grantLocked()
	b.dispatchLocked()
	b.free = false
	b.checkDrainedLocked()
	return b.next
}

// completeLocked takes items off the books; their room is free only where free says so.
func (b *batcher[T, W]) completeLocked(items []entry[T], free bool) {
	for i := range items {
		items[i].epoch.live--
		if free {
			b.bytes -= items[i].size
		}
	}
	b.live -= len(items)
	if free {
		b.buffered -= len(items)
	}
}

// putBackLocked takes back what is to be run again.
func (b *batcher[T, W]) putBackLocked(l *lane[T, W], v verdict[T, W]) {
	if v.wait > 0 {
		l.resume = time.Now().Add(v.wait)
	}
	for _, again := range v.again {
		again.lane = l
	}
	if len(v.again) > 0 {
		l.redo = slices.Concat(v.again, l.redo)
	}
	if v.stuck != nil {
		v.stuck.lane = l
		l.stuck = append(l.stuck, v.stuck)
	}
	// What waits to be run again is later than what is put back before it. And it must not hold the id of what is stuck:
	// cut anew, without that id, it is a witness. Halves of a witness hold none, and stay halves.
	if len(v.requeue) == 0 && (v.stuck == nil || !sharesID(v.stuck, l.redo)) {
		return
	}
	back := slices.Clip(v.requeue)
	for _, piece := range l.redo {
		back = append(back, piece.items...)
	}
	l.redo = nil
	for i := range back {
		l.bytes += back[i].size
	}
	l.hurry += len(back) // what left once has had its time to wait for company
	l.queue, l.head = slices.Concat(back, l.pending()), 0
}

// sharesID reports whether any of the batches holds an id of b's.
func sharesID[T, W any](b *batch[T, W], others []*batch[T, W]) bool {
	for _, e := range b.items {
		for _, other := range others {
			if slices.ContainsFunc(other.items, func(o entry[T]) bool { return o.id == e.id }) {
				return true
			}
		}
	}
	return false
}

// setTimerLocked lets tick run at wake, or never when it is zero.
func (b *batcher[T, W]) setTimerLocked(wake time.Time) {
	if wake.Equal(b.wake) {
		return
	}
	switch b.wake = wake; {
	case wake.IsZero():
		b.timer.Stop()
	case b.timer == nil:
		b.timer = time.AfterFunc(time.Until(wake), b.tick)
	default:
		b.timer.Reset(time.Until(wake))
	}
}

// tick is the timer's. One that fires while it is being set anew finds nothing due, and sets it again.
func (b *batcher[T, W]) tick() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wake = time.Time{}
	b.dispatchLocked()
}

// pace is how long runs took lately.
type pace struct {
	last [15]time.Duration // few enough to follow a change within a second, odd for a median that was measured
	n    int
	held time.Duration
}

func (p *pace) note(took time.Duration) {
	p.last[p.n%len(p.last)] = took
	p.n++
	sorted := p.last
	known := sorted[:min(p.n, len(sorted))]
	slices.Sort(known)
	p.held = min(2*known[len(known)/2], maxHold)
}

// hold is how long a partial batch waits for company at most: twice the median.
func (p *pace) hold() time.Duration {
	if p.n == 0 {
		return maxHold
	}
	return p.held
}
