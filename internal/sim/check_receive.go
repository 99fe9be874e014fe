package sim

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/sequin-go/sequin"
)

// deliveredToAll requires, for each consumer, an ack by a program of every message that its filter matches, unless the
// message was delivered MaxDeliver times.
func deliveredToAll(h *history) (found []violation) {
	delivered := map[consumerMessage]int{}
	for _, x := range h.leases {
		delivered[consumerMessage{x.consumer, x.Seq}]++
	}
	for name, plan := range h.consumers {
		for _, m := range h.rec.final.Messages {
			at := consumerMessage{name, m.Seq}
			if !matches(plan.Filter, m.Key) || plan.MaxDeliver > 0 && delivered[at] >= plan.MaxDeliver {
				continue
			}
			acks := 0
			for _, d := range h.receivedBy[at] {
				for _, s := range d.settles {
					if s.kind == sequin.Ack && (s.err == nil || errors.Is(s.err, sequin.ErrOutcomeUnknown)) {
						acks++
					}
				}
			}
			if acks == 0 {
				found = append(found, violationOf(name, m.Key, "%s (seq %d) was delivered %d times to %s and received %d times by a program, and no program acked it",
					idOf(m.Data), m.Seq, delivered[at], name, len(h.receivedBy[at])))
			}
		}
	}
	return found
}

// ackedStaysAcked counts a call of Ack as an ack if the worker was still running when the ack could fail, and no failure was
// reported.
func ackedStaysAcked(h *history) (found []violation) {
	for _, d := range h.rec.received {
		end, stopped := h.stopOf[d.worker]
		for _, s := range d.settles {
			if s.kind != sequin.Ack || s.err != nil || !s.sync && (d.ackError != nil || h.killed[d.worker] || !stopped || end.err != nil) {
				continue
			}
			for _, x := range h.leases {
				if x.consumer == d.consumer && x.Seq == d.Seq && x.at.After(s.at) && !h.forgets(h.leaseOf[d], x.at) {
					found = append(found, violationOf(d.consumer, d.Key, "%s (seq %d) was acked by %s at %v and delivered to %s at %v",
						idOf(d.Data), d.Seq, d.worker, s.at.Sub(h.rec.begin), x.worker, x.at.Sub(h.rec.begin)).when(x.at))
				}
			}
		}
	}
	return found
}

// intact requires that each received message was sent with this key, this data and these headers, and matches the filter.
func intact(h *history) (found []violation) {
	if h.rec.s.Sinks {
		return changesIntact(h)
	}
	sent := map[string]*message{}
	for _, m := range h.rec.messages {
		sent[m.id] = m
	}
	for _, d := range h.rec.received {
		m := sent[idOf(d.Data)]
		if m == nil || m.key != d.Key || m.data != d.Data || !maps.Equal(m.headers, d.Headers) || !matches(h.consumers[d.consumer].Filter, d.Key) {
			found = append(found, violationOf(d.consumer, d.Key, "%s received %s=%s with the headers %v", d.worker, d.Key, d.Data, d.Headers))
		}
	}
	return found
}

// receivedInTime requires that a program receives a message before its deadline, and that the deadline is within a lease of
// the server.
func receivedInTime(h *history) (found []violation) {
	covered := map[*received]bool{}
	for _, x := range h.leases {
		if d := x.received; d != nil && d.Deadline.After(x.requested) && d.Deadline.Before(x.granted) {
			covered[d] = true
		}
	}
	for _, d := range h.rec.received {
		switch {
		case !d.at.Before(d.Deadline):
			found = append(found, violationOf(d.consumer, d.Key, "%s received %s at %v, after its deadline at %v", d.worker, idOf(d.Data), d.at.Sub(h.rec.begin), d.Deadline.Sub(h.rec.begin)).when(d.at))
		case !covered[d]:
			found = append(found, violationOf(d.consumer, d.Key, "%s received %s at %v with a deadline of %v, which is within no lease of the server",
				d.worker, idOf(d.Data), d.at.Sub(h.rec.begin), d.Deadline.Sub(h.rec.begin)).when(d.at))
		}
	}
	return found
}

// settledInTime requires a reason for each id in each settle request at the time when the request was sent.
func settledInTime(h *history) (found []violation) {
	for _, s := range h.settles {
		for _, id := range s.ids {
			if !h.justified(s, id) {
				found = append(found, violationOf(s.consumer, h.keyOfAck(s.consumer, id), "%s settled %s at %v without a reason",
					s.worker, id, s.at.Sub(h.rec.begin)).when(s.at))
			}
		}
	}
	return found
}

