package sequin_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// stateLog records the calls of Hooks.State.
type stateLog struct {
	mu  sync.Mutex
	all []sequin.StateInfo
}

func (l *stateLog) note(s sequin.StateInfo) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, s)
}

// take returns what was recorded of one state, and forgets everything.
func (l *stateLog) take(state sequin.State) (got []sequin.StateInfo) {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.all {
		if s.State == state {
			got = append(got, s)
		}
	}
	l.all = nil
	return got
}

// withStates runs a promise with a client whose states are recorded.
func withStates(t *testing.T, promise func(t *testing.T, w *world, states *stateLog)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		states := new(stateLog)
		promise(t, newWorld(t, sequintest.Config{}, sequin.Config{Hooks: &sequin.Hooks{State: states.note}}), states)
	})
}

func TestStateTellsASuspensionAndItsEnd(t *testing.T) {
	withStates(t, func(t *testing.T, w *world, states *stateLog) {
		pub, err := w.client.NewPublisher("orders", oneBatch())
		require.NoError(t, err)
		sendAll(t, pub, 5)
		require.ErrorIs(t, pub.Flush(w.ctx), sequin.ErrNotFound)
		time.Sleep(time.Hour)
		got := states.take(sequin.StateSuspended)
		require.Len(t, got, 1)
		require.ErrorIs(t, got[0].Err, sequin.ErrNotFound)
		require.False(t, got[0].Over)
		require.Equal(t, "orders", got[0].Stream)
		require.NotZero(t, pub.Stats().UnavailableSince)

		_, err = w.client.CreateStream(w.ctx, "orders", sequin.StreamOptions{})
		require.NoError(t, err)
		time.Sleep(time.Minute)
		got = states.take(sequin.StateSuspended)
		require.Len(t, got, 1)
		require.True(t, got[0].Over)
		require.InDelta(t, time.Hour, got[0].For, float64(time.Minute))
		require.Zero(t, pub.Stats().UnavailableSince)
		require.NoError(t, pub.Close(w.ctx))
	})
}

func TestStateTellsAnOutageAndItsEnd(t *testing.T) {
	withStates(t, func(t *testing.T, w *world, states *stateLog) {
		pub := w.orders(t, sequin.PublisherConfig{})
		_, err := w.client.CreateConsumer(w.ctx, "orders", "all", ">", sequin.ConsumerOptions{})
		require.NoError(t, err)
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		time.Sleep(time.Second)
		w.Down()
		began := time.Now()
		sendAll(t, pub, 100)
		time.Sleep(10 * time.Minute)
		for name, s := range map[string]struct {
			since, at time.Time
			err       error
		}{
			"publisher":  {pub.Stats().UnavailableSince, pub.Stats().LastErrorAt, pub.Stats().LastError},
			"subscriber": {sub.Stats().UnavailableSince, sub.Stats().LastErrorAt, sub.Stats().LastError},
		} {
			require.WithinDuration(t, began, s.since, 2*time.Second, name)
			require.WithinDuration(t, time.Now(), s.at, 10*time.Second, name)
			require.Error(t, s.err, name)
		}
		require.InDelta(t, 10*time.Minute, pub.Stats().OldestAge, float64(time.Second))
		got := states.take(sequin.StateUnavailable)
		require.Len(t, got, 2)
		for _, s := range got {
			require.False(t, s.Over)
			require.Error(t, s.Err)
			require.Equal(t, "orders", s.Stream)
		}
		require.ElementsMatch(t, []string{"", "all"}, []string{got[0].Consumer, got[1].Consumer})

		w.Up()
		time.Sleep(time.Minute)
		got = states.take(sequin.StateUnavailable)
		require.Len(t, got, 2)
		for _, s := range got {
			require.True(t, s.Over)
			require.InDelta(t, 10*time.Minute, s.For, float64(time.Minute))
			if s.Consumer == "" {
				require.Positive(t, s.Messages, "those that waited")
			}
		}
		require.Zero(t, pub.Stats().UnavailableSince)
		require.Zero(t, sub.Stats().UnavailableSince)
		require.NotZero(t, pub.Stats().LastErrorAt, "a success does not clear it")
		require.Zero(t, pub.Stats().OldestAge)
		require.NoError(t, pub.Close(w.ctx))
		closeNow(t, sub)
	})
}

