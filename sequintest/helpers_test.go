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

// api sends plain HTTP requests to a server.
type api struct {
	client *http.Client
	base   string
}

func dial(srv *sequintest.Server) api { return api{srv.Client(), srv.URL} }

// do returns the status and the part of the body that arrived.
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

// must sends a request that has to succeed, and returns the body.
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

// newOrders starts a server with a stream, orders, and two consumers: billing gets every message, and idle gets none.
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

// stored returns the keys of the messages in the stream orders.
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

// spy is a testing.TB that records failures instead of failing. cleanup runs the cleanups.
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

// fatal is what Fatalf panics with, because Fatalf must not return.
type fatal string

func (s *spy) Fatalf(format string, args ...any) { panic(fatal(fmt.Sprintf(format, args...))) }

func (s *spy) cleanup() {
	for i := len(s.cleanups) - 1; i >= 0; i-- {
		s.cleanups[i]()
	}
}

// fatally returns the message of the Fatalf that f calls, or "".
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
