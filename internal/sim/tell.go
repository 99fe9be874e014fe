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

// lastEvents is how much is told of an affected message.
const lastEvents = 40

// tell lists the last things that happened to the key of a violation before it, for whoever has to find out why.
func tell(l *ledger, v violation) string {
	h, key, consumer := newHistory(l), v.key, v.consumer
	type event struct {
		at   time.Time
		text string
	}
	var events []event
	add := func(at time.Time, format string, args ...any) {
		events = append(events, event{at, fmt.Sprintf(format, args...)})
	}
	for _, m := range h.messages {
		if m.key == key {
			add(m.at, "%s is asked to send %s", m.publisher, m.id)
			add(m.took, "%s has taken %s: %v, in doubt %v", m.publisher, m.id, m.accepted, m.doubtful)
			for _, f := range m.fates {
				add(m.took, "  later told by %s: %v %v", f.by, f.kind, f.err)
			}
		}
	}
	for _, s := range h.stored {
		for _, m := range s.messages {
			if m.Key == key {
				add(s.at, "the server stores %s of %s", idOf(m.Data), s.publisher)
			}
		}
	}
	ours := func(name string) bool { return consumer == "" || consumer == name }
	for _, x := range h.handouts {
		if x.Key == key && ours(x.consumer) {
			add(x.at, "%s: the server hands %s (seq %d, ack id %.8s) to %s until %v, asked at %v, arrived %v", x.consumer, idOf(x.Data), x.Seq, x.AckID,
				x.worker, x.until.Sub(h.begin), x.sent.Sub(h.begin), x.arrived)
		}
	}
	for _, d := range h.handed {
		if d.Key == key && ours(d.consumer) {
			add(d.at, "%s: %s gets %s (seq %d), deadline %v", d.consumer, d.worker, idOf(d.Data), d.Seq, d.Deadline.Sub(h.begin))
			for _, s := range d.settles {
				add(s.at, "%s: %s settles seq %d, %s: %v; told later: %v", d.consumer, d.worker, d.Seq, kindName(s.kind), s.err, d.told)
			}
		}
	}
	for _, s := range h.settles {
		for _, id := range s.ids {
			if h.keyOfAck(s.consumer, id) == key && ours(s.consumer) {
				add(s.at, "%s: a request of %s to %s %.8s arrives, carried out %v, undelivered %v", s.consumer, s.worker, kindName(s.kind), id, s.acted, s.undelivered)
			}
		}
	}
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.at.UnixNano(), b.at.UnixNano()) })
	if !v.at.IsZero() {
		events = slices.DeleteFunc(events, func(e event) bool { return e.at.After(v.at) })
	}
	var b strings.Builder
	for _, e := range events[max(0, len(events)-lastEvents):] {
		fmt.Fprintf(&b, "  %12v %s\n", e.at.Sub(h.begin), e.text)
	}
	return b.String()
}

func kindName(k sequin.SettlementKind) string {
	if k == sequin.Ack {
		return sequintest.Ack.String()
	}
	return sequintest.Nack.String()
}
