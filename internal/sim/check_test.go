package sim

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// healthy returns a schedule without faults: each key is sent several times, and a worker acks everything.
func healthy() schedule {
	return schedule{
		Seed: 1, Mode: server.Aug2024,
		Consumers: []consumerPlan{{Filter: ">", AckWait: 30 * time.Second}},
		Publishers: []publisherPlan{{Timeout: time.Second, Config: sequin.PublisherConfig{Lanes: 1, MaxBatch: 10, MaxBuffered: 100}, Steps: []step{
			{Do: send, N: 20, Keys: 30, Patience: time.Minute}, {Pause: time.Second, Do: send, N: 1, Keys: 1, Patience: time.Minute},
			{Pause: time.Second, Do: send, N: 1, Keys: 1, Patience: time.Minute},
		}}},
		Workers: []workerPlan{{Timeout: time.Second, Config: sequin.SubscriberConfig{MaxInFlight: 100, Pollers: 1}, Readers: 1,
			Habits: habits{Work: 10 * time.Millisecond}, End: closed, EndAt: 10 * time.Second, Patience: time.Second}},
	}
}

// first returns the first request of an operation that fits, and its index.
func first(rec *recorder, op sequintest.Op, fits func(sequintest.Request) bool) (int, sequintest.Request) {
	i := slices.IndexFunc(rec.requests, func(r sequintest.Request) bool { return r.Op == op && fits(r) })
	return i, rec.requests[i]
}

// every fits all requests.
func every(sequintest.Request) bool { return true }

// holds fits receives that returned messages.
func holds(r sequintest.Request) bool { return len(r.Deliveries()) > 0 }

// again adds a copy of a request, made by who at the given time.
func again(rec *recorder, r sequintest.Request, who string, at time.Time) {
	r.Header = r.Header.Clone()
	r.Header.Set("User-Agent", who)
	r.Header.Set("X-Request-Id", fmt.Sprintf("%s at %v", who, at))
	r.At, r.ActedAt = at, at
	rec.requests = append(rec.requests, r)
}

