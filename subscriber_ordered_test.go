package sequin_test

import (
	"context"
	"fmt"
	"math/rand/v2"
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

// inOrder is a consumer that delivers one message at a time.
var inOrder = sequin.ConsumerOptions{AckWait: 5 * time.Second, MaxAckPending: 1}

// orderCheck is the model of a stream that is handled in order: it knows which message may be handled next.
type orderCheck struct {
	mu    sync.Mutex
	dice  *rand.Rand
	began int64 // the highest seq whose handling has begun
	done  int64 // the highest seq that was handled
	wrong []string

	handlers sync.WaitGroup // a stop does not wait for a handler for more than a second
}

// begin notes that a handler begins with a message. Every earlier one must have been handled, and no later one begun.
func (c *orderCheck) begin(d sequin.Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.Seq > c.done+1 || d.Seq < c.began {
		c.wrong = append(c.wrong, fmt.Sprintf("%d begins after %d was handled, and %d had begun", d.Seq, c.done, c.began))
	}
	c.began = max(c.began, d.Seq)
}

// draw returns a number below n.
func (c *orderCheck) draw(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dice.IntN(n)
}

// within draws a time.
func (c *orderCheck) within(d time.Duration) time.Duration {
	return time.Duration(c.draw(int(d/time.Millisecond))) * time.Millisecond
}

func (c *orderCheck) handled(d sequin.Delivery) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done = max(c.done, d.Seq)
}

// handle draws what becomes of a message.
func (c *orderCheck) handle(ctx context.Context, d sequin.Delivery) error {
	c.handlers.Add(1)
	defer c.handlers.Done()
	c.begin(d)
	switch c.draw(12) {
	case 0:
		return errDown
	case 1:
		return d.NackAfter(c.within(20 * time.Second))
	case 2:
		return d.Release()
	case 3:
		return d.Nack()
	case 4:
		time.Sleep(c.within(12 * time.Second)) // longer than the lease, which is extended where that is possible
		if ctx.Err() != nil {
			return ctx.Err()
		}
	case 5:
		panic("a handler panics")
	}
	time.Sleep(c.within(50 * time.Millisecond))
	c.handled(d)
	return nil
}

// process runs handlers for a random time, and then stops, or dies with what it has.
func (c *orderCheck) process(t *testing.T, w *world, ctx context.Context) {
	var dead atomic.Bool
	sub, err := w.mortal(t, &dead).Subscribe(ctx, "orders", "all", sequin.SubscriberConfig{Ordered: true})
	if err != nil {
		return // a fault; or the end
	}
	life, end := context.WithTimeout(ctx, c.within(time.Minute))
	defer end()
	handle := c.handle
	if c.draw(2) == 0 {
		context.AfterFunc(life, func() { dead.Store(true) })
		handle = func(ctx context.Context, d sequin.Delivery) error {
			if dead.Load() {
				<-ctx.Done()
				return ctx.Err()
			}
			return c.handle(ctx, d)
		}
	}
	_ = sub.Handle(life, sequin.HandlerConfig{BackoffMin: time.Second, BackoffMax: 8 * time.Second}, handle)
}

func (w *world) stopped(ctx context.Context, n int64, c *orderCheck) bool {
	for ctx.Err() == nil {
		time.Sleep(time.Second)
		c.mu.Lock()
		done := c.done == n
		c.mu.Unlock()
		if done {
			return true
		}
	}
	return false
}

// Three processes that stop and crash handle a stream whose requests fail. The order is that of all of them together.
func TestOrderedKeepsTheOrderOverFailuresAndRestarts(t *testing.T) {
	t.Parallel() // one of the longest
	for _, opts := range []sequin.StreamOptions{{}, {OneMessagePerKey: true}} {
		for seed := range 5 {
			t.Run(fmt.Sprintf("%v, run %d", opts.OneMessagePerKey, seed), func(t *testing.T) {
				inDocumented(t, func(t *testing.T, w *world) {
					_, err := w.client.CreateStream(w.ctx, "orders", opts)
					require.NoError(t, err)
					_, err = w.client.CreateConsumer(w.ctx, "orders", "all", ">", inOrder)
					require.NoError(t, err)
					const n = 150
					c := orderCheck{dice: rand.New(rand.NewPCG(21, uint64(seed)))}
					for i := range n {
						key := fmt.Sprintf("k.%d", i)
						if !opts.OneMessagePerKey {
							key = fmt.Sprintf("k.%d", c.draw(10))
						}
						w.send(t, key, "x")
					}
					for _, op := range []sequintest.Op{sequintest.Receive, sequintest.Ack, sequintest.Nack} {
						often := func(*sequintest.Request) bool { return c.draw(25) == 0 }
						w.Fault(sequintest.Fault{Op: op, Match: often, Status: 503, Body: ownRefusal})
						w.Fault(sequintest.Fault{Op: op, Match: often, CutAfter: true})
						w.Fault(sequintest.Fault{Op: op, Match: often, Delay: time.Second})
					}
					ctx, end := context.WithTimeout(w.ctx, 24*time.Hour)
					defer end()
					var all sync.WaitGroup
					for range 3 {
						all.Go(func() {
							for ctx.Err() == nil {
								c.process(t, w, ctx)
								time.Sleep(c.within(10 * time.Second))
							}
						})
					}
					require.True(t, w.stopped(ctx, n, &c), "%d of %d handled; %v", c.done, n, c.wrong)
					end()
					all.Wait()
					c.handlers.Wait()
					require.Empty(t, c.wrong)
				})
			})
		}
	}
}

