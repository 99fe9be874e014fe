package sequin_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// echo is a transform that makes one message of each delivery.
func echo(_ context.Context, d sequin.Delivery) ([]sequin.Message, error) {
	return []sequin.Message{{Key: "copy." + d.Key, Data: d.Data}}, nil
}

// A lane of the target's Publisher must not wait for OnError or the log, which wait for the lane here.
func TestAPipelinesReportsMaySendThroughItsPublisher(t *testing.T) {
	for _, buffered := range []int{1, 10, 1000} {
		t.Run(fmt.Sprint(buffered), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := new(shipper)
				w := newWorld(t, sequintest.Config{}, sequin.Config{Logger: slog.New(log)})
				_, err := w.client.CreateStream(w.ctx, "target", sequin.StreamOptions{})
				require.NoError(t, err)
				pub, err := w.client.NewPublisher("target", sequin.PublisherConfig{MaxBuffered: buffered, OnFailure: func(sequin.MessageError) {}})
				require.NoError(t, err)
				log.pub = pub
				sub := w.backlog(t, 300, 8*time.Second, sequin.SubscriberConfig{})
				w.Fault(sequintest.Fault{Op: sequintest.Send, Status: 422, Body: ownRefusal, Count: 30, Match: to("target")})
				cfg := sequin.HandlerConfig{Workers: 4, OnError: func(_ sequin.Delivery, err error) {
					_ = pub.Send(w.ctx, "errors", err.Error())
					_ = pub.Flush(w.ctx)
				}}
				r := w.start(t, func(ctx context.Context) error { return sub.Pipe(ctx, pub, cfg, echo) })
				time.Sleep(20 * time.Minute)
				w.requireSettled(t, "orders")
				require.NoError(t, r.stop())
				ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
				defer cancel()
				_ = pub.Close(ctx) // with the messages of the log that were refused
				require.NoError(t, ctx.Err(), "it does not hang")
			})
		})
	}
}

func TestOnAckErrorMayCloseItsSubscriber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		var sub *sequin.Subscriber
		closed := make(chan error, 10)
		sub = w.backlog(t, 10, 8*time.Second, sequin.SubscriberConfig{OnAckError: func(sequin.Delivery, error) {
			closed <- sub.Close(context.Background())
		}})
		w.Fault(sequintest.Fault{Op: sequintest.Ack, Status: 422, Body: ownRefusal, Count: 1})
		began := time.Now()
		for d := range sub.Deliveries() {
			_ = d.Ack()
		}
		<-closed
		require.LessOrEqual(t, time.Since(began), 5*time.Second)
		_ = sub.Close(context.Background())
	})
}

// The log of a program waits as long as the server is unavailable, if its lines are sent through a Publisher.
func TestALogThatWaitsDoesNotStopASubscriber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		w := newWorld(t, sequintest.Config{}, sequin.Config{Logger: slog.New(gatedLog(gate))})
		sub := w.backlog(t, 10, 8*time.Second, sequin.SubscriberConfig{})
		w.Fault(sequintest.Fault{Op: sequintest.Receive, Status: 503, Count: 3, Body: ownRefusal})
		w.Fault(sequintest.Fault{Op: sequintest.Ack, Status: 422, Count: 1, Body: ownRefusal})
		for range 20 { // one of them is redelivered, because its ack was refused
			if d := next(t, sub, time.Minute); d.Ack() == nil && w.Count(sequintest.Ack) > 1 {
				break
			}
			time.Sleep(time.Second)
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		_ = sub.Close(ctx)
		require.LessOrEqual(t, time.Since(began), 5*time.Second)
		close(gate)
	})
}

// gatedLog is a slog.Handler whose Handle waits until the channel is closed.
type gatedLog chan struct{}

func (g gatedLog) Enabled(context.Context, slog.Level) bool { return true }
func (g gatedLog) WithAttrs([]slog.Attr) slog.Handler       { return g }
func (g gatedLog) WithGroup(string) slog.Handler            { return g }

func (g gatedLog) Handle(context.Context, slog.Record) error {
	<-g
	return nil
}