// falsified holds, for each promise, a change to the record of a healthy run that breaks the promise.
var falsified = map[string]func(*recorder){
	"every accepted message has exactly one outcome, reported once": func(rec *recorder) {
		rec.messages[0].outcomes = []outcome{{kind: failed, by: "OnFailure"}, {kind: unsent, by: "Close"}}
	},
	"a message reported as sent is stored": func(rec *recorder) {
		i, _ := first(rec, sequintest.Send, every)
		rec.requests = slices.Delete(rec.requests, i, i+1)
	},
	"a message fails only if it or the stream is refused, or its Publisher got nothing through for RetryFor": func(rec *recorder) {
		rec.s.Publishers[0].Config.RetryFor = 10 * time.Second
		rec.messages[0].outcomes = []outcome{{kind: failed, by: "OnFailure", at: rec.messages[0].at.Add(5 * time.Second)}}
	},
	"a Publisher has sent in the end what can be sent": func(rec *recorder) {
		rec.messages[0].outcomes = []outcome{{kind: unsent, by: "Close"}}
	},
	"headers are stored as sent, or the message fails where the server has none": func(rec *recorder) {
		rec.messages[0].headers = headersOf(rec.messages[0].id)
	},
	"a purged message is gone, and is not delivered": func(rec *recorder) {
		rec.requests = append(rec.requests, sequintest.Request{Op: sequintest.PurgeStream, Acted: true, ActedAt: rec.begin,
			Body: []byte(`{"before_seq":1000}`), Answer: []byte(`{"data":{"purged":1}}`)})
	},
	"a message whose success was received is not sent again": func(rec *recorder) {
		_, r := first(rec, sequintest.Send, every)
		again(rec, r, "p0.1", r.ActedAt.Add(time.Second))
		rec.calls = append(rec.calls, &call{actor: "p0.1", id: fmt.Sprintf("p0.1 at %v", r.ActedAt.Add(time.Second)), began: r.ActedAt.Add(time.Second)})
	},
	"a message is stored once where the server knows parts of sends": func(rec *recorder) {
		rec.s.Mode = server.Documented
		_, r := first(rec, sequintest.Send, every)
		again(rec, r, "p0.1", r.ActedAt.Add(time.Second))
		rec.requests[len(rec.requests)-1].Header.Del("Idempotency-Key")
	},
	"a Subscriber ends by itself only after Sequin's own refusals": func(rec *recorder) {
		rec.stops[len(rec.stops)-1].ended = sequin.ErrUnauthorized
	},
	"Close returns an error when it left a delivery unsettled": func(rec *recorder) {
		last := rec.received[len(rec.received)-1]
		last.settles = nil
		for i := range rec.stops {
			rec.stops[i].asked = last.at
		}
	},
	"a message that was not accepted is not sent": func(rec *recorder) { rec.messages[0].accepted = false },
	"a Publisher's totals add up":                 func(rec *recorder) { rec.totals[0].stats.Sent-- },
	"a sent message stays in the stream, or a newer one of its key": func(rec *recorder) {
		rec.final.Messages = rec.final.Messages[1:]
	},
	"for each consumer, a program received and acked every message in the stream": func(rec *recorder) {
		rec.received[3].settles = nil
	},
	"an acked message is not delivered again": func(rec *recorder) {
		_, r := first(rec, sequintest.Receive, holds)
		again(rec, r, "w0", r.ActedAt.Add(time.Hour))
	},
	"a program receives what was sent":                                     func(rec *recorder) { rec.received[0].Data += " " },
	"deliveries are counted, without those that were returned undelivered": func(rec *recorder) { rec.received[0].Attempt = 1 },
	"a program receives no message after its deadline, which is before the end of the server's lease": func(rec *recorder) {
		rec.received[0].Deadline = rec.received[0].Deadline.Add(10 * time.Second)
	},
	"every settle has a program's settle, or an undelivered message, as its reason, before the deadline": func(rec *recorder) {
		_, r := first(rec, sequintest.Ack, every)
		for _, c := range rec.calls {
			if c.id == r.Header.Get("X-Request-Id") {
				c.began = c.began.Add(time.Minute)
			}
		}
	},
	"a settle that may have been carried out is not repeated": func(rec *recorder) {
		_, r := first(rec, sequintest.Ack, every)
		again(rec, r, "w0", r.ActedAt.Add(time.Millisecond))
	},
	"a settle affects no message that another worker holds": func(rec *recorder) {
		_, receive := first(rec, sequintest.Receive, holds)
		_, ack := first(rec, sequintest.Ack, every)
		again(rec, receive, "w1", ack.ActedAt.Add(time.Millisecond))
		again(rec, ack, "w0", ack.ActedAt.Add(2*time.Millisecond))
	},
	"versions of a key are stored in the order of their sends": func(rec *recorder) {
		for i, r := range rec.requests { // reverse the order
			if r.Op == sequintest.Send {
				rec.requests[i].ActedAt = rec.begin.Add(-r.ActedAt.Sub(rec.begin))
			}
		}
	},
	"versions of a key are received in order": func(rec *recorder) {
		for _, d := range rec.received {
			d.at = rec.begin.Add(-d.at.Sub(rec.begin))
		}
	},
	"a sink delivers the changes of a row one after the other": func(rec *recorder) {
		rec.s.Sinks = true
		for i := range rec.requests {
			rec.requests[i].Path = "/api/sequin_streams/c0/receive"
		}
		for i, seq := range []int{2, 1} {
			at := rec.begin.Add(time.Duration(i) * time.Minute)
			again(rec, sequintest.Request{Op: sequintest.Receive, Acted: true, Header: http.Header{}, Path: "/api/sequin_streams/c0/receive",
				Answer: fmt.Appendf(nil, `{"data":[{"ack_id":"%d","data":{"record":{"k":"a"},"metadata":{"commit_lsn":%d}}}]}`, seq, seq)}, "w0", at)
		}
	},
	"an idle Subscriber of a sink asks at most 20 times a second": func(rec *recorder) {
		rec.s.Sinks = true
		for range idleRate + 1 {
			rec.calls = append(rec.calls, answered(receiveCall, 0, 200, `{"data":[]}`))
		}
	},
	"a batch is within its limits":  func(rec *recorder) { rec.s.Publishers[0].Config.MaxBatch = 1 },
	"MaxInFlight is never exceeded": func(rec *recorder) { rec.s.Workers[0].Config.MaxInFlight = 1 },
	"MaxBuffered is never exceeded": func(rec *recorder) { rec.s.Publishers[0].Config.MaxBuffered = 1 },
	"a stopped Subscriber returns its undelivered messages": func(rec *recorder) {
		last := rec.received[len(rec.received)-1]
		rec.received = rec.received[:len(rec.received)-1]
		rec.requests = slices.DeleteFunc(rec.requests, func(r sequintest.Request) bool {
			return r.Op == sequintest.Ack && slices.Contains(r.AckIDs(), last.AckID)
		})
		for i := range rec.stops {
			rec.stops[i].at = last.at // its lease has not ended
		}
	},
	"InFlight is zero when every lease is over": func(rec *recorder) { rec.finalStats[0].stats.InFlight = 1 },
	"the request rate is bounded while the server is down": func(rec *recorder) {
		rec.outages = []span{{rec.begin, rec.begin.Add(time.Minute)}}
		for range 1000 {
			rec.calls = append(rec.calls, &call{actor: "w0", kind: receiveCall, began: rec.begin.Add(time.Second)})
		}
	},
}

