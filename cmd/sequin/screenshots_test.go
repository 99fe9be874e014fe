//go:build linux && (amd64 || arm64)

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/browsertest"
	"github.com/sequin-go/sequin/cmd/sequin/internal/clitest"
)

// With SEQUIN_SCREENSHOTS a directory gets pictures of the pages of the console. Those of the README are made so.
func TestScreenshots(t *testing.T) {
	dir := os.Getenv("SEQUIN_SCREENSHOTS")
	if dir == "" {
		t.Skip("for people: set SEQUIN_SCREENSHOTS")
	}
	p := start(t, clitest.Environment(), "--memory")
	b := browsertest.Open(t, p.url)
	t.Cleanup(browsertest.Stop)
	client, err := sequin.NewClient(sequin.Config{BaseURL: p.url, HTTPClient: p.client})
	require.NoError(t, err)
	w := &bustle{t: t, client: client}
	defer w.begin()()
	b.Show("/console/")
	rest(t.Context(), time.Minute) // until the sparklines are full
	b.Show("/console/streams/orders")
	rest(t.Context(), 50*time.Second)
	for _, shot := range []struct {
		name, path, scheme string
		width              int64
	}{
		{"streams", "/console/", "dark", 1280}, {"streams", "/console/", "light", 1280}, {"streams", "/console/", "light", 360},
		{"stream", "/console/streams/orders", "light", 1280}, {"stream", "/console/streams/orders", "dark", 360},
		{"consumer", "/console/streams/orders/consumers/mail", "dark", 1280}, {"consumer", "/console/streams/orders/consumers/mail", "light", 360},
		{"message", "/console/streams/orders/message?key=orders.eu.1", "light", 1280},
		{"send", "/console/streams/orders/send", "light", 1280}, {"delete", "/console/streams/orders/delete", "dark", 360},
	} {
		b.Look(shot.width, 800, shot.scheme)
		b.Show(shot.path)
		if shot.width == 1280 && shot.name != "message" && shot.name != "send" {
			b.Eventually(`document.querySelectorAll(".spark .line").length > 1`)
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%s-%d.png", shot.name, shot.scheme, shot.width)), b.Picture(), 0o600))
	}
}

// bustle makes a server look like one at work: streams with different rates, a consumer whose program fails at times, and one
// from which nobody receives.
type bustle struct {
	t       *testing.T
	client  *sequin.Client
	running sync.WaitGroup
}

// begin begins, and returns what ends it.
func (w *bustle) begin() (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	for i, name := range []string{"audit", "clicks", "emails", "inventory", "invoices", "orders", "payments", "refunds", "signups", "webhooks"} {
		_, err := w.client.CreateStream(ctx, name, sequin.StreamOptions{OneMessagePerKey: i%4 == 3})
		require.NoError(w.t, err)
		for _, consumer := range []string{"billing", "warehouse"} {
			_, err = w.client.CreateConsumer(ctx, name, consumer, name+".>", sequin.ConsumerOptions{AckWait: 20 * time.Second})
			require.NoError(w.t, err)
			w.running.Go(func() { w.work(ctx, name, consumer, consumer == "warehouse") })
		}
		w.running.Go(func() { w.produce(ctx, name, 1+i*i%17*3) })
	}
	_, err := w.client.CreateConsumer(ctx, "orders", "mail", "orders.eu.>", sequin.ConsumerOptions{AckWait: time.Minute, MaxDeliver: 10})
	require.NoError(w.t, err)
	_, err = w.client.SendMessages(ctx, "orders", []sequin.Message{{
		Key: "orders.eu.1", Headers: map[string]string{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
		Data: `{"id":"ord_8Zk2","customer":"cus_1042","total":{"amount":"129.00","currency":"EUR"},"items":[{"sku":"LAMP-2","qty":1},{"sku":"BULB-E27","qty":4}]}`,
	}})
	require.NoError(w.t, err)
	for range 3 {
		got, err := w.client.ReceiveMessages(ctx, "orders", "mail", sequin.ReceiveOptions{BatchSize: 4})
		require.NoError(w.t, err)
		for i, m := range got {
			if i == 0 {
				require.NoError(w.t, w.client.NackMessages(ctx, "orders", "mail", []string{m.AckID}))
			} else if i == 1 {
				require.NoError(w.t, w.client.NackMessagesAfter(ctx, "orders", "mail", 10*time.Minute, []string{m.AckID}))
			}
		}
		rest(ctx, time.Second)
	}
	return func() {
		cancel()
		w.running.Wait()
	}
}

func (w *bustle) produce(ctx context.Context, stream string, most int) {
	for n := 0; ctx.Err() == nil; n++ {
		batch := make([]sequin.Message, 1+rand.IntN(most))
		for i := range batch {
			region := []string{"eu", "us", "apac"}[rand.IntN(3)]
			batch[i] = sequin.Message{
				Key:  fmt.Sprintf("%s.%s.%d", stream, region, 1000+n*100+i),
				Data: fmt.Sprintf(`{"id":"%s_%04x","region":%q,"total":{"amount":"%d.00","currency":"EUR"}}`, stream[:3], rand.IntN(1<<16), region, 5+rand.IntN(200)),
			}
		}
		_, _ = w.client.SendMessages(ctx, stream, batch)
		rest(ctx, time.Duration(100+rand.IntN(300))*time.Millisecond)
	}
}

func (w *bustle) work(ctx context.Context, stream, consumer string, fails bool) {
	for ctx.Err() == nil {
		got, err := w.client.ReceiveMessages(ctx, stream, consumer, sequin.ReceiveOptions{BatchSize: 50, WaitFor: time.Second})
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
			_ = w.client.AckMessages(ctx, stream, consumer, acks)
		}
		if len(nacks) > 0 {
			_ = w.client.NackMessages(ctx, stream, consumer, nacks)
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
