package sim

import (
	"fmt"
	"slices"

	"github.com/sequin-go/sequin/server"
)

func oneFate(h *history) (found []violation) {
	for _, m := range h.messages {
		told := h.told(m)
		switch {
		case m.doubtful && len(m.fates) == 0, !m.accepted && len(m.fates) == 0:
		case !m.accepted && !m.doubtful:
			found = append(found, h.violation("", m.key, "%s was not accepted by %s and is told %v", m.id, m.publisher, m.fates))
		case told > 1:
			found = append(found, h.violation("", m.key, "%s of %s has several fates: %v", m.id, m.publisher, m.fates))
		}
	}
	return found
}

// told counts the reports of a message. That it was left is told twice to whoever has a receipt: by it, and by Close.
func (h *history) told(m *message) (n int) {
	seen := map[string]int{}
	for _, f := range m.fates {
		if seen[f.by]++; f.by != "Receipt" || f.kind != unsent {
			n++
		}
	}
	return n
}

// fateOf is what became of an accepted message, as far as anybody was told: what nobody speaks of has been sent.
func fateOf(m *message) fateKind {
	for _, f := range m.fates {
		if f.kind != sent {
			return f.kind
		}
	}
	return sent
}

func sentIsStored(h *history) (found []violation) {
	stored := map[ref]bool{}
	for _, s := range h.stored {
		for _, m := range s.messages {
			stored[ref{s.publisher, idOf(m.Data)}] = true
		}
	}
	for _, m := range h.messages {
		if m.accepted && fateOf(m) == sent && !stored[ref{m.publisher, m.id}] {
			found = append(found, h.violation("", m.key, "%s was accepted by %s and never stored, and nobody was told", m.id, m.publisher))
		}
	}
	return found
}

func refusedIsNotSent(h *history) (found []violation) {
	for _, s := range h.stored {
		for _, m := range s.messages {
			x := h.byRef[ref{s.publisher, idOf(m.Data)}]
			if x == nil || !x.accepted && !x.doubtful {
				found = append(found, h.violation("", m.Key, "%s sent %s, which it had not accepted", s.publisher, m.Data))
			}
		}
	}
	return found
}

func totalsAddUp(h *history) (found []violation) {
	for _, t := range h.totals {
		var accepted, doubtful, left uint64
		for _, m := range h.messages {
			if m.publisher != t.publisher {
				continue
			}
			if m.doubtful {
				doubtful++
			}
			if m.accepted {
				accepted++
			}
			if fateOf(m) == unsent {
				left++
			}
		}
		s := t.stats
		if s.Accepted != s.Sent+s.Failed+left || s.Buffered != int(left) && s.Buffered != 0 {
			found = append(found, h.violation("", "", "%s: accepted %d, but sent %d, failed %d, unsent %d", t.publisher, s.Accepted, s.Sent, s.Failed, left))
		}
		if s.Accepted < accepted || s.Accepted > accepted+doubtful {
			found = append(found, h.violation("", "", "%s says that it accepted %d, and did %d (%d in doubt)", t.publisher, s.Accepted, accepted, doubtful))
		}
	}
	return found
}

func storedIsKept(h *history) (found []violation) {
	if h.s.Stream.RetainUpTo > 0 {
		return nil
	}
	copies, keys := map[string]int{}, map[string]bool{}
	for _, m := range h.final.Messages {
		copies[idOf(m.Data)]++
		keys[m.Key] = true
	}
	for _, m := range h.messages {
		if !m.accepted || fateOf(m) != sent {
			continue
		}
		switch {
		case !h.appends() && !keys[m.key]:
			found = append(found, h.violation("", m.key, "%s was sent, and its key is not in the stream", m.id))
		case h.appends() && copies[m.id] == 0:
			found = append(found, h.violation("", m.key, "%s was sent, and is not in the stream", m.id))
		case h.appends() && copies[m.id] > 1+h.resends(m.id) && !h.crashesActed():
			found = append(found, h.violation("", m.key, "%s stands %d times in the stream of a server that knows Idempotency-Key", m.id, copies[m.id]))
		}
	}
	return found
}

// resends is how often a program sent a message again that Close had left.
func (h *history) resends(id string) (n int) {
	for _, m := range h.messages {
		if m.id == id && m.resent {
			n++
		}
	}
	return n
}

