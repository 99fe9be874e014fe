package server_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

const benchBatch = 1_000

// bench is a server without a network: a benchmark measures parsing, storing and encoding.
type bench struct {
	b *testing.B
	s *server.Server
}

func newBench(b *testing.B) *bench {
	b.Helper()
	s := &bench{b, server.New(server.Config{})}
	b.Cleanup(s.s.Close)
	s.do("POST", "/api/streams", `{"name":"s"}`)
	s.do("POST", "/api/streams/s/consumers", `{"name":"c","filter_key_pattern":">","max_ack_pending":100000}`)
	return s
}

func (s *bench) do(method, path, body string) string {
	s.b.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	w.Body.Grow(512 << 10)
	s.s.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		s.b.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	return w.Body.String()
}

// body returns a batch of messages with 100 bytes of data and keys that no other batch has.
func body(batch int) string {
	var text strings.Builder
	text.WriteString(`{"messages":[`)
	for i := range benchBatch {
		if i > 0 {
			text.WriteByte(',')
		}
		fmt.Fprintf(&text, `{"key":"orders.%d.%d","data":"%s"}`, batch, i, strings.Repeat("x", 100))
	}
	text.WriteString(`]}`)
	return text.String()
}

func perSecond(b *testing.B, messages int) {
	b.ReportMetric(float64(messages)/b.Elapsed().Seconds(), "msg/s")
}

// BenchmarkSend posts batches of 1,000 messages of 100 bytes.
func BenchmarkSend(b *testing.B) {
	s := newBench(b)
	bodies := make([]string, 64)
	for i := range bodies {
		bodies[i] = body(i)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		s.do("POST", "/api/streams/s/messages", bodies[i%len(bodies)])
	}
	perSecond(b, b.N*benchBatch)
}

// BenchmarkReceiveAck receives and acks batches of 1,000 messages of 100 bytes.
func BenchmarkReceiveAck(b *testing.B) {
	s := newBench(b)
	b.ReportAllocs()
	for i := range b.N {
		b.StopTimer()
		s.do("POST", "/api/streams/s/messages", body(i))
		b.StartTimer()
		answer := s.do("POST", "/api/streams/s/consumers/c/receive", `{"batch_size":1000}`)
		b.StopTimer()
		ids := strings.Split(answer, `{"ack_id":"`)[1:]
		require.Len(b, ids, benchBatch)
		for i, rest := range ids {
			ids[i] = rest[:36]
		}
		ack := `{"ack_ids":["` + strings.Join(ids, `","`) + `"]}`
		b.StartTimer()
		s.do("POST", "/api/streams/s/consumers/c/ack", ack)
	}
	perSecond(b, b.N*benchBatch)
}
