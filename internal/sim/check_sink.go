package sim

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/sequin-go/sequin"
)

// ackedLate is how long before a restart a change may be acked and is delivered again nevertheless; see
// server.Server.RestartSinks.
const ackedLate = 10 * time.Second

// forgets reports whether a restart between the lease of a sink and a later time lets its change be delivered again: the ack
// came too late before the restart, or after it.
func (h *history) forgets(x *lease, later time.Time) bool {
	return x != nil && slices.ContainsFunc(h.rec.restarts, func(r time.Time) bool {
		return x.at.Before(r) && !r.After(later) && (x.settledAt.IsZero() || !x.settledAt.Add(ackedLate).Before(r))
	})
}

// mayOvertake reports whether an older change of a row may be received after a newer one because the sinks were restarted: the
// server delivers the older one again, or the worker had it in its buffer meanwhile.
func (h *history) mayOvertake(newer, older *received) bool {
	a, b := h.leaseOf[newer], h.leaseOf[older]
	return a != nil && b != nil && (h.restarted(a.at, b.at) || h.restarted(b.at, older.at))
}

// changesIntact requires that each delivery of a sink is a change as it was committed, with its key, and its old values where
// the table has them.
func changesIntact(h *history) (found []violation) {
	for _, d := range h.rec.received {
		if wrong := h.wrongIn(d); wrong != "" {
			found = append(found, violationOf(d.consumer, d.Key, "%s received %s with the wrong %s: %s", d.worker, d.Key, wrong, d.Data).when(d.at))
		}
	}
	return found
}

// wrongIn returns what differs between a delivery and what was committed, "" if nothing does.
func (h *history) wrongIn(d *received) string {
	change, err := sequin.DecodeChange[rowData](d.Delivery)
	if err != nil || d.Seq < 1 || d.Seq > int64(len(h.rec.commits)) {
		return "data"
	}
	want := *h.rec.commits[d.Seq-1]
	full := fullIdentity(indexOf(d.consumer))
	if want.action == sequin.ActionDelete && !full {
		want.row = rowData{K: want.row.K}
	}
	before, err := change.Before()
	switch {
	case d.Key != rowKey(want.row.K):
		return "key"
	case change.Action != want.action:
		return "action"
	case change.Record != want.row:
		return "record"
	case want.action == sequin.ActionDelete:
		return ""
	case (err == nil) != (want.action == sequin.ActionUpdate && full):
		return "changes"
	case err == nil && before != *want.before:
		return "old values"
	}
	return ""
}

// rowsInTurn requires that a sink delivers the changes of a row one after the other: the next one after an ack of the one before
// it, and no older one, unless the sinks were restarted in between.
func rowsInTurn(h *history) (found []violation) {
	acked := map[ackRef]time.Time{} // the first ack
	for _, s := range h.settles {
		for _, id := range s.ids {
			if k := (ackRef{s.consumer, id}); s.acted && s.kind == sequin.Ack && acked[k].IsZero() {
				acked[k] = s.actedAt
			}
		}
	}
	type line struct{ consumer, key string }
	last := map[line]*lease{}
	for _, x := range h.leases {
		k := line{x.consumer, x.Key}
		old := last[k]
		last[k] = x
		if old == nil || !h.rec.s.Sinks || old.Seq == x.Seq || h.restarted(old.at, x.at) {
			continue
		}
		if at := acked[ackRef{x.consumer, old.AckID}]; x.Seq < old.Seq || at.IsZero() || at.After(x.at) {
			found = append(found, violationOf(x.consumer, x.Key, "%s delivered %s of %s after %s, which was not acked or is newer", x.consumer, changeID(x.Seq), x.Key, changeID(old.Seq)).when(x.at))
		}
	}
	return found
}

// restarted reports whether the sinks were restarted between two times.
func (h *history) restarted(from, to time.Time) bool {
	return slices.ContainsFunc(h.rec.restarts, func(r time.Time) bool { return from.Before(r) && !r.After(to) })
}

// idleRate is the most requests that a Subscriber of a sink makes in a second in which it receives and settles nothing.
const idleRate = 20

// idleSinksAskSeldom limits the empty answers in a second without messages and settles. A sink answers a receive that waits at
// once while a change is outstanding.
func idleSinksAskSeldom(h *history) (found []violation) {
	if !h.rec.s.Sinks {
		return nil
	}
	byWorker := map[string][]*call{}
	for _, c := range h.rec.calls {
		if c.kind == receiveCall || c.kind == settleCall {
			byWorker[c.actor] = append(byWorker[c.actor], c)
		}
	}
	for worker, calls := range byWorker {
		slices.SortFunc(calls, func(a, b *call) int { return cmp.Compare(a.order, b.order) })
		var empties []time.Time // since the last call of another kind
		for _, c := range calls {
			if !c.emptyReceive() {
				empties = nil
				continue
			}
			if empties = append(empties, c.ended); len(empties) > idleRate && c.ended.Sub(empties[len(empties)-1-idleRate]) < time.Second {
				found = append(found, violationOf("", "", "%s got more than %d empty answers within the second before %v", worker, idleRate, c.ended.Sub(h.rec.begin)).when(c.ended))
				break
			}
		}
	}
	return found
}

// emptyReceive reports whether the client got the answer that nothing is available.
func (c *call) emptyReceive() bool {
	var answer struct{ Data []json.RawMessage }
	return c.kind == receiveCall && c.whole && c.status == http.StatusOK && json.Unmarshal(c.answer, &answer) == nil && len(answer.Data) == 0
}

// mayEndSink reports whether the calls of a worker allow that its Subscriber of a sink ends by a 404: two of its receives got
// one, and none in between succeeded.
func mayEndSink(calls []*call) bool {
	missing := false
	for _, c := range calls {
		switch {
		case c.kind != receiveCall:
		case c.refused(http.StatusNotFound):
			if missing {
				return true
			}
			missing = true
		case c.whole && c.status == http.StatusOK:
			missing = false
		}
	}
	return false
}
