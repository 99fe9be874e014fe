//go:build linux && (amd64 || arm64)

package console

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
)

// bustle makes a server that looks like one at work, until stop is called: streams with different rates, a consumer whose program
// fails at times, and one from which nobody receives.
func (b *tab) bustle() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for i, name := range []string{"audit", "clicks", "emails", "inventory", "invoices", "orders", "payments", "refunds", "signups", "webhooks"} {
		_, err := b.w.client.CreateStream(ctx, name, sequin.StreamOptions{OneMessagePerKey: i%4 == 3})
		require.NoError(b.w.t, err)
		for _, consumer := range []string{"billing", "warehouse"} {
			_, err = b.w.client.CreateConsumer(ctx, name, consumer, name+".>", sequin.ConsumerOptions{AckWait: 20 * time.Second})
			require.NoError(b.w.t, err)
			running.Go(func() { b.work(ctx, name, consumer, consumer == "warehouse") })
		}
		running.Go(func() { b.produce(ctx, name, 1+i*i%17*5) })
	}
	_, err := b.w.client.CreateConsumer(ctx, "orders", "mail", "orders.eu.>", sequin.ConsumerOptions{AckWait: time.Minute, MaxDeliver: 10})
	require.NoError(b.w.t, err)
	_, err = b.w.client.SendMessages(ctx, "orders", []sequin.Message{{
		Key: "orders.eu.1", Headers: map[string]string{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
		Data: `{"id":"ord_8Zk2","customer":"cus_1042","total":{"amount":"129.00","currency":"EUR"},"items":[{"sku":"LAMP-2","qty":1},{"sku":"BULB-E27","qty":4}]}`,
	}})
	require.NoError(b.w.t, err)
	for range 3 {
		got, err := b.w.client.ReceiveMessages(ctx, "orders", "mail", sequin.ReceiveOptions{BatchSize: 4})
		require.NoError(b.w.t, err)
		for i, m := range got {
			if i == 0 {
				require.NoError(b.w.t, b.w.client.NackMessages(ctx, "orders", "mail", []string{m.AckID}))
			} else if i == 1 {
				require.NoError(b.w.t, b.w.client.NackMessagesAfter(ctx, "orders", "mail", 10*time.Minute, []string{m.AckID}))
			}
		}
	}
	return func() {
		cancel()
		running.Wait()
	}
}

func (b *tab) produce(ctx context.Context, stream string, most int) {
	for n := 0; ctx.Err() == nil; n++ {
		batch := make([]sequin.Message, 1+rand.IntN(most))
		for i := range batch {
			region := []string{"eu", "us", "apac"}[rand.IntN(3)]
			batch[i] = sequin.Message{
				Key:  fmt.Sprintf("%s.%s.%d", stream, region, 1000+n*100+i),
				Data: fmt.Sprintf(`{"id":"%s_%04x","region":%q,"total":{"amount":"%d.00","currency":"EUR"}}`, stream[:3], rand.IntN(1<<16), region, 5+rand.IntN(200)),
			}
		}
		_, _ = b.w.client.SendMessages(ctx, stream, batch)
		rest(ctx, time.Duration(100+rand.IntN(200))*time.Millisecond)
	}
}

func (b *tab) work(ctx context.Context, stream, consumer string, fails bool) {
	for ctx.Err() == nil {
		got, err := b.w.client.ReceiveMessages(ctx, stream, consumer, sequin.ReceiveOptions{BatchSize: 50, WaitFor: time.Second})
		if err != nil {
			return
		}
		var acks, nacks []string
		for _, m := range got {
			if fails && rand.IntN(4) == 0 {
				nacks = append(nacks, m.AckID)
			} else {
				acks = append(acks, m.AckID)
			}
		}
		if len(acks) > 0 {
			_ = b.w.client.AckMessages(ctx, stream, consumer, acks)
		}
		if len(nacks) > 0 {
			_ = b.w.client.NackMessages(ctx, stream, consumer, nacks)
		}
		rest(ctx, 50*time.Millisecond)
	}
}

// rest waits, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