// justified reports whether a settle request may contain an id: the program asked for this settle before the deadline, or
// the message is returned undelivered before the lease ends.
func (h *history) justified(s *settleRequest, id string) bool {
	for _, x := range h.leasesOf[ackRef{s.consumer, id}] {
		switch {
		case x.worker != s.worker || x.at.After(s.at):
		case s.undelivered && x.received == nil:
			if s.kind == sequin.Nack && s.left.Before(x.until) {
				return true
			}
		case s.undelivered && !(h.rec.s.has(attempts) && h.workerPlan(x.worker).Handle):
			// A handler has snoozed it, or a stop has interrupted the handler. Anything else counts.
		case x.received != nil && s.left.Before(x.settleableUntil(s.left)):
			for _, asked := range x.received.settles {
				if asked.kind == s.kind && !asked.at.After(s.left) && (asked.err == nil || asked.sync || asked.err == errPending) {
					return true
				}
			}
		}
	}
	return false
}

// keyOfAck returns the key of the message with an ack id.
func (h *history) keyOfAck(consumer, id string) string {
	if leases := h.leasesOf[ackRef{consumer, id}]; len(leases) > 0 {
		return leases[0].Key
	}
	return ""
}

// settledOnce allows repeated settles where an ack id belongs to one delivery, and repeated acks on a stream that keeps every
// message, as the package comment of sequin does.
func settledOnce(h *history) (found []violation) {
	if h.rec.s.has(fencedAcks) {
		return nil
	}
	type one struct {
		consumer, id string
		lease        *lease
	}
	times := map[one]int{}
	for _, s := range h.settles {
		if !s.acted || s.kind == sequin.Ack && h.appends() {
			continue
		}
		for _, id := range s.ids {
			k := one{s.consumer, id, h.leaseAt(s.consumer, id, s.at)}
			if times[k]++; times[k] == 2 {
				found = append(found, violationOf(s.consumer, h.keyOfAck(s.consumer, id), "%s settled %s twice, again at %v", s.worker, id, s.at.Sub(h.rec.begin)).when(s.at))
			}
		}
	}
	return found
}

// settlesOwnMessages requires that, at the time of a settle, no other worker held a lease with the same ack id.
func settlesOwnMessages(h *history) (found []violation) {
	for _, s := range h.settles {
		if !s.acted {
			continue
		}
		for _, id := range s.ids {
			for _, x := range h.leasesOf[ackRef{s.consumer, id}] {
				settled := !x.settledAt.IsZero() && x.settledAt.Before(s.actedAt)
				if x.worker != s.worker && x.at.Before(s.actedAt) && s.actedAt.Before(x.until) && !settled {
					found = append(found, violationOf(s.consumer, x.Key, "%s settled %s (seq %d) at %v, which %s held since %v",
						s.worker, x.Key, x.Seq, s.actedAt.Sub(h.rec.begin), x.worker, x.at.Sub(h.rec.begin)).when(s.actedAt))
				}
			}
		}
	}
	return found
}

// receivedInOrder compares the times at which versions of a key were received; two at the same time have no order. It does
// not apply to streams with RetainUpTo: there the server may delete an older version that a worker has buffered, and deliver
// the newer one without waiting for it. A purge does the same.
func receivedInOrder(h *history) (found []violation) {
	if h.rec.s.Stream.RetainUpTo > 0 {
		return nil
	}
	type line struct{ consumer, key string }
	byKey := map[line][]*received{}
	for _, d := range h.rec.received {
		k := line{d.consumer, d.Key}
		byKey[k] = append(byKey[k], d)
	}
	for k, all := range byKey {
		slices.SortStableFunc(all, func(a, b *received) int { return a.at.Compare(b.at) })
		for i, d := range all[:max(0, len(all)-1)] {
			if next := all[i+1]; next.Seq < d.Seq && d.at.Before(next.at) && !h.mayOvertake(d, next) && !h.isPurged(next.Key, next.Seq, d.at) {
				found = append(found, violationOf(k.consumer, k.key, "%s received seq %d of %s at %v, after %s had received seq %d at %v",
					next.worker, next.Seq, k.key, next.at.Sub(h.rec.begin), d.worker, d.Seq, d.at.Sub(h.rec.begin)).when(next.at))
			}
		}
	}
	return found
}

// inFlightBounded counts, at the arrival of each answer, the deliveries of the worker whose deadline has not passed and whose
// settle has not ended. That is a lower bound of what the Subscriber holds.
func inFlightBounded(h *history) (found []violation) {
	byWorker := map[string][]*lease{}
	for _, x := range h.leases {
		if x.arrived {
			byWorker[x.worker] = append(byWorker[x.worker], x)
		}
	}
	settleEnd := h.settleEnds()
	for worker, all := range byWorker {
		most := h.workerPlan(worker).Config.MaxInFlight
		for _, now := range all {
			moment, level := h.arrivalOf(now), 0
			for _, x := range all {
				if h.arrivalOf(x).order <= moment.order && moment.ended.Before(h.deadlineOf(x)) && !endedBefore(settleEnd[x], moment.order) {
					level++
				}
			}
			if most > 0 && level > most {
				found = append(found, violationOf(now.consumer, now.Key, "%s held %d deliveries at %v, MaxInFlight is %d", worker, level, moment.ended.Sub(h.rec.begin), most).when(moment.ended))
				break
			}
		}
	}
	return found
}

