package keyindex

import "slices"

// Builder makes an index from entries in any order. A later entry of a key takes the place of the one before it.
type Builder struct{ x Index }

// Put adds an entry, or replaces that of its key.
func (b *Builder) Put(e Entry) {
	if old := b.x.Find(e.Key); old != nil {
		b.x.bytes += int64(e.Size) - int64(old.Size)
		*old = e
		return
	}
	b.x.Add(e)
}

// Index sorts the entries, and returns the index. The Builder is not used any more.
func (b *Builder) Index() *Index {
	x := &b.x
	sorted := true
	last := int64(0)
	for _, c := range x.order {
		for i := range c.entries {
			sorted = sorted && c.entries[i].Seq > last
			last = c.entries[i].Seq
		}
	}
	if !sorted {
		b.sort()
	}
	return x
}

// numbered is an entry by its place: the chunks are in the order of their numbers, and full but for the last.
type numbered struct {
	seq   int64
	place uint32
}

// sort moves each entry once. Beside the entries it takes 16 bytes for each.
func (b *Builder) sort() {
	x := &b.x
	all := make([]numbered, 0, x.live)
	for _, c := range x.order {
		for i := range c.entries {
			all = append(all, numbered{c.entries[i].Seq, ref(c.number, i)})
		}
	}
	slices.SortFunc(all, func(a, b numbered) int {
		if a.seq < b.seq {
			return -1
		}
		return 1
	})
	// The entry for place i is at all[i].place. Each cycle of such moves starts with an entry that is kept aside.
	for i := range all {
		at := uint32(i)
		if all[at].place == at {
			continue
		}
		first := *x.entry(at)
		for all[at].place != uint32(i) {
			from := all[at].place
			*x.entry(at) = *x.entry(from)
			all[at].place = at
			at = from
		}
		*x.entry(at) = first
		all[at].place = at
	}
	x.table.rebuild(x)
}

// rebuild enters all places again.
func (t *table) rebuild(x *Index) {
	for i := range t.parts {
		t.parts[i] = newPart(len(t.parts[i].slots))
	}
	for _, c := range x.order {
		for i := range c.entries {
			key := c.entries[i].Key
			t.part(key).insert(key, ref(c.number, i))
		}
	}
}
