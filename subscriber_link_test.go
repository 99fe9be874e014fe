package sequin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
)

// link is a way to the server on which each request takes a time, and what it has seen of a Subscriber.
type link struct {
	takes      func() time.Duration
	ackTakes   func() time.Duration // nil if as long
	receives   atomic.Int64         // that run
	asked      atomic.Int64         // messages, by these
	acking     atomic.Int64
	peak, acks most // of receives and of acks at once
	mostAsked  most // messages, by receives at once
}

func always(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

// over takes half of the time on the way to the server, and half on the way back.
func (l *link) over(behind http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		takes := l.takes
		switch path.Base(r.URL.Path) {
		case "receive":
			l.peak.show(int(l.receives.Add(1)))
			defer l.receives.Add(-1)
			n := batchSizeOf(r)
			l.mostAsked.show(int(l.asked.Add(n)))
			defer l.asked.Add(-n)
		case "ack":
			l.acks.show(int(l.acking.Add(1)))
			defer l.acking.Add(-1)
			if l.ackTakes != nil {
				takes = l.ackTakes
			}
		}
		time.Sleep(takes() / 2)
		resp, err := behind.RoundTrip(r)
		time.Sleep(takes() / 2)
		return resp, err
	})
}

// batchSizeOf returns how many messages a receive asks for.
func batchSizeOf(r *http.Request) int64 {
	text, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(text))
	var asked struct {
		Size int64 `json:"batch_size"`
	}
	_ = json.Unmarshal(text, &asked)
	return asked.Size
}

// far is the round trip of a long link.
const far = 50 * time.Millisecond

// consume acks n messages at once, and returns the number in the second half that came in a round trip of the link.
func consume(t *testing.T, sub *sequin.Subscriber, n int) (perRoundTrip float64) {
	t.Helper()
	var half time.Time
	for i := range n {
		require.NoError(t, (<-sub.Deliveries()).Ack())
		if i == n/2 {
			half = time.Now()
		}
	}
	return float64(n-n/2) / time.Since(half).Seconds() * far.Seconds()
}

// The bound is the number of messages in flight: each is for a round trip of its receive and for one of its ack.
func TestTheZeroConfigUsesALongLinkAsTheBestSettingsDo(t *testing.T) {
	for _, row := range []struct{ pending, messages, best int }{{10_000, 100_000, 8}, {20_000, 160_000, 16}} {
		t.Run(fmt.Sprint(row.pending), func(t *testing.T) {
			inMode(t, server.Documented, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{MaxAckPending: row.pending})
				w.publish(t, "rest", 2*row.pending) // so that no answer is short of messages
				rates := map[int]float64{}
				for _, pollers := range []int{row.best, 2, 0} {
					w.publish(t, fmt.Sprint(pollers), row.messages)
					l := &link{takes: always(far)}
					cfg := sequin.SubscriberConfig{Pollers: pollers}
					if pollers > 0 {
						cfg.MaxInFlight = row.pending
					}
					client := w.through(t, l.over)
					sub := subscribe(t, client, cfg)
					rates[pollers] = consume(t, sub, row.messages)
					closeNow(t, sub)
					t.Logf("pollers %d: %.0f messages a round trip, at most %d receives and %d acks at once", pollers, rates[pollers], l.peak.Load(), l.acks.Load())
					if pollers == 0 {
						require.GreaterOrEqual(t, int(l.peak.Load()), row.pending/2000, "half of what may be in flight, a thousand each")
						require.LessOrEqual(t, int(l.peak.Load()), row.pending/500, "each asks for at least half of a full answer")
						require.LessOrEqual(t, int(l.mostAsked.Load()), row.pending, "all together for no more than may be in flight")
						require.GreaterOrEqual(t, int(l.mostAsked.Load()), row.pending/2)
						require.GreaterOrEqual(t, int(l.acks.Load()), row.pending/2000)
					}
				}
				// How acks are cut into requests depends on when goroutines run. One that is not full waits for up to a round trip,
				// and its messages stay in flight: the rates differ from run to run, and may be below the bound.
				require.InEpsilon(t, float64(row.pending/2), rates[row.best], 0.25)
				require.LessOrEqual(t, rates[2], 2050.0)
				require.GreaterOrEqual(t, rates[0], 0.8*rates[row.best])
			})
		})
	}
}

func TestTwoReceivesRunAtOnceOverAShortLink(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", spacious)
		w.publish(t, "k", 60_000)
		l := &link{takes: always(9 * time.Millisecond)}
		sub := subscribe(t, w.through(t, l.over), sequin.SubscriberConfig{})
		consume(t, sub, 60_000)
		require.EqualValues(t, 2, l.peak.Load())
		closeNow(t, sub)
	})
}