// crashesActed reports whether the server has given bare 500s to what it had carried out. A Publisher that meets five in
// a row suspects the batch and sends its parts, which are no repeats that the server could know.
func (h *history) crashesActed() bool {
	return slices.ContainsFunc(h.s.Faults, func(f faultPlan) bool { return f.Kind == crashed })
}

// storedInOrder looks at what each send changed. A repeat of the same version is none; one that goes back is, but for the
// parts of a batch that had been carried out: of those the first storing counts.
func storedInOrder(h *history) (found []violation) {
	type line struct{ publisher, key string }
	newest, before := map[line]*message{}, map[*message]bool{}
	for _, s := range h.stored {
		for _, m := range s.messages {
			x := h.byRef[ref{s.publisher, idOf(m.Data)}]
			if x == nil || before[x] && h.crashesActed() {
				continue // what nobody knows refusedIsNotSent tells
			}
			before[x] = true
			at := line{s.publisher, m.Key}
			if old := newest[at]; old != nil && old.n > x.n {
				found = append(found, h.violation("", m.Key, "%s stored %s after %s", s.publisher, x.id, old.id).when(s.at))
			}
			newest[at] = x
		}
	}
	return found
}

func batchesWithinLimits(h *history) (found []violation) {
	for _, s := range h.stored {
		keys := map[string]bool{}
		for _, m := range s.messages {
			if keys[m.Key] && h.s.Mode == server.Aug2024 {
				found = append(found, h.violation("", m.Key, "%s sent key %s twice in one batch to the 2024 server", s.publisher, m.Key))
			}
			keys[m.Key] = true
		}
		if most := h.publisherPlan(s.publisher).Config.MaxBatch; len(s.messages) > most {
			found = append(found, h.violation("", "", "%s sent %d messages at once, MaxBatch is %d", s.publisher, len(s.messages), most))
		}
	}
	return found
}

// publisherPlan finds the plan of an incarnation, which is named p<i>.<life>.
func (h *history) publisherPlan(name string) publisherPlan {
	var i, life int
	if _, err := fmt.Sscanf(name, "p%d.%d", &i, &life); err != nil {
		return publisherPlan{}
	}
	return h.s.Publishers[i]
}

// bufferedBounded counts what was accepted and has not ended, by what its client has learnt: a lower bound of what the
// Publisher holds.
func bufferedBounded(h *history) (found []violation) {
	type event struct {
		order int64 // time, and within a moment the endings first
		add   int
	}
	for _, t := range h.totals {
		plan := h.publisherPlan(t.publisher)
		if plan.Config.RetryFor > 0 {
			continue // which answer was the last one is the Publisher's to know
		}
		ended := h.endings(t.publisher)
		var events []event
		for _, m := range h.messages {
			if m.publisher != t.publisher || !m.accepted {
				continue
			}
			events = append(events, event{2*m.took.UnixNano() + 1, 1})
			if at, ok := ended[m.id]; ok {
				events = append(events, event{2 * max(at, m.took.UnixNano()), -1})
			}
		}
		slices.SortStableFunc(events, func(a, b event) int { return int(min(1, max(-1, a.order-b.order))) })
		level := 0
		for _, e := range events {
			if level += e.add; level > plan.Config.MaxBuffered {
				found = append(found, h.violation("", "", "%s held %d messages, MaxBuffered is %d", t.publisher, level, plan.Config.MaxBuffered))
				break
			}
		}
	}
	return found
}

// endings is when each message of a Publisher was answered in a way that may have ended it.
func (h *history) endings(publisher string) map[string]int64 {
	ended := map[string]int64{}
	for _, r := range h.requests {
		c := h.byID[r.Header.Get("X-Request-Id")]
		if r.Header.Get("User-Agent") != publisher || c == nil || !c.endsSend() {
			continue
		}
		for _, m := range r.Messages() {
			if id := idOf(m.Data); ended[id] == 0 {
				ended[id] = c.ended.UnixNano()
			}
		}
	}
	return ended
}

// endsSend reports whether an answer ends a message: success, or a refusal.
func (c *call) endsSend() bool {
	return c.whole && (c.status == 200 || c.status/100 == 4 && c.status != 408 && c.status != 429 && c.status != 409 || c.status == 500)
}