// A count of those in a state would otherwise never fall again.
func TestStatesEndWithTheirPublisherOrSubscriber(t *testing.T) {
	withStates(t, func(t *testing.T, w *world, states *stateLog) {
		sub := w.backlog(t, 2000, 10*time.Second, sequin.SubscriberConfig{})
		handled, down := 0, atomic.Bool{}
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{BackoffMin: time.Hour, BackoffMax: time.Hour}, func(context.Context, sequin.Delivery) error {
				switch handled++; {
				case handled == 200: // the window has grown, and shrinks
					time.Sleep(20 * time.Second)
				case handled > 200:
					down.Store(true)
					return errDown
				}
				return nil
			})
		})
		for !down.Load() {
			time.Sleep(time.Second)
		}
		time.Sleep(time.Minute)
		w.Down()
		pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{})
		require.NoError(t, err)
		sendAll(t, pub, 1)
		time.Sleep(2 * time.Hour)
		_ = run.stop()
		require.Error(t, pub.Close(endedCtx()))
		w.Up()
		missing, err := w.client.NewPublisher("missing", sequin.PublisherConfig{})
		require.NoError(t, err)
		require.Error(t, missing.SendSync(w.ctx, sequin.Message{Key: "k"}))
		require.NoError(t, missing.Close(w.ctx))
		synctest.Wait()
		in := map[string]int{}
		began := map[sequin.State]bool{}
		for _, s := range states.all {
			if s.State == sequin.StateExpired || s.State == sequin.StateLeaseLost {
				continue
			}
			began[s.State] = true
			if who := fmt.Sprint(s.State, " ", s.Stream, " ", s.Consumer); s.Over {
				in[who]--
			} else {
				in[who]++
			}
		}
		require.Len(t, began, 4, "each state has begun: %v", began)
		for who, n := range in {
			require.Zero(t, n, who)
		}
	})
}

// A server that fails every other receive causes no call for each.
func TestStateTellsAtMostOneOutageAMinute(t *testing.T) {
	withStates(t, func(t *testing.T, w *world, states *stateLog) {
		w.stream(t, "orders", sequin.ConsumerOptions{})
		sub := w.subscribe(t, sequin.SubscriberConfig{WaitFor: 500 * time.Millisecond})
		var n atomic.Int32
		w.Fault(sequintest.Fault{Op: sequintest.Receive, Status: 503, Body: ownRefusal, Match: func(*sequintest.Request) bool { return n.Add(1)%2 == 0 }})
		time.Sleep(10 * time.Minute)
		closeNow(t, sub)
		got := states.take(sequin.StateUnavailable)
		require.InDelta(t, 20, len(got), 2)
		for i, s := range got {
			require.Equal(t, i%2 == 1, s.Over)
		}
	})
}

func TestStateTellsThatTheBreakerIsOpen(t *testing.T) {
	withStates(t, func(t *testing.T, w *world, states *stateLog) {
		sub := w.backlog(t, 100, time.Minute, sequin.SubscriberConfig{})
		var b callLog
		var down atomic.Bool
		down.Store(true)
		cfg := sequin.HandlerConfig{BackoffMin: time.Second, BackoffMax: 16 * time.Second}
		run := w.start(t, func(ctx context.Context) error { return sub.Handle(ctx, cfg, outage(&b, &down)) })
		time.Sleep(10 * time.Minute)
		require.Equal(t, []sequin.StateInfo{{Stream: "orders", Consumer: "all", State: sequin.StateBreakerOpen}}, states.take(sequin.StateBreakerOpen), "once, not for each probe")
		down.Store(false)
		time.Sleep(time.Minute)
		got := states.take(sequin.StateBreakerOpen)
		require.Len(t, got, 1)
		require.True(t, got[0].Over)
		require.InDelta(t, 10*time.Minute, got[0].For, float64(time.Minute))
		require.NoError(t, run.stop())
	})
}