// More in flight than a few full answers take memory, and bring nothing where requests are quick or wait for a busy processor.
func TestManyMessagesAreInFlightOnlyWhereThatHelps(t *testing.T) {
	const near = 2 * time.Millisecond
	for name, row := range map[string]struct {
		takes, ackTakes time.Duration
		group           int // how many messages the program reads before it acks them
		many            bool
	}{
		"near":                         {near, near, 1, false},
		"receives take long":           {far, near, 1, true},
		"acks take long":               {near, far, 1, true},
		"the program has them":         {near, near, 10_000, true},
		"acks take a little longer":    {near, 9 * time.Millisecond, 1, false},
		"the program has some of them": {near, near, 900, false},
	} {
		t.Run(name, func(t *testing.T) {
			inMode(t, server.Documented, func(t *testing.T, w *world) {
				w.stream(t, "orders", spacious)
				w.publish(t, "k", 50_000)
				l := &link{takes: always(row.takes), ackTakes: always(row.ackTakes)}
				sub := subscribe(t, w.through(t, l.over), sequin.SubscriberConfig{})
				var held []sequin.Delivery
				most := 0
				for n := range 40_000 {
					if held = append(held, <-sub.Deliveries()); len(held) == row.group || n == 39_999 {
						for _, d := range held {
							require.NoError(t, d.Ack())
						}
						held = held[:0]
					}
					if n%1000 == 0 {
						most = max(most, sub.Stats().InFlight)
					}
				}
				if row.many {
					require.Greater(t, most, 6000)
				} else {
					require.LessOrEqual(t, most, 4096, "three full receives, rounded up to a power of two")
				}
				closeNow(t, sub)
			})
		})
	}
}

func TestOneReceiveWaitsWhenALongLinkIsIdleAgain(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.stream(t, "orders", spacious)
		w.publish(t, "k", 200_000)
		l := &link{takes: always(far)}
		sub := subscribe(t, w.through(t, l.over), sequin.SubscriberConfig{})
		consume(t, sub, 200_000)
		require.Greater(t, int(l.peak.Load()), 8)
		time.Sleep(time.Minute) // those that ran have ended
		before := sub.Stats().Polls
		for range 20 {
			time.Sleep(time.Minute)
			require.LessOrEqual(t, int(l.receives.Load()), 1)
		}
		require.InDelta(t, 20*time.Minute/(20*time.Second), sub.Stats().Polls-before, 1, "one each 20 s")
		closeNow(t, sub)
	})
}

// A Subscriber that was quick holds what it had asked for when the program becomes slow, and then no more than is handled in
// time.
func TestASlowProgramGetsNoMoreOverALongLinkThanItHandlesInTime(t *testing.T) {
	const each, ackWait = 100 * time.Millisecond, 10 * time.Second
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: ackWait})
		w.publish(t, "k", 60_000)
		l := &link{takes: always(far)}
		sub := subscribe(t, w.through(t, l.over), sequin.SubscriberConfig{})
		slow := func(d time.Duration) {
			for began := time.Now(); time.Since(began) < d; {
				d := <-sub.Deliveries()
				time.Sleep(each)
				_ = d.Ack() // late ones are counted
			}
		}
		slow(5 * time.Minute)
		stats := sub.Stats()
		require.LessOrEqual(t, int(stats.ExpiredInBuffer+stats.RefusedLate), 40)
		require.LessOrEqual(t, int(l.peak.Load()), 2)
		for range 20_000 {
			require.NoError(t, (<-sub.Deliveries()).Ack())
		}
		require.Greater(t, int(l.peak.Load()), 2)
		slow(time.Minute)
		settled := sub.Stats()
		slow(5 * time.Minute)
		stats = sub.Stats()
		require.LessOrEqual(t, int(stats.ExpiredInBuffer+stats.RefusedLate-settled.ExpiredInBuffer-settled.RefusedLate), 40)
		require.LessOrEqual(t, stats.InFlight, int(ackWait/each))
		require.NoError(t, sub.Close(w.ctx))
	})
}

// Receives and acks overtake one another, and the number of receives changes.
func TestVersionsOfAKeyComeInOrderWhileTheNumberOfReceivesChanges(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		const keys, versions = 12_000, 6
		w.stream(t, "orders", spacious)
		for range versions {
			w.publish(t, "k", keys)
		}
		l := &link{takes: func() time.Duration { return far/2 + rand.N(far) }}
		sub := subscribe(t, w.through(t, l.over), sequin.SubscriberConfig{})
		last := map[string]int64{}
		for range keys * versions {
			d := next(t, sub, 10*time.Second)
			require.Greater(t, d.Seq, last[d.Key], d.Key)
			last[d.Key] = d.Seq
			require.NoError(t, d.Ack())
		}
		require.Greater(t, int(l.peak.Load()), 2)
		closeNow(t, sub)
	})
}

// The largest batch of a handler is MaxInFlight.
func TestMaxInFlightFollowsAConsumerThatAllowsMore(t *testing.T) {
	for pending, row := range map[int]struct{ set, want int }{
		5_000:     {0, 10_000}, // the server allows less at its side
		10_000:    {0, 10_000},
		30_000:    {0, 30_000},
		1_000_000: {0, 100_000},
		100_000:   {7_000, 7_000},
	} {
		inMode(t, server.Documented, func(t *testing.T, w *world) {
			w.stream(t, "orders", sequin.ConsumerOptions{MaxAckPending: pending})
			sub := w.subscribe(t, sequin.SubscriberConfig{MaxInFlight: row.set})
			err := sub.HandleBatch(w.ctx, sequin.BatchHandlerConfig{Size: 1_000_000}, func(context.Context, []sequin.Delivery) error { return nil })
			require.ErrorIs(t, err, sequin.ErrInvalidConfig)
			require.ErrorContains(t, err, fmt.Sprintf("the Subscriber's MaxInFlight %d:", row.want))
			closeNow(t, sub)
		})
	}
}
