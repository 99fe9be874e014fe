package server

import (
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWhatIsDeletedIsNotCountedAnyMore holds that a program that makes and deletes streams does not fill the memory.
func TestWhatIsDeletedIsNotCountedAnyMore(t *testing.T) {
	s := New(Config{})
	defer s.Close()
	do := func(method, path, body string) {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		require.Equal(t, 200, w.Code, w.Body)
	}
	size := func(m *sync.Map) (n int) {
		m.Range(func(_, _ any) bool { n++; return true })
		return n
	}
	do("POST", "/api/streams", `{"name":"s"}`)
	do("POST", "/api/streams/s/consumers", `{"name":"c","filter_key_pattern":">"}`)
	do("POST", "/api/streams/s/consumers/c/ack", `{"ack_ids":["00000000-0000-4000-8000-000000000000"]}`)
	require.Equal(t, 1, size(&s.traffic.streams))
	consumers := 0
	count := func(_, counter any) bool { consumers = size(&counter.(*streamCounter).consumers); return true }
	s.traffic.streams.Range(count)
	require.Equal(t, 1, consumers)
	do("DELETE", "/api/streams/s/consumers/c", "")
	s.traffic.streams.Range(count)
	require.Zero(t, consumers)
	do("DELETE", "/api/streams/s", "")
	require.Zero(t, size(&s.traffic.streams))
}
