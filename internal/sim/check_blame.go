package sim

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// slack is more than the taps' latency, which lies between what the client sees and what the record says.
const slack = 10 * time.Millisecond

// onlyGuiltyFail requires that a failed message is a poison message, or was in a batch for which Sequin itself refused the
// stream, or that for RetryFor nothing of its Publisher got through, or that it has headers and the server has none.
func onlyGuiltyFail(h *history) (found []violation) {
	refused := slices.ContainsFunc(h.rec.s.Faults, func(f faultPlan) bool { return f.Kind >= poison400 })
	through := map[string][]time.Time{}
	for _, m := range h.rec.messages {
		for _, o := range m.outcomes {
			if o.kind != failed || refused && strings.Contains(m.data, poison) || refusesStream(o.err) || h.lacksHeaders(m, o.err) {
				continue
			}
			if through[m.publisher] == nil {
				through[m.publisher] = h.successes(m.publisher)
			}
			retryFor := h.publisherPlan(m.publisher).Config.RetryFor
			if retryFor == 0 || longestGap(through[m.publisher], m.at, o.at) < retryFor-slack {
				found = append(found, violationOf("", m.key, "%s of %s was failed, reported by %s: %v", m.id, m.publisher, o.by, o.err).when(o.at))
			}
		}
	}
	return found
}

// refusesStream reports whether an error is Sequin's own refusal of a stream, and not of messages.
func refusesStream(err error) bool {
	var answer *sequin.APIError
	return errors.As(err, &answer) && !answer.Foreign && (errors.Is(err, sequin.ErrUnauthorized) || errors.Is(err, sequin.ErrNotFound))
}

// successes returns when a Publisher got a success for messages, in order. The list is not nil.
func (h *history) successes(publisher string) []time.Time {
	at := []time.Time{}
	for _, c := range h.rec.calls {
		if c.actor == publisher && c.kind == sendCall && c.succeeded() && !strings.Contains(string(c.answer), `"published":0`) {
			at = append(at, c.ended)
		}
	}
	slices.SortFunc(at, time.Time.Compare)
	return at
}

// longestGap returns the longest time between from and to without one of the times.
func longestGap(times []time.Time, from, to time.Time) (longest time.Duration) {
	begin := from
	for _, t := range times {
		if t.After(begin) && t.Before(to) {
			longest, begin = max(longest, t.Sub(begin)), t
		}
	}
	return max(longest, to.Sub(begin))
}

// sentInTheEnd requires that a publisher's last Close, which waits for long after the faults, leaves nothing unsent.
func sentInTheEnd(h *history) (found []violation) {
	last := map[string]time.Time{}
	for _, s := range h.rec.stops {
		if s.last {
			last[s.actor] = s.at
		}
	}
	for _, m := range h.rec.messages {
		if at, ok := last[m.publisher]; ok && outcomeOf(m) == unsent {
			found = append(found, violationOf("", m.key, "%s was left unsent by %s at %v", m.id, m.publisher, at.Sub(h.rec.begin)).when(at))
		}
	}
	return found
}

// confirmedNotRepeated requires that a message is not sent again after its Publisher has got a success for it.
func confirmedNotRepeated(h *history) (found []violation) {
	confirmed := map[sentRef]time.Time{}
	h.eachSend(func(ref sentRef, c *call, _ sequintest.Message) {
		if old, ok := confirmed[ref]; c.succeeded() && (!ok || c.ended.Before(old)) {
			confirmed[ref] = c.ended
		}
	})
	h.eachSend(func(ref sentRef, c *call, m sequintest.Message) {
		if at, ok := confirmed[ref]; ok && c.began.After(at) {
			found = append(found, violationOf("", m.Key, "%s sent %s again at %v, and had a success for it at %v", ref.publisher, ref.id,
				c.began.Sub(h.rec.begin), at.Sub(h.rec.begin)).when(c.began))
		}
	})
	return found
}

// eachSend calls f for each message in each send that arrived at the server.
func (h *history) eachSend(f func(sentRef, *call, sequintest.Message)) {
	for _, r := range h.rec.requests {
		c := h.byID[r.Header.Get("X-Request-Id")]
		if c == nil || r.Op != sequintest.Send {
			continue
		}
		for _, m := range r.Messages() {
			f(sentRef{c.actor, idOf(m.Data)}, c, m)
		}
	}
}

