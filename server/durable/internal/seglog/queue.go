package seglog

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/sequin-go/sequin/server/internal/store"
)

// queue holds what is appended and not yet written, the positions, and those who wait for them. This file takes its lock.
type queue struct {
	always  bool     // the Policy is SyncAlways
	limit   int64    // of the bytes in the queue
	size    int64    // of a segment
	store   [16]byte // for the headers of segments
	seed    seed
	opening uint32 // for records and headers

	// What is below these is written or synced. The goroutine that writes changes them, under mu.
	written atomic.Uint64
	durable atomic.Uint64
	lost    atomic.Pointer[[]lost] // oldest first

	wake chan struct{} // tells the writer that there is work; has room for one

	mu        sync.Mutex
	head      segmentHead // of the segment that end is in
	sealed    uint32      // the number of the next segment, once that segment has its seal
	skip      uint32      // the next segment must have at least this number
	end       Pos         // where the next record goes
	last      Pos         // the newest record
	groups    []*group    // not yet written, oldest first
	taken     *group      // the first of groups, or one that is written and not yet synced
	queued    int64       // bytes in groups
	err       error       // why nothing is written any more
	closing   bool
	forced    bool          // somebody waits for a sync
	failed    chan struct{} // closed when err is set
	room      chan struct{} // closed when queued gets less; nil when nobody waits
	afterSync chan struct{} // closed at the end of the next sync; nil when nobody waits
	buffers   [][]byte      // of groups that were written
}

// group is what one write puts into one segment.
type group struct {
	segment uint32
	offset  int64
	data    []byte
	records int
	length  int64         // of data, also when data is gone
	head    *segmentHead  // of a segment that starts with this group
	next    uint32        // in a group that ends with a seal: the segment that follows
	mark    bool          // the group is a mark
	written chan struct{} // closed when the group is written or lost; nil when nobody waits
	synced  chan struct{} // closed when the group is synced or lost; nil when nobody waits
}

func (g *group) end() Pos { return position(g.segment, g.offset+g.length) }

// lost is a range of positions that were given out and not written. The positions are not used again.
type lost struct {
	from, to Pos
	err      error
}

func newQueue(o Options) *queue {
	return &queue{
		always: o.Policy.Every <= 0,
		limit:  o.MaxQueued,
		size:   o.SegmentBytes,
		wake:   make(chan struct{}, 1),
		failed: make(chan struct{}),
	}
}

// restart makes the queue continue at end, in the segment with this header. sealed is the number of the next segment when
// this one has its seal.
func (q *queue) restart(head segmentHead, end Pos, sealed uint32) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.head, q.end, q.sealed = head, end, sealed
	q.written.Store(uint64(end))
	q.durable.Store(uint64(end))
}

func (q *queue) append(kind byte, stream uint32, body []byte, sum uint32) Pos {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil || q.closing {
		return q.end
	}
	q.place(recordHeader + int64(len(body)))
	q.last = q.add(kind, stream, body, sum)
	return q.last
}

// mark appends a mark that says what is synced, when nothing else is queued.
func (q *queue) mark() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil && len(q.groups) == 0 {
		q.place(recordHeader)
		q.add(kindMark, 0, nil, q.seed.checksum(nil))
		q.groups[len(q.groups)-1].mark = true
	}
}

// next returns the oldest group, which nobody changes from now on, or nil. forced reports that somebody waits for a sync,
// closing that nothing is appended any more.
func (q *queue) next() (g *group, forced, closing bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.groups) > 0 {
		q.taken = q.groups[0]
		return q.taken, q.forced, q.closing
	}
	return nil, q.forced, q.closing
}

// unwritten returns how many records are appended and not written.
func (q *queue) unwritten() (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, g := range q.groups {
		n += g.records
	}
	return n
}

// wroteGroup removes the group that was taken. A sync follows at once when syncs is set.
func (q *queue) wroteGroup(syncs bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	g := q.taken
	q.groups = append(q.groups[:0], q.groups[1:]...)
	q.queued -= g.length
	q.written.Store(uint64(g.end()))
	wakeAll(&g.written)
	wakeAll(&q.room)
	if !syncs {
		q.taken = nil
	}
	q.recycle(g)
}

// synced notes that everything below pos is synced.
func (q *queue) synced(pos Pos) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.durable.Store(uint64(pos))
	if q.taken != nil && q.taken.end() <= pos { // else it was written after that sync began
		wakeAll(&q.taken.synced)
		q.taken = nil
	}
	wakeAll(&q.afterSync)
	q.forced = false
}

