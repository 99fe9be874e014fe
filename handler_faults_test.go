package sequin_test

import (
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

// requireFailedThrice checks dead letters whose handler panics only when it gets them for the first time. Only a batch makes them fail
// more than once: the handler did not get to them in two batches, in which it panicked before, and panicked in their own.
func requireFailedThrice(t *testing.T, inBatches bool, dead map[string][]sequin.DeadMessage, tries map[string]int) {
	t.Helper()
	if !inBatches {
		require.Empty(t, dead, "what fails once does not become a dead letter")
	}
	for key := range dead {
		require.True(t, strings.HasSuffix(key, "7"), "%s has never failed", key)
		require.Equal(t, 1, tries[key], key)
	}
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
			return sub.HandleBatch(ctx, cfg, func(_ context.Context, batch []sequin.Delivery) (err error) {
				for _, d := range batch {
					if failure := handle(d); failure != nil {
						err = failure
					}
				}
				return err
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, w *world) {
				w.deadStream(t)
				sub := w.backlog(t, n, 8*time.Second, sequin.SubscriberConfig{MaxInFlight: 60, DrainTimeout: time.Minute})
				scheduleFaults(w)
				var handled callLog
				var tries callLog
				var tried sync.Map
				r := w.start(t, func(ctx context.Context) error {
					return run(ctx, sub, func(d sequin.Delivery) error {
						time.Sleep(10 * time.Millisecond)
						tries.note(d)
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
				delete(dead, "k.77")
				delete(dead, "k.500")
				requireFailedThrice(t, name == "HandleBatch", dead, tries.times())
			})
		})
	}
}
