package sequin_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

func TestAcksTravelInBatches(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 3000)
		sub := w.subscribe(t, sequin.SubscriberConfig{MaxInFlight: 5000})
		var all []sequin.Delivery
		for range 3000 {
			all = append(all, next(t, sub, 2*time.Second))
		}
		w.Fault(sequintest.Fault{Op: sequintest.Ack, Delay: 5 * time.Millisecond})
		for _, d := range all {
			require.NoError(t, d.Ack())
		}
		closeNow(t, sub)
		w.requireDone(t)
		require.Equal(t, uint64(3000), sub.Stats().Acked)
		var ids []string
		for _, r := range w.Requests(sequintest.Ack) {
			require.LessOrEqual(t, len(r.AckIDs()), 1000)
			ids = append(ids, r.AckIDs()...)
		}
		require.LessOrEqual(t, w.Count(sequintest.Ack), 6)
		slices.Sort(ids)
		require.Len(t, slices.Compact(ids), 3000)
	})
}

// carries matches the requests that settle a delivery.
func carries(d sequin.Delivery) func(*sequintest.Request) bool {
	return func(r *sequintest.Request) bool { return slices.Contains(r.AckIDs(), d.AckID) }
}

// A request that fails, in whatever way, delays only the settles in it.
func TestAFailingAckRequestDoesNotDelayOthers(t *testing.T) {
	for name, fault := range map[string]sequintest.Fault{
		"hangs":             {Delay: time.Hour},
		"unavailable":       {Status: 503, Body: ownRefusal},
		"crashes":           {Status: 500},
		"connection closed": {CutBefore: true},
		"refused":           {Status: 400, Body: `{"summary":"no"}`},
	} {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 8 * time.Second})
				w.send(t, "bad", "x")
				failed := make(chan sequin.Delivery, 200)
				sub := w.subscribe(t, sequin.SubscriberConfig{MaxInFlight: 200, OnAckError: func(d sequin.Delivery, _ error) { failed <- d }})
				bad := next(t, sub, time.Second)
				fault.Op, fault.Match = sequintest.Ack, carries(bad)
				w.Fault(fault)
				require.NoError(t, bad.Ack())
				synctest.Wait() // it is sent alone
				w.publish(t, "good", 100)
				for range 100 {
					d := next(t, sub, time.Second+time.Millisecond)
					if d.Key == "bad" {
						continue
					}
					require.NoError(t, d.Ack())
					time.Sleep(50 * time.Millisecond)
				}
				time.Sleep(3 * time.Second)
				require.GreaterOrEqual(t, int(sub.Stats().Acked), 99)
				for len(failed) > 0 {
					require.Equal(t, "bad", (<-failed).Key)
				}
			})
		})
	}
}

// Leases end while acks cannot be sent. Later, the acks whose leases have ended are reported, and the others are sent.
func TestOfABatchThatHasPartlyExpiredTheRestIsSent(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 8 * time.Second})
		failed := make(chan error, 100)
		sub := w.subscribe(t, sequin.SubscriberConfig{OnAckError: func(d sequin.Delivery, err error) {
			if d.Key[:3] != "old" {
				t.Errorf("%s: %v", d.Key, err)
			}
			failed <- err
		}})
		w.publish(t, "old", 10)
		var all []sequin.Delivery
		for range 10 {
			all = append(all, next(t, sub, time.Second))
		}
		time.Sleep(4 * time.Second)
		w.publish(t, "new", 10)
		var good []string
		for range 10 {
			d := next(t, sub, 2*time.Second)
			all, good = append(all, d), append(good, d.AckID)
		}
		unavailable := w.Fault(sequintest.Fault{Op: sequintest.Ack, Status: 503, Body: ownRefusal})
		for _, d := range all {
			require.NoError(t, d.Ack())
		}
		time.Sleep(3 * time.Second)
		require.Len(t, failed, 10)
		unavailable.Remove()
		refused := w.Count(sequintest.Ack)
		time.Sleep(time.Second)
		require.Equal(t, uint64(10), sub.Stats().Acked)
		require.Equal(t, uint64(10), sub.Stats().RefusedLate)
		for range 10 {
			require.ErrorIs(t, <-failed, sequin.ErrLeaseExpired)
		}
		var sent []string // in one request or two: the first ack may have been sent before the others were made
		for _, r := range w.Requests(sequintest.Ack)[refused:] {
			sent = append(sent, r.AckIDs()...)
		}
		require.ElementsMatch(t, good, sent)
	})
}