func TestStateTellsWhatExpiresInTheBufferAndTheWindow(t *testing.T) {
	withStates(t, func(t *testing.T, w *world, states *stateLog) {
		sub := w.backlog(t, 2000, 10*time.Second, sequin.SubscriberConfig{})
		for range 200 { // until the window has grown
			require.NoError(t, next(t, sub, time.Second).Ack())
		}
		require.Empty(t, states.take(sequin.StateWindowShrunk))
		time.Sleep(20 * time.Second)
		before := sub.Stats().ExpiredInBuffer
		expired, shrunk := 0, 0
		states.mu.Lock()
		for _, s := range states.all {
			switch s.State {
			case sequin.StateExpired:
				expired += s.Messages
			case sequin.StateWindowShrunk:
				shrunk++
				require.False(t, s.Over)
				require.Positive(t, s.Messages)
			}
		}
		states.mu.Unlock()
		require.EqualValues(t, before, expired)
		require.Positive(t, expired)
		require.Equal(t, 1, shrunk, "however often it halves")
		states.take("")
		for range 1500 {
			require.NoError(t, next(t, sub, time.Second).Ack())
		}
		got := states.take(sequin.StateWindowShrunk)
		require.Len(t, got, 1)
		require.True(t, got[0].Over)
		require.GreaterOrEqual(t, got[0].For, time.Second)
		closeNow(t, sub)
	})
}

func TestStateTellsLostLeases(t *testing.T) {
	withStates(t, func(t *testing.T, w *world, states *stateLog) {
		sub := w.backlog(t, 3, 30*time.Second, sequin.SubscriberConfig{})
		w.Fault(sequintest.Fault{Op: sequintest.Extend, Status: 200, Body: `{"data":{"extended":[]}}`})
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, sequin.HandlerConfig{Workers: 3}, func(ctx context.Context, _ sequin.Delivery) error {
				<-ctx.Done()
				return ctx.Err()
			})
		})
		time.Sleep(20 * time.Second)
		got, lost := states.take(sequin.StateLeaseLost), 0
		for _, s := range got {
			lost += s.Messages
			require.Equal(t, "all", s.Consumer)
		}
		require.Equal(t, 3, lost)
		_ = run.stop()
	})
}

func TestThePanicOfStateIsRecovered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		w := newWorld(t, sequintest.Config{}, sequin.Config{Hooks: &sequin.Hooks{State: func(s sequin.StateInfo) { calls++; panic(fmt.Sprint(s)) }}})
		pub := w.orders(t, sequin.PublisherConfig{})
		for range 2 {
			w.Down()
			sendAll(t, pub, 1)
			time.Sleep(2 * time.Minute)
			w.Up()
			require.NoError(t, pub.Flush(w.ctx))
		}
		require.NoError(t, pub.Close(w.ctx))
		require.Equal(t, 1, calls)
	})
}

func TestASubscribersStatsHaveTheAgeOfItsOldestDelivery(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 2, time.Minute, sequin.SubscriberConfig{})
		require.Equal(t, []string{"orders", "all"}, []string{sub.Stream(), sub.Consumer()})
		d := next(t, sub, time.Second)
		time.Sleep(10 * time.Second)
		require.InDelta(t, 10*time.Second, sub.Stats().OldestAge, float64(time.Second))
		require.NoError(t, d.Ack())
		require.NoError(t, next(t, sub, time.Second).Ack())
		require.NoError(t, sub.Flush(w.ctx))
		require.Zero(t, sub.Stats().OldestAge)
		closeNow(t, sub)
	})
}

