package sequin_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// echoing is a slog.Handler that calls a function with each line.
type echoing struct {
	slog.Handler
	mu    sync.Mutex
	lines []string
	then  func(ctx context.Context, n int)
}

func (e *echoing) Enabled(context.Context, slog.Level) bool { return true }

func (e *echoing) Handle(ctx context.Context, r slog.Record) error {
	var line strings.Builder
	fmt.Fprint(&line, r.Level, " ", r.Message)
	r.Attrs(func(a slog.Attr) bool { fmt.Fprint(&line, " ", a); return true })
	e.mu.Lock()
	e.lines = append(e.lines, line.String())
	n, then := len(e.lines), e.then
	e.mu.Unlock()
	if then != nil {
		then(ctx, n)
	}
	return nil
}

// isDebug reports whether the n-th line, counted from 1, is one of LevelDebug.
func (e *echoing) isDebug(n int) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.HasPrefix(e.lines[n-1], "DEBUG")
}

// take returns the lines with a text, and forgets all.
func (e *echoing) take(text string) (got []string) {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, line := range e.lines {
		if strings.Contains(line, text) {
			got = append(got, line)
		}
	}
	e.lines = nil
	return got
}

func TestEachAttemptAtARequestHasADebugLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(echoing)
		w := newWorld(t, sequintest.Config{KeepRequests: -1}, sequin.Config{Logger: slog.New(log)})
		w.stream(t, "orders", sequin.ConsumerOptions{})
		require.Len(t, log.take("DEBUG sequin: request"), 2)
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 503, Body: ownRefusal, Count: 1})
		require.NoError(t, second(w.client.SendMessage(w.ctx, "orders", "a", "x")))
		got := log.take("DEBUG sequin: request")
		require.Len(t, got, 2)
		for i, line := range got {
			require.Regexp(t, fmt.Sprintf(`op=send stream=orders attempt=%d messages=1 bytes=\d+ status=(503|200) took=\S+ request_id=\S{36}`, i+1), line)
		}
		require.Contains(t, got[0], "error=")
		require.NotContains(t, got[1], "error=")

		pub, err := w.client.NewPublisher("orders", sequin.PublisherConfig{})
		require.NoError(t, err)
		require.NoError(t, pub.SendSync(w.ctx, sequin.Message{Key: "b"}))
		require.NoError(t, pub.Close(w.ctx))
		sub := w.subscribe(t, sequin.SubscriberConfig{})
		for range 2 {
			require.NoError(t, next(t, sub, time.Second).Ack())
		}
		closeNow(t, sub)
		lines := strings.Join(log.take("DEBUG sequin: request"), "\n")
		require.Contains(t, lines, "op=send stream=orders attempt=1 messages=1")
		require.Contains(t, lines, "op=receive stream=orders consumer=all attempt=1 messages=2", "what it got, and the name and not the id")
		require.Contains(t, lines, "op=ack stream=orders consumer=all")
	})
}

func TestALineAboutARepeatNamesTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(echoing)
		w := newWorld(t, sequintest.Config{}, sequin.Config{Logger: slog.New(log)})
		w.stream(t, "orders", sequin.ConsumerOptions{})
		w.Fault(sequintest.Fault{Op: sequintest.Receive, Status: 503, Body: ownRefusal, Count: 1})
		require.NoError(t, second(w.client.ReceiveMessages(w.ctx, "orders", "all", sequin.ReceiveOptions{})))
		require.Regexp(t, `^WARN sequin: retries a request op=receive stream=orders consumer=all attempts=1 retry_in=\S+ error=`, log.take("retries")[0])
	})
}

func TestAnOutageIsLoggedWithItsLengthAndWhatHasWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(echoing)
		w := newWorld(t, sequintest.Config{}, sequin.Config{Logger: slog.New(log)})
		pub := w.orders(t, oneBatch())
		w.Down()
		sendAll(t, pub, 7)
		flushed := make(chan error)
		go func() { flushed <- pub.Flush(w.ctx) }()
		time.Sleep(10 * time.Minute)
		require.Regexp(t, `^WARN sequin: publisher cannot send and retries stream=orders error=.* messages=7$`, log.take("cannot send")[0])
		w.Up()
		require.NoError(t, <-flushed)
		require.Regexp(t, `^INFO sequin: publisher sends again stream=orders for=10m\S+ messages=7$`, log.take("sends again")[0])

		require.NoError(t, w.client.DeleteStream(w.ctx, "orders"))
		sendAll(t, pub, 2)
		require.Error(t, pub.Flush(w.ctx))
		time.Sleep(10 * time.Minute)
		require.Len(t, log.take("suspends sending"), 1)
		_, err := w.client.CreateStream(w.ctx, "orders", sequin.StreamOptions{})
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.Regexp(t, `^INFO sequin: publisher is no longer refused and resumes sending stream=orders for=10m\S+ messages=0$`, log.take("resumes")[0])
		require.NoError(t, pub.Close(w.ctx))
	})
}

