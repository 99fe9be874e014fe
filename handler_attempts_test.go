package sequin_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// processes starts n processes that handle the messages of the stream orders, each with a Subscriber of its own, and returns
// what they have called.
func (w *world) processes(t *testing.T, n int, cfg sequin.HandlerConfig, handle func(context.Context, sequin.Delivery) error) (b *callLog, stop func()) {
	t.Helper()
	b = new(callLog)
	var all []*running
	for range n {
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		all = append(all, w.start(t, func(ctx context.Context) error {
			return sub.Handle(ctx, cfg, func(ctx context.Context, d sequin.Delivery) error {
				b.note(d)
				return handle(ctx, d)
			})
		}))
	}
	return b, func() {
		t.Helper()
		for _, r := range all {
			_ = r.stop()
		}
	}
}

func alwaysFails(context.Context, sequin.Delivery) error { return errDown }

func TestMaxAttemptsCountsOverAllProcesses(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.deadStream(t)
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 30 * time.Second})
		w.publish(t, "k", 20)
		b, stop := w.processes(t, 4, sequin.HandlerConfig{DeadLetter: &sequin.DeadLetter{Stream: "dead"}}, alwaysFails)
		time.Sleep(10 * time.Minute)
		stop()
		letters := w.deadLetters(t)
		require.Len(t, letters, 20)
		for key, calls := range b.times() {
			require.Equal(t, 5, calls, key)
			require.Len(t, letters[key], 1)
			require.Equal(t, 5, letters[key][0].Attempts)
		}
		w.requireSettled(t, "orders")
	})
}

// A process that starts after the others have used up the attempts sends the dead letter without another call. The stream for dead
// letters refuses them meanwhile. In an outage of it they wait instead, and leases that end by themselves count as no attempts.
func TestAMessageWhoseAttemptsAreUsedUpIsNotCalledAgain(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.deadStream(t)
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 10 * time.Second})
		w.publish(t, "k", 1)
		refused := w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 403, Body: ownRefusal})
		cfg := sequin.HandlerConfig{BackoffMax: time.Second, DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: 3}}
		b, stop := w.processes(t, 1, cfg, alwaysFails)
		time.Sleep(time.Minute)
		stop() // leaves the dead letter that it cannot send
		require.Equal(t, 3, b.count())
		refused.Remove()
		again, stop := w.processes(t, 1, cfg, alwaysFails)
		time.Sleep(time.Minute)
		stop()
		require.Zero(t, again.count())
		require.Len(t, w.deadLetters(t)["k.0"], 1)
	})
}

// Of a process that crashes, the messages in its buffer were never handled. However often that happens, they are.
func TestAMessageThatWasNeverHandledBecomesNoDeadLetter(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.deadStream(t)
		_, consumer := w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 10 * time.Second})
		w.publish(t, "k", 5)
		for range 50 { // crashes
			got, err := w.client.ReceiveMessages(w.ctx, "orders", consumer.ID, sequin.ReceiveOptions{})
			require.NoError(t, err)
			require.Len(t, got, 5)
			time.Sleep(10 * time.Second)
		}
		b, stop := w.processes(t, 1, sequin.HandlerConfig{DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: 2}},
			func(_ context.Context, d sequin.Delivery) error {
				require.Equal(t, 51, d.Attempt)
				return nil
			})
		time.Sleep(time.Minute)
		stop()
		require.Equal(t, 5, b.count())
		require.Empty(t, w.deadLetters(t))
		w.requireSettled(t, "orders")
	})
}

// mortal is the connection of a process that may end: nothing is sent afterwards.
type mortal struct {
	next  http.RoundTripper
	ended *atomic.Bool
}

func (m mortal) RoundTrip(r *http.Request) (*http.Response, error) {
	if m.ended.Load() {
		return nil, errors.New("the process has ended")
	}
	return m.next.RoundTrip(r)
}

