package postgres

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/klauspost/compress/s2"

	"github.com/sequin-go/sequin/server/internal/binary"
	"github.com/sequin-go/sequin/server/internal/headers"
	"github.com/sequin-go/sequin/server/internal/store"
)

// A chunk is a row of messages of a stream that appends.
type chunk struct {
	stream, first, at int64
	n                 int             // seqs
	messages          []store.Message // those that are not purged
	size              int64           // of the messages
}

func (c *chunk) next() int64 { return c.first + int64(c.n) }

// place gives a chunk that is not stored yet its seqs and its time.
func (c *chunk) place(first, at int64) {
	c.first, c.at = first, at
	for i := range c.messages {
		m := &c.messages[i]
		m.Seq, m.InsertedAt, m.UpdatedAt = first+int64(i), at, at
	}
}

// message returns the message with a seq, or nil when the chunk does not have it.
func (c *chunk) message(seq int64) *store.Message {
	if i, found := c.find(seq); found {
		return &c.messages[i]
	}
	return nil
}

// from returns the messages from a seq on.
func (c *chunk) from(seq int64) []store.Message {
	i, _ := c.find(seq)
	return c.messages[i:]
}

func (c *chunk) find(seq int64) (int, bool) {
	return slices.BinarySearchFunc(c.messages, seq, func(m store.Message, seq int64) int { return cmp.Compare(m.Seq, seq) })
}

const (
	// chunkMessages and chunkBytes bound a chunk, so that a receive reads little that it does not need. A larger message has
	// a chunk of its own.
	chunkMessages = 1000
	chunkBytes    = 1 << 20

	keysFormat = 1 // each key, and the length of its data
	keysSparse = 2 // is added: before each key, the number of seqs that were purged before it
	keysHeaded = 4 // is added: behind each key, the length of its headers
	dataPlain  = 0 // the data end to end, each behind its headers
	dataS2     = 1 // the same, compressed
)

// encodeChunk encodes messages. The data is compressed when that saves an eighth.
func encodeChunk(messages []store.Message) (keys, data []byte, size int64) {
	return encodeMessages(keysFormat, messages, 0)
}

// encodeLeft encodes what is left of a chunk.
func encodeLeft(first int64, left []store.Message) (keys, data []byte, size int64) {
	return encodeMessages(keysFormat|keysSparse, left, first)
}

// encodeMessages encodes messages. next is the first seq of a sparse chunk.
func encodeMessages(format byte, messages []store.Message, next int64) (keys, data []byte, size int64) {
	if slices.ContainsFunc(messages, func(m store.Message) bool { return m.Headers != "" }) {
		format |= keysHeaded
	}
	keys, data = append(keys, format), append(data, dataPlain)
	for i := range messages {
		m := &messages[i]
		if format&keysSparse != 0 {
			keys = binary.AppendUint(keys, uint64(m.Seq-next))
			next = m.Seq + 1
		}
		keys = binary.AppendString(keys, m.Key)
		if format&keysHeaded != 0 {
			keys = binary.AppendUint(keys, uint64(len(m.Headers)))
			data = append(data, m.Headers...)
		}
		keys = binary.AppendUint(keys, uint64(len(m.Data)))
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

// keyReader reads the keys of a chunk.
type keyReader struct {
	in     *binary.Reader
	keys   []byte
	format byte
	next   int64 // the lowest seq that the next message may have
	end    int64 // the seq behind the chunk

	seq           int64 // of the message that was read
	begin, key    int   // where its key is in keys, and its length
	headers, data int64 // the lengths of both
}

// readKeys returns a reader of the keys of a chunk, or nil when they have another format.
func readKeys(first int64, n int, keys []byte) *keyReader {
	if len(keys) == 0 || keys[0]&^(keysSparse|keysHeaded) != keysFormat {
		return nil
	}
	return &keyReader{in: binary.NewReader(keys[1:]), keys: keys, format: keys[0], next: first, end: first + int64(n)}
}

// read reads the next message. It returns false when there is none, or when the keys are damaged.
func (r *keyReader) read() bool {
	if len(r.in.Rest()) == 0 {
		return false
	}
	r.seq = r.next
	if r.sparse() {
		r.seq += int64(min(r.in.Uint(), chunkMessages))
	}
	r.key = len(r.in.Text())
	r.begin = len(r.keys) - len(r.in.Rest()) - r.key
	if r.format&keysHeaded != 0 {
		r.headers = r.length()
	}
	r.data = r.length()
	r.next = r.seq + 1
	return r.in.Err() == nil && r.next <= r.end
}

// length reads a length. A damaged one is too large for what follows, and two of them can be added.
func (r *keyReader) length() int64 { return int64(min(r.in.Uint(), math.MaxInt32)) }

func (r *keyReader) sparse() bool { return r.format&keysSparse != 0 }

// size returns the size of the message that was read, as store.Message.Size does.
func (r *keyReader) size() int64 { return int64(r.key) + r.headers + r.data }

// whole reports whether all keys were read.
func (r *keyReader) whole() bool {
	return r.in.Err() == nil && (r.sparse() || r.next == r.end) && r.next <= r.end
}

// sized is the seq of a message and its size.
type sized struct{ seq, size int64 }

func bySeq(m sized, seq int64) int { return cmp.Compare(m.seq, seq) }

// decodeSizes returns what a chunk has from seq on.
func decodeSizes(stream, first int64, n int, keys []byte, seq int64) (all []sized, err error) {
	r := readKeys(first, n, keys)
	for r != nil && r.read() {
		if r.seq >= seq {
			all = append(all, sized{r.seq, r.size()})
		}
	}
	if r == nil || !r.whole() {
		return nil, damagedChunk(stream, first)
	}
	return all, nil
}

func damagedChunk(stream, first int64) error {
	return fmt.Errorf("%w: the chunk at seq %d of stream %d cannot be decoded", store.ErrDamaged, first, stream)
}

// decodeChunk decodes a row. Its messages share two strings.
func decodeChunk(stream, first int64, n int, at int64, keys, data []byte) (*chunk, error) {
	r := readKeys(first, n, keys)
	if r == nil || len(data) == 0 || data[0] > dataS2 {
		return nil, damagedChunk(stream, first)
	}
	packed := data[0] == dataS2
	data = data[1:]
	if packed {
		var err error
		if data, err = s2.Decode(nil, data); err != nil {
			return nil, damagedChunk(stream, first)
		}
	}
	c := &chunk{stream: stream, first: first, n: n, at: at, messages: make([]store.Message, 0, min(n, len(keys)/2))}
	allKeys, allData := string(keys), string(data)
	for r.read() {
		end := r.headers + r.data
		if end > int64(len(allData)) {
			return nil, damagedChunk(stream, first)
		}
		m := store.Message{
			Key: allKeys[r.begin : r.begin+r.key], Headers: headers.Packed(allData[:r.headers]), Data: allData[r.headers:end],
			Seq: r.seq, InsertedAt: at, UpdatedAt: at,
		}
		allData = allData[end:]
		c.size += m.Size()
		c.messages = append(c.messages, m)
	}
	if !r.whole() {
		return nil, damagedChunk(stream, first)
	}
	return c, nil
}
