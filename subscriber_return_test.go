package sequin_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// fillBuffer lets the window of a Subscriber grow on messages that are acked at once and come from far, and then its buffer
// fill up. It returns how many messages are buffered. The stream holds most.
func (w *world) fillBuffer(t *testing.T, sub *sequin.Subscriber, most int) (buffered int) {
	t.Helper()
	defer w.Fault(sequintest.Fault{Op: sequintest.Receive, Delay: 20 * time.Millisecond}).Remove()
	time.Sleep(2 * time.Minute) // quick receives count for as long
	for round := range 20 {
		w.publish(t, fmt.Sprintf("round_%d", round), most)
		time.Sleep(2 * time.Second)
		if buffered = sub.Stats().InFlight; buffered > most*2/3 {
			return buffered
		}
		for range most {
			require.NoError(t, next(t, sub, time.Second+time.Millisecond).Ack())
		}
	}
	require.Fail(t, "the window does not grow", "%d in flight", buffered)
	return 0
}

// spacious is a consumer for many messages: the 2024 server counts acked ones as pending for five minutes.
var spacious = sequin.ConsumerOptions{AckWait: 30 * time.Second, MaxAckPending: 100_000}

// If one margin is too short for that, the stop lasts until the leases end.
func TestAStopReturnsHoweverManyMessagesAreBuffered(t *testing.T) {
	inEveryStop(t, func(t *testing.T, w *world, open func(sequin.SubscriberConfig) *sequin.Subscriber, stop func(*sequin.Subscriber) error) {
		const most, slow = 6000, 1500 * time.Millisecond
		w.stream(t, "orders", spacious)
		sub := open(sequin.SubscriberConfig{MaxInFlight: most})
		buffered := w.fillBuffer(t, sub, most)
		w.Fault(sequintest.Fault{Op: sequintest.Nack, Delay: slow})
		began := time.Now()
		require.NoError(t, stop(sub))
		require.Greater(t, time.Since(began), 2*time.Second, "a margin")
		// Full requests, two at a time, but for the first, which is sent at once, and the last, which waits for more nacks.
		require.Less(t, time.Since(began), time.Duration((buffered/1000+3)/2)*slow+slow/2)
		require.LessOrEqual(t, w.Count(sequintest.Nack), buffered/1000+2)
		require.Empty(t, w.consumer(t).Outstanding)
		require.Equal(t, most, w.consumer(t).Available)
		require.Zero(t, sub.Stats().InFlight)
	})
}

// DrainError counts such a message whatever the reason is, because nothing else reports it.
func TestCloseReportsWhatCouldNotBeReturned(t *testing.T) {
	const most = 10_000
	for name, row := range map[string]struct {
		fault            sequintest.Fault
		settled, unknown bool          // whether any are
		unsettled        bool          // whether any are
		within           time.Duration // Close's ctx
		reason           error
	}{
		"answers are lost":   {sequintest.Fault{CutAfter: true}, false, true, false, time.Minute, sequin.ErrOutcomeUnknown},
		"requests hang":      {sequintest.Fault{Delay: time.Hour}, false, true, false, time.Minute, sequin.ErrOutcomeUnknown},
		"one answer is lost": {sequintest.Fault{CutAfter: true, Skip: 1, Count: 1}, true, true, false, time.Minute, sequin.ErrOutcomeUnknown},
		"refused":            {sequintest.Fault{Status: 400, Body: `{"summary":"no"}`}, false, false, true, time.Minute, sequin.ErrValidation},
		"never served":       {sequintest.Fault{Status: 503, Body: ownRefusal}, false, false, true, time.Minute, sequin.ErrLeaseExpired},
		"too slow for ctx":   {sequintest.Fault{Delay: 1600 * time.Millisecond}, true, true, true, time.Millisecond, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			unfenced(t, func(t *testing.T, w *world) {
				w.stream(t, "orders", spacious)
				sub := w.subscribe(t, sequin.SubscriberConfig{MaxInFlight: most})
				buffered := w.fillBuffer(t, sub, most)
				row.fault.Op = sequintest.Nack
				w.Fault(row.fault)
				w.Fault(sequintest.Fault{Op: sequintest.Nack, Delay: time.Millisecond}) // the others: time for more nacks to come
				ctx, cancel := context.WithTimeout(w.ctx, row.within)
				defer cancel()
				began := time.Now()
				var left *sequin.DrainError
				require.ErrorAs(t, sub.Close(ctx), &left)
				require.LessOrEqual(t, time.Since(began), min(30*time.Second, row.within+2*time.Second), "the lease, or ctx and a margin")
				settled := 0
				for _, r := range w.Requests(sequintest.Nack) {
					if r.Status == 200 {
						settled += len(r.AckIDs())
					}
				}
				require.Equal(t, buffered, settled+left.Unsettled+left.Unknown)
				require.Equal(t, []bool{row.settled, row.unknown, row.unsettled}, []bool{settled > 0, left.Unknown > 0, left.Unsettled > 0},
					"%d settled, %d unknown, %d unsettled", settled, left.Unknown, left.Unsettled)
				require.ErrorIs(t, left, row.reason)
			})
		})
	}
}