func TestARunWithoutFaultsKeepsEveryPromise(t *testing.T) {
	require.Empty(t, verify(run(t, healthy())))
}

func TestAWrongCountIsFoundWhereTheServerCounts(t *testing.T) {
	s := healthy()
	s.Mode = server.Documented
	rec := run(t, s)
	require.Empty(t, verify(rec))
	rec.received[0].Attempt++
	require.Len(t, attemptsCounted(newHistory(rec)), 1)
}

// withHeaders is a healthy run in which some messages have headers, and some of the stream is purged.
func withHeaders() schedule {
	s := healthy()
	s.Mode, s.Stream.OneMessagePerKey = server.Documented, true
	s.Publishers[0].Steps[0].Headers = true
	s.Purges = []purgePlan{{At: 500 * time.Millisecond, Share: 50}}
	return s
}

func TestARunWithHeadersAndAPurgeKeepsEveryPromise(t *testing.T) {
	rec := run(t, withHeaders())
	require.Empty(t, verify(rec))
	require.Len(t, newHistory(rec).purges, 1)
	require.Less(t, len(rec.final.Messages), 20)
	for _, falsify := range []func(*recorder){
		func(rec *recorder) { rec.received[0].Headers = nil },
		func(rec *recorder) { rec.final.Messages[0].Headers = map[string]string{"a": "b"} },
		func(rec *recorder) { rec.s.Without = []string{headers} },
		func(rec *recorder) {
			rec.messages[0].outcomes = []outcome{{kind: failed, by: "OnFailure", err: sequin.ErrUnsupported}}
		},
		func(rec *recorder) { rec.final.Messages[0].Seq = 1 },
	} {
		rec := run(t, withHeaders())
		falsify(rec)
		require.NotEmpty(t, verify(rec))
	}
}

func TestMessagesWithHeadersFailWhereTheServerHasNone(t *testing.T) {
	s := withHeaders()
	s.Without = []string{headers}
	rec := run(t, s)
	require.Empty(t, verify(rec))
	require.Equal(t, failed, outcomeOf(rec.messages[0]))
	require.Equal(t, sent, outcomeOf(rec.messages[20]))
}

func TestEachCheckFindsAFalsifiedRecord(t *testing.T) {
	require.Len(t, falsified, len(checks))
	for _, c := range checks {
		t.Run(c.promise, func(t *testing.T) {
			rec := run(t, healthy())
			require.Contains(t, falsified, c.promise)
			falsified[c.promise](rec)
			require.NotEmpty(t, c.check(newHistory(rec)))
		})
	}
}

func TestASeedAlwaysDrawsTheSameSchedule(t *testing.T) {
	for seed := range uint64(100) {
		require.Equal(t, draw(seed), draw(seed))
		require.NotEqual(t, draw(seed), draw(seed+1))
	}
}

func TestShrinkKeepsOnlyThePartThatFails(t *testing.T) {
	s := draw(7)
	s.Faults = append(s.Faults, faultPlan{Kind: garble, At: 12345 * time.Millisecond})
	fails := func(c schedule) bool {
		return slices.ContainsFunc(c.Faults, func(f faultPlan) bool { return f.At == 12345*time.Millisecond })
	}
	short := shrink(s, time.Minute, fails)
	require.Empty(t, short.Publishers)
	require.Empty(t, short.Workers)
	require.Len(t, short.Consumers, 1)
	require.Len(t, short.Faults, 1)
	require.True(t, fails(short))
	require.Equal(t, draw(7).Publishers, s.Publishers, "shrink does not change its argument")
}

func TestABlockedGoroutineIsAViolation(t *testing.T) {
	rec := newRecorder(schedule{})
	inBubble(t, rec, func(*testing.T) {
		never := make(chan int) // made in the bubble, so that synctest knows that nothing outside can send on it
		go func() { <-never }()
	})
	require.Equal(t, "no goroutine is left", verify(rec)[0].promise)
}
