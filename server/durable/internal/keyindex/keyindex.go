// Package keyindex holds where the newest message of each key is: for a stream that keeps one message per key.
//
// It finds an entry by the 128-bit hash of its key, and lists the entries by seq. An entry that is removed leaves a hole.
// Entries are in chunks, and a chunk that is half holes is merged with its neighbour, so that a change moves O(1) entries on
// average and never more than two chunks have. A live entry takes 64 bytes, 7 to 14 more in the table of hashes, and the
// holes around it, which are fewer than the live entries.
//
// An Index has no lock. Its stream's lock guards it.
package keyindex

import (
	"slices"
	"sort"
)

// Hash is a 128-bit hash.
type Hash [16]byte

// Entry is the newest message of a key.
type Entry struct {
	Key        Hash
	Data       Hash
	Seq        int64
	Pos        uint64 // of the record that holds the message
	InsertedAt int64  // microseconds since 1970
	Size       uint32 // bytes of key and data; math.MaxUint32 marks a hole
}

// BytesPerKey is how much memory a live key takes at most, holes and the table included.
const BytesPerKey = 2*64 + 14

const (
	hole      = 1<<32 - 1
	chunkSize = 512
)

func (e *Entry) live() bool { return e.Size != hole }

// chunk holds entries by ascending seq.
type chunk struct {
	entries []Entry
	live    int
	number  uint32 // its index in Index.chunks
}

func (c *chunk) first() int64 { return c.entries[0].Seq }

// Index is a set of entries with different keys and different seqs.
type Index struct {
	chunks []*chunk // by number; nil for a number that is free
	free   []uint32 // numbers
	order  []*chunk // by seq; none is empty
	table  table
	live   int
	bytes  int64
}

// Len returns how many entries there are.
func (x *Index) Len() int { return x.live }

// CountFrom returns how many entries there are with this seq or a higher one. It looks at each chunk, and at the entries of one.
func (x *Index) CountFrom(seq int64) (n int) {
	if len(x.order) == 0 {
		return 0
	}
	at := x.locate(seq)
	for _, c := range x.order[at+1:] {
		n += c.live
	}
	c := x.order[at]
	for i := c.search(seq); i < len(c.entries); i++ {
		if c.entries[i].live() {
			n++
		}
	}
	return n
}

// Bytes returns the sum of the entries' sizes.
func (x *Index) Bytes() int64 { return x.bytes }

// Find returns the entry of a key, or nil. It is valid until the next change.
func (x *Index) Find(key Hash) *Entry { return x.table.find(x, key) }

// Add adds an entry with a seq above all others. Its key must have none.
func (x *Index) Add(e Entry) {
	var c *chunk
	if n := len(x.order); n > 0 && len(x.order[n-1].entries) < chunkSize {
		c = x.order[n-1]
	} else {
		c = x.newChunk()
		x.order = append(x.order, c)
	}
	c.entries = append(c.entries, e)
	c.live++
	x.live++
	x.bytes += int64(e.Size)
	x.table.add(x, e.Key, ref(c.number, len(c.entries)-1))
}

func (x *Index) newChunk() *chunk {
	c := &chunk{}
	if n := len(x.free); n > 0 {
		c.number = x.free[n-1]
		x.free = x.free[:n-1]
		x.chunks[c.number] = c
	} else {
		c.number = uint32(len(x.chunks))
		x.chunks = append(x.chunks, c)
	}
	return c
}

// Remove removes an entry that Find, Oldest or From returned.
func (x *Index) Remove(e *Entry) {
	at := x.locate(e.Seq)
	c := x.order[at]
	x.table.remove(x, e.Key)
	x.live--
	x.bytes -= int64(e.Size)
	e.Size = hole
	c.live--
	switch {
	case c.live == 0:
		x.drop(at)
	case c.live*2 < len(c.entries):
		x.merge(at)
	}
}

// locate returns the index in order of the chunk that has an entry with this seq, or would have it.
func (x *Index) locate(seq int64) int {
	return max(0, sort.Search(len(x.order), func(i int) bool { return x.order[i].first() > seq })-1)
}

func (x *Index) drop(at int) {
	number := x.order[at].number
	x.chunks[number] = nil
	x.free = append(x.free, number)
	x.order = slices.Delete(x.order, at, at+1)
}

// merge joins a chunk with a neighbour when the live entries of both fit into one, and else removes its holes.
func (x *Index) merge(at int) {
	left := at
	if at > 0 && (at+1 == len(x.order) || x.order[at-1].live < x.order[at+1].live) {
		left = at - 1
	}
	c := x.order[left]
	joined := make([]Entry, 0, chunkSize)
	if right := left + 1; right < len(x.order) && c.live+x.order[right].live <= chunkSize {
		joined = x.moveLive(joined, c, c)
		joined = x.moveLive(joined, x.order[right], c)
		x.drop(right)
	} else {
		c = x.order[at]
		joined = x.moveLive(joined, c, c)
	}
	c.entries, c.live = joined, len(joined)
}

// moveLive appends the live entries of a chunk to those that another will have. In ascending order no entry gets a place
// that the table still has for another.
func (x *Index) moveLive(dst []Entry, from, to *chunk) []Entry {
	for i := range from.entries {
		if e := &from.entries[i]; e.live() {
			x.table.move(e.Key, ref(from.number, i), ref(to.number, len(dst)))
			dst = append(dst, *e)
		}
	}
	return dst
}

// Oldest returns the entry with the lowest seq, or nil.
func (x *Index) Oldest() *Entry {
	var found *Entry
	x.Ascend(0, func(e *Entry) bool {
		found = e
		return false
	})
	return found
}

// At returns the entry with this seq, or nil.
func (x *Index) At(seq int64) *Entry {
	if len(x.order) == 0 {
		return nil
	}
	c := x.order[x.locate(seq)]
	if i := c.search(seq); i < len(c.entries) && c.entries[i].Seq == seq && c.entries[i].live() {
		return &c.entries[i]
	}
	return nil
}

// search returns the index of the first entry with this seq or a higher one.
func (c *chunk) search(seq int64) int {
	return sort.Search(len(c.entries), func(i int) bool { return c.entries[i].Seq >= seq })
}

// Ascend calls f with the entries from this seq on by ascending seq, until f returns false. f must not change the index.
func (x *Index) Ascend(from int64, f func(*Entry) bool) {
	if len(x.order) == 0 {
		return
	}
	for at := x.locate(from); at < len(x.order); at++ {
		c := x.order[at]
		for i := c.search(from); i < len(c.entries); i++ {
			if c.entries[i].live() && !f(&c.entries[i]) {
				return
			}
		}
	}
}

// Descend calls f with the entries below this seq by descending seq, until f returns false. f must not change the index.
func (x *Index) Descend(before int64, f func(*Entry) bool) {
	if len(x.order) == 0 {
		return
	}
	for at := x.locate(before); at >= 0; at-- {
		c := x.order[at]
		for i := c.search(before) - 1; i >= 0; i-- {
			if c.entries[i].live() && !f(&c.entries[i]) {
				return
			}
		}
	}
}