// The server delivers a returned message to a receive that waits. If that were one of the stopping Subscriber, which is
// cancelled a moment later, its answer would be lost, and its messages would stay leased until their leases end.
func TestNoReceiveWaitsWhileAStopReturnsMessages(t *testing.T) {
	const messages = 5 // few enough for another receive to run
	ends := map[string]func(ctx context.Context, sub *sequin.Subscriber) error{
		"what is buffered": func(ctx context.Context, sub *sequin.Subscriber) error {
			<-ctx.Done()
			return sub.Close(context.WithoutCancel(ctx))
		},
		"what is collected": func(ctx context.Context, sub *sequin.Subscriber) error {
			cfg := sequin.BatchHandlerConfig{Size: 100, Wait: time.Hour}
			return sub.HandleBatch(ctx, cfg, func(context.Context, []sequin.Delivery) error { return errors.New("handled") })
		},
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			inMode(t, server.Documented, func(t *testing.T, w *world) {
				var waiting, nacks atomic.Int32
				client := w.through(t, func(behind http.RoundTripper) http.RoundTripper {
					return roundTripper(func(r *http.Request) (*http.Response, error) {
						switch {
						case strings.HasSuffix(r.URL.Path, "/receive"):
							waiting.Add(1)
							defer waiting.Add(-1)
							defer time.Sleep(time.Millisecond) // so that the test notices a stop that does not wait for its end
						case strings.HasSuffix(r.URL.Path, "/nack"):
							nacks.Add(1)
							if waiting.Load() > 0 {
								t.Error("a nack beside a receive that waits")
							}
						}
						return behind.RoundTrip(r)
					})
				})
				w.stream(t, "orders", sequin.ConsumerOptions{AckWait: time.Hour})
				sub := subscribe(t, client, sequin.SubscriberConfig{})
				w.publish(t, "k", messages)
				run := w.start(t, func(ctx context.Context) error { return end(ctx, sub) })
				time.Sleep(time.Second)
				require.Equal(t, int32(1), waiting.Load())
				require.NoError(t, run.stop())
				require.NotZero(t, nacks.Load())
				synctest.Wait() // for the server, whose receive was cancelled
				require.Empty(t, w.consumer(t).Outstanding)
				require.Equal(t, messages, w.consumer(t).Available)
			})
		})
	}
}

// requireLeft requires a DrainError with the given number of unsettled deliveries and the given reason.
func requireLeft(t *testing.T, err error, unsettled int, reason error) {
	t.Helper()
	var left *sequin.DrainError
	require.ErrorAs(t, err, &left)
	require.Equal(t, unsettled, left.Unsettled)
	require.Zero(t, left.Unknown)
	require.ErrorIs(t, err, reason)
}

// A program ends its loop with deliveries that it has not settled. Close may wait until their leases end, but must not return
// nil, which would mean that every delivery was settled.
func TestCloseAfterALeftLoopTellsWhatWasNotSettled(t *testing.T) {
	for _, row := range []struct {
		name   string
		within time.Duration // the ctx of Close
		later  time.Duration // how long after the loop Close is called
		reason error
	}{
		{"the_ctx_ends_first", 2 * time.Second, 0, context.DeadlineExceeded},
		{"the_leases_end_first", time.Minute, 0, sequin.ErrLeaseExpired},
		{"the_deadlines_have_passed", time.Minute, 29 * time.Second, sequin.ErrLeaseExpired},
	} {
		t.Run(row.name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 30 * time.Second})
				w.publish(t, "k", 5)
				sub := w.subscribe(t, sequin.SubscriberConfig{})
				seen := 0
				for d := range sub.Deliveries() {
					if seen++; seen == 1 {
						require.NoError(t, d.Ack())
					} else if seen == 4 {
						break
					}
				}
				time.Sleep(row.later)
				ctx, cancel := context.WithTimeout(w.ctx, row.within)
				defer cancel()
				requireLeft(t, sub.Close(ctx), 3, row.reason)
			})
		})
	}
}

// A delivery whose lease ended before the stop has been redelivered, and the stop does not count it.
func TestCloseDoesNotCountDeliveriesWhoseLeasesEndedBefore(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 10 * time.Second})
		w.publish(t, "k", 1)
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		next(t, sub, time.Second)
		require.NoError(t, next(t, sub, 11*time.Second).AckSync(w.ctx), "it is redelivered")
		require.NoError(t, sub.Close(w.ctx))
	})
}

// An ack that fails while Close runs is reported by OnAckError, and by Close.
func TestCloseCountsAnAckThatFailsMeanwhile(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 1)
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		d := next(t, sub, time.Second)
		w.Fault(sequintest.Fault{Op: sequintest.Ack, Status: 422, Body: `{"summary":"no"}`, Delay: time.Second})
		require.NoError(t, d.Ack())
		requireLeft(t, sub.Close(w.ctx), 1, sequin.ErrValidation)
	})
}
