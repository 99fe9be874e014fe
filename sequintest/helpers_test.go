package sequintest_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/sequintest"
)

// api speaks plain HTTP to a server.
type api struct {
	client *http.Client
	base   string
}

func dial(srv *sequintest.Server) api { return api{srv.Client(), srv.URL} }

// do returns the answer as far as it came.
func (a api) do(method, path, body string) (status int, answer string, err error) {
	req, err := http.NewRequest(method, a.base+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	read, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(read), err
}

// must does what has to succeed.
func (a api) must(t testing.TB, method, path, body string) string {
	t.Helper()
	status, answer, err := a.do(method, path, body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status, answer)
	return answer
}

func (a api) send(t testing.TB, keys ...string) {
	t.Helper()
	a.must(t, "POST", "/api/streams/orders/messages", messages(keys...))
}

func messages(keys ...string) string {
	parts := make([]string, len(keys))
	for i, key := range keys {
		parts[i] = fmt.Sprintf(`{"key":%q,"data":"{}"}`, key)
	}
	return `{"messages":[` + strings.Join(parts, ",") + `]}`
}

// newOrders starts a server that has the stream orders with a consumer for all of it, billing, and one that never gets
// anything, idle.
func newOrders(t testing.TB, cfg sequintest.Config) *sequintest.Server {
	t.Helper()
	srv := sequintest.NewServer(t, cfg)
	a := dial(srv)
	a.must(t, "POST", "/api/streams", `{"name":"orders"}`)
	a.must(t, "POST", "/api/streams/orders/consumers", `{"name":"billing","filter_key_pattern":">","kind":"pull"}`)
	a.must(t, "POST", "/api/streams/orders/consumers", `{"name":"idle","filter_key_pattern":"never.>","kind":"pull"}`)
	a.client.CloseIdleConnections()
	return srv
}

// stored returns the keys that the server holds in orders.
func stored(t testing.TB, srv *sequintest.Server) []string {
	t.Helper()
	state, ok := srv.Stream("orders")
	require.True(t, ok)
	keys := []string{}
	for _, m := range state.Messages {
		keys = append(keys, m.Key)
	}
	return keys
}

// spy is a testing.TB that takes failures down instead of failing. Cleanups run by cleanup.
type spy struct {
	testing.TB
	mu       sync.Mutex
	failures []string
	cleanups []func()
}

func (s *spy) Helper()          {}
func (s *spy) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }

func (s *spy) Errorf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = append(s.failures, fmt.Sprintf(format, args...))
}

// fatal is what Fatalf panics with: it must not return.
type fatal string

func (s *spy) Fatalf(format string, args ...any) { panic(fatal(fmt.Sprintf(format, args...))) }

func (s *spy) cleanup() {
	for i := len(s.cleanups) - 1; i >= 0; i-- {
		s.cleanups[i]()
	}
}

// fatally returns what f failed its test with, "" for nothing.
func fatally(f func()) (message string) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case fatal:
			message = string(r)
		default:
			panic(r)
		}
	}()
	f()
	return ""
}