// mortal returns a client of a process that ends when ended is set.
func (w *world) mortal(t *testing.T, ended *atomic.Bool) *sequin.Client {
	t.Helper()
	c, err := sequin.NewClient(sequin.Config{BaseURL: w.URL, HTTPClient: &http.Client{Transport: mortal{w.Client().Transport, ended}}})
	require.NoError(t, err)
	return c
}

// crash makes a process that ends while its handler works on a message, after the time. Its Subscriber sends nothing more.
func (w *world) crash(t *testing.T, cfg sequin.HandlerConfig, after time.Duration) (called bool) {
	t.Helper()
	var began, gate atomic.Bool
	client := w.mortal(t, &gate)
	sub, err := client.Subscribe(w.ctx, "orders", "all", sequin.SubscriberConfig{})
	require.NoError(t, err)
	r := w.start(t, func(ctx context.Context) error {
		return sub.Handle(ctx, cfg, func(ctx context.Context, d sequin.Delivery) error {
			began.Store(true)
			time.Sleep(after)
			gate.Store(true)
			return errors.New("the process has ended")
		})
	})
	time.Sleep(after + 2*time.Second)
	gate.Store(true)
	ended, cancel := context.WithCancel(w.ctx)
	cancel()
	_ = sub.Close(ended)
	_ = r.stop()
	return began.Load()
}

// A message that crashes every process that handles it becomes a dead letter, whether the crash comes at once or after an
// extension.
func TestAMessageThatCrashesProcessesBecomesADeadLetter(t *testing.T) {
	for name, after := range map[string]time.Duration{"at once": 0, "after an extension": 8 * time.Second} {
		t.Run(name, func(t *testing.T) {
			inDocumented(t, func(t *testing.T, w *world) {
				w.deadStream(t)
				w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 10 * time.Second})
				w.publish(t, "poison", 1)
				cfg := sequin.HandlerConfig{DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: 5}}
				calls := 0
				for range 20 {
					if w.crash(t, cfg, after) {
						calls++
					}
					time.Sleep(30 * time.Second)
				}
				b, stop := w.processes(t, 1, cfg, alwaysFails)
				time.Sleep(time.Minute)
				stop()
				require.Zero(t, b.count())
				require.GreaterOrEqual(t, calls, 5)
				require.LessOrEqual(t, calls, 7, "two crashes at once leave no sign of a call")
				require.Len(t, w.deadLetters(t)["poison.0"], 1)
				w.requireSettled(t, "orders")
			})
		})
	}
}

// Snoozes, stops and what is returned unhandled are no attempts, whichever process gets the message next.
func TestWhatIsNoAttemptIsNotCounted(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.deadStream(t)
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 30 * time.Second})
		w.publish(t, "k", 1)
		cfg := sequin.HandlerConfig{DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: 2}}
		for name, handle := range map[string]func(context.Context, sequin.Delivery) error{
			"snoozed":     func(_ context.Context, d sequin.Delivery) error { return d.NackAfter(time.Second) },
			"interrupted": func(ctx context.Context, _ sequin.Delivery) error { <-ctx.Done(); return ctx.Err() },
		} {
			for range 3 {
				sub := w.subscribe(t, sequin.SubscriberConfig{DrainTimeout: time.Millisecond})
				r := w.start(t, func(ctx context.Context) error { return sub.Handle(ctx, cfg, handle) })
				time.Sleep(3500 * time.Millisecond)
				require.NoError(t, r.stop(), name)
				time.Sleep(2 * time.Second)
				if name == "snoozed" {
					require.GreaterOrEqual(t, sub.Stats().Nacked, uint64(3), "a snooze is a nack of the program")
				}
			}
		}
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		d := next(t, sub, time.Minute)
		require.Equal(t, 1, d.Attempt)
		require.NoError(t, d.NackAfter(time.Second), "in a loop it is an attempt, as Nack is")
		require.Equal(t, 2, next(t, sub, time.Minute).Attempt)
		_ = sub.Close(w.ctx)
	})
}