func TestADeliveryIsSettledOnce(t *testing.T) {
	settles := map[string]func(sequin.Delivery) error{
		"ack":        sequin.Delivery.Ack,
		"nack":       sequin.Delivery.Nack,
		"ack_sync":   func(d sequin.Delivery) error { return d.AckSync(context.Background()) },
		"nack_after": func(d sequin.Delivery) error { return d.NackAfter(time.Second) },
		"release":    sequin.Delivery.Release,
	}
	for first, settle := range settles {
		for second, again := range settles {
			t.Run(first+"_then_"+second, func(t *testing.T) {
				inMode(t, server.Documented, func(t *testing.T, w *world) {
					w.stream(t, "orders", sequin.ConsumerOptions{})
					w.send(t, "k.1", "x")
					sub := w.subscribe(t, sequin.SubscriberConfig{MaxInFlight: 1})
					d := next(t, sub, time.Second)
					require.NoError(t, settle(d))
					require.ErrorIs(t, again(d), sequin.ErrSettled)
					synctest.Wait()
					require.ErrorIs(t, again(d), sequin.ErrSettled)
					time.Sleep(2 * time.Second)
					require.Equal(t, 1, w.Count(sequintest.Ack)+w.Count(sequintest.Nack))
					closeNow(t, sub)
					require.ErrorIs(t, again(d), sequin.ErrSettled)
				})
			})
		}
	}
}

func TestOfManySettlesAtOnceOneWins(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 100)
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		for range 100 {
			d := next(t, sub, 2*time.Second)
			var won atomic.Int32
			var group sync.WaitGroup
			for i := range 8 {
				group.Go(func() {
					var err error
					if i%2 == 0 {
						err = d.AckSync(w.ctx)
					} else {
						err = d.Ack()
					}
					if err == nil {
						won.Add(1)
					} else if !errors.Is(err, sequin.ErrSettled) {
						t.Error(err)
					}
				})
			}
			group.Wait()
			require.Equal(t, int32(1), won.Load())
		}
		closeNow(t, sub)
		w.requireDone(t)
		require.Equal(t, uint64(100), sub.Stats().Acked)
	})
}

func TestASettleAfterCloseIsRefused(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 4)
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		var held []sequin.Delivery
		for range 4 {
			held = append(held, next(t, sub, time.Second))
		}
		ended, cancel := context.WithCancel(w.ctx)
		cancel()
		require.Error(t, sub.Close(ended))
		require.ErrorIs(t, held[0].Ack(), sequin.ErrClosed)
		require.ErrorIs(t, held[1].Nack(), sequin.ErrClosed)
		require.ErrorIs(t, held[2].AckSync(w.ctx), sequin.ErrClosed)
		require.ErrorIs(t, held[3].NackAfter(time.Second), sequin.ErrClosed)
		require.Zero(t, w.Count(sequintest.Ack)+w.Count(sequintest.Nack))
	})
}

func TestASubscriberSettlesItsOwnDeliveriesAlone(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 2)
		a := w.subscribe(t, sequin.SubscriberConfig{MaxInFlight: 1})
		b := w.subscribe(t, sequin.SubscriberConfig{MaxInFlight: 1})
		ofA, ofB := next(t, a, time.Second), next(t, b, 2*time.Second)
		mixed := ofA
		mixed.Acknowledger = ofB.Acknowledger
		require.ErrorIs(t, mixed.Ack(), sequin.ErrNotDelivered)
		literal := sequin.Delivery{AckID: ofA.AckID, Acknowledger: ofA.Acknowledger}
		require.ErrorIs(t, literal.Ack(), sequin.ErrNotDelivered)
		require.ErrorIs(t, ofA.Acknowledger.Settle(w.ctx, ofA, sequin.Settlement{}), sequin.ErrInvalidArgument)
		require.NoError(t, ofA.Ack())
		require.NoError(t, ofB.Ack())
		closeNow(t, a)
		closeNow(t, b)
		w.requireDone(t)
	})
}

// The ctx of AckSync bounds only the wait.
func TestAnAckOutlivesTheCtxOfAckSync(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.send(t, "k.1", "x")
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		d := next(t, sub, time.Second)
		w.Fault(sequintest.Fault{Op: sequintest.Ack, Delay: time.Second})
		short, cancel := context.WithTimeout(w.ctx, 100*time.Millisecond)
		defer cancel()
		began := time.Now()
		require.ErrorIs(t, d.AckSync(short), context.DeadlineExceeded)
		require.Equal(t, 100*time.Millisecond, time.Since(began))
		require.ErrorIs(t, d.AckSync(w.ctx), sequin.ErrSettled)
		time.Sleep(time.Second)
		w.requireDone(t)
		closeNow(t, sub)
	})
}

// An AckSync waits for its answer, so it is sent at once, even while another request hangs.
func TestAnAckSyncIsSentAtOnce(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 2)
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		hangs, quick := next(t, sub, time.Second), next(t, sub, time.Second)
		w.Fault(sequintest.Fault{Op: sequintest.Ack, Match: carries(hangs), Delay: time.Second})
		require.NoError(t, hangs.Ack())
		synctest.Wait()
		began := time.Now()
		require.NoError(t, quick.AckSync(w.ctx))
		require.Zero(t, time.Since(began))
		closeNow(t, sub)
	})
}

