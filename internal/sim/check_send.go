package sim

import (
	"fmt"
	"slices"

	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// oneOutcome requires that an accepted message has at most one outcome, and that a message that was not accepted has none.
func oneOutcome(h *history) (found []violation) {
	for _, m := range h.rec.messages {
		reports := reportsOf(m)
		switch {
		case m.doubtful && len(m.outcomes) == 0, !m.accepted && len(m.outcomes) == 0:
		case !m.accepted && !m.doubtful:
			found = append(found, violationOf("", m.key, "%s was not accepted by %s and has outcomes: %v", m.id, m.publisher, m.outcomes))
		case reports > 1:
			found = append(found, violationOf("", m.key, "%s of %s has several outcomes: %v", m.id, m.publisher, m.outcomes))
		}
	}
	return found
}

// reportsOf counts the reports of a message. A receipt's report that it is unsent does not count, because Close reports
// that too.
func reportsOf(m *message) (n int) {
	for _, o := range m.outcomes {
		if o.by != "Receipt" || o.kind != unsent {
			n++
		}
	}
	return n
}

// outcomeOf returns the reported outcome of an accepted message. A message without a report counts as sent.
func outcomeOf(m *message) outcomeKind {
	for _, f := range m.outcomes {
		if f.kind != sent {
			return f.kind
		}
	}
	return sent
}

// sentIsStored requires that each accepted message was stored, unless another outcome was reported.
func sentIsStored(h *history) (found []violation) {
	stored := map[sentRef]bool{}
	for _, s := range h.stored {
		for _, m := range s.messages {
			stored[sentRef{s.publisher, idOf(m.Data)}] = true
		}
	}
	for _, m := range h.rec.messages {
		if m.accepted && outcomeOf(m) == sent && !stored[sentRef{m.publisher, m.id}] {
			found = append(found, violationOf("", m.key, "%s was accepted by %s and never stored, and no failure was reported", m.id, m.publisher))
		}
	}
	return found
}

// refusedIsNotSent requires that each stored message was accepted, or that its acceptance is in doubt.
func refusedIsNotSent(h *history) (found []violation) {
	for _, s := range h.stored {
		for _, m := range s.messages {
			x := h.bySent[sentRef{s.publisher, idOf(m.Data)}]
			if x == nil || !x.accepted && !x.doubtful {
				found = append(found, violationOf("", m.Key, "%s sent %s, which it had not accepted", s.publisher, m.Data))
			}
		}
	}
	return found
}

// totalsAddUp compares the Stats of each Publisher with the messages that it accepted.
func totalsAddUp(h *history) (found []violation) {
	for _, t := range h.rec.totals {
		var accepted, doubtful, left uint64
		for _, m := range h.rec.messages {
			if m.publisher != t.publisher {
				continue
			}
			if m.doubtful {
				doubtful++
			}
			if m.accepted {
				accepted++
			}
			if outcomeOf(m) == unsent {
				left++
			}
		}
		s := t.stats
		if s.Accepted != s.Sent+s.Failed+left || s.Buffered != int(left) && s.Buffered != 0 {
			found = append(found, violationOf("", "", "%s: accepted %d, but sent %d, failed %d, unsent %d", t.publisher, s.Accepted, s.Sent, s.Failed, left))
		}
		if s.Accepted < accepted || s.Accepted > accepted+doubtful {
			found = append(found, violationOf("", "", "%s reports %d accepted messages, but accepted %d (%d in doubt)", t.publisher, s.Accepted, accepted, doubtful))
		}
	}
	return found
}

// storedIsKept requires that a sent message is in the stream at the end, once, or that a newer one of its key is, unless it
// was purged.
func storedIsKept(h *history) (found []violation) {
	if h.rec.s.Stream.RetainUpTo > 0 {
		return nil
	}
	copies, keys := map[string]int{}, map[string]bool{}
	for _, m := range h.rec.final.Messages {
		copies[idOf(m.Data)]++
		keys[m.Key] = true
	}
	for _, m := range h.rec.messages {
		if !m.accepted || outcomeOf(m) != sent || h.mayBePurged(m) {
			continue
		}
		switch {
		case !h.appends() && !keys[m.key]:
			found = append(found, violationOf("", m.key, "%s was sent, and its key is not in the stream", m.id))
		case h.appends() && copies[m.id] == 0:
			found = append(found, violationOf("", m.key, "%s was sent, and is not in the stream", m.id))
		case h.appends() && copies[m.id] > 1+h.resends(m.id) && h.rec.s.has(parts):
			found = append(found, violationOf("", m.key, "%s is in the stream %d times, though the server supports Idempotency-Key and Sequin-Part-Of", m.id, copies[m.id]))
		}
	}
	return found
}

// resends returns how often a program sent a message again that Close had reported as unsent.
func (h *history) resends(id string) (n int) {
	for _, m := range h.rec.messages {
		if m.id == id && m.resent {
			n++
		}
	}
	return n
}

// storedInOrder requires that no send stores an older version of a key after a newer one. A batch that may have been stored
// is cut anew after some failures. Its parts may then store messages again, which storedOnce forbids where the server can
// prevent it; but not after a newer version for which the Publisher had got a success.
func storedInOrder(h *history) (found []violation) {
	type line struct{ publisher, key string }
	newest, confirmed, seen := map[line]*message{}, map[line]*message{}, map[*message]bool{}
	for _, s := range h.stored {
		for _, m := range s.messages {
			x := h.bySent[sentRef{s.publisher, idOf(m.Data)}]
			if x == nil {
				continue // refusedIsNotSent reports unknown messages
			}
			at := line{s.publisher, m.Key}
			old := newest[at]
			if seen[x] {
				old = confirmed[at]
			}
			seen[x] = true
			switch {
			case old != nil && old.n > x.n:
				found = append(found, violationOf("", m.Key, "%s stored %s after %s", s.publisher, x.id, old.id).when(s.at))
			case newest[at] == nil || newest[at].n < x.n:
				newest[at] = x
			}
			if s.confirmed && (confirmed[at] == nil || confirmed[at].n < x.n) {
				confirmed[at] = x
			}
		}
	}
	return found
}

// batchesWithinLimits requires that a batch has at most MaxBatch messages, and on the 2024 server no key twice.
func batchesWithinLimits(h *history) (found []violation) {
	for _, s := range h.stored {
		keys := map[string]bool{}
		for _, m := range s.messages {
			if keys[m.Key] && h.rec.s.Mode == server.Aug2024 {
				found = append(found, violationOf("", m.Key, "%s sent key %s twice in one batch to the 2024 server", s.publisher, m.Key))
			}
			keys[m.Key] = true
		}
		if most := h.publisherPlan(s.publisher).Config.MaxBatch; len(s.messages) > most {
			found = append(found, violationOf("", "", "%s sent %d messages in a batch, MaxBatch is %d", s.publisher, len(s.messages), most))
		}
	}
	return found
}

// publisherPlan returns the plan of an incarnation, which is named p<i>.<number>.
func (h *history) publisherPlan(name string) publisherPlan {
	var i, number int
	if _, err := fmt.Sscanf(name, "p%d.%d", &i, &number); err != nil {
		return publisherPlan{}
	}
	return h.rec.s.Publishers[i]
}

// bufferedBounded counts the accepted messages for which the client has no final answer yet. That is a lower bound of what
// the Publisher buffers.
func bufferedBounded(h *history) (found []violation) {
	type change struct {
		order int64 // twice the time, plus one for an acceptance: endings at the same time come first
		add   int
	}
	for _, t := range h.rec.totals {
		plan := h.publisherPlan(t.publisher)
		ended := h.endings(t.publisher)
		var changes []change
		for _, m := range h.rec.messages {
			if m.publisher != t.publisher || !m.accepted {
				continue
			}
			changes = append(changes, change{2*m.took.UnixNano() + 1, 1})
			if at, ok := ended[m.id]; ok {
				changes = append(changes, change{2 * max(at, m.took.UnixNano()), -1})
			}
		}
		slices.SortStableFunc(changes, func(a, b change) int { return int(min(1, max(-1, a.order-b.order))) })
		level := 0
		for _, c := range changes {
			if level += c.add; level > plan.Config.MaxBuffered {
				found = append(found, violationOf("", "", "%s held %d messages, MaxBuffered is %d", t.publisher, level, plan.Config.MaxBuffered))
				break
			}
		}
	}
	return found
}

// endings returns when the Publisher got the first success for each of its messages, and for a message that failed the time
// of its acceptance: what ends such a message may be that no answer came.
func (h *history) endings(publisher string) map[string]int64 {
	ended := map[string]int64{}
	for _, m := range h.rec.messages {
		if m.publisher == publisher && outcomeOf(m) == failed {
			ended[m.id] = m.took.UnixNano()
		}
	}
	h.eachSend(func(ref sentRef, c *call, _ sequintest.Message) {
		if at, ok := ended[ref.id]; ref.publisher == publisher && c.succeeded() && (!ok || c.ended.UnixNano() < at) {
			ended[ref.id] = c.ended.UnixNano()
		}
	})
	return ended
}
