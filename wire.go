package sequin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/sequin-go/sequin/internal/jscan"
)

// A send's body is {"messages":[{"key":…,"data":…},…]}. It is written here, and not by encoding/json, because its size
// must be known before it is written: batches are cut by encoded bytes.
const (
	sendHead, sendTail = `{"messages":[`, `]}`
	messageHead        = `{"key":`
	messageMiddle      = `,"data":`
	messageTail        = `},`                              // the comma of the last message gives way to sendTail
	sendOverhead       = len(sendHead) + len(sendTail) - 1 // less the last message's comma
	messageOverhead    = len(messageHead) + len(messageMiddle) + len(messageTail)
)

func appendSendHead(b []byte) []byte { return append(b, sendHead...) }

func appendMessage(b []byte, m Message) []byte {
	b = append(b, messageHead...)
	b = jscan.AppendString(b, m.Key)
	b = append(b, messageMiddle...)
	b = jscan.AppendString(b, m.Data)
	return append(b, messageTail...)
}

func appendSendTail(b []byte) []byte { return append(b[:len(b)-1], sendTail...) }

func appendReceive(b []byte, opts ReceiveOptions) []byte {
	b = append(b, `{"batch_size":`...)
	b = strconv.AppendInt(b, int64(opts.BatchSize), 10)
	if opts.WaitFor > 0 {
		b = append(b, `,"wait_for":`...)
		b = strconv.AppendInt(b, opts.WaitFor.Milliseconds(), 10)
	}
	return append(b, '}')
}

func appendSettleHead(b []byte) []byte { return append(b, `{"ack_ids":[`...) }

// appendAckID needs no escaping: an ack id is a UUID, checked, or the server's own.
func appendAckID(b []byte, id string) []byte {
	b = append(b, '"')
	b = append(b, id...)
	return append(b, `",`...)
}

// appendSettleTail ends a settle's body. undelivered says that no program has seen these messages: a server that knows
// the word does not count them as deliveries.
func appendSettleTail(b []byte, undelivered bool) []byte {
	b = append(b[:len(b)-1], ']')
	if undelivered {
		b = append(b, `,"undelivered":true`...)
	}
	return append(b, '}')
}

// answered is an answer, or an element of one, that can tell whether it is what was asked for. JSON of anybody else
// decodes without an error, into zeros that a program would take for the server's.
type answered interface{ complete() error }

// decodeJSON decodes an answer into v. Unknown fields, of newer servers, are passed over.
func decodeJSON(v answered) func(http.Header, []byte) error {
	return func(_ http.Header, body []byte) error {
		if err := json.Unmarshal(body, v); err != nil {
			return err
		}
		return v.complete()
	}
}

// rows is the list inside an answer's data.
type rows[T any] []T

func (r *rows[T]) complete() error {
	for i := range *r {
		if row, ok := any(&(*r)[i]).(answered); ok {
			if err := row.complete(); err != nil {
				return fmt.Errorf("row %d of its list: %w", i, err)
			}
		}
	}
	return nil
}

// lacks is the complaint of an answer that is JSON and yet not Sequin's, nil unless missing.
func lacks(missing bool, field string) error {
	if !missing {
		return nil
	}
	return fmt.Errorf("it holds no %q", field)
}

// data is an answer of the form {"data":…}. Without it the answer is not Sequin's, and taking it for "nothing" would lose
// messages.
type data[T any] struct {
	Data *T `json:"data"`
}

func (d *data[T]) complete() error {
	if d.Data == nil {
		return errNoData
	}
	if inner, ok := any(d.Data).(answered); ok {
		return inner.complete()
	}
	return nil
}

var errNoData = lacks(true, "data")

// member calls value at each member of that name of the object where s stands, and passes over the others.
func member(s *jscan.Scanner, name string, value func()) {
	s.Object()
	for key, ok := s.Key(); ok; key, ok = s.Key() {
		if string(key) == name {
			value()
		} else {
			s.Skip()
		}
	}
}

// decodeSent reads a send's answer, {"data":{"published":…}}.
func decodeSent(result *SendResult) func(http.Header, []byte) error {
	return func(_ http.Header, body []byte) error {
		var s jscan.Scanner
		s.Reset(body)
		found := false
		member(&s, "data", func() {
			member(&s, "published", func() {
				if found = !s.Null(); found {
					result.Published = int(s.Int())
				}
			})
		})
		return errors.Join(s.Done(), lacks(!found, "published"))
	}
}

// decodeSettled reads the answer of an ack or nack, {"success":true}. A 200 alone may be anybody's, such as the page of a
// captive portal.
func decodeSettled(_ http.Header, body []byte) error {
	var s jscan.Scanner
	s.Reset(body)
	success := false
	member(&s, "success", func() { success = s.Bool() })
	return errors.Join(s.Done(), lacks(!success, "success"))
}

// deleted is the answer of a delete.
type deleted struct{ Deleted bool }

func (d *deleted) complete() error { return lacks(!d.Deleted, "deleted") }

// receivedDecoder reads a receive's answer, {"data":[{"ack_id":…,"message":{…}},…]}, message by message. The strings of
// a message share one allocation of their own, so that what a program keeps pins neither the answer nor its neighbours.
type receivedDecoder struct {
	// each gets every message, in the order of the answer; the pointer is valid during the call only.
	each func(*ReceivedMessage)
	// bare leaves StreamID and DataHash empty, which a Delivery does not show.
	bare bool

	scan  jscan.Scanner
	m     ReceivedMessage // the one being read: here, because one that each is shown would be allocated anew each time
	clock clock
	text  []byte // the strings of one message, one after the other
	spans [len(receivedTexts)]struct{ from, to int }
}

