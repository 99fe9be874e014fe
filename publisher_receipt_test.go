package sequin_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

func TestAReceiptReportsTheResultOfItsMessage(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{Linger: time.Hour, Lanes: 1})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: ownRefusal, Match: poisoned})
		good, err := pub.SendReceipt(w.ctx, sequin.Message{Key: "good", Data: "fine"})
		require.NoError(t, err)
		bad, err := pub.SendReceipt(w.ctx, sequin.Message{Key: "bad", Data: "poison"})
		require.NoError(t, err)
		require.NoError(t, good.Err(), "pending")
		select {
		case <-good.Done():
			require.Fail(t, "done while the batch lingers")
		default:
		}
		ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
		defer cancel()
		began := time.Now()
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() { require.NoError(t, good.Wait(ctx)) })
			all.Go(func() { require.ErrorIs(t, bad.Wait(ctx), sequin.ErrValidation) })
			all.Go(func() { <-bad.Done() })
		}
		all.Wait()
		require.Zero(t, time.Since(began), "Wait does not linger")
		<-good.Done()
		require.NoError(t, good.Err())
		require.ErrorIs(t, bad.Err(), sequin.ErrValidation)
		require.NoError(t, pub.Close(w.ctx), "a failure that a Receipt reported is reported once")
	})
}

func TestAMessageStaysAcceptedWhenWaitGivesUp(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{})
		w.Down()
		r, err := pub.SendReceipt(w.ctx, sequin.Message{Key: "a"})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		require.ErrorIs(t, r.Wait(ctx), context.DeadlineExceeded)
		require.ErrorIs(t, pub.SendSync(ctx, sequin.Message{Key: "b"}), context.DeadlineExceeded)
		w.Up()
		require.NoError(t, r.Wait(w.ctx))
		require.NoError(t, pub.Close(w.ctx))
	})
}

func TestTheZeroReceiptIsDoneWithAnError(t *testing.T) {
	var r sequin.Receipt
	<-r.Done()
	require.Error(t, r.Err())
	require.Error(t, r.Wait(t.Context()))
}

// 64 receipts share an allocation, and the queue that holds the messages is large enough already.
func TestAReceiptCostsNoAllocationOfItsOwn(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{Lanes: 1, MaxBuffered: 5000})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Delay: time.Second})
		sendAll(t, pub, 4000) // the queue has grown
		synctest.Wait()       // the request in flight has made its allocations
		keys := make([]string, 640)
		for i := range keys {
			keys[i] = "k." + strconv.Itoa(i)
		}
		receipts := make([]sequin.Receipt, len(keys))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for i, key := range keys {
			receipts[i], _ = pub.SendReceipt(w.ctx, sequin.Message{Key: key})
		}
		runtime.ReadMemStats(&after)
		require.LessOrEqual(t, after.Mallocs-before.Mallocs, uint64(640/64+20))
		require.NoError(t, pub.Close(w.ctx))
		for _, r := range receipts {
			<-r.Done()
			require.NoError(t, r.Err())
		}
	})
}

func TestSendAllSyncWaitsForTheResultOfEach(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{Linger: time.Hour})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: ownRefusal, Match: poisoned})
		var messages []sequin.Message
		for i := range 2_500 {
			messages = append(messages, sequin.Message{Key: "k." + strconv.Itoa(i), Data: "fine"})
		}
		before, began := w.Count(sequintest.Send), time.Now()
		require.NoError(t, pub.SendAllSync(w.ctx, messages))
		require.Zero(t, time.Since(began), "it does not linger")
		require.Len(t, w.stored(t, "orders"), len(messages))
		require.LessOrEqual(t, w.Count(sequintest.Send)-before, 8, "a batch or two for each lane")
		require.NoError(t, pub.SendAllSync(w.ctx, nil))

		messages[7].Data, messages[9].Key = "poison", "two words"
		err := pub.SendAllSync(w.ctx, messages)
		var left *sequin.UnsentError
		require.ErrorAs(t, err, &left)
		require.ErrorIs(t, err, sequin.ErrValidation)
		require.ErrorIs(t, err, sequin.ErrInvalidKey)
		require.Empty(t, left.Unsent)
		require.ElementsMatch(t, []sequin.Message{messages[7], messages[9]}, []sequin.Message{left.Failed[0].Message, left.Failed[1].Message})
		require.NoError(t, pub.Close(w.ctx), "a failure is reported once")
	})
}

