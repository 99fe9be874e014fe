package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/cmd/sequin/internal/clitest"
	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
)

// BenchmarkConsole measures how long each page takes of a server with many streams, one of which has many messages. What the pages
// know of the server is asked anew for each.
func BenchmarkConsole(b *testing.B) {
	const streams = 1_000
	for _, messages := range []int{1_000, 1_000_000} {
		for store, arguments := range map[string]func(*testing.B) []string{
			"memory":   func(*testing.B) []string { return []string{"--memory"} },
			"disk":     func(b *testing.B) []string { return []string{"--data", b.TempDir(), "--sync", "1s"} },
			"postgres": func(b *testing.B) []string { return []string{"--postgres", newDatabase(b, "pages")} },
		} {
			b.Run(fmt.Sprintf("messages=%d/store=%s", messages, store), func(b *testing.B) {
				p := start(b, clitest.Environment(), arguments(b)...)
				fillForConsole(b, p, streams, messages)
				for _, page := range []struct{ name, path string }{
					{"streams", "/console/"}, {"by-rate", "/console/?sort=in&page=9"}, {"stream", "/console/streams/large"},
					{"oldest", "/console/streams/large?order=oldest"}, {"middle", fmt.Sprintf("/console/streams/large?beyond=%d", messages/2)},
					{"pattern", "/console/streams/large?pattern=k.7.%3E"}, {"no-match", "/console/streams/large?pattern=nothing"},
					{"no-match-below", "/console/streams/large?pattern=nothing.%3E"},
					{"consumer", "/console/streams/large/consumers/all"}, {"filtered", "/console/streams/large/consumers/none"},
					{"middle-unsettled", fmt.Sprintf("/console/streams/large/consumers/all?beyond=%d", messages/2)},
					{"no-match-unsettled", "/console/streams/large/consumers/all?pattern=nothing"},
					{"message", fmt.Sprintf("/console/streams/large/message?key=k.7.7&seq=%d", messages/2+8)},
				} {
					b.Run("page="+page.name, func(b *testing.B) { measurePage(b, p, page.path) })
				}
			})
		}
	}
}

func fillForConsole(b *testing.B, p *process, streams, messages int) {
	client, err := sequin.NewClient(sequin.Config{BaseURL: p.url, HTTPClient: p.client})
	require.NoError(b, err)
	ctx := b.Context()
	for i := range streams {
		name := fmt.Sprintf("s%04d", i)
		if i == 0 {
			name = "large"
		}
		_, err = client.CreateStream(ctx, name, sequin.StreamOptions{})
		require.NoError(b, err)
		_, err = client.CreateConsumer(ctx, name, "all", ">", sequin.ConsumerOptions{})
		require.NoError(b, err)
	}
	_, err = client.CreateConsumer(ctx, "large", "none", "other.>", sequin.ConsumerOptions{})
	require.NoError(b, err)
	batch := make([]sequin.Message, 1_000)
	for i := 0; i < messages; i += len(batch) {
		for j := range batch {
			n := (i + j) % (messages / 2) // two messages of each key
			batch[j] = sequin.Message{Key: fmt.Sprintf("k.%d.%d", n%100, n), Data: `{"id":"ord_8Zk2","total":{"amount":"129.00","currency":"EUR"}}`}
		}
		_, err = client.SendMessages(ctx, "large", batch)
		require.NoError(b, err)
	}
	_, err = client.ReceiveMessages(ctx, "large", "all", sequin.ReceiveOptions{BatchSize: 100})
	require.NoError(b, err)
}

// measurePage measures from the request to the first byte, which a page sends when it is complete.
func measurePage(b *testing.B, p *process, path string) {
	var slowest, total time.Duration
	for range b.N {
		b.StopTimer()
		time.Sleep(overview.DefaultMinInterval + 50*time.Millisecond)
		b.StartTimer()
		begun := time.Now()
		ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{GotFirstResponseByte: func() {
			took := time.Since(begun)
			slowest, total = max(slowest, took), total+took
		}})
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, nil)
		require.NoError(b, err)
		resp, err := p.client.Do(r)
		require.NoError(b, err)
		_, err = io.Copy(io.Discard, resp.Body)
		require.NoError(b, err)
		require.NoError(b, resp.Body.Close())
		require.Equal(b, http.StatusOK, resp.StatusCode)
	}
	b.ReportMetric(float64(slowest.Milliseconds()), "slowest-ms")
	b.ReportMetric(float64(total.Milliseconds())/float64(b.N), "mean-ms")
}