// receivedTexts names the members that are strings, in the order of receivedDecoder.spans.
var receivedTexts = [...]string{"ack_id", "key", "data", "stream_id", "data_hash"}

const (
	spanAckID = iota
	spanKey
	spanData
	spanStreamID
	spanDataHash
)

func (d *receivedDecoder) decode(body []byte) error {
	s := &d.scan
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
			if err := d.one(); err != nil {
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

func (d *receivedDecoder) one() error {
	d.m = ReceivedMessage{}
	m := &d.m
	d.text = d.text[:0]
	clear(d.spans[:])
	s := &d.scan
	s.Object()
	// First in the order in which the servers write, then whatever else there is, in any.
	if s.Member(`"ack_id":`) {
		d.keep(spanAckID)
	}
	if s.Member(`"deliver_count":`) {
		m.DeliverCount = int(s.IntOrNull())
	}
	if s.Member(`"message":`) {
		d.message(&m.StoredMessage)
	}
	for key, ok := s.Key(); ok; key, ok = s.Key() {
		switch string(key) {
		case "ack_id":
			d.keep(spanAckID)
		case "deliver_count":
			m.DeliverCount = int(s.IntOrNull())
		case "message":
			d.message(&m.StoredMessage)
		default:
			s.Skip()
		}
	}
	if err := s.Err(); err != nil {
		return err
	}
	all := string(d.text)
	m.AckID, m.Key, m.Data = d.part(all, spanAckID), d.part(all, spanKey), d.part(all, spanData)
	if !d.bare {
		m.StreamID, m.DataHash = d.part(all, spanStreamID), d.part(all, spanDataHash)
	}
	if m.AckID == "" || m.Key == "" {
		return fmt.Errorf("a message of its list: %w", errors.Join(lacks(m.AckID == "", "ack_id"), lacks(m.Key == "", "key")))
	}
	d.each(m)
	return nil
}

// part is one of the strings kept of a message, which stand in all.
func (d *receivedDecoder) part(all string, span int) string {
	return all[d.spans[span].from:d.spans[span].to]
}

func (d *receivedDecoder) message(m *StoredMessage) {
	s := &d.scan
	s.Object()
	d.inOrder(m)
	for key, ok := s.Key(); ok; key, ok = s.Key() {
		switch string(key) {
		case "key":
			d.keep(spanKey)
		case "data":
			d.keep(spanData)
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
		default:
			s.Skip()
		}
	}
}

// inOrder reads the members that stand where both servers write them.
func (d *receivedDecoder) inOrder(m *StoredMessage) {
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
	if s.Member(`"data":`) {
		d.keep(spanData)
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

func (d *receivedDecoder) keep(span int) {
	d.spans[span].from = len(d.text)
	d.text = append(d.text, d.scan.StringOrNull()...)
	d.spans[span].to = len(d.text)
}

func (d *receivedDecoder) keepUnlessBare(span int) {
	if d.bare {
		d.scan.Skip()
		return
	}
	d.keep(span)
}

// clock reads the times of messages. It remembers the last one, which a message that was never changed has twice, and its
// second: most of a batch falls into the same few, and the rest of a time, its microseconds, takes a tenth of what package
// time takes for all of it.
type clock struct {
	last   [len(microLayout)]byte
	at     time.Time
	second time.Time
}

const (
	secondLayout = "2006-01-02T15:04:05"
	microLayout  = secondLayout + ".000000Z" // how servers write a message's time
)

// scan leaves an unreadable time zero: it must not cost the message.
func (c *clock) scan(s *jscan.Scanner) time.Time {
	if s.Kind() != jscan.String {
		s.Skip()
		return time.Time{}
	}
	text := s.String()
	if len(text) != len(microLayout) || text[len(secondLayout)] != '.' || text[len(text)-1] != 'Z' {
		return parseTime(text)
	}
	if string(text) == string(c.last[:]) {
		return c.at
	}
	var micros time.Duration
	for _, digit := range text[len(secondLayout)+1 : len(text)-1] {
		if digit -= '0'; digit > 9 {
			return parseTime(text)
		}
		micros = 10*micros + time.Duration(digit)
	}
	if string(text[:len(secondLayout)]) != string(c.last[:len(secondLayout)]) || c.last[0] == 0 {
		var at time.Time
		if at.UnmarshalText(text) != nil {
			return parseTime(text)
		}
		c.second = at.Truncate(time.Second)
	}
	copy(c.last[:], text)
	c.at = c.second.Add(micros * time.Microsecond)
	return c.at
}

// parseTime reads RFC 3339, with a zone or, as Elixir writes naive times, without: those are UTC too.
func parseTime(text []byte) (t time.Time) {
	if t.UnmarshalText(text) == nil {
		return t
	}
	t, _ = time.Parse("2006-01-02T15:04:05.999999999", string(text))
	return t
}

// moment is a time that costs nothing but itself when it cannot be read.
type moment struct{ time.Time }

func (m *moment) UnmarshalJSON(text []byte) error {
	var s jscan.Scanner
	s.Reset(text)
	m.Time = new(clock).scan(&s)
	return nil
}
