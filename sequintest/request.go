package sequintest

import (
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Request is what the server knows about one request.
type Request struct {
	Op     Op
	Method string
	Path   string // as sent: escaped, with the query
	Header http.Header
	Body   []byte // at most the first 8,000,001 bytes: more than the API takes
	At     time.Time

	// Status is what left for the client: 0 while the request runs, and when its connection was cut without an answer.
	Status int
	// Acted says whether the request reached the server behind the faults.
	Acted bool
	// ActedAt is when that server was done with it: after At by what a receive waited and a fault delayed. Zero until then.
	ActedAt time.Time
	// Answer is what that server answered, also where a fault lost or replaced it.
	Answer []byte
}

// Message is one of a send's messages.
type Message struct{ Key, Data string }

// Delivery is one of the messages that a receive was answered with.
type Delivery struct {
	AckID, Key, Data string
	Seq              int64
	DeliverCount     int // 0 when the answer does not tell
}

// Messages returns what a Send carried, in its order; nil for any other body.
func (r Request) Messages() []Message {
	var body struct{ Messages []Message }
	if r.Op != Send || json.Unmarshal(r.Body, &body) != nil {
		return nil
	}
	return body.Messages
}

// AckIDs returns the ids that an Ack or a Nack carried, in their order; nil for any other body.
func (r Request) AckIDs() []string {
	var body struct {
		AckIDs []string `json:"ack_ids"`
	}
	if r.Op != Ack && r.Op != Nack || json.Unmarshal(r.Body, &body) != nil {
		return nil
	}
	return body.AckIDs
}

// Deliveries returns what a Receive was answered with, whether or not the answer arrived.
func (r Request) Deliveries() []Delivery {
	var answer struct {
		Data []struct {
			AckID        string `json:"ack_id"`
			DeliverCount int    `json:"deliver_count"`
			Message      struct {
				Key, Data string
				Seq       int64
			}
		}
	}
	if r.Op != Receive || json.Unmarshal(r.Answer, &answer) != nil {
		return nil
	}
	deliveries := make([]Delivery, len(answer.Data))
	for i, d := range answer.Data {
		deliveries[i] = Delivery{AckID: d.AckID, Key: d.Message.Key, Data: d.Message.Data, Seq: d.Message.Seq, DeliverCount: d.DeliverCount}
	}
	return deliveries
}

func (r Request) clone() Request {
	r.Header, r.Body, r.Answer = r.Header.Clone(), slices.Clone(r.Body), slices.Clone(r.Answer)
	return r
}

// maxKeptBytes bounds bodies and answers together, whatever their number: a thousand of 8 MB would be 8 GB.
const maxKeptBytes = 32 << 20

// journal keeps the latest requests, and counts all.
type journal struct {
	counts [opCount]atomic.Int64
	keep   int

	mu    sync.Mutex // guards all below and what the kept requests hold; held for copying only
	kept  []*entry   // oldest first
	bytes int
}

// entry is a request in the journal; one that was dropped while it ran must not be charged for its answer.
type entry struct {
	*Request
	dropped bool
}

// begin counts a request and keeps it, unfinished.
func (j *journal) begin(r *Request) *entry {
	j.counts[Any].Add(1)
	j.counts[r.Op].Add(1)
	e := &entry{Request: r}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.kept = append(j.kept, e)
	j.bytes += len(r.Body)
	j.trimLocked()
	return e
}

// note adds what became of a request that begin was told of. It has to be called before the client can know: a test looks
// as soon as it has its answer.
func (j *journal) note(e *entry, add func(*Request)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e.dropped {
		return
	}
	j.bytes -= len(e.Answer)
	add(e.Request)
	j.bytes += len(e.Answer)
	j.trimLocked()
}

func (j *journal) trimLocked() {
	for len(j.kept) > j.keep || j.bytes > maxKeptBytes && len(j.kept) > 0 {
		oldest := j.kept[0]
		oldest.dropped = true
		j.bytes -= len(oldest.Body) + len(oldest.Answer)
		j.kept[0] = nil
		j.kept = j.kept[1:]
	}
}

func (j *journal) requests(ops []Op) []Request {
	j.mu.Lock()
	defer j.mu.Unlock()
	var found []Request
	for _, r := range j.kept {
		if len(ops) == 0 || slices.Contains(ops, r.Op) || slices.Contains(ops, Any) {
			found = append(found, r.clone())
		}
	}
	return found
}
