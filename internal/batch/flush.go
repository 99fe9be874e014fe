package batch

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

// flush waits until everything that was admitted before the call is complete, without waiting for more items. The error is
// that of ctx, or ErrClosed when close gave up on some of it.
func (b *Engine[T, W]) Flush(ctx context.Context) error {
	b.mu.Lock()
	e := b.endEpochLocked()
	b.urgeLocked()
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
func (b *Engine[T, W]) endEpochLocked() *epoch {
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
func (b *Engine[T, W]) turnEpochsLocked() {
	for len(b.epochs) > 1 && b.epochs[0].live == 0 {
		close(b.epochs[0].done)
		b.epochs[0] = nil
		b.epochs = b.epochs[1:]
	}
}

// drop fails what is queued, or waits to be run again, and unwanted. It is for run to call: close waits for its batch.
func (b *Engine[T, W]) Drop(unwanted func(*T) bool, err error) {
	var out []Entry[T]
	keep := func(items []Entry[T]) []Entry[T] {
		first := slices.IndexFunc(items, func(e Entry[T]) bool { return unwanted(&e.Item) })
		if first < 0 {
			return items
		}
		rest := slices.Clone(items[:first])
		for i := first; i < len(items); i++ {
			if unwanted(&items[i].Item) {
				out = append(out, items[i])
			} else {
				rest = append(rest, items[i])
			}
		}
		return rest
	}
	keepOf := func(batches []*Batch[T, W]) (rest []*Batch[T, W]) {
		for _, x := range batches {
			items := keep(x.Items)
			switch {
			case len(items) == len(x.Items):
				rest = append(rest, x)
			case len(items) > 0:
				rest = append(rest, &Batch[T, W]{Items: items, lane: x.lane}) // another batch, with work of its own
			}
		}
		return rest
	}
	b.mu.Lock()
	for i := range b.lanes {
		l := &b.lanes[i]
		if queue := keep(l.pending()); len(queue) < len(l.pending()) {
			l.queue, l.head, l.bytes, l.urgent = queue, 0, 0, min(l.urgent, len(queue))
			for j := range queue {
				l.bytes += queue[j].Size
			}
		}
		l.redo, l.candidates = keepOf(l.redo), keepOf(l.candidates)
	}
	b.mu.Unlock()
	if len(out) == 0 {
		return
	}
	b.cfg.Done(out, err)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.completeLocked(out, false)
	b.totals.Failed += uint64(len(out))
	b.turnEpochsLocked()
}

// close refuses new items and waits until all others are complete or ctx ends. What is left then is returned, lane by
// lane in order, the same at every call; a batch in flight at that moment is among it unless it succeeded. No goroutine
// and no timer remains. It may be called at any time, also beside itself: the first ctx that ends counts.
func (b *Engine[T, W]) Close(ctx context.Context) (left []T, cause error) {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		b.refuseWaitersLocked(ErrClosed)
		b.urgeLocked()
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

func (b *Engine[T, W]) checkDrainedLocked() {
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
func (b *Engine[T, W]) gatherLeft() {
	var left []Entry[T]
	for i := range b.lanes {
		l := &b.lanes[i]
		for _, candidate := range l.candidates {
			left = append(left, candidate.Items...)
		}
		for _, again := range l.redo {
			left = append(left, again.Items...)
		}
		left = append(left, l.pending()...)
	}
	for _, e := range left {
		b.left = append(b.left, e.Item)
	}
	if len(left) > 0 {
		b.cfg.Done(left, ErrClosed)
	}
}
