package sequin_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
)

// atOnce is a server on the loopback interface that reads a body and answers at once.
func atOnce(b *testing.B) string {
	b.Helper()
	buffers := sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		buf := buffers.Get().(*[]byte)
		defer buffers.Put(buf)
		for {
			if _, err := r.Body.Read(*buf); err != nil {
				break
			}
		}
		_, _ = io.WriteString(w, `{"data":{"published":1000}}`)
	}))
	b.Cleanup(srv.Close)
	return srv.URL
}

func benchClient(b *testing.B) *sequin.Client {
	b.Helper()
	client, err := sequin.NewClient(sequin.Config{BaseURL: atOnce(b)})
	require.NoError(b, err)
	b.Cleanup(client.Close)
	return client
}

// benchKeys and benchData make messages of 100 bytes of data.
func benchKeys() []string {
	keys := make([]string, 100_000)
	for i := range keys {
		keys[i] = "orders.customer." + strconv.Itoa(i)
	}
	return keys
}

var benchData = `{"n":` + strings.Repeat("7", 94) + `}`

func perSecond(b *testing.B, messages int) {
	b.ReportMetric(float64(messages)/b.Elapsed().Seconds(), "messages/s")
}

// BenchmarkPublishLimit sends prepared bodies of 1,000 messages with plain net/http over one connection.
func BenchmarkPublishLimit(b *testing.B) {
	url := atOnce(b) + "/api/streams/orders/messages"
	var body bytes.Buffer
	body.WriteString(`{"messages":[`)
	for i, key := range benchKeys()[:1000] {
		if i > 0 {
			body.WriteByte(',')
		}
		fmt.Fprintf(&body, `{"key":%q,"data":%q}`, key, benchData)
	}
	body.WriteString(`]}`)
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	defer client.CloseIdleConnections()
	b.ReportAllocs()
	for b.Loop() {
		resp, err := client.Post(url, "application/json", bytes.NewReader(body.Bytes()))
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	perSecond(b, 1000*b.N)
}

// BenchmarkPublisher is one producer with a Publisher of the default config. An op is 1,000 messages.
func BenchmarkPublisher(b *testing.B) {
	pub, err := benchClient(b).NewPublisher("orders", sequin.PublisherConfig{})
	require.NoError(b, err)
	keys, n, ctx := benchKeys(), 0, context.Background()
	b.ReportAllocs()
	for b.Loop() {
		for range 1000 {
			if err := pub.Send(ctx, keys[n%len(keys)], benchData); err != nil {
				b.Fatal(err)
			}
			n++
		}
	}
	require.NoError(b, pub.Close(ctx))
	perSecond(b, n)
	s := pub.Stats()
	b.ReportMetric(float64(s.Sent)/float64(s.Batches), "messages/request")
}

func BenchmarkPublisherReceipts(b *testing.B) {
	pub, err := benchClient(b).NewPublisher("orders", sequin.PublisherConfig{})
	require.NoError(b, err)
	keys, n, ctx := benchKeys(), 0, context.Background()
	b.ReportAllocs()
	for b.Loop() {
		for range 1000 {
			if _, err := pub.SendReceipt(ctx, sequin.Message{Key: keys[n%len(keys)], Data: benchData}); err != nil {
				b.Fatal(err)
			}
			n++
		}
	}
	require.NoError(b, pub.Close(ctx))
	perSecond(b, n)
}

func BenchmarkOneSendMessage(b *testing.B) {
	client, ctx := benchClient(b), context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := client.SendMessage(ctx, "orders", "orders.customer.1", benchData); err != nil {
			b.Fatal(err)
		}
	}
	perSecond(b, b.N)
}

func BenchmarkSendSync(b *testing.B) {
	pub, err := benchClient(b).NewPublisher("orders", sequin.PublisherConfig{})
	require.NoError(b, err)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if err := pub.SendSync(ctx, sequin.Message{Key: "orders.customer.1", Data: benchData}); err != nil {
			b.Fatal(err)
		}
	}
	require.NoError(b, pub.Close(ctx))
	perSecond(b, b.N)
}

// BenchmarkPublisherMemory reports the largest heap while a producer sends through a Publisher whose server is slower.
// Each message has an allocation of its own. SEQUIN_BENCH_MESSAGES is how many there are; default 100,000.
func BenchmarkPublisherMemory(b *testing.B) {
	messages := 100_000
	if s := os.Getenv("SEQUIN_BENCH_MESSAGES"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(b, err)
		messages = n
	}
	client, ctx := benchClient(b), context.Background()
	for b.Loop() {
		pub, err := client.NewPublisher("orders", sequin.PublisherConfig{})
		require.NoError(b, err)
		runtime.GC()
		before := heapBytes()
		stop, peak := make(chan struct{}), make(chan uint64)
		go watchHeap(stop, peak)
		for i := range messages {
			if err := pub.Send(ctx, "orders."+strconv.Itoa(i), benchData[:len(benchData)-1]+strconv.Itoa(i%10)); err != nil {
				b.Fatal(err)
			}
		}
		require.NoError(b, pub.Close(ctx))
		close(stop)
		b.ReportMetric(float64(<-peak-before)/(1<<20), "MiB-heap-peak")
		runtime.KeepAlive(pub)
	}
	perSecond(b, messages*b.N)
}

// heapBytes returns the size of the heap, with garbage that is not swept yet. Reading it does not stop the world.
func heapBytes() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// watchHeap samples the size of the heap until stop, which returns the largest.
func watchHeap(stop <-chan struct{}, peak chan<- uint64) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	most := heapBytes()
	for {
		select {
		case <-tick.C:
			most = max(most, heapBytes())
		case <-stop:
			peak <- max(most, heapBytes())
			return
		}
	}
}
