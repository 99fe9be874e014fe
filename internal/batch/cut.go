package batch

// lookahead is how far a cut looks for items with IDs that the batch does not hold, as a multiple of Limits.Count. With as
// many keys as a batch has items, in random order, 4 fills a batch to 98 % (1 - 1/e^4). Without a limit, every cut of a
// stream with one hot key would examine the whole queue.
const lookahead = 4

// cutter is the scratch space of cut. It keeps no state between cuts.
type cutter struct {
	seen  IDSet
	taken []int32 // indices of the items taken, where IDs are distinct
}

// cut takes a batch as queue.take does, and copies its items.
func cut[T any](c *cutter, q *queue[T], lim Limits, avoid *IDSet, into []Entry[T]) (batch []Entry[T], skipped int) {
	window, choosy := q.n, lim.Distinct || avoid != nil
	if choosy {
		window = min(window, lookahead*lim.Count)
		c.taken = c.taken[:0]
	}
	if lim.Distinct {
		c.seen.Reset(min(window, lim.Count) + len(into))
		for i := range into {
			c.seen.addOf(into[i].ID)
		}
	}
	bytes, taken := lim.Overhead+sizeOf(into), 0
	at, last := place{}, place{}
	for i := 0; i < window && len(into) < lim.Count; i, at = i+1, q.after(at) {
		e := q.at(at)
		if choosy && e.ID != 0 && (avoid != nil && avoid.Has(e.ID) || lim.Distinct && !c.seen.Add(e.ID)) {
			skipped++
			continue
		}
		if bytes += e.Size; bytes > lim.Bytes && len(into) > 0 {
			break
		}
		into, last = append(into, *e), at
		q.bytes -= e.Size
		taken++
		if choosy {
			c.taken = append(c.taken, int32(i))
		}
	}
	if taken == 0 {
		return into, skipped
	}
	if skipped > 0 {
		q.closeGaps(c.taken, last)
	}
	q.drop(taken, last.block+1)
	return into, skipped
}

// closeGaps moves the items that were passed over to the end of the examined part, which ends at last. taken has the indices of the
// others.
func (q *queue[T]) closeGaps(taken []int32, last place) {
	hole, from := last, last
	for i := taken[len(taken)-1]; i >= 0; i-- {
		if n := len(taken) - 1; n >= 0 && taken[n] == i {
			taken = taken[:n]
		} else {
			*q.at(hole) = *q.at(from)
			hole = q.before(hole)
		}
		from = q.before(from)
	}
	for i := range last.block + 1 {
		q.blocks[i].distinct = false
	}
}

// place is the place of an item in a queue.
type place struct{ block, item int }

func (q *queue[T]) at(p place) *Entry[T] { return &q.blocks[p.block].pending()[p.item] }

func (q *queue[T]) after(p place) place {
	if p.item++; p.item == len(q.blocks[p.block].pending()) {
		return place{block: p.block + 1}
	}
	return p
}

func (q *queue[T]) before(p place) place {
	if p.item--; p.item < 0 && p.block > 0 {
		return place{block: p.block - 1, item: len(q.blocks[p.block-1].pending()) - 1}
	}
	return p
}

// IDSet is a set of IDs. It is a hash table with open addressing, whose memory Reset reuses. A map would double the
// cost of a Send. The zero IDSet needs a Reset before use.
type IDSet struct {
	slots []uint64
	mask  uint64
}

// Reset empties the set and makes room for n IDs at half load.
func (s *IDSet) Reset(n int) {
	size := 8
	for size < 2*(n+1) {
		size *= 2
	}
	if size > len(s.slots) {
		s.slots = make([]uint64, size)
	}
	s.mask = uint64(size - 1)
	clear(s.slots[:size])
}

// Add adds an id, which must not be 0. It reports whether the id was new.
func (s *IDSet) Add(id uint64) bool {
	for i := id & s.mask; ; i = (i + 1) & s.mask {
		switch s.slots[i] {
		case id:
			return false
		case 0:
			s.slots[i] = id
			return true
		}
	}
}

// addOf is Add for the ID of an item, which may be 0: items without an ID do not repeat one.
func (s *IDSet) addOf(id uint64) bool { return id == 0 || s.Add(id) }

// Has reports whether the set holds id, which must not be 0.
func (s *IDSet) Has(id uint64) bool {
	for i := id & s.mask; ; i = (i + 1) & s.mask {
		switch s.slots[i] {
		case id:
			return true
		case 0:
			return false
		}
	}
}
