package sim

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// healthy is a schedule in which nothing goes wrong: each key is sent several times, and a worker acks everything.
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

// first returns the first request of an operation by somebody, and its place.
func first(l *ledger, op sequintest.Op, fits func(sequintest.Request) bool) (int, sequintest.Request) {
	i := slices.IndexFunc(l.requests, func(r sequintest.Request) bool { return r.Op == op && fits(r) })
	return i, l.requests[i]
}

func every(sequintest.Request) bool { return true }

func holds(r sequintest.Request) bool { return len(r.Deliveries()) > 0 }

// again adds a copy of a request, made at a moment by somebody.
func again(l *ledger, r sequintest.Request, who string, at time.Time) {
	r.Header = r.Header.Clone()
	r.Header.Set("User-Agent", who)
	r.Header.Set("X-Request-Id", fmt.Sprintf("%s at %v", who, at))
	r.At, r.ActedAt = at, at
	l.requests = append(l.requests, r)
}

// falsified lists, by promise, what of a healthy ledger has to be changed for the promise to be broken.
var falsified = map[string]func(*ledger){
	"every accepted message has one fate, told once": func(l *ledger) {
		l.messages[0].fates = []fate{{failed, "OnFailure", nil}, {unsent, "Close", nil}}
	},
	"what is told as sent is stored": func(l *ledger) {
		i, _ := first(l, sequintest.Send, every)
		l.requests = slices.Delete(l.requests, i, i+1)
	},
	"what was not accepted is not sent": func(l *ledger) { l.messages[0].accepted = false },
	"a publisher's totals add up":       func(l *ledger) { l.totals[0].stats.Sent-- },
	"what is sent stays, or a newer version of its key": func(l *ledger) {
		l.final.Messages = l.final.Messages[1:]
	},
	"every message in the stream was handed to a program and acked by it, for each consumer": func(l *ledger) {
		l.handed[3].settles = nil
	},
	"an acked message is not delivered again": func(l *ledger) {
		_, r := first(l, sequintest.Receive, holds)
		again(l, r, "w0", r.ActedAt.Add(time.Hour))
	},
	"what is handed over is what was sent": func(l *ledger) { l.handed[0].Data += " " },
	"nothing is handed over after its deadline, and that is before the server's": func(l *ledger) {
		l.handed[0].Deadline = l.handed[0].Deadline.Add(10 * time.Second)
	},
	"no settle leaves without a settle of a program, or a message to give back, whose deadline is to come": func(l *ledger) {
		_, r := first(l, sequintest.Ack, every)
		for _, c := range l.calls {
			if c.id == r.Header.Get("X-Request-Id") {
				c.began = c.began.Add(time.Minute)
			}
		}
	},
	"a settle that may have been carried out is not repeated": func(l *ledger) {
		_, r := first(l, sequintest.Ack, every)
		again(l, r, "w0", r.ActedAt.Add(time.Millisecond))
	},
	"no settle removes what another worker holds": func(l *ledger) {
		_, receive := first(l, sequintest.Receive, holds)
		_, ack := first(l, sequintest.Ack, every)
		again(l, receive, "w1", ack.ActedAt.Add(time.Millisecond))
		again(l, ack, "w0", ack.ActedAt.Add(2*time.Millisecond))
	},
	"versions of a key are stored in the order of their sends": func(l *ledger) {
		for i, r := range l.requests { // what came last came first
			if r.Op == sequintest.Send {
				l.requests[i].ActedAt = l.begin.Add(-r.ActedAt.Sub(l.begin))
			}
		}
	},
	"versions of a key are handed over in order": func(l *ledger) {
		for _, d := range l.handed {
			d.at = l.begin.Add(-d.at.Sub(l.begin))
		}
	},
	"a batch is within its limits":  func(l *ledger) { l.s.Publishers[0].Config.MaxBatch = 1 },
	"MaxInFlight is never exceeded": func(l *ledger) { l.s.Workers[0].Config.MaxInFlight = 1 },
	"MaxBuffered is never exceeded": func(l *ledger) { l.s.Publishers[0].Config.MaxBuffered = 1 },
	"a stop gives back what was not handed out": func(l *ledger) {
		last := l.handed[len(l.handed)-1]
		l.handed = l.handed[:len(l.handed)-1]
		l.requests = slices.DeleteFunc(l.requests, func(r sequintest.Request) bool {
			return r.Op == sequintest.Ack && slices.Contains(r.AckIDs(), last.AckID)
		})
		for i := range l.stops {
			l.stops[i].at = last.at // its lease goes on
		}
	},
	"room is given back": func(l *ledger) { l.rooms[0].stats.InFlight = 1 },
	"the request rate is bounded while the server is away": func(l *ledger) {
		l.absences = []span{{l.begin, l.begin.Add(time.Minute)}}
		for range 1000 {
			l.calls = append(l.calls, &call{actor: "w0", kind: receiveCall, began: l.begin.Add(time.Second)})
		}
	},
}

func TestAHealthyRunKeepsEveryPromise(t *testing.T) {
	require.Empty(t, judge(run(t, healthy())))
}

// TestEveryPromiseCanBeBroken holds each check against a ledger that was falsified for it.
func TestEveryPromiseCanBeBroken(t *testing.T) {
	require.Len(t, falsified, len(checks))
	for _, c := range checks {
		t.Run(c.promise, func(t *testing.T) {
			l := run(t, healthy())
			require.Contains(t, falsified, c.promise)
			falsified[c.promise](l)
			require.NotEmpty(t, c.check(newHistory(l)))
		})
	}
}

func TestTheSameSeedDrawsTheSame(t *testing.T) {
	for seed := range uint64(100) {
		require.Equal(t, draw(seed), draw(seed))
		require.NotEqual(t, draw(seed), draw(seed+1))
	}
}

func TestShrinkingFindsTheOnePartThatMatters(t *testing.T) {
	s := draw(7)
	s.Faults = append(s.Faults, faultPlan{Kind: garble, At: 12345 * time.Millisecond})
	guilty := func(c schedule) bool {
		return slices.ContainsFunc(c.Faults, func(f faultPlan) bool { return f.At == 12345*time.Millisecond })
	}
	short := shrink(s, time.Minute, guilty)
	require.Empty(t, short.Publishers)
	require.Empty(t, short.Workers)
	require.Len(t, short.Consumers, 1)
	require.Len(t, short.Faults, 1)
	require.True(t, guilty(short))
	require.Equal(t, draw(7).Publishers, s.Publishers, "the schedule that was shrunk is as it was")
}

func TestAGoroutineThatIsLeftIsTold(t *testing.T) {
	l := newLedger(schedule{})
	inBubble(t, l, func(*testing.T) {
		never := make(chan int) // of the bubble: only then is waiting for it hopeless
		go func() { <-never }()
	})
	require.Equal(t, "no goroutine is left", judge(l)[0].promise)
}
