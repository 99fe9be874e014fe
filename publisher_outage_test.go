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

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

func TestErrorsOfAnOutageWrapTheCause(t *testing.T) {
	for name, call := range map[string]func(ctx context.Context, pub *sequin.Publisher) error{
		"Send": func(ctx context.Context, pub *sequin.Publisher) error { return pub.Send(ctx, "b", "") },
		"SendSync": func(ctx context.Context, pub *sequin.Publisher) error {
			return pub.SendSync(ctx, sequin.Message{Key: "b"})
		},
		"SendReceipt": func(ctx context.Context, pub *sequin.Publisher) error {
			_, err := pub.SendReceipt(ctx, sequin.Message{Key: "b"})
			return err
		},
		"TrySend": func(_ context.Context, pub *sequin.Publisher) error { return pub.TrySend("b", "") },
		"Flush":   func(ctx context.Context, pub *sequin.Publisher) error { return pub.Flush(ctx) },
		"Close":   func(ctx context.Context, pub *sequin.Publisher) error { return pub.Close(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				pub := w.orders(t, sequin.PublisherConfig{MaxBuffered: 10})
				w.Down()
				for range 10 {
					require.NoError(t, pub.Send(w.ctx, "a", ""))
				}
				time.Sleep(time.Minute)
				ctx, cancel := context.WithTimeout(w.ctx, time.Second)
				defer cancel()
				err := call(ctx, pub)
				require.ErrorIs(t, err, sequin.ErrUnreachable)
				require.ErrorContains(t, err, "is the server running")
				if name == "TrySend" {
					require.ErrorIs(t, err, sequin.ErrBufferFull)
				} else {
					require.ErrorIs(t, err, context.DeadlineExceeded)
				}
				_ = pub.Close(endedCtx())
			})
		})
	}
}

// The ctx of a Close ends in an outage. The calls that wait then have the cause, too.
func TestErrorsOfCallsThatACloseEndsWrapTheCauseOfAnOutage(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{MaxBuffered: 2})
		w.Down()
		calls := map[string]func() error{
			"SendSync": func() error { return pub.SendSync(w.ctx, sequin.Message{Key: "a"}) },
			"Receipt": func() error {
				r, err := pub.SendReceipt(w.ctx, sequin.Message{Key: "b"})
				require.NoError(t, err)
				<-r.Done()
				return r.Err()
			},
			"Flush": func() error { time.Sleep(time.Second); return pub.Flush(w.ctx) },
			"Send":  func() error { time.Sleep(time.Second); return pub.Send(w.ctx, "c", "") },
		}
		var running sync.WaitGroup
		for name, call := range calls {
			running.Go(func() {
				err := call()
				assert.ErrorIs(t, err, sequin.ErrClosed, name)
				assert.ErrorIs(t, err, sequin.ErrUnreachable, name)
			})
		}
		time.Sleep(time.Minute)
		_ = pub.Close(endedCtx())
		running.Wait()
	})
}

func TestAReceiptsErrorWrapsTheCauseOfAnOutageUntilItIsOver(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{})
		w.Down()
		ctx, cancel := context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		err := pub.SendSync(ctx, sequin.Message{Key: "a"})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, sequin.ErrUnreachable)
		w.Up()
		require.NoError(t, pub.Flush(w.ctx))
		w.Fault(sequintest.Fault{Op: sequintest.Send, Count: 1, Delay: 10 * time.Second})
		ctx, cancel = context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		err = pub.SendSync(ctx, sequin.Message{Key: "a"})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NotErrorIs(t, err, sequin.ErrUnreachable, "the outage is over")
		require.NoError(t, pub.Close(w.ctx))
	})
}

// shipper is a slog.Handler that sends each record through a Publisher, and keeps its text.
type shipper struct {
	mu    sync.Mutex
	pub   *sequin.Publisher
	lines []string
}

