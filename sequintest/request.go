package sequintest

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"
)

// Request is a request that arrived at the server, and what became of it.
type Request struct {
	Op     Op
	Method string
	Path   string // as sent: escaped, with the query
	Header http.Header
	Body   []byte // at most the first 8,000,001 bytes; the API accepts 8,000,000
	At     time.Time

	// Status is the status that was sent to the client. It is 0 while the request runs, and when the connection was reset
	// before an answer.
	Status int
	// Acted reports whether the embedded server acted on the request, and not only a fault.
	Acted bool
	// ActedAt is when the embedded server was done. It is later than At if a fault delayed the request or a receive waited
	// for messages. It is zero until the server is done.
	ActedAt time.Time
	// Answer is the body that the embedded server answered with, even if a fault replaced it or kept it from the client.
	Answer []byte
}

// Message is a message in the body of a Send.
type Message struct {
	Key, Data string
	Headers   map[string]string
}

// Delivery is a message in the answer to a Receive. One of a sink has no Key and no Seq, and its Data is the JSON of the
// change.
type Delivery struct {
	AckID, Key, Data string
	Headers          map[string]string
	Seq              int64
	DeliverCount     int // 0 when the answer does not hold it
}

// Messages returns the messages of a Send in their order, and nil for any other request or an invalid body.
func (r Request) Messages() []Message {
	var body struct{ Messages []Message }
	if r.Op != Send || json.Unmarshal(r.Body, &body) != nil {
		return nil
	}
	return body.Messages
}

// AckIDs returns the ids of an Ack or a Nack in their order, and nil for any other request or an invalid body.
func (r Request) AckIDs() []string {
	var body struct {
		AckIDs []string `json:"ack_ids"`
	}
	if r.Op != Ack && r.Op != Nack || json.Unmarshal(r.Body, &body) != nil {
		return nil
	}
	return body.AckIDs
}

// Deliveries returns the messages in the answer to a Receive, whether or not the answer reached the client. It returns nil
// for any other request or an invalid answer.
func (r Request) Deliveries() []Delivery {
	var answer struct {
		Data []struct {
			AckID        string `json:"ack_id"`
			DeliverCount int    `json:"deliver_count"`
			Data         json.RawMessage
			Message      struct {
				Key, Data string
				Headers   map[string]string
				Seq       int64
			}
		}
	}
	if r.Op != Receive || json.Unmarshal(r.Answer, &answer) != nil {
		return nil
	}
	deliveries := make([]Delivery, len(answer.Data))
	for i, d := range answer.Data {
		deliveries[i] = Delivery{AckID: d.AckID, Key: d.Message.Key, Data: d.Message.Data, Headers: d.Message.Headers, Seq: d.Message.Seq, DeliverCount: d.DeliverCount}
		if d.Data != nil {
			deliveries[i].Data = string(d.Data)
		}
	}
	return deliveries
}

// clone returns a copy that shares no memory with r.
func (r Request) clone() Request {
	r.Header, r.Body, r.Answer = r.Header.Clone(), slices.Clone(r.Body), slices.Clone(r.Answer)
	return r
}