// A failure that is not the message's is no attempt either: the target of a pipeline is unavailable.
func TestAnOutageOfTheTargetIsNoAttempt(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.deadStream(t)
		_, err := w.client.CreateStream(w.ctx, "target", sequin.StreamOptions{})
		require.NoError(t, err)
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 4 * time.Second})
		w.publish(t, "k", 1)
		down := w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 503, Body: ownRefusal, Match: to("target")})
		for range 2 {
			sub := w.subscribe(t, sequin.SubscriberConfig{})
			p := w.pipe(t, sub, sequin.PublisherConfig{}, sequin.HandlerConfig{BackoffMax: time.Second, DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: 2}}, echo)
			time.Sleep(10 * time.Second)
			_ = p.stop()
		}
		down.Remove()
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		p := w.pipe(t, sub, sequin.PublisherConfig{}, sequin.HandlerConfig{DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: 2}}, echo)
		time.Sleep(time.Minute)
		require.NoError(t, p.stop())
		require.Empty(t, w.deadLetters(t))
		w.requireSettled(t, "orders")
	})
}

// A batch in which one message crashes the process is halved with each crash, so that the others are handled.
func TestAMessageThatCrashesProcessesIsFoundInItsBatch(t *testing.T) {
	inDocumented(t, func(t *testing.T, w *world) {
		w.deadStream(t)
		w.stream(t, "orders", sequin.ConsumerOptions{AckWait: 10 * time.Second})
		w.publish(t, "k", 16)
		for range 30 {
			var gate atomic.Bool
			client := w.mortal(t, &gate)
			sub, err := client.Subscribe(w.ctx, "orders", "all", sequin.SubscriberConfig{})
			require.NoError(t, err)
			r := w.start(t, func(ctx context.Context) error {
				cfg := sequin.BatchHandlerConfig{Size: 16, DeadLetter: &sequin.DeadLetter{Stream: "dead"}}
				return sub.HandleBatch(ctx, cfg, func(_ context.Context, batch []sequin.Delivery) error {
					for _, d := range batch {
						if d.Key == "k.7" {
							gate.Store(true)
							return errDown
						}
					}
					return nil
				})
			})
			time.Sleep(3 * time.Second)
			gate.Store(true)
			ended, cancel := context.WithCancel(w.ctx)
			cancel()
			_ = sub.Close(ended)
			_ = r.stop()
			time.Sleep(10 * time.Second)
		}
		letters := w.deadLetters(t)
		require.Len(t, letters, 1)
		require.Contains(t, letters, "k.7")
		w.requireSettled(t, "orders")
	})
}

func TestWithADeadLetterMaxDeliverMustLeaveRoomForTheAttempts(t *testing.T) {
	for _, row := range []struct {
		without    []string
		maxDeliver int
		refused    bool
	}{{nil, 2, true}, {nil, 3, true}, {nil, 4, false}, {nil, sequin.Unlimited, false},
		{[]string{"attempts"}, 4, true}, {[]string{"extend"}, 4, true}, {[]string{"attempts"}, sequin.Unlimited, false}} {
		t.Run(strings.Join(row.without, ","), func(t *testing.T) {
			inDocumentedWithout(t, row.without, func(t *testing.T, w *world) {
				w.deadStream(t)
				w.stream(t, "orders", sequin.ConsumerOptions{MaxDeliver: row.maxDeliver})
				w.publish(t, "k", 1)
				sub := w.subscribe(t, sequin.SubscriberConfig{})
				r := w.start(t, func(ctx context.Context) error {
					return sub.Handle(ctx, sequin.HandlerConfig{BackoffMax: time.Second, DeadLetter: &sequin.DeadLetter{Stream: "dead", MaxAttempts: 3}}, alwaysFails)
				})
				time.Sleep(10 * time.Second)
				synctest.Wait()
				err := r.stop()
				closeNow(t, sub)
				if row.refused {
					require.ErrorIs(t, err, sequin.ErrInvalidConfig)
					return
				}
				require.NoError(t, err)
				require.Len(t, w.deadLetters(t), 1)
			})
		})
	}
}