// An idle Publisher sends a message at once. SendAllSync knows that others follow.
func TestSendAllSyncTakesOneRoundTrip(t *testing.T) {
	for _, lanes := range []int{1, 4} {
		inBothModes(t, func(t *testing.T, w *world) {
			pub := w.orders(t, sequin.PublisherConfig{Lanes: lanes})
			var messages []sequin.Message
			for i := range 800 {
				messages = append(messages, sequin.Message{Key: fmt.Sprint("k.", i), Data: "fine"})
			}
			w.Fault(sequintest.Fault{Op: sequintest.Send, Delay: 50 * time.Millisecond})
			began := time.Now()
			require.NoError(t, pub.SendAllSync(w.ctx, messages))
			require.Equal(t, lanes, w.Count(sequintest.Send), "one for each lane")
			require.Equal(t, 50*time.Millisecond, time.Since(began), "at the same time")
			require.NoError(t, pub.Close(w.ctx))
		})
	}
}

func TestSendAllSyncSaysWhatIsNotKnownToBeSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		pub := w.orders(t, sequin.PublisherConfig{MaxBuffered: 2})
		messages := []sequin.Message{{Key: "a"}, {Key: "b"}, {Key: "c"}}
		w.Down()
		ctx, cancel := context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		err := pub.SendAllSync(ctx, messages)
		var left *sequin.UnsentError
		require.ErrorAs(t, err, &left)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, sequin.ErrUnreachable)
		require.Equal(t, messages, left.Unsent, "two are in the buffer")
		w.Up()
		require.NoError(t, pub.Flush(w.ctx))
		require.Len(t, w.stored(t, "orders"), 2, "what was accepted is still sent")

		require.NoError(t, pub.Close(w.ctx))
		err = pub.SendAllSync(w.ctx, messages)
		require.ErrorIs(t, err, sequin.ErrClosed)
		require.ErrorAs(t, err, &left)
		require.Equal(t, messages, left.Unsent)
	})
}

// What SendAllSync says in an outage has its cause, whether its ctx ends or the Publisher is closed.
func TestSendAllSyncTellsWhyNothingIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		pub := w.orders(t, sequin.PublisherConfig{})
		messages := []sequin.Message{{Key: "a"}, {Key: "b"}}
		w.Down()
		ctx, cancel := context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		err := pub.SendAllSync(ctx, messages)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, sequin.ErrUnreachable)

		result := make(chan error, 1)
		go func() { result <- pub.SendAllSync(w.ctx, messages) }()
		synctest.Wait()
		_ = pub.Close(ctx)
		err = <-result
		require.ErrorIs(t, err, sequin.ErrClosed)
		require.ErrorIs(t, err, sequin.ErrUnreachable)
		var left *sequin.UnsentError
		require.ErrorAs(t, err, &left)
		require.Equal(t, messages, left.Unsent)
	})
}

// sendAllCallers are callers of SendAllSync that run at once.
type sendAllCallers struct {
	mu   sync.Mutex
	dice *rand.Rand
	sent []sequin.Message // and told so
}

func (c *sendAllCallers) draw(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dice.IntN(n)
}

func (c *sendAllCallers) often(*sequintest.Request) bool { return c.draw(6) == 0 }

// messages draws messages with keys of their own, some of which the client or the server refuses.
func (c *sendAllCallers) messages(name string) (all []sequin.Message) {
	for i := range c.draw(40) {
		m := sequin.Message{Key: fmt.Sprintf("k.%s.%d", name, i), Data: "fine"}
		switch c.draw(30) {
		case 0:
			m.Data = "poison"
		case 1:
			m.Key += " "
		}
		all = append(all, m)
	}
	return all
}

