package sequin

import (
	"encoding/json"
	"errors"
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
	messageTail        = `},` // the comma of the last message gives way to sendTail
	sendOverhead       = len(sendHead) + len(sendTail)
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

// decodeJSON decodes an answer into v. Unknown fields, of newer servers, are passed over.
func decodeJSON(v any) func(http.Header, []byte) error {
	return func(_ http.Header, body []byte) error { return json.Unmarshal(body, v) }
}

// decodeSent reads a send's answer: {"data":{"published":N}}.
func decodeSent(result *SendResult) func(http.Header, []byte) error {
	return func(_ http.Header, body []byte) error {
		var answer struct{ Data *SendResult }
		if err := json.Unmarshal(body, &answer); err != nil {
			return err
		}
		if answer.Data == nil {
			return errNoData
		}
		*result = *answer.Data
		return nil
	}
}

// errNoData: JSON, but not what every list and every send of Sequin answers. Taking it for "nothing" would lose messages.
var errNoData = errors.New(`it holds no "data"`)

// receivedDecoder reads a receive's answer, {"data":[{"ack_id":…,"message":{…}},…]}, message by message. The strings of
// a message share one allocation of their own, so that what a program keeps pins neither the answer nor its neighbours.
type receivedDecoder struct {
	// each gets every message, in the order of the answer; the pointer is valid during the call only.
	each func(*ReceivedMessage)
	// bare leaves StreamID and DataHash empty, which a Delivery does not show.
	bare bool

	scan  jscan.Scanner
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
			d.one()
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

func (d *receivedDecoder) one() {
	var m ReceivedMessage
	d.text = d.text[:0]
	clear(d.spans[:])
	s := &d.scan
	s.Object()
	for key, ok := s.Key(); ok; key, ok = s.Key() {
		switch string(key) {
		case "ack_id":
			d.keep(spanAckID)
		case "deliver_count":
			m.DeliverCount = int(scanInt(s))
		case "message":
			d.message(&m.StoredMessage)
		default:
			s.Skip()
		}
	}
	if s.Err() != nil {
		return
	}
	all := string(d.text)
	for i, into := range [...]*string{&m.AckID, &m.Key, &m.Data, &m.StreamID, &m.DataHash} {
		*into = all[d.spans[i].from:d.spans[i].to]
	}
	d.each(&m)
}

func (d *receivedDecoder) message(m *StoredMessage) {
	s := &d.scan
	s.Object()
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
			m.Seq = scanInt(s)
		case "inserted_at":
			m.InsertedAt = scanTime(s)
		case "updated_at":
			m.UpdatedAt = scanTime(s)
		default:
			s.Skip()
		}
	}
}

func (d *receivedDecoder) keep(span int) {
	d.spans[span].from = len(d.text)
	if !d.scan.Null() {
		d.text = append(d.text, d.scan.String()...)
	}
	d.spans[span].to = len(d.text)
}

func (d *receivedDecoder) keepUnlessBare(span int) {
	if d.bare {
		d.scan.Skip()
		return
	}
	d.keep(span)
}

func scanInt(s *jscan.Scanner) int64 {
	if s.Null() {
		return 0
	}
	return s.Int()
}

// scanTime leaves an unreadable time zero: it must not cost the message.
func scanTime(s *jscan.Scanner) (t time.Time) {
	if !s.Null() && t.UnmarshalText(s.String()) != nil {
		return time.Time{}
	}
	return t
}
