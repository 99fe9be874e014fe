package sim

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// history is what happened in a run: the records of the programs, the taps and the server, joined and indexed.
type history struct {
	rec        *recorder
	bySent     map[sentRef]*message
	consumers  map[string]consumerPlan // by name
	names      map[string]string       // the names of consumers, by id and by name
	stored     []storedBatch           // in the order in which the server acted
	storedAt   map[sentRef][]time.Time // of the same messages
	purges     []purged                // in that order too
	leases     []*lease                // in that order too
	settles    []*settleRequest        // in that order too
	byID       map[string]*call        // a request as its client saw it, by request id
	killed     map[string]bool         // by worker
	stopOf     map[string]stop         // by worker
	receivedBy map[consumerMessage][]*received
	leasesOf   map[ackRef][]*lease
	leaseOf    map[*received]*lease
}

// sentRef identifies a message of an incarnation of a publisher.
type sentRef struct{ publisher, id string }

type consumerMessage struct {
	consumer string
	seq      int64
}

type ackRef struct{ consumer, ackID string }

// storedBatch is a send that the server carried out.
type storedBatch struct {
	publisher string
	at        time.Time
	messages  []sequintest.Message
	confirmed bool // the client got the success
}

// lease is a message in the answer to a receive: the server leased it to a worker.
type lease struct {
	worker, consumer string
	sequintest.Delivery
	at, until time.Time
	granted   time.Time // what until was before any extension
	requested time.Time // when the receive arrived at the server
	request   string    // the id of the receive
	arrived   bool      // the client got the answer
	received  *received // the delivery that the program got of it; nil if there was none
	settledAt time.Time // zero if it was not settled
	returned  bool      // by a nack that says undelivered
	extended  []extension
}

// extension is an extension of a lease that the server carried out.
type extension struct{ at, until time.Time }

// settleableUntil returns until when a program may settle its delivery, as it can know it at t. An extension is known to the
// program after the server has carried it out; until is when the lease then ends on the server, and the program stops earlier.
func (x *lease) settleableUntil(t time.Time) time.Time {
	until := x.received.Deadline
	for _, e := range x.extended {
		if !e.at.After(t) && e.until.After(until) {
			until = e.until
		}
	}
	return until
}

// settleRequest is a request to ack or nack that reached the server.
type settleRequest struct {
	worker, consumer string
	kind             sequin.SettlementKind
	ids              []string
	undelivered      bool
	left             time.Time // when the client sent it
	at, actedAt      time.Time // when it arrived, and when the server was done
	acted            bool      // the server carried it out, whether or not the client got the answer
}

func newHistory(rec *recorder) *history {
	h := &history{rec: rec, bySent: map[sentRef]*message{}, storedAt: map[sentRef][]time.Time{}, consumers: map[string]consumerPlan{}, names: map[string]string{},
		byID: map[string]*call{}, killed: map[string]bool{}, stopOf: map[string]stop{},
		receivedBy: map[consumerMessage][]*received{}, leasesOf: map[ackRef][]*lease{}, leaseOf: map[*received]*lease{}}
	for _, m := range rec.messages {
		h.bySent[sentRef{m.publisher, m.id}] = m
	}
	for _, c := range rec.final.Consumers {
		h.names[c.ID], h.names[c.Name] = c.Name, c.Name
	}
	for i, c := range rec.s.Consumers {
		h.consumers[consumerName(i)] = c
		h.names[consumerName(i)] = consumerName(i)
	}
	for _, c := range rec.calls {
		h.byID[c.id] = c
	}
	for _, s := range rec.stops {
		h.stopOf[s.actor] = s
		if s.how == killed {
			h.killed[s.actor] = true
		}
	}
	for _, d := range rec.received {
		k := consumerMessage{d.consumer, d.Seq}
		h.receivedBy[k] = append(h.receivedBy[k], d)
	}
	h.readRequests()
	for _, d := range rec.received {
		h.assign(d)
	}
	h.markSettled()
	return h
}

