package sim

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/sequin-go/sequin"
)

func deliveredToAll(h *history) (found []violation) {
	handedOut := map[handedRef]int{}
	for _, x := range h.handouts {
		handedOut[handedRef{x.consumer, x.Seq}]++
	}
	for name, plan := range h.consumers {
		for _, m := range h.final.Messages {
			at := handedRef{name, m.Seq}
			if !matches(plan.Filter, m.Key) || plan.MaxDeliver > 0 && handedOut[at] >= plan.MaxDeliver {
				continue
			}
			acks := 0
			for _, d := range h.isHanded[at] {
				for _, s := range d.settles {
					if s.kind == sequin.Ack && (s.err == nil || errors.Is(s.err, sequin.ErrOutcomeUnknown)) {
						acks++
					}
				}
			}
			if acks == 0 {
				found = append(found, h.violation(name, m.Key, "%s (seq %d) was handed out %d times to %s, %d times to a program, and no program acked it",
					idOf(m.Data), m.Seq, handedOut[at], name, len(h.isHanded[at])))
			}
		}
	}
	return found
}

// ackedStaysAcked trusts an ack from its call on when the worker lived to be told that it failed, and was not.
func ackedStaysAcked(h *history) (found []violation) {
	for _, d := range h.handed {
		end, stopped := h.stopOf[d.worker]
		for _, s := range d.settles {
			if s.kind != sequin.Ack || s.err != nil || !s.sync && (d.told != nil || h.vanished[d.worker] || !stopped || end.err != nil) {
				continue
			}
			for _, x := range h.handouts {
				if x.consumer == d.consumer && x.Seq == d.Seq && x.at.After(s.at) {
					found = append(found, h.violation(d.consumer, d.Key, "%s (seq %d) was acked by %s at %v and handed out to %s at %v",
						idOf(d.Data), d.Seq, d.worker, s.at.Sub(h.begin), x.worker, x.at.Sub(h.begin)).when(x.at))
				}
			}
		}
	}
	return found
}

func intact(h *history) (found []violation) {
	sent := map[string]*message{}
	for _, m := range h.messages {
		sent[m.id] = m
	}
	for _, d := range h.handed {
		m := sent[idOf(d.Data)]
		if m == nil || m.key != d.Key || m.data != d.Data || !matches(h.consumers[d.consumer].Filter, d.Key) {
			found = append(found, h.violation(d.consumer, d.Key, "%s got %s=%s", d.worker, d.Key, d.Data))
		}
	}
	return found
}

func handedInTime(h *history) (found []violation) {
	covered := map[*handed]bool{}
	for _, x := range h.handouts {
		if d := x.handed; d != nil && d.Deadline.After(x.sent) && d.Deadline.Before(x.until) {
			covered[d] = true
		}
	}
	for _, d := range h.handed {
		switch {
		case !d.at.Before(d.Deadline):
			found = append(found, h.violation(d.consumer, d.Key, "%s got %s at %v, its deadline was %v", d.worker, idOf(d.Data), d.at.Sub(h.begin), d.Deadline.Sub(h.begin)).when(d.at))
		case !covered[d]:
			found = append(found, h.violation(d.consumer, d.Key, "%s got %s at %v with a deadline of %v, and no hand-out of the server covers that",
				d.worker, idOf(d.Data), d.at.Sub(h.begin), d.Deadline.Sub(h.begin)).when(d.at))
		}
	}
	return found
}

// settledInTime asks of each id in each settle request for what justifies it at that moment.
func settledInTime(h *history) (found []violation) {
	for _, s := range h.settles {
		for _, id := range s.ids {
			if !h.justified(s, id) {
				found = append(found, h.violation(s.consumer, h.keyOfAck(s.consumer, id), "%s sent a settle of %s at %v without a reason",
					s.worker, id, s.at.Sub(h.begin)).when(s.at))
			}
		}
	}
	return found
}

