package sequin

import (
	"context"
	"slices"
	"time"
)

// epoch counts the items admitted between two flushes.
type epoch struct {
	live int
	done chan struct{}
}

func newEpoch() *epoch { return &epoch{done: make(chan struct{})} }

// flush waits until everything that was admitted before the call is complete, without waiting for company. The error is
// that of ctx, or ErrClosed when close gave up on some of it.
func (b *batcher[T, W]) flush(ctx context.Context) error {
	b.mu.Lock()
	e := b.endEpochLocked()
	b.hurryLocked()
	b.mu.Unlock()
	select {
	case <-e.done:
		return nil
	default:
	}
	select {
	case <-e.done:
		return nil
	case <-ctx.Done():
		return ended(ctx)
	case <-b.drained:
	}
	select {
	case <-e.done:
		return nil
	default:
		return ErrClosed
	}
}

// endEpochLocked returns the epoch that is complete once everything admitted so far is. One that holds nothing is not
// ended: there are never more epochs than live items, however often flush is called while nothing moves.
func (b *batcher[T, W]) endEpochLocked() *epoch {
	last := len(b.epochs) - 1
	if b.epochs[last].live == 0 && last > 0 {
		return b.epochs[last-1]
	}
	e := b.epochs[last]
	b.epochs = append(b.epochs, newEpoch())
	b.turnEpochsLocked()
	return e
}

// turnEpochsLocked ends the epochs that have nothing left, in their order.
func (b *batcher[T, W]) turnEpochsLocked() {
	for len(b.epochs) > 1 && b.epochs[0].live == 0 {
		close(b.epochs[0].done)
		b.epochs[0] = nil
		b.epochs = b.epochs[1:]
	}
}

// drop fails what is queued, or waits to be run again, and unwanted. It is for run to call: close waits for its batch.
func (b *batcher[T, W]) drop(unwanted func(*T) bool, err error) {
	var out []entry[T]
	keep := func(items []entry[T]) []entry[T] {
		first := slices.IndexFunc(items, func(e entry[T]) bool { return unwanted(&e.item) })
		if first < 0 {
			return items
		}
		rest := slices.Clone(items[:first])
		for i := first; i < len(items); i++ {
			if unwanted(&items[i].item) {
				out = append(out, items[i])
			} else {
				rest = append(rest, items[i])
			}
		}
		return rest
	}
	keepOf := func(batches []*batch[T, W]) (rest []*batch[T, W]) {
		for _, x := range batches {
			items := keep(x.items)
			switch {
			case len(items) == len(x.items):
				rest = append(rest, x)
			case len(items) > 0:
				rest = append(rest, &batch[T, W]{items: items, lane: x.lane}) // another batch, with work of its own
			}
		}
		return rest
	}
	b.mu.Lock()
	for i := range b.lanes {
		l := &b.lanes[i]
		if queue := keep(l.pending()); len(queue) < len(l.pending()) {
			l.queue, l.head, l.bytes, l.hurry = queue, 0, 0, min(l.hurry, len(queue))
			for j := range queue {
				l.bytes += queue[j].size
			}
		}
		l.redo, l.stuck = keepOf(l.redo), keepOf(l.stuck)
	}
	b.mu.Unlock()
	if len(out) == 0 {
		return
	}
	b.cfg.done(out, err)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.completeLocked(out, false)
	b.totals.failed += uint64(len(out))
	b.turnEpochsLocked()
}

// close refuses new items and waits until all others are complete or ctx ends. What is left then is returned, lane by
// lane in order, the same at every call; a batch in flight at that moment is among it unless it succeeded. No goroutine
// and no timer remains. It may be called at any time, also beside itself: the first ctx that ends counts.
func (b *batcher[T, W]) close(ctx context.Context) (left []T, cause error) {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		b.refuseWaitersLocked(ErrClosed)
		b.hurryLocked()
	}
	b.checkDrainedLocked()
	b.mu.Unlock()
	select {
	case <-b.drained:
	case <-ctx.Done():
		b.mu.Lock()
		if !b.aborted && b.live > 0 {
			b.aborted, b.cause = true, ended(ctx)
			b.cancel(ErrClosed)
		}
		b.checkDrainedLocked()
		b.mu.Unlock()
		<-b.drained
	}
	b.gather.Do(b.gatherLeft)
	return b.left, b.cause
}

func (b *batcher[T, W]) checkDrainedLocked() {
	if !b.closed || b.inFlight > 0 || b.live > 0 && !b.aborted {
		return
	}
	select {
	case <-b.drained:
	default:
		b.setTimerLocked(time.Time{})
		b.cancel(ErrClosed)
		close(b.drained)
	}
}

// gatherLeft runs after drained, when nothing changes any more.
func (b *batcher[T, W]) gatherLeft() {
	var left []entry[T]
	for i := range b.lanes {
		l := &b.lanes[i]
		for _, stuck := range l.stuck {
			left = append(left, stuck.items...)
		}
		for _, again := range l.redo {
			left = append(left, again.items...)
		}
		left = append(left, l.pending()...)
	}
	for _, e := range left {
		b.left = append(b.left, e.item)
	}
	if len(left) > 0 {
		b.cfg.done(left, ErrClosed)
	}
}
