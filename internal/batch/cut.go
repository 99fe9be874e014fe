package batch

// Limits bound a batch.
type Limits struct {
	Count    int  // most items
	Bytes    int  // most bytes, items and Overhead together; a single item may exceed it
	Overhead int  // bytes of a request without items
	Distinct bool // no ID twice
}

// filled reports whether items of so many bytes make a full batch.
func (l Limits) filled(bytes int) bool { return bytes >= l.Bytes-l.Overhead }

// lookahead is how many batches' worth of items a cut looks at to fill a batch past repeated ids. More would make every
// cut of a stream with one hot key walk its whole backlog; with as many keys as a batch has items, in random order,
// four fill it to 98 % (1 - 1/e^4).
const lookahead = 4

// cutter cuts batches. It holds nothing but scratch space, so that a cut depends on its arguments alone.
type cutter struct {
	seen  IDSet
	taken []int32 // indices of what was taken, only while something was passed over
}

// cut takes the next batch off pending: in order, as many as the limits allow, never none. Where ids are distinct it
// passes over an item whose id the batch already holds, or that stands behind one of its id that was passed over.
// Ids to avoid, where there are any, count as held. The batch is appended to into, whose items count as taken: only with
// either it may take none. What was passed over keeps its order, at the head of rest, which shares pending's array.
func cut[T any](c *cutter, pending []Entry[T], lim Limits, avoid []uint64, into []Entry[T]) (batch, rest []Entry[T], skipped int) {
	window, distinct := len(pending), lim.Distinct || len(avoid) > 0
	if distinct {
		window = min(window, lookahead*lim.Count)
		c.seen.Reset(window + len(avoid) + len(into))
		c.taken = c.taken[:0]
		for _, id := range avoid {
			c.seen.Add(id)
		}
	}
	bytes, last := lim.Overhead, -1
	for i := range into {
		bytes += into[i].Size
		if distinct {
			c.seen.Add(into[i].ID)
		}
	}
	for i := 0; i < window && len(into) < lim.Count; i++ {
		e := &pending[i]
		if distinct && e.ID != 0 && !c.seen.Add(e.ID) {
			skipped++
			continue
		}
		if bytes += e.Size; bytes > lim.Bytes && len(into) > 0 {
			break
		}
		into, last = append(into, *e), i
		if distinct {
			c.taken = append(c.taken, int32(i))
		}
	}
	// Move what was passed over up to the last item taken; what lies behind it stays where it is.
	hole := last
	if skipped > 0 {
		next := len(c.taken) - 1
		for i := last; i >= 0; i-- {
			if next >= 0 && c.taken[next] == int32(i) {
				next--
				continue
			}
			pending[hole] = pending[i]
			hole--
		}
	}
	clear(pending[:hole+1]) // the strings of what has left must not be kept alive
	return into, pending[hole+1:], skipped
}

// IDSet is a set of ids for one cut: open addressing in a table that is cleared, not freed, between cuts. A map would
// cost as much as all the rest of a Send together.
type IDSet struct {
	slots []uint64
	mask  uint64
}

// Reset empties the set and makes room for n ids at half load.
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

// Add reports whether id was new.
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