// fail drops what is queued and wakes everybody.
func (q *queue) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return
	}
	q.err = err
	for _, g := range q.groups {
		wakeAll(&g.written)
		wakeAll(&g.synced)
	}
	if q.taken != nil {
		wakeAll(&q.taken.synced)
	}
	wakeAll(&q.afterSync)
	wakeAll(&q.room)
	close(q.failed)
	q.groups, q.taken, q.queued, q.forced = nil, nil, 0, false
}

// close lets the writer write what is queued and end. It reports whether the queue was closed already.
func (q *queue) close() (again bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	again = q.closing
	q.closing = true
	q.signal()
	return again
}

// recover makes a queue that has failed usable. No position that was given out is used again.
func (q *queue) recover(head segmentHead, end Pos, sealed uint32) {
	q.mu.Lock()
	defer q.mu.Unlock()
	ranges := []lost{}
	if old := q.lost.Load(); old != nil {
		ranges = append(ranges, *old...)
	}
	q.skip = q.end.Segment() + 1
	ranges = append(ranges, lost{end, position(q.skip, 0), q.err})
	q.lost.Store(&ranges)
	q.head, q.end, q.sealed = head, end, sealed
	q.err, q.failed = nil, make(chan struct{})
}

// failure returns why nothing is written any more, and the channel that is closed when that happens.
func (q *queue) failure() (<-chan struct{}, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.failed, withoutDoubt(q.err)
}

// tail returns where the next record goes.
func (q *queue) tail() Pos {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.end
}

// sync waits until everything that is appended now is synced, marks too.
func (q *queue) sync(ctx context.Context) error {
	for end := q.tail(); ; {
		q.mu.Lock()
		if Pos(q.durable.Load()) >= end {
			q.mu.Unlock()
			return nil
		}
		if err := q.refusal(); err != nil {
			q.mu.Unlock()
			return err
		}
		q.forced = true
		q.signal()
		synced := waiting(&q.afterSync)
		q.mu.Unlock()
		select {
		case <-synced:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", store.ErrUnknown, context.Cause(ctx))
		}
	}
}

// waitRoom waits until fewer than limit bytes are queued.
func (q *queue) waitRoom(ctx context.Context) error {
	for {
		q.mu.Lock()
		if err := q.refusal(); err != nil || q.queued < q.limit {
			q.mu.Unlock()
			return err
		}
		room := waiting(&q.room)
		q.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// wait waits until the record at pos is written, or synced.
func (q *queue) wait(ctx context.Context, pos Pos, sync bool) error {
	for {
		if done, err := q.reached(pos, sync); done {
			return err
		}
		changed, err := q.changed(pos, sync)
		if err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", store.ErrUnknown, context.Cause(ctx))
		}
	}
}

// reached reports whether the record at pos is written, or synced, or lost.
func (q *queue) reached(pos Pos, sync bool) (bool, error) {
	at := &q.written
	if sync {
		at = &q.durable
	}
	// Read first: what lies behind a lost range is written after the range is noted.
	passed := uint64(pos) < at.Load()
	if all := q.lost.Load(); all != nil {
		for _, l := range *all {
			if l.from <= pos && pos < l.to {
				return true, l.err
			}
		}
	}
	return passed, nil
}

// changed returns a channel that is closed when it is worth asking again about pos.
func (q *queue) changed(pos Pos, sync bool) (<-chan struct{}, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	// Asked under the lock, so that a change that has just been made is seen.
	if done, err := q.reached(pos, sync); done {
		return closedChan, err
	}
	if q.err != nil {
		return nil, q.err
	}
	if pos > q.last {
		if q.closing {
			return nil, store.ErrClosed
		}
		return nil, fmt.Errorf("seglog: Append has not returned the position %s that is waited for", pos)
	}
	if sync && !q.always {
		q.forced = true
		q.signal()
		return waiting(&q.afterSync), nil
	}
	if sync && q.taken != nil && pos < q.taken.end() {
		return waiting(&q.taken.synced), nil
	}
	for _, g := range q.groups {
		if pos < g.end() {
			if sync {
				return waiting(&g.synced), nil
			}
			return waiting(&g.written), nil
		}
	}
	return nil, fmt.Errorf("seglog: the position %s that is waited for is in no group", pos)
}

// copyQueued appends the queued bytes from pos on to buf, at most max of them and none behind the segment. ok is false
// when pos is written already.
func (q *queue) copyQueued(pos Pos, max int, buf []byte) (_ []byte, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if uint64(pos) < q.written.Load() {
		return buf, false
	}
	for _, g := range q.groups {
		if g.segment == pos.Segment() && pos < g.end() && pos.Offset() >= g.offset {
			data := g.data[pos.Offset()-g.offset:]
			return append(buf, data[:min(len(data), max)]...), true
		}
	}
	return buf, true
}