// readRequests reads the server's requests in the order in which the server acted on them.
func (h *history) readRequests() {
	requests := slices.Clone(h.rec.requests)
	slices.SortStableFunc(requests, func(a, b sequintest.Request) int { return cmp.Compare(a.ActedAt.UnixNano(), b.ActedAt.UnixNano()) })
	known := map[string]bool{}
	for _, r := range requests {
		who := r.Header.Get("User-Agent")
		switch r.Op {
		case sequintest.Send:
			if r.Acted && succeeded(r.Answer) && !h.isRepeat(r, known) {
				s := storedBatch{who, r.ActedAt, r.Messages(), h.confirmed(r)}
				h.stored = append(h.stored, s)
				for _, m := range s.messages {
					ref := sentRef{who, idOf(m.Data)}
					h.storedAt[ref] = append(h.storedAt[ref], s.at)
				}
			}
		case sequintest.PurgeStream:
			h.readPurge(r)
		case sequintest.Receive:
			h.readLeases(who, r)
		case sequintest.Extend:
			h.readExtension(r)
		case sequintest.Ack, sequintest.Nack:
			if looksForSink(r) {
				continue
			}
			s := &settleRequest{worker: who, consumer: h.consumerOf(r), kind: sequin.Ack, ids: r.AckIDs(), left: h.sentAt(r), at: r.At,
				actedAt: r.ActedAt, acted: r.Acted && succeeded(r.Answer), undelivered: bytes.Contains(r.Body, []byte(`"undelivered":true`))}
			if r.Op == sequintest.Nack {
				s.kind = sequin.Nack
			}
			h.settles = append(h.settles, s)
		}
	}
}

// readExtension reads which leases an extension has changed.
func (h *history) readExtension(r sequintest.Request) {
	var asked struct {
		Wait int64 `json:"ack_wait_ms"`
	}
	var done struct {
		Data struct{ Extended []string }
	}
	if !r.Acted || json.Unmarshal(r.Body, &asked) != nil || json.Unmarshal(r.Answer, &done) != nil {
		return
	}
	until := r.ActedAt.Add(time.Duration(asked.Wait) * time.Millisecond)
	for _, id := range done.Data.Extended {
		if x := h.leaseAt(h.consumerOf(r), id, r.ActedAt.Add(1)); x != nil && until.After(x.until) {
			x.until = until
			x.extended = append(x.extended, extension{r.ActedAt, until})
		}
	}
}

// consumerOf returns the name of the consumer or the sink in the path of a request.
func (h *history) consumerOf(r sequintest.Request) string {
	if h.rec.s.Sinks {
		return element(r.Path, 3)
	}
	return h.names[element(r.Path, 5)]
}

// looksForSink reports whether a request is the ack of an id that does not exist, by which SubscribeSink looks for a sink.
func looksForSink(r sequintest.Request) bool {
	return slices.Equal(r.AckIDs(), []string{"00000000-0000-4000-8000-000000000000"})
}

// confirmed reports whether the client got the success of a request.
func (h *history) confirmed(r sequintest.Request) bool {
	c := h.byID[r.Header.Get("X-Request-Id")]
	return c != nil && c.succeeded()
}

// isRepeat reports whether a successful send changes nothing, because the server knows its idempotency key, or that of a send
// that it is a part of. known holds the keys of the successful sends so far, and isRepeat adds this one.
func (h *history) isRepeat(r sequintest.Request, known map[string]bool) bool {
	if h.rec.s.Mode == server.Aug2024 {
		return false
	}
	key := r.Header.Get("Idempotency-Key")
	repeats := known[key]
	if h.rec.s.has(parts) {
		for whole := range strings.SplitSeq(r.Header.Get("Sequin-Part-Of"), ",") {
			repeats = repeats || known[strings.TrimSpace(whole)]
		}
	}
	if key != "" {
		known[key] = true
	}
	return repeats
}

