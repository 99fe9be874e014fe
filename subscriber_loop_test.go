package sequin_test

import (
	"fmt"
	"net/http"
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

// most keeps the largest number that it was given.
type most struct{ atomic.Int64 }

func (m *most) show(n int) {
	for {
		was := m.Load()
		if int64(n) <= was || m.CompareAndSwap(was, int64(n)) {
			return
		}
	}
}

// watching returns a client, and the largest number of messages that the server counted as leased after any of its requests.
func (w *world) watching(t *testing.T) (*sequin.Client, *most) {
	seen := new(most)
	return w.through(t, func(behind http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			resp, err := behind.RoundTrip(r)
			if state, ok := w.Stream("orders"); ok && err == nil {
				seen.show(len(state.Consumers[0].Outstanding))
			}
			return resp, err
		})
	}), seen
}

// The limit holds however the program behaves. A program that keeps what it reads gets as many as MaxInFlight.
func TestNoMoreThanMaxInFlightIsLeased(t *testing.T) {
	t.Parallel() // one of the longest
	for name, handle := range map[string]func(i int, d sequin.Delivery){
		"acks":                func(_ int, d sequin.Delivery) { _ = d.Ack() },
		"forgets":             func(int, sequin.Delivery) {},
		"nacks_every_third":   func(i int, d sequin.Delivery) { settleSome(i, d, func() { _ = d.Nack() }) },
		"delays_every_third":  func(i int, d sequin.Delivery) { settleSome(i, d, func() { _ = d.NackAfter(3 * time.Second) }) },
		"forgets_every_third": func(i int, d sequin.Delivery) { settleSome(i, d, func() {}) },
		"is_late": func(_ int, d sequin.Delivery) {
			go func() { time.Sleep(time.Until(d.Deadline)); _ = d.Ack() }()
		},
	} {
		for _, cfg := range []sequin.SubscriberConfig{{MaxInFlight: 1}, {MaxInFlight: 7, Pollers: 1}, {MaxInFlight: 50, Pollers: 8}} {
			t.Run(fmt.Sprintf("%s_%d_in_flight_%d_pollers", name, cfg.MaxInFlight, cfg.Pollers), func(t *testing.T) {
				inBothModes(t, func(t *testing.T, w *world) {
					w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 5 * time.Second})
					w.publish(t, "k", 150)
					client, out := w.watching(t)
					w.Fault(sequintest.Fault{Op: sequintest.Ack, Skip: 3, Count: 5, CutAfter: true})
					w.Fault(sequintest.Fault{Op: sequintest.Ack, Skip: 3, Count: 5, Delay: time.Second})
					sub := subscribe(t, client, cfg)
					over := time.After(45 * time.Second)
					for i, running := 0, true; running; i++ {
						select {
						case d := <-sub.Deliveries():
							time.Sleep(10 * time.Millisecond)
							handle(i, d)
							require.LessOrEqual(t, sub.Stats().InFlight, cfg.MaxInFlight)
						case <-over:
							running = false
						}
					}
					require.LessOrEqual(t, int(out.Load()), cfg.MaxInFlight)
					if name == "forgets" {
						require.Equal(t, cfg.MaxInFlight, int(out.Load()), "a program that keeps what it reads")
						require.Greater(t, sub.Stats().HandedOut, uint64(7*cfg.MaxInFlight), "a message that is not settled frees its room when its lease ends")
					}
				})
			})
		}
	}
}

func settleSome(i int, d sequin.Delivery, otherwise func()) {
	if i%3 == 0 {
		otherwise()
		return
	}
	_ = d.Ack()
}

// The program also counts the deliveries that it holds and that are neither settled nor expired.
func TestAProgramNeverHoldsMoreThanMaxInFlight(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 3000)
		sub := w.subscribe(t, sequin.SubscriberConfig{MaxInFlight: 20, Pollers: 4})
		var holds, peak most
		var group sync.WaitGroup
		for range 64 {
			group.Go(func() {
				for d := range sub.Deliveries() {
					peak.show(int(holds.Add(1)))
					time.Sleep(10 * time.Millisecond)
					holds.Add(-1)
					_ = d.Ack()
				}
			})
		}
		time.Sleep(time.Minute)
		require.Equal(t, uint64(3000), sub.Stats().Acked)
		require.NoError(t, sub.Close(w.ctx))
		group.Wait()
		require.LessOrEqual(t, int(peak.Load()), 20)
		require.Greater(t, int(peak.Load()), 10, "the room is used")
		w.requireDone(t)
	})
}

