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

// history is a ledger put in order: the programs' word, the taps' and the journal's beside one another.
type history struct {
	*ledger
	byRef     map[ref]*message
	consumers map[string]consumerPlan // by name
	names     map[string]string       // consumer's id to its name
	stored    []storing
	handouts  []*handout
	settles   []*settling
	byID      map[string]*call // the client's side of a request
	vanished  map[string]bool  // workers whose end nobody can tell of
	stopOf    map[string]stop
	isHanded  map[handedRef][]*handed
	outOf     map[handoutRef][]*handout
}

// ref is a message in the life of one Publisher.
type ref struct{ publisher, id string }

type handedRef struct {
	consumer string
	seq      int64
}

type handoutRef struct{ consumer, ackID string }

// storing is a send that the server carried out.
type storing struct {
	publisher string
	at        time.Time
	messages  []sequintest.Message
	request   sequintest.Request
}

// handout is a message in a receive's answer.
type handout struct {
	worker, consumer string
	sequintest.Delivery
	at, until time.Time
	sent      time.Time // the request
	request   string    // its id
	arrived   bool      // the client got the answer
	handed    *handed   // what the program got of it
	// When it was settled, by whom; zero when it was not.
	settledAt time.Time
}

// settling is a request to ack or nack that reached the server.
type settling struct {
	worker, consumer string
	kind             sequin.SettlementKind
	ids              []string
	undelivered      bool
	left             time.Time // its client
	at, actedAt      time.Time // when it reached the server, and when that was done with it
	acted            bool      // carried out, whatever its client learnt
}

func newHistory(l *ledger) *history {
	h := &history{ledger: l, byRef: map[ref]*message{}, consumers: map[string]consumerPlan{}, names: map[string]string{},
		byID: map[string]*call{}, vanished: map[string]bool{}, stopOf: map[string]stop{},
		isHanded: map[handedRef][]*handed{}, outOf: map[handoutRef][]*handout{}}
	for _, m := range l.messages {
		h.byRef[ref{m.publisher, m.id}] = m
	}
	for _, c := range l.final.Consumers {
		h.names[c.ID], h.names[c.Name] = c.Name, c.Name
	}
	for i, c := range l.s.Consumers {
		h.consumers[consumerName(i)] = c
	}
	for _, c := range l.calls {
		h.byID[c.id] = c
	}
	for _, s := range l.stops {
		h.stopOf[s.actor] = s
		if s.how == vanish {
			h.vanished[s.actor] = true
		}
	}
	for _, d := range l.handed {
		k := handedRef{d.consumer, d.Seq}
		h.isHanded[k] = append(h.isHanded[k], d)
	}
	h.read()
	return h
}

// read takes the journal apart, in the order in which the server acted.
func (h *history) read() {
	requests := slices.Clone(h.requests)
	slices.SortStableFunc(requests, func(a, b sequintest.Request) int { return cmp.Compare(a.ActedAt.UnixNano(), b.ActedAt.UnixNano()) })
	known := map[string]bool{}
	for _, r := range requests {
		who := r.Header.Get("User-Agent")
		switch r.Op {
		case sequintest.Send:
			// A repeat under a key that this server knows changes nothing.
			key := r.Header.Get("Idempotency-Key")
			if r.Acted && succeeded(r.Answer) && (h.s.Mode == server.Aug2024 || !known[key]) {
				known[key] = true
				h.stored = append(h.stored, storing{who, r.ActedAt, r.Messages(), r})
			}
		case sequintest.Receive:
			h.readHandouts(who, r)
		case sequintest.Ack, sequintest.Nack:
			s := &settling{worker: who, consumer: h.names[element(r.Path, 5)], kind: sequin.Ack, ids: r.AckIDs(), left: h.leaving(r), at: r.At,
				actedAt: r.ActedAt, acted: r.Acted && succeeded(r.Answer), undelivered: bytes.Contains(r.Body, []byte(`"undelivered":true`))}
			if r.Op == sequintest.Nack {
				s.kind = sequin.Nack
			}
			h.settles = append(h.settles, s)
		}
	}
	for _, d := range h.ledger.handed {
		h.assign(d)
	}
	for _, s := range h.settles {
		if !s.acted {
			continue
		}
		for _, id := range s.ids {
			if x := h.holding(s.consumer, id, s.actedAt); x != nil && x.settledAt.IsZero() {
				x.settledAt = s.actedAt
			}
		}
	}
}

func (h *history) readHandouts(who string, r sequintest.Request) {
	if !r.Acted {
		return
	}
	consumer := h.names[element(r.Path, 5)]
	plan := h.consumers[consumer]
	c := h.byID[r.Header.Get("X-Request-Id")]
	arrived := c != nil && c.whole && c.status == 200 && bytes.Equal(c.answer, r.Answer)
	for _, d := range r.Deliveries() {
		x := &handout{worker: who, consumer: consumer, Delivery: d, at: r.ActedAt, until: r.ActedAt.Add(plan.AckWait), sent: r.At,
			request: r.Header.Get("X-Request-Id"), arrived: arrived}
		h.handouts = append(h.handouts, x)
		k := handoutRef{consumer, d.AckID}
		h.outOf[k] = append(h.outOf[k], x)
	}
}

// assign finds the hand-out that a program's delivery came from. On the 2024 server one id serves many of them: it is the
// latest, because the worker gets none while it, or somebody else, holds the message.
func (h *history) assign(d *handed) {
	var from *handout
	for _, x := range h.outOf[handoutRef{d.consumer, d.AckID}] {
		if x.worker == d.worker && x.Seq == d.Seq && x.arrived && !x.at.After(d.at) {
			from = x
		}
	}
	if from != nil {
		from.handed = d
	}
}

// leaving is when a request left its client.
func (h *history) leaving(r sequintest.Request) time.Time {
	if c := h.byID[r.Header.Get("X-Request-Id")]; c != nil {
		return c.began
	}
	return r.At
}

// workerPlan finds the plan of a worker, which is named w<i>; those of the end have none.
func (h *history) workerPlan(name string) workerPlan {
	var i int
	if _, err := fmt.Sscanf(name, "w%d", &i); err != nil {
		return workerPlan{}
	}
	return h.s.Workers[i]
}

// holding returns the latest hand-out of an ack id before t, nil when there is none.
func (h *history) holding(consumer, ackID string, t time.Time) (last *handout) {
	for _, x := range h.outOf[handoutRef{consumer, ackID}] {
		if !x.at.After(t) {
			last = x
		}
	}
	return last
}

// succeeded reports whether the server behind the faults said so.
func succeeded(answer []byte) bool {
	var said struct {
		Data    *struct{ Published *int }
		Success bool
	}
	return json.Unmarshal(answer, &said) == nil && (said.Success || said.Data != nil && said.Data.Published != nil)
}

// element returns the i-th element of a path.
func element(path string, i int) string {
	path, _, _ = strings.Cut(path, "?")
	if elements := strings.Split(path, "/"); i < len(elements) {
		return elements[i]
	}
	return ""
}

// matches is the filter, written once more: token by token, as the reference says.
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
	return h.s.Mode == server.Documented && !h.s.Stream.OneMessagePerKey
}
