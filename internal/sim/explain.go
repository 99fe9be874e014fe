package sim

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// lastEvents is how many events of a message are printed.
const lastEvents = 40

// explain lists the last events of a violation's key up to the violation.
func explain(rec *recorder, v violation) string {
	h := newHistory(rec)
	var all timeline
	h.sendEvents(&all, v.key)
	h.deliveryEvents(&all, v.key, func(consumer string) bool { return v.consumer == "" || v.consumer == consumer })
	slices.SortStableFunc(all.events, func(a, b event) int { return cmp.Compare(a.at.UnixNano(), b.at.UnixNano()) })
	if !v.at.IsZero() {
		all.events = slices.DeleteFunc(all.events, func(e event) bool { return e.at.After(v.at) })
	}
	var b strings.Builder
	for _, e := range all.events[max(0, len(all.events)-lastEvents):] {
		fmt.Fprintf(&b, "  %12v %s\n", e.at.Sub(rec.begin), e.text)
	}
	return b.String()
}

type event struct {
	at   time.Time
	text string
}

type timeline struct{ events []event }

func (t *timeline) add(at time.Time, format string, args ...any) {
	t.events = append(t.events, event{at, fmt.Sprintf(format, args...)})
}

// sendEvents adds how the messages of a key were sent and stored.
func (h *history) sendEvents(all *timeline, key string) {
	for _, m := range h.rec.messages {
		if m.key != key {
			continue
		}
		all.add(m.at, "%s is asked to send %s", m.publisher, m.id)
		all.add(m.took, "%s has returned for %s: accepted %v, in doubt %v", m.publisher, m.id, m.accepted, m.doubtful)
		for _, o := range m.outcomes {
			all.add(m.took, "  reported later by %s: %v %v", o.by, o.kind, o.err)
		}
	}
	for _, p := range h.purges {
		if p.covers(key) {
			all.add(p.at, "the server purges what is below seq %d", p.before)
		}
	}
	for _, s := range h.stored {
		for _, m := range s.messages {
			if m.Key == key {
				all.add(s.at, "the server stores %s of %s", idOf(m.Data), s.publisher)
			}
		}
	}
}

// deliveryEvents adds how the messages of a key were delivered, received and settled, for the consumers concerned.
func (h *history) deliveryEvents(all *timeline, key string, concerns func(consumer string) bool) {
	begin := h.rec.begin
	for _, x := range h.leases {
		if x.Key == key && concerns(x.consumer) {
			all.add(x.at, "%s: the server delivers %s (seq %d, ack id %.8s) to %s until %v, requested at %v, arrived %v", x.consumer, idOf(x.Data), x.Seq,
				x.AckID, x.worker, x.until.Sub(begin), x.requested.Sub(begin), x.arrived)
		}
	}
	for _, d := range h.rec.received {
		if d.Key == key && concerns(d.consumer) {
			all.add(d.at, "%s: %s receives %s (seq %d), deadline %v", d.consumer, d.worker, idOf(d.Data), d.Seq, d.Deadline.Sub(begin))
			for _, s := range d.settles {
				all.add(s.at, "%s: %s settles seq %d, %s: %v; reported later: %v", d.consumer, d.worker, d.Seq, kindName(s.kind), s.err, d.ackError)
			}
		}
	}
	for _, s := range h.settles {
		for _, id := range s.ids {
			if h.keyOfAck(s.consumer, id) == key && concerns(s.consumer) {
				all.add(s.at, "%s: a request of %s to %s %.8s arrives, carried out %v, undelivered %v", s.consumer, s.worker, kindName(s.kind), id, s.acted, s.undelivered)
			}
		}
	}
}

func kindName(k sequin.SettlementKind) string {
	if k == sequin.Ack {
		return sequintest.Ack.String()
	}
	return sequintest.Nack.String()
}