// A program that settles its deliveries together must get as many as MaxInFlight says, even before it has settled any.
func TestAProgramMayCollectAllThatMaxInFlightAllows(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 1000)
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		time.Sleep(5 * time.Minute) // it did not read: the window is as small as it gets
		var have []sequin.Delivery
		keys := map[string]bool{}
		for over := time.After(10 * time.Minute); len(have) < 900; {
			select {
			case d := <-sub.Deliveries():
				if len(have) > 0 && time.Until(have[0].Deadline) < 0 {
					have = have[:0] // not enough in time: start again
				}
				have = append(have, d)
			case <-over:
				require.Fail(t, "stuck", "with %d; %+v", len(have), sub.Stats())
			}
		}
		for _, d := range have {
			require.NoError(t, d.Ack())
			keys[d.Key] = true
		}
		require.Len(t, keys, 900)
		closeNow(t, sub)
	})
}

// A program that took long over one delivery must still get the others that it waits for.
func TestAProgramThatCollectsSlowlyIsNotStarved(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 100)
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		d := next(t, sub, time.Second)
		time.Sleep(20 * time.Second) // of a lease of 30 s: the window does not grow at once
		require.NoError(t, d.AckSync(w.ctx))
		time.Sleep(5 * time.Minute) // it did not read: the window is as small as it gets
		held := map[string]sequin.Delivery{}
		for over := time.After(10 * time.Minute); len(held) < 4; {
			select {
			case d := <-sub.Deliveries():
				for key, h := range held {
					if time.Until(h.Deadline) <= 0 {
						delete(held, key)
					}
				}
				held[d.Key] = d
			case <-over:
				require.Fail(t, "stuck", "with %d; %+v", len(held), sub.Stats())
			}
		}
		for _, d := range held {
			require.NoError(t, d.Ack())
		}
		closeNow(t, sub)
	})
}

// A receive that waits must leave room for the others.
func TestAWaitingReceiveReservesAPartOfTheRoom(t *testing.T) {
	for _, row := range []struct{ maxInFlight, pollers, want int }{
		{1, 1, 1}, {1, 2, 1}, {10, 1, 5}, {10, 2, 4}, {90, 2, 30}, {1000, 2, 32}, {100_000, 2, 32},
	} {
		inMode(t, server.Documented, func(t *testing.T, w *world) {
			w.stream(t, "orders", sequin.ConsumerOptions{})
			sub := w.subscribe(t, sequin.SubscriberConfig{MaxInFlight: row.maxInFlight, Pollers: row.pollers})
			synctest.Wait()
			require.Equal(t, 1, w.consumer(t).Waiting)
			require.Contains(t, string(w.Requests(sequintest.Receive)[0].Body), fmt.Sprintf(`"batch_size":%d,`, row.want))
			closeNow(t, sub)
		})
	}
}

func TestReceivesAskForMoreUpToTheirShare(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.publish(t, "k", 20_000)
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		w.Fault(sequintest.Fault{Op: sequintest.Ack, Delay: time.Millisecond}) // room comes in large pieces
		for taken := 0; taken < 20_000; {
			time.Sleep(10 * time.Millisecond) // the program always reads after the messages have arrived
			stats := sub.Stats()
			for range stats.Received - stats.HandedOut {
				require.NoError(t, next(t, sub, time.Second).Ack())
				taken++
			}
		}
		closeNow(t, sub)
		largest := 0
		for _, r := range w.Requests(sequintest.Receive) {
			largest = max(largest, len(r.Deliveries()))
		}
		require.Greater(t, largest, 600)
		require.LessOrEqual(t, largest, sequin.MaxBatch)
	})
}
