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
	// Each is called for every message, in the order of the answer. The pointer is valid during the call only.
	Each func(*Message)
	// Bare leaves StreamID and DataHash empty, and trusts the sizes of data that a bare answer has.
	Bare bool

	scan  jscan.Scanner
	m     Message // a field, because a local variable passed to Each would be allocated for each message
	clock clock
	text  []byte // the strings of one message, one after the other
	data  []byte // the data if it is not in text, but still in the body
	spans [spanCount]span

	headers []span // the names and values of the message's headers, in turn
}

// The strings of a message, as indexes of Decoder.spans.
const (
	spanAckID = iota
	spanKey
	spanData
	spanStreamID
	spanDataHash
	spanCount
)

// largeData is the size from which data is copied once, from the body into the string of the message: from there on the copy
// costs more than the second call.
const largeData = 256

// SizeMember is the member of a message in a bare answer that says how many bytes the data has, which is next, if it is large
// and nothing in it is escaped. A reader need not search the data for its end.
const SizeMember = `"size":`

// errNoData is the error of an answer without a list. Taking it for an empty list would lose messages.
var errNoData = RequireField(false, "data")

// Decode reads one answer and calls Each for its messages. When it returns an error, Each may have been called for some of
// them.
func (d *Decoder) Decode(body []byte) error { return decodeList(&d.scan, body, d.element) }

// decodeList reads {"data":[…]} and calls element before each element of the list.
func decodeList(s *jscan.Scanner, body []byte, element func() error) error {
	s.Reset(body)
	found := false
	s.Object()
	for key, ok := s.Key(); ok; key, ok = s.Key() {
		if string(key) != "data" {
			s.Skip()
			continue
		}
		found = s.Array()
		for s.Elem() {
			if err := element(); err != nil {
				return err
			}
		}
	}
	if err := s.Done(); err != nil {
		return err
	}
	if !found {
		return errNoData
	}
	return nil
}

// element reads one element of the list.
func (d *Decoder) element() error {
	d.m = Message{}
	m := &d.m
	d.text, d.data = d.text[:0], nil
	clear(d.spans[:])
	d.headers = d.headers[:0]
	s := &d.scan
	s.Object()
	// First read the members that are in the order in which servers write them, without comparing names. Then read the rest
	// in any order.
	if s.Member(`"ack_id":`) {
		d.keep(spanAckID)
	}
	if s.Member(`"deliver_count":`) {
		m.DeliverCount = int(s.IntOrNull())
	}
	if s.Member(`"message":`) {
		d.message(m)
	}
	for key, ok := s.Key(); ok; key, ok = s.Key() {
		switch string(key) {
		case "ack_id":
			d.keep(spanAckID)
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
	if err := s.Err(); err != nil {
		return err
	}
	all := d.all()
	m.AckID, m.Key, m.Data = d.part(all, spanAckID), d.part(all, spanKey), d.part(all, spanData)
	if d.data != nil {
		m.Data = all[len(d.text):]
	}
	if len(d.headers) > 0 {
		m.Headers = make(map[string]string, len(d.headers)/2)
		for i := 0; i < len(d.headers); i += 2 {
			name, value := d.headers[i], d.headers[i+1]
			m.Headers[all[name.from:name.to]] = all[value.from:value.to]
		}
	}
	if !d.Bare {
		m.StreamID, m.DataHash = d.part(all, spanStreamID), d.part(all, spanDataHash)
	}
	if m.AckID == "" || m.Key == "" {
		return fmt.Errorf("a message of its list: %w", errors.Join(RequireField(m.AckID != "", "ack_id"), RequireField(m.Key != "", "key")))
	}
	d.Each(m)
	return nil
}

// all returns all strings of a message, one after the other.
func (d *Decoder) all() string {
	if d.data == nil {
		return string(d.text)
	}
	var all strings.Builder
	all.Grow(len(d.text) + len(d.data))
	all.Write(d.text)
	all.Write(d.data)
	return all.String()
}

// part returns one string of a message. all holds all of them, one after the other.
func (d *Decoder) part(all string, span int) string {
	return all[d.spans[span].from:d.spans[span].to]
}

// message reads the object "message".
func (d *Decoder) message(m *Message) {
	s := &d.scan
	s.Object()
	d.orderedMembers(m)
	for key, ok := s.Key(); ok; key, ok = s.Key() {
		switch string(key) {
		case "key":
			d.keep(spanKey)
		case "data":
			d.keepData(d.scan.StringOrNull())
		case "stream_id":
			d.keepUnlessBare(spanStreamID)
		case "data_hash":
			d.keepUnlessBare(spanDataHash)
		case "seq":
			m.Seq = s.IntOrNull()
		case "inserted_at":
			m.InsertedAt = d.clock.scan(s)
		case "updated_at":
			m.UpdatedAt = d.clock.scan(s)
		case "headers":
			d.keepHeaders()
		default:
			s.Skip()
		}
	}
}

// keepHeaders reads the headers of a message, an object or null.
func (d *Decoder) keepHeaders() {
	d.headers = d.headers[:0] // those of a repeated member do not count
	if d.scan.Null() {
		return
	}
	d.scan.Object()
	for name, ok := d.scan.Key(); ok; name, ok = d.scan.Key() {
		d.headers = append(d.headers, d.keepText(name))
		d.headers = append(d.headers, d.keepText(d.scan.String()))
	}
}

// keepText appends bytes to the strings of the message.
func (d *Decoder) keepText(text []byte) span {
	from := len(d.text)
	d.text = append(d.text, text...)
	return span{from, len(d.text)}
}

// orderedMembers reads the members of a message that are in the order in which all known servers write them.
func (d *Decoder) orderedMembers(m *Message) {
	s := &d.scan
	if s.Member(`"key":`) {
		d.keep(spanKey)
	}
	if s.Member(`"stream_id":`) {
		d.keepUnlessBare(spanStreamID)
	}
	if s.Member(`"data_hash":`) {
		d.keepUnlessBare(spanDataHash)
	}
	size := int64(-1)
	if d.Bare && s.Member(SizeMember) {
		size = s.Int()
	}
	if s.Member(`"data":`) {
		data, ok := s.Verbatim(size)
		if !ok {
			data = s.StringOrNull()
		}
		d.keepData(data)
	}
	if s.Member(`"seq":`) {
		m.Seq = s.IntOrNull()
	}
	if s.Member(`"inserted_at":`) {
		m.InsertedAt = d.clock.scan(s)
	}
	if s.Member(`"updated_at":`) {
		m.UpdatedAt = d.clock.scan(s)
	}
}

// keep appends the next value, a string or null, to the strings of the message.
func (d *Decoder) keep(span int) {
	d.spans[span] = d.keepText(d.scan.StringOrNull())
}

// keepData keeps the data of the message. It is copied once if it is large.
func (d *Decoder) keepData(data []byte) {
	d.data, d.spans[spanData] = nil, span{}
	if len(data) < largeData || d.scan.Copied(data) {
		d.spans[spanData] = d.keepText(data)
		return
	}
	d.data = data
}

// keepUnlessBare is keep for a string that a bare decoder leaves out.
func (d *Decoder) keepUnlessBare(span int) {
	if d.Bare {
		d.scan.Skip()
		return
	}
	d.keep(span)
}
