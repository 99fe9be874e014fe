package durable

import (
	"strings"

	"github.com/sequin-go/sequin/server/durable/internal/seglog"
	"github.com/sequin-go/sequin/server/internal/binary"
	"github.com/sequin-go/sequin/server/internal/headers"
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
	trimBytes int64 // their sizes, on a stream that appends
	count     int
	headers   bool      // the messages have headers; the kind of the record says so
	verbatim  bool      // store.Message.Verbatim of all messages
	inserted  []int64   // on a stream with one message per key: at minus the time of the first message of the key
	sums      []keySums // of the messages, on a stream with one message per key; not in the record, which has the messages
}

// keySums is what a stream with one message per key keeps of a message.
type keySums struct {
	key, data hash // data is that of the headers, too
	size      uint32
}

// maxSendHead is the size of the largest head on a stream that appends: the flags, seven varints and two hashes. maxLength
// is that of the length of a part of a message.
const (
	maxSendHead = 1 + 7*binary.MaxVarint + 2*len(hash{})
	maxLength   = 5
)

// The flags of a send record.
const (
	sendNamed byte = 1 << iota
	sendTrims
	sendInserted
	sendVerbatim
)

// kind returns the kind of the record.
func (r *sendRecord) kind() byte {
	if r.headers {
		return kindSendHeaders
	}
	return kindSend
}

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
	if r.verbatim {
		f |= sendVerbatim
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
func readSendHead(in *binary.Reader, kind byte) (r sendRecord) {
	r.headers = withHeaders(kind)
	flags := in.Byte()
	r.at = in.Int()
	r.now = in.Int() + r.at*1000
	r.first = in.Int()
	r.count = in.Count(2)
	r.published = in.Int()
	r.verbatim = flags&sendVerbatim != 0
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

// appendMessage appends a message of a send. headers says that the record has headers.
func appendMessage(dst []byte, m *store.Message, headers bool) []byte {
	dst = binary.AppendString(binary.AppendString(dst, m.Key), m.Data)
	if headers {
		dst = binary.AppendString(dst, string(m.Headers))
	}
	return dst
}

// hasHeaders reports whether one of the messages has headers.
func hasHeaders(messages []store.Message) bool {
	for i := range messages {
		if messages[i].Headers != "" {
			return true
		}
	}
	return false
}

// allVerbatim reports whether nothing is escaped in the data of any of the messages.
func allVerbatim(messages []store.Message) bool {
	for i := range messages {
		if !messages[i].Verbatim {
			return false
		}
	}
	return true
}

// rawMessage is a message in a record. Its bytes are those of the record.
type rawMessage struct {
	seq, insertedAt, updatedAt int64
	key, data, headers         []byte
	verbatim                   bool
	pos                        seglog.Pos
}

// read reads the key, the data and the headers.
func (m *rawMessage) read(in *binary.Reader, headers bool) {
	m.key, m.data, m.headers = in.Text(), in.Text(), nil
	if headers {
		m.headers = in.Text()
	}
}

// message copies the message.
func (m *rawMessage) message() store.Message {
	var all strings.Builder // unlike make it does not clear what is overwritten at once
	all.Grow(int(m.size()))
	all.Write(m.key)
	all.Write(m.data)
	all.Write(m.headers)
	text := all.String()
	key, data := len(m.key), len(m.key)+len(m.data)
	return store.Message{
		Key: text[:key], Data: text[key:data], Verbatim: m.verbatim, Headers: headers.Packed(text[data:]),
		Seq: m.seq, InsertedAt: m.insertedAt, UpdatedAt: m.updatedAt,
	}
}

func (m *rawMessage) size() int64 { return int64(len(m.key) + len(m.data) + len(m.headers)) }

// eachMessage calls f with the messages of a record that has some, by ascending seq, until f returns false.
func eachMessage(rec seglog.Record, f func(*rawMessage) bool) error {
	in := binary.NewReader(rec.Body)
	m := rawMessage{pos: rec.Pos}
	if isMoved(rec.Kind) {
		for range readMovedCount(in) {
			readMoved(in, &m, rec.Kind)
			if in.Err() != nil {
				break
			}
			if !f(&m) {
				return nil
			}
		}
	} else {
		r := readSendHead(in, rec.Kind)
		m.updatedAt, m.verbatim = r.at, r.verbatim
		for i := range r.count {
			m.seq, m.insertedAt = r.first+int64(i), r.at
			if r.inserted != nil {
				m.insertedAt -= r.inserted[i]
			}
			m.read(in, r.headers)
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

// appendMoved appends a message to a moved record of a kind, whose last message had the seq last.
func appendMoved(dst []byte, m *rawMessage, last int64, kind byte) []byte {
	dst = binary.AppendInt(dst, m.seq-last)
	dst = binary.AppendUint(dst, uint64(m.pos))
	dst = binary.AppendInt(dst, m.updatedAt)
	dst = binary.AppendInt(dst, m.updatedAt-m.insertedAt)
	dst = binary.AppendString(binary.AppendString(dst, view(m.key)), view(m.data))
	if withHeaders(kind) {
		dst = binary.AppendString(dst, view(m.headers))
	}
	return dst
}

func readMovedCount(in *binary.Reader) int { return in.Count(6) }

// readMoved reads the next message of a moved record into m, which holds the one before it, and returns its old place.
func readMoved(in *binary.Reader, m *rawMessage, kind byte) (old seglog.Pos) {
	m.seq += in.Int()
	old = seglog.Pos(in.Uint())
	m.updatedAt = in.Int()
	m.insertedAt = m.updatedAt - in.Int()
	m.read(in, withHeaders(kind))
	return old
}