// AckSync returns the error if it still waits. Otherwise OnAckError is called.
func TestTheFailureOfAnAckSyncIsReportedOnce(t *testing.T) {
	for name, row := range map[string]struct {
		patience time.Duration // of the ctx
		want     error
		reported int
	}{
		"it waits":        {2 * time.Second, sequin.ErrValidation, 0},
		"ctx ended first": {100 * time.Millisecond, context.DeadlineExceeded, 1},
	} {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{})
				w.send(t, "k.1", "x")
				failed := make(chan error, 2)
				sub := w.subscribe(t, sequin.SubscriberConfig{OnAckError: func(_ sequin.Delivery, err error) { failed <- err }})
				d := next(t, sub, time.Second)
				w.Fault(sequintest.Fault{Op: sequintest.Ack, Delay: time.Second, Status: 400, Body: `{"summary":"no"}`})
				ctx, cancel := context.WithTimeout(w.ctx, row.patience)
				defer cancel()
				require.ErrorIs(t, d.AckSync(ctx), row.want)
				time.Sleep(2 * time.Second)
				require.Len(t, failed, row.reported)
				if row.reported > 0 {
					require.ErrorIs(t, <-failed, sequin.ErrValidation)
				}
			})
		})
	}
}

// It ends with ErrClosed.
func TestAnAckThatAStopCouldNotSendIsReported(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 2)
		failed := make(chan error, 2)
		sub := w.subscribe(t, sequin.SubscriberConfig{OnAckError: func(_ sequin.Delivery, err error) { failed <- err }})
		first, second := next(t, sub, time.Second), next(t, sub, time.Second)
		w.Fault(sequintest.Fault{Op: sequintest.Ack, Status: 503, Body: ownRefusal})
		waited := make(chan error, 1)
		require.NoError(t, first.Ack())
		go func() { waited <- second.AckSync(context.Background()) }()
		synctest.Wait()
		ended, cancel := context.WithCancel(w.ctx)
		cancel()
		var left *sequin.DrainError
		require.ErrorAs(t, sub.Close(ended), &left)
		require.Equal(t, 2, left.Unsettled)
		require.ErrorIs(t, <-failed, sequin.ErrClosed)
		require.ErrorIs(t, <-waited, sequin.ErrClosed)
		require.Empty(t, failed)
	})
}

func TestARefusedSettleIsReportedOnce(t *testing.T) {
	for _, op := range []sequintest.Op{sequintest.Ack, sequintest.Nack} {
		t.Run(op.String(), func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{})
				w.send(t, "k.1", "x")
				failed := make(chan error, 2)
				sub := w.subscribe(t, sequin.SubscriberConfig{MaxInFlight: 1, OnAckError: func(_ sequin.Delivery, err error) { failed <- err }})
				d := next(t, sub, time.Second)
				w.Fault(sequintest.Fault{Op: op, Status: 400, Body: `{"summary":"never"}`})
				settle := d.Ack
				if op == sequintest.Nack {
					settle = d.Nack
				}
				require.NoError(t, settle())
				time.Sleep(time.Second)
				require.Len(t, failed, 1)
				var api *sequin.APIError
				require.ErrorAs(t, <-failed, &api)
				require.Equal(t, "never", api.Summary)
				require.Equal(t, 1, w.Count(op))
				require.Equal(t, 1, sub.Stats().InFlight, "the server holds it to be leased")
				if op == sequintest.Ack {
					again := next(t, sub, time.Minute)
					require.Equal(t, "k.1", again.Key, "its lease has ended, and its room is free")
				}
				require.Empty(t, failed)
			})
		})
	}
}

func TestNackAfterDelaysWithinTheLease(t *testing.T) {
	for _, row := range []struct{ delay, want time.Duration }{
		{-time.Second, 0},
		{0, 0},
		{time.Second, time.Second},
		{5 * time.Second, 5 * time.Second},
		{time.Hour, 6*time.Second - time.Second}, // a lease of 8 s, less the margin of 2 s, less half of that for the request
	} {
		t.Run(row.delay.String(), func(t *testing.T) {
			inDocumentedWithout(t, []string{"nack-delay"}, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 8 * time.Second})
				sub := w.subscribe(t, sequin.SubscriberConfig{})
				w.send(t, "k.1", "x")
				began := time.Now()
				require.NoError(t, next(t, sub, time.Second).NackAfter(row.delay))
				d := next(t, sub, 9*time.Second)
				require.Equal(t, row.want, time.Since(began))
				require.Equal(t, 2, d.Attempt)
				require.NoError(t, d.Ack())
				synctest.Wait()
				require.Equal(t, uint64(1), sub.Stats().Nacked)
				closeNow(t, sub)
			})
		})
	}
}

