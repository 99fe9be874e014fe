package batch

import "slices"

// queue holds the items of a lane, in order, in blocks of at most a batch. A full batch leaves with its block: to copy a thousand items
// would hold the engine's mutex for 20 µs, and each goroutine that admits an item meanwhile would have to sleep.
type queue[T any] struct {
	blocks []block[T] // none is empty
	n      int        // items
	bytes  int        // size of the items
	ids    IDSet      // of the last block, if that is distinct and has more than one item
	room   int        // how many IDs fit into ids
	spares [][]Entry[T]
	sorted []Entry[T] // scratch space of sort
}

// block is a part of a queue.
type block[T any] struct {
	items    []Entry[T]
	from     int  // the items before it have left
	bytes    int  // size of the others
	distinct bool // no two have the same ID
}

func (b *block[T]) pending() []Entry[T] { return b.items[b.from:] }

// takes reports whether an item may join the block.
func (b *block[T]) takes(size int, lim Limits) bool {
	return len(b.items) < lim.Count && lim.Overhead+b.bytes+size <= lim.Bytes
}

// wellFilled is how full a batch must be to leave as a block although items of the next block would fit too. The batches after it are
// then whole blocks again. A block is less full after a change of the limits, or after a cut that has passed over items.
const wellFilled = 0.75

// isBatch reports whether the block makes a batch. alone says that there is no other block.
func (b *block[T]) isBatch(lim Limits, alone bool) bool {
	n := len(b.pending())
	return n <= lim.Count && (n == 1 || lim.Overhead+b.bytes <= lim.Bytes) && (b.distinct || !lim.Distinct) &&
		(alone || lim.fill(b.bytes, n) >= wellFilled)
}

// push appends a copy of e. It begins a block where the last one, together with e, would exceed the limits of a batch.
func (q *queue[T]) push(e *Entry[T], lim Limits) {
	last := len(q.blocks) - 1
	if last < 0 || !q.blocks[last].takes(e.Size, lim) {
		n := 0
		if last >= 0 {
			n = len(q.blocks[last].items) // the next one will be about as long
		}
		q.blocks = append(q.blocks, block[T]{items: q.emptyList(n), distinct: lim.Distinct})
		q.room = 0
		last++
	}
	b := &q.blocks[last]
	b.items = append(b.items, *e)
	b.bytes += e.Size
	b.distinct = b.distinct && lim.Distinct && q.isNew(b)
	q.n++
	q.bytes += e.Size
}

// isNew adds the ID of the last item of the last block, which is b, to ids. It reports whether no other item of b has it.
func (q *queue[T]) isNew(b *block[T]) bool {
	last := len(b.items) - 1
	if last == 0 {
		return true
	}
	if last >= q.room {
		q.room = 4 * len(b.items)
		q.ids.Reset(q.room)
		for i := range last {
			q.ids.addOf(b.items[i].ID)
		}
	}
	return q.ids.addOf(b.items[last].ID)
}

// take takes the next batch: as many items as the limits allow, in order. If IDs must be distinct, it passes over an item whose ID
// the batch already holds. It passes over every item whose ID is in avoid, which may be nil. It may leave items that would fit into a
// batch that is well filled.
//
// The batch is appended to into, whose items count as taken. take takes at least one item unless avoid or into is given. The items
// that were passed over keep their order at the front of the queue.
func (q *queue[T]) take(c *cutter, lim Limits, avoid *IDSet, into []Entry[T]) (items []Entry[T], skipped int) {
	if len(into) == 0 && avoid == nil && q.n > 0 && q.blocks[0].isBatch(lim, len(q.blocks) == 1) {
		b := q.blocks[0]
		q.blocks = slices.Delete(q.blocks, 0, 1)
		q.n -= len(b.pending())
		q.bytes -= b.bytes
		return b.pending(), 0
	}
	if into == nil {
		into = q.emptyList(min(q.n, lim.Count))
	}
	return cut(c, q, lim, avoid, into)
}

// drop removes the first n items, and does not keep them alive. touched is the number of blocks whose sizes may be wrong.
func (q *queue[T]) drop(n, touched int) {
	q.n -= n
	gone := 0 // blocks
	for n > 0 {
		b := &q.blocks[gone]
		left := b.pending()[:min(n, len(b.pending()))]
		clear(left)
		n -= len(left)
		if b.from += len(left); b.from == len(b.items) {
			q.keepSpare(b.items)
			gone++
		}
	}
	q.blocks = slices.Delete(q.blocks, 0, gone)
	for i := range touched - gone {
		b := &q.blocks[i]
		b.bytes = sizeOf(b.pending())
	}
}

// sizeOf returns the size of items together.
func sizeOf[T any](items []Entry[T]) (bytes int) {
	for i := range items {
		bytes += items[i].Size
	}
	return bytes
}

// appendTo appends all items, in order.
func (q *queue[T]) appendTo(items []Entry[T]) []Entry[T] {
	for i := range q.blocks {
		items = append(items, q.blocks[i].pending()...)
	}
	return items
}

// empty removes all items.
func (q *queue[T]) empty() { q.blocks, q.n, q.bytes = nil, 0, 0 }

// sort brings the items into the order of compare.
func (q *queue[T]) sort(compare func(a, b T) int) {
	if q.inOrder(compare) {
		return
	}
	q.sorted = q.appendTo(q.sorted[:0])
	slices.SortStableFunc(q.sorted, func(x, y Entry[T]) int { return compare(x.Item, y.Item) })
	rest := q.sorted
	for i := range q.blocks {
		b := &q.blocks[i]
		rest = rest[copy(b.pending(), rest):]
		b.bytes, b.distinct = sizeOf(b.pending()), false
	}
	clear(q.sorted)
}

func (q *queue[T]) inOrder(compare func(a, b T) int) bool {
	var before *Entry[T]
	for i := range q.blocks {
		for j := range q.blocks[i].pending() {
			e := &q.blocks[i].pending()[j]
			if before != nil && compare(before.Item, e.Item) > 0 {
				return false
			}
			before = e
		}
	}
	return true
}

// maxSpares is how many lists a queue keeps for later blocks and batches: one for the next block, and one for a batch that is cut
// from parts of blocks.
const maxSpares = 4

// keepSpare keeps the memory of a list that is not used any more. Its items must have been cleared.
func (q *queue[T]) keepSpare(items []Entry[T]) {
	if len(q.spares) < maxSpares && cap(items) > 0 {
		q.spares = append(q.spares, items[:0])
	}
}

// emptyList returns an empty list for n items, in the memory of an earlier one where that is large enough.
func (q *queue[T]) emptyList(n int) []Entry[T] {
	if last := len(q.spares) - 1; last >= 0 {
		spare := q.spares[last]
		q.spares = slices.Delete(q.spares, last, last+1)
		if cap(spare) >= n {
			return spare
		}
	}
	return make([]Entry[T], 0, n)
}