func (h *history) justified(s *settling, id string) bool {
	for _, x := range h.outOf[handoutRef{s.consumer, id}] {
		switch {
		case x.worker != s.worker || x.at.After(s.at):
		case s.undelivered:
			if s.kind == sequin.Nack && x.handed == nil && s.left.Before(x.until) {
				return true
			}
		case x.handed != nil && s.left.Before(x.handed.Deadline):
			for _, asked := range x.handed.settles {
				if asked.kind == s.kind && !asked.at.After(s.left) && (asked.err == nil || asked.sync || asked.err == errPending) {
					return true
				}
			}
		}
	}
	return false
}

func (h *history) keyOfAck(consumer, id string) string {
	if out := h.outOf[handoutRef{consumer, id}]; len(out) > 0 {
		return out[0].Key
	}
	return ""
}

// settledOnce allows a repeat only where the package comment does: of acks on a stream known to append.
func settledOnce(h *history) (found []violation) {
	type one struct {
		consumer, id string
		out          *handout
	}
	times := map[one]int{}
	for _, s := range h.settles {
		if !s.acted || s.kind == sequin.Ack && h.appends() {
			continue
		}
		for _, id := range s.ids {
			k := one{s.consumer, id, h.holding(s.consumer, id, s.at)}
			if times[k]++; times[k] == 2 {
				found = append(found, h.violation(s.consumer, h.keyOfAck(s.consumer, id), "%s settled %s twice, again at %v", s.worker, id, s.at.Sub(h.begin)).when(s.at))
			}
		}
	}
	return found
}

// nobodyElses looks whether, at the moment of a settle, somebody else was holding the message by the same id.
func nobodyElses(h *history) (found []violation) {
	for _, s := range h.settles {
		if !s.acted {
			continue
		}
		for _, id := range s.ids {
			for _, x := range h.outOf[handoutRef{s.consumer, id}] {
				free := !x.settledAt.IsZero() && x.settledAt.Before(s.actedAt)
				if x.worker != s.worker && x.at.Before(s.actedAt) && s.actedAt.Before(x.until) && !free {
					found = append(found, h.violation(s.consumer, x.Key, "%s settled %s (seq %d) at %v, which %s was holding since %v",
						s.worker, x.Key, x.Seq, s.actedAt.Sub(h.begin), x.worker, x.at.Sub(h.begin)).when(s.actedAt))
				}
			}
		}
	}
	return found
}

// handedInOrder compares moments: what two workers get at the same one has no order. Retention lets a version go on that
// an older one, still in somebody's buffer, would have held back.
func handedInOrder(h *history) (found []violation) {
	if h.s.Stream.RetainUpTo > 0 {
		return nil
	}
	type line struct{ consumer, key string }
	byKey := map[line][]*handed{}
	for _, d := range h.handed {
		k := line{d.consumer, d.Key}
		byKey[k] = append(byKey[k], d)
	}
	for k, all := range byKey {
		slices.SortStableFunc(all, func(a, b *handed) int { return a.at.Compare(b.at) })
		for i, d := range all[:max(0, len(all)-1)] {
			if next := all[i+1]; next.Seq < d.Seq && d.at.Before(next.at) {
				found = append(found, h.violation(k.consumer, k.key, "%s got seq %d of %s at %v, after %s had got seq %d at %v",
					next.worker, next.Seq, k.key, next.at.Sub(h.begin), d.worker, d.Seq, d.at.Sub(h.begin)).when(next.at))
			}
		}
	}
	return found
}

// inFlightBounded counts, at each answer, what the worker had got and neither seen the end of nor lost by its deadline: a
// lower bound of what the Subscriber holds.
func inFlightBounded(h *history) (found []violation) {
	byWorker := map[string][]*handout{}
	for _, x := range h.handouts {
		if x.arrived {
			byWorker[x.worker] = append(byWorker[x.worker], x)
		}
	}
	settledAt := h.settleEnds()
	for worker, all := range byWorker {
		most := h.workerPlan(worker).Config.MaxInFlight
		for _, now := range all {
			moment, level := h.arrivalOf(now), 0
			for _, x := range all {
				if h.arrivalOf(x).order <= moment.order && moment.ended.Before(h.deadlineOf(x)) && !endedBefore(settledAt[x], moment.order) {
					level++
				}
			}
			if most > 0 && level > most {
				found = append(found, h.violation(now.consumer, now.Key, "%s held %d deliveries at %v, MaxInFlight is %d", worker, level, moment.ended.Sub(h.begin), most).when(moment.ended))
				break
			}
		}
	}
	return found
}