// In its first five minutes such a consumer delivers one message.
func TestOrderedKeepsTheOrderOfThe2024Server(t *testing.T) {
	inMode(t, server.Aug2024, func(t *testing.T, w *world) {
		w.stream(t, "orders", inOrder)
		time.Sleep(6 * time.Minute)
		w.publish(t, "k", 50)
		sub := w.subscribe(t, sequin.SubscriberConfig{Ordered: true})
		var last int64
		failed := map[int64]bool{}
		for range 80 {
			d := next(t, sub, 10*time.Second)
			require.LessOrEqual(t, last, d.Seq)
			last = d.Seq
			if d.Seq%3 == 0 && !failed[d.Seq] {
				failed[d.Seq] = true
				require.NoError(t, d.Nack())
				continue
			}
			require.NoError(t, d.Ack())
			if w.consumer(t).Available == 0 {
				break
			}
		}
		require.NotEmpty(t, failed)
		closeNow(t, sub)
	})
}

func TestOrderedNeedsAConsumerThatDeliversOneMessageAtATime(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		_, err := w.client.Subscribe(w.ctx, "orders", "all", sequin.SubscriberConfig{Ordered: true})
		require.ErrorIs(t, err, sequin.ErrInvalidConfig)
		require.ErrorContains(t, err, "max_ack_pending is 1, and not 10000")
		_, err = w.client.UpdateConsumer(w.ctx, "orders", "all", sequin.ConsumerOptions{MaxAckPending: 1})
		require.NoError(t, err)
		_, err = w.client.Subscribe(w.ctx, "orders", "all", sequin.SubscriberConfig{Ordered: true, Pollers: 2})
		require.ErrorContains(t, err, "Pollers is 2, must be 1 with Ordered")

		sub := w.subscribe(t, sequin.SubscriberConfig{Ordered: true})
		err = sub.Handle(w.ctx, sequin.HandlerConfig{Workers: 2}, func(context.Context, sequin.Delivery) error { return nil })
		require.ErrorContains(t, err, "Workers is 2, must be 1 with SubscriberConfig.Ordered")
		_, err = w.client.UpdateConsumer(w.ctx, "orders", "all", sequin.ConsumerOptions{MaxAckPending: 2})
		require.NoError(t, err)
		select {
		case <-sub.Stopping():
		case <-time.After(2 * time.Minute):
			require.Fail(t, "it runs on")
		}
		require.NoError(t, sub.Close(w.ctx))
		require.ErrorIs(t, sub.Err(), sequin.ErrInvalidConfig)
	})
}

// Neither the lanes of the Publisher nor failures of the transform change the order.
func TestAPipelineWithOrderedKeepsTheOrderOfAllKeys(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", inOrder)
		w.publish(t, "k", 60)
		sub := w.subscribe(t, sequin.SubscriberConfig{Ordered: true})
		calls := 0
		p := w.pipe(t, sub, sequin.PublisherConfig{Lanes: 8}, sequin.HandlerConfig{BackoffMin: 100 * time.Millisecond}, func(ctx context.Context, d sequin.Delivery) ([]sequin.Message, error) {
			if calls++; calls%7 == 0 {
				return nil, errDown
			}
			return []sequin.Message{{Key: d.Key, Data: fmt.Sprint(d.Seq)}}, nil
		})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Match: to("target"), Status: 503, Body: ownRefusal, Skip: 5, Count: 3})
		time.Sleep(10 * time.Minute)
		require.NoError(t, p.stop())
		require.NoError(t, p.pub.Close(w.ctx))
		state, ok := w.Stream("target")
		require.True(t, ok)
		require.Len(t, state.Messages, 60)
		for i, m := range state.Messages {
			require.Equal(t, fmt.Sprint(i+1), m.Data)
		}
	})
}

// The next message is on its way as soon as the server has the ack of the one before: a receive waits there meanwhile.
func TestOrderedTakesOneRoundTripAMessage(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.stream(t, "orders", inOrder)
		w.publish(t, "k", 100)
		sub := w.subscribe(t, sequin.SubscriberConfig{Ordered: true})
		before := w.Count(sequintest.Receive)
		began := time.Now()
		for range 100 {
			require.NoError(t, next(t, sub, time.Second).Ack())
		}
		require.Zero(t, time.Since(began), "nothing pauses")
		require.NoError(t, sub.Flush(w.ctx))
		synctest.Wait()
		require.LessOrEqual(t, w.Count(sequintest.Receive)-before, 102)
		closeNow(t, sub)
	})
}
