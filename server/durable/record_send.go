package durable

import (
	"strings"

	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/internal/binary"
	"github.com/sequin-go/sequin/server/internal/store"
)

// sendRecord stores messages, drops old ones, and remembers the send. Its messages follow its head in the record.
type sendRecord struct {
	at        int64 // the messages' time, in microseconds since 1970
	now       int64 // the store's clock
	first     int64 // seq of the first message
	published int64
	named     bool // the send has a key and is remembered
	key       hash
	body      store.BodyHash
	trim      int64 // all messages below are dropped
	trimBytes int64 // their keys and data, on a stream that appends
	count     int
	inserted  []int64   // on a stream with one message per key: at minus the time of the first message of the key
	sums      []keySums // of the messages, on a stream with one message per key; not in the record, which has the messages
}

// keySums is what a stream with one message per key keeps of a message.
type keySums struct {
	key, data hash
	size      uint32
}

// maxSendHead is the size of the largest head on a stream that appends: the flags, seven varints and two hashes. maxLengths
// is that of the lengths of a message.
const (
	maxSendHead = 1 + 7*binary.MaxVarint + 2*len(hash{})
	maxLengths  = 2 * 5
)

// The flags of a send record.
const (
	sendNamed byte = 1 << iota
	sendTrims
	sendInserted
)

func (r *sendRecord) flags() (f byte) {
	if r.named {
		f |= sendNamed
	}
	if r.trim > 0 {
		f |= sendTrims
	}
	if r.inserted != nil {
		f |= sendInserted
	}
	return f
}

func (r *sendRecord) appendHead(dst []byte) []byte {
	dst = append(dst, r.flags())
	dst = binary.AppendInt(dst, r.at)
	dst = binary.AppendInt(dst, r.now-r.at*1000)
	dst = binary.AppendInt(dst, r.first)
	dst = binary.AppendUint(dst, uint64(r.count))
	dst = binary.AppendInt(dst, r.published)
	if r.named {
		dst = append(dst, r.key[:]...)
		dst = append(dst, r.body[:]...)
	}
	if r.trim > 0 {
		dst = binary.AppendInt(dst, r.trim)
		dst = binary.AppendInt(dst, r.trimBytes)
	}
	for _, d := range r.inserted {
		dst = binary.AppendInt(dst, d)
	}
	return dst
}

// readSendHead reads the head of a record. Its messages are next in the reader.
func readSendHead(in *binary.Reader) (r sendRecord) {
	flags := in.Byte()
	r.at = in.Int()
	r.now = in.Int() + r.at*1000
	r.first = in.Int()
	r.count = in.Count(2)
	r.published = in.Int()
	if flags&sendNamed != 0 {
		r.named, r.key, r.body = true, readHash(in), store.BodyHash(readHash(in))
	}
	if flags&sendTrims != 0 {
		r.trim, r.trimBytes = in.Int(), in.Int()
	}
	if flags&sendInserted != 0 {
		r.inserted = make([]int64, r.count)
		for i := range r.inserted {
			r.inserted[i] = in.Int()
		}
	}
	return r
}

// appendMessage appends a message of a send.
func appendMessage(dst []byte, m *store.Message) []byte {
	return binary.AppendString(binary.AppendString(dst, m.Key), m.Data)
}

// rawMessage is a message in a record. Its bytes are those of the record.
type rawMessage struct {
	seq, insertedAt, updatedAt int64
	key, data                  []byte
	pos                        seglog.Pos
}

// message copies the message.
func (m *rawMessage) message() store.Message {
	var both strings.Builder // unlike make it does not clear what is overwritten at once
	both.Grow(len(m.key) + len(m.data))
	both.Write(m.key)
	both.Write(m.data)
	text := both.String()
	return store.Message{
		Key: text[:len(m.key)], Data: text[len(m.key):], Seq: m.seq, InsertedAt: m.insertedAt, UpdatedAt: m.updatedAt,
	}
}

func (m *rawMessage) size() int64 { return int64(len(m.key) + len(m.data)) }

// eachMessage calls f with the messages of a record that has some, by ascending seq, until f returns false.
func eachMessage(rec seglog.Record, f func(*rawMessage) bool) error {
	in := binary.NewReader(rec.Body)
	m := rawMessage{pos: rec.Pos}
	if rec.Kind == kindMoved {
		for range readMovedCount(in) {
			readMoved(in, &m)
			if in.Err() != nil {
				break
			}
			if !f(&m) {
				return nil
			}
		}
	} else {
		r := readSendHead(in)
		m.updatedAt = r.at
		for i := range r.count {
			m.seq, m.insertedAt = r.first+int64(i), r.at
			if r.inserted != nil {
				m.insertedAt -= r.inserted[i]
			}
			m.key, m.data = in.Text(), in.Text()
			if in.Err() != nil {
				break
			}
			if !f(&m) {
				return nil
			}
		}
	}
	if in.Err() != nil {
		return undecodable(rec)
	}
	return nil
}

// A moved record has copies of messages, each with the place that it had. Their seqs ascend.

// appendMoved appends a message to a moved record, whose last message had the seq last.
func appendMoved(dst []byte, m *rawMessage, last int64) []byte {
	dst = binary.AppendInt(dst, m.seq-last)
	dst = binary.AppendUint(dst, uint64(m.pos))
	dst = binary.AppendInt(dst, m.updatedAt)
	dst = binary.AppendInt(dst, m.updatedAt-m.insertedAt)
	dst = binary.AppendUint(dst, uint64(len(m.key)))
	dst = append(dst, m.key...)
	dst = binary.AppendUint(dst, uint64(len(m.data)))
	return append(dst, m.data...)
}

func readMovedCount(in *binary.Reader) int { return in.Count(6) }

// readMoved reads the next message of a moved record into m, which holds the one before it, and returns its old place.
func readMoved(in *binary.Reader, m *rawMessage) (old seglog.Pos) {
	m.seq += in.Int()
	old = seglog.Pos(in.Uint())
	m.updatedAt = in.Int()
	m.insertedAt = m.updatedAt - in.Int()
	m.key, m.data = in.Text(), in.Text()
	return old
}
