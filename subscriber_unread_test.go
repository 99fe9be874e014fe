package sequin_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// The messages of the next answer arrive while the program handles those that it took. One receive brings 1,000, and as many fit into
// the window beside them.
func TestABacklogIsReceivedWhileTheProgramHandlesManyMessages(t *testing.T) {
	for _, lag := range []time.Duration{0, 10 * time.Millisecond} {
		t.Run(fmt.Sprint(lag), func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				const n, handling = 20_000, 100 * time.Millisecond
				w.stream(t, "orders", spacious)
				w.publish(t, "backlog", n)
				w.Fault(sequintest.Fault{Op: sequintest.Receive, Delay: lag})
				sub := w.subscribe(t, sequin.SubscriberConfig{Pollers: 1})
				began := time.Now()
				for done := 0; done < n; {
					ds, err := sub.Take(w.ctx, n)
					require.NoError(t, err)
					time.Sleep(handling)
					for _, d := range ds {
						require.NoError(t, d.Ack())
					}
					done += len(ds)
				}
				require.Less(t, time.Since(began), n/sequin.MaxBatch*handling*8/10)
				require.NoError(t, sub.Close(w.ctx))
				w.requireDone(t)
			})
		})
	}
}

// leavesUnread subscribes with a program that handles a backlog quickly, so that the window grows, and then reads nothing while few
// messages arrive at a time. It returns how many do.
func (w *world) leavesUnread(t *testing.T) (sub *sequin.Subscriber, unread int) {
	t.Helper()
	const backlog, times = 40_000, 100
	w.stream(t, "orders", spacious)
	w.publish(t, "backlog", backlog)
	lag := w.Fault(sequintest.Fault{Op: sequintest.Receive, Delay: 10 * time.Millisecond})
	sub = w.subscribe(t, sequin.SubscriberConfig{})
	for range backlog {
		require.NoError(t, next(t, sub, time.Second).Ack())
	}
	require.NoError(t, sub.Flush(w.ctx))
	lag.Remove()
	for i := range times {
		w.publish(t, fmt.Sprint("few_", i), few)
		time.Sleep(101 * time.Millisecond) // the loop looks at the buffer every 10 ms, and not at the end
	}
	return sub, few * times
}

// few is how many messages arrive at a time.
const few = 50

// Those beyond a full answer would come in small ones, and other processes could handle them.
func TestASubscriberAsksForNoMoreWhileAFullAnswerIsUnread(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub, unread := w.leavesUnread(t)
		require.LessOrEqual(t, sub.Stats().InFlight, sequin.MaxBatch+few)
		for range unread {
			require.NoError(t, next(t, sub, time.Second).Ack())
		}
		require.NoError(t, sub.Close(w.ctx))
		w.requireDone(t)
	})
}

// A Subscriber that asked for no more, because a full answer was unread, asks again when the program takes all at once.
func TestASubscriberReceivesAtOnceWhenAllIsTaken(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		sub, unread := w.leavesUnread(t)
		var held []sequin.Delivery // a settle would wake the loop, too
		began := time.Now()
		for ; len(held) < unread; synctest.Wait() {
			ds, err := sub.Take(w.ctx, unread)
			require.NoError(t, err)
			held = append(held, ds...)
		}
		require.Zero(t, time.Since(began), "the loop looked at the buffer only now and then")
		for _, d := range held {
			require.NoError(t, d.Ack())
		}
		require.NoError(t, sub.Close(w.ctx))
		w.requireDone(t)
	})
}
