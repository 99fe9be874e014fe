package sequin_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// ackAll acks deliveries.
func ackAll(t *testing.T, ds []sequin.Delivery) {
	t.Helper()
	for _, d := range ds {
		require.NoError(t, d.Ack())
	}
}

// The Subscriber looks each millisecond whether a program waits that has settled nothing.
func TestAProgramThatReadsAheadWaitsOnlyAtTheBeginning(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		const n = 1000
		sub := w.backlog(t, n, time.Minute, sequin.SubscriberConfig{})
		var held []sequin.Delivery
		var began time.Time
		for d := range sub.Deliveries() {
			if held = append(held, d); len(held) == 600 { // the first receives ask for few
				began = time.Now()
			}
			if len(held) == n {
				break
			}
		}
		require.Zero(t, time.Since(began))
		ackAll(t, held)
		require.NoError(t, sub.Close(w.ctx))
		w.requireDone(t)
	})
}

func TestAProgramThatHasReadAheadMayGoOnOneByOne(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 1000, time.Minute, sequin.SubscriberConfig{})
		channel, held := sub.Deliveries(), []sequin.Delivery(nil)
		for range 600 {
			held = append(held, <-channel)
		}
		time.Sleep(5 * time.Second)
		require.Len(t, channel, 1, "the leases of the others are checked before they are delivered")
		ackAll(t, held)
		began := time.Now()
		for range 400 {
			require.NoError(t, (<-channel).Ack())
		}
		require.Zero(t, time.Since(began))
		require.NoError(t, sub.Close(w.ctx))
		w.requireDone(t)
	})
}

// When the Subscriber looks, the program has often settled all that it has read. Of groups of two or three it always has settled some
// between two looks.
func TestAProgramThatReadsInGroupsSeldomWaits(t *testing.T) {
	for _, row := range []struct {
		size int
		work time.Duration // after each group
		most time.Duration // of 200 groups
	}{{40, 3 * time.Millisecond, 660 * time.Millisecond}, {2, time.Millisecond, 240 * time.Millisecond}, {3, time.Millisecond, 240 * time.Millisecond}} {
		t.Run(fmt.Sprint(row.size), func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				const groups = 200
				sub := w.backlog(t, groups*row.size, time.Minute, sequin.SubscriberConfig{})
				began, channel := time.Now(), sub.Deliveries()
				for range groups {
					var held []sequin.Delivery
					for range row.size {
						held = append(held, <-channel)
					}
					ackAll(t, held)
					time.Sleep(row.work)
				}
				require.Less(t, time.Since(began), row.most)
				require.NoError(t, sub.Close(w.ctx))
				w.requireDone(t)
			})
		})
	}
}

func TestHandedOutDoesNotDecrease(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 1000, time.Minute, sequin.SubscriberConfig{})
		var held []sequin.Delivery
		last := uint64(0)
		for d := range sub.Deliveries() {
			held = append(held, d)
			n := sub.Stats().HandedOut
			require.GreaterOrEqual(t, n, max(last, uint64(len(held)-1)))
			require.LessOrEqual(t, n, uint64(len(held)))
			if last = n; len(held) == 1000 {
				break
			}
		}
		ackAll(t, held)
		synctest.Wait()
		require.EqualValues(t, 1000, sub.Stats().HandedOut)
		require.NoError(t, sub.Close(w.ctx))
	})
}

func TestADeliveryThatWaitsForRoomStaysInOrder(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		const n = 4000
		sub := w.backlog(t, n, time.Minute, sequin.SubscriberConfig{Pollers: 1, MaxInFlight: n})
		dice := rand.New(rand.NewPCG(17, 4))
		var held []sequin.Delivery
		last := int64(0)
		for got := 0; got < n; {
			var ds []sequin.Delivery
			switch dice.IntN(4) {
			case 0, 1:
				ds = append(ds, next(t, sub, time.Second))
			case 2:
				var err error
				ds, err = sub.Take(w.ctx, 1+dice.IntN(100))
				require.NoError(t, err)
			case 3:
				ackAll(t, held)
				held = held[:0]
			}
			if dice.IntN(3) == 0 {
				synctest.Wait()
			}
			for _, d := range ds {
				require.Greater(t, d.Seq, last)
				last = d.Seq
			}
			got, held = got+len(ds), append(held, ds...)
		}
		ackAll(t, held)
		require.NoError(t, sub.Close(w.ctx))
		w.requireDone(t)
	})
}

func TestABatchOfAThousandDoesNotWait(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 3000, time.Minute, sequin.SubscriberConfig{})
		b := w.batchesFor(t, time.Second, sub, sequin.BatchHandlerConfig{Size: 1000}, 0)
		require.Equal(t, []int{1000, 1000, 1000}, b.sizes)
		require.LessOrEqual(t, b.at[2], 10*time.Millisecond)
		w.requireSettled(t, "orders")
	})
}

// A full batch may have taken the last delivery of the channel.
func TestFullBatchesWithFreeWorkersDoNotWait(t *testing.T) {
	for _, size := range []int{1, 16, 17} {
		inBothModes(t, func(t *testing.T, w *world) {
			const n = 960
			sub := w.backlog(t, n, time.Minute, sequin.SubscriberConfig{MaxInFlight: n})
			b := w.batchesFor(t, time.Minute, sub, sequin.BatchHandlerConfig{Size: size, Workers: n}, 5*time.Second)
			require.LessOrEqual(t, b.at[n/size-1], 10*time.Millisecond)
			w.requireSettled(t, "orders")
		})
	}
}

// A batch that nothing can be added to does not wait. One may be added while deliveries wait for room in the channel.
func TestABatchWaitsForWhatIsBuffered(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 400, time.Minute, sequin.SubscriberConfig{MaxInFlight: 400})
		b := w.batchesFor(t, time.Minute, sub, sequin.BatchHandlerConfig{Size: 300, Wait: 10 * time.Second}, 0)
		require.Equal(t, []int{300, 100}, b.sizes)
		w.requireSettled(t, "orders")
	})
}

// A worker reads on while the messages of its deliveries are being sent.
func TestAPipelineReadsOnAtOnce(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 1000, time.Minute, sequin.SubscriberConfig{})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Match: to("target"), Delay: 10 * time.Second})
		var calls atomic.Int64
		p := w.pipe(t, sub, sequin.PublisherConfig{}, sequin.HandlerConfig{}, func(ctx context.Context, d sequin.Delivery) ([]sequin.Message, error) {
			calls.Add(1)
			return copies(ctx, d)
		})
		time.Sleep(15 * time.Millisecond) // the first receives ask for few, and the loop looks every millisecond
		require.EqualValues(t, 1000, calls.Load())
		time.Sleep(30 * time.Second)
		p.end(t)
		w.requireSettled(t, "orders")
	})
}
