package store

import (
	"hash/maphash"
	"math/bits"
	"sync"
)

// keyIndex finds the entry of a key. It is a hash table with open addressing, in segments that grow one by one.
//
// A map would do, and is slow on streams with millions of keys, where each look waits for the memory several times: for the table,
// for the entry and for its key. lookUp makes these looks for all messages of a request at once, so that the processor waits for
// many at the same time. With ten million keys a send takes a quarter of the time that it takes with a map.
type keyIndex struct {
	seed     maphash.Seed
	bits     uint64    // of a hash that are used: all, and fewer in tests
	segments []segment // one, or mostSegments
	count    int
}

// An index with more than splitAt keys has mostSegments segments. To grow takes 10 ns for each key, and the stream waits: with ten
// million keys two milliseconds for each of 64 segments. Most streams have few keys, and need one segment.
const (
	mostSegments = 64
	splitAt      = 10_000
)

// segment is a table whose length is a power of two, at most three quarters full. A key is in the slot of its hash or behind it.
type segment struct {
	slots []keySlot
	count int
}

// keySlot holds an entry, nil if it is empty, and the hash of its key.
type keySlot struct {
	entry *entry
	hash  uint64
}

func newKeyIndex() *keyIndex {
	return &keyIndex{seed: maphash.MakeSeed(), bits: ^uint64(0), segments: make([]segment, 1)}
}

func (x *keyIndex) hash(key string) uint64 { return maphash.String(x.seed, key) & x.bits }

func (x *keyIndex) segment(hash uint64) *segment { return &x.segments[int(hash)&(len(x.segments)-1)] }

// find returns the entry of a key, or nil.
func (x *keyIndex) find(key string) *entry {
	hash := x.hash(key)
	s := x.segment(hash)
	if i, ok := s.find(hash, key); ok {
		return s.slots[i].entry
	}
	return nil
}

// put makes e the entry of its key.
func (x *keyIndex) put(e *entry) {
	hash := x.hash(e.key)
	s := x.segment(hash)
	if i, ok := s.find(hash, e.key); ok {
		s.slots[i].entry = e
		return
	}
	if x.count++; x.count > splitAt && len(x.segments) == 1 {
		x.split()
		s = x.segment(hash)
	}
	s.add(keySlot{e, hash})
}

// split spreads the keys over several segments.
func (x *keyIndex) split() {
	all := x.segments[0].slots
	x.segments = make([]segment, mostSegments)
	for _, slot := range all {
		if slot.entry != nil {
			x.segment(slot.hash).add(slot)
		}
	}
}

// remove removes the entry of a key.
func (x *keyIndex) remove(key string) {
	hash := x.hash(key)
	s := x.segment(hash)
	if i, ok := s.find(hash, key); ok {
		s.remove(i)
		x.count--
	}
}

// home returns the slot of a hash. Its lowest bits choose the segment.
func (s *segment) home(hash uint64) int {
	return int(hash/mostSegments) & (len(s.slots) - 1)
}

// find returns the slot of a key; ok is false if it has none.
func (s *segment) find(hash uint64, key string) (i int, ok bool) {
	if len(s.slots) == 0 {
		return 0, false
	}
	for i = s.home(hash); s.slots[i].entry != nil; i = (i + 1) & (len(s.slots) - 1) {
		if s.slots[i].hash == hash && s.slots[i].entry.key == key {
			return i, true
		}
	}
	return i, false
}

// first returns the first entry with a hash, or nil. It reads no entry.
func (s *segment) first(hash uint64) *entry {
	if len(s.slots) == 0 {
		return nil
	}
	i := s.home(hash)
	for s.slots[i].entry != nil && s.slots[i].hash != hash {
		i = (i + 1) & (len(s.slots) - 1)
	}
	return s.slots[i].entry
}

// add adds a slot for a key that has none.
func (s *segment) add(slot keySlot) {
	if s.count++; s.count*4 > len(s.slots)*3 {
		old := s.slots
		s.slots = make([]keySlot, max(8, 2*len(old)))
		for _, slot := range old {
			if slot.entry != nil {
				s.insert(slot)
			}
		}
	}
	s.insert(slot)
}

func (s *segment) insert(slot keySlot) {
	i := s.home(slot.hash)
	for s.slots[i].entry != nil {
		i = (i + 1) & (len(s.slots) - 1)
	}
	s.slots[i] = slot
}

// remove empties a slot. The slots behind it that are not in their home move up, so that no look ends too early.
func (s *segment) remove(i int) {
	s.count--
	mask := len(s.slots) - 1
	for next := (i + 1) & mask; s.slots[next].entry != nil; next = (next + 1) & mask {
		if (next-s.home(s.slots[next].hash))&mask >= (next-i)&mask {
			s.slots[i] = s.slots[next]
			i = next
		}
	}
	s.slots[i] = keySlot{}
}

// lookups are the looks for the keys of a request's messages.
type lookups struct {
	messages []Message
	list     []lookup
	noted    []int32 // a hash table of the messages that note was called for: 1 more than their index, 0 for none
	read     int     // keeps the compiler from leaving out the reads of lookUp
}

type lookup struct {
	hash  uint64
	entry *entry // of the key, nil if there is none
	added int    // the index in batch.add of the entry that replaces it, -1 if none does
}

var lookupsPool = sync.Pool{New: func() any { return new(lookups) }}

// lookUp finds the entries of the keys of messages. Each loop reads memory that the next one needs. The looks of a loop do not
// depend on each other. The caller calls release when it no longer needs them.
func (x *keyIndex) lookUp(messages []Message) *lookups {
	ls := lookupsPool.Get().(*lookups)
	ls.messages = messages
	for i := range messages {
		ls.list = append(ls.list, lookup{hash: x.hash(messages[i].Key), added: -1})
	}
	for i := range ls.list {
		l := &ls.list[i]
		l.entry = x.segment(l.hash).first(l.hash)
	}
	for i := range ls.list {
		if e := ls.list[i].entry; e != nil {
			ls.read += len(e.text)
		}
	}
	for i := range ls.list {
		if e := ls.list[i].entry; e != nil && len(e.key) > 0 {
			ls.read += int(e.key[0])
		}
	}
	for i := range ls.list {
		if e := ls.list[i].entry; e != nil && len(e.text) > 0 {
			ls.read += int(e.text[len(e.text)-1])
		}
	}
	for i := range ls.list {
		if e, key := ls.list[i].entry, messages[i].Key; e != nil && e.key != key {
			ls.list[i].entry = x.find(key) // another key has the same hash
		}
	}
	if size := 2 << bits.Len(uint(len(messages))); size > len(ls.noted) {
		ls.noted = make([]int32, size)
	}
	return ls
}

// release keeps the memory for a later request, and nothing that is in it.
func (ls *lookups) release() {
	clear(ls.list)
	clear(ls.noted)
	ls.messages, ls.list = nil, ls.list[:0]
	lookupsPool.Put(ls)
}

// note notes message i, unless one with its key was noted before. It returns the lookup of the message that is noted for the key.
func (ls *lookups) note(i int) (l *lookup, again bool) {
	l = &ls.list[i]
	mask := len(ls.noted) - 1
	at := int(l.hash) & mask
	for ; ls.noted[at] != 0; at = (at + 1) & mask {
		earlier := int(ls.noted[at]) - 1
		if ls.list[earlier].hash == l.hash && ls.messages[earlier].Key == ls.messages[i].Key {
			return &ls.list[earlier], true
		}
	}
	ls.noted[at] = int32(i) + 1
	return l, false
}
