//go:build !race

// The race detector takes memory of its own.

package sequin_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/server"
)

// held returns the memory that is in use.
func held() (heap, stacks int) {
	runtime.GC()
	runtime.GC() // what a sync.Pool keeps survives the first one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc), int(m.StackInuse)
}

// leased is a message in an answer.
const leased = `{"ack_id":"3f2a7c10-0000-4000-8000-000000000000","deliver_count":1,"message":{"key":"orders.1","data":"x","seq":1}}`

// supply is how many messages are left for a consumer.
type supply struct {
	mu       sync.Mutex
	consumer string
	left     int
}

// answer returns the answer to a receive, "" if there is none.
func (s *supply) answer(r *http.Request) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left == 0 || !strings.Contains(r.URL.Path, "/"+s.consumer+"/") {
		return ""
	}
	var asked struct {
		Size int `json:"batch_size"`
	}
	_ = json.NewDecoder(r.Body).Decode(&asked)
	n := min(asked.Size, s.left)
	s.left -= n
	return `{"data":[` + strings.Repeat(","+leased, n)[1:] + `]}`
}

func (s *supply) set(consumer string, left int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.consumer, s.left = consumer, left
}

// withoutServer answers all requests. Receives without messages wait. Neither net/http nor a server keeps anything.
func withoutServer(waiting *atomic.Int64, messages *supply) func(http.RoundTripper) http.RoundTripper {
	return func(http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			body := ""
			switch path.Base(r.URL.Path) {
			case "messages":
				body = `{"data":{"published":1}}`
			case "ack":
				body = `{"success":true}`
			case "receive":
				if body = messages.answer(r); body != "" {
					break
				}
				waiting.Add(1)
				defer waiting.Add(-1)
				select {
				case <-r.Context().Done():
					return nil, r.Context().Err()
				case <-time.After(10 * time.Second): // a third of ack_wait
					body = `{"data":[]}`
				}
			case "orders":
				body = `{"id":"0f6b1c9e-7a55-4c5e-9a39-0a5d6c2f7d11","name":"orders","one_message_per_key":false}`
			default:
				name := path.Base(r.URL.Path)
				body = `{"id":"` + name + `","name":"` + name + `","ack_wait_ms":30000}`
			}
			return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}, nil
		})
	}
}

// aWhile is longer than what is kept for later messages stays in memory.
const aWhile = 3 * time.Minute

// oneTakes returns what one of many takes, beside what all of them share.
func oneTakes(t *testing.T, open func()) (bytes int, goroutines float64) {
	t.Helper()
	const many = 200
	for range many { // they fill pools, and grow what all share, such as the goroutines that the runtime keeps for later
		open()
	}
	time.Sleep(aWhile)
	synctest.Wait()
	heap, stacks := held()
	before := runtime.NumGoroutine()
	for range many {
		open()
	}
	time.Sleep(aWhile)
	synctest.Wait()
	heapNow, stacksNow := held()
	bytes, goroutines = (heapNow-heap)/many, float64(runtime.NumGoroutine()-before)/many
	if goroutines > 0 { // otherwise all stacks are those that the runtime keeps for later
		bytes += (stacksNow - stacks) / many
	}
	t.Logf("%d bytes and %.2f goroutines each", bytes, goroutines)
	return bytes, goroutines
}

func TestAnIdleSubscriberIsSmall(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		var waiting atomic.Int64
		client := w.through(t, withoutServer(&waiting, new(supply)))
		var subs []*sequin.Subscriber
		bytes, goroutines := oneTakes(t, func() { subs = append(subs, subscribe(t, client, sequin.SubscriberConfig{})) })
		require.EqualValues(t, len(subs), waiting.Load())
		require.LessOrEqual(t, bytes, 36<<10)
		require.LessOrEqual(t, goroutines, 2.0)
		for _, sub := range subs {
			closeNow(t, sub)
		}
	})
}

func TestASubscriberThatHasNothingToDoAnyMoreIsSmallAgain(t *testing.T) {
	inMode(t, server.Documented, func(t *testing.T, w *world) {
		var messages supply
		client := w.through(t, withoutServer(new(atomic.Int64), &messages))
		var subs []*sequin.Subscriber
		bytes, _ := oneTakes(t, func() {
			name := fmt.Sprint("busy", len(subs))
			messages.set(name, 5000)
			sub, err := client.Subscribe(w.ctx, "orders", name, sequin.SubscriberConfig{})
			require.NoError(t, err)
			subs = append(subs, sub)
			for range 5000 {
				require.NoError(t, next(t, sub, time.Minute).Ack())
			}
			require.NoError(t, sub.Flush(w.ctx))
		})
		require.LessOrEqual(t, bytes, 48<<10)
		for _, sub := range subs {
			closeNow(t, sub)
		}
	})
}

func TestAnIdlePublisherIsSmall(t *testing.T) {
	for _, row := range []struct {
		name string
		most int // bytes
		send func(t *testing.T, p *sequin.Publisher)
	}{
		{"before its first message", 2600, func(*testing.T, *sequin.Publisher) {}},
		{"after a message", 3500, func(t *testing.T, p *sequin.Publisher) {
			require.NoError(t, p.SendSync(t.Context(), sequin.Message{Key: "orders.1", Data: "x"}))
		}},
		{"after many messages", 3500, func(t *testing.T, p *sequin.Publisher) {
			for i := range 5000 {
				_, err := p.SendReceipt(t.Context(), sequin.Message{Key: fmt.Sprint("orders.", i), Data: "x"})
				require.NoError(t, err)
			}
			require.NoError(t, p.Flush(t.Context()))
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			inMode(t, server.Documented, func(t *testing.T, w *world) {
				client := w.through(t, withoutServer(nil, nil))
				var pubs []*sequin.Publisher
				bytes, goroutines := oneTakes(t, func() {
					p, err := client.NewPublisher("orders", sequin.PublisherConfig{})
					require.NoError(t, err)
					row.send(t, p)
					pubs = append(pubs, p)
				})
				require.LessOrEqual(t, bytes, row.most)
				require.LessOrEqual(t, goroutines, 0.0)
				for _, p := range pubs {
					require.NoError(t, p.Close(t.Context()))
				}
			})
		})
	}
}