func TestDelayedNacksAreSentInTheOrderOfTheirTimes(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 10)
		sub := w.subscribe(t, sequin.SubscriberConfig{MaxInFlight: 100})
		due := map[string]time.Time{}
		for i := range 10 {
			d := next(t, sub, time.Second)
			delay := time.Duration((i*7)%10+1) * time.Second
			due[d.Key] = time.Now().Add(delay)
			require.NoError(t, d.NackAfter(delay))
		}
		for range 10 {
			d := next(t, sub, 12*time.Second)
			require.GreaterOrEqual(t, time.Since(due[d.Key]), time.Duration(0))
			require.LessOrEqual(t, time.Since(due[d.Key]), time.Second)
			require.NoError(t, d.Ack())
		}
		closeNow(t, sub)
	})
}

// The ack would be late if it waited for more acks, or for the backoff of another one.
func TestAnAckShortlyBeforeItsDeadlineIsSentAtOnce(t *testing.T) {
	for name, row := range map[string]struct {
		other  sequintest.Fault // what happens to an ack that was made before
		ahead  time.Duration
		before time.Duration // the deadline
	}{
		"the other hangs, 10 ms left":       {sequintest.Fault{Delay: time.Hour}, 5 * time.Millisecond, 10 * time.Millisecond},
		"the other hangs, 40 ms left":       {sequintest.Fault{Delay: time.Hour}, 5 * time.Millisecond, 40 * time.Millisecond},
		"the other is slow, 20 ms left":     {sequintest.Fault{Delay: 200 * time.Millisecond}, 5 * time.Millisecond, 20 * time.Millisecond},
		"the other is refused, 300 ms left": {sequintest.Fault{Status: 503, Body: ownRefusal}, 4 * time.Second, 300 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 8 * time.Second})
				w.send(t, "good", "x")
				var failed []string
				sub := w.subscribe(t, sequin.SubscriberConfig{MaxInFlight: 10, Pollers: 1,
					OnAckError: func(d sequin.Delivery, _ error) { failed = append(failed, d.Key) }})
				good := next(t, sub, time.Second)
				time.Sleep(time.Until(good.Deadline) - 5*time.Second)
				w.send(t, "bad", "x")
				bad := next(t, sub, time.Second+time.Millisecond)
				row.other.Op, row.other.Match = sequintest.Ack, carries(bad)
				w.Fault(row.other)
				time.Sleep(time.Until(good.Deadline) - row.before - row.ahead)
				require.NoError(t, bad.Ack())
				time.Sleep(row.ahead)
				require.NoError(t, good.Ack())
				time.Sleep(3 * time.Second)
				closeNow(t, sub)
				require.NotContains(t, failed, "good")
			})
		})
	}
}

func TestASettleIsRepeatedSeldomAndInTime(t *testing.T) {
	for _, row := range []struct{ ackWait, margin time.Duration }{{5 * time.Second, 20 * time.Millisecond}, {30 * time.Second, 0}, {30 * time.Second, 15 * time.Second}} {
		t.Run(row.margin.String(), func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				sub := w.backlog(t, 1, row.ackWait, sequin.SubscriberConfig{LeaseMargin: row.margin})
				down := w.Fault(sequintest.Fault{Op: sequintest.Ack, Status: 503, Body: ownRefusal})
				d := next(t, sub, time.Second)
				require.NoError(t, d.Ack())
				time.Sleep(time.Until(d.Deadline) - 250*time.Millisecond)
				require.Less(t, w.Count(sequintest.Ack), 50)
				down.Remove()
				require.NoError(t, sub.Flush(w.ctx))
				require.False(t, time.Now().After(d.Deadline))
				require.NoError(t, sub.Close(w.ctx))
				w.requireDone(t)
			})
		})
	}
}

func TestASettleIsNotRepeatedEverMoreOften(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		failed := make(chan error, 1)
		sub := w.backlog(t, 1, 5*time.Second, sequin.SubscriberConfig{LeaseMargin: 20 * time.Millisecond,
			OnAckError: func(_ sequin.Delivery, err error) { failed <- err }})
		down := w.Fault(sequintest.Fault{Op: sequintest.Ack, Status: 503, Body: ownRefusal, Count: 20})
		d := next(t, sub, time.Second)
		require.NoError(t, d.Ack())
		time.Sleep(time.Until(d.Deadline) + time.Second)
		require.Less(t, down.Hits(), 20)
		require.ErrorIs(t, <-failed, sequin.ErrLeaseExpired)
		closeNow(t, sub)
	})
}