func TestTheSlowdownOfHandlersIsLoggedOnceEachWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(echoing)
		w := newWorld(t, sequintest.Config{}, sequin.Config{Logger: slog.New(log)})
		sub := w.backlog(t, 100, time.Minute, sequin.SubscriberConfig{})
		var b callLog
		var down atomic.Bool
		down.Store(true)
		cfg := sequin.HandlerConfig{BackoffMin: time.Second, BackoffMax: 16 * time.Second}
		run := w.start(t, func(ctx context.Context) error { return sub.Handle(ctx, cfg, outage(&b, &down)) })
		time.Sleep(10 * time.Minute)
		down.Store(false)
		time.Sleep(time.Minute)
		require.NoError(t, run.stop())
		var got []string
		for _, line := range log.take("subscriber ") {
			if strings.Contains(line, "one message at a time") && !strings.HasPrefix(line, "DEBUG") || strings.Contains(line, "full speed") {
				got = append(got, line)
			}
		}
		require.Len(t, got, 2)
		require.Regexp(t, `^WARN sequin: subscriber tries one message at a time, because handlers fail stream=orders consumer=all retry_in=`, got[0])
		require.Regexp(t, `^INFO sequin: subscriber handles messages at full speed again stream=orders consumer=all for=1\dm`, got[1])
	})
}

// A Handler may send its lines with any context, to a Publisher of its own or to that of the program, or in a request of their
// own. Each line of the program's requests is written, and no line causes another one.
func TestALogThatSendsItsLinesThroughTheClientDoesNotLoop(t *testing.T) {
	for name, send := range map[string]func(ctx context.Context, w *world, log, orders *sequin.Publisher, key string){
		"Publisher of its own": func(ctx context.Context, _ *world, log, _ *sequin.Publisher, key string) { _ = log.Send(ctx, key, "") },
		"TrySend":              func(_ context.Context, _ *world, log, _ *sequin.Publisher, key string) { _ = log.TrySend(key, "") },
		"SendSync": func(ctx context.Context, _ *world, log, _ *sequin.Publisher, key string) {
			_ = log.SendSync(ctx, sequin.Message{Key: key})
		},
		"shared Publisher": func(ctx context.Context, _ *world, _, orders *sequin.Publisher, key string) {
			_ = orders.Send(ctx, key, "")
		},
		"one-shot": func(ctx context.Context, w *world, _, _ *sequin.Publisher, key string) {
			_, _ = w.client.SendMessage(ctx, "orders", key, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := new(echoing)
				w := newWorld(t, sequintest.Config{}, sequin.Config{Logger: slog.New(log)})
				orders := w.orders(t, sequin.PublisherConfig{})
				own, err := w.client.NewPublisher("orders", sequin.PublisherConfig{MaxBuffered: 10})
				require.NoError(t, err)
				log.take("")
				log.then = func(ctx context.Context, n int) { send(ctx, w, own, orders, fmt.Sprint("log.", n)) }
				for i := range 10 {
					require.NoError(t, orders.SendSync(w.ctx, sequin.Message{Key: fmt.Sprint("order.", i)}))
					require.NoError(t, second(w.client.ListMessages(w.ctx, "orders", sequin.ListOptions{})))
				}
				time.Sleep(time.Hour)
				require.Len(t, log.take(""), 20)

				w.Down()
				require.NoError(t, orders.Send(w.ctx, "order.last", ""))
				require.Error(t, second(w.client.ListMessages(w.ctx, "orders", sequin.ListOptions{})))
				time.Sleep(10 * time.Minute)
				require.Less(t, len(log.take("")), 1000, "those of the program's requests")
				w.Up()
				time.Sleep(10 * time.Minute)
				log.take("")
				time.Sleep(time.Hour)
				require.Empty(t, log.take(""))
				require.NoError(t, own.Close(w.ctx))
				require.NoError(t, orders.Close(w.ctx))
			})
		})
	}
}

// Also where each of its messages fails.
func TestALogWhoseMessagesAreRefusedCausesNoLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(echoing)
		w := newWorld(t, sequintest.Config{}, sequin.Config{Logger: slog.New(log)})
		pub := w.orders(t, sequin.PublisherConfig{OnFailure: func(sequin.MessageError) {}})
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: ownRefusal})
		log.take("")
		log.then = func(ctx context.Context, n int) { _ = pub.Send(ctx, fmt.Sprint("log.", n), "") }
		require.NoError(t, pub.Send(w.ctx, "order", ""))
		time.Sleep(time.Hour)
		require.NoError(t, pub.Close(w.ctx))
		require.Len(t, log.take("could not send"), 1, "the message of the program")
	})
}