func (s *shipper) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }
func (s *shipper) WithAttrs([]slog.Attr) slog.Handler               { return s }
func (s *shipper) WithGroup(string) slog.Handler                    { return s }

func (s *shipper) Handle(ctx context.Context, r slog.Record) error {
	s.mu.Lock()
	s.lines = append(s.lines, r.Level.String()+" "+r.Message)
	key, pub := fmt.Sprint("log.", len(s.lines)), s.pub
	s.mu.Unlock()
	if pub == nil {
		return nil
	}
	return pub.Send(ctx, key, r.Message)
}

func (s *shipper) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.lines...)
}

// newShippingWorld returns a world whose client's log goes to a shipper.
func newShippingWorld(t *testing.T, cfg sequin.PublisherConfig, ships bool) (*world, *sequin.Publisher, *shipper) {
	t.Helper()
	s := new(shipper)
	w := newWorld(t, sequintest.Config{}, sequin.Config{Logger: slog.New(s)})
	pub := w.orders(t, cfg)
	if ships {
		s.pub = pub
	}
	return w, pub, s
}

func TestAPublisherThatSendsItsOwnLogContinuesAfterAnOutage(t *testing.T) {
	for _, buffered := range []int{1, 10, 1000} {
		t.Run(fmt.Sprint(buffered), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, pub, log := newShippingWorld(t, sequin.PublisherConfig{MaxBuffered: buffered}, true)
				w.Down()
				for i := range buffered + 5 {
					ctx, cancel := context.WithTimeout(w.ctx, 100*time.Millisecond)
					_ = pub.Send(ctx, fmt.Sprint("order.", i), "a line of the program")
					cancel()
				}
				time.Sleep(time.Minute)
				w.Up()
				require.NoError(t, pub.Flush(w.ctx))
				require.NoError(t, pub.Close(w.ctx))
				require.Equal(t, []string{"WARN sequin: publisher cannot send and retries", "INFO sequin: publisher sends again"}, log.all())
			})
		})
	}
}

// If messages with log lines fail, each failure causes another log line. That happens once a second, and not at the rate at
// which the server answers.
func TestALogWhoseOwnMessagesFailGetsOneLineASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, pub, log := newShippingWorld(t, sequin.PublisherConfig{OnFailure: func(sequin.MessageError) {}}, true)
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: ownRefusal, Delay: time.Millisecond})
		require.NoError(t, pub.Send(w.ctx, "a", ""))
		time.Sleep(time.Minute)
		require.NoError(t, pub.Close(w.ctx))
		require.LessOrEqual(t, len(log.all()), 61)
	})
}

func TestTheBeginningAndTheEndOfAnOutageAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, pub, log := newShippingWorld(t, sequin.PublisherConfig{MaxBatch: 10}, false)
		var n atomic.Int32
		flaky := w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 500, Delay: time.Millisecond,
			Match: func(*sequintest.Request) bool { return n.Add(1)%3 == 0 }})
		for i := range 5000 { // some requests fail all the time
			require.NoError(t, pub.Send(w.ctx, fmt.Sprint("k.", i), ""))
			time.Sleep(time.Millisecond)
		}
		flaky.Remove()
		require.NoError(t, pub.Close(w.ctx))
		count := map[string]int{}
		for _, line := range log.all() {
			count[line[:4]]++
		}
		require.LessOrEqual(t, count["WARN"], 1)
		require.Equal(t, count["WARN"], count["INFO"], strings.Join(log.all(), "\n"))
	})
}

func TestFailedMessagesAreLoggedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, pub, log := newShippingWorld(t, sequin.PublisherConfig{MaxBatch: 1, OnFailure: func(sequin.MessageError) {}}, false)
		w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: ownRefusal, Delay: 5 * time.Millisecond})
		sendAll(t, pub, 2000) // 2.5 s
		require.NoError(t, pub.Close(w.ctx))
		require.Len(t, log.all(), 3)
	})
}
