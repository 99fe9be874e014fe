package postgres

import (
	"fmt"
	"sync"

	"github.com/klauspost/compress/s2"

	"github.com/sequin-go/sequin/server/internal/binary"
	"github.com/sequin-go/sequin/server/internal/store"
)

// A chunk is a row of messages of a stream that appends.
type chunk struct {
	stream, first, at int64
	messages          []store.Message
	size              int64 // of keys and data
}

func (c *chunk) next() int64 { return c.first + int64(len(c.messages)) }

// message returns the message with a seq of this chunk.
func (c *chunk) message(seq int64) *store.Message { return &c.messages[seq-c.first] }

const (
	// chunkMessages and chunkBytes bound a chunk, so that a receive reads little that it does not need. A larger message has
	// a chunk of its own.
	chunkMessages = 1000
	chunkBytes    = 1 << 20

	keysFormat = 1 // each key, and the length of its data
	dataPlain  = 0 // the data end to end
	dataS2     = 1 // the same, compressed
)

// encodeChunk encodes messages. The data is compressed when that saves an eighth.
func encodeChunk(messages []store.Message) (keys, data []byte, size int64) {
	keys = append(keys, keysFormat)
	data = append(data, dataPlain)
	for i := range messages {
		m := &messages[i]
		keys = binary.AppendUint(binary.AppendString(keys, m.Key), uint64(len(m.Data)))
		data = append(data, m.Data...)
		size += m.Size()
	}
	const least = 256 // bytes; less is not worth a try
	if len(data) >= least {
		packed := s2.Encode(make([]byte, 1+s2.MaxEncodedLen(len(data)-1))[1:], data[1:])
		if len(packed) <= len(data)-len(data)/8 {
			data = append(append(data[:0], dataS2), packed...)
		}
	}
	return keys, data, size
}

// decodeSizes returns the size of each message of a chunk, key and data.
func decodeSizes(n int, keys []byte) ([]int64, error) {
	in := binary.NewReader(keys)
	in.Byte()
	sizes := make([]int64, 0, n)
	for range n {
		key := in.Text()
		sizes = append(sizes, int64(len(key))+int64(in.Uint()))
	}
	return sizes, in.Err()
}

// decodeChunk decodes a row. Its messages share two strings.
func decodeChunk(stream, first int64, n int, at int64, keys, data []byte) (*chunk, error) {
	damaged := fmt.Errorf("%w: the chunk at seq %d of stream %d cannot be decoded", store.ErrDamaged, first, stream)
	if len(keys) == 0 || keys[0] != keysFormat || len(data) == 0 || data[0] > dataS2 {
		return nil, damaged
	}
	packed := data[0] == dataS2
	data = data[1:]
	if packed {
		var err error
		if data, err = s2.Decode(nil, data); err != nil {
			return nil, damaged
		}
	}
	c := &chunk{stream: stream, first: first, at: at, messages: make([]store.Message, 0, n)}
	in, allKeys, allData := binary.NewReader(keys[1:]), string(keys), string(data)
	for range n {
		length := len(in.Text())
		end := len(keys) - len(in.Rest())
		size := int(in.Uint())
		if in.Err() != nil || size > len(allData) {
			return nil, damaged
		}
		m := store.Message{
			Key: allKeys[end-length : end], Data: allData[:size], Seq: first + int64(len(c.messages)), InsertedAt: at, UpdatedAt: at,
		}
		allData = allData[size:]
		c.size += m.Size()
		c.messages = append(c.messages, m)
	}
	return c, nil
}

// chunkCacheBytes bounds the chunks that a replica keeps.
const chunkCacheBytes = 64 << 20

// chunkCache keeps the chunks that were used last. A chunk is put there when it is on the disk of Postgres, or by a reader of
// the same run of the database.
type chunkCache struct {
	mu     sync.Mutex // guards what follows
	max    int64
	bytes  int64
	chunks map[chunkPlace]*chunk
	order  []chunkPlace // oldest first
}

type chunkPlace struct{ stream, first int64 }

func newChunkCache(max int64) *chunkCache {
	return &chunkCache{max: max, chunks: map[chunkPlace]*chunk{}}
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

// add adds a chunk, unless the database was restarted since the epoch in which it was read.
func (c *chunkCache) add(epoch int64, current func() int64, all ...*chunk) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if current() != epoch {
		return
	}
	for _, k := range all {
		place := chunkPlace{k.stream, k.first}
		if c.chunks[place] != nil {
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
	c.chunks, c.order, c.bytes = map[chunkPlace]*chunk{}, nil, 0
}