// endedBefore compares places in the order of endings; 0 means that there was no ending.
func endedBefore(order, moment int) bool { return order > 0 && order < moment }

// settleEnds returns the place of the first settle of each lease in the order in which calls ended.
func (h *history) settleEnds() map[*lease]int {
	ends := map[*lease]int{}
	for _, r := range h.rec.requests {
		c := h.byID[r.Header.Get("X-Request-Id")]
		if c == nil || c.kind != settleCall {
			continue
		}
		for _, id := range r.AckIDs() {
			if x := h.leaseAt(h.consumerOf(r), id, r.At); x != nil && (ends[x] == 0 || c.order < ends[x]) {
				ends[x] = c.order
			}
		}
	}
	return ends
}

func (h *history) arrivalOf(x *lease) *call { return h.byID[x.request] }

// deadlineOf returns the client's deadline of a lease, or the earliest possible one if no program received the message.
func (h *history) deadlineOf(x *lease) time.Time {
	if x.received != nil {
		return x.received.Deadline
	}
	began := x.requested
	if c := h.arrivalOf(x); c != nil {
		began = c.began // earlier, by as long as the dial took
	}
	ackWait := h.consumers[x.consumer].AckWait
	if said := h.workerPlan(x.worker).SaidWait; said > 0 {
		ackWait = said
	}
	return began.Add(ackWait / 2) // the margin is at most half of it
}

// stopsReturnUndelivered requires that, when a worker has stopped, each message that no program received has been returned,
// or has passed its deadline.
func stopsReturnUndelivered(h *history) (found []violation) {
	for _, end := range h.rec.stops {
		if end.how == killed || h.settleFailed(end) {
			continue
		}
		for _, x := range h.leases {
			if x.worker == end.actor && x.arrived && x.received == nil && x.settledAt.IsZero() && h.deadlineOf(x).After(end.at) {
				found = append(found, violationOf(x.consumer, x.Key, "%s stopped at %v and did not return %s (seq %d), which no program had received",
					end.actor, end.at.Sub(h.rec.begin), x.Key, x.Seq).when(end.at))
			}
		}
	}
	return found
}

// settleFailed reports whether a settle request failed during the stop, so that messages could not be returned.
func (h *history) settleFailed(end stop) bool {
	return slices.ContainsFunc(h.rec.calls, func(c *call) bool {
		return c.actor == end.actor && c.kind == settleCall && !c.succeeded() && !c.ended.Before(end.asked)
	})
}

func inFlightReturnsToZero(h *history) (found []violation) {
	for _, r := range h.rec.finalStats {
		if r.stats.InFlight != 0 {
			found = append(found, violationOf("", "", "%s reports %d deliveries in flight after every lease has ended", r.worker, r.stats.InFlight))
		}
	}
	return found
}

// While the server is down, each part of a client backs off from 100 ms to 5 s. It makes some ten requests until the backoff
// is at its maximum, and then waits at least 2.5 s between requests, which is at most 36 requests in a minute. Settles are
// repeated every half lease margin until the lease ends.
const (
	downPerMinute = 40
	settlesDown   = 80
)

// leastLanes is how many lanes a Publisher has at least that finds the number itself. No more of them try in an outage.
const leastLanes = 4

// rateBounded limits the requests of each kind that a client makes during an outage.
func rateBounded(h *history) (found []violation) {
	calls := slices.SortedFunc(slices.Values(h.rec.calls), func(a, b *call) int { return cmp.Compare(a.began.UnixNano(), b.began.UnixNano()) })
	for _, outage := range h.rec.outages {
		type part struct {
			actor string
			kind  callKind
		}
		made := map[part]int{}
		for _, c := range calls {
			// Other calls are made by the simulation: a worker calls Subscribe every second until it succeeds.
			if c.began.After(outage.from) && c.began.Before(outage.to) && c.kind != otherCall {
				made[part{c.actor, c.kind}]++
			}
		}
		minutes := int(outage.to.Sub(outage.from)/time.Minute) + 1
		for p, n := range made {
			most := minutes * downPerMinute
			switch p.kind {
			case sendCall:
				most *= cmp.Or(h.publisherPlan(p.actor).Config.Lanes, leastLanes)
			case settleCall:
				most += settlesDown
			case receiveCall:
				most *= 2 // a Subscriber has a separate backoff for empty answers
			}
			if n > most {
				found = append(found, violationOf("", "", "%s made %d requests of one kind while the server was down for %v, more than %d", p.actor, n, outage.to.Sub(outage.from), most))
			}
		}
	}
	return found
}
