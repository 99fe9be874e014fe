package keyindex

import "encoding/binary"

// table finds the place of an entry by its key. It keeps 4 bytes for a place and 1 of the key, and compares the rest of the
// key in the entry, so that a search mostly looks at one entry. A large table consists of many small ones, so that growing takes a millisecond or two at ten million keys.
type table struct {
	parts []part // one, or manyParts
}

const (
	manyParts   = 256
	splitAt     = 32_768 // entries of a single part, at which it is split
	smallest    = 16
	maxLoad     = 3 // quarters of the slots
	loadDivisor = 4
)

// part is a hash table with linear probing.
type part struct {
	slots []uint32 // a place plus one, 0 for none; their number is a power of two
	tags  []byte   // of the keys in the slots
	used  int
}

func newPart(size int) part { return part{slots: make([]uint32, size), tags: make([]byte, size)} }

func tag(key Hash) byte { return key[9] }

// ref is the place of an entry: the number of its chunk, and its index there.
func ref(chunk uint32, index int) uint32 { return chunk*chunkSize + uint32(index) }

func (x *Index) entry(ref uint32) *Entry { return &x.chunks[ref/chunkSize].entries[ref%chunkSize] }

func (t *table) part(key Hash) *part {
	if len(t.parts) == manyParts {
		return &t.parts[key[8]]
	}
	return &t.parts[0]
}

func start(key Hash) uint64 { return binary.LittleEndian.Uint64(key[:]) }

func (t *table) find(x *Index, key Hash) *Entry {
	if len(t.parts) == 0 {
		return nil
	}
	p := t.part(key)
	if i, ok := p.find(x, key); ok {
		return x.entry(p.slots[i] - 1)
	}
	return nil
}

// find returns the slot of a key, or the slot where it would be.
func (p *part) find(x *Index, key Hash) (slot uint64, ok bool) {
	mask := uint64(len(p.slots) - 1)
	for i := start(key) & mask; ; i = (i + 1) & mask {
		if p.slots[i] == 0 {
			return i, false
		}
		if p.tags[i] == tag(key) && x.entry(p.slots[i]-1).Key == key {
			return i, true
		}
	}
}

func (t *table) add(x *Index, key Hash, place uint32) {
	if len(t.parts) == 0 {
		t.parts = []part{newPart(smallest)}
	}
	if len(t.parts) == 1 && t.parts[0].used == splitAt {
		t.split(x)
	}
	p := t.part(key)
	if (p.used+1)*loadDivisor > len(p.slots)*maxLoad {
		p.grow(x)
	}
	p.insert(key, place)
}

func (p *part) insert(key Hash, place uint32) {
	mask := uint64(len(p.slots) - 1)
	i := start(key) & mask
	for p.slots[i] != 0 {
		i = (i + 1) & mask
	}
	p.slots[i], p.tags[i] = place+1, tag(key)
	p.used++
}

func (p *part) grow(x *Index) {
	old := p.slots
	*p = newPart(2 * len(old))
	for _, s := range old {
		if s != 0 {
			p.insert(x.entry(s-1).Key, s-1)
		}
	}
}

func (t *table) split(x *Index) {
	old := t.parts[0].slots
	t.parts = make([]part, manyParts)
	for i := range t.parts {
		t.parts[i] = newPart(2 * splitAt / manyParts)
	}
	for _, s := range old {
		if s != 0 {
			t.add(x, x.entry(s-1).Key, s-1)
		}
	}
}

// move changes the place of a key. It does not look at the entries.
func (t *table) move(key Hash, from, to uint32) {
	p := t.part(key)
	mask := uint64(len(p.slots) - 1)
	for i := start(key) & mask; p.slots[i] != 0; i = (i + 1) & mask {
		if p.slots[i] == from+1 {
			p.slots[i] = to + 1
			return
		}
	}
}

// remove removes a key whose entry is still there. It moves later slots up, so that no search ends early.
func (t *table) remove(x *Index, key Hash) {
	p := t.part(key)
	i, ok := p.find(x, key)
	if !ok {
		return
	}
	p.used--
	mask := uint64(len(p.slots) - 1)
	for j := (i + 1) & mask; p.slots[j] != 0; j = (j + 1) & mask {
		home := start(x.entry(p.slots[j]-1).Key) & mask
		if (j-home)&mask >= (j-i)&mask {
			p.slots[i], p.tags[i] = p.slots[j], p.tags[j]
			i = j
		}
	}
	p.slots[i] = 0
}
