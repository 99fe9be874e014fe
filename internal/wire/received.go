package wire

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sequin-go/sequin/internal/jscan"
)

// Message is one message in the answer to a receive. Times are UTC; one that is missing or unreadable is zero.
type Message struct {
	AckID        string
	DeliverCount int // 0 where the server does not say
	ExpiredCount int // how many of the earlier deliveries ended with their leases, neither settled nor extended
	Key, Data    string
	Headers      map[string]string // nil for none
	StreamID     string
	DataHash     string
	Seq          int64
	InsertedAt   time.Time
	UpdatedAt    time.Time
}

// Decoder reads the answer to a receive, {"data":[{"ack_id":…,"message":{…}},…]}, one message at a time. The strings of
// a message share one allocation, so that a program that keeps one message does not keep the answer or its other
// messages alive. A Decoder may be reused, by one goroutine at a time.
type Decoder struct {
	// Bare leaves StreamID and DataHash empty, and trusts the sizes of data in messages that are written as usual.
	Bare bool

	list   list
	clock  clock
	stream string        // the member stream_id of the message before, with a comma in front
	copies texts         // of an element that is not written as usual
	value  jscan.Scanner // for the values of one that is
	names  []byte        // the names and values of the headers, one after the other
	spans  []span        // where they are in names, in turn
}

// texts are the strings of a message, without its headers.
type texts struct{ ackID, key, data, streamID, dataHash []byte }

// SizeMember is the member of a message in a bare answer that says how many bytes the data has, which is next, if it is large
// and nothing in it is escaped. A reader need not search the data for its end.
const SizeMember = `"size":`

// Reset makes the Decoder read an answer from its beginning.
func (d *Decoder) Reset(body []byte) { d.list.reset(body) }

// Err returns the error that has ended Next, or nil.
func (d *Decoder) Err() error { return d.list.err }

// Next reads the next message into m. It reports false at the end of the answer and after an error.
func (d *Decoder) Next(m *Message) bool {
	if !d.list.next() {
		return false
	}
	s := &d.list.scan
	var t texts
	*m, d.names, d.spans = Message{}, d.names[:0], d.spans[:0]
	if n := d.usual(s.Rest(), m, &t); n > 0 {
		s.Consume(n)
		return d.join(m, &t)
	}
	*m, d.names, d.spans = Message{}, d.names[:0], d.spans[:0]
	if d.inAnyOrder(m); s.Err() != nil {
		d.list.err = s.Err()
		return false
	}
	return d.join(m, &d.copies)
}

// join makes the strings of a message. It reports false if one is missing.
func (d *Decoder) join(m *Message, t *texts) bool {
	if len(t.ackID) == 0 || len(t.key) == 0 {
		d.list.err = fmt.Errorf("a message of its list: %w", errors.Join(RequireField(len(t.ackID) > 0, "ack_id"), RequireField(len(t.key) > 0, "key")))
		return false
	}
	var b strings.Builder
	b.Grow(len(t.ackID) + len(t.key) + len(t.data) + len(d.names) + len(t.streamID) + len(t.dataHash))
	b.Write(t.ackID)
	b.Write(t.key)
	b.Write(t.data)
	b.Write(d.names)
	b.Write(t.streamID)
	b.Write(t.dataHash)
	rest := b.String()
	next := func(n int) (part string) {
		part, rest = rest[:n], rest[n:]
		return part
	}
	m.AckID, m.Key, m.Data = next(len(t.ackID)), next(len(t.key)), next(len(t.data))
	if names := next(len(d.names)); len(d.spans) > 0 {
		m.Headers = make(map[string]string, len(d.spans)/2)
		for i := 0; i < len(d.spans); i += 2 {
			name, value := d.spans[i], d.spans[i+1]
			m.Headers[names[name.from:name.to]] = names[value.from:value.to]
		}
	}
	m.StreamID, m.DataHash = next(len(t.streamID)), rest
	return true
}

// inAnyOrder reads an element into m and d.copies. Of a repeated member the last one counts.
func (d *Decoder) inAnyOrder(m *Message) {
	s, t := &d.list.scan, &d.copies
	*t = texts{t.ackID[:0], t.key[:0], t.data[:0], t.streamID[:0], t.dataHash[:0]}
	s.Object()
	for key, ok := s.Key(); ok; key, ok = s.Key() {
		switch string(key) {
		case "ack_id":
			d.copy(&t.ackID)
		case "deliver_count":
			m.DeliverCount = int(s.IntOrNull())
		case "expired_count":
			m.ExpiredCount = int(s.IntOrNull())
		case "message":
			d.message(m)
		default:
			s.Skip()
		}
	}
}

// message reads the object "message".
func (d *Decoder) message(m *Message) {
	s, t := &d.list.scan, &d.copies
	s.Object()
	for key, ok := s.Key(); ok; key, ok = s.Key() {
		switch string(key) {
		case "key":
			d.copy(&t.key)
		case "data":
			d.copy(&t.data)
		case "stream_id":
			d.copyUnlessBare(&t.streamID)
		case "data_hash":
			d.copyUnlessBare(&t.dataHash)
		case "seq":
			m.Seq = s.IntOrNull()
		case "inserted_at":
			m.InsertedAt = d.clock.scan(s)
		case "updated_at":
			m.UpdatedAt = d.clock.scan(s)
		case "headers":
			d.readHeaders(s)
		default:
			s.Skip()
		}
	}
}

// copy copies the next value, a string or null.
func (d *Decoder) copy(to *[]byte) { *to = append((*to)[:0], d.list.scan.StringOrNull()...) }

// copyUnlessBare is copy for a string that a bare decoder leaves out.
func (d *Decoder) copyUnlessBare(to *[]byte) {
	if d.Bare {
		d.list.scan.Skip()
		return
	}
	d.copy(to)
}

// readHeaders reads the headers of a message, an object or null.
func (d *Decoder) readHeaders(s *jscan.Scanner) {
	d.names, d.spans = d.names[:0], d.spans[:0] // those of a repeated member do not count
	if s.Null() {
		return
	}
	s.Object()
	for name, ok := s.Key(); ok; name, ok = s.Key() {
		d.keepName(name)
		d.keepName(s.String())
	}
}

// keepName appends the name or the value of a header to names.
func (d *Decoder) keepName(text []byte) {
	from := len(d.names)
	d.names = append(d.names, text...)
	d.spans = append(d.spans, span{from, len(d.names)})
}
