package sequin_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
	"github.com/sequin-go/sequin/server"
)

// workers settle several deliveries at once, each after a given time.
type workers struct {
	number int
	each   time.Duration
}

// A program that is slow compared with its lease must not get more than it can handle. A message that waits in the
// channel until its lease is nearly over is received, returned and received again without use, and one that is
// delivered with too little of its lease left is handled without use.
func TestTheWindowFollowsASlowProgram(t *testing.T) {
	t.Parallel() // one of the longest
	for _, row := range []struct {
		workers
		lease     time.Duration
		burst     time.Duration // pause after every 200 messages
		wasted    int           // returned or settled late, at most, all of them while the window adapts
		processed int           // in ten minutes, at least
	}{
		{workers{1, time.Second}, 5 * time.Second, 0, 40, 580},
		{workers{1, 2 * time.Second}, 5 * time.Second, 0, 40, 290},
		{workers{1, 3 * time.Second}, 5 * time.Second, 0, 40, 190},
		{workers{10, 2 * time.Second}, 5 * time.Second, 0, 60, 2800},
		{workers{1, 10 * time.Second}, 30 * time.Second, 0, 40, 58},
		{workers{100, 10 * time.Second}, 30 * time.Second, 0, 300, 5500},
		{workers{1, 100 * time.Millisecond}, time.Second, 0, 60, 5500},
		{workers{4, time.Second}, 5 * time.Second, time.Minute, 60, 1000},
	} {
		t.Run(fmt.Sprintf("%d_workers_of_%v_on_%v_bursts_%v", row.number, row.each, row.lease, row.burst), func(t *testing.T) {
			inMode(t, server.Documented, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{AckWait: row.lease})
				total := 10000
				if row.burst > 0 {
					total = 200
				}
				w.publish(t, "orders", total)
				sub := w.subscribe(t, sequin.SubscriberConfig{})
				var group sync.WaitGroup
				for range row.number {
					group.Go(func() {
						for d := range sub.Deliveries() {
							time.Sleep(row.each)
							_ = d.Ack() // late ones are counted
						}
					})
				}
				began := time.Now()
				for next := 1; time.Since(began) < 10*time.Minute; next++ {
					time.Sleep(time.Minute)
					if row.burst > 0 {
						w.publish(t, fmt.Sprint("burst", next), total)
					}
				}
				require.NoError(t, sub.Close(w.ctx))
				group.Wait()
				stats := sub.Stats()
				t.Logf("%+v", stats)
				require.LessOrEqual(t, int(stats.ExpiredInBuffer+stats.RefusedLate), row.wasted)
				require.GreaterOrEqual(t, int(stats.Acked), row.processed)
			})
		})
	}
}

// With a window of three nothing expires in the channel, but the program reads the last of them with too little time left.
// Only its late settles show that.
func TestTheWindowShrinksWhenSettlesComeLate(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 10 * time.Second})
		w.publish(t, "orders", 1000)
		sub := w.subscribe(t, sequin.SubscriberConfig{MaxInFlight: 3})
		late := 0
		for began := time.Now(); time.Since(began) < 10*time.Minute; {
			d := next(t, sub, 20*time.Second)
			time.Sleep(2900 * time.Millisecond)
			if d.Ack() != nil {
				late++
			}
		}
		require.Less(t, late, 10)
		closeNow(t, sub)
	})
}

// A program was quick and then stops reading. Its earlier speed must no longer count.
func TestTheWindowShrinksAtOnceWhenNobodyReads(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.stream(t, "orders", spacious)
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		buffered := w.fillBuffer(t, sub, 1000)
		time.Sleep(5 * time.Minute) // ten leases
		require.Less(t, int(sub.Stats().ExpiredInBuffer), buffered+30, "what was buffered once, then a message or two each time")
		closeNow(t, sub)
	})
}

// A program that never settles some deliveries and settles others does not wait for more.
func TestTheWindowDoesNotGrowBecauseOfForgottenDeliveries(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 10 * time.Second})
		w.publish(t, "orders", 1000)
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		began := time.Now()
		for i := 0; time.Since(began) < 20*time.Minute; i++ {
			d := next(t, sub, 20*time.Second)
			time.Sleep(2900 * time.Millisecond)
			if i%5 != 0 {
				_ = d.Ack()
			}
		}
		stats := sub.Stats()
		require.LessOrEqual(t, int(stats.ExpiredInBuffer+stats.RefusedLate), 50)
		requireLeft(t, sub.Close(w.ctx), 1, sequin.ErrLeaseExpired)
	})
}

// With one poller, half of the window may be free whenever a receive is made and whenever its answer arrives: the other
// half has just arrived. The window must grow nevertheless while the server has more.
func TestTheWindowGrowsThoughHalfOfItIsFree(t *testing.T) {
	for _, pollers := range []int{1, 2} {
		for name, lag := range map[string]sequintest.Fault{
			"on_the_way_there": {Op: sequintest.Receive, Delay: 200 * time.Millisecond},
			"on_the_way_back":  {Op: sequintest.Receive, DelayAfter: 200 * time.Millisecond},
		} {
			t.Run(fmt.Sprintf("%d_pollers_lag_%s", pollers, name), func(t *testing.T) {
				inBothModes(t, func(t *testing.T, w *world) {
					w.stream(t, "orders", sequin.ConsumerOptions{MaxAckPending: 100_000})
					w.publish(t, "first", 16) // half of the first window
					w.Fault(lag)
					sub := w.subscribe(t, sequin.SubscriberConfig{Pollers: pollers})
					for range 16 {
						require.NoError(t, (<-sub.Deliveries()).Ack())
					}
					const n = 20000
					w.publish(t, "then", n)
					began := time.Now()
					for range n {
						require.NoError(t, (<-sub.Deliveries()).Ack())
					}
					require.Less(t, time.Since(began), 12*time.Second)
					require.NoError(t, sub.Close(w.ctx))
				})
			})
		}
	}
}

// The first receive cannot know how large the messages are. Later ones ask for 1 MiB: three of these are 306 messages of 10 KB.
func TestTheBytesInFlightAreBounded(t *testing.T) {
	for name, row := range map[string]struct{ limit, size, most int }{
		"ten fit":      {1_050_000, 100_000, 10},
		"not one fits": {1_000, 10_000, 1},
		"all fit":      {64 << 20, 10_000, 306},
	} {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				w.stream(t, "orders", sequin.ConsumerOptions{})
				messages := make([]sequin.Message, 300)
				for i := range messages {
					messages[i] = sequin.Message{Key: fmt.Sprint(i), Data: strings.Repeat("x", row.size)}
				}
				for part := range slices.Chunk(messages, 50) {
					_, err := w.client.SendMessages(w.ctx, "orders", part)
					require.NoError(t, err)
				}
				sub := w.subscribe(t, sequin.SubscriberConfig{MaxInFlightBytes: row.limit})
				for i := range messages {
					d := next(t, sub, time.Second)
					if i > 32 {
						require.LessOrEqual(t, sub.Stats().InFlight, max(row.most, 1), i)
					}
					require.NoError(t, d.AckSync(w.ctx))
				}
				require.NoError(t, sub.Close(w.ctx))
				w.requireDone(t)
			})
		})
	}
}
