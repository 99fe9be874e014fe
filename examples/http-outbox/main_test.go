package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/examples/internal/command"
	"github.com/sequin-go/sequin/sequintest"
)

// inVirtualTime runs a test with the handler and a server in virtual time.
func inVirtualTime(t *testing.T, test func(t *testing.T, srv *sequintest.Server, client *sequin.Client, h http.Handler)) {
	synctest.Test(t, func(t *testing.T) {
		srv := sequintest.NewServer(t, sequintest.Config{})
		client, err := sequin.NewClient(sequin.Config{BaseURL: srv.URL, HTTPClient: srv.Client()})
		require.NoError(t, err)
		_, err = client.CreateStream(t.Context(), "orders", sequin.StreamOptions{})
		require.NoError(t, err)
		pub, err := client.NewPublisher("orders", sequin.PublisherConfig{RetryFor: 5 * time.Second})
		require.NoError(t, err)
		test(t, srv, client, newHandler(pub, 5*time.Second))
		require.NoError(t, pub.Close(t.Context()))
	})
}

func post(h http.Handler, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/orders", strings.NewReader(body)))
	return w
}

func TestAnOrderIsStoredWhenItsRequestIsAnswered(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, _ *sequintest.Server, client *sequin.Client, h http.Handler) {
		require.Equal(t, http.StatusAccepted, post(h, `{"id":"7","qty":4}`).Code)
		m, err := client.GetMessage(t.Context(), "orders", "orders.7")
		require.NoError(t, err)
		require.Equal(t, `{"id":"7","qty":4}`, m.Data)
	})
}

func TestABadOrderIsTheClientsFault(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, srv *sequintest.Server, _ *sequin.Client, h http.Handler) {
		for _, body := range []string{``, `[]`, `{"id":"two words"}`, `{"id":""}`, `{"id":"7"}{}`, `{"id":"7"} x`, `{"id":"` + strings.Repeat("x", maxBody) + `"}`} {
			w := post(h, body)
			require.Equal(t, http.StatusBadRequest, w.Code, w.Body)
		}
		require.Zero(t, srv.Count(sequintest.Send))
	})
}

func TestWhiteSpaceAroundAnOrderIsNoError(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, _ *sequintest.Server, _ *sequin.Client, h http.Handler) {
		require.Equal(t, http.StatusAccepted, post(h, " {\"id\":\"7\"}\r\n").Code)
	})
}

func TestWrongArgumentsAreRefused(t *testing.T) {
	for args, says := range map[string]string{
		"-load -1s": "http-outbox: -load is -1s",
		"-wait 0":   "http-outbox: -wait is 0s",
		"-wait -1s": "http-outbox: -wait is -1s",
		"more":      "http-outbox: unexpected argument",
	} {
		var out strings.Builder
		_, err := parse(strings.Fields(args), &out)
		require.Equal(t, 2, command.ExitCode(err), args)
		require.Contains(t, out.String(), says)
	}
	o, err := parse([]string{"-addr", ":80"}, io.Discard)
	require.NoError(t, err)
	require.Equal(t, options{addr: ":80", wait: 5 * time.Second}, o)
}

func TestAnOutageIsAnsweredInTime(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, srv *sequintest.Server, _ *sequin.Client, h http.Handler) {
		srv.Down()
		begin := time.Now()
		w := post(h, `{"id":"7"}`)
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		require.Equal(t, "1", w.Header().Get("Retry-After"))
		require.Equal(t, 5*time.Second, time.Since(begin))
		srv.Up()
		time.Sleep(time.Minute)
		require.Equal(t, http.StatusAccepted, post(h, `{"id":"7"}`).Code)
	})
}

func TestHealthTellsThatTheStreamIsRefused(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, _ *sequintest.Server, client *sequin.Client, h http.Handler) {
		health := func() int {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthz", nil))
			return w.Code
		}
		require.Equal(t, http.StatusOK, health())
		require.NoError(t, client.DeleteStream(t.Context(), "orders"))
		require.Equal(t, http.StatusServiceUnavailable, post(h, `{"id":"7"}`).Code)
		require.Equal(t, http.StatusServiceUnavailable, health())
	})
}

func TestTheLoadIsCounted(t *testing.T) {
	t.Setenv("SEQUIN_URL", "")
	var out strings.Builder
	require.NoError(t, run(t.Context(), options{addr: "127.0.0.1:0", wait: time.Minute, load: 50 * time.Millisecond}, &out))
	require.Regexp(t, regexp.MustCompile(`(?s)orders: POST http://127.*\n[1-9][0-9]* orders in .* a second; 0 failed`), out.String())
}

func TestItServesUntilItIsStopped(t *testing.T) {
	t.Setenv("SEQUIN_URL", "")
	ctx, stop := context.WithCancel(t.Context())
	read, write := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, options{addr: "127.0.0.1:0", wait: time.Minute}, write) }()
	line, err := bufio.NewReader(read).ReadString('\n')
	require.NoError(t, err)
	url := strings.TrimSuffix(strings.Fields(line)[2], ",")
	answer, err := http.Post(url, "application/json", strings.NewReader(`{"id":"7","qty":4}`))
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusAccepted, answer.StatusCode)
	stop()
	require.NoError(t, <-ended)
	_, err = http.Post(url, "application/json", strings.NewReader(`{}`))
	require.Error(t, err)
}

func TestAnAddressInUseIsAnError(t *testing.T) {
	t.Setenv("SEQUIN_URL", "")
	used, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer used.Close()
	require.ErrorContains(t, run(t.Context(), options{addr: used.Addr().String(), wait: time.Second}, io.Discard), "in use")
}