func endedBefore(order, moment int) bool { return order > 0 && order < moment }

// settleEnds is when, in the order of endings, a worker saw the first settle of a hand-out end.
func (h *history) settleEnds() map[*handout]int {
	ends := map[*handout]int{}
	for _, r := range h.requests {
		c := h.byID[r.Header.Get("X-Request-Id")]
		if c == nil || c.kind != settleCall {
			continue
		}
		for _, id := range r.AckIDs() {
			if x := h.holding(h.names[element(r.Path, 5)], id, r.At); x != nil && (ends[x] == 0 || c.order < ends[x]) {
				ends[x] = c.order
			}
		}
	}
	return ends
}

func (h *history) arrivalOf(x *handout) *call { return h.byID[x.request] }

func (h *history) deadlineOf(x *handout) time.Time {
	if x.handed != nil {
		return x.handed.Deadline
	}
	return x.sent.Add(h.consumers[x.consumer].AckWait / 2) // the margin is at most half of it
}

// stopsGiveBack looks at what a worker had got when it stopped: what no program got must have been given back at once, or
// be that near its end already.
func stopsGiveBack(h *history) (found []violation) {
	for _, end := range h.stops {
		if end.how == vanish || h.anyTrouble(end) {
			continue
		}
		for _, x := range h.handouts {
			if x.worker == end.actor && x.arrived && x.handed == nil && x.settledAt.IsZero() && h.deadlineOf(x).After(end.at) {
				found = append(found, h.violation(x.consumer, x.Key, "%s stopped at %v and kept %s (seq %d), which no program had got",
					end.actor, end.at.Sub(h.begin), x.Key, x.Seq).when(end.at))
			}
		}
	}
	return found
}

// anyTrouble reports whether a settle failed during the stop, so that what the worker had could not be given back.
func (h *history) anyTrouble(end stop) bool {
	return slices.ContainsFunc(h.calls, func(c *call) bool {
		return c.actor == end.actor && c.kind == settleCall && c.status != 200 && !c.ended.Before(end.asked)
	})
}

func roomGivenBack(h *history) (found []violation) {
	for _, r := range h.rooms {
		if r.stats.InFlight != 0 {
			found = append(found, h.violation("", "", "%s says it holds %d deliveries when every lease is over", r.worker, r.stats.InFlight))
		}
	}
	return found
}

// While the server is away a part of a client backs off from 100 ms to 5 s: some ten requests on the way up, then one
// every 2.5 s at least. In a minute that makes 36 at most; settles go on for a lease, every half margin.
const (
	awayPerMinute = 40
	settlesAway   = 80
)

func rateBounded(h *history) (found []violation) {
	calls := slices.SortedFunc(slices.Values(h.calls), func(a, b *call) int { return cmp.Compare(a.began.UnixNano(), b.began.UnixNano()) })
	for _, gone := range h.absences {
		type part struct {
			actor string
			kind  callKind
		}
		made := map[part]int{}
		for _, c := range calls {
			// Calls of another kind are those of the run, which subscribes anew every second.
			if c.began.After(gone.from) && c.began.Before(gone.to) && c.kind != otherCall {
				made[part{c.actor, c.kind}]++
			}
		}
		minutes := int(gone.to.Sub(gone.from)/time.Minute) + 1
		for p, n := range made {
			most := minutes * awayPerMinute
			switch p.kind {
			case sendCall:
				most *= h.publisherPlan(p.actor).Config.Lanes
			case settleCall:
				most += settlesAway
			case receiveCall:
				most *= 2 // a Subscriber may have been backing off an empty answer
			}
			if n > most {
				found = append(found, h.violation("", "", "%s made %d requests of a kind within %v of the server's absence, %d are enough", p.actor, n, gone.to.Sub(gone.from), most))
			}
		}
	}
	return found
}