func TestASubscribersStatsCountHandlersWhoseLeaseIsOver(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		sub := w.backlog(t, 3, 8*time.Second, sequin.SubscriberConfig{})
		cfg := sequin.HandlerConfig{Workers: 3, MaxHandling: time.Second}
		run := w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, cfg, func(_ context.Context, d sequin.Delivery) error {
				if d.Key == "k.0" {
					require.NoError(t, d.Ack())
				}
				time.Sleep(7 * time.Second)
				return nil
			})
		})
		time.Sleep(5 * time.Second)
		require.Zero(t, sub.Stats().HandlersOverdue)
		time.Sleep(1500 * time.Millisecond)
		require.Equal(t, 2, sub.Stats().HandlersOverdue, "one has settled its delivery")
		time.Sleep(time.Second)
		require.Zero(t, sub.Stats().HandlersOverdue)
		_ = run.stop()
	})
}

// A program that has closed everything may look at what its functions have noted.
func TestACloseWaitsForTheCallsOfStateAndForTheLog(t *testing.T) {
	for _, takes := range []struct{ state, line time.Duration }{{400 * time.Millisecond, 0}, {0, 200 * time.Millisecond}} {
		slow := func(t *testing.T, op sequintest.Op) (w *world, states, lines *atomic.Int32) {
			states, lines = new(atomic.Int32), new(atomic.Int32)
			log := new(echoing)
			log.then = func(_ context.Context, n int) {
				if log.isDebug(n) { // those of requests take longest
					time.Sleep(takes.line)
				}
				lines.Add(1)
			}
			w = newWorld(t, sequintest.Config{}, sequin.Config{Logger: slog.New(log), Hooks: &sequin.Hooks{State: func(sequin.StateInfo) {
				time.Sleep(takes.state)
				states.Add(1)
			}}})
			w.stream(t, "orders", sequin.ConsumerOptions{})
			time.Sleep(time.Second)
			lines.Store(0)
			w.Fault(sequintest.Fault{Op: op, Status: 503, Body: ownRefusal, Count: 1})
			return w, states, lines
		}
		synctest.Test(t, func(t *testing.T) {
			w, states, lines := slow(t, sequintest.Send)
			pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{})
			require.NoError(t, err)
			require.NoError(t, pub.Send(w.ctx, "k", ""))
			require.NoError(t, pub.Close(w.ctx))
			require.EqualValues(t, 2, states.Load(), "both ways")
			require.EqualValues(t, 4, lines.Load(), "two requests, both ways")

			w, states, lines = slow(t, sequintest.Receive)
			sub := w.subscribe(t, sequin.SubscriberConfig{})
			synctest.Wait()
			closeNow(t, sub)
			require.EqualValues(t, 2, states.Load(), "a stop ends its states")
			require.EqualValues(t, 4, lines.Load(), "two reads, the receive, and that it failed")

			w, _, lines = slow(t, sequintest.CreateStream)
			require.NoError(t, second(w.client.ListStreams(w.ctx)))
			w.client.Close()
			require.EqualValues(t, 1, lines.Load())
		})
	}
}

func TestDeliveredTellsTheLagAndTheRequestHowManyMessagesItGot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, log := hooked(t, sequin.Config{})
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.send(t, "k.0", "x")
		time.Sleep(3 * time.Second)
		w.send(t, "k.1", "x")
		time.Sleep(2 * time.Second)
		log.take()
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		for range 2 {
			require.NoError(t, next(t, sub, time.Second).Ack())
		}
		closeNow(t, sub)
		got := log.take()
		require.Len(t, got.received, 1)
		require.InDelta(t, 5, got.received[0].Oldest.Seconds(), 0.1)
		require.InDelta(t, 7, got.received[0].Total.Seconds(), 0.1)
		messages := 0
		for i, r := range got.results {
			if got.done[i].Op == "receive" {
				messages += r.Messages
			} else {
				require.Zero(t, r.Messages)
			}
		}
		require.Equal(t, 2, messages)
		w.send(t, "k.2", "x")
		log.take()
		require.NoError(t, second(w.client.ReceiveMessages(w.ctx, "orders", "all", sequin.ReceiveOptions{})))
		require.Equal(t, 1, log.take().results[0].Messages)
	})
}
