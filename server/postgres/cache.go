package postgres

import (
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
	chunks map[chunkPlace]*chunk
	order  []chunkPlace    // oldest first
	purges map[int64]int64 // of streams
}

type chunkPlace struct{ stream, first int64 }

func newChunkCache(max int64) *chunkCache {
	return &chunkCache{max: max, chunks: map[chunkPlace]*chunk{}, purges: map[int64]int64{}}
}

// find returns the chunk that begins at a seq, or nil.
func (c *chunkCache) find(stream, first int64) *chunk {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.chunks[chunkPlace{stream, first}]
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
	c.order = slices.DeleteFunc(c.order, func(p chunkPlace) bool {
		if p.stream == stream {
			c.bytes -= c.chunks[p].cost()
			delete(c.chunks, p)
		}
		return p.stream == stream
	})
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
		place := chunkPlace{k.stream, k.first}
		if c.chunks[place] != nil || read != (moment{current(), c.purges[k.stream]}) {
			continue
		}
		c.chunks[place] = k
		c.order = append(c.order, place)
		c.bytes += k.cost()
	}
	for c.bytes > c.max && len(c.order) > 0 {
		c.bytes -= c.chunks[c.order[0]].cost()
		delete(c.chunks, c.order[0])
		c.order = c.order[1:]
	}
}

func (c *chunkCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.chunks, c.purges, c.order, c.bytes = map[chunkPlace]*chunk{}, map[int64]int64{}, nil, 0
}
