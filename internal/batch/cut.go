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

// cut takes the next batch from pending: as many items as the limits allow, in order. If IDs must be distinct, it passes
// over an item whose ID the batch already holds. It passes over every item whose ID is in avoid, which may be nil.
//
// The batch is appended to into, whose items count as taken. cut takes at least one item unless avoid or into is given.
// The items that were passed over keep their order at the start of rest, which shares pending's array.
func cut[T any](c *cutter, pending []Entry[T], lim Limits, avoid *IDSet, into []Entry[T]) (batch, rest []Entry[T], skipped int) {
	window, choosy := len(pending), lim.Distinct || avoid != nil
	if choosy {
		window = min(window, lookahead*lim.Count)
		c.taken = c.taken[:0]
	}
	if lim.Distinct {
		c.seen.Reset(window + len(into))
	}
	bytes, last := lim.Overhead, -1
	for i := range into {
		bytes += into[i].Size
		if lim.Distinct {
			c.seen.Add(into[i].ID)
		}
	}
	for i := 0; i < window && len(into) < lim.Count; i++ {
		e := &pending[i]
		if choosy && e.ID != 0 && (avoid != nil && avoid.Has(e.ID) || lim.Distinct && !c.seen.Add(e.ID)) {
			skipped++
			continue
		}
		if bytes += e.Size; bytes > lim.Bytes && len(into) > 0 {
			break
		}
		into, last = append(into, *e), i
		if choosy {
			c.taken = append(c.taken, int32(i))
		}
	}
	// Close the gaps: move the items that were passed over to the end of the examined part. Later items are not moved.
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
	clear(pending[:hole+1]) // so that the queue does not keep the strings of the items taken in memory
	return into, pending[hole+1:], skipped
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
