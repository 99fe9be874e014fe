//go:build !race

// The race detector takes memory of its own.

package sequin_test

import (
	"io"
	"net/http"
	"path"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
)

// held returns the memory that is in use, of the heap and of stacks.
func held() int {
	runtime.GC()
	runtime.GC() // what a sync.Pool keeps survives the first one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

// withoutServer answers sends, and lets receives wait until their Subscriber stops. Neither net/http nor a server keeps anything.
func withoutServer(waiting *atomic.Int64) func(http.RoundTripper) http.RoundTripper {
	return func(behind http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			body := ""
			switch path.Base(r.URL.Path) {
			case "messages":
				body = `{"data":{"published":1}}`
			case "receive":
				waiting.Add(1)
				<-r.Context().Done()
				body = `{"data":[]}`
			default:
				return behind.RoundTrip(r)
			}
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}, nil
		})
	}
}

// oneTakes returns what one of many takes, beside what all of them share.
func oneTakes(t *testing.T, open func()) (bytes int, goroutines float64) {
	t.Helper()
	const many = 200
	open()
	synctest.Wait()
	bytes, before := held(), runtime.NumGoroutine()
	for range many {
		open()
	}
	synctest.Wait()
	bytes, goroutines = (held()-bytes)/many, float64(runtime.NumGoroutine()-before)/many
	t.Logf("%d bytes and %.2f goroutines each", bytes, goroutines)
	return bytes, goroutines
}

func TestAnIdleSubscriberIsSmall(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		w.stream(t, "orders", spacious)
		var waiting atomic.Int64
		client := w.through(t, withoutServer(&waiting))
		var subs []*sequin.Subscriber
		bytes, goroutines := oneTakes(t, func() { subs = append(subs, subscribe(t, client, sequin.SubscriberConfig{})) })
		require.EqualValues(t, len(subs), waiting.Load())
		require.LessOrEqual(t, bytes, 64<<10)
		require.LessOrEqual(t, goroutines, 2.0)
		for _, sub := range subs {
			closeNow(t, sub)
		}
	})
}

func TestAnIdlePublisherIsSmall(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		client := w.through(t, withoutServer(nil))
		var pubs []*sequin.Publisher
		bytes, goroutines := oneTakes(t, func() { // has sent, and is idle again
			p, err := client.NewPublisher("orders", sequin.PublisherConfig{})
			require.NoError(t, err)
			require.NoError(t, p.SendSync(t.Context(), sequin.Message{Key: "orders.1", Data: "x"}))
			pubs = append(pubs, p)
		})
		require.LessOrEqual(t, bytes, 8<<10)
		require.LessOrEqual(t, goroutines, 0.0)
		for _, p := range pubs {
			require.NoError(t, p.Close(t.Context()))
		}
	})
}