// send sends messages within a random time. Each message that the error does not list is sent, and the error lists no other.
func (c *sendAllCallers) send(t *testing.T, pub *sequin.Publisher, name string) {
	messages := c.messages(name)
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(c.draw(3_000))*time.Millisecond)
	defer cancel()
	err := pub.SendAllSync(ctx, messages)
	left := new(sequin.UnsentError)
	if err != nil && !errors.As(err, &left) {
		t.Error(err)
	}
	listed := slices.Clone(left.Unsent)
	for _, f := range left.Failed {
		listed = append(listed, f.Message)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range messages {
		if n := slices.IndexFunc(listed, func(o sequin.Message) bool { return o.Key == m.Key }); n < 0 {
			c.sent = append(c.sent, m)
		} else {
			listed = slices.Delete(listed, n, n+1)
		}
	}
	if len(listed) > 0 {
		t.Error("listed twice, or never sent:", listed)
	}
}

// Callers run at once, their contexts end, requests fail, and the Publisher is closed meanwhile. Each message has one fate: it is stored,
// or the error of its call lists it.
func TestSendAllSyncTellsTheFateOfEachMessage(t *testing.T) {
	for seed := range 5 {
		inBothModes(t, func(t *testing.T, w *world) {
			pub := w.orders(t, sequin.PublisherConfig{MaxBuffered: 50, MaxBatch: 10})
			c := &sendAllCallers{dice: rand.New(rand.NewPCG(21, uint64(seed)))}
			w.Fault(sequintest.Fault{Op: sequintest.Send, Match: c.often, Status: 503, Body: ownRefusal})
			w.Fault(sequintest.Fault{Op: sequintest.Send, Match: c.often, CutAfter: true})
			w.Fault(sequintest.Fault{Op: sequintest.Send, Match: c.often, Delay: 20 * time.Millisecond})
			w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: ownRefusal, Match: poisoned})
			var callers sync.WaitGroup
			for i := range 10 {
				callers.Go(func() {
					for j := range 5 {
						c.send(t, pub, fmt.Sprintf("%d.%d", i, j))
					}
				})
			}
			time.Sleep(time.Duration(c.draw(8_000)) * time.Millisecond)
			ctx, cancel := context.WithTimeout(w.ctx, 200*time.Millisecond)
			defer cancel()
			_ = pub.Close(ctx)
			callers.Wait()
			stored := w.stored(t, "orders")
			for _, m := range c.sent {
				require.Contains(t, stored, m.Key)
			}
		})
	}
}

// Callers that send again as soon as they have their result share the next request. Otherwise it would hold what the others sent
// meanwhile, and the callers would share requests in two groups.
func TestCallersOfSendSyncShareRequests(t *testing.T) {
	for name, send := range map[string]func(*sequin.Publisher, context.Context, sequin.Message) error{
		"SendSync": (*sequin.Publisher).SendSync,
		"SendAllSync": func(pub *sequin.Publisher, ctx context.Context, m sequin.Message) error {
			return pub.SendAllSync(ctx, []sequin.Message{m})
		},
	} {
		t.Run(name, func(t *testing.T) { inBothModes(t, func(t *testing.T, w *world) { callersShareRequests(t, w, send) }) })
	}
}

func callersShareRequests(t *testing.T, w *world, send func(*sequin.Publisher, context.Context, sequin.Message) error) {
	const callers, rounds = 32, 300
	pub := w.orders(t, sequin.PublisherConfig{Lanes: 1})
	w.Fault(sequintest.Fault{Op: sequintest.Send, Delay: 10 * time.Millisecond})
	var group sync.WaitGroup
	for i := range callers {
		group.Go(func() {
			for range rounds {
				if err := send(pub, w.ctx, sequin.Message{Key: fmt.Sprint(i)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	require.NoError(t, pub.Close(w.ctx))
	require.Less(t, w.Count(sequintest.Send), rounds*15/8, "two groups in nearly every round")
}
