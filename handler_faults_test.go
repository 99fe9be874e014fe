package sequin_test

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// scheduleFaults makes requests of every kind fail, one after the other, while messages flow.
func scheduleFaults(w *world) {
	for _, f := range []sequintest.Fault{
		{Op: sequintest.Receive, CutBefore: true, Skip: 2, Count: 2},
		{Op: sequintest.Receive, CutAfter: true, Skip: 5, Count: 3},
		{Op: sequintest.Receive, Garble: true, Skip: 9, Count: 1},
		{Op: sequintest.Receive, Status: 503, Body: ownRefusal, Skip: 12, Count: 3},
		{Op: sequintest.Ack, Status: 503, Skip: 1, Count: 3},
		{Op: sequintest.Ack, CutBefore: true, Skip: 5, Count: 2},
		{Op: sequintest.Ack, CutAfter: true, Skip: 8, Count: 2},
		{Op: sequintest.Ack, Delay: 9 * time.Second, Skip: 11, Count: 1},
		{Op: sequintest.Nack, CutAfter: true, Skip: 1, Count: 2},
		{Op: sequintest.Nack, Status: 500, Skip: 4, Count: 2},
		{Op: sequintest.Send, CutAfter: true, Skip: 1, Count: 2, Match: to("dead")},
		{Op: sequintest.Send, Status: 503, Skip: 4, Count: 3, Match: to("dead")},
	} {
		w.Fault(f)
	}
}

// tryAll handles every message of a batch before it fails or panics: what fails once does not become a dead letter then, because each
// message has its first try in its first batch.
func tryAll(batch []sequin.Delivery, handle func(sequin.Delivery) error) (err error) {
	var panicked any
	for _, d := range batch {
		func() {
			defer func() { panicked = cmp.Or(recover(), panicked) }()
			err = cmp.Or(handle(d), err)
		}()
	}
	if panicked != nil {
		panic(panicked)
	}
	return err
}

// Each message is handled or becomes a dead letter before it is acked, and all are acked in the end.
func TestNoMessageIsLostWhenRequestsAndHandlersFail(t *testing.T) {
	const n = 600
	dead := &sequin.DeadLetter{Stream: "dead", MaxAttempts: 3}
	for name, run := range map[string]func(context.Context, *sequin.Subscriber, func(sequin.Delivery) error) error{
		"Handle": func(ctx context.Context, sub *sequin.Subscriber, handle func(sequin.Delivery) error) error {
			cfg := sequin.HandlerConfig{Workers: 4, BackoffMin: 100 * time.Millisecond, BackoffMax: time.Second, DeadLetter: dead}
			return sub.Handle(ctx, cfg, func(_ context.Context, d sequin.Delivery) error { return handle(d) })
		},
		"HandleBatch": func(ctx context.Context, sub *sequin.Subscriber, handle func(sequin.Delivery) error) error {
			cfg := sequin.BatchHandlerConfig{Workers: 2, Size: 20, BackoffMin: 100 * time.Millisecond, BackoffMax: time.Second, DeadLetter: dead}
			return sub.HandleBatch(ctx, cfg, func(_ context.Context, batch []sequin.Delivery) error { return tryAll(batch, handle) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				w.deadStream(t)
				sub := w.backlog(t, n, 8*time.Second, sequin.SubscriberConfig{MaxInFlight: 60, DrainTimeout: time.Minute})
				scheduleFaults(w)
				var handled callLog
				var tried sync.Map
				r := w.start(t, func(ctx context.Context) error {
					return run(ctx, sub, func(d sequin.Delivery) error {
						time.Sleep(10 * time.Millisecond)
						_, again := tried.LoadOrStore(d.Key, true)
						switch {
						case d.Data == "77" || d.Data == "500":
							return errDown // in every call
						case !again && strings.HasSuffix(d.Data, "7"):
							panic("the first try")
						}
						handled.note(d)
						return nil
					})
				})
				time.Sleep(5 * time.Minute)
				require.NoError(t, r.stop())
				w.requireSettled(t, "orders")
				times, dead := handled.times(), w.deadLetters(t)
				for i := range n {
					key := fmt.Sprintf("k.%d", i)
					require.True(t, times[key] > 0 || len(dead[key]) > 0, "%s is lost", key)
				}
				require.NotEmpty(t, dead["k.77"])
				require.NotEmpty(t, dead["k.500"])
				require.Len(t, dead, 2, "what fails once does not become a dead letter")
			})
		})
	}
}