func (h *history) readLeases(who string, r sequintest.Request) {
	if !r.Acted {
		return
	}
	consumer := h.consumerOf(r)
	plan := h.consumers[consumer]
	c := h.byID[r.Header.Get("X-Request-Id")]
	arrived := c != nil && c.whole && c.status == 200 && bytes.Equal(c.answer, r.Answer)
	for _, d := range r.Deliveries() {
		if h.rec.s.Sinks {
			d.Key, d.Seq = readChange(d.Data)
		}
		x := &lease{worker: who, consumer: consumer, Delivery: d, at: r.ActedAt, until: r.ActedAt.Add(plan.AckWait), granted: r.ActedAt.Add(plan.AckWait), requested: r.At,
			request: r.Header.Get("X-Request-Id"), arrived: arrived}
		h.leases = append(h.leases, x)
		k := ackRef{consumer, d.AckID}
		h.leasesOf[k] = append(h.leasesOf[k], x)
	}
}

// assign finds the lease of a delivery that a program received. On the 2024 server several leases have the same ack id. It
// is the latest one, because the worker gets no new one while the message is leased.
func (h *history) assign(d *received) {
	var from *lease
	for _, x := range h.leasesOf[ackRef{d.consumer, d.AckID}] {
		if x.worker == d.worker && x.Seq == d.Seq && x.arrived && !x.at.After(d.at) {
			from = x
		}
	}
	if from != nil {
		from.received, h.leaseOf[d] = d, from
	}
}

// markSettled notes in each lease when it was settled.
func (h *history) markSettled() {
	for _, s := range h.settles {
		if !s.acted {
			continue
		}
		for _, id := range s.ids {
			if x := h.leaseAt(s.consumer, id, s.actedAt); x != nil && x.settledAt.IsZero() {
				x.settledAt, x.returned = s.actedAt, s.undelivered
			}
		}
	}
}

// sentAt returns when the client sent a request.
func (h *history) sentAt(r sequintest.Request) time.Time {
	if c := h.byID[r.Header.Get("X-Request-Id")]; c != nil {
		return c.began
	}
	return r.At
}

// workerPlan returns the plan of a worker named w<i>. The workers that fill starts have no plan.
func (h *history) workerPlan(name string) workerPlan {
	var i int
	if _, err := fmt.Sscanf(name, "w%d", &i); err != nil {
		return workerPlan{}
	}
	return h.rec.s.Workers[i]
}

// leaseAt returns the latest lease of an ack id before t, or nil. A receive that waits may get a message at the very moment of
// a nack, which belongs to the lease before.
func (h *history) leaseAt(consumer, ackID string, t time.Time) (last *lease) {
	for _, x := range h.leasesOf[ackRef{consumer, ackID}] {
		if x.at.Before(t) {
			last = x
		}
	}
	return last
}

// succeeded reports whether the embedded server's answer is a success.
func succeeded(answer []byte) bool {
	var parsed struct {
		Data    *struct{ Published *int }
		Success bool
	}
	return json.Unmarshal(answer, &parsed) == nil && (parsed.Success || parsed.Data != nil && parsed.Data.Published != nil)
}

// element returns the i-th element of a path.
func element(path string, i int) string {
	path, _, _ = strings.Cut(path, "?")
	if elements := strings.Split(path, "/"); i < len(elements) {
		return elements[i]
	}
	return ""
}

// matches reports whether a filter matches a key. It follows the API reference, and shares no code with the server.
func matches(pattern, key string) bool {
	p, k := strings.Split(pattern, "."), strings.Split(key, ".")
	for i, want := range p {
		switch {
		case want == ">":
			return len(k) > i
		case i >= len(k), want != "*" && want != k[i]:
			return false
		}
	}
	return len(p) == len(k)
}

// appends reports whether the stream keeps every message.
func (h *history) appends() bool {
	return h.rec.s.Mode == server.Documented && !h.rec.s.Sinks && !h.rec.s.Stream.OneMessagePerKey
}
