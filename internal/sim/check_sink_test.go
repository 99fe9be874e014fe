package sim

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// healthySinks is a schedule of sinks without faults.
func healthySinks() schedule {
	s := healthy()
	s.Mode, s.Sinks, s.Workers[0].SaidWait = server.Documented, true, s.Consumers[0].AckWait
	s.Publishers[0].Steps[0].Keys = 3 // several changes of each row
	return s
}

// restartAt adds a restart to a record.
func restartAt(rec *recorder, at time.Time) { rec.restarts = append(rec.restarts, at) }

// lastAck returns when the last delivery in a record was acked, and the request that leased it.
func lastAck(rec *recorder) (at time.Time, receive sequintest.Request) {
	id := rec.received[len(rec.received)-1].AckID
	_, receive = first(rec, sequintest.Receive, func(r sequintest.Request) bool {
		return slices.ContainsFunc(r.Deliveries(), func(d sequintest.Delivery) bool { return d.AckID == id })
	})
	_, ack := first(rec, sequintest.Ack, func(r sequintest.Request) bool { return slices.Contains(r.AckIDs(), id) })
	return ack.ActedAt, receive
}

// falsifiedSinks lists ways to break a promise in the record of a healthy run of sinks, and changes that break none.
var falsifiedSinks = []struct {
	name    string
	promise string // "" if none is broken
	falsify func(*recorder)
}{
	{"nothing", "", func(*recorder) {}},
	{"a change is lost", "for each consumer, a program received and acked every message in the stream", func(rec *recorder) {
		last := rec.commits[len(rec.commits)-1].seq
		rec.received = slices.DeleteFunc(rec.received, func(d *received) bool { return d.Seq == last })
	}},
	{"the key is wrong", "a program receives what was sent", func(rec *recorder) { rec.received[0].Key += "x" }},
	{"the record is wrong", "a program receives what was sent", func(rec *recorder) {
		rec.received[0].Data = strings.Replace(rec.received[0].Data, `"n":1,`, `"n":2,`, 1)
	}},
	{"the action is wrong", "a program receives what was sent", func(rec *recorder) { rec.commits[0].action = sequin.ActionRead }},
	{"old values are missing", "a program receives what was sent", func(rec *recorder) {
		i := slices.IndexFunc(rec.received, func(d *received) bool { return rec.commits[d.Seq-1].action == sequin.ActionUpdate })
		d := rec.received[i]
		d.Data = d.Data[:strings.Index(d.Data, `"changes":`)] + `"changes":{}}`
	}},
	{"an acked change is delivered again", "an acked message is not delivered again", func(rec *recorder) {
		at, receive := lastAck(rec)
		again(rec, receive, "w1", at.Add(time.Second))
	}},
	{"an acked change is delivered again, and the restart was before", "an acked message is not delivered again", func(rec *recorder) {
		at, receive := lastAck(rec)
		restartAt(rec, rec.begin)
		again(rec, receive, "w1", at.Add(time.Second))
	}},
	{"an acked change is delivered again, and the restart was long after the ack", "an acked message is not delivered again", func(rec *recorder) {
		at, receive := lastAck(rec)
		restartAt(rec, at.Add(11*time.Second))
		again(rec, receive, "w1", at.Add(12*time.Second))
	}},
	{"an acked change is delivered again after a restart", "", func(rec *recorder) {
		at, receive := lastAck(rec)
		restartAt(rec, at.Add(time.Millisecond))
		again(rec, receive, "w1", at.Add(time.Second))
	}},
	{"a change is received after a newer one", "versions of a key are received in order", func(rec *recorder) {
		for _, d := range rec.received {
			d.at = rec.begin.Add(-d.at.Sub(rec.begin))
		}
	}},
	{"a change is delivered while another one of its row is outstanding", "a sink delivers the changes of a row one after the other", func(rec *recorder) {
		for i, r := range rec.requests {
			if r.Op == sequintest.Ack {
				rec.requests[i].ActedAt = r.ActedAt.Add(time.Hour)
			}
		}
	}},
	{"an older change is delivered again", "a sink delivers the changes of a row one after the other", func(rec *recorder) {
		_, receive := first(rec, sequintest.Receive, holds)
		again(rec, receive, "w0", receive.ActedAt.Add(time.Hour))
	}},
	{"an idle Subscriber polls without a pause", "an idle Subscriber of a sink asks at most 20 times a second", func(rec *recorder) {
		for range idleRate + 1 {
			c := answered(receiveCall, 0, 200, `{"data":[]}`)
			c.order = len(rec.calls) + 1000
			rec.calls = append(rec.calls, c)
		}
	}},
}

func TestTheChecksFindAFalsifiedRecordOfSinks(t *testing.T) {
	for _, row := range falsifiedSinks {
		t.Run(row.name, func(t *testing.T) {
			rec := run(t, healthySinks())
			require.NotEmpty(t, rec.commits)
			row.falsify(rec)
			var broken []string
			for _, v := range verify(rec) {
				broken = append(broken, v.promise)
			}
			if row.promise == "" {
				require.Empty(t, broken)
			} else {
				require.Contains(t, broken, row.promise)
			}
		})
	}
}

func TestARestartLetsAWorkerReceiveAnOlderChange(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	for _, row := range []struct {
		name                     string
		newer, older, olderAt, r int // when they were leased, when the older one was received, and the restart
		may                      bool
	}{
		{"no restart", 10, 20, 21, 0, false},
		{"before both", 10, 20, 21, 9, false},
		{"after both", 10, 20, 21, 30, false},
		{"between both", 10, 20, 21, 15, true},
		{"while the older one was in the buffer", 20, 10, 30, 15, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			newer, older := &received{}, &received{at: at(row.olderAt)}
			h := &history{rec: &recorder{restarts: []time.Time{at(row.r)}}, leaseOf: map[*received]*lease{newer: {at: at(row.newer)}, older: {at: at(row.older)}}}
			require.Equal(t, row.may, h.mayOvertake(newer, older))
		})
	}
}

func TestASubscriberOfASinkMayEndAfterTwo404s(t *testing.T) {
	gone, found, page := answered(receiveCall, 1, 404, ownRefusal), answered(receiveCall, 1, 200, `{"data":[]}`), answered(receiveCall, 1, 404, "<html>")
	require.True(t, mayEndSink([]*call{gone, gone}))
	require.True(t, mayEndSink([]*call{gone, page, gone}))
	require.False(t, mayEndSink([]*call{gone}))
	require.False(t, mayEndSink([]*call{gone, found, gone}))
	require.False(t, mayEndSink([]*call{page, page}))
	require.False(t, mayEndSink([]*call{gone, answered(otherCall, 1, 404, ownRefusal)}))
}
