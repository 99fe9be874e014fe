package sequin_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

type typedOrder struct {
	ID  string `json:"id"`
	Qty int    `json:"qty"`
}

var typedOrders = sequin.Typed[typedOrder]{Key: func(o typedOrder) string { return "orders." + o.ID }}

func TestTypedSendsUnderTheKeyOfAValue(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		pub := w.orders(t, sequin.PublisherConfig{})
		require.NoError(t, typedOrders.Send(w.ctx, pub, typedOrder{"7", 4}))
		require.NoError(t, pub.Close(w.ctx))
		require.Equal(t, map[string][]string{"orders.7": {`{"id":"7","qty":4}`}}, w.stored(t, "orders"))
		require.ErrorIs(t, typedOrders.Send(w.ctx, pub, typedOrder{"7", 4}), sequin.ErrClosed)
		require.ErrorIs(t, sequin.Typed[int]{}.Send(w.ctx, pub, 1), sequin.ErrInvalidConfig)
		_, err := sequin.Typed[func()]{Key: func(func()) string { return "k" }}.Message(func() {})
		require.True(t, sequin.IsPermanent(err))
	})
}

// TestTypedHandlersGetValues covers both kinds of handlers, with one message of several that is no value.
func TestTypedHandlersGetValues(t *testing.T) {
	handlers := map[string]func(ctx context.Context, sub *sequin.Subscriber, dead *sequin.DeadLetter, got func(typedOrder, sequin.Delivery)) error{
		"Handler": func(ctx context.Context, sub *sequin.Subscriber, dead *sequin.DeadLetter, got func(typedOrder, sequin.Delivery)) error {
			return sub.Handle(ctx, sequin.HandlerConfig{DeadLetter: dead}, typedOrders.Handler(func(_ context.Context, o typedOrder, d sequin.Delivery) error {
				got(o, d)
				return nil
			}))
		},
		"BatchHandler": func(ctx context.Context, sub *sequin.Subscriber, dead *sequin.DeadLetter, got func(typedOrder, sequin.Delivery)) error {
			return sub.HandleBatch(ctx, sequin.BatchHandlerConfig{DeadLetter: dead}, typedOrders.BatchHandler(func(_ context.Context, os []typedOrder, ds []sequin.Delivery) error {
				for i, o := range os {
					got(o, ds[i])
				}
				return nil
			}))
		},
	}
	for name, handle := range handlers {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, sequintest.Config{}, sequin.Config{})
				w.stream(t, "orders", sequin.ConsumerOptions{})
				w.deadStream(t)
				w.send(t, "orders.1", `{"id":"1","qty":4}`)
				w.send(t, "orders.2", `four`)
				w.send(t, "orders.3", `{"id":"3","qty":5}`)
				sub, got := w.subscribe(t, sequin.SubscriberConfig{}), map[string]int{}
				run := w.start(t, func(ctx context.Context) error {
					return handle(ctx, sub, &sequin.DeadLetter{Stream: "dead"}, func(o typedOrder, d sequin.Delivery) { got[d.Key] = o.Qty })
				})
				time.Sleep(2 * time.Minute)
				require.NoError(t, run.stop())
				require.Equal(t, map[string]int{"orders.1": 4, "orders.3": 5}, got)
				require.Len(t, w.data(t, "dead"), 1)
				w.requireSettled(t, "orders")
			})
		})
	}
	err := typedOrders.Handler(func(context.Context, typedOrder, sequin.Delivery) error { return errDown })(t.Context(), sequin.Delivery{Data: "{}"})
	require.True(t, errors.Is(err, errDown))
}
