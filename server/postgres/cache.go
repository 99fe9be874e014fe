package postgres

import (
	"cmp"
	"slices"
	"sync"
)

// chunkCacheBytes bounds the chunks that a replica keeps.
const chunkCacheBytes = 64 << 20

// chunkCache keeps the chunks that were used last. A chunk is put there when it is on the disk of Postgres, or by a reader of
// the same run of the database.
type chunkCache struct {
	mu     sync.Mutex // guards what follows
	max    int64
	bytes  int64
	chunks map[int64][]*chunk // of each stream, in the order of their seqs
	order  []*chunk           // oldest first
	purges map[int64]int64    // of streams
}

func newChunkCache(max int64) *chunkCache {
	return &chunkCache{max: max, chunks: map[int64][]*chunk{}, purges: map[int64]int64{}}
}

// find returns the chunk that a seq belongs to, or nil. A receive that takes less than a chunk leaves its cursor inside.
func (c *chunkCache) find(stream, seq int64) *chunk {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.chunks[stream]
	i, begins := chunkAt(all, seq)
	if !begins {
		i--
	}
	if i < 0 || seq >= all[i].next() {
		return nil
	}
	return all[i]
}

// chunkAt returns where the chunk that begins at a seq is, or would be.
func chunkAt(all []*chunk, first int64) (i int, found bool) {
	return slices.BinarySearchFunc(all, first, func(k *chunk, first int64) int { return cmp.Compare(k.first, first) })
}

// chunkOverhead is about what a message takes beside its key and data.
const chunkOverhead = 64

func (c *chunk) cost() int64 { return c.size + chunkOverhead*int64(len(c.messages)+1) }

// purged says how many transactions have purged messages of a stream. Chunks of it from before the last of them are removed.
func (c *chunkCache) purged(stream, purges int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if purges <= c.purges[stream] {
		return
	}
	c.purges[stream] = purges
	for _, k := range c.chunks[stream] {
		c.bytes -= k.cost()
	}
	delete(c.chunks, stream)
	c.order = slices.DeleteFunc(c.order, func(k *chunk) bool { return k.stream == stream })
}

// moment is when chunks were read: they are not added later than that.
type moment struct{ epoch, purges int64 }

// moment returns the moment before a session reads chunks of a stream.
func (c *chunkCache) moment(s *session, stream int64) moment {
	c.mu.Lock()
	defer c.mu.Unlock()
	return moment{s.epoch, c.purges[stream]}
}

// add adds chunks of a stream, unless the database was restarted or messages were purged since they were read.
func (c *chunkCache) add(read moment, current func() int64, all ...*chunk) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range all {
		i, found := chunkAt(c.chunks[k.stream], k.first)
		if found || read != (moment{current(), c.purges[k.stream]}) {
			continue
		}
		c.chunks[k.stream] = slices.Insert(c.chunks[k.stream], i, k)
		c.order = append(c.order, k)
		c.bytes += k.cost()
	}
	for c.bytes > c.max && len(c.order) > 0 {
		c.removeOldest()
	}
}

func (c *chunkCache) removeOldest() {
	k := c.order[0]
	c.order[0] = nil
	c.order = c.order[1:]
	c.bytes -= k.cost()
	i, _ := chunkAt(c.chunks[k.stream], k.first)
	if c.chunks[k.stream] = slices.Delete(c.chunks[k.stream], i, i+1); len(c.chunks[k.stream]) == 0 {
		delete(c.chunks, k.stream)
	}
}

func (c *chunkCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.chunks, c.purges, c.order, c.bytes = map[int64][]*chunk{}, map[int64]int64{}, nil, 0
}