// storedOnce requires, where the server knows parts of sends, that all sends of a message but the first are repeats or parts
// of one that was stored.
func storedOnce(h *history) (found []violation) {
	if !h.rec.s.has(parts) {
		return nil
	}
	times := map[sentRef]int{}
	for _, s := range h.stored {
		for _, m := range s.messages {
			ref := sentRef{s.publisher, idOf(m.Data)}
			if times[ref]++; times[ref] == 2 {
				found = append(found, violationOf("", m.Key, "%s stored %s twice, though the server supports Sequin-Part-Of", s.publisher, ref.id).when(s.at))
			}
		}
	}
	return found
}

// refusedFor is how long Sequin's own answers must refuse every receive before a Subscriber ends.
const refusedFor = 30 * time.Second

// endsForAReason requires a reason for each Subscriber that ended by itself.
func endsForAReason(h *history) (found []violation) {
	for _, end := range h.rec.stops {
		if end.ended != nil && !h.mayEnd(end) {
			found = append(found, violationOf("", "", "the Subscriber of %s ended before %v: %v", end.actor, end.at.Sub(h.rec.begin), end.ended))
		}
	}
	return found
}

// mayEnd reports whether Sequin's own answers allow that a Subscriber ends: a 401 or 403 to every receive for 30 s, or a 404
// to a receive or to a read of the consumer that another read has confirmed.
func (h *history) mayEnd(end stop) bool {
	var calls []*call
	for _, c := range h.rec.calls {
		if c.actor == end.actor && c.status != 0 && (c.kind == receiveCall || c.kind == otherCall) {
			calls = append(calls, c)
		}
	}
	slices.SortFunc(calls, func(a, b *call) int { return a.order - b.order })
	if h.rec.s.Sinks && errors.Is(end.ended, sequin.ErrNotFound) {
		return mayEndSink(calls)
	}
	var since time.Time // the first 401 or 403 of those to the latest receives in a row; zero if the latest got another answer
	var lost bool       // the latest receive, or the latest read, got a 404
	for _, c := range calls {
		switch {
		case c.kind == otherCall:
			if lost && errors.Is(end.ended, sequin.ErrNotFound) && c.refused(http.StatusNotFound) {
				return true
			}
			lost = lost || c.refused(http.StatusNotFound)
		case !c.refused(http.StatusUnauthorized, http.StatusForbidden):
			since, lost = time.Time{}, c.refused(http.StatusNotFound)
		case since.IsZero():
			since, lost = c.ended, false
		case errors.Is(end.ended, sequin.ErrUnauthorized) && c.ended.Sub(since) >= refusedFor-slack:
			return true
		}
	}
	return false
}

// leavingIsTold requires that Close does not return nil when a delivery was left unsettled.
func leavingIsTold(h *history) (found []violation) {
	for _, end := range h.rec.stops {
		if end.err != nil || end.ended != nil || end.how == killed {
			continue
		}
		for _, d := range h.rec.received {
			settled := slices.ContainsFunc(d.settles, func(s settle) bool {
				x := h.leaseOf[d]
				return s.at.Before(d.Deadline) || x != nil && s.at.Before(x.settleableUntil(s.at))
			})
			if d.worker == end.actor && d.Deadline.After(end.asked.Add(slack)) && !settled {
				found = append(found, violationOf(d.consumer, d.Key, "%s left %s (seq %d) to the end of its lease, was asked to stop at %v, and Close returned nil",
					d.worker, idOf(d.Data), d.Seq, end.asked.Sub(h.rec.begin)).when(end.at))
			}
		}
	}
	return found
}

// attemptsCounted requires that the count of each delivery is that of the earlier leases of the message that were not returned
// undelivered, and one. The server may have returned a lease itself whose answer it could not write. A store that crashes may
// lose a lease or a nack.
func attemptsCounted(h *history) (found []violation) {
	if h.rec.s.Store != nil {
		return nil
	}
	type counts struct{ least, most int }
	before := map[consumerMessage]counts{}
	for _, x := range h.leases {
		at := consumerMessage{x.consumer, x.Seq}
		c := before[at]
		if d := x.received; d != nil && h.rec.s.has(attempts) && (d.Attempt < c.least+1 || d.Attempt > c.most+1) || d != nil && !h.rec.s.Sinks && !h.rec.s.has(attempts) && d.Attempt != 0 {
			found = append(found, violationOf(x.consumer, x.Key, "%s received %s (seq %d) as delivery %d, after %d to %d that count",
				x.worker, x.Key, x.Seq, d.Attempt, c.least, c.most).when(d.at))
		}
		switch {
		case x.returned:
		case x.arrived:
			before[at] = counts{c.least + 1, c.most + 1}
		default:
			before[at] = counts{c.least, c.most + 1}
		}
	}
	return found
}
